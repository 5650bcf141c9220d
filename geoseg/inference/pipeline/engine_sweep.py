"""A sweep over any engine: its windows row by row, as a tile runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.inference.blend import Overlaps, axis_weights
from geoseg.inference.tile import Readable, SceneMapping, empty_map, finished_pixels, labeled, paste, window_rows
from geoseg.model import Course, Engine, FinishedRows, Slab, Sweep, Ticket
from geoseg.raster import Patch, Window


def begin_sweep(mapping: SceneMapping[Readable], engine: Engine, area: Window, batch_size: int) -> Sweep:
    """Begin to go down the windows that touch an area of the scene: in the engine's own way, if it has one."""
    begin: Callable[[Course], Sweep] | None = getattr(engine, "begin", None)
    if begin is not None:
        return begin(course_of(mapping, area, batch_size))
    return EngineSweep(mapping, engine, area)


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


class EngineSweep:
    """An engine on its way down the windows that touch an area.

    Where arrays are numpy's, all is done when `push` returns; elsewhere whoever asks for the result waits for what was
    begun here. The engine's batches are those of a tile: they end with the row.
    """

    def __init__(self, mapping: SceneMapping[Readable], engine: Engine, area: Window) -> None:
        self._mapping = mapping
        self._engine = engine
        self._rows = iter(window_rows(mapping, area))
        self._above: Patch | None = None
        """The pixels of the row of windows before."""
        self._overlaps: Overlaps | None = None

    def push(self, slab: Slab) -> Ticket | None:
        """Score a row of windows; see `Sweep`."""
        row = next(self._rows)
        footprint = row.footprint
        patch = self._above = _continued(self._above, slab, footprint.height)
        overlaps = self._overlaps = self._overlaps or Overlaps(self._engine, footprint.width, footprint.height)
        place = Window(footprint.row, footprint.col, footprint.height - row.shared_px, footprint.width)
        wanted = self._mapping.wanted(footprint, patch.valid)
        if overlaps.is_empty and not wanted.any():
            return _Claim(FinishedRows(place, {}))
        overlaps.start_row(row.shared_px)
        finished = finished_pixels(self._mapping, self._engine, overlaps, row, patch, wanted)
        if self._engine.xp is np:
            return _Claim(self._labeled(finished, wanted, place))
        begun = list(finished)
        return _Later(lambda: self._labeled(begun, wanted, place))

    def finish(self) -> Ticket | None:
        """Return None: every row is finished with its own push."""
        return None

    def _labeled(self, finished: Iterable[tuple[Window, Any]], valid: NDArray[np.bool_], place: Window) -> FinishedRows:
        products = empty_map(self._mapping, self._engine, place)
        for pixels, probabilities in finished:
            inside = pixels.relative_to(place)
            part = labeled(self._mapping, self._engine, probabilities, valid[inside.rows, inside.cols], pixels)
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
