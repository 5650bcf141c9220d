"""The ground before it is painted: parcels, and the true class of each pixel.

Each district has its own direction; districts are cut into strips, and strips into parcels. Where people farm and
build, where woods stand, how far the river is: these are evaluated on a lattice of every eighth pixel, anchored at the
scene's origin, and interpolated. Rivers and shores come out smooth, at a sixty-fourth of the cost.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from geoseg.raster import Window
from geoseg.synthetic.noise import (
    COSINES,
    SINES,
    Cells,
    Floats,
    Mask,
    Meters,
    Words,
    chance,
    fractal_noise,
    scramble,
    smooth,
    value_noise,
)
from geoseg.synthetic.place import Place

URBAN, AGRICULTURE, RANGELAND, FOREST, WATER, BARREN, UNKNOWN = range(7)
_STEP_PX = 8


@dataclass(frozen=True, slots=True)
class Parcels:
    """The parcel under each pixel; all arrays have the same shape."""

    x_m: Meters
    y_m: Meters
    district: Words
    parcel: Words
    """One scrambled word per parcel."""
    border_m: Floats
    """Meters to the border of the district."""
    border: Words
    """One word per border between two districts."""
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
        """Rotate a direction on the ground into the parcel's axes (u, v)."""
        east, south = np.float32(x), np.float32(y)
        return self.cosine * east + self.sine * south, self.cosine * south - self.sine * east


def parcels_of(place: Place, x_m: Meters, y_m: Meters) -> Parcels:
    """Find the parcel under each position."""
    district, border, border_m = _districts(place, x_m, y_m)
    turned = (chance(district, 1) * 9 - 4.5).astype(np.int64)
    crossed = np.where(chance(district, 2) < 0.25, 7, 0)
    turn = (place.turn + turned // 2 + crossed) % 64
    cosine, sine = COSINES[turn], SINES[turn]
    u = x_m * cosine + y_m * sine
    v = y_m * cosine - x_m * sine
    scale = 0.6 + 0.9 * chance(district, 3)
    strip, v_first, v_last = _jittered(v, scale * place.parcel_m, district)
    row = scramble(strip, district, 11)
    parcel, u_first, u_last = _jittered(u, scale * (place.parcel_m * place.aspect) * (0.7 + 0.6 * chance(row, 4)), row)
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
    site_distance = np.sqrt(gap_x * gap_x + gap_y * gap_y)
    border_m: Floats = (next_near - near) / (2 * np.maximum(site_distance, np.float32(1e-3))) * np.float32(size)
    border: Words = np.bitwise_xor(site, next_site)
    return site, border, border_m


def _sites(place: Place, x: Meters, y: Meters) -> list[tuple[np.uint32, np.float64, np.float64]]:
    """Return every site that can be nearest or second nearest to any of the positions, always in the same order."""
    left, right, top, bottom = x.min(), x.max(), y.min(), y.max()
    # two cells further: no second nearest site is farther away
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
    limit = np.sort(farthest_x**2 + farthest_y**2)[1] + 1e-3
    can_be = away_x**2 + away_y**2 <= limit
    return list(zip(word[can_be], site_x[can_be], site_y[can_be], strict=True))


def _jittered(position_m: Meters, size_m: Floats, word: Words) -> tuple[Cells, Meters, Meters]:
    """Cut a line into cells of uneven length; return the cell's index, start and end in meters."""
    scaled = position_m / size_m
    line = np.floor(scaled + 0.5).astype(np.int32)
    here = line + _shift(line, word)
    after = scaled >= here
    other = line + np.where(after, np.int32(1), np.int32(-1))
    there = other + _shift(other, word)
    index = np.where(after, line, other)
    return index, np.where(after, here, there) * size_m, np.where(after, there, here) * size_m


def _shift(line: Cells, word: Words) -> Floats:
    return chance(scramble(line, word, 17), 0) * 0.6 - 0.3


@dataclass(frozen=True, slots=True)
class Cover:
    """The truth, and what the painters need to know about it."""

    codes: npt.NDArray[np.uint8]
    depth: Floats
    """0 at the shore, 1 far from it."""
    sand: Floats
    road: Mask
    cloud: Floats
    """Opacity, 0 to 1."""


def cover_of(place: Place, terrain: _Terrain, ground: Parcels) -> Cover:
    """Decide the class of each pixel."""
    ragged = 0.09 * fractal_noise(ground.x_m, ground.y_m, 26.0, 3, place.salt(90))
    wild = _wild(place, terrain, ground, ragged)
    codes = _tilled(place, ground, wild)
    road, canal = _borders(place, ground)
    pond = (chance(ground.parcel, 50) < place.ponds) & (ground.edge_m > 2) & (codes == AGRICULTURE)
    shore_m, sand = _shore(place, terrain, ragged)
    codes = np.where((shore_m < 0) & (codes != URBAN), np.where(terrain.bank < -0.1, FOREST, RANGELAND), codes)
    codes = np.where((shore_m < 0) & (sand > 0.5), BARREN, codes)
    depth = smooth(0.0, 22.0, -(shore_m + _bank_m(place)))
    canal_m = np.where(canal, ground.border_m, np.float32(99))
    codes = np.where(pond | (canal_m < 6) | (shore_m < -_bank_m(place)), WATER, codes)
    depth = np.where((pond | canal) & (shore_m > -_bank_m(place)), np.float32(0.6), depth)
    cloud = smooth(place.clouds, place.clouds + 0.12, terrain.cloud)
    codes = np.where(cloud > 0.5, UNKNOWN, codes)
    return Cover(codes.astype(np.uint8), depth, sand, road & (codes != WATER), cloud)


def _wild(place: Place, terrain: _Terrain, ground: Parcels, ragged: Floats) -> npt.NDArray[np.int64]:
    """Return forest, bare ground or rangeland, with natural borders."""
    # some woods end where parcels end
    straight = 0.35 * (chance(ground.parcel, 51) - 0.5)
    wood = terrain.wood + ragged + np.where(chance(ground.district, 52) < 0.4, straight, 0)
    wild = np.where(terrain.bare + ragged > place.bare_level, BARREN, RANGELAND)
    return np.where(wood > place.wood_level, FOREST, wild)


def _tilled(place: Place, ground: Parcels, wild: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Farm or build up whole parcels, depending on the noise fields at their centers."""
    x, y = ground.center_x_m, ground.center_y_m
    people = fractal_noise(x, y, 640.0, 2, place.salt(91)) + 0.2 * (chance(ground.parcel, 53) - 0.5)
    farms = fractal_noise(x, y, 760.0, 2, place.salt(92)) + 0.2 * (chance(ground.parcel, 54) - 0.5)
    codes = np.where(farms > place.farm_level, AGRICULTURE, wild)
    near_town = people > place.town_level - 0.35
    cleared = near_town & (chance(ground.parcel, 55) < 0.05)
    codes = np.where(cleared, BARREN, codes)
    hamlet = (chance(ground.parcel, 56) < place.hamlets) & (codes != FOREST)
    return np.where((people > place.town_level) | hamlet, URBAN, codes)


def _borders(place: Place, ground: Parcels) -> tuple[Mask, Mask]:
    """Return where roads and canals run between districts."""
    canal = chance(ground.border, 57) < place.canals
    width = 1.7 + 2.8 * chance(ground.border, 58)
    road = ~canal & (chance(ground.border, 59) < 0.75) & (ground.border_m < width)
    return road, canal & (ground.border_m < 9)


def _bank_m(place: Place) -> float:
    return 6.0 + 0.12 * place.river_width_m


def _shore(place: Place, terrain: _Terrain, ragged: Floats) -> tuple[Floats, Floats]:
    """Return the distance to the landward edge of the bank (negative on bank and water) and how sandy the bank is."""
    bank = np.float32(_bank_m(place))
    # lakes and the sea are level sets; 260 and 900 m are the distances over which their fields change by one unit
    lake = (place.lake_level - terrain.lake - 0.3 * ragged) * 260 - bank
    shore, sandy = lake, terrain.bank
    if place.has_river:
        shore = np.minimum(shore, terrain.river_m + 25 * ragged - place.river_width_m / 2 - bank)
    if place.has_sea:
        sea = (place.sea_level - terrain.sea - 0.1 * ragged) * 900 - bank * 1.5
        shore = np.minimum(shore, sea)
        sandy = sandy + np.where(sea < 30, np.float32(0.3), np.float32(0))
    return shore, np.where(shore < 3, smooth(0.05, 0.25, sandy), np.float32(0))


@dataclass(frozen=True, slots=True)
class _Terrain:
    """Slow fields at each pixel of a window, (row, col), float32."""

    wood: Floats
    bare: Floats
    lake: Floats
    sea: Floats
    river_m: Floats
    """Approximate distance in meters to the middle of the nearest river."""
    bank: Floats
    """What grows on the banks here, -1 to 1."""
    cloud: Floats
    tone: Floats
    """Slow drift of brightness, -1 to 1."""
    slope: Floats
    """How steeply the ground falls towards the sun; standard deviation about 0.4 in hills."""


def terrain_of(place: Place, window: Window, gsd_m: float) -> _Terrain:
    """Evaluate the slow fields of a window, which may lie anywhere."""
    rows = np.arange(window.row // _STEP_PX, (window.row_stop - 1) // _STEP_PX + 2)
    cols = np.arange(window.col // _STEP_PX, (window.col_stop - 1) // _STEP_PX + 2)
    y, x = np.meshgrid(rows * (_STEP_PX * gsd_m), cols * (_STEP_PX * gsd_m), indexing="ij")
    bent_x, bent_y = _bend(place, x, y)

    nothing = np.zeros(x.shape, np.float32)

    def spread(field: Floats) -> Floats:
        return _interpolate(field, window)

    return _Terrain(
        wood=spread(fractal_noise(bent_x, bent_y, 520.0, 5, place.salt(1))),
        bare=spread(fractal_noise(bent_x, bent_y, 430.0, 4, place.salt(2))),
        lake=spread(fractal_noise(bent_x, bent_y, 620.0, 3, place.salt(3))),
        sea=spread(fractal_noise(bent_x, bent_y, 3600.0, 5, place.salt(4)) if place.has_sea else nothing),
        river_m=spread(_river_distance(place, x, y) if place.has_river else nothing),
        bank=spread(fractal_noise(x, y, 300.0, 3, place.salt(5))),
        cloud=spread(fractal_noise(x, y, 800.0, 6, place.salt(6)) if place.has_clouds else nothing),
        tone=spread(fractal_noise(x, y, 900.0, 2, place.salt(7))),
        slope=spread(_slope(place, x, y) if place.relief else nothing),
    )


def _bend(place: Place, x_m: Meters, y_m: Meters) -> tuple[Meters, Meters]:
    """Move positions by up to 60 m, so that nothing follows the noise's lattice."""
    return (
        x_m + 60.0 * fractal_noise(x_m, y_m, 230.0, 2, place.salt(8)),
        y_m + 60.0 * fractal_noise(x_m, y_m, 230.0, 2, place.salt(9)),
    )


def _river_distance(place: Place, x_m: Meters, y_m: Meters) -> Floats:
    # a level set of noise over its slope approximates distance, so the width stays the same along the river
    here = _river_field(place, x_m, y_m)
    east = (_river_field(place, x_m + 5.0, y_m) - here) / np.float32(5)
    south = (_river_field(place, x_m, y_m + 5.0) - here) / np.float32(5)
    slope = np.sqrt(east * east + south * south)
    away_m: Floats = np.abs(here) / np.maximum(slope, np.float32(2e-4))
    return away_m


def _slope(place: Place, x_m: Meters, y_m: Meters) -> Floats:
    here = fractal_noise(x_m, y_m, 360.0, 4, place.salt(13))
    sunward = fractal_noise(x_m + 24.0 * place.sun[0], y_m + 24.0 * place.sun[1], 360.0, 4, place.salt(13))
    fall: Floats = 2.2 * (here - sunward)
    return fall


def _river_field(place: Place, x_m: Meters, y_m: Meters) -> Floats:
    east = x_m + 130.0 * value_noise(x_m, y_m, 420.0, place.salt(10))
    south = y_m + 130.0 * value_noise(x_m, y_m, 420.0, place.salt(11))
    return value_noise(east, south, 2300.0, place.salt(12)) + 0.1


def _interpolate(field: Floats, window: Window) -> Floats:
    rows = np.arange(window.row, window.row_stop)
    cols = np.arange(window.col, window.col_stop)
    top = rows // _STEP_PX - window.row // _STEP_PX
    left = cols // _STEP_PX - window.col // _STEP_PX
    down = ((rows % _STEP_PX) / _STEP_PX).astype(np.float32)[:, None]
    across = ((cols % _STEP_PX) / _STEP_PX).astype(np.float32)[None, :]
    wide = field[:, left] + (field[:, left + 1] - field[:, left]) * across
    result: Floats = wide[top] + (wide[top + 1] - wide[top]) * down
    return result
