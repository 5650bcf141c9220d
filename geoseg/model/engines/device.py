"""Which devices are here, asked without importing torch."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import platform
import sys
import warnings

from geoseg.errors import GeosegWarning, UsageError
from geoseg.model.bundle import one_line

DEVICES = ("auto", "cpu", "cuda", "mps", "onnx", "torch-cpu")
"""What a user may ask for, and cuda:0, cuda:1, ...; onnx is another name of cpu."""


def choose_devices(wanted: str) -> tuple[str, ...]:
    """Return the devices of a list, cuda:0,cuda:1 or cuda:all, or the one that `choose_device` returns.

    UsageError for one that is not here, is there twice, or is no GPU beside others.
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
    for device in chosen:
        if chosen.count(device) > 1:
            raise UsageError(f"`device` must name each GPU once, got {wanted!r:.60}", "device")
    return chosen


def choose_device(wanted: str) -> str:
    """Return onnx, torch-cpu, mps or cuda:N. With auto, CUDA goes before MPS before the CPU.

    UsageError, saying what was found, if the wanted device is not here.
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
    known = ", ".join(DEVICES)
    raise UsageError(f"`device` must be one of {known} or cuda:0, cuda:1, ..., got {wanted!r:.40}", "device")


def cuda_devices() -> int:
    """Return how many GPUs the NVIDIA driver offers this process; 0 without a driver. Heeds CUDA_VISIBLE_DEVICES."""
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
    """Tell whether this is a Mac whose GPU torch can use."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def _best_device() -> str:
    if cuda_devices():
        fault = _cuda_fault(0)
        if fault is None:
            return "cuda:0"
        _warn_once(f"there is an NVIDIA GPU, but {fault}; going on with the CPU")
    return "mps" if has_mps() else "onnx"


def _cuda_device(number: int) -> str:
    count = cuda_devices()
    if number >= count:
        found = f"the NVIDIA driver offers {count}, counted from 0" if count else "no NVIDIA GPU or driver was found"
        raise UsageError(f"device cuda:{number} is not here: {found}; use `device='cpu'`", "device")
    fault = _cuda_fault(number)
    if fault is not None:
        raise UsageError(f"{fault}; install a torch built for this GPU, or use `device='cpu'`", "device")
    return f"cuda:{number}"


def _cuda_fault(number: int) -> str | None:
    """Return why torch cannot use a GPU, None if it can: it is tried, for a torch may be built for other GPUs."""
    import torch  # noqa: PLC0415 (only where there is a GPU)

    cannot = f"torch {importlib.metadata.version('torch')} cannot use it"
    if not torch.cuda.is_available():
        return cannot
    try:
        torch.ones(1, device=f"cuda:{number}").add_(1).item()
    except RuntimeError as fault:
        return f"{cannot} ({one_line(fault)})"
    return None


@functools.cache
def _warn_once(message: str) -> None:
    """Warn; a plan looks for devices twice."""
    warnings.warn(message, GeosegWarning, stacklevel=4)
