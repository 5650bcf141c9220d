"""Farmland: crops, stubble and bare soil, flooded fields, furrows, wheel tracks, bunds, circles, orchards, trees."""

from __future__ import annotations

import numpy as np

from geoseg.synthetic.noise import Floats, Mask, Words, chance, fractal_noise, scramble, smooth, value_noise
from geoseg.synthetic.paint import Paint, Stand, blend, crowns_at, lay, lighter, mix, shadow_at
from geoseg.synthetic.parcels import Parcels
from geoseg.synthetic.place import Color, Place

_ORCHARD = Stand(7.0, 0.3, 0.46, 0.95, 0.25, 31)
_TREES = Stand(22.0, 0.1, 0.26, 1.0, 1.0, 32)
_PIVOT_M = 110.0
"""Narrower parcels are not watered in circles."""


def paint_fields(place: Place, ground: Parcels) -> Paint:
    """Paint farmland."""
    field, u, v, edge = _fields(ground)
    circle, from_center_m = _pivots(place, ground)
    field = np.where(circle, scramble(ground.parcel.view(np.int32), ground.district, 36), field)
    across = np.where(circle, from_center_m, np.where(chance(field, 1) < np.float32(0.5), u, v))
    paint = _crop(place, ground, field)
    paint = paint * (
        1 + _furrows(field, across) + np.float32(0.05) * value_noise(ground.x_m, ground.y_m, 2.4, place.salt(34))
    )
    paint = np.where(circle, paint, _bunds(place, ground, edge, paint))
    paint = _track(place, ground, paint)
    paint = _orchard(place, ground, field, paint)
    return _trees(place, ground, edge, paint)


def _fields(ground: Parcels) -> tuple[Words, Floats, Floats, Floats]:
    """Cut parcels into one to five fields side by side; return the field's word, position and distance to its edge."""
    count = 1 + np.floor(chance(ground.parcel, 5) * chance(ground.parcel, 15) * np.float32(6))
    along = chance(ground.parcel, 6) < np.float32(0.6)
    size = np.where(along, ground.length_m, ground.width_m) / count
    position = np.where(along, ground.u_m, ground.v_m)
    index = np.minimum(np.floor(position / size), count - 1)
    inside = position - index * size
    edge = np.minimum(ground.edge_m, np.minimum(inside, size - inside))
    return scramble(index.astype(np.int32), ground.parcel, 35), ground.u_m, ground.v_m, edge


def _pivots(place: Place, ground: Parcels) -> tuple[Mask, Floats]:
    """Return where a parcel is watered by an arm going round, and the distance to its pivot."""
    radius = np.float32(0.48) * np.minimum(ground.length_m, ground.width_m)
    east, south = ground.u_m - ground.length_m / 2, ground.v_m - ground.width_m / 2
    away = np.sqrt(east * east + south * south)
    round_field = (chance(ground.parcel, 22) < np.float32(place.pivots)) & (radius > np.float32(_PIVOT_M / 2))
    return round_field & (away < radius), away


def _crop(place: Place, ground: Parcels, field: Words) -> Paint:
    """Choose a crop for each field; the place's greenness says how many are green."""
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
    green_pick = np.float32(6) + np.floor(chance(field, 3) * np.float32(6))
    bare_pick = np.floor(chance(field, 4) * np.float32(6))
    # neighbors sow the same at the same time
    season = np.float32(place.greenness) + np.float32(0.5) * (chance(ground.district, 16) - np.float32(0.5))
    kind = np.where(chance(field, 2) < season, green_pick, bare_pick)
    kind = np.where(chance(field, 17) < np.float32(place.flooded), np.float32(12), kind).astype(np.int64)
    first = np.array([pair[0] for pair in kinds], np.float32).T[:, kind]
    second = np.array([pair[1] for pair in kinds], np.float32).T[:, kind]
    light = np.float32(0.85) + np.float32(0.3) * chance(field, 6)
    growth = fractal_noise(ground.x_m, ground.y_m, 55.0, 3, place.salt(33))
    paint = mix(first, second, smooth(-0.7, 0.7, growth)) * light
    # wet hollows and pale knolls go through all fields
    patchy = fractal_noise(ground.x_m, ground.y_m, 95.0, 4, place.salt(37))
    strength = np.float32(0.22 * place.mottle) * chance(field, 19)
    crop: Paint = paint * (1 + strength * patchy)
    return crop


def _furrows(field: Words, across: Floats) -> Floats:
    period = np.float32(1.6) + np.float32(5.0) * chance(field, 7)
    strength = np.float32(0.09) * chance(field, 8) * chance(field, 18)
    phase = across / period
    phase = phase - np.floor(phase)
    wave = np.float32(8) * phase * (1 - phase) - 1
    lane = across / (np.float32(12) + np.float32(14) * chance(field, 11))
    wheel = (lane - np.floor(lane)) < np.float32(0.045)
    furrows: Floats = wave * strength - np.where(wheel, np.float32(0.1) * chance(field, 12), np.float32(0))
    return furrows


def _bunds(place: Place, ground: Parcels, edge: Floats, paint: Paint) -> Paint:
    """Paint the edges of fields: earth, grass, or nothing that shows."""
    wide = np.float32(0.2) + np.float32(1.6) * chance(ground.district, 9)
    color = mix(lighter(place.soil, 1.12), lighter(place.grass, 0.95), chance(ground.district, 10))
    shown = np.float32(0.3) + np.float32(0.7) * chance(ground.district, 8)
    return np.where(edge < wide, paint + (color - paint) * shown, paint)


def _track(place: Place, ground: Parcels, paint: Paint) -> Paint:
    wide = np.where(chance(ground.parcel, 20) < np.float32(0.12), np.float32(2.0), 0)
    wide = np.where(chance(ground.district, 21) < np.float32(0.4), wide, 0)
    on_track = np.minimum(ground.v_m, ground.width_m - ground.v_m) < wide
    return lay(paint, on_track, lighter(place.soil, 1.25))


def _orchard(place: Place, ground: Parcels, field: Words, paint: Paint) -> Paint:
    planted = chance(field, 13) < np.float32(place.orchards)
    if not planted.any():
        return paint
    u, v = ground.u_m.astype(np.float64), ground.v_m.astype(np.float64)
    share = np.float32(0.45) + np.float32(0.55) * chance(field, 14)
    cover = crowns_at(place, _ORCHARD, u, v, share)
    sun_u, sun_v = ground.rotate(*place.sun)
    shade = crowns_at(place, _ORCHARD, u + 2.2 * sun_u, v + 2.2 * sun_v, share).cover
    paint = np.where(planted & shade, paint * np.float32(0.6), paint)
    leaf = mix(lighter(place.leaf, 0.9), lighter(place.leaf, 1.35), cover.height)
    return np.where(planted & cover.cover, leaf, paint)


def _trees(place: Place, ground: Parcels, edge: Floats, paint: Paint) -> Paint:
    if place.field_trees == 0:
        return paint
    share = np.float32(place.field_trees) * np.where(edge < np.float32(7), np.float32(1.8), np.float32(0.3))
    crown = crowns_at(place, _TREES, ground.x_m, ground.y_m, share)
    shade = shadow_at(place, _TREES, ground.x_m, ground.y_m, share)
    paint = np.where(shade, paint * np.float32(0.5), paint)
    leaf = mix(
        lighter(place.leaf, 0.75),
        lighter(place.leaf, 1.2),
        np.clip(np.float32(0.5) + np.float32(0.5) * crown.light, 0, 1),
    )
    return np.where(crown.cover, leaf, paint)
