"""Polygons as well-known binary, straight from the flat arrays: no object for each feature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.vector.polygons import Polygons

_HEAD_BYTES = 9
"""Byte order, type, count of parts."""
_COUNT_BYTES = 4
_VERTEX_BYTES = 16
_POLYGON = 3
_MULTIPOLYGON = 6


def wkb_sizes(polygons: Polygons, *, multi: bool) -> NDArray[np.int64]:
    """Return (feature,) bytes that each feature will take in well-known binary."""
    first_ring = polygons.polygons[polygons.features]
    rings, vertices = np.diff(first_ring), np.diff(polygons.rings[first_ring])
    parts = np.diff(polygons.features)
    heads = parts + (multi | (parts != 1))
    return np.asarray(_HEAD_BYTES * heads + _COUNT_BYTES * rings + _VERTEX_BYTES * vertices)


def to_wkb(polygons: Polygons, *, multi: bool) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return (feature + 1,) offsets and the bytes of all features: little-endian ISO WKB, Polygon or MultiPolygon.

    The format: OGC 06-103r4, section 8.2. A feature of several polygons is a MultiPolygon, with `multi` each is.
    """
    offsets = np.zeros(len(polygons) + 1, np.int64)
    np.cumsum(wkb_sizes(polygons, multi=multi), out=offsets[1:])
    content = np.empty(offsets[-1], np.uint8)
    vertices = np.ascontiguousarray(polygons.xy, "<f8").reshape(-1).view(np.uint8)
    _fill((polygons.features, polygons.polygons, polygons.rings), vertices, multi, content)
    return offsets, content


@njit(cache=True, nogil=True)
def _fill(shape: Any, vertices: Any, multi: bool, content: Any) -> None:  # noqa: FBT001 - numba types them
    features, polygons, rings = shape
    at = 0
    for feature in range(len(features) - 1):
        parts = features[feature + 1] - features[feature]
        if multi or parts != 1:
            at = _head(content, at, _MULTIPOLYGON, parts)
        for polygon in range(features[feature], features[feature + 1]):
            at = _head(content, at, _POLYGON, polygons[polygon + 1] - polygons[polygon])
            for ring in range(polygons[polygon], polygons[polygon + 1]):
                at = _count(content, at, rings[ring + 1] - rings[ring])
                start = rings[ring] * _VERTEX_BYTES
                size = rings[ring + 1] * _VERTEX_BYTES - start
                for byte in range(size):  # LLVM makes one wide copy of it; floats would stand unaligned
                    content[at + byte] = vertices[start + byte]
                at += size


@njit(cache=True, nogil=True)
def _head(content: Any, at: int, kind: int, parts: int) -> int:
    content[at] = 1
    return _count(content, _count(content, at + 1, kind), parts)


@njit(cache=True, nogil=True)
def _count(content: Any, at: int, value: int) -> int:
    for byte in range(_COUNT_BYTES):
        content[at + byte] = (value >> (8 * byte)) & 255
    return at + _COUNT_BYTES
