"""Two rasters, tile by tile on a few threads, in memory that does not grow with them."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np

from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.matching import Matching
from geoseg.evaluation.placing import Shifted, Warped
from geoseg.evaluation.tally import Codes, Tally, tally
from geoseg.progress import Progress
from geoseg.raster import ClassRaster, Scene, Window, shown, tiles

if TYPE_CHECKING:
    from geoseg.evaluation.burned import Burned

_TILE_PX = 4 * 1024**2
"""Pixels of a tile of bytes. Where each pixel takes 64 bits on the way to being counted, a quarter."""
_TALLEST_PX = 16 * _TILE_PX
"""A tile of whole blocks larger than this is cut, though each part decodes all of it."""
_MOST_THREADS = 8
_AHEAD = 2
"""Tiles under way for each thread: the next is at hand when one is done."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A map, and what it is compared with."""

    mapped: ClassRaster
    reference: Shifted | Warped | Burned | None
    """None to count the map alone."""
    matching: Matching
    confidence: Scene | None = None
    row_areas: np.ndarray[tuple[int], np.dtype[np.float64]] | None = None
    """(row,) where a pixel's area is wanted and differs from row to row."""

    def count(self, window: Window) -> tuple[Tally, Calibration | None]:
        """Count the pixels of a window. SceneError where a file is damaged or holds no classes."""
        mapped = Shifted(self.mapped, 0, 0).read(window)
        reference = None if self.reference is None else self.reference.read(window)
        areas = None if self.row_areas is None else self.row_areas[window.rows]
        names = self.reference.name if self.reference else self._name, self._name
        counted = tally(reference, mapped, areas, names)
        counted.contested = 0 if reference is None else reference.contested
        if self.confidence is None or reference is None:
            return counted, None
        return counted, self._calibration(self.confidence, window, reference, mapped)

    def tiles(self) -> list[Window]:
        """Return the windows to count: whole blocks of the map, and of the reference where its rows are the map's."""
        height, width = self.mapped.scene.shape
        shapes = [self.mapped.scene.block_shape]
        if isinstance(self.reference, Shifted):
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

    @property
    def _name(self) -> str:
        return shown(self.mapped.scene.path)

    def _calibration(self, confidence: Scene, window: Window, reference: Codes, mapped: Codes) -> Calibration:
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
    pair: Pair, *, threads: int | None = None, progress: Callable[[Progress], None] | None = None
) -> tuple[Tally, Calibration | None]:
    """Count all pixels of a map and its reference. SceneError where a file is damaged or changes meanwhile.

    Tiles are added in their order, whichever is done first: sums of areas are the same for any number of threads.
    """
    total, table = Tally(), None if pair.confidence is None else Calibration.empty()
    began, done_px, done = time.perf_counter(), 0, 0
    windows = pair.tiles()
    pixels = pair.mapped.scene.shape[0] * pair.mapped.scene.shape[1]
    with closing(_in_order(pair, windows, threads or _threads())) as coming:
        for window, (counted, calibration) in coming:
            total.add(counted)
            table = table if table is None or calibration is None else table.merge(calibration)
            done, done_px = done + 1, done_px + window.size
            if progress is not None:
                progress(
                    Progress(
                        done, len(windows), done_px, pixels, done_px, time.perf_counter() - began, stage="evaluate"
                    )
                )
    for each in (pair.mapped, *([pair.reference] if pair.reference else [])):
        each.check_unchanged()
    return total, table


def _in_order(
    pair: Pair, windows: list[Window], threads: int
) -> Generator[tuple[Window, tuple[Tally, Calibration | None]]]:
    """Yield each window and what was counted in it, with few windows under way at a time."""
    coming = iter(windows)
    under_way: deque[tuple[Window, Future[tuple[Tally, Calibration | None]]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="geoseg-evaluate") as pool:
        try:
            for window in islice(coming, _AHEAD * threads):
                under_way.append((window, pool.submit(pair.count, window)))
            while under_way:
                window, future = under_way.popleft()
                yield window, future.result()
                for following in islice(coming, 1):
                    under_way.append((following, pool.submit(pair.count, following)))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)
