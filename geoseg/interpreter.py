"""This Python again, for work that is better done in a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path


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
