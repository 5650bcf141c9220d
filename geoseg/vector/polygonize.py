"""Polygons from classes: strip by strip, or from a whole array."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geoseg.compiled import njit, run_parallel
from geoseg.prefetch import prefetch
from geoseg.vector.generalize import Generalization, generalize
from geoseg.vector.polygons import Polygons
from geoseg.vector.simplification import Obstacles
from geoseg.vector.trace import (
    Arcs,
    CornerConnectivity,
    PendingArcs,
    Regions,
    Strip,
    assemble,
    find_regions,
    framed,
    join_strip,
    walk_strip,
)

OPEN_BYTES = 512 * 1024**2
"""Open borders beyond this size go to disk."""


@dataclass(frozen=True, slots=True)
class Tracing:
    """Properties of the polygons to trace."""

    nodes: bool = False
    """Whether polygons keep a vertex where three regions meet, even on a straight side: an edge-matched coverage."""
    generalization: Generalization | None = None
    corners: bool = False
    """Whether regions that touch at a corner are one feature: 8-connectivity."""
    codes: frozenset[int] | None = None
    """The classes to keep; None for all."""
    budget: int = OPEN_BYTES


def trace(classes: NDArray[Any], background: int, transform: Affine, tracing: Tracing | None = None) -> Polygons:
    """Return the polygons of a raster of classes (row, col), uint8 or int32, except `background`.

    They equal those of gdal_polygonize, sorted by last row, then by first pixel.
    """
    return next(trace_strips([classes], len(classes), background, transform, tracing))


def trace_strips(
    strips: Iterable[NDArray[Any]],
    height: int,
    background: int,
    transform: Affine,
    tracing: Tracing | None,
    confidences: Iterable[NDArray[np.float32]] | None = None,
) -> Iterator[Polygons]:
    """Yield the polygons that end in each strip (row, col); together they equal those of `trace` for the whole raster.

    `height` is the raster's. `confidences` are strips of the same rows, NaN where there is no value.
    """
    tracing = tracing or Tracing()
    arcs, pending = Arcs.none(), PendingArcs(tracing.budget)
    generalization = tracing.generalization
    unit = generalization.unit if generalization else 1
    obstacles = Obstacles(tracing.budget)
    sums = _ConfidenceSums() if confidences is not None else None
    confidence_strips = iter(confidences or ())
    corners = CornerConnectivity(tracing.budget) if tracing.corners else None
    for regions, strip in prefetch(_walk_strips(strips, height, background, tracing)):
        arcs = join_strip(strip, regions, arcs, tracing.budget)
        if generalization and strip.obstacles is not None:
            obstacles.add(strip.obstacles)
            generalize(arcs, generalization, obstacles, tracing.budget)
            obstacles.forget(min(arcs.first_open_row, strip.first_row + len(strip.obstacles)))
        if sums:
            sums.add(next(confidence_strips), regions)
        still_open = regions.open
        arcs = pending.give_back(arcs, regions, still_open)
        finished = _finished(regions, still_open, tracing.codes)
        nodes = tracing.nodes or generalization is not None
        polygons = assemble(regions, arcs, finished, transform, unit=unit, nodes=nodes)
        if sums:
            polygons = replace(polygons, **sums.means(finished))
            sums.keep(still_open)
        yield corners.add(polygons, finished, regions, arcs, strip.first_row) if corners else polygons
        arcs = arcs.carry(still_open, pending.put_away(arcs, regions, still_open), tracing.budget)


def _walk_strips(
    strips: Iterable[NDArray[Any]], height: int, background: int, tracing: Tracing
) -> Iterator[tuple[Regions, Strip]]:
    """Yield the regions of each strip, joined to those above, and its borders, not yet joined."""
    regions: Regions | None = None
    for first_row, frame in framed(strips, background):
        above = Regions.none() if regions is None else regions.carry(regions.open)
        top, bottom = first_row == 0, first_row + len(frame) - 1 > height
        obstacles = tracing.generalization is not None
        regions, strip = run_parallel(
            partial(find_regions, frame, background, above, first_row),
            partial(walk_strip, frame, first_row, top=top, bottom=bottom, obstacles=obstacles),
        )
        yield regions, strip


def _finished(regions: Regions, still_open: NDArray[np.bool_], codes: frozenset[int] | None) -> NDArray[np.int64]:
    """Return the requested regions that end in a strip, by last row, then by first pixel."""
    selected = ~still_open
    if codes is not None:
        selected &= np.isin(regions.codes, sorted(codes))
    finished = np.flatnonzero(selected)
    return finished[np.argsort(regions.last_row[finished], kind="stable")]


@dataclass(slots=True)
class _ConfidenceSums:
    """Running sums of confidence per region, strip by strip."""

    total: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """(region,)"""
    count_px: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """(region,) pixels with a confidence."""

    def add(self, strip: NDArray[np.float32], regions: Regions) -> None:
        """Add a strip; `regions.carried` gives the new numbers of the regions summed so far."""
        total, count_px = np.zeros(len(regions)), np.zeros(len(regions), np.int64)
        np.add.at(total, regions.carried, self.total)
        np.add.at(count_px, regions.carried, self.count_px)
        _add_confidence(strip, regions.run_rows, regions.run_cols, regions.run_regions, total, count_px)
        self.total, self.count_px = total, count_px

    def means(self, regions: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the mean confidence of some regions, NaN if there is none, and the number of pixels with one."""
        count_px = self.count_px[regions]
        with np.errstate(invalid="ignore"):
            return {"confidence": self.total[regions] / count_px, "confidence_px": count_px}

    def keep(self, regions: NDArray[np.bool_]) -> None:
        """Drop all regions except those in the mask (region,)."""
        self.total, self.count_px = self.total[regions], self.count_px[regions]


@njit(cache=True, nogil=True)
def _add_confidence(strip: Any, run_rows: Any, run_cols: Any, run_regions: Any, total: Any, count_px: Any) -> None:
    for row in range(strip.shape[0]):
        for run in range(run_rows[row + 1], run_rows[row + 2]):
            region = run_regions[run]
            if region < 0:
                continue
            stop = run_cols[run + 1] if run + 1 < run_rows[row + 2] else strip.shape[1] + 2
            for col in range(run_cols[run] - 1, stop - 1):
                if not np.isnan(strip[row, col]):
                    total[region] += strip[row, col]
                    count_px[region] += 1
