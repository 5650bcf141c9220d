"""Rings linked from arcs, and polygons; optionally one feature per group that touches at corners, or per class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geoseg.compiled import njit, run_parallel, shares
from geoseg.vector.polygons import Polygons
from geoseg.vector.trace.arcs import Arcs, disk_array
from geoseg.vector.trace.regions import Regions, number

_CROSSING = 15
_SHARE_VERTICES = 500_000


@njit(cache=True, nogil=True)
def leave(edges: Any, quadrants: Any, slot: int) -> int:
    """Return the slot through which a ring that arrives at a slot continues: the next edge clockwise.

    If four edges meet and the pixels to the left and opposite belong to one region, the ring turns the other way, since
    it would touch itself otherwise. So a hole that touches the outer ring is a separate ring.
    """
    node = slot >> 2
    edge = (slot + 1) & 3
    if edges[node] == 15 and quadrants[4 * node + edge] == quadrants[4 * node + (edge ^ 2)]:
        return 4 * node + (edge ^ 2)
    while not (edges[node] >> edge) & 1:
        edge = (edge + 1) & 3
    return 4 * node + edge


@njit(cache=True, nogil=True)
def link_rings(
    edges: Any, quadrants: Any, starts: Any, ends: Any, counts: Any, integrals: Any, halves: Any, features: Any,
    straight: bool, ring_features: Any, ring_slots: Any, ring_counts: Any, ring_outer: Any,
) -> int:  # fmt: skip
    """Link the rings of regions with a feature number (-1 = not now); return the number of rings.

    `halves` is (slot,) 2 * arc where the arc starts, 2 * arc + 1 where it ends, -1 for neither; used ones become
    -2 - half. `straight` keeps nodes where the ring runs straight. A ring starts at its first node: `ring_slots`.
    """
    rings = 0
    for first in range(len(halves)):
        if halves[first] < 0 or quadrants[first] < 0 or features[quadrants[first]] < 0:
            continue
        slot = first
        count = 1  # the first vertex again, at the end
        integral = 0
        while halves[slot] >= 0:
            half = halves[slot]
            halves[slot] = -2 - half
            arc = half >> 1
            count += counts[arc]
            arrival = starts[arc] if half & 1 else ends[arc]
            integral += -integrals[arc] if half & 1 else integrals[arc]
            slot = leave(edges, quadrants, arrival)
            count += edges[slot >> 2] < 16 and (straight or (slot ^ arrival) != 2)
        ring_features[rings] = features[quadrants[first]]
        ring_slots[rings] = first
        ring_counts[rings] = count
        ring_outer[rings] = integral < 0
        rings += 1
    return rings


@njit(cache=True, nogil=True)
def group_rings(ring_features: Any, ring_outer: Any, feature_rings: Any, order: Any) -> None:
    """Sort rings by feature, the outer ring first, then holes in the order found; `feature_rings` gets the offsets."""
    for ring in range(len(ring_features)):
        feature_rings[ring_features[ring] + 1] += 1
    for feature in range(len(feature_rings) - 1):
        feature_rings[feature + 1] += feature_rings[feature]
    free = feature_rings[:-1] + 1
    for ring in range(len(ring_features)):
        feature = ring_features[ring]
        if ring_outer[ring]:
            order[feature_rings[feature]] = ring
        else:
            order[free[feature]] = ring
            free[feature] += 1


@njit(cache=True, nogil=True)
def fill_rings(
    edges: Any, quadrants: Any, node_rows: Any, node_cols: Any, starts: Any, ends: Any, firsts: Any, counts: Any,
    vertices: Any, halves: Any, straight: bool, slots: Any, rings: Any, unit: int, transform: Any, backwards: bool,
    xy: Any,
) -> None:  # fmt: skip
    """Write the vertices of rings that start at `slots` to [rings[i], rings[i + 1]) of `xy`.

    Vertices of arcs are in 1 / `unit` of a pixel. `transform` is (6,) for that unit: x = t0 col + t1 row + t2 and
    y = t3 col + t4 row + t5. `backwards` reverses the rings.
    """
    for ring in range(len(slots)):
        place = rings[ring + 1] - 1 if backwards else rings[ring]
        step = -1 if backwards else 1
        begin = place
        slot = slots[ring]
        while True:
            half = -2 - halves[slot]
            arc = half >> 1
            at = firsts[arc]
            to = 1
            if half & 1:
                at += counts[arc] - 1
                to = -1
            for _ in range(counts[arc]):
                row, col = vertices[at, 0], vertices[at, 1]
                xy[place, 0] = transform[0] * col + transform[1] * row + transform[2]
                xy[place, 1] = transform[3] * col + transform[4] * row + transform[5]
                place += step
                at += to
            arrival = starts[arc] if half & 1 else ends[arc]
            slot = leave(edges, quadrants, arrival)
            if edges[slot >> 2] < 16 and (straight or (slot ^ arrival) != 2):
                row, col = unit * node_rows[slot >> 2], unit * node_cols[slot >> 2]
                xy[place, 0] = transform[0] * col + transform[1] * row + transform[2]
                xy[place, 1] = transform[3] * col + transform[4] * row + transform[5]
                place += step
            if slot == slots[ring]:
                break
        xy[place, 0] = xy[begin, 0]
        xy[place, 1] = xy[begin, 1]


def assemble(
    regions: Regions, arcs: Arcs, chosen: NDArray[np.int64], transform: Affine, *, unit: int = 1, nodes: bool = False
) -> Polygons:
    """Return the polygons of the chosen regions, in that order; their arcs are whole.

    The vertices of arcs are in 1 / `unit` of a pixel; `nodes` keeps nodes where a side runs straight.
    """
    features = np.full(len(regions), -1, np.int32)
    features[chosen] = np.arange(len(chosen), dtype=np.int32)
    halves = arcs.halves
    max_rings = 2 * len(arcs.starts)
    ring_features, slots = np.empty(max_rings, np.int32), np.empty(max_rings, np.int32)
    counts, outer = np.empty(max_rings, np.int64), np.empty(max_rings, np.bool_)
    ring_count = link_rings(
        arcs.edges, arcs.quadrants, arcs.starts, arcs.ends, arcs.counts, arcs.integrals, halves, features, nodes,
        ring_features, slots, counts, outer,
    )  # fmt: skip
    by_place = _by_place(arcs, slots[:ring_count])
    polygons, by_feature = np.zeros(len(chosen) + 1, np.int64), np.empty(ring_count, np.int64)
    group_rings(ring_features[by_place], outer[by_place], polygons, by_feature)
    order = by_place[by_feature]
    rings = np.append(0, np.cumsum(counts[order]))
    xy = np.empty((rings[-1], 2))
    a, b, c, d, e, f = transform[:6]
    matrix = np.array([a / unit, b / unit, c, d / unit, e / unit, f])
    borders = (
        arcs.edges, arcs.quadrants, arcs.node_rows, arcs.node_cols, arcs.starts, arcs.ends, arcs.firsts, arcs.counts,
        arcs.vertices, halves, nodes,
    )  # fmt: skip
    backwards = transform.determinant > 0
    shared = shares(counts[order])
    run_parallel(
        *(
            partial(fill_rings, *borders, slots[order[some]], rings[some.start :], unit, matrix, backwards, xy)
            for some in shared
        )
    )
    singles = np.arange(len(chosen) + 1, dtype=np.int64)
    return Polygons(regions.codes[chosen], regions.area_px[chosen], singles, polygons, rings, xy)


def _by_place(arcs: Arcs, slots: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the order of rings by their first nodes, row-major, which does not depend on strips."""
    nodes = slots >> 2
    keys = arcs.node_rows[nodes].astype(np.int64) << 32 | arcs.node_cols[nodes]
    return np.argsort(keys, kind="stable")  # fast on a few sorted runs


@dataclass(slots=True)
class _Waiting:
    """The polygons of one strip that wait for other strips."""

    polygons: Polygons
    groups: NDArray[np.int32]
    """(feature,) the group of each; -1 for those already yielded."""
    last_rows: NDArray[np.int64]

    def renumber(self, numbers: NDArray[np.int32]) -> None:
        """Renumber the groups by `numbers`, (group,)."""
        is_waiting = self.groups >= 0
        self.groups[is_waiting] = numbers[self.groups[is_waiting]]


class CornerConnectivity:
    """8-connectivity: polygons wait until no region that touches them at a corner, even indirectly, is open."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._groups = np.empty(0, np.int32)
        """(open region,) its group; groups are numbered by their first pixels."""
        self._count = 0
        self._waiting: list[_Waiting] = []

    def add(
        self, batch: Polygons, finished: NDArray[np.int64], regions: Regions, arcs: Arcs, first_row: int
    ) -> Polygons:
        """Add the polygons that end in a strip, those of the regions `finished`; return the features that end in it."""
        groups = self._regroup(regions, _touching_pairs(regions, arcs, first_row))
        region_groups = groups[self._count :]
        still_open = np.zeros(int(groups.max(initial=-1)) + 1, np.bool_)
        still_open[region_groups[regions.open]] = True
        for waiting in self._waiting:
            waiting.renumber(groups)
        self._waiting.append(_Waiting(batch, region_groups[finished], regions.last_row[finished]))
        ended, members, last_rows = self._take_ended(still_open)
        numbers = np.cumsum(still_open, dtype=np.int32) - np.int32(1)
        self._groups, self._count = numbers[region_groups[regions.open]], int(np.count_nonzero(still_open))
        for waiting in self._waiting:
            waiting.renumber(numbers)
        ends = np.zeros(len(still_open), np.int64)
        np.maximum.at(ends, members, last_rows)
        order = np.lexsort((members, ends[members]))
        return merged(ended.take(order), members[order])

    def _take_ended(self, still_open: NDArray[np.bool_]) -> tuple[Polygons, NDArray[np.int64], NDArray[np.int64]]:
        """Remove the polygons of ended groups; return them with their groups and last rows, in order of arrival."""
        taken = []
        for waiting in self._waiting:
            ended = np.flatnonzero((waiting.groups >= 0) & ~still_open[waiting.groups])
            taken.append((waiting.polygons.take(ended), waiting.groups[ended], waiting.last_rows[ended]))
            waiting.groups[ended] = -1
        size = sum(waiting.polygons.xy.nbytes for waiting in self._waiting)
        left = (_remaining(waiting, on_disk=size > self._budget) for waiting in self._waiting)
        self._waiting = [waiting for waiting in left if waiting is not None]
        polygons, groups, last_rows = zip(*taken, strict=True)
        return Polygons.concatenate(polygons), np.concatenate(groups).astype(np.int64), np.concatenate(last_rows)

    def _regroup(self, regions: Regions, pairs: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the new groups of the previous groups, then of the regions."""
        parents = np.arange(self._count + len(regions), dtype=np.int32)
        _unite(parents, self._groups, self._count + regions.carried)
        _unite(parents, self._count + pairs[:, 0], self._count + pairs[:, 1])
        number(parents)
        return parents


def _remaining(waiting: _Waiting, *, on_disk: bool) -> _Waiting | None:
    """Return the waiting polygons, compacted if most have been yielded; None if none wait."""
    remaining = np.flatnonzero(waiting.groups >= 0)
    if not len(remaining):
        return None
    if 2 * len(remaining) < len(waiting.groups):
        waiting = _Waiting(waiting.polygons.take(remaining), waiting.groups[remaining], waiting.last_rows[remaining])
    return replace(waiting, polygons=_on_disk(waiting.polygons)) if on_disk else waiting


def _touching_pairs(regions: Regions, arcs: Arcs, first_row: int) -> NDArray[np.int32]:
    """Return (pair, 2) the regions of the same class that touch at a corner in the strip."""
    crossing = np.flatnonzero((arcs.edges & _CROSSING == _CROSSING) & (arcs.node_rows >= first_row))
    around = arcs.quadrants.reshape(-1, 4)[crossing]
    pairs: NDArray[np.int32] = np.concatenate([around[:, [0, 2]], around[:, [1, 3]]])
    pairs = pairs[(pairs >= 0).all(axis=1)]
    same_class: NDArray[np.bool_] = regions.codes[pairs[:, 0]] == regions.codes[pairs[:, 1]]
    return pairs[same_class]


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
    """Return one feature per run of equal `members`, (feature,)."""
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
    """Return the same polygons with their vertices in a temporary file."""
    if isinstance(polygons.xy.base, np.memmap):
        return polygons
    xy = disk_array(polygons.xy.shape, polygons.xy.dtype, 0)
    xy[:] = polygons.xy
    return replace(polygons, xy=xy)


def dissolve(batches: Iterable[Polygons], budget: int) -> Iterator[Polygons]:
    """Yield one feature per class, ascending by code, after all polygons have arrived.

    Until then vertices beyond `budget` bytes are kept on disk.
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
        selected = [
            batch.take(np.flatnonzero((batch.codes >= codes[0]) & (batch.codes <= codes[-1]))) for batch in kept
        ]
        polygons = Polygons.concatenate(selected)
        if len(codes) > 1:
            polygons = polygons.take(np.argsort(polygons.codes, kind="stable"))
        yield merged(polygons, np.searchsorted(codes, polygons.codes))


def _shares(batches: list[Polygons]) -> list[NDArray[np.int32]]:
    """Return the codes in shares of limited vertices; a code with many is its own share. Soil maps have 65,000."""
    if not batches:
        return []
    codes, code_indexes = np.unique(np.concatenate([batch.codes for batch in batches]), return_inverse=True)
    vertices = np.concatenate([np.diff(batch.rings[batch.polygons[batch.features]]) for batch in batches])
    shares = np.cumsum(np.bincount(code_indexes, vertices)) // _SHARE_VERTICES
    return np.split(codes, np.flatnonzero(np.diff(shares)) + 1)
