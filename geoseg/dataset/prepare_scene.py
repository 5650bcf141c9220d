"""One scene, decoded and laid on its new grid, strip by strip, into a folder that is whole when it has its name."""

from __future__ import annotations

import json
import math
import shutil
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray

from geoseg.atomic import output_error, sync_folder, write_durably
from geoseg.dataset.npy import NpyWriter, write_npy
from geoseg.dataset.pair import Pair
from geoseg.dataset.prepared_scene import CELL_PX, CELLS, CODES, IMAGE, VALID, count_cells
from geoseg.dataset.resample import Axis, resample_codes, resample_image
from geoseg.errors import SceneError, UsageError
from geoseg.legend import NODATA
from geoseg.raster import Patch, Strays, Window, digest, raster_environment, shown

STRIP_PX = 4 * 1024**2
"""Old pixels of a strip."""
_VERSION = 1
"""Of the files; another begins anew."""
_META = "scene.json"


@dataclass(frozen=True, slots=True)
class Task:
    """One scene to be prepared."""

    pair: Pair
    folder: Path
    """Where it will be."""
    rows: Axis
    cols: Axis
    gsd_m: float | None

    @classmethod
    def of(cls, pair: Pair, folder: Path, gsd_m: float | None, size_px: int | None) -> Task:
        """Plan a scene at a resolution or a size. UsageError for one that cannot be."""
        height, width = pair.scene.shape
        factor = _factor(pair, gsd_m, size_px)
        rows, cols = Axis(height, max(1, round(height * factor))), Axis(width, max(1, round(width * factor)))
        after = gsd_m
        if gsd_m is None and pair.gsd_m is not None:
            after = pair.gsd_m * math.sqrt(height * width / (rows.new_length * cols.new_length))
        key = digest([_VERSION, pair.stamp(), rows.new_length, cols.new_length])[:32]
        return cls(pair, folder / key, rows, cols, after)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) after."""
        return self.rows.new_length, self.cols.new_length

    @property
    def is_done(self) -> bool:
        """Whether it is there, whole."""
        return (self.folder / _META).is_file()

    @property
    def size_bytes(self) -> int:
        """The most that the files take."""
        scene = self.pair.scene
        return self.shape[0] * self.shape[1] * (len(scene.band_indexes) * np.dtype(scene.dtype).itemsize + 2)


def _factor(pair: Pair, gsd_m: float | None, size_px: int | None) -> float:
    if gsd_m is not None and size_px is not None:
        raise UsageError("a resolution in metres or a size in pixels, not both")
    if size_px is not None:
        if size_px < 1:
            raise UsageError(f"the long side must be at least 1 pixel, got {size_px}")
        return size_px / max(pair.scene.shape)
    if gsd_m is None:
        return 1.0
    if not 0 < gsd_m < math.inf:
        raise UsageError(f"the resolution is in metres a pixel and more than 0, got {gsd_m}")
    if pair.gsd_m is None:
        raise UsageError(
            f"{shown(pair.scene.path)} does not say how large its pixels are; say it with `data_gsd` (evaluate: `gsd`)"
        )
    factor = pair.gsd_m / gsd_m
    return 1.0 if abs(factor - 1) * max(pair.scene.shape) < 0.5 else factor


class _Stopped(Exception):  # noqa: N818 - nobody sees it
    """Another scene failed."""


def make(task: Task, stop: threading.Event) -> tuple[bool, str | None]:
    """Return whether the scene had to be made, and what is to be said of it."""
    if not task.is_done:
        try:
            task.folder.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(task.folder.with_suffix(".lock")):
                if not task.is_done:
                    _write(task, stop)
                    return True, said_of(task).get("note")
        except OSError as error:
            raise output_error(task.folder, error) from error
    return False, said_of(task).get("note")


def said_of(task: Task) -> dict[str, Any]:
    """Return what was found when a scene was made: all_valid, classes, note. SceneError if that is gone."""
    try:
        value: dict[str, Any] = json.loads((task.folder / _META).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SceneError(f"cannot read {task.folder / _META}: {error}; remove that folder and run again") from None
    return value


def _write(task: Task, stop: threading.Event) -> None:
    """Write a scene's files into a folder that gets its name when all is on the disk. The lock is held."""
    for left in task.folder.parent.glob(f".{task.folder.name}.*.tmp"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    if task.folder.exists():  # without its description: no rename of ours left it so
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


def _fill(task: Task, folder: Path, stop: threading.Event) -> dict[str, Any]:
    scene, shape = task.pair.scene, task.shape
    strays, all_valid = Strays(), True
    counted: list[tuple[NDArray[np.int64], NDArray[np.uint16]]] = []
    with (
        NpyWriter(folder / IMAGE, (len(scene.band_indexes), *shape), scene.dtype) as image,
        NpyWriter(folder / CODES, (1, *shape), "uint8", squeeze=True) as labels,
        NpyWriter(folder / VALID, (1, *shape), "bool", squeeze=True) as valid,
    ):
        for start, stop_row in _strips(task):
            if stop.is_set():
                raise _Stopped
            patch, codes, found = _strip(task, start, stop_row)
            strays += found
            all_valid = all_valid and bool(patch.valid.all())
            image.write(patch.data, start)
            labels.write(codes[None], start)
            valid.write(patch.valid[None], start)
            counted.append(count_cells(codes))
    if all_valid:
        (folder / VALID).unlink()
    note = task.pair.judge(strays)
    class_codes, cells = joined(counted)
    write_npy(folder / CELLS, cells)
    return {"all_valid": all_valid, "classes": class_codes, "note": note}


def _strips(task: Task) -> list[tuple[int, int]]:
    """Return new rows, first and after the last, of each strip: whole cells, a few megapixels of the old scene."""
    block = task.pair.scene.block_shape[0]
    old = max(1, STRIP_PX // task.cols.length)
    old = old if block * task.cols.length > 4 * STRIP_PX else max(1, old // block) * block
    new = max(1, round(old * task.rows.new_length / task.rows.length / CELL_PX)) * CELL_PX
    height = task.rows.new_length
    return [(start, min(start + new, height)) for start in range(0, height, new)]


def _strip(task: Task, start: int, stop: int) -> tuple[Patch, NDArray[np.uint8], Strays]:
    rows, cols = task.rows, task.cols
    same = rows.length == rows.new_length and cols.length == cols.new_length
    first, after = (start, stop) if same else rows.source(start, stop)
    window = Window(first, 0, after - first, cols.length)
    with raster_environment(GDAL_ERROR_ON_LIBJPEG_WARNING="TRUE"):  # a cut JPEG is grey from there on
        patch, decoded = task.pair.scene.read(window), task.pair.decode(window)
    codes = decoded.codes
    if not patch.valid.all():
        codes[~patch.valid] = NODATA
    if same:
        return patch, codes, decoded.strays
    patch = resample_image(patch, rows, cols, start, stop)
    codes = resample_codes(codes, rows, cols, start, stop)
    codes[~patch.valid] = NODATA
    return patch, codes, decoded.strays


def joined(
    counted: Sequence[tuple[NDArray[np.int64], NDArray[np.uint16]]],
) -> tuple[list[int], NDArray[np.uint16]]:
    """Return all codes of strips from top to bottom, and their counts in one grid."""
    classes = sorted({int(code) for codes, _ in counted for code in codes})
    strips = []
    for codes, counts in counted:
        strip = np.zeros((len(classes), *counts.shape[1:]), np.uint16)
        strip[[classes.index(code) for code in codes]] = counts
        strips.append(strip)
    return classes, np.concatenate(strips, axis=1)
