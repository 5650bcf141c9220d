"""Pixels held against their reference in one pass: what was mapped, how sure and how right it was, and the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.evaluation import BINS, Calibration, bin_of
from geoseg.legend import NODATA

_LEAST_PROBABILITY = 1e-7
"""Where the network is wholly sure and wrong: the loss stays finite."""
_FACTORS = 32
"""Probabilities multiplied before a logarithm is taken of them: 1e-7 to this power is still a number."""


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """What one pass over some pixels found."""

    channel: NDArray[np.uint8]
    """(row, col): the most probable channel of every pixel, counted or not; of equal ones the first."""
    pixels: NDArray[np.int64]
    """(reference, map), by channel."""
    calibration: Calibration
    loss_sum: float
    """Negative log-likelihood of the pixels counted; nan where a probability of one is no number."""


def count(probabilities: NDArray[np.float32], truth: NDArray[np.uint8]) -> Counts:
    """Count pixels by their probabilities (channel, row, col) and true channel (row, col), 255 = not to be counted."""
    channels = len(probabilities)
    channel = np.empty(truth.shape, np.uint8)
    pixels = np.zeros((channels, channels), np.int64)
    count_px, right_px, confidence_sum = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64), np.zeros(BINS)
    loss_sum = _count(probabilities, truth, channel, pixels, count_px, right_px, confidence_sum)
    return Counts(channel, pixels, Calibration(count_px, right_px, confidence_sum), loss_sum)


@njit(cache=True, nogil=True)
def _count(  # noqa: PLR0913, PLR0917 - a kernel takes flat arrays
    probabilities: Any,  # noqa: ANN401
    truth: Any,  # noqa: ANN401
    channel: Any,  # noqa: ANN401
    pixels: Any,  # noqa: ANN401
    count_px: Any,  # noqa: ANN401
    right_px: Any,  # noqa: ANN401
    confidence_sum: Any,  # noqa: ANN401
) -> float:
    """Fill the arrays, which hold zeros, and return the loss."""
    loss_sum, product, factors = 0.0, 1.0, 0
    for row in range(truth.shape[0]):
        for col in range(truth.shape[1]):
            best, most = 0, probabilities[0, row, col]
            for index in range(1, probabilities.shape[0]):
                if probabilities[index, row, col] > most:
                    best, most = index, probabilities[index, row, col]
            channel[row, col] = best
            wanted = truth[row, col]
            if wanted == NODATA:
                continue
            if not most >= 0.0:
                loss_sum = math.nan
                continue
            pixels[wanted, best] += 1
            confidence = min(max(float(most), 0.0), 1.0)  # sums of weights end a hair above 1
            place = bin_of(confidence, len(count_px))
            count_px[place] += 1
            right_px[place] += wanted == best
            confidence_sum[place] += confidence
            product *= max(float(probabilities[wanted, row, col]), _LEAST_PROBABILITY)
            factors += 1
            if factors == _FACTORS:
                loss_sum, product, factors = loss_sum - math.log(product), 1.0, 0
    return loss_sum - math.log(product)
