"""The tiles of a run on Dask: on threads of this process, or on the cluster of a client that is current."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import dask.config
import dask.threaded
from dask.base import get_scheduler
from dask.callbacks import Callback

from geoseg.errors import GeosegError, UsageError
from geoseg.inference.tile import Readable, SceneMapping, TileMap, map_tile
from geoseg.model import EngineChoice, OutOfMemory, choose_engine, file_hash
from geoseg.profile import READ, SCORE, WRITE, Profile
from geoseg.raster import Patch, Window
from geoseg.raster.landcover import PartFormat, Product, write_part
from geoseg.version import VERSION

if TYPE_CHECKING:
    from geoseg.inference.execution.stored import PartsStore
    from geoseg.inference.plan import Plan

Done = TypeVar("Done")


class StoppedError(Exception):
    """A tile was given up because its run has ended; nobody sees it but the run."""


@dataclass(frozen=True, slots=True)
class Run:
    """The name of a run, and the process that started it."""

    name: str
    process: int


_GRAPH_TASKS = 20_000
"""Of one graph: Dask takes 2 KB and more for each task, and waits for the last one but once in so many."""
_PROCESSES = ("processes", "multiprocessing")
_stops: dict[Run, threading.Event] = {}


@contextmanager
def stoppable() -> Iterator[Run]:
    """Name a run, and end its tasks that still work in this process when it is left."""
    run = Run(uuid.uuid4().hex, os.getpid())
    _stops[run] = threading.Event()
    try:
        yield run
    finally:
        _stops.pop(run).set()


def checkpoint(run: Run) -> Callable[[], None]:
    """Return a function that raises StoppedError once the run has ended; in another process it never does."""
    stop = _stops.get(run)
    late = stop is None and run.process == os.getpid()

    def check() -> None:
        if late or (stop is not None and stop.is_set()):
            raise StoppedError

    return check


def run_tasks(  # noqa: PLR0913, PLR0917 - the last two are for those on a cluster
    task: Callable[[int], Done],
    indexes: Sequence[int],
    workers: int,
    finished: Callable[[Done], None],
    announce: Callable[[str], None] = lambda _line: None,
    unfit: Callable[[], str | None] | None = None,
) -> None:
    """Call `task` with every index, `workers` at a time, and `finished` in this thread with each result as it comes.

    A current Dask client takes the tasks; else the scheduler that Dask is configured with, by default threads. A flat
    graph of plain tuples: 10^5 tasks are scheduled in seconds, as `delayed` objects they take minutes. What a task or
    `finished` raises ends the run. `announce` is told when a client has no worker: it may get one. `unfit` returns, on
    a worker, why it cannot do the task, or None. Runs in several threads of one process know nothing of each other.
    """
    client = current_client()
    if client is not None or dask.config.get("scheduler", None) in _PROCESSES:
        _check_sendable(task)
    if client is not None:
        from geoseg.inference.execution.cluster import HoldTask, run_on_cluster  # noqa: PLC0415 - distributed is here

        run_on_cluster(client, HoldTask(uuid.uuid4().hex[:12], task, unfit), indexes, finished, announce)
        return
    # given, not registered: what is registered is told of the tasks of whichever run of the process looks first
    ours = (None, None, None, lambda _key, result, *_: finished(result), None)
    callbacks = [*Callback.active, ours]
    # get_scheduler imports distributed wherever it is installed; ask only if a scheduler was chosen
    chosen = get_scheduler() if dask.config.get("scheduler", None) else None
    is_chosen = chosen is not None or dask.config.get("pool", None) is not None
    # Dask's own threads outlive the run: a fork would wait for them
    pool = None if is_chosen else ThreadPoolExecutor(workers, "geoseg-tiles")
    who: dict[str, Any] = {"num_workers": workers} if pool is None else {"pool": pool}
    try:
        for start in range(0, len(indexes), _GRAPH_TASKS):
            graph = {("tile", index): (task, index) for index in indexes[start : start + _GRAPH_TASKS]}
            (chosen or dask.threaded.get)(graph, list(graph), callbacks=callbacks, **who)
    finally:
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


def is_scheduled() -> bool:
    """Say whether the caller chose who does the work: a client of Dask that is current, a scheduler or a pool."""
    chosen = dask.config.get("scheduler", None) or dask.config.get("pool", None)
    return chosen is not None or current_client() is not None


def _check_sendable(task: Callable[[int], object]) -> None:
    import cloudpickle  # noqa: PLC0415 - threads need none

    try:
        cloudpickle.dumps(task)
    except Exception as fault:
        raise UsageError(
            f"the tiles cannot be sent to Dask's processes ({fault}); a model's function must be one that they can "
            "import, without open files or locks; or close the client, and threads do the work"
        ) from fault


def current_client() -> Any | None:  # noqa: ANN401 - distributed may not be installed
    """Return the Dask client that is current in this process, if any, without importing distributed."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


def connected(cluster: str) -> AbstractContextManager[None]:
    """Make a client current: of the scheduler at an address or in a scheduler file, or of N processes on this machine.

    Raises UsageError for what is none of these or where distributed is missing, OutputError where no scheduler answers.
    """
    try:
        from geoseg.inference.execution.cluster import connected  # noqa: PLC0415 - it needs distributed
    except ImportError:
        raise UsageError("`cluster` needs Dask's distributed: pip install 'geoseg[cluster]'", "cluster") from None
    return connected(cluster)


def where_the_work_is_done(call: Callable[..., Done], *arguments: object, **settings: object) -> Done:
    """Return what a function returns on a worker of a client that is current, else here.

    A login node may lack the GPU that its workers have.
    """
    client = current_client()
    if client is None or not client.nthreads():
        return call(*arguments, **settings)
    try:
        found: Done = client.submit(call, *arguments, pure=False, key=f"geoseg-{uuid.uuid4().hex}", **settings).result()
    except GeosegError:
        raise
    except Exception:  # noqa: BLE001 - whatever hinders sending it is told when the tiles are sent
        return call(*arguments, **settings)
    return found


@dataclass(frozen=True, slots=True)
class TileDone:
    """A tile whose parts are whole on the disk."""

    index: int
    pixels: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Of each stage, as a `Profile` has them."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Where and how the parts of a run are written; a plain value, as the task of a tile."""

    products: tuple[Product, ...]
    folder: Path
    form: PartFormat
    store: PartsStore | None = None
    """Where they are kept as well; workers on other machines need not see the folder then."""

    def write(self, index: int, tile: TileMap) -> None:
        """Write the parts of a finished tile, each atomically."""
        with self._place() as folder:
            for product in self.products:
                part = write_part(folder, product, index, tile[product.name], self.form)
                if self.store is not None:
                    self.store.keep(part)

    @contextmanager
    def _place(self) -> Iterator[Path]:
        """Give the folder of the parts; on a machine that does not see it, one that goes when they are kept."""
        if self.store is None or self.folder.is_dir():
            yield self.folder
            return
        with tempfile.TemporaryDirectory(prefix="geoseg-") as scratch:
            folder = Path(scratch) / self.folder.name
            folder.mkdir()
            yield folder


@dataclass(frozen=True, slots=True)
class Needs:
    """What a process must have to map the tiles of a run as all others do; a plain value, which travels to it."""

    version: str
    kind: str
    """All of the engine that can change a label, as it was planned."""
    engine: EngineChoice
    files: tuple[Path, ...]
    """What scoring reads."""
    parts: Parts

    @classmethod
    def of(cls, plan: Plan, parts: Parts) -> Self:
        """Return what a plan needs."""
        files = (*plan.source.local_files(), *plan.bundle.files)
        return cls(VERSION, plan.engine.describe_kind(), plan.engine, files, parts)

    def missing(self) -> str | None:
        """Return what is missing here, and the way out, or None."""
        if self.version != VERSION:
            return f"it has geoseg {VERSION}, the run {self.version}; install the same"
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
                return f"its {bundle.weights_path} is another model"
            kind = _here(self.engine).describe_kind()
        except (GeosegError, PackageNotFoundError) as fault:
            return str(fault)
        return None if kind == self.kind else f"it computes with {kind}, the run with {self.kind}"


def _here(planned: EngineChoice) -> EngineChoice:
    """Return the engine that this machine would choose where another one planned it."""
    device = "auto" if planned.bundle.function is not None else planned.device
    return choose_engine(planned.bundle, device, window_px=planned.window_px, scale=planned.scale, export=False)


@dataclass(frozen=True, slots=True)
class TileTask:
    """A function of a tile's index; a plain value, so it travels to threads, processes and machines."""

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
                f"the rows of a tile of {tile.width} x {tile.height} pixels do not fit the device's memory; "
                "take a smaller `tile`, or fewer `workers`"
            ) from None
        with profile.timed(WRITE):
            self.parts.write(index, mapped)
        profile.add(SCORE, -profile.seconds.get(READ, 0.0))
        return TileDone(index, tile.size, profile.seconds)


@dataclass(frozen=True, slots=True)
class _TimedScene:
    """A scene of which one thread reads, and the time that it takes."""

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
