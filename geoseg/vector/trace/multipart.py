"""Features of several polygons: regions that touch at corners, or all of a class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit
from geoseg.vector.polygons import Polygons
from geoseg.vector.trace.arcs import Arcs, disk_array
from geoseg.vector.trace.regions import Regions, number

_CROSSING = 15
_SHARE_VERTICES = 500_000


@dataclass(slots=True)
class _Waiting:
    """The polygons of one strip that wait for others."""

    polygons: Polygons
    groups: NDArray[np.int32]
    """(feature,) the group of each; -1 for those that have gone."""
    last_rows: NDArray[np.int64]

    def renumber(self, numbers: NDArray[np.int32]) -> None:
        """Give the groups, (group,), other numbers."""
        there = self.groups >= 0
        self.groups[there] = numbers[self.groups[there]]


class CornerConnectivity:
    """8-connectedness: polygons wait until no region that touches them at a corner, or through others, is open."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._groups = np.empty(0, np.int32)
        """(open region,) its group; groups are in the order of their first pixels."""
        self._count = 0
        self._waiting: list[_Waiting] = []

    def add(self, batch: Polygons, of: NDArray[np.int64], regions: Regions, arcs: Arcs, first_row: int) -> Polygons:
        """Take in the polygons that end in a strip, `of` which regions; return the features that end in it."""
        groups = self._grouped(regions, _touching(regions, arcs, first_row))
        here = groups[self._count :]
        still_open = np.zeros(int(groups.max(initial=-1)) + 1, np.bool_)
        still_open[here[regions.open]] = True
        for waiting in self._waiting:
            waiting.renumber(groups)
        self._waiting.append(_Waiting(batch, here[of], regions.last_row[of]))
        done, members, last_rows = self._taken(still_open)
        numbers = np.cumsum(still_open, dtype=np.int32) - np.int32(1)
        self._groups, self._count = numbers[here[regions.open]], int(np.count_nonzero(still_open))
        for waiting in self._waiting:
            waiting.renumber(numbers)
        ends = np.zeros(len(still_open), np.int64)
        np.maximum.at(ends, members, last_rows)
        order = np.lexsort((members, ends[members]))
        return merged(done.take(order), members[order])

    def _taken(self, still_open: NDArray[np.bool_]) -> tuple[Polygons, NDArray[np.int64], NDArray[np.int64]]:
        """Take out the polygons of groups that have ended, with their groups and last rows, in the order they came."""
        taken = []
        for waiting in self._waiting:
            ended = np.flatnonzero((waiting.groups >= 0) & ~still_open[waiting.groups])
            taken.append((waiting.polygons.take(ended), waiting.groups[ended], waiting.last_rows[ended]))
            waiting.groups[ended] = -1
        size = sum(waiting.polygons.xy.nbytes for waiting in self._waiting)
        left = (_left(waiting, on_disk=size > self._budget) for waiting in self._waiting)
        self._waiting = [waiting for waiting in left if waiting is not None]
        polygons, groups, last_rows = zip(*taken, strict=True)
        return Polygons.concatenate(polygons), np.concatenate(groups).astype(np.int64), np.concatenate(last_rows)

    def _grouped(self, regions: Regions, pairs: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return (group before, then region,) the groups now."""
        parents = np.arange(self._count + len(regions), dtype=np.int32)
        _unite(parents, self._groups, self._count + regions.carried)
        _unite(parents, self._count + pairs[:, 0], self._count + pairs[:, 1])
        number(parents)
        return parents


def _left(waiting: _Waiting, *, on_disk: bool) -> _Waiting | None:
    """Return what still waits, without what has gone where that is most; None where nothing does."""
    left = np.flatnonzero(waiting.groups >= 0)
    if not len(left):
        return None
    if 2 * len(left) < len(waiting.groups):
        waiting = _Waiting(waiting.polygons.take(left), waiting.groups[left], waiting.last_rows[left])
    return replace(waiting, polygons=_on_disk(waiting.polygons)) if on_disk else waiting


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


def _on_disk(polygons: Polygons) -> Polygons:
    """Return the same polygons, their vertices in a temporary file."""
    if isinstance(polygons.xy.base, np.memmap):
        return polygons
    xy = disk_array(polygons.xy.shape, polygons.xy.dtype, 0)
    xy[:] = polygons.xy
    return replace(polygons, xy=xy)


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
            batch = _on_disk(batch)  # noqa: PLW2901 - the same batch, elsewhere
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
