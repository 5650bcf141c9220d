"""The verb that decodes a data set once: scenes and labels on one grid, kept on disk and shared by runs.

Each scene is written strip by strip to a folder that is renamed when complete. Files are used, not memory maps, which
would kill the process on a full disk. Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import json
import math
import shutil
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock
import numpy as np
from numpy.typing import NDArray

from geoseg.atomic import free_space_bytes, output_error, sync_file, sync_folder, write_durably
from geoseg.counts import codes_in
from geoseg.dataset.area import Area
from geoseg.dataset.dataset import Dataset
from geoseg.dataset.pair import Pair
from geoseg.dataset.prepared_scene import CELL_PX, CELLS, CODES, IMAGE, VALID, PreparedScene, count_cells, stored
from geoseg.dataset.search import each
from geoseg.errors import OutputError, SceneError, UsageError
from geoseg.legend import NODATA
from geoseg.progress import Announce, Progress
from geoseg.raster import (
    Patch,
    Scene,
    Strays,
    Tiling,
    Window,
    digest,
    raster_environment,
    scaled,
    shown,
    size_factors,
    strip_rows,
)
from geoseg.typed import checked

_THREADS = 2
_Floats = NDArray[np.float64]
_STRIP_PX = 4 * 1024**2
"""Pixels of the original scene in a strip."""
_STRIP_BYTES, _MOST_BYTES = 64 * 1024**2, 1024**3
"""Sizes of a strip of many bands: the usual one, and the largest for a row of blocks."""
_VERSION = 2
"""Version of the files; those of another version are made again."""
_META = "scene.json"


@checked
def prepare(  # noqa: PLR0913 - each keyword is an option
    dataset: Dataset,
    areas: Sequence[Area],
    folder: Path,
    *,
    gsd_m: float | None = None,
    size_px: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    announce: Announce | None = None,
) -> tuple[PreparedScene, ...]:
    """Decode the scenes of some areas and their labels into `folder`, unless they are there already.

    `gsd_m` resamples all scenes to one resolution; `size_px` is the new length of each scene's long side. Downsampling
    averages images and takes the majority class; upsampling interpolates images, but not classes. The folder may be
    shared by runs and processes: each scene is written under a temporary name and renamed when complete. `announce`
    receives notes on pixels that belong to no class.

    Returns a scene for each pair of the areas, by id. Raises UsageError for invalid options, SceneError for damaged
    files and labels with too many strays, OutputError if the disk is full or cannot be written.
    """
    windows: dict[str, list[Window | None]] = defaultdict(list)
    for area in areas:
        windows[area.pair_id].append(area.window)
    pairs = {pair.id: pair for pair in dataset.pairs}
    if unknown := windows.keys() - pairs.keys():
        raise UsageError(f"{dataset.name} has no scene {min(unknown)!r}")
    tasks = each(lambda name: _Task.of(pairs[name], Path(folder), gsd_m, size_px), sorted(windows))
    _check_space(tasks, Path(folder))
    for place, note in _run(tasks, progress):
        if note and announce:
            announce(f"{tasks[place].pair.id}: {note}")
    return tuple(_open_prepared(task, windows[task.pair.id]) for task in tasks)


def _run(tasks: Sequence[_Task], progress: Callable[[Progress], None] | None) -> list[tuple[int, str | None]]:
    """Make the missing scenes, one per thread. The first error stops the run; finished scenes are kept."""
    sizes = [task.shape[0] * task.shape[1] for task in tasks]
    began, done_px, new_px, done = time.perf_counter(), 0, 0, 0
    notes: list[tuple[int, str | None]] = []
    stop = threading.Event()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="geoseg-prepare") as pool:
        futures = {pool.submit(_make, task, stop): place for place, task in enumerate(tasks)}
        try:
            for future in as_completed(futures):
                place = futures[future]
                is_new, note = future.result()
                notes.append((place, note))
                done, done_px, new_px = done + 1, done_px + sizes[place], new_px + sizes[place] * is_new
                if progress is not None:
                    seconds = time.perf_counter() - began
                    progress(Progress(done, len(tasks), done_px, sum(sizes), new_px, seconds, stage="decode"))
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return sorted(notes)


def _check_space(tasks: Iterable[_Task], folder: Path) -> None:
    needed_bytes = sum(task.size_bytes for task in tasks if not task.is_done)
    free_bytes = free_space_bytes(folder) if needed_bytes else needed_bytes
    if needed_bytes > free_bytes:
        raise OutputError(
            f"the decoded scenes need {needed_bytes / 1e9:.3g} GB in {folder}, and only {free_bytes / 1e9:.3g} GB are "
            "free; free some space, set GEOSEG_CACHE to a folder on another disk, or train at a coarser resolution"
        )


def _open_prepared(task: _Task, windows: Sequence[Window | None]) -> PreparedScene:
    meta, whole = _saved_description(task), Window(0, 0, *task.shape)
    scene = task.pair.scene
    prepared = PreparedScene(
        id=task.pair.id,
        folder=str(task.folder),
        shape=task.shape,
        band_count=len(scene.band_indexes),
        dtype=scene.dtype,
        gsd_m=task.gsd_m,
        all_valid=meta["all_valid"],
        areas=(whole,),
        class_codes=tuple(meta["classes"]),
        cells=stored(task.folder / CELLS),
    )
    if None in windows or task.pair.whole in windows:
        return prepared
    inside = [inner for window in windows if window is not None and (inner := _scaled_window(task, window)) is not None]
    return _restricted(prepared, tuple(inside))


def _scaled_window(task: _Task, window: Window) -> Window | None:
    """Return the new pixels that lie wholly inside a window of old pixels; None if there are none."""
    row, row_stop = task.rows.inner(window.row, window.row_stop)
    col, col_stop = task.cols.inner(window.col, window.col_stop)
    return Window(row, col, row_stop - row, col_stop - col) if row < row_stop and col < col_stop else None


def _restricted(prepared: PreparedScene, areas: tuple[Window, ...]) -> PreparedScene:
    """Return the scene restricted to some areas, with their pixels counted."""
    cut = replace(prepared, areas=areas)
    height, width = prepared.shape
    rows = max(1, _STRIP_PX // width // CELL_PX) * CELL_PX
    counted = [count_cells(cut.codes(strip)) for strip in Tiling(height, width, rows, width)]
    classes, cells = _joined_counts(counted)
    return replace(cut, class_codes=tuple(classes), cells=cells)


@dataclass(frozen=True, slots=True)
class _Task:
    """One scene to be prepared."""

    pair: Pair
    folder: Path
    """The final path of its files."""
    rows: _Axis
    cols: _Axis
    gsd_m: float | None

    @classmethod
    def of(cls, pair: Pair, folder: Path, gsd_m: float | None, size_px: int | None) -> _Task:
        """Plan a scene at a resolution or a size. UsageError if it is invalid."""
        height, width = pair.scene.shape
        down, across = _factors(pair, gsd_m, size_px)
        rows, cols = _Axis(height, max(1, round(height * down))), _Axis(width, max(1, round(width * across)))
        after = gsd_m
        if pair.gsd_m is not None and (gsd_m is None or (down, across) == (1, 1)):
            after = pair.gsd_m * math.sqrt(height * width / (rows.new_length * cols.new_length))
        key = digest([_VERSION, pair.stamp(), rows.new_length, cols.new_length])[:32]
        return cls(pair, folder / key, rows, cols, after)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of the prepared scene."""
        return self.rows.new_length, self.cols.new_length

    @property
    def is_done(self) -> bool:
        """Whether the files exist and are complete."""
        return (self.folder / _META).is_file()

    @property
    def size_bytes(self) -> int:
        """Upper bound of the size of the files."""
        scene = self.pair.scene
        return self.shape[0] * self.shape[1] * (len(scene.band_indexes) * np.dtype(scene.dtype).itemsize + 2)


def _factors(pair: Pair, gsd_m: float | None, size_px: int | None) -> tuple[float, float]:
    """Return the scale factors of rows and columns, as `predict` computes them for a resolution."""
    if gsd_m is not None and size_px is not None:
        raise UsageError("give `gsd_m` (a resolution in meters) or `size_px` (a size in pixels), not both", "gsd_m")
    if size_px is not None:
        if size_px < 1:
            raise UsageError(f"`size_px`: the long side must be at least 1 pixel, got {size_px}", "size_px")
        return (size_px / max(pair.scene.shape),) * 2
    if gsd_m is None:
        return 1.0, 1.0
    if not 0 < gsd_m < math.inf:
        raise UsageError(f"`gsd_m` must be more than 0 meters per pixel, got {gsd_m}", "gsd_m")
    if pair.gsd_m is None:
        raise UsageError(
            f"{shown(pair.scene.path)} does not state its pixel size; give `data_gsd_m` (in evaluate `gsd_m`)"
        )
    grid = pair.scene.geobox
    is_own_gsd = grid.pixel_m is not None and pair.gsd_m == grid.gsd_m
    return size_factors(grid.pixel_m if is_own_gsd and grid.pixel_m else (pair.gsd_m, pair.gsd_m), gsd_m)


class _Stopped(Exception):  # noqa: N818 - never leaves this file
    """Another scene failed."""


def _make(task: _Task, stop: threading.Event) -> tuple[bool, str | None]:
    """Make the scene if it is missing. Return whether it was, and the note on it."""
    if not task.is_done:
        try:
            task.folder.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(task.folder.with_suffix(".lock")):
                if not task.is_done:
                    _write(task, stop)
                    return True, _saved_description(task).get("note")
        except OSError as error:
            raise output_error(task.folder, error) from error
    return False, _saved_description(task).get("note")


def _saved_description(task: _Task) -> dict[str, Any]:
    """Return the description saved with a scene: all_valid, classes, note. SceneError if it cannot be read."""
    try:
        value: dict[str, Any] = json.loads((task.folder / _META).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SceneError(f"cannot read {task.folder / _META}: {error}; remove that folder and run again") from None
    return value


def _write(task: _Task, stop: threading.Event) -> None:
    """Write a scene's files into a temporary folder, renamed once all is on disk. The caller holds the lock."""
    for left in task.folder.parent.glob(f".{task.folder.name}.*.tmp"):  # by a killed run
        shutil.rmtree(left, ignore_errors=True)
    if task.folder.exists():  # has no description, so our rename did not make it
        shutil.rmtree(task.folder)
    temporary = task.folder.with_name(f".{task.folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        meta = _fill(task, temporary, stop)
        write_durably(temporary / _META, json.dumps(meta).encode())
        sync_folder(temporary)
        temporary.rename(task.folder)
        sync_folder(task.folder.parent)
    finally:
        with suppress(OSError):
            shutil.rmtree(temporary, ignore_errors=True)


def _fill(task: _Task, folder: Path, stop: threading.Event) -> dict[str, Any]:
    scene, shape = task.pair.scene, task.shape
    strays, all_valid = Strays(), True
    counted: list[tuple[NDArray[np.int64], NDArray[np.uint16]]] = []
    view = scaled(scene, (task.rows.new_length / task.rows.length, task.cols.new_length / task.cols.length))
    with (
        _NpyWriter(folder / IMAGE, (len(scene.band_indexes), *shape), scene.dtype) as image,
        _NpyWriter(folder / CODES, shape, "uint8") as labels,
        _NpyWriter(folder / VALID, shape, "bool") as valid,
    ):
        for start, stop_row in _strips(task):
            if stop.is_set():
                raise _Stopped
            patch, codes, strip_strays = _strip(task, view, start, stop_row)
            strays += strip_strays
            all_valid = all_valid and bool(patch.valid.all())
            image.write(patch.data, start)
            labels.write(codes, start)
            valid.write(patch.valid, start)
            counted.append(count_cells(codes))
    if all_valid:
        (folder / VALID).unlink()
    note = task.pair.judge(strays)
    class_codes, cells = _joined_counts(counted)
    with _NpyWriter(folder / CELLS, cells.shape, "uint16") as file:
        file.write(cells, 0)
    return {"all_valid": all_valid, "classes": class_codes, "note": note}


def _strips(task: _Task) -> list[tuple[int, int]]:
    """Return the new rows (start, stop) of each strip: whole cells, a few megapixels of the original scene.

    They are fewer if it has many bands.
    """
    scene = task.pair.scene
    pixel_bytes = len(scene.band_indexes) * np.dtype(scene.dtype).itemsize
    target_px, most_px = min(_STRIP_PX, _STRIP_BYTES // pixel_bytes), min(4 * _STRIP_PX, _MOST_BYTES // pixel_bytes)
    old = strip_rows(task.cols.length, scene.block_shape, target_px, most_px)
    new = max(1, round(old * task.rows.new_length / task.rows.length / CELL_PX)) * CELL_PX
    height = task.rows.new_length
    return [(start, min(start + new, height)) for start in range(0, height, new)]


def _strip(task: _Task, view: Scene, start: int, stop: int) -> tuple[Patch, NDArray[np.uint8], Strays]:
    """Return rows of the scene as `predict` reads it, and of its labels, which are 255 where the scene is invalid."""
    scene, rows, cols = task.pair.scene, task.rows, task.cols
    same = view.shape == scene.shape
    first, after = (start, stop) if same else rows.source(start, stop)
    old = Window(first, 0, after - first, cols.length)
    with raster_environment(GDAL_ERROR_ON_LIBJPEG_WARNING="TRUE"):  # else a truncated JPEG is read as gray
        patch = view.read(Window(start, 0, stop - start, cols.new_length))
        decoded, valid = task.pair.decode(old), patch.valid if same else scene.valid(old)
    codes = decoded.codes
    codes[~valid] = NODATA
    if not same:
        codes = _resample_codes(codes, rows, cols, start, stop)
        codes[~patch.valid] = NODATA
    return patch, codes, decoded.strays


def _joined_counts(
    counted: Sequence[tuple[NDArray[np.int64], NDArray[np.uint16]]],
) -> tuple[list[int], NDArray[np.uint16]]:
    """Join the counts of strips from top to bottom: return all codes, and their counts in one grid."""
    classes = sorted({int(code) for codes, _ in counted for code in codes})
    strips = []
    for codes, counts in counted:
        strip = np.zeros((len(classes), *counts.shape[1:]), np.uint16)
        strip[[classes.index(code) for code in codes]] = counts
        strips.append(strip)
    return classes, np.concatenate(strips, axis=1)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of a scene being resampled: new pixel i covers the old pixels [i, i + 1) * length / new_length."""

    length: int
    new_length: int

    @property
    def grows(self) -> bool:
        """Whether a new pixel is smaller than an old one."""
        return self.new_length > self.length

    def source(self, start: int, stop: int) -> tuple[int, int]:
        """Return the old pixels (start, stop) that the new pixels `start` to `stop` are made of."""
        if self.grows:
            centers = self._centers(start, stop)
            return int(centers[0]), int(centers[-1]) + 1
        return start * self.length // self.new_length, -(-stop * self.length // self.new_length)

    def inner(self, start: int, stop: int) -> tuple[int, int]:
        """Return the new pixels (start, stop) that lie wholly in the old pixels `start` to `stop`."""
        return -(-start * self.new_length // self.length), stop * self.new_length // self.length

    def averaged(self, values: NDArray[np.uint8] | _Floats, axis: int, start: int, stop: int) -> _Floats:
        """Return the means over new pixels `start` to `stop`; `values` begins with the first pixel of `source`."""
        ratio = self.length / self.new_length
        edges = np.arange(start, stop + 1) * ratio - self.source(start, stop)[0]
        edges = np.clip(edges, 0, values.shape[axis])
        whole = np.floor(edges + 1e-9).astype(np.int64)
        part = np.clip(edges - whole, 0, 1)
        sums = np.zeros([n + (i == axis) for i, n in enumerate(values.shape)])
        after_first = [slice(None)] * values.ndim
        after_first[axis] = slice(1, None)
        np.cumsum(values, axis=axis, dtype=np.float64, out=sums[tuple(after_first)])
        cut = np.take(values, np.minimum(whole, values.shape[axis] - 1), axis=axis)
        weights = np.expand_dims(part, [i for i in range(values.ndim) if i != axis])
        means: _Floats = np.diff(np.take(sums, whole, axis=axis) + cut * weights, axis=axis) / ratio
        return means

    def nearest(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the old pixel at the center of each new one, counted from the first pixel of `source`."""
        return self._centers(start, stop) - self.source(start, stop)[0]

    def _centers(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the old pixel at the center of each new one."""
        center = (np.arange(start, stop) + 0.5) * self.length / self.new_length
        return np.minimum(center.astype(np.int64), self.length - 1)


def _resample_codes(codes: NDArray[np.uint8], rows: _Axis, cols: _Axis, start: int, stop: int) -> NDArray[np.uint8]:
    """Return rows `start` to `stop` of labels: the majority class of each new pixel, the nearest if the scene grows.

    `codes` holds the rows `rows.source(start, stop)` and all columns. A pixel is 255 only if more than half of it has
    no label; ties go to the lowest code.
    """
    if rows.grows or cols.grows:
        return codes[rows.nearest(start, stop)[:, None], cols.nearest(0, cols.new_length)[None, :]]

    def share(code: int) -> _Floats:
        across = cols.averaged((codes == code).view(np.uint8), 1, 0, cols.new_length)
        return rows.averaged(across, 0, start, stop)

    shape = stop - start, cols.new_length
    best, most = np.full(shape, NODATA, np.uint8), np.zeros(shape)
    present = codes_in(codes).tolist()
    for code in present:
        if code != NODATA:
            shares = share(code)
            wins = shares > most + 1e-9
            best[wins], most[wins] = code, shares[wins]
    if NODATA in present:
        best[share(NODATA) > 0.5 + 1e-9] = NODATA
    return best


class _NpyWriter:
    """A .npy file of (band, row, col) or (row, col), open for strips of rows in any order. Raises OSError."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        self._path = path
        self._height, self._width = shape[-2:]
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        head = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, head)
        self._start = self._file.tell()

    def __enter__(self) -> Self:
        return self

    def write(self, data: NDArray[Any], row: int) -> None:
        """Write whole rows, starting at `row`."""
        bands = data if data.ndim == 3 else data[None]
        for band, values in enumerate(np.ascontiguousarray(bands, self._dtype)):
            self._file.seek(self._start + (band * self._height + row) * self._width * self._dtype.itemsize)
            self._file.write(values.data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            sync_file(self._path)
