"""The verb that decodes a data set once: scenes and labels on one grid, on the disk, shared between runs."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np

from geoseg.atomic import free_space_bytes
from geoseg.dataset.area import Area
from geoseg.dataset.dataset import Dataset
from geoseg.dataset.found import each
from geoseg.dataset.prepare_scene import STRIP_PX, Task, joined, make, said_of
from geoseg.dataset.prepared_scene import CELL_PX, CELLS, PreparedScene, count_cells
from geoseg.dataset.resample import Axis
from geoseg.errors import OutputError, UsageError
from geoseg.progress import Progress
from geoseg.raster import Window

__all__ = ["PreparedScene", "prepare"]

_THREADS = 2


def prepare(  # noqa: PLR0913 - each keyword is a knob
    dataset: Dataset,
    areas: Sequence[Area],
    folder: Path,
    *,
    gsd_m: float | None = None,
    size_px: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> tuple[PreparedScene, ...]:
    """Decode the scenes of some areas and their labels into `folder`, unless they are there already.

    `gsd_m` resamples all to one resolution; `size_px` makes the long side of each scene so long. Images are averaged,
    classes by majority; where a scene grows it is interpolated, its classes are not. The folder may be shared between
    runs and processes: each scene is written under another name and is whole when it appears. `announce` is told of
    pixels that no class has.

    Returns a scene for each pair of the areas, by id. Raises UsageError for options that cannot be right, SceneError
    for damaged files and labels full of strays, OutputError when the disk is full or cannot be written.
    """
    windows: dict[str, list[Window | None]] = defaultdict(list)
    for area in areas:
        windows[area.pair_id].append(area.window)
    pairs = {pair.id: pair for pair in dataset.pairs}
    if strangers := windows.keys() - pairs.keys():
        raise UsageError(f"{dataset.name} has no scene {min(strangers)!r}")
    tasks = each(lambda name: Task.of(pairs[name], Path(folder), gsd_m, size_px), sorted(windows))
    _check_space(tasks, Path(folder))
    for place, note in _run(tasks, progress):
        if note and announce:
            announce(f"{tasks[place].pair.id}: {note}")
    return tuple(_opened(task, windows[task.pair.id]) for task in tasks)


def _run(tasks: Sequence[Task], progress: Callable[[Progress], None] | None) -> list[tuple[int, str | None]]:
    """Make what is missing, a scene on each thread; the first error ends it, and what was made is kept."""
    sizes = [task.shape[0] * task.shape[1] for task in tasks]
    began, done_px, now_px, done = time.perf_counter(), 0, 0, 0
    notes: list[tuple[int, str | None]] = []
    stop = threading.Event()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="geoseg-prepare") as pool:
        futures = {pool.submit(make, task, stop): place for place, task in enumerate(tasks)}
        try:
            for future in as_completed(futures):
                place = futures[future]
                made, note = future.result()
                notes.append((place, note))
                done, done_px, now_px = done + 1, done_px + sizes[place], now_px + sizes[place] * made
                if progress is not None:
                    seconds = time.perf_counter() - began
                    progress(Progress(done, len(tasks), done_px, sum(sizes), now_px, seconds, stage="decode"))
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return sorted(notes)


def _check_space(tasks: Iterable[Task], folder: Path) -> None:
    wanted = sum(task.size_bytes for task in tasks if not task.is_done)
    free = free_space_bytes(folder) if wanted else wanted
    if wanted > free:
        raise _too_full(folder, wanted, free)


def _too_full(folder: Path, wanted: int, free: int) -> OutputError:
    return OutputError(
        f"the decoded scenes need {wanted / 1e9:.1f} GB in {folder}, {free / 1e9:.1f} GB are free; free some space, "
        "set GEOSEG_CACHE to a folder on another disk, or train at a coarser resolution"
    )


def _opened(task: Task, windows: Sequence[Window | None]) -> PreparedScene:
    meta, whole = said_of(task), Window(0, 0, *task.shape)
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
        cells=np.load(task.folder / CELLS),
    )
    if None in windows or task.pair.whole in windows:
        return prepared
    inside = [kept for window in windows if window is not None and (kept := _scaled(task, window)) is not None]
    return _within(prepared, tuple(inside))


def _scaled(task: Task, window: Window) -> Window | None:
    """Return the new pixels that lie wholly in a window of the old; None if there are none."""
    row, row_stop = _inner(window.row, window.row_stop, task.rows)
    col, col_stop = _inner(window.col, window.col_stop, task.cols)
    return Window(row, col, row_stop - row, col_stop - col) if row < row_stop and col < col_stop else None


def _inner(start: int, stop: int, axis: Axis) -> tuple[int, int]:
    return -(-start * axis.new_length // axis.length), stop * axis.new_length // axis.length


def _within(prepared: PreparedScene, areas: tuple[Window, ...]) -> PreparedScene:
    """Return the scene with only some areas, their pixels counted."""
    cut = replace(prepared, areas=areas)
    height, width = prepared.shape
    rows = max(1, STRIP_PX // width // CELL_PX) * CELL_PX
    strips = [Window(row, 0, min(rows, height - row), width) for row in range(0, height, rows)]
    counted = [count_cells(cut.codes(strip)) for strip in strips]
    classes, cells = joined(counted)
    return replace(cut, class_codes=tuple(classes), cells=cells)
