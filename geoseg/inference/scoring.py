"""How a model scores any scene: its engine, its windows, their blending, and how many are processed at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Self, TypedDict, TypeVar

import numpy as np

from geoseg.errors import UsageError
from geoseg.inference.blend import DEFAULT_BLEND, Blend, check_blend
from geoseg.inference.derived_engines import CoarseEngine, check_symmetries, symmetric
from geoseg.inference.pipeline import MOST_WAITING
from geoseg.inference.tile import Readable, SceneMapping
from geoseg.inference.view import network_window
from geoseg.machine import available_cores, available_memory_bytes, in_every_fork, size_text
from geoseg.model import Engine, EngineChoice, ModelBundle, Scale, accepts_window, choose_engine, default_overlap
from geoseg.progress import Announce, Progress
from geoseg.raster import WindowGrid
from geoseg.raster.landcover import ProductName

Source = TypeVar("Source", bound=Readable)

CPU_BATCH, GPU_BATCH = 1, 32
"""Windows per batch. On a CPU, batches of 4 took as long per window as batches of 1, and 170 MB more (measured). A GPU
idles with few windows; this is its maximum."""
_UNKNOWN_GPU_BATCH = 16
_BATCH_SHARE = 0.25
"""Largest share of a GPU's total memory for a default batch: the rest is for wide scenes and other programs."""
_CPU_WORKERS = 8  # further cores share the work on each window: every worker holds a tile's rows in memory
_GPU_WORKERS = 4  # for tiles that are scored and then discarded: one is on the device, the others are being read
_READERS = 16  # and as many writers: 12 to 14 ms per megapixel in total, so 16 cores feed 1000 Mpx/s
_MIRRORED_STEPS = 2
"""Least number of network steps by which a scene smaller than a window is mirrored beyond its edges."""
_LEAST_WINDOW_PX = 192
"""Smallest window that is chosen by default. DeepGlobe crops of 64, 128, 154, 200 and 320 px had an accuracy of 0.55,
0.62, 0.62, 0.67 and 0.65 in windows of this size or the next that fits, and within 0.02 of that in windows of 512 px.
In windows that they just fit into it was 0.44, 0.57, 0.61, 0.67 and 0.65."""
BASELINE_BYTES = 180 << 20
"""Memory of the interpreter, GDAL with its cache, and ONNX Runtime; measured."""
_KERNEL_BYTES = 100 << 20
"""Memory of numba, which averages pixels for networks that see coarser ones; measured."""


class ScoringOptions(TypedDict, total=False):
    """Options that control how a model scores any scene; `plan`, `predict` and `evaluate` share them.

    Options that are omitted or None follow from the model and the machine.
    """

    window: int | None
    """Edge of the windows, in pixels that the network sees. Default: the model's, or less for a smaller scene."""
    overlap: int | None
    """How many of these pixels neighboring windows share."""
    blend: str | None
    """How overlapping windows are weighted: hann (the default), linear, gaussian, mean or crop."""
    tta: int
    """Score each window in 1, 2, 4 or 8 symmetries of the square and average them, at that many times the cost."""
    scale: Scale | None
    """(low, high): the range of stored values to stretch to the model's range."""
    batch_size: int | None
    """Number of windows per batch."""
    device: str | None
    """auto, cpu, cuda, cuda:1, mps, onnx or torch-cpu; cuda:0,cuda:1 or cuda:all for several GPUs on one scene."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """A model, its engine, and how windows of a scene go through them; picklable."""

    engine: EngineChoice
    window_px: int
    """Edge of a window in scene pixels; the network may see them averaged."""
    overlap_px: int
    """In scene pixels."""
    blend: Blend
    batch_size: int
    tta: int = 1
    """Number of symmetries in which each window is scored."""
    window_was_asked: bool = False
    """Whether the user gave the window or the overlap; if not, a smaller scene gets a smaller window."""

    @classmethod
    def choose(cls, bundle: ModelBundle, options: ScoringOptions, factor: float = 1.0) -> Self:
        """Return how a model scores, by the options or else the defaults of the model and the machine.

        `factor`: scene pixels per network pixel, along one axis. Nothing is exported yet. Raises UsageError for an
        option that is invalid for this model on this machine.
        """
        window_px, overlap_px = _windows(bundle, options.get("window"), options.get("overlap"), factor)
        device, batch_size = options.get("device") or "auto", options.get("batch_size")
        from geoseg.inference.execution import run_on_worker  # noqa: PLC0415 - Dask takes long to import

        engine = run_on_worker(
            choose_engine, bundle, device, window_px=window_px, scale=options.get("scale"), export=False
        )
        usual = CPU_BATCH if engine.on_cpu else _gpu_batch(engine)
        return cls(
            engine,
            round(window_px * factor),
            round(overlap_px * factor),
            check_blend(options.get("blend") or DEFAULT_BLEND),
            usual if batch_size is None else batch_size,
            check_symmetries(options.get("tta", 1)),
            options.get("window") is not None or options.get("overlap") is not None,
        )

    def has_room_for(self, shape: tuple[int, int]) -> bool:
        """Return whether a smaller window than the model's would do for a scene of a shape (rows, cols)."""
        return not self.window_was_asked and self._least_window_px(shape) < self.engine.window_px

    def fitted(self, shape: tuple[int, int]) -> Self:
        """Return how to score a scene of a shape (rows, cols): in a smaller window if one will do.

        Beyond a scene's edges the network sees its mirror image, which costs time and adds no information. The window
        changes only if the network takes windows of any size.
        """
        if not self.has_room_for(shape) or not self.engine.any_window:
            return self
        network_px = self._least_window_px(shape)
        factor, overlap_px = self.network_factor, default_overlap(network_px)
        engine = self.engine.with_window(network_px)
        return replace(self, engine=engine, window_px=round(network_px * factor), overlap_px=round(overlap_px * factor))

    def _least_window_px(self, shape: tuple[int, int]) -> int:
        """Return the smallest window, in pixels that the network sees, for a scene of a shape (rows, cols)."""
        divisor = self.bundle.divisor
        steps = math.ceil(max(shape) / self.network_factor / divisor) + _MIRRORED_STEPS
        return max(steps, math.ceil(_LEAST_WINDOW_PX / divisor)) * divisor

    @property
    def bundle(self) -> ModelBundle:
        """The model."""
        return self.engine.bundle

    @property
    def network_factor(self) -> float:
        """Scene pixels per network pixel, along one axis; 1 if the network sees the scene's own pixels."""
        return self.window_px / self.engine.window_px

    def on_one_device(self, what: str) -> Self:
        """Return the scoring if it runs on one device; UsageError, which says what needs one, if it runs on several."""
        if self.engine.others:
            first = self.engine.device
            raise UsageError(
                f"{what} uses one device, got {len(self.engine.each)}; choose one, such as `device={first!r}`", "device"
            )
        return self

    @property
    def base_bytes(self) -> int:
        """Estimate the main memory that a process takes before it scores: its libraries and the network."""
        kernels = _KERNEL_BYTES if self.network_factor > 1 else 0
        return BASELINE_BYTES + kernels + self.engine.network_bytes

    @property
    def crew(self) -> int:
        """Number of windows scored at once if memory allows.

        On a CPU each worker scores with its share of the cores, so that reading and writing overlap with scoring; a
        few workers feed a GPU.
        """
        usual = _CPU_WORKERS if self.engine.on_cpu else 1 if self.engine.device == "mps" else _GPU_WORKERS
        return min(usual, available_cores())

    def mapping(
        self, scene: Source, shape: tuple[int, int], keep: tuple[ProductName, ...] = ("labels",)
    ) -> SceneMapping[Source]:
        """Return everything that decides the labels of a scene of a shape (rows, cols), and the products to keep."""
        grid = WindowGrid(*shape, self.window_px, self.overlap_px)
        return SceneMapping(scene, grid, self.blend, self.batch_size, self.bundle.output_codes, keep)

    @property
    def feeds_devices(self) -> bool:
        """Whether separate threads feed devices (GPUs or several engines), or the threads that read score as well."""
        return not self.engine.on_cpu or bool(self.engine.others)

    @property
    def readers(self) -> int:
        """Number of threads that read for devices, and of those that write: nothing else uses the cores."""
        return max(2, min(_READERS, available_cores()))

    @property
    def shares_windows(self) -> bool:
        """Whether threads of this machine may score the windows of a scene in any order."""
        return self.engine.same_in_any_batch and not self.feeds_devices

    def worker_bytes(self, grid: WindowGrid, tile: tuple[int, int], bands: int, dtype: str, products: int) -> int:
        """Estimate one worker's memory while it maps a tile of a shape (rows, cols) and keeps `products` bands."""
        result = tile[0] * tile[1] * (2 * products + 1)  # raw, encoded, and overviews
        return self.sweep_bytes(grid, tile[1], bands, dtype) + result + self.batch_bytes(bands)

    def sweep_bytes(self, grid: WindowGrid, width_px: int, bands: int, dtype: str, window_rows: int = 2) -> int:
        """Estimate the memory of a sweep of `width_px` columns, apart from batches being scored.

        Pending sums, the window being summed with its left neighbor, and the pixels of some rows of windows.
        """
        overlaps = 4 * len(self.bundle.output_codes) * grid.pending_px
        pixels = window_rows * self.window_px * (bands * np.dtype(dtype).itemsize + 1)
        return (overlaps + pixels) * grid.span_px(width_px) + 2 * self._result_bytes

    def scorers_bytes(self, workers: int, bands: int) -> int:
        """Estimate the memory of threads that score windows ahead, including the results that wait to be summed."""
        return workers * self.batch_bytes(bands) + MOST_WAITING * self._result_bytes

    @property
    def _result_bytes(self) -> int:
        """Size of the probabilities of one batch."""
        return 4 * len(self.bundle.output_codes) * self.batch_size * self.window_px**2

    def batch_bytes(self, bands: int) -> int:
        """Estimate the memory to score one batch on a CPU."""
        scoring = self.engine.memory_bytes(self.batch_size)
        if self.network_factor > 1:  # the averaged input, and the interpolated output
            scoring += self.batch_size * 5 * bands * self.engine.window_px**2 + self._result_bytes
        if self.tta > 1:  # the sum, and one symmetry turned back
            scoring += 2 * self._result_bytes
        return scoring

    def device_bytes(self, width_px: int, bands: int, dtype: str, products: int) -> int:
        """Estimate the memory of a GPU that sweeps `width_px` columns and keeps `products` bands.

        Pixels, three windows high; the network and its batches; sums, pending and in progress; finished rows.
        """
        window_px, classes = self.window_px, len(self.bundle.output_codes)
        pixels = 3 * window_px * width_px * (bands * np.dtype(dtype).itemsize + 1)
        in_work = 3 * 4 * classes * window_px * min(width_px, self.batch_size * window_px)
        sums = 4 * classes * self.overlap_px * width_px + in_work
        turned = 2 * 4 * classes * self.batch_size * window_px**2 if self.tta > 1 else 0
        rows = 4 * window_px * width_px * (products + 1)
        return self.engine.device_bytes(self.batch_size) + pixels + sums + turned + rows

    def share_out(
        self, pieces: int, bytes_of: Callable[[int], int], workers: int | None = None, **smaller: object
    ) -> tuple[Self, int]:
        """Return the scoring with its share of the cores, and how many workers score at once.

        Parameters
        ----------
        pieces : int
            Number of tiles or windows to share out.
        bytes_of : callable
            Gives the memory of a number of workers.
        workers : int, optional
            Number of workers requested; by default as many as cores and memory allow.
        **smaller
            Further options that the error suggests to reduce, with their current values.

        Raises
        ------
        UsageError
            If there is not enough memory.

        """
        requested = self.crew if workers is None else workers
        most, free = max(1, min(requested, pieces)), available_memory_bytes()
        least = most if workers is not None else 1
        counts = range(most, least - 1, -1)
        busy = next((count for count in counts if self.base_bytes + bytes_of(count) <= free), 0)
        if not busy:
            options = {"window": self.engine.window_px, **smaller, "batch_size": self.batch_size}
            options |= {"workers": least} if least > 1 else {}
            *others, last = [f"`{name}` (now {value})" for name, value in options.items()]
            coarse = f", or a finer `network_resolution`: one of its pixels is {self.network_factor:.4g} of the map's"
            raise UsageError(
                f"this plan needs about {size_text(self.base_bytes + bytes_of(least))} of memory, "
                f"but only {size_text(free)} is free; choose a smaller {', '.join(others)} or {last}"
                f"{coarse if self.network_factor > 1 else ''}"
            )
        return replace(self, engine=self.engine.with_threads(max(1, available_cores() // busy))), busy

    def exported(self, announce: Announce | None = None, progress: Callable[[Progress], None] | None = None) -> Self:
        """Return the scoring with an engine that any process can open: the network is exported here, once."""
        engine = self.engine
        if engine.device != "onnx" or engine.onnx_path is not None:
            return self
        with _export_reported(progress):
            ready = choose_engine(
                engine.bundle,
                "onnx",
                window_px=engine.window_px,
                scale=engine.scale,
                threads=engine.threads,
                announce=announce,
            )
        return replace(self, engine=ready)

    def open(self) -> Engine:
        """Return this process's engine, which scores every window in all symmetries."""
        if self.tta == 1 and self.network_factor == 1:
            return self.engine.open()
        return _open_around(self.engine, self.window_px, self.tta)


def _gpu_batch(engine: EngineChoice) -> int:
    """Return how many windows a GPU scores at once: by its total memory, not by what is free now.

    Labels depend on it slightly, so a resumed run must get the same value.
    """
    if not engine.total_bytes:
        return _UNKNOWN_GPU_BATCH
    batch = GPU_BATCH
    while batch > 1 and engine.device_bytes(batch) > _BATCH_SHARE * engine.total_bytes:
        batch //= 2
    return batch


def _windows(bundle: ModelBundle, window: int | None, overlap: int | None, factor: float) -> tuple[int, int]:
    """Return window and overlap in network pixels, each as long as `factor` pixels of the map.

    Unless it is given, the overlap covers the margins for which an ONNX network gives nothing.
    """
    if window is None:
        window_px = network_window(bundle.window_px, bundle.divisor, factor)
        window_px = window_px if accepts_window(bundle, window_px) else bundle.window_px
    else:
        window_px = window
    if overlap is not None:
        return window_px, WindowGrid(window_px, window_px, window_px, overlap).overlap_px  # raises for a bad overlap
    usual = bundle.overlap_px if window_px == bundle.window_px and window is None else default_overlap(window_px)
    margins_px = 0 if bundle.graph is None else 2 * bundle.graph.margin_px
    return window_px, max(usual, margins_px)


@contextmanager
def _export_reported(progress: Callable[[Progress], None] | None) -> Iterator[None]:
    began = time.monotonic()
    if progress is not None:
        progress(Progress(0, 1, 0, 0, 0, 0.0, stage="export"))
    yield
    if progress is not None:
        progress(Progress(1, 1, 0, 0, 0, time.monotonic() - began, stage="export"))


@lru_cache(maxsize=4)
def _open_around(choice: EngineChoice, window_px: int, tta: int) -> Engine:
    """Return the same engine each time, so that its largest batch need not be found out again for every tile."""
    engine = choice.open()
    if window_px != choice.window_px:  # windows are averaged first, on the engine's device if it can
        averaging: Callable[[int, int], Engine] = getattr(engine, "averaging", partial(CoarseEngine, engine))
        engine = averaging(window_px, choice.window_px)
    return symmetric(engine, tta)


in_every_fork(_open_around.cache_clear)
