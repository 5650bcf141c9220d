"""The verb: a raster of classes in, polygons out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.atomic import make_folders
from geoseg.given import plain_arguments
from geoseg.legend import Legend, Nomenclature
from geoseg.progress import Progress
from geoseg.vector import formats
from geoseg.vector.ahead import ahead
from geoseg.vector.gather import dissolve as dissolved
from geoseg.vector.generalize import METHODS
from geoseg.vector.geodataframe import to_geodataframe
from geoseg.vector.layer import Table
from geoseg.vector.measure import measure
from geoseg.vector.meter import Meter
from geoseg.vector.order import Order, StrPath
from geoseg.vector.sieve import sieve
from geoseg.vector.trace import trace_strips
from geoseg.vector.warm import warm
from geoseg.vector.zonal import confidence_strips

if TYPE_CHECKING:
    import geopandas


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

    `simplify` is about how far borders may be moved, in metres, or in pixels as "1.5px"; each is moved once, for both
    its neighbours; `method` is visvalingam or douglas-peucker. `smooth` rounds the staircase. Regions under `min_area`,
    in m2, or "0.5ha", "25px", are given to the neighbour with the longest shared border. `connectivity` 8 makes regions
    that touch at a corner one feature. `classes` are the names or codes to keep, `dissolve` makes one feature of each
    class. `legend`, a file or a value, takes the place of the names that the raster carries. `crs` is what the polygons
    are reprojected to. A GeoPackage that is there keeps its other layers: `layer`, by default the map's name, is added,
    or replaced where `overwrite`.

    Raises UsageError, SceneError or OutputError; then nothing is at `out` that was not there before.
    """
    say = announce or _quiet
    if mkdir:
        make_folders(out)
    order = Order.of(
        landcover, out, simplify=simplify, method=method, smooth=smooth, min_area=min_area, connectivity=connectivity,
        classes=classes, dissolve=dissolve, confidence=confidence, legend=legend, crs=crs, layer=layer,
        overwrite=overwrite, announce=say,
    )  # fmt: skip
    warm(order.raster.dtype, order.tracing, order.target, say, sieved=order.sieving is not None)
    meter = Meter(order.raster, progress, sieved=order.sieving is not None)
    tables = meter.written(_tables(order, meter))
    if order.target is None:
        frame = to_geodataframe(tables, order.layer, crs=order.crs)
        meter.report()
        return frame
    formats.write(order.target, order.layer, tables, crs=order.crs)
    meter.report()  # the file's index may have taken a while
    if not meter.polygons:
        say(f"{order.target.name} holds no polygon: no pixel is valid{' and of a class asked for' if classes else ''}")
    return order.target


def _tables(order: Order, meter: Meter) -> Iterator[Table]:
    """Read, sieve, trace and measure, each as far ahead of the next as one strip."""
    raster, geobox = order.raster, order.raster.scene.geobox
    strips = raster.strips
    if order.sieving is not None:
        strips = sieve(lambda: meter.read(ahead(raster.strips())), raster.background, geobox.width_px, **order.sieving)
    confidences = confidence_strips(order.confidence, raster.windows()) if order.confidence else None
    polygons = trace_strips(
        ahead(strips()), geobox.height_px, raster.background, geobox.transform, order.tracing, confidences
    )
    polygons = meter.made(ahead(polygons))
    if order.dissolve:
        polygons = dissolved(polygons, order.tracing.budget)
    for batch in polygons:
        yield Table(batch, *measure(batch, order.surface))
    order.check_unchanged()


def _quiet(_line: str) -> None:
    """Say nothing."""
