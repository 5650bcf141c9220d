"""What the pixels of a model's training imagery looked like."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Of each band, over valid pixels, in stored units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    """2nd percentile."""
    high: tuple[float, ...]
    """98th percentile."""
