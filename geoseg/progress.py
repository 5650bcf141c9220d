"""What a run tells of itself while it works: how far it is, and lines for people."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

_log = logging.getLogger("geoseg")
_log.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class _Announcer:
    """Takes a line for people: it goes to the logger `geoseg`, level INFO, and to a listener."""

    listener: Callable[[str], None] | None

    def __call__(self, line: str) -> None:
        _log.info("%s", line)
        if self.listener is not None:
            self.listener(line)


def announcer(listener: Callable[[str], None] | None) -> Callable[[str], None]:
    """Return what a verb calls with lines for people: they go to the logger `geoseg`, and to the caller's listener.

    What this function has returned is returned as it is, so verbs that call each other log a line once.
    """
    return listener if isinstance(listener, _Announcer) else _Announcer(listener)


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
    scene: str | None = None
    """Which of several scenes it is; None of a run on one."""
    scene_number: int = 1
    """From 1."""
    scenes_total: int = 1

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
