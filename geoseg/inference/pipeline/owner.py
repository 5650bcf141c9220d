"""The owner of a device: feeds it, and never waits for it.

It is the only one that calls the engine. The device may be a few rows of windows ahead of its finisher, no more, so
what it holds is bounded. Memory that runs out, wherever that is noticed, throws the sweep away; with smaller batches it
begins again at the first row of tiles that is not whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from geoseg.inference.pipeline.bands import Band
from geoseg.inference.pipeline.engine_sweep import begin_sweep, course_of
from geoseg.inference.pipeline.finisher import Finisher, TileRows
from geoseg.inference.pipeline.job import Crews, Job
from geoseg.inference.pipeline.mailbox import Mailbox
from geoseg.inference.pipeline.slabs import SlabFeed
from geoseg.inference.tile import fitting_batch, halve_batch
from geoseg.model import Engine, OutOfMemory, Ticket
from geoseg.profile import PIXELS, SCORE

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
        with profile.timed(SCORE):
            sweep = begin_sweep(mapping, engine, tile_rows.area, batch_size)
        for _ in course.row_starts:
            slab = feed.next(self._wait_for_pixels)
            with profile.timed(SCORE):
                ticket = sweep.push(slab)
            self._hand(ticket, tile_rows)
        with profile.timed(SCORE):
            ticket = sweep.finish()
        self._hand(ticket, tile_rows)
        self._wait_for(lambda: not self._in_flight)

    def _hand(self, ticket: Ticket | None, tile_rows: TileRows) -> None:
        if ticket is not None:
            self._in_flight += 1
            self.finisher.hand(ticket, tile_rows)
        self._wait_for(lambda: self._in_flight < _IN_FLIGHT)

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
        self._job.profile.add(PIXELS, waited_s)
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
