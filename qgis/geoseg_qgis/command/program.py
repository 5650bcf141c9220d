"""The program `geoseg`: its location, its version, and whether it works on this machine."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Mapping

from geoseg_qgis.command.child import answer, ask
from geoseg_qgis.translation import tr

NEEDED = (0, 1, 0)
"""The oldest version with all options that the algorithms use."""
VARIABLE = "GEOSEG_EXECUTABLE"
"""The environment variable with the program's path, used if nothing is set: for servers and tests."""
_ASK_S, _EXAMINE_S = 60.0, 300.0
_known_versions: dict[tuple[str, float], tuple[int, ...]] = {}


class ProgramError(Exception):
    """geoseg is missing or unusable; the message is one sentence for people."""


@dataclass(frozen=True)
class Health:
    """The result of `geoseg doctor`."""

    is_usable: bool
    version: str
    findings: tuple[tuple[str, str, str, str], ...]
    """For each: name, state (fit, or worse), finding, remedy."""

    def describe(self) -> str:
        """Return the findings as lines."""
        lines = []
        for name, state, text, remedy in self.findings:
            mark = "ok" if state == "fit" else state
            lines.append(f"{name}: {mark}, {text}" + (f" -> {remedy}" if remedy else ""))
        return "\n".join(lines)


def find(configured: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the path of the program: as configured, else where installers put it.

    `configured` is the program or the folder of its environment; empty if nothing is set.

    Raises
    ------
    ProgramError
        If there is none.
    """
    given = os.environ if environment is None else environment
    chosen = configured.strip().strip('"') or given.get(VARIABLE, "")
    if chosen:
        return _chosen(Path(chosen).expanduser())
    on_path = shutil.which("geoseg", path=given.get("PATH", os.defpath))
    if on_path:
        return on_path
    for folder in _usual_environments(given):
        found = _in_environment(folder)
        if found:
            return found
    raise ProgramError(
        tr("geoseg was not found: open Plugins > geoseg > Settings, which says how to install it, or choose it there.")
    )


def check_version(program: str) -> None:
    """Raise ProgramError if a program does not start, or is older than the algorithms need."""
    key = (program, Path(program).stat().st_mtime)
    if key not in _known_versions:
        _known_versions[key] = _version(program)
    version = _known_versions[key]
    if version < NEEDED:
        raise ProgramError(
            tr("{program} is geoseg {version}, but this plugin needs {needed} or later: update it.").format(
                program=program, version=_text(version), needed=_text(NEEDED)
            )
        )


def examine(program: str) -> Health:
    """Return the result of `geoseg doctor`; raise ProgramError if there is none."""
    done = ask([program, "doctor", "--json"], _EXAMINE_S)
    try:
        told = answer(done.stdout)
        rows = [tuple(str(row.get(key, "")) for key in ("name", "state", "text", "remedy")) for row in told["findings"]]
        versions = [text for name, _, text, _ in rows if name == "geoseg"]
        return Health(bool(told["usable"]), versions[0], tuple(rows))  # type: ignore[arg-type] # four strings each
    except (LookupError, TypeError, AttributeError):
        raise ProgramError(_no_geoseg(program, done.last_error)) from None


def _version(program: str) -> tuple[int, ...]:
    done = ask([program, "--version"], _ASK_S)
    found = re.search(r"^geoseg, version (\d+)\.(\d+)\.(\d+)", done.stdout, re.MULTILINE)
    if not found:
        raise ProgramError(_no_geoseg(program, done.last_error))
    return tuple(int(number) for number in found.groups())


def _no_geoseg(program: str, error: str) -> str:
    said = tr("it says: {error}").format(error=error) if error else tr("it does not answer as geoseg does")
    return tr("{program} cannot be used ({said}): open Plugins > geoseg > Settings to choose another.").format(
        program=program, said=said
    )


def _chosen(path: Path) -> str:
    if path.is_dir():
        found = _in_environment(path)
        if found:
            return found
        raise ProgramError(
            tr("{path} contains no geoseg: choose the program, or the folder of its environment.").format(path=path)
        )
    if not path.is_file():
        raise ProgramError(
            tr("{path} does not exist: open Plugins > geoseg > Settings to choose geoseg again.").format(path=path)
        )
    return str(path)


def _in_environment(folder: Path) -> str | None:
    """Return the program in an environment of pip, uv or conda."""
    for name in ("bin/geoseg", "Scripts/geoseg.exe", "geoseg", "geoseg.exe"):
        path = folder / name
        if path.is_file() and os.access(str(path), os.X_OK):
            return str(path)
    return None


def _usual_environments(given: Mapping[str, str]) -> Iterator[Path]:
    """Yield the folders where uv, pipx, conda and people put geoseg; QGIS's PATH is often shorter than a shell's."""
    home = Path(given.get("USERPROFILE") or given.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111 - may fail
    local = [given[name] for name in ("LOCALAPPDATA", "APPDATA", "PROGRAMDATA") if given.get(name)]
    yield home / ".local"
    yield home / ".local" / "share" / "uv" / "tools" / "geoseg"
    yield home / ".local" / "share" / "pipx" / "venvs" / "geoseg"
    for name in ("geoseg", "geoseg-env", ".geoseg"):
        yield home / name
        yield home / name / ".venv"
    for folder in local:
        yield Path(folder) / "uv" / "tools" / "geoseg"
        yield Path(folder) / "geoseg"
    for root in (home, *(Path(folder) for folder in local), Path("/opt")):
        for conda in ("miniforge3", "miniconda3", "mambaforge", "anaconda3", "micromamba"):
            yield root / conda / "envs" / "geoseg"
    for folder in ("/opt/homebrew", "/usr/local"):
        yield Path(folder)


def _text(version: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in version)


def install_steps(*, windows: bool | None = None) -> list[tuple[str, str]]:
    """Return the ways to install geoseg: for each, the tool it needs and the commands."""
    python = "py" if (os.name == "nt" if windows is None else windows) else "python3"
    return [
        ("uv", 'uv tool install "geoseg[train]"'),
        ("pipx", 'pipx install "geoseg[train]"'),
        (f"{python} -m venv", f'{python} -m venv geoseg-env\n{_in_venv(python)} -m pip install "geoseg[train]"'),
        ("conda", "conda create -n geoseg -c conda-forge geoseg"),
    ]


def _in_venv(python: str) -> str:
    return r"geoseg-env\Scripts\python" if python == "py" else "geoseg-env/bin/python"
