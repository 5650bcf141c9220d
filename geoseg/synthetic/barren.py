"""Bare ground: bright soil, gullies, diggings, sand."""

from __future__ import annotations

import numpy as np

from geoseg.synthetic.crowns import Stand, crowns_at, shadow_at
from geoseg.synthetic.noise import Floats, fractal_noise, smooth, value_noise
from geoseg.synthetic.paint import Paint, blend, lighter, mix
from geoseg.synthetic.parcels import Parcels
from geoseg.synthetic.place import Place

_SHRUBS = Stand(9.0, 0.08, 0.2, 1.0, 1.0, 71)


def paint_barren(place: Place, ground: Parcels, sand: Floats) -> Paint:
    """Paint bare ground; sand 1 is a smooth bright beach, 0 is broken soil."""
    x, y = ground.x_m, ground.y_m
    heaps = fractal_noise(x, y, 34.0, 5, place.salt(72))
    wide = smooth(-0.6, 0.6, fractal_noise(x, y, 150.0, 3, place.salt(73)))
    paint = mix(lighter(place.soil, 1.05), blend(lighter(place.soil, 1.3), place.rock, 0.4), wide)
    rocky = smooth(0.0, 0.5, fractal_noise(x, y, 210.0, 4, place.salt(77)))
    paint = mix(paint, place.rock, np.float32(0.9) * rocky)
    # diggings: benches cut into the ground, one lit edge each
    bench = fractal_noise(x, y, 260.0, 2, place.salt(78)) * np.float32(14)
    step_share = bench - np.floor(bench)
    dug = smooth(0.3, 0.5, fractal_noise(x, y, 420.0, 2, place.salt(79)))
    paint = paint * (1 + dug * (np.float32(0.16) * step_share - np.float32(0.2) * (step_share < np.float32(0.12))))
    gully = np.abs(fractal_noise(x, y, 70.0, 4, place.salt(74)))
    rough = np.float32(0.24) * heaps - np.float32(0.27) * (1 - smooth(0.0, 0.12, gully)) * (1 - wide * np.float32(0.6))
    # light on the heaps: the slope towards the sun
    step = 1.5
    slope = heaps - fractal_noise(x + step * place.sun[0], y + step * place.sun[1], 34.0, 5, place.salt(72))
    rough = rough + np.clip(np.float32(0.9) * slope, -0.3, 0.3)
    # a plain lies flat, hills are torn
    rough = rough * np.float32(0.35 + 0.8 * place.relief)
    paint = paint * (1 + rough * (1 - np.float32(0.8) * sand))
    beach = blend(lighter(place.soil, 1.35), (0.70, 0.66, 0.58), 0.6)
    paint = mix(paint, beach, np.float32(0.8) * sand)
    paint = paint * (1 + np.float32(0.05) * value_noise(x, y, 1.6, place.salt(75)))
    share = np.float32(0.22) * smooth(-0.2, 0.7, fractal_noise(x, y, 60.0, 2, place.salt(76))) * (1 - sand)
    crown = crowns_at(place, _SHRUBS, x, y, share)
    paint = np.where(shadow_at(place, _SHRUBS, x, y, share), paint * np.float32(0.7), paint)
    return np.where(crown.cover, mix(place.grass, place.leaf, crown.height), paint)
