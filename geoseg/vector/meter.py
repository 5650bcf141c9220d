"""How far a run is, strip by strip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from numpy.typing import NDArray

from geoseg.progress import Progress
from geoseg.raster import ClassRaster
from geoseg.vector.layer import Table
from geoseg.vector.polygons import Polygons


class Meter:
    """Counts strips as they pass: those read to see what is small, if they are, and those made to polygons.

    Either pass is half of the work then, so that pixels stay those of the raster.
    """

    def __init__(self, raster: ClassRaster, report: Callable[[Progress], None] | None, *, sieved: bool) -> None:
        windows = list(raster.windows())
        self._sieved = len(windows) if sieved else 0
        self._pixels_total = sum(window.height * window.width for window in windows)
        self._windows = 2 * windows if sieved else windows
        self._passes = 2 if sieved else 1
        self._report = report
        self._begun_s = time.monotonic()
        self._strips = self._pixels = self._polygons = 0

    @property
    def polygons(self) -> int:
        """Features so far."""
        return self._polygons

    def read(self, strips: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Yield the same strips, and report each; not when they are read a second time, to be made to polygons."""
        for strip in strips:
            yield strip
            if self._strips < self._sieved:
                self._count()

    def made(self, batches: Iterable[Polygons]) -> Iterator[Polygons]:
        """Yield the same batches, one a strip, and report each."""
        for batch in batches:
            yield batch
            self._count()

    def written(self, tables: Iterable[Table]) -> Iterator[Table]:
        """Yield the same tables, and count their features."""
        for table in tables:
            self._polygons += len(table)
            yield table

    def report(self) -> None:
        """Report where the run is."""
        pixels = self._pixels // self._passes
        if self._report is not None:
            self._report(
                Progress(
                    self._strips,
                    len(self._windows),
                    pixels,
                    self._pixels_total,
                    pixels,
                    time.monotonic() - self._begun_s,
                    self._polygons,
                    "polygons",
                )
            )

    def _count(self) -> None:
        window = self._windows[self._strips]
        self._strips += 1
        self._pixels += window.height * window.width
        self.report()
