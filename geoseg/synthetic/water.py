"""Water: smooth, darker where deep, a little rippled."""

from __future__ import annotations

import numpy as np

from geoseg.synthetic.noise import Floats, fractal_noise, smooth, value_noise
from geoseg.synthetic.paint import Paint, blend, lighter, mix
from geoseg.synthetic.parcels import Parcels
from geoseg.synthetic.place import Place


def paint_water(place: Place, ground: Parcels, depth: Floats) -> Paint:
    """Paint water; depth 0 at the shore, 1 in the middle."""
    x, y = ground.x_m, ground.y_m
    silt = smooth(-0.6, 0.8, fractal_noise(x, y, 520.0, 4, place.salt(61)))
    paint = mix(place.water, blend(place.water, place.soil, 0.3), silt)
    paint = mix(blend(place.water, place.soil, 0.45), paint, np.float32(0.45) + np.float32(0.55) * depth)
    paint = mix(paint, lighter(place.water, 0.85), np.float32(0.4) * depth)
    weeds = smooth(0.25, 0.5, fractal_noise(x, y, 130.0, 4, place.salt(63))) * (1 - depth)
    paint = mix(paint, blend(place.water, place.grass, 0.6), np.float32(place.dryness < 0.4) * weeds)
    ripples = value_noise(x + 0.6 * y, 0.35 * y, 2.6, place.salt(62)) * (np.float32(0.5) + silt)
    return paint * (1 + np.float32(0.022) * ripples)
