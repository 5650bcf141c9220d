"""The devices of this machine, found without importing torch."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import platform
import re
import sys
from typing import NamedTuple

from geoseg.errors import UsageError, one_line, warn
from geoseg.model.engines.engine import is_short_of_memory

DEVICES = ("auto", "cpu", "cuda", "mps", "onnx", "torch-cpu")
"""Names that a user may give, besides cuda:0, cuda:1, ...; onnx is another name for cpu."""

_CUDA = re.compile(r"cuda(:\d{1,4})?", re.ASCII)
_OTHER_WORDS = re.compile(r"(?:gpus?|nvidia|cuda)[ :_-]?(\d{0,4})", re.ASCII | re.IGNORECASE)
"""Names for a GPU in other programs."""


class _Fault(NamedTuple):
    """Why a GPU cannot be used, and how to fix it."""

    reason: str
    remedy: str


def choose_devices(wanted: str) -> tuple[str, ...]:
    """Return the devices of a list, cuda:0,cuda:1 or cuda:all, or the one that `choose_device` returns.

    UsageError for a device that is unavailable, given twice, or not a GPU although several are given.
    """
    if wanted == "cuda:all":
        return tuple(_cuda_device(number) for number in range(max(1, cuda_devices())))
    names = [name.strip() for name in wanted.split(",")]
    if len(names) == 1:
        return (choose_device(wanted),)
    for name in names:
        if name.partition(":")[0] != "cuda" or name == "cuda:all":
            raise UsageError(
                f"`device` lists GPUs, as cuda:0,cuda:1, or names one device; got {wanted!r:.60}", "device"
            )
    chosen = tuple(map(choose_device, names))
    if len(set(chosen)) < len(chosen):
        raise UsageError(f"`device` must name each GPU once, got {wanted!r:.60}", "device")
    return chosen


def choose_device(wanted: str) -> str:
    """Return onnx, torch-cpu, mps or cuda:N. With auto, CUDA is preferred to MPS, and MPS to the CPU.

    UsageError, saying what was found, if the device is not available.
    """
    kind, _, number = wanted.partition(":")
    if wanted == "auto":
        return _best_device()
    if wanted in {"cpu", "onnx"}:
        return "onnx"
    if wanted == "torch-cpu":
        return wanted
    if wanted == "mps":
        if not has_mps():
            raise UsageError(
                f"device mps needs an Apple silicon Mac, this is {platform.system()} {platform.machine()}; "
                "use `device='cpu'`",
                "device",
            )
        return wanted
    if kind == "cuda" and (wanted == "cuda" or (number.isascii() and number.isdigit())):
        return _cuda_device(int(number or 0))
    names = ", ".join(DEVICES)
    raise UsageError(
        f"`device` must be one of {names} or cuda:0, cuda:1, ..., got {wanted!r:.40}{_suggestion(wanted)}", "device"
    )


def _suggestion(requested: str) -> str:
    """Return a question for other names of a GPU (gpu, gpu:1, cuda1, nvidia), or an empty string."""
    match = _OTHER_WORDS.fullmatch(requested)
    if match is None:
        return ""
    kind = "mps" if has_mps() else "cuda" + (f":{match[1]}" if match[1] else "")
    return f" (did you mean {kind}?)"


def choose_runtime_devices(wanted: str) -> tuple[str, ...]:
    """Return onnx, or onnx-cuda:N for each GPU, for a network that only ONNX Runtime can run.

    With auto, a GPU if ONNX Runtime can use it, or else the CPU, with a GeosegWarning if that leaves a GPU idle.
    UsageError for an unavailable device.
    """
    if wanted == "auto":
        if not cuda_devices():
            return ("onnx",)
        fault = _runtime_fault(0)
        if fault is not None:
            _warn_once(f"there is an NVIDIA GPU, but {fault}; continuing with the CPU")
        return ("onnx-cuda:0" if fault is None else "onnx",)
    if wanted in {"cpu", "onnx"}:
        return ("onnx",)
    names = [f"cuda:{number}" for number in range(max(1, cuda_devices()))]
    if wanted != "cuda:all":
        names = [name.strip() for name in wanted.split(",")]
    if len(set(names)) != len(names) or not all(_CUDA.fullmatch(name) for name in names):
        raise UsageError(
            f"the network of an ONNX file runs on cpu, cuda, cuda:N, or several GPUs; got `device={wanted:.40}`"
            f"{_suggestion(wanted)}",
            "device",
        )
    return tuple(f"onnx-{_runtime_cuda(int(name.partition(':')[2] or 0))}" for name in names)


def _runtime_cuda(number: int) -> str:
    _check_device_number(number)
    fault = _runtime_fault(number)
    if fault is not None:
        raise UsageError(f"{fault}; or use `device='cpu'`", "device")
    return f"cuda:{number}"


def _runtime_fault(number: int) -> str | None:
    from geoseg.model.onnx_files import cuda_fault  # noqa: PLC0415 - a GPU that torch uses needs no ONNX Runtime

    return cuda_fault(number)


def cuda_devices() -> int:
    """Return how many GPUs the NVIDIA driver offers this process; 0 without a driver. Respects CUDA_VISIBLE_DEVICES."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
        count = ctypes.c_int(0)
        if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
            return 0
    except (OSError, AttributeError):
        return 0
    return count.value


def has_mps() -> bool:
    """Return whether this is a Mac whose GPU torch can use."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def _best_device() -> str:
    if cuda_devices():
        fault = _cuda_fault(0)
        if fault is None:
            return "cuda:0"
        _warn_once(f"there is an NVIDIA GPU, but {fault.reason}; continuing with the CPU")
    return "mps" if has_mps() else "onnx"


def _check_device_number(number: int) -> None:
    count = cuda_devices()
    if number >= count:
        offered = f"the NVIDIA driver offers {count}, counted from 0" if count else "no NVIDIA GPU or driver was found"
        raise UsageError(f"device cuda:{number} is not available: {offered}; use `device='cpu'`", "device")


def _cuda_device(number: int) -> str:
    _check_device_number(number)
    fault = _cuda_fault(number)
    if fault is not None:
        raise UsageError(f"{fault.reason}; {fault.remedy}, or use `device='cpu'`", "device")
    return f"cuda:{number}"


def _cuda_fault(number: int) -> _Fault | None:
    """Return why torch cannot use a GPU, or None. This tries the GPU, since torch may be built for other GPUs."""
    import torch  # noqa: PLC0415 - only where there is a GPU

    cannot, install = f"torch {importlib.metadata.version('torch')} cannot use it", "install a torch built for this GPU"
    if not torch.cuda.is_available():
        return _Fault(cannot, install)
    try:
        torch.ones(1, device=f"cuda:{number}").add_(1).item()
    except RuntimeError as fault:
        if is_short_of_memory(fault):
            return _Fault(
                f"the memory of cuda:{number} is taken ({one_line(fault)})", "close other programs that use it"
            )
        return _Fault(f"{cannot} ({one_line(fault)})", install)
    return None


@functools.cache
def _warn_once(message: str) -> None:
    """Warn once, although a plan looks for devices twice."""
    warn(message)
