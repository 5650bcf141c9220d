"""Running tiles with Dask: on threads of this process, or on the cluster of the current client."""

from __future__ import annotations

import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import dask.config
import dask.threaded
from dask.base import get_scheduler
from dask.callbacks import Callback

from geoseg.errors import GeosegError, UsageError
from geoseg.progress import Announce

Done = TypeVar("Done")


class StoppedError(Exception):
    """A tile was abandoned because its run has ended; never seen outside the run."""


@dataclass(frozen=True, slots=True)
class Run:
    """The name of a run, and the process that started it."""

    name: str
    process: int


_GRAPH_TASKS = 20_000
"""Tasks per graph: Dask takes at least 2 KB for each. Waiting for the last task of each graph is rare enough."""
_PROCESSES = ("processes", "multiprocessing")
_stops: dict[Run, threading.Event] = {}


@contextmanager
def stoppable() -> Iterator[Run]:
    """Yield a new run; on exit, stop its tasks that are still running in this process."""
    run = Run(uuid.uuid4().hex, os.getpid())
    _stops[run] = threading.Event()
    try:
        yield run
    finally:
        _stops.pop(run).set()


def checkpoint(run: Run) -> Callable[[], None]:
    """Return a function that raises StoppedError once the run has ended; in another process it never does."""
    stop = _stops.get(run)
    has_ended = stop is None and run.process == os.getpid()

    def check() -> None:
        if has_ended or (stop is not None and stop.is_set()):
            raise StoppedError

    return check


def run_tasks(  # noqa: PLR0913, PLR0917 - the last two are for those on a cluster
    task: Callable[[int], Done],
    indexes: Sequence[int],
    workers: int,
    finished: Callable[[Done], None],
    announce: Announce = lambda _line: None,
    unfit: Callable[[], str | None] | None = None,
) -> None:
    """Call `task` with every index, `workers` at a time, and `finished` in this thread with each result as it comes.

    The current Dask client runs the tasks, or else Dask's configured scheduler, threads by default. The graph is flat,
    of plain tuples: 10^5 tasks are scheduled in seconds; as `delayed` objects they take minutes. An exception from a
    task or from `finished` ends the run. `announce` is called if a client has no worker yet. `unfit` returns, on a
    worker, why it cannot do the task, or None. Workers of a client get several indexes at once if they are quick; a
    task may have a method `several` for these, with the signature of `in_turn`. Runs in several threads of one process
    are independent.
    """
    client = current_client()
    if client is not None or dask.config.get("scheduler", None) in _PROCESSES:
        _check_sendable(task)
    if client is not None:
        from geoseg.inference.execution.cluster import run_on_cluster  # noqa: PLC0415 - distributed is here

        several = getattr(task, "several", None) or partial(in_turn, task)
        run_on_cluster(client, several, unfit, indexes, finished, announce)
        return
    # passed, not registered: registered callbacks get the tasks of whichever run in this process starts first
    callback = (None, None, None, lambda _key, result, *_: finished(result), None)
    callbacks = [*Callback.active, callback]
    # get_scheduler imports distributed if it is installed; call it only if a scheduler was chosen
    chosen = get_scheduler() if dask.config.get("scheduler", None) else None
    is_chosen = chosen is not None or dask.config.get("pool", None) is not None
    # Dask's own threads outlive the run, and a fork would wait for them
    pool = None if is_chosen else ThreadPoolExecutor(workers, "geoseg-tiles")
    pool_options: dict[str, Any] = {"num_workers": workers} if pool is None else {"pool": pool}
    try:
        for start in range(0, len(indexes), _GRAPH_TASKS):
            graph = {("tile", index): (task, index) for index in indexes[start : start + _GRAPH_TASKS]}
            (chosen or dask.threaded.get)(graph, list(graph), callbacks=callbacks, **pool_options)
    finally:
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


def in_turn(task: Callable[[int], Done], indexes: Sequence[int]) -> tuple[list[Done], list[int]]:
    """Call a task with one index after another until one fails.

    Return the results and the remaining indexes; if the first one fails, raise its error.
    """
    done: list[Done] = []
    for index in indexes:
        try:
            done.append(task(index))
        except Exception:
            if not done:
                raise
            break
    return done, list(indexes[len(done) :])


def is_scheduled() -> bool:
    """Return whether the caller chose where tasks run: a current Dask client, a scheduler or a pool."""
    chosen = dask.config.get("scheduler", None) or dask.config.get("pool", None)
    return chosen is not None or current_client() is not None


def _check_sendable(task: Callable[[int], object]) -> None:
    import cloudpickle  # noqa: PLC0415 - threads need none

    try:
        cloudpickle.dumps(task)
    except Exception as fault:
        raise UsageError(
            f"the tiles cannot be sent to Dask's processes ({fault}); a model's function must be importable there, "
            "without open files or locks; or close the client to use threads"
        ) from fault


def current_client() -> Any | None:  # noqa: ANN401 - distributed may not be installed
    """Return this process's current Dask client, if any, without importing distributed."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


def connected(cluster: str) -> AbstractContextManager[None]:
    """Make a client current: of the scheduler at an address or in a scheduler file, or of N processes on this machine.

    Raises UsageError for anything else or if distributed is missing, OutputError if no scheduler answers.
    """
    try:
        from geoseg.inference.execution.cluster import connected  # noqa: PLC0415 - it needs distributed
    except ImportError:
        raise UsageError("`cluster` needs Dask's distributed: pip install 'geoseg[cluster]'", "cluster") from None
    return connected(cluster)


def run_on_worker(call: Callable[..., Done], *arguments: object, **settings: object) -> Done:
    """Call a function on a worker of the current client, or here if there is none, and return its result.

    A login node may lack the GPU that its workers have.
    """
    client = current_client()
    if client is None or not client.nthreads():
        return call(*arguments, **settings)
    try:
        result: Done = client.submit(
            _by_value(call, *arguments, **settings), pure=False, key=f"geoseg-{uuid.uuid4().hex}"
        ).result()
    except GeosegError:
        raise
    except Exception:  # noqa: BLE001 - if it cannot be sent, sending the tiles reports why
        return call(*arguments, **settings)
    return result


def _by_value(call: Callable[..., Done], *arguments: object, **settings: object) -> Callable[[], Done]:
    """Return a call that any worker can unpickle; missing modules then raise in the call, which a worker survives."""
    import cloudpickle  # noqa: PLC0415 - threads need none

    content = cloudpickle.dumps((call, arguments, settings))

    def called() -> Done:
        call, arguments, settings = cloudpickle.loads(content)
        result: Done = call(*arguments, **settings)
        return result

    return called
