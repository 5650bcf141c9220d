"""Whether torch and what is built on it can be loaded, tried in a process of its own: it may take that along."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass

from geoseg.interpreter import is_python, python_environment

_PATIENCE_S = 180.0
"""Seconds on a quiet machine; a cold disk on the network takes many more."""
_LONGEST_CAUSE = 300
_LOADING, _FAILED = "geoseg loads ", "geoseg fails with "
_PROGRAM = f"""import importlib, sys
sys.stdout.reconfigure(encoding="utf-8", errors="replace")
for name in sys.argv[1:]:
    print({_LOADING!r} + name, flush=True)
    try:
        importlib.import_module(name)
    except Exception as error:
        print({_FAILED!r} + type(error).__name__ + ": " + " ".join(str(error).split()), flush=True)
        sys.exit(1)
"""
"""Says what it is about to load, so that what takes the process along is known by its name."""


@dataclass(frozen=True, slots=True)
class BrokenImport:
    """A module that cannot be loaded."""

    module: str
    cause: str
    """One line."""


def broken_import(modules: tuple[str, ...]) -> BrokenImport | None:
    """Return the first of some modules that another Python cannot import; None if it can import all.

    None as well where Python lives inside another program and cannot be started: nothing is known then.
    """
    if not is_python():
        return None
    # -P and this process's own path: a torch.py in the working directory is not the torch that is meant
    command = [sys.executable, "-P", "-c", _PROGRAM, *modules]
    with subprocess.Popen(  # noqa: S603 - this Python, and the program above
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        encoding="utf-8", errors="replace", env=python_environment(),
    ) as process:  # fmt: skip
        try:
            told, _ = process.communicate(timeout=_PATIENCE_S)
            end = _end(process.returncode)
        except subprocess.TimeoutExpired:
            process.kill()
            told, _ = process.communicate()
            end = f"not done after {_PATIENCE_S:.0f} s"
        except BaseException:  # Ctrl-C: nothing goes on behind our back
            process.kill()
            raise
    if process.returncode == 0:
        return None
    loading = [line.removeprefix(_LOADING) for line in told.splitlines() if line.startswith(_LOADING)]
    causes = [line.removeprefix(_FAILED) for line in told.splitlines() if line.startswith(_FAILED)]
    cause = textwrap.shorten(causes[-1], _LONGEST_CAUSE, placeholder=" ...") if causes else end
    return BrokenImport(loading[-1] if loading else modules[0], cause)


def _end(code: int) -> str:
    """Return how a process ended that did not say why, from its exit code."""
    if code < 0:
        return f"the process that tried was ended by {signal.Signals(-code).name}"
    return f"the process that tried ended with exit code {code}"
