"""Arrays on a disk in numpy's format, written strip by strip.

Through a file and not through a memory map: on a full disk that would end the process with a signal.
Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geoseg.atomic import sync_file, write_durably


class NpyWriter:
    """An open file of (band, row, col); strips of rows are written in any order. Raises OSError, as on a full disk."""

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: str, *, squeeze: bool = False) -> None:
        """Begin a file. With `squeeze` its one band has no axis of its own: (row, col)."""
        self._path = path
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        stored = shape[1:] if squeeze else shape
        head = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": stored}
        np.lib.format.write_array_header_1_0(self._file, head)
        self._start = self._file.tell()

    def __enter__(self) -> Self:
        return self

    def write(self, data: NDArray[Any], row: int) -> None:
        """Write (band, row, col), whole rows, from a row on."""
        _, height, width = self._shape
        for band, values in enumerate(np.ascontiguousarray(data, self._dtype)):
            self._file.seek(self._start + (band * height + row) * width * self._dtype.itemsize)
            self._file.write(values.data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            sync_file(self._path)


def write_npy(path: Path, values: NDArray[Any]) -> None:
    """Write a small array, whole or not at all. Raises OutputError."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    write_durably(path, buffer.getvalue())
