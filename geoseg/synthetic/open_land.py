"""Open land: rangeland, bare ground and water.

Grass in patches, green or dry, fenced pasture, bushes and trees with shadows, foot tracks, burns; bright soil, gullies,
diggings, sand; water that is darker where it is deep, and a little rippled.
"""

from __future__ import annotations

import numpy as np

from geoseg.synthetic.noise import Floats, chance, fractal_noise, smooth, value_noise
from geoseg.synthetic.paint import Paint, Stand, blend, crowns_at, lay, lighter, mix, shadow_at
from geoseg.synthetic.parcels import Parcels
from geoseg.synthetic.place import Color, Place

_SHRUBS = Stand(9.0, 0.08, 0.2, 1.0, 1.0, 71)


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
