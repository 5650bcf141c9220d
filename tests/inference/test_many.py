"""Many scenes in one call, compared with each scene on its own."""

from __future__ import annotations

import os
import threading
import traceback
import weakref
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import onnxruntime
import pytest
import rasterio
from numpy.typing import NDArray

import geoseg
from geoseg.errors import ModelError, OutputError, SceneError, UsageError
from geoseg.inference import SceneResult, each_plan, find_scenes, many, read_list
from geoseg.inference.scene_list import map_names
from geoseg.model import ModelBundle
from geoseg.progress import Progress
from geoseg.raster import Scene
from tests.inference.conftest import random_pixels, write_scene
from tests.networks import tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of three scenes of different sizes, and other files."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    for seed, (name, shape) in enumerate({"a.tif": (70, 90), "b.tiff": (130, 200), "c.2024.TIF": (64, 64)}.items()):
        write_scene(folder / name, random_pixels(*shape, seed, 0.2))
    (folder / "notes.txt").write_text("no raster")
    (folder / "below").mkdir()
    write_scene(folder / "below" / "d.tif", random_pixels(64, 64, 9, 0))
    return folder


def pixels(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as dataset:
        read: NDArray[Any] = dataset.read()
        return read


def outcome(results: list[SceneResult]) -> dict[str, str]:
    return {Path(result.scene).name: result.status for result in results}


def test_each_map_is_that_of_its_scene_alone(folder: Path, tmp_path: Path, bundle: ModelBundle) -> None:
    options: dict[str, Any] = {"model": bundle, "device": "onnx"}
    seen: list[Progress] = []
    results = geoseg.predict_many(
        folder,
        tmp_path / "maps",
        confidence=f"{tmp_path}/sure/{{name}}.tif",
        tile=64,
        progress=seen.append,
        **options,
    )
    assert outcome(results) == {"a.tif": "mapped", "b.tiff": "mapped", "c.2024.TIF": "mapped"}
    for result in results:
        alone = geoseg.predict(result.scene, tmp_path / "alone.tif", overwrite=True, **options)
        np.testing.assert_array_equal(pixels(result.labels), pixels(alone))
        assert pixels(tmp_path / "sure" / result.labels.name).max() <= 255
    assert [each.labels.name for each in results] == ["a.tif", "b.tif", "c.2024.tif"]
    said = {(each.scene, each.scene_number, each.scenes_total) for each in seen if each.stage == "map"}
    assert said == {(result.scene, number, 3) for number, result in enumerate(results, start=1)}


def test_small_scenes_are_in_work_beside_each_other_and_told_of_in_turn(
    tmp_path: Path, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs meet at a barrier, so they must overlap; reports come in order, all in the caller's thread."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    for number in range(4):
        write_scene(folder / f"{number}.tif", random_pixels(64, 70, number, 0))
    both, place = threading.Barrier(2, timeout=20), many.Plan.run

    def meeting(plan: many.Plan, *arguments: Any, **options: Any) -> Any:
        both.wait()
        return place(plan, *arguments, **options)

    monkeypatch.setattr(many.Plan, "run", meeting)
    calls: list[tuple[str, int]] = []

    def tell(what: str) -> None:
        calls.append((what, threading.get_ident()))

    results = geoseg.predict_many(
        folder,
        tmp_path / "maps",
        model=bundle,
        device="onnx",
        progress=lambda state: tell(Path(state.scene).name),
        on_result=lambda result: tell(f"{Path(result.scene).name} {result.status}"),
    )
    assert [result.status for result in results] == ["mapped"] * 4
    assert {thread for _, thread in calls} == {threading.get_ident()}
    assert list(dict.fromkeys(what for what, _ in calls)) == [
        line for number in range(4) for line in (f"{number}.tif", f"{number}.tif mapped")
    ]


def test_the_error_of_a_scene_keeps_its_cause_and_where_it_was_raised(
    folder: Path, tmp_path: Path, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    def failing(*_: Any, **__: Any) -> None:
        pixels = np.zeros(9)
        held.append(weakref.ref(pixels))
        raise OutputError("the disk is full; choose another `out`", "out") from OSError("no space left")

    monkeypatch.setattr(many.Plan, "run", failing)
    for result in geoseg.predict_many(folder / "a.tif", tmp_path / "maps", model=bundle, device="onnx"):
        assert str(result.error) == "the disk is full; choose another `out_dir`"
        assert result.error is not None
        assert isinstance(result.error.__cause__, OSError)
        assert traceback.extract_tb(result.error.__traceback__)[-1].name == "failing"
        assert held.pop()() is None  # results are kept, pixels are not


def test_finished_maps_are_left_alone_and_changed_scenes_are_told_of(
    folder: Path, tmp_path: Path, bundle: ModelBundle
) -> None:
    options: dict[str, Any] = {"model": bundle, "device": "onnx"}
    first = geoseg.predict_many(f"{folder}/*.tif*", tmp_path / "maps", **options)
    times = [result.labels.stat().st_mtime_ns for result in first]
    again = geoseg.predict_many(f"{folder}/*.tif*", tmp_path / "maps", workers=2, tile=64, **options)
    assert set(outcome(again).values()) == {"finished"}
    assert [result.labels.stat().st_mtime_ns for result in again] == times
    write_scene(folder / "a.tif", random_pixels(70, 90, 77, 0.2))
    changed = geoseg.predict_many(folder, tmp_path / "maps", **options)
    assert outcome(changed) == {"a.tif": "failed", "b.tiff": "finished", "c.2024.TIF": "mapped"}
    assert isinstance(changed[0].error, OutputError)
    assert "exists" in str(changed[0].error)
    other = geoseg.predict_many(folder, tmp_path / "maps", blend="mean", overwrite=True, **options)
    assert set(outcome(other).values()) == {"mapped"}
    whole = geoseg.predict_many(folder, tmp_path / "maps", blend="mean", overwrite=True, **options)
    assert set(outcome(whole).values()) == {"finished"}


def test_maps_that_were_read_are_replaced(
    folder: Path, tmp_path: Path, bundle: ModelBundle, replaced_while_open: list[str]
) -> None:
    options: dict[str, Any] = {"model": bundle, "device": "onnx", "overwrite": True}
    for blend in ("hann", "mean"):
        for result in geoseg.predict_many(folder, tmp_path / "maps", blend=blend, **options):
            assert result.status == "mapped"
            geoseg.Scene.open(result.labels).read(geoseg.Window(0, 0, 9, 9))
    assert not replaced_while_open


def test_a_missing_product_is_made(folder: Path, tmp_path: Path, bundle: ModelBundle) -> None:
    options: dict[str, Any] = {"model": bundle, "device": "onnx", "polygons": f"{tmp_path}/{{name}}.geojson"}
    geoseg.predict_many([folder / "a.tif"], tmp_path / "maps", **options)
    assert outcome(geoseg.predict_many([folder / "a.tif"], tmp_path / "maps", **options)) == {"a.tif": "finished"}
    (tmp_path / "a.geojson").unlink()
    [refused] = geoseg.predict_many([folder / "a.tif"], tmp_path / "maps", **options)
    assert str(refused.error).endswith(
        "exists; add `overwrite=True` to replace it, or make only its polygons with geoseg vectorize, "
        "or choose another `out_dir`"
    )
    assert refused.error is not None
    assert refused.error.parameter == "out_dir"
    assert outcome(geoseg.predict_many([folder / "a.tif"], tmp_path / "maps", overwrite=True, **options)) == {
        "a.tif": "mapped"
    }


def test_what_a_run_left_before_its_polygons_goes_once_they_are_there(
    folder: Path, tmp_path: Path, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: object, **_options: object) -> None:
        raise OutputError("the disk is full")

    maps, polygons = tmp_path / "maps", tmp_path / "a.geojson"
    options: dict[str, Any] = {"model": bundle, "device": "onnx", "polygons": f"{tmp_path}/{{name}}.geojson"}
    with monkeypatch.context() as patched:
        patched.setattr("geoseg.vector.vectorize", fails)
        [failed] = geoseg.predict_many([folder / "a.tif"], maps, **options)
    assert failed.status == "failed"
    assert (maps / "a.tif.parts").exists()
    geoseg.vectorize(maps / "a.tif", polygons)
    before = polygons.read_bytes()
    assert outcome(geoseg.predict_many([folder / "a.tif"], maps, **options)) == {"a.tif": "finished"}
    assert polygons.read_bytes() == before
    assert not (maps / "a.tif.parts").exists()


def test_a_bad_scene_is_told_of_and_the_others_are_mapped(folder: Path, tmp_path: Path, bundle: ModelBundle) -> None:
    whole = (folder / "b.tiff").read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.tif").touch()
    write_scene(folder / "gray.tif", random_pixels(64, 64, 0, 0)[:1])
    write_scene(folder / "deep.tif", random_pixels(64, 64, 0, 0).astype(np.uint16))
    scenes = [folder / "gone.tif", *find_scenes(folder)]
    results = geoseg.predict_many(scenes, tmp_path / "maps", model=bundle, device="onnx", tile=64)
    assert {name for name, status in outcome(results).items() if status == "mapped"} == {
        "a.tif",
        "b.tiff",
        "c.2024.TIF",
    }
    assert all(isinstance(result.error, SceneError) for result in results if result.status == "failed")
    for result in results:
        assert result.labels.exists() == (result.status == "mapped")
        assert len(str(result.error).splitlines()) == 1
    assert "no such file" in str(results[0].error)


def test_shards_map_their_shares_and_the_last_one_makes_the_maps(
    folder: Path, tmp_path: Path, bundle: ModelBundle
) -> None:
    options: dict[str, Any] = {"model": bundle, "device": "onnx", "tile": 64}
    whole = geoseg.predict_many(folder, tmp_path / "whole", **options)
    first = geoseg.predict_many(folder, tmp_path / "maps", shard="1/2", **options)
    for result in first:
        assert (result.status == "mapped") == result.labels.exists()
    assert "partial" in outcome(first).values()
    last = geoseg.predict_many(folder, tmp_path / "maps", shard="2/2", **options)
    assert set(outcome(last).values()) <= {"mapped", "finished"}
    for of_shards, alone in zip(last, whole, strict=True):
        assert np.array_equal(pixels(of_shards.labels), pixels(alone.labels))


def test_scenes_beside_the_area_are_no_failures(folder: Path, tmp_path: Path, bundle: ModelBundle) -> None:
    write_scene(folder / "far.tif", random_pixels(64, 64, 0, 0), transform=rasterio.Affine(0.5, 0, 0, 0, -0.5, 0))
    box = (500_000, 5_399_990, 500_020, 5_400_000)
    results = geoseg.predict_many(folder, tmp_path / "maps", model=bundle, device="onnx", bbox=box)
    assert outcome(results)["far.tif"] == "outside"
    assert sum(status == "mapped" for status in outcome(results).values()) == 3


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"window": 65}, (UsageError, ModelError), "window"),
        ({"blend": "none"}, UsageError, "blend"),
        ({"tta": 3}, UsageError, "tta"),
        ({"confidence": "sure.tif"}, UsageError, "write {name} where the scene's name goes: {name}_sure.tif"),
        ({"min_area": "100"}, UsageError, "`min_area` applies to polygons"),
        ({"model": "nowhere.safetensors"}, ModelError, "nowhere.safetensors"),
    ],
    ids=str,
)
def test_what_is_wrong_for_all_ends_before_the_first(
    folder: Path, tmp_path: Path, bundle: ModelBundle, options: dict[str, Any], error: Any, said: str
) -> None:
    with pytest.raises(error) as raised:
        geoseg.predict_many(folder, tmp_path / "maps", **{"model": bundle, "device": "onnx"} | options)
    assert said in str(raised.value)
    assert not (tmp_path / "maps").exists()


def test_names_that_collide_and_maps_in_place_of_scenes_are_refused(folder: Path, bundle: ModelBundle) -> None:
    write_scene(folder / "A.png", random_pixels(64, 64, 0, 0), driver="PNG")
    with pytest.raises(UsageError, match=r"a\.tif, .*A\.png would have the same name, a; rename them"):
        geoseg.predict_many([folder / "a.tif", folder / "A.png"], folder.parent / "maps", model=bundle)
    (folder / "A.png").unlink()
    with pytest.raises(UsageError, match="would replace a scene; choose an `out_dir` other than"):
        geoseg.predict_many(folder, folder, model=bundle)
    with pytest.raises(UsageError, match="no scene was given"):
        geoseg.predict_many([], folder.parent / "maps", model=bundle)


@pytest.mark.parametrize(
    ("scenes", "names"),
    [
        (["a/scene/x.tif", "b/scene/x.tif", "y.tif"], ["a_scene_x", "b_scene_x", "y"]),
        (["2024/rgb.tif", "2025/RGB.tif"], ["2024_rgb", "2025_RGB"]),
        (["p/a/x.tif", "q/a/x.tif", "p/b/x.tif"], ["p_a_x", "q_a_x", "b_x"]),
        (["https://a.org/1/x.tif?key=1", "https://a.org/2/x.tif"], ["1_x", "2_x"]),
    ],
)  # fmt: skip
def test_maps_of_one_name_have_the_folders_that_tell_them_apart(scenes: list[str], names: list[str]) -> None:
    assert map_names(scenes) == names
    assert len(set(map_names([*scenes, *(f"z/{name}.tif" for name in names)]))) == 2 * len(names)


def test_one_engine_serves_scenes_of_one_kind(
    folder: Path, tmp_path: Path, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    session = onnxruntime.InferenceSession

    def counted(*args: Any, **kwargs: Any) -> Any:
        made.append(args)
        return session(*args, **kwargs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", counted)
    for place in range(5):
        write_scene(folder / "below" / f"{place}.tif", random_pixels(64, 64, place, 0))
    results = geoseg.predict_many(folder / "below", tmp_path / "maps", model=bundle, device="onnx", window=96)
    assert len(results) == 6
    assert len(made) <= 1


def test_what_names_scenes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a.tif", "b.tiff", "c.2024.TIF"]
    assert [Path(str(scene)).name for scene in find_scenes(folder)] == names
    assert [Path(str(scene)).name for scene in find_scenes([folder / "b.tiff", folder])] == [
        "b.tiff",
        "a.tif",
        names[2],
    ]
    assert len(find_scenes(f"{folder}/**/*.tif")) == 2 + (os.name == "nt")
    with pytest.raises(UsageError, match="no raster matches"):
        find_scenes(f"{folder}/*.jp2")
    (folder / "._a.tif").write_bytes(b"\0\5\x16\7")  # written by macOS on other file systems
    (folder / "d.tif").mkdir()
    assert [Path(str(scene)).name for scene in find_scenes(folder)] == names
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UsageError, match="contains no raster"):
        find_scenes(tmp_path / "nothing")
    named = f"vrt://{folder}/b.tiff?bands=3,2,1"
    assert find_scenes(named) == [named]
    listed = "# scenes\n\na.tif\n" + f'"{folder / "b.tiff"}"\nhttps://example.org/x.tif?key=1\n'
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (folder / "list.txt").write_text(listed, encoding=encoding)
        assert read_list(folder / "list.txt") == [
            str(folder / "a.tif"), str(folder / "b.tiff"), "https://example.org/x.tif?key=1"
        ]  # fmt: skip
    for between, end in ((",", "\n"), (";", "\r\n"), ("\t", "\n")):
        rows = [["id", "Scene", "labels"], ["1", '"a.tif"', "la.tif"], [], ["2", "b.tiff", ""], ["3"]]
        (folder / "list.csv").write_text(end.join(between.join(row) for row in rows), encoding="utf-8-sig", newline="")
        assert read_list(folder / "list.csv") == [str(folder / "a.tif"), str(folder / "b.tiff")]
    (folder / "list.csv").write_text("scene\na.tif\n")
    assert read_list(folder / "list.csv") == [str(folder / "a.tif")]
    (folder / "list.txt").write_bytes(b"\x89PNG\xff\x00")
    faults = {"list.txt": "is not text", "none.txt": "cannot be read", "void.txt": "contains no scene"}
    for name, said in faults.items():
        (folder / "void.txt").touch()
        with pytest.raises(UsageError, match=said):
            read_list(folder / name)
    (folder / "list.csv").write_text(f"scene\n{'x' * 200_000}\n")  # more than a field of a table may hold
    with pytest.raises(UsageError, match=r"is not a table that can be read: .*larger than field limit"):
        read_list(folder / "list.csv")
    (folder / "list.txt").write_text("x" * 5000)  # more than a path may have
    assert find_scenes(read_list(folder / "list.txt")) == ["x" * 5000]
    monkeypatch.chdir(folder)
    assert map_names(
        [
            "a.tif",
            "https://example.org/s/x y.tif?token=z",
            "https://example.org/s/z%20200.tif",
            "60%20.tif",
            "/vsizip/old.zip/in/b.jp2",
            Path("S2_c.SAFE"),
            "NETCDF:f.nc:v",
        ]
    ) == ["a", "x_y", "z_200", "60_20", "b", "S2_c", "NETCDF_f.nc_v"]
    assert map_names([Scene.open("a.tif"), Scene.open("b.tiff")]) == ["a", "b"]


def test_many_names_are_compared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: ModelBundle) -> None:
    asked = 0

    def name(path: PurePath) -> str:
        nonlocal asked
        asked += 1
        return path.parts[-1]

    scenes = [tmp_path / f"{number}.tif" for number in range(400)]
    monkeypatch.setattr(PurePath, "name", property(name))
    next(each_plan(scenes, tmp_path / "maps", model=bundle, device="onnx"))
    assert asked < 20 * len(scenes)
