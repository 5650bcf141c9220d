"""The verb `vectorize`: a raster of classes becomes polygons, with kernels that are compiled before the work starts.

Kernels are compiled once per machine; later runs load them from disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geoseg.atomic import make_folders
from geoseg.compiled import compiler_of
from geoseg.given import StrPath, plain_arguments
from geoseg.machine import is_python, python_command, python_environment
from geoseg.prefetch import prefetch
from geoseg.progress import Announce, Progress, announcer
from geoseg.raster import ClassRaster, Scene, Surface, Window, as_scene, changed_error
from geoseg.store import Key, is_store, staged
from geoseg.vector.generalize import Generalization, generalize
from geoseg.vector.io import check_stored, has_layers, spare_style, to_geodataframe, write
from geoseg.vector.options import METHODS, VectorizeOptions
from geoseg.vector.polygonize import Tracing, trace, trace_strips
from geoseg.vector.polygons import FeatureTable, PolygonLayer, Polygons, measure
from geoseg.vector.request import Request, layer_name
from geoseg.vector.sieve import sieve
from geoseg.vector.simplification import Obstacles
from geoseg.vector.trace import Arcs, count_runs
from geoseg.vector.trace import dissolve as dissolved

if TYPE_CHECKING:
    import geopandas

    from geoseg.raster.scene import SceneLike

_LOADED_S = 1.5
"""Loading kernels takes less time than this, compiling more."""
_COMPILING = "compiling for this processor; takes some seconds, only the first time"


class StripProgress:
    """Counts strips as they pass: those read by the sieve, if there is one, and those turned into polygons.

    With a sieve each pass counts as half, so that the total remains the raster's number of pixels.
    """

    def __init__(self, raster: ClassRaster, report: Callable[[Progress], None] | None, *, sieved: bool) -> None:
        windows = list(raster.windows())
        self._sieved = len(windows) if sieved else 0
        self._pixels_total = sum(window.height * window.width for window in windows)
        self._windows = 2 * windows if sieved else windows
        self._passes = 2 if sieved else 1
        self._report = report
        self._started_s = time.monotonic()
        self._strips = self._pixels = 0
        self.polygons = 0
        """Number of features so far."""

    def track_reading(self, strips: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Yield strips unchanged and report each, but not on the second read, when they become polygons."""
        for strip in strips:
            yield strip
            if self._strips < self._sieved:
                self._count()

    def track_tracing(self, batches: Iterable[Polygons]) -> Iterator[Polygons]:
        """Yield batches unchanged, one per strip, and report each."""
        for batch in batches:
            yield batch
            self._count()

    def track_writing(self, tables: Iterable[FeatureTable]) -> Iterator[FeatureTable]:
        """Yield tables unchanged, and count their features."""
        for table in tables:
            self.polygons += len(table)
            yield table

    def report(self) -> None:
        """Report the run's progress."""
        pixels = self._pixels // self._passes
        if self._report is not None:
            self._report(
                Progress(
                    self._strips,
                    len(self._windows),
                    pixels,
                    self._pixels_total,
                    pixels,
                    time.monotonic() - self._started_s,
                    self.polygons,
                    "polygons",
                )
            )

    def _count(self) -> None:
        window = self._windows[self._strips]
        self._strips += 1
        self._pixels += window.height * window.width
        self.report()


@overload
def vectorize(
    landcover: SceneLike,
    out: None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
    **options: Unpack[VectorizeOptions],
) -> geopandas.GeoDataFrame: ...
@overload
def vectorize(
    landcover: SceneLike,
    out: StrPath,
    *,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
    **options: Unpack[VectorizeOptions],
) -> Path | str: ...
@plain_arguments(VectorizeOptions)
def vectorize(
    landcover: SceneLike,
    out: StrPath | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
    **options: Unpack[VectorizeOptions],
) -> Path | str | geopandas.GeoDataFrame:
    """Turn a raster of classes, of any size, into polygons without gaps or overlaps.

    Parameters
    ----------
    landcover : path, Scene, rasterio dataset or xarray.DataArray
        Any raster of classes that GDAL reads, or a part of one, from `geoseg.within` or `geoseg.crop`.
    out : path, optional
        Where to write the polygons. The extension selects the format: .gpkg, .parquet, .fgb, .geojson, .geojsonl.
    progress : callable, optional
        Called with a `Progress` after every strip of the raster.
    announce : callable, optional
        Called with messages for the user. They also go to the logger `geoseg`.
    simplify : float or str, optional
        Roughly how far borders may move, in meters, or in pixels, such as "1.5px". Each border is moved once, for both
        its neighbors, which still meet exactly.
    method : {"visvalingam", "douglas-peucker"}
        How borders are simplified.
    smooth : bool
        Round the staircase of the pixels.
    min_area : float or str, optional
        Regions smaller than this, in m2, or "0.5ha", "25px", go to the neighbor with the longest shared border.
    connectivity : {4, 8}
        With 8, regions that touch at a corner are one feature.
    classes : name, code or a sequence of them, optional
        The classes to keep.
    dissolve : bool
        Merge all polygons of a class into one feature.
    confidence : path, Scene, rasterio dataset or xarray.DataArray, optional
        A raster on the same grid; each polygon gets the mean of its pixels.
    legend : path, dict of names by code, Legend or Nomenclature, optional
        Overrides the names in the raster.
    crs : optional
        The CRS to reproject the polygons to: "EPSG:4326", WKT, a rasterio or pyproj CRS.
    aoi : path, GeoDataFrame, geometry or GeoJSON, optional
        Polygons: only pixels whose centers lie in them are traced; `aoi_crs` is the CRS if `aoi` names none.
    layer : str, optional
        The layer of a GeoPackage, by default the map's name. All other layers of the file are kept;
        in a store, a file with other layers is refused.
    mkdir, overwrite : bool
        Create missing folders; replace an existing file, or that layer.

    Returns
    -------
    Path, str or geopandas.GeoDataFrame
        The path of the file, or its URL in a store; without `out` the polygons. Columns: code, name, area_m2,
        perimeter_m, confidence if given, geometry. Areas and lengths are measured on the ground; without a CRS they
        are in pixels.

    Raises
    ------
    UsageError, SceneError, OutputError
        `out` is then as it was before.

    Examples
    --------
    >>> geoseg.vectorize("landcover.tif", "landcover.gpkg", simplify=1.5, min_area="0.5ha")  # doctest: +SKIP

    """
    if out is not None and is_store(out):
        landcover = as_scene(landcover, "landcover")
        check = partial(_check_layers, landcover, options.get("layer")) if has_layers(Path(out)) else None
        with staged(out, overwrite=options.get("overwrite", False), check=check) as local:
            vectorize(landcover, local, progress=progress, announce=announce, **options)
            spare_style(Path(local), Key.of(out))
        return os.fspath(out)
    announce = announcer(announce)
    request = Request.of(landcover, out, options, announce)
    if options.get("mkdir"):
        make_folders(request.target)
    sieved = request.sieving is not None
    precompile(request.raster.dtype, request.tracing, request.target, announce, sieved=sieved)
    strip_progress = StripProgress(request.raster, progress, sieved=sieved)
    with closing(_tables(request, strip_progress)) as measured:  # now, not when an error's traceback is freed
        tables = strip_progress.track_writing(measured)
        if request.target is None:
            frame = to_geodataframe(tables, request.layer, crs=request.crs)
            strip_progress.report()
            return frame
        write(request.target, request.layer, tables, crs=request.crs)
    strip_progress.report()  # the file's index may have taken a while
    if not strip_progress.polygons:
        reason = f"no pixel is valid{' and of a requested class' if options.get('classes') else ''}"
        announce(f"{request.target.name} has no polygons: {reason}")
    return request.target


def _check_layers(landcover: StrPath | Scene, layer: str | None, key: Key) -> None:
    check_stored(key, layer_name(landcover, key.name, layer), "out")


def _tables(request: Request, strip_progress: StripProgress) -> Generator[FeatureTable]:
    """Read, sieve, trace and measure, each one strip ahead of the next."""
    raster, geobox = request.raster, request.raster.scene.geobox
    strips = raster.strips
    if request.sieving is not None:
        strips = sieve(
            lambda: strip_progress.track_reading(prefetch(raster.strips())),
            raster.background,
            geobox.width_px,
            **request.sieving,
        )
    confidences = _confidence_strips(request.confidence, raster.windows()) if request.confidence else None
    polygons = trace_strips(
        prefetch(strips()), geobox.height_px, raster.background, geobox.transform, request.tracing, confidences
    )
    polygons = strip_progress.track_tracing(prefetch(polygons))
    if request.dissolve:
        polygons = dissolved(polygons, request.tracing.budget)
    for batch in polygons:
        yield FeatureTable(batch, *measure(batch, request.measured_on))
    request.check_unchanged()


def _confidence_strips(scene: Scene, windows: Iterable[Window]) -> Iterator[NDArray[np.float32]]:
    """Yield strips (row, col) of confidence, NaN for invalid pixels."""
    for window in windows:
        patch = scene.read(window)
        if patch.valid.shape != window.shape:
            raise changed_error(scene)
        strip = patch.data[0].astype(np.float32)
        strip[~patch.valid] = np.nan
        yield strip


def precompile(dtype: str, tracing: Tracing, target: Path | None, announce: Announce, *, sieved: bool = False) -> None:
    """Load all kernels that a run needs; if they must be compiled, announce it and use two processes.

    numba compiles one kernel at a time per process.
    """
    pixels = np.arange(4, dtype=dtype).reshape(2, 2)
    with _announced_if_slow(announce):
        if is_python() and not _is_compiled(count_runs):
            with _compiling_elsewhere(tracing.generalization, target):
                trace(pixels, 0, Affine.identity())
                if sieved:
                    sieve(lambda: iter([pixels]), 0, pixels.shape[1], 2)
        trace(pixels, 0, Affine.identity(), tracing)


def compile_later_kernels(generalization: Generalization | None, suffix: str) -> None:
    """Compile the kernels used after borders are walked: to generalize, measure and write them."""
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
def _announced_if_slow(announce: Announce) -> Iterator[None]:
    """Announce the compilation if it takes long."""
    timer = Timer(_LOADED_S, announce, [_COMPILING])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _compiling_elsewhere(generalization: Generalization | None, target: Path | None) -> Iterator[None]:
    """Compile later kernels in another process; if that fails, this process compiles them when it needs them."""
    arguments = [target.suffix if target else ""]
    if generalization:
        arguments += [generalization.method, *(["smooth"] if generalization.smooth else [])]
    try:
        process = subprocess.Popen(  # noqa: S603 - this Python, our own module
            python_command("geoseg.vector.vectorize", *arguments),
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


def _is_compiled(kernel: Any) -> bool:
    """Return whether a kernel has been compiled here, according to numba's cache index."""
    kernel = compiler_of(kernel)
    folder = kernel.stats.cache_path
    name = f"{kernel.py_func.__module__.rpartition('.')[2]}.{kernel.py_func.__name__}-*.nbi"
    return folder is not None and any(Path(folder).glob(name))


if __name__ == "__main__":
    suffix, *method = sys.argv[1:]
    generalization = (
        Generalization(method[0], 1.0, smooth="smooth" in method) if method and method[0] in METHODS else None
    )
    compile_later_kernels(generalization, suffix)
