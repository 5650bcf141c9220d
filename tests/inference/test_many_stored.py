"""Many scenes into a folder of an object store: the result equals the folder on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import geoseg
from geoseg.errors import LockedError, OutputError, UsageError
from geoseg.model import ModelBundle
from geoseg.store import Key, claimed
from tests.buckets import Bucket
from tests.inference.conftest import random_pixels, write_scene
from tests.networks import tiny_bundle

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::geoseg.errors.GeosegWarning")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scenes"
    folder.mkdir()
    for seed, (name, shape) in enumerate({"a.tif": (70, 90), "b c.tiff": (130, 140)}.items()):
        write_scene(folder / name, random_pixels(*shape, seed, 0.2))
    return folder


def pixels(path: str | Path) -> Any:
    with rasterio.open(path) as dataset:
        return dataset.read(), dataset.tags()


def statuses(results: list[geoseg.SceneResult]) -> list[str]:
    return [each.status for each in results]


def test_a_folder_of_a_store_holds_what_one_on_the_disk_would(
    bucket: Bucket, folder: Path, tmp_path: Path, bundle: ModelBundle
) -> None:
    options: dict[str, Any] = {"model": bundle, "device": "onnx"}
    here = geoseg.predict_many(folder, tmp_path / "maps", confidence=f"{tmp_path}/maps/{{name}}_sure.tif", **options)
    there = geoseg.predict_many(folder, bucket.url("maps/"), confidence=bucket.url("maps/{name}_sure.tif"), **options)
    assert statuses(there) == ["mapped", "mapped"]
    assert [each.labels for each in there] == [bucket.url("maps/a.tif"), bucket.url("maps/b_c.tif")]
    assert bucket.names() == sorted(f"maps/{file.name}" for file in (tmp_path / "maps").iterdir())
    for ours, theirs in zip(here, there, strict=True):
        (expected, tags), (found, said) = pixels(ours.labels), pixels(theirs.labels)
        np.testing.assert_array_equal(found, expected)
        assert said == tags


def test_what_is_finished_in_a_store_is_left_alone(bucket: Bucket, folder: Path, bundle: ModelBundle) -> None:
    options: dict[str, Any] = {"model": bundle, "device": "onnx"}
    maps = bucket.url("maps")
    geoseg.predict_many([folder / "a.tif"], maps, **options)
    first = bucket.read("maps/a.tif")
    assert statuses(geoseg.predict_many(folder, maps, stac=True, **options)) == ["finished", "mapped"]
    assert bucket.read("maps/a.tif") == first
    told = json.loads(bucket.read("maps/a.json"))
    assert told["assets"]["landcover"]["file:size"] == len(first)
    before = bucket.names()
    assert statuses(geoseg.predict_many(folder, maps, stac=True, **options)) == ["finished", "finished"]
    other = geoseg.predict_many(folder, maps, blend="mean", **options)
    assert statuses(other) == ["failed", "failed"]
    assert "exists; add `overwrite=True`" in str(other[0].error)
    assert bucket.names() == before
    again = geoseg.predict_many(folder, maps, blend="mean", overwrite=True, **options)
    assert statuses(again) == ["mapped", "mapped"]
    assert statuses(geoseg.predict_many(folder, maps, blend="mean", **options)) == ["finished", "finished"]
    bucket.remove("maps/a.tif")
    assert statuses(geoseg.predict_many(folder, maps, blend="mean", **options)) == ["mapped", "finished"]


def test_a_scene_that_another_machine_maps_is_told_of(bucket: Bucket, folder: Path, bundle: ModelBundle) -> None:
    with claimed(Key.of(bucket.url("maps/a.tif.parts/lock")), "busy"):
        results = geoseg.predict_many(folder, bucket.url("maps"), model=bundle, device="onnx")
    assert statuses(results) == ["failed", "mapped"]
    assert isinstance(results[0].error, LockedError)


@pytest.mark.parametrize(
    ("out_dir", "options", "error", "said"),
    [
        ("s3://{bucket}", {"shard": "1/2"}, UsageError, "`shard` needs its outputs on a disk"),
        ("s3://nowhere-at-all/maps", {}, OutputError, "the bucket nowhere-at-all does not exist"),
        ("s3://{bucket}/a//b", {}, UsageError, "`out_dir`"),
        ("s3://", {}, UsageError, "`out_dir`"),
        ("s3://{bucket}/maps", {"confidence": "s3://{bucket}/sure.tif"}, UsageError, "write {name}"),
        ("s3://{bucket}/maps", {"confidence": "s3://{bucket}/{name}.png"}, UsageError, "GeoTIFF"),
    ],
    ids=str,
)
def test_what_is_wrong_for_all_ends_before_the_first(
    bucket: Bucket, folder: Path, bundle: ModelBundle, out_dir: str, options: dict[str, Any], error: Any, said: str
) -> None:
    given = {name: value.replace("{bucket}", bucket.name) for name, value in options.items()}
    with pytest.raises(error) as raised:
        geoseg.predict_many(folder, out_dir.replace("{bucket}", bucket.name), model=bundle, device="onnx", **given)
    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert bucket.names() == []


def test_the_root_of_a_bucket_is_a_folder(bucket: Bucket, folder: Path, bundle: ModelBundle) -> None:
    results = geoseg.predict_many([folder / "a.tif"], f"s3://{bucket.name}", model=bundle, device="onnx")
    assert [each.labels for each in results] == [bucket.url("a.tif")]
