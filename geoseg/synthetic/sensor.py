"""The camera: haze, colour cast, blur, grain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from geoseg.synthetic.noise import Floats, scramble
from geoseg.synthetic.place import Place

HALO_PX = 4
"""Pixels around a window that its blur needs."""


def photograph(place: Place, paint: Floats, row: int, col: int, tone: Floats) -> npt.NDArray[np.uint8]:
    """Turn colours (3, row, col) with a halo into bytes without it; row and col are those of the first byte."""
    sharp = _blur(paint, place.blur_px)
    height, width = sharp.shape[1:]
    rows, cols = np.meshgrid(
        np.arange(row, row + height, dtype=np.int32), np.arange(col, col + width, dtype=np.int32), indexing="ij"
    )
    inner = tone[HALO_PX : HALO_PX + height, HALO_PX : HALO_PX + width]
    haze = np.float32(place.haze) * (1 + np.float32(0.35) * inner)
    picture = np.empty(sharp.shape, np.uint8)
    for band in range(3):
        level = (sharp[band] - np.float32(0.38)) * np.float32(place.contrast) + np.float32(0.38)
        level = level * np.float32(place.gain[band]) * (1 + np.float32(0.04) * inner)
        level = level + (np.float32(place.haze_color[band]) - level) * haze
        word = scramble(rows, cols, place.salt(95 + band))
        # four bytes of one word: nearly a bell
        grain = (word & 255) + ((word >> 8) & 255) + ((word >> 16) & 255) + (word >> 24)
        noise = (grain.astype(np.float32) - np.float32(510)) * np.float32(place.grain / 147.8)
        picture[band] = np.clip(level * np.float32(255) + noise + np.float32(0.5), 0, 255).astype(np.uint8)
    return picture


def _blur(paint: Floats, sigma_px: float) -> Floats:
    """Blur by a Gaussian of nine taps, summed in one order, so that the bits do not depend on the window."""
    taps = np.exp(-0.5 * (np.arange(-HALO_PX, HALO_PX + 1) / sigma_px) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    height, width = paint.shape[1] - 2 * HALO_PX, paint.shape[2] - 2 * HALO_PX
    down = paint[:, :height] * taps[0]
    for step in range(1, taps.size):
        down = down + paint[:, step : step + height] * taps[step]
    across: Floats = down[:, :, :width] * taps[0]
    for step in range(1, taps.size):
        across = across + down[:, :, step : step + width] * taps[step]
    return across
