"""How far a run is, for whoever draws the bar."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a run, which is done in pieces: tiles of a scene, strips of a raster."""

    pieces_done: int
    """Those of an earlier, interrupted run included."""
    pieces_total: int
    pixels_done: int
    pixels_total: int
    pixels_now: int
    """Pixels finished since this run began."""
    seconds: float
    """Time since this run began."""
    polygons: int | None = None
    """Polygons made so far; None of a run that makes none."""
    stage: str = "map"
    """What is done now: export, map, assemble, polygons, decode, evaluate or page; each counts from 0."""

    @property
    def megapixels_per_second(self) -> float:
        """The rate of this run."""
        return self.pixels_now / 1e6 / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time to the last piece at this run's rate; None before the first piece."""
        if not self.pixels_now:
            return None
        return (self.pixels_total - self.pixels_done) * self.seconds / self.pixels_now
