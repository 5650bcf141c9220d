"""The environment of this process: its interpreter, and the cores and memory that it may use."""

from __future__ import annotations

import atexit
import math
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

_GROUPS, _OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def size_text(size_bytes: float) -> str:
    """Return a number of bytes as readable text: 12.3 GB, 4.56 MB, 789 bytes."""
    for unit, name in _UNITS:
        if size_bytes >= 0.9995 * unit:
            value = size_bytes / unit
            return f"{value:.{max(0, 3 - len(str(int(value))))}f} {name}"
    return f"{size_bytes:.0f} bytes"


def available_cores() -> int:
    """Return how many CPU cores this process may use: its affinity, limited by the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota / period for quota, period in map(_quota, _groups()) if quota > 0]
    return max(1, math.floor(min([cores, *quotas])))


def available_memory_bytes() -> int:
    """Return how much memory this process may still take: the free memory, within the limit of its container."""
    import psutil  # noqa: PLC0415 - a compiled library: `doctor` says so if it is broken

    limits = [_limit(folder) for folder in _groups()]
    return max(0, min([int(psutil.virtual_memory().available), *(limit for limit in limits if limit is not None)]))


def _groups() -> list[Path]:
    """Return the folders of this process's control group (cgroup v2) and of its parents.

    https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    try:
        lines = _OWN_GROUP.read_text().splitlines()
    except OSError:  # not Linux
        return []
    own_path = next((line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::")), "")
    folder = _GROUPS / own_path
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(_GROUPS))]


def _limit(folder: Path) -> int | None:
    """Return the bytes that a group may still take; reclaimable file cache does not count as used."""
    limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
    if limit is None or used is None:
        return None
    return limit - used + (_number(folder / "memory.stat", "inactive_file ") or 0)


def _quota(folder: Path) -> tuple[int, int]:
    """Return the microseconds of CPU that a group may use per period, and the period; 0 without a quota."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota), int(period)
    except (OSError, ValueError):  # missing, or "max 100000"
        return 0, 1


def _number(file: Path, name: str = "") -> int | None:
    """Return the number in a file, on the line that starts with a name; None if there is none ("max")."""
    try:
        lines = [line for line in file.read_text().splitlines() if line.startswith(name)]
        return int(lines[0].removeprefix(name))
    except (OSError, ValueError, IndexError):
        return None


def in_every_fork(forget: Callable[[], None]) -> None:
    """Call a function in every fork of this process, before anything else runs there.

    A fork has its parent's objects but only one thread: pools wait for threads that do not exist, and locks that other
    threads held stay locked.
    """
    if hasattr(os, "register_at_fork"):  # Windows has no forks
        os.register_at_fork(after_in_child=forget)


_fork_ids: set[int] = set()
in_every_fork(lambda: _fork_ids.add(os.getpid()))


def is_fork() -> bool:
    """Return whether this process is a fork of one in which geoseg was imported."""
    return os.getpid() in _fork_ids


def is_python() -> bool:
    """Return whether this program is a Python executable that can be started again; in QGIS, Python is embedded."""
    return Path(sys.executable or "").name.lower().startswith(("python", "pypy"))


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module; use it with `python_environment`."""
    # -P and the parent's own path: a torch.py in the working directory must not shadow torch
    return [sys.executable, "-P", "-m", module, *arguments]


def python_environment() -> dict[str, str]:
    """Return the environment in which another Python process finds the same modules as this one."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder)}


def end_process(code: int) -> NoReturn:
    """End one of geoseg's programs like `sys.exit`, but without tearing down torch, which costs 1 s and 120 MB.

    A failure always ends with its exit code: if Ctrl-C interrupts an `exec`, as when dataclasses are created, Python
    would otherwise end with a signal even though it was handled.
    """
    if code or "torch" in sys.modules:
        # Python's own first steps, which have no public names: wait for threads, then run the registered functions
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
        atexit._run_exitfuncs()  # noqa: SLF001
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        except OSError:  # the reader has gone: Python itself reports it
            sys.exit(code)
        os._exit(code)
    sys.exit(code)
