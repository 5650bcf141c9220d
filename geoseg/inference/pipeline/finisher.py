"""Who waits for a device: finished rows become tiles, and whole tiles go to the writers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from geoseg.inference.pipeline.bands import Band
from geoseg.inference.pipeline.job import Crews, Job, area_of
from geoseg.inference.pipeline.mailbox import Mailbox
from geoseg.inference.tile import TileMap, no_number
from geoseg.legend import NODATA
from geoseg.model import FinishedRows, OutOfMemory, Ticket
from geoseg.profile import DEVICE, PASTE, WRITERS
from geoseg.raster import Window


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
        self._tiles: list[tuple[int, Window, TileMap]] = []

    def add(self, rows: FinishedRows, make_room: Callable[[int], None], write: Callable[[int, TileMap], None]) -> None:
        """Paste finished rows, and write what is whole with them; `make_room` waits until so many tiles may begin."""
        inside = rows.place.intersection(self.area)
        while inside is not None:
            if not self._tiles:
                make_room(len(self._band.cols))
                self._begin_row()
            place = self._tiles[0][1]
            self._paste(rows, inside)
            if inside.row_stop < place.row_stop:
                return
            for index, _, tile in self._tiles:
                write(index, tile)
            self._tiles = []
            self.next_row += 1
            below = self.area.row_stop - place.row_stop
            rest = Window(place.row_stop, self.area.col, below, self.area.width) if below > 0 else None
            inside = rest and rest.intersection(inside)

    def unfinished_tiles(self) -> int:
        """Return how many tiles are begun and will not be whole."""
        return len(self._tiles)

    def _begin_row(self) -> None:
        """Make room for the pixels of a row of tiles."""
        for col in self._band.cols:
            index = self.next_row * self._job.tile_cols + col
            self._tiles.append((index, self._job.tile(index), self._job.new_tile(index)))

    def _paste(self, rows: FinishedRows, inside: Window) -> None:
        """Copy rows into the tiles of the row that is being filled."""
        for _, place, tile in self._tiles:
            common = inside.intersection(place)
            if common is None:
                continue
            here, there = common.relative_to(rows.place), common.relative_to(place)
            with self._job.profile.timed(PASTE):
                for name, pixels in tile.items():
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
            with self._job.profile.timed(DEVICE):
                found = ticket.result()
        except OutOfMemory:
            self._spoil(tile_rows)
            self._ran_out()
            return
        for rows in found:
            if not rows.is_finite:
                raise no_number(self._job.mapping.scene, rows.place)
            tile_rows.add(rows, self._make_room, self._write)

    def _spoil(self, tile_rows: TileRows) -> None:
        tile_rows.is_spoiled = True
        self._tiles -= tile_rows.unfinished_tiles()

    def _make_room(self, count: int) -> None:
        """Wait until so many tiles more may be held; a row of tiles that is too wide for that waits for all others."""
        waited_s = self.mail.wait_for(lambda: self._tiles == 0 or self._tiles + count <= self._crews.tiles)
        self._job.profile.add(WRITERS, waited_s)
        self._tiles += count

    def _write(self, index: int, tile: TileMap) -> None:
        self._crews.writers.ask(partial(self._written, index, tile))

    def _written(self, index: int, tile: TileMap) -> None:
        """Write a tile; runs in a writer."""
        self._job.finish_tile(index, tile)
        self.mail.ask(self._forget_tile)

    def _forget_tile(self) -> None:
        self._tiles -= 1
