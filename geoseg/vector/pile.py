"""Bytes piled up now and taken off in another order later: in memory, or on the disk where they are many."""

from __future__ import annotations

from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Pile:
    """A context manager; when it ends, so does the file."""

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self._folder, self._budget_bytes = folder, budget_bytes
        self._layers: list[memoryview] = []
        self._starts: list[int] = []
        self._size_bytes = 0
        self._file: FileIO | None = None

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
        self._starts.append(self._size_bytes)
        self._layers.append(content.data)
        self._size_bytes += content.nbytes
        if self._file is None and self._size_bytes > self._budget_bytes:
            # Unbuffered: pieces lie too far apart.
            self._file = TemporaryFile(dir=self._folder, prefix=".geoseg-", buffering=0)  # noqa: SIM115 - closed by __exit__
        if self._file is not None:
            for layer in self._layers:
                _write_all(self._file, layer)
            self._layers.clear()

    def taken(self, starts: NDArray[np.int64], sizes_bytes: NDArray[np.int64]) -> bytes:
        """Return pieces of the pile, one after the other; each was added with one array. Raises OSError."""
        if self._file is not None:
            return b"".join(self._read(self._file, starts.tolist(), sizes_bytes.tolist()))
        layers = np.searchsorted(self._starts, starts, side="right") - 1
        firsts = starts - np.array(self._starts)[layers]
        pieces = zip(layers.tolist(), firsts.tolist(), (firsts + sizes_bytes).tolist(), strict=True)
        return b"".join([self._layers[layer][first:last] for layer, first, last in pieces])

    @staticmethod
    def _read(file: FileIO, starts: list[int], sizes_bytes: list[int]) -> Iterator[bytes]:
        # Not a map of the file: the system would show it page by page as our memory, many pages for each piece.
        for start, size_bytes in zip(starts, sizes_bytes, strict=True):
            file.seek(start)
            yield file.read(size_bytes)


def _write_all(file: FileIO, content: memoryview) -> None:
    """Write bytes to an unbuffered file, which may take only some at a time."""
    while len(content):
        content = content[file.write(content) :]
