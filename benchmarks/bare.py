"""The bare rate of a network: ONNX Runtime called in a loop on arrays that are ready, nothing read, blended or written.

The network is what `geoseg export` writes for other programs: normalized pixels in, probabilities of a window's size
out. geoseg's own engine runs another file, whose scores are interpolated and normalized outside of ONNX Runtime.

The rate is that of the fastest way found, not of ours: one caller with all cores or a caller for each core, batches of
1, 2 and 4, a session with ONNX Runtime's options or with geoseg's.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from report import cores

from geoseg.inference import Plan
from geoseg.model.engines import export_alone
from geoseg.model.onnx_files import providers, session_options
from geoseg.raster import Window

_BATCHES = (1, 2, 4)
_READY_WINDOWS = 16
"""More than fit in the processor's cache, as in a scene."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to call the network on a CPU."""

    callers: int
    """Python threads that share one session."""
    threads: int
    """Threads inside each call."""
    batch: int
    as_geoseg: bool
    """True: geoseg's session options; False: ONNX Runtime's own."""

    def __str__(self) -> str:
        """Describe it in words."""
        options = "geoseg's" if self.as_geoseg else "default"
        return f"{self.callers} x {self.threads} threads, batch {self.batch}, {options} options"


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast windows were scored."""

    windows_a_second: float
    cpu_ms_a_window: float
    """Processor time of all threads; more reliable than the clock if the machine is not quiet."""

    def mean_with(self, other: Pace) -> Pace:
        """Return the mean of two paces."""
        return Pace(
            (self.windows_a_second + other.windows_a_second) / 2, (self.cpu_ms_a_window + other.cpu_ms_a_window) / 2
        )


@dataclass(slots=True)
class BareNetwork:
    """A network and input arrays for it: windows of the scene, so that the values are realistic."""

    path: Path
    inputs: dict[int, list[dict[str, NDArray[Any]]]]
    """The inputs of each call, by batch size."""
    sessions: dict[tuple[int, bool], onnxruntime.InferenceSession] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, folder: Path) -> BareNetwork:
        """Export a plan's network into a folder, and cut windows of its scene; SystemExit if it runs elsewhere."""
        if plan.engine.onnx_path is None:
            raise SystemExit(
                f"this benchmark is about ONNX Runtime, the plan has {plan.engine.describe()}; use --device cpu"
            )
        path, side = folder / "bare.onnx", plan.grid.window_px
        export_alone(plan.bundle, side, path, {})
        gain, bias = (values[:, None, None] for values in plan.bundle.normalization.gain_bias(plan.engine.scale))
        every = list(itertools.product(plan.grid.row_starts, plan.grid.col_starts))
        chosen = every[:: max(1, len(every) // _READY_WINDOWS)][:_READY_WINDOWS]
        patches = [plan.scene.read(Window(row, col, side, side)) for row, col in chosen]
        images = np.stack([np.where(patch.valid, patch.data * gain + bias, 0) for patch in patches]).astype(np.float32)
        inputs = {
            batch: [{"image": images[at : at + batch]} for at in range(0, len(images) - batch + 1, batch)]
            for batch in _BATCHES
        }
        return cls(path, inputs)

    def fastest(self, seconds: float) -> list[tuple[Way, Pace]]:
        """Try each way for that long; return every way with its pace, the fastest first."""
        ways = [
            Way(callers, threads, batch, as_geoseg)
            for callers, threads in sorted({(1, cores()), (cores(), 1)})
            for batch in _BATCHES
            if self.inputs[batch]
            for as_geoseg in (False, True)
        ]
        return sorted(((way, self.pace(way, seconds)) for way in ways), key=lambda tried: -tried[1].windows_a_second)

    def pace(self, way: Way, seconds: float) -> Pace:
        """Return the pace of calls for about that many seconds, after one call to warm up."""
        session = self._session(way)
        session.run(None, self.inputs[way.batch][0])
        began, began_cpu = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(way.callers) as pool:
            windows = sum(pool.map(lambda _: self._loop(session, way.batch, began + seconds), range(way.callers)))
        cpu_seconds = time.process_time() - began_cpu
        return Pace(windows / (time.perf_counter() - began), cpu_seconds * 1e3 / windows)

    def _loop(self, session: onnxruntime.InferenceSession, batch: int, end: float) -> int:
        windows = 0
        for inputs in _endless(self.inputs[batch]):
            session.run(None, inputs)
            windows += batch
            if time.perf_counter() > end:
                break
        return windows

    def _session(self, way: Way) -> onnxruntime.InferenceSession:
        key = way.threads, way.as_geoseg
        if key not in self.sessions:
            options, providers = _options(way)
            self.sessions[key] = onnxruntime.InferenceSession(self.path, options, providers=providers)
        return self.sessions[key]


def _options(way: Way) -> tuple[onnxruntime.SessionOptions, list[Any]]:
    if way.as_geoseg:
        return session_options(way.threads), list(providers())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = way.threads
    return options, ["CPUExecutionProvider"]


def _endless(inputs: list[dict[str, NDArray[Any]]]) -> Iterator[dict[str, NDArray[Any]]]:
    return itertools.cycle(inputs)
