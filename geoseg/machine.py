"""What this process may use of the machine it runs on."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def size_text(size_bytes: float) -> str:
    """Return a number of bytes as people read it: 12.3 GB, 4.56 MB, 789 bytes."""
    for unit, name in _UNITS:
        if size_bytes >= 0.9995 * unit:
            value = size_bytes / unit
            return f"{value:.{max(0, 3 - len(str(int(value))))}f} {name}"
    return f"{size_bytes:.0f} bytes"


def available_cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory_bytes() -> int:
    """Return how much memory this process may still take: what is free, and no more than its container's limit.

    Control groups, version 2: https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    free = int(psutil.virtual_memory().available)
    try:
        return min(free, int(_CONTAINER_LIMIT.read_text()))
    except (OSError, ValueError):  # no control group, or no limit ("max")
        return free
