"""One tile: its rows read once, its windows scored in batches, blended and labeled, one row after the other."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import GeosegError, GeosegWarning, ModelError, SceneError
from geoseg.inference.blend import Blend, Overlaps, axis_weights, most_probable, percent
from geoseg.legend import NODATA
from geoseg.model import Engine, OutOfMemory, Weights, device_faults
from geoseg.raster import AreaOfInterest, Patch, Window, WindowGrid, shown
from geoseg.raster.landcover import ProductName

_fitting: WeakKeyDictionary[Engine, int] = WeakKeyDictionary()
"""The largest batch that fits an engine which once ran out of memory: the next tile need not find out again."""


class Readable(Protocol):
    """What can be mapped: a Scene, or a scene that training keeps decoded."""

    @property
    def path(self) -> str:
        """Its name in messages."""
        ...

    def read(self, window: Window) -> Patch:
        """Read a window, which may stick out: outside is invalid."""
        ...


Source_co = TypeVar("Source_co", bound=Readable, covariant=True)


@dataclass(frozen=True, slots=True)
class SceneMapping(Generic[Source_co]):
    """All that decides the label of a pixel, and what to keep of it; picklable."""

    scene: Source_co
    grid: WindowGrid
    blend: Blend
    batch_size: int
    output_codes: tuple[int, ...]
    """The class code of each channel of the network."""
    keep: tuple[ProductName, ...] = ("labels",)
    """What of a tile is kept."""
    area: AreaOfInterest | None = None
    """What is mapped of the scene; None for all. The network sees the pixels around it, so that no label of the area
    depends on its outline."""

    def wanted(self, window: Window, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which pixels (row, col) of a window of the scene get a label, of those that are valid."""
        return valid if self.area is None else valid & self.area.mask(window)


TileMap = dict[ProductName, NDArray[np.uint8]]
"""A tile's products; 255 where the scene is not valid.

labels: class codes (row, col). confidence: the probability of that class in percent (row, col). probabilities: that of
every class in percent (class, row, col).
"""


@dataclass(frozen=True, slots=True)
class WindowRow:
    """The windows of one row of the grid that touch a tile."""

    cols: tuple[int, ...]
    """Indexes into grid.col_starts."""
    footprint: Window
    """All their pixels, in the scene."""
    shared_px: int
    """How many rows it shares with the next row of windows; 0 for the last."""
    weights: Weights
    """Of each of its windows."""


def map_tile(
    mapping: SceneMapping[Readable], engine: Engine, tile: Window, checkpoint: Callable[[], None] = lambda: None
) -> TileMap:
    """Return the blended map of one tile.

    `checkpoint` is called whenever pixels are finished; what it raises ends the tile. Where memory runs out the tile
    begins again with smaller batches; OutOfMemory where one window at a time is too many. Raises SceneError when the
    scene cannot be read.
    """
    while True:
        batch_size = fitting_batch(engine, mapping.batch_size)
        try:
            result = empty_map(mapping, engine, tile)
            for inside, probabilities, valid in blended(mapping, engine, tile, checkpoint):
                paste(result, labeled(mapping, engine, probabilities, valid, inside), inside.relative_to(tile))
        except OutOfMemory:
            if batch_size == 1:
                raise
            if fitting_batch(engine, batch_size) == batch_size:  # it was not the network that ran out
                halve_batch(engine, batch_size, mapping.grid.window_px)
        else:
            return result


def blended(
    mapping: SceneMapping[Readable], engine: Engine, tile: Window, checkpoint: Callable[[], None] = lambda: None
) -> Iterator[tuple[Window, Any, NDArray[np.bool_]]]:
    """Yield finished pixels of a tile: where in the scene, their probabilities (class, row, col), valid (row, col).

    Every window of the scene's grid that touches the tile is run and summed in the grid's order, so a pixel gets the
    same sum whatever the tile around it. Windows without a valid pixel of the area mapped are not run, and where a
    whole row of them has none nothing is yielded. `checkpoint` is called whenever pixels are finished. Raises
    SceneError when the scene cannot be read.
    """
    if mapping.area is None or mapping.area.touches(tile):
        for rows in _runs(window_rows(mapping, tile), mapping.area):
            yield from _blended(mapping, engine, tile, rows, checkpoint)


def _runs(rows: list[WindowRow], area: AreaOfInterest | None) -> Iterator[list[WindowRow]]:
    """Yield rows of windows that follow one another and touch the area; the others are not even read.

    What a row shares with one that is left out lies in both, so it is outside of the area: its sum is not missed.
    """
    for touches, run in itertools.groupby(rows, lambda row: area is None or area.touches(row.footprint)):
        if touches:
            yield list(run)


def _blended(
    mapping: SceneMapping[Readable],
    engine: Engine,
    tile: Window,
    rows: list[WindowRow],
    checkpoint: Callable[[], None],
) -> Iterator[tuple[Window, Any, NDArray[np.bool_]]]:
    overlaps = Overlaps(engine, rows[0].footprint.width, mapping.grid.window_px)
    patches = read_downwards(mapping.scene, [window_row.footprint for window_row in rows])
    for window_row, patch in zip(rows, patches, strict=True):
        wanted = mapping.wanted(window_row.footprint, patch.valid)
        if overlaps.is_empty and not wanted.any():
            continue
        overlaps.start_row(window_row.shared_px)
        scored = scored_windows(mapping, engine, window_row, patch, wanted)
        for pixels, probabilities in finished_pixels(mapping.grid, engine, overlaps, window_row, scored):
            checkpoint()
            inside = pixels.intersection(tile)
            if inside is not None:
                cut, in_patch = inside.relative_to(pixels), inside.relative_to(window_row.footprint)
                yield inside, probabilities[:, cut.rows, cut.cols], wanted[in_patch.rows, in_patch.cols]


def empty_map(mapping: SceneMapping[Readable], engine: Engine, tile: Window) -> TileMap:
    """Return what is kept of a tile, nodata everywhere."""
    shapes = dict.fromkeys(mapping.keep, tile.shape) | {"probabilities": (engine.classes, *tile.shape)}
    return {name: np.full(shapes[name], NODATA, np.uint8) for name in mapping.keep}


def paste(result: TileMap, part: TileMap, place: Window) -> None:
    """Put finished pixels at their place in a tile."""
    for name, pixels in part.items():
        result[name][..., place.rows, place.cols] = pixels


def window_rows(mapping: SceneMapping[Readable], tile: Window) -> list[WindowRow]:
    """Return the rows of windows that touch a tile, from the top down."""
    grid, blend = mapping.grid, mapping.blend
    rows, cols = grid.rows_touching(tile), grid.cols_touching(tile)
    row_weights = axis_weights(grid.row_starts, grid.height_px, grid.window_px, blend, rows)
    col_weights = axis_weights(grid.col_starts, grid.width_px, grid.window_px, blend, cols)
    first, last = grid.col_starts[cols[0]], grid.col_starts[cols[-1]]
    shared = [grid.row_starts[row] + grid.window_px - grid.row_starts[row + 1] for row in rows[:-1]]
    return [
        WindowRow(
            cols=cols,
            footprint=Window(grid.row_starts[row], first, grid.window_px, last + grid.window_px - first),
            shared_px=shared_px,
            weights=Weights(np.broadcast_to(row_weight, (len(cols), row_weight.size)), col_weights),
        )
        for row, shared_px, row_weight in zip(rows, [*shared, 0], row_weights, strict=True)
    ]


def read_downwards(scene: Readable, footprints: Iterable[Window]) -> Iterator[Patch]:
    """Yield the pixels of footprints of equal columns that follow one another downwards and may overlap.

    What two of them share is kept, not read again: some formats (PNG, JPEG) can only be read from the top. Raises
    SceneError.
    """
    above: tuple[Window, Patch] | None = None
    for footprint in footprints:
        patch = scene.read(footprint) if above is None else _continue(scene, footprint, *above)
        above = footprint, patch
        yield patch


def _continue(scene: Readable, footprint: Window, above: Window, patch: Patch) -> Patch:
    shared_px = above.row_stop - footprint.row
    if shared_px <= 0:
        return scene.read(footprint)
    below = Window(above.row_stop, footprint.col, footprint.row_stop - above.row_stop, footprint.width)
    fresh = scene.read(below)
    return Patch(
        np.concatenate([patch.data[:, -shared_px:], fresh.data], axis=1),
        np.concatenate([patch.valid[-shared_px:], fresh.valid]),
    )


def mirrored_beyond(grid: WindowGrid, patch: Patch) -> Patch:
    """Return the pixels of a row of windows, with those beyond a scene smaller than a window mirrored at its edge.

    So the network sees land around a small scene, not a frame of the mean, which misleads it. Windows of larger scenes
    do not stick out.
    """
    height_px, width_px = patch.valid.shape
    rows, cols = min(height_px, grid.height_px), min(width_px, grid.width_px)
    if (rows, cols) == (height_px, width_px):
        return patch
    row, col = _mirrored(height_px, rows)[:, None], _mirrored(width_px, cols)
    return Patch(patch.data[:, row, col], patch.valid[row, col])


def _mirrored(length_px: int, inside_px: int) -> NDArray[np.int64]:
    """Return which pixel of the first `inside_px` of an axis stands at each; those beyond go back and forth."""
    there = np.arange(length_px) % (2 * inside_px)
    return np.minimum(there, 2 * inside_px - 1 - there)


def finished_pixels(
    grid: WindowGrid, engine: Engine, overlaps: Overlaps, window_row: WindowRow, scored: Iterable[Any]
) -> Iterator[tuple[Window, Any]]:
    """Yield what one row of windows finishes, pixels of the scene and their probabilities (class, row, col).

    `scored` are the weighted probabilities (class, row, col) of its windows. Window by window on a CPU, whose cache
    still holds them; the whole row at once elsewhere, for few and large calls.
    """
    footprint = window_row.footprint
    starts = [grid.col_starts[col] for col in window_row.cols]
    shared = [start + grid.window_px - following for start, following in itertools.pairwise(starts)]
    blocks = []
    for start, shared_px, weighted in zip(starts, [*shared, 0], scored, strict=True):
        with device_faults(engine.device):
            block = overlaps.finish(weighted, start - footprint.col, shared_px)
        if engine.xp is np:
            yield Window(footprint.row, start, *block.shape[1:]), block
        else:
            blocks.append(block)
    if blocks:
        with device_faults(engine.device):
            whole = engine.xp.concatenate(blocks, 2)
        yield Window(footprint.row, footprint.col, *whole.shape[1:]), whole


class Scorer(Protocol):
    """How windows of a row are scored: `score` does it when it is asked for them, others may begin at once."""

    def __call__(
        self,
        engine: Engine,
        footprint: Any,  # noqa: ANN401 - an engine's own kind of array
        windows: Sequence[Window],
        weights: Weights,
        batch_size: int,
    ) -> Iterator[Any]:
        """Return the probabilities (class, row, col) of each window times its weights, in order."""
        ...


def scored_windows(  # noqa: PLR0913, PLR0917 - each is a noun of its own
    mapping: SceneMapping[Readable],
    engine: Engine,
    window_row: WindowRow,
    patch: Patch,
    wanted: NDArray[np.bool_],
    scorer: Scorer | None = None,
) -> Iterator[Any]:
    """Return the weighted probabilities (class, row, col) of each window of a row.

    `wanted` (row, col) are the pixels of its footprint that get a label: windows without one are not scored, and get
    zeros. `scorer` is `score` if left out.
    """
    window_px, first = mapping.grid.window_px, window_row.footprint.col
    windows = [Window(0, mapping.grid.col_starts[col] - first, window_px, window_px) for col in window_row.cols]
    seen = [place for place, window in enumerate(windows) if wanted[window.rows, window.cols].any()]
    scored: Iterator[Any] = iter(())
    if seen:
        pixels = mirrored_beyond(mapping.grid, patch)
        footprint = engine.upload(pixels.data, pixels.valid)
        weights = Weights(window_row.weights.rows[seen], window_row.weights.cols[seen])
        chosen = [windows[place] for place in seen]
        scored = (scorer or score)(engine, footprint, chosen, weights, mapping.batch_size)
    return _with_zeros(mapping, engine, window_row.footprint, windows, set(seen), scored)


def _with_zeros(  # noqa: PLR0913, PLR0917 - as above
    mapping: SceneMapping[Readable],
    engine: Engine,
    footprint: Window,
    windows: Sequence[Window],
    seen: Collection[int],
    scored: Iterator[Any],
) -> Iterator[Any]:
    """Yield what is scored of each window of a row, zeros for the others; a fault of the model tells the window."""
    for place, window in enumerate(windows):
        try:
            found = next(scored) if place in seen else engine.zeros((engine.classes, *window.shape))
        except ModelError as fault:
            row, col = footprint.row, footprint.col + window.col
            where = f"(in the window at row {row}, column {col} of {shown(mapping.scene.path)})"
            raise ModelError(f"{fault} {where}", fault.parameter) from fault.__cause__
        yield found


def score(
    engine: Engine,
    footprint: Any,  # noqa: ANN401 - an engine's own kind of array
    windows: Sequence[Window],
    weights: Weights,
    batch_size: int,
) -> Iterator[Any]:
    """Yield the probabilities (class, row, col) of each window times its weights, in order.

    numpy's engines get batches about alike. Others get batches of one size, the last one filled up with its last
    window: torch chooses how to compute by the size, and what a window gets must not depend on how many come with it.
    A batch that does not fit the memory is halved, and so are all later ones; a single window that does not fit raises
    GeosegError.
    """
    done = 0
    while done < len(windows):
        left, size = len(windows) - done, fitting_batch(engine, batch_size)
        count = math.ceil(left / math.ceil(left / size)) if engine.xp is np else min(left, size)
        filled = [*range(done, done + count), *[done + count - 1] * (0 if engine.xp is np else size - count)]
        try:
            probabilities = engine.probabilities(footprint, [windows[place] for place in filled], weights[filled])
        except OutOfMemory:
            halve_batch(engine, len(filled), weights.shape[1])
            continue
        yield from probabilities[:count]
        done += count


def fitting_batch(engine: Engine, batch_size: int) -> int:
    """Return how many windows at once fit an engine, as far as is known, and no more than were asked for."""
    return min(batch_size, _fitting.get(engine, batch_size))


def halve_batch(engine: Engine, batch_size: int, window_px: int) -> None:
    """Remember that so many windows do not fit an engine, and warn of it once; GeosegError if it was a single one."""
    if batch_size == 1:
        raise GeosegError(
            f"one window of {window_px} x {window_px} pixels does not fit the memory of {engine.device}; "
            "use a smaller `window`, or `device='cpu'`"
        )
    if engine not in _fitting:
        message = (
            f"{engine.device} ran out of memory with {batch_size} windows a batch; continuing with {batch_size // 2}"
        )
        warnings.warn(message, GeosegWarning, stacklevel=2)
    _fitting[engine] = min(_fitting.get(engine, batch_size), batch_size // 2)


def labeled(
    mapping: SceneMapping[Readable],
    engine: Engine,
    probabilities: Any,  # noqa: ANN401 - an engine's own kind of array
    valid: NDArray[np.bool_],
    place: Window,
) -> TileMap:
    """Turn finished probabilities (class, row, col) into what is kept of them; SceneError if some are NaN."""
    with device_faults(engine.device):
        channel, best = most_probable(engine, probabilities)
        if not math.isfinite(float(best.sum())):
            raise no_number(mapping.scene, place)
        part: TileMap = {}
        everywhere = bool(valid.all())
        for name in mapping.keep:
            if name == "labels":
                pixels = _coded(engine.download(channel), mapping.output_codes)
            else:
                pixels = engine.download(percent(engine, best if name == "confidence" else probabilities))
            part[name] = pixels if everywhere else np.where(valid, pixels, np.uint8(NODATA))
        return part


def no_number(scene: Readable, place: Window) -> SceneError:
    """Return the error for a network that returned something other than a number."""
    return SceneError(
        f"the network returned NaN for rows {place.row} to {place.row_stop} of {shown(scene.path)}: are "
        "there extreme or undeclared nodata values? declare them nodata (rio edit-info --nodata), or give `scale`",
        "scale",
    )


def _coded(channel: NDArray[np.uint8], output_codes: tuple[int, ...]) -> NDArray[np.uint8]:
    if output_codes == tuple(range(len(output_codes))):
        return channel  # as most legends are; looking each pixel up would cost a third of the labeling
    return np.asarray(output_codes, dtype=np.uint8)[channel]
