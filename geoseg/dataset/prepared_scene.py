"""A decoded scene with its labels: memory-mapped files, and crops read from them at the speed of the disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.counts import count_bytes
from geoseg.errors import SceneError, UsageError
from geoseg.legend import NODATA
from geoseg.raster import BandStatistics, Patch, Window, band_statistics

CELL_PX = 64
"""Edge of a cell in the coarse grid of counts; the last cell of a row or column may be smaller."""
IMAGE, CODES, VALID, CELLS = "image.npy", "codes.npy", "valid.npy", "cells.npy"
_SAMPLES, _SAMPLED_BANDS = 4_000_000, 8
"""Pixels measured for statistics, of scenes with that many bands; of more bands, fewer pixels."""
_KEPT_MAPS = 256
"""Each map holds a file descriptor, and a process has about a thousand."""


@dataclass(frozen=True, slots=True)
class PreparedScene:
    """Pixels and class codes on disk. Other processes receive only the path, and map the files themselves."""

    id: str
    folder: str
    shape: tuple[int, int]
    """(rows, cols)."""
    band_count: int
    dtype: str
    gsd_m: float | None
    all_valid: bool
    areas: tuple[Window, ...]
    """Disjoint windows where labels count, in pixels of this scene."""
    class_codes: tuple[int, ...]
    """The codes found inside the areas, ascending."""
    cells: NDArray[np.uint16] = field(compare=False, repr=False)
    """(class, cell row, cell col): pixels of each class in each cell of CELL_PX, inside the areas."""

    @property
    def path(self) -> str:
        """Its name in messages of a mapping."""
        return self.id

    @property
    def class_px(self) -> dict[int, int]:
        """Code -> pixels inside the areas."""
        sums = self.cells.sum(axis=(1, 2), dtype=np.int64)
        return {code: int(pixels) for code, pixels in zip(self.class_codes, sums, strict=True)}

    def read(self, window: Window) -> Patch:
        """Read a window. Pixels outside the scene are 0 and invalid."""
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
        """Read the codes (row, col): 255 where there is no label or the scene is invalid, and outside the areas."""
        codes, stored = np.full(window.shape, NODATA, np.uint8), self._map(CODES)
        for area in self.areas:
            inside = window.intersection(area)
            if inside is not None:
                place = inside.relative_to(window)
                codes[place.rows, place.cols] = stored[inside.rows, inside.cols]
        return codes

    def sample(self, area: Window, step: int) -> NDArray[Any]:
        """Return the valid pixels (band, pixel) in every n-th row and column of an area."""
        part = np.s_[area.row : area.row_stop : step, area.col : area.col_stop : step]
        image = self._map(IMAGE)[:, *part]
        return np.asarray(image[:, np.ones(image.shape[1:], np.bool_) if self.all_valid else self._map(VALID)[part]])

    def _valid(self, window: Window) -> NDArray[np.bool_]:
        if self.all_valid:
            return np.ones(window.shape, np.bool_)
        return np.array(self._map(VALID)[window.rows, window.cols])

    def _map(self, name: str) -> NDArray[Any]:
        return _mapped(str(Path(self.folder) / name))


@lru_cache(maxsize=_KEPT_MAPS)
def _mapped(path: str) -> NDArray[Any]:
    return stored(Path(path), mmap_mode="r")


def stored(path: Path, mmap_mode: Literal["r"] | None = None) -> NDArray[Any]:
    """Return an array of a decoded scene. SceneError if the file is gone or damaged."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode=mmap_mode)
    except (OSError, ValueError, EOFError) as error:
        raise SceneError(f"cannot read {path}: {error}; remove the folder {path.parent} and run again") from None
    return array


def count_cells(codes: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Return the codes in a strip that begins with a row of cells, and their counts (class, cell row, cell col)."""
    height, width = codes.shape
    rows, cols = -(-height // CELL_PX), -(-width // CELL_PX)
    class_codes = np.flatnonzero(count_bytes(codes)[:NODATA])
    counts = np.zeros((len(class_codes), rows, cols), np.uint16)
    at_rows, at_cols = np.arange(0, height, CELL_PX), np.arange(0, width, CELL_PX)
    for place, code in enumerate(class_codes):
        across = np.add.reduceat(codes == code, at_cols, axis=1, dtype=np.uint16)
        counts[place] = np.add.reduceat(across, at_rows, axis=0, dtype=np.uint16)
    return class_codes, counts


def band_statistics_of(scenes: Sequence[PreparedScene]) -> BandStatistics:
    """Measure the valid pixels in the areas, or in every n-th row and column of large ones. SceneError without any."""
    total = sum(area.size * max(1, scene.band_count / _SAMPLED_BANDS) for scene in scenes for area in scene.areas)
    step = max(1, round((total / _SAMPLES) ** 0.5))
    statistics = None
    while statistics is None and step:  # few valid pixels may all lie between those of a step
        samples = [scene.sample(area, step) for scene in scenes for area in scene.areas]
        statistics = band_statistics(np.concatenate(samples, axis=1)) if samples else None
        step //= 2
    if statistics is None:
        raise SceneError("no pixel of the scenes is valid; check their nodata values and masks with geoseg info")
    return statistics


def class_px_of(scenes: Sequence[PreparedScene]) -> dict[int, int]:
    """Return code -> pixels inside the areas of all scenes, ascending."""
    counts: Counter[int] = Counter()
    for scene in scenes:
        counts.update(scene.class_px)
    return dict(sorted(counts.items()))


class Crop(NamedTuple):
    """A piece of one or several scenes, with stored values."""

    data: NDArray[Any]
    """(band, row, col)"""
    valid: NDArray[np.bool_]
    codes: NDArray[np.uint8]
    """(row, col), 255 = ignore"""
    place: str
    """Its origin, for messages."""


class CropSource(Protocol):
    """A source of crops."""

    def take(self, generator: np.random.Generator, margin_px: int) -> Crop:
        """Return a crop with a margin on all sides; the choice depends on the generator alone."""


class CropSampler:
    """Draws a labeled pixel, and around it a crop that is pushed into its scene.

    At rare = 0 all labeled pixels of the areas are equally likely; at rare = 1 all classes are, however small. In
    between, a share `rare` of the draws is by class. Raises SceneError if no pixel has a label.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what there is, and how often it is drawn
        self,
        scenes: Sequence[PreparedScene],
        crop_px: int,
        rare: float = 0.0,
        codes: Collection[int] | None = None,
        weights: Sequence[float] | None = None,
        alike: Collection[int] | None = None,
    ) -> None:
        """Count the pixels of some classes, by default of all. UsageError if `crop_px` or `rare` is out of range.

        `weights`: how often the pixels of each scene are drawn, relative to the others; None for equally often.
        `alike`: the codes that share `rare` equally, if the scenes have any of them; by default all counted codes.
        """
        if crop_px < 1:
            raise UsageError(f"`crop_px` must be at least 1 pixel, got {crop_px}", "crop_px")
        if not 0 <= rare <= 1:
            raise UsageError(f"`rare`, the share of crops drawn by class, must be from 0 to 1, got {rare}", "rare")
        self.scenes = tuple(scenes)
        self.crop_px = crop_px
        present = {code for scene in scenes for code in scene.class_codes if codes is None or code in codes}
        self._codes = np.array(sorted(present), np.int64)
        pixels = np.zeros((len(self._codes), len(self.scenes)))
        for place, scene in enumerate(self.scenes):
            for code, count in scene.class_px.items():
                if code in present:
                    pixels[np.searchsorted(self._codes, code), place] = count
        if weights is not None:
            pixels *= np.asarray(weights)
        total = pixels.sum(axis=1)
        if not total.sum():
            raise SceneError("no pixel to learn from: none in the chosen areas has a label; check labels and split")
        is_drawn_by_class = total > 0
        if alike is not None and (favored := is_drawn_by_class & np.isin(self._codes, list(alike))).any():
            is_drawn_by_class = favored
        self._by_class = np.cumsum(
            (1 - rare) * total / total.sum() + rare * is_drawn_by_class / np.count_nonzero(is_drawn_by_class)
        )
        self._by_scene = np.cumsum(pixels, axis=1)

    def take(self, generator: np.random.Generator, margin_px: int) -> Crop:
        """Read the window that `draw` returns, with a margin on all sides for rotated crops.

        Raises SceneError if a scene's cache is gone.
        """
        place, crop = self.draw(generator)
        scene, window = self.scenes[place], crop.padded(margin_px)
        patch = scene.read(window)
        return Crop(patch.data, patch.valid, scene.codes(window), f"{scene.id} at row {window.row}, col {window.col}")

    def draw(self, generator: np.random.Generator) -> tuple[int, Window]:
        """Return the index of a scene in `scenes`, and a window of it with at least one labeled pixel."""
        place, row, col = self.pixel(generator)
        return place, square_around(self.scenes[place].shape, row, col, self.crop_px)

    def pixel(self, generator: np.random.Generator) -> tuple[int, int, int]:
        """Return the index of a scene in `scenes`, and the row and column of a labeled pixel in it."""
        class_index = _pick(self._by_class, generator)
        place = _pick(self._by_scene[class_index], generator)
        scene, code = self.scenes[place], int(self._codes[class_index])
        cells = scene.cells[scene.class_codes.index(code)]
        cell_row, cell_col = divmod(_pick(np.cumsum(cells, dtype=np.int64), generator), cells.shape[1])
        cell = Window(cell_row * CELL_PX, cell_col * CELL_PX, CELL_PX, CELL_PX)
        positions = np.flatnonzero(scene.codes(cell) == code)
        row, col = divmod(int(positions[generator.integers(len(positions))]), CELL_PX)
        return place, cell.row + row, cell.col + col


def square_around(shape: tuple[int, int], row: int, col: int, edge_px: int) -> Window:
    """Return a square around a pixel, inside a scene of that shape if the scene is large enough."""
    height, width = shape
    return Window(_shifted_inside(row, height, edge_px), _shifted_inside(col, width, edge_px), edge_px, edge_px)


def _pick(sums: NDArray[np.generic], generator: np.random.Generator) -> int:
    """Draw an index with the probability that the running sums give it."""
    return int(np.searchsorted(sums, generator.random() * float(sums[-1]), side="right"))


def _shifted_inside(at: int, length_px: int, crop_px: int) -> int:
    """Return the first pixel of a crop around a pixel: inside the scene if it is large enough, else centered on it."""
    start = at - crop_px // 2
    return max(min(start, length_px - crop_px), 0) if length_px >= crop_px else (length_px - crop_px) // 2
