"""Farmland: crops, furrows, wheel tracks, bunds, orchards, single trees."""

from __future__ import annotations

import numpy as np

from geoseg.synthetic.crowns import Stand, crowns_at, shadow_at
from geoseg.synthetic.noise import Floats, Words, chance, fractal_noise, scramble, smooth, value_noise
from geoseg.synthetic.paint import Paint, blend, lay, lighter, mix
from geoseg.synthetic.parcels import Parcels
from geoseg.synthetic.place import Color, Place

_ORCHARD = Stand(7.0, 0.3, 0.46, 0.95, 0.25, 31)
_TREES = Stand(22.0, 0.1, 0.26, 1.0, 1.0, 32)


def paint_fields(place: Place, ground: Parcels) -> Paint:
    """Paint farmland."""
    field, u, v, edge = _fields(ground)
    upright = chance(field, 1) < np.float32(0.5)
    across = np.where(upright, u, v)
    growth = fractal_noise(ground.x_m, ground.y_m, 55.0, 3, place.salt(33))
    paint = _crop(place, field, growth)
    paint = paint * (
        1 + _furrows(field, across) + np.float32(0.05) * value_noise(ground.x_m, ground.y_m, 2.4, place.salt(34))
    )
    bund = edge < np.float32(0.5) + np.float32(1.0) * chance(ground.district, 9)
    paint = lay(paint, bund, mix(lighter(place.soil, 1.15), lighter(place.grass, 0.95), chance(ground.district, 10)))
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


def _crop(place: Place, field: Words, growth: Floats) -> Paint:
    """Choose a crop for each field; the place's greenness says how many are green."""
    green: Color = blend((0.27, 0.40, 0.18), place.leaf, 0.35)
    kinds: tuple[tuple[Color, Color], ...] = (
        (place.soil, lighter(place.soil, 0.88)),
        (lighter(place.soil, 1.18), blend(place.soil, place.grass, 0.3)),
        (blend(place.soil, place.grass, 0.6), lighter(place.grass, 1.1)),
        (blend((0.62, 0.55, 0.36), place.soil, 0.35), blend((0.55, 0.50, 0.33), place.grass, 0.3)),
        (blend(place.grass, green, 0.5), blend(place.soil, green, 0.6)),
        (green, lighter(green, 0.85)),
        (blend(green, (0.35, 0.50, 0.22), 0.6), green),
        (lighter(place.leaf, 1.15), lighter(place.leaf, 0.95)),
        (blend(place.water, green, 0.65), blend(place.water, place.grass, 0.7)),
    )
    pick = chance(field, 2)
    green_pick = np.float32(4) + np.floor(np.sqrt(chance(field, 3)) * np.float32(4.3))
    bare_pick = np.floor(chance(field, 4) * np.float32(4.4))
    kind = np.where(pick < np.float32(place.greenness), green_pick, bare_pick).astype(np.int64)
    first = np.array([pair[0] for pair in kinds], np.float32).T[:, kind]
    second = np.array([pair[1] for pair in kinds], np.float32).T[:, kind]
    light = np.float32(0.9) + np.float32(0.2) * chance(field, 6)
    return mix(first, second, smooth(-0.7, 0.7, growth)) * light


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
    cover = crowns_at(place, _ORCHARD, u, v)
    sun_u, sun_v = ground.rotate(*place.sun)
    shade = crowns_at(place, _ORCHARD, u + 2.2 * sun_u, v + 2.2 * sun_v).cover
    paint = np.where(planted & shade, paint * np.float32(0.6), paint)
    leaf = mix(lighter(place.leaf, 0.9), lighter(place.leaf, 1.35), cover.height)
    return np.where(planted & cover.cover, leaf, paint)


def _trees(place: Place, ground: Parcels, edge: Floats, paint: Paint) -> Paint:
    if place.field_trees == 0:
        return paint
    share = np.float32(place.field_trees) * np.where(edge < np.float32(7), np.float32(1.6), np.float32(0.45))
    crown = crowns_at(place, _TREES, ground.x_m, ground.y_m, share)
    shade = shadow_at(place, _TREES, ground.x_m, ground.y_m, share)
    paint = np.where(shade, paint * np.float32(0.5), paint)
    leaf = mix(
        lighter(place.leaf, 0.75),
        lighter(place.leaf, 1.2),
        np.clip(np.float32(0.5) + np.float32(0.5) * crown.light, 0, 1),
    )
    return np.where(crown.cover, leaf, paint)
