"""Installs geoseg into its own environment with `venv` and pip, leaving the Python that runs them unchanged."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Callable, Iterator, Mapping

from geoseg_qgis.command.child import Done, ask, run
from geoseg_qgis.command.program import NEEDED, ProgramError, find
from geoseg_qgis.translation import tr

OLDEST = (3, 11)
"""The oldest Python that geoseg runs on."""
_ASK_S = 30.0
_END_S = 5.0
_VERSION = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
_MODULE = (
    "import os, runpy, sys, threading\n"
    "def watch():\n"
    "    while os.read(0, 1): pass\n"
    "    os._exit(130)\n"
    "threading.Thread(target=watch, daemon=True).start()\n"
    "sys.stdout = sys.stderr\n"
    "sys.argv = sys.argv[1:]\n"
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
)
"""Runs a module with its output on stderr, and ends it when its stdin closes."""
_PIP = ("pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off")


def home_environment(given: Mapping[str, str] | None = None, *, windows: bool | None = None) -> Path:
    """Return the folder of the environment, one of those that `program.find` searches."""
    environment = os.environ if given is None else given
    if (os.name == "nt" if windows is None else windows) and environment.get("LOCALAPPDATA"):
        return Path(environment["LOCALAPPDATA"]) / "geoseg"
    return Path(environment.get("USERPROFILE") or environment.get("HOME") or str(Path.home())) / ".geoseg"


def find_python(candidates: Iterator[str] | None = None) -> str:
    """Return a Python that can make an environment for geoseg; ProgramError if there is none."""
    for python in _pythons() if candidates is None else candidates:
        done = ask([python, "-c", _VERSION], _ASK_S)
        version = tuple(int(part) for part in done.stdout.strip().split(".") if part.isdigit())
        if done.code == 0 and version >= OLDEST:
            return python
    raise ProgramError(
        tr(
            "No Python {oldest} or later with venv and pip was found: install one (python.org; on Debian and Ubuntu "
            "python3-venv), or install geoseg in one of the ways below."
        ).format(oldest=".".join(map(str, OLDEST)))
    )


def _pythons() -> Iterator[str]:
    """Yield candidates for a Python, each once: those on the path, then QGIS's, which is only copied from."""
    names = [f"python3.{minor}" for minor in range(14, OLDEST[1] - 1, -1)]
    found = [shutil.which(name) for name in (*names, "python3", "python", "py")]
    yield from dict.fromkeys(
        [path for path in found if path] + beside_qgis(sys.executable, sys.prefix, sys.exec_prefix)
    )


def beside_qgis(executable: str, *prefixes: str) -> list[str]:
    """Return possible paths of QGIS's Python: `sys.executable` is qgis.exe on Windows, and QGIS on macOS."""
    folder = Path(executable).parent
    places = [folder / "bin", folder]
    for prefix in map(Path, prefixes):
        places += [prefix, prefix / "bin"]
    names = ("python3", "python3.exe", "python", "python.exe")
    found = [str(place / name) for place in places for name in names if (place / name).is_file()]
    return list(dict.fromkeys(found))


def install(folder: Path, python: str, heard: Callable[[str], None], is_canceled: Callable[[], bool]) -> str:
    """Make an environment in a folder, or use the existing one, install geoseg, and return the program.

    `heard` is called with the output lines of venv and pip as they arrive. An unfinished new environment is removed.
    pip's own settings and variables (an index, a proxy, PIP_FIND_LINKS) apply.

    Raises
    ------
    ProgramError
        If the folder holds something else, or an installer fails or is canceled; one sentence.
    """
    is_new = not folder.exists() or not any(folder.iterdir())
    if not is_new and not (folder / "pyvenv.cfg").is_file():
        raise ProgramError(
            tr("{folder} is no environment of Python: move it away, or install by hand.").format(folder=folder)
        )
    try:
        if is_new:
            _do(python, ["venv", str(folder)], heard, is_canceled)
        inside = folder / ("Scripts/python.exe" if (folder / "Scripts").is_dir() else "bin/python")
        needed = ".".join(map(str, NEEDED))
        _do(str(inside), [*_PIP, "--upgrade", f"geoseg[train]>={needed}"], heard, is_canceled)
        return find(str(folder))
    except BaseException:
        if is_new:
            shutil.rmtree(str(folder), ignore_errors=True)
        raise


def _do(python: str, words: list[str], heard: Callable[[str], None], is_canceled: Callable[[], bool]) -> None:
    """Run a module; if it fails, raise ProgramError with its error lines."""
    said: list[str] = []

    def listen(line: str) -> None:
        if line.strip():
            said.append(line.strip())
            heard(line)

    try:
        done = run([python, "-u", "-c", _MODULE, *words], listen, is_canceled, _END_S)
    except OSError as error:
        done = Done(1, "", error.strerror or str(error))
        said.append(done.last_error)
    if done.is_canceled:
        raise ProgramError(tr("The installation was canceled."))
    if done.code:
        errors = [line for line in said if line.lower().startswith("error")] or said[-1:] or [f"code {done.code}"]
        raise ProgramError(
            tr(
                "geoseg could not be installed ({name} says: {error}): check network and disk, or install it in one of "
                "the ways below."
            ).format(name=words[0], error=errors[-1][:300])
        )
