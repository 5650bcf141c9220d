"""The inputs and outputs of the network in an ONNX file, as far as the file declares them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from geoseg.errors import ModelError, UsageError, one_line
from geoseg.model.bundle import MAX_BANDS
from geoseg.model.onnx_files.onnx_file import OnnxFile, constant_integers

if TYPE_CHECKING:
    import onnx

Activation = Literal["softmax", "sigmoid", "none"]
"""Turns the network's output into probabilities: softmax or sigmoid for logits, none if it is probabilities already."""
Fit = Literal["same", "strided", "aligned", "cropped", "larger"]
"""How the pixels of the output relate to those of the window.

strided: each covers a square of window pixels; aligned: the first and last coincide with those of the window, the rest
are evenly spaced (align_corners); cropped: they cover the middle of the window; larger: several per window pixel.
"""
NUMBER_TYPES = {1: "float32", 10: "float16", 11: "float64", 2: "uint8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64"}
"""numpy's names for the values of TensorProto.DataType that an image may have."""
_OTHER_TYPES = {3: "int8", 8: "string", 9: "bool", 12: "uint32", 13: "uint64", 16: "bfloat16"}
CODES_NOT_SCORES = "one class code per pixel; geoseg needs class scores, so export the network without its argmax"
BYTES_A_PIXEL = 550
"""Memory of the layers per pixel, assumed if their shapes are unknown."""


class AmbiguousOutputError(ModelError):
    """It is ambiguous which output of a network has the scores."""

    gives: str = ""
    """What the network gives, for people."""

    @classmethod
    def of(cls, path: object, gives: str) -> AmbiguousOutputError:
        """Return the error for a file that gives no output that is clearly the scores."""
        error = cls(f"{path} gives {gives}", "network_output")
        error.gives = gives
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxInput:
    """The input image of a network."""

    name: str
    dtype: str
    """A value of NUMBER_TYPES."""
    bands: int | None
    """None if any number is accepted."""
    channels_last: bool
    """(n, row, col, band) instead of (n, band, row, col)."""
    batch: int | None
    """None if it is free."""
    size_px: int | None
    """Edge of the window; None if it is free."""

    def shape(self, bands: int, size_px: int) -> tuple[int, ...]:
        """Return the shape of an input batch: one window, or the network's fixed number of windows."""
        count = self.batch or 1
        return (count, size_px, size_px, bands) if self.channels_last else (count, bands, size_px, size_px)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxGraph:
    """Everything needed to run a network; picklable."""

    input: OnnxInput
    output: str
    """Name of the output."""
    output_channels_last: bool
    activation: Activation
    fit: Fit
    least: int
    """If the fit is cropped, how many pixels of a window have no output, both sides together; else the ratio."""
    sums_to_one: bool = False
    """Whether its probabilities sum to one up to rounding, like those of a softmax."""
    bytes_a_pixel: int = BYTES_A_PIXEL
    """Estimated memory of its layers per pixel of the window."""
    data_files: tuple[str, ...] = ()
    """Names of files next to it that hold weights."""
    notes: tuple[str, ...] = ()
    """Lines for people about what was inferred, not stated by the file."""

    def output_px(self, window_px: int) -> int:
        """Return the edge of the output for a window of this size."""
        match self.fit:
            case "same":
                return window_px
            case "strided":
                return -(-window_px // self.least)
            case "aligned":
                return (window_px - 1) // self.least + 1
            case "cropped":
                return window_px - self.least
        return window_px * self.least

    @property
    def margin_px(self) -> int:
        """Number of pixels on each side of a window that have no output."""
        return self.least // 2 if self.fit == "cropped" else 0

    def check_window(self, model: str, window_px: int, name: str = "window") -> None:
        """Raise UsageError for a window of another size than the only one, or one without any output.

        `model` and `name` are what the error calls the model and the caller's window.
        """
        if self.input.size_px is not None and self.input.size_px != window_px:
            raise UsageError(f"{model} takes windows of {self.input.size_px} px only, got `{name}={window_px}`", name)
        if self.output_px(window_px) < 1:
            raise UsageError(
                f"{model} gives nothing for the outer {self.margin_px} px of a window; `{name}` must be above "
                f"{self.least}, got {window_px}",
                name,
            )

    def overlap_px(self, window_px: int, share: float) -> int:
        """Return the overlap of windows that is a share of them, at least as large as the margins without output."""
        return min(max(round(window_px * share), 2 * self.margin_px), window_px - 1)


def read_input(file: OnnxFile, bands: int | None) -> OnnxInput:
    """Return the input image of the network; `bands` is the number of bands, if only the caller knows it.

    ModelError if it takes no image, several, or one of an unsupported shape or type.
    """
    graph, path = file.model.graph, file.path
    initializers = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initializers]
    if len(inputs) != 1:
        names = ", ".join(one_line(value.name, 30) for value in inputs[:6]) or "none"
        raise ModelError(f"{path} must have one input, the image; it has {len(inputs)}: {names}")
    value = inputs[0]
    if value.type.WhichOneof("value") != "tensor_type" or not value.type.tensor_type.HasField("shape"):
        raise ModelError(
            f"{path} does not declare the rank of its input; export it with four axes: (n, band, row, col)"
        )
    tensor_type = value.type.tensor_type
    dims = [axis.dim_value if axis.WhichOneof("value") == "dim_value" else None for axis in tensor_type.shape.dim]
    dims = [None if length is not None and length < 1 else length for length in dims]
    if tensor_type.elem_type not in NUMBER_TYPES:
        name = _type_name(tensor_type.elem_type)
        raise ModelError(f"{path} takes {name} values; export it with an input of float32 or uint8")
    if len(dims) != 4:
        function = "; use a classifier of single pixels as a function: ModelBundle.from_callable" * (len(dims) == 2)
        raise ModelError(
            f"{path} takes an input of shape {_shape_text(dims)}; it must have four axes: (n, band, row, col){function}"
        )
    return _input_of_shape(file, value.name, NUMBER_TYPES[tensor_type.elem_type], dims, bands)


def _input_of_shape(file: OnnxFile, name: str, dtype: str, dims: list[int | None], bands: int | None) -> OnnxInput:
    """Return the input with these axes; ModelError unless they can be those of square windows."""
    first = _first_layer(file, name)
    if dims[1] is None and dims[3] is None and first is not None:
        dims[3 if first[1] else 1] = first[0]
    is_any_band_count = dims[1] is None and dims[3] is None
    inputs = []
    for channels_last in (False, True):
        channels, sides = (dims[3], dims[1:3]) if channels_last else (dims[1], dims[2:])
        fixed_sides = {side for side in sides if side is not None}
        band_count = bands if is_any_band_count else channels
        if band_count is None or band_count > MAX_BANDS or len(fixed_sides) > 1:
            continue
        side = next(iter(fixed_sides), None)
        spec = OnnxInput(
            name=name, dtype=dtype, bands=channels, channels_last=channels_last, batch=dims[0], size_px=side
        )
        inputs.append(spec)
    if not inputs:
        raise _unsuitable_input(file, dims, bands)
    inputs = [spec for spec in inputs if (spec.bands, spec.channels_last) == first] or inputs
    inputs = [spec for spec in inputs if spec.bands == bands] or inputs
    return min(inputs, key=lambda spec: spec.bands or 0)  # (n, 256, any, 3): images are wider than they have bands


_KEEP_IMAGE = {"Add", "Cast", "Clip", "DequantizeLinear", "Div", "Identity", "Mul", "Pad", "QuantizeLinear", "Sub"}
"""Operators whose output is still an image."""
_KEEP_AXES = _KEEP_IMAGE | {
    "BatchNormalization", "LogSoftmax", "Relu", "Resize", "Sigmoid", "Softmax", "Transpose", "Upsample",
}  # fmt: skip
"""Operators whose output has the axes of their input, if in another order."""
_OTHER_AXES = {"Reshape", "Squeeze", "Unsqueeze"}
"""Operators whose output has other axes than their input."""


def _first_layer(file: OnnxFile, name: str) -> tuple[int, bool] | None:
    """Return how many bands the first convolution reads, and whether they are the last axis; None if unknown."""
    graph = file.model.graph
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    forwarding = (node for node in graph.node if node.op_type in _KEEP_MEANING | {"DequantizeLinear"})
    sources = {output: node.input[0] for node in forwarding if node.input for output in node.output[:1]}
    images, channels_last = {name}, False
    for node in graph.node:
        if images.isdisjoint(node.input):
            continue
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "Conv":
            if len(node.input) < 2:  # a broken file, which ONNX Runtime refuses
                return None
            weights = node.input[1]
            for _ in range(len(sources)):
                weights = sources.get(weights, weights)
            shape = shapes.get(weights, ())
            groups = attributes["group"].i if "group" in attributes else 1
            return (shape[1] * groups, channels_last) if len(shape) == 4 else None
        if node.op_type in _KEEP_IMAGE or node.op_type == "Transpose":
            images.update(node.output)
            channels_last |= "perm" in attributes and list(attributes["perm"].ints) == [0, 3, 1, 2]
    return None


def _unsuitable_input(file: OnnxFile, dims: list[int | None], bands: int | None) -> ModelError:
    message = f"{file.path} takes an input of shape {_shape_text(dims)}"
    if dims[1] is None and dims[3] is None and bands is None:
        return ModelError(f"{message} with any number of bands; give `mean` and `std`, one number per band")
    return ModelError(f"{message}; geoseg needs square windows of up to {MAX_BANDS} bands: (n, band, row, col)")


def hidden_scores(file: OnnxFile) -> str | None:
    """Return the name of the scores in a network that outputs only their argmax, or that and their maximum; or None."""
    outputs = [value.name for value in file.model.graph.output]
    if not all(is_of_best_class(file, output) for output in outputs):
        return None
    sources = [_source_node(file, output) for output in outputs]
    by_operator = {node.op_type: node.input[0] for node in sources if node is not None}
    scores = by_operator.get("ArgMax", by_operator.get("TopK"))
    return None if scores in outputs else scores


def is_of_best_class(file: OnnxFile, output: str) -> bool:
    """Return whether an output gives each pixel its best class or the score of that: a maximum over the classes.

    A maximum over anything else, such as flips of the image, may be scores; so may one over an unknown axis.
    """
    node = _source_node(file, output)
    if node is None or not node.input or node.op_type not in {"ArgMax", "ReduceMax", "TopK"}:
        return False
    if node.op_type == "ArgMax":
        return True
    axes = [axis for attribute in node.attribute for axis in attribute.ints if attribute.name == "axes"]
    if node.op_type == "TopK":
        axes = [attribute.i for attribute in node.attribute if attribute.name == "axis"] or [-1]
    elif len(node.input) > 1:
        axes = constant_integers(file.model, node.input[1])
    return len(axes) == 1 and _original_axis(file, node.input[0], axes[0]) in {1, -3}


def _original_axis(file: OnnxFile, value: str, axis: int) -> int | None:
    """Return which axis of (n, class, row, col) an axis of a value is, before it was transposed; None if unknown."""
    node_by_output = {name: node for node in file.model.graph.node for name in node.output if node.input}
    for _ in range(len(node_by_output)):
        node = node_by_output.get(value)
        if node is not None and node.op_type in {"Conv", "ConvTranspose"}:
            return axis
        if node is None or node.op_type not in _KEEP_AXES:
            sources = [] if node is None else [node, *(node_by_output.get(name) for name in node.input)]
            has_other_axes = any(source and source.op_type in _OTHER_AXES for source in sources)  # of a stack, too
            return None if has_other_axes else axis
        if node.op_type == "Transpose":
            order = next((attribute.ints for attribute in node.attribute if attribute.name == "perm"), ())
            if len(order) != 4 or not -4 <= axis < 4:
                return None
            axis = order[axis]
        value = next((name for name in node.input if name in node_by_output), node.input[0])  # no constant
    return None


def check_outputs(file: OnnxFile) -> None:
    """Raise ModelError if no output can be class scores, according to the declared types."""
    types = [value.type.tensor_type.elem_type for value in file.model.graph.output]
    if set(types) <= _SHORT_FLOATS:
        raise ModelError(
            f"{file.path} gives {_type_name(types[0])} values, which ONNX Runtime does not compute on a CPU; export it "
            "in float32 (network.float())"
        )
    if all(number not in {0, *_FLOATS} for number in types):
        axes = file.model.graph.output[0].type.tensor_type.shape.dim
        has_channels = len(axes) == 4 and axes[1].dim_value > 1 and axes[3].dim_value > 1
        what = "scores in whole numbers; export it with an output of float32" if has_channels else CODES_NOT_SCORES
        raise ModelError(f"{file.path} gives {_type_name(types[0])}, {what}")


_FLOATS = {1, 10, 11}
_SHORT_FLOATS = {16, 17, 18, 19, 20, 23}
"""bfloat16, and floats of 4 to 8 bits."""


def _type_name(number: int) -> str:
    return NUMBER_TYPES.get(number) or _OTHER_TYPES.get(number, f"type {number}")


def _shape_text(dims: list[int | None]) -> str:
    return f"({', '.join('any' if length is None else str(length) for length in dims)})"


_KEEP_MEANING = {"Identity", "Cast", "Resize", "Upsample", "Transpose", "Squeeze", "Unsqueeze", "Reshape"}
"""Operators whose output is what their input is, probabilities or logits."""


def last_operator(file: OnnxFile, output: str) -> str:
    """Return the operator that determines what an output is: Softmax, Sigmoid, Conv, ...; empty if there is none."""
    node = _source_node(file, output)
    constants = {tensor.name for tensor in file.model.graph.initializer}
    if node is not None and node.op_type == "Add":  # the bias of a linear layer
        terms = [name for name in node.input if name not in constants]
        node = (_source_node(file, terms[0]) or node) if len(terms) == 1 else node
    return "" if node is None else str(node.op_type)


def _source_node(file: OnnxFile, output: str) -> onnx.NodeProto | None:
    """Return the last node that determines what a value is; None if there is none."""
    node_by_output = {name: node for node in file.model.graph.node for name in node.output}
    for _ in range(len(node_by_output)):
        node = node_by_output.get(output)
        if node is None or node.op_type not in _KEEP_MEANING or not node.input:
            return node
        output = node.input[0]
    return None


def inferred_shapes(
    file: OnnxFile, input_spec: OnnxInput, bands: int, size_px: int
) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Return type and shape of the values in the graph that can be inferred without running it, for a window size."""
    import onnx  # noqa: PLC0415 - takes 0.2 s, needed only for ONNX files

    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    for value in model.graph.input:
        if value.name == input_spec.name:
            for axis, length in zip(value.type.tensor_type.shape.dim, input_spec.shape(bands, size_px), strict=True):
                axis.dim_value = length
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    for tensor in model.graph.initializer:
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=False, strict_mode=False, data_prop=True)
    except Exception:  # noqa: BLE001 - on any error, the shapes are unknown
        return {}
    return dict(_known_shapes([*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]))


def _known_shapes(values: list[onnx.ValueInfoProto]) -> Iterator[tuple[str, tuple[int, tuple[int, ...]]]]:
    for value in values:
        tensor_type = value.type.tensor_type
        lengths = [axis.dim_value for axis in tensor_type.shape.dim if axis.WhichOneof("value") == "dim_value"]
        if tensor_type.HasField("shape") and len(lengths) == len(tensor_type.shape.dim):
            yield value.name, (tensor_type.elem_type, tuple(lengths))


_RESIZED_PX = (96, 160)
"""Two sizes of windows; a network that resizes both to the same size resizes all to it."""


def resized_input_px(file: OnnxFile, input_spec: OnnxInput, bands: int) -> int | None:
    """Return the edge to which the network resizes every window before its first layer; None if it does not.

    None too if a layer reads the window at its own size.
    """
    images = {input_spec.name}
    resized = None
    for node in file.model.graph.node:
        if images.isdisjoint(node.input) or node.op_type in {"Shape", "Size"}:
            continue
        if node.op_type in _KEEP_IMAGE or node.op_type == "Transpose":
            images.update(node.output)
        elif node.op_type in {"Resize", "Upsample"} and resized is None:
            resized = node.output[0]
        else:
            return None
    if resized is None:
        return None
    sides = set()
    for size_px in _RESIZED_PX:
        _, shape = inferred_shapes(file, input_spec, bands, size_px).get(resized, (0, ()))
        pairs = (shape[1:3], shape[2:4]) if len(shape) == 4 else ()
        sides.add(next((pair[0] for pair in pairs if pair[0] == pair[1]), None))
    return sides.pop() if len(sides) == 1 else None


_IN_PLACE = {
    "BatchNormalization", "Cast", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "PRelu",
    "Relu", "Reshape", "Sigmoid", "Squeeze", "Unsqueeze", "Flatten", "Add", "Mul",
}  # fmt: skip
"""Operators whose result ONNX Runtime writes over an input not needed elsewhere, or fuses with the one before."""
_NUMBER_BYTES = {1: 4, 10: 4, 11: 8, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 12: 4, 13: 8, 16: 2}
"""Bytes per number by TensorProto.DataType; on a CPU ONNX Runtime computes float16 in float32."""


def layer_bytes(file: OnnxFile, shapes: dict[str, tuple[int, tuple[int, ...]]]) -> int | None:
    """Return the peak memory of the layers in bytes, without weights; None if most shapes are unknown."""
    graph = file.model.graph
    sizes = {name: _NUMBER_BYTES.get(number, 8) * math.prod(shape) for name, (number, shape) in shapes.items()}
    remaining_uses = Counter(name for node in graph.node for name in set(node.input))
    remaining_uses.update(value.name for value in graph.output)
    live: dict[str, int] = {}
    current = peak = unknown_count = 0
    for node in graph.node:
        last_used = [name for name in set(node.input) if name in live and remaining_uses[name] == 1]
        may_overwrite = node.op_type in _IN_PLACE and len(node.output) > 0
        overwrites = may_overwrite and any(live[name] >= sizes.get(node.output[0], 0) for name in last_used)
        for name in node.output:
            unknown_count += bool(name) and name not in sizes
            live[name] = sizes.get(name, 0)
            current += live[name]
        peak = max(peak, current - (live[node.output[0]] if overwrites else 0))
        remaining_uses.subtract(set(node.input))
        for name in last_used:
            current -= live.pop(name)
    return peak if unknown_count * 2 <= len(graph.node) else None
