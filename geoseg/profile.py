"""Where the time of a run goes: busy seconds per stage, what limited the run, and what to change."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from geoseg.machine import available_cores
from geoseg.typed import checked

READ, SCORE, PASTE, WRITE, ASSEMBLE = "read", "score", "paste", "write", "assemble"
"""Stages of work."""
_WORK = READ, SCORE, PASTE, WRITE
PIXELS, DEVICE, WRITERS = "pixels", "device", "writers"
"""Stages of waiting: for pixels by a device's owner, for the device and the writers by its finisher."""
MAP = "map"
"""All work on tiles, as a stretch of the run."""
UPLOAD = "upload"
"""The upload of outputs to a store, as a stretch of the run."""
_LONG_SHARE, _IDLE_SHARE, _BUSY_SHARE = 0.35, 0.35, 0.85
"""Shares above which the steps after the tiles take long, workers are idle for long, and all cores are busy."""
_COMPUTING_SHARE = 0.25
"""CPU share above which a stage computes, not waits for a disk or a server; low, as others may use the machine."""
_FASTER_OUTPUT = "write `out` to a faster disk or a nearer store"
_QUICK_SCENE = "a scene with fast compression such as ZSTD"
_QUICK_MAP = "a map compressed with ZSTD (COMPRESS=ZSTD in `creation_options`)"
_AFTER = {
    ASSEMBLE: ("assembling the map", _FASTER_OUTPUT),
    UPLOAD: ("uploading the map to its store", "write `out` to a nearer store, or to a disk"),
}
"""The steps after the tiles, and how to shorten them."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What limited a run, and what to change, one sentence each."""

    what: str
    advice: str

    def __str__(self) -> str:
        """Return both sentences."""
        return f"{self.what}; {self.advice}"


class Profile:
    """Where the time of a run goes.

    Pass one to `predict` or `Plan.run`, and print it afterwards. If passed to several runs, it adds them up.

    Examples
    --------
    >>> profile = geoseg.Profile()  # doctest: +SKIP
    >>> geoseg.predict("scene.tif", "landcover.tif", profile=profile)  # doctest: +SKIP
    >>> print(profile)  # doctest: +SKIP

    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._cpu_seconds: dict[str, float] = {}
        self._waits: dict[str, float] = {}
        """Waits that are not shown: those of a run whose only device is the cores; empty if run tile by tile."""
        self._stretches: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()
        self.workers: int | None = None
        """Number of threads that score; for devices, that read, and that write. None on a cluster."""
        self.devices = 0
        """Number of devices fed; 0 if this machine's cores or a cluster scored."""

    @checked
    def add(self, stage: str, seconds: float, cpu_seconds: float = 0.0) -> None:
        """Add to the busy and the CPU seconds of a stage; thread-safe."""
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
            self._cpu_seconds[stage] = self._cpu_seconds.get(stage, 0.0) + cpu_seconds

    @checked
    def waited(self, stage: str, seconds: float) -> None:
        """Add to the seconds of a stage of waiting; not shown if the cores are the only device."""
        if self.devices:
            self.add(stage, seconds)
            return
        with self._lock:
            self._waits[stage] = self._waits.get(stage, 0.0) + seconds

    @checked
    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the block's seconds, and its thread's CPU seconds, to a stage."""
        began, began_cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - began, time.thread_time() - began_cpu)

    @checked
    @contextmanager
    def stretch(self, name: str) -> Iterator[None]:
        """Add the block's wall-clock seconds, and this process's CPU seconds, to a stretch."""
        began, began_cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            wall_s, cpu_s = self._stretches.get(name, (0.0, 0.0))
            took = time.perf_counter() - began, time.process_time() - began_cpu
            self._stretches[name] = wall_s + took[0], cpu_s + took[1]

    @property
    def seconds(self) -> Mapping[str, float]:
        """Busy seconds by stage, summed over all threads.

        read: reading and decoding. score: the network, blending and labeling; for devices, queuing their work. paste:
        finished rows into tiles. write: encoding and writing tiles. For devices also the waits: pixels (a device had
        none), device (its results), writers (they had too many tiles).
        """
        with self._lock:
            return dict(self._seconds)

    @property
    def cpu_seconds(self) -> Mapping[str, float]:
        """CPU seconds of each stage's own threads, part of `seconds`; a network may use further threads."""
        with self._lock:
            return dict(self._cpu_seconds)

    @property
    def wall_seconds(self) -> Mapping[str, float]:
        """Wall-clock seconds: map, all work on tiles; assemble, the final rasters; upload, to a store."""
        return {name: wall_s for name, (wall_s, _) in self._stretches.items()}

    @property
    def limit(self) -> Limit | None:
        """What limited the run; None if nothing was mapped."""
        map_s, cpu_s = self._stretches.get(MAP, (0.0, 0.0))
        if not map_s or not self._seconds:
            return None
        wall = self.wall_seconds
        longest, whole_s = max(_AFTER, key=lambda name: wall.get(name, 0.0)), sum(wall.values())
        if (share := wall.get(longest, 0.0) / whole_s) > _LONG_SHARE:
            what, advice = _AFTER[longest]
            return Limit(f"{what} took {share:.0%} of the time", advice)
        if self.devices:
            return self._limit_of_devices(map_s, cpu_s)
        return self._limit_of_workers(map_s)

    def _limit_of_devices(self, map_s: float, cpu_s: float) -> Limit:
        """Return what limited a run that feeds devices, by its waits."""
        seconds = self.seconds
        stage = max((PIXELS, DEVICE, WRITERS, SCORE), key=lambda name: seconds.get(name, 0.0))
        share = f"{min(1.0, seconds.get(stage, 0.0) / (map_s * self.devices)):.0%} of the time"
        if stage == DEVICE:
            cause = f"the device: the run waited for its results {share}"
            return Limit(
                cause, "use a faster one, several (`device='cuda:all'`), a smaller model, or a smaller `overlap`"
            )
        if stage == SCORE:
            return Limit(f"queuing work for the device took {share}", "use a larger `batch_size`")
        work, cause, remedy = {
            PIXELS: (READ, f"reading: devices waited for pixels {share}", "keep the scene near"),
            WRITERS: (WRITE, f"writing: finished rows waited {share}", _FASTER_OUTPUT),
        }[stage]
        if not self._computes(work):
            return Limit(cause, f"{remedy}, or use more `workers`")
        quicker = {READ: _QUICK_SCENE, WRITE: _QUICK_MAP}[work]
        if cpu_s < _BUSY_SHARE * map_s * available_cores() and (self.workers or 0) < available_cores():
            return Limit(cause, f"use more `workers` (now {self.workers}), or {quicker}")
        return Limit(
            f"the processor: devices waited {share} while it decoded pixels and encoded tiles",
            f"use more cores, {_QUICK_SCENE}, or {_QUICK_MAP}",
        )

    def _limit_of_workers(self, map_s: float) -> Limit:
        """Return what limited a run whose threads score."""
        seconds = self.seconds
        busy_s = sum(seconds.get(stage, 0.0) for stage in _WORK)
        stage = max((READ, SCORE, WRITE), key=lambda name: seconds.get(name, 0.0))
        idle = 0.0 if self.workers is None else 1 - busy_s / (self.workers * map_s)
        if idle > _IDLE_SHARE:
            longest = max((PIXELS, WRITERS), key=lambda name: self._waits.get(name, 0.0))
            if self._waits.get(longest, 0.0) < _IDLE_SHARE * map_s:
                return self._limit_of_idle_workers(idle)
            stage = {PIXELS: READ, WRITERS: WRITE}[longest]
        share = f"{seconds.get(stage, 0.0) / busy_s:.0%} of the workers' time"
        if stage == SCORE:
            return Limit(f"the network took {share}", "use a GPU, a smaller model, or a smaller `overlap`")
        if stage == READ:
            faster = f"use {_QUICK_SCENE}, in tiles"
            return Limit(f"reading took {share}", faster if self._computes(READ) else "keep the scene near, in tiles")
        return Limit(f"writing took {share}", f"write {_QUICK_MAP}" if self._computes(WRITE) else _FASTER_OUTPUT)

    def _limit_of_idle_workers(self, idle: float) -> Limit:
        """Return what limited scoring threads that were idle, but not waiting for reads or writes."""
        cause = f"workers had nothing to do for {idle:.0%} of the time: "
        fewer = f"use fewer `workers` (now {self.workers}), so that each gets more cores"
        if not self._waits:
            return Limit(f"{cause}there were too few tiles", f"{fewer}, or a smaller `tile`")
        return Limit(f"{cause}windows are few, or scored faster than they are summed", fewer)

    def _computes(self, stage: str) -> bool:
        """Return whether a stage mostly computes, as opposed to waiting for a disk or a server."""
        return self._cpu_seconds.get(stage, 0.0) >= _COMPUTING_SHARE * self.seconds.get(stage, 0.0)

    def to_json(self) -> dict[str, object]:
        """Return the profile as plain values by name."""
        limit = self.limit
        return {
            "busy_seconds": _rounded(self.seconds, *_WORK),
            "waited_seconds": _rounded(self.seconds, PIXELS, DEVICE, WRITERS),
            "wall_seconds": _rounded(self.wall_seconds, MAP, ASSEMBLE, UPLOAD),
            "workers": self.workers,
            "devices": self.devices,
            "limit": limit and limit.what,
            "advice": limit and limit.advice,
        }

    def __str__(self) -> str:
        """Return a summary of a few lines."""
        wall = self.wall_seconds
        lines = [f"{name:<8} {wall[name]:.1f} s wall time" for name in (MAP, ASSEMBLE, UPLOAD) if name in wall]
        seconds = self.seconds
        lines += [f"{name:<8} {seconds[name]:.1f} s busy" for name in _WORK if name in seconds]
        waits = ((PIXELS, "a device had none"), (DEVICE, "for its results"), (WRITERS, "for them to catch up"))
        lines += [f"{name:<8} {seconds[name]:.1f} s waiting: {why}" for name, why in waits if name in seconds]
        limit = self.limit
        return "\n".join([*lines, *([] if limit is None else [f"limit    {limit}"])])


def _rounded(seconds: Mapping[str, float], *names: str) -> dict[str, float]:
    return {name: round(seconds[name], 3) for name in names if name in seconds}
