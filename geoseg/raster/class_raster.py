"""A raster of classes, read strip by strip: geoseg's own map, or anybody's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags

from geoseg.errors import SceneError
from geoseg.raster.environment import is_remote, shown
from geoseg.raster.handles import opened
from geoseg.raster.scene import Scene
from geoseg.raster.windows import Window

STRIP_PX = 4 * 1024**2
"""Pixels of a strip. What is traced of it fits the cache; a file of taller blocks gets strips of one row of blocks."""
_TALLEST_PX = 16 * STRIP_PX
"""A row of blocks larger than this is read in parts, though each part decodes all of it."""

_INT32 = np.iinfo(np.int32)
_NO_BYTE = -1000
"""What neither an unsigned nor a signed byte holds."""


@dataclass(frozen=True, slots=True)
class ClassRaster:
    """One band of integers. Strips hold `background` where a pixel is not valid."""

    scene: Scene
    background: int
    dtype: str
    """Of the strips: uint8 where the nodata value is a byte, int16 where bytes need one value more, else int32."""
    masked: bool
    """Whether GDAL's mask says more than the nodata value."""
    stamp: str
    """The local file's fingerprint when it was opened; empty for one that is far away."""

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Describe a raster of classes. SceneError when it cannot be read, has several bands, or holds no integers."""
        scene = Scene.open(path)
        name, stamp = shown(scene.path), "" if is_remote(scene.path) else scene.fingerprint()
        if len(scene.band_indexes) != 1:
            raise SceneError(
                f"{name} has {len(scene.band_indexes)} bands, a map of classes has one; "
                "take one out by gdal_translate -b 1, or predict a map from imagery first"
            )
        if np.dtype(scene.dtype).kind not in "iu":
            raise SceneError(
                f"{name} holds {scene.dtype}, a map of classes holds integers; "
                "classify it first, or convert it by gdal_translate -ot Byte if its values are whole"
            )
        with opened(scene.path) as dataset:
            flags = dataset.mask_flag_enums[scene.band_indexes[0] - 1]
        masked = MaskFlags.per_dataset in flags or MaskFlags.alpha in flags
        by_nodata = not masked and MaskFlags.nodata in flags and scene.nodata is not None
        if by_nodata and scene.dtype == "uint8" and scene.nodata in range(256):
            return cls(scene, int(scene.nodata or 0), "uint8", masked=False, stamp=stamp)
        if scene.dtype in ("uint8", "int8"):
            return cls(scene, _NO_BYTE, "int16", masked=MaskFlags.all_valid not in flags, stamp=stamp)
        return cls(scene, _INT32.min, "int32", masked=MaskFlags.all_valid not in flags, stamp=stamp)

    @property
    def strip_rows(self) -> int:
        """Rows of a strip: whole rows of blocks."""
        rows = max(1, STRIP_PX // self.scene.shape[1])
        block = self.scene.block_shape[0]
        if block * self.scene.shape[1] > _TALLEST_PX:
            return rows
        return max(1, rows // block) * block

    def windows(self) -> Iterator[Window]:
        """Yield the window of each strip, from the top."""
        height, width = self.scene.shape
        for row in range(0, height, self.strip_rows):
            yield Window(row, 0, min(self.strip_rows, height - row), width)

    def strips(self) -> Iterator[NDArray[Any]]:
        """Yield the strips (row, col). SceneError where the file is damaged, or a code does not fit 32 bits."""
        for window in self.windows():
            yield self._read(window)

    def check_unchanged(self) -> None:
        """Raise SceneError when a local file was replaced under the run: its polygons would be half old, half new."""
        if self.stamp and self.scene.fingerprint() != self.stamp:
            raise changed(self.scene)

    def _read(self, window: Window) -> NDArray[Any]:
        if self.masked:
            patch = self.scene.read(window)
            if patch.valid.shape != window.shape:
                raise changed(self.scene)
            codes: NDArray[Any] = patch.data[0].astype(self.dtype)
            self._check(patch.data[0], codes, patch.valid)
            codes[~patch.valid] = self.background
            return codes
        with opened(self.scene.path) as dataset:
            data = dataset.read(self.scene.band_indexes[0], window=((window.row, window.row_stop), (0, window.width)))
        if data.shape != window.shape:
            raise changed(self.scene)
        unmasked: NDArray[Any] = data.astype(self.dtype, copy=False)
        self._check(data, unmasked, None)
        return unmasked

    def _check(self, data: NDArray[Any], codes: NDArray[Any], valid: NDArray[np.bool_] | None) -> None:
        """Raise SceneError for a code that does not fit."""
        if np.iinfo(data.dtype).max <= _INT32.max and data.dtype != np.int32:
            return
        wrong = (codes != data) | (codes == self.background)
        wrong = wrong if valid is None else wrong & valid
        if wrong.any():
            raise SceneError(
                f"{shown(self.scene.path)} holds the code {data[wrong][0]}, codes are integers from {-_INT32.max} to "
                f"{_INT32.max}; renumber its classes"
            )


def changed(scene: Scene) -> SceneError:
    """Return the error for a raster that is another than the one opened."""
    return SceneError(f"{shown(scene.path)} has changed since the run began; run again when it is complete")
