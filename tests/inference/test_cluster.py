"""Running tiles on a Dask cluster: which are sent, which are repeated, and which workers are excluded."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import segmentation_models_pytorch as smp

import geoseg
from geoseg.errors import GeosegError, OutputError, SceneError, UsageError
from geoseg.inference import Scoring
from geoseg.inference.execution import cluster
from geoseg.inference.execution.cluster import run_on_cluster
from geoseg.inference.execution.scheduler import connected, in_turn, run_on_worker, stoppable
from geoseg.inference.execution.tile_task import Needs, Parts, TileTask
from geoseg.inference.pipeline import run_pipeline
from geoseg.legend import LandCover, Legend
from geoseg.model import ModelBundle
from geoseg.raster.landcover import PartFormat, creation_options
from tests.inference.conftest import random_pixels, write_scene
from tests.networks import tiny_bundle

distributed = pytest.importorskip("distributed")
CancelledError = distributed.CancelledError
CommClosedError = distributed.comm.CommClosedError
KilledWorker = distributed.scheduler.KilledWorker
TILES = 16
CALLS: list[int] = []
"""Tiles finished by workers in threads of this process; tasks are pickled, so they record here."""
LOOKED: list[int] = []
"""One entry for each worker that checked whether it can do the work."""
JOINED = threading.Event()


@pytest.fixture
def client() -> Iterator[Any]:
    """Yield the client of two workers that are threads of this process."""
    CALLS.clear()
    LOOKED.clear()
    JOINED.clear()
    local = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="inproc://"
    )
    with local, distributed.Client(local) as client:
        yield client


def noted(index: int) -> int:
    CALLS.append(index)
    return index


def fails_twice(index: int) -> int:
    CALLS.append(index)
    if index in {3, 97} and CALLS.count(index) < 3:
        raise SceneError("the network failed")
    return index


def bad_scene(index: int) -> int:
    CALLS.append(index)
    raise SceneError("it cannot be")


def bad_option(index: int) -> int:
    CALLS.append(index)
    raise UsageError("it cannot be")


def fails_at_once(index: int) -> int:
    CALLS.append(index)
    if index == 0:
        raise UsageError("it cannot be")
    JOINED.wait(0.2)
    return index


def waits_for_a_third(index: int) -> str:
    if index == 0:
        JOINED.wait(60)
    return str(distributed.get_worker().address)


def of_no_scene_at_first() -> str | None:
    LOOKED.append(1)
    return "it does not see /data/scene.tif" if len(LOOKED) == 1 else None


def of_another_version() -> str:
    return "it has geoseg 0.0, the run 9.9; install the same version"


def run(client: Any, task: Any, indexes: Any, unfit: Any = None) -> tuple[list[Any], list[str]]:
    done: list[Any] = []
    said: list[str] = []
    run_on_cluster(client, partial(in_turn, task), unfit, indexes, done.append, said.append)
    return done, said


def test_every_tile_is_done_once_and_few_are_sent_at_a_time(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    flights: list[cluster._Flight] = []
    fill = cluster._Flight.fill

    def watched(flight: cluster._Flight) -> None:
        nonlocal most
        fill(flight)
        most = max(most, len(flight.sent))
        flights.append(flight)

    monkeypatch.setattr(cluster._Flight, "fill", watched)
    done, said = run(client, noted, range(2000))
    assert sorted(done) == sorted(CALLS) == list(range(2000))
    assert most == 16
    assert next(flights[0].numbers) < 2000 / 8  # quick tiles are sent in batches
    assert said == []
    assert client.futures == {}


def test_a_worker_that_cannot_do_the_work_is_left_out(client: Any) -> None:
    done, said = run(client, noted, range(40), of_no_scene_at_first)
    assert sorted(done) == sorted(CALLS) == list(range(40))
    assert [line.partition(" is not used: ")[2] for line in said] == ["it does not see /data/scene.tif"]
    assert any(address in said[0] for address in client.nthreads())


class Unknown:
    """An object whose module exists on the client's machine but not on the workers'."""

    def __reduce__(self) -> tuple[Any, ...]:
        return __import__, ("no_such_module",)

    def __call__(self, index: int) -> int:
        raise NotImplementedError


def test_workers_that_lack_a_module_of_the_model_say_so(client: Any) -> None:
    with pytest.raises(
        OutputError, match=r"inproc://.*: it cannot load the task \(No module named 'no_such_module'\); install geoseg"
    ):
        run(client, Unknown(), range(40))


def test_where_no_worker_can_do_the_work_one_line_says_why(client: Any) -> None:
    with pytest.raises(OutputError, match=r"no Dask worker can run the tiles; inproc://.*: it has geoseg 0\.0"):
        run(client, noted, range(40), of_another_version)


def test_what_fails_for_a_moment_is_done_again(client: Any) -> None:
    done, _ = run(client, fails_twice, range(200))
    assert sorted(done) == list(range(200))
    assert CALLS.count(3) == 3
    assert 3 <= CALLS.count(97) <= 4  # again if other tiles were sent before it
    assert len(CALLS) == 200 - 2 + CALLS.count(3) + CALLS.count(97)


@pytest.mark.parametrize(("task", "error", "tries"), [(bad_scene, SceneError, 3), (bad_option, UsageError, 1)])
def test_what_fails_again_and_again_ends_the_run(
    client: Any, task: Callable[[int], int], error: type[GeosegError], tries: int
) -> None:
    with pytest.raises(error, match="it cannot be"):
        run(client, task, [7])
    assert [7] * tries == CALLS


def test_what_ends_the_run_takes_the_tiles_in_flight_with_it(client: Any) -> None:
    with pytest.raises(UsageError) as kept:  # keeping the error would keep its frames, and all they hold
        run(client, fails_at_once, range(TILES))
    begun = len(CALLS)
    time.sleep(1)
    assert len(CALLS) <= begun + len(client.nthreads()) < TILES
    assert kept.value.__traceback__ is not None


def parts_of(plan: geoseg.Plan, folder: Path) -> Parts:
    return Parts(plan.products, folder, PartFormat.of(plan.scene.shape, plan.tile_shape, creation_options({})))


def bundles(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield the name and the model of every kind of bundle."""
    yield "demo", None
    network = smp.Unet("resnet18", encoder_weights=None, classes=2, encoder_depth=3, decoder_channels=(8, 8, 8))
    network.save_pretrained(folder / "folder")
    sides: dict[str, Any] = {
        "legend": Legend((LandCover(0, "a", (0, 0, 0)), LandCover(1, "b", (9, 9, 9)))),
        "normalization": geoseg.Normalization((100, 100, 100), (50, 50, 50)),
    }
    yield "folder", ModelBundle.from_pretrained(folder / "folder", **sides)
    geoseg.export_model(None, out=folder / "demo.onnx")
    yield "onnx", ModelBundle.open(folder / "demo.onnx")


def test_this_process_has_what_its_own_plan_needs(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", random_pixels(300, 200, 1, 0.1))
    for name, bundle in bundles(tmp_path):
        plan = geoseg.plan(scene, model=bundle, device="torch-cpu" if name == "folder" else "auto")
        assert Needs.of(plan, parts_of(plan, tmp_path)).missing() is None, name


def test_what_a_process_lacks_is_named(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", random_pixels(300, 200, 1, 0.1))
    own = Path(shutil.copy(ModelBundle.open(None).weights_path, tmp_path / "own.safetensors"))
    plan = geoseg.plan(scene, model=own)
    needs = Needs.of(plan, parts_of(plan, tmp_path))
    assert needs.missing() is None
    assert "it computes with" in str(replace(needs, kind="torch").missing())
    own.write_bytes(own.read_bytes() + b" ")
    assert "is a different model" in str(needs.missing())
    assert "has geoseg" in str(replace(needs, version="0.0").missing())
    elsewhere = replace(needs.parts, folder=tmp_path / "nowhere")
    assert "does not see" in str(replace(needs, parts=elsewhere).missing())
    scene.unlink()
    assert f"does not see {scene}" in str(needs.missing())


class _Future:
    """A future whose status changes at every look, as when its worker dies."""

    def __init__(self, *statuses: str) -> None:
        self.key, self._statuses, self.released = "tile", list(statuses), False

    @property
    def status(self) -> str:
        return self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]

    def release(self) -> None:
        self.released = True


class _Client:
    @staticmethod
    def gather(futures: list[_Future]) -> list[tuple[list[int], list[int], float, None]]:
        return [([7], [], 0.0, None)] * len(futures)


def test_a_result_that_a_dead_worker_took_along_is_waited_for() -> None:
    again: set[Any] = set()
    flight = cluster._Flight(_Client, "run", deque(), again, {"tile": (3,)})
    lost = _Future("pending", "pending", "finished")
    assert list(flight.results([lost])) == []
    assert (again, flight.sent, lost.released, list(flight.waiting)) == ({lost}, {"tile": (3,)}, False, [])
    assert list(flight.results([lost])) == [7]
    assert (flight.sent, lost.released) == ({}, True)


def test_a_result_that_was_fetched_counts_though_its_worker_dies_then() -> None:
    flight = cluster._Flight(_Client, "run", deque(), set(), {"tile": (3,)})
    assert list(flight.results([_Future("finished", "pending")])) == [7]


def test_what_ended_well_counts_before_what_ends_the_run() -> None:
    class Failed(_Future):
        def exception(self) -> Exception:
            return UsageError("no such option")

    good, bad = _Future("finished"), Failed("error")
    good.key, bad.key = "good", "bad"
    flight = cluster._Flight(_Client, "run", deque(), set(), {"good": (1,), "bad": (2,)})
    found: list[int] = []
    with pytest.raises(UsageError, match="no such option"):
        found.extend(flight.results([bad, good]))
    assert found == [7]


def test_what_kills_workers_is_looked_for_among_tiles_that_were_sent_at_once() -> None:
    class Killed(_Future):
        def exception(self) -> Exception:
            return KilledWorker("tile", None, 3)  # type: ignore[no-untyped-call]

    flight = cluster._Flight(_Client, "run", deque(range(6, 100)), set(), {"tile": (3, 4, 5)}, at_once=8)
    assert list(flight.results([Killed("error")])) == []
    assert [flight._next(1) for _ in range(4)] == [(3,), (4,), (5,), tuple(range(6, 14))]
    flight.sent["tile"] = (4,)
    with pytest.raises(GeosegError, match="tile 4 killed every worker"):
        list(flight.results([Killed("error")]))


def test_the_less_is_left_or_the_longer_it_takes_the_less_is_sent_at_once() -> None:
    flight = cluster._Flight(_Client, "run", deque(range(100_000)), set())
    for _ in range(20):
        flight._learn(flight.at_once, 0.0)
    assert len(flight._next(2)) == cluster._MOST_TILES
    flight._learn(flight.at_once, 2 * cluster._MESSAGE_S + 1)
    assert len(flight._next(2)) == cluster._MOST_TILES // 2
    flight.waiting = deque(range(16))
    assert len(flight._next(2)) == 2
    flight.waiting = deque(range(3))
    assert len(flight._next(0)) == 1


def test_a_worker_that_joins_late_holds_the_task(client: Any) -> None:
    def join() -> None:
        client.cluster.scale(3)
        client.wait_for_workers(3, timeout=60)
        JOINED.set()

    threading.Timer(0.2, join).start()
    done, said = run(client, waits_for_a_third, range(400))
    assert len(done) == 400
    assert set(done) <= set(client.nthreads())
    assert len(client.nthreads()) == 3
    assert said == []


TWO_CLASSES = Legend((LandCover(1, "one", (1, 2, 3)), LandCover(4, "four", (4, 5, 6))))


def brightness_model() -> Callable[[Any], Any]:
    """Return a function that workers can unpickle without importing this module."""

    def by_brightness(batch: Any) -> Any:
        """Score windows (n, band, row, col) by the first band and the column in the window."""
        first = (batch[:, 0] + np.arange(batch.shape[-1])) % 17 / 17
        return np.stack([first, 1 - first], axis=1).astype(np.float32)

    return by_brightness


def counting_model(folder: Path, kills_at: int) -> ModelBundle:
    """Return a model that logs a line per window and once, at the given count, kills its worker."""
    log, killed, score = folder / "log", folder / "killed", brightness_model()

    def scored(batch: Any) -> Any:
        with log.open("a") as opened:
            opened.write("1\n" * len(batch))
        if len(log.read_text().split()) >= kills_at and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return score(batch)

    return ModelBundle.from_callable(scored, legend=TWO_CLASSES, window_px=64, overlap_px=0)


@pytest.mark.skipif(os.name == "nt", reason="kills by a signal")
def test_a_worker_that_is_killed_costs_the_tile_in_its_hands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tile is one window here. The count allows a repeat per worker, as finished tiles may be still on their way."""
    monkeypatch.setattr(cluster, "_ROUNDS", 1)
    begin = cluster._Flight.__init__
    monkeypatch.setattr(cluster._Flight, "__init__", partialmethod(begin, at_once=4))
    scene = write_scene(tmp_path / "scene.tif", random_pixels(256, 256, 0, 0))
    options: dict[str, Any] = {"tile": 64, "window": 64, "overlap": 0}
    local = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    )
    with local, distributed.Client(local):
        geoseg.predict(scene, tmp_path / "map.tif", model=counting_model(tmp_path, 12), **options)
    assert (tmp_path / "killed").exists()
    assert len((tmp_path / "log").read_text().split()) <= TILES + 2  # each worker has one tile in hand
    expected = geoseg.labels(scene, model=counting_model(tmp_path, 10**6), **options).compute(scheduler="synchronous")
    with rasterio.open(tmp_path / "map.tif") as opened:
        np.testing.assert_array_equal(opened.read(1), expected)


@pytest.mark.usefixtures("client")
def test_a_worker_with_a_gpu_is_fed_across_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers get runs of several tiles, and the map equals the one made tile by tile."""
    scene = write_scene(tmp_path / "scene.tif", random_pixels(500, 430, 0, 0.1))
    model = ModelBundle.from_callable(brightness_model(), legend=TWO_CLASSES, window_px=64, overlap_px=24)
    expected = geoseg.labels(scene, model=model, tile=64).compute(scheduler="synchronous")
    runs: list[int] = []

    def fed(job: Any, indexes: Sequence[int], *arguments: Any) -> None:
        runs.append(len(indexes))
        run_pipeline(job, indexes, *arguments)

    monkeypatch.setattr(Scoring, "feeds_devices", True)
    monkeypatch.setattr("geoseg.inference.execution.tile_task.run_pipeline", fed)
    made = geoseg.predict(scene, tmp_path / "map.tif", model=model, tile=64)
    with rasterio.open(made) as opened:
        np.testing.assert_array_equal(opened.read(1), expected)
    assert sum(runs) == 8 * 7
    assert len(runs) < 8 * 7


def test_what_is_finished_counts_though_a_tile_that_was_sent_with_it_fails(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", random_pixels(256, 64, 0, 0))
    calls, score = list[int](), brightness_model()

    def third_fails(batch: Any) -> Any:
        calls.append(len(batch))
        if len(calls) == 3:
            raise SceneError("the network failed")
        return score(batch)

    model = ModelBundle.from_callable(third_fails, legend=TWO_CLASSES, window_px=64, overlap_px=0)
    plan = geoseg.plan(scene, model=model, tile=64, batch_size=1)
    assert plan.tile_count == 4
    with stoppable() as run:
        task = TileTask(plan, parts_of(plan, tmp_path), run)
        done, left = task.several(range(4))
        assert ([tile.index for tile in done], left) == ([0, 1], [2, 3])
        calls[:] = [0, 0]
        with pytest.raises(GeosegError, match="the network failed"):
            task.several([2, 3])
        done, left = task.several([2, 3, 0, 1])
        assert (sorted(tile.index for tile in done), left) == ([0, 1, 2, 3], [])
    assert len(calls) == 2 + 1 + 2


def test_a_tile_that_kills_workers_is_one_line() -> None:
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        local = distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        )

        def deadly(_index: int) -> None:
            os._exit(1)

        with local, distributed.Client(local) as client:
            with pytest.raises(GeosegError, match=r"tile 5 killed every worker .*memory_limit"):
                run_on_cluster(client, partial(in_turn, deadly), None, [5], print, lambda _line: None)
            client.wait_for_workers(1, timeout=60)  # distributed cannot close a worker that is only starting


def test_what_another_has_closed_is_not_the_schedulers_end(client: Any) -> None:
    def nobody_reads(_result: int) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_on_cluster(client, partial(in_turn, noted), None, range(10), nobody_reads, lambda _line: None)


@pytest.mark.parametrize(
    "error", [CommClosedError("reset by peer"), OSError("timed out"), CancelledError("tile")], ids=str
)
def test_a_scheduler_that_leaves_while_it_is_asked_is_one_line(
    client: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    address = client.scheduler.address

    def gone(flight: cluster._Flight) -> None:
        monkeypatch.setattr(flight.client, "status", "connecting")
        raise error

    monkeypatch.setattr(cluster._Flight, "fill", gone)
    lost = rf"the connection to the Dask scheduler at {address} was lost; the finished tiles are kept"
    with pytest.raises(OutputError, match=lost):
        run(client, noted, range(10))


def test_no_scheduler_at_an_address_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_S", 0.5)
    with pytest.raises(OutputError, match=r"no Dask scheduler responds at tcp://127\.0\.0\.1:9") as failed:
        connected("tcp://127.0.0.1:9").__enter__()
    assert failed.value.parameter == "cluster"


def test_a_program_that_is_no_scheduler_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError), server.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(1)

        threading.Thread(target=answer, daemon=True).start()
        port = server.getsockname()[1]
        with pytest.raises(OutputError, match=rf"^another program responds at tcp://127\.0\.0\.1:{port}, not a"):
            connected(f"tcp://127.0.0.1:{port}").__enter__()


@pytest.mark.parametrize("content", ["", "{}", "nope", "[]", '{"address": 5}', '{"address": "here"}'])
def test_what_is_no_scheduler_file_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "scheduler.json").write_text(content)
    with pytest.raises(UsageError, match=r"scheduler\.json is not a Dask scheduler file") as refused:
        connected(str(tmp_path / "scheduler.json")).__enter__()
    assert refused.value.parameter == "cluster"


def test_a_scheduler_file_is_waited_for_but_not_forever(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scheduler.json"
    threading.Timer(0.3, lambda: file.write_text(json.dumps({"address": client.scheduler.address}))).start()
    with connected(str(file)):
        assert distributed.default_client().scheduler.address == client.scheduler.address
    file.unlink()
    monkeypatch.setattr(cluster, "_CONNECT_S", 0.3)
    with pytest.raises(OutputError, match=r"scheduler\.json cannot be read .* check that the scheduler is running"):
        connected(str(file)).__enter__()


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "127.0.0.1"])
def test_what_is_no_cluster_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="address of a Dask scheduler") as refused:
        connected(text).__enter__()
    assert refused.value.parameter == "cluster"


def test_engines_are_chosen_where_the_work_is_done(client: Any) -> None:
    assert run_on_worker(lambda: distributed.get_worker().address) in client.nthreads()


def test_engines_are_chosen_here_without_a_client() -> None:
    assert run_on_worker(threading.get_ident) == threading.get_ident()


def test_a_worker_that_leaves_while_the_task_is_handed_out_ends_no_run(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    register, faults = client.register_plugin, iter([CommClosedError("Stream is closed")])

    def register_with_fault(*arguments: Any) -> Any:
        for fault in faults:
            raise fault
        return register(*arguments)

    monkeypatch.setattr(client, "register_plugin", register_with_fault)
    done, _ = run(client, noted, range(TILES))
    assert sorted(done) == list(range(TILES))


def test_tiles_that_somebody_cancels_are_sent_again(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Client.restart` cancels all tasks, too."""
    send, cancels = client.map, iter([client.cancel])

    def send_and_cancel(*arguments: Any, **settings: Any) -> list[Any]:
        futures: list[Any] = send(*arguments, **settings)
        for cancel in cancels:
            cancel(futures, force=True)
        return futures

    monkeypatch.setattr(client, "map", send_and_cancel)
    done, _ = run(client, noted, range(TILES))
    assert sorted(done) == list(range(TILES))


def test_a_scene_is_mapped_by_processes_that_are_started_for_it(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", random_pixels(150, 120, 1, 0.1))
    model = tiny_bundle(tmp_path, window_px=64)
    with connected("1"):
        made = geoseg.predict(scene, tmp_path / "map.tif", model=model, tile=64)
    expected = geoseg.labels(scene, model=model, tile=64).compute(scheduler="synchronous")
    with rasterio.open(made) as opened:
        np.testing.assert_array_equal(opened.read(1), expected)
