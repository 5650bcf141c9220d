"""Reports of a run while it works: its progress, and messages for the user."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from geoseg.typed import checked

Announce = Callable[[str], None]
"""Takes a line for the user."""

_log = logging.getLogger("geoseg")
_log.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class _Announcer:
    """Passes a line for the user to the logger `geoseg`, at level INFO, and to a listener."""

    listener: Announce | None

    def __call__(self, line: str) -> None:
        _log.info("%s", line)
        if self.listener is not None:
            self.listener(line)


def announcer(listener: Announce | None) -> Announce:
    """Return the function that a verb calls with lines for the user, for the logger `geoseg` and the caller's listener.

    An announcer is returned unchanged, so that verbs that call each other log a line only once.
    """
    return listener if isinstance(listener, _Announcer) else _Announcer(listener)


@dataclass(frozen=True, slots=True)
@checked
class Progress:
    """The state of a run, which proceeds in pieces: tiles of a scene, strips of a raster."""

    pieces_done: int
    """Including those of an earlier, interrupted run."""
    pieces_total: int
    pixels_done: int
    pixels_total: int
    pixels_now: int
    """Pixels finished since this run started."""
    seconds: float
    """Time since this run started."""
    polygons: int | None = None
    """Polygons made so far; None for a run without polygons."""
    stage: str = "map"
    """The current stage: export, map, assemble, polygons, decode, evaluate, sample or page; each counts from 0."""
    scene: str | None = None
    """The current scene of several; None for a run on one scene."""
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
    """Return a function to call with the pixels of each piece as it finishes; it reports progress to the listener."""
    began, done, done_px = time.perf_counter(), 0, 0

    def piece(size: int) -> None:
        nonlocal done, done_px
        done, done_px = done + 1, done_px + size
        if listener is not None:
            listener(Progress(done, pieces, done_px, pixels, done_px, time.perf_counter() - began, stage=stage))

    return piece


@dataclass(frozen=True, slots=True)
class Download:
    """The state of a download."""

    name: str
    """The address of the file."""
    bytes_done: int
    bytes_total: int
    """0 if the server does not say."""
    seconds: float
    """Time since it started."""
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
    """Report the progress of downloads to a listener, within the block and this thread."""
    before = _watching.set(listener)
    try:
        yield
    finally:
        _watching.reset(before)


def download_listener() -> _DownloadListener | None:
    """Return the current listener for downloads."""
    return _watching.get()
