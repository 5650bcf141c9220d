"""Export of a bundle's network to ONNX: coarse scores for geoseg's own engine, or probabilities for other programs.

Runs as a separate program, because torch never frees its memory:

    python -m geoseg.model.engines.export BUNDLE WINDOW OUT

Input image (n,band,w,w), normalized; output scores (n,class,h,h); both float32. If a network ends by interpolating its
scores, the graph ends before that, and h is smaller than w: `interpolation.py` does it faster, together with the
softmax. The batch size is free, and the window size too if the network can be exported that way.
For other programs the output is probabilities (n,class,w,w), and the window size is fixed.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same_arg
from torch.nn import functional

from geoseg.errors import GeosegError, ModelError, one_line
from geoseg.machine import end_process
from geoseg.model.bundle import METADATA_KEY, ModelBundle, check_window, read_header
from geoseg.model.engines.engine import Weights
from geoseg.model.engines.exported import ALIGNED_KEY, export_stamp
from geoseg.model.engines.interpolation import softmax
from geoseg.model.engines.onnx_engine import aligns_corners
from geoseg.model.network import load_network
from geoseg.model.onnx_files import providers, session_options

_IMAGE, _SCORES, _PROBABILITIES = "image", "scores", "probabilities"
_INTERPOLATIONS = {b"half_pixel": False, b"align_corners": True}
"""Whether the centers of the outermost pixels coincide, by what ONNX calls it."""
_OPSET = 17
_WORTH_HALVING = 256
_TOLERANCE = 1e-3
"""A wrong graph is off by far more. Rounding mostly stays below 1e-5; in random MAnet and PAN it reached 1e-4."""


class _Standalone(torch.nn.Module):
    """From normalized pixels to probabilities, for other programs."""

    def __init__(self, network: torch.nn.Module, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return (n, class, row, col)."""
        return _softmax(self.network(image) * (1 / self.temperature))


class _Padded(torch.nn.Module):
    """A timm convolution with TensorFlow's padding, fixed to one input size, given by the window.

    timm computes the padding in the graph, for any size. ONNX Runtime then pads in a separate step, outside the memory
    layout of its convolutions: a window of 512 took a fifth longer with EfficientNet-Lite0.
    """

    def __init__(self, convolution: torch.nn.Conv2d, shape: tuple[int, int]) -> None:
        super().__init__()
        self.convolution = convolution
        sizes = ([*values] for values in (shape, convolution.kernel_size, convolution.stride, convolution.dilation))
        self.padding = tuple(pad_same_arg(*sizes))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the same as the original convolution."""
        inner = self.convolution
        strides = (inner.stride, inner.dilation, inner.groups)
        result: torch.Tensor = _Convolution.apply(values, inner.weight, inner.bias, self.padding, *strides)
        return result


class _Convolution(torch.autograd.Function):
    """A convolution with different padding on opposite sides: one node in ONNX, two steps in torch."""

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917 - a convolution has that many
        _context: object,
        values: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        padding: tuple[int, ...],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> torch.Tensor:
        """Return the convolution; `padding`: left, right, top, bottom."""
        return functional.conv2d(functional.pad(values, padding), weight, bias, stride, 0, dilation, groups)

    @staticmethod
    def symbolic(  # noqa: PLR0913, PLR0917 - a convolution has that many
        graph: Any,  # noqa: ANN401 - the exporter's own
        values: Any,  # noqa: ANN401
        weight: Any,  # noqa: ANN401
        bias: Any,  # noqa: ANN401
        padding: tuple[int, ...],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Any:  # noqa: ANN401
        """Return the node; ONNX orders the padding top, left, bottom, right."""
        left, right, top, bottom = padding
        inputs = [values, weight] if bias is None else [values, weight, bias]
        return graph.op(
            "Conv",
            *inputs,
            pads_i=[top, left, bottom, right],
            strides_i=list(stride),
            dilations_i=list(dilation),
            group_i=groups,
        )


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    """Return the softmax over classes, step by step.

    ONNX Runtime's own Softmax over an axis other than the last took 33 ms for a window of 512 with 7 classes, this
    takes 4. Its ReduceSum gives different bits in different batches, so the classes are added one by one.
    """
    powers = torch.exp(logits - torch.amax(logits, dim=1, keepdim=True))
    return powers * (1 / functools.reduce(torch.add, torch.split(powers, 1, dim=1)))


def export_onnx(bundle: ModelBundle, window_px: int, path: str | Path) -> None:
    """Write the bundle's network as one ONNX file, and verify that it gives the same result as torch.

    The file takes windows of any suitable size if that can be verified, or else only those of `window_px`. UsageError
    for a window that does not fit the network, ModelError if the network cannot be exported.
    """
    check_window(window_px, bundle.divisor)
    sizes_px = (times * bundle.divisor for times in (1, 2, 3))  # the smallest, and odd and even multiples
    others = tuple(_example(bundle, side_px) for side_px in sizes_px if side_px != window_px)
    network = _Network(load_network(bundle), _SCORES, _example(bundle, window_px), others)
    try:
        _write_onnx(network, bundle, path, {METADATA_KEY: json.dumps(export_stamp(bundle, None))})
    except ModelError:
        fixed = replace(network, others=())
        _write_onnx(fixed, bundle, path, {METADATA_KEY: json.dumps(export_stamp(bundle, window_px))})


def export_alone(bundle: ModelBundle, window_px: int, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write and verify the network for other programs: an ONNX file with metadata; raises like `export_onnx`."""
    _write_onnx(_standalone(bundle, window_px), bundle, path, metadata)


def save_program(bundle: ModelBundle, window_px: int, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write the network for other programs as a torch.export archive; raises like `export_onnx`."""
    network = _standalone(bundle, window_px)
    expected = _try_network(network.module, network.example, bundle)
    axes = {"image": {0: torch.export.Dim("batch")}}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(network.module, (network.example,), dynamic_shapes=axes)
            torch.export.save(program, path, extra_files=dict(metadata))
            result = torch.export.load(path).module()(network.example)
    except OSError:
        raise
    except Exception as fault:  # noqa: BLE001 - exporters may raise anything
        raise ModelError(f"{bundle.name} cannot be exported by torch.export: {one_line(fault)}") from None
    _check_close(result.detach().numpy(), expected.numpy())


@dataclass(frozen=True, slots=True)
class _Network:
    """A network to export."""

    module: torch.nn.Module
    output: str
    example: torch.Tensor
    """Images to trace it with."""
    others: tuple[torch.Tensor, ...] = ()
    """Images of other window sizes, to compare the graph with torch; if empty, the window size is fixed."""


def _standalone(bundle: ModelBundle, window_px: int) -> _Network:
    check_window(window_px, bundle.divisor)
    module = _Standalone(load_network(bundle), bundle.temperature).eval()
    return _Network(module, _PROBABILITIES, _example(bundle, window_px))


def _write_onnx(network: _Network, bundle: ModelBundle, path: str | Path, metadata: Mapping[str, str]) -> None:
    network.module.eval()
    cases = [(example, _try_network(network.module, example, bundle)) for example in (network.example, *network.others)]
    _fix_padding(network.module, network.example)
    half = any(tensor.dtype == "F16" for tensor in read_header(bundle.weights_path).tensors)
    faults = []
    # the older exporter is ten times faster if it works; a free window size is not worth the newer one's time
    for dynamo in (False,) if network.others else (False, True):
        try:
            _export(network, Path(path), dynamo=dynamo, fold=not half)
            _complete(Path(path), network, metadata, half=half)
            _verify(Path(path), network, cases, bundle.temperature)
        except Exception as fault:  # noqa: BLE001 - exporters may raise anything
            faults.append(one_line(fault))
        else:
            return
    raise ModelError(f"{bundle.name} cannot be exported to ONNX: {faults[0]}")


def _example(bundle: ModelBundle, window_px: int) -> torch.Tensor:
    """Return two windows of normalized noise, half of the second one without values."""
    shape = (2, window_px, window_px, len(bundle.bands))
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32).transpose(0, 3, 1, 2)
    image[1, :, : window_px // 2] = 0
    return torch.from_numpy(np.ascontiguousarray(image))


def _fix_padding(whole: torch.nn.Module, example: torch.Tensor) -> None:
    """Fix the padding of each convolution that computes it from its input, to that of this window size."""
    same_padded = {name: module for name, module in whole.named_modules() if isinstance(module, Conv2dSame)}
    shapes: dict[torch.nn.Module, tuple[int, int]] = {}

    def record(convolution: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        shapes[convolution] = (inputs[0].shape[-2], inputs[0].shape[-1])

    hooks = [module.register_forward_pre_hook(record) for module in same_padded.values()]
    if same_padded:
        with torch.no_grad():
            whole(example)
    for hook in hooks:
        hook.remove()
    for name, module in same_padded.items():
        if module in shapes:
            whole.set_submodule(name, _Padded(module, shapes[module]))


def _try_network(whole: torch.nn.Module, example: torch.Tensor, bundle: ModelBundle) -> torch.Tensor:
    window_px = example.shape[-1]
    try:
        with torch.no_grad():
            expected: torch.Tensor = whole(example)
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as fault:
        raise ModelError(
            f"{bundle.name} cannot run on a window of {window_px} px: {one_line(fault)}; try another `window`"
        ) from None
    expected_shape = (len(example), len(bundle.output_codes), window_px, window_px)
    if tuple(expected.shape) != expected_shape:
        raise ModelError(
            f"{bundle.name} gives {tuple(expected.shape)} for a window of {window_px} px, expected {expected_shape}"
        )
    return expected


def _export(network: _Network, path: Path, *, dynamo: bool, fold: bool) -> None:
    """Write the graph; without `fold` it keeps the network's own weights, and ONNX Runtime folds them on loading."""
    settings: dict[str, Any] = {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "external_data": False}
    if not dynamo:
        free_axes = {0: "batch"} | ({2: "row", 3: "col"} if network.others else {})
        settings = {
            "dynamic_axes": {_IMAGE: free_axes, network.output: free_axes},
            "opset_version": _OPSET,
            "training": torch.onnx.TrainingMode.EVAL if fold else torch.onnx.TrainingMode.PRESERVE,
            "do_constant_folding": fold,
        }
    # silence warnings about the exporter's age and intended constants
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet_exporter():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.module,
            (network.example,),
            path,
            input_names=[_IMAGE],
            output_names=[network.output],
            dynamo=dynamo,
            verbose=False,
            **settings,
        )


class _Off:
    """False, both as a value and when called: torch tests the function itself and forgets to call it."""

    def __bool__(self) -> bool:
        return False

    def __call__(self) -> bool:
        return False


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the older exporter from writing its whole graph to the standard output of the process where it fails."""
    original = getattr(torch._C, "_jit_is_onnx_log_enabled", None)  # noqa: SLF001 - there is no public switch
    if original is None:  # a torch without the older exporter
        yield
        return
    torch._C._jit_is_onnx_log_enabled = _Off()  # noqa: SLF001 - as above
    try:
        yield
    finally:
        torch._C._jit_is_onnx_log_enabled = original  # noqa: SLF001 - as above


def _complete(path: Path, network: _Network, metadata: Mapping[str, str], *, half: bool) -> None:
    """Add what the exporters leave out: the early end, weights in half precision, metadata."""
    model = onnx.load(path)
    if network.output == _SCORES:
        aligned = _end_before_interpolation(model.graph)
        metadata = {**metadata, ALIGNED_KEY: json.dumps(aligned)}
    if half:
        _store_as_half(model.graph)
    onnx.helper.set_model_props(model, dict(metadata))
    model.doc_string = ""
    onnx.save(model, path)


def _end_before_interpolation(graph: onnx.GraphProto) -> bool:
    """Remove the last node if it interpolates the scores; return whether it aligns the corners.

    A graph is left as it is if other graphs inside it, such as branches, may use its values.
    """
    output = graph.output[0]
    last = next(node for node in graph.node if output.name in node.output)
    settings = {each.name: onnx.helper.get_attribute_value(each) for each in last.attribute}
    transformation = settings.get("coordinate_transformation_mode", b"")
    is_plain = settings.get("mode") == b"linear" and transformation in _INTERPOLATIONS
    if last.op_type != "Resize" or not is_plain or {"antialias", "axes"} & settings.keys() or _is_nested(graph):
        return False
    coarse = last.input[0]
    graph.node.remove(last)
    _keep_what_leads_to(graph, coarse)
    for node in graph.node:
        node.input[:] = [output.name if name == coarse else name for name in node.input]
        node.output[:] = [output.name if name == coarse else name for name in node.output]
    del graph.value_info[:]
    for axis in (2, 3):
        output.type.tensor_type.shape.dim[axis].dim_param = f"coarse_{axis}"
    return _INTERPOLATIONS[transformation]


def _is_nested(graph: onnx.GraphProto) -> bool:
    return any(each.HasField("g") or each.graphs for node in graph.node for each in node.attribute)


def _keep_what_leads_to(graph: onnx.GraphProto, value: str) -> None:
    """Remove the nodes and weights that a value does not depend on."""
    needed, kept = {value}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    weights = [each for each in graph.initializer if each.name in needed]
    for values, left in ((graph.node, kept[::-1]), (graph.initializer, weights)):
        del values[:]
        values.extend(left)


def _store_as_half(graph: onnx.GraphProto) -> None:
    """Store weights in half precision if that is exact; ONNX Runtime casts them once, when it opens the file."""
    casts = []
    for weights in graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < _WORTH_HALVING:
            continue
        with np.errstate(over="ignore"):
            halved = values.astype(np.float16)
        if np.array_equal(halved.astype(np.float32), values):
            name = weights.name
            weights.CopyFrom(onnx.numpy_helper.from_array(halved, f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _verify(
    path: Path, network: _Network, cases: Sequence[tuple[torch.Tensor, torch.Tensor]], temperature: float
) -> None:
    """Raise ModelError unless the file gives the expected result for each example, in batches of one and two."""
    session = onnxruntime.InferenceSession(path, session_options(1), providers=providers())
    for example, expected in cases:
        for count in (1, 2):
            (result,) = session.run(None, {_IMAGE: example[:count].numpy()})
            wanted = expected[:count]
            if network.output == _SCORES:
                ones = Weights.ones(count, wanted.shape[-1])
                result = softmax(result, ones, aligned=aligns_corners(session), temperature=temperature)
                wanted = torch.softmax(wanted / temperature, dim=1)
            _check_close(result, wanted.numpy())


def _check_close(result: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    error = float(np.abs(result - expected).max())
    if not error <= _TOLERANCE:
        raise ModelError(f"its probabilities differ by {error:.1e} from torch's, at most {_TOLERANCE} allowed")


def main(arguments: list[str]) -> int:
    """Run the command-line program; `-` reads a bundle as JSON from standard input."""
    if len(arguments) != 3 or not arguments[1].isdigit():
        sys.stderr.write("usage: python -m geoseg.model.engines.export BUNDLE WINDOW OUT\n")
        return 2
    source, window_px, path = arguments
    try:
        bundle = ModelBundle.from_text(sys.stdin.read()) if source == "-" else ModelBundle.open(source)
        torch.set_num_threads(max(torch.get_num_threads() // 2, 1))
        export_onnx(bundle, int(window_px), path)
    except GeosegError as fault:
        sys.stderr.write(f"{one_line(fault, 600)}\n")
        return fault.exit_code
    except OSError as fault:
        sys.stderr.write(f"{path} cannot be written: {fault.strerror or fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
