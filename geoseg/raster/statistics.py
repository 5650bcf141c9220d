"""Mean, spread and range of each band, from a small part of the pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.raster.windows import Window

LOW_PERCENT, HIGH_PERCENT = 2.0, 98.0
_SAMPLES_A_SIDE = 8
_SAMPLE_PX = 64


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Per band, in the order of the bands used, in stored units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    """The 2nd percentile."""
    high: tuple[float, ...]
    """The 98th percentile."""


def band_statistics(pixels: NDArray[np.generic]) -> BandStatistics | None:
    """Measure pixels (band, n), all valid; None without pixels."""
    if pixels.shape[1] == 0:
        return None
    values = pixels.astype(np.float64)
    low, high = np.percentile(values, (LOW_PERCENT, HIGH_PERCENT), axis=1)
    return BandStatistics(*(tuple(map(float, row)) for row in (values.mean(axis=1), values.std(axis=1), low, high)))


def sample_windows(shape: tuple[int, int], block_shape: tuple[int, int]) -> Iterator[tuple[Window, int]]:
    """Yield up to 64 stored blocks spread over a raster, each with the step that thins it to about 64 x 64 pixels.

    A file without overviews is sampled so: a decimated read of it would decode every block.
    """
    for row in _spread(shape[0], block_shape[0]):
        for col in _spread(shape[1], block_shape[1]):
            height, width = min(block_shape[0], shape[0] - row), min(block_shape[1], shape[1] - col)
            yield Window(row, col, height, width), max(1, round((height * width / _SAMPLE_PX**2) ** 0.5))


def _spread(length_px: int, block_px: int) -> list[int]:
    blocks = -(-length_px // block_px)
    samples = min(blocks, _SAMPLES_A_SIDE if block_px > 1 else _SAMPLES_A_SIDE**2)
    return [round((step + 0.5) * blocks / samples - 0.5) * block_px for step in range(samples)]
