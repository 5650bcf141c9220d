"""Polygons for pictures and pages: read in batches from any file or a GeoDataFrame, and simplified to outlines."""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree as ET

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform

from geoseg.display.frame import Bounds, Frame
from geoseg.errors import GeosegError, UsageError, one_line
from geoseg.legend import Color
from geoseg.raster import GDAL_ERRORS, GeoBox, apply_transform
from geoseg.typed import refusal

if TYPE_CHECKING:
    import pyarrow as pa

    from geoseg.features import FeatureFile

_BATCH_FEATURES = 16_384
_TEXT_EXTENSIONS = (".geojson", ".json", ".geojsonl", ".geojsons", ".geojsonseq")
_AREAS = ("area_m2", "area_px")
_CONFIDENCE = "confidence"
_CLASS_COLUMNS = frozenset({"code", "name"})
_EXPECTED = "expected polygons of geoseg.vectorize, with the columns code, name and area_m2 or area_px"
_STYLE = """
SELECT styleQML FROM layer_styles WHERE ?1 IS NULL OR f_table_name = ?1 COLLATE NOCASE ORDER BY useAsDefault DESC, id"""
_STEPS_PER_PX = 64
"""Coordinates are integers in units of 1/64 pixel of the deepest tiles, which can be enlarged 16 times."""
_FINEST_PX = 0.1
_LEAST_AREA_PX = 1.0
_BYTES_PER_VERTEX = 10
_MOST_VERTICES = 400_000
"""As many as a phone can draw."""
_Rings = list[list[int]]
"""For each ring, x and y of the first vertex, then differences."""


@dataclass(frozen=True, slots=True)
class _FeatureBatch:
    """A batch of features."""

    codes: NDArray[np.int64]
    """(feature,)"""
    names: NDArray[np.object_]
    areas: NDArray[np.float64]
    """(feature,) square meters, or pixels if the source is `in_px`."""
    perimeters: NDArray[np.float64]
    """(feature,) meters, or pixels; NaN if unknown."""
    confidences: NDArray[np.float64]
    """(feature,) percent; NaN if unknown."""
    shapes: NDArray[np.object_]
    """(feature,) shapely polygons or multipolygons."""

    def __getitem__(self, chosen: slice | NDArray[np.intp]) -> _FeatureBatch:
        """Return some of the features."""
        return _FeatureBatch(*(getattr(self, column.name)[chosen] for column in fields(self)))


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """Polygons that can be iterated over without holding all of them in memory."""

    title: str
    crs: CRS | None
    bounds: Bounds | None
    """x min, y min, x max, y max; None if there are no polygons."""
    in_px: bool
    """Whether areas are in pixels."""
    batches: Callable[[], Iterator[_FeatureBatch]]
    colors: dict[str, Color]
    """Colors by class name, if the source has them."""


def open_features(polygons: Any, layer: str | None = None, map_name: str | None = None) -> FeatureSource:  # noqa: ANN401 - a path, or a GeoDataFrame, whose type is slow to import
    """Open the polygons of a GeoDataFrame or a file (its `layer`, else the only one that fits).

    Of several layers, the one with the map's name is used, as `vectorize` names it. GeosegError if the source cannot be
    read, UsageError if the layer is ambiguous.
    """
    if not isinstance(polygons, str | os.PathLike):
        return _of_frame(polygons)
    path = Path(polygons)
    if path.suffix.lower() in _TEXT_EXTENSIONS and path.is_file() and not path.stat().st_size:
        return _empty(path)  # a sequence of no features
    source = _one_layer(os.fspath(polygons), layer, map_name)
    try:
        return _of_gdal(source) if source.layers else _of_parquet(Path(source.path))
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, GeosegError):
            raise
        reason = one_line(error, None).split("; ")[0].rstrip(".;")
        raise GeosegError(
            f"{source.name} cannot be read as polygons: {reason}; give a file written by geoseg vectorize"
        ) from error


def _one_layer(polygons: str, layer: str | None, map_name: str | None) -> FeatureFile:
    """Return a source with one layer: the one named, or the only one with the columns of `vectorize`."""
    from geoseg.features import FeatureFile, find_features  # noqa: PLC0415 - half a second, only for polygons

    source = find_features(polygons, "polygons", "polygons", "all" if layer is None else layer)
    if not isinstance(source, FeatureFile) or len(source.layers) < 2:
        return cast("FeatureFile", source)
    layers = [FeatureFile(source.path, (name,)) for name in source.layers]
    candidates = [each for each in layers if layer is not None or set(each.columns()) >= _CLASS_COLUMNS]
    candidates = [each for each in candidates if each.layers == (map_name,)] or candidates
    if len(candidates) > 1:
        names = ", ".join(candidate.layers[0] for candidate in candidates)
        raise UsageError(
            f"{source.name} has {len(candidates)} layers of polygons: {names}; name the one to draw with `layer`",
            "layer",
        )
    return (candidates or layers)[0]


def _of_frame(frame: Any) -> FeatureSource:  # noqa: ANN401 - see above
    from geoseg.features import geometry_of  # noqa: PLC0415 - as above

    names, title = list(map(str, getattr(frame, "columns", ()))), f"the {type(frame).__name__}"
    if not names:
        raise refusal("polygons", "a path or a GeoDataFrame", frame)
    area, geometry = _area_column(names, title), geometry_of(frame)
    cells = {name: frame[name].to_numpy(object, na_value=None) for name in _columns(names, area)}
    features = _checked(cells, np.asarray(geometry.array, np.object_), area, title)

    def batches() -> Iterator[_FeatureBatch]:
        for start in range(0, len(features.codes), _BATCH_FEATURES):
            yield _of_polygons(features[start : start + _BATCH_FEATURES])

    crs = None if frame.crs is None else CRS.from_wkt(frame.crs.to_wkt())
    return FeatureSource("Land cover", crs, _bounds(frame.total_bounds), area == "area_px", batches, {})


def _of_gdal(source: FeatureFile) -> FeatureSource:
    import pyogrio  # noqa: PLC0415 - half a second, only for polygons

    path, name, layer = Path(source.path), source.gdal_name, source.layers[0]
    info = pyogrio.read_info(name, layer=layer, force_total_bounds=True)
    if path.suffix.lower() in _TEXT_EXTENSIONS and not info["features"]:
        return _empty(path)  # without features, GeoJSON has no columns
    fields = list(info["fields"])
    area = _area_column(fields, source.name)
    columns = _columns(fields, area)

    def batches() -> Iterator[_FeatureBatch]:
        with pyogrio.open_arrow(name, layer=layer, columns=columns, batch_size=_BATCH_FEATURES, use_pyarrow=True) as (
            meta,
            reader,
        ):
            geometry = meta["geometry_name"] or "wkb_geometry"
            for batch in reader:
                yield _of_arrow(batch, geometry, area, source.name)

    crs = CRS.from_user_input(info["crs"]) if info["crs"] else None
    colors = _style_colors(path, layer) if path.suffix.lower() == ".gpkg" else {}
    return FeatureSource(path.stem, crs, _bounds(info["total_bounds"]), area == "area_px", batches, colors)


def _empty(path: Path) -> FeatureSource:
    return FeatureSource(path.stem, CRS.from_epsg(4326), None, in_px=False, batches=lambda: iter(()), colors={})


def _of_parquet(path: Path) -> FeatureSource:
    import pyarrow.parquet as pq  # noqa: PLC0415 - only for pictures

    with pq.ParquetFile(path) as file:
        names, metadata = file.schema_arrow.names, file.metadata.metadata or {}
    area = _area_column(names, str(path))
    geo = json.loads(metadata[b"geo"])
    geometry = geo["primary_column"]
    column = geo["columns"][geometry]

    def batches() -> Iterator[_FeatureBatch]:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_FEATURES, columns=[*_columns(names, area), geometry]):
                yield _of_arrow(batch, geometry, area, str(path))

    return FeatureSource(path.stem, _projjson(column), _bounds(column.get("bbox")), area == "area_px", batches, {})


def _projjson(column: dict[str, Any]) -> CRS | None:
    """Return the CRS of a GeoParquet column; by default longitude and latitude."""
    import pyproj  # noqa: PLC0415 - only for pictures

    if "crs" not in column:
        return CRS.from_epsg(4326)
    return None if column["crs"] is None else CRS.from_wkt(pyproj.CRS.from_json_dict(column["crs"]).to_wkt())


def _of_arrow(batch: pa.RecordBatch, geometry: str, area: str, source: str) -> _FeatureBatch:
    cells = {
        name: batch.column(name).to_numpy(zero_copy_only=False)
        for name in (*_columns(batch.schema.names, area), geometry)
    }
    return _of_polygons(_checked(cells, shapely.from_wkb(cells[geometry]), area, source))


def _checked(cells: Mapping[str, NDArray[Any]], shapes: NDArray[np.object_], area: str, source: str) -> _FeatureBatch:
    """Return features from untrusted columns; classes without a name become `class CODE`.

    UsageError if a code or an area is missing or not a number.
    """

    def numbers(column: str) -> NDArray[np.float64]:
        try:
            return np.asarray(cells.get(column, np.full(len(shapes), np.nan)), np.float64)
        except (TypeError, ValueError):
            raise UsageError(
                f"{source} cannot be drawn as a map: column {column} holds something that is not a number; {_EXPECTED}"
            ) from None

    codes, areas = numbers("code"), numbers(area)
    for column, values in (("code", codes), (area, areas)):
        if not np.isfinite(values).all():
            raise UsageError(f"{source} cannot be drawn as a map: some of its polygons have no {column}; {_EXPECTED}")
    if (codes % 1).any():
        raise UsageError(
            f"{source} cannot be drawn as a map: code {codes[codes % 1 != 0][0]:g} is not a whole number; {_EXPECTED}"
        )
    whole_codes = codes.astype(np.int64)
    names = [
        name if isinstance(name, str) and name.strip() else f"class {code}"
        for code, name in zip(whole_codes.tolist(), cells["name"].tolist(), strict=True)
    ]
    return _FeatureBatch(
        whole_codes, np.array(names, np.object_), areas, numbers(_perimeter_column(area)), numbers(_CONFIDENCE), shapes
    )


def _of_polygons(batch: _FeatureBatch) -> _FeatureBatch:
    """Return the features that are polygons, also inside collections, with one shape per feature."""
    if np.isin(shapely.get_type_id(batch.shapes), (3, 6)).all():
        return batch
    from geoseg.features import unpacked_polygons  # noqa: PLC0415 - not needed for geoseg's own polygons

    shapes, owners, _ = unpacked_polygons(batch.shapes)
    parts, parents = shapely.get_parts(shapes, return_index=True)
    kept, indices = np.unique(owners[parents], return_inverse=True)
    merged = np.asarray(shapely.multipolygons(parts, indices=indices), np.object_) if len(kept) else shapes
    return replace(batch[kept], shapes=merged)


def _area_column(names: list[str], source: str) -> str:
    area = next((name for name in _AREAS if name in names), None)
    if area is None or not set(names) >= _CLASS_COLUMNS:
        columns = f"it has the columns {', '.join(names)[:200]}" if names else "it has no columns"
        raise UsageError(f"{source} cannot be drawn as a map: {columns}; {_EXPECTED}", "polygons")
    return area


def _perimeter_column(area: str) -> str:
    return {"area_m2": "perimeter_m", "area_px": "perimeter_px"}[area]


def _columns(names: list[str], area: str) -> list[str]:
    """Return the columns to read, of those that a source has."""
    return ["code", "name", area, *(name for name in (_perimeter_column(area), _CONFIDENCE) if name in names)]


def _bounds(numbers: Any) -> Bounds | None:  # noqa: ANN401 - whatever a file says
    if numbers is None or len(numbers) != 4 or not np.isfinite(np.asarray(numbers, float)).all():
        return None
    x_min, y_min, x_max, y_max = (float(number) for number in numbers)
    return (x_min, y_min, x_max, y_max) if math.inf > x_max - x_min > 0 and math.inf > y_max - y_min > 0 else None


def _style_colors(path: Path, layer: str | None = None) -> dict[str, Color]:
    """Return the fill of each class name in the default QGIS style of a GeoPackage's layer; empty if there is none."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute(_STYLE, (layer,)).fetchone()
        return {} if row is None else _fills(ET.fromstring(row[0]))  # noqa: S314 - as trusted as the polygons
    except (sqlite3.Error, ET.ParseError, ValueError, TypeError):
        return {}  # another program's style, or none: then colors are chosen


def _fills(root: ET.Element) -> dict[str, Color]:
    by_symbol = {
        symbol.get("name"): _rgb(option.get("value", ""))
        for symbol in root.iterfind(".//symbol")
        for option in symbol.iterfind(".//Option[@name='color']")
    }
    categories = root.iterfind(".//category")
    return {entry.get("label", ""): color for entry in categories if (color := by_symbol.get(entry.get("symbol")))}


def _rgb(text: str) -> Color:
    red, green, blue = (int(level) for level in text.split(",")[:3])
    return red, green, blue


@dataclass(frozen=True, slots=True)
class Outlines:
    """Polygons with coordinates in steps from the frame's left and top."""

    step: float
    """The size of a step in the frame's units."""
    shapes: list[tuple[int, str, float | None, float | None, float | None, _Rings]]
    """Code, name, area (m2, or pixels if `in_px`), perimeter (meters, or pixels), confidence in percent, rings."""
    count: int
    """Number of polygons in the source; `shapes` lacks those smaller than a pixel of the page."""
    in_px: bool
    areas: dict[int, float]
    """Areas by code, of all polygons in the source."""
    least: float
    """The area of the smallest polygon; infinite if there are none."""

    def to_json(self) -> dict[str, object]:
        """Return plain values; each name is stored once."""
        names = {name: number for number, name in enumerate(sorted({name for _, name, *_ in self.shapes}))}
        shapes = [[code, names[name], *numbers, *rings] for code, name, *numbers, rings in self.shapes]
        return {"step": self.step, "names": list(names), "shapes": shapes, "count": self.count, "inPx": self.in_px}


def outlines(source: FeatureSource, frame: Frame, box: GeoBox, zoom: int, budget_bytes: int) -> Outlines:
    """Return the polygons that are visible at a zoom. GeosegError if they cannot be placed on the map."""
    if frame.is_earth and source.crs is None:
        raise GeosegError(f"the polygons of {source.title} have no CRS, but the map has one; assign it to them")
    if not frame.is_earth and box.transform_fault:
        raise GeosegError(
            f"the polygons of {source.title} cannot be placed on the map, whose pixels have no size; correct its "
            "transform (rio edit-info --transform), or leave out `polygons`",
            "polygons",
        )
    pixel = frame.unit_per_px(zoom)
    tolerance, most_vertices = _FINEST_PX * pixel, min(_MOST_VERTICES, budget_bytes // _BYTES_PER_VERTEX)
    while (result := _simplified(source, frame, box, (pixel / _STEPS_PER_PX, tolerance, most_vertices))) is None:
        tolerance *= 2
    placed = (_placed(batch, source, frame, box) for batch in source.batches())
    if result.count and not result.shapes and not any(_inside(batch_shapes, frame).any() for batch_shapes in placed):
        raise GeosegError(f"no polygon of {source.title} lies on the map; give the polygons of this map")
    return result


def _simplified(
    source: FeatureSource, frame: Frame, box: GeoBox, fineness: tuple[float, float, int]
) -> Outlines | None:
    """Return the polygons simplified; None if there are too many vertices."""
    step, tolerance, most_vertices = fineness
    shapes = []
    areas: dict[int, float] = {}
    count, smallest_area, vertices = 0, math.inf, 0
    for batch in source.batches():
        count += len(batch.codes)
        smallest_area = min(smallest_area, float(np.min(batch.areas, initial=math.inf)))
        for code in np.unique(batch.codes).tolist():
            areas[code] = areas.get(code, 0.0) + float(batch.areas[batch.codes == code].sum())
        placed = _placed(batch, source, frame, box)
        least_area = max(_LEAST_AREA_PX * (step * _STEPS_PER_PX) ** 2, 4 * tolerance**2)
        large = np.flatnonzero((shapely.area(placed) >= least_area) & _inside(placed, frame))
        simplified = shapely.simplify(placed[large], tolerance, preserve_topology=False)
        for number, shape in zip(large.tolist(), simplified.tolist(), strict=True):
            rings = _rings(shape, frame, step)
            vertices += sum(len(ring) for ring in rings) // 2
            if rings:
                area, perimeter = _rounded(batch.areas[number], 5), _rounded(batch.perimeters[number], 4)
                confidence = _rounded(batch.confidences[number], 4)
                shapes.append((int(batch.codes[number]), batch.names[number], area, perimeter, confidence, rings))
        if vertices > most_vertices:
            return None
    return Outlines(step, shapes, count, source.in_px, areas, smallest_area)


def _rounded(value: float, digits: int) -> float | None:
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def _inside(placed: NDArray[np.object_], frame: Frame) -> NDArray[np.bool_]:
    left, bottom, right, top = frame.bounds
    sides = shapely.bounds(placed)
    return (sides[:, 0] <= right) & (sides[:, 2] >= left) & (sides[:, 1] <= top) & (sides[:, 3] >= bottom)


def _placed(batch: _FeatureBatch, source: FeatureSource, frame: Frame, box: GeoBox) -> NDArray[np.object_]:
    """Return the shapes in the frame's plane."""
    xy = shapely.get_coordinates(batch.shapes)
    target = frame.crs if frame.is_earth else box.crs
    try:
        if source.crs is not None and target is not None and source.crs != target:
            xy = np.array(transform(source.crs, target, xy[:, 0], xy[:, 1])[:2]).T
    except GDAL_ERRORS as error:
        raise GeosegError(
            f"cannot transform the polygons of {source.title} to the map's CRS: {one_line(error)}; give the polygons "
            "of this map"
        ) from error
    if not frame.is_earth:
        cols, rows = apply_transform(~box.transform, *xy.T)
        xy = np.stack([cols, -rows], axis=1)
    return np.asarray(shapely.set_coordinates(shapely.force_2d(batch.shapes), xy))


def _rings(shape: shapely.Geometry, frame: Frame, step: float) -> _Rings:
    rings = []
    for part in shapely.get_rings(shapely.get_parts(shape)):
        xy = shapely.get_coordinates(part)[:-1]  # the page closes them
        steps = np.rint((xy - (frame.bounds[0], frame.bounds[3])) / (step, -step)).astype(np.int64)
        kept = np.any(np.diff(steps, axis=0, prepend=steps[:1] - 1), axis=1)
        if kept.sum() >= 3:
            rings.append(np.diff(steps[kept], axis=0, prepend=0).ravel().tolist())
    return rings
