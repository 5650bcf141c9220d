"""Mapping tiles on devices that never wait for pixels: readers, an owner and a finisher per device, and writers."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import NoReturn

from geoseg.inference.pipeline.device import Owner
from geoseg.inference.pipeline.job import Band, Crews, Job, TileWriter, bands
from geoseg.inference.pipeline.mailbox import Crew, Mailbox, named_thread
from geoseg.inference.pipeline.slabs import Capacity
from geoseg.inference.tile import TileMap
from geoseg.model import Engine
from geoseg.profile import WRITE, Profile
from geoseg.raster import Window

_SEQUENTIAL_DRIVERS = {"PNG", "JPEG", "GIF", "WEBP"}
"""Drivers that decode everything above the rows requested: a second reader would repeat the work of the first."""
_BANDS_PER_DEVICE = 4
"""With fewer, other devices would wait long for the last band."""
_JOIN_TIMEOUT_S = 10.0
"""How long an ended run waits for threads that are busy with a file or a device."""


def run_pipeline(  # noqa: PLR0913, PLR0917 - the arguments are distinct
    job: Job,
    missing: Sequence[int],
    engines: Sequence[Callable[[], Engine]],
    capacity: Capacity,
    workers: int,
    finished: Callable[[int], None],
    scorers: int = 0,
) -> None:
    """Map and write the missing tiles, with one engine per device.

    Parameters
    ----------
    job : Job
        The scene, its tiles, and what to do with a finished one.
    missing : sequence of int
        Indexes of the tiles.
    engines : sequence of callable
        One function per device that opens its engine; called in the thread that owns the device.
    capacity : Capacity
        What each device holds in memory at once.
    workers : int
        Number of threads that read, and of those that write.
    finished : callable
        Called in this thread with the index of each tile written.
    scorers : int
        Number of threads that score windows if the device is this machine's cores; otherwise 0.

    Raises
    ------
    GeosegError
        An exception in any thread, or an interrupt of this one, ends the run at once; tiles written by then are
        reported.

    """
    pipeline = _Pipeline(job, missing, engines, capacity, workers, finished, scorers)
    try:
        pipeline.run()
    finally:
        pipeline.stop()


class _Pipeline:
    """The threads of a run, and the mailbox of the one that waits for them."""

    def __init__(  # noqa: PLR0913, PLR0917 - see above
        self,
        job: Job,
        missing: Sequence[int],
        engines: Sequence[Callable[[], Engine]],
        capacity: Capacity,
        workers: int,
        finished: Callable[[int], None],
        scorers: int,
    ) -> None:
        self._mail = Mailbox()
        self._left = len(missing)
        self._finished = finished
        self._profile = job.profile
        readers = 1 if job.mapping.scene.driver in _SEQUENTIAL_DRIVERS else workers
        self._readers = Crew("read", readers, self._fail)
        self._writers = Crew("write", workers, self._fail)
        self._pool = ThreadPoolExecutor(scorers, "geoseg-score") if scorers else None
        crews = Crews(self._readers, self._writers, capacity.ring, capacity.tiles, self._pool, scorers)
        job = replace(job, begin=partial(self._begin, job.begin))
        empty_tiles = set(filter(job.is_empty, missing))
        for index in empty_tiles:
            self._writers.ask(partial(job.write_empty_tile, index))
        todo = deque(_bands(job, [index for index in missing if index not in empty_tiles], len(engines), capacity.cols))
        self._owners = [Owner(job, crews, engine, partial(_next, todo)) for engine in engines]
        self._threads = [*self._readers.threads, *self._writers.threads]
        for number, owner in enumerate(self._owners):
            self._threads.append(named_thread(f"device-{number}", owner.work, self._fail))
            self._threads.append(named_thread(f"finish-{number}", owner.finisher.work, self._fail))

    def run(self) -> None:
        """Start the threads and wait for the last tile."""
        for thread in self._threads:
            thread.start()
        self._mail.wait_for(lambda: not self._left)

    def stop(self) -> None:
        """End the threads, and report the tiles written since."""
        for stop in (self._readers.stop, self._writers.stop, *(owner.stop for owner in self._owners)):
            stop()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        latest = monotonic() + _JOIN_TIMEOUT_S
        for thread in self._threads:
            with suppress(RuntimeError):  # Ctrl-C came before it was started
                thread.join(max(0.0, latest - monotonic()))
        self._mail.empty()

    def _begin(self, begin: Callable[[int, Window], TileWriter], index: int, place: Window) -> TileWriter:
        return _TimedWriter(begin(index, place), self._profile, partial(self._mail.ask, partial(self._report, index)))

    def _report(self, index: int) -> None:
        self._left -= 1
        self._finished(index)

    def _fail(self, error: BaseException) -> None:
        """End the run with the error of a thread."""
        self._mail.ask(partial(_raise, error))


@dataclass(frozen=True, slots=True)
class _TimedWriter:
    """The writer of a tile, timed, with a callback at its end."""

    writer: TileWriter
    profile: Profile
    tell: Callable[[], None]

    def add(self, rows: TileMap) -> None:
        with self.profile.timed(WRITE):
            self.writer.add(rows)

    def finish(self) -> None:
        with self.profile.timed(WRITE):
            self.writer.finish()
        self.tell()


def _raise(error: BaseException) -> NoReturn:
    raise error


def _next(todo: deque[Band]) -> Band | None:
    try:
        return todo.popleft()
    except IndexError:
        return None


def _bands(job: Job, missing: Sequence[int], devices: int, most_cols: int) -> list[Band]:
    """Return the bands: a single device sweeps all rows at once, several devices share them."""
    rows = len({index // job.tile_cols for index in missing})
    if devices == 1:
        return bands(missing, job.tile_cols, most_cols, rows)
    least_bands = _BANDS_PER_DEVICE * devices
    side_by_side = math.ceil(least_bands / rows) if rows else 1
    cols = min(most_cols, math.ceil(job.tile_cols / side_by_side))
    return bands(missing, job.tile_cols, cols, max(1, rows // least_bands))
