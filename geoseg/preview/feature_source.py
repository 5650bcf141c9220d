"""Polygons read back in batches, from any file that `vectorize` writes or from a GeoDataFrame."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.errors import GeosegError, UsageError
from geoseg.preview.geopackage_style import RGB, style_colors

if TYPE_CHECKING:
    import pyarrow as pa

Bounds = tuple[float, float, float, float]
_BATCH_FEATURES = 16_384
_TEXTS = (".geojson", ".json", ".geojsonl", ".geojsons", ".geojsonseq")
_AREAS = ("area_m2", "area_px")
_WHAT = "polygons as geoseg.vectorize makes them have the columns code, name and area_m2 or area_px"


@dataclass(frozen=True, slots=True)
class Batch:
    """Some features."""

    codes: NDArray[np.int64]
    """(feature,)"""
    names: list[str]
    areas: NDArray[np.float64]
    """(feature,) square metres, or pixels where the source's `in_px`."""
    shapes: NDArray[np.object_]
    """(feature,) shapely's polygons or multipolygons."""


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """Polygons that can be gone through without holding them all."""

    title: str
    crs: CRS | None
    bounds: Bounds | None
    """Least x, least y, greatest x, greatest y; None where there is no polygon."""
    in_px: bool
    """Whether areas are in pixels."""
    batches: Callable[[], Iterator[Batch]]
    colors: dict[str, RGB]
    """By class name, as far as the source knows them."""


def open_features(polygons: Any, layer: str | None = None) -> FeatureSource:  # noqa: ANN401 - a path, or a GeoDataFrame, which is heavy to name
    """Return the polygons of a file (of one `layer`, else the first that has them), or of a GeoDataFrame.

    GeosegError for what cannot be read.
    """
    if not isinstance(polygons, str | os.PathLike):
        return _of_frame(polygons)
    path = Path(polygons)
    if not path.is_file():
        raise GeosegError(f"{path}: no such file; give one that geoseg vectorize wrote")
    try:
        return _of_parquet(path) if path.suffix.lower() in {".parquet", ".geoparquet"} else _of_gdal(path, layer)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, GeosegError):
            raise
        reason = " ".join(str(error).split()).split("; ")[0].rstrip(".;")
        raise GeosegError(
            f"{path} cannot be read as polygons: {reason}; give one that geoseg vectorize wrote"
        ) from error


def _of_frame(frame: Any) -> FeatureSource:  # noqa: ANN401 - see above
    area = _area_column(list(getattr(frame, "columns", ())), f"a {type(frame).__name__}")
    shapes = np.asarray(frame.geometry.array, np.object_)
    columns = frame["code"].to_numpy(np.int64), frame["name"].tolist(), frame[area].to_numpy(np.float64)

    def batches() -> Iterator[Batch]:
        for start in range(0, len(shapes), _BATCH_FEATURES):
            some = slice(start, start + _BATCH_FEATURES)
            codes, names, areas = (column[some] for column in columns)
            yield Batch(codes, names, areas, shapes[some])

    crs = None if frame.crs is None else CRS.from_wkt(frame.crs.to_wkt())
    return FeatureSource("Land cover", crs, _bounds(frame.total_bounds), area == "area_px", batches, {})


def _of_gdal(path: Path, layer: str | None) -> FeatureSource:
    import pyogrio  # noqa: PLC0415 - half a second, for pictures only

    if path.suffix.lower() in _TEXTS and not path.stat().st_size:
        return _empty(path)  # a sequence of no features
    name = _first_layer(path) if layer is None and path.suffix.lower() == ".gpkg" else layer or 0
    info = pyogrio.read_info(path, layer=name, force_total_bounds=True)
    if path.suffix.lower() in _TEXTS and not info["features"]:
        return _empty(path)  # GeoJSON keeps the columns with the features
    area = _area_column(list(info["fields"]), str(path))

    def batches() -> Iterator[Batch]:
        with pyogrio.open_arrow(
            path, layer=name, columns=["code", "name", area], batch_size=_BATCH_FEATURES, use_pyarrow=True
        ) as (
            meta,
            reader,
        ):
            geometry = meta["geometry_name"] or "wkb_geometry"
            for batch in reader:
                yield _batch(batch, area, geometry)

    crs = CRS.from_user_input(info["crs"]) if info["crs"] else None
    colors = style_colors(path, info["layer_name"]) if path.suffix.lower() == ".gpkg" else {}
    return FeatureSource(path.stem, crs, _bounds(info["total_bounds"]), area == "area_px", batches, colors)


def _first_layer(path: Path) -> str | int:
    """Return the first layer of a GeoPackage with the columns of `vectorize`: its style is a layer too, and others."""
    import pyogrio  # noqa: PLC0415 - half a second, for pictures only

    for name, geometry in pyogrio.list_layers(path):
        if geometry and {"code", "name"} <= set(pyogrio.read_info(path, layer=name)["fields"]):
            return str(name)
    return 0


def _empty(path: Path) -> FeatureSource:
    return FeatureSource(path.stem, CRS.from_epsg(4326), None, in_px=False, batches=lambda: iter(()), colors={})


def _of_parquet(path: Path) -> FeatureSource:
    import pyarrow.parquet as pq  # noqa: PLC0415 - for pictures only

    with pq.ParquetFile(path) as file:
        names, metadata = file.schema_arrow.names, file.metadata.metadata or {}
    area = _area_column(names, str(path))
    geo = json.loads(metadata[b"geo"])
    geometry = geo["primary_column"]
    column = geo["columns"][geometry]

    def batches() -> Iterator[Batch]:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_FEATURES, columns=["code", "name", area, geometry]):
                yield _batch(batch, area, geometry)

    return FeatureSource(path.stem, _projjson(column), _bounds(column.get("bbox")), area == "area_px", batches, {})


def _projjson(column: dict[str, Any]) -> CRS | None:
    """Return the CRS of a GeoParquet column; left out, it means longitude and latitude."""
    import pyproj  # noqa: PLC0415 - for pictures only

    if "crs" not in column:
        return CRS.from_epsg(4326)
    return None if column["crs"] is None else CRS.from_wkt(pyproj.CRS.from_json_dict(column["crs"]).to_wkt())


def _batch(batch: pa.RecordBatch, area: str, geometry: str) -> Batch:
    import shapely  # noqa: PLC0415 - for pictures only

    return Batch(
        batch.column("code").to_numpy(zero_copy_only=False).astype(np.int64),
        batch.column("name").to_pylist(),
        batch.column(area).to_numpy(zero_copy_only=False).astype(np.float64),
        shapely.from_wkb(batch.column(geometry).to_numpy(zero_copy_only=False)),
    )


def _area_column(names: list[str], source: str) -> str:
    area = next((name for name in _AREAS if name in names), None)
    if area is None or not {"code", "name"} <= set(names):
        raise UsageError(f"{source} cannot be drawn as a map: it has the columns {', '.join(names)[:200]}; {_WHAT}")
    return area


def _bounds(numbers: Any) -> Bounds | None:  # noqa: ANN401 - whatever a file says
    if numbers is None or len(numbers) != 4 or not np.isfinite(np.asarray(numbers, float)).all():
        return None
    x_min, y_min, x_max, y_max = (float(number) for number in numbers)
    return (x_min, y_min, x_max, y_max) if x_max > x_min and y_max > y_min else None
