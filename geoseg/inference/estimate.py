"""The estimate of a plan: its tiles and windows, and the memory, disk and time it needs."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoseg.errors import UsageError, numbered
from geoseg.inference.pipeline import Capacity, rows_ahead
from geoseg.inference.scoring import BASELINE_BYTES, Scoring
from geoseg.inference.tile import SceneMapping, fitting_batch, halve_batch
from geoseg.machine import available_cores, available_memory_bytes, size_text
from geoseg.model import TORCH_BYTES, OutOfMemory, Weights
from geoseg.raster import Scene, Window, shown
from geoseg.raster.landcover import PartFormat

if TYPE_CHECKING:
    from geoseg.inference.plan import Plan

_BYTES_A_LABEL = 0.3
"""Parts and map together, overviews included. Maps of real imagery at 0.5 and 0.6 m took 0.09 to 0.15; pure noise of
seven classes takes 1."""
_BYTES_A_PERCENT = 1.4
"""The same for confidence and each band of probabilities: measured 1.1 to 1.34, and 0.75 to 1.23."""
_STORED_AGAIN = 1.4
"""Factor if tile edges cut the map's blocks: a third copy exists for a while (1.34 times as much, measured)."""
_CONTEXT_BYTES = 500 << 20
"""Main memory of a GPU's driver per GPU; a guess."""
_TRIALS = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan needs. The time is extrapolated from a few windows scored on its engine."""

    scene: str
    height_px: int
    """Height of the map; width_px and gsd_m are the map's too."""
    width_px: int
    gsd_m: float | None
    scene_gsd_m: float | None
    network_gsd_m: float | None
    """Size of the pixels that the network sees."""
    bands: str
    model: str
    engine: str
    window_px: int
    """In pixels that the network sees, like overlap_px."""
    overlap_px: int
    blend: str
    tta: int
    batch_size: int
    tile_height_px: int
    tile_width_px: int
    tiles: int
    windows: int
    workers: int
    memory_bytes: int
    device_bytes: int
    """Memory needed on each GPU; 0 without a GPU."""
    device_free_bytes: int
    """Free now, on the GPU that has the least."""
    device_total_bytes: int
    disk_bytes: int
    seconds: float

    def to_json(self) -> dict[str, object]:
        """Return the fields as a dict."""
        return asdict(self)

    def __str__(self) -> str:
        """Return a summary of a few lines."""
        gsd = "unknown pixel size" if self.gsd_m is None else f"{self.gsd_m:.3g} m pixels"
        if self.gsd_m is not None and self.gsd_m != self.scene_gsd_m:
            gsd += f", resampled from {self.scene_gsd_m:.3g} m"
        network_pixels = ""
        if self.network_gsd_m != self.gsd_m:
            network_pixels = f" (pixels of {self.network_gsd_m:.3g} m, averaged from the map's)"
        blending = f"blend {self.blend}" + (f", each in {self.tta} symmetries" if self.tta > 1 else "")
        rate = self.height_px * self.width_px / 1e6 / max(self.seconds, 1e-9)
        on_gpu = f"gpu      about {size_text(self.device_bytes)} of its {size_text(self.device_total_bytes)}"
        on_gpu += f", {size_text(self.device_free_bytes)} free"
        tiles = f"{self.tiles} of {self.tile_width_px} x {self.tile_height_px} px"
        lines = (
            f"scene    {self.scene}: {self.width_px} x {self.height_px} px, {gsd}",
            f"bands    {self.bands.removeprefix('bands ')}",
            f"model    {self.model}",
            f"engine   {self.engine}",
            f"windows  {self.windows} of {self.window_px} px{network_pixels}, overlap {self.overlap_px} px, {blending}",
            f"batch    up to {numbered(self.batch_size, 'window')}",
            f"tiles    {tiles}, {numbered(self.workers, 'worker')}",
            f"memory   about {size_text(self.memory_bytes)}",
            on_gpu if self.device_total_bytes else "",
            f"disk     about {size_text(self.disk_bytes)}",
            f"time     about {_duration(self.seconds)} ({rate:.2g} Mpx/s)",
        )
        return "\n".join(line for line in lines if line)


def estimate(plan: Plan) -> Estimate:
    """Return the estimate of a plan. Scores a few windows to measure the time, and writes nothing."""
    gsd_m = plan.scene.geobox.gsd_m
    return Estimate(
        scene=shown(plan.source.path),
        height_px=plan.grid.height_px,
        width_px=plan.grid.width_px,
        gsd_m=gsd_m,
        scene_gsd_m=plan.source.geobox.gsd_m,
        network_gsd_m=None if gsd_m is None else gsd_m * plan.network_factor,
        bands=plan.source.band_choice,
        model=plan.bundle.name,
        engine=plan.engine.describe(),
        window_px=plan.engine.window_px,
        overlap_px=round(plan.grid.overlap_px / plan.network_factor),
        blend=plan.mapping.blend,
        tta=plan.tta,
        batch_size=plan.mapping.batch_size,
        tile_height_px=plan.tile_height_px,
        tile_width_px=plan.tile_width_px,
        tiles=plan.tile_count,
        windows=plan.windows_run,
        workers=plan.workers,
        memory_bytes=plan.memory_bytes,
        device_bytes=plan.device_bytes,
        device_free_bytes=min(device.free_bytes() for device in plan.engine.each),
        device_total_bytes=min(device.total_bytes for device in plan.engine.each),
        disk_bytes=plan.disk_bytes,
        seconds=_seconds(plan),
    )


def _seconds(plan: Plan) -> float:
    """Return the time for all windows, extrapolated from the fastest of a few blank batches."""
    engine, window_px = plan.open_engine(), plan.grid.window_px
    blank = np.zeros((len(plan.scene.band_indexes), window_px, window_px), plan.scene.dtype)
    footprint = engine.upload(blank, np.ones((window_px, window_px), np.bool_))
    quickest, trials = float("inf"), 0
    while trials < _TRIALS:
        count = fitting_batch(engine, plan.mapping.batch_size)
        windows, ones = [Window(0, 0, window_px, window_px)] * count, Weights.ones(count, window_px)
        began = time.perf_counter()
        try:
            probabilities = engine.probabilities(footprint, windows, ones)
            engine.download(probabilities[:1, :1, :1])  # waits for a GPU, and copies next to nothing
        except OutOfMemory:
            halve_batch(engine, count, window_px)
            continue
        quickest = min(quickest, (time.perf_counter() - began) / count)
        trials += 1
    return quickest * plan.windows_run / _at_once(plan)


def _at_once(plan: Plan) -> int:
    """Return how many windows are scored concurrently; a Python function is called by one thread at a time."""
    if plan.scoring.feeds_devices:
        return len(plan.engine.each)
    return 1 if plan.bundle.function is not None else min(plan.workers, available_cores())


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def worker_bytes(source: Scene, scoring: Scoring, mapping: SceneMapping[Scene], tile: tuple[int, int]) -> int:
    """Estimate the memory of one worker that maps tile by tile, including the blocks it resamples."""
    scene = mapping.scene
    held = scoring.worker_bytes(mapping.grid, tile, len(scene.band_indexes), scene.dtype, mapping.product_bands)
    return held + _resampling_bytes(source, scene)


def scorers_bytes(
    source: Scene, scoring: Scoring, mapping: SceneMapping[Scene], tile: tuple[int, int], workers: int
) -> int:
    """Estimate the memory of `workers` threads that sweep a scene together: a shared band, and each thread's batch."""
    capacity, grid, scene = capacity_of(source, scoring, mapping, tile, workers), mapping.grid, mapping.scene
    width_px = capacity.cols * tile[1]
    windows = math.ceil(max(1, grid.span_px(width_px) - grid.overlap_px) / grid.stride_px)
    rows = min(rows_ahead(workers, windows, mapping.batch_size), len(grid.row_starts))
    shared = capacity.memory_bytes + scoring.sweep_bytes(grid, width_px, len(scene.band_indexes), scene.dtype, rows)
    return shared + _scorers_bytes(source, scoring, mapping, workers)


def _scorers_bytes(source: Scene, scoring: Scoring, mapping: SceneMapping[Scene], workers: int) -> int:
    """Estimate the memory of the threads that sweep a scene together, apart from the shared band."""
    resampling = workers * _resampling_bytes(source, mapping.scene)
    return scoring.scorers_bytes(workers, len(mapping.scene.band_indexes)) + resampling


def _resampling_bytes(source: Scene, scene: Scene) -> int:
    """Estimate the memory of the blocks that one thread resamples."""
    if scene == source:
        return 0
    bytes_a_pixel = len(scene.band_indexes) * int(np.dtype(scene.dtype).itemsize) + 9  # as stored, and its weights
    shrunk = math.prod(source.shape) / math.prod(scene.shape)
    return math.ceil(math.prod(scene.block_shape) * shrunk) * bytes_a_pixel


def capacity_of(  # noqa: PLR0913, PLR0917 - the arguments are distinct
    source: Scene,
    scoring: Scoring,
    mapping: SceneMapping[Scene],
    tile: tuple[int, int],
    workers: int,
    free: int | None = None,
) -> Capacity:
    """Return what each device holds in memory while it sweeps a scene; `free` bytes default to those free now."""
    free = available_memory_bytes() if free is None else free
    devices = len(scoring.engine.each) if scoring.feeds_devices else 0
    if not devices:  # bands get narrower before there are fewer threads, each of which takes more
        free -= scoring.base_bytes + _scorers_bytes(source, scoring, mapping, workers)
    return Capacity.of(mapping, tile, workers=workers, devices=devices, free_bytes=free)


def swept_bytes(source: Scene, scoring: Scoring, mapping: SceneMapping[Scene], capacity: Capacity, workers: int) -> int:
    """Estimate the peak resident memory of a run that feeds devices."""
    bytes_per_device = _CONTEXT_BYTES + capacity.memory_bytes
    fixed = BASELINE_BYTES + TORCH_BYTES + workers * _resampling_bytes(source, mapping.scene)
    return fixed + len(scoring.engine.each) * bytes_per_device


def readers_that_fit(
    source: Scene, scoring: Scoring, mapping: SceneMapping[Scene], tile: tuple[int, int], workers: int | None
) -> int:
    """Return how many threads read for the devices; UsageError if even the narrowest bands do not fit in memory."""
    readers = scoring.readers if workers is None else workers
    free = available_memory_bytes()
    least = swept_bytes(source, scoring, mapping, capacity_of(source, scoring, mapping, tile, readers, free), readers)
    if least > free:
        raise UsageError(
            f"this plan needs about {size_text(least)} of memory, but only {size_text(free)} is free; choose a smaller "
            f"`tile` (now {max(tile)}) or `workers` (now {readers})"
        )
    return readers


def stored_bytes(shape: tuple[int, int], tile: tuple[int, int], bands: int) -> int:
    """Estimate the disk space of parts and map together; `bands` counts those of all products, labels included."""
    factor = _STORED_AGAIN if PartFormat.of(shape, tile).final_levels == 0 else 1
    return int(math.prod(shape) * (_BYTES_A_LABEL + _BYTES_A_PERCENT * (bands - 1)) * factor) + (1 << 20)
