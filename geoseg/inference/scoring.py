"""How a model scores any scene: its engine, its windows, how they are blended, how much is in work at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self, TypedDict, TypeVar

import numpy as np

from geoseg.errors import UsageError
from geoseg.inference.blend import DEFAULT_BLEND, Blend, check_blend
from geoseg.inference.derived_engines import check_symmetries, symmetric
from geoseg.inference.tile import Readable, SceneMapping
from geoseg.inference.view import network_window
from geoseg.machine import available_cores, available_memory_bytes, in_every_fork, size_text
from geoseg.model import Engine, EngineChoice, ModelBundle, Scale, choose_engine, default_overlap, takes_window
from geoseg.progress import Progress, Says
from geoseg.raster import WindowGrid
from geoseg.raster.landcover import ProductName

Source = TypeVar("Source", bound=Readable)

CPU_BATCH, GPU_BATCH = 1, 32
"""On a CPU four windows at once took as long a window as one, and 170 MB more (measured); a GPU is idle with few, and
gets at most so many."""
_UNKNOWN_GPU_BATCH = 16
_BATCH_SHARE = 0.25
"""Of a GPU's whole memory, at most, for a batch that nobody asked for: the rest is for wide scenes, and for others."""
_CPU_WORKERS = 8  # more cores than this work together on a window: each worker holds a tile's rows in memory
_GPU_WORKERS = 4  # tiles that are scored and thrown away: one is on the device, the others are read
_READERS = 16  # as many write: 12 to 14 ms a megapixel in all, so that 16 cores feed 1000 Mpx/s
_AHEAD = 3
"""Results of one of a few threads that score ahead: one in work, and its share of those that wait."""
_MIRRORED_STEPS = 2
"""By how many of the network's steps, at least, a scene smaller than a window is mirrored beyond its edges."""
_LEAST_WINDOW_PX = 192
"""Scenes are mapped in no smaller window unless somebody asks. Pieces of DeepGlobe of 64, 128, 154, 200 and 320 px had
an accuracy of 0.55, 0.62, 0.62, 0.67 and 0.65 in these windows, and within 0.02 of that in windows of 512; in windows
that they just fit into it was 0.44, 0.57, 0.61, 0.67 and 0.65."""
BASELINE_BYTES = 180 << 20
"""The interpreter, GDAL with its cache, ONNX Runtime; measured."""


class ScoringOptions(TypedDict, total=False):
    """Options that say how a model scores a scene, whatever the scene; `plan`, `predict` and `evaluate` share them.

    An option that is left out, or None, comes from the model and the machine.
    """

    window: int | None
    """Edge of the windows, in pixels that the network sees. Default: the model's, and less for a smaller scene."""
    overlap: int | None
    """How many of these pixels two neighboring windows share."""
    blend: str | None
    """How overlapping windows are weighted: hann (the default), linear, gaussian, mean or crop."""
    tta: int
    """Each window is scored in 1, 2, 4 or 8 symmetries of the square, in as many times the time, and averaged."""
    scale: Scale | None
    """(low, high): the range of stored values that is stretched over the model's."""
    batch_size: int | None
    """How many windows the network sees at once."""
    device: str | None
    """auto, cpu, cuda, cuda:1, mps, onnx or torch-cpu; cuda:0,cuda:1 or cuda:all for several GPUs on one scene."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """A model, the engine that runs it, and how windows of a scene go through it; picklable."""

    engine: EngineChoice
    window_px: int
    """Edge of a window in the scene's pixels, of which the network may see means."""
    overlap_px: int
    """In the scene's pixels."""
    blend: Blend
    batch_size: int
    tta: int = 1
    """In how many ways each window is turned and mirrored."""
    window_was_asked: bool = False
    """The user gave the window or the overlap; otherwise a smaller scene has a smaller window."""

    @classmethod
    def choose(cls, bundle: ModelBundle, options: ScoringOptions, factor: float = 1.0) -> Self:
        """Return how a model scores, by options or by its own and the machine's.

        `factor`: how many of the scene's pixels lie along one that the network sees. Nothing is exported yet. Raises
        UsageError for an option that cannot be right with this model on this machine.
        """
        window_px, overlap_px = _windows(bundle, options.get("window"), options.get("overlap"), factor)
        device, batch_size = options.get("device") or "auto", options.get("batch_size")
        from geoseg.inference.execution import where_the_work_is_done  # noqa: PLC0415 - Dask takes long to import

        engine = where_the_work_is_done(
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
        """Return whether a scene of a shape (rows, cols) would do with a smaller window than the model's."""
        return not self.window_was_asked and self._least_window_px(shape) < self.engine.window_px

    def fitted(self, shape: tuple[int, int]) -> Self:
        """Return how a scene of a shape (rows, cols) is scored: in a smaller window where it has room for it.

        Beyond the edges of a scene the network sees its mirror image, which costs time and tells nothing new. Only
        where one network takes windows of every size.
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
        """How many of the scene's pixels lie along one that the network sees; 1 where it sees the scene's own."""
        return self.window_px / self.engine.window_px

    def on_one_device(self, what: str) -> Self:
        """Return the scoring where it runs on one device; UsageError, with what is made so, where it names several."""
        if self.engine.others:
            first = self.engine.device
            raise UsageError(
                f"{what} is made on one device, got {len(self.engine.each)}; name one, as `device={first!r}`", "device"
            )
        return self

    @property
    def crew(self) -> int:
        """How many windows are scored at once where the memory allows it.

        On a CPU each worker scores with its share of the cores, so that reading and writing hide behind it; a GPU is
        fed by a few.
        """
        usual = _CPU_WORKERS if self.engine.on_cpu else 1 if self.engine.device == "mps" else _GPU_WORKERS
        return min(usual, available_cores())

    def mapping(
        self, scene: Source, shape: tuple[int, int], keep: tuple[ProductName, ...] = ("labels",)
    ) -> SceneMapping[Source]:
        """Return what decides every label of a scene of a shape (rows, cols), and what to keep of each tile."""
        grid = WindowGrid(*shape, self.window_px, self.overlap_px)
        return SceneMapping(scene, grid, self.blend, self.batch_size, self.bundle.output_codes, keep)

    @property
    def feeds_devices(self) -> bool:
        """Whether devices are fed, a GPU or several, or several engines; else the cores that read score as well."""
        return not self.engine.on_cpu or bool(self.engine.others)

    @property
    def readers(self) -> int:
        """How many threads read for devices, and how many write: they have the cores to themselves."""
        return max(2, min(_READERS, available_cores()))

    @property
    def shares_windows(self) -> bool:
        """Whether threads of this machine may score the windows of a scene in any order."""
        return self.engine.same_in_any_batch and not self.feeds_devices

    def worker_bytes(self, tile: tuple[int, int], bands: int, dtype: str, products: int) -> int:
        """Estimate what one worker holds while it maps a tile of a shape (rows, cols), of which it keeps `products`."""
        result = tile[0] * tile[1] * (2 * products + 1)  # as it is, encoded, and its overviews
        return self.sweep_bytes(tile[1], bands, dtype) + result + self.batch_bytes(bands)

    def sweep_bytes(self, width_px: int, bands: int, dtype: str) -> int:
        """Estimate what is held of so many columns on the way down: sums that wait, and two rows of windows."""
        window_px, classes = self.window_px, len(self.bundle.output_codes)
        overlaps = 4 * classes * (2 * self.overlap_px * width_px + 3 * window_px**2)
        patch = window_px * (width_px + 2 * window_px) * (bands * np.dtype(dtype).itemsize + 1)
        return overlaps + 2 * patch

    def scorer_bytes(self, bands: int) -> int:
        """Estimate what one thread holds that scores windows ahead, with its results that wait to be added up."""
        waiting = 4 * len(self.bundle.output_codes) * self.batch_size * self.window_px**2
        return self.batch_bytes(bands) + _AHEAD * waiting

    def batch_bytes(self, bands: int) -> int:
        """Estimate what scoring one batch takes on a CPU."""
        window_px, classes = self.window_px, len(self.bundle.output_codes)
        scoring = self.engine.memory_bytes(self.batch_size)
        if self.network_factor > 1:  # the means that the network sees, and what it says of them interpolated
            scoring += self.batch_size * (5 * bands * self.engine.window_px**2 + 4 * classes * window_px**2)
        if self.tta > 1:
            turned = 4 * classes * self.batch_size * window_px**2  # a sum, and one more way turned back
            scoring += 2 * turned
        return scoring

    def device_bytes(self, width_px: int, bands: int, dtype: str, products: int) -> int:
        """Estimate what a GPU holds that goes down so many columns, of which it keeps `products`; 0 elsewhere.

        Pixels, three windows high; the network and its batches; sums that wait, and those in work; finished rows.
        """
        if not self.engine.total_bytes:
            return 0
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
            How many tiles or windows there are for them.
        bytes_of : callable
            What so many workers hold.
        workers : int, optional
            How many are asked for; by default as many as the cores and the memory allow.
        **smaller
            Further options that a smaller plan would have, with what they are now.

        Raises
        ------
        UsageError
            Where the memory does not suffice.

        """
        asked = self.crew if workers is None else workers
        most, free = max(1, min(asked, pieces)), available_memory_bytes()
        least = most if workers is not None else 1
        counts = range(most, least - 1, -1)
        busy = next((count for count in counts if BASELINE_BYTES + bytes_of(count) <= free), 0)
        if not busy:
            options = {"window": self.engine.window_px, **smaller, "batch_size": self.batch_size}
            options |= {"workers": least} if least > 1 else {}
            *others, last = [f"`{name}` (now {value})" for name, value in options.items()]
            coarse = f", or a finer `network_resolution`: one of its pixels is {self.network_factor:.4g} of the map's"
            raise UsageError(
                f"this plan needs about {size_text(BASELINE_BYTES + bytes_of(least))} of memory, "
                f"{size_text(free)} are free; choose a smaller {', '.join(others)} or {last}"
                f"{coarse if self.network_factor > 1 else ''}"
            )
        return replace(self, engine=self.engine.with_threads(max(1, available_cores() // busy))), busy

    def exported(
        self,
        announce: Says | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Return the scoring with an engine that is ready to be opened anywhere: a network is exported here, once."""
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
                report=announce,
            )
        return replace(self, engine=ready)

    def open(self) -> Engine:
        """Return this process's engine, which asks the network for every window in all its ways."""
        if self.tta == 1 and self.network_factor == 1:
            return self.engine.open()
        return _open_around(self.engine, self.window_px, self.tta)


def _gpu_batch(engine: EngineChoice) -> int:
    """Return how many windows a GPU scores at once: what its whole memory suggests, not what is free just now.

    Labels depend on it a little, so a run that is resumed must find the same.
    """
    if not engine.total_bytes:
        return _UNKNOWN_GPU_BATCH
    batch = GPU_BATCH
    while batch > 1 and engine.device_bytes(batch) > _BATCH_SHARE * engine.total_bytes:
        batch //= 2
    return batch


def _windows(bundle: ModelBundle, window: int | None, overlap: int | None, factor: float) -> tuple[int, int]:
    """Return the window and the overlap in pixels that the network sees, `factor` of the map's along each."""
    if window is None:
        window_px = network_window(bundle.window_px, bundle.divisor, factor)
        window_px = window_px if takes_window(bundle, window_px) else bundle.window_px
    else:
        window_px = window
    if overlap is not None:
        return window_px, WindowGrid(window_px, window_px, window_px, overlap).overlap_px  # which refuses a bad one
    usual = bundle.overlap_px if window_px == bundle.window_px and window is None else default_overlap(window_px)
    return window_px, usual


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
    """Return the same engine each time: what was learned of its memory need not be learned again for every tile."""
    engine = choice.open()
    if window_px != choice.window_px:
        engine = _coarse(engine, window_px, choice.window_px)
    return symmetric(engine, tta)


def _coarse(engine: Engine, window_px: int, network_px: int) -> Engine:
    """Return an engine whose windows are of means, averaged on its device if it can do that itself."""
    averaging: Callable[[int, int], Engine] | None = getattr(engine, "averaging", None)
    if averaging is not None:
        return averaging(window_px, network_px)
    from geoseg.inference.derived_engines import CoarseEngine  # noqa: PLC0415 - few scenes need its kernels

    return CoarseEngine(engine, window_px, network_px)


in_every_fork(_open_around.cache_clear)
