"""The task of mapping a run's tiles: a plain value that can be sent to threads, processes and machines.

It carries the requirements for a process to give the same result as all others, and where to write finished parts.
"""

from __future__ import annotations

import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from geoseg.errors import GeosegError
from geoseg.inference.execution.scheduler import Run, checkpoint, in_turn
from geoseg.inference.pipeline import Job, run_pipeline
from geoseg.inference.tile import Readable, SceneMapping, TileMap, map_tile
from geoseg.machine import in_every_fork
from geoseg.model import EngineChoice, OutOfMemory, choose_engine, file_hash
from geoseg.profile import READ, SCORE, WRITE, Profile
from geoseg.raster import Patch, Window
from geoseg.raster.landcover import PartEncoder, PartFormat, Product, part_path
from geoseg.version import VERSION

if TYPE_CHECKING:
    from geoseg.inference.execution.stored import PartsStore
    from geoseg.inference.plan import Plan

_device_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""One lock per device: one pipeline keeps it busy, and a second one would only take its memory."""
in_every_fork(_device_locks.clear)


@dataclass(frozen=True, slots=True)
class TileDone:
    """A tile whose parts are complete on disk."""

    index: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Busy seconds of each stage, as in a `Profile`."""
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parts:
    """Where and how the parts of a run are written; a plain value, like the task of a tile."""

    products: tuple[Product, ...]
    folder: Path
    form: PartFormat
    store: PartsStore | None = None
    """Store that keeps them too; workers on other machines then need no access to the folder."""

    def begin(self, index: int, tile: Window) -> PartsInWork:
        """Start the parts of a tile, given its index and its place in the scene."""
        return PartsInWork(self, index, [PartEncoder(product, tile.height, self.form) for product in self.products])

    def write(self, index: int, encoders: Sequence[PartEncoder]) -> None:
        """Write the parts of a finished tile, each atomically."""
        with self._local_folder() as folder:
            for encoder in encoders:
                part = encoder.write(folder, index)
                if self.store is not None:
                    self.store.keep(part)

    def are_whole(self, indexes: Sequence[int]) -> list[bool]:
        """Return for each tile whether all its parts exist; parts appear only when complete."""
        paths = [part_path(self.folder, product, index) for index in indexes for product in self.products]
        exists = [path.is_file() for path in paths] if self.store is None else self.store.have(paths)
        count = len(self.products)
        return [all(exists[first : first + count]) for first in range(0, len(exists), count)]

    @contextmanager
    def _local_folder(self) -> Iterator[Path]:
        """Yield the folder of the parts; on a machine that does not see it, a temporary one."""
        if self.store is None or self.folder.is_dir():
            yield self.folder
            return
        with tempfile.TemporaryDirectory(prefix="geoseg-") as scratch:
            folder = Path(scratch) / self.folder.name
            folder.mkdir()
            yield folder


@dataclass(frozen=True, slots=True)
class PartsInWork:
    """The parts of one tile, compressed as its rows arrive."""

    parts: Parts
    index: int
    encoders: Sequence[PartEncoder]
    """One per product, in their order."""

    def add(self, rows: TileMap) -> None:
        """Take the next rows of the tile; the caller must not modify them until the tile is written."""
        for product, encoder in zip(self.parts.products, self.encoders, strict=True):
            encoder.add(rows[product.name])

    def finish(self) -> None:
        """Write the parts, each atomically, after the last rows were added."""
        self.parts.write(self.index, self.encoders)


@dataclass(frozen=True, slots=True)
class Needs:
    """The requirements for a process to map the tiles of a run like all others; a plain value, sent to it."""

    version: str
    kind: str
    """The planned engine's settings that can change a label."""
    engine: EngineChoice
    files: tuple[Path, ...]
    """Files that scoring reads."""
    parts: Parts

    @classmethod
    def of(cls, plan: Plan, parts: Parts) -> Self:
        """Return the requirements of a plan."""
        files = (*plan.source.local_files(), *plan.bundle.files)
        return cls(VERSION, plan.engine.describe_kind(), plan.engine, files, parts)

    def missing(self) -> str | None:
        """Return what is missing in this process and how to fix it, or None."""
        if self.version != VERSION:
            return f"it has geoseg {VERSION}, the run {self.version}; install the same version"
        if self.parts.store is None and not self.parts.folder.is_dir():
            return f"it does not see {self.parts.folder}; put it on a shared disk, or write to a store (s3://)"
        for path in self.files:
            if not path.exists():
                return f"it does not see {path}; put it on a shared disk"
        bundle = self.engine.bundle
        try:
            if (
                bundle.function is None
                and bundle.graph is None
                and file_hash(bundle.weights_path) != bundle.weights_hash
            ):
                return f"its {bundle.weights_path} is a different model"
            kind = _local_choice(self.engine).describe_kind()
        except (GeosegError, PackageNotFoundError) as fault:
            return str(fault)
        return None if kind == self.kind else f"it computes with {kind}, the run with {self.kind}"


def _local_choice(planned: EngineChoice) -> EngineChoice:
    """Return the engine that this machine would choose for one planned on another machine."""
    device = "auto" if planned.bundle.function is not None else planned.device
    return choose_engine(planned.bundle, device, window_px=planned.window_px, scale=planned.scale, export=False)


@dataclass(frozen=True, slots=True)
class TileTask:
    """A function that maps a tile, given its index, or several tiles."""

    plan: Plan
    parts: Parts
    run: Run

    def __call__(self, index: int) -> TileDone:
        """Map one tile and write its parts, each atomically."""
        tile = self.plan.tile(index)
        check = checkpoint(self.run)
        check()
        profile = Profile()
        mapping: SceneMapping[Any] = self.plan.mapping
        timed = replace(mapping, scene=_TimedScene(self.plan.scene, profile))
        try:
            with profile.timed(SCORE):
                mapped = map_tile(timed, self.plan.open_engine(), tile, check)
        except OutOfMemory:
            raise GeosegError(
                f"the rows of a tile of {tile.width} x {tile.height} pixels do not fit into the device's memory; "
                "use a smaller `tile`, or fewer `workers`"
            ) from None
        with profile.timed(WRITE):
            written = self.parts.begin(index, tile)
            written.add(mapped)
            written.finish()
        profile.add(SCORE, -profile.seconds.get(READ, 0.0))
        return TileDone(index, profile.seconds, profile.cpu_seconds)

    def several(self, indexes: Sequence[int]) -> tuple[list[TileDone], list[int]]:
        """Map several tiles; return those done, and those left by an error, which is raised only if none is done.

        Tiles whose parts exist, left by a worker that died, count as done. A device is fed across tiles.
        """
        are_whole = self.parts.are_whole(indexes)
        already_done = [TileDone(index) for index, is_whole in zip(indexes, are_whole, strict=True) if is_whole]
        missing = [index for index, is_whole in zip(indexes, are_whole, strict=True) if not is_whole]
        map_tiles = self._swept if self.plan.scoring.feeds_devices else partial(in_turn, self)
        try:
            done, left = map_tiles(missing)
        except Exception:
            if not already_done:
                raise
            return already_done, missing
        return [*already_done, *done], left

    def _swept(self, indexes: Sequence[int]) -> tuple[list[TileDone], list[int]]:
        """Sweep the tiles with this process's device; see `several`."""
        plan, profile, done = self.plan, Profile(), list[int]()
        job = Job(plan.mapping, plan.tile, plan.tile_cols, self._begin, profile, self.parts.form.rows_at_once)
        with _device_locks[plan.engine.device]:
            try:
                run_pipeline(job, indexes, [plan.open_engine], plan.capacity(), plan.scoring.readers, done.append)
            except Exception:
                if not done:
                    raise
        times = profile.seconds, profile.cpu_seconds
        results = [TileDone(index, *(({}, {}) if number else times)) for number, index in enumerate(done)]
        finished = set(done)
        return results, [index for index in indexes if index not in finished]

    def _begin(self, index: int, tile: Window) -> PartsInWork:
        checkpoint(self.run)()
        return self.parts.begin(index, tile)


@dataclass(frozen=True, slots=True)
class _TimedScene:
    """A scene read by one thread, with the time spent reading."""

    scene: Readable
    profile: Profile

    @property
    def path(self) -> str:
        """Its name in messages."""
        return self.scene.path

    def read(self, window: Window) -> Patch:
        """Read a window."""
        with self.profile.timed(READ):
            return self.scene.read(window)
