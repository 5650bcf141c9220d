"""Shared borders made simpler: each arc once, so that neighbours stay neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import UsageError
from geoseg.vector.arcs import Arcs
from geoseg.vector.obstacles import Obstacles
from geoseg.vector.visvalingam import queue_of, visvalingam

METHODS = ("visvalingam", "douglas-peucker")


@dataclass(frozen=True, slots=True)
class Generalization:
    """How borders are simplified, in pixels."""

    method: str = METHODS[0]
    tolerance_px: float = 0.0
    """Visvalingam: the side of a square of the least area a vertex must span. Douglas-Peucker: the greatest distance."""
    smooth: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"unknown method {self.method!r} to simplify; one of {', '.join(METHODS)}")


def generalize(arcs: Arcs, how: Generalization, obstacles: Obstacles) -> None:
    """Generalize, where they lie, the arcs that have become whole."""
    todo = np.flatnonzero(arcs.whole & ~arcs.settled)
    if len(todo):
        _simplify(arcs, how, todo, obstacles)
    arcs.settled[todo] = True


def _simplify(arcs: Arcs, how: Generalization, todo: NDArray[np.int64], obstacles: Obstacles) -> None:
    longest = int(arcs.counts[todo].max()) + 2
    borders = (todo, arcs.starts, arcs.ends, arcs.firsts, arcs.counts, arcs.node_rows, arcs.node_cols, arcs.vertices)
    rows, cols = np.empty(longest, np.int64), np.empty(longest, np.int64)
    links, entries = np.empty((longest, 3), np.int64), np.empty((3 * longest, 2), np.int64)
    limit = int(2 * how.tolerance_px**2)
    queues = np.full((queue_of(limit) + 1, 2), -1, np.int64)
    visvalingam(*borders, obstacles.marks, obstacles.first_row, limit, rows, cols, links, entries, queues)
