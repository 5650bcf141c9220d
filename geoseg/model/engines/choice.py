"""Which engine runs a model here, chosen once and said in words; opened wherever the work is done."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from geoseg.errors import GeosegError, GeosegWarning, ModelError, UsageError, numbered
from geoseg.machine import in_every_fork, size_text
from geoseg.model.bundle import FUNCTION, PLAIN_UNET_CHANNELS, ModelBundle, Scale, check_window, may_have_one_size
from geoseg.model.engines.callable_engine import CallableEngine
from geoseg.model.engines.device import choose_devices, choose_runtime_devices
from geoseg.model.engines.engine import Engine, OutOfMemory
from geoseg.model.engines.exported import discard_export, find_export, make_export, takes_any_window
from geoseg.model.onnx_files import OnnxGraph
from geoseg.progress import Says


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """A model, a window and a device; picklable, so that each worker opens its own engine."""

    bundle: ModelBundle
    window_px: int
    device: str
    """onnx, onnx-cuda:N, torch-cpu, mps, cuda:N, or function where the model is one."""
    scale: Scale | None = None
    """(low, high) stored values that the model's value range is stretched over."""
    threads: int = 1
    """CPU threads within one batch."""
    onnx_path: Path | None = None
    """Shipped or exported; None means it is still to be exported."""
    hardware: str = "the CPU"
    precision: str = "float32"
    others: tuple[EngineChoice, ...] = ()
    """The same model on further devices, which share the work of a scene."""
    libraries: str = ""
    """What else computes there, with its version: cuDNN 9.10.2."""
    total_bytes: int = 0
    """The device's own memory; 0 where it shares the machine's."""
    any_window: bool = False
    """One network takes windows of every size that suits it. False where it is still to be exported."""

    @property
    def on_cpu(self) -> bool:
        """Return whether scoring takes the same cores that read and write."""
        return self.device in {"onnx", "torch-cpu", FUNCTION}

    @property
    def same_in_any_batch(self) -> bool:
        """Return whether the cores give a window the same bits whatever is scored with it: torch's sums do not."""
        return self.device in {"onnx", FUNCTION}

    @property
    def each(self) -> tuple[EngineChoice, ...]:
        """The choice for each of the devices, which shares the work with no other."""
        return (replace(self, others=()), *self.others)

    def with_threads(self, threads: int) -> EngineChoice:
        """Return the same choice with another number of CPU threads within one batch.

        A GPU's batch has no use of them, and its network is loaded once whatever their number.
        """
        return replace(self, threads=threads) if self.on_cpu else self

    def with_window(self, window_px: int) -> EngineChoice:
        """Return the same choice for windows of another size, where one network takes any."""
        others = tuple(replace(other, window_px=window_px) for other in self.others)
        return replace(self, window_px=window_px, others=others)

    def open(self) -> Engine:
        """Return this process's engine; opened at the first call."""
        return open_engine(self)

    def describe(self) -> str:
        """Return the engine in words: ONNX Runtime 1.31 on the CPU, 2 threads; torch 2.13 on 2 x CUDA: A, fp16."""
        if self.device == FUNCTION:
            return "Python, one batch at a time"
        package, title = ("onnxruntime", "ONNX Runtime") if self.device.startswith("onnx") else ("torch", "torch")
        version = ".".join(_version(package).split(".")[:2])
        how = numbered(self.threads, "thread") if self.on_cpu else self.precision
        kinds = dict.fromkeys(each.hardware for each in self.each)
        where = f"{len(self.each)} x {' and '.join(kinds)}" if self.others else self.hardware
        return f"{title} {version} on {where}, {how}"

    def describe_kind(self) -> str:
        """Return all of the engine that can change a label: its name, versions, kind of device and precision.

        A GPU is named: another model of it may compute in another order.
        """
        if self.device == FUNCTION:
            return FUNCTION
        package = "onnxruntime" if self.device.startswith("onnx") else "torch"
        kind = "cpu" if self.on_cpu else " and ".join(dict.fromkeys(each.hardware for each in self.each))
        words = (package, _version(package), kind, self.libraries, self.precision)
        return " ".join(word for word in words if word)

    def memory_bytes(self, batch: int) -> int:
        """Return an estimate of the main memory of one batch, weights aside; on a GPU only what is sent there."""
        pixels = batch * self.window_px**2
        if not self.on_cpu:
            return pixels * 4 * (len(self.bundle.bands) + len(self.bundle.output_codes))
        return batch * window_bytes(self.bundle, self.window_px, torch=self.device == "torch-cpu")

    def device_bytes(self, batch: int) -> int:
        """Return an estimate of a GPU's memory for a network and batches of so many windows; 0 elsewhere.

        Beside the batch in work two wait to be added up: pixels as the network sees them, and probabilities.
        """
        if not self.total_bytes:
            return 0
        layers = window_bytes(self.bundle, self.window_px, torch=True) // (1 if self.precision == "float32" else 2)
        waiting = 2 * 4 * self.window_px**2 * (len(self.bundle.bands) + len(self.bundle.output_codes))
        networks = _NETWORKS * self.bundle.weights_bytes
        return _CUDA_BYTES + networks + batch * (layers + waiting)

    def free_bytes(self) -> int:
        """Return how much of a GPU's memory is free now; 0 elsewhere."""
        if not self.total_bytes:
            return 0
        import torch  # noqa: PLC0415 - the CPU path never imports torch

        free, _ = torch.cuda.mem_get_info(torch.device(self.device))
        return int(free)


_CUDA_BYTES = 900 << 20
"""What CUDA takes for itself (0.5 GB) and cuDNN to work in; not measured."""
_NETWORKS = 3
"""Weights lie there in float32 and in half precision; a file may hold them in half."""


@cache
def _version(package: str) -> str:
    """Return the version of a package; ONNX Runtime for GPUs is one of its own, of the same name when imported."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(importlib.import_module(package).__version__)


def choose_engine(  # noqa: PLR0913 - two of them are for callers with something to say or to save
    bundle: ModelBundle,
    device: str = "auto",
    *,
    window_px: int | None = None,
    scale: Scale | None = None,
    threads: int = 1,
    report: Says | None = None,
    export: bool = True,
) -> EngineChoice:
    """Choose CUDA before MPS before ONNX Runtime on the CPU, or what `device` says.

    For ONNX Runtime the network is exported now if it never was, and `report` hears of it first; with export=False when
    first opened. A network that cannot be exported now runs in torch on the CPU, with a GeosegWarning. UsageError for a
    device that is not here, a window the network cannot take (the nearest ones are named) and an empty scale.
    """
    window_px = bundle.window_px if window_px is None else window_px
    check_window(window_px, bundle.divisor)
    _check_takes(bundle, window_px)
    bundle.normalization.gain_bias(scale)
    if threads < 1:
        raise UsageError(f"`threads` must be at least 1, got {threads}", "threads")
    if bundle.function is not None:
        if device != "auto":
            raise UsageError(f"a function chooses its device itself; leave `device` out, got {device!r:.40}", "device")
        return EngineChoice(bundle, window_px, FUNCTION, scale, threads)
    if bundle.graph is not None:
        return _foreign(bundle, device, window_px, scale, threads)
    first, *others = choose_devices(device)
    choice = EngineChoice(bundle, window_px, first, scale, threads)
    if choice.device != "onnx":
        sizeless = replace(choice, any_window=not may_have_one_size(bundle.arguments))
        return _with_others(_with_hardware(sizeless), others)
    path = find_export(bundle, window_px)
    if path is None and export:
        return _exported(choice, report or _say_nothing)
    return choice if path is None else _with_file(choice, path)


def _with_file(choice: EngineChoice, path: Path) -> EngineChoice:
    """Return a choice that runs an exported file."""
    return replace(choice, onnx_path=path, any_window=takes_any_window(path, choice.bundle))


def _foreign(bundle: ModelBundle, device: str, window_px: int, scale: Scale | None, threads: int) -> EngineChoice:
    """Return how the network in an ONNX file is run: by ONNX Runtime, on the CPU or where it can on NVIDIA's GPUs."""
    each = [
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
    return replace(each[0], others=tuple(each[1:]))


def takes_window(bundle: ModelBundle, window_px: int) -> bool:
    """Return whether a network takes windows of a size, a multiple of its divisor: some of timm's know but one."""
    try:
        _check_takes(bundle, window_px)
    except UsageError:
        return False
    return True


def _check_takes(bundle: ModelBundle, window_px: int) -> None:
    if bundle.graph is not None:
        if bundle.graph.input.size_px not in {None, window_px}:
            raise UsageError(
                f"{bundle.name} takes windows of {bundle.graph.input.size_px} px only, got `window={window_px}`",
                "window",
            )
        return
    if window_px != bundle.window_px and may_have_one_size(bundle.arguments):
        from geoseg.model.network import check_takes  # noqa: PLC0415 - the CPU path never imports torch

        check_takes(bundle.architecture, bundle.arguments, window_px)


def open_engine(choice: EngineChoice) -> Engine:
    """Return the engine of a choice; one for each choice and process, whatever the window where it takes any.

    ModelError if it cannot be opened: what was chosen is what runs, on every machine. GeosegError where the memory of
    its device does not hold the network.
    """
    key = replace(choice, window_px=0) if choice.any_window else choice
    with _opening:
        if key not in _open:
            try:
                made = _make(choice)
            except OutOfMemory:
                raise _no_room(choice) from None
            while len(_open) >= _MAX_OPEN:
                del _open[next(iter(_open))]  # the oldest; whoever still uses it keeps it alive
            _open[key] = made
        return _open[key]


def _no_room(choice: EngineChoice) -> GeosegError:
    """Return what is raised where somebody else has the memory that a network needs."""
    needed = size_text(choice.device_bytes(1) or choice.bundle.weights_bytes)
    return GeosegError(
        f"the memory of {choice.hardware} has no room for the network of {choice.bundle.name}, which takes about "
        f"{needed} with one window; end what else uses it, or choose another `device`",
        "device",
    )


_MAX_OPEN = 4
_open: dict[EngineChoice, Engine] = {}
_opening = threading.Lock()


def _forget_engines() -> None:
    """Leave the parent's engines alone in a fork: to use or to destroy one waits for threads that only it has."""
    global _opening  # noqa: PLW0603 - another thread of the parent may hold the lock
    _opening = threading.Lock()
    kept = dict(_open)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))  # forever: Python destroys what it can when it ends
    _open.clear()


in_every_fork(_forget_engines)


def _make(choice: EngineChoice) -> Engine:
    if choice.device == FUNCTION:
        return CallableEngine(choice.bundle, choice.window_px, choice.scale)
    if choice.bundle.graph is not None:
        return _foreign_engine(choice, choice.bundle.graph)
    if choice.device != "onnx":
        return _torch_engine(choice)
    try:
        return _chosen_onnx_engine(choice)
    except ModelError as fault:  # the map says ONNX Runtime, and other workers may have it: torch would be a lie
        raise ModelError(
            f"{fault}; ONNX Runtime was chosen beforehand: choose torch with `device='torch-cpu'`"
        ) from None


def _chosen_onnx_engine(choice: EngineChoice) -> Engine:
    path = choice.onnx_path
    if path is None or not path.is_file():  # another machine's cache, or not exported yet
        path = find_export(choice.bundle, choice.window_px) or _export_now(choice)
    try:
        return _onnx_engine(choice, path)
    except ModelError:
        discard_export(path)
        return _onnx_engine(choice, _export_now(choice))


def _export_now(choice: EngineChoice) -> Path:
    return make_export(choice.bundle, choice.window_px, _say_nothing)


def _exported(choice: EngineChoice, report: Says) -> EngineChoice:
    try:
        return _with_file(choice, make_export(choice.bundle, choice.window_px, report))
    except ModelError as fault:
        warnings.warn(f"{fault}; continuing with torch on the CPU, which is slower", GeosegWarning, stacklevel=3)
        return replace(choice, device="torch-cpu", onnx_path=None)


def _onnx_engine(choice: EngineChoice, path: Path) -> Engine:
    from geoseg.model.engines.onnx_engine import OnnxEngine  # noqa: PLC0415 - a GPU needs no ONNX Runtime

    window_px = None if takes_any_window(path, choice.bundle) else choice.window_px
    return OnnxEngine(path, choice.bundle, window_px, choice.scale, choice.threads)


def _foreign_engine(choice: EngineChoice, graph: OnnxGraph) -> Engine:
    from geoseg.model.engines.onnx_engine import ForeignEngine  # noqa: PLC0415 - as above

    cuda = int(choice.device.partition(":")[2]) if choice.device != "onnx" else None
    return ForeignEngine(choice.bundle, graph, choice.window_px, choice.scale, choice.threads, cuda)


def _torch_engine(choice: EngineChoice) -> Engine:
    from geoseg.model.engines.torch_engine import TorchEngine  # noqa: PLC0415 - the CPU path never imports torch

    return TorchEngine(choice.bundle, choice.device, choice.scale, choice.threads)


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
    """Return a choice whose work further devices share; UsageError for one of another precision: labels would mix."""
    others = tuple(_with_hardware(replace(choice, device=device)) for device in devices)
    for other in others:
        if other.precision != choice.precision:
            raise UsageError(
                f"{choice.device} ({choice.hardware}) computes in {choice.precision}, {other.device} "
                f"({other.hardware}) in {other.precision}; give `device` GPUs of one kind",
                "device",
            )
    return replace(choice, others=others)


def _say_nothing(line: str) -> None:
    """Take a line for the user when nobody listens."""


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
"""What one more window of 256 x 256 in a batch added to resident memory in ONNX Runtime 1.31, and a fifth more.

Measured bytes a pixel: DeepLabV3+ and MobileNetV3-small 312, DeepLabV3 and ResNet18 235, U-Net and
MobileNetV3-small 405, U-Net and ResNet34 171, FPN and MobileNetV2 437, U-Net++ and ResNet18 832, SegFormer and
MiT-B0 895, SegNet and VGG11 1096.
DPT and UPerNet are guesses.
"""
_PLAIN_UNET = (200, 36)
"""Bytes a pixel of a plain U-Net, and for each of its channels; measured 640 with 16, 2023 with 64; a fifth more."""
_TORCH_TIMES = 2
"""torch keeps every layer of a step alive that ONNX Runtime merges."""


def window_bytes(bundle: ModelBundle, window_px: int, *, torch: bool) -> int:
    """Return the bytes that one window takes: input, probabilities, the layers alive at once; weights aside."""
    ends = 4 * (len(bundle.bands) + 1 + 2 * len(bundle.output_codes))
    return window_px**2 * (ends + _layer_bytes(bundle) * (_TORCH_TIMES if torch else 1))


def _layer_bytes(bundle: ModelBundle) -> int:
    if bundle.graph is not None:
        return bundle.graph.bytes_a_pixel
    if bundle.architecture == "PlainUnet":
        least, each = _PLAIN_UNET
        return int(least + each * bundle.arguments.get("channels", PLAIN_UNET_CHANNELS))
    return _BYTES_A_PIXEL.get(bundle.architecture, _BYTES_A_PIXEL_ELSEWHERE)
