"""How far a run is, for whoever draws the bar."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a run."""

    tiles_done: int
    """Tiles of an earlier, interrupted run included."""
    tiles_total: int
    pixels_done: int
    pixels_total: int
    pixels_now: int
    """Pixels finished since this run began."""
    seconds: float
    """Time since this run began."""

    @property
    def megapixels_per_second(self) -> float:
        """The rate of this run."""
        return self.pixels_now / 1e6 / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time to the last tile at this run's rate; None before the first tile."""
        if not self.pixels_now:
            return None
        return (self.pixels_total - self.pixels_done) * self.seconds / self.pixels_now
