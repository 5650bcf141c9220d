"""The rasters that a run may write: class codes, confidence, probabilities; and their creation options.

Only those creation options of GDAL's COG driver are accepted that change no label:
https://gdal.org/drivers/raster/cog.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import rasterio.shutil
from affine import Affine
from rasterio.io import MemoryFile

from geoseg.errors import UsageError, one_line
from geoseg.legend import Legend
from geoseg.raster.environment import GDAL_ERRORS, raster_environment

ProductName = Literal["labels", "confidence", "probabilities"]

DEFAULTS = {
    "BLOCKSIZE": "512",
    "COMPRESS": "DEFLATE",
    "LEVEL": "5",  # measured on labels, 16384 x 16384: level 6 takes three times as long for 12 % less
    "NUM_THREADS": "ALL_CPUS",
    "BIGTIFF": "IF_SAFER",
}
_PARAMETER = "creation_options"
_LOSSLESS = ("DEFLATE", "ZSTD", "LZW", "LZMA", "NONE")
_MOST_LEVELS = {"DEFLATE": 12, "ZSTD": 22, "LZMA": 9}
_WORDS = {
    "COMPRESS": _LOSSLESS,
    "PREDICTOR": ("YES", "NO", "STANDARD"),
    "BIGTIFF": ("YES", "NO", "IF_NEEDED", "IF_SAFER"),
}
_NUMBERS = {"LEVEL": (1, max(_MOST_LEVELS.values())), "BLOCKSIZE": (128, 4096), "NUM_THREADS": (1, 1024)}
_SAME = {"ZLEVEL": "LEVEL", "ZSTD_LEVEL": "LEVEL"}
"""GTiff's names for options that the COG driver names differently."""
_ANYWHERE = Affine(2, 0, 0, 0, -2, 0)
_BLOCK_STEP_PX = 16  # TIFF 6.0, section 15


@dataclass(frozen=True, slots=True)
class Product:
    """One output raster, with 255 as nodata.

    Labels hold class codes and have a legend; confidence and probabilities hold percent, 0 to 100.
    """

    name: ProductName
    bands: tuple[str, ...]
    """Band descriptions, in order."""
    legend: Legend | None = None

    def __post_init__(self) -> None:
        if not self.bands:
            raise UsageError(f"the product {self.name} needs at least one band, got none")
        if (self.name == "labels") != (self.legend is not None):
            raise UsageError(f"labels, and only labels, have a legend, got {self.name} with legend {self.legend}")

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.bands)


def labels(legend: Legend) -> Product:
    """One band of class codes."""
    return Product("labels", ("land cover",), legend)


def confidence() -> Product:
    """One band: the probability of the predicted class, in percent."""
    return Product("confidence", ("confidence (percent)",))


def probabilities(names: tuple[str, ...]) -> Product:
    """One band in percent for each class of the model, in its order."""
    return Product("probabilities", names)


def creation_options(asked: Mapping[str, str]) -> dict[str, str]:
    """Return the complete creation options of a COG: those given, by GDAL's names in any case, and geoseg's defaults.

    UsageError for an option that would change the map (a lossy COMPRESS, RESAMPLING, TILING_SCHEME, ...), for an
    invalid value, and if this GDAL cannot write them: a few pixels are written to memory to find out before the work.
    """
    chosen = dict(_checked(key.upper(), value.upper()) for key, value in asked.items())
    options = DEFAULTS | chosen
    most = _MOST_LEVELS.get(options["COMPRESS"], 0)
    if int(chosen.get("LEVEL", 0)) > most:
        has = f"levels from 1 to {most}" if most else "no levels"
        raise UsageError(f"creation option LEVEL: {options['COMPRESS']} has {has}, got {chosen['LEVEL']}", _PARAMETER)
    if not most:
        options.pop("LEVEL")
    if chosen:
        _try(options)
    return options


def _checked(key: str, value: str) -> tuple[str, str]:
    key = _SAME.get(key, key)
    if key in _WORDS:
        if value not in _WORDS[key]:
            why = ": others change classes" if key == "COMPRESS" else ""
            raise UsageError(
                f"creation option {key} must be one of {', '.join(_WORDS[key])}{why}; got {value!r:.40}", _PARAMETER
            )
    elif key in _NUMBERS:
        if (key, value) != ("NUM_THREADS", "ALL_CPUS"):
            _check_number(key, value)
    else:
        allowed = ", ".join((*_WORDS, *_NUMBERS))
        raise UsageError(
            f"creation option {key!r:.40} may change the map, or the COG driver does not know it; use {allowed}",
            _PARAMETER,
        )
    return key, value


def _check_number(key: str, value: str) -> None:
    least, most = _NUMBERS[key]
    fits = value.isascii() and value.isdigit() and least <= int(value) <= most
    if not fits or (key == "BLOCKSIZE" and int(value) % _BLOCK_STEP_PX):
        step = f", a multiple of {_BLOCK_STEP_PX}" if key == "BLOCKSIZE" else ""
        raise UsageError(
            f"creation option {key} must be a whole number from {least} to {most}{step}; got {value!r:.40}", _PARAMETER
        )


def _try(options: Mapping[str, str]) -> None:
    """Write a few pixels; GDAL skips a compression it was built without, with no more than a line in its log."""
    try:
        with raster_environment(), MemoryFile() as source, MemoryFile() as target:
            with source.open(driver="GTiff", width=64, height=64, count=1, dtype="uint8", transform=_ANYWHERE):
                pass
            few = {**options, "NUM_THREADS": "1"}
            rasterio.shutil.copy(source.name, target.name, driver="COG", strict=True, **few)
            with target.open() as written:
                compression = written.profile.get("compress", "none").upper()
    except GDAL_ERRORS as error:
        options_text = " ".join(f"{key}={value}" for key, value in options.items())
        raise UsageError(f"GDAL cannot write a COG with {options_text}: {one_line(error, None)}", _PARAMETER) from error
    if compression != options["COMPRESS"]:
        raise UsageError(
            f"this GDAL is built without COMPRESS={options['COMPRESS']}; use {DEFAULTS['COMPRESS']}", _PARAMETER
        )
