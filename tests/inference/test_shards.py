"""Shards of a map, computed by independent jobs: the result equals the map of a single run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import geoseg
from geoseg.errors import LockedError, ResumeError, UsageError
from geoseg.inference.execution.journal import Shard, open_shard, parts_folder
from tests.inference.conftest import random_pixels, write_scene
from tests.networks import tiny_bundle

pytestmark = pytest.mark.filterwarnings("ignore::geoseg.errors.GeosegWarning")
TILE = 128


@pytest.fixture(scope="module", autouse=True)
def _model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make a small network the default model of these runs."""
    bundle = tiny_bundle(tmp_path_factory.mktemp("model"), window_px=64)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GEOSEG_MODEL", str(bundle.weights_path))
        yield


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", random_pixels(250, 375, 0, 0.1))


@pytest.fixture(scope="module")
def whole(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pixels(geoseg.predict(scene, tmp_path_factory.mktemp("whole") / "map.tif", tile=TILE))


def pixels(path: Path | str) -> Any:
    with rasterio.open(path) as opened:
        return opened.read(1)


@pytest.mark.parametrize("tiles", [0, 1, 5, 6, 7, 100])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_hold_every_tile_once_and_differ_by_one_at_most(tiles: int, count: int) -> None:
    shares = [Shard(number, count).indexes(tiles, "map.tif") for number in range(1, count + 1)]
    assert sorted(index for share in shares for index in share) == list(range(tiles))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["", "3", "0/8", "9/8", "1/0", "a/b", "-1/2", "1/2/3", "1.5/2"])
def test_what_is_no_share_is_refused(text: str, scene: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="I/N") as refused:
        geoseg.predict(scene, tmp_path / "map.tif", shard=text)
    assert refused.value.parameter == "shard"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_the_share_that_ends_last_puts_the_map_together(
    scene: Path, whole: Any, tmp_path: Path, order: tuple[int, ...]
) -> None:
    out = tmp_path / "map.tif"
    said: list[str] = []
    for number in order:
        assert not out.exists()
        geoseg.predict(scene, out, tile=TILE, shard=f"{number}/3", announce=said.append)
    np.testing.assert_array_equal(pixels(out), whole)
    assert [line for line in said if "of 6 tiles are done; the last shard" in line] == [
        f"shard {order[0]}/3 is finished, 2 of 6 tiles are done; the last shard to finish assembles the map",
        f"shard {order[1]}/3 is finished, 4 of 6 tiles are done; the last shard to finish assembles the map",
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"map.tif", "map.tif.aux.xml", "map.qml"}


def test_shares_may_run_at_once(scene: Path, whole: Any, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    meet = threading.Barrier(4)

    def job(number: int) -> None:
        meet.wait(60)
        geoseg.predict(scene, out, tile=TILE, shard=f"{number}/4", workers=1)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(job, number) for number in range(1, 5)]:
            done.result(120)
    np.testing.assert_array_equal(pixels(out), whole)
    assert not parts_folder(out).exists()


def test_more_shares_than_tiles_are_no_fault(scene: Path, whole: Any, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    for number in range(1, 9):
        geoseg.predict(scene, out, tile=TILE, shard=f"{number}/8")
    np.testing.assert_array_equal(pixels(out), whole)


def test_a_run_without_shares_goes_on_with_theirs(scene: Path, whole: Any, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    said: list[str] = []
    geoseg.predict(scene, out, tile=TILE, shard="2/2")
    geoseg.predict(scene, out, tile=TILE, announce=said.append)
    assert "resuming an unfinished map: 3 of 6 tiles are done" in said
    np.testing.assert_array_equal(pixels(out), whole)
    assert not parts_folder(out).exists()


def test_a_share_has_the_tiles_of_those_before_it_though_its_plan_names_no_products(
    scene: Path, whole: Any, tmp_path: Path
) -> None:
    out, sure = tmp_path / "map.tif", tmp_path / "sure.tif"
    plan = geoseg.plan(scene)
    assert plan.tile_count == 1
    first, second = sorted((1, 2), key=lambda number: -len(Shard(number, 2).indexes(1, out.name)))
    geoseg.predict(scene, out, confidence=sure, tile=TILE, shard=f"{first}/2")
    plan.run(out, confidence=sure, shard=f"{second}/2")
    np.testing.assert_array_equal(pixels(out), whole)


def test_shares_of_other_parameters_are_refused(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    geoseg.predict(scene, out, tile=TILE, shard="1/2")
    with pytest.raises(ResumeError, match="overlap"):
        geoseg.predict(scene, out, tile=TILE, shard="2/2", overlap=8)


def test_a_share_that_is_run_again_while_another_writes_the_polygons_is_no_fault(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def predict(number: int, **options: Any) -> None:
        polygons = tmp_path / "map.geojson"
        geoseg.predict(scene, tmp_path / "map.tif", tile=TILE, shard=f"{number}/2", polygons=polygons, **options)

    def run_again(*_arguments: object, **_options: object) -> None:
        predict(1, announce=said.append)

    monkeypatch.setattr("geoseg.inference.execution.journal._OPEN_TRIES", 1)
    monkeypatch.setattr("geoseg.vector.vectorize", run_again)
    predict(1)
    predict(2)
    assert said == ["another shard is assembling the map"]


def test_the_same_share_twice_at_once_is_refused(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    plan = geoseg.plan(scene, tile=TILE)
    first = open_shard(out, plan.fingerprint(), plan.meaning, Shard(1, 2), start_over=False)
    with first, pytest.raises(LockedError, match=r"shard 1/2 of .* is already running"):
        geoseg.predict(scene, out, tile=TILE, shard="1/2")


def test_of_many_maps_of_one_tile_every_shard_has_some() -> None:
    shards = [Shard(number, 7) for number in range(1, 8)]
    shares = [[len(shard.indexes(1, f"{number}.tif")) for number in range(100)] for shard in shards]
    assert [sum(of_map) for of_map in zip(*shares, strict=True)] == [1] * 100
    assert min(map(sum, shares)) > 0
