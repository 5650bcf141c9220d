"""Parcels: districts with a direction of their own, cut into strips, the strips into parcels."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from geoseg.synthetic.noise import COSINES, SINES, Cells, Floats, Mask, Meters, Words, chance, scramble, value_noise
from geoseg.synthetic.place import Place


@dataclass(frozen=True, slots=True)
class Parcels:
    """The parcel under each pixel; all arrays have one shape."""

    x_m: Meters
    y_m: Meters
    district: Words
    parcel: Words
    """One scrambled word for each parcel."""
    border_m: Floats
    """Meters to the border of the district."""
    border: Words
    """One word for each border between two districts."""
    cosine: Floats
    sine: Floats
    """Direction of the district's u axis."""
    u_m: Floats
    v_m: Floats
    """Position in the parcel, from its first corner."""
    length_m: Floats
    width_m: Floats
    """Size of the parcel along u and v."""
    center_x_m: Meters
    center_y_m: Meters

    def where(self, mask: Mask) -> Parcels:
        """Return the pixels of a mask, as one row."""
        return Parcels(*(getattr(self, field.name)[mask] for field in fields(self)))

    @property
    def edge_m(self) -> Floats:
        """Meters to the nearest edge of the parcel."""
        along = np.minimum(self.u_m, self.length_m - self.u_m)
        edge: Floats = np.minimum(along, np.minimum(self.v_m, self.width_m - self.v_m))
        return edge

    def rotate(self, x: float, y: float) -> tuple[Floats, Floats]:
        """Turn one direction on the ground into the parcel's axes (u, v)."""
        east, south = np.float32(x), np.float32(y)
        return self.cosine * east + self.sine * south, self.cosine * south - self.sine * east


def parcels_of(place: Place, x_m: Meters, y_m: Meters) -> Parcels:
    """Find the parcel under each position."""
    district, border, border_m = _districts(place, x_m, y_m)
    turned = (chance(district, 1) * np.float32(9) - np.float32(4.5)).astype(np.int64)
    crossed = np.where(chance(district, 2) < np.float32(0.25), 7, 0)
    turn = (place.turn + turned // 2 + crossed) % 64
    cosine, sine = COSINES[turn], SINES[turn]
    u = x_m * cosine + y_m * sine
    v = y_m * cosine - x_m * sine
    scale = np.float32(0.6) + np.float32(0.9) * chance(district, 3)
    strip, v_first, v_last = _jittered(v, scale * np.float32(place.parcel_m), district)
    row = scramble(strip, district, 11)
    parcel, u_first, u_last = _jittered(
        u, scale * np.float32(place.parcel_m * place.aspect) * (np.float32(0.7) + np.float32(0.6) * chance(row, 4)), row
    )
    u_center, v_center = (u_first + u_last) * 0.5, (v_first + v_last) * 0.5
    return Parcels(
        x_m=x_m,
        y_m=y_m,
        district=district,
        parcel=scramble(parcel, row, 13),
        border_m=border_m,
        border=border,
        cosine=cosine.astype(np.float32),
        sine=sine.astype(np.float32),
        u_m=(u - u_first).astype(np.float32),
        v_m=(v - v_first).astype(np.float32),
        length_m=(u_last - u_first).astype(np.float32),
        width_m=(v_last - v_first).astype(np.float32),
        center_x_m=u_center * cosine - v_center * sine,
        center_y_m=u_center * sine + v_center * cosine,
    )


def _districts(place: Place, x_m: Meters, y_m: Meters) -> tuple[Words, Words, Floats]:
    """Return the nearest site's word, the border's word, and the distance to that border (Worley's cellular noise)."""
    size = 9.0 * place.parcel_m**0.8 + 180.0
    x = x_m / size + 0.04 * value_noise(x_m, y_m, 160.0, place.salt(20))
    y = y_m / size + 0.04 * value_noise(x_m, y_m, 160.0, place.salt(21))
    near = np.full(x.shape, 99, np.float32)
    next_near, near_x, near_y, next_x, next_y = near + 1, near, near, near, near
    site: Words = np.zeros(x.shape, np.uint32)
    next_site: Words = site
    for word, site_x, site_y in _sites(place, x, y):
        dx, dy = (site_x - x).astype(np.float32), (site_y - y).astype(np.float32)
        far = dx * dx + dy * dy
        first, second = far < near, far < next_near
        next_x = np.where(first, near_x, np.where(second, dx, next_x))
        next_y = np.where(first, near_y, np.where(second, dy, next_y))
        next_site = np.where(first, site, np.where(second, word, next_site))
        next_near = np.where(first, near, np.where(second, far, next_near))
        near_x, near_y = np.where(first, dx, near_x), np.where(first, dy, near_y)
        site, near = np.where(first, word, site), np.where(first, far, near)
    gap_x, gap_y = next_x - near_x, next_y - near_y
    apart = np.sqrt(gap_x * gap_x + gap_y * gap_y)
    border_m: Floats = (next_near - near) / (np.float32(2) * np.maximum(apart, np.float32(1e-3))) * np.float32(size)
    border: Words = np.bitwise_xor(site, next_site)
    return site, border, border_m


def _sites(place: Place, x: Meters, y: Meters) -> list[tuple[np.uint32, np.float64, np.float64]]:
    """Return every site that can be nearest or second nearest to one of the positions; always in one order."""
    left, right, top, bottom = x.min(), x.max(), y.min(), y.max()
    # two cells further: no second nearest site is farther than that
    rows = np.arange(np.floor(top) - 2, np.floor(bottom) + 3).astype(np.int32)
    cols = np.arange(np.floor(left) - 2, np.floor(right) + 3).astype(np.int32)
    row, col = (axis.ravel() for axis in np.meshgrid(rows, cols, indexing="ij"))
    word = scramble(col, row, place.salt(22))
    site_x, site_y = (
        col + 0.1 + 0.8 * chance(word, 1).astype(np.float64),
        row + 0.1 + 0.8 * chance(word, 2).astype(np.float64),
    )
    away_x, away_y = (
        np.maximum(np.maximum(left - site_x, site_x - right), 0),
        np.maximum(np.maximum(top - site_y, site_y - bottom), 0),
    )
    farthest_x, farthest_y = (
        np.maximum(np.abs(site_x - left), np.abs(site_x - right)),
        np.maximum(np.abs(site_y - top), np.abs(site_y - bottom)),
    )
    # the second nearest is never farther than the second smallest of the farthest distances
    reach = np.sort(farthest_x**2 + farthest_y**2)[1] + 1e-3
    can_be = away_x**2 + away_y**2 <= reach
    return list(zip(word[can_be], site_x[can_be], site_y[can_be], strict=True))


def _jittered(position_m: Meters, size_m: Floats, word: Words) -> tuple[Cells, Meters, Meters]:
    """Cut a line into cells of uneven length; return the cell's index, first and last meter."""
    scaled = position_m / size_m
    line = np.floor(scaled + 0.5).astype(np.int32)
    here = line + _shift(line, word)
    after = scaled >= here
    other = line + np.where(after, np.int32(1), np.int32(-1))
    there = other + _shift(other, word)
    index = np.where(after, line, other)
    return index, np.where(after, here, there) * size_m, np.where(after, there, here) * size_m


def _shift(line: Cells, word: Words) -> Floats:
    return chance(scramble(line, word, 17), 0) * np.float32(0.6) - np.float32(0.3)
