"""Bytes piled up now and taken off in another order later: in memory, or on the disk where they are many."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray


class Pile:
    """A context manager; when it ends, so does the file."""

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self._folder, self._budget_bytes = folder, budget_bytes
        self._layers: list[NDArray[np.uint8]] = []
        self._file: IO[bytes] | None = None
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._layers.clear()
        if self._file is not None:
            self._file.close()

    def add(self, content: NDArray[np.uint8]) -> None:
        """Put bytes on top; the array is the pile's from now on. Raises OSError, as on a full disk."""
        self.size_bytes += content.nbytes
        self._layers.append(content)
        if self._file is None and self.size_bytes > self._budget_bytes:
            self._file = TemporaryFile(dir=self._folder, prefix=".geoseg-")  # noqa: SIM115 - closed by __exit__
        if self._file is not None:
            for layer in self._layers:
                self._file.write(layer.data)
            self._layers.clear()

    @contextmanager
    def taken(self) -> Iterator[Taken]:
        """Hold the pile in view, to take bytes from it. Pages of a file that were looked at leave memory afterwards."""
        if self._file is None:
            starts = np.cumsum([0, *(layer.nbytes for layer in self._layers)])
            yield Taken([layer.data for layer in self._layers], starts[:-1])
            return
        self._file.flush()
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
            yield Taken([content], np.zeros(1, np.int64))


class Taken:
    """A pile in view: stretches of memory, and where each begins."""

    def __init__(self, layers: list[memoryview], starts: NDArray[np.int64]) -> None:
        self._layers, self._starts = layers, starts

    def joined(self, starts: NDArray[np.int64], sizes_bytes: NDArray[np.int64]) -> bytes:
        """Return pieces of the pile, one after the other; each was put there at once."""
        layers = np.searchsorted(self._starts, starts, side="right") - 1
        firsts = starts - self._starts[layers]
        pieces = zip(layers.tolist(), firsts.tolist(), (firsts + sizes_bytes).tolist(), strict=True)
        return b"".join([self._layers[layer][first:last] for layer, first, last in pieces])
