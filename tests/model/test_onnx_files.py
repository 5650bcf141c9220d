"""ONNX files that cannot be models: one line each, nothing read outside their folder, nothing oversized is run."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import geoseg
from geoseg.errors import GeosegError, ModelError, UsageError
from geoseg.model import DEMO, GivenOnnx, KnownOnnx, ModelBundle, read_onnx_file
from geoseg.model.bundle import check_window
from geoseg.model.onnx_files import open_session, session, session_options
from tests.inference.conftest import write_scene
from tests.onnx_networks import Kind, named


def changed(change: Callable[[onnx.ModelProto], object], kind: Kind | None = None) -> onnx.ModelProto:
    """Return a valid model after one change."""
    model = named(kind or Kind()).model()
    change(model)
    return model


def saved(folder: Path, change: Callable[[onnx.ModelProto], object], kind: Kind | None = None) -> Path:
    """Write a valid model after one change."""
    onnx.save(changed(change, kind), folder / "model.onnx")
    return folder / "model.onnx"


def keep(model: onnx.ModelProto, **values: Any) -> None:
    """Add constants to a graph."""
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())


def rank(*axes: int | str | None) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, axes))

    return change


def unranked(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def typed(kind: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = kind

    return change


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("season", TensorProto.FLOAT, [1]))


def sequence(model: onnx.ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8]))


def ending(*nodes: onnx.NodeProto, kind: int = TensorProto.FLOAT) -> Callable[[onnx.ModelProto], None]:
    """Return a change that appends operators to a network, from the value ended to the output."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = "ended"
        model.graph.node.extend(nodes)
        model.graph.output[0].type.tensor_type.elem_type = kind

    return change


def node(name: str, *inputs: str, to: str = "output", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(name, list(inputs), [to], **attributes)


def without_edges(*broken: onnx.NodeProto) -> Callable[[onnx.ModelProto], None]:
    """Return a change that frees all axes and puts operators first that lack inputs or outputs."""

    def change(model: onnx.ModelProto) -> None:
        rank("n", None, None, None)(model)
        whole = [*broken, *model.graph.node]
        model.graph.ClearField("node")
        model.graph.node.extend(whole)

    return change


def bomb(model: onnx.ModelProto) -> None:
    """Allocate a petabyte from a shape of 24 bytes, then use a single number of it."""
    keep(model, vast=np.int64([50_000, 50_000, 100_000]))
    huge = node("ConstantOfShape", "vast", to="huge")
    ending(huge, node("ReduceMax", "huge", to="most", keepdims=0), node("Add", "ended", "most"))(model)


def both_outputs(model: onnx.ModelProto) -> None:
    model.graph.node.append(node("Neg", "output", to="other"))
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, None))


def metadata(**texts: str) -> Callable[[onnx.ModelProto], None]:
    return lambda model: helper.set_model_props(model, texts)


ROUNDED = ending(helper.make_node("Cast", ["ended"], ["output"], to=TensorProto.INT64), kind=TensorProto.INT64)
CODES = ending(node("ArgMax", "ended", axis=1), kind=TensorProto.INT64)
FLOAT_CODES = ending(
    node("ArgMax", "ended", to="codes", axis=1), helper.make_node("Cast", ["codes"], ["output"], to=TensorProto.FLOAT)
)
SHORT_SCORES = ending(
    helper.make_node("Cast", ["ended"], ["output"], to=TensorProto.BFLOAT16), kind=TensorProto.BFLOAT16
)
TRAINED_DROPOUT = ending(
    helper.make_node("Constant", [], ["ratio"], value=numpy_helper.from_array(np.float32(0.5))),
    helper.make_node("Constant", [], ["training"], value=numpy_helper.from_array(np.bool_(True))),
    node("Dropout", "ended", "ratio", "training"),
)


def trained_norm(model: onnx.ModelProto) -> None:
    """Normalize by the batch, as networks do in training."""
    keep(model, ones=np.ones(4, np.float32))
    ending(node("BatchNormalization", "ended", *["ones"] * 4, training_mode=1))(model)


def of_the_future(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def whole(model: onnx.ModelProto) -> None:
    """Give scores as networks for phones do."""
    ending(helper.make_node("Cast", ["ended"], ["output"], to=TensorProto.UINT8))(model)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("output", TensorProto.UINT8, ["n", 4, 64, 64]))


CUSTOM = ending(node("Rotate", "ended", domain="org.example"))
RANDOM = ending(node("RandomNormalLike", "ended", to="noise"), node("Add", "ended", "noise"))
BAD: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "two inputs": (second_input, "must have one input, the image; it has 2: image, season"),
    "no input": (lambda model: model.graph.ClearField("input"), "it has 0: none"),
    "any rank": (unranked, "does not declare the rank of its input"),
    "a sequence": (sequence, "does not declare the rank"),
    "three axes": (rank(3, 64, 64), r"shape \(3, 64, 64\); it must have four axes: \(n, band, row, col\)$"),
    "a classifier of pixels": (rank("n", 4), r"it must have four axes.*as a function: ModelBundle.from_callable"),
    "five axes": (rank(1, 3, 1, 64, 64), "four axes"),
    "not square": (rank(1, 3, 64, 32), r"\(1, 3, 64, 32\); geoseg needs square windows"),
    "many bands": (rank(1, 900, "h", "w"), "of up to 256 bands"),
    "text": (typed(TensorProto.STRING), "takes string"),
    "bfloat16": (typed(TensorProto.BFLOAT16), "takes bfloat16 values; export it with an input of float32"),
    "another type": (
        typed(TensorProto.DOUBLE),
        "loaded by ONNX Runtime: .*type.*; export it again, .*float32",
    ),
    "codes": (ROUNDED, "gives int64, one class code per pixel; .*without its argmax"),
    "scores in whole numbers": (whole, "gives uint8, scores in whole numbers; export it with an output of float32"),
    "NaN": (ending(node("Sub", "ended", "ended", to="zero"), node("Div", "zero", "zero")), "NaN or infinite"),
    "two outputs": (
        both_outputs,
        r"gives several outputs; name the one with the scores as `network_output`: output float32 \(1, 4, ",
    ),
    "a class for all": (
        ending(node("GlobalMaxPool", "ended")),
        r"gives no class scores, .*; it gives output float32 \(1, 4, 1, 1\)",
    ),
    "custom operator": (CUSTOM, "needs the operator org.example.Rotate, which ONNX Runtime does not have"),
    "unknown operator": (
        ending(node("Rotate", "ended")),
        "loaded by ONNX Runtime: .*Rotate.*; export it again$",
    ),
    "random": (RANDOM, r"draws random numbers \(RandomNormalLike\)"),
    "dropout of training": (ending(node("Bernoulli", "ended")), "draws random numbers"),
    "dropout in training mode": (TRAINED_DROPOUT, r"in training mode \(Dropout\), .*; call network.eval\(\)"),
    "batch norm in training mode": (trained_norm, r"in training mode \(BatchNormalization\)"),
    "bfloat16 scores": (SHORT_SCORES, "gives bfloat16 values, which ONNX Runtime does not compute .*float32"),
    "a future opset": (of_the_future, r"by ONNX Runtime: ONNX Runtime only .*; export it again, .*opset_version=17"),
    "a bomb": (bomb, r"needs about 1000000 GB of memory for a window of 512 px"),
    "a detector": (metadata(model_type='"Detector"'), "has the model type Detector"),
    "no JSON": (
        metadata(class_names="{0: water"),
        r"class_names of .* must be class names by their numbers, .*, or give `legend` to predict or export",
    ),
    "code": (
        metadata(names="__import__('os').system('touch trace')"),
        "names of .* must be class names by their numbers",
    ),
    "a gap": (metadata(class_names='{"0": "a", "2": "b"}'), "numbered from 0 or 1 without gaps"),
    "no names": (metadata(class_names="{}"), "must be class names by their numbers"),
    "numbers for names": (metadata(class_names='{"0": 1}'), "must be texts"),
    "no resolution": (
        metadata(resolution='"fine"'),
        "must be a number of centimeters, got 'fine'; .*, or give `gsd_m`",
    ),
    "no overlap": (metadata(tiles_overlap="some"), "tiles_overlap of .* must be a number, got 'some'; correct it"),
    "no mean": (metadata(standardization_mean='"gray"'), "must be numbers, got 'gray'; .*, or give `mean` and `std`"),
    "means of bytes": (metadata(standardization_mean="[123.7, 116.3, 103.5]"), r"at most 1, .*, got \[123.7, .*`mean`"),
    "all overlap": (metadata(tiles_overlap="100"), "tiles_overlap of .* must be a percentage below 100, got 100"),
    "YOLO": (metadata(task="segment", names="{0: 'car', 1: 'bus'}"), r"for the task segment, which finds objects"),
    "no graph": (lambda model: model.ClearField("graph"), "it has no operators or no outputs"),
    "no weights": (without_edges(helper.make_node("Conv", ["image"], ["nothing"])), "cannot be loaded by ONNX Runtime"),
    "no output": (without_edges(helper.make_node("Identity", ["image"], [])), "cannot be loaded by ONNX Runtime"),
    "no input of an operator": (
        without_edges(helper.make_node("DequantizeLinear", [], ["nothing"])),
        "cannot be loaded by ONNX Runtime",
    ),
    "a result for nobody": (
        ending(node("Neg", "ended", to="spare"), helper.make_node("Relu", ["spare"], []), node("Neg", "ended")),
        "cannot be loaded by ONNX Runtime",
    ),
    "an argmax of nothing": (ending(helper.make_node("ArgMax", [], ["output"])), "cannot be loaded by ONNX Runtime"),
}


@pytest.mark.parametrize(("change", "said"), BAD.values(), ids=BAD)
def test_what_is_no_network_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[onnx.ModelProto], object], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path, change)
    with pytest.raises(ModelError, match=said) as caught:
        ModelBundle.open(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert list(tmp_path.iterdir()) == [path]


SAID = {
    "model_type": "Segmentor", "class_names": '{"0": "water", "1": "forest", "2": "roof", "3": "road"}',
    "resolution": "20", "tile_size": "64", "tiles_overlap": "25", "standardization_mean": "[0.5, 0.4, 0.3]",
    "standardization_std": "[0.2, 0.2, 0.2]",
}  # fmt: skip
OTHERWISE = (
    {"class_names": "water, forest, roof, road"},
    {"class_names": "['water', 'forest', 'roof', 'road']"},
    {"class_names": '{"water": 0, "forest": 1, "roof": 2, "road": 3}'},
    {"class_names": json.dumps([{"name": name, "color": "#fff"} for name in ("water", "forest", "roof", "road")])},
    {"resolution": '"20"', "tile_size": "[64, 64]", "tiles_overlap": "25%"},
    {"standardization_mean": "[0.5 0.4 0.3]", "standardization_std": "0.2"},
    {"standardization_mean": "0.5, 0.4, 0.3", "standardization_std": '["0.2", "0.2", "0.2"]'},
    {"model_type": "Semantic segmentation"},
)


@pytest.mark.parametrize("otherwise", OTHERWISE, ids=str)
def test_what_can_only_mean_one_thing_is_taken_however_it_is_written(tmp_path: Path, otherwise: dict[str, str]) -> None:
    usual = ModelBundle.open(saved(tmp_path, metadata(**SAID)))
    for texts in (SAID | otherwise, {key.upper(): text for key, text in (SAID | otherwise).items()}):
        found = ModelBundle.open(saved(tmp_path, metadata(**texts)))
        assert (found.legend, found.normalization, found.gsd_m) == (usual.legend, usual.normalization, 0.2)
        assert (found.window_px, found.overlap_px) == (64, 16)


@pytest.mark.parametrize("first", [0, 1])
def test_names_are_counted_from_0_or_1(tmp_path: Path, first: int) -> None:
    """The keys of the class names become the codes of the map."""
    names = dict(enumerate(("water", "forest", "roof", "road"), start=first))
    found = ModelBundle.open(saved(tmp_path, metadata(**SAID | {"class_names": json.dumps(names)})))
    assert {each.code: each.name for each in found.legend} == names
    assert found.output_codes == tuple(names)


def test_names_from_1_of_all_channels_but_the_first_leave_that_to_the_rest(tmp_path: Path) -> None:
    names = {1: "water", 2: "forest", 3: "roof"}
    found = ModelBundle.open(saved(tmp_path, metadata(**SAID | {"class_names": json.dumps(names)})))
    assert {each.code: each.name for each in found.legend} == {0: "background"} | names
    assert found.output_codes == (0, 1, 2, 3)


def test_each_output_has_its_own_names(tmp_path: Path) -> None:
    """Deepness writes a list with a dict of names for each output."""
    names = [{str(i): f"{output} {i}" for i in range(4)} for output in ("cover", "use")]
    model = changed(metadata(**SAID | {"class_names": json.dumps(names)}))
    both_outputs(model)
    onnx.save(model, tmp_path / "two.onnx")
    for output, its_names in zip(("output", "other"), names, strict=True):
        found = ModelBundle.from_onnx(tmp_path / "two.onnx", network_output=output)
        assert found.legend.names == tuple(its_names.values())


def test_what_is_given_counts_in_the_place_of_a_text_that_cannot_be_meant(tmp_path: Path) -> None:
    wrong = {"class_names": '{"2": "a"}', "resolution": "fine", "standardization_mean": "gray", "tile_size": "big"}
    sides: dict[str, Any] = {
        "legend": {0: "water", 1: "forest", 2: "roof", 3: "road"},
        "normalization": geoseg.Normalization((128.0,) * 3, (50.0,) * 3),
        "gsd_m": 0.2,
        "window_px": 64,
    }
    path = saved(tmp_path, metadata(**SAID | wrong))
    for left_out in sides:
        with pytest.raises(ModelError, match="must be"):
            ModelBundle.from_onnx(path, **{name: value for name, value in sides.items() if name != left_out})
    found = ModelBundle.from_onnx(path, **sides)
    assert found.legend.names == ("water", "forest", "roof", "road")
    assert (found.gsd_m, found.window_px, found.normalization) == (0.2, 64, sides["normalization"])


@pytest.mark.parametrize(
    ("kind", "said", "parameter"),
    [
        (
            named(Kind(), classes=3),
            r"gives 4 classes, `legend` has 3: water, forest, roof; give a legend of 4",
            "legend",
        ),
        (
            named(Kind(), standardization_mean=[0.5, 0.4], standardization_std=[0.2, 0.2]),
            "takes 3 bands, got a mean .* for 2",
            "mean",
        ),
        (named(Kind(), standardization_std=[0.2, 0, 0.2]), "`std` must be positive", "std"),
        (
            Kind(),
            r"what its classes are nor how its 3 bands were normalized; give `legend`, `mean` and `std` .*Python, leg",
            None,
        ),
        (Kind(dtype="uint8"), "does not say what its classes are; give `legend`", None),
    ],
)
def test_sides_that_do_not_fit_are_refused(tmp_path: Path, kind: Kind, said: str, parameter: str | None) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        ModelBundle.open(kind.write(tmp_path / "model.onnx"))
    assert caught.value.parameter == parameter


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"activation": "relu"}, "`activation` must be one of softmax, sigmoid, none, got 'relu'"),
        ({"network_output": "depth"}, "has no output 'depth'; it gives output float32"),
        ({"window_px": 66}, "must be a multiple of 4"),
        ({"normalization": geoseg.Normalization((1, 2), (3, 4))}, "takes 3 bands, got a mean and a std for 2"),
        ({"bands": ("red",)}, "takes 3 bands but has 1 band name \\["),
    ],
)
def test_what_is_given_must_fit(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    path = named(Kind(fit="strided")).write(tmp_path / "model.onnx")
    with pytest.raises(GeosegError, match=said):
        ModelBundle.from_onnx(path, **given)


def test_of_several_outputs_one_must_have_the_classes_of_the_legend(tmp_path: Path) -> None:
    model = named(Kind(), classes=3).model()
    both_outputs(model)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        UsageError, match=r"no output of .* has 3 classes, as the `legend` does; it gives output .*, other "
    ):
        ModelBundle.open(tmp_path / "model.onnx")


def with_table(kind: Kind) -> onnx.ModelProto:
    """Return a model with a second output, of seven numbers for each channel."""
    model = kind.model()
    keep(model, numbers=np.zeros((1, kind.channels, 7), np.float32))
    model.graph.node.append(node("Identity", "numbers", to="table"))
    model.graph.output.append(helper.make_tensor_value_info("table", TensorProto.FLOAT, None))
    return model


def test_masks_of_objects_are_not_scores_of_classes(tmp_path: Path) -> None:
    """Mask2Former gives as many masks as it may find objects, and the classes of each."""
    onnx.save(with_table(named(Kind(), classes=3)), tmp_path / "model.onnx")
    with pytest.raises(
        ModelError, match=r"a mask and classes for each of 4 objects.*einsum\('nqc,nqhw->nchw'.*`network_output`$"
    ):
        ModelBundle.from_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("channels", [1, 4])
def test_another_output_may_have_numbers_for_each_class(tmp_path: Path, channels: int) -> None:
    onnx.save(with_table(named(Kind(channels=channels))), tmp_path / "model.onnx")
    assert ModelBundle.from_onnx(tmp_path / "model.onnx").arguments["network_output"] == "output"


@pytest.mark.parametrize("named_last", [True, False])
def test_an_auxiliary_output_is_not_the_one_that_is_meant(tmp_path: Path, *, named_last: bool) -> None:
    """torchvision's networks have two outputs of the same shape, out and aux."""

    def also(model: onnx.ModelProto) -> None:
        model.graph.node.append(node("Neg", "output", to="aux"))
        value = helper.make_tensor_value_info("aux", TensorProto.FLOAT, None)
        model.graph.output.insert(len(model.graph.output) if named_last else 0, value)

    assert ModelBundle.from_onnx(saved(tmp_path, also)).arguments["network_output"] == "output"


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_bands_that_the_input_leaves_open_are_those_of_the_first_layer(
    tmp_path: Path, *, channels_last: bool, wrapped: bool
) -> None:
    """optimum exports the networks of transformers with such inputs."""
    model = named(
        Kind(bands=5, channels_last=channels_last), standardization_mean=[0.5], standardization_std=[0.2]
    ).model()
    for axis, name in zip(model.graph.input[0].type.tensor_type.shape.dim, "nabc", strict=True):
        axis.dim_param = name
    if wrapped:
        first = next(each for each in model.graph.node if each.op_type == "Conv")
        model.graph.node.insert(0, node("Identity", first.input[1], to="same"))
        first.input[1] = "same"
    onnx.save(model, tmp_path / "model.onnx")
    input_spec = KnownOnnx.read(tmp_path / "model.onnx", GivenOnnx()).input
    assert (input_spec.bands, input_spec.channels_last) == (5, channels_last)
    assert len(ModelBundle.from_onnx(tmp_path / "model.onnx").bands) == 5


def test_an_output_without_an_axis_for_the_windows_is_refused(tmp_path: Path) -> None:
    squeezed = node("Squeeze", "ended", "first_axis")

    def without(model: onnx.ModelProto) -> None:
        ending(squeezed)(model)
        keep(model, first_axis=np.int64([0]))

    with pytest.raises(ModelError, match=r"floats with the axes \(n, class, row, col\); it gives output float32 \(4, "):
        ModelBundle.from_onnx(saved(tmp_path, without))


@pytest.mark.parametrize(("axes", "bands", "size_px"), [(("n", 224, "w", 3), 3, 224), (("n", 3, "h", 224), 3, 224)])
def test_the_shorter_axis_is_that_of_the_bands_where_either_may_be(
    tmp_path: Path, axes: tuple[int | str, ...], bands: int, size_px: int
) -> None:
    input_spec = KnownOnnx.read(saved(tmp_path, rank(*axes)), GivenOnnx()).input
    assert (input_spec.bands, input_spec.size_px, input_spec.channels_last) == (bands, size_px, axes[3] == bands)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("with_scores", [True, False])
def test_the_maximum_of_the_scores_is_not_the_score_of_a_class(
    tmp_path: Path, classes: int, *, with_scores: bool
) -> None:
    """`scores.max(1)` of torch gives the maximum and its class."""

    def best(model: onnx.ModelProto) -> None:
        names = ["ended"] * with_scores + ["codes"]
        ending(node("ReduceMax", "ended", axes=[1], keepdims=0), node("ArgMax", "ended", to="codes", axis=1))(model)
        kinds = {"ended": TensorProto.FLOAT, "codes": TensorProto.INT64}
        model.graph.output.extend(helper.make_tensor_value_info(name, kinds[name], None) for name in names)

    path = saved(tmp_path, best, Kind(channels=classes))
    if not with_scores:
        with pytest.raises(ModelError, match=r"one class code per pixel; .* `network_output='ended'`"):
            ModelBundle.from_onnx(path)
    taken = ModelBundle.from_onnx(path, network_output=None if with_scores else "ended")
    assert (taken.arguments["network_output"], taken.arguments["classes"]) == ("ended", classes)


@pytest.mark.parametrize("operator", ["ReduceMax", "TopK"])
@pytest.mark.parametrize("stack_axis", [0, 1])
@pytest.mark.parametrize("with_codes", [True, False])
def test_a_maximum_over_flips_of_the_image_has_the_scores(
    tmp_path: Path, operator: str, stack_axis: int, *, with_codes: bool
) -> None:
    """`torch.stack([scores, flipped]).amax(0)`, beside another output with a single channel and one with codes."""

    def flipped(model: onnx.ModelProto) -> None:
        keep(model, stack=np.int64([stack_axis]), less=np.float32(0.9))
        best = {
            "ReduceMax": [node("ReduceMax", "both", axes=[stack_axis], keepdims=0)],
            "TopK": [
                helper.make_node("TopK", ["both", "one"], ["best", "which"], axis=stack_axis),
                node("Squeeze", "best", "stack"),
            ],
        }
        ending(
            node("Mul", "ended", "less", to="other"),
            node("Unsqueeze", "ended", "stack", to="left"),
            node("Unsqueeze", "other", "stack", to="right"),
            node("Concat", "left", "right", to="pair", axis=stack_axis),
            node("Mul", "less", "pair", to="both"),
            *best[operator],
            node("ReduceMin", "ended", to="edges", axes=[1]),
            *([node("ArgMax", "output", to="codes", axis=1)] if with_codes else []),
        )(model)
        kinds = {"edges": TensorProto.FLOAT, "codes": TensorProto.INT64}
        for name in ("edges", "codes")[: 1 + with_codes]:
            model.graph.output.append(helper.make_tensor_value_info(name, kinds[name], None))

    assert ModelBundle.from_onnx(saved(tmp_path, flipped)).arguments["network_output"] == "output"


@pytest.mark.parametrize("opset", [17, 18])
def test_the_axis_of_the_classes_is_followed_through_transpositions(tmp_path: Path, opset: int) -> None:
    def best(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = opset
        keep(model, last=np.int64([-1]))
        over = ({"axes": [-1]}, ("moved",)) if opset == 17 else ({}, ("moved", "last"))
        ending(
            node("Transpose", "ended", to="moved", perm=[0, 2, 3, 1]),
            node("ReduceMax", *over[1], **over[0]),
            node("ArgMax", "moved", to="codes", axis=-1),
        )(model)
        model.graph.output.append(helper.make_tensor_value_info("codes", TensorProto.INT64, None))

    with pytest.raises(ModelError, match=r"one class code per pixel; .* `network_output='moved'`"):
        ModelBundle.from_onnx(saved(tmp_path, best))


def test_a_convolution_has_the_axes_of_an_image_whatever_it_reads(tmp_path: Path) -> None:
    """As on tokens of a transformer: reshape, convolution, softmax, and of that the maximum and its class."""

    def best(model: onnx.ModelProto) -> None:
        keep(model, shape=np.int64([0, 0, 0, -1]), kernel=np.eye(2, dtype=np.float32)[:, :, None, None])
        ending(
            node("Reshape", "ended", "shape", to="tokens"),
            node("Conv", "tokens", "kernel", to="logits"),
            node("Softmax", "logits", to="shares", axis=1),
            node("ReduceMax", "shares", axes=[1], keepdims=0),
            node("ArgMax", "shares", to="codes", axis=1),
        )(model)
        model.graph.output.append(helper.make_tensor_value_info("codes", TensorProto.INT64, None))

    with pytest.raises(ModelError, match=r"one class code per pixel; .* `network_output='shares'`"):
        ModelBundle.from_onnx(saved(tmp_path, best, Kind(channels=2)))


def test_the_first_layer_tells_which_of_two_axes_is_that_of_the_bands(tmp_path: Path) -> None:
    model = named(Kind(bands=103), standardization_mean=[0.5], standardization_std=[0.2]).model()
    rank("n", 103, "h", 64)(model)
    onnx.save(model, tmp_path / "model.onnx")
    input_spec = KnownOnnx.read(tmp_path / "model.onnx", GivenOnnx()).input
    assert (input_spec.bands, input_spec.size_px, input_spec.channels_last) == (103, 64, False)


def test_layers_of_half_precision_need_the_memory_of_whole_ones(tmp_path: Path) -> None:
    """ONNX Runtime computes them in float32 on a CPU."""
    half, whole = (
        ModelBundle.from_onnx(named(Kind(dtype=dtype)).write(tmp_path / f"{dtype}.onnx"))
        for dtype in ("float16", "float32")
    )
    assert half.graph is not None
    assert whole.graph is not None
    assert half.graph.bytes_a_pixel == whole.graph.bytes_a_pixel


@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("codes", [CODES, FLOAT_CODES])
def test_the_scores_before_an_argmax_are_taken_where_they_are_named(
    tmp_path: Path, codes: Callable[[onnx.ModelProto], None], *, outside: bool
) -> None:
    """Ultralytics, PaddleSeg and mmdeploy export files that end in an argmax."""
    scene = write_scene(tmp_path / "scene.tif", np.random.default_rng(3).integers(0, 256, (3, 200, 200), np.uint8))
    model = changed(codes)
    place: dict[str, Any] = {"save_as_external_data": True, "location": "model.data", "size_threshold": 64}
    onnx.save(model, tmp_path / "model.onnx", **(place if outside else {}))
    named(Kind()).write(tmp_path / "plain.onnx")
    with pytest.raises(ModelError, match=r"one class code per pixel; .* `network_output='ended'`"):
        ModelBundle.from_onnx(tmp_path / "model.onnx")
    taken = ModelBundle.from_onnx(tmp_path / "model.onnx", network_output="ended")
    found, wanted = (
        geoseg.labels(scene, model=bundle).compute(scheduler="synchronous")
        for bundle in (taken, ModelBundle.from_onnx(tmp_path / "plain.onnx"))
    )
    np.testing.assert_array_equal(found, wanted)
    assert len(np.unique(found)) > 2
    assert taken.arguments["network_output"] == "ended"
    with pytest.raises(ModelError, match="one class code per pixel"):
        ModelBundle.from_onnx(tmp_path / "model.onnx", network_output="output")
    geoseg.export_model(taken, tmp_path / "again.onnx")
    assert ModelBundle.from_onnx(tmp_path / "again.onnx").arguments["network_output"] == "ended"


@pytest.mark.parametrize("output", ["ended", "output"])
def test_a_session_is_built_once_whichever_output_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    path, built = named(Kind(end="Softmax")).write(tmp_path / "model.onnx"), []
    make = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *of, **more: built.append(of) or make(*of, **more))
    session = open_session(path, threads=1, output=output)
    (scores,) = session.run([output], {"image": np.zeros((1, 3, 64, 64), np.float32)})
    assert scores.shape == (1, 4, 64, 64)
    assert len(built) == 1


def test_a_run_that_fails_writes_nothing_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its error is raised, and said in one line."""
    model = onnx.load(saved(tmp_path, ending(node("Gather", "ended", "far"))))
    keep(model, far=np.int64([99]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options(1))
    with pytest.raises(Exception, match="Gather"):
        session.run(None, {"image": np.zeros((1, 3, 64, 64), np.float32)})
    assert not capfd.readouterr().err


def test_weights_that_are_normalized_in_the_graph_are_not_training(tmp_path: Path) -> None:
    """timm's NFNets normalize the weights of each convolution with a batch normalization in training mode."""
    model = named(Kind()).model()
    for name, value in (("none", 0), ("one of each", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.full(3, value, np.float32), name))
    inputs = ["first", "one of each", "none", "none", "one of each"]
    norm = helper.make_node("BatchNormalization", inputs, ["normal", "mean", "var"], training_mode=1)
    model.graph.node.insert(0, norm)
    next(each for each in model.graph.node if each.op_type == "Conv").input[1] = "normal"
    onnx.save(model, tmp_path / "model.onnx")
    assert ModelBundle.from_onnx(tmp_path / "model.onnx").arguments["classes"] == 4


def test_what_onnx_runtime_optimized_for_this_processor_runs_on_it(tmp_path: Path) -> None:
    named(Kind(size=64)).write(tmp_path / "plain.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.onnx")
    onnxruntime.InferenceSession(str(tmp_path / "plain.onnx"), options, providers=["CPUExecutionProvider"])
    assert ModelBundle.from_onnx(tmp_path / "model.onnx").arguments["classes"] == 4


def test_a_network_of_one_size_behind_free_axes_is_taken_at_a_usual_one(tmp_path: Path) -> None:
    """torch's older exporter freezes the shape of a reshape but leaves the axes free."""

    def fixed(model: onnx.ModelProto) -> None:
        ending(node("Reshape", "ended", "as_exported"))(model)
        keep(model, as_exported=np.int64([0, 4, 256, 256]))

    path = saved(tmp_path, fixed)
    bundle = ModelBundle.from_onnx(path)
    assert bundle.window_px == 256
    assert bundle.graph is not None
    assert bundle.graph.input.size_px == 256
    with pytest.raises(UsageError, match="takes windows of 256 px only"):
        ModelBundle.from_onnx(path, window_px=128)


def test_the_output_of_a_linear_layer_is_never_a_probability(tmp_path: Path) -> None:
    """Transformers end in one; noise may give logits from 0 to 1."""

    def linear(model: onnx.ModelProto) -> None:
        keep(model, weights=np.full((4, 1), 1e-6, np.float32), bias=np.float32([0.3]))
        last = node("Transpose", "ended", to="last", perm=[0, 2, 3, 1])
        layer = (node("MatMul", "last", "weights", to="product"), node("Add", "bias", "product", to="sum"))
        ending(last, *layer, node("Transpose", "sum", perm=[0, 3, 1, 2]))(model)

    binary = {0: "land", 1: "water"}
    assert ModelBundle.from_onnx(saved(tmp_path, linear), legend=binary).arguments["activation"] == "sigmoid"


def resized(value: str, to: str, edge_px: int) -> Callable[[onnx.ModelProto], None]:
    """Return a change that resizes a value to a constant size, as torch's older exporter freezes it."""

    def change(model: onnx.ModelProto) -> None:
        keep(model, edges=np.int64([edge_px, edge_px]), zero=np.int64([0]), two=np.int64([2]))
        shape, leading = node("Shape", value, to="shape"), node("Slice", "shape", "zero", "two", to="leading")
        sizes = helper.make_node("Concat", ["leading", "edges"], ["sizes"], axis=0)
        nodes = [shape, leading, sizes, node("Resize", value, "", "", "sizes", to=to)]
        if value == "image":
            for each in model.graph.node:
                each.input[:] = [to if name == "image" else name for name in each.input]
            nodes += model.graph.node
            model.graph.ClearField("node")
            model.graph.node.extend(nodes)
        else:
            ending(*nodes)(model)

    return change


def test_a_network_that_resizes_its_output_takes_windows_of_that_size(tmp_path: Path) -> None:
    """At others too its output has this size, so they would be read at another resolution."""
    path = saved(tmp_path, resized("ended", "output", 80))
    assert ModelBundle.from_onnx(path).window_px == 80
    assert ModelBundle.from_onnx(path, window_px=160).window_px == 160


def test_an_output_of_constant_size_may_be_a_usual_fraction_of_the_window(tmp_path: Path) -> None:
    """Of 512 px it is a quarter; at 128 px the output would have the window's size too, but of coarser layers."""
    found = ModelBundle.open(saved(tmp_path, resized("ended", "output", 128), Kind(fit="strided")))
    assert found.graph is not None
    assert (found.window_px, found.graph.fit, found.graph.least) == (512, "strided", 4)


def test_outputs_that_are_larger_at_every_size_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An output of 2 n + 1 px never has the window's size: each size tried would give a larger one to try."""

    def doubled(model: onnx.ModelProto) -> None:
        keep(model, kernel=np.ones((4, 4, 3, 3), np.float32))
        ending(node("ConvTranspose", "ended", "kernel", strides=[2, 2]))(model)

    def limited(spec: Any, bands: int, size_px: int) -> Any:
        tried.append(size_px)
        assert size_px <= 2000, "this ends what would not end by itself"
        return noise(spec, bands, size_px)

    noise, tried = session.noise, list[int]()
    monkeypatch.setattr(session, "noise", limited)
    with pytest.raises(ModelError, match="takes no window of 512, "):
        ModelBundle.open(saved(tmp_path, doubled))
    assert max(tried) == 1024


def test_classes_that_are_merged_after_a_softmax_are_probabilities(tmp_path: Path) -> None:
    """A linear layer adds up their probabilities."""

    def merged(model: onnx.ModelProto) -> None:
        weights = np.eye(4, dtype=np.float32)[[0, 1, 1, 1]]
        keep(model, weights=weights)
        shares = node("Softmax", "ended", to="shares", axis=1)
        last = node("Transpose", "shares", to="last", perm=[0, 2, 3, 1])
        product = node("MatMul", "last", "weights", to="product")
        ending(shares, last, product, node("Transpose", "product", perm=[0, 3, 1, 2]))(model)

    assert ModelBundle.from_onnx(saved(tmp_path, merged)).arguments["activation"] == "none"


def test_a_network_that_also_reads_the_whole_window_takes_any(tmp_path: Path) -> None:
    """Only a branch for the whole scene is of a constant size."""

    def branched(model: onnx.ModelProto) -> None:
        last = model.graph.node.pop()
        resized("image", "fixed", 96)(model)
        for each in model.graph.node:
            each.input[:] = ["image" if name == "fixed" and each.op_type == "Conv" else name for name in each.input]
        branch = node("Conv", "fixed", "first", to="branch"), node("GlobalAveragePool", "branch", to="mean")
        keep(model, axis=np.int64([1]))
        total = node("ReduceMean", "mean", to="total", axes=[1])
        model.graph.node.extend([*branch, total, node("Add", last.input[0], "total")])

    found = ModelBundle.open(saved(tmp_path, branched))
    assert found.window_px == 512
    assert not any("resizes" in note for note in found.notes)


@pytest.mark.parametrize("fit", ["same", "strided"])
def test_a_network_that_resizes_its_input_takes_windows_of_that_size_unless_others_are_given(
    tmp_path: Path, fit: str
) -> None:
    path = saved(tmp_path, resized("image", "resized", 96), Kind(fit=fit))
    bundle = ModelBundle.from_onnx(path)
    assert bundle.window_px == 96
    assert "it resizes every window to 96 x 96 px" in bundle.notes[0]
    if fit == "strided":
        assert ModelBundle.from_onnx(path, window_px=48).window_px == 48


@pytest.mark.parametrize("stride", [8, 32, 128])
def test_what_a_network_leaves_out_where_its_stride_does_not_fit_is_no_margin(tmp_path: Path, stride: int) -> None:
    """With a stride of 32, a window of 144 px loses 8 px on each side, but one of 128 px loses none."""

    def change(model: onnx.ModelProto) -> None:
        keep(model, scales=np.float32([1, 1, stride, stride]))
        coarse = node("MaxPool", "ended", to="coarse", kernel_shape=[stride] * 2, strides=[stride] * 2)
        ending(coarse, node("Resize", "coarse", "", "scales", mode="nearest"))(model)

    found = ModelBundle.open(saved(tmp_path, change))
    assert found.graph is not None
    assert (found.graph.fit, found.divisor, found.window_px % stride) == ("same", stride, 0)


def test_a_window_of_any_size_has_its_limits() -> None:
    with pytest.raises(UsageError, match="`window` must be 1 to 16384 for this model, got 100000; try 16384"):
        check_window(100_000, 1)


def test_whole_numbers_have_no_mean(tmp_path: Path) -> None:
    path = named(Kind(dtype="uint8")).write(tmp_path / "model.onnx")
    assert ModelBundle.open(path).normalization.std == (1, 1, 1)
    with pytest.raises(UsageError, match="normalizes them itself"):
        ModelBundle.from_onnx(path, normalization=geoseg.Normalization((1, 2, 3), (4, 5, 6)))


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Return an ONNX file whose weights are in a file next to it."""
    return named(Kind()).write(
        tmp_path / "split.onnx", save_as_external_data=True, location="split.data", size_threshold=0
    )


def test_weights_beside_the_file_are_the_same_as_inside(split: Path, tmp_path: Path) -> None:
    whole, parts = ModelBundle.open(named(Kind()).write(tmp_path / "whole.onnx")), ModelBundle.open(split)
    assert parts.files == (split, split.with_name("split.data"))
    scene = Path(__file__).parents[2] / "sample_data" / "scene.tif"
    maps = [geoseg.labels(scene, bbox=box_of(scene), model=bundle, window=64) for bundle in (whole, parts)]
    first, second = (each.compute(scheduler="synchronous") for each in maps)
    np.testing.assert_array_equal(first, second)
    before = parts.hash
    data = split.with_name("split.data")
    data.write_bytes(data.read_bytes()[:-4] + np.float32(0.5).tobytes())
    assert ModelBundle.open(split).hash != before


def box_of(scene: Path) -> tuple[float, float, float, float]:
    """Return the bounds of the first 100 pixels of a scene."""
    west, south, *_ = geoseg.Scene.open(scene).geobox.bounds
    return west, south, west + 50, south + 50


@pytest.mark.parametrize("location", ["../secret.data", "/etc/passwd", "deep/split.data", "..\\secret.data", "C:x", ""])
def test_weights_elsewhere_are_not_looked_for(split: Path, location: str) -> None:
    model = onnx.load(split, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    split.write_bytes(model.SerializeToString())
    with pytest.raises(
        ModelError, match=r"outside its folder, where geoseg reads nothing; .*save_as_external_data=False"
    ):
        ModelBundle.open(split)


def test_weights_behind_a_link_missing_or_cut_short_are_refused(split: Path, tmp_path: Path) -> None:
    data = split.with_name("split.data")
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="is cut short"):
        ModelBundle.open(split)
    data.unlink()
    with pytest.raises(ModelError, match=r"split\.data, which is not next to it; copy both"):
        ModelBundle.open(split)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "split.data").write_bytes(whole)
    try:
        data.symlink_to(elsewhere / "split.data")
    except OSError:
        pytest.skip("links need a right on this system")
    with pytest.raises(ModelError, match="is a link to another folder"):
        ModelBundle.open(split)


def test_a_constant_in_a_branch_may_not_reach_out_either(tmp_path: Path) -> None:
    def hide(model: onnx.ModelProto) -> None:
        tensor = numpy_helper.from_array(np.float32([1]), "hidden")
        onnx.external_data_helper.set_external_data(tensor, "../secret.data")
        tensor.ClearField("raw_data")
        branch = helper.make_graph(
            [helper.make_node("Constant", [], ["c"], value=tensor)], "b", [], [onnx.ValueInfoProto(name="c")]
        )
        keep(model, yes=np.array(True))
        ending(
            helper.make_node("If", ["yes"], ["one"], then_branch=branch, else_branch=branch),
            node("Add", "ended", "one"),
        )(model)

    (tmp_path / "model.onnx").write_bytes(changed(hide).SerializeToString())
    with pytest.raises(ModelError, match="outside its folder"):
        ModelBundle.open(tmp_path / "model.onnx")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for name, said in (("pipe.onnx", "is not a file; give an .onnx file"), ("none.onnx", "does not exist; give")):
        with pytest.raises(ModelError, match=said):
            ModelBundle.from_onnx(tmp_path / name)


def test_files_of_other_kinds_are_told_apart(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (tmp_path / "trace",)

    path = tmp_path / "model.onnx"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(ModelError, match="is a pickle"):
        ModelBundle.open(path)
    for content, said in (
        (pickle.dumps(Bomb()), "is a pickle"),
        (b"", "is empty"),
        (b"II*\0" + bytes(99), "TIFF raster"),
        (b"weights " * 99, "not an ONNX file, or is cut short"),
        (b"\x3a\xff\xff\xff\xff\x0f" + bytes(99), "cut short"),
        (b"\x08\x01" * 400_000, "more than 300000 fields"),
        (nested(4000), "not an ONNX file"),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=said):
            ModelBundle.open(path)
    assert not (tmp_path / "trace").exists()
    with pytest.raises(ModelError, match=r"is the export that geoseg runs on a CPU; give the \.safetensors bundle"):
        ModelBundle.open(DEMO.with_suffix(".onnx"))
    with pytest.raises(ModelError, match="does not exist"):
        ModelBundle.open(tmp_path / "nothing.onnx")


def nested(depth: int) -> bytes:
    """Return a model with graphs nested deeper than a reader should follow."""
    message = b""
    for _ in range(depth):
        for number in (6, 5, 1):  # graph of an attribute, of a node, of a graph
            message = bytes([number << 3 | 2]) + varint(len(message)) + message
    return Kind().model().SerializeToString() + b"\x3a" + varint(len(message)) + message


def varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


def test_statistics_of_batch_normalization_are_no_parameters(tmp_path: Path) -> None:
    def normalized(model: onnx.ModelProto) -> None:
        names = ("scale", "shift", "running_mean", "running_var")
        model.graph.initializer.extend(numpy_helper.from_array(np.ones(4, np.float32), name) for name in names)
        ending(node("BatchNormalization", "ended", *names))(model)

    onnx.save(changed(normalized), tmp_path / "norm.onnx")
    onnx.save(changed(lambda _: None), tmp_path / "plain.onnx")
    both = [read_onnx_file(tmp_path / f"{name}.onnx").parameters for name in ("norm", "plain")]
    assert both[0] - both[1] == 2 * 4


def test_a_file_of_any_size_is_described_without_its_weights(tmp_path: Path) -> None:
    path = named(Kind()).write(tmp_path / "model.onnx")
    with path.open("r+b") as file:
        file.truncate(3 * 2**31)
    with pytest.raises(ModelError, match="over 2 GB"):
        ModelBundle.open(path)
    weights = np.zeros((1000, 1000), np.float32)

    def large(model: onnx.ModelProto) -> None:
        keep(model, large=weights)

    onnx.save(changed(large), path)
    found = read_onnx_file(path)
    assert len(found.model.SerializeToString()) < 20_000
    assert found.parameters == 1_000_000 + sum(
        int(np.prod(tensor.dims))
        for tensor in Kind().model().graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    )
    assert found.metadata["resolution"] == "50"


WHOLE = named(Kind(size=16, batch=1)).model().SerializeToString()


@settings(max_examples=80, derandomize=True)
@given(at=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_is_refused_or_works_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int, *, cut: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(WHOLE[:at] if cut else WHOLE[:at] + bytes([byte]) + WHOLE[at + 1 :])
    with contextlib.suppress(ModelError, UsageError):
        ModelBundle.open(path)


def test_info_says_what_is_known_and_what_is_missing(tmp_path: Path) -> None:
    path = Kind(
        fit="strided", metadata={"resolution": 20, "class_names": {"0": "a", "1": "b", "2": "c", "3": "d"}}
    ).write(tmp_path / "model.onnx")
    complete = geoseg.info(path).to_json()
    assert (complete["missing"], complete["gsd_m"], complete["architecture"]) == ([], 0.2, "ONNX")
    bare = geoseg.info(
        Kind(second=8, size=48, channels_last=False).write(tmp_path / "bare.onnx").with_name("model.onnx")
    )
    assert "one pixel for 4 x 4 of the window" in bare.describe()
    unknown = geoseg.info(Kind(channels=1, size=48).write(tmp_path / "unknown.onnx"))
    told = unknown.to_json()
    assert told["missing"] == ["legend", "mean", "std"]
    assert (told["bands"], told["classes"], told["window_px"]) == (3, 2, 48)
    network: Any = told["network"]
    assert (network["size_px"], network["activation"], network["batch"]) == (48, "sigmoid", None)
    assert "windows of 48 px only" in unknown.describe()
    assert "`legend`, `mean`, `std` must be given" in unknown.describe()
    json.dumps(told, allow_nan=False)


def test_info_says_that_memory_is_short_and_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.model.onnx_files.session.available_memory_bytes", lambda: 5_000_000)
    for kind, missing in ((named(Kind()), []), (Kind(), ["legend", "mean", "std"])):
        facts = geoseg.info(kind.write(tmp_path / "model.onnx"))
        assert facts.to_json()["missing"] == [*missing, "window"]
        shortage = r"model.onnx needs about [\d.]+ MB of memory for a window of 512 px, but only 5.00 MB are free"
        assert re.search(shortage, facts.describe())
        assert re.search(shortage, str(facts.to_json()["error"]))


def test_a_verb_calls_the_window_as_its_argument_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a file that only runs once its window is known, which is opened with it."""

    def fixed(model: onnx.ModelProto) -> None:
        ending(node("Reshape", "ended", "as_exported"))(model)
        keep(model, as_exported=np.int64([0, 4, 80, 80]))

    path = saved(tmp_path, fixed)
    for model in (path, str(path)):
        with pytest.raises(UsageError, match="`window` must be 1 to 16384 for this model, got 99999") as caught:
            geoseg.export_model(model, tmp_path / "out.onnx", window=99_999)
        assert caught.value.parameter == "window"
    monkeypatch.setenv("GEOSEG_MODEL", str(path))
    for window, fault in ((99_999, "`window` must be"), (90, "takes no window of")):
        with pytest.raises(
            (ModelError, UsageError), match=f"{fault}.*; the environment variable GEOSEG_MODEL names it"
        ):
            geoseg.export_model(None, tmp_path / "out.onnx", window=window)
    assert geoseg.export_model(None, tmp_path / "out.onnx", window=80) == tmp_path / "out.onnx"
