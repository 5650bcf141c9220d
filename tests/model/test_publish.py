"""Models for other programs: the same probabilities, all required metadata, and never half a file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
import rasterio
import torch
from numpy.typing import NDArray

import geoseg
from geoseg.errors import GeosegError, ModelError, OutputError, UsageError
from geoseg.legend import LandCover, Legend
from geoseg.model import ModelBundle
from geoseg.model.network import load_network
from geoseg.raster import BandStatistics
from tests.networks import tiny_bundle
from tests.onnx_networks import Kind, named

SCENE = Path(__file__).parents[2] / "sample_data" / "scene.tif"
LEGEND = Legend(tuple(LandCover(code, f"class {code}", (code, 2 * code, 50)) for code in (1, 3, 4, 9)))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(
        tmp_path_factory.mktemp("bundle"),
        legend=LEGEND,
        output_codes=(9, 1, 4),
        temperature=1.5,
        gsd_m=0.5,
        overlap_px=16,
        statistics=BandStatistics(mean=(100.0,) * 3, std=(50.0,) * 3, low=(5.0,) * 3, high=(240.0,) * 3),
        provenance={"by": "a test"},
    )


@pytest.fixture(scope="module")
def exported(bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return geoseg.export_model(bundle, tmp_path_factory.mktemp("exported") / "model.onnx")


def normalized(bundle: ModelBundle, count: int = 3) -> torch.Tensor:
    side = bundle.window_px
    return torch.from_numpy(np.random.default_rng(0).normal(0, 1, (count, 3, side, side)).astype(np.float32))


def wanted(bundle: ModelBundle, image: torch.Tensor) -> NDArray[np.float32]:
    with torch.no_grad():
        return torch.softmax(load_network(bundle)(image) / bundle.temperature, dim=1).numpy()


def test_one_input_gives_the_probabilities_of_any_batch(bundle: ModelBundle, exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert taken.shape[1:] == [3, 64, 64]
    assert taken.type == "tensor(float)"
    image = normalized(bundle)
    for count in (1, 3):
        (found,) = session.run([given.name], {taken.name: image[:count].numpy()})
        np.testing.assert_allclose(found, wanted(bundle, image[:count]), atol=1e-4)
    onnx.checker.check_model(onnx.load(exported), full_check=True)


def test_all_that_deepness_knows_is_in_the_file(exported: Path) -> None:
    texts = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    said = {key: json.loads(text) for key, text in texts.items()}
    assert said["model_type"] == "Segmentor"
    assert said["class_names"] == {"0": "class 9", "1": "class 1", "2": "class 4"}
    assert said["resolution"] == 50  # cm
    assert (said["tile_size"], said["tiles_size"], said["tiles_overlap"], said["seg_thresh"]) == (64, 64, 25, 0)
    np.testing.assert_allclose(said["standardization_mean"], np.divide([118.0, 112.0, 98.0], 255))
    np.testing.assert_allclose(said["standardization_std"], np.divide([54.0, 50.0, 48.0], 255))


def deepness(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the channel of each pixel as Deepness computes it: overlapping tiles, of which it keeps the middles."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    texts = session.get_modelmeta().custom_metadata_map
    said = {key: json.loads(text) for key, text in texts.items() if not key.startswith("geoseg")}
    side = taken.shape[2]
    stride = side - side * said["tiles_overlap"] // 100
    half, last = (side - stride) // 2, pixels.shape[1] - side
    found = np.zeros(pixels.shape[1:], np.int64)
    for row in range(0, last + 1, stride):
        for col in range(0, last + 1, stride):
            tile = np.float32(pixels[: taken.shape[1], row : row + side, col : col + side] / 255.0)
            mean, std = (np.reshape(said[f"standardization_{what}"], (-1, 1, 1)) for what in ("mean", "std"))
            (scores,) = session.run(None, {taken.name: ((tile - mean) / std)[None].astype(np.float32)})
            scores[scores < said["seg_thresh"]] = 0
            rows = slice(half if row else 0, side - half if row < last else side)
            cols = slice(half if col else 0, side - half if col < last else side)
            place = slice(row + rows.start, row + rows.stop), slice(col + cols.start, col + cols.stop)
            found[place] = scores[0].argmax(axis=0)[rows, cols]
    return found


def part_of_the_sample(folder: Path, side: int, gsd_m: float = 0.5) -> Path:
    with rasterio.open(SCENE) as scene:
        profile = scene.profile | {
            "width": side,
            "height": side,
            "transform": rasterio.transform.from_origin(5e5, 5e6, gsd_m, gsd_m),
        }
        pixels = scene.read(window=((300, 300 + side), (800, 800 + side)))
    with rasterio.open(folder / "part.tif", "w", **profile) as part:
        part.write(pixels)
    return folder / "part.tif"


def test_deepness_finds_the_labels_that_geoseg_finds(bundle: ModelBundle, exported: Path, tmp_path: Path) -> None:
    part = part_of_the_sample(tmp_path, 64 + 5 * 48)
    ours = geoseg.labels(part, model=bundle, network_resolution="scene", blend="crop").compute()
    theirs = np.array(bundle.output_codes)[deepness(exported, rasterio.open(part).read())]
    assert (ours == theirs).mean() > 0.999


def test_deepness_finds_the_labels_of_the_demo_model_without_its_blending(tmp_path: Path) -> None:
    path = geoseg.export_model("demo", tmp_path / "demo.onnx", window=256)
    part = part_of_the_sample(tmp_path, 256 + 2 * 192, 1)
    ours = geoseg.labels(part, model=path, network_resolution="scene").compute()
    theirs = np.array(ModelBundle.open("demo").output_codes)[deepness(path, rasterio.open(part).read())]
    assert (ours == theirs).mean() >= 0.99


def test_geoseg_reads_back_what_it_wrote(bundle: ModelBundle, exported: Path, tmp_path: Path) -> None:
    again = ModelBundle.open(exported)
    for side in ("legend", "output_codes", "bands", "normalization", "statistics", "gsd_m", "dtype", "name"):
        assert getattr(again, side) == getattr(bundle, side)
    assert (again.window_px, again.overlap_px, again.provenance) == (64, 16, {"by": "a test"})
    part = part_of_the_sample(tmp_path, 200)
    maps = [geoseg.labels(part, model=each, network_resolution="scene").compute() for each in (bundle, again)]
    assert (maps[0] == maps[1]).mean() > 0.9999
    other = geoseg.export_model(exported, tmp_path / "again.onnx")
    assert onnx.load(other).graph == onnx.load(exported).graph


@pytest.mark.parametrize("half", [False, True])
def test_one_channel_becomes_two_and_half_weights_stay_half(tmp_path: Path, half: bool) -> None:  # noqa: FBT001
    legend = Legend(LEGEND.classes[:2])
    binary = tiny_bundle(tmp_path, arguments=None, legend=legend, export=False, half=half) if half else None
    bundle = binary or tiny_bundle(tmp_path, legend=legend, export=False)
    path = geoseg.export_model(bundle, tmp_path / "model.onnx", window=32)
    image = normalized(bundle, 1)[:, :, :32, :32]
    (found,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        None, {"image": image.numpy()}
    )
    assert found.shape == (1, 2, 32, 32)
    np.testing.assert_allclose(found, wanted(bundle, image), atol=1e-3)


def test_an_archive_of_torch_export_gives_the_same(bundle: ModelBundle, tmp_path: Path) -> None:
    path = geoseg.export_model(bundle, tmp_path / "model.pt2")
    said = {"mlm-metadata": ""}
    program = torch.export.load(path, extra_files=said)
    image = normalized(bundle)
    for count in (2, 3):
        np.testing.assert_allclose(program.module()(image[:count]).numpy(), wanted(bundle, image[:count]), atol=1e-5)
    assert json.loads(said["mlm-metadata"])["mlm:input"][0]["bands"] == ["red", "green", "blue"]


NAMES = {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}}
DIMENSIONS = {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"type": "string", "pattern": "^[a-z-_]+$"}}
STRUCTURE = {
    "type": "object",
    "required": ["shape", "dim_order", "data_type"],
    "properties": {
        "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
        "dim_order": DIMENSIONS,
        "data_type": {"const": "float32"},
    },
}
OF_BANDS = {"allOf": [STRUCTURE, {"properties": {"dim_order": {"contains": {"const": "bands"}}}}]}
CLASS = {
    "type": "object",
    "required": ["value", "description"],
    "properties": {
        "value": {"type": "integer"},
        "description": {"type": "string"},
        "color_hint": {"pattern": "^([0-9A-Fa-f]{6})$"},
    },
}
RULES: dict[str, Any] = {
    "type": "object",
    "required": ["type", "stac_version", "id", "geometry", "bbox", "properties", "links", "assets", "stac_extensions"],
    "properties": {
        "type": {"const": "Feature"},
        "stac_version": {"const": "1.1.0"},
        "stac_extensions": {"contains": {"const": "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"}},
        "geometry": {"type": "object", "required": ["type", "coordinates"]},
        "bbox": {"type": "array", "minItems": 4, "maxItems": 4, "items": {"type": "number"}},
        "links": {"type": "array"},
        "properties": {
            "type": "object",
            "required": ["datetime", "bands", "mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"],
            "not": {"anyOf": [{"required": [f"mlm:{name}"]} for name in ("artifact_type", "entrypoint")]},
            "propertyNames": {
                "anyOf": [
                    {"pattern": "^(?!mlm:)"},
                    {"pattern": "^mlm:(name|architecture|framework|tasks|input|output|hyperparameters)$"},
                ]
            },
            "properties": {
                "datetime": {"pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
                "bands": {"type": "array", "minItems": 1, "items": {"required": ["name"]}},
                "gsd": {"type": "number", "exclusiveMinimum": 0},
                "mlm:name": {"pattern": r"^[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]$"},
                "mlm:framework": {"enum": ["PyTorch", "ONNX"]},
                "mlm:tasks": {"items": {"enum": ["semantic-segmentation"]}, "uniqueItems": True},
                "mlm:hyperparameters": {
                    "type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[0-9a-zA-Z_.-]+$"},
                },
                "mlm:input": {
                    "type": "array",
                    "items": {
                        "required": ["name", "input", "bands"],
                        "properties": {
                            "bands": NAMES,
                            "input": OF_BANDS,
                            "value_scaling": {"minItems": 1, "items": {"required": ["type", "mean", "stddev"]}},
                        },
                    },
                },
                "mlm:output": {
                    "type": "array",
                    "items": {
                        "required": ["name", "tasks", "result"],
                        "properties": {"result": STRUCTURE, "classification:classes": {"minItems": 1, "items": CLASS}},
                    },
                },
            },
        },
        "assets": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "required": ["href", "roles", "mlm:artifact_type", "bands"],
                "not": {"anyOf": [{"required": [f"mlm:{name}"]} for name in ("name", "input", "output")]},
                "properties": {
                    "roles": {"contains": {"const": "mlm:model"}},
                    "file:checksum": {"pattern": "^1220[0-9a-f]{64}$"},
                },
            },
        },
    },
}  # fmt: skip
"""The rules that the schemas of STAC 1.1, MLM 1.5 and classification 1.1 set for such an item, restated."""


@pytest.mark.parametrize("name", ["a test", "Größe 2", "7", "x"])
def test_the_item_keeps_the_rules_of_its_schemas(
    bundle: ModelBundle, exported: Path, tmp_path: Path, name: str
) -> None:
    item = tmp_path / "items" / "model.json"
    geoseg.export_model(ModelBundle.from_onnx(exported, name=name), stac=item, mkdir=True)
    told = json.loads(item.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(RULES).validate(told)
    asset = told["assets"]["model"]
    assert (item.parent / asset["href"]).resolve() == exported.resolve()
    assert asset["file:checksum"][4:] == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert asset["mlm:artifact_type"] == "torch.onnx.export"
    (output,) = told["properties"]["mlm:output"]
    assert [row["value"] for row in output["classification:classes"]] == [9, 1, 4]  # as the channels
    assert told["properties"]["geoseg:statistics"]["mean"] == [100.0] * 3
    assert bundle.statistics is not None


def test_an_item_of_a_bundle_itself(bundle: ModelBundle, tmp_path: Path) -> None:
    geoseg.export_model(bundle.weights_path, stac=tmp_path / "model.json")
    told = json.loads((tmp_path / "model.json").read_text())
    jsonschema.Draft7Validator(RULES).validate(told)
    assert told["properties"]["mlm:framework"] == "PyTorch"
    assert told["assets"]["model"]["mlm:artifact_type"] == "safetensors.torch.save_file"
    assert told["assets"]["model"]["href"].endswith(bundle.weights_path.name)


def test_somebody_elses_file_is_completed_and_its_network_stays(tmp_path: Path) -> None:
    bare = Kind(fit="strided", metadata={"author": "somebody", "resolution": 30}).write(
        tmp_path / "bare.onnx", save_as_external_data=True, location="bare.data", size_threshold=0
    )
    normalization = geoseg.Normalization((100, 110, 120), (50, 60, 70))
    bundle = ModelBundle.from_onnx(
        bare, legend=LEGEND, output_codes=(4, 9, 1, 3), normalization=normalization, bands=("nir", "red", "green"),
        gsd_m=2, window_px=64, activation="sigmoid",
    )  # fmt: skip
    path = geoseg.export_model(bundle, tmp_path / "complete.onnx")
    again = ModelBundle.open(path)
    assert (again.graph and again.graph.activation, again.output_codes, again.files) == (
        "sigmoid",
        (4, 9, 1, 3),
        (path,),
    )
    assert (again.bands, again.gsd_m, again.window_px, again.legend) == (bundle.bands, 2, 64, LEGEND)
    texts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(texts["author"]) == "somebody"
    assert json.loads(texts["resolution"]) == 200
    assert onnx.load(path).graph.node == onnx.load(bare).graph.node
    part = part_of_the_sample(tmp_path, 128, 2)
    maps = [geoseg.labels(part, model=each, bands=(1, 2, 3)).compute() for each in (bundle, path)]
    np.testing.assert_array_equal(*maps)


def test_one_channel_has_a_threshold(tmp_path: Path) -> None:
    path = geoseg.export_model(named(Kind(channels=1)).write(tmp_path / "one.onnx"), tmp_path / "out.onnx")
    texts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert (texts["seg_thresh"], json.loads(texts["class_names"])) == ("0.5", {"0": "water", "1": "forest"})


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({}, UsageError, "nothing to write; give `out`, `stac` or both"),
        ({"out": "model.tflite"}, UsageError, r"`out` must end in .onnx or .pt2, got 'model.tflite'"),
        ({"stac": "model.onnx"}, UsageError, "`stac` must be a .json file"),
        ({"out": "there.onnx"}, OutputError, "exists; add `overwrite=True` to replace it, or choose another `out`"),
        ({"out": "nowhere/model.onnx"}, OutputError, "the folder .*nowhere does not exist"),
        ({"out": "a.onnx", "window": 60}, UsageError, "must be a multiple of 8 .* got 60; try 56 or 64"),
        ({"out": "other.onnx", "stac": "nowhere/model.json"}, OutputError, "does not exist; check the path"),
    ],
)
def test_what_cannot_be_written_is_one_line_and_no_file(
    bundle: ModelBundle, tmp_path: Path, given: dict[str, Any], kind: type[GeosegError], said: str
) -> None:
    (tmp_path / "there.onnx").write_bytes(b"mine")
    paths = {name: value if name == "window" else tmp_path / value for name, value in given.items()}
    with pytest.raises(kind, match=said):
        geoseg.export_model(bundle, **paths)
    assert {path.name for path in tmp_path.iterdir()} == {"there.onnx"}
    assert (tmp_path / "there.onnx").read_bytes() == b"mine"


def test_a_network_that_cannot_be_exported_leaves_what_was_there(
    bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail = Mock(side_effect=RuntimeError("Unsupported: aten::strange\nin a graph"))
    monkeypatch.setattr(torch.onnx, "export", fail)
    monkeypatch.setattr(torch.export, "export", fail)
    for name in ("model.onnx", "model.pt2"):
        (tmp_path / name).write_bytes(b"before")
        with pytest.raises(ModelError, match=r"cannot be exported.*aten::strange") as caught:
            geoseg.export_model(bundle, tmp_path / name, overwrite=True)
        assert "\n" not in str(caught.value)
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"before"}
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_no_network_of_ours_says_so(exported: Path, bundle: ModelBundle, tmp_path: Path) -> None:
    function = ModelBundle.from_callable(lambda batch: batch, legend=LEGEND)
    with pytest.raises(UsageError, match="is a function, which no other program can run"):
        geoseg.export_model(function, tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="is an ONNX file and stays ONNX"):
        geoseg.export_model(exported, tmp_path / "model.pt2")
    with pytest.raises(UsageError, match="takes windows of 64 px only, got `window=32`"):
        geoseg.export_model(exported, tmp_path / "model.onnx", window=32)
    with pytest.raises(UsageError, match="is read by this run"):
        geoseg.export_model(exported, exported, overwrite=True)
    with pytest.raises(UsageError, match=r"`stac` must be a \.json file"):
        geoseg.export_model(bundle, tmp_path / "a.onnx", stac=tmp_path / "a.onnx")
