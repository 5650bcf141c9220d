"""Sides that another reference system bends: vertices in between, the same for both neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.polygons import Polygons

Points = NDArray[np.float64]
"""(point, 2) x and y."""
_LEVELS = 16
"""A side is halved so often at most."""
_POLE = 90 - 1e-9
_WIDE = 80.0
"""Degrees: a side of twice as much is parted, or it would be taken for one that leads over a pole."""


def bent(
    polygons: Polygons, forward: Callable[[Points], Points], tolerance: float, *, degrees: bool
) -> tuple[Polygons, Points]:
    """Return polygons carried over, and the places where even the smallest part of a side is torn apart (place, 2).

    Vertices without a place are not finite; then sides stay as they are.

    A side gets vertices, by halves, until it is off by no more than `tolerance` of the target's units in the middle of
    each part. A point in the midst of a side does not depend on the way in which the side is run through. In `degrees`
    x is a longitude, which may leap from 180 to -180.
    """
    there = forward(polygons.xy)
    if not np.isfinite(there).all():
        return replace(polygons, xy=there), np.empty((0, 2))
    is_side = np.ones(max(len(there) - 1, 0), np.bool_)
    is_side[polygons.rings[1:-1] - 1] = False
    sides = np.flatnonzero(is_side)
    at = np.zeros(len(sides))
    a, b = polygons.xy[sides], polygons.xy[sides + 1]
    ends = there[sides], there[sides + 1]
    found: list[tuple[NDArray[np.int64], NDArray[np.float64], Points]] = []
    off = np.empty(0)
    for level in range(1, _LEVELS + 1):
        middle = (a + b) / 2
        seen = forward(middle)
        lost = ~np.isfinite(seen).all(axis=1)
        if lost.any():
            found.append((sides[lost], at[lost] + 0.5**level, seen[lost]))
            break
        off = _off(*ends, seen, degrees=degrees)
        if level == 1:
            quarters = [forward((end + middle) / 2) for end in (a, b)]
            for end, quarter in zip(ends, quarters, strict=True):  # an S is straight in the middle
                off = np.maximum(off, _off(end, seen, quarter, degrees=degrees))
        more = np.flatnonzero(off > tolerance)
        if not len(more):
            break
        half = 0.5**level
        found.append((sides[more], at[more] + half, seen[more]))
        sides, at = np.tile(sides[more], 2), np.concatenate([at[more], at[more] + half])
        a, b = np.concatenate([a[more], middle[more]]), np.concatenate([middle[more], b[more]])
        ends = np.concatenate([ends[0][more], seen[more]]), np.concatenate([seen[more], ends[1][more]])
        off = np.tile(off[more], 2)
    torn = a[off > 1000 * tolerance] if len(found) == _LEVELS else np.empty((0, 2))
    return _with_vertices(polygons, there, found), torn


def _off(a: Points, b: Points, middle: Points, *, degrees: bool) -> NDArray[np.float64]:
    """Return (side,) how far the middle of a side lies from where it would be were the side straight."""
    if not degrees:
        return np.asarray(np.hypot(*(middle - (a + b) / 2).T))
    west = np.where(np.abs(a[:, 1]) > _POLE, b[:, 0], a[:, 0])
    east = np.where(np.abs(b[:, 1]) > _POLE, a[:, 0], b[:, 0])
    x = leap(middle[:, 0] - west - leap(east - west) / 2) * np.cos(np.radians(middle[:, 1]))
    off = np.hypot(x, middle[:, 1] - (a[:, 1] + b[:, 1]) / 2)
    halves = np.minimum(np.abs(leap(middle[:, 0] - west)), np.abs(leap(east - middle[:, 0])))
    return np.where(halves > _WIDE, np.inf, off)


def leap(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return differences of longitudes the shorter way round, -180 to 180."""
    return np.asarray((degrees + 180) % 360 - 180)


def _with_vertices(
    polygons: Polygons, xy: Points, found: list[tuple[NDArray[np.int64], NDArray[np.float64], Points]]
) -> Polygons:
    if not found:
        return replace(polygons, xy=xy)
    sides, at, points = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((at, sides))
    more = np.bincount(sides + 1, minlength=len(xy) + 1)
    rings = polygons.rings + np.cumsum(more)[polygons.rings]
    return replace(polygons, rings=rings, xy=np.insert(xy, sides[order] + 1, points[order], axis=0))
