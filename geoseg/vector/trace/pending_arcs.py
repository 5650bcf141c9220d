"""Arcs across strips: joined where a seam cut them, and put away while their region is open."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit
from geoseg.vector.trace.arcs import (
    Arcs,
    Lattice,
    list_nodes,
    mark_obstacles,
    node_quadrants,
    stacked,
    united,
    walk_all,
)
from geoseg.vector.trace.regions import Regions


@njit(cache=True, nogil=True)
def _region_at(run_rows: Any, run_cols: Any, run_regions: Any, row: int, col: int) -> int:
    """Return the region of a pixel of the frame."""
    low, high = run_rows[row], run_rows[row + 1] - 1
    while low < high:
        middle = (low + high + 1) // 2
        if run_cols[middle] <= col:
            low = middle
        else:
            high = middle - 1
    return int(run_regions[low])


@njit(cache=True, nogil=True)
def match_seam(starts: Any, ends: Any, carried: int, above: Any, below: Any) -> None:
    """Store which end meets the seam at each lattice column, in `above` and `below`; columns without one keep -1.

    The ends of an arc are 2 * arc and 2 * arc + 1. The first `carried` arcs lie above.
    """
    for end in range(2 * len(starts)):
        code = ends[end >> 1] if end & 1 else starts[end >> 1]
        if (end >> 1) < carried:
            if code < 0:
                above[(-1 - code) >> 1] = end
        elif code < 0 and (-1 - code) & 1:
            below[(-2 - code) >> 1] = end


@njit(cache=True, nogil=True)
def _mate(starts: Any, ends: Any, carried: int, above: Any, below: Any, end: int) -> int:
    """Return the end on the other side of the seam; -1 for an end that is not at the seam."""
    code = ends[end >> 1] if end & 1 else starts[end >> 1]
    if code >= 0:
        return -1
    if (end >> 1) < carried:
        return int(below[(-1 - code) >> 1])
    return int(above[(-2 - code) >> 1]) if (-1 - code) & 1 else -1


@njit(cache=True, nogil=True)
def join_seam(
    starts: Any, ends: Any, firsts: Any, counts: Any, integrals: Any, vertices: Any, free: int, carried: int,
    above: Any, below: Any, gone: Any, arcs: int, node: int, loops: Any,
) -> tuple[int, int]:  # fmt: skip
    """Append the arcs joined from pieces, from number `arcs` on; mark the pieces as gone.

    `vertices` are free from `free` on. A ring without nodes gets one, from number `node` on, at its upper left vertex,
    as in `walk_all`; `loops` receives (row, col, column at the seam, 1 if the inside is to the right of it). Returns
    the counts of all arcs and of such rings.
    """
    found = 0
    pieces = arcs
    for piece in range(pieces):
        if gone[piece]:
            continue
        begin, closed = _first_end(starts, ends, carried, above, below, 2 * piece)
        if not closed and _mate(starts, ends, carried, above, below, begin ^ 1) < 0:
            continue  # it touches no seam, or only the next one
        if not closed:
            last, _ = _first_end(starts, ends, carried, above, below, begin ^ 1)
            code = ends[begin >> 1] if begin & 1 else starts[begin >> 1]
            if 0 <= (ends[last >> 1] if last & 1 else starts[last >> 1]) < code:
                begin = last
        count = free
        integral = 0
        end = begin
        while True:
            arc = end >> 1
            gone[arc] = True
            step = -1 if end & 1 else 1
            at = firsts[arc] + (counts[arc] - 1 if end & 1 else 0)
            for _ in range(counts[arc]):
                vertices[count, 0] = vertices[at, 0]
                vertices[count, 1] = vertices[at, 1]
                count += 1
                at += step
            integral += step * integrals[arc]
            mate = _mate(starts, ends, carried, above, below, end ^ 1)
            if mate < 0 or mate == begin:
                break
            end = mate
        if closed:
            code = ends[begin >> 1] if begin & 1 else starts[begin >> 1]
            up = (begin >> 1) < carried  # it starts by leaving the seam upwards
            count = _turn(vertices, free, count)
            loops[found, 0] = vertices[free, 0]
            loops[found, 1] = vertices[free, 1]
            loops[found, 2] = (-1 - code) >> 1
            loops[found, 3] = up != (integral < 0)
            starts[arcs] = 4 * (node + found) + 1
            ends[arcs] = 4 * (node + found) + 2
            integrals[arcs] = abs(integral)
            firsts[arcs] = free + 1
            found += 1
        else:
            starts[arcs] = ends[begin >> 1] if begin & 1 else starts[begin >> 1]
            ends[arcs] = starts[end >> 1] if end & 1 else ends[end >> 1]
            integrals[arcs] = integral
            firsts[arcs] = free
        counts[arcs] = count - firsts[arcs]
        arcs += 1
        free = count
    return arcs, found


@njit(cache=True, nogil=True)
def _first_end(starts: Any, ends: Any, carried: int, above: Any, below: Any, end: int) -> tuple[int, bool]:
    """Follow joined pieces from one end to the last; return that end, and whether they form a ring."""
    here = end
    while True:
        mate = _mate(starts, ends, carried, above, below, here)
        if mate < 0:
            return here, False
        here = mate ^ 1
        if here == end:
            return here, True


@njit(cache=True, nogil=True)
def _turn(vertices: Any, first: int, stop: int) -> int:
    """Rotate a ring so that it starts at its upper left vertex and goes east; return where it stops.

    Memory after `stop` is overwritten. A ring of pixel edges has as many turns in rows as in columns.
    """
    least = first
    for at in range(first, stop):
        if vertices[at, 0] < vertices[least, 0] or (
            vertices[at, 0] == vertices[least, 0] and vertices[at, 1] < vertices[least, 1]
        ):
            least = at
    count = stop - first
    after = first + (least - first + 1) % count
    step = 1 if vertices[after, 0] == vertices[least, 0] else count - 1
    for place in range(count):
        at = first + (least - first + place * step) % count
        vertices[stop + place, 0] = vertices[at, 0]
        vertices[stop + place, 1] = vertices[at, 1]
    for place in range(count):
        vertices[first + place, 0] = vertices[stop + place, 0]
        vertices[first + place, 1] = vertices[stop + place, 1]
    return stop


@njit(cache=True, nogil=True)
def loop_quadrants(run_rows: Any, run_cols: Any, run_regions: Any, loops: Any, walked: int, first_row: int) -> Any:
    """Return (4 * loop,) the regions around the nodes of rings: first the `walked` ones, then the joined ones."""
    quadrants = np.empty(4 * len(loops), np.int32)
    for loop in range(len(loops)):
        if loop < walked:
            row, col = np.int64(loops[loop, 0] - first_row), np.int64(loops[loop, 1])
            outside = _region_at(run_rows, run_cols, run_regions, row, col)
            inside = _region_at(run_rows, run_cols, run_regions, row + 1, col + 1)
        else:
            row, col, right = np.int64(0), np.int64(loops[loop, 2]), np.int64(loops[loop, 3])
            outside = _region_at(run_rows, run_cols, run_regions, row, col + 1 - right)
            inside = _region_at(run_rows, run_cols, run_regions, row, col + right)
        for quadrant in range(4):
            quadrants[4 * loop + quadrant] = inside if quadrant == 2 else outside
    return quadrants


_Runs: TypeAlias = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]
_LOOP_EDGES = np.uint8(6)
"""East and south: the node of a ring without others is its upper left vertex."""


@dataclass(frozen=True, slots=True)
class Strip:
    """The borders within a strip, cut where they leave it; they are known before its regions are."""

    first_row: int
    """The raster's row at the first lattice row."""
    width: int
    """Of the lattice."""
    node_offsets: NDArray[np.int32]
    """(row + 1,)"""
    loops: NDArray[np.int32]
    """(loop, 4) row and column of the nodes given to rings that have none, and two columns that `join_seam` needs."""
    arcs: Arcs
    """Without quadrants."""
    obstacles: NDArray[np.int64] | None
    """The result of `mark_obstacles`; None if not needed."""


def walk_strip(frame: NDArray[Any], first_row: int, *, top: bool, bottom: bool, obstacles: bool) -> Strip:
    """Walk all borders of a framed strip, whose row 1 is the raster's `first_row`.

    `top` and `bottom` say whether the raster starts or ends here.
    """
    lattice = Lattice.of(frame, top=top, bottom=bottom)
    marks = mark_obstacles(lattice) if obstacles else None
    width = frame.shape[1] - 1
    offsets, turns = lattice.node_offsets, lattice.turns
    cols, edges = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.uint8)
    list_nodes(lattice.bits, lattice.words, width, cols, edges)
    max_arcs = (int(np.bitwise_count(edges).sum()) + turns // 2) // 2 + width + 1
    starts, ends, counts = (np.empty(max_arcs, np.int32) for _ in range(3))
    firsts, integrals = np.empty(max_arcs, np.int64), np.empty(max_arcs, np.int64)
    vertices, loops = np.empty((turns, 2), np.int32), np.empty((turns // 4, 4), np.int32)
    arcs, loop_count = walk_all(
        lattice.bits, lattice.words, first_row, offsets, cols, edges.copy(), starts, ends, firsts, counts, integrals,
        vertices, loops,
    )  # fmt: skip
    loops = loops[:loop_count]
    rows = np.repeat(np.arange(first_row, first_row + len(offsets) - 1, dtype=np.int32), np.diff(offsets))
    walked = Arcs(
        np.concatenate([rows, loops[:, 0]]), np.concatenate([cols, loops[:, 1]]),
        np.concatenate([edges, np.full(loop_count, _LOOP_EDGES)]), np.empty(0, np.int32), starts[:arcs], ends[:arcs],
        firsts[:arcs], counts[:arcs], integrals[:arcs], vertices, np.zeros(arcs, np.bool_),
    )  # fmt: skip
    return Strip(first_row, width, offsets, loops, walked, marks)


def join_strip(strip: Strip, regions: Regions, above: Arcs, budget: int) -> Arcs:
    """Return the arcs of a strip and those carried from above, joined where the seam had cut them.

    Vertices beyond `budget` bytes are kept on disk.
    """
    runs = (regions.run_rows, regions.run_cols, regions.run_regions)
    nodes = int(strip.node_offsets[-1])
    quadrants = np.empty(4 * nodes, np.int32)
    node_quadrants(strip.node_offsets, strip.arcs.node_cols, *runs, quadrants)
    loops = loop_quadrants(*runs, strip.loops, len(strip.loops), strip.first_row)
    walked = replace(strip.arcs, quadrants=np.concatenate([quadrants, loops]))
    if not len(above.starts):
        return walked
    above = replace(above, quadrants=np.append(regions.carried, np.int32(-1))[above.quadrants])
    return _join_at_seam(above, walked, strip.width, runs, budget)


def _join_at_seam(above: Arcs, walked: Arcs, width: int, runs: _Runs, budget: int) -> Arcs:
    """Append the walked arcs to those from above, and join the arcs cut by the seam."""
    carried, nodes = len(above.starts), len(above.node_rows) + len(walked.node_rows)
    pieces = carried + len(walked.starts)
    cut = int(above.counts[~above.whole].sum()) + int(walked.counts[~walked.whole].sum())
    vertices = stacked([above.vertices, walked.vertices], 2 * cut, budget)  # twice: rotating a ring needs a copy
    free = len(vertices) - 2 * cut
    room_for_joined = np.empty(width if cut or not above.whole.all() else 0, np.int32)
    slots = 4 * len(above.node_rows)
    starts, ends, firsts, counts, integrals = (
        np.concatenate([upper, lower, room_for_joined.astype(upper.dtype)])
        for upper, lower in (
            (above.starts, np.where(walked.starts < 0, walked.starts, walked.starts + slots).astype(np.int32)),
            (above.ends, np.where(walked.ends < 0, walked.ends, walked.ends + slots).astype(np.int32)),
            (above.firsts, walked.firsts + len(above.vertices)),
            (above.counts, walked.counts),
            (above.integrals, walked.integrals),
        )
    )
    from_above, from_below = np.full(width, -1, np.int32), np.full(width, -1, np.int32)
    match_seam(starts[:pieces], ends[:pieces], carried, from_above, from_below)
    gone, loops = np.zeros(len(starts), np.bool_), np.empty((width, 4), np.int32)
    arcs, loop_count = join_seam(
        starts, ends, firsts, counts, integrals, vertices, free, carried, from_above, from_below, gone, pieces, nodes,
        loops,
    )  # fmt: skip
    loops = loops[:loop_count]
    kept = np.flatnonzero(~gone[:arcs])
    return Arcs(
        np.concatenate([above.node_rows, walked.node_rows, loops[:, 0]]),
        np.concatenate([above.node_cols, walked.node_cols, loops[:, 1]]),
        np.concatenate([above.edges, walked.edges, np.full(loop_count, _LOOP_EDGES)]),
        np.concatenate([above.quadrants, walked.quadrants, loop_quadrants(*runs, loops, 0, 0)]), starts[kept],
        ends[kept], firsts[kept], counts[kept], integrals[kept], vertices,
        np.concatenate([above.settled, np.zeros(arcs - carried, np.bool_)])[kept],
    )  # fmt: skip


LEAST_ARCS = 2048
"""Arcs of one region that are worth putting away."""


class PendingArcs:
    """Arcs put away, by region. Regions are renumbered in each strip, so here they have permanent names."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._names = np.empty(0, np.int64)
        """(open region,) names after the strip above."""
        self._named_count = 0
        self._new_names: dict[int, int] = {}
        """The new name of a region that was joined with another."""
        self._kept: dict[int, list[tuple[Arcs, NDArray[np.int64]]]] = {}
        """By name: arcs, and the names of the regions around their nodes, (4 * node,)."""
        self._size = 0

    def give_back(self, arcs: Arcs, regions: Regions, still_open: NDArray[np.bool_]) -> Arcs:
        """Return the arcs together with those put away for regions that end in this strip."""
        self._name_regions(regions)
        open_names = set(self._names[still_open].tolist())
        ended = [name for name in self._kept if name not in open_names]
        if not ended:
            return arcs
        numbers = {name: number for number, name in enumerate(self._names.tolist())}
        parts = []
        for part, names in (kept for name in ended for kept in self._kept.pop(name)):
            self._size -= part.vertices.nbytes
            around, indexes = np.unique(names, return_inverse=True)
            region_numbers = np.array([numbers.get(self._current_name(name), -1) for name in around.tolist()], np.int32)
            parts.append(replace(part, quadrants=region_numbers[indexes]))
        return united([*parts, arcs], self._budget)

    def put_away(self, arcs: Arcs, regions: Regions, still_open: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Put away whole arcs whose other side has ended; return which, (arc,).

        Only regions that started above this strip and have many arcs are considered. Arcs with a node that has a cut
        arc stay: the twin of an arc must be known when it becomes straight.
        """
        away = np.zeros(len(arcs.starts), np.bool_)
        if not len(arcs.node_rows) or not len(regions.carried):
            self._names = self._names[still_open]
            return away
        is_open = np.append(still_open, np.False_)  # the last entry is for -1
        left, right = arcs.quadrants.take(arcs.starts, mode="clip"), arcs.quadrants.take(arcs.ends, mode="clip")
        region = np.where(is_open[left], left, right)
        removable = arcs.whole & (is_open[left] ^ is_open[right]) & ~_at_cut_node(arcs)
        is_carried = np.zeros(len(regions), np.bool_)
        is_carried[regions.carried] = True
        counts = np.bincount(region[removable], minlength=len(regions))
        names = np.append(self._names, -1)
        for number in np.flatnonzero(is_carried & (counts >= LEAST_ARCS)):
            chosen = np.flatnonzero(removable & (region == number))
            part = arcs.chosen(chosen, self._budget if self._size < self._budget else 0)
            self._size += part.vertices.nbytes
            self._kept.setdefault(int(names[number]), []).append((part, names[part.quadrants]))
            away[chosen] = True
        self._names = self._names[still_open]
        return away

    def _name_regions(self, regions: Regions) -> None:
        """Name the regions of a strip: as above; joined ones like their first part; new ones by number."""
        names = np.full(len(regions), -1, np.int64)
        names[regions.carried[::-1]] = self._names[::-1]
        for part in np.flatnonzero(names[regions.carried] != self._names):
            old, new = int(self._names[part]), int(names[regions.carried[part]])
            self._new_names[old] = new
            if old in self._kept:
                self._kept.setdefault(new, []).extend(self._kept.pop(old))
        begun = np.flatnonzero(names < 0)
        names[begun] = np.arange(self._named_count, self._named_count + len(begun))
        self._named_count += len(begun)
        self._names = names

    def _current_name(self, name: int) -> int:
        while name in self._new_names:
            name = self._new_names[name]
        return name


def _at_cut_node(arcs: Arcs) -> NDArray[np.bool_]:
    """Return (arc,) whether a node of each arc has an arc that is cut at the seam."""
    nodes = np.zeros(len(arcs.node_rows), np.bool_)
    nodes[arcs.cut_nodes] = True
    return nodes.take(arcs.starts >> 2, mode="clip") | nodes.take(arcs.ends >> 2, mode="clip")
