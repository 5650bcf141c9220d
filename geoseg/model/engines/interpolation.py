"""From a network's coarse scores to the probabilities of a window: interpolation, softmax and weights, strip by strip.

Most networks score every second to eighth pixel and interpolate their scores. In ONNX Runtime, interpolation and
softmax take about ten steps over a whole window: 5 ms of processor time for 512 x 512 with 6 classes, and they push
everything else out of the cache. Strip by strip, the same takes 3 ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from geoseg.model.engines.engine import Weights

_STRIP_ROWS = 64
"""Rows of all classes that stay in the processor's cache while they are processed."""
_FAR = 80.0
"""Powers of e down to minus this are precise in float32."""


@lru_cache(maxsize=32)
def middles(
    fine_px: int, coarse_px: int, *, aligned: bool = False
) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float32]]:
    """Return the two coarse pixels whose centers enclose each fine pixel's along an axis, and the second's share.

    `aligned`: the centers of the outermost pixels coincide, as with torch's align_corners; else their edges do, and
    beyond the outermost centers only one pixel counts. Indexes are unsigned because kernels look them up faster.
    """
    place = np.arange(fine_px)
    position = place * (coarse_px - 1) / max(fine_px - 1, 1) if aligned else (place + 0.5) * coarse_px / fine_px - 0.5
    position = np.clip(position, 0, coarse_px - 1)
    below = np.minimum(position.astype(np.int64), max(coarse_px - 2, 0))
    above = np.minimum(below + 1, coarse_px - 1)
    return below.astype(np.uint32), above.astype(np.uint32), (position - below).astype(np.float32)


def fine_strips(
    scores: NDArray[np.float32], side_px: int, *, aligned: bool
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield rows of a window and their scores (class, row, col), interpolated from those of the whole window."""
    strips = [slice(start, start + _STRIP_ROWS) for start in range(0, side_px, _STRIP_ROWS)]
    if scores.shape[1:] == (side_px, side_px):
        yield from ((rows, scores[:, rows]) for rows in strips)
        return
    below, _, share = middles(side_px, scores.shape[1], aligned=aligned)
    wide = _between(scores, _steps(scores, 2), 2, below, share)
    steps = _steps(wide, 1)
    for rows in strips:
        yield rows, _between(wide, steps, 1, below[rows], share[rows, None])


def softmax(
    scores: NDArray[np.float32], weights: Weights, *, aligned: bool = False, temperature: float = 1.0
) -> NDArray[np.float32]:
    """Return probabilities, float32 (n, class, row, col), times the weights, from scores (n, class, row, col).

    Scores are interpolated to the size of the weights and divided by the temperature before the softmax. NaN and
    infinity give NaN, and so does minus infinity where it is interpolated.
    """
    count, side_px, _ = weights.shape
    fine = np.empty((count, scores.shape[1], side_px, side_px), np.float32)
    with np.errstate(all="ignore"):  # the caller reports values that are not finite
        for n in range(count):
            for rows, exponents in _exponent_strips(scores[n], side_px, np.float32(1 / temperature), aligned=aligned):
                powers = np.exp(exponents, out=exponents)
                factor = weights.rows[n, rows, None] * weights.cols[n]
                np.multiply(powers, np.divide(factor, powers.sum(axis=0), out=factor), out=fine[n, :, rows])
    return fine


def _exponent_strips(
    scores: NDArray[np.float32], side_px: int, sharpness: np.float32, *, aligned: bool
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield rows of a window and the exponents (class, row, col) of their softmax; the highest are 0 or a little less.

    The highest of each coarse score is subtracted before the interpolation, which is faster than after it. Where scores
    are far apart, the interpolated ones are less than any power that float32 holds, and the highest of each is
    subtracted again.
    """
    if scores.shape[1:] == (side_px, side_px):
        for rows, strip in fine_strips(scores, side_px, aligned=aligned):
            yield rows, _less_the_highest(strip, sharpness)
        return
    coarse = _less_the_highest(scores, sharpness)
    is_near = coarse.min() > -_FAR
    for rows, strip in fine_strips(coarse, side_px, aligned=aligned):
        yield rows, strip if is_near else _less_the_highest(strip, np.float32(1))


def _less_the_highest(scores: NDArray[np.float32], sharpness: np.float32) -> NDArray[np.float32]:
    """Return scores less the highest of each pixel, times the sharpness."""
    exponents: NDArray[np.float32] = scores - scores.max(axis=0)
    return np.multiply(exponents, sharpness, out=exponents)


def _steps(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return the difference of each value to the next along an axis, 0 for the last."""
    return np.diff(values, axis=axis, append=np.take(values, [-1], axis))


def _between(
    values: NDArray[np.float32],
    steps: NDArray[np.float32],
    axis: int,
    below: NDArray[np.uint32],
    share: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return values a share of a step beyond some along an axis."""
    fine = np.take(steps, below, axis)
    np.multiply(fine, share, out=fine)
    return np.add(fine, np.take(values, below, axis), out=fine)
