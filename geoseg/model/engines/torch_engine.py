"""Probabilities from torch, on CUDA, MPS or the CPU; at the network's own pixel size if a scene's is finer."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import math
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from geoseg.errors import ModelError, warn
from geoseg.machine import in_every_fork
from geoseg.model.bundle import ModelBundle, Normalization, Scale, may_have_one_size
from geoseg.model.engines.engine import UPRIGHT, Course, Sweep, Turn, Weights, device_faults
from geoseg.model.engines.network_input import fill_gaps, filled
from geoseg.model.engines.streams import Streams, streams_of
from geoseg.model.engines.torch_sweep import Batch, TorchSweep
from geoseg.model.network import fold_batch_norm, halve_weights, load_network, use_threads
from geoseg.raster import Window

_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""One lock per GPU: it scores one batch at a time, so that only one needs memory. The CPU needs no lock."""


in_every_fork(_locks.clear)
_EXAMPLE_PX = 64
"""Least edge of the window that is used to trace a network's layers; quick even on a CPU."""
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class DevicePixels:
    """A footprint on the device, in its compact stored dtype."""

    data: torch.Tensor
    """(band, row, col), stored dtype; uint16 as int16 with the same bits."""
    valid: torch.Tensor
    """(row, col) bool."""
    unsigned: bool
    """Whether the int16 values hold the bits of uint16."""


class TorchEngine:
    """A network on one device. ModelError if the bundle's weights do not fit its architecture.

    In float32, batch normalization is folded into the convolutions. In half precision it is not: folded weights and
    biases would be rounded again, which changed four times as many labels. It would not save time either, since cuDNN
    adds a bias in a separate pass.

    In half precision (fp16), a window whose scores overflow is scored again in float32, alone: a window's result does
    not depend on its neighbors in the batch.
    """

    xp: ModuleType = torch

    def __init__(
        self, bundle: ModelBundle, device: str, scale: Scale | None, threads: int, *, precision: str | None = None
    ) -> None:
        self._set_up(torch.device("cpu" if device == "torch-cpu" else device), bundle.normalization, scale, precision)
        self.classes = len(bundle.output_codes)
        self._temperature = bundle.temperature
        if self._device.type == "cpu":
            use_threads(threads)
        if self._device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # every batch has one size
            torch.backends.cudnn.allow_tf32 = False  # float32 here is meant to be exact
        network = load_network(bundle)
        example = _example(network, bundle)
        folded = network if example is None else fold_batch_norm(network, example)[0]
        with device_faults(self.device):
            self._halve(network, example)
            self._network = self._moved(folded)

    def _set_up(
        self, device: torch.device, normalization: Normalization, scale: Scale | None, precision: str | None = None
    ) -> None:
        """Set the device, the precision, and the normalization of pixels."""
        self._device = device
        self.device = device_name(device)
        self.precision = precision or device_precision(device)
        self._scale = scale
        gain, bias = (torch.from_numpy(values)[:, None, None] for values in normalization.gain_bias(scale))
        self._gain, self._bias = gain.to(device), bias.to(device)
        self._layout = torch.contiguous_format if device.type == "mps" else torch.channels_last
        self._means: Means | None = None
        self._half: torch.nn.Module | None = None
        """The network with weights in half precision, so that they are not cast for every batch."""

    def upload(self, data: NDArray[Any], valid: NDArray[np.bool_]) -> DevicePixels:
        """Copy stored pixels (band, row, col) and valid (row, col) to the device; OutOfMemory if too many."""
        stored, unsigned = self.stored(data)
        with device_faults(self.device):
            return DevicePixels(self.placed(stored), self.placed(valid), unsigned)

    def probabilities(
        self, footprint: DevicePixels, windows: Sequence[Window], weights: Weights, turn: Turn = UPRIGHT
    ) -> torch.Tensor:
        """Return float32 (n, class, row, col), times the weights, on the device; OutOfMemory if too many."""
        # no_grad, not inference_mode: the caller may modify the result, also in place
        with torch.no_grad(), device_faults(self.device):
            stored = torch.stack([footprint.data[:, window.rows, window.cols] for window in windows])
            valid = torch.stack([footprint.valid[None, window.rows, window.cols] for window in windows])
            rows, cols = (self.placed(axis) for axis in (weights.rows, weights.cols))
            with self._turn():
                has_gaps = not bool(valid.all())
                image = self._normalized(Batch(stored, valid, rows, cols, footprint.unsigned, has_gaps))
            result, _ = self._turned(image, turn, rows, cols, wait=True)
            return result

    def averaging(self, window_px: int, network_px: int) -> Self:
        """Return an engine with the same networks that averages its windows first; see `Means`."""
        engine = copy.copy(self)
        with device_faults(self.device):
            engine._means = Means(window_px, network_px, self._device)  # noqa: SLF001 - of the same class
        return engine

    def begin(self, course: Course, turns: Sequence[Turn] = (UPRIGHT,)) -> Sweep:
        """Start a sweep of a course that scores every window in each of the turns; see `SweepingEngine`."""
        return TorchSweep(self, course, turns, self._streams())

    def host_array(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return host memory that the device copies from quickly; see `SweepingEngine`."""
        with device_faults(self.device):
            return self._streams().host_array(shape, dtype)

    def placed(self, array: NDArray[Any]) -> torch.Tensor:
        """Return an array on the device."""
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)

    def stored(self, data: NDArray[Any]) -> tuple[NDArray[Any], bool]:
        """Return pixels in a dtype that torch computes with, and whether they are uint16 bits in int16."""
        if data.dtype == np.uint16:  # torch has uint16 but few operations for it
            return data.view(np.int16), True
        if data.dtype.itemsize > 4 or data.dtype == np.uint32:
            return data.astype(np.float32), False
        return data, False

    def mean_of_turns(
        self, batch: Batch, turns: Sequence[Turn], *, wait: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the mean of weighted probabilities (n, class, row, col) over some turns of the windows.

        In half precision, also return which windows did not overflow (n,). Without `wait`, nothing here waits for the
        device; with it, windows that overflowed are scored again.
        """
        image = self._normalized(batch)
        total: torch.Tensor | None = None
        all_finite: torch.Tensor | None = None
        for turn in turns:
            rows, cols = batch.row_weights, batch.col_weights
            rows, cols = (cols, rows) if turn.transpose else (rows, cols)
            rows, cols = rows.flip(1) if turn.flip_rows else rows, cols.flip(1) if turn.flip_cols else cols
            turned, finite = self._turned(image, turn, rows, cols, wait=wait)
            upright = turn.undone(turned, torch)
            total = upright if total is None else total + upright
            all_finite = finite if all_finite is None or finite is None else all_finite & finite
        if total is None:
            raise ValueError("a window has one turn at least")
        return total / len(turns) if len(turns) > 1 else total, all_finite

    def _turned(
        self, image: torch.Tensor, turn: Turn, rows: torch.Tensor, cols: torch.Tensor, *, wait: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the weighted probabilities of turned windows, still turned; see `mean_of_turns`."""
        with self._turn():
            turned = turn.of_pixels(image, torch)
            logits, finite = self.logits(turned)
        if wait and finite is not None and not bool(finite.all()):  # this waits for the device
            with self._turn():
                logits = self._in_float32(turned, logits, finite)
        with self._turn():
            return self._weighted(logits, rows, cols), finite

    def _normalized(self, batch: Batch) -> torch.Tensor:
        """Return windows (n, band, row, col) as the network's input."""
        batch = batch if self._means is None else self._means.of(batch)
        stored = batch.stored.int() & 0xFFFF if batch.unsigned else batch.stored
        image, has_value = stored.float(), batch.valid
        if self._scale is not None:
            image = image.clamp(*self._scale)
        if batch.has_gaps:
            image, has_value = self._filled(image, has_value)
        return torch.where(has_value, image * self._gain + self._bias, 0.0)

    def _filled(self, image: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return windows with gaps filled, and which pixels hold a value; on a CPU, window by window."""
        if self._device.type != "cpu":
            return filled(image, valid, torch)
        image = image.contiguous().clone()
        has_value = [fill_gaps(window, mask) for window, mask in zip(image.numpy(), valid[:, 0].numpy(), strict=True)]
        return image, torch.from_numpy(np.stack(has_value)[:, None])

    def logits(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the logits (n, class, row, col), and in half precision which windows are finite (n,).

        Does not wait for the device.
        """
        image = image.contiguous(memory_format=self._layout)
        dtype = _DTYPES.get(self.precision)
        if dtype is None:
            return self._checked(self._network(image), image), None
        with torch.autocast(self._device.type, dtype):
            logits = self._checked((self._half or self._network)(image), image)
        return logits, torch.isfinite(logits).flatten(1).all(dim=1)

    def _in_float32(self, image: torch.Tensor, logits: torch.Tensor, finite: torch.Tensor) -> torch.Tensor:
        """Return the logits with windows that are not finite recomputed in float32.

        These fill a batch of the same size, so that each gets the same result as in any other batch.
        """
        _warn_of_overflow(self.device)
        lost = torch.nonzero(~finite).flatten()
        places = lost[torch.arange(len(image), device=lost.device).clamp_(max=len(lost) - 1)]
        again = self._network(image[places].contiguous(memory_format=self._layout))
        logits = logits.float()
        logits[lost] = again[: len(lost)]
        return logits

    def _weighted(self, logits: torch.Tensor, rows: torch.Tensor, cols: torch.Tensor) -> torch.Tensor:
        """Return probabilities (n, class, row, col) times the weights (n, row) and (n, col), float32."""
        # class by class in memory: even with the copy, half the time of a softmax over adjacent values
        scores = logits.float().contiguous() / self._temperature
        probabilities = torch.softmax(scores, dim=1)
        if self._means is not None:
            probabilities = self._means.interpolated(probabilities)
        return probabilities.mul_(rows[:, None, :, None] * cols[:, None, None, :])

    def zeros(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a float32 tensor of zeros on the device; OutOfMemory if it does not fit."""
        with device_faults(self.device):
            return torch.zeros(shape, dtype=torch.float32, device=self._device)

    def download(self, array: torch.Tensor) -> NDArray[Any]:
        """Return a tensor as a numpy array; OutOfMemory or ModelError if the device has failed since."""
        with device_faults(self.device):
            values: NDArray[Any] = array.cpu().numpy()
            return values

    def _streams(self) -> Streams:
        return streams_of(self._device)

    def _turn(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if self._device.type == "cpu" else _locks[str(self._device)]

    def _checked(self, logits: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        if logits.shape[2:] != image.shape[2:]:
            raise ModelError(
                f"the network gives {tuple(logits.shape[2:])} for windows of {image.shape[2]} px; try another `window`"
            )
        return logits

    def _halve(self, network: torch.nn.Module, example: torch.Tensor | None) -> None:
        """Make the copy of the network with weights in half precision, if the engine uses it."""
        dtype = _DTYPES.get(self.precision)
        if dtype is None:
            return
        halved = copy.deepcopy(network)
        if example is not None:
            halve_weights(halved, example, dtype)
        self._half = self._moved(halved)

    def _moved(self, network: torch.nn.Module) -> torch.nn.Module:
        return network.to(self._device).to(memory_format=self._layout)


def device_name(device: torch.device) -> str:
    """Return a device's human-readable name."""
    if device.type == "cuda":
        return f"CUDA: {torch.cuda.get_device_name(device)}"
    return {"cpu": "the CPU", "mps": "MPS: the Apple GPU"}[device.type]


def device_precision(device: torch.device) -> str:
    """Return fp16 if a GPU computes it at twice the rate, or else float32.

    bf16 is as fast, but has three binary digits fewer: it changed up to 1 % of the labels of real imagery.
    """
    half = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)
    return "fp16" if half else "float32"


@functools.cache
def _warn_of_overflow(device: str) -> None:
    """Warn once: a network that overflows everywhere is several times slower."""
    message = f"some scores are beyond half precision on {device}; those windows are scored in float32, which is slower"
    warn(message)


def _example(network: torch.nn.Module, bundle: ModelBundle) -> torch.Tensor | None:
    """Return a small window of noise (1, band, row, col) that the network accepts, or None.

    Some timm networks take only one size, and some decoders shrink a small window to nothing.
    """
    small = min(-(-_EXAMPLE_PX // bundle.divisor) * bundle.divisor, bundle.window_px)
    sizes = {bundle.window_px} if may_have_one_size(bundle.arguments) else {small, bundle.window_px}
    random = torch.Generator().manual_seed(0)
    for side in sorted(sizes):
        example = torch.randn(1, len(bundle.bands), side, side, generator=random)
        with contextlib.suppress(RuntimeError, ValueError, AssertionError), torch.no_grad():
            network(example)
            return example
    return None


class Means:
    """Averages windows of `window_px` a side to `network_px` a side for the network.

    An averaged pixel is the mean of the valid part of the ground that it covers; invalid if no part is valid.
    """

    def __init__(self, window_px: int, network_px: int, device: torch.device) -> None:
        self._window_px = window_px
        places, shares = _taps(window_px, network_px)
        self._places = [torch.from_numpy(place).to(device) for place in places]
        self._shares = [torch.from_numpy(share).to(device) for share in shares]

    def of(self, batch: Batch) -> Batch:
        """Return the averaged windows; the weights remain those of the original windows."""
        stored = batch.stored.int() & 0xFFFF if batch.unsigned else batch.stored
        area = self._sums(batch.valid.float())
        sums = self._sums(torch.where(batch.valid, stored.float(), 0.0))
        means = torch.where(area > 0, sums / area, 0.0)
        return replace(batch, stored=means, valid=area > 0, unsigned=False)

    def interpolated(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Return probabilities (n, class, row, col) of all pixels, bilinear between centers of averaged pixels."""
        side = self._window_px
        return functional.interpolate(probabilities, (side, side), mode="bilinear", align_corners=False)

    def _sums(self, values: torch.Tensor) -> torch.Tensor:
        """Return sums (n, band, row, col) over the ground of each averaged pixel, added in pixel order."""
        for axis, across in ((2, (-1, 1)), (3, (-1,))):
            taps = [
                values.index_select(axis, place) * share.view(across)
                for place, share in zip(self._places, self._shares, strict=True)
            ]
            values = functools.reduce(torch.add, taps)
        return values


def _taps(window_px: int, network_px: int) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float32]]]:
    """Return the first, second, ... pixel of an axis that each averaged pixel covers, and the share covered."""
    edges = [index * window_px / network_px for index in range(network_px + 1)]
    spans = [(int(top), min(math.ceil(bottom), window_px)) for top, bottom in itertools.pairwise(edges)]
    most = max(stop - start for start, stop in spans)
    places = np.zeros((most, network_px), np.int64)
    shares = np.zeros((most, network_px), np.float32)
    for index, (start, stop) in enumerate(spans):
        for tap, pixel in enumerate(range(start, stop)):
            places[tap, index] = pixel
            shares[tap, index] = min(pixel + 1.0, edges[index + 1]) - max(float(pixel), edges[index])
    return list(places), list(shares)
