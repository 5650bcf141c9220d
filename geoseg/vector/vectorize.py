"""The verb: a raster of classes becomes polygons."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from geoseg.atomic import make_folders
from geoseg.given import plain_arguments
from geoseg.legend import Legend, Nomenclature
from geoseg.prefetch import prefetch
from geoseg.progress import Progress, announcer
from geoseg.raster import ClassRaster
from geoseg.vector.io import to_geodataframe, write
from geoseg.vector.measure import confidence_strips, measure
from geoseg.vector.options import Options, StrPath
from geoseg.vector.polygonize import trace_strips
from geoseg.vector.polygons import FeatureTable, Polygons
from geoseg.vector.precompile import precompile
from geoseg.vector.sieve import sieve
from geoseg.vector.simplify import METHODS
from geoseg.vector.trace import dissolve as dissolved

if TYPE_CHECKING:
    import geopandas


class StripProgress:
    """Counts strips as they pass: those read to see what is small, if they are, and those made to polygons.

    Either pass is half of the work then, so that pixels stay those of the raster.
    """

    def __init__(self, raster: ClassRaster, report: Callable[[Progress], None] | None, *, sieved: bool) -> None:
        windows = list(raster.windows())
        self._sieved = len(windows) if sieved else 0
        self._pixels_total = sum(window.height * window.width for window in windows)
        self._windows = 2 * windows if sieved else windows
        self._passes = 2 if sieved else 1
        self._report = report
        self._begun_s = time.monotonic()
        self._strips = self._pixels = self._polygons = 0

    @property
    def polygons(self) -> int:
        """Features so far."""
        return self._polygons

    def read(self, strips: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Yield the same strips, and report each; not when they are read a second time, to be made to polygons."""
        for strip in strips:
            yield strip
            if self._strips < self._sieved:
                self._count()

    def made(self, batches: Iterable[Polygons]) -> Iterator[Polygons]:
        """Yield the same batches, one a strip, and report each."""
        for batch in batches:
            yield batch
            self._count()

    def written(self, tables: Iterable[FeatureTable]) -> Iterator[FeatureTable]:
        """Yield the same tables, and count their features."""
        for table in tables:
            self._polygons += len(table)
            yield table

    def report(self) -> None:
        """Report where the run is."""
        pixels = self._pixels // self._passes
        if self._report is not None:
            self._report(
                Progress(
                    self._strips,
                    len(self._windows),
                    pixels,
                    self._pixels_total,
                    pixels,
                    time.monotonic() - self._begun_s,
                    self._polygons,
                    "polygons",
                )
            )

    def _count(self) -> None:
        window = self._windows[self._strips]
        self._strips += 1
        self._pixels += window.height * window.width
        self.report()


@plain_arguments()
def vectorize(
    landcover: StrPath,
    out: StrPath | None = None,
    *,
    simplify: float | str | None = None,
    method: str = METHODS[0],
    smooth: bool = False,
    min_area: float | str | None = None,
    connectivity: int = 4,
    classes: str | int | Sequence[str | int] | None = None,
    dissolve: bool = False,
    confidence: StrPath | None = None,
    legend: StrPath | Legend | Nomenclature | None = None,
    crs: Any = None,
    layer: str | None = None,
    mkdir: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> Path | geopandas.GeoDataFrame:
    """Turn a raster of classes, of any size, into polygons without gaps or overlaps.

    They are written to `out` (.gpkg, .parquet, .fgb, .geojson, .geojsonl), whose path is returned; without it a
    GeoDataFrame is. Columns: code, name, area_m2, perimeter_m, geometry, and with a `confidence` raster on the same
    grid its mean. Without a CRS area and perimeter are in pixels.

    `simplify` is about how far borders may be moved, in meters, or in pixels as "1.5px"; each is moved once, for both
    its neighbors; `method` is visvalingam or douglas-peucker. `smooth` rounds the staircase. Regions under `min_area`,
    in m2, or "0.5ha", "25px", are given to the neighbor with the longest shared border. `connectivity` 8 makes regions
    that touch at a corner one feature. `classes` are the names or codes to keep, `dissolve` makes one feature of each
    class. `legend`, a file or a value, takes the place of the names that the raster carries. `crs` is what the polygons
    are reprojected to. A GeoPackage that is there keeps its other layers: `layer`, by default the map's name, is added,
    or replaced where `overwrite`.

    Raises UsageError, SceneError or OutputError; then nothing is at `out` that was not there before.
    """
    say = announcer(announce)
    if mkdir:
        make_folders(out)
    order = Options.of(
        landcover, out, simplify=simplify, method=method, smooth=smooth, min_area=min_area, connectivity=connectivity,
        classes=classes, dissolve=dissolve, confidence=confidence, legend=legend, crs=crs, layer=layer,
        overwrite=overwrite, announce=say,
    )  # fmt: skip
    precompile(order.raster.dtype, order.tracing, order.target, say, sieved=order.sieving is not None)
    meter = StripProgress(order.raster, progress, sieved=order.sieving is not None)
    tables = meter.written(_tables(order, meter))
    if order.target is None:
        frame = to_geodataframe(tables, order.layer, crs=order.crs)
        meter.report()
        return frame
    write(order.target, order.layer, tables, crs=order.crs)
    meter.report()  # the file's index may have taken a while
    if not meter.polygons:
        say(f"{order.target.name} holds no polygon: no pixel is valid{' and of a class asked for' if classes else ''}")
    return order.target


def _tables(order: Options, meter: StripProgress) -> Iterator[FeatureTable]:
    """Read, sieve, trace and measure, each as far ahead of the next as one strip."""
    raster, geobox = order.raster, order.raster.scene.geobox
    strips = raster.strips
    if order.sieving is not None:
        strips = sieve(
            lambda: meter.read(prefetch(raster.strips())), raster.background, geobox.width_px, **order.sieving
        )
    confidences = confidence_strips(order.confidence, raster.windows()) if order.confidence else None
    polygons = trace_strips(
        prefetch(strips()), geobox.height_px, raster.background, geobox.transform, order.tracing, confidences
    )
    polygons = meter.made(prefetch(polygons))
    if order.dissolve:
        polygons = dissolved(polygons, order.tracing.budget)
    for batch in polygons:
        yield FeatureTable(batch, *measure(batch, order.surface))
    order.check_unchanged()
