"""Coordinates as GeoJSON's nested lists, straight from the flat arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.vector.polygons import Polygons

DECIMALS = 7
"""A centimetre of longitude on the equator; RFC 7946, section 11.2, finds six enough."""
_SCALE = 10**DECIMALS
_PAIR_BYTES = 46
"""The longest pair: two numbers of 19 digits, sign and point, brackets and commas."""
_RING_BYTES = 8
LARGEST = 2.0**63 / _SCALE
_BRACKET, _END, _COMMA, _POINT, _MINUS, _ZERO = (ord(letter) for letter in "[],.-0")


def to_coordinates(polygons: Polygons, *, multi: bool) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return (feature + 1,) offsets and the text of all features' `coordinates`, a Polygon's or a MultiPolygon's.

    Coordinates are rounded to seven decimals, and must be less than 9e11.
    """
    first_ring = polygons.polygons[polygons.features[[0, -1]]]
    vertices = np.diff(polygons.rings[first_ring])[0]
    parts = int(np.diff(polygons.features[[0, -1]])[0] + np.diff(first_ring)[0] + len(polygons))
    text = np.empty(_PAIR_BYTES * vertices + _RING_BYTES * parts, np.uint8)
    offsets = np.zeros(len(polygons) + 1, np.int64)
    _write(
        (polygons.features, polygons.polygons, polygons.rings),
        np.ascontiguousarray(polygons.xy).reshape(-1),
        multi,
        offsets,
        text,
    )
    return offsets, text[: offsets[-1]]


@njit(cache=True, nogil=True)
def _write(shape: Any, xy: Any, multi: bool, offsets: Any, text: Any) -> None:  # noqa: FBT001 - numba types them
    features, polygons, rings = shape
    at = 0
    for feature in range(len(features) - 1):
        if multi:
            text[at] = _BRACKET
            at += 1
        for polygon in range(features[feature], features[feature + 1]):
            text[at] = _BRACKET
            at += 1
            for ring in range(polygons[polygon], polygons[polygon + 1]):
                text[at] = _BRACKET
                at += 1
                for place in range(2 * rings[ring], 2 * rings[ring + 1], 2):
                    text[at] = _BRACKET
                    at = _number(text, at + 1, xy[place])
                    text[at] = _COMMA
                    at = _number(text, at + 1, xy[place + 1])
                    text[at] = _END
                    text[at + 1] = _COMMA
                    at += 2
                text[at - 1] = _END  # in place of the last comma
                text[at] = _COMMA
                at += 1
            text[at - 1] = _END
            text[at] = _COMMA
            at += 1
        if multi:
            text[at - 1] = _END
            offsets[feature + 1] = at
        else:
            at -= 1
            offsets[feature + 1] = at


@njit(cache=True, nogil=True)
def _number(text: Any, at: int, value: float) -> int:
    """Write a number without needless zeros; return where it ends."""
    rounded = np.int64(np.rint(value * _SCALE))
    if rounded < 0:
        text[at] = _MINUS
        at += 1
        rounded = -rounded
    whole, fraction = rounded // _SCALE, rounded % _SCALE
    digits = 1
    rest = whole
    while rest >= 10:
        rest //= 10
        digits += 1
    for place in range(at + digits - 1, at - 1, -1):
        text[place] = _ZERO + whole % 10
        whole //= 10
    at += digits
    if fraction == 0:
        return at
    digits = DECIMALS
    while fraction % 10 == 0:
        fraction //= 10
        digits -= 1
    text[at] = _POINT
    for place in range(at + digits, at, -1):
        text[place] = _ZERO + fraction % 10
        fraction //= 10
    return at + digits + 1
