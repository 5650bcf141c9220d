"""Points of a sample: read with their true class, or written for somebody to fill it in."""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeGuard

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform

from geoseg import features
from geoseg.atomic import check_closed, check_target, make_folders, write_durably
from geoseg.counts import NONE, PairCounts
from geoseg.errors import OutputError, SceneError, UsageError, listed, numbered
from geoseg.evaluation.reference import checked_code
from geoseg.given import TABLES, StrPath, delimiter_in, is_frame, rows_of, text_in
from geoseg.legend import Nomenclature, class_list, name_key
from geoseg.raster import (
    GDAL_ERRORS,
    ClassRaster,
    GeoBox,
    Patch,
    Scene,
    Window,
    apply_transform,
    period_of,
    public_name,
    shown,
)

if TYPE_CHECKING:
    import geopandas
    import pandas as pd

    from geoseg.features import LayerChoice

_DEGREES = (("lon", "lat"), ("longitude", "latitude"), ("long", "lat"))
_PLANE = (("x", "y"), ("easting", "northing"), ("e", "n"))
_CSV = (*TABLES, ".txt")
_WKT = "wkt"
"""The column that GDAL reads geometries of any type from."""
_COMPOUND_TYPES = (4, 5, 6, 7)
"""shapely's types from MultiPoint to GeometryCollection."""
_WHOLE = re.compile(r"([-+]?\d+)(?:[.,]0*)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"([-+]?\d+),(\d+)", re.ASCII)
_WGS84 = "EPSG:4326"

_DRIVERS: Mapping[str, str | None] = {
    ".gpkg": "GPKG",
    ".geojson": "GeoJSON",
    ".json": "GeoJSON",
    ".fgb": "FlatGeobuf",
    ".parquet": None,
    ".geoparquet": None,
    ".csv": None,
}
"""GDAL's driver by extension; None if GDAL does not write the file."""
_GEOJSON = "GeoJSON"
_READ_PX = 512
"""Most rows and columns read at once for the points in them."""
_DECIMALS = 9
"""Decimals of degrees: a tenth of a millimeter."""


@dataclass(frozen=True, slots=True, eq=False)
class PointSample:
    """Points with their true class."""

    path: str
    x: NDArray[np.float64]
    """(point,)"""
    y: NDArray[np.float64]
    crs: CRS | None
    """None for the map's CRS."""
    labels: tuple[str, ...]
    """Name or code of each point's class."""

    notes: tuple[str, ...] = ()
    """Lines for the user."""

    @classmethod
    def read(cls, given: Any, column: str | None = None, layer: LayerChoice = None) -> Self:  # noqa: ANN401 - see below
        """Read points and the column that holds their class. SceneError or UsageError if they are invalid.

        `given`: a path or a GeoDataFrame, whose type is slow to import. A CSV has a heading with x and y in the map's
        CRS, or with lon and lat in WGS 84. `layer`: the layer to read if a source has several with points. Points
        without coordinates or geometry are left out; a note counts these, and points at the same place.
        """
        rows = _from_csv(Path(given)) if _is_csv(given) else None
        rows = rows or _from_features(given, column, layer)
        class_column = features.choose_column(list(rows.table), column, rows.name)
        has_place = np.isfinite(rows.x) & np.isfinite(rows.y)
        if not has_place.any():
            detail = f": {len(has_place)} have no coordinates" if len(has_place) else ""
            raise SceneError(f"{rows.name} holds no points{detail}; give points with their true class")
        labels = tuple(compress(rows.table[class_column], has_place))
        if empty := [number for number, label in zip(np.flatnonzero(has_place) + 1, labels, strict=True) if not label]:
            verb, it_or_them = ("has", "it") if len(empty) == 1 else ("have", "them")
            raise SceneError(
                f"{rows.name}: {len(empty)} of {numbered(len(labels), 'point')} {verb} no class in column "
                f"{class_column}, the first is point {empty[0]}; fill {it_or_them} in or drop {it_or_them}"
            )
        x, y = rows.x[has_place], rows.y[has_place]
        notes = _notes(rows.name, int(np.count_nonzero(~has_place)), x, y)
        return cls(rows.name, x, y, rows.crs, labels, notes)

    def __len__(self) -> int:
        return len(self.labels)

    def count(self, mapped: ClassRaster, names: Nomenclature) -> PairCounts:
        """Count the points by their class and the map's code at their place.

        `names` are those of the reference. SceneError if the points cannot be transformed to the map's CRS, UsageError
        for an unknown class.
        """
        codes = self._codes(names)
        rows, cols = self._pixels(mapped)
        if self._looks_like_degrees(mapped.scene.geobox):
            raise SceneError(
                f"{self.path}: x and y look like longitude and latitude, but are read in the map's CRS; call the "
                "columns lon and lat"
            )
        return PairCounts(Counter(zip(codes, _map_codes(mapped, rows, cols).tolist(), strict=True)))

    def _codes(self, names: Nomenclature) -> list[int]:
        by_key = {name_key(named.name): named.code for named in names}
        codes = []
        for label in self.labels:
            whole_number = _WHOLE.fullmatch(label)
            code = by_key.get(name_key(label), int(whole_number[1]) if whole_number else None)
            if code is None:
                raise UsageError(
                    f"{self.path}: no class is called {label!r:.80}; the legend has {class_list(names)}; "
                    "name classes with `reference_legend`",
                    "reference_legend",
                )
            codes.append(checked_code(code, self.path))
        return codes

    def _looks_like_degrees(self, geobox: GeoBox) -> bool:
        """Return whether points of a CSV that should be in the map's CRS have small coordinates far from the map."""
        if self.crs is not None or geobox.crs is None or geobox.crs.is_geographic:
            return False
        is_small = (np.abs(self.x) <= 360).all() and (np.abs(self.y) <= 90).all()
        return bool(is_small and not _inside(geobox, *apply_transform(~geobox.transform, self.x, self.y)).any())

    def _pixels(self, mapped: ClassRaster) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the row and column of each point in the map, -1 if they are not finite."""
        geobox, x, y = mapped.scene.geobox, self.x, self.y
        if self.crs is not None and geobox.crs is None:
            raise SceneError(
                f"{shown(mapped.scene.path)} has no CRS, so the points of {self.path} cannot be placed; assign one"
            )
        if self.crs is not None and self.crs != geobox.crs:
            try:
                transformed = transform(self.crs, geobox.crs, x.tolist(), y.tolist())
            except GDAL_ERRORS as error:
                raise SceneError(f"cannot transform the points of {self.path} to the map's CRS: {error}") from None
            x, y = np.array(transformed[0]), np.array(transformed[1])
        to_pixels = ~geobox.transform
        cols, rows = apply_transform(to_pixels, x, y)
        if period := period_of(geobox.crs):  # 180.1 is -179.9
            for shifted in (apply_transform(to_pixels, x + period, y), apply_transform(to_pixels, x - period, y)):
                is_better = _inside(geobox, *shifted) & ~_inside(geobox, cols, rows)
                cols, rows = np.where(is_better, shifted, (cols, rows))
        is_finite = np.isfinite(cols) & np.isfinite(rows) & (np.abs(cols) < 2**31) & (np.abs(rows) < 2**31)
        return tuple(np.where(is_finite, np.floor(axis), -1).astype(np.int64) for axis in (rows, cols))  # type: ignore[return-value]


def _inside(geobox: GeoBox, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (cols >= 0) & (cols < geobox.width_px) & (rows >= 0) & (rows < geobox.height_px)


def _map_codes(mapped: ClassRaster, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the map's code at each pixel (point,), NONE where it has none. Pixels of one block are read together."""
    height, width = mapped.scene.shape
    block_rows, block_cols = (min(side, _READ_PX) for side in mapped.scene.block_shape)
    codes = np.full(len(rows), NONE, np.int64)
    inside = np.flatnonzero((rows >= 0) & (rows < height) & (cols >= 0) & (cols < width))
    blocks = np.stack([cols[inside] // block_cols, rows[inside] // block_rows])
    order = np.lexsort(blocks)
    ends = np.flatnonzero(np.diff(blocks[:, order]).any(axis=0)) + 1
    for points in np.split(inside[order], ends) if len(inside) else ():
        row, col = rows[points] - rows[points].min(), cols[points] - cols[points].min()
        window = Window(rows[points].min(), cols[points].min(), row.max() + 1, col.max() + 1)
        patch = mapped.scene.read(window)
        found = mapped.decoded(Patch(patch.data[:, None, row, col], patch.valid[None, row, col]))
        codes[points[found.valid[0]]] = found.data[0, found.valid]
    return codes


@dataclass(frozen=True, slots=True)
class _SampleRows:
    """The rows of a source, unchanged."""

    name: str
    x: NDArray[np.float64]
    """(row,) nan if there is none."""
    y: NDArray[np.float64]
    crs: CRS | None
    table: Mapping[str, Sequence[str]]
    """Values by column; one column holds the class."""


def _notes(name: str, missing: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[str, ...]:
    notes, name = [], public_name(name)
    if missing:
        notes.append(f"{name}: {numbered(missing, 'point')} without coordinates, left out")
    _, first = np.unique(np.column_stack([x, y]), axis=0, return_index=True)
    if repeated := len(x) - len(first):
        notes.append(
            f"{name}: {numbered(repeated, 'point')} at the same place as another; all are counted, so drop any "
            "repeated observation"
        )
    return tuple(notes)


def is_table_of_points(given: object) -> bool:
    """Return whether a reference is a CSV with a column per coordinate; a grid of x, y and z is a raster."""
    try:
        if not _has_csv_extension(given) or not Path(given).is_file() or _from_csv(Path(given)) is None:
            return False
    except SceneError:  # it has no coordinates
        return False
    try:
        Scene.open(given)
    except SceneError:
        return True
    return False


def _is_csv(given: object) -> bool:
    if not _has_csv_extension(given):
        return False
    if not Path(given).is_file():
        raise SceneError(f"{shown(os.fspath(given))}: no such file; check the path of the sample")
    return True


def _has_csv_extension(given: object) -> TypeGuard[StrPath]:
    return isinstance(given, str | os.PathLike) and os.fspath(given).lower().endswith(_CSV)


def _from_csv(path: Path) -> _SampleRows | None:
    """Return the rows of a CSV; None if its coordinates are not in two columns, but in one that GDAL reads.

    Programs that write decimal commas put ; or tabs between columns: in such files, 1,500 is one and a half.
    """
    try:
        lines = text_in(path).splitlines()
        heading = lines[0] if lines else ""
        delimiter = delimiter_in(heading)
        titles, *rows = rows_of(lines, delimiter) or [[]]
    except ValueError as error:
        raise SceneError(f"{path} {error}") from None
    filled = list(filter(any, rows))
    table = {title: [row[i] if i < len(row) else "" for row in filled] for i, title in enumerate(titles)}
    title_of = {title.casefold(): title for title in titles}
    for pairs, crs in ((_DEGREES, CRS.from_string(_WGS84)), (_PLANE, None)):
        for first, second in pairs:
            if first in title_of and second in title_of:
                x, y = (
                    _numbers(table.pop(title_of[title]), f"{path}, {title_of[title]}", commas=delimiter != ",")
                    for title in (first, second)
                )
                return _SampleRows(str(path), x, y, crs, table)
    if _WKT in title_of:
        return None
    raise SceneError(f"{path} has no columns x and y, or lon and lat, in its heading, got {heading!r:.60}; add them")


def _numbers(cells: Sequence[str], where: str, *, commas: bool) -> NDArray[np.float64]:
    numbers = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        decimal = _DECIMAL_COMMA.fullmatch(cell) if commas else None
        try:
            numbers[i] = float(cell if decimal is None else ".".join(decimal.groups())) if cell else np.nan
        except ValueError:
            raise SceneError(f"{where}: point {i + 1} is not a number, got {cell!r:.40}") from None
    return numbers


def _from_features(given: Any, column: str | None, layer: LayerChoice) -> _SampleRows:  # noqa: ANN401 - a path, or a GeoDataFrame
    if not isinstance(given, str | os.PathLike) and not is_frame(given):
        raise UsageError(
            f"a sample is a file of points or a GeoDataFrame, got {type(given).__name__}; give one", "sample"
        )
    source = features.find_features(given, "points", "sample", layer)
    class_column = features.column_of(source, column)
    data = source.read(class_column)
    x, y = _places(data.geometries, source.name)
    crs = None if data.crs_wkt is None else CRS.from_wkt(data.crs_wkt)
    return _SampleRows(source.name, x, y, crs, {class_column: data.values})  # noqa: PD011 - no Series


def _places(geometries: NDArray[Any], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y (feature,), nan if there is no geometry. SceneError unless each feature is a single point."""
    import shapely  # noqa: PLC0415 - most runs have no points

    x, y = np.full((2, len(geometries)), np.nan)
    parts, owners = np.asarray(geometries, object), np.arange(len(geometries))
    while np.isin(shapely.get_type_id(parts), _COMPOUND_TYPES).any():
        parts, parents = shapely.get_parts(parts, return_index=True)
        owners = owners[parents]
    has_point = ~(shapely.is_missing(parts) | shapely.is_empty(parts))
    parts, owners = parts[has_point], owners[has_point]
    others = np.count_nonzero(shapely.get_type_id(parts))
    if others:
        raise SceneError(
            f"{name}: {others} of {numbered(len(parts), 'geometry')} {'is' if others == 1 else 'are'} not a point; "
            "a sample has one point per place (give polygons as the reference)"
        )
    if several := np.flatnonzero(np.bincount(owners, minlength=1) > 1).tolist():
        raise SceneError(
            f"{name}: several points each in {len(several)} of {numbered(len(geometries), 'feature')}, the first is "
            f"feature {several[0] + 1}; points drawn together are not a random sample: split them if each was drawn "
            "independently"
        )
    x[owners], y[owners] = shapely.get_x(parts), shapely.get_y(parts)
    return x, y


def check_points_target(out: str | os.PathLike[str], *, mkdir: bool, overwrite: bool) -> Path:
    """Return the path if a file of points can be written there, before any work is done.

    UsageError if the extension names no format. OutputError if no file can be made, or an existing file may not be
    replaced: a GeoPackage with other layers never is.
    """
    path = Path(out)
    if path.suffix.lower() not in _DRIVERS:
        raise UsageError(
            f"{path} does not have the extension of a point format; use one of {', '.join(_DRIVERS)}", "out"
        )
    lost = " (classes that were filled in are lost)"
    path = check_target(out, mkdir=mkdir, overwrite=overwrite, aside=lost)
    if path.exists() and path.suffix.lower() == ".gpkg":
        _check_layers(path)
        check_closed(path)
    return path


def check_degrees(target: Path, place: GeoBox, name: str) -> None:
    """Raise UsageError for GeoJSON, which is in degrees, if the map has no CRS on Earth."""
    if _DRIVERS[target.suffix.lower()] == _GEOJSON and not _has_degrees(place):
        raise UsageError(
            f"GeoJSON is in degrees of WGS 84, but {name} has no CRS on Earth; choose another format, such as .gpkg",
            "out",
        )


def _has_degrees(place: GeoBox) -> bool:
    if place.crs is None:
        return False
    x, y = place.transform @ (place.width_px / 2, place.height_px / 2)
    try:
        transform(place.crs, _WGS84, [x], [y])
    except GDAL_ERRORS:  # of another celestial body
        return False
    return True


def _check_layers(path: Path) -> None:
    """Raise OutputError for a GeoPackage that holds more than the points of an earlier call."""
    import pyogrio  # noqa: PLC0415 - half a second, which an error need not wait for

    from geoseg.features import gdal_name  # noqa: PLC0415 - as above

    try:
        names = [str(name) for name, _ in pyogrio.list_layers(gdal_name(str(path)))]
    except pyogrio.errors.DataSourceError:  # no GeoPackage, or a damaged one
        names = ["something else"]
    if others := [name for name in names if name not in {_layer(path), "layer_styles"}]:
        raise OutputError(f"{path} holds {listed(others)}, which would be lost; choose another `out`", "out")


def write_points(points: geopandas.GeoDataFrame, target: Path, place: GeoBox, *, mkdir: bool) -> None:
    """Write points of a map at a `place`: a complete file or none. OutputError if that fails."""
    content = _content(points, target, has_degrees=_has_degrees(place))
    if mkdir:
        make_folders(target)
    write_durably(target, content)


def _content(points: geopandas.GeoDataFrame, target: Path, *, has_degrees: bool) -> bytes:
    """Return the content of a file of points. It is made in memory, because GDAL does not report every full disk."""
    ending, file = target.suffix.lower(), io.BytesIO()
    driver = _DRIVERS[ending]
    if ending == ".csv":
        return _table(points, has_degrees=has_degrees).to_csv(index=False, lineterminator="\n").encode()
    if driver is None:
        points.to_parquet(file)
    else:
        placed = _in_degrees(points) if driver == _GEOJSON else points
        options: dict[str, Any] = {"layer": target.stem}
        if driver == "GPKG":  # an older GDAL warns about 1.4
            options = {"layer": _layer(target), "dataset_options": {"VERSION": "1.3"}}
        elif driver == "FlatGeobuf":  # a spatial index would reorder the features
            options["layer_options"] = {"SPATIAL_INDEX": "NO"}
        _write_features(file, placed, driver=driver, **options)
    return file.getvalue()


def _in_degrees(points: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """Return points in WGS 84, with longitudes from -180 to 180 also where the map goes on beyond."""
    degrees = points.to_crs(_WGS84)
    x, y = degrees.geometry.x, degrees.geometry.y
    return degrees.set_geometry(type(degrees.geometry).from_xy((x + 180) % 360 - 180, y, crs=_WGS84))


def _write_features(file: io.BytesIO, points: geopandas.GeoDataFrame, **options: Any) -> None:  # noqa: ANN401 - GDAL's
    """Write points with GDAL. GeoPandas would turn the CRS into WKT 1, which cannot hold a rotated pole."""
    import pyogrio.raw  # noqa: PLC0415 - half a second, which an error need not wait for

    columns = [points["id"].to_numpy(), points["class"].to_numpy(object, na_value=None)]
    crs = None if points.crs is None else points.crs.to_wkt()
    pyogrio.raw.write(
        file, points.geometry.to_wkb(), columns, ["id", "class"], geometry_type="Point", crs=crs, **options
    )


def _layer(target: Path) -> str:
    """Return the name of the layer in a GeoPackage: the file's, unless no layer may have it."""
    from geoseg.vector import layer_name  # noqa: PLC0415 - the other formats do not need it

    return layer_name(target, target, None)


def _table(points: geopandas.GeoDataFrame, *, has_degrees: bool) -> pd.DataFrame:
    """Return points as a table with their places in columns: in degrees if possible, and in the map's CRS."""
    columns = {"id": points["id"]}
    if has_degrees:
        degrees = _in_degrees(points).geometry
        columns |= {"lon": degrees.x.round(_DECIMALS), "lat": degrees.y.round(_DECIMALS)}
    if not (has_degrees and points.crs.is_geographic):
        columns |= {"x": points.geometry.x, "y": points.geometry.y}
    import pandas as pd  # noqa: PLC0415 - the other formats do not need it

    return pd.DataFrame(columns | {"class": points["class"]})
