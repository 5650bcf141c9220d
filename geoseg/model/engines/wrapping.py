"""Small graphs of ours that run before and after a network in an ONNX file that anybody made."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from geoseg.model.onnx_files import OnnxGraph, OnnxInput

_OPSET, _IR_VERSION = 17, 8
_LEAST = 1e-7
"""Of a probability before it is divided by the sum of all: where a network gives none to any class, all are alike."""
_EXACT = 2**24
"""Beyond it float32 has no longer every whole number."""
_TYPES = {
    "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE,
    "uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16, "int16": TensorProto.INT16, "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}  # fmt: skip
_FLOATS = {
    "tensor(float)": TensorProto.FLOAT, "tensor(float16)": TensorProto.FLOAT16, "tensor(double)": TensorProto.DOUBLE
}  # fmt: skip
"""By ONNX Runtime's names."""


class _Steps:
    """A graph in the making: each step takes names and gives one."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def step(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:  # noqa: ANN401 - onnx's
        """Add an operator and return the name of what it gives."""
        name = output or f"{operator}.{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def split(self, value: str, count: int) -> list[str]:
        """Return the names of the channels of a value, one by one."""
        if count == 1:
            return [value]
        names = [f"{value}.{channel}" for channel in range(count)]
        self._nodes.append(helper.make_node("Split", [value], names, axis=1))
        return names

    def constant(self, values: Any, dtype: Any = np.float32) -> str:  # noqa: ANN401 - numpy's
        """Add numbers and return their name."""
        name = f"constant.{len(self._constants)}"
        self._constants.append(onnx.numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def model(self, inputs: dict[str, tuple[int, list[int | str]]], output: str) -> onnx.ModelProto:
        """Return the graph, of inputs by their type and shape."""
        taken = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
        graph = helper.make_graph(self._nodes, "geoseg", taken, [onnx.ValueInfoProto(name=output)], self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


def graph_before(taken: OnnxInput, bands: int) -> onnx.ModelProto:
    """Return the graph from stored pixels to what the network takes, `fed`; invalid ones become 0, the mean.

    Inputs, all float32: image (n, band, row, col), valid (n, 1, row, col), gain and bias (1, band, 1, 1).
    """
    steps = _Steps()
    normalized = steps.step("Add", steps.step("Mul", "image", "gain"), "bias")
    is_valid = steps.step("Greater", "valid", steps.constant(0))
    value = steps.step("Where", is_valid, normalized, steps.constant(0))
    if not taken.dtype.startswith("float"):
        ends = np.clip([np.iinfo(taken.dtype).min, np.iinfo(taken.dtype).max], -_EXACT, _EXACT)
        value = steps.step("Clip", steps.step("Round", value), *map(steps.constant, ends))
    if taken.channels_last:
        value = steps.step("Transpose", value, perm=[0, 2, 3, 1])
    steps.step("Cast", value, output="fed", to=_TYPES[taken.dtype])
    shapes: dict[str, list[int | str]] = {
        "image": ["n", bands, "row", "col"],
        "valid": ["n", 1, "row", "col"],
        "gain": [1, bands, 1, 1],
        "bias": [1, bands, 1, 1],
    }
    return steps.model({name: (TensorProto.FLOAT, shape) for name, shape in shapes.items()}, "fed")


def graph_after(graph: OnnxGraph, channels: int, window_px: int, kind: str) -> onnx.ModelProto:
    """Return the graph from what a network gives, `scores` of ONNX Runtime's type `kind`, to weighted probabilities.

    Inputs: scores, rows (n, 1, row, 1) and cols (n, 1, 1, col). Logits are interpolated before their softmax, as in
    training; of more pixels than the window has the probabilities are averaged.
    """
    steps = _Steps()
    value = steps.step("Cast", "scores", to=TensorProto.FLOAT)
    if graph.output_channels_last:
        value = steps.step("Transpose", value, perm=[0, 3, 1, 2])
    if graph.fit != "larger":
        value = _fitted(steps, graph, value, window_px)
    weights = steps.step("Mul", "rows", "cols")
    if graph.fit == "larger":
        even = _probabilities(steps, graph, value, channels, None)
        sides = [graph.least, graph.least]
        value = steps.step("AveragePool", even, kernel_shape=sides, strides=sides)
        steps.step("Mul", value, weights, output="probabilities")
    else:
        _probabilities(steps, graph, value, channels, weights)
    scores: list[int | str] = ["n", channels, "y", "x"]
    if graph.output_channels_last:
        scores = ["n", "y", "x", channels]
    inputs: dict[str, tuple[int, list[int | str]]] = {
        "scores": (_FLOATS.get(kind, TensorProto.FLOAT), scores),
        "rows": (TensorProto.FLOAT, ["n", 1, window_px, 1]),
        "cols": (TensorProto.FLOAT, ["n", 1, 1, window_px]),
    }
    return steps.model(inputs, "probabilities")


def _fitted(steps: _Steps, graph: OnnxGraph, value: str, window_px: int) -> str:
    """Return scores of as many pixels as the window has."""
    if graph.fit == "cropped":
        margin = graph.margin_px
        return steps.step("Pad", value, steps.constant([0, 0, margin, margin] * 2, np.int64), mode="edge")
    if graph.fit == "same":
        return value
    side = graph.output_px(window_px)
    scale = (window_px + 0.5) / side if graph.fit == "aligned" else graph.least  # rounded down to whole pixels
    mode = "align_corners" if graph.fit == "aligned" else "half_pixel"
    scales = steps.constant([1, 1, scale, scale])
    return steps.step("Resize", value, "", scales, mode="linear", coordinate_transformation_mode=mode)


def _probabilities(steps: _Steps, graph: OnnxGraph, value: str, channels: int, weights: str | None) -> str:
    """Return probabilities that sum to one, times the weights if there are any.

    Channel by channel: ONNX Runtime's own Softmax over an axis that is not the last takes eight times as long.
    """
    if channels == 1:
        return _of_two(steps, graph, value, weights)
    parts = steps.split(value, channels)
    if graph.activation == "softmax":
        most = steps.step("Max", *parts)
        powers = [steps.step("Exp", steps.step("Sub", part, most)) for part in parts]
    else:
        if graph.activation == "sigmoid":
            parts = [steps.step("Sigmoid", part) for part in parts]
        powers = [steps.step("Max", part, steps.constant(_LEAST)) for part in parts]
    total = powers[0]
    for power in powers[1:]:
        total = steps.step("Add", total, power)
    share = steps.step("Div", steps.constant(1) if weights is None else weights, total)
    even = steps.step("Concat", *powers, axis=1)
    return steps.step("Mul", even, share, output=None if weights is None else "probabilities")


def _of_two(steps: _Steps, graph: OnnxGraph, value: str, weights: str | None) -> str:
    """Return the probabilities of the background and of the one class whose score there is."""
    if graph.activation == "none":
        found = steps.step("Clip", value, steps.constant(0), steps.constant(1))
    else:
        found = steps.step("Sigmoid", value)
    both = steps.step("Concat", steps.step("Sub", steps.constant(1), found), found, axis=1)
    if weights is None:
        return both
    return steps.step("Mul", both, weights, output="probabilities")
