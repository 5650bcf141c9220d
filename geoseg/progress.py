"""What a run tells of itself while it works: how far it is, and lines for people."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from geoseg.typed import checked

Says = Callable[[str], None]
"""Takes a line for people."""

_log = logging.getLogger("geoseg")
_log.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class _Announcer:
    """Takes a line for people: it goes to the logger `geoseg`, level INFO, and to a listener."""

    listener: Says | None

    def __call__(self, line: str) -> None:
        _log.info("%s", line)
        if self.listener is not None:
            self.listener(line)


def announcer(listener: Says | None) -> Says:
    """Return what a verb calls with lines for people: they go to the logger `geoseg`, and to the caller's listener.

    What this function has returned is returned as it is, so verbs that call each other log a line once.
    """
    return listener if isinstance(listener, _Announcer) else _Announcer(listener)


@dataclass(frozen=True, slots=True)
@checked
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
    """What is done now: export, map, assemble, polygons, decode, evaluate, sample or page; each counts from 0."""
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


def count_pieces(
    listener: Callable[[Progress], None] | None, stage: str, pieces: int, pixels: int
) -> Callable[[int], None]:
    """Return what a run of so many pieces calls with the pixels of each that is done; it tells the listener, if any."""
    began, done, done_px = time.perf_counter(), 0, 0

    def piece(size: int) -> None:
        nonlocal done, done_px
        done, done_px = done + 1, done_px + size
        if listener is not None:
            listener(Progress(done, pieces, done_px, pixels, done_px, time.perf_counter() - began, stage=stage))

    return piece


@dataclass(frozen=True, slots=True)
class Download:
    """A moment of a file's way from another machine."""

    name: str
    """What is fetched: an address."""
    bytes_done: int
    bytes_total: int
    """0 where the other machine does not say."""
    seconds: float
    """Time since it began."""
    stage: str = "download"

    @property
    def seconds_left(self) -> float | None:
        """Time to the last byte at the rate so far; None before the first."""
        if not self.bytes_done or not self.bytes_total:
            return None
        return (self.bytes_total - self.bytes_done) * self.seconds / self.bytes_done


_DownloadListener = Callable[[Download], None]
_watching: ContextVar[_DownloadListener | None] = ContextVar("watching", default=None)


@contextlib.contextmanager
def watching_downloads(listener: _DownloadListener) -> Iterator[None]:
    """Tell a listener how far downloads are, until the end of the block and in this thread."""
    before = _watching.set(listener)
    try:
        yield
    finally:
        _watching.reset(before)


def download_listener() -> _DownloadListener | None:
    """Return who watches downloads."""
    return _watching.get()
