"""Polygons read back in batches, from any file that `vectorize` writes or from a GeoDataFrame."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.display.geopackage_style import RGB, style_colors
from geoseg.errors import GeosegError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from geoseg.dataset import FeatureFile

Bounds = tuple[float, float, float, float]
_BATCH_FEATURES = 16_384
_TEXTS = (".geojson", ".json", ".geojsonl", ".geojsons", ".geojsonseq")
_AREAS = ("area_m2", "area_px")
_CODED = frozenset({"code", "name"})
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


def open_features(polygons: Any, layer: str | None = None, map_name: str | None = None) -> FeatureSource:  # noqa: ANN401 - a path, or a GeoDataFrame, which is heavy to name
    """Return the polygons of a source (of one `layer`, else of the only one that has them), or of a GeoDataFrame.

    Of several layers the one called as the map is meant, as `vectorize` calls it. GeosegError for what cannot be read,
    UsageError where several layers could be meant.
    """
    if not isinstance(polygons, str | os.PathLike):
        return _of_frame(polygons)
    path = Path(polygons)
    if path.suffix.lower() in _TEXTS and path.is_file() and not path.stat().st_size:
        return _empty(path)  # a sequence of no features
    source = _one_layer(os.fspath(polygons), layer, map_name)
    try:
        return _of_gdal(source) if source.layers else _of_parquet(Path(source.path))
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, GeosegError):
            raise
        reason = " ".join(str(error).split()).split("; ")[0].rstrip(".;")
        raise GeosegError(
            f"{source.name} cannot be read as polygons: {reason}; give one that geoseg vectorize wrote"
        ) from error


def _one_layer(polygons: str, layer: str | None, map_name: str | None) -> FeatureFile:
    """Return a source with the layer that is meant: the one named, or the only one with the columns of `vectorize`."""
    from geoseg.dataset import FeatureFile, find_features  # noqa: PLC0415 - half a second, for polygons only

    found = find_features(polygons, "polygons", "polygons", "all" if layer is None else layer)
    if not isinstance(found, FeatureFile) or len(found.layers) < 2:
        return cast("FeatureFile", found)
    each = [FeatureFile(found.path, (name,)) for name in found.layers]
    fits = each if layer is not None else [one for one in each if set(one.columns()) >= _CODED]
    fits = [one for one in fits if one.layers == (map_name,)] or fits
    if len(fits) > 1:
        names = ", ".join(one.layers[0] for one in fits)
        raise UsageError(f"{found.name} has {len(fits)} layers of polygons: {names}; one is drawn, name it with layer")
    return (fits or each)[0]


def _of_frame(frame: Any) -> FeatureSource:  # noqa: ANN401 - see above
    area = _area_column(list(getattr(frame, "columns", ())), f"a {type(frame).__name__}")
    shapes = np.asarray(frame.geometry.array, np.object_)
    columns = frame["code"].to_numpy(np.int64), frame["name"].tolist(), frame[area].to_numpy(np.float64)

    def batches() -> Iterator[Batch]:
        for start in range(0, len(shapes), _BATCH_FEATURES):
            some = slice(start, start + _BATCH_FEATURES)
            codes, names, areas = (column[some] for column in columns)
            yield _of_polygons(Batch(codes, names, areas, shapes[some]))

    crs = None if frame.crs is None else CRS.from_wkt(frame.crs.to_wkt())
    return FeatureSource("Land cover", crs, _bounds(frame.total_bounds), area == "area_px", batches, {})


def _of_gdal(source: FeatureFile) -> FeatureSource:
    import pyogrio  # noqa: PLC0415 - half a second, for polygons only

    path, name, layer = Path(source.path), source.gdal_name, source.layers[0]
    info = pyogrio.read_info(name, layer=layer, force_total_bounds=True)
    if path.suffix.lower() in _TEXTS and not info["features"]:
        return _empty(path)  # GeoJSON keeps the columns with the features
    area = _area_column(list(info["fields"]), source.name)

    def batches() -> Iterator[Batch]:
        with pyogrio.open_arrow(
            name, layer=layer, columns=["code", "name", area], batch_size=_BATCH_FEATURES, use_pyarrow=True
        ) as (
            meta,
            reader,
        ):
            geometry = meta["geometry_name"] or "wkb_geometry"
            for batch in reader:
                yield _batch(batch, area, geometry)

    crs = CRS.from_user_input(info["crs"]) if info["crs"] else None
    colors = style_colors(path, layer) if path.suffix.lower() == ".gpkg" else {}
    return FeatureSource(path.stem, crs, _bounds(info["total_bounds"]), area == "area_px", batches, colors)


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
    import shapely  # noqa: PLC0415 - for polygons only

    return _of_polygons(
        Batch(
            batch.column("code").to_numpy(zero_copy_only=False).astype(np.int64),
            batch.column("name").to_pylist(),
            batch.column(area).to_numpy(zero_copy_only=False).astype(np.float64),
            shapely.from_wkb(batch.column(geometry).to_numpy(zero_copy_only=False)),
        )
    )


def _of_polygons(batch: Batch) -> Batch:
    """Return the features that are polygons, those inside of collections among them, each as one."""
    import shapely  # noqa: PLC0415 - for polygons only

    if np.isin(shapely.get_type_id(batch.shapes), (3, 6)).all():
        return batch
    from geoseg.dataset import unpacked  # noqa: PLC0415 - others than geoseg's own

    shapes, owners, _ = unpacked(batch.shapes)
    parts, whose = shapely.get_parts(shapes, return_index=True)
    kept, places = np.unique(owners[whose], return_inverse=True)
    together = np.asarray(shapely.multipolygons(parts, indices=places), np.object_) if len(kept) else shapes
    return Batch(batch.codes[kept], [batch.names[i] for i in kept], batch.areas[kept], together)


def _area_column(names: list[str], source: str) -> str:
    area = next((name for name in _AREAS if name in names), None)
    if area is None or not set(names) >= _CODED:
        raise UsageError(f"{source} cannot be drawn as a map: it has the columns {', '.join(names)[:200]}; {_WHAT}")
    return area


def _bounds(numbers: Any) -> Bounds | None:  # noqa: ANN401 - whatever a file says
    if numbers is None or len(numbers) != 4 or not np.isfinite(np.asarray(numbers, float)).all():
        return None
    x_min, y_min, x_max, y_max = (float(number) for number in numbers)
    return (x_min, y_min, x_max, y_max) if x_max > x_min and y_max > y_min else None
