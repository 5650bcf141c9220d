"""Forest: crowns over crowns, lit from one side, with gaps between; green, turned or leafless, wild or in rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoseg.synthetic.noise import Floats, Mask, chance, fractal_noise, smooth, value_noise
from geoseg.synthetic.paint import Crowns, Paint, Stand, blend, crowns_at, lighter, mix
from geoseg.synthetic.parcels import Parcels
from geoseg.synthetic.place import Color, Place

_LAYERS = (
    (Stand(5.2, 0.40, 0.5, 0.97, 1.0, 41), 0.0),
    (Stand(6.6, 0.38, 0.5, 0.9, 1.0, 42), 0.16),
    (Stand(9.5, 0.34, 0.5, 0.55, 1.0, 43), 0.34),
)
_ROWS = Stand(4.6, 0.42, 0.5, 0.97, 0.2, 47)
_TURNS = ((1.0, 0.0), (0.8, 0.6), (0.28, 0.96))
"""Each layer has its own directions, so that no lattice shows."""


@dataclass(frozen=True, slots=True)
class _Canopy:
    top: Floats
    """0 where no crown is, about 1 at the highest tops."""
    light: Floats
    tone: Floats
    """One number for each tree, 0 to 1."""
    turned: Floats
    """One number for each tree, 0 to 1: who loses the leaves first."""


def paint_forest(place: Place, ground: Parcels) -> Paint:
    """Paint a canopy."""
    planted = chance(ground.parcel, 62) < np.float32(place.plantations)
    canopy = _canopy(place, ground, planted)
    stand_tone = smooth(-0.7, 0.7, fractal_noise(ground.x_m, ground.y_m, 90.0, 3, place.salt(46)))
    leaf = mix(
        lighter(place.leaf, 0.85),
        blend(place.leaf, place.grass, 0.4),
        np.float32(0.6) * stand_tone + np.float32(0.3) * canopy.tone,
    )
    if place.autumn:
        # stands turn together, and trees in them one by one
        early = np.float32(place.autumn) + np.float32(0.8) * (stand_tone - np.float32(0.5)) * np.float32(place.autumn)
        autumn = mix(place.autumn_leaf, lighter(place.autumn_leaf, 1.25), canopy.tone)
        turned = smooth(-0.2, 0.35, early - canopy.turned) * np.float32(0.8)
        leaf = mix(leaf, autumn, np.where(planted, np.float32(0), turned))
    bright = (
        np.float32(0.5)
        + np.float32(0.45) * np.minimum(canopy.top, 1)
        + np.float32(0.3) * canopy.light
        + np.float32(0.25) * (canopy.tone - np.float32(0.5))
    )
    painted: Paint = leaf * np.float32(place.canopy_light) * np.clip(bright, np.float32(0.35), np.float32(1.6))
    floor: Color = blend(place.grass, blend(place.soil, place.straw, 0.5 * place.dryness), 0.4)
    gap = (canopy.top == 0) * np.float32(min(1.0, 2.5 * place.canopy_gaps))
    return mix(painted, lighter(floor, 0.72), gap)


def _canopy(place: Place, ground: Parcels, planted: Mask) -> _Canopy:
    x = ground.x_m + 0.9 * value_noise(ground.x_m, ground.y_m, 3.1, place.salt(44))
    y = ground.y_m + 0.9 * value_noise(ground.x_m, ground.y_m, 3.1, place.salt(45))
    thin = smooth(-0.6, 0.6, fractal_noise(ground.x_m, ground.y_m, 70.0, 3, place.salt(48)))
    share = 1 - np.float32(1.6 * place.canopy_gaps) * thin
    empty = np.zeros(x.shape, np.float32)
    canopy = _Canopy(empty, empty, empty, empty)
    for (stand, base), (cosine, sine) in zip(_LAYERS, _TURNS, strict=True):
        scaled = Stand(
            stand.spacing_m * place.crown_scale, stand.smallest, stand.largest, stand.share, stand.jitter, stand.salt
        )
        here = np.where(planted, np.float32(0), np.float32(stand.share) * share)
        crown = crowns_at(place, scaled, x * cosine + y * sine, y * cosine - x * sine, here)
        sun_u, sun_v = place.sun[0] * cosine + place.sun[1] * sine, place.sun[1] * cosine - place.sun[0] * sine
        canopy = _over(canopy, crown, base, np.float32(0.5 * (sun_u * place.sun[0] + sun_v * place.sun[1]) + 0.5))
    if planted.any():
        rows = np.where(planted, np.float32(_ROWS.share), np.float32(0))
        crown = crowns_at(place, _ROWS, ground.u_m.astype(np.float64), ground.v_m.astype(np.float64), rows)
        canopy = _over(canopy, crown, 0.25, np.float32(0.8))
    return canopy


def _over(under: _Canopy, crown: Crowns, base: float, share: np.float32) -> _Canopy:
    """Let crowns hide what is lower; share says how much of their light counts."""
    height = np.where(crown.cover, np.float32(base + 0.25) + np.float32(0.6) * crown.height, 0)
    higher = height > under.top
    return _Canopy(
        np.where(higher, height, under.top),
        np.where(higher, crown.light * share, under.light),
        np.where(higher, chance(crown.tree, 9), under.tone),
        np.where(higher, chance(crown.tree, 10), under.turned),
    )
