"""Probabilities from torch, on CUDA, MPS or the CPU."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.machine import in_every_fork
from geoseg.model.bundle import ModelBundle, Scale, one_line
from geoseg.model.engines.engine import OutOfMemory, Weights
from geoseg.model.network import load_network, use_threads
from geoseg.raster import Window

_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""One for each GPU: one batch at a time, so that its memory is one batch's. On the CPU nothing need wait."""
in_every_fork(_locks.clear)
SHORT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""One of these is in what torch says then."""


@dataclass(frozen=True, slots=True)
class DevicePixels:
    """A footprint on the device, one byte or few a value."""

    data: torch.Tensor
    """(band, row, col), stored dtype; uint16 as int16 with the same bits."""
    valid: torch.Tensor
    """(row, col) bool."""
    unsigned: bool
    """The int16 values are uint16's bits."""


class TorchEngine:
    """A network on one device. Raises ModelError if the bundle's weights do not fit its architecture."""

    name = "torch"
    xp: ModuleType = torch

    def __init__(self, bundle: ModelBundle, device: str, scale: Scale | None, threads: int) -> None:
        self._device = torch.device("cpu" if device == "torch-cpu" else device)
        self.classes = len(bundle.output_codes)
        self.device = device_name(self._device)
        self.precision = device_precision(self._device)
        self._scale = scale
        self._temperature = bundle.temperature
        gain, bias = (torch.from_numpy(values)[:, None, None] for values in bundle.normalization.gain_bias(scale))
        self._gain, self._bias = gain.to(self._device), bias.to(self._device)
        if self._device.type == "cpu":
            use_threads(threads)
        if self._device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # every batch but the last has one size
        with _memory_faults(self._device):
            network = load_network(bundle).to(self._device)
            self._layout = torch.contiguous_format if self._device.type == "mps" else torch.channels_last
            self._network = network.to(memory_format=self._layout)

    def upload(self, data: NDArray[Any], valid: NDArray[np.bool_]) -> DevicePixels:
        """Bring pixels (band, row, col) as stored, and valid (row, col), to the device; OutOfMemory if too many."""
        unsigned = data.dtype == np.uint16
        if unsigned:  # torch knows uint16 but can do little with it
            data = data.view(np.int16)
        elif data.dtype.itemsize > 4 or data.dtype == np.uint32:
            data = data.astype(np.float32)
        with _memory_faults(self._device):
            return DevicePixels(self._to_device(data), self._to_device(valid), unsigned)

    def probabilities(self, footprint: DevicePixels, windows: Sequence[Window], weights: Weights) -> torch.Tensor:
        """Return float32 (n, class, row, col), times the weights, on the device; OutOfMemory if they are too many."""
        # no_grad, not inference_mode: the caller may go on computing with what it gets, in place too
        with self._turn(), torch.no_grad(), _memory_faults(self._device):
            image = self._cut(footprint, windows)
            logits = self._logits(image)
            if logits.shape[2:] != image.shape[2:]:
                raise ModelError(
                    f"the network gives {tuple(logits.shape[2:])} for windows of {image.shape[2]}; try another `window`"
                )
            # class by class in memory: half the time of a softmax over neighbors, the copy included
            scores = logits.float().contiguous() / self._temperature
            probabilities = torch.softmax(scores, dim=1)
            rows, cols = (self._to_device(axis) for axis in (weights.rows, weights.cols))
            return probabilities.mul_(rows[:, None, :, None] * cols[:, None, None, :])

    def zeros(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a float32 tensor of zeros on the device; OutOfMemory if it does not fit."""
        with _memory_faults(self._device):
            return torch.zeros(shape, dtype=torch.float32, device=self._device)

    def download(self, array: torch.Tensor) -> NDArray[Any]:
        """Return a tensor as numpy's array."""
        values: NDArray[Any] = array.cpu().numpy()
        return values

    def _turn(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if self._device.type == "cpu" else _locks[str(self._device)]

    def _logits(self, image: torch.Tensor) -> torch.Tensor:
        with self._autocast():
            logits: torch.Tensor = self._network(image)
        if self.precision == "fp16" and not bool(
            torch.isfinite(logits).all()
        ):  # beyond 65504: bf16 and float32 hold it
            logits = self._network(image)
        return logits

    def _to_device(self, array: NDArray[Any]) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)

    def _cut(self, footprint: DevicePixels, windows: Sequence[Window]) -> torch.Tensor:
        """Return the normalized windows (n, band, row, col), float32, in the network's memory layout."""
        stored = torch.stack([footprint.data[:, window.rows, window.cols] for window in windows])
        valid = torch.stack([footprint.valid[None, window.rows, window.cols] for window in windows])
        if footprint.unsigned:
            stored = stored.int() & 0xFFFF
        image = stored.float()
        if self._scale is not None:
            image = image.clamp_(*self._scale)
        image = torch.where(valid, image * self._gain + self._bias, 0.0)
        return image.contiguous(memory_format=self._layout)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        return torch.autocast(self._device.type, dtype) if dtype else contextlib.nullcontext()


def device_name(device: torch.device) -> str:
    """Return a device's name for people."""
    if device.type == "cuda":
        return f"CUDA: {torch.cuda.get_device_name(device)}"
    return {"cpu": "the CPU", "mps": "MPS: the Apple GPU"}[device.type]


def device_precision(device: torch.device) -> str:
    """Return bf16 or fp16 where a GPU computes it itself, else float32."""
    if device.type != "cuda":
        return "float32"
    if torch.cuda.get_device_capability(device) >= (8, 0):
        return "bf16"
    return "fp16" if torch.cuda.get_device_capability(device) >= (7, 0) else "float32"


@contextlib.contextmanager
def _memory_faults(device: torch.device) -> Iterator[None]:
    """Turn whatever says that memory is short into OutOfMemory, and other faults of torch into ModelError."""
    try:
        yield
    except MemoryError:
        raise OutOfMemory from None
    except (RuntimeError, AssertionError, ValueError) as fault:  # torch.OutOfMemoryError is a child of the first
        if not any(word in str(fault).lower() for word in SHORT_OF_MEMORY):
            raise ModelError(f"torch failed on {device}: {one_line(fault)}") from None
        if device.type == "cuda":
            torch.cuda.empty_cache()
        raise OutOfMemory from None
