"""A device and its two threads: the owner feeds it and never waits for it, the finisher waits and makes tiles.

The owner alone calls the engine. The device may be a few rows of windows ahead of its finisher, no more, so what it
holds is bounded. Memory that runs out, wherever that is noticed, throws the sweep away; with smaller batches it begins
again at the first row of tiles that is not whole. An engine that does not go down the scene in a way of its own is
driven row by row here, as a tile drives it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.inference.blend import Overlaps, axis_weights
from geoseg.inference.pipeline.job import Band, Crews, Job, TileWriter, area_of
from geoseg.inference.pipeline.mailbox import Mailbox
from geoseg.inference.pipeline.slabs import SlabFeed
from geoseg.inference.tile import (
    Readable,
    SceneMapping,
    TileMap,
    WindowRow,
    empty_map,
    finished_pixels,
    fitting_batch,
    halve_batch,
    labeled,
    no_number,
    paste,
    score,
    scored_windows,
    window_rows,
)
from geoseg.legend import NODATA
from geoseg.model import Course, Engine, FinishedRows, OutOfMemory, Slab, Sweep, Ticket, Weights
from geoseg.profile import DEVICE, PASTE, PIXELS, SCORE, WRITERS, Profile
from geoseg.raster import Patch, Window

_IN_FLIGHT = 3
"""Tickets that are not redeemed: the device has work while one is pasted."""


class Owner:
    """The thread that feeds one device, band after band."""

    def __init__(
        self, job: Job, crews: Crews, open_engine: Callable[[], Engine], take: Callable[[], Band | None]
    ) -> None:
        self.mail = Mailbox()
        self.finisher = Finisher(job, crews, self._noticed, self._redeemed)
        self._job = job
        self._crews = crews
        self._open_engine = open_engine
        self._take = take
        self._again: deque[Band] = deque()
        """Bands of which a part is to be done again, before any other is taken."""
        self._in_flight = 0
        self._ran_out = False

    def stop(self) -> None:
        """End the owner and the finisher where they wait next."""
        self.mail.stop()
        self.finisher.mail.stop()

    def work(self) -> None:
        """Go down bands until there is none."""
        engine = self._open_engine()
        host_array = getattr(engine, "host_array", np.empty)
        feed = SlabFeed(
            self._job.mapping, self.mail, self._crews.readers, self._crews.ring, host_array, self._job.profile
        )
        while (band := self._again.popleft() if self._again else self._take()) is not None:
            self._go_down(engine, feed, band)

    def _go_down(self, engine: Engine, feed: SlabFeed, band: Band) -> None:
        """Map the tiles of a band, or what fits of it."""
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
        """Push every slab of a band; all of its tiles are on their way to the writers when this returns."""
        mapping, profile = self._job.mapping, self._job.profile
        course = course_of(mapping, tile_rows.area, batch_size)
        feed.begin(course)
        crews = self._crews
        scorers = None if crews.pool is None else Scorers(crews.pool, crews.scorers, self.finisher.mail, profile)
        most = _IN_FLIGHT if scorers is None else scorers.rows_ahead(len(course.col_starts), batch_size)
        with profile.timed(SCORE):
            sweep = begin_sweep(mapping, engine, tile_rows.area, batch_size, scorers)
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
        """Give a ticket to the finisher, and wait while so many are not redeemed."""
        if ticket is not None:
            self._in_flight += 1
            self.finisher.hand(ticket, tile_rows)
        self._wait_for(lambda: self._in_flight < most)

    def _make_smaller(self, engine: Engine, band: Band, batch_size: int, next_row: int) -> None:
        """Put off what is left of a band, with a smaller batch or in narrower bands."""
        rest = band.below(next_row)
        if rest is None:
            return
        if batch_size == 1 and len(rest.cols) > 1:
            self._again.extend(rest.halves())
            return
        if fitting_batch(engine, batch_size) == batch_size:  # an engine that is driven window by window halves it
            halve_batch(engine, batch_size, self._job.mapping.grid.window_px)
        self._again.append(rest)

    def _wait_for(self, ready: Callable[[], bool]) -> float:
        """Wait, or raise OutOfMemory if the finisher has noticed it."""
        waited_s = self.mail.wait_for(lambda: self._ran_out or ready())
        if self._ran_out:
            raise OutOfMemory
        return waited_s

    def _wait_for_pixels(self, ready: Callable[[], bool]) -> float:
        waited_s = self._wait_for(ready)
        self._job.profile.waited(PIXELS, waited_s)
        return waited_s

    def _noticed(self) -> None:
        """Hear of memory that ran out; the finisher calls it."""
        self.mail.ask(self._run_out)

    def _run_out(self) -> None:
        self._ran_out = True

    def _redeemed(self) -> None:
        """Hear of a ticket that is redeemed; the finisher calls it."""
        self.mail.ask(self._land)

    def _land(self) -> None:
        self._in_flight -= 1


class TileInWork:
    """A tile whose rows come one after the other. It is the finisher's; a writer does no more than `write`."""

    def __init__(self, job: Job, index: int) -> None:
        self._job = job
        self._index = index
        self._writer: TileWriter | None = None
        self.place = job.tile(index)
        self.pixels = job.new_tile(index)
        self.rows_there = 0
        self._rows_given = 0
        """To writers."""
        self._is_with_writer = False

    @property
    def is_written(self) -> bool:
        """Whether nothing is left to be done."""
        return self._rows_given == self.place.height and not self._is_with_writer

    def give_rows(self) -> range | None:
        """Return the rows that a writer is to take now, if there are some and no writer has it."""
        step = self._job.rows_at_once or self.place.height
        is_whole = self.rows_there == self.place.height
        stop = self.rows_there if is_whole else self.rows_there // step * step
        if self._is_with_writer or stop == self._rows_given:
            return None
        given = range(self._rows_given, stop)
        self._rows_given, self._is_with_writer = stop, True
        return given

    def take_back(self) -> None:
        """Hear that a writer is done with the rows it was given."""
        self._is_with_writer = False

    def give_up(self) -> None:
        """Give no more rows to writers."""
        self.rows_there = self._rows_given

    def write(self, rows: range) -> None:
        """Write rows of the tile, and the whole of it with the last; runs in a writer."""
        if self._writer is None:
            self._writer = self._job.begin(self._index, self.place)
        self._writer.add(self._job.rows_of(self.pixels, self.place, rows))
        if rows.stop == self.place.height:
            self._writer.finish()


class TileRows:
    """The tiles of a band, of which one row is being filled: what became of one sweep."""

    def __init__(self, job: Job, band: Band) -> None:
        self._job = job
        self._band = band
        self.area = area_of(job, band)
        self.is_spoiled = False
        """The device ran out of memory: what it still gives is worth nothing."""
        self.next_row = band.rows.start
        """The first row of tiles that is not whole."""
        self._tiles: list[TileInWork] = []

    def add(self, rows: FinishedRows, make_room: Callable[[int], None], write: Callable[[TileInWork], None]) -> None:
        """Paste finished rows, and have them written; `make_room` waits until so many tiles may begin."""
        inside = rows.place.intersection(self.area)
        while inside is not None:
            if not self._tiles:
                make_room(len(self._band.cols))
                self._begin_row()
            place = self._tiles[0].place
            self._paste(rows, inside)
            for tile in self._tiles:
                tile.rows_there = min(inside.row_stop, place.row_stop) - place.row
                write(tile)
            if inside.row_stop < place.row_stop:
                return
            self._tiles = []
            self.next_row += 1
            below = self.area.row_stop - place.row_stop
            rest = Window(place.row_stop, self.area.col, below, self.area.width) if below > 0 else None
            inside = rest and rest.intersection(inside)

    def give_up(self) -> int:
        """Have no more of the tiles written that are begun and will not be whole, and forget them; return how many."""
        given_up, self._tiles = self._tiles, []
        for tile in given_up:
            tile.give_up()
        return len(given_up)

    def _begin_row(self) -> None:
        """Make room for the pixels of a row of tiles."""
        self._tiles = [TileInWork(self._job, self.next_row * self._job.tile_cols + col) for col in self._band.cols]

    def _paste(self, rows: FinishedRows, inside: Window) -> None:
        """Copy rows into the tiles of the row that is being filled."""
        for tile in self._tiles:
            common = inside.intersection(tile.place)
            if common is None:
                continue
            here, there = common.relative_to(rows.place), common.relative_to(tile.place)
            with self._job.profile.timed(PASTE):
                for name, pixels in tile.pixels.items():
                    found = rows.products[name][..., here.rows, here.cols] if rows.products else NODATA
                    pixels[..., there.rows, there.cols] = found


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
        """Tiles that are begun and not yet written."""

    def hand(self, ticket: Ticket, tile_rows: TileRows) -> None:
        """Take a ticket; the owner calls it, in the order of the rows."""
        self.mail.ask(partial(self._tickets.append, (ticket, tile_rows)))

    def work(self) -> None:
        """Redeem tickets until the run ends."""
        while True:
            self.mail.wait_for(lambda: bool(self._tickets))
            self._redeem(*self._tickets.popleft())
            self._redeemed()

    def spoil(self, tile_rows: TileRows) -> None:
        """Give up what a sweep has left unfinished; the owner may call it."""
        self.mail.ask(partial(self._spoil, tile_rows))

    def _redeem(self, ticket: Ticket, tile_rows: TileRows) -> None:
        if tile_rows.is_spoiled:
            return
        try:
            with self._job.profile.timed(SCORE if self._crews.is_of_cores else DEVICE):
                found = ticket.result()
        except OutOfMemory:
            self._spoil(tile_rows)
            self._ran_out()
            return
        for rows in found:
            if tile_rows.is_spoiled:  # the owner has said so meanwhile
                break
            if not rows.is_finite:
                raise no_number(self._job.mapping.scene, rows.place)
            tile_rows.add(rows, self._make_room, self._write)
        if tile_rows.is_spoiled:
            self._spoil(tile_rows)  # what was begun since

    def _spoil(self, tile_rows: TileRows) -> None:
        tile_rows.is_spoiled = True
        self._tiles -= tile_rows.give_up()

    def _make_room(self, count: int) -> None:
        """Wait until so many tiles more may be held; a row of tiles that is too wide for that waits for all others."""
        waited_s = self.mail.wait_for(lambda: self._tiles == 0 or self._tiles + count <= self._crews.tiles)
        self._job.profile.waited(WRITERS, waited_s)
        self._tiles += count

    def _write(self, tile: TileInWork) -> None:
        """Have a writer take the rows that are there, or wait until it is done with those before."""
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
    mapping: SceneMapping[Readable],
    engine: Engine,
    area: Window,
    batch_size: int,
    scorers: Scorers | None = None,
) -> Sweep:
    """Begin to go down the windows that touch an area of the scene: in the engine's own way, if it has one."""
    begin: Callable[[Course], Sweep] | None = getattr(engine, "begin", None)
    if begin is not None:
        return begin(course_of(mapping, area, batch_size))
    return EngineSweep(mapping, engine, area, scorers)


def course_of(mapping: SceneMapping[Readable], area: Window, batch_size: int) -> Course:
    """Return the course of all windows that touch an area of the scene."""
    grid, blend = mapping.grid, mapping.blend
    rows, cols = grid.rows_touching(area), grid.cols_touching(area)
    return Course(
        tuple(grid.row_starts[row] for row in rows),
        tuple(grid.col_starts[col] for col in cols),
        grid.window_px,
        axis_weights(grid.row_starts, grid.height_px, grid.window_px, blend, rows),
        axis_weights(grid.col_starts, grid.width_px, grid.window_px, blend, cols),
        batch_size,
        mapping.output_codes,
        mapping.keep,
    )


class Scorers:
    """Threads that score the windows of one sweep, in any order and a few ahead of who adds them up in theirs.

    One thread asks for windows, and one, whose mailbox it is, takes the results; no more of these are held than are
    scored at once, and two.
    """

    def __init__(self, pool: Executor, threads: int, mail: Mailbox, profile: Profile) -> None:
        self._pool = pool
        self._most = threads + 2
        """Batches that are begun and whose results are not taken."""
        self._mail = mail
        self._profile = profile
        self._asked: deque[Callable[[], list[Any]]] = deque()
        self._begun: deque[Future[list[Any]]] = deque()
        self._beginning = Lock()

    def rows_ahead(self, windows: int, batch_size: int) -> int:
        """Return how many rows of so many windows keep all threads busy: the one whose results are taken, and more."""
        return 1 + math.ceil(self._most / math.ceil(windows / batch_size))

    def __call__(
        self,
        engine: Engine,
        footprint: Any,  # noqa: ANN401 - an engine's own kind of array
        windows: Sequence[Window],
        weights: Weights,
        batch_size: int,
    ) -> Iterator[Any]:
        """Ask for windows, after those that were asked for before; see `Scorer`."""
        batches = [range(first, len(windows))[:batch_size] for first in range(0, len(windows), batch_size)]
        for batch in batches:
            chosen = [windows[place] for place in batch]
            self._asked.append(partial(self._score, engine, footprint, chosen, weights[batch], batch_size))
        self._begin_more()
        return self._results(len(batches))

    def _begin_more(self) -> None:
        with self._beginning:
            while self._asked and len(self._begun) < self._most:
                begun = self._pool.submit(self._asked.popleft())
                begun.add_done_callback(lambda _: self._mail.wake())
                self._begun.append(begun)

    def _results(self, batches: int) -> Iterator[Any]:
        for _ in range(batches):
            self._begin_more()
            scored = self._begun.popleft()
            waited_s = self._mail.wait_for(scored.done)  # not in `result`, where the end of the run is not heard of
            self._profile.add(SCORE, -waited_s)  # it is no work of whoever takes them
            yield from scored.result()

    def _score(self, *batch: Any) -> list[Any]:  # noqa: ANN401 - what `score` takes
        with self._profile.timed(SCORE):
            return list(score(*batch))


class EngineSweep:
    """An engine on its way down the windows that touch an area.

    Where arrays are numpy's, all is done when `push` returns, unless scorers do it ahead of who asks for the result;
    elsewhere whoever asks waits for what was begun here. The engine's batches are those of a tile: they end with the
    row.
    """

    def __init__(
        self, mapping: SceneMapping[Readable], engine: Engine, area: Window, scorers: Scorers | None = None
    ) -> None:
        self._mapping = mapping
        self._engine = engine
        self._scorers = scorers
        self._rows = iter(window_rows(mapping, area))
        self._above: Patch | None = None
        """The pixels of the row of windows before."""
        self._overlaps: Overlaps | None = None

    def push(self, slab: Slab) -> Ticket | None:
        """Score a row of windows; see `Sweep`."""
        row = next(self._rows)
        footprint = row.footprint
        patch = self._above = _continued(self._above, slab, footprint.height)
        place = Window(footprint.row, footprint.col, footprint.height - row.shared_px, footprint.width)
        wanted = self._mapping.wanted(footprint, patch.valid)
        scored = scored_windows(self._mapping, self._engine, row, patch, wanted, self._scorers)
        finished: Iterable[tuple[Window, Any]] = self._finished(row, wanted, scored)
        if self._engine.xp is not np:
            finished = list(finished)  # which tells the device what to do
        elif self._scorers is None:
            return _Claim(self._labeled(finished, wanted, place))
        return _Later(partial(self._labeled, finished, wanted, place))

    def finish(self) -> Ticket | None:
        """Return None: every row is finished with its own push."""
        return None

    def _finished(
        self, row: WindowRow, wanted: NDArray[np.bool_], scored: Iterator[Any]
    ) -> Iterator[tuple[Window, Any]]:
        """Yield what a row of windows finishes; nothing where it and what waits above it have no pixel to label."""
        footprint = row.footprint
        overlaps = self._overlaps = self._overlaps or Overlaps(self._engine, footprint.width, footprint.height)
        if not overlaps.is_empty or wanted.any():
            overlaps.start_row(row.shared_px)
            yield from finished_pixels(self._mapping.grid, self._engine, overlaps, row, scored)

    def _labeled(
        self, finished: Iterable[tuple[Window, Any]], wanted: NDArray[np.bool_], place: Window
    ) -> FinishedRows:
        products: TileMap = {}
        for pixels, probabilities in finished:
            products = products or empty_map(self._mapping, self._engine, place)
            inside = pixels.relative_to(place)
            part = labeled(self._mapping, self._engine, probabilities, wanted[inside.rows, inside.cols], pixels)
            paste(products, part, inside)
        return FinishedRows(place, products)


@dataclass(frozen=True, slots=True)
class _Claim:
    """Rows that are there."""

    rows: FinishedRows

    def result(self) -> Sequence[FinishedRows]:
        return (self.rows,)


@dataclass(frozen=True, slots=True)
class _Later:
    """Rows whose sums the device has been told to make."""

    label: Callable[[], FinishedRows]

    def result(self) -> Sequence[FinishedRows]:
        return (self.label(),)


def _continued(above: Patch | None, slab: Slab, height_px: int) -> Patch:
    """Return the pixels of a row of windows, from those above and its own; the slab may go."""
    valid = np.ones(slab.data.shape[1:], np.bool_) if slab.valid is None else slab.valid
    kept = height_px - valid.shape[0]
    above = above or Patch(slab.data, valid)
    patch = Patch(
        np.concatenate([above.data[:, above.data.shape[1] - kept :], slab.data], axis=1),
        np.concatenate([above.valid[above.valid.shape[0] - kept :], valid]),
    )
    slab.release()
    return patch
