"""Features of several polygons: regions that touch at corners, or all of a class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.vector.arcs import Arcs
from geoseg.vector.polygons import Polygons
from geoseg.vector.runs import Regions, number
from geoseg.vector.spill import room

_CROSSING = 15
_SHARE_VERTICES = 500_000


class Corners:
    """8-connectedness: polygons wait until no region that touches them at a corner, or through others, is open."""

    def __init__(self) -> None:
        self._groups = np.empty(0, np.int32)
        """(open region,) its group; groups are in the order of their first pixels."""
        self._count = 0
        self._waiting: Polygons | None = None
        self._waiting_groups = np.empty(0, np.int32)
        self._last_rows = np.empty(0, np.int64)

    def add(self, batch: Polygons, of: NDArray[np.int64], regions: Regions, arcs: Arcs, first_row: int) -> Polygons:
        """Take in the polygons that end in a strip, `of` which regions; return the features that end in it."""
        groups = self._grouped(regions, _touching(regions, arcs, first_row))
        before, here = groups[: self._count], groups[self._count :]
        still_open = np.zeros(int(groups.max(initial=-1)) + 1, np.bool_)
        still_open[here[regions.open]] = True
        last_rows = np.concatenate([self._last_rows, regions.last_row[of]])
        members = np.concatenate([before[self._waiting_groups], here[of]]).astype(np.int64)
        polygons = batch if self._waiting is None else Polygons.concatenate([self._waiting, batch])
        waits = still_open[members]
        numbers = np.cumsum(still_open, dtype=np.int32) - np.int32(1)
        self._groups, self._count = numbers[here[regions.open]], int(np.count_nonzero(still_open))
        self._waiting, self._waiting_groups = polygons.take(np.flatnonzero(waits)), numbers[members[waits]]
        self._last_rows = last_rows[waits]
        done = np.flatnonzero(~waits)
        ends = np.zeros(len(still_open), np.int64)
        np.maximum.at(ends, members[done], last_rows[done])
        order = done[np.lexsort((members[done], ends[members[done]]))]
        return merged(polygons.take(order), members[order])

    def _grouped(self, regions: Regions, pairs: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return (group before, then region,) the groups now."""
        parents = np.arange(self._count + len(regions), dtype=np.int32)
        _unite(parents, self._groups, self._count + regions.carried)
        _unite(parents, self._count + pairs[:, 0], self._count + pairs[:, 1])
        number(parents)
        return parents


def _touching(regions: Regions, arcs: Arcs, first_row: int) -> NDArray[np.int32]:
    """Return (pair, 2) the regions of one class that touch at a corner in the strip."""
    crossing = np.flatnonzero((arcs.edges & _CROSSING == _CROSSING) & (arcs.node_rows >= first_row))
    around = arcs.quadrants.reshape(-1, 4)[crossing]
    pairs: NDArray[np.int32] = np.concatenate([around[:, [0, 2]], around[:, [1, 3]]])
    pairs = pairs[(pairs >= 0).all(axis=1)]
    alike: NDArray[np.bool_] = regions.codes[pairs[:, 0]] == regions.codes[pairs[:, 1]]
    return pairs[alike]


@njit(cache=True, nogil=True)
def _unite(parents: Any, first: Any, second: Any) -> None:
    for pair in range(len(first)):
        a, b = first[pair], second[pair]
        while parents[a] != a:
            a = parents[a]
        while parents[b] != b:
            b = parents[b]
        parents[max(a, b)] = min(a, b)


def merged(polygons: Polygons, members: NDArray[np.int64]) -> Polygons:
    """Return one feature for each run of equal `members`, (feature,)."""
    starts = np.flatnonzero(np.diff(members, prepend=-1) != 0)
    if not len(starts):
        return polygons
    confidence, count_px = polygons.confidence, polygons.confidence_px
    if confidence is not None and count_px is not None:
        total = np.add.reduceat(np.where(count_px > 0, confidence, 0) * count_px, starts)
        count_px = np.add.reduceat(count_px, starts)
        with np.errstate(invalid="ignore"):
            confidence = total / count_px
    return replace(
        polygons,
        codes=polygons.codes[starts],
        area_px=np.add.reduceat(polygons.area_px, starts),
        features=polygons.features[np.append(starts, len(members))],
        confidence=confidence,
        confidence_px=count_px,
    )


def dissolve(batches: Iterable[Polygons], budget: int) -> Iterator[Polygons]:
    """Yield one feature for each class, ascending by code, when all polygons are there.

    Vertices beyond `budget` bytes lie on the disk until then.
    """
    kept: list[Polygons] = []
    size = 0
    for batch in batches:
        if not len(batch):
            continue
        size += batch.xy.nbytes
        if size > budget:
            xy = room(batch.xy.shape, batch.xy.dtype, 0)
            xy[:] = batch.xy
            batch = replace(batch, xy=xy)  # noqa: PLW2901 - the same batch, elsewhere
        kept.append(batch)
    for codes in _shares(kept):
        of_classes = [
            batch.take(np.flatnonzero((batch.codes >= codes[0]) & (batch.codes <= codes[-1]))) for batch in kept
        ]
        polygons = Polygons.concatenate(of_classes)
        if len(codes) > 1:
            polygons = polygons.take(np.argsort(polygons.codes, kind="stable"))
        yield merged(polygons, np.searchsorted(codes, polygons.codes))


def _shares(batches: list[Polygons]) -> list[NDArray[np.int32]]:
    """Return the codes in shares of few vertices; one that has many is a share of its own: soil maps have 65,000."""
    if not batches:
        return []
    codes, of = np.unique(np.concatenate([batch.codes for batch in batches]), return_inverse=True)
    vertices = np.concatenate([np.diff(batch.rings[batch.polygons[batch.features]]) for batch in batches])
    shares = np.cumsum(np.bincount(of, vertices)) // _SHARE_VERTICES
    return np.split(codes, np.flatnonzero(np.diff(shares)) + 1)
