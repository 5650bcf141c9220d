"""A raster of classes from geoseg or any other source, read strip by strip: integers, whole floats or colors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError, numbered
from geoseg.legend import DEEPGLOBE, Nomenclature
from geoseg.raster.classes.color_codes import (
    DEFAULT_TOLERANCE,
    ColorCodes,
    Reading,
    check_colors,
    indexes_in,
    is_plain,
    palette_of,
    palette_reading,
)
from geoseg.raster.dataset_cache import opened
from geoseg.raster.fingerprint import Version
from geoseg.raster.landcover import PRODUCT_TAG
from geoseg.raster.mosaic import as_map
from geoseg.raster.names import shown
from geoseg.raster.raster_legend import read_nomenclature
from geoseg.raster.scene import Patch, Scene
from geoseg.raster.windows import Tiling, Window, strip_rows

if TYPE_CHECKING:
    from geoseg.raster.scene import SceneLike

STRIP_PX = 4 * 1024**2
"""Pixels of a strip, so that tracing it stays in the CPU cache; a file with taller blocks gets one row of blocks."""
_TALLEST_PX = 16 * STRIP_PX
"""A row of blocks larger than this is read in parts."""

_CACHED_PX = 1 << 16
"""Pixels that stay in the CPU cache."""
_INT32 = np.iinfo(np.int32)
_NO_BYTE = -1000
"""Outside the range of unsigned and signed bytes."""
_ANY_MASK = ((0, 0, 0), (255, 255, 255))
"""Colors of a mask of any two classes."""
_NO_CODE = 1e38
"""ESRI software writes floats beyond this for nodata, whether or not the file declares it."""


@dataclass(frozen=True, slots=True)
class ClassRaster:
    """One class per pixel. Strips hold `background` where a pixel is not valid."""

    scene: Scene
    background: int
    dtype: str
    """Of the strips: uint8 if the nodata value is a byte, int16 if bytes need one more value, else int32."""
    masked: bool
    """Whether a pixel's code or validity depends on more than the stored value and the nodata value."""
    version: Version
    """That of the scene when it was opened."""
    colors: ColorCodes | None = None
    """Codes of the colors of a picture or a palette; None if the stored numbers are the codes."""
    names: Nomenclature = field(default_factory=Nomenclature)
    """Classes that the raster describes itself, or the legend used to decode its colors."""
    note: str | None = None
    """A line for the user about how the raster is read, if that is not obvious."""

    @classmethod
    def open(cls, path: SceneLike, legend: Nomenclature | None = None) -> Self:
        """Describe a raster of classes: integers, whole numbers stored as floats, or a legend's colors.

        Three bands of bytes are a picture in the colors of the `legend`, else of the file's own classes, else of
        DeepGlobe's. Palette indexes are decoded by color if the palette entries in use are the legend's; in a file that
        names its classes they are codes. SceneError if it cannot be read, or is none of these.
        """
        scene = as_map(Scene.open(path))
        version = scene.version()
        bands, kind = len(scene.band_indexes), np.dtype(scene.dtype).kind
        if bands == 3 and scene.dtype == "uint8":
            return cls._colored(scene, version, legend or read_nomenclature(scene))
        if bands != 1:
            raise SceneError(
                f"{shown(scene.path)} has {numbered(bands, 'band')} of {scene.dtype}; a map has one band of class "
                "codes, or is a picture (red, green and blue, uint8) in the colors of a legend; predict a map from "
                "imagery first"
            )
        if kind not in "iuf":
            raise SceneError(f"{shown(scene.path)} holds {scene.dtype}; a map of classes holds whole numbers")
        names, note = read_nomenclature(scene), None
        with opened(scene.path) as dataset:
            palette, product = palette_of(dataset, scene.band_indexes[0]), dataset.tags().get(PRODUCT_TAG)
        if product in {"confidence", "probabilities"}:
            note = f"{shown(scene.path)} holds {product} in percent, not classes; its numbers are read as class codes"
        if palette is not None and legend and not names.classes and not is_plain(palette, legend):
            meant = palette_reading(palette, indexes_in(scene), legend, DEFAULT_TOLERANCE)
            if meant is Reading.COLORS:
                return cls._colored(scene, version, legend)
            if meant is Reading.CODES:
                note = f"{shown(scene.path)} has a palette in other colors than the legend's: its indexes are the codes"
        if kind == "f":
            return cls(scene, _INT32.min, "int32", masked=True, version=version, names=names)
        validity = scene.validity
        if validity.is_by_value and validity.nodata is not None and scene.dtype == "uint8" and scene.area is None:
            return cls(scene, int(validity.nodata[0]), "uint8", masked=False, version=version, names=names, note=note)
        background, dtype = (_NO_BYTE, "int16") if scene.dtype in ("uint8", "int8") else (_INT32.min, "int32")
        partly = validity.nodata is not None or not validity.is_by_value or scene.area is not None
        return cls(scene, background, dtype, masked=partly, version=version, names=names, note=note)

    @classmethod
    def _colored(cls, scene: Scene, version: Version, legend: Nomenclature) -> Self:
        """Describe a raster in the legend's colors. SceneError if it has others: the whole raster is checked.

        An empty legend stands for DeepGlobe's; then a picture in only black and white is refused: it may be any mask.
        """
        with opened(scene.path) as dataset:
            palette = palette_of(dataset, scene.band_indexes[0]) if len(scene.band_indexes) == 1 else None
        names = legend or Nomenclature.from_legend(DEEPGLOBE)
        colors = ColorCodes.of(names, palette)
        codes, strays = check_colors(scene, colors, names, DEFAULT_TOLERANCE)
        if not legend and all(names.of(code).color in _ANY_MASK for code in codes):
            raise SceneError(
                f"{shown(scene.path)} is a black-and-white picture, which may be any mask; give a legend with its "
                "colors, or a single band of class codes",
                "legend",
            )
        how = f"{shown(scene.path)} is decoded by {'the colors of its palette' if palette else 'its colors'}"
        note = f"{how}; {strays}" if strays else how
        return cls(scene, _INT32.min, "int32", masked=True, version=version, colors=colors, names=names, note=note)

    @property
    def strip_rows(self) -> int:
        """Rows of a strip, usually whole rows of blocks."""
        return strip_rows(self.scene.shape[1], self.scene.block_shape, STRIP_PX, _TALLEST_PX)

    def windows(self) -> Tiling:
        """Return the window of each strip, from the top."""
        return Tiling(*self.scene.shape, self.strip_rows, self.scene.shape[1])

    def strips(self) -> Iterator[NDArray[Any]]:
        """Yield the strips (row, col). SceneError if the file is damaged, or a code does not fit 32 bits."""
        for window in self.windows():
            yield self._read(window)

    def check_unchanged(self) -> None:
        """Raise SceneError if it was replaced during the run: its polygons would be half old, half new."""
        if self.scene.is_changed(self.version):
            raise changed_error(self.scene)

    def decoded(self, patch: Patch) -> Patch:
        """Return the codes (1, row, col) of stored values. SceneError for a value that is not a 32-bit whole number."""
        if self.colors is not None:
            colored = self.colors.read(patch)
            return Patch(colored.codes[None], colored.known)
        result = whole_numbers(patch, shown(self.scene.path))
        if result is patch and result.data.dtype.itemsize >= 4:
            self._check(result.data[0], result.data[0].astype(np.int32), result.valid)
        return result

    def _read(self, window: Window) -> NDArray[Any]:
        if self.masked:
            patch = self.decoded(self.scene.read(window))
            if patch.valid.shape != window.shape:
                raise changed_error(self.scene)
            codes: NDArray[Any] = patch.data[0].astype(self.dtype, copy=False)
            self._check(patch.data[0], codes, patch.valid)
            codes[~patch.valid] = self.background
            return codes
        with opened(self.scene.path) as dataset:
            data = dataset.read(self.scene.band_indexes[0], window=window.to_rasterio())
        if data.shape != window.shape:
            raise changed_error(self.scene)
        unmasked: NDArray[Any] = data.astype(self.dtype, copy=False)
        self._check(data, unmasked, None)
        return unmasked

    def _check(self, data: NDArray[Any], codes: NDArray[Any], valid: NDArray[np.bool_] | None) -> None:
        """Raise SceneError for a code that does not fit."""
        if np.iinfo(data.dtype).max <= _INT32.max and data.dtype != np.int32:
            return
        wrong = (codes != data) | (codes == _INT32.min)
        wrong = wrong if valid is None else wrong & valid
        if wrong.any():
            raise SceneError(
                f"{shown(self.scene.path)} holds the code {data[wrong][0]}; codes must be integers from {-_INT32.max} "
                f"to {_INT32.max}; renumber its classes"
            )


def whole_numbers(patch: Patch, name: str) -> Patch:
    """Convert a patch of codes from floats to integers; a patch of integers is returned unchanged.

    NaN, infinity and the value ESRI software writes for nodata (-3.4e38) are not valid. SceneError, naming the raster,
    for a number that is not whole, or does not fit 32 bits.
    """
    if patch.data.dtype.kind != "f":
        return patch
    codes, valid = np.empty(patch.data.shape, np.int32), patch.valid.copy()
    rows = max(1, _CACHED_PX // max(1, valid.shape[1]))
    for part in (slice(row, row + rows) for row in range(0, len(valid), rows)):
        # in double precision: float16 and float32 do not hold the largest 32-bit integer
        stored = patch.data[:, part].astype(np.float64)
        valid[part] &= (np.abs(stored) < _NO_CODE).all(axis=0)
        stored[:, ~valid[part]] = 0
        wrong = stored[(stored != np.round(stored)) | (np.abs(stored) > _INT32.max)]
        if wrong.size:
            raise SceneError(
                f"{name} holds {wrong[0]:.9g}; class codes must be whole numbers from {-_INT32.max} to {_INT32.max}; "
                "give a map of classes, not of heights, indexes or probabilities"
            )
        codes[:, part] = stored
    return Patch(codes, valid)


def changed_error(scene: Scene) -> SceneError:
    """Return the error for a raster that is no longer the one opened."""
    return SceneError(f"{shown(scene.path)} has changed since the run began; run again when it is complete")
