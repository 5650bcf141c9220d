"""The kernels compiled before work begins: once on each machine, then they are loaded from the disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread, Timer
from typing import Any

import numpy as np
from affine import Affine

from geoseg.compiled import compiler_of
from geoseg.machine import is_python, python_command, python_environment
from geoseg.raster import Surface
from geoseg.vector.generalize import Generalization, generalize
from geoseg.vector.io import is_by_gdal, write
from geoseg.vector.measure import measure
from geoseg.vector.options import METHODS
from geoseg.vector.polygonize import Tracing, trace
from geoseg.vector.polygons import FeatureTable, PolygonLayer, Polygons
from geoseg.vector.sieve import sieve
from geoseg.vector.simplification import Obstacles
from geoseg.vector.trace import Arcs, count_runs

_LOADED_S = 1.5
"""Loading takes less than this, compiling more."""
_SAID = "compiling for this processor; some seconds, the first time that geoseg draws polygons here"


def precompile(
    dtype: str, tracing: Tracing, target: Path | None, announce: Callable[[str], None], *, sieved: bool = False
) -> None:
    """Have all kernels ready that a run needs; where they must be compiled, say so and do it in two processes.

    numba compiles one kernel at a time in a process.
    """
    pixels = np.arange(4, dtype=dtype).reshape(2, 2)
    if target is not None and is_by_gdal(target):
        # what pyogrio loads takes half a second, most of it beside the kernels; pyogrio itself is for the thread that
        # writes: it keeps GDAL's errors off stderr only in the thread that loads it
        Thread(target=import_module, args=("geopandas",)).start()
    with _said(announce):
        if is_python() and not _is_known(count_runs):
            with _other_process(tracing.generalization, target):
                trace(pixels, 0, Affine.identity())
                if sieved:
                    sieve(lambda: iter([pixels]), 0, pixels.shape[1], 2)
        trace(pixels, 0, Affine.identity(), tracing)


def compile_what_follows(generalization: Generalization | None, suffix: str) -> None:
    """Compile what comes after borders are walked: to generalize, to measure and to write them."""
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)], float)
    one = np.array([0, 1])
    polygons = Polygons(np.zeros(1, np.int32), np.ones(1, np.int64), one, one, np.array([0, 5]), square)
    table = FeatureTable(polygons, *measure(polygons, Surface((1.0, 0.0, 0.0, 1.0))))
    if generalization:
        obstacles = Obstacles(budget=1 << 20)
        obstacles.add(np.zeros((1, 1), np.int64))
        generalize(_one_arc(), generalization, obstacles, 1 << 20)
    if suffix:
        with TemporaryDirectory(prefix="geoseg-") as folder:
            write(Path(folder) / f"one{suffix}", PolygonLayer("one", None), [table])


def _one_arc() -> Arcs:
    return Arcs(
        np.zeros(2, np.int32), np.arange(2, dtype=np.int32), np.full(2, 15, np.uint8), np.zeros(8, np.int32),
        np.array([1], np.int32), np.array([7], np.int32), np.zeros(1, np.int64), np.zeros(1, np.int32),
        np.zeros(1, np.int64), np.empty((0, 2), np.int32), np.zeros(1, np.bool_),
    )  # fmt: skip


@contextmanager
def _said(announce: Callable[[str], None]) -> Iterator[None]:
    """Say what is going on, if it takes long."""
    timer = Timer(_LOADED_S, announce, [_SAID])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _other_process(generalization: Generalization | None, target: Path | None) -> Iterator[None]:
    """Compile what follows in another process meanwhile; where that fails, this one will do it when it comes to it."""
    wanted = [target.suffix if target else ""]
    if generalization:
        wanted += [generalization.method, *(["smooth"] if generalization.smooth else [])]
    try:
        process = subprocess.Popen(  # noqa: S603 - this Python, our own module
            python_command("geoseg.vector.precompile", *wanted),
            env=python_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        yield
        return
    try:
        yield
        process.wait()
    finally:
        process.kill()
        process.wait()


def _is_known(kernel: Any) -> bool:
    """Say whether a kernel has been compiled here, by the index that numba keeps of it."""
    kernel = compiler_of(kernel)
    folder = kernel.stats.cache_path
    name = f"{kernel.py_func.__module__.rpartition('.')[2]}.{kernel.py_func.__name__}-*.nbi"
    return folder is not None and any(Path(folder).glob(name))


if __name__ == "__main__":
    suffix, *method = sys.argv[1:]
    how = Generalization(method[0], 1.0, smooth="smooth" in method) if method and method[0] in METHODS else None
    compile_what_follows(how, suffix)
