from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from types import SimpleNamespace
from typing import ClassVar

import dask
import pytest
from dask.callbacks import Callback

from geoseg.errors import OutputError
from geoseg.inference import checkpoint, stoppable
from geoseg.inference.execution import cluster
from geoseg.inference.execution.scheduler import Run, StoppedError, run_tasks


def square(index: int) -> int:
    return index * index


def test_every_task_runs_once_and_reports_in_the_calling_thread() -> None:
    seen: list[int] = []
    threads: set[int] = set()

    def finished(result: int) -> None:
        seen.append(result)
        threads.add(threading.get_ident())

    run_tasks(square, range(200), 3, finished)
    assert sorted(seen) == [index * index for index in range(200)]
    assert threads == {threading.get_ident()}


def test_no_more_tasks_at_once_than_workers() -> None:
    lock, now, most = threading.Lock(), 0, 0
    pause, both, began = threading.Event(), threading.Barrier(2), itertools.count()

    def task(_index: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        if next(began) < 2:  # the first two meet, however long the second thread takes to start
            both.wait(120)
        pause.wait(0.01)
        with lock:
            now -= 1

    run_tasks(task, range(20), 2, lambda _: None)
    assert most == 2


def test_what_a_task_raises_ends_the_run() -> None:
    def task(index: int) -> int:
        if index == 3:
            raise OutputError("no space")
        return index

    with pytest.raises(OutputError, match="no space"):
        run_tasks(task, range(10), 2, lambda _: None)


def test_the_configured_dask_scheduler_is_honoured() -> None:
    names: set[str] = set()

    def task(_index: int) -> None:
        names.add(threading.current_thread().name)

    with dask.config.set(scheduler="synchronous"):
        run_tasks(task, range(5), 4, lambda _: None)
    assert names == {threading.current_thread().name}


def test_tasks_of_an_ended_run_stop_at_their_next_checkpoint() -> None:
    with stoppable() as run:
        check = checkpoint(run)
        check()
    with pytest.raises(StoppedError):
        check()


def test_a_task_that_begins_after_its_run_has_ended_stops_in_this_process_alone() -> None:
    with stoppable() as run:
        pass
    with pytest.raises(StoppedError):
        checkpoint(run)()
    checkpoint(Run(run.name, run.process + 1))()


def test_a_current_client_takes_the_tasks() -> None:
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, protocol="inproc://"
    )
    with cluster, distributed.Client(cluster) as client:
        before = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter)
        seen: list[int] = []
        run_tasks(square, range(20), 2, seen.append)
        after = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter)
    assert sorted(seen) == [index * index for index in range(20)]
    assert after - before >= 20


@pytest.mark.parametrize("scheduler", [None, "threads"])
def test_runs_in_several_threads_hear_of_their_own_tasks_alone(scheduler: str | None) -> None:
    """Dask's callbacks are global to the process; a barrier keeps all runs active at the same time."""
    runs, meet = 4, threading.Barrier(4)
    heard: list[list[tuple[int, int]]] = [[] for _ in range(runs)]

    def work(run: int) -> None:
        def task(index: int) -> tuple[int, int]:
            if index == run:  # a different position for each: some begin late, some end early
                meet.wait(60)
            return run, index

        run_tasks(task, range(20), 2, heard[run].append)

    with dask.config.set(scheduler=scheduler), ThreadPoolExecutor(runs) as pool:
        for done in [pool.submit(work, run) for run in range(runs)]:
            done.result(60)
    for run, results in enumerate(heard):
        assert sorted(results) == [(run, index) for index in range(20)]


def test_what_the_user_registered_with_dask_is_told_of_every_task() -> None:
    keys: list[object] = []
    with Callback(posttask=lambda key, *_: keys.append(key)):
        run_tasks(square, range(10), 2, lambda _: None)
        run_tasks(square, range(10), 2, lambda _: None)
    assert len(keys) == 20


def test_a_client_without_workers_is_told_of_until_it_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        scheduler = SimpleNamespace(address="tcp://127.0.0.1:8786")
        workers: ClassVar[dict[str, int]] = {}
        faults: ClassVar = [OSError("the scheduler is away for a moment")]

        def nthreads(self) -> dict[str, int]:
            if self.faults:
                raise self.faults.pop()
            return self.workers

    monkeypatch.setattr(cluster, "_FIRST_CHECK_S", 0.01)
    monkeypatch.setattr(cluster, "_CHECK_S", 0.01)
    said: Queue[str] = Queue()
    with cluster._reporting_missing_workers(Client(), said.put):
        assert "tcp://127.0.0.1:8786 has no workers" in said.get(timeout=60)
        Client.workers["one"] = 1
