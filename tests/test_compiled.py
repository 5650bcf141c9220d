"""Kernels without a usable numba cache run uncached, whatever is wrong with the disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from geoseg.compiled import njit

KERNEL = """
import errno, sys
from pathlib import Path
import numba.core.caching as caching
{how}
from geoseg.compiled import njit

@njit(inline="always")
def doubled(number):
    return 2 * number

@njit(cache=True, nogil=True)
def inner(number):
    return doubled(number) + 1

@njit(cache=True, nogil=True)
def outer(number):
    return inner(number) * 10

print(outer(1), outer(0.5), [file for file in Path({cache!r}).rglob("*.nbc")])
"""
FULL = """
def full(*_):
    raise OSError({number}, "the disk is full")
caching.IndexDataCacheFile._save_{what} = full
"""
NOWHERE = "caching.CacheImpl._locator_classes = []"


@pytest.mark.parametrize(
    "how",
    [FULL.format(number=errno.ENOSPC, what="data"), FULL.format(number=errno.EDQUOT, what="index"), NOWHERE],
    ids=["full disk", "full quota", "no folder"],
)
def test_a_kernel_that_cannot_be_kept_runs(tmp_path: Path, how: str) -> None:
    cache = tmp_path / "cache"
    assert run(tmp_path, cache, how) == "30 20.0 []"


def test_a_kernel_is_kept(tmp_path: Path) -> None:
    said = run(tmp_path, tmp_path / "cache", "")
    assert said.startswith("30 20.0 [")
    assert ".nbc" in said


def test_a_kernel_is_there_for_other_threads_after_those_that_it_calls() -> None:
    placed: list[str] = []

    class Module(dict[str, Any]):
        def __setitem__(self, name: str, value: object) -> None:
            placed.append(name)
            super().__setitem__(name, value)

    module = Module(njit=njit)
    kernels = (
        ("outer", "total([inner(each) for each in (number, 1)])"),
        ("inner", "last(number)"),
        ("last", "number + 1"),
    )
    for name, what in (*kernels, ("total", "number[0] + number[1]")):
        exec(f"@njit()\ndef {name}(number):\n    return {what}\n", module)  # noqa: S102 - it is written above
    placed.clear()
    assert module["outer"](1) == 4
    place = {name: placed.index(name) for name in ("outer", "inner", "last", "total")}
    assert place["last"] < place["inner"] < place["outer"] > place["total"]


def test_numba_is_loaded_by_a_kernel_and_by_no_import() -> None:
    program = """
import sys
import numpy as np
from geoseg.raster.landcover import overviews
from geoseg.vector import vectorize
from geoseg.vector.trace import regions
print("numba" in sys.modules)
overviews.halved(np.zeros((1, 4, 4), np.uint8), classes=True, compiled=True)
print("numba" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_command_loads_numba_without_linear_algebra() -> None:
    """Numba is loaded when a kernel is first called; SciPy can still be imported afterwards."""
    program = """
import sys
from geoseg.compiled import load_within, njit
from geoseg_cli.process import fast_start

load_within(fast_start)

@njit(nogil=True)
def doubled(number):
    return 2 * number

assert doubled(4) == 8
print("numba" in sys.modules, "scipy.linalg" in sys.modules)
import scipy.linalg
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_a_compiler_that_is_turned_off_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    how = "sys.excepthook = lambda kind, fault, _: print(kind.__name__, fault)"
    said = run(tmp_path, tmp_path / "cache", how, code=1)
    assert said.startswith("UsageError NUMBA_DISABLE_JIT turns off")


def run(folder: Path, cache: Path, how: str, code: int = 0) -> str:
    """Compile the kernels in a process and return its output."""
    script = folder / "kernel.py"
    script.write_text(KERNEL.format(how=how, cache=str(cache)), encoding="utf-8")
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout.strip()
