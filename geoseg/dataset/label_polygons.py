"""Labels as polygons with a class column, burned into the grid of a scene window by window."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio.features
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.dataset.decoded import Decoded, Strays
from geoseg.errors import SceneError, UsageError
from geoseg.legend import NODATA
from geoseg.raster.environment import shown
from geoseg.raster.geobox import GeoBox
from geoseg.raster.windows import Window

_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".kml", ".gml", ".sqlite", ".geojsonl")
_BESIDE = {
    ".shp": (".dbf", ".shx", ".prj", ".cpg"),
    ".gml": (".gfs", ".xsd"),
    ".gpkg": (".gpkg-wal",),
    ".sqlite": (".sqlite-wal",),
}
"""Endings of the other files that GDAL reads for a layer; a database's last changes may still be in its log.

https://gdal.org/drivers/vector/shapefile.html, https://sqlite.org/walformat.html
"""
_PYOGRIO_ERRORS = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.CRSError, ValueError)


@dataclass(frozen=True, slots=True)
class LabelPolygons:
    """A layer of polygons. A pixel has the class of the polygon that holds its centre; of several, of the last."""

    path: str
    column: str
    codes: tuple[tuple[str, int], ...]
    """(value of the column as text, code in the legend); polygons of other values are not labels."""
    crs_wkt: str | None

    def decode(self, grid: GeoBox, window: Window) -> Decoded:
        """Return the codes in a window of a scene's grid. SceneError when the file cannot be read or brought there."""
        codes = np.full(window.shape, NODATA, np.uint8)
        crs_wkt = None if grid.crs is None else grid.crs.to_wkt()
        shapes = _shapes(self.path, _stamp(self.path), self.column, self.crs_wkt, crs_wkt)
        place = grid[window]
        corners = [(0, 0), (window.width, 0), (0, window.height), (window.width, window.height)]
        frame = shapely.MultiPoint([place.transform @ corner for corner in corners]).envelope
        by_value = dict(self.codes)
        near = np.sort(shapes.tree.query(frame))
        burned = [(shapes.geometries[i], by_value[shapes.values[i]]) for i in near if shapes.values[i] in by_value]
        if burned:
            rasterio.features.rasterize(burned, out=codes, transform=place.transform)
        return Decoded(codes, Strays(0, window.size))


@dataclass(frozen=True, slots=True)
class _Shapes:
    geometries: NDArray[Any]
    values: tuple[str, ...]
    tree: shapely.STRtree


def is_polygon_file(path: str) -> bool:
    """Say whether a name is one of a file of features."""
    return path.lower().endswith(_SUFFIXES)


def files_of(path: str) -> list[str]:
    """Return the files that hold a layer: of a Shapefile the classes and the CRS lie beside the polygons."""
    file = Path(path)
    beside = _BESIDE.get(file.suffix.casefold(), ())
    if not beside or not file.parent.is_dir():
        return [path]
    others = (other for other in file.parent.iterdir() if other.stem == file.stem)
    return [path, *sorted(str(other) for other in others if other.suffix.casefold() in beside)]


def column_of(path: str, column: str | None) -> str:
    """Return the column that holds the class: the one named, or the only one. SceneError or UsageError if unclear."""
    try:
        columns = [str(name) for name in pyogrio.read_info(path, layer=_layer_of(path))["fields"]]
    except _PYOGRIO_ERRORS as error:
        raise _unreadable(path, error) from None
    if column is None and len(columns) == 1:
        return columns[0]
    if column in columns:
        return str(column)
    fault = "says not which column holds the class" if column is None else f"has no column {column!r}"
    raise UsageError(f"{shown(path)} {fault}, it has {', '.join(columns) or 'none'}; name it with --column")


def values_of(path: str, column: str) -> tuple[tuple[str, ...], str | None]:
    """Return the distinct values of a column as text, in order, and the CRS as WKT. SceneError."""
    meta, _, fields = _read(path, column)
    found = {text for value in fields if (text := as_text(value))}
    return tuple(sorted(found)), _wkt(path, meta["crs"])


def check_place(path: str, crs_wkt: str | None, grid: GeoBox, scene: str) -> None:
    """Raise SceneError unless polygons can be burned into a grid."""
    if not grid.has_transform or grid.transform.is_degenerate or (grid.crs is None) != (crs_wkt is None):
        raise SceneError(
            f"{shown(path)} cannot be laid upon {shown(scene)}: both need a CRS, and the scene a transform; "
            "georeference it (gdalwarp for ground control points), or assign the CRS"
        )


def as_text(value: object) -> str:
    """Return a cell as text: 3.0 is "3", what is missing is empty."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(float(value))):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return " ".join(str(value).split())


def _read(path: str, column: str) -> tuple[dict[str, Any], NDArray[Any], Sequence[Any]]:
    try:
        meta, _, geometries, fields = pyogrio.raw.read(path, _layer_of(path), columns=[column], force_2d=True)
    except _PYOGRIO_ERRORS as error:
        raise _unreadable(path, error) from None
    if not len(fields) or geometries is None or not len(geometries):
        raise SceneError(f"{shown(path)} holds no polygon with a column {column!r}; give polygons of the classes")
    return meta, geometries, fields[0]


def _layer_of(path: str) -> str | int:
    """Return the first layer with geometry: a GeoPackage with its style, as geoseg writes it, has a table besides."""
    return next((str(name) for name, kind in pyogrio.list_layers(path) if kind), 0)


def _wkt(path: str, crs: str | None) -> str | None:
    if not crs:
        return None
    try:
        wkt: str = CRS.from_string(crs).to_wkt()
    except (ValueError, rasterio.errors.CRSError) as error:
        raise _unreadable(path, error) from None
    return wkt


def _unreadable(path: str, error: BaseException) -> SceneError:
    return SceneError(f"cannot read polygons from {shown(path)}: {' '.join(str(error).split()):.160}; check the file")


def _stamp(path: str) -> tuple[tuple[int, int], ...]:
    return tuple(_size_and_time(name) for name in files_of(path))


def _size_and_time(name: str) -> tuple[int, int]:
    try:
        status = os.stat(name)  # noqa: PTH116 - /vsi paths are no paths
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=2)
def _shapes(
    path: str, _stamp: tuple[tuple[int, int], ...], column: str, theirs: str | None, ours: str | None
) -> _Shapes:
    """Return all features, brought to the scene's CRS: they are read once for all windows."""
    _, wkb, fields = _read(path, column)
    geometries = shapely.from_wkb(wkb)
    if theirs is not None and ours is not None and theirs != ours:
        geometries = _reprojected(path, geometries, theirs, ours)
    is_area = np.isin(shapely.get_type_id(geometries), (3, 6)) & ~shapely.is_empty(geometries)
    if not is_area.any():
        raise SceneError(f"{shown(path)} holds no polygon; labels are polygons, buffer points and lines first")
    values = tuple(as_text(value) for value, keep in zip(fields, is_area, strict=True) if keep)
    kept = geometries[is_area]
    return _Shapes(kept, values, shapely.STRtree(kept))


def _reprojected(path: str, geometries: NDArray[Any], theirs: str, ours: str) -> NDArray[Any]:
    from pyproj import Transformer  # noqa: PLC0415 - a tenth of a second that most runs do not need
    from pyproj.exceptions import ProjError  # noqa: PLC0415

    try:
        transformer = Transformer.from_crs(theirs, ours, always_xy=True)
        moved: NDArray[Any] = shapely.transform(
            geometries, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))
        )
    except ProjError as error:
        raise SceneError(
            f"cannot bring {shown(path)} to the scene's CRS: {' '.join(str(error).split()):.160}"
        ) from None
    finite = shapely.is_valid_input(moved) & np.isfinite(shapely.bounds(moved)).all(axis=1)
    if not finite.all():
        raise SceneError(f"{shown(path)}: {np.count_nonzero(~finite)} polygons cannot be brought to the scene's CRS")
    return moved
