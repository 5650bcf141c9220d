"""Which devices are here, asked without importing torch."""

from __future__ import annotations

import ctypes
import importlib.metadata
import platform
import sys
import warnings

from geoseg.errors import GeosegWarning, UsageError

DEVICES = ("auto", "cpu", "cuda", "mps", "onnx", "torch-cpu")
"""What a user may ask for, and cuda:0, cuda:1, ...; onnx is another name of cpu."""


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
                f"device mps needs an Apple silicon Mac, this is {platform.system()} {platform.machine()}; use cpu"
            )
        return wanted
    if kind == "cuda" and (wanted == "cuda" or (number.isascii() and number.isdigit())):
        return _cuda_device(int(number or 0))
    raise UsageError(f"device must be one of {', '.join(DEVICES)} or cuda:0, cuda:1, ..., got {wanted!r:.40}")


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
        if _torch_has_cuda():
            return "cuda:0"
        version = importlib.metadata.version("torch")
        warnings.warn(
            f"there is an NVIDIA GPU, but torch {version} cannot use it; going on with the CPU", GeosegWarning, 3
        )
    return "mps" if has_mps() else "onnx"


def _cuda_device(number: int) -> str:
    count = cuda_devices()
    if number >= count:
        found = f"the NVIDIA driver offers {count}, counted from 0" if count else "no NVIDIA GPU or driver was found"
        raise UsageError(f"device cuda:{number} is not here: {found}; use --device cpu")
    if not _torch_has_cuda():
        version = importlib.metadata.version("torch")
        raise UsageError(f"torch {version} cannot use the GPU; install a torch built for CUDA, or use --device cpu")
    return f"cuda:{number}"


def _torch_has_cuda() -> bool:
    import torch  # noqa: PLC0415 (only where there is a GPU)

    return torch.cuda.is_available()
