"""Which class each pixel has: the truth, decided before anything is painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geoseg.synthetic.noise import Floats, Mask, chance, fractal_noise, smooth
from geoseg.synthetic.parcels import Parcels
from geoseg.synthetic.place import Place
from geoseg.synthetic.terrain import Terrain

URBAN, AGRICULTURE, RANGELAND, FOREST, WATER, BARREN, UNKNOWN = range(7)


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
    """Let whole parcels be farmed or built up, by the fields at their centres."""
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
