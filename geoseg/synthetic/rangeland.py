"""Rangeland: grass in patches, bushes with shadows, foot tracks."""

from __future__ import annotations

import numpy as np

from geoseg.synthetic.crowns import Stand, crowns_at, shadow_at
from geoseg.synthetic.noise import chance, fractal_noise, smooth, value_noise
from geoseg.synthetic.paint import Paint, blend, lay, lighter, mix
from geoseg.synthetic.parcels import Parcels
from geoseg.synthetic.place import Place

_BUSHES = Stand(5.5, 0.12, 0.34, 1.0, 1.0, 51)
_TREES = Stand(17.0, 0.12, 0.3, 1.0, 1.0, 52)


def paint_rangeland(place: Place, ground: Parcels) -> Paint:
    """Paint open land that is not farmed."""
    x, y = ground.x_m, ground.y_m
    patches = fractal_noise(x, y, 48.0, 5, place.salt(53))
    wide = fractal_noise(x, y, 210.0, 3, place.salt(54))
    fine = value_noise(x, y, 1.3, place.salt(55))
    green = blend(place.grass, place.leaf, 0.45)
    paint = mix(blend(place.grass, place.soil, 0.55), place.grass, smooth(-0.6, 0.5, patches))
    paint = mix(paint, green, np.float32(0.75) * smooth(-0.1, 0.9, wide + np.float32(0.3) * patches))
    paint = paint * (1 + np.float32(0.07) * fine + np.float32(0.05) * patches)
    path = np.abs(fractal_noise(x, y, 190.0, 2, place.salt(56)))
    paint = lay(paint, path < np.float32(0.008), lighter(place.soil, 1.12))
    bushy = smooth(-0.5, 0.9, fractal_noise(x, y, 120.0, 3, place.salt(57)) - np.float32(0.2))
    for stand, share in ((_BUSHES, np.float32(0.75) * bushy), (_TREES, np.float32(0.5) * bushy * bushy)):
        crown = crowns_at(place, stand, x, y, share)
        paint = np.where(shadow_at(place, stand, x, y, share), paint * np.float32(0.62), paint)
        light = np.float32(0.85) + np.float32(0.3) * crown.light + np.float32(0.25) * chance(crown.tree, 8)
        paint = np.where(
            crown.cover, mix(blend(place.leaf, place.grass, 0.25), green, np.full(1, 0.2, np.float32)) * light, paint
        )
    return paint
