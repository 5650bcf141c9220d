"""How pixels come to a device and results back: copies beside the work, and marks to wait for.

A GPU has three queues: what is copied there, what is computed, what is copied back. Whoever gives it work waits for
none of them; a mark in one queue holds another up until it is passed, or the thread that needs what lies behind it. On
a CPU everything is done at once, and every mark is passed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class Mark(Protocol):
    """A place in a queue."""

    def wait(self) -> None:
        """Hold this thread up until the device has passed it."""
        ...

    def is_passed(self) -> bool:
        """Return whether the device has passed it."""
        ...


class Streams(Protocol):
    """The queues of one device; used by one thread, but for the marks."""

    def chosen(self) -> contextlib.AbstractContextManager[Any]:
        """Make the device the one that this thread's calls of torch mean."""
        ...

    def shared(self, *tensors: torch.Tensor) -> None:
        """Keep the memory of tensors that copies use until these are done, whoever forgets them."""
        ...

    def send(self, arrays: Sequence[NDArray[Any]], places: Sequence[torch.Tensor], after: Mark) -> Mark:
        """Copy arrays of this machine to tensors of the device, once computing has passed `after`."""
        ...

    def fetch(self, tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], Mark]:
        """Copy what is computed so far to this machine; the copies hold it once the mark is passed."""
        ...

    def mark(self) -> Mark:
        """Return the place behind what computing was told so far."""
        ...

    def hold(self, mark: Mark) -> None:
        """Let computing go no further before a mark is passed; no thread waits."""
        ...

    def host_array(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return memory of this machine, not filled, from which copies are quick."""
        ...


class _Passed:
    def wait(self) -> None:
        """Return at once."""

    def is_passed(self) -> bool:
        return True


PASSED = _Passed()
"""A mark that nobody need wait for."""


class HostStreams:
    """A device whose memory is this machine's, or which knows no queues of its own."""

    def chosen(self) -> contextlib.AbstractContextManager[Any]:
        """There is but one."""
        return contextlib.nullcontext()

    def shared(self, *tensors: torch.Tensor) -> None:
        """Nothing copies beside the work."""

    def send(self, arrays: Sequence[NDArray[Any]], places: Sequence[torch.Tensor], after: Mark) -> Mark:
        """Copy now."""
        after.wait()
        for array, place in zip(arrays, places, strict=True):
            place.copy_(torch.from_numpy(array))
        return PASSED

    def fetch(self, tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], Mark]:
        """Return the tensors, or copies of those that are elsewhere."""
        return [tensor.cpu() for tensor in tensors], PASSED

    def mark(self) -> Mark:
        """Everything is done already."""
        return PASSED

    def hold(self, mark: Mark) -> None:
        """Wait."""
        mark.wait()

    def host_array(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return memory like any other."""
        return np.empty(shape, dtype)


class CudaStreams:
    """A GPU's three queues: computing on the stream that is the thread's own, a stream each for copies in and out."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._in = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._out = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def chosen(self) -> contextlib.AbstractContextManager[Any]:
        """Make the GPU this thread's current one."""
        return torch.cuda.device(self._device)

    def shared(self, *tensors: torch.Tensor) -> None:
        """Tell the allocator that the stream of copies uses the tensors too."""
        for tensor in tensors:
            tensor.record_stream(self._in)

    def send(self, arrays: Sequence[NDArray[Any]], places: Sequence[torch.Tensor], after: Mark) -> Mark:
        """Copy from pinned memory; what lies elsewhere is pinned first."""
        if isinstance(after, _Event):
            self._in.wait_event(after.event)
        with torch.cuda.stream(self._in):
            for array, place in zip(arrays, places, strict=True):
                for source, target in zip(*_in_pieces(torch.from_numpy(array), place), strict=True):
                    target.copy_(source if source.is_pinned() else source.pin_memory(), non_blocking=True)
        return _Event(self._in.record_event())

    def fetch(self, tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], Mark]:
        """Copy to pinned memory, which torch uses again when nobody holds it any more."""
        self._out.wait_stream(torch.cuda.current_stream(self._device))
        copies = []
        with torch.cuda.stream(self._out):
            for tensor in tensors:
                copies.append(torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True))
                copies[-1].copy_(tensor, non_blocking=True)
                tensor.record_stream(self._out)
        return copies, _Event(self._out.record_event())

    def mark(self) -> Mark:
        """Return an event behind what the thread's stream was told so far."""
        return _Event(torch.cuda.current_stream(self._device).record_event())

    def hold(self, mark: Mark) -> None:
        """Have the thread's stream wait for an event."""
        if isinstance(mark, _Event):
            torch.cuda.current_stream(self._device).wait_event(mark.event)

    def host_array(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return pinned memory."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        array: NDArray[Any] = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy().view(dtype).reshape(shape)
        return array


class _Event:
    """A mark of CUDA."""

    def __init__(self, event: torch.cuda.Event) -> None:
        self.event = event

    def wait(self) -> None:
        """Wait with the GIL released."""
        self.event.synchronize()

    def is_passed(self) -> bool:
        return bool(self.event.query())  # type: ignore[no-untyped-call]


def streams_of(device: torch.device) -> Streams:
    """Return the queues of a device."""
    return CudaStreams(device) if device.type == "cuda" else HostStreams()


def _in_pieces(source: torch.Tensor, target: torch.Tensor) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
    """Return the parts of a copy that are whole in memory at both ends: band by band, if the bands themselves are.

    torch brings what is not through a buffer of its own, and waits.
    """
    if source.is_contiguous() and target.is_contiguous():
        return [source], [target]
    if source.ndim > 2:
        return list(source.unbind()), list(target.unbind())
    return [source.contiguous()], [target]
