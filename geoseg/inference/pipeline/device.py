"""A device and its two threads: the owner feeds it and never waits for it; the finisher waits and makes tiles.

Only the owner calls the engine. The device may be only a few rows of windows ahead of its finisher, so its memory is
bounded. If memory runs out anywhere, the sweep is discarded; it starts again, with smaller batches, at the first row of
tiles that is incomplete. An engine without a sweep of its own is driven row by row, like for a single tile.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.inference.blend import Overlaps
from geoseg.inference.pipeline.job import Band, Crews, Job, TileWriter, area_of
from geoseg.inference.pipeline.mailbox import Mailbox
from geoseg.inference.pipeline.slabs import SlabFeed
from geoseg.inference.tile import (
    Readable,
    SceneMapping,
    TileMap,
    course_of,
    empty_map,
    finished_pixels,
    fitting_batch,
    halve_batch,
    joined,
    labeled,
    no_number,
    paste,
    score,
    scored_windows,
)
from geoseg.legend import NODATA
from geoseg.model import Course, Engine, FinishedRows, OutOfMemory, Slab, Sweep, Ticket, Weights
from geoseg.profile import DEVICE, PASTE, PIXELS, SCORE, WRITERS, Profile
from geoseg.raster import Patch, Window

_IN_FLIGHT = 3
"""Most tickets not yet redeemed: the device has work while the finisher pastes one."""
MOST_WAITING = 2
"""Most results that wait to be summed while every thread scores another batch."""


class Owner:
    """The thread that feeds one device, band after band."""

    def __init__(
        self, job: Job, crews: Crews, open_engine: Callable[[], Engine], take: Callable[[], Band | None]
    ) -> None:
        self.mail = Mailbox()
        self.finisher = Finisher(job, crews, partial(self.mail.ask, self._run_out), partial(self.mail.ask, self._land))
        self._job = job
        self._crews = crews
        self._open_engine = open_engine
        self._take = take
        self._to_repeat: deque[Band] = deque()
        """Parts of bands to do again, before any new band is taken."""
        self._in_flight = 0
        self._ran_out = False

    def stop(self) -> None:
        """Stop the owner and the finisher the next time they wait."""
        self.mail.stop()
        self.finisher.mail.stop()

    def work(self) -> None:
        """Sweep bands until none is left."""
        engine = self._open_engine()
        host_array = getattr(engine, "host_array", np.empty)
        feed = SlabFeed(
            self._job.mapping, self.mail, self._crews.readers, self._crews.ring, host_array, self._job.profile
        )
        while (band := self._to_repeat.popleft() if self._to_repeat else self._take()) is not None:
            self._map_band(engine, feed, band)

    def _map_band(self, engine: Engine, feed: SlabFeed, band: Band) -> None:
        """Map the tiles of a band, as far as memory allows."""
        batch_size = fitting_batch(engine, self._job.mapping.batch_size)
        tile_rows = TileRows(self._job, band)
        self._ran_out = False
        try:
            self._sweep(engine, feed, tile_rows, batch_size)
        except OutOfMemory:
            self.finisher.spoil(tile_rows)
        else:
            return
        self.mail.wait_for(lambda: not self._in_flight)
        feed.give_up()
        self._make_smaller(engine, band, batch_size, tile_rows.next_row)

    def _sweep(self, engine: Engine, feed: SlabFeed, tile_rows: TileRows, batch_size: int) -> None:
        """Push every slab of a band; on return, all of its tiles are on their way to the writers."""
        mapping, profile = self._job.mapping, self._job.profile
        course = course_of(mapping, tile_rows.area, batch_size)
        feed.begin(course)
        crews = self._crews
        scorers = None if crews.pool is None else Scorers(crews.pool, crews.scorers, self.finisher.mail, profile)
        most = _IN_FLIGHT if scorers is None else rows_ahead(crews.scorers, len(course.col_starts), batch_size)
        with profile.timed(SCORE):
            sweep = begin_sweep(mapping, engine, course, scorers)
        for _ in course.row_starts:
            slab = feed.next(self._wait_for_pixels)
            with profile.timed(SCORE):
                ticket = sweep.push(slab)
            self._hand(ticket, tile_rows, most)
        with profile.timed(SCORE):
            ticket = sweep.finish()
        self._hand(ticket, tile_rows, most)
        self._wait_for(lambda: not self._in_flight)

    def _hand(self, ticket: Ticket | None, tile_rows: TileRows, most: int) -> None:
        """Give a ticket to the finisher, and wait while `most` tickets are not redeemed."""
        if ticket is not None:
            self._in_flight += 1
            self.finisher.hand(ticket, tile_rows)
        self._wait_for(lambda: self._in_flight < most)

    def _make_smaller(self, engine: Engine, band: Band, batch_size: int, next_row: int) -> None:
        """Queue the rest of a band, with a smaller batch or as narrower bands."""
        rest = band.below(next_row)
        if rest is None:
            return
        if batch_size == 1 and len(rest.cols) > 1:
            self._to_repeat.extend(rest.halves())
            return
        if fitting_batch(engine, batch_size) == batch_size:  # `score` has not halved it already
            halve_batch(engine, batch_size, self._job.mapping.grid.window_px)
        self._to_repeat.append(rest)

    def _wait_for(self, ready: Callable[[], bool]) -> float:
        """Wait until ready; raise OutOfMemory if the finisher has run into it."""
        waited_s = self.mail.wait_for(lambda: self._ran_out or ready())
        if self._ran_out:
            raise OutOfMemory
        return waited_s

    def _wait_for_pixels(self, ready: Callable[[], bool]) -> float:
        waited_s = self._wait_for(ready)
        self._job.profile.waited(PIXELS, waited_s)
        return waited_s

    def _run_out(self) -> None:
        """Note that the finisher ran out of memory."""
        self._ran_out = True

    def _land(self) -> None:
        """Note that the finisher has redeemed a ticket."""
        self._in_flight -= 1


class TileInWork:
    """A tile that is filled row by row. It belongs to the finisher; writers only call `write`."""

    def __init__(self, job: Job, index: int) -> None:
        self._job = job
        self._index = index
        self._writer: TileWriter | None = None
        self.place = job.tile(index)
        self.pixels = job.mapping.new_map(self.place)
        self.rows_pasted = 0
        self._rows_given = 0
        """Rows given to writers."""
        self._is_with_writer = False

    @property
    def is_written(self) -> bool:
        """Whether all rows are written."""
        return self._rows_given == self.place.height and not self._is_with_writer

    def give_rows(self) -> range | None:
        """Return the rows for a writer to take now, or None if there are none or a writer is busy with the tile."""
        step = self._job.rows_at_once or self.place.height
        is_whole = self.rows_pasted == self.place.height
        stop = self.rows_pasted if is_whole else self.rows_pasted // step * step
        if self._is_with_writer or stop == self._rows_given:
            return None
        rows = range(self._rows_given, stop)
        self._rows_given, self._is_with_writer = stop, True
        return rows

    def take_back(self) -> None:
        """Note that the writer is done with its rows."""
        self._is_with_writer = False

    def give_up(self) -> None:
        """Stop giving rows to writers."""
        self.rows_pasted = self._rows_given

    def write(self, rows: range) -> None:
        """Write rows of the tile, and complete it after the last; runs in a writer."""
        if self._writer is None:
            self._writer = self._job.begin(self._index, self.place)
        self._writer.add(self._job.rows_of(self.pixels, self.place, rows))
        if rows.stop == self.place.height:
            self._writer.finish()


class TileRows:
    """The tiles of a band, filled one row at a time by one sweep."""

    def __init__(self, job: Job, band: Band) -> None:
        self._job = job
        self._band = band
        self.area = area_of(job, band)
        self.is_spoiled = False
        """Whether the device ran out of memory; its further results are discarded."""
        self.next_row = band.rows.start
        """The first row of tiles that is incomplete."""
        self._tiles: list[TileInWork] = []

    def add(self, rows: FinishedRows, make_room: Callable[[int], None], write: Callable[[TileInWork], None]) -> None:
        """Paste finished rows and write them; `make_room` waits until a number of tiles may start."""
        inside = rows.place.intersection(self.area)
        while inside is not None:
            if not self._tiles:
                make_room(len(self._band.cols))
                self._begin_row()
            place = self._tiles[0].place
            self._paste(rows, inside)
            for tile in self._tiles:
                tile.rows_pasted = min(inside.row_stop, place.row_stop) - place.row
                write(tile)
            if inside.row_stop < place.row_stop:
                return
            self._tiles = []
            self.next_row += 1
            below = self.area.row_stop - place.row_stop
            rest = Window(place.row_stop, self.area.col, below, self.area.width) if below > 0 else None
            inside = rest and rest.intersection(inside)

    def give_up(self) -> int:
        """Stop writing the tiles that will not be completed, forget them, and return how many there were."""
        given_up, self._tiles = self._tiles, []
        for tile in given_up:
            tile.give_up()
        return len(given_up)

    def _begin_row(self) -> None:
        """Allocate a row of tiles."""
        self._tiles = [TileInWork(self._job, self.next_row * self._job.tile_cols + col) for col in self._band.cols]

    def _paste(self, rows: FinishedRows, inside: Window) -> None:
        """Copy rows into the current row of tiles."""
        for tile in self._tiles:
            common = inside.intersection(tile.place)
            if common is None:
                continue
            source, target = common.relative_to(rows.place), common.relative_to(tile.place)
            with self._job.profile.timed(PASTE):
                for name, pixels in tile.pixels.items():
                    values = rows.products[name][..., source.rows, source.cols] if rows.products else NODATA
                    pixels[..., target.rows, target.cols] = values


class Finisher:
    """The thread that waits for one device."""

    def __init__(self, job: Job, crews: Crews, ran_out: Callable[[], None], redeemed: Callable[[], None]) -> None:
        self.mail = Mailbox()
        self._job = job
        self._crews = crews
        self._ran_out = ran_out
        self._redeemed = redeemed
        self._tickets: deque[tuple[Ticket, TileRows]] = deque()
        self._tiles = 0
        """Tiles started and not yet written."""

    def hand(self, ticket: Ticket, tile_rows: TileRows) -> None:
        """Take a ticket. Called by the owner, in the order of the rows."""
        self.mail.ask(partial(self._tickets.append, (ticket, tile_rows)))

    def work(self) -> None:
        """Redeem tickets until the run ends."""
        while True:
            self.mail.wait_for(lambda: bool(self._tickets))
            self._redeem(*self._tickets.popleft())
            self._redeemed()

    def spoil(self, tile_rows: TileRows) -> None:
        """Discard the unfinished tiles of a sweep. May be called by the owner."""
        self.mail.ask(partial(self._spoil, tile_rows))

    def _redeem(self, ticket: Ticket, tile_rows: TileRows) -> None:
        if tile_rows.is_spoiled:
            return
        try:
            with self._job.profile.timed(SCORE if self._crews.is_of_cores else DEVICE):
                finished = ticket.result()
        except OutOfMemory:
            self._spoil(tile_rows)
            self._ran_out()
            return
        for rows in finished:
            if tile_rows.is_spoiled:  # the owner has said so since
                break
            if not rows.is_finite:
                raise no_number(self._job.mapping.scene, rows.place)
            tile_rows.add(rows, self._make_room, self._write)
        if tile_rows.is_spoiled:
            self._spoil(tile_rows)  # tiles started since

    def _spoil(self, tile_rows: TileRows) -> None:
        tile_rows.is_spoiled = True
        self._tiles -= tile_rows.give_up()

    def _make_room(self, count: int) -> None:
        """Wait until `count` more tiles may be held; a row of tiles too wide for that waits for all others."""
        waited_s = self.mail.wait_for(lambda: self._tiles == 0 or self._tiles + count <= self._crews.tiles)
        self._job.profile.waited(WRITERS, waited_s)
        self._tiles += count

    def _write(self, tile: TileInWork) -> None:
        """Give a writer the finished rows, unless it still has earlier ones."""
        rows = tile.give_rows()
        if rows is not None:
            self._crews.writers.ask(partial(self._write_rows, tile, rows))

    def _write_rows(self, tile: TileInWork, rows: range) -> None:
        """Write rows of a tile; runs in a writer."""
        tile.write(rows)
        self.mail.ask(partial(self._wrote, tile))

    def _wrote(self, tile: TileInWork) -> None:
        tile.take_back()
        self._tiles -= tile.is_written
        self._write(tile)


def begin_sweep(
    mapping: SceneMapping[Readable], engine: Engine, course: Course, scorers: Scorers | None = None
) -> Sweep:
    """Start a sweep of a course: the engine's own kind, if it has one."""
    begin: Callable[[Course], Sweep] | None = getattr(engine, "begin", None)
    return EngineSweep(mapping, engine, course, scorers) if begin is None else begin(course)


def rows_ahead(threads: int, windows: int, batch_size: int) -> int:
    """Return how many rows of `windows` windows keep threads that score busy, including the row being summed."""
    return 1 + math.ceil((threads + MOST_WAITING) / math.ceil(windows / batch_size))


class Scorers:
    """Threads that score the windows of one sweep in any order, a few ahead of the thread that sums them in grid order.

    One thread requests windows; another, the owner of `mail`, takes the results. At most two more results are held than
    there are threads.
    """

    def __init__(self, pool: Executor, threads: int, mail: Mailbox, profile: Profile) -> None:
        self._pool = pool
        self._most = threads + MOST_WAITING
        """Most batches started whose results are not taken."""
        self._mail = mail
        self._profile = profile
        self._requested: deque[Callable[[], list[Any]]] = deque()
        self._futures: deque[Future[list[Any]]] = deque()
        self._submit_lock = Lock()

    def __call__(
        self,
        engine: Engine,
        footprint: Any,  # noqa: ANN401 - an engine's own kind of array
        windows: Sequence[Window],
        weights: Weights,
        batch_size: int,
    ) -> Iterator[Any]:
        """Queue windows after those requested before; see `Scorer`."""
        batches = [range(first, len(windows))[:batch_size] for first in range(0, len(windows), batch_size)]
        for batch in batches:
            chosen = [windows[index] for index in batch]
            self._requested.append(partial(self._score, engine, footprint, chosen, weights[batch], batch_size))
        self._submit_more()
        return self._results(len(batches))

    def _submit_more(self) -> None:
        with self._submit_lock:
            while self._requested and len(self._futures) < self._most:
                future = self._pool.submit(self._requested.popleft())
                future.add_done_callback(lambda _: self._mail.wake())
                self._futures.append(future)

    def _results(self, batches: int) -> Iterator[Any]:
        for _ in range(batches):
            self._submit_more()
            scored = self._futures.popleft()
            waited_s = self._mail.wait_for(scored.done)  # not in `result`, which would miss the end of the run
            self._profile.add(SCORE, -waited_s)  # waiting is not work of this thread
            yield from scored.result()

    def _score(self, *batch: Any) -> list[Any]:  # noqa: ANN401 - what `score` takes
        with self._profile.timed(SCORE):
            return list(score(*batch))


class EngineSweep:
    """A sweep of a course for an engine on numpy arrays.

    All work is done when `push` returns, unless scorers do it ahead of the caller that asks for the result. Batches end
    with the row, as in a tile.
    """

    def __init__(
        self, mapping: SceneMapping[Readable], engine: Engine, course: Course, scorers: Scorers | None = None
    ) -> None:
        self._mapping = mapping
        self._engine = engine
        self._course = course
        self._scorers = scorers
        self._rows = iter(range(len(course.row_starts)))
        self._above: Patch | None = None
        """The pixels of the previous row of windows."""
        self._overlaps: Overlaps | None = None

    def push(self, slab: Slab) -> Ticket | None:
        """Score a row of windows; see `Sweep`."""
        row = next(self._rows)
        fresh = Patch(slab.data, np.ones(slab.data.shape[1:], np.bool_) if slab.valid is None else slab.valid)
        patch = self._above = joined(self._above or fresh, fresh, self._course.window_px)
        slab.release()
        label_mask = self._mapping.label_mask(self._course.footprint(row), patch.valid)
        scored = scored_windows(self._mapping, self._engine, self._course, row, patch, label_mask, self._scorers)
        label = partial(self._labeled, row, label_mask, scored)
        if self._scorers is None:
            rows = label()
            return _Rows(lambda: rows)
        return _Rows(label)

    def finish(self) -> Ticket | None:
        """Return None: every row is finished with its own push."""
        return None

    def _labeled(self, row: int, label_mask: NDArray[np.bool_], scored: Iterator[Any]) -> FinishedRows:
        """Sum and label a row; no products if neither it nor pending sums above hold a pixel to label."""
        mapping, engine, course = self._mapping, self._engine, self._course
        overlaps = self._overlaps = self._overlaps or Overlaps(engine, course.width_px, course.window_px)
        place, products = course.finished(row), TileMap()
        if overlaps.is_empty and not label_mask.any():
            return FinishedRows(place, products)
        for pixels, probabilities in finished_pixels(engine, overlaps, course, row, scored):
            products = products or empty_map(mapping, place)
            inside = pixels.relative_to(place)
            part = labeled(mapping, engine, probabilities, label_mask[inside.rows, inside.cols], pixels)
            paste(products, part, inside)
        return FinishedRows(place, products)


@dataclass(frozen=True, slots=True)
class _Rows:
    """A ticket for rows that are ready, or labeled on request."""

    rows: Callable[[], FinishedRows]

    def result(self) -> Sequence[FinishedRows]:
        return (self.rows(),)
