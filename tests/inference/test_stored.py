"""A map whose parts and file are objects in a store: the result equals the map on the local disk."""

from __future__ import annotations

import dataclasses
import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely

import geoseg
from geoseg.errors import LockedError, OutputError, ResumeError, UsageError
from geoseg.inference.execution import tile_task
from geoseg.inference.execution.outputs import Outputs
from geoseg.inference.execution.stored import PartsStore, Staged, staged
from geoseg.raster import Window
from geoseg.store import Key, claimed
from tests.buckets import Bucket
from tests.inference.conftest import random_pixels, write_scene

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::geoseg.errors.GeosegWarning")
TILE = 512


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", random_pixels(1024, 900, 0, 0.1))


@pytest.fixture(scope="module")
def local(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local")
    geoseg.predict(scene, folder / "map.tif", confidence=folder / "sure.tif", tile=TILE)
    return folder


def pixels(path: str | Path) -> Any:
    with rasterio.open(path) as opened:
        return opened.read(), opened.tags(), opened.crs


def test_the_map_in_a_store_is_the_one_on_the_disk(
    bucket: Bucket, scene: Path, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    out = bucket.url("maps/map.tif")
    profile = geoseg.Profile()
    assert geoseg.predict(scene, out, confidence=bucket.url("maps/sure.tif"), tile=TILE, profile=profile) == out
    assert profile.wall_seconds["upload"] > 0
    beside = {f"maps/{path.name}" for path in local.iterdir()}
    assert set(bucket.names()) == beside
    for name in ("map.tif", "sure.tif"):
        (tmp_path / name).write_bytes(bucket.read(f"maps/{name}"))
        theirs, ours = pixels(tmp_path / name), pixels(local / name)
        np.testing.assert_array_equal(theirs[0], ours[0])
        assert theirs[1] == ours[1]
    assert bucket.read("maps/map.qml") == (local / "map.qml").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"map.tif", "sure.tif"}
    with rasterio.open(out) as opened:  # as GDAL finds it there
        assert opened.shape == (1024, 900)


class KilledError(Exception):
    """An error that no cleanup in geoseg handles."""


@contextmanager
def map_uploads_fail(monkeypatch: pytest.MonkeyPatch, error: Exception) -> Iterator[None]:
    """Let the upload of the map raise an error; other uploads work."""
    upload = Key.upload

    def fails(key: Key, file: Path) -> None:
        if key.name == "map.tif":
            raise error
        upload(key, file)

    with monkeypatch.context() as patched:
        patched.setattr(Key, "upload", fails)
        yield


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of the tiles that are mapped from now on."""
    tiles: list[int] = []
    begin = tile_task.Parts.begin

    def counted(self: tile_task.Parts, index: int, tile: Window) -> tile_task.PartsInWork:
        tiles.append(index)
        return begin(self, index, tile)

    monkeypatch.setattr(tile_task.Parts, "begin", counted)
    return tiles


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that makes the run end once that many parts are kept."""

    def after(parts: int) -> None:
        keep, kept = PartsStore.keep, [0]

        def counted(self: PartsStore, part: Path) -> None:
            keep(self, part)
            kept[0] += 1
            if kept[0] == parts:
                raise KilledError

        monkeypatch.setattr(PartsStore, "keep", counted)

    return after


def test_a_run_goes_on_where_another_machine_was_killed(
    bucket: Bucket,
    scene: Path,
    local: Path,
    mapped: list[int],
    killed_after: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = bucket.url("map.tif")
    with monkeypatch.context() as patched:
        killed_after(2)
        with pytest.raises(KilledError):
            geoseg.predict(scene, out, tile=TILE, workers=1)
        patched.undo()
    kept = {int(Path(name).stem.rpartition("_")[2]) for name in bucket.names() if "labels_" in name}
    assert len(kept) == 2
    mapped.clear()
    geoseg.predict(scene, out, tile=TILE)
    assert sorted(mapped) == sorted({0, 1, 2, 3} - kept)
    assert set(bucket.names()) == {"map.tif", "map.tif.aux.xml", "map.qml"}
    np.testing.assert_array_equal(pixels(out)[0], pixels(local / "map.tif")[0])


def test_an_unfinished_map_of_other_parameters_is_kept(
    bucket: Bucket, scene: Path, killed_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = bucket.url("map.tif")
    with monkeypatch.context() as patched:
        killed_after(1)
        with pytest.raises(KilledError):
            geoseg.predict(scene, out, tile=TILE, workers=1)
        patched.undo()
    before = bucket.names()
    with pytest.raises(
        ResumeError, match=r"s3://.*map.tif.parts holds an unfinished map with different settings: overlap"
    ):
        geoseg.predict(scene, out, tile=TILE, overlap=64)
    assert bucket.names() == before
    geoseg.predict(scene, out, tile=TILE, overlap=64, overwrite=True)
    assert set(bucket.names()) == {"map.tif", "map.tif.aux.xml", "map.qml"}


def test_a_run_that_fails_before_a_tile_leaves_nothing(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "scene.tif").write_bytes(b"no raster")
    with pytest.raises(geoseg.errors.SceneError):
        geoseg.predict(tmp_path / "scene.tif", bucket.url("map.tif"))
    assert bucket.names() == []


def test_one_run_at_a_time_writes_an_object(bucket: Bucket, scene: Path) -> None:
    lock = Key.of(bucket.url("map.tif.parts/lock"))
    with claimed(lock, "busy"), pytest.raises(LockedError, match="another run is writing s3://"):
        geoseg.predict(scene, bucket.url("map.tif"))
    assert bucket.names() == []


@pytest.mark.parametrize("name", ["out", "confidence", "probabilities", "polygons"])
def test_an_object_is_replaced_only_when_asked(bucket: Bucket, scene: Path, tmp_path: Path, name: str) -> None:
    there = "there.geojson" if name == "polygons" else "there.tif"
    bucket.write(there, b"mine")
    paths: dict[str, Any] = {"out": tmp_path / "map.tif", name: bucket.url(there)}
    with pytest.raises(OutputError, match="exists; add `overwrite=True`") as refused:
        geoseg.predict(scene, **paths)
    assert refused.value.parameter == name
    assert bucket.read(there) == b"mine"
    assert list(tmp_path.iterdir()) == []


def test_other_outputs_may_be_in_a_store_too(bucket: Bucket, scene: Path, tmp_path: Path) -> None:
    url = bucket.url("maps/polygons.geojson")
    item = bucket.url("maps/item.json")
    made = geoseg.predict(scene, tmp_path / "map.tif", polygons=url, min_area="25px", stac=item)
    assert made == tmp_path / "map.tif"
    assert bucket.names() == ["maps/item.json", "maps/polygons.geojson", "maps/polygons.qml"]
    assert b"FeatureCollection" in bucket.read("maps/polygons.geojson")
    assert len(json.loads(bucket.read("maps/item.json"))["assets"]) == 2  # written again with the polygons


@pytest.mark.parametrize("name", ["map.qml", "map.tif.aux.xml", "map.tif.ovr"])
def test_a_file_of_another_program_beside_the_map_is_replaced_only_when_asked(
    bucket: Bucket, scene: Path, local: Path, name: str
) -> None:
    bucket.write(name, b"mine")
    with pytest.raises(
        OutputError, match=f"{bucket.url(name)} was not made by geoseg and would be replaced"
    ) as refused:
        geoseg.predict(scene, bucket.url("map.tif"))
    assert refused.value.parameter == "out"
    assert bucket.names() == [name]
    geoseg.predict(scene, bucket.url("map.tif"), tile=TILE, overwrite=True)
    assert set(bucket.names()) == {"map.tif", "map.tif.aux.xml", "map.qml"}  # GDAL would read old overviews
    assert bucket.read("map.qml") == (local / "map.qml").read_bytes()


def test_the_staged_map_is_closed_before_it_is_removed(
    bucket: Bucket, scene: Path, replaced_while_open: list[str]
) -> None:
    geoseg.predict(scene, bucket.url("map.tif"), polygons=bucket.url("map.gpkg"), tile=TILE)
    assert "map.gpkg" in bucket.names()
    assert not replaced_while_open


@pytest.mark.parametrize("in_store", [True, False])
@pytest.mark.parametrize("name", ["map.tif", "sure.tif"])
def test_a_raster_that_appears_during_a_run_is_not_replaced(
    bucket: Bucket, scene: Path, local: Path, tmp_path: Path, *, in_store: bool, name: str
) -> None:
    out: str | Path = bucket.url("map.tif") if in_store or name == "map.tif" else tmp_path / "map.tif"
    sure: str | Path = bucket.url("sure.tif") if in_store or name == "sure.tif" else tmp_path / "sure.tif"

    def appear(_: object) -> None:
        bucket.write(name, b"mine")

    with pytest.raises(OutputError, match=f"another program wrote {bucket.url(name)}") as refused:
        geoseg.predict(scene, out, confidence=sure, tile=TILE, progress=appear)
    assert refused.value.parameter == ("out" if name == "map.tif" else "confidence")
    assert bucket.read(name) == b"mine"
    bucket.remove(name)
    geoseg.predict(scene, out, confidence=sure, tile=TILE)
    for path in (out, sure):
        np.testing.assert_array_equal(pixels(path)[0], pixels(local / Path(path).name)[0])
    assert not any("/" in each for each in bucket.names())


@pytest.mark.parametrize(
    ("stored", "fails_at"),
    [
        (("map.tif",), "map.tif"),
        (("sure.tif", "map.json"), "sure.tif"),
        (("sure.tif", "map.json"), "map.json"),
        (("map.tif", "map.json"), "map.json"),
    ],
)
def test_a_run_with_outputs_here_and_there_goes_on_when_an_upload_failed(
    bucket: Bucket,
    scene: Path,
    local: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mapped: list[int],
    stored: tuple[str, ...],
    fails_at: str,
) -> None:
    upload, names = Key.upload, ("map.tif", "sure.tif", "map.json")
    places = [bucket.url(name) if name in stored else tmp_path / name for name in names]

    def fails(key: Key, file: Path) -> None:
        if key.name == fails_at:
            raise OutputError("the store does not respond")
        upload(key, file)

    def predict() -> None:
        geoseg.predict(scene, places[0], confidence=places[1], stac=places[2], tile=TILE)

    with monkeypatch.context() as patched:
        patched.setattr(Key, "upload", fails)
        with pytest.raises(OutputError, match="the store does not respond"):
            predict()
    assert mapped
    mapped.clear()
    predict()
    assert not mapped
    item = json.loads(bucket.read("map.json") if "map.json" in stored else Path(places[2]).read_bytes())
    assert set(item["assets"]) == {"landcover", "confidence"}
    for name, place in zip(names[:2], places, strict=False):
        np.testing.assert_array_equal(pixels(place)[0], pixels(local / name)[0])
    made = {*bucket.names(), *(path.name for path in tmp_path.iterdir())}
    assert made == {*(path.name for path in local.iterdir()), "map.json"}


@pytest.mark.parametrize("is_own", [True, False])
def test_what_a_run_placed_on_the_disk_is_its_own_on_a_machine_of_another_name(
    bucket: Bucket,
    scene: Path,
    local: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mapped: list[int],
    *,
    is_own: bool,
) -> None:
    def predict() -> None:
        geoseg.predict(scene, bucket.url("map.tif"), confidence=tmp_path / "sure.tif", tile=TILE)

    def fails(*_: object) -> None:
        raise OutputError("the store does not respond")

    with monkeypatch.context() as patched:
        patched.setattr(Staged, "_upload", fails)
        with pytest.raises(OutputError, match="does not respond"):
            predict()
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    mapped.clear()
    if is_own:
        predict()
        assert not mapped
        np.testing.assert_array_equal(pixels(tmp_path / "sure.tif")[0], pixels(local / "sure.tif")[0])
    else:
        with rasterio.open(tmp_path / "sure.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as theirs:
            theirs.update_tags(GEOSEG_OVERLAP="1")
        before = (tmp_path / "sure.tif").read_bytes()
        with pytest.raises(OutputError, match=r"sure\.tif exists"):
            predict()
        assert (tmp_path / "sure.tif").read_bytes() == before


def test_parts_that_cannot_be_removed_do_not_fail_a_finished_map(
    bucket: Bucket, scene: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = Key.remove

    def fails(key: Key, names: Any = None) -> None:
        if key.name.endswith(".parts"):
            raise OutputError("the store does not respond")
        remove(key, names)

    out, said = bucket.url("map.tif"), list[str]()
    with monkeypatch.context() as patched:
        patched.setattr(Key, "remove", fails)
        geoseg.predict(scene, out, tile=TILE, announce=said.append)
    assert said[-1] == f"the map is finished; remove {out}.parts, which geoseg could not: the store does not respond"
    np.testing.assert_array_equal(pixels(out)[0], pixels(local / "map.tif")[0])
    geoseg.predict(scene, out, tile=TILE)  # of the same run, so it may write the map again
    assert set(bucket.names()) == {"map.tif", "map.tif.aux.xml", "map.qml"}


def test_polygons_beside_a_raster_leave_its_style(bucket: Bucket, scene: Path, local: Path) -> None:
    out = bucket.url("map.tif")
    geoseg.predict(scene, out, tile=TILE)
    for overwrite in (False, True):
        geoseg.vectorize(out, bucket.url("map.geojson"), min_area="25px", overwrite=overwrite)
        assert bucket.read("map.qml") == (local / "map.qml").read_bytes()
    geoseg.vectorize(out, bucket.url("other.geojson"), min_area="25px")
    assert b"<renderer-v2" in bucket.read("other.qml")
    bucket.write("other.qml", bucket.read("other.qml") + b"<!-- of an older map -->")
    geoseg.vectorize(out, bucket.url("other.geojson"), min_area="25px", overwrite=True)
    assert b"of an older map" not in bucket.read("other.qml")


def _geopackage(folder: Path, *names: str) -> bytes:
    """Return the content of a GeoPackage with these layers."""
    path = folder / "layers.gpkg"
    for name in names:
        pyogrio.write_dataframe(
            geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=32631), path, layer=name
        )
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_geopackage_in_a_store_keeps_its_other_layers(
    bucket: Bucket, scene: Path, tmp_path: Path, *, overwrite: bool
) -> None:
    url, before = bucket.url("project.gpkg"), _geopackage(tmp_path, "map", "roads", "rivers")
    bucket.write("project.gpkg", before)
    for out in (bucket.url("map.tif"), tmp_path / "map.tif"):
        with pytest.raises(
            OutputError, match=rf"{url} holds more than the layer 'map', .*: rivers, roads; choose another `polygons`"
        ) as refused:
            geoseg.predict(scene, out, polygons=url, overwrite=overwrite)
        assert refused.value.parameter == "polygons"
    assert bucket.names() == ["project.gpkg"]
    assert bucket.read("project.gpkg") == before


def test_an_interrupted_upload_replaces_only_its_own_objects(
    bucket: Bucket, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = _geopackage(tmp_path, "map")

    def predict(polygons: str, **options: Any) -> None:
        geoseg.predict(
            scene, bucket.url("map.tif"), polygons=bucket.url(polygons), min_area="25px", tile=TILE, **options
        )

    with map_uploads_fail(monkeypatch, KilledError()), pytest.raises(KilledError):
        predict("map.gpkg")
    ours = bucket.read("map.gpkg")
    bucket.write("theirs.gpkg", theirs)
    with pytest.raises(OutputError, match=r"theirs\.gpkg exists; add `overwrite=True`"):
        predict("theirs.gpkg")
    with pytest.raises(OutputError, match=r"map\.gpkg holds more than the layer 'other'"):
        predict("map.gpkg", layer="other")
    assert (bucket.read("theirs.gpkg"), bucket.read("map.gpkg")) == (theirs, ours)
    predict("map.gpkg")
    assert set(bucket.names()) == {"map.gpkg", "map.qml", "map.tif", "map.tif.aux.xml", "theirs.gpkg"}
    with pytest.raises(OutputError, match=r"map\.gpkg exists; add `overwrite=True`"):
        geoseg.predict(scene, tmp_path / "map.tif", polygons=bucket.url("map.gpkg"))
    predict("theirs.gpkg", overwrite=True)
    assert bucket.read("theirs.gpkg") != theirs


@pytest.mark.parametrize("in_store", [True, False])
@pytest.mark.parametrize("name", ["there.gpkg", "there.geojson"])
def test_polygons_that_appear_during_a_run_are_not_replaced(
    bucket: Bucket, scene: Path, tmp_path: Path, *, in_store: bool, name: str
) -> None:
    out: str | Path = bucket.url("map.tif") if in_store else tmp_path / "map.tif"

    def appear(_: object) -> None:
        bucket.write(name, b"mine")

    url = bucket.url(name)
    with pytest.raises(OutputError, match=f"another program wrote {url}") as refused:
        geoseg.predict(scene, out, polygons=url, min_area="25px", stac=True, tile=TILE, progress=appear)
    assert refused.value.parameter == "polygons"
    way_on = f"{'run' if in_store else 'or'} geoseg vectorize {out} --out {url} --min-area 25px"
    assert str(refused.value).endswith(way_on)
    assert bucket.read(name) == b"mine"
    assert pixels(out)[0].shape == (1, 1024, 900)
    item = json.loads(bucket.read("map.json") if in_store else (tmp_path / "map.json").read_bytes())
    assert set(item["assets"]) == {"landcover"}
    assert not any(".parts/" in each for each in bucket.names())


def test_polygons_of_a_map_on_the_disk_that_cannot_be_uploaded_are_written_by_the_same_command(
    bucket: Bucket, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_key: Key, _file: Path) -> None:
        raise OutputError("the store does not respond")

    out, url = tmp_path / "map.tif", bucket.url("map.gpkg")
    with monkeypatch.context() as patched:
        patched.setattr(Key, "upload", fails)
        with pytest.raises(OutputError, match=r"the store does not respond; .* run the same command again, or geoseg"):
            geoseg.predict(scene, out, polygons=url, min_area="25px", tile=TILE)
    made = out.stat().st_mtime_ns
    geoseg.predict(scene, out, polygons=url, min_area="25px", tile=TILE)
    assert (bucket.names(), out.stat().st_mtime_ns) == (["map.gpkg"], made)


def test_two_failures_are_both_named(bucket: Bucket, scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OutputError("the disk is full; choose another `out`", "out")

    out, polygons = bucket.url("map.tif"), bucket.url("map.gpkg")
    with map_uploads_fail(monkeypatch, OutputError("the store does not respond")), monkeypatch.context() as patched:
        patched.setattr("geoseg.vector.vectorize", full)
        with pytest.raises(OutputError, match=r"the disk is full.*; .*the store does not respond") as failed:
            geoseg.predict(scene, out, polygons=polygons, min_area="25px", tile=TILE)
    assert failed.value.parameter == "polygons"
    geoseg.predict(scene, out, polygons=polygons, min_area="25px", tile=TILE)
    assert {"map.tif", "map.gpkg"} < set(bucket.names())


def test_polygons_that_fail_leave_the_rasters_in_the_store(
    bucket: Bucket, scene: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OutputError("the disk is full; choose another `out`", "out")

    monkeypatch.setattr("geoseg.vector.vectorize", full)
    out, sure, polygons = (bucket.url(name) for name in ("map.tif", "sure.tif", "map.gpkg"))
    with pytest.raises(OutputError, match="the disk is full; choose another `polygons`") as refused:
        geoseg.predict(scene, out, confidence=sure, polygons=polygons, min_area="25px", tile=TILE)
    assert refused.value.parameter == "polygons"
    assert f"geoseg vectorize {out} --out {polygons} --min-area 25px --confidence {sure}" in str(refused.value)
    assert set(bucket.names()) == {path.name for path in local.iterdir()}
    np.testing.assert_array_equal(pixels(out)[0], pixels(local / "map.tif")[0])


def test_a_url_of_another_format_is_refused_before_the_work(bucket: Bucket, scene: Path) -> None:
    with pytest.raises(UsageError, match="GeoTIFF") as refused:
        geoseg.predict(scene, bucket.url("map.png"))
    assert refused.value.parameter == "out"
    assert bucket.names() == []


def test_what_was_about_to_be_put_is_put_again(
    bucket: Bucket, scene: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, sure = bucket.url("map.tif"), bucket.url("sure.tif")
    with map_uploads_fail(monkeypatch, KilledError()), pytest.raises(KilledError):
        geoseg.predict(scene, out, confidence=sure, tile=TILE)
    assert "sure.tif" in bucket.names()
    assert "map.tif" not in bucket.names()
    geoseg.predict(scene, out, confidence=sure, tile=TILE)
    assert set(bucket.names()) == {path.name for path in local.iterdir()}


@pytest.mark.parametrize("sure_in_store", [True, False])
def test_a_dry_run_accepts_what_an_interrupted_run_has_placed(
    bucket: Bucket, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, sure_in_store: bool
) -> None:
    out, sure = bucket.url("map.tif"), bucket.url("sure.tif") if sure_in_store else str(tmp_path / "sure.tif")
    with map_uploads_fail(monkeypatch, KilledError()), pytest.raises(KilledError):
        geoseg.predict(scene, out, confidence=sure, tile=TILE)
    assert sure_in_store or Path(sure).exists()
    before = bucket.names()
    with staged(out, {"confidence": sure}, dry=True) as place:
        Outputs.of(place.out, place.options).check(scene)
    assert bucket.names() == before
    bucket.write("theirs.tif", b"")
    with (
        pytest.raises(OutputError, match=r"theirs\.tif exists"),
        staged(out, {"confidence": bucket.url("theirs.tif")}, dry=True),
    ):
        pass


def test_a_record_that_is_damaged_allows_nothing(bucket: Bucket, scene: Path) -> None:
    bucket.write("map.tif.parts/placing", b"<html>")
    bucket.write("map.tif", b"mine")
    with pytest.raises(OutputError, match="exists; add `overwrite=True`"):
        geoseg.predict(scene, bucket.url("map.tif"))
    assert bucket.read("map.tif") == b"mine"


def test_workers_that_see_no_folder_put_their_parts(
    bucket: Bucket, scene: Path, local: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    write = tile_task.Parts.write

    def elsewhere(self: tile_task.Parts, index: int, tile: Any) -> None:
        write(dataclasses.replace(self, folder=Path("/nowhere") / self.folder.name), index, tile)

    monkeypatch.setattr(tile_task.Parts, "write", elsewhere)
    out = bucket.url("map.tif")
    with dask.config.set(scheduler="threads"):
        geoseg.predict(scene, out, tile=TILE)
    np.testing.assert_array_equal(pixels(out)[0], pixels(local / "map.tif")[0])
    assert list(tmp_path.iterdir()) == []


def test_what_a_huge_run_has_left_is_restored_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one tile in a hundred only one of two products was stored; that tile does not count as finished."""
    tiles, fetched = 8_000, np.zeros((2, 8_000), np.uint8)
    header = {"fingerprint": "f" * 64, "meaning": {"products": ["labels", "confidence"]}}
    folder = Key.of("s3://bucket/map.tif.parts")
    names = {f"{'f' * 16}/labels_{index:07d}.zip": 9 for index in range(tiles)}
    names |= {f"{'f' * 16}/confidence_{index:07d}.zip": 9 for index in range(tiles) if index % 100}
    names |= {"run.json": 9, ".lock": 9, "other/labels_0000000.zip": 9, f"{'f' * 16}/labels_x.zip": 9}
    monkeypatch.setattr(Key, "names", lambda _key: names)
    monkeypatch.setattr(Key, "read", lambda _key: json.dumps(header).encode())

    def fetch(_store: PartsStore, parts: list[Path]) -> None:
        for part in parts:
            product, _, index = part.stem.partition("_")
            fetched[int(product == "confidence"), int(index)] += 1

    monkeypatch.setattr(PartsStore, "_fetch", fetch)
    interned = [sys.intern(name.rpartition("/")[2]) for name in names]  # pathlib caches in a table of the process
    tracemalloc.start()
    try:
        PartsStore(folder).restore(tmp_path / "map.tif")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    lines = (tmp_path / "map.tif.parts" / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["tile"] for line in lines[1:]] == [index for index in range(tiles) if index % 100]
    np.testing.assert_array_equal(fetched, np.tile(np.arange(tiles) % 100 > 0, (2, 1)))
    assert len(interned) == len(names)
    assert peak / tiles < 600


def test_what_cannot_be_fetched_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(_store: PartsStore, parts: list[Path]) -> None:
        if parts[0].name == "7":
            raise OutputError("the store refuses")

    monkeypatch.setattr(PartsStore, "_fetch", fetch)

    def fetch_all() -> None:
        with PartsStore(Key.of("s3://a/b")).fetching() as begin:
            for index in range(9):
                begin([Path(str(index))])

    with pytest.raises(OutputError, match="the store refuses"):
        fetch_all()
