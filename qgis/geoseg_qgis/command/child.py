"""Child processes: without QGIS's libraries in the environment, line by line, cancelable, and never orphaned."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Callable, Mapping, Sequence

from geoseg_qgis.translation import tr

_FOREIGN = frozenset(
    {
        "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "PYTHONUSERBASE", "PYTHONDONTWRITEBYTECODE",
        "PYTHONPLATLIBDIR", "PYTHONCASEOK", "PYTHONOPTIMIZE", "PYTHONINSPECT", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV",
        "GDAL_DATA", "GDAL_DRIVER_PATH", "GDAL_PYTHON_DRIVER_PATH", "OGR_DRIVER_PATH", "GEOTIFF_CSV", "PROJ_LIB",
        "PROJ_DATA", "PROJ_AUX_DB", "LD_LIBRARY_PATH", "LD_PRELOAD", "QGIS_PREFIX_PATH", "O4W_QT_PREFIX",
    }
)  # fmt: skip
"""Variables that QGIS and its installers set for their own Python, GDAL, PROJ and Qt: they break other Pythons."""
_FOREIGN_BEGINNINGS = ("QT_", "DYLD_")
_POLL_S = 0.1
_PATIENCE_S = 75.0
"""Longer than geoseg gives itself to end after its stdin is closed."""
_LAST_LINES_S = 5.0


@dataclass(frozen=True)
class Done:
    """The result of a finished process."""

    code: int
    stdout: str
    last_error: str = ""
    """The last line on stderr, or the reason why the process did not start."""
    is_canceled: bool = False


def environment(program: str, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for geoseg: that of QGIS, without the variables that QGIS set for itself."""
    kept = {
        name: value
        for name, value in (os.environ if given is None else given).items()
        if name.upper() not in _FOREIGN and not name.upper().startswith(_FOREIGN_BEGINNINGS)
    }
    kept.update(PYTHONUTF8="1", PYTHONIOENCODING="utf-8", GEOSEG_END_WITH_STDIN="1")
    folder = Path(program).parent
    if (folder.parent / "conda-meta").is_dir() and folder.name == "Scripts":  # conda on Windows finds DLLs by PATH
        own = [folder.parent, folder.parent / "Library" / "bin", folder]
        kept["PATH"] = os.pathsep.join([*map(str, own), kept.get("PATH", "")])
    return kept


def ask(command: Sequence[str], timeout_s: float) -> Done:
    """Run a quick command and return its result; the code is 1 if it does not start."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            env=_asked(command[0]),
            creationflags=_flags(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Done(1, "", f"no answer in {timeout_s:.0f} s")
    except OSError as error:
        if isinstance(error, FileNotFoundError) and Path(command[0]).is_file():  # its first line names another program
            return Done(1, "", tr("the Python of its environment is gone, install geoseg again"))
        return Done(1, "", error.strerror or str(error))
    errors = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return Done(done.returncode, done.stdout.decode("utf-8", "replace"), errors[-1] if errors else "")


def answer(stdout: str) -> Any:
    """Return the last JSON that fills whole lines, as a command prints it after those of its environment, or None."""
    found, end = None, 0
    for begin in re.finditer(r"^[{\[]", stdout, re.MULTILINE):
        if begin.start() >= end:
            with contextlib.suppress(ValueError, RecursionError):
                value, value_end = json.JSONDecoder().raw_decode(stdout, begin.start())
                if not stdout[value_end:].partition("\n")[0].strip():
                    found, end = value, value_end
    return found


def run(
    command: Sequence[str],
    heard: Callable[[str], None],
    is_canceled: Callable[[], bool],
    patience_s: float = _PATIENCE_S,
) -> Done:
    """Run a command and pass each line of stderr to `heard` as it arrives, in the calling thread.

    Once `is_canceled` returns true, stdin is closed, which geoseg treats as Ctrl-C; a process that has not ended after
    `patience_s` is killed. It also ends if this process ends, even if killed, because the pipe then closes.

    Raises
    ------
    OSError
        If the program does not start.
    """
    child = subprocess.Popen(
        list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(command[0]), creationflags=_flags(),
    )  # fmt: skip
    with child:
        lines: queue.Queue[str | None] = queue.Queue()
        result: list[str] = []
        readers = [
            threading.Thread(target=_read_lines, args=(child.stderr, lines.put), daemon=True),
            threading.Thread(target=_read_lines, args=(child.stdout, _keep_in(result)), daemon=True),
        ]
        for reader in readers:
            reader.start()
        try:
            canceled = _listen(child, lines, heard, is_canceled, patience_s)
        finally:
            _end(child, patience_s)
        readers[1].join(_LAST_LINES_S)
    return Done(child.returncode, "\n".join(result), is_canceled=canceled)


def _listen(
    child: subprocess.Popen[bytes],
    lines: queue.Queue[str | None],
    heard: Callable[[str], None],
    is_canceled: Callable[[], bool],
    patience_s: float,
) -> bool:
    """Pass lines on until the process ends; return whether it was canceled."""
    kill_at = end_at = float("inf")
    while True:
        try:
            line = lines.get(timeout=_POLL_S)
        except queue.Empty:
            line = ""
        now = time.monotonic()
        if line is None:
            return kill_at < float("inf")
        if line:
            heard(line)
        if kill_at == float("inf") and is_canceled():
            _close(child.stdin)
            kill_at = now + patience_s
        if now > kill_at and child.poll() is None:
            child.kill()
        if child.poll() is not None and end_at == float("inf"):
            end_at = now + _LAST_LINES_S  # one of its child processes may keep stderr open
        if now > end_at:
            return kill_at < float("inf")


def _end(child: subprocess.Popen[bytes], patience_s: float) -> None:
    _close(child.stdin)
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        child.kill()


def _close(pipe: IO[bytes] | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except OSError:  # the process has ended
        pass


def _keep_in(result: list[str]) -> Callable[[str | None], None]:
    def keep(line: str | None) -> None:
        if line is not None:
            result.append(line)

    return keep


def _read_lines(pipe: IO[bytes] | None, take: Callable[[str | None], None]) -> None:
    """Pass on each line, then None at the end."""
    try:
        for line in pipe or ():
            take(line.decode("utf-8", "replace").rstrip("\r\n"))
    except (OSError, ValueError):  # closed
        pass
    take(None)


def _asked(program: str) -> dict[str, str]:
    """Return the environment of a quick command, whose stdin is empty from the start."""
    return {name: value for name, value in environment(program).items() if name != "GEOSEG_END_WITH_STDIN"}


def _flags() -> int:
    """Return the flags that keep Windows from opening a console window."""
    return int(getattr(subprocess, "CREATE_NO_WINDOW", 0))
