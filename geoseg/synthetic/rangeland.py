"""Rangeland: grass in patches, green or dry, fenced pasture, bushes and trees with shadows, foot tracks, burns."""

from __future__ import annotations

import numpy as np

from geoseg.synthetic.crowns import Stand, crowns_at, shadow_at
from geoseg.synthetic.noise import Floats, chance, fractal_noise, smooth, value_noise
from geoseg.synthetic.paint import Paint, blend, lay, lighter, mix
from geoseg.synthetic.parcels import Parcels
from geoseg.synthetic.place import Color, Place


def paint_rangeland(place: Place, ground: Parcels) -> Paint:
    """Paint open land that is not farmed."""
    fenced = chance(ground.parcel, 60) < np.float32(place.pasture)
    paint = _grass(place, ground, np.where(fenced, np.float32(0.35), np.float32(1)))
    tone = np.float32(0.88) + np.float32(0.24) * chance(ground.parcel, 61)
    fence = fenced & (ground.edge_m < np.float32(0.8))
    paint = np.where(fenced, paint * tone, paint) * np.where(fence, np.float32(0.8), np.float32(1))
    path = np.abs(fractal_noise(ground.x_m, ground.y_m, 190.0, 2, place.salt(56)))
    paint = lay(paint, path < np.float32(0.008), lighter(place.soil, 1.12))
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
    lush = smooth(-0.5 + 1.1 * place.dryness, 0.5 + 1.1 * place.dryness, wide + np.float32(0.3) * patches)
    paint = mix(paint, green, np.float32(0.85) * lush)
    if place.savanna > 0.6 and place.dryness > 0.5:
        burnt = smooth(0.35, 0.5, fractal_noise(x, y, 330.0, 4, place.salt(58)))
        paint = mix(paint, (0.20, 0.18, 0.16), np.float32(0.7) * burnt)
    return paint * (1 + np.float32(0.07) * fine + np.float32(0.06) * patches)


def _bushes(place: Place, ground: Parcels, paint: Paint, share_here: Floats) -> Paint:
    x, y = ground.x_m, ground.y_m
    bushy = smooth(-0.5, 0.9, fractal_noise(x, y, 120.0, 3, place.salt(57)) - np.float32(0.2)) * share_here
    many = np.float32(0.25 + 0.75 * place.savanna)
    scale = place.crown_scale
    stands = (
        (Stand(5.5 * scale, 0.12, 0.34, 1.0, 1.0, 51), np.float32(0.9) * many * bushy),
        (Stand(14.0 * scale, 0.12, 0.32, 1.0, 1.0, 52), many * np.float32(0.6) * np.sqrt(bushy)),
    )
    leaf: Color = blend(blend(place.leaf, place.autumn_leaf, 0.6 * place.autumn), place.grass, 0.25)
    for stand, share in stands:
        crown = crowns_at(place, stand, x, y, share)
        paint = np.where(shadow_at(place, stand, x, y, share), paint * np.float32(0.62), paint)
        light = np.float32(0.85) + np.float32(0.3) * crown.light + np.float32(0.3) * chance(crown.tree, 8)
        paint = np.where(crown.cover, mix(leaf, lighter(leaf, 1.3), crown.height) * light, paint)
    return paint
