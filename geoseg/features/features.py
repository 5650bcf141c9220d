"""Sources of vector features: layers of any file GDAL or pyarrow reads, or a GeoDataFrame.

The readers decide what a file is: a list of extensions would never be complete.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyogrio
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.errors import SceneError, UsageError, numbered, one_line
from geoseg.features.layers import (
    FEATURE_ENDS,
    GEOMETRY_READERS,
    LAYER_HINT,
    Kind,
    LayerChoice,
    Layers,
    choose_layers,
    gdal_name,
    is_connection,
    is_parquet,
    listed_layers,
)
from geoseg.given import is_frame, looks_raster
from geoseg.raster import GDAL_ERRORS, check_seekable, shown, stamps

_COMPANION_FILES = {
    ".shp": (".dbf", ".shx", ".prj", ".cpg"),
    ".tab": (".dat", ".map", ".id", ".ind"),
    ".mif": (".mid",),
    ".gml": (".gfs", ".xsd"),
    ".gpkg": (".gpkg-wal",),
    ".sqlite": (".sqlite-wal",),
}
"""Extensions of the other files that GDAL reads for a layer; a database's last changes may still be in its log.

https://gdal.org/drivers/vector/shapefile.html, https://sqlite.org/walformat.html
"""
_QGIS_OPTIONS = ("layername", "layerid", "geometrytype", "uniquegeometrytype")
_READ_ERRORS = (*GEOMETRY_READERS, OSError, ValueError, TypeError, KeyError, shapely.errors.ShapelyError)


@dataclass(frozen=True, slots=True)
class Features:
    """Geometries and one of their columns, in the order of the source."""

    geometries: NDArray[Any]
    """(feature,) shapely geometries; None for a feature without one."""
    values: tuple[str, ...]
    """(feature,) as text; "" for a feature without a value."""
    crs_wkt: str | None


@dataclass(frozen=True, slots=True)
class FeatureFile:
    """One layer of a file, a folder or a database, or several read as one."""

    path: str
    """As given, without a layer."""
    layers: Layers = ()
    """Empty for GeoParquet, which has no layers."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        return shown(self.path)

    @property
    def gdal_name(self) -> str:
        """The path given to GDAL."""
        return gdal_name(self.path)

    @property
    def note(self) -> str | None:
        """A note if several layers are read as one."""
        if len(self.layers) < 2:
            return None
        return f"{self.name}: its layers {', '.join(self.layers)} are read as one; choose one with `layer`"

    @property
    def files(self) -> list[str]:
        """The files of the source: a Shapefile has its attributes and CRS in others. A database connection has none.

        A URL counts as a file, whose server can be asked about it.
        """
        path = self.path
        folder = Path(path)
        if is_connection(path) and "://" not in path:
            return []
        if folder.is_dir():
            return sorted(str(file) for file in folder.rglob("*") if file.is_file())
        companions = _COMPANION_FILES.get(folder.suffix.casefold(), ())
        if not companions or not folder.parent.is_dir():
            return [path]
        others = (other for other in folder.parent.iterdir() if other.stem == folder.stem)
        return [path, *sorted(str(other) for other in others if other.suffix.casefold() in companions)]

    @property
    def stamp(self) -> tuple[object, ...]:
        """A value that changes whenever the source may have changed on disk."""
        return tuple(_size_and_time(name) for name in self.files)

    def state(self) -> object:
        """Return a value that changes with the files, including those on a server."""
        return stamps(self.files) or self.path

    def columns(self) -> list[str]:
        """Return the columns common to all layers. SceneError if the source cannot be read."""
        try:
            if is_parquet(self.path):
                return _parquet_columns(self.path)
            name = self.gdal_name
            columns_by_layer = [
                [str(title) for title in pyogrio.read_info(name, layer=layer)["fields"]] for layer in self.layers
            ]
        except _READ_ERRORS as error:
            raise unreadable(self.path, error) from None
        return [title for title in columns_by_layer[0] if all(title in others for others in columns_by_layer)]

    def is_integer(self, column: str) -> bool:
        """Return whether a column is declared to hold integers, in all layers."""
        if is_parquet(self.path):
            return _is_integer_in_parquet(self.path, column)
        infos = [pyogrio.read_info(self.gdal_name, layer=layer) for layer in self.layers]
        types = [dict(zip(info["fields"], info["dtypes"], strict=True))[column] for info in infos]
        return all(map(_is_integer_dtype, types))

    def read(self, column: str | None = None) -> Features:
        """Return all features, with one column if it is named, in the CRS of the first layer.

        SceneError if they cannot be read.
        """
        try:
            parts = [_parquet(self.path, column)] if is_parquet(self.path) else self._layers(column)
        except _READ_ERRORS as error:
            raise unreadable(self.path, error) from None
        first = parts[0].crs_wkt
        if any((part.crs_wkt is None) != (first is None) for part in parts):
            raise SceneError(f"{self.name}: some of its layers {', '.join(self.layers)} have no CRS; assign one")
        return Features(
            np.concatenate([reprojected(part.geometries, part.crs_wkt, first, self.name) for part in parts]),
            tuple(value for part in parts for value in part.values),
            first,
        )

    def _layers(self, column: str | None) -> list[Features]:
        name, parts = self.gdal_name, []
        columns = [] if column is None else [column]
        for layer in self.layers:
            meta, _, wkb, fields = pyogrio.raw.read(name, layer, columns=columns, force_2d=True)
            geometries = np.empty(0, object) if wkb is None else shapely.from_wkb(wkb)
            cells: Any = fields[0] if len(fields) else [""] * len(geometries)
            if len(fields) and _is_integer_dtype(meta["dtypes"][0]) and cells.dtype.kind == "f":
                # With nulls they are floats, which end at 2**53.
                _, table = pyogrio.raw.read_arrow(name, layer=layer, columns=columns, read_geometry=False)
                cells = table.column(column).to_pylist()
            crs_wkt = CRS.from_user_input(meta["crs"]).to_wkt() if meta["crs"] else None
            parts.append(Features(geometries, tuple(map(_as_text, cells)), crs_wkt))
        return parts


@dataclass(frozen=True, slots=True)
class FeatureFrame:
    """A GeoDataFrame as a value: two with the same content are equal."""

    stamp: str
    crs_wkt: str | None
    geometries: NDArray[Any] = field(compare=False, repr=False)
    table: Mapping[str, tuple[str, ...]] = field(compare=False, repr=False)
    integers: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """Columns of integers."""
    name: str = "the GeoDataFrame"
    note: None = None
    layers: Layers = ()

    @classmethod
    def of(cls, frame: Any) -> Self:  # noqa: ANN401 - a GeoDataFrame, whose import is slow
        """Take a GeoDataFrame's geometries and columns. UsageError as in `geometry_of`."""
        geometry = geometry_of(frame)
        crs_wkt = None if frame.crs is None else CRS.from_wkt(frame.crs.to_wkt()).to_wkt()
        geometries = shapely.force_2d(np.asarray(geometry.array, object))
        table = {
            str(title): tuple(map(_as_text, frame[title].tolist())) for title in frame.columns if title != geometry.name
        }
        hashed = hashlib.sha256(json.dumps([crs_wkt, table]).encode())
        for wkb in shapely.to_wkb(geometries):
            hashed.update(wkb or b"none")
        integers = frozenset(str(title) for title, kind in frame.dtypes.items() if kind.kind in "iu")
        return cls(hashed.hexdigest(), crs_wkt, geometries, table, integers)

    @property
    def files(self) -> list[str]:
        """The files of the source: none."""
        return []

    def state(self) -> object:
        """Return hex that changes with the content."""
        return self.stamp

    def columns(self) -> list[str]:
        """Return the columns except the geometry."""
        return list(self.table)

    def is_integer(self, column: str) -> bool:
        """Return whether a column holds integers."""
        return column in self.integers

    def read(self, column: str | None = None) -> Features:
        """Return all features, with one column if it is named."""
        values = ("",) * len(self.geometries) if column is None else self.table[column]
        return Features(self.geometries, values, self.crs_wkt)


VectorSource = FeatureFile | FeatureFrame


def geometry_of(frame: Any) -> Any:  # noqa: ANN401 - of geopandas, whose import is slow
    """Return the GeoSeries of a GeoDataFrame. UsageError if it has none, or two columns with the same name."""
    duplicates = [str(title) for title in frame.columns[frame.columns.duplicated()]]
    if duplicates:
        raise UsageError(f"the GeoDataFrame has several columns called {duplicates[0]}; rename or drop them")
    try:
        return frame.geometry
    except AttributeError:
        raise UsageError("the GeoDataFrame has no active geometry column; choose one with set_geometry") from None


def is_features(source: object) -> bool:
    """Return whether a source holds features and not a raster, according to its readers."""
    if not isinstance(source, str | os.PathLike):
        return is_frame(source)
    path, layer = _split(os.fspath(source))
    if layer is not None:
        return True
    if looks_raster(path):
        return False
    if is_parquet(path):
        return True
    if any(kind for _, kind in listed_layers(gdal_name(path))):
        return True
    return path.lower().endswith(FEATURE_ENDS) and not _is_raster(path)  # selects the better of two messages


def find_features(
    given: object, kind: Kind, what: str, layer: LayerChoice = None, *, hint: str = LAYER_HINT
) -> VectorSource:
    """Return a source of features with the layers to read.

    `given` is a path, which may end in QGIS's `|layername=NAME`, or a GeoDataFrame; `what` describes it in messages.
    `layer` is a name, several, or "all"; None if only one layer has geometries of that kind. `hint` says how to name a
    layer. SceneError if the source does not exist or cannot be read, UsageError if it is unclear which layer is meant.
    """
    if not isinstance(given, str | os.PathLike):
        if layer is not None:
            raise UsageError(f"`layer` is only for files, got a GeoDataFrame for the {what}; leave it out", "layer")
        return FeatureFrame.of(given)
    path, path_layer = _split(os.fspath(given))
    chosen = layer if path_layer is None else path_layer
    _check_exists(path, what)
    if is_parquet(path):
        if chosen not in (None, Path(path).stem, "all", 0):
            raise UsageError(
                f"{shown(path)} has only one layer, {Path(path).stem}, got {chosen!r}; leave it out", "layer"
            )
        return FeatureFile(path)
    name = gdal_name(path)
    try:
        return FeatureFile(path, choose_layers(name, shown(path), kind, chosen, hint))
    except GEOMETRY_READERS as error:
        if Path(path).is_dir():
            raise SceneError(
                f"{shown(path)} is a folder that GDAL cannot read as {kind}; give the file with the {what}"
            ) from None
        raise unreadable(path, error, kind) from None


def column_of(source: VectorSource, column: str | None, holds: str = "class") -> str:
    """Return the column of the source that holds the class, or something else: see `choose_column`.

    SceneError or UsageError if that is unclear.
    """
    return choose_column(source.columns(), column, source.name, holds)


def choose_column(columns: Sequence[str], column: str | None, name: str, holds: str = "class") -> str:
    """Return the named column, the only one, or the one called `class` if the class is sought. UsageError if unclear.

    `sample` writes a column `class` among others; some programs write all names in upper case.
    """
    if column is None and len(columns) == 1:
        return columns[0]
    candidates = [holds] if holds in columns else [title for title in columns if title.casefold() == holds]
    if column is None and holds == "class" and len(candidates) == 1:
        return candidates[0]
    if column in columns:
        return str(column)
    fault = f"does not say which column holds the {holds}" if column is None else f"has no column {column!r}"
    way = "name it with `column`" if columns else f"add a column with the {holds} of each feature"
    raise UsageError(f"{name} {fault}, it has {', '.join(columns) or 'none'}; {way}", "column")


def _as_text(value: object) -> str:
    """Return a cell as text: 3.0 is "3", a time at midnight is the date, a missing value is ""."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return ""
    if isinstance(value, datetime) and value.tzinfo is None:
        value = np.datetime64(value)
    if isinstance(value, np.datetime64):
        return "" if np.isnat(value) else str(np.datetime_as_string(value, unit="auto"))
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return ""
        if number.is_integer():
            return str(int(number))
    return " ".join(str(value).split())


def reprojected(geometries: NDArray[Any], source_wkt: str | None, target_wkt: str | None, name: str) -> NDArray[Any]:
    """Transform geometries from one CRS to another. SceneError if one cannot be transformed."""
    if source_wkt is None or target_wkt is None or source_wkt == target_wkt or not len(geometries):
        return geometries
    from pyproj import Transformer  # noqa: PLC0415 - takes a tenth of a second, and most runs do not need it
    from pyproj.exceptions import ProjError  # noqa: PLC0415

    def forward(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        target_xy = np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))
        return np.where(np.isnan(target_xy), np.inf, target_xy)  # a ring with NaN is not closed

    try:
        transformer = Transformer.from_crs(source_wkt, target_wkt, always_xy=True)
        moved: NDArray[Any] = shapely.transform(geometries, forward)
    except ProjError as error:
        raise SceneError(f"cannot reproject {name} to the scene's CRS: {one_line(error)}; check its CRS") from None
    has_shape = ~(shapely.is_missing(moved) | shapely.is_empty(moved))
    lost = has_shape & ~(shapely.is_valid_input(moved) & np.isfinite(shapely.bounds(moved)).all(axis=1))
    if lost.any():
        count = numbered(int(np.count_nonzero(lost)), "geometry")
        raise SceneError(f"cannot reproject {count} of {name} to the scene's CRS; check coordinates and CRS")
    return moved


def unreadable(path: str, error: BaseException, kind: Kind = "polygons") -> SceneError:
    """Return the error for a source rejected by its reader."""
    reason = one_line(error, None).split("; It might help")[0].rstrip(".").removeprefix(f"'{path}' ")
    return SceneError(f"cannot read {kind} from {shown(path)}: {reason:.160}; check the file")


def _split(text: str) -> tuple[str, str | int | None]:
    """Split QGIS's notation into a path and a layer. UsageError for its other options."""
    if "|" not in text or Path(text).exists():
        return text, None
    path, *options = text.split("|")
    values_by_title = dict(option.partition("=")[::2] for option in options)
    by_name = {title.casefold(): value for title, value in values_by_title.items()}
    if unknown := set(by_name) - set(_QGIS_OPTIONS):
        raise UsageError(f"{shown(text)}: {min(unknown)} is not supported; save the selected features to a file")
    if "layername" in by_name:
        return path, by_name["layername"]
    number = by_name.get("layerid", "0")
    if not number.isdecimal():
        raise UsageError(f"{shown(text)}: layerid must be a number from 0 up, got {number!r}")
    return path, int(number)


def _check_exists(path: str, what: str) -> None:
    if is_connection(path) or path.startswith("/vsi") or path.lstrip().startswith(("{", "<")):
        return
    if not Path(path).exists():
        raise SceneError(f"{shown(path)}: no such file; check the path of the {what}")
    check_seekable(path)


def _is_raster(path: str) -> bool:
    try:
        with rasterio.open(path) as dataset:
            return bool(dataset.count)
    except GDAL_ERRORS:
        return False


def _is_integer_dtype(dtype: str) -> bool:
    """Return whether a dtype that pyogrio names is of integers; it also names `list(str)`, which numpy lacks."""
    return dtype.startswith(("int", "uint"))


def _parquet_columns(path: str) -> list[str]:
    import pyarrow as pa  # noqa: PLC0415 - takes half a second, and other files do not need it
    import pyarrow.dataset as ds  # noqa: PLC0415

    schema = ds.dataset(path, format="parquet").schema
    geometry = _geometry_column(path)
    nested = (pa.types.is_struct, pa.types.is_list, pa.types.is_map, pa.types.is_binary)
    return [field.name for field in schema if field.name != geometry and not any(test(field.type) for test in nested)]


def _is_integer_in_parquet(path: str, column: str) -> bool:
    import pyarrow as pa  # noqa: PLC0415 - as above
    import pyarrow.dataset as ds  # noqa: PLC0415

    return bool(pa.types.is_integer(ds.dataset(path, format="parquet").schema.field(column).type))


def _geometry_column(path: str) -> str:
    import pyarrow.parquet as pq  # noqa: PLC0415 - takes half a second, and other files do not need it

    part = next(file for file in Path(path).rglob("*.parquet")) if Path(path).is_dir() else path
    geo = json.loads((pq.read_metadata(part).metadata or {}).get(b"geo", b"{}"))
    if "primary_column" not in geo:
        raise SceneError(
            f"{shown(path)} is Parquet without geometries; write it with geopandas.to_parquet or geoseg vectorize"
        )
    return str(geo["primary_column"])


def _parquet(path: str, column: str | None) -> Features:
    import geopandas  # noqa: PLC0415 - takes half a second, and other files do not need it

    columns = [*([] if column is None else [column]), _geometry_column(path)]
    exact = {"integer_object_nulls": True}  # with nulls they would be floats, which end at 2**53
    frame = FeatureFrame.of(geopandas.read_parquet(path, columns=columns, to_pandas_kwargs=exact))
    return frame.read(column)


def _size_and_time(name: str) -> tuple[int, int]:
    try:
        status = os.stat(name)  # noqa: PTH116 - /vsi paths are not real paths
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
