"""Any ONNX file as a model: the map equals the file's own output, window by window, for any tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import rasterio
from numpy.typing import NDArray

import geoseg
from geoseg.errors import GeosegError, ModelError, ResumeError, UsageError
from geoseg.inference import Plan, Scoring
from geoseg.inference.blend import axis_weights
from geoseg.model import ModelBundle, Weights, choose_engine
from geoseg.model.onnx_files import WindowSession
from geoseg.progress import Progress
from geoseg.raster import Scene, Window
from tests.inference.conftest import MakeScene, write_scene
from tests.model.mirrored import mirrored
from tests.onnx_networks import Kind, named, window_probabilities

HEIGHT, WIDTH = 121, 150
KINDS = {
    "logits": Kind(),
    "probabilities": Kind(end="Softmax"),
    "one logit": Kind(channels=1),
    "one probability": Kind(channels=1, end="Sigmoid"),
    "each class by itself": Kind(end="Sigmoid"),
    "channels last": Kind(channels_last=True),
    "channels last, one fixed window": Kind(channels_last=True, size=48, batch=1, end="Softmax"),
    "bytes": Kind(dtype="uint8"),
    "doubles": Kind(dtype="float64"),
    "half precision": Kind(dtype="float16", size=48),
    "strided": Kind(fit="strided"),
    "strided probabilities": Kind(fit="strided", end="Softmax"),
    "aligned": Kind(fit="aligned", size=49),
    "cropped": Kind(fit="cropped"),
    "larger": Kind(fit="larger"),
    "batches of three": Kind(batch=3, size=48),
    "three axes": Kind(channels=1, end="Sigmoid", rank3=True),
    "two outputs": Kind(second=8),
}


@pytest.fixture(scope="module")
def scene(make_scene: MakeScene) -> Scene:
    return make_scene(HEIGHT, WIDTH, seed=5)


def whole_probabilities(plan: Plan, kind: Kind) -> NDArray[np.float32]:
    """Return the blended probabilities (class, row, col) of the scene, each window run alone and summed in float64."""
    grid, bundle = plan.grid, plan.bundle
    session = onnxruntime.InferenceSession(bundle.weights_path, providers=["CPUExecutionProvider"])
    patch = plan.scene.read(Window(0, 0, max(grid.height_px, grid.window_px), max(grid.width_px, grid.window_px)))
    gain, bias = (each[:, None, None] for each in bundle.normalization.gain_bias(plan.engine.scale))
    image = patch.data.astype(np.float32) * gain + bias
    rows = axis_weights(grid.row_starts, grid.height_px, grid.window_px, "hann")
    cols = axis_weights(grid.col_starts, grid.width_px, grid.window_px, "hann")
    sums = np.zeros((len(bundle.output_codes), *patch.valid.shape))
    for row, row_weights in zip(grid.row_starts, rows, strict=True):
        for col, col_weights in zip(grid.col_starts, cols, strict=True):
            place = slice(row, row + grid.window_px), slice(col, col + grid.window_px)
            filled, seen = mirrored(image[:, *place], patch.valid[place])
            found = window_probabilities(session, kind, np.where(seen, filled, 0).astype(np.float32))
            sums[:, *place] += found * (row_weights[:, None] * col_weights)
    return sums[:, : grid.height_px, : grid.width_px].astype(np.float32)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_map_is_that_of_every_window_by_itself(scene: Scene, tmp_path: Path, kind: Kind) -> None:
    path = named(kind, tile_size=48).write(tmp_path / "model.onnx")
    plan = geoseg.plan(scene, model=path, network_resolution="scene")
    wanted = whole_probabilities(plan, kind)
    out = plan.run(tmp_path / "map.tif", probabilities=tmp_path / "probabilities.tif")
    valid = scene.valid(Window(0, 0, HEIGHT, WIDTH))
    with rasterio.open(tmp_path / "probabilities.tif") as made:
        percent = made.read()
    assert np.abs(percent[:, valid] / 100 - wanted[:, valid]).max() < 0.0051 + (kind.dtype == "float16") * 0.01
    with rasterio.open(out) as made:
        labels = made.read(1)
    best = np.sort(wanted, axis=0)
    sure = valid & (best[-1] - best[-2] > 0.01)
    np.testing.assert_array_equal(labels[sure], wanted.argmax(axis=0)[sure])
    assert (labels[~valid] == 255).all()
    other = geoseg.labels(scene, model=path, network_resolution="scene", tile=64, workers=2, batch_size=5)
    np.testing.assert_array_equal(other.compute(scheduler="threads"), labels)


def test_what_deepness_knows_is_read(tmp_path: Path) -> None:
    bundle = ModelBundle.open(named(Kind(), tiles_size=96).write(tmp_path / "land use.onnx"))
    assert bundle.name == "land use"
    assert bundle.legend.names == ("water", "forest", "roof", "field")
    assert len({each.color for each in bundle.legend}) == 4
    assert bundle.gsd_m == 0.5
    assert (bundle.window_px, bundle.overlap_px) == (96, 24)
    np.testing.assert_allclose(bundle.normalization.mean, [123.675, 116.28, 103.53])
    np.testing.assert_allclose(bundle.normalization.std, [58.395, 57.12, 57.375])
    assert bundle.bands == ("red", "green", "blue")


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"names": "{0: 'soil', 1: \"crop\"}"}, ("soil", "crop")),  # as ultralytics writes it
        ({"class_names": '["soil", "crop"]'}, ("soil", "crop")),
        ({"class_names": '{"1": "crop", "0": "soil"}'}, ("soil", "crop")),
        ({"class_names": '[{"0": "soil", "1": "crop"}]', "model_type": "Segmentor"}, ("soil", "crop")),
        ({"class_names": '{"0": "crop"}'}, ("background", "crop")),
        ({"class_names": '{"0": "crop", "1": "Crop"}'}, ("crop", "Crop 1")),
    ],
)
def test_class_names_in_every_spelling(tmp_path: Path, metadata: dict[str, str], names: tuple[str, ...]) -> None:
    model = Kind(channels=1).model()
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, tmp_path / "model.onnx")
    bundle = ModelBundle.open(tmp_path / "model.onnx")
    assert bundle.legend.names == names
    assert bundle.normalization.std == (255.0,) * 3  # Deepness divides by it in any case


def test_what_is_given_goes_before_what_the_file_says(tmp_path: Path) -> None:
    path = named(Kind(), tile_size=96).write(tmp_path / "model.onnx")
    legend = geoseg.Legend(tuple(geoseg.LandCover(code, f"class {code}", (code, 0, 0)) for code in (3, 5, 8, 9)))
    bundle = ModelBundle.from_onnx(
        path,
        legend=legend,
        output_codes=(9, 3, 5, 8),
        normalization=geoseg.Normalization((1, 2, 3), (4, 5, 6)),
        bands=["nir", "red", "green"],
        gsd_m=2,
        window_px=np.int64(64),
        overlap_px=8,
        name="mine",
        activation="none",
    )
    assert (bundle.output_codes, bundle.bands, bundle.gsd_m) == ((9, 3, 5, 8), ("nir", "red", "green"), 2)
    assert (bundle.window_px, bundle.overlap_px, bundle.name) == (64, 8, "mine")
    assert bundle.normalization.mean == (1, 2, 3)
    assert bundle.graph is not None
    assert bundle.graph.activation == "none"
    assert bundle.hash != ModelBundle.open(path).hash


def test_a_size_is_known_by_what_the_network_takes(tmp_path: Path) -> None:
    strided = ModelBundle.open(named(Kind(fit="strided"), tile_size=130).write(tmp_path / "strided.onnx"))
    assert (strided.divisor, strided.window_px) == (4, 128)
    fixed = ModelBundle.open(named(Kind(size=48), tile_size=512).write(tmp_path / "fixed.onnx"))
    assert fixed.window_px == 48
    with pytest.raises(UsageError, match="windows of 48 px only") as caught:
        ModelBundle.from_onnx(fixed.weights_path, window_px=64)
    assert caught.value.parameter == "window_px"
    cropped = ModelBundle.open(named(Kind(fit="cropped"), tiles_overlap=0).write(tmp_path / "cropped.onnx"))
    assert cropped.overlap_px == 8
    assert Scoring.choose(cropped, {"window": 16}).overlap_px == 8
    with pytest.raises(UsageError, match="`window_px` must be above 8, got 8") as caught:
        ModelBundle.from_onnx(cropped.weights_path, window_px=8)
    assert caught.value.parameter == "window_px"


def test_a_scene_of_16_bits_is_stretched_over_the_bytes_that_the_network_takes(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    scene = make_scene(60, 60, seed=1, dtype="uint16")
    path = named(Kind(dtype="uint8"), tile_size=48).write(tmp_path / "model.onnx")
    plan = geoseg.plan(scene, model=path, scale=(0, 300), network_resolution="scene")
    valid = scene.valid(Window(0, 0, 60, 60))
    wanted = whole_probabilities(plan, Kind(dtype="uint8"))
    labels = plan.to_dask().compute()
    assert (labels[valid] == wanted.argmax(axis=0)[valid]).mean() > 0.99


def test_a_run_resumes_with_the_same_file_only(scene: Scene, tmp_path: Path) -> None:
    def stopped(progress: Progress) -> None:
        if progress.pieces_done >= 2:
            raise KeyboardInterrupt

    path, out = named(Kind(), tile_size=48).write(tmp_path / "model.onnx"), tmp_path / "map.tif"
    options: dict[str, Any] = {"tile": 32, "workers": 1, "network_resolution": "scene"}
    with pytest.raises(KeyboardInterrupt):
        geoseg.predict(scene, out, model=path, progress=stopped, **options)
    with pytest.raises(ResumeError, match="different settings: model"):
        geoseg.predict(scene, out, model=ModelBundle.from_onnx(path, activation="sigmoid"), **options)
    named(Kind(end="Softmax"), tile_size=48).write(path)
    with pytest.raises(ResumeError, match="different settings: model"):
        geoseg.predict(scene, out, model=path, **options)
    named(Kind(), tile_size=48).write(path)
    seen: list[Progress] = []
    geoseg.predict(scene, out, model=path, progress=seen.append, **options)
    assert seen[0].pieces_done >= 2


def test_a_file_that_changes_under_a_plan_is_noticed(scene: Scene, tmp_path: Path) -> None:
    path = named(Kind(), tile_size=48).write(tmp_path / "model.onnx")
    plan = geoseg.plan(scene, model=path)
    named(Kind(end="Softmax"), tile_size=48).write(path)
    with pytest.raises(ModelError, match="has changed since it was opened"):
        plan.run(tmp_path / "map.tif")
    assert not (tmp_path / "map.tif").exists()


def test_the_output_is_said_in_one_line_and_torch_is_refused(scene: Scene, tmp_path: Path) -> None:
    path = named(Kind(fit="strided", second=8), tile_size=48).write(tmp_path / "model.onnx")
    lines: list[str] = []
    geoseg.predict(scene, tmp_path / "map.tif", model=path, announce=lines.append, network_resolution="scene")
    said = "\n".join(lines)
    assert "model.onnx: it gives logits" in said
    assert "one pixel for 4 x 4 of the window: geoseg interpolates it" in said
    assert "geoseg uses its output output, not features" in said
    for device in ("torch-cpu", "mps", "gpu"):
        with pytest.raises(GeosegError, match="runs on cpu, cuda"):
            geoseg.plan(scene, model=path, device=device)
    with pytest.raises(UsageError, match="no NVIDIA GPU"):
        geoseg.plan(scene, model=path, device="cuda:3")


def test_turned_windows_are_turned_before_the_network_and_its_answer_back(scene: Scene, tmp_path: Path) -> None:
    path = named(Kind(fit="strided"), tile_size=48).write(tmp_path / "model.onnx")
    options: dict[str, Any] = {"model": path, "network_resolution": "scene", "tta": 8, "window": 48, "overlap": 0}
    pixels = scene.read(Window(0, 0, 96, 96)).data
    maps = [
        geoseg.labels(Scene.open(write_scene(tmp_path / f"{turns}.tif", np.rot90(pixels, turns, (1, 2)))), **options)
        for turns in (0, 1)
    ]
    upright, turned = (each.compute(scheduler="synchronous") for each in maps)
    assert (np.rot90(upright) == turned).mean() > 0.999


@pytest.mark.parametrize("share", [1.0, 0.995])
def test_probabilities_are_divided_by_their_sum_only_where_that_is_not_one(tmp_path: Path, share: float) -> None:
    model = named(Kind(end="Softmax")).model()
    model.graph.node[-1].output[0] = "whole"
    model.graph.node.append(onnx.helper.make_node("Mul", ["whole", "share"], ["output"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(share), "share"))
    onnx.save(model, tmp_path / "model.onnx")
    bundle = ModelBundle.open(tmp_path / "model.onnx")
    data = np.random.default_rng(2).integers(0, 256, (3, 48, 80), np.uint8)
    engine = choose_engine(bundle, "cpu", window_px=48).open()
    footprint = engine.upload(data, np.ones((48, 80), np.bool_))
    found = engine.probabilities(footprint, [Window(0, 32, 48, 48)], Weights.ones(1, 48))
    session = onnxruntime.InferenceSession(bundle.weights_path, providers=["CPUExecutionProvider"])
    gain, bias = (each[:, None, None] for each in bundle.normalization.gain_bias(None))
    (given,) = session.run(["output"], {"image": (data[:, :, 32:] * gain + bias).astype(np.float32)[None]})
    assert np.abs(given.sum(axis=1) - share).max() < 1e-5
    np.testing.assert_allclose(found, given / np.float32(share), atol=2e-6)
    assert (found == given).all() == (share == 1)


@pytest.mark.parametrize(
    ("length", "said", "parameter"),
    [(200, "model.onnx: ONNX Runtime failed: .*Gather.*; try another `window`", "window"), (400, "memory", None)],
)
def test_what_fails_only_at_one_size_of_windows_is_said_in_one_line(
    scene: Scene, tmp_path: Path, length: int, said: str, parameter: str | None
) -> None:
    """A network may look something up by the window's size: here how much memory to take, for sizes below `length`."""
    model = named(Kind()).model()
    model.graph.node[-1].output[0] = "answer"
    table = np.where(np.arange(length) < 200, 1, 2**20)
    kept = {"table": table, "axis": np.int64([2]), "thrice": np.int64([3])}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(values, name) for name, values in kept.items())
    nodes = [
        (("Shape", ["image"], ["shape"]), {}),
        (("Gather", ["shape", "axis"], ["rows"]), {}),
        (("Gather", ["table", "rows"], ["edge"]), {}),
        (("Tile", ["edge", "thrice"], ["edges"]), {}),
        (("ConstantOfShape", ["edges"], ["cube"]), {}),
        (("ReduceMax", ["cube"], ["zero"]), {"keepdims": 0}),
        (("Add", ["answer", "zero"], ["output"]), {}),
    ]
    model.graph.node.extend(onnx.helper.make_node(*names, **attributes) for names, attributes in nodes)
    onnx.save(model, tmp_path / "model.onnx")
    options: dict[str, Any] = {"model": tmp_path / "model.onnx", "network_resolution": "scene", "overlap": 0}
    geoseg.predict(scene, tmp_path / "map.tif", window=64, **options)
    with pytest.raises(GeosegError, match=said) as caught:
        geoseg.predict(scene, tmp_path / "none.tif", window=320, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.parameter == parameter
    assert not (tmp_path / "none.tif").exists()


def test_no_other_window_is_asked_for_where_only_one_is_accepted(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = ModelBundle.open(named(Kind(size=48)).write(tmp_path / "model.onnx"))

    def fail(*_: object) -> None:
        raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")

    monkeypatch.setattr(WindowSession, "run", fail)
    said = r"model\.onnx: ONNX Runtime failed: CUDNN_.*; export the network again, or map on another `device`"
    with pytest.raises(ModelError, match=said) as caught:
        geoseg.predict(scene, tmp_path / "map.tif", model=bundle)
    assert caught.value.parameter == "device"
