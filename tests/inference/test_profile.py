"""Profiles of runs slowed down in one place: where the time went, and what limited the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import geoseg
from geoseg.inference import SceneMapping
from geoseg.inference.execution import tile_task
from geoseg.inference.pipeline import Capacity, Job, run_pipeline
from geoseg.inference.pipeline import device as device_module
from geoseg.legend import LandCover, Legend
from geoseg.profile import ASSEMBLE, MAP, PIXELS, READ, SCORE, UPLOAD, WRITE, WRITERS, Profile
from geoseg.raster import Scene, Window, WindowGrid, tiles
from tests.inference.clock_device import Clock
from tests.inference.conftest import MakeScene, WholeTiles

LEGEND = Legend((LandCover(1, "one", (1, 2, 3)), LandCover(4, "four", (4, 5, 6))))
NAP_S = 0.02
CLOCKS_S = 0.005
"""Tolerance: the thread's clock and the wall clock are read one after the other and tick independently."""
QUICK = "a scene with fast compression such as ZSTD"
ZSTD = "a map compressed with ZSTD (COMPRESS=ZSTD in `creation_options`)"


def fed(scene: Scene, device: Clock, write: Callable[..., object]) -> Profile:
    """Return the profile of a run with one device, one reader and one writer."""
    profile = Profile()
    profile.workers, profile.devices = 1, 1
    places = tiles(600, 64, 32, 64)
    mapping = SceneMapping(scene, WindowGrid(600, 64, 32, 8), "hann", 4, (0, 1, 2, 3))
    job = Job(mapping, places.__getitem__, 1, WholeTiles(write).begin, profile)
    capacity = Capacity.of(job.mapping, (32, 64), workers=1, devices=1, free_bytes=1 << 30)
    with profile.stretch(MAP):
        run_pipeline(job, range(len(places)), [lambda: device], capacity, 1, lambda _: None)
    return profile


def idle(_index: int, _tile: object) -> None:
    return


@pytest.mark.parametrize("slow", ["read", "device", "write"])
def test_what_is_slow_limits_a_device(make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    scene, plain = make_scene(600, 64), Scene.read_into

    def slowly(self: Scene, parts: Sequence[tuple[Window, NDArray[Any]]]) -> list[NDArray[np.bool_] | None]:
        time.sleep(NAP_S)
        return plain(self, parts)

    if slow == "read":
        monkeypatch.setattr(Scene, "read_into", slowly)
        monkeypatch.setattr("geoseg.inference.pipeline.slabs._CHUNK_PX", 1 << 10)
    device = Clock(NAP_S if slow == "device" else 0.0)
    profile = fed(scene, device, (lambda *_: time.sleep(NAP_S)) if slow == "write" else idle)
    limit = profile.limit
    assert limit is not None
    words = {"read": "reading: devices waited for pixels", "device": "the device: the run waited", "write": "writing: "}
    assert limit.what.startswith(words[slow]), str(profile)
    seconds, wall_s = profile.seconds, profile.wall_seconds[MAP]
    assert all(seconds[stage] <= wall_s for stage in ("read", "write", "paste", "score"))  # one thread each
    busiest = {"read": "read", "device": "device", "write": "write"}[slow]
    assert seconds[busiest] > wall_s / 2
    assert f"limit    {limit}" in str(profile)
    assert profile.to_json()["limit"] == limit.what


@pytest.mark.parametrize(
    ("waited", "work", "computed", "workers", "advice"),
    [
        (PIXELS, READ, 0.1, 4, "keep the scene near, or use more `workers`"),
        (PIXELS, READ, 0.9, 3, f"use more `workers` (now 3), or {QUICK}"),
        (PIXELS, READ, 0.9, 4, f"use more cores, {QUICK}, or {ZSTD}"),
        (WRITERS, WRITE, 0.1, 4, "write `out` to a faster disk or a nearer store, or use more `workers`"),
        (WRITERS, WRITE, 0.9, 3, f"use more `workers` (now 3), or {ZSTD}"),
        (SCORE, READ, 0.9, 4, "use a larger `batch_size`"),
    ],
)
def test_what_to_change_follows_from_what_the_host_does(
    monkeypatch: pytest.MonkeyPatch, waited: str, work: str, computed: float, workers: int, advice: str
) -> None:
    monkeypatch.setattr("geoseg.profile.available_cores", lambda: 4)
    profile = Profile()
    profile.devices, profile.workers = 1, workers
    profile.add(work, 8.0, 8.0 * computed)
    profile.add(waited, 9.0)
    with profile.stretch(MAP):
        time.sleep(NAP_S)
    assert profile.limit is not None
    assert profile.limit.advice == advice


@pytest.mark.parametrize(
    ("work", "computed", "advice"),
    [
        (READ, 0.1, "keep the scene near, in tiles"),
        (READ, 0.9, f"use {QUICK}, in tiles"),
        (WRITE, 0.1, "write `out` to a faster disk or a nearer store"),
        (WRITE, 0.9, f"write {ZSTD}"),
        (SCORE, 0.9, "use a GPU, a smaller model, or a smaller `overlap`"),
    ],
)
def test_workers_that_wait_are_told_other_things_than_those_that_compute(
    work: str, computed: float, advice: str
) -> None:
    profile = Profile()
    profile.workers = 2
    profile.add(work, 8.0, 8.0 * computed)
    with profile.stretch(MAP):
        time.sleep(NAP_S)
    assert profile.limit is not None
    assert profile.limit.advice == advice


@pytest.mark.parametrize("after", [ASSEMBLE, UPLOAD])
def test_what_follows_the_tiles_may_be_the_limit(after: str) -> None:
    profile = Profile()
    profile.workers = 1
    profile.add(SCORE, 9.0)
    for name, naps in ((MAP, 1), (after, 10)):
        with profile.stretch(name):
            time.sleep(naps * NAP_S)
    assert profile.limit is not None
    assert profile.limit.what.startswith({ASSEMBLE: "assembling the map", UPLOAD: "uploading the map"}[after])
    assert f"{after:<8} " in str(profile)
    assert after in profile.wall_seconds


@pytest.mark.parametrize("slow", ["read", "score"])
def test_what_is_slow_limits_workers(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slow: str
) -> None:
    def scores(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if slow == "score":
            time.sleep(NAP_S)
        return np.full((len(batch), 2, *batch.shape[2:]), 0.5, np.float32)

    plain = Scene.read_into

    def slowly(self: Scene, parts: Sequence[tuple[Window, NDArray[Any]]]) -> list[NDArray[np.bool_] | None]:
        time.sleep(5 * NAP_S)
        return plain(self, parts)

    scene = make_scene(300, 200)
    made = geoseg.plan(
        scene,
        model=geoseg.ModelBundle.from_callable(scores, legend=LEGEND, window_px=64, overlap_px=8),
        tile=64,
        workers=1,
    )
    if slow == "read":
        monkeypatch.setattr(Scene, "read_into", slowly)
        monkeypatch.setattr("geoseg.inference.pipeline.slabs._CHUNK_PX", 1 << 10)
    profile = geoseg.Profile()
    made.run(tmp_path / "map.tif", profile=profile)
    limit = profile.limit
    assert limit is not None
    assert limit.what.startswith({"read": "reading took", "score": "the network took"}[slow]), str(profile)
    assert set(profile.seconds) == {"read", "score", "paste", "write"}
    assert min(profile.seconds.values()) > 0
    assert 0 < profile.cpu_seconds["write"] < profile.seconds["write"] + CLOCKS_S
    assert all(profile.seconds[stage] <= profile.wall_seconds[MAP] for stage in ("read", "paste", "write"))
    assert profile.wall_seconds["assemble"] > 0


@pytest.mark.parametrize("slow", ["read", "write", "sums"])
def test_what_keeps_several_workers_waiting_is_the_limit(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slow: str
) -> None:
    def scores(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full((len(batch), 2, *batch.shape[2:]), 0.5, np.float32)

    def slowly(work: Any) -> Any:
        def worked(*arguments: Any) -> Any:
            time.sleep(5 * NAP_S)
            return work(*arguments)

        return worked

    monkeypatch.setattr("geoseg.inference.pipeline.pipeline._SEQUENTIAL_DRIVERS", {"GTiff"})  # one reads for all
    monkeypatch.setattr("geoseg.inference.pipeline.slabs._CHUNK_PX", 1 << 10)
    owner, name = {
        "read": (Scene, "read_into"),
        "write": (tile_task.PartsInWork, "finish"),
        "sums": (device_module, "labeled"),
    }[slow]
    made = geoseg.plan(
        make_scene(300, 200),
        model=geoseg.ModelBundle.from_callable(scores, legend=LEGEND, window_px=64, overlap_px=8),
        tile=64,
        workers=4,
    )
    monkeypatch.setattr(owner, name, slowly(getattr(owner, name)))
    profile = geoseg.Profile()
    made.run(tmp_path / "map.tif", profile=profile)
    assert profile.limit is not None
    words = {"read": "reading took", "write": "writing took", "sums": "workers had nothing to do for"}
    assert profile.limit.what.startswith(words[slow]), str(profile)
    assert "a smaller `tile`" not in profile.limit.advice
    assert set(profile.seconds) == {"read", "score", "paste", "write"}


def test_a_profile_of_nothing_is_empty() -> None:
    assert Profile().limit is None
    assert not str(Profile())
