"""Countryside and towns seen from above: farmland, forest, uncultivated land and water; streets and roofs.

Farmland: crops, stubble and bare soil, flooded fields, furrows, wheel tracks, bunds, circles, orchards, trees. Forest:
crowns over crowns, lit from one side, with gaps between; green, autumn or leafless, wild or in rows. Grass in patches,
green or dry, fenced pasture, bushes and trees with shadows, footpaths, burns; bright soil, gullies, diggings, sand;
water that is darker where it is deep, and slightly rippled. Towns: streets along the parcels, lots with roofs, gardens,
trees and shadows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from geoseg.synthetic.ground import Parcels
from geoseg.synthetic.noise import Floats, Mask, Words, chance, fractal_noise, scramble, smooth, value_noise
from geoseg.synthetic.paint import Crowns, Paint, Stand, blend, crowns_at, lay, lighter, mix, shadow_at
from geoseg.synthetic.place import Color, Place

_ORCHARD = Stand(7.0, 0.3, 0.46, 0.95, 0.25, 31)
_TREES = Stand(22.0, 0.1, 0.26, 1.0, 1.0, 32)
_PIVOT_M = 110.0
"""Narrower parcels have no circular irrigation."""
_LAYERS = (
    (Stand(5.2, 0.40, 0.5, 0.97, 1.0, 41), 0.0),
    (Stand(6.6, 0.38, 0.5, 0.9, 1.0, 42), 0.16),
    (Stand(9.5, 0.34, 0.5, 0.55, 1.0, 43), 0.34),
)
_ROWS = Stand(4.6, 0.42, 0.5, 0.97, 0.2, 47)
_TURNS = ((1.0, 0.0), (0.8, 0.6), (0.28, 0.96))
"""Each layer has its own direction, so that no lattice is visible."""
_SHRUBS = Stand(9.0, 0.08, 0.2, 1.0, 1.0, 71)

_TOWN_TREES = Stand(9.5, 0.2, 0.42, 1.0, 1.0, 81)
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


def paint_fields(place: Place, ground: Parcels) -> Paint:
    """Paint farmland."""
    field, edge = _fields(ground)
    circle, from_center_m = _pivots(place, ground)
    field = np.where(circle, scramble(ground.parcel.view(np.int32), ground.district, 36), field)
    across = np.where(circle, from_center_m, np.where(chance(field, 1) < 0.5, ground.u_m, ground.v_m))
    paint = _crop(place, ground, field)
    paint = paint * (1 + _furrows(field, across) + 0.05 * value_noise(ground.x_m, ground.y_m, 2.4, place.salt(34)))
    paint = np.where(circle, paint, _bunds(place, ground, edge, paint))
    paint = _track(place, ground, paint)
    paint = _orchard(place, ground, field, paint)
    return _trees(place, ground, edge, paint)


def _fields(ground: Parcels) -> tuple[Words, Floats]:
    """Cut parcels into one to five fields side by side; return the field's word and the distance to its edge."""
    count = 1 + np.floor(chance(ground.parcel, 5) * chance(ground.parcel, 15) * 6)
    along = chance(ground.parcel, 6) < 0.6
    size = np.where(along, ground.length_m, ground.width_m) / count
    position = np.where(along, ground.u_m, ground.v_m)
    index = np.minimum(np.floor(position / size), count - 1)
    inside = position - index * size
    edge = np.minimum(ground.edge_m, np.minimum(inside, size - inside))
    return scramble(index.astype(np.int32), ground.parcel, 35), edge


def _pivots(place: Place, ground: Parcels) -> tuple[Mask, Floats]:
    """Return where a parcel has center-pivot irrigation, and the distance to its pivot."""
    radius = 0.48 * np.minimum(ground.length_m, ground.width_m)
    east, south = ground.u_m - ground.length_m / 2, ground.v_m - ground.width_m / 2
    away = np.sqrt(east * east + south * south)
    round_field = (chance(ground.parcel, 22) < place.pivots) & (radius > np.float32(_PIVOT_M / 2))
    return round_field & (away < radius), away


def _crop(place: Place, ground: Parcels, field: Words) -> Paint:
    """Choose a crop for each field; the place's greenness determines how many are green."""
    green: Color = blend((0.27, 0.40, 0.18), place.leaf, 0.35)
    bright: Color = (0.38, 0.52, 0.25)
    kinds: tuple[tuple[Color, Color], ...] = (
        (place.soil, lighter(place.soil, 0.85)),
        (lighter(place.soil, 1.2), blend(place.soil, place.grass, 0.3)),
        (blend(place.soil, place.straw, 0.6), lighter(place.straw, 1.08)),
        (lighter(place.soil, 0.72), lighter(place.soil, 0.95)),
        (place.straw, blend(place.straw, place.grass, 0.45)),
        (blend(place.soil, place.grass, 0.6), lighter(place.grass, 1.1)),
        (blend(place.grass, green, 0.5), blend(place.soil, green, 0.6)),
        (green, lighter(green, 0.85)),
        (blend(green, bright, 0.6), green),
        (bright, blend(bright, place.straw, 0.35)),
        (lighter(place.leaf, 1.15), lighter(place.leaf, 0.95)),
        (blend(place.water, green, 0.65), blend(place.water, place.grass, 0.7)),
        (lighter(place.water, 1.1), blend(place.water, place.soil, 0.45)),
    )
    green_pick = 6 + np.floor(chance(field, 3) * 6)
    bare_pick = np.floor(chance(field, 4) * 6)
    # neighbors sow the same at the same time
    season = place.greenness + 0.5 * (chance(ground.district, 16) - 0.5)
    kind = np.where(chance(field, 2) < season, green_pick, bare_pick)
    kind = np.where(chance(field, 17) < place.flooded, np.float32(12), kind).astype(np.int64)
    first = np.array([pair[0] for pair in kinds], np.float32).T[:, kind]
    second = np.array([pair[1] for pair in kinds], np.float32).T[:, kind]
    light = 0.85 + 0.3 * chance(field, 6)
    growth = fractal_noise(ground.x_m, ground.y_m, 55.0, 3, place.salt(33))
    paint = mix(first, second, smooth(-0.7, 0.7, growth)) * light
    # wet hollows and pale knolls go through all fields
    patchy = fractal_noise(ground.x_m, ground.y_m, 95.0, 4, place.salt(37))
    strength = (0.22 * place.mottle) * chance(field, 19)
    crop: Paint = paint * (1 + strength * patchy)
    return crop


def _furrows(field: Words, across: Floats) -> Floats:
    period = 1.6 + 5.0 * chance(field, 7)
    strength = 0.09 * chance(field, 8) * chance(field, 18)
    phase = across / period
    phase = phase - np.floor(phase)
    wave = 8 * phase * (1 - phase) - 1
    lane = across / (12 + 14 * chance(field, 11))
    wheel = (lane - np.floor(lane)) < 0.045
    furrows: Floats = wave * strength - np.where(wheel, 0.1 * chance(field, 12), np.float32(0))
    return furrows


def _bunds(place: Place, ground: Parcels, edge: Floats, paint: Paint) -> Paint:
    """Paint the edges of fields: earth, grass, or nothing visible."""
    wide = 0.2 + 1.6 * chance(ground.district, 9)
    color = mix(lighter(place.soil, 1.12), lighter(place.grass, 0.95), chance(ground.district, 10))
    visibility = 0.3 + 0.7 * chance(ground.district, 8)
    return np.where(edge < wide, paint + (color - paint) * visibility, paint)


def _track(place: Place, ground: Parcels, paint: Paint) -> Paint:
    wide = np.where(chance(ground.parcel, 20) < 0.12, np.float32(2.0), 0)
    wide = np.where(chance(ground.district, 21) < 0.4, wide, 0)
    on_track = np.minimum(ground.v_m, ground.width_m - ground.v_m) < wide
    return lay(paint, on_track, lighter(place.soil, 1.25))


def _orchard(place: Place, ground: Parcels, field: Words, paint: Paint) -> Paint:
    planted = chance(field, 13) < place.orchards
    if not planted.any():
        return paint
    u, v = ground.u_m.astype(np.float64), ground.v_m.astype(np.float64)
    share = 0.45 + 0.55 * chance(field, 14)
    cover = crowns_at(place, _ORCHARD, u, v, share)
    sun_u, sun_v = ground.rotate(*place.sun)
    shade = crowns_at(place, _ORCHARD, u + 2.2 * sun_u, v + 2.2 * sun_v, share).cover
    paint = np.where(planted & shade, paint * 0.6, paint)
    leaf = mix(lighter(place.leaf, 0.9), lighter(place.leaf, 1.35), cover.height)
    return np.where(planted & cover.cover, leaf, paint)


def _trees(place: Place, ground: Parcels, edge: Floats, paint: Paint) -> Paint:
    if place.field_trees == 0:
        return paint
    share = np.float32(place.field_trees) * np.where(edge < 7, np.float32(1.8), np.float32(0.3))
    crown = crowns_at(place, _TREES, ground.x_m, ground.y_m, share)
    shade = shadow_at(place, _TREES, ground.x_m, ground.y_m, share)
    paint = np.where(shade, paint * 0.5, paint)
    leaf = mix(
        lighter(place.leaf, 0.75),
        lighter(place.leaf, 1.2),
        np.clip(0.5 + 0.5 * crown.light, 0, 1),
    )
    return np.where(crown.cover, leaf, paint)


@dataclass(frozen=True, slots=True)
class _Canopy:
    top: Floats
    """0 where there is no crown, about 1 at the highest tops."""
    light: Floats
    tone: Floats
    """One number per tree, 0 to 1."""
    turned: Floats
    """One number per tree, 0 to 1: how early its leaves turn."""


def paint_forest(place: Place, ground: Parcels) -> Paint:
    """Paint a canopy."""
    planted = chance(ground.parcel, 62) < place.plantations
    canopy = _canopy(place, ground, planted)
    stand_tone = smooth(-0.7, 0.7, fractal_noise(ground.x_m, ground.y_m, 90.0, 3, place.salt(46)))
    leaf = mix(
        lighter(place.leaf, 0.85),
        blend(place.leaf, place.grass, 0.4),
        0.6 * stand_tone + 0.3 * canopy.tone,
    )
    if place.autumn:
        # stands turn together, and the trees in them one by one
        early = place.autumn + 0.8 * (stand_tone - 0.5) * place.autumn
        autumn = mix(place.autumn_leaf, lighter(place.autumn_leaf, 1.25), canopy.tone)
        turned = smooth(-0.2, 0.35, early - canopy.turned) * 0.8
        leaf = mix(leaf, autumn, np.where(planted, np.float32(0), turned))
    bright = 0.5 + 0.45 * np.minimum(canopy.top, 1) + 0.3 * canopy.light + 0.25 * (canopy.tone - 0.5)
    painted: Paint = leaf * place.canopy_light * np.clip(bright, np.float32(0.35), np.float32(1.6))
    floor: Color = blend(place.grass, blend(place.soil, place.straw, 0.5 * place.dryness), 0.4)
    gap = (canopy.top == 0) * np.float32(min(1.0, 2.5 * place.canopy_gaps))
    return mix(painted, lighter(floor, 0.72), gap)


def _canopy(place: Place, ground: Parcels, planted: Mask) -> _Canopy:
    x = ground.x_m + 0.9 * value_noise(ground.x_m, ground.y_m, 3.1, place.salt(44))
    y = ground.y_m + 0.9 * value_noise(ground.x_m, ground.y_m, 3.1, place.salt(45))
    thin = smooth(-0.6, 0.6, fractal_noise(ground.x_m, ground.y_m, 70.0, 3, place.salt(48)))
    share = 1 - (1.6 * place.canopy_gaps) * thin
    empty = np.zeros(x.shape, np.float32)
    canopy = _Canopy(empty, empty, empty, empty)
    for (stand, base), (cosine, sine) in zip(_LAYERS, _TURNS, strict=True):
        scaled = replace(stand, spacing_m=stand.spacing_m * place.crown_scale)
        density = np.where(planted, np.float32(0), stand.share * share)
        crown = crowns_at(place, scaled, x * cosine + y * sine, y * cosine - x * sine, density)
        sun_u, sun_v = place.sun[0] * cosine + place.sun[1] * sine, place.sun[1] * cosine - place.sun[0] * sine
        canopy = _over(canopy, crown, base, np.float32(0.5 * (sun_u * place.sun[0] + sun_v * place.sun[1]) + 0.5))
    if planted.any():
        rows = np.where(planted, np.float32(_ROWS.share), np.float32(0))
        crown = crowns_at(place, _ROWS, ground.u_m.astype(np.float64), ground.v_m.astype(np.float64), rows)
        canopy = _over(canopy, crown, 0.25, np.float32(0.8))
    return canopy


def _over(lower: _Canopy, crown: Crowns, base: float, share: np.float32) -> _Canopy:
    """Let crowns hide lower ones; `share` is the share of their light that counts."""
    height = np.where(crown.cover, np.float32(base + 0.25) + 0.6 * crown.height, 0)
    higher = height > lower.top
    return _Canopy(
        np.where(higher, height, lower.top),
        np.where(higher, crown.light * share, lower.light),
        np.where(higher, chance(crown.tree, 9), lower.tone),
        np.where(higher, chance(crown.tree, 10), lower.turned),
    )


def paint_rangeland(place: Place, ground: Parcels) -> Paint:
    """Paint open land that is not farmed."""
    fenced = chance(ground.parcel, 60) < place.pasture
    paint = _grass(place, ground, np.where(fenced, np.float32(0.35), np.float32(1)))
    tone = 0.88 + 0.24 * chance(ground.parcel, 61)
    fence = fenced & (ground.edge_m < 0.8)
    paint = np.where(fenced, paint * tone, paint) * np.where(fence, np.float32(0.8), np.float32(1))
    path = np.abs(fractal_noise(ground.x_m, ground.y_m, 190.0, 2, place.salt(56)))
    paint = lay(paint, path < 0.008, lighter(place.soil, 1.12))
    return _bushes(place, ground, paint, np.where(fenced, np.float32(0.25), np.float32(1)))


def _grass(place: Place, ground: Parcels, unevenness: Floats) -> Paint:
    x, y = ground.x_m, ground.y_m
    patches = fractal_noise(x, y, 48.0, 5, place.salt(53)) * unevenness
    wide = fractal_noise(x, y, 210.0, 3, place.salt(54))
    fine = value_noise(x, y, 1.3, place.salt(55))
    dry: Color = blend(place.grass, place.straw, 0.9 * place.dryness)
    worn: Color = blend(dry, place.soil, 0.2 + 0.4 * place.dryness)
    green: Color = blend(place.grass, blend(place.leaf, (0.30, 0.42, 0.20), 0.5), 0.5)
    paint = mix(worn, dry, smooth(-0.6, 0.5, patches))
    lush = smooth(-0.5 + 1.1 * place.dryness, 0.5 + 1.1 * place.dryness, wide + 0.3 * patches)
    paint = mix(paint, green, 0.85 * lush)
    if place.savanna > 0.6 and place.dryness > 0.5:
        burnt = smooth(0.35, 0.5, fractal_noise(x, y, 330.0, 4, place.salt(58)))
        paint = mix(paint, (0.20, 0.18, 0.16), 0.7 * burnt)
    return paint * (1 + 0.07 * fine + 0.06 * patches)


def _bushes(place: Place, ground: Parcels, paint: Paint, local_share: Floats) -> Paint:
    x, y = ground.x_m, ground.y_m
    bushy = smooth(-0.5, 0.9, fractal_noise(x, y, 120.0, 3, place.salt(57)) - 0.2) * local_share
    density = np.float32(0.25 + 0.75 * place.savanna)
    scale = place.crown_scale
    stands = (
        (Stand(5.5 * scale, 0.12, 0.34, 1.0, 1.0, 51), 0.9 * density * bushy),
        (Stand(14.0 * scale, 0.12, 0.32, 1.0, 1.0, 52), density * 0.6 * np.sqrt(bushy)),
    )
    leaf: Color = blend(blend(place.leaf, place.autumn_leaf, 0.6 * place.autumn), place.grass, 0.25)
    for stand, share in stands:
        crown = crowns_at(place, stand, x, y, share)
        paint = np.where(shadow_at(place, stand, x, y, share), paint * 0.62, paint)
        light = 0.85 + 0.3 * crown.light + 0.3 * chance(crown.tree, 8)
        paint = np.where(crown.cover, mix(leaf, lighter(leaf, 1.3), crown.height) * light, paint)
    return paint


def paint_barren(place: Place, ground: Parcels, sand: Floats) -> Paint:
    """Paint bare ground; `sand` 1 is a smooth bright beach, 0 is broken soil."""
    x, y = ground.x_m, ground.y_m
    heaps = fractal_noise(x, y, 34.0, 5, place.salt(72))
    wide = smooth(-0.6, 0.6, fractal_noise(x, y, 150.0, 3, place.salt(73)))
    paint = mix(lighter(place.soil, 1.05), blend(lighter(place.soil, 1.3), place.rock, 0.4), wide)
    rocky = smooth(0.0, 0.5, fractal_noise(x, y, 210.0, 4, place.salt(77)))
    paint = mix(paint, place.rock, 0.9 * rocky)
    # diggings: benches cut into the ground, each with one lit edge
    bench = fractal_noise(x, y, 260.0, 2, place.salt(78)) * np.float32(14)
    step_share = bench - np.floor(bench)
    dug = smooth(0.3, 0.5, fractal_noise(x, y, 420.0, 2, place.salt(79)))
    paint = paint * (1 + dug * (np.float32(0.16) * step_share - np.float32(0.2) * (step_share < 0.12)))
    gully = np.abs(fractal_noise(x, y, 70.0, 4, place.salt(74)))
    rough = 0.24 * heaps - 0.27 * (1 - smooth(0.0, 0.12, gully)) * (1 - wide * 0.6)
    # light on the heaps: the slope towards the sun
    step = 1.5
    slope = heaps - fractal_noise(x + step * place.sun[0], y + step * place.sun[1], 34.0, 5, place.salt(72))
    rough = rough + np.clip(0.9 * slope, -0.3, 0.3)
    # plains are flat, hills are eroded
    rough = rough * (0.35 + 0.8 * place.relief)
    paint = paint * (1 + rough * (1 - 0.8 * sand))
    beach = blend(lighter(place.soil, 1.35), (0.70, 0.66, 0.58), 0.6)
    paint = mix(paint, beach, 0.8 * sand)
    paint = paint * (1 + 0.05 * value_noise(x, y, 1.6, place.salt(75)))
    share = 0.22 * smooth(-0.2, 0.7, fractal_noise(x, y, 60.0, 2, place.salt(76))) * (1 - sand)
    crown = crowns_at(place, _SHRUBS, x, y, share)
    paint = np.where(shadow_at(place, _SHRUBS, x, y, share), paint * 0.7, paint)
    return np.where(crown.cover, mix(place.grass, place.leaf, crown.height), paint)


def paint_water(place: Place, ground: Parcels, depth: Floats) -> Paint:
    """Paint water; `depth` is 0 at the shore, 1 in the middle."""
    x, y = ground.x_m, ground.y_m
    silt = smooth(-0.6, 0.8, fractal_noise(x, y, 520.0, 4, place.salt(61)))
    paint = mix(place.water, blend(place.water, place.soil, 0.3), silt)
    paint = mix(blend(place.water, place.soil, 0.45), paint, 0.45 + 0.55 * depth)
    paint = mix(paint, lighter(place.water, 0.85), 0.4 * depth)
    weeds = smooth(0.25, 0.5, fractal_noise(x, y, 130.0, 4, place.salt(63))) * (1 - depth)
    paint = mix(paint, blend(place.water, place.grass, 0.6), np.float32(place.dryness < 0.4) * weeds)
    ripples = value_noise(x + 0.6 * y, 0.35 * y, 2.6, place.salt(62)) * (np.float32(0.5) + silt)
    return paint * (1 + np.float32(0.022) * ripples)


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
    """How a parcel is built up: per pixel, constant within a parcel."""

    lot_m: Floats
    street_m: Floats
    dense: Floats
    hall: Mask


def paint_towns(place: Place, ground: Parcels) -> Paint:
    """Paint built-up land: everything in it, including gardens, is one class."""
    quarter = _quarter(place, ground)
    roofs = _roofs(ground, quarter, ground.u_m, ground.v_m)
    paint = _yards(place, ground, quarter)
    street = ground.edge_m < quarter.street_m
    paint = lay(paint, street, _street(place, ground))
    open_ground = place.town_trees * (1 - 0.85 * quarter.dense)
    share = open_ground * np.where(street, np.float32(0.25), np.float32(1))
    crown = crowns_at(place, _TOWN_TREES, ground.x_m, ground.y_m, share)
    paint = np.where(shadow_at(place, _TOWN_TREES, ground.x_m, ground.y_m, share), paint * 0.6, paint)
    paint = np.where(_shadow(place, ground, quarter), paint * 0.45, paint)
    light = 0.95 + 0.35 * crown.light
    paint = np.where(crown.cover & ~street, mix(place.leaf, lighter(place.leaf, 1.3), crown.height) * light, paint)
    return np.where(roofs.cover, _roof_paint(place, ground, roofs, quarter), paint)


def _quarter(place: Place, ground: Parcels) -> _Quarter:
    old = fractal_noise(ground.center_x_m, ground.center_y_m, 700.0, 2, place.salt(82)) * 0.6
    dense = np.clip(place.town_density + old + 0.25 * (chance(ground.parcel, 30) - 0.5), 0, 1)
    hall = chance(ground.parcel, 31) < place.industry
    lot = 22 - 12.5 * dense + 4 * chance(ground.district, 32)
    return _Quarter(
        lot_m=np.where(hall, 38 + 45 * chance(ground.parcel, 37), lot),
        street_m=np.float32(2.2)
        + np.float32(2.6) * chance(ground.district, 33) * (np.float32(1.2) - np.float32(0.7) * dense),
        dense=dense,
        hall=hall,
    )


def _roofs(ground: Parcels, quarter: _Quarter, u_m: Floats, v_m: Floats) -> _Roofs:
    """Find the roof over each position in the parcel: one per lot, set back from the lot's edges."""
    inner_u, inner_v = ground.length_m - 2 * quarter.street_m, ground.width_m - 2 * quarter.street_m
    count_u = np.maximum(np.floor(inner_u / quarter.lot_m + 0.5), 1)
    count_v = np.maximum(np.floor(inner_v / (quarter.lot_m * 1.15) + 0.5), 1)
    at_u, at_v = u_m - quarter.street_m, v_m - quarter.street_m
    lot_u, lot_v = inner_u / count_u, inner_v / count_v
    col, row = np.floor(at_u / lot_u), np.floor(at_v / lot_v)
    inside = (col >= 0) & (col < count_u) & (row >= 0) & (row < count_v)
    # an alley behind every second row of lots
    alley = (0.5 + 2.6 * (1 - quarter.dense)) * np.mod(row, np.float32(2))
    house = scramble((row * 64 + col).astype(np.int32), ground.parcel, 83)
    gap = 0.03 + 0.30 * (1 - quarter.dense)
    first_u, last_u = _span(lot_u, gap, house, 1)
    first_v, last_v = _span(lot_v - alley, gap, house, 3)
    from_u, from_v = at_u - col * lot_u - first_u, at_v - row * lot_v - first_v
    size_u, size_v = last_u - first_u, last_v - first_v
    # many houses are an L: one corner of the rectangle is missing
    notch_u = 0.35 + 0.3 * chance(house, 5)
    notch_v = 0.35 + 0.3 * chance(house, 6)
    notched = (chance(house, 7) < 0.55) & (from_u > size_u * notch_u) & (from_v > size_v * notch_v)
    rim = np.minimum(np.minimum(from_u, size_u - from_u), np.minimum(from_v, size_v - from_v))
    built = chance(house, 8) < 0.62 + 0.36 * quarter.dense
    along = size_u > size_v
    ridge = np.where(along, from_v / size_v, from_u / size_u) * 2 - 1
    height = np.where(
        quarter.hall,
        np.float32(8),
        3.2 + 6 * chance(house, 9) * (0.3 + quarter.dense),
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
        shaded |= roofs.cover & (roofs.height_m * place.shadow_ratio > np.float32(away_m))
    return shaded


def _yards(place: Place, ground: Parcels, quarter: _Quarter) -> Paint:
    """Earth, gardens and pavement between the houses."""
    patch = fractal_noise(ground.x_m, ground.y_m, 16.0, 3, place.salt(84))
    green = chance(ground.district, 34) * 1.2 - quarter.dense * 0.9
    garden = mix(
        lighter(place.soil, 1.05),
        blend(place.grass, place.leaf, 0.4),
        smooth(-0.3, 0.4, patch + green - 0.1),
    )
    paved = mix(blend(place.soil, (0.50, 0.48, 0.45), 0.7), (0.44, 0.42, 0.39), chance(ground.parcel, 35))
    yard = mix(garden, paved, smooth(0.35, 0.75, quarter.dense + 0.25 * patch))
    return yard * (1 + 0.06 * value_noise(ground.x_m, ground.y_m, 1.4, place.salt(85)))


def _street(place: Place, ground: Parcels) -> Paint:
    asphalt = mix(
        (0.37, 0.36, 0.35), blend(place.soil, (0.5, 0.48, 0.45), 0.5), smooth(0.3, 0.8, chance(ground.district, 36))
    )
    return asphalt * (1 + 0.06 * value_noise(ground.x_m, ground.y_m, 2.0, place.salt(86)))


def _roof_paint(place: Place, ground: Parcels, roofs: _Roofs, quarter: _Quarter) -> Paint:
    warm = chance(roofs.house, 40) < place.roof_warmth
    warm &= ~quarter.hall
    tiles = np.array(_WARM, np.float32).T[:, (chance(roofs.house, 41) * np.float32(len(_WARM))).astype(np.int64)]
    slabs = np.array(_COOL, np.float32).T[:, (chance(roofs.house, 42) ** 2 * np.float32(len(_COOL))).astype(np.int64)]
    paint = np.where(warm, tiles, slabs) * (0.75 + 0.4 * chance(roofs.house, 43))
    # a gable has one bright side towards the sun; flat roofs have a parapet and clutter
    sun_u, sun_v = ground.rotate(*place.sun)
    facing = np.where(roofs.along, sun_v, sun_u) * np.sign(roofs.ridge)
    gable = warm | (chance(roofs.house, 44) < 0.25) | quarter.hall
    clutter = value_noise(ground.x_m, ground.y_m, 2.2, place.salt(87))
    flat_light = 0.16 * clutter * (0.4 + quarter.dense) + np.where(roofs.rim_m < 0.6, np.float32(0.08), 0)
    lit: Paint = paint * (1 + np.where(gable, 0.2 * facing, flat_light))
    return lit
