"""Arcs that wait for one region only: put away until it ends, so that a strip's work is with what moves.

A water body or a road net may be open through the whole raster, and hold most of its arcs. Looked at in each strip,
they would cost time by the square of the raster's height.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.arcs import Arcs, united
from geoseg.vector.runs import Regions

LEAST_ARCS = 2048
"""Of one region, that are worth putting away."""


class Shelf:
    """What is put away, by region. Regions are renumbered in each strip, so here they have names that stay."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._names = np.empty(0, np.int64)
        """(open region,) as the strip above left them."""
        self._begun = 0
        self._joined: dict[int, int] = {}
        """The name under which a region goes on that turned out to be another's."""
        self._kept: dict[int, list[tuple[Arcs, NDArray[np.int64]]]] = {}
        """By name: arcs, and the names around their nodes, (4 * node,)."""
        self._size = 0

    def give_back(self, arcs: Arcs, regions: Regions, still_open: NDArray[np.bool_]) -> Arcs:
        """Return the arcs with those of the regions that end in this strip."""
        self._name(regions)
        opened = set(self._names[still_open].tolist())
        ended = [name for name in self._kept if name not in opened]
        if not ended:
            return arcs
        numbers = {name: number for number, name in enumerate(self._names.tolist())}
        parts = []
        for part, names in (kept for name in ended for kept in self._kept.pop(name)):
            self._size -= part.vertices.nbytes
            around, places = np.unique(names, return_inverse=True)
            known = np.array([numbers.get(self._now(name), -1) for name in around.tolist()], np.int32)
            parts.append(replace(part, quadrants=known[places]))
        return united([*parts, arcs], self._budget)

    def put_away(self, arcs: Arcs, regions: Regions, still_open: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Put away whole arcs whose other side has ended; return (arc,) which.

        Only of regions that were there above this strip, and have many. Not where a node has an arc that is still cut:
        a twin of it must be seen when it becomes straight.
        """
        away = np.zeros(len(arcs.starts), np.bool_)
        if not len(arcs.node_rows) or not len(regions.carried):
            self._names = self._names[still_open]
            return away
        opened = np.append(still_open, np.False_)  # the last entry is for -1
        left, right = arcs.quadrants.take(arcs.starts, mode="clip"), arcs.quadrants.take(arcs.ends, mode="clip")
        region = np.where(opened[left], left, right)
        alone = arcs.whole & (opened[left] ^ opened[right]) & ~_at_cut_node(arcs)
        old = np.zeros(len(regions), np.bool_)
        old[regions.carried] = True
        counts = np.bincount(region[alone], minlength=len(regions))
        names = np.append(self._names, -1)
        for number in np.flatnonzero(old & (counts >= LEAST_ARCS)):
            chosen = np.flatnonzero(alone & (region == number))
            part = arcs.chosen(chosen, self._budget if self._size < self._budget else 0)
            self._size += part.vertices.nbytes
            self._kept.setdefault(int(names[number]), []).append((part, names[part.quadrants]))
            away[chosen] = True
        self._names = self._names[still_open]
        return away

    def _name(self, regions: Regions) -> None:
        """Name the regions of a strip: as above, those joined as their first part, new ones anew."""
        names = np.full(len(regions), -1, np.int64)
        names[regions.carried[::-1]] = self._names[::-1]
        for part in np.flatnonzero(names[regions.carried] != self._names):
            old, new = int(self._names[part]), int(names[regions.carried[part]])
            self._joined[old] = new
            if old in self._kept:
                self._kept.setdefault(new, []).extend(self._kept.pop(old))
        begun = np.flatnonzero(names < 0)
        names[begun] = np.arange(self._begun, self._begun + len(begun))
        self._begun += len(begun)
        self._names = names

    def _now(self, name: int) -> int:
        while name in self._joined:
            name = self._joined[name]
        return name


def _at_cut_node(arcs: Arcs) -> NDArray[np.bool_]:
    """Return (arc,) whether a node of each has an arc that is cut at the seam."""
    nodes = np.zeros(len(arcs.node_rows), np.bool_)
    nodes[arcs.cut_nodes] = True
    return nodes.take(arcs.starts >> 2, mode="clip") | nodes.take(arcs.ends >> 2, mode="clip")
