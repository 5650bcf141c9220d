"""A sweep whose sums never leave the device: stored pixels are copied to it, and one byte per pixel comes back."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.legend import NODATA
from geoseg.model.engines.engine import HELD_SLABS, Course, FinishedRows, Slab, Ticket, Turn, device_faults
from geoseg.model.engines.streams import PASSED, Mark, Streams
from geoseg.raster import Window
from geoseg.raster.landcover import ProductName

_BUFFERS = 3
"""Pixel buffers, each as high as a window: one being cut, one being copied to, one that may still serve windows."""
_LAG = 2
"""If scores may need recomputing, a batch is summed only when this many more are queued, so that asking the device
whether they do does not leave it idle."""


class BatchScorer(Protocol):
    """The engine of a sweep; see `TorchEngine`."""

    device: str
    classes: int

    def placed(self, array: NDArray[np.generic]) -> torch.Tensor:
        """Return a small array on the device."""

    def stored(self, data: NDArray[np.generic]) -> tuple[NDArray[np.generic], bool]:
        """Return pixels in a dtype of the device, and whether they are uint16 bits in int16."""

    def mean_of_turns(
        self, batch: Batch, turns: Sequence[Turn], *, wait: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return weighted probabilities (n, class, row, col), and which windows did not overflow (n,)."""


@dataclass(slots=True, eq=False)
class Batch:
    """Windows that are scored together, and their weights."""

    stored: torch.Tensor
    """(n, band, row, col), stored dtype."""
    valid: torch.Tensor
    """(n, 1, row, col) bool."""
    row_weights: torch.Tensor
    """(n, row)."""
    col_weights: torch.Tensor
    """(n, col)."""
    unsigned: bool
    """Whether the int16 values hold the bits of uint16."""
    has_gaps: bool = False
    """Whether some windows may hold invalid pixels; known on the host, so the device need not be asked."""

    def chosen(self, places: Sequence[int]) -> Batch:
        """Return some of the windows."""
        index = torch.tensor(places, device=self.stored.device)
        return replace(
            self,
            stored=self.stored[index],
            valid=self.valid[index],
            row_weights=self.row_weights[index],
            col_weights=self.col_weights[index],
        )


@dataclass(slots=True, eq=False)
class _Row:
    """A row of windows, and the pixels that it finishes."""

    place: Window
    """The pixels that it finishes, in the scene."""
    seen: NDArray[np.bool_]
    """Which of its windows are run."""
    left: int
    """How many of them are not summed yet."""
    above_px: int
    """Rows of pixels shared with the row of windows above."""
    below_px: int
    valid: torch.Tensor
    """(row, col) of the pixels that it finishes."""
    finite: torch.Tensor
    """One bool."""
    products: dict[ProductName, torch.Tensor] = field(default_factory=dict)
    next_col: int = 0
    """The first of its windows that is not summed yet."""


@dataclass(slots=True, eq=False)
class _Filling:
    """A batch, its windows, and their probabilities once scored."""

    batch: Batch
    windows: list[tuple[_Row, int]] = field(default_factory=list)
    """The row of each window, and its column of windows."""
    probabilities: torch.Tensor = field(init=False)
    finite: torch.Tensor | None = None
    """In host memory once `mark` is passed."""
    mark: Mark = PASSED


@dataclass(slots=True, eq=False)
class _HeldSlab:
    slab: Slab
    mark: Mark = PASSED
    """After the last copy from the slab."""


class TorchSweep:
    """A network's sweep down the windows of a course.

    Pixels are copied once, cut on the device into batches that may span rows, scored, and summed in the grid's order.
    Finished rows are labeled on the device and copied back while the next ones are scored.
    """

    def __init__(self, engine: BatchScorer, course: Course, turns: Sequence[Turn], streams: Streams) -> None:
        self._engine = engine
        self._course = course
        self._turns = tuple(turns)
        self._streams = streams
        self._starts = [start - course.col_starts[0] for start in course.col_starts]
        self._pushed = 0
        self._held_slabs: deque[_HeldSlab] = deque()
        self._rows: deque[_Row] = deque()
        """Rows pushed and not finished yet."""
        self._finished: list[_Row] = []
        """Finished rows not in any ticket yet."""
        self._filling: _Filling | None = None
        self._scored: deque[_Filling] = deque()
        """Batches scored and not summed yet."""
        self._pixels: _Pixels | None = None
        self._to_map = np.zeros((0, len(course.col_starts)), np.bool_)
        """(row of pixels, column of windows): whether the window has a pixel to label in that row."""
        with self._on_device():
            self._row_weights = engine.placed(course.row_weights)
            self._col_weights = engine.placed(course.col_weights)
            self._sums = _Sums(engine, course, self._starts)

    def push(self, slab: Slab) -> Ticket | None:
        """Take the fresh pixels of the next row of windows; see `Sweep`."""
        self._held_slabs.append(_HeldSlab(slab))
        with self._on_device():
            row = self._next_row(slab)
            self._rows.append(row)
            for places in _runs(row.seen, self._starts):
                self._cut(row, places)
            self._finish_rows()
            return self._ticket()

    def finish(self) -> Ticket | None:
        """Score the windows that still wait for a full batch, and sum everything."""
        with self._on_device():
            if self._filling is not None:
                self._filling.batch.stored[len(self._filling.windows) :] = 0
                self._score(self._filling)
            while self._scored:
                self._add_up(self._scored.popleft())
            self._finish_rows()
            self._release(0)
            return self._ticket()

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[None]:
        """Work on the device; on failure, release the slabs."""
        with device_faults(self._engine.device), self._streams.chosen(), torch.no_grad():
            try:
                yield
            except BaseException:
                while self._held_slabs:  # every attempt releases at least one
                    with contextlib.suppress(RuntimeError):
                        self._release(0)
                raise

    def _next_row(self, slab: Slab) -> _Row:
        """Copy the slab to the device, below the pixels shared with the row above."""
        number, window_px = self._pushed, self._course.window_px
        self._pushed += 1
        place = self._course.finished(number)
        fresh_px = slab.data.shape[1]
        stored, unsigned = self._engine.stored(slab.data)
        if self._pixels is None:
            self._pixels = _Pixels(self._streams, stored, self._sums.zero, self._course, unsigned=unsigned)
        is_run = self._windows_to_run(slab)
        self._held_slabs[-1].mark = self._pixels.advance(stored, slab.valid, window_px - fresh_px)
        self._release(HELD_SLABS)
        above_px = 0 if number == 0 else window_px - fresh_px
        return _Row(
            place,
            is_run,
            int(is_run.sum()),
            above_px,
            window_px - place.height,
            self._pixels.valid[: place.height].clone(),
            self._sums.zero.new_ones((), dtype=torch.bool),
        )

    def _windows_to_run(self, slab: Slab) -> NDArray[np.bool_]:
        """Return which windows of the row that ends with the slab are run: those that hold a pixel to map."""
        window_px, fresh_px = self._course.window_px, slab.data.shape[1]
        label_mask = slab.valid if slab.label_mask is None else slab.label_mask
        shared = self._to_map[len(self._to_map) - (window_px - fresh_px) :]
        self._to_map = np.concatenate([shared, _rows_with_any(label_mask, fresh_px, self._starts, window_px)])
        return np.asarray(self._to_map.any(axis=0))

    def _release(self, most: int) -> None:
        """Release slabs that are copied, and wait until at most `most` are left."""
        while self._held_slabs and (len(self._held_slabs) > most or self._held_slabs[0].mark.is_passed()):
            first = self._held_slabs.popleft()
            try:
                first.mark.wait()
            finally:
                first.slab.release()

    def _cut(self, row: _Row, places: range) -> None:
        """Put evenly spaced windows into batches, and score full batches."""
        if self._pixels is None:
            raise RuntimeError("nothing was pushed")
        size = self._course.batch_size
        while places:
            filling = self._filling = self._filling or _Filling(self._pixels.batch(size))
            begin = len(filling.windows)
            columns, places = places[: size - begin], places[size - begin :]
            to, batch = slice(begin, begin + len(columns)), filling.batch
            batch.stored[to], batch.valid[to] = self._pixels.windows([self._starts[place] for place in columns])
            batch.row_weights[to] = self._row_weights[self._pushed - 1]
            batch.col_weights[to] = self._col_weights[columns.start : columns.stop]
            batch.has_gaps |= self._pixels.has_gaps
            filling.windows += [(row, place) for place in columns]
            if len(filling.windows) == size:
                self._score(filling)

    def _score(self, filling: _Filling) -> None:
        self._filling = None
        filling.probabilities, finite = self._engine.mean_of_turns(filling.batch, self._turns, wait=False)
        if finite is not None:
            (filling.finite,), filling.mark = self._streams.fetch([finite])
        self._scored.append(filling)
        while len(self._scored) > (0 if finite is None else _LAG):
            self._add_up(self._scored.popleft())

    def _add_up(self, scored: _Filling) -> None:
        """Add the probabilities of a batch to the sums, recomputing windows that overflowed half precision."""
        probabilities = scored.probabilities
        if scored.finite is not None:
            scored.mark.wait()
            lost = [place for place in range(len(scored.windows)) if not scored.finite[place]]
            if lost:
                full = [*lost, *[lost[-1]] * (len(probabilities) - len(lost))]
                again, _ = self._engine.mean_of_turns(scored.batch.chosen(full), self._turns, wait=True)
                probabilities[lost] = again[: len(lost)]
        done = 0
        for row, windows in itertools.groupby(scored.windows, key=lambda window: window[0]):
            for places in _consecutive([place for _, place in windows]):
                self._finish_rows()
                self._sums.add(row, places, probabilities[done : done + len(places)])
                done += len(places)

    def _finish_rows(self) -> None:
        """Finish rows, from the top, whose windows are all summed."""
        while self._rows and self._rows[0].left == 0:
            self._sums.end(self._rows[0])
            self._finished.append(self._rows.popleft())

    def _ticket(self) -> Ticket | None:
        """Queue the copies of finished rows to the host; return a claim on them."""
        rows, self._finished = self._finished, []
        claims = []
        for row in rows:
            copies, mark = self._streams.fetch([row.finite, *row.products.values()])
            claims.append(_Claim(row.place, tuple(row.products), copies, mark))
        return _Tickets(self._engine.device, claims) if claims else None


class _Pixels:
    """The pixels of a row of windows, on the device.

    Rows shared by two rows of windows are copied on the device; only fresh ones come from the host.
    """

    def __init__(
        self, streams: Streams, stored: NDArray[np.generic], like: torch.Tensor, course: Course, *, unsigned: bool
    ) -> None:
        self._streams = streams
        self._unsigned = unsigned
        self._window_px = course.window_px
        dtype = torch.from_numpy(np.empty(0, stored.dtype)).dtype
        shape = (course.window_px, course.width_px)
        self._buffers = [
            (like.new_empty((len(stored), *shape), dtype=dtype), like.new_empty(shape, dtype=torch.bool))
            for _ in range(_BUFFERS)
        ]
        streams.shared(*itertools.chain.from_iterable(self._buffers))
        # a buffer may lie where a dropped tensor was, which queued work may still use
        self._free = [streams.mark()] * _BUFFERS
        """Marks after the last use of each buffer's memory."""
        self._current = -1
        self._gaps = np.zeros(0, np.bool_)
        """(row of pixels): whether one of them is invalid."""

    @property
    def has_gaps(self) -> bool:
        """Return whether some pixel of the row of windows is invalid."""
        return bool(self._gaps.any())

    @property
    def valid(self) -> torch.Tensor:
        """Valid pixels (row, col) of the row of windows."""
        return self._buffers[self._current % _BUFFERS][1]

    def advance(self, stored: NDArray[np.generic], valid: NDArray[np.bool_] | None, shared_px: int) -> Mark:
        """Take the fresh pixels of the next row of windows; return a mark after their copies."""
        before = self._current % _BUFFERS
        self._current += 1
        place = self._current % _BUFFERS
        data_buffer, valid_buffer = self._buffers[place]
        fresh = [(stored, data_buffer[:, shared_px:])] + ([] if valid is None else [(valid, valid_buffer[shared_px:])])
        sent = self._streams.send([array for array, _ in fresh], [to for _, to in fresh], self._free[place])
        if shared_px:
            data_buffer[:, :shared_px] = self._buffers[before][0][:, -shared_px:]
            valid_buffer[:shared_px] = self._buffers[before][1][-shared_px:]
        if valid is None:
            valid_buffer[shared_px:] = True
        gaps = np.zeros(stored.shape[1], np.bool_) if valid is None else ~valid.all(axis=1)
        self._gaps = np.concatenate([self._gaps[len(self._gaps) - shared_px :], gaps])
        self._free[before] = self._streams.mark()
        self._streams.hold(sent)
        return sent

    def batch(self, size: int) -> Batch:
        """Return an empty batch for these pixels."""
        data, valid = self._buffers[0]
        side = self._window_px
        return Batch(
            data.new_empty((size, len(data), side, side)),
            valid.new_empty((size, 1, side, side)),
            data.new_zeros((size, side), dtype=torch.float32),
            data.new_zeros((size, side), dtype=torch.float32),
            self._unsigned,
        )

    def windows(self, starts: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return evenly spaced windows: data (n, band, row, col), valid (n, 1, row, col)."""
        data, valid = self._buffers[self._current % _BUFFERS]
        step = starts[1] - starts[0] if len(starts) > 1 else 1
        cols = slice(starts[0], starts[-1] + self._window_px)
        return (
            data[:, :, cols].unfold(2, self._window_px, step).permute(2, 0, 1, 3),
            valid[None, :, cols].unfold(2, self._window_px, step).permute(2, 0, 1, 3),
        )


class _Sums:
    """Sums of weighted probabilities: pending until later windows are added, then labeled."""

    def __init__(self, engine: BatchScorer, course: Course, starts: Sequence[int]) -> None:
        self.zero = engine.placed(np.zeros(1, np.float32))
        self._classes = engine.classes
        self._course = course
        self._starts = starts
        codes = course.output_codes
        self._codes = None if codes == tuple(range(len(codes))) else engine.placed(np.asarray(codes, np.uint8))
        rows = course.row_starts
        shared_px = max((above + course.window_px - below for above, below in itertools.pairwise(rows)), default=0)
        self._waiting = self.zero.new_zeros((engine.classes, max(shared_px, 0), course.width_px))
        """(class, row, col) for the row of windows below; overwritten from left to right as it is read."""
        self._is_empty = True
        """Whether no sums are pending there."""
        self._left: torch.Tensor | None = None
        """(class, row, col): sums that the next window of the row shares with the previous ones."""

    def add(self, row: _Row, places: range, probabilities: torch.Tensor) -> None:
        """Add windows of a row, consecutive columns of the grid; earlier windows that are not run add nothing."""
        self._begin(row)
        self._skip(row, places.start)
        self._advance(row, places.stop, probabilities)
        row.left -= len(places)

    def end(self, row: _Row) -> None:
        """Finish a row after its last window is added."""
        if row.seen.any() or not self._is_empty:
            self._begin(row)
            self._skip(row, len(self._starts))
            nothing = not row.seen.any() and row.above_px <= row.place.height
            self._is_empty = nothing or row.below_px <= 0

    def _begin(self, row: _Row) -> None:
        if not row.products:
            for name in self._course.keep:
                bands = (self._classes,) if name == "probabilities" else ()
                row.products[name] = self.zero.new_empty((*bands, *row.place.shape), dtype=torch.uint8)

    def _skip(self, row: _Row, stop: int) -> None:
        """Skip windows that are not run, a few at a time."""
        while row.next_col < stop:
            self._advance(row, min(row.next_col + self._course.batch_size, stop), None)

    def _advance(self, row: _Row, stop: int, probabilities: torch.Tensor | None) -> None:
        """Advance to a column of windows; pixels that no later window shares are finished.

        The sums start with the pending ones, and windows are added one after another: in the order of the grid, left to
        right and then down.
        """
        first, window_px = self._starts[row.next_col], self._course.window_px
        span = slice(first, self._starts[stop - 1] + window_px)
        sums = self.zero.new_zeros((self._classes, window_px, span.stop - first))
        left_px = 0
        if self._left is not None:
            left_px = self._left.shape[2]
            sums[:, :, :left_px] = self._left
        if row.above_px > 0 and not self._is_empty:  # the left columns have got theirs already
            sums[:, : row.above_px, left_px:] = self._waiting[:, : row.above_px, first + left_px : span.stop]
        for place, window in zip(
            range(row.next_col, stop), () if probabilities is None else probabilities, strict=False
        ):
            start = self._starts[place] - first
            sums[:, :, start : start + window_px] += window
        is_last = stop == len(self._starts)
        finished = slice(0, span.stop - first if is_last else min(self._starts[stop] - first, span.stop - first))
        self._left = sums[:, :, finished.stop :].clone() if finished.stop < span.stop - first else None
        if row.below_px > 0:
            self._waiting[:, : row.below_px, first : first + finished.stop] = sums[:, row.place.height :, finished]
        self._label(row, sums[:, : row.place.height, finished], slice(first, first + finished.stop))
        row.next_col = stop

    def _label(self, row: _Row, sums: torch.Tensor, cols: slice) -> None:
        """Turn finished probabilities (class, row, col) into the products of some columns of a row."""
        channel, best = _most_probable(sums)
        row.finite.logical_and_(torch.isfinite(best).all())
        valid = row.valid[:, cols]
        for name, product in row.products.items():
            if name == "labels":
                values = channel if self._codes is None else self._codes[channel.int()]
            else:
                values = _percent(best if name == "confidence" else sums)
            product[..., cols] = torch.where(valid, values, NODATA)


def _most_probable(sums: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first channel of the highest probability, uint8 (row, col), and that probability.

    One call on a GPU; on a CPU a running maximum is twice as fast.
    """
    if sums.device.type != "cpu":
        best, channel = torch.max(sums, 0)
        return channel.to(torch.uint8), best
    best = sums[0].clone()
    channel = torch.zeros_like(best, dtype=torch.uint8)
    for index in range(1, len(sums)):
        channel.masked_fill_(sums[index] > best, index)
        torch.maximum(best, sums[index], out=best)
    return channel, best


def _percent(probabilities: torch.Tensor) -> torch.Tensor:
    return torch.clip(probabilities * 100 + 0.5, 0, 100).to(torch.uint8)


def _rows_with_any(
    label_mask: NDArray[np.bool_] | None, rows: int, starts: Sequence[int], window_px: int
) -> NDArray[np.bool_]:
    """Return whether a row of pixels has any to be scored in a column of windows: (row, column of windows)."""
    if label_mask is None:
        return np.ones((rows, len(starts)), np.bool_)
    return np.stack([label_mask[:, start : start + window_px].any(axis=1) for start in starts], axis=1)


def _runs(is_run: NDArray[np.bool_], starts: Sequence[int]) -> Iterator[range]:
    """Yield runs of windows to score, evenly spaced; the grid's last column is shifted inward."""
    step = starts[1] - starts[0] if len(starts) > 1 else 0
    for run in _consecutive([int(place) for place in np.flatnonzero(is_run)]):
        even = run.stop
        while even - run.start > 1 and starts[even - 1] - starts[even - 2] != step:
            even -= 1
        yield range(run.start, even)
        for place in range(even, run.stop):
            yield range(place, place + 1)


def _consecutive(places: Sequence[int]) -> Iterator[range]:
    """Yield the runs of consecutive numbers in an ascending sequence."""
    begin = 0
    for at in range(1, len(places) + 1):
        if at == len(places) or places[at] != places[at - 1] + 1:
            yield range(places[begin], places[at - 1] + 1)
            begin = at


@dataclass(frozen=True, slots=True, eq=False)
class _Claim:
    place: Window
    names: tuple[ProductName, ...]
    copies: Sequence[torch.Tensor]
    """A flag for whether all values are finite, then the products."""
    mark: Mark

    def rows(self) -> FinishedRows:
        self.mark.wait()
        finite, *products = self.copies
        arrays = {name: product.numpy() for name, product in zip(self.names, products, strict=True)}
        return FinishedRows(self.place, arrays, bool(finite))


@dataclass(frozen=True, slots=True, eq=False)
class _Tickets:
    """A claim on rows that are being copied to the host."""

    device: str
    claims: Sequence[_Claim]

    def result(self) -> Sequence[FinishedRows]:
        with device_faults(self.device):
            return [claim.rows() for claim in self.claims]
