"""Forest: crowns over crowns, lit from one side, with dark gaps between."""

from __future__ import annotations

import numpy as np

from geoseg.synthetic.crowns import Stand, crowns_at
from geoseg.synthetic.noise import chance, fractal_noise, smooth, value_noise
from geoseg.synthetic.paint import Paint, lighter, mix
from geoseg.synthetic.parcels import Parcels
from geoseg.synthetic.place import Place

_LAYERS = (
    (Stand(5.2, 0.40, 0.5, 0.97, 1.0, 41), 0.0),
    (Stand(6.6, 0.38, 0.5, 0.9, 1.0, 42), 0.16),
    (Stand(9.5, 0.34, 0.5, 0.55, 1.0, 43), 0.34),
)


def paint_forest(place: Place, ground: Parcels) -> Paint:
    """Paint a closed canopy."""
    x = ground.x_m + 0.9 * value_noise(ground.x_m, ground.y_m, 3.1, place.salt(44))
    y = ground.y_m + 0.9 * value_noise(ground.x_m, ground.y_m, 3.1, place.salt(45))
    top = np.zeros(x.shape, np.float32)
    light = np.zeros(x.shape, np.float32)
    tone = np.zeros(x.shape, np.float32)
    for turn, (stand, base) in enumerate(_LAYERS):
        # each layer has its own directions, so that no lattice shows
        cosine, sine = ((1.0, 0.0), (0.8, 0.6), (0.28, 0.96))[turn]
        crown = crowns_at(place, stand, x * cosine + y * sine, y * cosine - x * sine)
        height = np.where(crown.cover, np.float32(base + 0.25) + np.float32(0.6) * crown.height, 0)
        higher = height > top
        sun_u, sun_v = place.sun[0] * cosine + place.sun[1] * sine, place.sun[1] * cosine - place.sun[0] * sine
        turned = crown.light * np.float32(0.5 * (sun_u * place.sun[0] + sun_v * place.sun[1]) + 0.5)
        top = np.where(higher, height, top)
        light = np.where(higher, turned, light)
        tone = np.where(higher, chance(crown.tree, 9), tone)
    stand_tone = smooth(-0.7, 0.7, fractal_noise(ground.x_m, ground.y_m, 90.0, 3, place.salt(46)))
    leaf = mix(
        lighter(place.leaf, 0.85),
        mix(place.leaf, place.grass, np.full(1, 0.35, np.float32)),
        np.float32(0.6) * stand_tone + np.float32(0.3) * tone,
    )
    bright = (
        np.float32(0.52)
        + np.float32(0.45) * np.minimum(top, 1)
        + np.float32(0.3) * light
        + np.float32(0.12) * (tone - np.float32(0.5))
    )
    canopy: Paint = leaf * np.clip(bright, np.float32(0.35), np.float32(1.6))
    return canopy
