"""The choice of an engine for a model, made once and described in words; opened wherever the work is done."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from geoseg.errors import GeosegError, ModelError, UsageError, numbered, warn
from geoseg.machine import in_every_fork, size_text
from geoseg.model.bundle import (
    FUNCTION,
    PLAIN_UNET_CHANNELS,
    ModelBundle,
    Scale,
    check_window,
    may_have_one_size,
    read_header,
)
from geoseg.model.engines.callable_engine import CallableEngine
from geoseg.model.engines.device import choose_devices, choose_runtime_devices
from geoseg.model.engines.engine import Engine, OutOfMemory
from geoseg.model.engines.exported import accepts_any_window, discard_export, find_export, make_export
from geoseg.model.onnx_files import OnnxGraph
from geoseg.progress import Announce


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """A model, a window and a device; picklable, so that each worker opens its own engine."""

    bundle: ModelBundle
    window_px: int
    device: str
    """onnx, onnx-cuda:N, torch-cpu, mps, cuda:N, or function if the model is one."""
    scale: Scale | None = None
    """(low, high): the range of stored values that is stretched to the model's value range."""
    threads: int = 1
    """CPU threads within one batch."""
    onnx_path: Path | None = None
    """The ONNX file, shipped or exported; None if it is yet to be exported."""
    hardware: str = "the CPU"
    precision: str = "float32"
    others: tuple[EngineChoice, ...] = ()
    """The same model on further devices that share the work of a scene."""
    libraries: str = ""
    """Further libraries that compute on the device, with version: cuDNN 9.10.2."""
    total_bytes: int = 0
    """The device's own memory; 0 if it shares the machine's."""
    any_window: bool = False
    """Whether one network takes windows of any suitable size. False if it is yet to be exported."""

    @property
    def on_cpu(self) -> bool:
        """Return whether scoring uses the same cores as reading and writing."""
        return self.device in {"onnx", "torch-cpu", FUNCTION}

    @property
    def same_in_any_batch(self) -> bool:
        """Return whether a window's result is bit-identical in any batch; not so for torch's sums."""
        return self.device in {"onnx", FUNCTION}

    @property
    def each(self) -> tuple[EngineChoice, ...]:
        """One choice per device, each without the others."""
        return (replace(self, others=()), *self.others)

    def with_threads(self, threads: int) -> EngineChoice:
        """Return the same choice with another number of CPU threads within one batch.

        Unchanged for a GPU, which does not use them and whose network is loaded only once.
        """
        return replace(self, threads=threads) if self.on_cpu else self

    def with_window(self, window_px: int) -> EngineChoice:
        """Return the same choice for windows of another size, for a network that takes any."""
        others = tuple(replace(choice, window_px=window_px) for choice in self.others)
        return replace(self, window_px=window_px, others=others)

    def open(self) -> Engine:
        """Return this process's engine; the first call opens it."""
        return open_engine(self)

    def describe(self) -> str:
        """Describe the engine: ONNX Runtime 1.31 on the CPU, 2 threads; torch 2.13 on 2 x CUDA: A, fp16."""
        if self.device == FUNCTION:
            return "Python, one batch at a time"
        package, title = ("onnxruntime", "ONNX Runtime") if self.device.startswith("onnx") else ("torch", "torch")
        version = ".".join(_version(package).split(".")[:2])
        detail = numbered(self.threads, "thread") if self.on_cpu else self.precision
        kinds = dict.fromkeys(choice.hardware for choice in self.each)
        place = f"{len(self.each)} x {' and '.join(kinds)}" if self.others else self.hardware
        return f"{title} {version} on {place}, {detail}"

    def describe_kind(self) -> str:
        """Return everything about the engine that can change a label: name, versions, kind of device, precision.

        Includes the model of a GPU, since another model may compute in another order.
        """
        if self.device == FUNCTION:
            return FUNCTION
        package = "onnxruntime" if self.device.startswith("onnx") else "torch"
        kind = "cpu" if self.on_cpu else " and ".join(dict.fromkeys(choice.hardware for choice in self.each))
        words = (package, _version(package), kind, self.libraries, self.precision)
        return " ".join(word for word in words if word)

    def memory_bytes(self, batch: int) -> int:
        """Estimate the main memory of one batch, without weights; for a GPU, only its input and output."""
        pixels = batch * self.window_px**2
        if not self.on_cpu:
            return pixels * 4 * (len(self.bundle.bands) + len(self.bundle.output_codes))
        return batch * window_bytes(self.bundle, self.window_px, torch=self.device == "torch-cpu")

    @property
    def network_bytes(self) -> int:
        """Estimate the main memory of the network itself, however many threads run it; 0 if a GPU does."""
        if self.device == "torch-cpu":
            return TORCH_BYTES + _LOADED_TIMES * _float32_bytes(self.bundle)
        if self.device != "onnx":
            return 0
        stored, computed = self.bundle.weights_bytes, _float32_bytes(self.bundle)
        return round(_SESSION_TIMES * computed) + (stored if stored < computed else 0)

    def device_bytes(self, batch: int) -> int:
        """Estimate a GPU's memory for a network and batches of `batch` windows; 0 without a GPU.

        Besides the current batch, two wait to be summed: their normalized pixels and their probabilities.
        """
        if not self.total_bytes:
            return 0
        layers = window_bytes(self.bundle, self.window_px, torch=True) // (1 if self.precision == "float32" else 2)
        waiting = 2 * 4 * self.window_px**2 * (len(self.bundle.bands) + len(self.bundle.output_codes))
        networks = _NETWORKS * self.bundle.weights_bytes
        return _CUDA_BYTES + networks + batch * (layers + waiting)

    def free_bytes(self) -> int:
        """Return how much of a GPU's memory is free now; 0 without a GPU."""
        if not self.total_bytes:
            return 0
        import torch  # noqa: PLC0415 - the CPU path never imports torch

        free, _ = torch.cuda.mem_get_info(torch.device(self.device))
        return int(free)


_SESSION_TIMES = 3.3
"""Memory of a session relative to its weights in float32, plus a tenth: U-Net with ResNet34 took 2.9 times its 98 MB,
U-Net++ and DeepLabV3+ with ResNet18 2.8 and 3.1 times. Those in half precision are kept too: the same U-Net in half
precision took 337 MB."""
TORCH_BYTES = 900 << 20
"""Main memory of torch and of the libraries that build its networks; measured with torch 2.15."""
_LOADED_TIMES = 2
"""Memory of torch's network relative to its weights in float32: those of the file exist while they are loaded."""
_CUDA_BYTES = 900 << 20
"""Memory of CUDA itself (0.5 GB) and of cuDNN's workspace; not measured."""
_NETWORKS = 3
"""Size on the GPU relative to a file in half precision: the weights are there in float32 and in half precision."""


def _float32_bytes(bundle: ModelBundle) -> int:
    """Return the size of the weights in float32, in which a CPU computes, whatever the file's precision."""
    if bundle.graph is not None:
        is_half = bundle.graph.input.dtype == "float16"
    else:
        is_half = _is_half(bundle.weights_path, bundle.weights_hash)
    return bundle.weights_bytes * (2 if is_half else 1)


@cache
def _is_half(weights: Path, _hash: str) -> bool:
    """Return whether most weights of a bundle are in half precision."""
    tensors = read_header(weights).tensors
    return 2 * sum(tensor.size for tensor in tensors if "F16" in tensor.dtype) > sum(tensor.size for tensor in tensors)


@cache
def _version(package: str) -> str:
    """Return the version of a package; ONNX Runtime for GPUs is a separate package with the same import name."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(importlib.import_module(package).__version__)


def choose_engine(  # noqa: PLR0913 - two of them serve only some callers
    bundle: ModelBundle,
    device: str = "auto",
    *,
    window_px: int | None = None,
    scale: Scale | None = None,
    threads: int = 1,
    announce: Announce | None = None,
    export: bool = True,
) -> EngineChoice:
    """Choose CUDA before MPS before ONNX Runtime on the CPU, or the engine that `device` names.

    For ONNX Runtime, a network without an export is exported now, after a call of `announce`; with export=False, when
    first opened. A network that cannot be exported runs in torch on the CPU, with a GeosegWarning. UsageError for an
    unavailable device, a window that the network cannot take (the nearest ones are named), and an empty scale.
    """
    window_px = bundle.window_px if window_px is None else window_px
    check_accepts_window(bundle, window_px)
    bundle.normalization.gain_bias(scale)
    if threads < 1:
        raise UsageError(f"`threads` must be at least 1, got {threads}", "threads")
    if bundle.function is not None:
        if device != "auto":
            raise UsageError(f"a function chooses its device itself; leave `device` out, got {device!r:.40}", "device")
        return EngineChoice(bundle, window_px, FUNCTION, scale, threads)
    if bundle.graph is not None:
        return _choose_for_graph(bundle, device, window_px, scale, threads)
    first, *others = choose_devices(device)
    choice = EngineChoice(bundle, window_px, first, scale, threads)
    if choice.device != "onnx":
        sizeless = replace(choice, any_window=not may_have_one_size(bundle.arguments))
        return _with_others(_with_hardware(sizeless), others)
    path = find_export(bundle, window_px)
    if path is None and export:
        return _exported(choice, announce or _ignore_line)
    return choice if path is None else _with_file(choice, path)


def _with_file(choice: EngineChoice, path: Path) -> EngineChoice:
    """Return the choice with an exported file."""
    return replace(choice, onnx_path=path, any_window=accepts_any_window(path, choice.bundle))


def _choose_for_graph(
    bundle: ModelBundle, device: str, window_px: int, scale: Scale | None, threads: int
) -> EngineChoice:
    """Return the choice for a network in an ONNX file: ONNX Runtime on the CPU, or on NVIDIA GPUs if possible."""
    choices = [
        EngineChoice(
            bundle,
            window_px,
            name,
            scale,
            threads if name == "onnx" else 1,
            bundle.weights_path,
            "the CPU" if name == "onnx" else f"CUDA device {name.partition(':')[2]}",
        )
        for name in choose_runtime_devices(device)
    ]
    return replace(choices[0], others=tuple(choices[1:]))


def accepts_window(bundle: ModelBundle, window_px: int) -> bool:
    """Return whether a network takes windows of a size."""
    try:
        check_accepts_window(bundle, window_px)
    except UsageError:
        return False
    return True


def check_accepts_window(bundle: ModelBundle, window_px: int) -> None:
    """Raise UsageError for a window that a network cannot take: some, of timm or in ONNX files, take only one size."""
    check_window(window_px, bundle.divisor)
    if bundle.graph is not None:
        bundle.graph.check_window(bundle.name, window_px)
        return
    may_refuse = window_px != bundle.window_px and may_have_one_size(bundle.arguments)
    if may_refuse and find_export(bundle, window_px) is None:
        from geoseg.model.network import check_network_accepts  # noqa: PLC0415 - the CPU path never imports torch

        check_network_accepts(bundle.architecture, bundle.arguments, window_px)


def open_engine(choice: EngineChoice) -> Engine:
    """Return the engine of a choice: one per choice and process, or one for all windows if it takes any.

    ModelError if it cannot be opened, since every machine must run the engine chosen. GeosegError if the network does
    not fit in the memory of its device.
    """
    key = replace(choice, window_px=0) if choice.any_window else choice
    with _opening:
        if key not in _open:
            try:
                engine = _make(choice)
            except OutOfMemory:
                raise _out_of_memory_error(choice) from None
            while len(_open) >= _MAX_OPEN:
                del _open[next(iter(_open))]  # the oldest; its users keep it alive
            _open[key] = engine
        return _open[key]


def _out_of_memory_error(choice: EngineChoice) -> GeosegError:
    """Return the error for a device whose memory is taken by other programs."""
    needed = size_text(choice.device_bytes(1) or choice.bundle.weights_bytes)
    return GeosegError(
        f"the memory of {choice.hardware} has no room for the network of {choice.bundle.name}, which needs about "
        f"{needed} with one window; close other programs that use it, or choose another `device`",
        "device",
    )


_MAX_OPEN = 4
_open: dict[EngineChoice, Engine] = {}
_opening = threading.Lock()


def _forget_engines() -> None:
    """Leave the parent's engines untouched in a fork: using or destroying one waits for threads of the parent."""
    global _opening  # noqa: PLW0603 - another thread of the parent may hold the lock
    _opening = threading.Lock()
    inherited = dict(_open)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))  # kept forever: otherwise Python destroys it at exit
    _open.clear()


in_every_fork(_forget_engines)


def _make(choice: EngineChoice) -> Engine:
    if choice.device == FUNCTION:
        return CallableEngine(choice.bundle, choice.window_px, choice.scale)
    if choice.bundle.graph is not None:
        return _foreign_engine(choice, choice.bundle.graph)
    if choice.device != "onnx":
        from geoseg.model.engines.torch_engine import TorchEngine  # noqa: PLC0415 - the CPU path never imports torch

        return TorchEngine(choice.bundle, choice.device, choice.scale, choice.threads)
    try:
        return _chosen_onnx_engine(choice)
    except ModelError as fault:  # no fallback to torch: the map says ONNX Runtime, and other workers may have it
        raise ModelError(
            f"{fault}; the run was planned for ONNX Runtime: choose torch with `device='torch-cpu'`"
        ) from None


def _chosen_onnx_engine(choice: EngineChoice) -> Engine:
    path = choice.onnx_path
    if path is None or not path.is_file():  # in another machine's cache, or not exported yet
        path = find_export(choice.bundle, choice.window_px) or _export_now(choice)
    try:
        return _onnx_engine(choice, path)
    except ModelError:
        discard_export(path)
        return _onnx_engine(choice, _export_now(choice))


def _export_now(choice: EngineChoice) -> Path:
    return make_export(choice.bundle, choice.window_px, _ignore_line)


def _exported(choice: EngineChoice, announce: Announce) -> EngineChoice:
    try:
        return _with_file(choice, make_export(choice.bundle, choice.window_px, announce))
    except ModelError as fault:
        warn(f"{fault}; continuing with torch on the CPU, which is slower")
        return replace(choice, device="torch-cpu", onnx_path=None)


def _onnx_engine(choice: EngineChoice, path: Path) -> Engine:
    from geoseg.model.engines.onnx_engine import OnnxEngine  # noqa: PLC0415 - a GPU needs no ONNX Runtime

    window_px = None if accepts_any_window(path, choice.bundle) else choice.window_px
    return OnnxEngine(path, choice.bundle, window_px, choice.scale, choice.threads)


def _foreign_engine(choice: EngineChoice, graph: OnnxGraph) -> Engine:
    from geoseg.model.engines.onnx_engine import ForeignEngine  # noqa: PLC0415 - as above

    cuda = int(choice.device.partition(":")[2]) if choice.device != "onnx" else None
    return ForeignEngine(choice.bundle, graph, choice.window_px, choice.scale, choice.threads, cuda)


def _with_hardware(choice: EngineChoice) -> EngineChoice:
    if choice.device == "torch-cpu":
        return choice
    import torch  # noqa: PLC0415 - the CPU path never imports torch

    from geoseg.model.engines.torch_engine import device_name, device_precision  # noqa: PLC0415 - as above

    device = torch.device(choice.device)
    cudnn = torch.backends.cudnn.version() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
    return replace(
        choice,
        hardware=device_name(device),
        precision=device_precision(device),
        libraries="" if cudnn is None else f"cuDNN {cudnn}",
        total_bytes=torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0,
    )


def _with_others(choice: EngineChoice, devices: Sequence[str]) -> EngineChoice:
    """Return the choice with further devices; UsageError if their precisions differ, since labels would be mixed."""
    others = tuple(_with_hardware(replace(choice, device=device)) for device in devices)
    for other in others:
        if other.precision != choice.precision:
            raise UsageError(
                f"{choice.device} ({choice.hardware}) computes in {choice.precision}, {other.device} "
                f"({other.hardware}) in {other.precision}; give `device` GPUs of one kind",
                "device",
            )
    return replace(choice, others=others)


def _ignore_line(line: str) -> None:
    """Ignore a line for the user."""


_BYTES_A_PIXEL = {
    "UnetPlusPlus": 1000,
    "Segformer": 1100,
    "UPerNet": 1100,
    "DPT": 2000,
    "DeepLabV3": 400,
    "DeepLabV3Plus": 400,
    "SegNet": 1320,
}
_BYTES_A_PIXEL_ELSEWHERE = 550
"""Resident memory that one more window of 256 x 256 in a batch takes in ONNX Runtime 1.31, plus a fifth.

Measured bytes per pixel: DeepLabV3+ with MobileNetV3-small 312, DeepLabV3 with ResNet18 235, U-Net with
MobileNetV3-small 405, U-Net with ResNet34 171, FPN with MobileNetV2 437, U-Net++ with ResNet18 832, SegFormer with
MiT-B0 895, SegNet with VGG11 1096.
DPT and UPerNet are guesses.
"""
_PLAIN_UNET = (200, 36)
"""Bytes per pixel of a plain U-Net: a base, and more per channel. Measured 640 with 16, 2023 with 64, plus a fifth."""
_TORCH_TIMES = 2
"""torch keeps layers in memory that ONNX Runtime fuses."""


def window_bytes(bundle: ModelBundle, window_px: int, *, torch: bool) -> int:
    """Return the bytes that one window takes: input, probabilities, and layers alive at once, without weights."""
    ends = 4 * (len(bundle.bands) + 1 + 2 * len(bundle.output_codes))
    return window_px**2 * (ends + _layer_bytes(bundle) * (_TORCH_TIMES if torch else 1))


def _layer_bytes(bundle: ModelBundle) -> int:
    if bundle.graph is not None:
        return bundle.graph.bytes_a_pixel
    if bundle.architecture == "PlainUnet":
        least, per_channel = _PLAIN_UNET
        return int(least + per_channel * bundle.arguments.get("channels", PLAIN_UNET_CHANNELS))
    return _BYTES_A_PIXEL.get(bundle.architecture, _BYTES_A_PIXEL_ELSEWHERE)
