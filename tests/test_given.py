"""Arguments of the verbs: values of JSON, YAML, numpy, torch, rasterio and shapely work; errors name the rest."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.warp
import shapely
import torch
from rasterio.coords import BoundingBox

import geoseg
from geoseg.dataset import open_dataset
from geoseg.errors import GeosegError, UsageError
from geoseg.evaluation.points import PointSample
from geoseg.given import bands, box, path_error, scale, text_in
from geoseg.legend import given_legend
from geoseg.model import ModelBundle
from geoseg.typed import integer, number
from tests.inference.conftest import random_pixels, write_scene
from tests.networks import random_network, tiny_bundle

BOX = (500_010.0, 5_399_900.0, 500_060.0, 5_399_950.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=64)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", random_pixels(200, 260, 1, 0.1))


@pytest.mark.parametrize(
    ("usual", "brought"),
    [
        ({"scale": (0.0, 255.0)}, [[0, 255], np.array([0, 255]), (np.float32(0), np.float32(255)), 255]),
        ({"scale": (0.0, 255.0)}, [np.uint16(255), torch.tensor([0, 255]), [255], np.float64(255)]),
        ({"bands": (3, 2, 1)}, [[3, 2, 1], np.array([3, 2, 1]), [np.int64(3), 2, 1], [3.0, 2.0, 1.0], "3,2,1"]),
        ({"window": 128}, [np.int64(128), np.uint8(128), 128.0, np.float32(128), np.array(128), torch.tensor(128)]),
        ({"overlap": 16}, [np.int64(16), 16.0]),
        ({"tta": 2}, [np.int64(2), 2.0]),
        ({"tile": 128}, [np.int32(128), 128.0]),
        ({"batch_size": 2}, [np.int64(2), 2.0]),
        ({"workers": 1}, [np.int64(1), 1.0]),
        ({"resolution": 1.0}, [1, np.float32(1), np.int64(1)]),
        ({"device": "torch-cpu"}, [np.str_("torch-cpu")]),
        ({"device": "cpu"}, [torch.device("cpu"), "CPU", " cpu"]),
        ({"device": "auto"}, [None]),
        ({"bbox": BOX}, [list(BOX), np.array(BOX), BoundingBox(*BOX), shapely.box(*BOX), shapely.box(*BOX).boundary]),
    ],
    ids=str,
)  # fmt: skip
def test_a_plan_is_the_same_however_its_knobs_are_brought(
    scene: Path, bundle: ModelBundle, usual: dict[str, Any], brought: list[Any]
) -> None:
    (name,) = usual
    rest: dict[str, Any] = {"model": bundle, "device": "onnx"}
    wanted = geoseg.plan(scene, **rest | usual)
    for value in brought:
        made = geoseg.plan(scene, **rest | {name: value})
        assert made == wanted
        assert json.dumps(made.meaning) == json.dumps(wanted.meaning)


@pytest.mark.parametrize(
    "refused",
    [
        {"window": True}, {"window": np.True_}, {"window": 64.5}, {"window": "64"}, {"window": float("nan")},
        {"overlap": [8]}, {"tta": "2"}, {"tta": None, "tile": (64, 64)}, {"workers": False}, {"batch_size": 1.5},
        {"scale": "foo"}, {"scale": [1, 2, 3]}, {"scale": {"low": 0, "high": 255}}, {"scale": True},
        {"scale": (0, None)},
        {"bands": 1.5}, {"bands": [True, 2, 3]}, {"bands": {1, 2, 3}}, {"bands": [None]}, {"bbox": [1, 2, 3]},
        {"bbox": "here"}, {"bbox": (1, 2, 3, "x")}, {"device": 0}, {"device": b"cpu"}, {"blend": 3},
        {"resolution": [1]}, {"resolution": True}, {"model": 5},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_the_name_of_its_parameter(scene: Path, refused: dict[str, Any]) -> None:
    knobs = {name: value for name, value in refused.items() if value is not None}
    (name,) = knobs
    with pytest.raises(UsageError, match=f"^`{name}` must be .*, got "):
        geoseg.plan(scene, **knobs)


def test_an_argument_too_many_is_not_taken_for_an_option(scene: Path) -> None:
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        geoseg.plan(scene, "model.safetensors")  # type: ignore[call-arg, misc, unused-ignore]


def test_a_list_of_names_is_no_legend_and_told_what_is(scene: Path) -> None:
    with pytest.raises(UsageError, match=r"`legend` must be a dict such as \{1: 'water'\}, or a path, got \['land'\]"):
        geoseg.preview(scene, legend=["land"])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"`mapping` must be a dict such as \{'trees': 'forest'\}, or a path, got "):
        geoseg.evaluate(scene, scene, mapping=["land"])  # type: ignore[call-overload, unused-ignore]


@pytest.mark.parametrize("verb", ["predict", "plan", "labels", "evaluate", "vectorize", "train", "crop", "preview"])
def test_an_unknown_keyword_is_told_with_the_nearest_name(scene: Path, tmp_path: Path, verb: str) -> None:
    near = {"crop": "crs", "train": "crop_px", "evaluate": "legend", "vectorize": "legend", "preview": "legend"}
    name = near.get(verb, "window")
    call: dict[str, tuple[Any, ...]] = {
        "predict": (scene, tmp_path / "m.tif"),
        "train": (scene, tmp_path / "m.safetensors"),
    }
    with pytest.raises((TypeError, UsageError), match=rf"'{name}s'.*'?{name}'?"):
        getattr(geoseg, verb)(*call.get(verb, (scene,)), **{f"{name}s": 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("verb", "knobs"),
    [
        ("predict", {"out": 3}), ("predict", {"out": "m.tif", "confidence": True}),
        ("vectorize", {"connectivity": True}),
        ("vectorize", {"confidence": 1}), ("vectorize", {"classes": 1.5}), ("evaluate", {"threads": "2"}),
        ("preview", {"max_mb": "big"}), ("preview", {"scene": np.zeros((3, 4, 4))}), ("crop", {"bbox": (1, 2)}),
        ("labels", {"window": True}), ("train", {"out": "m.safetensors", "threads": 1.5}),
        ("evaluate", {"mapping": 3}), ("evaluate", {"areas": "no"}), ("vectorize", {"smooth": "no"}),
        ("vectorize", {"overwrite": "no"}), ("vectorize", {"crs": "EPSG:4326", "mkdir": np.zeros(2)}),
        ("preview", {"polygons": 3}), ("preview", {"progress": 3}), ("sample", {"announce": "print"}),
        ("train", {"out": "m.safetensors", "recipe": []}), ("train", {"out": "m.safetensors", "wandb": "no"}),
        ("predict_many", {"out_dir": 3}), ("predict_many", {"out_dir": "maps", "on_result": 3}),
        ("predict", {"out": "m.tif", "shard": 3}), ("import_weights", {"out": "m.safetensors", "mkdir": 2}),
    ],
)  # fmt: skip
def test_every_verb_has_the_door(scene: Path, verb: str, knobs: dict[str, Any]) -> None:
    name = list(knobs)[-1]
    with pytest.raises(GeosegError, match=f"^`{name}` must be "):
        getattr(geoseg, verb)(scene, **knobs)


@pytest.mark.parametrize("verb", ["predict", "train", "picture", "import_weights"])
def test_a_verb_that_writes_needs_a_path(scene: Path, verb: str) -> None:
    with pytest.raises(UsageError, match=r"^`out` must be a path, got None"):
        getattr(geoseg, verb)(scene, out=None)


@pytest.mark.parametrize("wrong", [5, [], ["a"], object(), {}, np.zeros((3, 4, 4)), "", " "])
def test_what_cannot_be_a_path_is_one_line_at_every_door(wrong: Any, tmp_path: Path) -> None:
    doors: list[Any] = [
        geoseg.Scene.open, geoseg.info, geoseg.vectorize, geoseg.preview, geoseg.evaluate, geoseg.labels,
        geoseg.open_dataset, ModelBundle.open, ModelBundle.from_pretrained, lambda path: geoseg.split(path, "all"),
        lambda path: geoseg.crop(path, BOX), lambda path: geoseg.predict(path, tmp_path / "map.tif"),
        lambda path: geoseg.picture(path, out=tmp_path / "map.png"),
        lambda path: geoseg.save_bundle(
            path, {}, architecture="Unet", arguments={}, legend=geoseg.DEEPGLOBE, normalization=None,  # type: ignore[arg-type]
        ),
    ]  # fmt: skip
    for door in doors:
        with pytest.raises(UsageError) as caught:
            door(wrong)
        assert caught.value.parameter is not None, door
        assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_is_no_path_or_crs_is_one_line(scene: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, Callable[[], object]]] = [
        ("weights", lambda: geoseg.import_weights(3, tmp_path / "m.safetensors")),  # type: ignore[arg-type]
        ("stac", lambda: geoseg.export_model("demo", stac=True)),  # type: ignore[arg-type]
        ("tolerance", lambda: geoseg.open_dataset(scene, tolerance=None)),  # type: ignore[arg-type]
        ("overwrite", lambda: geoseg.tabulate(scene, overwrite=None)),  # type: ignore[call-overload]
        ("path", lambda: ModelBundle.from_onnx(3)),  # type: ignore[arg-type]
        ("name", lambda: ModelBundle.from_onnx("a.onnx", name=3)),  # type: ignore[arg-type]
        ("normalization", lambda: ModelBundle.from_onnx("a.onnx", normalization=(1, 2))),  # type: ignore[arg-type]
        ("arguments", lambda: geoseg.import_weights("a.pth", tmp_path / "a.safetensors", arguments="x")),  # type: ignore[arg-type]
        ("classes", lambda: geoseg.Legend(3)),  # type: ignore[arg-type]
        ("crs", lambda: geoseg.crop(scene, BOX, np.zeros((2, 2)))),  # type: ignore[arg-type]
    ]
    for name, call in calls:
        with pytest.raises(GeosegError) as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1
        assert caught.value.parameter == name
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x" * 300, '{"type": "Polygon", "coordinates": [' + "[0, 0], " * 100 + "]}"])
def test_a_text_that_is_too_long_for_a_name_is_one_line_at_every_door(scene: Path, tmp_path: Path, name: str) -> None:
    """Users pass GeoJSON or WKT where a file's name belongs."""
    out = tmp_path / "m.safetensors"
    doors: list[Callable[[], object]] = [
        lambda: geoseg.info(name), lambda: geoseg.vectorize(name), lambda: geoseg.evaluate(name, scene),
        lambda: geoseg.evaluate(scene, name), lambda: geoseg.evaluate(scene, sample=name),
        lambda: geoseg.tabulate(scene, name), lambda: geoseg.preview(scene, name), lambda: geoseg.predict(name, out),
        lambda: geoseg.predict(scene, tmp_path / "m.tif", model=name), lambda: geoseg.import_weights(name, out),
        lambda: geoseg.train(name, out), lambda: geoseg.train(scene, out, labels=name),
        lambda: geoseg.export_model(name, out), lambda: geoseg.crop(scene, BOX, name), lambda: geoseg.sample(name),
    ]  # fmt: skip
    for door in doors:
        with pytest.raises(GeosegError) as caught:
            door()
        assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no folder that a process is in")
def test_a_current_folder_that_is_gone_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with rasterio.open(tmp_path / "map.tif", "w", driver="GTiff", width=9, height=9, count=1, dtype="uint8") as file:
        file.write(np.ones((1, 9, 9), np.uint8))
    geoseg.vectorize(tmp_path / "map.tif")  # numba asks for the current folder when it compiles
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(GeosegError, match="the current folder no longer exists; change to another one"):
        geoseg.vectorize(tmp_path / "map.tif", "v.gpkg")
    assert len(geoseg.vectorize(tmp_path / "map.tif")) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf_8_is_told_of_as_that(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"m\xff.tif")
    path.write_bytes(b"II*\0")
    with pytest.raises(GeosegError, match="has a name that is not UTF-8, which GDAL does not open; rename it"):
        geoseg.info(path)


def test_an_open_dataset_is_its_scene(scene: Path, bundle: ModelBundle) -> None:
    with rasterio.open(scene) as dataset:
        assert geoseg.plan(dataset, model=bundle, device="onnx") == geoseg.plan(scene, model=bundle, device="onnx")


def test_values_are_made_of_what_json_and_numpy_bring(bundle: ModelBundle, tmp_path: Path) -> None:
    water = geoseg.LandCover(np.int64(3), "water", [np.uint8(0), 0.0, 255])  # type: ignore[arg-type]
    assert water == geoseg.LandCover(3, "water", (0, 0, 255))
    assert geoseg.Legend([water]).codes == (3,)  # type: ignore[arg-type]
    hash(geoseg.Legend([water]))  # type: ignore[arg-type]
    normal = geoseg.Normalization(np.array([1, 2, 3]), [1.0, np.float32(2), 3], [0, 255])  # type: ignore[arg-type]
    assert normal == geoseg.Normalization((1.0, 2.0, 3.0), (1.0, 2.0, 3.0), (0.0, 255.0))
    arguments = {**bundle.arguments}
    made = geoseg.save_bundle(
        tmp_path / "m.safetensors",
        random_network("Unet", arguments),
        architecture="Unet",
        arguments=arguments,
        legend=bundle.legend,
        normalization=bundle.normalization,
        output_codes=np.array(bundle.output_codes),  # type: ignore[arg-type]
        bands=["red", "green", "blue"],  # type: ignore[arg-type]
        window_px=np.int64(64),  # type: ignore[arg-type]
        gsd_m=np.float32(0.5),  # type: ignore[arg-type]
    )
    assert (made.window_px, made.output_codes, made.gsd_m) == (64, bundle.output_codes, 0.5)
    for refused in ({"code": True}, {"code": 1.5}, {"color": (0, 0, "x")}, {"name": 3}):
        with pytest.raises(UsageError):
            geoseg.LandCover(**{"code": 1, "name": "a", "color": (0, 0, 0)} | refused)


def test_numbers_of_other_libraries() -> None:
    assert integer("n", Decimal(3)) == 3
    assert number("n", Decimal("1.5")) == 1.5
    assert scale("scale", (Decimal(1), 2)) == (1.0, 2.0)
    assert bands("bands", "nir, red") == ("nir", "red")
    assert box("bbox", [[1, 2, 3, 4]][0]) == (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_whatever_an_editor_on_windows_made_of_it(tmp_path: Path, encoding: str) -> None:
    """Applies to all files that people write by hand: lists, tables, legends, mixtures, splits, mappings."""
    said = "code,name\n0,Wälder\n"
    (tmp_path / "a.csv").write_bytes(said.encode(encoding))
    assert text_in(tmp_path / "a.csv") == said
    assert given_legend(tmp_path / "a.csv").names == ("Wälder",)


def test_a_path_from_home_is_found_and_written_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell does not expand `--out=~/map.tif`; geoseg does, instead of creating a folder called ~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "legend.txt").write_text("water\nland\n")
    with rasterio.open(tmp_path / "map.tif", "w", driver="GTiff", width=9, height=9, count=1, dtype="uint8") as file:
        file.write(np.ones((1, 9, 9), np.uint8))
    made = geoseg.vectorize("~/map.tif", "~/new/v.gpkg", legend="~/legend.txt", mkdir=True)
    assert made == tmp_path / "new" / "v.gpkg"
    assert made.exists()
    assert geoseg.tabulate("~/map.tif", out="~/t.csv")["pixels"].sum() == 81
    assert {path.name for path in tmp_path.iterdir()} == {"legend.txt", "map.tif", "new", "t.csv"}


@pytest.mark.parametrize("content", [b"\0\1\2\xff", bytes(range(256))])
def test_what_is_no_text_is_not_to_be_saved_as_utf_8(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "legend.csv").write_bytes(content)
    with pytest.raises(UsageError, match=r"legend\.csv is not a text file; check the path"):
        given_legend(tmp_path / "legend.csv")


def test_text_of_another_encoding_says_how_to_save_it(tmp_path: Path) -> None:
    for name in ("pairs.csv", "legend.csv", "mixture.json", "points.csv"):
        (tmp_path / name).write_bytes("scene,labels\nWälder.tif,x.tif\n".encode("latin-1"))
    reads: tuple[Callable[[], object], ...] = (
        lambda: open_dataset(tmp_path / "pairs.csv"),
        lambda: open_dataset(tmp_path / "mixture.json"),
        lambda: given_legend(tmp_path / "legend.csv"),
        lambda: PointSample.read(tmp_path / "points.csv"),
    )
    for read in reads:
        with pytest.raises(GeosegError, match=r"is not UTF-8 text: .* at byte 14; save it as UTF-8"):
            read()


def test_an_error_without_a_path_is_not_blamed_on_one() -> None:
    assert path_error(PermissionError(errno.EPERM, "Operation not permitted")) is None
    assert path_error(PermissionError(errno.EACCES, "Permission denied", 3)) is None  # a descriptor


def test_a_crs_is_a_text_a_number_or_an_object(scene: Path) -> None:
    with rasterio.open(scene) as opened:
        bounds, crs = opened.bounds, opened.crs
    box = rasterio.warp.transform_bounds(crs, 4326, *bounds)
    west, south, east, north = box
    middle = (west + east) / 2
    part = shapely.box(west, south, middle, north)
    whole = geoseg.crop(scene, box, "EPSG:4326").geobox
    texts = geoseg.within(scene, part, "EPSG:4326").area
    for one in (4326, np.int64(4326), pyproj.CRS(4326), rasterio.crs.CRS.from_epsg(4326)):
        assert geoseg.crop(scene, box, one).geobox == whole
        assert geoseg.Scene.open(scene).crop(box, crs=one).geobox == whole
        assert geoseg.within(scene, part, one).area == texts
        assert geoseg.plan(scene, bbox=box, bbox_crs=one).grid == geoseg.plan(scene, bbox=box, bbox_crs=4326).grid
    for wrong in (True, 3.5, [4326], object()):
        with pytest.raises(UsageError, match=r"`crs` of the `bbox` is not a known CRS"):
            geoseg.crop(scene, box, wrong)
    with pytest.raises(UsageError, match=r"give an area that overlaps the scene, or name the CRS .* with `aoi_crs`"):
        geoseg.within(scene, part)
