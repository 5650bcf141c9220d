"""Running ONNX files in ONNX Runtime: opened from their bytes, so that nothing else is read, and tried out on noise."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from geoseg.errors import ModelError, UsageError, numbered, one_line
from geoseg.machine import available_cores, available_memory_bytes, size_text
from geoseg.model.bundle import DEFAULT_WINDOW_PX
from geoseg.model.onnx_files.graph import (
    BYTES_A_PIXEL,
    CODES_NOT_SCORES,
    Activation,
    AmbiguousOutputError,
    Fit,
    OnnxGraph,
    OnnxInput,
    hidden_scores,
    inferred_shapes,
    is_of_best_class,
    last_operator,
    layer_bytes,
    resized_input_px,
)
from geoseg.model.onnx_files.onnx_file import OnnxFile, files_digest, with_output

CUDA = "CUDAExecutionProvider"
_CPU = ("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})
"""The arena grows only by the requested size, so memory use stays small and constant."""
_FATAL = 4

_STEPS = (1, 2, 4, 7, 8, 14, 16, 28, 32, 56, 64, 128)
"""Possible divisors of a window's size; networks halve it, or cut it into patches."""
_TRIAL_PX = 128
"""Trial sizes are near this, large enough for most networks."""
_USUAL_SIZES_PX = (512, 256, 224, 384, 640, 768, 1024)
"""Window sizes that networks are exported for: some accept no other, even if their axes claim to."""
_AUXILIARY = re.compile(r"(?:^|[^a-z])aux", re.IGNORECASE)
"""Matches names of outputs that only help training, for example in torchvision's networks."""
_SUM_TOLERANCE = 0.01
"""Tolerance for the probabilities of a pixel to sum to one."""
_ROUNDING = 1e-5
"""Tolerance for the sum of a float32 softmax over hundreds of classes; half precision exceeds it."""
_RANGE_TOLERANCE = 1e-3
_LARGEST_OUTPUT = 8
"""Limit on output pixels per window pixel, along one side."""
_LARGEST_RATIO = 64
"""Limit on window pixels per output pixel, along one side."""
_USUAL_RATIO = 4
"""Window pixels per output pixel that are common; a size that was not asked for may fit by chance at higher ratios."""


class SessionFault(Exception):  # noqa: N818 - callers add which model it is
    """An error of ONNX Runtime, on one line."""


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return options for sessions that share the processor with readers and writers."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _FATAL  # failures are raised, and geoseg reports them
    # with the arena a window takes 135 ms of CPU time, without it 160 to 400: every tensor allocates its pages again
    options.enable_cpu_mem_arena = True
    # tensors side by side in one block: in some processes a tenth less CPU time per window of the demo model, in others
    # as much or up to 4 % more, by what else uses the processor's cache; see `WindowSession` for its memory
    options.enable_mem_pattern = True
    # spinning threads take the cores that read and encode other tiles: 230 instead of 155 ms of CPU time per window
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(  # noqa: PLR0913 - an engine has this many settings
    path: Path,
    data_files: tuple[Path, ...] = (),
    *,
    threads: int,
    output: str | None = None,
    optimized: bool = True,
    cuda: int | None = None,
    digest: str | None = None,
) -> onnxruntime.InferenceSession:
    """Open a session of an ONNX file; SessionFault if ONNX Runtime cannot.

    A model loaded from memory has no folder from which to read others: its weights files are passed as bytes. With
    `output`, the session also outputs that value, which may be inside the graph. With `digest`, ModelError if the files
    have changed.
    """
    options = session_options(threads)
    options.enable_mem_pattern = cuda is None  # measured on a CPU only
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if digest is not None and files_digest(path, data_files) != digest:
        raise ModelError(f"{path} has changed since it was opened; start again")
    try:
        if data_files:
            contents = [file.read_bytes() for file in data_files]
            options.add_external_initializers_from_files_in_memory(
                [file.name for file in data_files], contents, [len(content) for content in contents]
            )
        message = path.read_bytes()
        message = message if output is None else with_output(message, output)
        return onnxruntime.InferenceSession(message, options, providers=providers(cuda))
    except MemoryError:
        raise
    except Exception as fault:  # noqa: BLE001 - its errors have no common base class
        raise SessionFault(reason_of(fault)) from None


_WHERE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed: ?"
    r"|\S+\.(?:cc|h):\d+ (?:\w+ )?[\w:~<>]+\(.*?\) (?:const )?"
)
"""The parts of ONNX Runtime's messages about its own source code and the kind of the error."""
_LONGEST_REASON = 2000
"""Limit on the letters searched for these parts: the names in a message are those of the file, of any length."""


def reason_of(fault: Exception) -> str:
    """Return what ONNX Runtime found wrong, on one line."""
    return one_line(_WHERE.sub("", str(fault)[:_LONGEST_REASON]).strip().removesuffix("."))


class WindowSession:
    """A session that runs inputs of any shape, by any number of threads, in the memory of the largest.

    From its second run on, a shape's tensors get one block, which fits into none of the pieces that its first run left.
    So a first run gives all free memory back: without that, batches of 8 windows of 256 px took 1.2 to 1.9 times the
    memory of a network (measured), and more with every larger shape.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._planned: set[tuple[tuple[int, ...], ...]] = set()
        """The shapes of inputs that have been run."""

    def run(self, outputs: list[str], inputs: dict[str, NDArray[Any]]) -> list[Any]:
        """Return the values of the outputs."""
        shapes = tuple(value.shape for value in inputs.values())
        if shapes in self._planned:
            return list(self._session.run(outputs, inputs))
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        values = list(self._session.run(outputs, inputs, options))
        self._planned.add(shapes)
        return values


def providers(cuda: int | None = None) -> list[Any]:
    """Return the execution providers: the CPU, or a GPU with the CPU for unsupported operators."""
    return [_CPU] if cuda is None else [(CUDA, {"device_id": cuda}), _CPU]


def cuda_fault(number: int) -> str | None:
    """Return why ONNX Runtime cannot use a GPU, None if it can, found by trying: CUDA libraries may be missing."""
    from onnx import TensorProto, ValueInfoProto, helper  # noqa: PLC0415 - takes 0.2 s, needed only if there is a GPU

    version = onnxruntime.__version__
    if CUDA not in onnxruntime.get_available_providers():
        return f"ONNX Runtime {version} has no CUDA provider: install onnxruntime-gpu in place of onnxruntime"
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "try", [value], [ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content = model.SerializeToString()
    try:
        session = onnxruntime.InferenceSession(content, session_options(1), providers=providers(number))
        session.run(None, {"x": np.ones(1, np.float32)})
    except Exception as fault:  # noqa: BLE001 - as above
        return f"ONNX Runtime {version} cannot use it ({one_line(fault)})"
    return None if CUDA in session.get_providers() else f"ONNX Runtime {version} cannot load its CUDA provider"


@dataclass(frozen=True, slots=True)
class Trial:
    """The findings of a trial run."""

    graph: OnnxGraph
    divisor: int
    """The number that a window's size must be a multiple of."""
    window_px: int
    """A size that the network accepts: its only one, or one near the requested size."""
    channels: int
    """Number of output channels."""


def try_out(  # noqa: PLR0913 - everything that a caller may know about a network
    file: OnnxFile,
    input_spec: OnnxInput,
    bands: int,
    *,
    window_px: int | None,
    classes: int | None,
    output: str | None,
    activation: Activation | None,
) -> Trial:
    """Run the network on noise and return the findings.

    `classes` is their number, if known; it helps to choose between several outputs. ModelError if the network cannot be
    run, or has no output that can be class scores.
    """
    resized_px = None if input_spec.size_px else resized_input_px(file, input_spec, bands)
    size_px = input_spec.size_px or window_px or resized_px or DEFAULT_WINDOW_PX
    bytes_a_pixel = _checked_memory(file, input_spec, bands, size_px)
    run = _open_runner(file, input_spec, bands)
    divisor, tried_px = (1, size_px) if input_spec.size_px else _find_divisor(file, run, window_px, resized_px)
    if divisor == tried_px:  # it accepts no other size
        input_spec, divisor = replace(input_spec, size_px=tried_px), 1
    outputs = run(tried_px)
    name = _choose_output(file, outputs, input_spec, classes, output)
    scores, channels_last = _channels_first(outputs[name], input_spec)
    fit, least = _fit(file, tried_px, scores.shape[2:])
    activation, reason = _choose_activation(file, name, scores, activation)
    graph = OnnxGraph(
        input=input_spec,
        output=name,
        output_channels_last=channels_last,
        activation=activation,
        fit=fit,
        least=least,
        sums_to_one=activation == "none" and _sums_to_one(scores),
        bytes_a_pixel=bytes_a_pixel,
        data_files=tuple(data_file.name for data_file in file.data_files),
    )
    graph = replace(graph, notes=tuple(_notes(file, graph, outputs, resized_px, reason)))
    best_px = input_spec.size_px or max(size_px // divisor, 1) * divisor
    return Trial(graph, divisor, best_px, scores.shape[1])


def _checked_memory(file: OnnxFile, input_spec: OnnxInput, bands: int, size_px: int) -> int:
    """Return the bytes per pixel of the window; ModelError if one window does not fit in this machine's memory."""
    needed = layer_bytes(file, inferred_shapes(file, input_spec, bands, size_px))
    free = available_memory_bytes()
    if needed is not None and needed > free:
        raise ModelError(
            f"{file.path} needs about {size_text(needed)} of memory for a window of {size_px} px, but only "
            f"{size_text(free)} are free{'' if input_spec.size_px else '; give a smaller `window`'}",
            None if input_spec.size_px else "window",
        )
    count = input_spec.batch or 1
    return BYTES_A_PIXEL if needed is None else max(16, round(needed / count / size_px**2))


class _SizeRefused(Exception):  # noqa: N818 - a size that does not fit is not an error
    """The network does not accept a window of this size."""


@dataclass(frozen=True, slots=True)
class _Runner:
    """Runs the network on one window of noise and returns every output by name."""

    file: OnnxFile
    input_spec: OnnxInput
    bands: int
    session: onnxruntime.InferenceSession

    def try_size(self, size_px: int) -> dict[str, NDArray[Any]]:
        """Return the outputs; _SizeRefused if the network does not accept the size."""
        names = [value.name for value in self.session.get_outputs()]
        try:
            values = self.session.run(names, {self.input_spec.name: noise(self.input_spec, self.bands, size_px)})
        except Exception as fault:  # noqa: BLE001 - its errors have no common base class
            raise _SizeRefused(reason_of(fault)) from None
        return {name: value for name, value in zip(names, values, strict=True) if isinstance(value, np.ndarray)}

    def __call__(self, size_px: int) -> dict[str, NDArray[Any]]:
        """Return the outputs; ModelError if the network does not accept the size."""
        try:
            return self.try_size(size_px)
        except _SizeRefused as fault:
            raise ModelError(f"{self.file.path} cannot be run on a window of {size_px} px: {fault}") from None


_UNSUPPORTED = re.compile(r"Type Error|opset|IR version|find an implementation", re.IGNORECASE)
"""Matches errors about a type, or a version of ONNX, that ONNX Runtime does not support."""


def _open_runner(file: OnnxFile, input_spec: OnnxInput, bands: int) -> _Runner:
    try:
        scores, threads = hidden_scores(file), available_cores()
        session = open_session(file.path, file.data_files, output=scores, threads=threads, optimized=False)
    except SessionFault as fault:
        older = ", in float32 (network.float()) and with an older opset (opset_version=17)"
        raise ModelError(
            f"{file.path} cannot be loaded by ONNX Runtime: {fault}; export it again"
            f"{older if _UNSUPPORTED.search(str(fault)) else ''}"
        ) from None
    return _Runner(file, input_spec, bands, session)


def noise(input_spec: OnnxInput, bands: int, size_px: int) -> NDArray[Any]:
    """Return windows of noise for the network's input: normal with mean 0 and deviation 1, or integers 0 to 255."""
    random = np.random.default_rng(0)
    shape = input_spec.shape(bands, size_px)
    if input_spec.dtype.startswith("float"):
        return random.normal(0, 1, shape).astype(input_spec.dtype)
    return random.integers(0, 256, shape).astype(input_spec.dtype)


def _find_divisor(file: OnnxFile, run: _Runner, window_px: int | None, resized_px: int | None) -> tuple[int, int]:
    """Return the divisor of window sizes, and the size that was tried."""
    reason = ""
    for step in _STEPS:
        odd = max(_TRIAL_PX // step // 2 * 2 + 1, 3)  # an odd multiple: no larger step divides it, nor is it the step
        try:
            relations = [_relations(run.try_size(size_px), size_px) for size_px in (odd * step, (odd + 2) * step)]
            if relations[0] and relations[0] == relations[1]:
                even_px = (odd + 1) * step
                # a network that needs a larger step drops the remainder, which looks like a margin at odd multiples
                has_margin = any(fit == "cropped" for fit, _ in relations[0].values())
                if not has_margin or _relations(run.try_size(even_px), even_px) == relations[0]:
                    return step, odd * step
        except _SizeRefused as fault:
            reason = str(fault)
    size_px = _only_size(file, run, window_px, resized_px)
    if size_px is not None:
        return size_px, size_px
    raise ModelError(
        f"{file.path} takes no window of {', '.join(map(str, _USUAL_SIZES_PX))} px, nor one near {_TRIAL_PX}; give the "
        "size that it was exported for as `window`, or export it with an input of that size"
        f"{reason and f' ({reason})'}",
        "window",
    )


def _only_size(file: OnnxFile, run: _Runner, window_px: int | None, resized_px: int | None) -> int | None:
    """Return the only size that a network accepts: the one with an equally large output, else any that runs, or None.

    Such a network may also run at other sizes, but then its output has the size for which it was exported. That size is
    tried too if no usual one fits well, unless a window is requested, or the network resizes every window to
    `resized_px`.
    """
    fitting_px = coarse_px = None
    output_sides: set[int] = set()
    first_px = window_px or resized_px or _USUAL_SIZES_PX[0]
    for size_px in dict.fromkeys((first_px, *_USUAL_SIZES_PX)):
        try:
            _checked_memory(file, run.input_spec, run.bands, size_px)
        except ModelError:
            if size_px == first_px:
                raise
            continue  # nobody asked for this size
        with contextlib.suppress(_SizeRefused):
            outputs = run.try_size(size_px)
            relations = set(_relations(outputs, size_px).values())
            fits = {fit for fit, _ in relations}
            if "same" in fits or (fits and window_px is None and size_px == resized_px):
                return size_px
            if not any(values.ndim in {3, 4} and _sides(values) for values in outputs.values()):
                raise ModelError(f"{file.path} {_NO_SCORES}; it gives {_outputs_text(outputs)}")
            output_sides.update(*map(_sides, outputs.values()))
            if fits == {"cropped"} and _is_resized(file, run, outputs, size_px):
                continue  # what looks like margins would be a shift of most pixels
            if size_px == first_px or min((ratio for _, ratio in relations), default=0) <= _USUAL_RATIO:
                fitting_px = fitting_px or (size_px if fits or size_px == window_px else None)
            coarse_px = coarse_px or (size_px if fits else None)
    if fitting_px is None and window_px is None and resized_px is None:
        fitting_px = _size_of_output(file, run, output_sides)
    return fitting_px or coarse_px


def _size_of_output(file: OnnxFile, run: _Runner, output_sides: set[int]) -> int | None:
    """Return the least edge of an output that is also the edge of a window with an equally large output, or None."""
    for size_px in sorted(side for side in output_sides if side <= max(_USUAL_SIZES_PX)):
        with contextlib.suppress(ModelError, _SizeRefused):
            _checked_memory(file, run.input_spec, run.bands, size_px)
            if ("same", 1) in _relations(run.try_size(size_px), size_px).values():
                return size_px
    return None


def _is_resized(file: OnnxFile, run: _Runner, outputs: dict[str, NDArray[Any]], size_px: int) -> bool:
    """Return whether a window of twice the size gives outputs of the same size: they show it all, without margins."""
    with contextlib.suppress(ModelError, _SizeRefused):
        _checked_memory(file, run.input_spec, run.bands, 2 * size_px)
        larger = run.try_size(2 * size_px)
        return all(larger[name].shape == values.shape for name, values in outputs.items() if name in larger)
    return False


def _sides(values: NDArray[Any]) -> set[int]:
    """Return the edges that an output may have, if it has equally many rows and columns."""
    pairs = (values.shape[1:3], values.shape[-2:])
    return {sides[0] for sides in pairs if len(sides) == 2 and sides[0] == sides[1] > 1}


def _relations(outputs: dict[str, NDArray[Any]], window_px: int) -> dict[str, tuple[Fit, int]]:
    """Return how each output relates to a window, if it does; windows of free size cannot be "aligned"."""
    relations: dict[str, tuple[Fit, int]] = {}
    for name, values in outputs.items():
        for sides in (values.shape[1:3], values.shape[-2:]):
            relation = _relation(window_px, sides) if values.ndim in {3, 4} else None
            if relation is not None and relation[0] != "aligned":
                relations[name] = relation
    return relations


def _choose_output(
    file: OnnxFile, outputs: dict[str, NDArray[Any]], input_spec: OnnxInput, classes: int | None, requested: str | None
) -> str:
    """Return the name of the output with the scores; ModelError if there are no candidates or several."""
    if requested is not None:
        if requested not in outputs:
            raise ModelError(
                f"{file.path} has no output {requested!r:.60}; it gives {_outputs_text(outputs)}", "network_output"
            )
        return requested
    if (hidden := hidden_scores(file)) is not None:
        raise AmbiguousOutputError.of(
            file.path,
            "one class code per pixel; geoseg needs class scores: take those before the argmax with "
            f"`network_output={one_line(hidden, 60)!r}`, or export the network without its argmax",
        )
    _check_not_of_objects(file, [values.shape for values in outputs.values()], classes)
    candidates = _candidates(file, outputs, input_spec, classes)
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise ModelError(f"{file.path} {_NO_SCORES}; it gives {_outputs_text(outputs)}")
    raise AmbiguousOutputError.of(
        file.path, f"several outputs; name the one with the scores as `network_output`: {_outputs_text(outputs)}"
    )


def _check_not_of_objects(file: OnnxFile, shapes: list[tuple[int, ...]], classes: int | None) -> None:
    """Raise ModelError for a network that gives classes (n, object, class) and masks (n, object, row, col)."""
    tables = [shape for shape in shapes if len(shape) == 3]
    for _, count, *sides in (shape for shape in shapes if len(shape) == 4):
        if count > 1 and count != classes and any(table[1] == count and table[2] not in sides for table in tables):
            raise ModelError(
                f"{file.path} gives a mask and classes for each of {numbered(count, 'object')}, as Mask2Former does; "
                "geoseg needs class scores per pixel: export it with the output torch.einsum('nqc,nqhw->nchw', "
                "classes.softmax(-1)[..., :-1], masks.sigmoid()), or name the class scores as `network_output`"
            )


def _candidates(
    file: OnnxFile, outputs: dict[str, NDArray[Any]], input_spec: OnnxInput, classes: int | None
) -> list[str]:
    """Return the outputs that may be the scores: of several with the same classes the finest, no auxiliary ones."""
    names = [name for name, values in outputs.items() if values.dtype.kind == "f" and _is_map(values, input_spec)]
    names = [name for name in names if not is_of_best_class(file, name)] or names
    channels = {name: _channels_first(outputs[name], input_spec)[0].shape[1] for name in names}
    if classes is not None and len(names) > 1:
        names = [name for name in names if channels[name] == classes or (channels[name] == 1 and classes == 2)]
        if not names:
            raise UsageError(
                f"no output of {file.path} has {classes} classes, as the `legend` does; it gives "
                f"{_outputs_text(outputs)}; give a `legend` that fits one of them",
                "legend",
            )
    if classes is not None or len(set(channels.values())) == 1:
        largest = max((outputs[name].size for name in names), default=0)
        names = [name for name in names if outputs[name].size == largest]
        names = [name for name in names if not _AUXILIARY.search(name)] or names
    return names


_NO_SCORES = "gives no class scores, floats with the axes (n, class, row, col)"


def _outputs_text(outputs: dict[str, NDArray[Any]]) -> str:
    """Describe outputs in words."""
    first = list(outputs.items())[:8]
    return ", ".join(f"{one_line(name, 40)} {values.dtype} {values.shape}" for name, values in first)


def _is_map(values: NDArray[Any], input_spec: OnnxInput) -> bool:
    """Return whether an output has axes for windows, rows and columns; a single class may have no axis."""
    return values.ndim == 4 or (values.ndim == 3 and len(values) == (input_spec.batch or 1))


def _channels_first(values: NDArray[Any], input_spec: OnnxInput) -> tuple[NDArray[Any], bool]:
    """Return scores as (n, class, row, col), and whether classes were the last axis."""
    if values.ndim == 3:
        return values[:, None], False
    may_be_first, may_be_last = values.shape[2] == values.shape[3], values.shape[1] == values.shape[2]
    channels_last = may_be_last and (not may_be_first or input_spec.channels_last)
    return (values.transpose(0, 3, 1, 2), True) if channels_last else (values, False)


def _relation(window_px: int, sides: tuple[int, ...]) -> tuple[Fit, int] | None:
    """Return how an output with these sides relates to a window; None if it does not."""
    if len(sides) != 2 or sides[0] != sides[1] or sides[0] < 1:
        return None
    side = sides[0]
    if side >= window_px:
        ratio = side // window_px
        is_multiple = side % window_px == 0 and ratio <= _LARGEST_OUTPUT
        return ("same" if ratio == 1 else "larger", ratio) if is_multiple else None
    ratio = round(window_px / side)
    if -(-window_px // ratio) == side and window_px % ratio == 0 and ratio <= _LARGEST_RATIO:
        return "strided", ratio
    if side > 1 and (window_px - 1) % (side - 1) == 0 and (window_px - 1) // (side - 1) <= _LARGEST_RATIO:
        return "aligned", (window_px - 1) // (side - 1)
    if 2 * side > window_px and (window_px - side) % 2 == 0:
        return "cropped", window_px - side
    return None


def _fit(file: OnnxFile, window_px: int, sides: tuple[int, ...]) -> tuple[Fit, int]:
    relation = _relation(window_px, sides)
    if relation is None:
        raise ModelError(
            f"{file.path} gives {sides[0]} x {sides[1]} pixels for a window of {window_px} x {window_px}; geoseg needs "
            "as many, a whole fraction of them, or all except a margin that is equal on all sides"
        )
    return relation


def _choose_activation(
    file: OnnxFile, output: str, scores: NDArray[Any], requested: Activation | None
) -> tuple[Activation, str | None]:
    """Return the activation to apply to the scores, and a line that explains why, unless it was requested."""
    values = scores.astype(np.float64)
    if not np.isfinite(values).all():
        raise ModelError(f"{file.path} gives NaN or infinite values for an ordinary window; export the network again")
    operator = last_operator(file, output)
    if operator == "ArgMax":
        raise ModelError(f"{file.path} gives {scores.dtype}, {CODES_NOT_SCORES}")
    if requested is not None:
        return requested, None
    low, high = float(values.min()), float(values.max())
    evidence = f"{low:.3g} to {high:.3g}" + (f", its last operator is {one_line(operator, 30)}" if operator else "")
    in_range = low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE
    deviation = float(np.abs(values.sum(axis=1) - 1).max())
    is_shared_out = scores.shape[1] > 1 and deviation <= _SUM_TOLERANCE  # a layer after a softmax may merge classes
    if not in_range or (operator in {"Conv", "ConvTranspose", "Gemm", "MatMul"} and not is_shared_out):
        kind: Activation = "sigmoid" if scores.shape[1] == 1 else "softmax"
        return kind, f"it gives logits ({evidence}): geoseg takes their {kind}"
    if scores.shape[1] == 1:
        return "none", f"it gives the probability of one class ({evidence})"
    if is_shared_out:
        return "none", f"it gives probabilities ({evidence})"
    separate = f"it gives a probability for each class separately ({evidence}, sums off by {deviation:.2g})"
    return "none", f"{separate}: geoseg divides them by their sum"


def _sums_to_one(scores: NDArray[Any]) -> bool:
    """Return whether every pixel's probabilities sum to one, like a softmax, and need no division by their sum."""
    deviation = np.abs(scores.sum(axis=1, dtype=np.float64) - 1).max()
    return scores.shape[1] > 1 and float(scores.min()) >= 0 and float(deviation) <= _ROUNDING


def _notes(
    file: OnnxFile, graph: OnnxGraph, outputs: dict[str, NDArray[Any]], resized_px: int | None, reason: str | None
) -> Iterator[str]:
    """Yield the notes on a network; `reason` is the one for its activation."""
    if resized_px is not None:
        yield f"it resizes every window to {resized_px} x {resized_px} px"
    others = ", ".join(one_line(name, 30) for name in outputs if name != graph.output)
    if graph.output == hidden_scores(file):
        yield f"it gives class codes; geoseg uses the scores before its argmax, {one_line(graph.output, 60)}"
    elif others:
        yield f"geoseg uses its output {one_line(graph.output, 30)}, not {others:.200}"
    if reason is not None:
        yield reason
    if graph.input.channels_last or graph.output_channels_last:
        axes = {False: "(n, channel, row, col)", True: "(n, row, col, channel)"}
        yield f"its input has the axes {axes[graph.input.channels_last]}, its output {axes[graph.output_channels_last]}"
    match graph.fit:
        case "strided" | "aligned":
            yield f"its output has one pixel for {graph.least} x {graph.least} of the window: geoseg interpolates it"
        case "cropped":
            yield f"its output lacks {graph.margin_px} px on each side of the window"
        case "larger":
            yield f"its output has {graph.least} x {graph.least} pixels for one of the window: geoseg averages them"
