"""This process and others like it: forks, and Pythons started for work that is better done apart."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path


def in_every_fork(forget: Callable[[], None]) -> None:
    """Call a function in every fork of this process, before anything else runs there.

    A fork has its parent's objects and one thread: pools wait there for threads that do not exist, and locks that
    other threads held stay locked.
    """
    if hasattr(os, "register_at_fork"):  # Windows has no forks
        os.register_at_fork(after_in_child=forget)


_fork_ids: set[int] = set()
in_every_fork(lambda: _fork_ids.add(os.getpid()))


def is_fork() -> bool:
    """Say whether this process is a fork of one in which geoseg was imported."""
    return os.getpid() in _fork_ids


def is_python() -> bool:
    """Say whether this program is a Python, to be started again; Python may live inside another, as in QGIS."""
    return Path(sys.executable or "").name.lower().startswith(("python", "pypy"))


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module; it goes with `python_environment`."""
    # -P and the parent's own path: a torch.py in the working directory is not the torch that is meant
    return [sys.executable, "-P", "-m", module, *arguments]


def python_environment() -> dict[str, str]:
    """Return the environment in which another Python finds the modules that this one does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder)}
