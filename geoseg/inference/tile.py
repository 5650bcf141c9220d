"""Mapping one tile: read its rows once, score its windows in batches, blend and label them, row by row."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import GeosegError, ModelError, SceneError, warn
from geoseg.inference.blend import Blend, Overlaps, axis_weights, most_probable, percent
from geoseg.legend import NODATA
from geoseg.model import Course, Engine, OutOfMemory, Weights, device_faults
from geoseg.raster import AreaOfInterest, Patch, Window, WindowGrid, shown
from geoseg.raster.landcover import ProductName

_fitting: WeakKeyDictionary[Engine, int] = WeakKeyDictionary()
"""Largest batch that fits each engine that ran out of memory, so that the next tile need not find out again."""


class Readable(Protocol):
    """Anything that can be mapped: a Scene, or a scene that training keeps decoded."""

    @property
    def path(self) -> str:
        """Its name in messages."""

    def read(self, window: Window) -> Patch:
        """Read a window; pixels of it outside the scene are invalid."""


Source_co = TypeVar("Source_co", bound=Readable, covariant=True)


@dataclass(frozen=True, slots=True)
class SceneMapping(Generic[Source_co]):
    """Everything that decides the label of a pixel, and the products to keep; picklable."""

    scene: Source_co
    grid: WindowGrid
    blend: Blend
    batch_size: int
    output_codes: tuple[int, ...]
    """The class code of each channel of the network."""
    keep: tuple[ProductName, ...] = ("labels",)
    """The products to keep for each tile."""
    area: AreaOfInterest | None = None
    """The part of the scene to map; None for all of it. The network sees the pixels around it, so that no label in the
    area depends on its outline."""

    def label_mask(self, window: Window, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which of the valid pixels (row, col) of a window of the scene get a label."""
        return valid if self.area is None else valid & self.area.mask(window)

    @property
    def product_bands(self) -> int:
        """Number of bands of all products to keep."""
        return sum(len(self.output_codes) if name == "probabilities" else 1 for name in self.keep)

    def new_map(self, place: Window) -> TileMap:
        """Return uninitialized arrays for the products to keep of a part of the scene."""
        shapes = dict.fromkeys(self.keep, place.shape) | {"probabilities": (len(self.output_codes), *place.shape)}
        return {name: np.empty(shapes[name], np.uint8) for name in self.keep}


TileMap = dict[ProductName, NDArray[np.uint8]]
"""A tile's products; 255 where the scene is not valid.

labels: class codes (row, col). confidence: probability of that class in percent (row, col). probabilities: those of
all classes in percent (class, row, col).
"""


def map_tile(
    mapping: SceneMapping[Readable], engine: Engine, tile: Window, checkpoint: Callable[[], None] = lambda: None
) -> TileMap:
    """Return the blended map of one tile.

    `checkpoint` is called whenever pixels are finished; an exception from it ends the tile. If memory runs out, the
    tile starts again with smaller batches; OutOfMemory if even one window does not fit. Raises SceneError if the scene
    cannot be read.
    """
    while True:
        batch_size = fitting_batch(engine, mapping.batch_size)
        try:
            result = empty_map(mapping, tile)
            for inside, probabilities, valid in blended(mapping, engine, tile, checkpoint):
                paste(result, labeled(mapping, engine, probabilities, valid, inside), inside.relative_to(tile))
        except OutOfMemory:
            if batch_size == 1:
                raise
            if fitting_batch(engine, batch_size) == batch_size:  # memory ran out outside the network
                halve_batch(engine, batch_size, mapping.grid.window_px)
        else:
            return result


def blended(
    mapping: SceneMapping[Readable], engine: Engine, tile: Window, checkpoint: Callable[[], None] = lambda: None
) -> Iterator[tuple[Window, Any, NDArray[np.bool_]]]:
    """Yield finished pixels of a tile: their place in the scene, probabilities (class, row, col), valid (row, col).

    Every window of the scene's grid that touches the tile is run and summed in the grid's order, so a pixel gets the
    same sum in any tile. Windows without a valid pixel in the mapped area are not run, and a whole row of such windows
    yields nothing. `checkpoint` is called whenever pixels are finished. Raises SceneError if the scene cannot be read.
    """
    if mapping.area is None or mapping.area.touches(tile):
        course = course_of(mapping, tile, mapping.batch_size)
        for rows in _runs(course, mapping.area):
            yield from _blended(mapping, engine, tile, course, rows, checkpoint)


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


def _runs(course: Course, area: AreaOfInterest | None) -> Iterator[list[int]]:
    """Yield runs of consecutive rows of windows that touch the area; other rows are not even read.

    Pixels that a row shares with a skipped row are outside the area, so their incomplete sums do not matter.
    """
    numbers = range(len(course.row_starts))
    for touches, run in itertools.groupby(numbers, lambda row: area is None or area.touches(course.footprint(row))):
        if touches:
            yield list(run)


def _blended(  # noqa: PLR0913, PLR0917 - the arguments are distinct
    mapping: SceneMapping[Readable],
    engine: Engine,
    tile: Window,
    course: Course,
    rows: list[int],
    checkpoint: Callable[[], None],
) -> Iterator[tuple[Window, Any, NDArray[np.bool_]]]:
    overlaps = Overlaps(engine, course.width_px, course.window_px)
    footprints = [course.footprint(row) for row in rows]
    for row, footprint, patch in zip(rows, footprints, read_downwards(mapping.scene, footprints), strict=True):
        label_mask = mapping.label_mask(footprint, patch.valid)
        if overlaps.is_empty and not label_mask.any():
            continue
        scored = scored_windows(mapping, engine, course, row, patch, label_mask)
        for pixels, probabilities in finished_pixels(engine, overlaps, course, row, scored):
            checkpoint()
            inside = pixels.intersection(tile)
            if inside is not None:
                cut, in_patch = inside.relative_to(pixels), inside.relative_to(footprint)
                yield inside, probabilities[:, cut.rows, cut.cols], label_mask[in_patch.rows, in_patch.cols]


def empty_map(mapping: SceneMapping[Readable], place: Window) -> TileMap:
    """Return the products to keep for a part of the scene, filled with nodata."""
    products = mapping.new_map(place)
    for pixels in products.values():
        pixels.fill(NODATA)
    return products


def paste(result: TileMap, part: TileMap, place: Window) -> None:
    """Copy finished pixels to their place in a tile."""
    for name, pixels in part.items():
        result[name][..., place.rows, place.cols] = pixels


def read_downwards(scene: Readable, footprints: Iterable[Window]) -> Iterator[Patch]:
    """Yield the pixels of footprints with equal columns, ordered from top to bottom; they may overlap.

    Shared rows are kept, not read again: some formats (PNG, JPEG) can only be read from the top. Raises SceneError.
    """
    above: tuple[Window, Patch] | None = None
    for footprint in footprints:
        if above is None or above[0].row_stop <= footprint.row:
            patch = scene.read(footprint)
        else:
            stop = above[0].row_stop
            fresh = scene.read(Window(stop, footprint.col, footprint.row_stop - stop, footprint.width))
            patch = joined(above[1], fresh, footprint.height)
        above = footprint, patch
        yield patch


def joined(above: Patch, fresh: Patch, height_px: int) -> Patch:
    """Return a copy of a footprint's pixels: the last rows of the one above, and the fresh rows below them."""
    first = above.valid.shape[0] - (height_px - fresh.valid.shape[0])
    return Patch(
        np.concatenate([above.data[:, first:], fresh.data], axis=1),
        np.concatenate([above.valid[first:], fresh.valid]),
    )


def mirrored_beyond(grid: WindowGrid, patch: Patch) -> Patch:
    """Return the pixels of a row of windows, mirrored at the edge of a scene that is smaller than a window.

    The network then sees land around a small scene, not a frame of the mean, which misleads it. Windows of larger
    scenes do not extend beyond the scene.
    """
    height_px, width_px = patch.valid.shape
    rows, cols = min(height_px, grid.height_px), min(width_px, grid.width_px)
    if (rows, cols) == (height_px, width_px):
        return patch
    row, col = _mirrored(height_px, rows)[:, None], _mirrored(width_px, cols)
    return Patch(patch.data[:, row, col], patch.valid[row, col])


def _mirrored(length_px: int, inside_px: int) -> NDArray[np.int64]:
    """Return, for each pixel of an axis, which of the first `inside_px` it repeats, reflected back and forth."""
    position = np.arange(length_px) % (2 * inside_px)
    return np.minimum(position, 2 * inside_px - 1 - position)


def finished_pixels(
    engine: Engine, overlaps: Overlaps, course: Course, row: int, scored: Iterable[Any]
) -> Iterator[tuple[Window, Any]]:
    """Yield the pixels that the next row of windows of a course finishes, and their probabilities (class, row, col).

    `scored` are the weighted probabilities (class, row, col) of its windows. On a CPU they come window by window, while
    its cache holds them; elsewhere the whole row at once, for fewer and larger calls.
    """
    footprint = course.footprint(row)
    overlaps.start_row(course.window_px - course.finished(row).height)
    shared = [start + course.window_px - following for start, following in itertools.pairwise(course.col_starts)]
    blocks = []
    for start, shared_px, weighted in zip(course.col_starts, [*shared, 0], scored, strict=True):
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


Scorer = Callable[[Engine, Any, Sequence[Window], Weights, int], Iterator[Any]]
"""A function that scores the windows of a row: lazily like `score`, or starting at once."""


def scored_windows(  # noqa: PLR0913, PLR0917 - the arguments are distinct
    mapping: SceneMapping[Readable],
    engine: Engine,
    course: Course,
    row: int,
    patch: Patch,
    label_mask: NDArray[np.bool_],
    scorer: Scorer | None = None,
) -> Iterator[Any]:
    """Return the weighted probabilities (class, row, col) of each window of a row of a course.

    `label_mask` (row, col) marks the pixels of its footprint that get a label; windows without any are not scored, and
    get zeros. `scorer` defaults to `score`.
    """
    window_px, first = course.window_px, course.col_starts[0]
    windows = [Window(0, start - first, window_px, window_px) for start in course.col_starts]
    chosen_indexes = [index for index, window in enumerate(windows) if label_mask[window.rows, window.cols].any()]
    scored: Iterator[Any] = iter(())
    if chosen_indexes:
        pixels = mirrored_beyond(mapping.grid, patch)
        footprint = engine.upload(pixels.data, pixels.valid)
        row_weights = np.repeat(course.row_weights[[row]], len(chosen_indexes), axis=0)
        weights = Weights(row_weights, course.col_weights[chosen_indexes])
        chosen = [windows[index] for index in chosen_indexes]
        scored = (scorer or score)(engine, footprint, chosen, weights, mapping.batch_size)
    return _with_zeros(mapping, engine, course.footprint(row), windows, set(chosen_indexes), scored)


def _with_zeros(  # noqa: PLR0913, PLR0917 - as above
    mapping: SceneMapping[Readable],
    engine: Engine,
    footprint: Window,
    windows: Sequence[Window],
    chosen_indexes: Collection[int],
    scored: Iterator[Any],
) -> Iterator[Any]:
    """Yield each window's scores, zeros for windows not scored. A model error names the window it came from."""
    for index, window in enumerate(windows):
        try:
            scores = next(scored) if index in chosen_indexes else engine.zeros((engine.classes, *window.shape))
        except ModelError as fault:
            row, col = footprint.row, footprint.col + window.col
            where = f"(in the window at row {row}, column {col} of {shown(mapping.scene.path)})"
            raise ModelError(f"{fault} {where}", fault.parameter) from fault.__cause__
        yield scores


def score(
    engine: Engine,
    footprint: Any,  # noqa: ANN401 - an engine's own kind of array
    windows: Sequence[Window],
    weights: Weights,
    batch_size: int,
) -> Iterator[Any]:
    """Yield the probabilities (class, row, col) of each window times its weights, in order.

    Engines on numpy get batches of nearly equal size. Others get batches of one size, the last padded with its last
    window: torch picks its algorithms by batch size, and a window's result must not depend on how many come with it.
    A batch that does not fit in memory is halved, and so are all later ones; a single window that does not fit raises
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
    """Return how many windows at once are known to fit an engine, at most `batch_size`."""
    return min(batch_size, _fitting.get(engine, batch_size))


def halve_batch(engine: Engine, batch_size: int, window_px: int) -> None:
    """Remember that `batch_size` windows do not fit an engine, and warn once; GeosegError for a single window."""
    if batch_size == 1:
        raise GeosegError(
            f"one window of {window_px} x {window_px} pixels does not fit in the memory of {engine.device}; "
            "use a smaller `window`, or `device='cpu'`"
        )
    if engine not in _fitting:
        warn(
            f"{engine.device} ran out of memory with {batch_size} windows per batch; continuing with {batch_size // 2}"
        )
    _fitting[engine] = min(_fitting.get(engine, batch_size), batch_size // 2)


def labeled(
    mapping: SceneMapping[Readable],
    engine: Engine,
    probabilities: Any,  # noqa: ANN401 - an engine's own kind of array
    valid: NDArray[np.bool_],
    place: Window,
) -> TileMap:
    """Convert finished probabilities (class, row, col) to the products to keep; SceneError if any are NaN."""
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
    """Return the error for a network whose output is not finite."""
    return SceneError(
        f"the network returned NaN for rows {place.row} to {place.row_stop} of {shown(scene.path)}: are "
        "there extreme or undeclared nodata values? declare them nodata (rio edit-info --nodata), or give `scale`",
        "scale",
    )


def _coded(channel: NDArray[np.uint8], output_codes: tuple[int, ...]) -> NDArray[np.uint8]:
    if output_codes == tuple(range(len(output_codes))):
        return channel  # true of most legends; a lookup per pixel would be a third of the labeling time
    return np.asarray(output_codes, dtype=np.uint8)[channel]
