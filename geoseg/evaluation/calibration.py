"""Whether a map is right as often as its confidence says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit
from geoseg.errors import SceneError, UsageError
from geoseg.evaluation.metrics import json_number, shares

BINS = 10
"""Bins of the reliability table: each spans a tenth of the confidence."""


@njit(cache=True, nogil=True)
def bin_of(confidence: float, bins: int) -> int:
    """Return the bin of a confidence from 0 to 1."""
    # A little less, so that 0.3, as float32 or as 30 / 100, is in the bin that ends at 0.3.
    return min(max(math.ceil(confidence * bins - 1e-6) - 1, 0), bins - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A reliability table: pixels by confidence, and how many of them are right.

    Bins have equal width and include their upper edge, as in Guo et al. 2017 (arXiv 1706.04599, eq. 3): the first of
    ten bins is 0 to 0.1, the second above 0.1 to 0.2.
    """

    count_px: NDArray[np.int64]
    """(bin,)"""
    right_px: NDArray[np.int64]
    """(bin,)"""
    confidence_sum: NDArray[np.float64]
    """(bin,)"""

    @classmethod
    def empty(cls, bins: int = BINS) -> Self:
        """Return a table without pixels."""
        return cls(np.zeros(bins, np.int64), np.zeros(bins, np.int64), np.zeros(bins))

    @classmethod
    def from_arrays(cls, confidence: NDArray[Any], right: NDArray[np.bool_], bins: int = BINS) -> Self:
        """Count pixels (pixel,) by confidence. UsageError if one is outside 0 to 1."""
        if len(confidence) and not (confidence.min() >= 0 and confidence.max() <= 1):
            raise UsageError(f"confidence must be 0 to 1, got {confidence.min():g} to {confidence.max():g}")
        indices = _bins_of(confidence, bins)
        sums = np.bincount(indices, weights=confidence, minlength=bins).astype(np.float64)
        return cls(np.bincount(indices, minlength=bins), np.bincount(indices[right], minlength=bins), sums)

    @classmethod
    def of_stored(cls, stored: NDArray[Any], right: NDArray[np.bool_], name: str) -> Self:
        """Count pixels (pixel,) by confidence as stored in a raster: integers are percent, as predict writes them.

        SceneError, which names the raster, if values are out of range.
        """
        is_percent = stored.dtype.kind in "iu"
        if len(stored) and not (stored.min() >= 0 and stored.max() <= (100 if is_percent else 1)):
            expected = "integers must be percent, 0 to 100" if is_percent else "floating point must be 0 to 1"
            raise SceneError(f"{name} holds values from {stored.min():g} to {stored.max():g}; confidence as {expected}")
        if not is_percent:
            return cls.from_arrays(stored.astype(np.float64), right)
        counts = np.bincount(stored.astype(np.intp) + 101 * right, minlength=202).reshape(2, 101)
        return cls.from_percent(counts.sum(axis=0), counts[1])

    @classmethod
    def from_percent(cls, count_px: NDArray[np.int64], right_px: NDArray[np.int64], bins: int = BINS) -> Self:
        """Build the table from pixel counts by percent (101,): of all pixels, and of those that are right."""
        percent = np.arange(101)
        indices = np.maximum(-(-percent * bins // 100) - 1, 0)
        table = cls.empty(bins)
        np.add.at(table.count_px, indices, count_px)
        np.add.at(table.right_px, indices, right_px)
        np.add.at(table.confidence_sum, indices, count_px * percent / 100)
        return table

    def merge(self, other: Calibration) -> Self:
        """Return the sum of two tables."""
        return type(self)(
            self.count_px + other.count_px,
            self.right_px + other.right_px,
            self.confidence_sum + other.confidence_sum,
        )

    @property
    def pixels(self) -> int:
        """Number of pixels counted."""
        return int(self.count_px.sum())

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """The share of right pixels in each bin (bin,), nan for an empty one."""
        return shares(self.right_px, self.count_px)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The mean confidence in each bin (bin,), nan for an empty one."""
        return shares(self.confidence_sum, self.count_px)

    @property
    def error(self) -> float:
        """The expected calibration error (Guo et al. 2017, eq. 3): the mean gap, with bins weighted by their pixels."""
        if not self.pixels:
            return math.nan
        return float(np.abs(self.right_px - self.confidence_sum).sum() / self.pixels)

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        edges = np.linspace(0, 1, len(self.count_px) + 1)
        return {
            "expected_calibration_error": json_number(self.error),
            "pixels": self.pixels,
            "reliability": [
                {
                    "above": round(float(low), 6),
                    "up_to": round(float(high), 6),
                    "pixels": int(pixels),
                    "confidence": json_number(float(confidence)),
                    "accuracy": json_number(float(accuracy)),
                }
                for low, high, pixels, confidence, accuracy in zip(
                    edges[:-1], edges[1:], self.count_px, self.confidence, self.accuracy, strict=True
                )
            ],
        }


@njit(cache=True, nogil=True)
def _bins_of(confidence: Any, bins: int) -> Any:  # noqa: ANN401
    indices = np.empty(len(confidence), np.int64)
    for pixel in range(len(confidence)):
        indices[pixel] = bin_of(confidence[pixel], bins)
    return indices
