"""Run a command as a separate process and measure its time, processor time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if sys.platform != "win32":
    import resource


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that succeeded."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    """Peak resident memory of the process or of a child process, whichever is larger."""
    stdout: str


def run(command: Sequence[str], *, for_peak: bool = True) -> Finished:
    """Run a command and wait; RuntimeError with its stderr if it fails.

    On Linux a new process inherits the peak of its parent, so the caller must be small: with `for_peak`, RuntimeError
    if the caller's peak may have hidden the command's own.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err)
        cpu_seconds, peak_bytes = _wait(process)
        seconds = time.perf_counter() - began
        out.seek(0)
        err.seek(0)
        if process.returncode:
            said = err.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said}")
        if for_peak and peak_bytes <= own_peak_bytes():
            raise RuntimeError("the benchmark is larger than what it measures; import less into it")
        return Finished(seconds, cpu_seconds, peak_bytes, out.read().decode())


def geoseg_command() -> str:
    """Return the path of the `geoseg` command that belongs to this Python."""
    folder = Path(sys.executable).parent
    for name in ("geoseg", "geoseg.exe"):
        if (folder / name).is_file():
            return str(folder / name)
    raise SystemExit(f"there is no geoseg command in {folder}; run `pip install -e .` with this Python first")


def own_peak_bytes() -> int:
    """Return the peak resident memory of this process; 0 if the system does not report it."""
    if sys.platform == "win32":
        return 0
    return _bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _wait(process: subprocess.Popen[bytes]) -> tuple[float, int]:
    if sys.platform == "win32":
        return _watch(process)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime, _bytes(used.ru_maxrss)


def _watch(process: subprocess.Popen[bytes]) -> tuple[float, int]:
    """Poll the peak that Windows records, until the process ends."""
    import psutil

    watched, cpu_seconds, peak_bytes = psutil.Process(process.pid), 0.0, 0
    while process.poll() is None:
        try:
            times = watched.cpu_times()
            cpu_seconds, peak_bytes = times.user + times.system, watched.memory_info().peak_wset
        except psutil.NoSuchProcess:
            break
        time.sleep(0.01)
    process.wait()
    return cpu_seconds, peak_bytes


def _bytes(maxrss: int) -> int:
    return maxrss if sys.platform == "darwin" else maxrss * 1024
