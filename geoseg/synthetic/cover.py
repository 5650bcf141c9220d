"""Which class each pixel has: the truth, decided before anything is painted, from the slow fields of a place.

Where people farm and build, where woods stand, how far the river is: these are evaluated on a lattice of every eighth
pixel, anchored at the scene's origin, and interpolated. Rivers and shores come out smooth, at a sixty-fourth of the
price.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geoseg.raster import Window
from geoseg.synthetic.noise import Floats, Mask, Meters, chance, fractal_noise, smooth, value_noise
from geoseg.synthetic.parcels import Parcels
from geoseg.synthetic.place import Place

URBAN, AGRICULTURE, RANGELAND, FOREST, WATER, BARREN, UNKNOWN = range(7)
_STEP_PX = 8


@dataclass(frozen=True, slots=True)
class Cover:
    """Truth and what the painters need to know about it."""

    codes: npt.NDArray[np.uint8]
    depth: Floats
    """0 at the shore, 1 far from it."""
    sand: Floats
    road: Mask
    cloud: Floats
    """Opacity, 0 to 1."""


def cover_of(place: Place, terrain: Terrain, ground: Parcels) -> Cover:
    """Decide the class of each pixel."""
    ragged = np.float32(0.09) * fractal_noise(ground.x_m, ground.y_m, 26.0, 3, place.salt(90))
    wild = _wild(place, terrain, ground, ragged)
    codes = _tilled(place, ground, wild)
    road, canal = _borders(place, ground)
    pond = (
        (chance(ground.parcel, 50) < np.float32(place.ponds)) & (ground.edge_m > np.float32(2)) & (codes == AGRICULTURE)
    )
    shore_m, sand = _shore(place, terrain, ragged)
    codes = np.where(
        (shore_m < 0) & (codes != URBAN), np.where(terrain.bank < np.float32(-0.1), FOREST, RANGELAND), codes
    )
    codes = np.where((shore_m < 0) & (sand > np.float32(0.5)), BARREN, codes)
    depth = smooth(0.0, 22.0, -(shore_m + _bank_m(place)))
    canal_m = np.where(canal, ground.border_m, np.float32(99))
    codes = np.where(pond | (canal_m < np.float32(6)) | (shore_m < -_bank_m(place)), WATER, codes)
    depth = np.where((pond | canal) & (shore_m > -_bank_m(place)), np.float32(0.6), depth)
    cloud = smooth(place.clouds, place.clouds + 0.12, terrain.cloud)
    codes = np.where(cloud > np.float32(0.5), UNKNOWN, codes)
    return Cover(codes.astype(np.uint8), depth, sand, road & (codes != WATER), cloud)


def _wild(place: Place, terrain: Terrain, ground: Parcels, ragged: Floats) -> npt.NDArray[np.int64]:
    """Return forest, bare ground or rangeland, with borders as nature draws them."""
    # some woods end where parcels end
    straight = np.float32(0.35) * (chance(ground.parcel, 51) - np.float32(0.5))
    wood = terrain.wood + ragged + np.where(chance(ground.district, 52) < np.float32(0.4), straight, 0)
    wild = np.where(terrain.bare + ragged > np.float32(place.bare_level), BARREN, RANGELAND)
    return np.where(wood > np.float32(place.wood_level), FOREST, wild)


def _tilled(place: Place, ground: Parcels, wild: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Let whole parcels be farmed or built up, by the fields at their centers."""
    x, y = ground.center_x_m, ground.center_y_m
    people = fractal_noise(x, y, 640.0, 2, place.salt(91)) + np.float32(0.2) * (
        chance(ground.parcel, 53) - np.float32(0.5)
    )
    farms = fractal_noise(x, y, 760.0, 2, place.salt(92)) + np.float32(0.2) * (
        chance(ground.parcel, 54) - np.float32(0.5)
    )
    codes = np.where(farms > np.float32(place.farm_level), AGRICULTURE, wild)
    near_town = people > np.float32(place.town_level - 0.35)
    cleared = near_town & (chance(ground.parcel, 55) < np.float32(0.05))
    codes = np.where(cleared, BARREN, codes)
    hamlet = (chance(ground.parcel, 56) < np.float32(place.hamlets)) & (codes != FOREST)
    return np.where((people > np.float32(place.town_level)) | hamlet, URBAN, codes)


def _borders(place: Place, ground: Parcels) -> tuple[Mask, Mask]:
    """Return where roads and canals between districts run."""
    canal = chance(ground.border, 57) < np.float32(place.canals)
    width = np.float32(1.7) + np.float32(2.8) * chance(ground.border, 58)
    road = ~canal & (chance(ground.border, 59) < np.float32(0.75)) & (ground.border_m < width)
    return road, canal & (ground.border_m < np.float32(9))


def _bank_m(place: Place) -> float:
    return 6.0 + 0.12 * place.river_width_m


def _shore(place: Place, terrain: Terrain, ragged: Floats) -> tuple[Floats, Floats]:
    """Return the distance to the landward edge of the bank (negative on bank and water) and how sandy the bank is."""
    bank = np.float32(_bank_m(place))
    # lakes and the sea are level sets; 260 and 900 m are their fields' run for one unit
    lake = (np.float32(place.lake_level) - terrain.lake - np.float32(0.3) * ragged) * np.float32(260) - bank
    shore, sandy = lake, terrain.bank
    if place.has_river:
        shore = np.minimum(
            shore, terrain.river_m + np.float32(25) * ragged - np.float32(place.river_width_m / 2) - bank
        )
    if place.has_sea:
        sea = (np.float32(place.sea_level) - terrain.sea - np.float32(0.1) * ragged) * np.float32(
            900
        ) - bank * np.float32(1.5)
        shore = np.minimum(shore, sea)
        sandy = sandy + np.where(sea < np.float32(30), np.float32(0.3), np.float32(0))
    return shore, np.where(shore < 3, smooth(0.05, 0.25, sandy), np.float32(0))


@dataclass(frozen=True, slots=True)
class Terrain:
    """Slow fields at each pixel of a window, (row, col), float32."""

    wood: Floats
    bare: Floats
    lake: Floats
    sea: Floats
    river_m: Floats
    """Meters to the middle of the nearest river, about."""
    bank: Floats
    """What grows on the banks here, -1 to 1."""
    cloud: Floats
    tone: Floats
    """Slow drift of brightness, -1 to 1."""
    slope: Floats
    """How steeply the ground falls towards the sun; deviation about 0.4 in hills."""


def terrain_of(place: Place, window: Window, gsd_m: float) -> Terrain:
    """Evaluate the slow fields of a window (it may lie anywhere)."""
    rows = np.arange(window.row // _STEP_PX, (window.row_stop - 1) // _STEP_PX + 2)
    cols = np.arange(window.col // _STEP_PX, (window.col_stop - 1) // _STEP_PX + 2)
    y, x = np.meshgrid(rows * (_STEP_PX * gsd_m), cols * (_STEP_PX * gsd_m), indexing="ij")
    bent_x, bent_y = _bend(place, x, y)

    nothing = np.zeros(x.shape, np.float32)

    def spread(field: Floats) -> Floats:
        return _interpolate(field, window)

    return Terrain(
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
    # a level set of noise over its slope: about the distance, so the width stays the same along the river
    here = _river_field(place, x_m, y_m)
    east = (_river_field(place, x_m + 5.0, y_m) - here) / np.float32(5)
    south = (_river_field(place, x_m, y_m + 5.0) - here) / np.float32(5)
    slope = np.sqrt(east * east + south * south)
    away_m: Floats = np.abs(here) / np.maximum(slope, np.float32(2e-4))
    return away_m


def _slope(place: Place, x_m: Meters, y_m: Meters) -> Floats:
    here = fractal_noise(x_m, y_m, 360.0, 4, place.salt(13))
    sunward = fractal_noise(x_m + 24.0 * place.sun[0], y_m + 24.0 * place.sun[1], 360.0, 4, place.salt(13))
    fall: Floats = np.float32(2.2) * (here - sunward)
    return fall


def _river_field(place: Place, x_m: Meters, y_m: Meters) -> Floats:
    east = x_m + 130.0 * value_noise(x_m, y_m, 420.0, place.salt(10))
    south = y_m + 130.0 * value_noise(x_m, y_m, 420.0, place.salt(11))
    return value_noise(east, south, 2300.0, place.salt(12)) + np.float32(0.1)


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
