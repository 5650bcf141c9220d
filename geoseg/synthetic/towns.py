"""Towns: streets along the parcels, lots with roofs, gardens, trees and shadows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoseg.synthetic.ground import Parcels
from geoseg.synthetic.noise import Floats, Mask, Words, chance, fractal_noise, scramble, smooth, value_noise
from geoseg.synthetic.paint import Paint, Stand, blend, crowns_at, lay, lighter, mix, shadow_at
from geoseg.synthetic.place import Color, Place

_TREES = Stand(9.5, 0.2, 0.42, 1.0, 1.0, 81)
_WARM: tuple[Color, ...] = ((0.52, 0.34, 0.26), (0.60, 0.38, 0.28), (0.46, 0.34, 0.29), (0.60, 0.45, 0.36))
_COOL: tuple[Color, ...] = (
    (0.66, 0.64, 0.60),
    (0.52, 0.50, 0.46),
    (0.80, 0.79, 0.76),
    (0.44, 0.43, 0.41),
    (0.58, 0.53, 0.45),
    (0.70, 0.65, 0.56),
    (0.38, 0.47, 0.58),
)


@dataclass(frozen=True, slots=True)
class _Roofs:
    cover: Mask
    house: Words
    ridge: Floats
    """-1 to 1 across the roof."""
    rim_m: Floats
    """Meters to the roof's edge."""
    height_m: Floats
    along: Mask
    """Whether the ridge runs along u."""


@dataclass(frozen=True, slots=True)
class _Quarter:
    """How a parcel is built: per pixel, constant in a parcel."""

    lot_m: Floats
    street_m: Floats
    dense: Floats
    hall: Mask


def paint_towns(place: Place, ground: Parcels) -> Paint:
    """Paint built-up land: everything in it, gardens too, is one class."""
    quarter = _quarter(place, ground)
    roofs = _roofs(ground, quarter, ground.u_m, ground.v_m)
    paint = _yards(place, ground, quarter)
    street = ground.edge_m < quarter.street_m
    paint = lay(paint, street, _street(place, ground))
    open_ground = np.float32(place.town_trees) * (1 - np.float32(0.85) * quarter.dense)
    share = open_ground * np.where(street, np.float32(0.25), np.float32(1))
    crown = crowns_at(place, _TREES, ground.x_m, ground.y_m, share)
    paint = np.where(shadow_at(place, _TREES, ground.x_m, ground.y_m, share), paint * np.float32(0.6), paint)
    paint = np.where(_shadow(place, ground, quarter), paint * np.float32(0.45), paint)
    light = np.float32(0.95) + np.float32(0.35) * crown.light
    paint = np.where(crown.cover & ~street, mix(place.leaf, lighter(place.leaf, 1.3), crown.height) * light, paint)
    return np.where(roofs.cover, _roof_paint(place, ground, roofs, quarter), paint)


def _quarter(place: Place, ground: Parcels) -> _Quarter:
    old = fractal_noise(ground.center_x_m, ground.center_y_m, 700.0, 2, place.salt(82)) * np.float32(0.6)
    dense = np.clip(
        np.float32(place.town_density) + old + np.float32(0.25) * (chance(ground.parcel, 30) - np.float32(0.5)), 0, 1
    )
    hall = chance(ground.parcel, 31) < np.float32(place.industry)
    lot = np.float32(22) - np.float32(12.5) * dense + np.float32(4) * chance(ground.district, 32)
    return _Quarter(
        lot_m=np.where(hall, np.float32(38) + np.float32(45) * chance(ground.parcel, 37), lot),
        street_m=np.float32(2.2)
        + np.float32(2.6) * chance(ground.district, 33) * (np.float32(1.2) - np.float32(0.7) * dense),
        dense=dense,
        hall=hall,
    )


def _roofs(ground: Parcels, quarter: _Quarter, u_m: Floats, v_m: Floats) -> _Roofs:
    """Find the roof over positions in the parcel: one in each lot, set back from the lot's edges."""
    inner_u, inner_v = ground.length_m - 2 * quarter.street_m, ground.width_m - 2 * quarter.street_m
    count_u = np.maximum(np.floor(inner_u / quarter.lot_m + np.float32(0.5)), 1)
    count_v = np.maximum(np.floor(inner_v / (quarter.lot_m * np.float32(1.15)) + np.float32(0.5)), 1)
    at_u, at_v = u_m - quarter.street_m, v_m - quarter.street_m
    lot_u, lot_v = inner_u / count_u, inner_v / count_v
    col, row = np.floor(at_u / lot_u), np.floor(at_v / lot_v)
    inside = (col >= 0) & (col < count_u) & (row >= 0) & (row < count_v)
    # an alley behind every second row of lots
    alley = (np.float32(0.5) + np.float32(2.6) * (1 - quarter.dense)) * np.mod(row, np.float32(2))
    house = scramble((row * np.float32(64) + col).astype(np.int32), ground.parcel, 83)
    gap = np.float32(0.03) + np.float32(0.30) * (1 - quarter.dense)
    first_u, last_u = _span(lot_u, gap, house, 1)
    first_v, last_v = _span(lot_v - alley, gap, house, 3)
    from_u, from_v = at_u - col * lot_u - first_u, at_v - row * lot_v - first_v
    size_u, size_v = last_u - first_u, last_v - first_v
    # many houses are an L: one corner of the rectangle is missing
    notch_u = np.float32(0.35) + np.float32(0.3) * chance(house, 5)
    notch_v = np.float32(0.35) + np.float32(0.3) * chance(house, 6)
    notched = (chance(house, 7) < np.float32(0.55)) & (from_u > size_u * notch_u) & (from_v > size_v * notch_v)
    rim = np.minimum(np.minimum(from_u, size_u - from_u), np.minimum(from_v, size_v - from_v))
    built = chance(house, 8) < np.float32(0.62) + np.float32(0.36) * quarter.dense
    along = size_u > size_v
    ridge = np.where(along, from_v / size_v, from_u / size_u) * 2 - 1
    height = np.where(
        quarter.hall,
        np.float32(8),
        np.float32(3.2) + np.float32(6) * chance(house, 9) * (np.float32(0.3) + quarter.dense),
    )
    return _Roofs(inside & built & (rim > 0) & ~notched, house, ridge, rim, height, along)


def _span(lot_m: Floats, gap: Floats, house: Words, salt: int) -> tuple[Floats, Floats]:
    return lot_m * gap * chance(house, salt), lot_m * (1 - gap * chance(house, salt + 10))


def _shadow(place: Place, ground: Parcels, quarter: _Quarter) -> Mask:
    sun_u, sun_v = ground.rotate(*place.sun)
    shaded = np.zeros(ground.u_m.shape, np.bool_)
    for away_m in (1.6, 3.4, 5.6):
        roofs = _roofs(
            ground, quarter, ground.u_m + np.float32(away_m) * sun_u, ground.v_m + np.float32(away_m) * sun_v
        )
        shaded |= roofs.cover & (roofs.height_m * np.float32(place.shadow_ratio) > np.float32(away_m))
    return shaded


def _yards(place: Place, ground: Parcels, quarter: _Quarter) -> Paint:
    """Earth, gardens and pavement between the houses."""
    patch = fractal_noise(ground.x_m, ground.y_m, 16.0, 3, place.salt(84))
    green = chance(ground.district, 34) * np.float32(1.2) - quarter.dense * np.float32(0.9)
    garden = mix(
        lighter(place.soil, 1.05),
        blend(place.grass, place.leaf, 0.4),
        smooth(-0.3, 0.4, patch + green - np.float32(0.1)),
    )
    paved = mix(blend(place.soil, (0.50, 0.48, 0.45), 0.7), (0.44, 0.42, 0.39), chance(ground.parcel, 35))
    yard = mix(garden, paved, smooth(0.35, 0.75, quarter.dense + np.float32(0.25) * patch))
    return yard * (1 + np.float32(0.06) * value_noise(ground.x_m, ground.y_m, 1.4, place.salt(85)))


def _street(place: Place, ground: Parcels) -> Paint:
    asphalt = mix(
        (0.37, 0.36, 0.35), blend(place.soil, (0.5, 0.48, 0.45), 0.5), smooth(0.3, 0.8, chance(ground.district, 36))
    )
    return asphalt * (1 + np.float32(0.06) * value_noise(ground.x_m, ground.y_m, 2.0, place.salt(86)))


def _roof_paint(place: Place, ground: Parcels, roofs: _Roofs, quarter: _Quarter) -> Paint:
    warm = chance(roofs.house, 40) < np.float32(place.roof_warmth)
    warm &= ~quarter.hall
    tiles = np.array(_WARM, np.float32).T[:, (chance(roofs.house, 41) * np.float32(len(_WARM))).astype(np.int64)]
    slabs = np.array(_COOL, np.float32).T[:, (chance(roofs.house, 42) ** 2 * np.float32(len(_COOL))).astype(np.int64)]
    paint = np.where(warm, tiles, slabs) * (np.float32(0.75) + np.float32(0.4) * chance(roofs.house, 43))
    # a gable shows the sun one bright side; flat roofs have a parapet and things standing on them
    sun_u, sun_v = ground.rotate(*place.sun)
    facing = np.where(roofs.along, sun_v, sun_u) * np.sign(roofs.ridge)
    gable = warm | (chance(roofs.house, 44) < np.float32(0.25)) | quarter.hall
    clutter = value_noise(ground.x_m, ground.y_m, 2.2, place.salt(87))
    flat_light = np.float32(0.16) * clutter * (np.float32(0.4) + quarter.dense) + np.where(
        roofs.rim_m < np.float32(0.6), np.float32(0.08), 0
    )
    lit: Paint = paint * (1 + np.where(gable, np.float32(0.2) * facing, flat_light))
    return lit
