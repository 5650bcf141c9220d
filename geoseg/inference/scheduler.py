"""The tiles of a run on Dask: on threads of this process, or on the cluster of a client that is current."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dask.config
import dask.threaded
from dask.base import get_scheduler
from dask.callbacks import Callback

from geoseg.errors import GeosegError, OutputError, UsageError
from geoseg.inference.tile import TileMap, map_tile
from geoseg.model import OutOfMemory
from geoseg.raster.landcover import PartFormat, Product, write_part

if TYPE_CHECKING:
    from geoseg.inference.plan import Plan
    from geoseg.inference.stored import PartsStore

Done = TypeVar("Done")


class StoppedError(Exception):
    """A tile was given up because its run has ended; nobody sees it but the run."""


@dataclass(frozen=True, slots=True)
class Run:
    """The name of a run, and the process that started it."""

    name: str
    process: int


_PROCESSES = ("processes", "multiprocessing")
_FIRST_LOOK_S, _LOOK_S = 1.0, 30.0
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


def run_tasks(
    task: Callable[[int], Done],
    indexes: Sequence[int],
    workers: int,
    finished: Callable[[Done], None],
    announce: Callable[[str], None] = lambda _line: None,
) -> None:
    """Call `task` with every index, `workers` at a time, and `finished` in this thread with each result as it comes.

    A current Dask client takes the tasks; else the scheduler that Dask is configured with, by default threads. A flat
    graph of plain tuples: 10^5 tasks are scheduled in seconds, as `delayed` objects they take minutes. What a task or
    `finished` raises ends the run. `announce` is told when a client has no worker: it may get one.
    Runs in several threads of one process know nothing of each other.
    """
    client = current_client()
    if client is not None or dask.config.get("scheduler", None) in _PROCESSES:
        _check_sendable(task)
    if client is not None:
        with _told_of_no_worker(client, announce):
            _run_on_cluster(client, task, indexes, finished)
        return
    graph = {("tile", index): (task, index) for index in indexes}
    # given, not registered: what is registered is told of the tasks of whichever run of the process looks first
    ours = (None, None, None, lambda _key, result, *_: finished(result), None)
    callbacks = [*Callback.active, ours]
    # get_scheduler imports distributed wherever it is installed; ask only if a scheduler was chosen
    chosen = get_scheduler() if dask.config.get("scheduler", None) else None
    if chosen is not None or dask.config.get("pool", None) is not None:
        (chosen or dask.threaded.get)(graph, list(graph), num_workers=workers, callbacks=callbacks)
        return
    pool = ThreadPoolExecutor(workers, "geoseg-tiles")  # Dask's own outlive the run: a fork would wait for them
    try:
        dask.threaded.get(graph, list(graph), pool=pool, callbacks=callbacks)
    finally:
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


def check_shared(folder: Path | None, files: Sequence[Path]) -> None:
    """Raise OutputError unless every worker of a current client sees the folder of the parts and the files it reads.

    `folder` is None where the parts go to a store.
    """
    client = current_client()
    if client is None:
        return
    token = None if folder is None else folder / f"probe-{uuid.uuid4().hex}"
    if token is not None:
        token.touch()
    try:
        for path in files if token is None else (token, *files):
            blind = [address for address, seen in client.run(path.exists).items() if not seen]
            if blind:
                shown, way = (folder, ", or write to a store (s3://)") if path == token else (path, "")
                raise OutputError(
                    f"{len(blind)} Dask workers do not see {shown} ({blind[0]} for one); put it on a shared disk{way}"
                )
    finally:
        if token is not None:
            token.unlink()


@contextmanager
def _told_of_no_worker(client: Any, announce: Callable[[str], None]) -> Iterator[None]:  # noqa: ANN401
    """Say so while a client has no worker: adaptive clusters start them for tasks that wait, queues when they like."""
    left = threading.Event()

    def watch() -> None:
        wait_s = _FIRST_LOOK_S
        while not left.wait(wait_s):
            wait_s = _LOOK_S
            if not client.nthreads():
                announce(f"the Dask client at {client.scheduler.address} has no worker; waiting for one (Ctrl-C ends)")

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        left.set()


def _run_on_cluster(
    client: Any,  # noqa: ANN401
    task: Callable[[int], Done],
    indexes: Sequence[int],
    finished: Callable[[Done], None],
) -> None:
    from distributed import as_completed  # noqa: PLC0415 - an optional dependency, here already

    futures = client.map(task, indexes, pure=False)
    try:
        for _, result in as_completed(futures, with_results=True):
            finished(result)
    finally:
        client.cancel(futures)


@dataclass(frozen=True, slots=True)
class TileDone:
    """A tile whose parts are whole on the disk."""

    index: int
    pixels: int


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
        try:
            mapped = map_tile(self.plan.mapping, self.plan.open_engine(), tile, check)
        except OutOfMemory:
            raise GeosegError(
                f"the rows of a tile of {tile.width} x {tile.height} pixels do not fit the device's memory; "
                "take a smaller `tile`, or fewer `workers`"
            ) from None
        self.parts.write(index, mapped)
        return TileDone(index, tile.size)
