"""A map beside its reference, counted tile by tile on a few threads, in memory that does not grow with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.counts import NONE, PairCounts, StoredCodes, count_pairs
from geoseg.errors import UsageError
from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.evaluation import LeftOut
from geoseg.evaluation.matching import Classes, Matching
from geoseg.evaluation.metrics import ConfusionMatrix
from geoseg.machine import available_cores
from geoseg.prefetch import prefetch_map
from geoseg.progress import Progress
from geoseg.raster import ClassRaster, Ground, Scene, ShiftedRaster, WarpedRaster, Window, shown, tiles

if TYPE_CHECKING:
    from geoseg.evaluation.reference import BurnedPolygons

_TILE_PX = 4 * 1024**2
"""Pixels of a tile of bytes. Where each pixel takes 64 bits on the way to being counted, a quarter."""
_TALLEST_PX = 16 * _TILE_PX
"""A tile of whole blocks larger than this is cut, though each part decodes all of it."""
_MOST_THREADS = 8
_AHEAD = 2
"""Tiles under way for each thread: the next is at hand when one is done."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A map, and what it is compared with."""

    mapped: ClassRaster
    reference: ShiftedRaster | WarpedRaster | BurnedPolygons | None
    """None to count the map alone."""
    matching: Matching
    confidence: Scene | None = None
    ground: Ground | None = None
    """None where no areas are asked for."""

    def count(self, window: Window) -> tuple[PairCounts, Calibration | None]:
        """Count the pixels of a window. SceneError where a file is damaged or holds no classes."""
        mapped = ShiftedRaster(self.mapped, 0, 0).read(window)
        reference = None if self.reference is None else self.reference.read(window)
        names = self.reference.name if self.reference else self._name, self._name
        counted = count_pairs(reference, mapped, self._pixel_areas(window), names)
        counted.contested = 0 if reference is None else reference.contested
        if self.confidence is None or reference is None:
            return counted, None
        return counted, self._calibration(self.confidence, window, reference, mapped)

    def tiles(self) -> list[Window]:
        """Return the windows to count: whole blocks of the map, and of the reference where its rows are the map's."""
        height, width = self.mapped.scene.shape
        shapes = [self.mapped.scene.block_shape]
        if isinstance(self.reference, ShiftedRaster):
            shapes.append(self.reference.raster.scene.block_shape)
        rows, cols = (max(sides) for sides in zip(*shapes, strict=True))
        plain = self.confidence is None and self.mapped.scene.dtype == "uint8" and not self.mapped.colors
        plain = plain and (self.reference is None or self.reference.is_plain)
        wanted_px = _TILE_PX if plain else _TILE_PX // 4
        cols = width if cols >= width else min(width, max(1, isqrt(wanted_px) // cols) * cols)
        rows = max(1, wanted_px // cols // rows) * rows
        if rows * cols > _TALLEST_PX:
            rows = max(1, wanted_px // cols)
        return tiles(height, width, min(rows, height), cols)

    def areas(self, counts: PairCounts) -> dict[tuple[int, int], float]:
        """Return the area on the ground by code in the reference and in the map; pixels without a `ground`."""
        if self.ground is None or self.ground.is_even:
            pixel = 1.0 if self.ground is None else self.ground.pixel
            return {pair: pixels * pixel for pair, pixels in counts.pixels.items()}
        return counts.areas

    @property
    def _name(self) -> str:
        return shown(self.mapped.scene.path)

    def _pixel_areas(self, window: Window) -> NDArray[np.float64] | None:
        """Return what pixels measure, (row,) or (row, col); None where all are alike, or nobody asks."""
        if self.ground is None or self.ground.is_even:
            return None
        areas = self.ground.areas(window)
        return areas[:, 0] if areas.shape[1] == 1 else areas

    def _calibration(
        self, confidence: Scene, window: Window, reference: StoredCodes, mapped: StoredCodes
    ) -> Calibration:
        rows, reference_codes = reference.indexed(shown(confidence.path))
        cols, map_codes = mapped.indexed(self._name)
        counts, right = (
            np.array([[say(int(theirs), int(ours)) for ours in map_codes] for theirs in reference_codes])
            for say in (self.matching.counts, self.matching.same)
        )
        patch = confidence.read(window)
        counted = counts[rows, cols] & patch.valid.ravel()
        stored = patch.data[0].ravel()[counted]
        return Calibration.of_stored(stored, right[rows, cols][counted], shown(confidence.path))


def count(
    comparison: Comparison, *, threads: int | None = None, progress: Callable[[Progress], None] | None = None
) -> tuple[PairCounts, Calibration | None]:
    """Count all pixels of a map and its reference. SceneError where a file is damaged or changes meanwhile.

    UsageError for fewer threads than one.

    Tiles are added in their order, whichever is done first: sums of areas are the same for any number of threads.
    """
    total, table = PairCounts(), None if comparison.confidence is None else Calibration.empty()
    began, done_px = time.perf_counter(), 0
    windows = comparison.tiles()
    pixels = comparison.mapped.scene.shape[0] * comparison.mapped.scene.shape[1]
    if threads is None:
        threads = min(available_cores(), _MOST_THREADS)
    if threads < 1:
        raise UsageError(f"`threads` must be at least 1, got {threads}", "threads")
    with closing(prefetch_map(comparison.count, windows, threads, _AHEAD * threads)) as coming:
        for done, (window, (counted, calibration)) in enumerate(zip(windows, coming, strict=True), start=1):
            total.add(counted)
            table = table if table is None or calibration is None else table.merge(calibration)
            done_px += window.size
            if progress is not None:
                spent = time.perf_counter() - began
                progress(Progress(done, len(windows), done_px, pixels, done_px, spent, stage="evaluate"))
    for each in (comparison.mapped, *([comparison.reference] if comparison.reference else [])):
        each.check_unchanged()
    return total, table


def confusion(counts: PairCounts, matching: Matching, classes: Classes) -> ConfusionMatrix:
    """Return the matrix of the pixels that count."""
    cells = np.zeros((len(classes.codes),) * 2, np.int64)
    for (theirs, ours), pixels in counts.pixels.items():
        if matching.counts(theirs, ours):
            cells[classes.of_reference[theirs], classes.of_map[ours]] += pixels
    return ConfusionMatrix(classes.codes, classes.names, cells)


def left_out(counts: PairCounts, matching: Matching) -> LeftOut:
    """Return how many pixels do not count, by the reason."""
    found = LeftOut()
    for (theirs, ours), pixels in counts.pixels.items():
        if ours == NONE:
            found = replace(found, no_map=found.no_map + pixels)
        elif theirs == NONE:
            found = replace(found, no_reference=found.no_reference + pixels)
        elif theirs in matching.several:
            found = replace(found, several=found.several + pixels)
        elif not matching.counts(theirs, ours):
            found = replace(found, ignored=found.ignored + pixels)
    return found
