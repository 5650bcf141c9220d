"""A scene and its labels, decoded: memory-mapped files, from which crops are read as fast as the disk gives them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.counts import count_bytes
from geoseg.errors import SceneError
from geoseg.legend import NODATA
from geoseg.raster import BandStatistics, Patch, Window, band_statistics, tiles

CELL_PX = 64
"""Edge of a cell of the coarse grid of counts; the last of a row or column may be smaller."""
IMAGE, CODES, VALID, CELLS = "image.npy", "codes.npy", "valid.npy", "cells.npy"
_SAMPLES = 4_000_000
_TILE_PX = 256
_KEPT_MAPS = 256
"""Each holds a file descriptor, of which a process has about a thousand."""


@dataclass(frozen=True, slots=True)
class PreparedScene:
    """Pixels and class codes on a disk. Only a path travels to other processes; each maps the files for itself."""

    id: str
    folder: str
    shape: tuple[int, int]
    """(rows, cols)."""
    band_count: int
    dtype: str
    gsd_m: float | None
    all_valid: bool
    areas: tuple[Window, ...]
    """Where labels count, in pixels of this scene; disjoint."""
    class_codes: tuple[int, ...]
    """The codes found inside the areas, ascending."""
    cells: NDArray[np.uint16] = field(compare=False, repr=False)
    """(class, cell row, cell col): pixels of each class in each cell of CELL_PX, inside the areas."""

    @property
    def class_px(self) -> dict[int, int]:
        """Code -> pixels inside the areas."""
        sums = self.cells.sum(axis=(1, 2), dtype=np.int64)
        return {code: int(pixels) for code, pixels in zip(self.class_codes, sums, strict=True)}

    def read(self, window: Window) -> Patch:
        """Read a window, which may stick out: there it is 0 and invalid."""
        inside = window.intersection(Window(0, 0, *self.shape))
        image = self._map(IMAGE)
        if inside == window:
            data = np.array(image[:, window.rows, window.cols])
            return Patch(data, self._valid(window))
        data, valid = np.zeros((self.band_count, *window.shape), self.dtype), np.zeros(window.shape, np.bool_)
        if inside is not None:
            place = inside.relative_to(window)
            data[:, place.rows, place.cols] = image[:, inside.rows, inside.cols]
            valid[place.rows, place.cols] = self._valid(inside)
        return Patch(data, valid)

    def codes(self, window: Window) -> NDArray[np.uint8]:
        """Read the codes (row, col); 255 without label, where the scene is not valid, and outside of the areas."""
        codes, stored = np.full(window.shape, NODATA, np.uint8), self._map(CODES)
        for area in self.areas:
            inside = window.intersection(area)
            if inside is not None:
                place = inside.relative_to(window)
                codes[place.rows, place.cols] = stored[inside.rows, inside.cols]
        return codes

    def _valid(self, window: Window) -> NDArray[np.bool_]:
        if self.all_valid:
            return np.ones(window.shape, np.bool_)
        return np.array(self._map(VALID)[window.rows, window.cols])

    def _map(self, name: str) -> NDArray[Any]:
        return _mapped(str(Path(self.folder) / name))


@lru_cache(maxsize=_KEPT_MAPS)
def _mapped(path: str) -> NDArray[Any]:
    mapped: NDArray[Any] = np.load(path, mmap_mode="r")
    return mapped


def count_cells(codes: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Return the codes in a strip that begins with a row of cells, and (class, cell row, cell col) counts of them."""
    height, width = codes.shape
    rows, cols = -(-height // CELL_PX), -(-width // CELL_PX)
    found = np.flatnonzero(count_bytes(codes)[:NODATA])
    counts = np.zeros((len(found), rows, cols), np.uint16)
    at_rows, at_cols = np.arange(0, height, CELL_PX), np.arange(0, width, CELL_PX)
    for place, code in enumerate(found):
        across = np.add.reduceat(codes == code, at_cols, axis=1, dtype=np.uint16)
        counts[place] = np.add.reduceat(across, at_rows, axis=0, dtype=np.uint16)
    return found, counts


def band_statistics_of(scenes: Sequence[PreparedScene]) -> BandStatistics:
    """Measure the valid pixels in the areas; of many, every n-th row and column. SceneError if none is valid."""
    total = sum(area.size for scene in scenes for area in scene.areas)
    step = max(1, round((total / _SAMPLES) ** 0.5))
    samples = []
    for scene in scenes:
        for area in scene.areas:
            for tile in tiles(area.height, area.width, _TILE_PX * step, area.width):
                patch = scene.read(type(tile)(area.row + tile.row, area.col + tile.col, tile.height, tile.width))
                thin = patch.valid[::step, ::step]
                samples.append(patch.data[:, ::step, ::step][:, thin])
    found = band_statistics(np.concatenate(samples, axis=1)) if samples else None
    if found is None:
        raise SceneError("no pixel of the scenes is valid; check their nodata values and masks with geoseg info")
    return found


def class_px_of(scenes: Sequence[PreparedScene]) -> dict[int, int]:
    """Return code -> pixels inside the areas of all scenes, ascending."""
    counts: Counter[int] = Counter()
    for scene in scenes:
        counts.update(scene.class_px)
    return dict(sorted(counts.items()))
