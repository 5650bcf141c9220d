"""Moving pixels to a device and results back: copies that overlap with the work, and marks to wait for.

A GPU has three queues: copies to it, computation, and copies back. The thread that queues work waits for none of them.
A mark in one queue can hold up another queue, or the thread that needs the results before the mark. On a CPU everything
is done at once, and every mark is passed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray


class Mark(Protocol):
    """A place in a queue."""

    def wait(self) -> None:
        """Block this thread until the device has passed the mark."""

    def is_passed(self) -> bool:
        """Return whether the device has passed the mark."""


class _Passed:
    def wait(self) -> None:
        """Return at once."""

    def is_passed(self) -> bool:
        return True


PASSED = _Passed()
"""A mark that is always passed."""


class HostStreams:
    """A device that uses host memory, or has no queues of its own."""

    def chosen(self) -> contextlib.AbstractContextManager[Any]:
        """Do nothing: there is only one device."""
        return contextlib.nullcontext()

    def shared(self, *tensors: torch.Tensor) -> None:
        """Do nothing: no copy overlaps with the work."""

    def send(self, arrays: Sequence[NDArray[Any]], places: Sequence[torch.Tensor], after: Mark) -> Mark:
        """Copy at once."""
        after.wait()
        for array, place in zip(arrays, places, strict=True):
            place.copy_(torch.from_numpy(array))
        return PASSED

    def fetch(self, tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], Mark]:
        """Return the tensors, or copies of those that are not in host memory."""
        return [tensor.cpu() for tensor in tensors], PASSED

    def mark(self) -> Mark:
        """Return a passed mark: everything is done already."""
        return PASSED

    def hold(self, mark: Mark) -> None:
        """Wait for the mark."""
        mark.wait()

    def host_array(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return ordinary memory."""
        return np.empty(shape, dtype)


class CudaStreams:
    """A GPU's three queues: computation on the thread's own stream, and one stream each for copies in and out.

    Used by one thread, except for the marks.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._in = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._out = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def chosen(self) -> contextlib.AbstractContextManager[Any]:
        """Make the GPU this thread's current one."""
        return torch.cuda.device(self._device)

    def shared(self, *tensors: torch.Tensor) -> None:
        """Keep the memory of tensors that copies use until the copies are done, even if the tensors are dropped."""
        for tensor in tensors:
            tensor.record_stream(self._in)

    def send(self, arrays: Sequence[NDArray[Any]], places: Sequence[torch.Tensor], after: Mark) -> Mark:
        """Copy host arrays once computation has passed `after`; memory that is not pinned is pinned first."""
        if isinstance(after, _Event):
            self._in.wait_event(after.event)
        with torch.cuda.stream(self._in):
            for array, place in zip(arrays, places, strict=True):
                for source, target in zip(*_in_pieces(torch.from_numpy(array), place), strict=True):
                    target.copy_(source if source.is_pinned() else source.pin_memory(), non_blocking=True)
        return _Event(self._in)

    def fetch(self, tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], Mark]:
        """Copy to pinned memory, which torch reuses once it is no longer referenced; complete after the mark."""
        self._out.wait_stream(torch.cuda.current_stream(self._device))
        copies = []
        with torch.cuda.stream(self._out):
            for tensor in tensors:
                copies.append(torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True))
                copies[-1].copy_(tensor, non_blocking=True)
                tensor.record_stream(self._out)
        return copies, _Event(self._out)

    def mark(self) -> Mark:
        """Return an event after all work queued on the thread's stream so far."""
        return _Event(torch.cuda.current_stream(self._device))

    def hold(self, mark: Mark) -> None:
        """Make the thread's stream wait for an event; no thread waits."""
        if isinstance(mark, _Event):
            torch.cuda.current_stream(self._device).wait_event(mark.event)

    def host_array(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return uninitialized pinned memory."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        array: NDArray[Any] = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy().view(dtype).reshape(shape)
        return array


class _Event:
    """A CUDA event as a mark, after everything queued on a stream so far."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        # without blocking, a thread that waits keeps a core busy
        self.event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        stream.record_event(self.event)

    def wait(self) -> None:
        """Wait with the GIL released."""
        self.event.synchronize()

    def is_passed(self) -> bool:
        return bool(self.event.query())  # type: ignore[no-untyped-call]


Streams: TypeAlias = HostStreams | CudaStreams
"""The queues of one device."""


def streams_of(device: torch.device) -> Streams:
    """Return the queues of a device."""
    return CudaStreams(device) if device.type == "cuda" else HostStreams()


def _in_pieces(source: torch.Tensor, target: torch.Tensor) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
    """Return a copy's parts that are contiguous at both ends: band by band, if each band is.

    Otherwise torch would copy through a buffer of its own, and wait.
    """
    if source.is_contiguous() and target.is_contiguous():
        return [source], [target]
    if source.ndim > 2:
        return list(source.unbind()), list(target.unbind())
    return [source.contiguous()], [target]
