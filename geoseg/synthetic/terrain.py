"""The slow fields of a place: where people farm, build, where woods stand, how far the river is.

They are evaluated on a lattice of every eighth pixel, anchored at the scene's origin, and interpolated: rivers and
shores come out smooth, at a sixty-fourth of the price.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoseg.raster import Window
from geoseg.synthetic.noise import Floats, Metres, fractal_noise, value_noise
from geoseg.synthetic.place import Place

STEP_PX = 8


@dataclass(frozen=True, slots=True)
class Terrain:
    """Slow fields at each pixel of a window, (row, col), float32."""

    wood: Floats
    bare: Floats
    lake: Floats
    sea: Floats
    river_m: Floats
    """Metres to the middle of the nearest river, about."""
    bank: Floats
    """What grows on the banks here, -1 to 1."""
    cloud: Floats
    tone: Floats
    """Slow drift of brightness, -1 to 1."""
    slope: Floats
    """How steeply the ground falls towards the sun; deviation about 0.4 in hills."""


def terrain_of(place: Place, window: Window, gsd_m: float) -> Terrain:
    """Evaluate the slow fields of a window (it may lie anywhere)."""
    rows = np.arange(window.row // STEP_PX, (window.row_stop - 1) // STEP_PX + 2)
    cols = np.arange(window.col // STEP_PX, (window.col_stop - 1) // STEP_PX + 2)
    y, x = np.meshgrid(rows * (STEP_PX * gsd_m), cols * (STEP_PX * gsd_m), indexing="ij")
    bent_x, bent_y = bend(place, x, y)

    nothing = np.zeros(x.shape, np.float32)

    def spread(field: Floats) -> Floats:
        return _interpolate(field, window)

    return Terrain(
        wood=spread(fractal_noise(bent_x, bent_y, 520.0, 5, place.salt(1))),
        bare=spread(fractal_noise(bent_x, bent_y, 430.0, 4, place.salt(2))),
        lake=spread(fractal_noise(bent_x, bent_y, 620.0, 3, place.salt(3))),
        sea=spread(fractal_noise(bent_x, bent_y, 3600.0, 5, place.salt(4)) if place.has_sea else nothing),
        river_m=spread(_river_distance(place, x, y) if place.has_river else nothing),
        bank=spread(fractal_noise(x, y, 300.0, 3, place.salt(5))),
        cloud=spread(fractal_noise(x, y, 800.0, 6, place.salt(6)) if place.has_clouds else nothing),
        tone=spread(fractal_noise(x, y, 900.0, 2, place.salt(7))),
        slope=spread(_slope(place, x, y) if place.relief else nothing),
    )


def bend(place: Place, x_m: Metres, y_m: Metres) -> tuple[Metres, Metres]:
    """Move positions by up to 60 m, so that nothing follows the noise's lattice."""
    return (
        x_m + 60.0 * fractal_noise(x_m, y_m, 230.0, 2, place.salt(8)),
        y_m + 60.0 * fractal_noise(x_m, y_m, 230.0, 2, place.salt(9)),
    )


def _river_distance(place: Place, x_m: Metres, y_m: Metres) -> Floats:
    # a level set of noise over its slope: about the distance, so the width stays the same along the river
    here = _river_field(place, x_m, y_m)
    east = (_river_field(place, x_m + 5.0, y_m) - here) / np.float32(5)
    south = (_river_field(place, x_m, y_m + 5.0) - here) / np.float32(5)
    slope = np.sqrt(east * east + south * south)
    away_m: Floats = np.abs(here) / np.maximum(slope, np.float32(2e-4))
    return away_m


def _slope(place: Place, x_m: Metres, y_m: Metres) -> Floats:
    here = fractal_noise(x_m, y_m, 360.0, 4, place.salt(13))
    sunward = fractal_noise(x_m + 24.0 * place.sun[0], y_m + 24.0 * place.sun[1], 360.0, 4, place.salt(13))
    fall: Floats = np.float32(2.2) * (here - sunward)
    return fall


def _river_field(place: Place, x_m: Metres, y_m: Metres) -> Floats:
    east = x_m + 130.0 * value_noise(x_m, y_m, 420.0, place.salt(10))
    south = y_m + 130.0 * value_noise(x_m, y_m, 420.0, place.salt(11))
    return value_noise(east, south, 2300.0, place.salt(12)) + np.float32(0.1)


def _interpolate(field: Floats, window: Window) -> Floats:
    rows = np.arange(window.row, window.row_stop)
    cols = np.arange(window.col, window.col_stop)
    top = rows // STEP_PX - window.row // STEP_PX
    left = cols // STEP_PX - window.col // STEP_PX
    down = ((rows % STEP_PX) / STEP_PX).astype(np.float32)[:, None]
    across = ((cols % STEP_PX) / STEP_PX).astype(np.float32)[None, :]
    wide = field[:, left] + (field[:, left + 1] - field[:, left]) * across
    result: Floats = wide[top] + (wide[top + 1] - wide[top]) * down
    return result
