"""Weights known by name: classes, normalization, pixel size and origin, as published by their authors."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoseg.errors import UsageError
from geoseg.given import nearest
from geoseg.legend import LandCover, Legend

_RGB = ("red", "green", "blue")
_RGBI = (*_RGB, "nir")


@dataclass(frozen=True, slots=True)
class Preset:
    """Everything known about one kind of weights."""

    name: str
    title: str
    legend: Legend
    """The codes ascend in the order of the output channels."""
    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    file_name: re.Pattern[str]
    """Matches the file names used by the authors."""
    url: str
    license: str
    dtype: str = "uint8"
    gsd_m: float | None = None
    window_px: int | None = None
    prefixes: Mapping[str, str] = field(default_factory=dict)
    """Prefixes of tensor names, mapped to those in geoseg; tensors with none of them are left out."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the architecture that tensors do not reveal."""

    @property
    def provenance(self) -> dict[str, Any]:
        """The origin of the weights."""
        return {"weights": self.title, "url": self.url, "license": self.license}


def _legend(names: str, colors: str, first: int = 0) -> Legend:
    """Return classes from names separated by commas and hexadecimal colors separated by spaces."""
    pairs = zip(names.split(", "), (bytes.fromhex(color) for color in colors.split()), strict=True)
    return Legend(tuple(LandCover(code, name, (c[0], c[1], c[2])) for code, (name, c) in enumerate(pairs, start=first)))


_FLAIR = _legend(
    "building, pervious surface, impervious surface, bare soil, water, coniferous, deciduous, brushwood, vineyard, "
    "herbaceous vegetation, agricultural land, plowed land, swimming pool, snow, clear cut, mixed, ligneous, "
    "greenhouse, other",
    "db0e9a 938e7b f80c00 a97101 1553ae 194a26 46e483 f3a60d 660082 55ff00 fff30d e4df7c 3de6eb ffffff 8ab3a0 6b714f "
    "c5dc42 9999ff 000000",
    first=1,
)
"""https://github.com/IGNF/FLAIR-1: codes 1 to 19 are those of its labels. The last ones were not trained."""
_COSIA = _legend(
    "building, greenhouse, swimming pool, impervious surface, pervious surface, bare soil, water, snow, "
    "herbaceous vegetation, agricultural land, plowed land, vineyard, deciduous, coniferous, brushwood, clear cut, "
    "ligneous, mixed, undefined",
    "db0e9a 9999ff 3de6eb f80c00 938e7b a97101 1553ae ffffff 55ff00 fff30d e4df7c 660082 46e483 194a26 f3a60d 8ab3a0 "
    "c5dc42 6b714f 000000",
)
"""https://github.com/IGNF/FLAIR-HUB, AERIAL_LABEL-COSIA. The last four were not trained."""
_FIELDS_2 = _legend("background, field", "d9d9d9 33a02c")
_FIELDS_3 = _legend("background, field, boundary", "d9d9d9 33a02c e31a1c")
_CANOPY = _legend("background, tree canopy", "d9d9d9 1b7837")

_FLAIR_MEAN, _FLAIR_STD = (105.08, 110.87, 101.82, 106.38, 53.26), (52.17, 45.38, 44.0, 39.69, 79.3)
_HUB_MEAN, _HUB_STD = (105.66, 111.35, 102.18, 106.59), (52.23, 45.62, 44.29, 39.78)
_HUB_PREFIXES = {
    "model.encoders.AERIAL_RGBI.seg_model.": "encoder.",
    "model.main_decoders.AERIAL_LABEL-COSIA.seg_model.": "",
}
_TORCHGEO_FIELDS = "sentinel2_unet_effb3-"
"""How torchgeo names its files for both numbers of classes; the rest is a hash, which changes with its versions."""


_of_ign = functools.partial(Preset, url="https://huggingface.co/IGNF", license="etalab-2.0", gsd_m=0.2, window_px=512)


def _flair_inc(name: str, bands: tuple[str, ...], letters: str) -> Preset:
    count = len(bands)
    return _of_ign(
        name=name,
        title=f"IGN FLAIR-INC, {', '.join(bands).replace('elevation', 'elevation above ground in steps of 0.2 m')}",
        legend=_FLAIR,
        bands=bands,
        mean=_FLAIR_MEAN[:count],
        std=_FLAIR_STD[:count],
        file_name=re.compile(rf"FLAIR-INC_{letters}_", re.IGNORECASE),
    )


def _flair_hub(name: str, order: tuple[int, ...], letters: str) -> Preset:
    return _of_ign(
        name=name,
        title=f"IGN FLAIR-HUB, aerial {', '.join(_RGBI[band] for band in order)}",
        legend=_COSIA,
        bands=tuple(_RGBI[band] for band in order),
        mean=tuple(_HUB_MEAN[band] for band in order),
        std=tuple(_HUB_STD[band] for band in order),
        file_name=re.compile(rf"FLAIR-HUB_LC-A_{letters}_", re.IGNORECASE),
        prefixes=_HUB_PREFIXES,
        arguments={"img_size": 512},
    )


def _fields(name: str, legend: Legend, dates: int, file_name: str) -> Preset:
    bands = (*_RGBI, *(f"{band}_2" for band in _RGBI))[: 4 * dates]
    return Preset(
        name=name,
        title=f"Fields of the World, {len(legend)} classes, {'two dates' if dates > 1 else 'one date'} of Sentinel-2",
        legend=legend,
        bands=bands,
        mean=(0.0,) * len(bands),
        std=(3000.0,) * len(bands),
        file_name=re.compile(file_name, re.IGNORECASE),
        url="https://github.com/fieldsoftheworld/ftw-baselines",
        license="of the file's own release: CC-BY-4.0 or mixed open licenses",
        dtype="uint16",
        gsd_m=10.0,
        window_px=256,
    )


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _flair_inc("flair-inc-rgb", _RGB, "rgb"),
        _flair_inc("flair-inc-rgbi", _RGBI, "rgbi"),
        _flair_inc("flair-inc-rgbie", (*_RGBI, "elevation"), "rgbie"),
        _flair_hub("flair-hub-rgb", (0, 1, 2), "RGB"),
        _flair_hub("flair-hub-ir", (3, 0, 1), "IR"),
        _flair_hub("flair-hub-rgbi", (0, 1, 2, 3), "RGBI"),
        _fields("ftw-2class", _FIELDS_2, 2, rf"2[_-]?class.*ftw|{_TORCHGEO_FIELDS}"),
        _fields("ftw-3class", _FIELDS_3, 2, rf"3[_-]?class.*ftw|prue|{_TORCHGEO_FIELDS}"),
        _fields("ftw-3class-1date", _FIELDS_3, 1, r"3[_-]?class.*ftw.*singlewindow"),
        Preset(
            name="oam-tcd",
            title="torchgeo OAM-TCD, tree canopy",
            legend=_CANOPY,
            bands=_RGB,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            file_name=re.compile(r"unet_resnet\d+_oam_rgb_tcd", re.IGNORECASE),
            url="https://torchgeo.readthedocs.io (Unet_Weights.OAM_RGB_*_TCD)",
            license="CC-BY-NC-4.0",
            gsd_m=0.1,
            window_px=1024,
        ),
    )
}
"""Presets by name. Sources: the model cards and repositories in `url`; for WeightsEnum, torchgeo/models/unet.py."""


def preset_named(name: str) -> Preset:
    """Return a preset by name; UsageError, listing the known names, if there is none."""
    key = str(name).casefold()
    if key in PRESETS:
        return PRESETS[key]
    suggestion = nearest(key, PRESETS)
    hint = f"; did you mean {suggestion}?" if suggestion else ""
    raise UsageError(f"`preset` must be one of {', '.join(PRESETS)}, got {name!r:.60}{hint}", "preset")


def preset_of(path: Path, names: Mapping[str, tuple[int, ...]]) -> Preset | None:
    """Return the preset of a published file, recognized by its name and the names of its tensors.

    Renamed files of FLAIR-INC are recognized by tensors and bands. FLAIR-HUB's color and infrared models have the same
    tensors, so only the file name distinguishes them.
    """
    by_name = [preset for preset in PRESETS.values() if preset.file_name.search(path.name)]
    matches = [preset for preset in by_name if _has_sizes_of(preset, names)]
    if matches:
        return matches[-1]  # the later one is more specific
    if not any(name.startswith("model.seg_model.") for name in names):
        return None
    flair_inc = (preset for preset in PRESETS.values() if preset.name.startswith("flair-inc"))
    matches = [preset for preset in flair_inc if _has_sizes_of(preset, names)]
    return matches[0] if len(matches) == 1 else None


def _has_sizes_of(preset: Preset, names: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether tensors have a preset's number of classes and, in the first convolution, its number of bands."""
    heads = [
        shape[0]
        for name, shape in names.items()
        if re.search(r"(?<!aux_)segmentation_head\.0\.bias$", name)
        and len(shape) == 1
        and (not preset.prefixes or name.startswith(tuple(preset.prefixes)))
    ]
    bands = {shape[1] for name, shape in names.items() if _FIRST_CONVOLUTION.search(name) and len(shape) == 4}
    return len(preset.legend) in heads and (not bands or len(preset.bands) in bands)


_FIRST_CONVOLUTION = re.compile(
    r"(?:^|\.)(?:conv1|_conv_stem|conv_stem|patch_embed\.proj|patch_embed1\.proj|stem_0|stem\.0)\.weight$"
)
"""Names of the first convolution, for the encoders in presets."""
