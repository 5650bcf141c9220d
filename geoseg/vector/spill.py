"""Memory that becomes disk where it is too much."""

from __future__ import annotations

import os
import tempfile
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from geoseg.errors import OutputError


def _reserve(file: IO[bytes], size_bytes: int) -> None:
    """Have the disk give the room now: a mapped file that does not get it later ends the process, not the run."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size_bytes)
    else:
        file.truncate(size_bytes)


def room(shape: tuple[int, ...], dtype: DTypeLike, budget: int) -> NDArray[Any]:
    """Return an uninitialized array: in memory up to `budget` bytes, beyond that in a temporary file without a name.

    The file goes when the array does. Raises OutputError when the disk of temporary files is full.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= budget:
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="geoseg-") as file:
            _reserve(file, size)
            mapped = np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise OutputError(
            f"cannot put {size / 1e9:.1f} GB of open borders on the disk of temporary files: {error.strerror}; "
            "set TMPDIR to a folder with more room"
        ) from error
    return np.asarray(mapped)
