"""The verb `within`: restricts a scene to the pixels in an area of interest; and reads such areas."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.errors import OutsideError, SceneError, UsageError, blamed_on, one_line
from geoseg.features.features import FeatureFrame, VectorSource, find_features
from geoseg.features.polygons import (
    counted,
    cut_around,
    is_bent,
    reach_of,
    shifted,
    turns_of,
    unpacked_polygons,
    untorn,
)
from geoseg.given import CrsLike, is_frame, plain_arguments
from geoseg.legend import GivenLegend, Nomenclature, given_names
from geoseg.raster import AreaOfInterest, ClassRaster, GeoBox, Scene, crs_named, shown

if TYPE_CHECKING:
    import geopandas

    from geoseg.raster.scene import SceneLike

    Aoi: TypeAlias = str | os.PathLike[str] | geopandas.GeoDataFrame | shapely.Geometry | Mapping[str, Any]

_GEOJSON_CRS = "EPSG:4326"
"""RFC 7946, section 4."""


@dataclass(frozen=True, slots=True)
class _Polygons:
    """An area as given."""

    name: str
    geometries: NDArray[Any]
    """(polygon,) valid shapely polygons and multipolygons."""
    crs_wkt: str | None
    given: str | None

    @property
    def digest(self) -> str:
        """Hex that changes with the area."""
        hashed = hashlib.sha256(json.dumps(self.crs_wkt).encode())
        for wkb in shapely.to_wkb(shapely.normalize(self.geometries)):
            hashed.update(wkb)
        return hashed.hexdigest()


@plain_arguments()
def within(scene: SceneLike, aoi: Aoi | None, aoi_crs: CrsLike | None = None) -> Scene:
    """Return a scene restricted to the pixels in an area of interest.

    The grid does not change. Pixels whose center is outside the area are invalid for every verb: maps and polygons
    cover only the area, and are evaluated only there.

    Parameters
    ----------
    scene
        Anything that `Scene.open` accepts, including a map.
    aoi
        Polygons: any file that GDAL or pyarrow reads, optionally with a layer, as in `area.gpkg|layername=NAME`; a
        GeoDataFrame; a shapely geometry; or GeoJSON as a dict. All polygons of a file together are the area.
    aoi_crs
        The CRS of an area that names none: `"EPSG:4326"`, 4326, or a CRS object. By default a shapely geometry is in
        the scene's CRS.

    Raises
    ------
    OutsideError
        If no pixel's center is in the area.
    UsageError
        If the area has no polygons, invalid ones, or no CRS.
    SceneError
        If the file or the scene cannot be read, or the scene has no grid in a CRS.

    Examples
    --------
    >>> geoseg.vectorize(geoseg.within("landcover.tif", "parish.gpkg"), "parish_polygons.gpkg")  # doctest: +SKIP

    """
    if aoi is None and aoi_crs is None:
        raise UsageError("`aoi` must be polygons, got None", "aoi")
    if aoi is None:
        raise UsageError("`aoi_crs` is the CRS of an area; add `aoi`, or leave it out", "aoi_crs")
    source = Scene.open(scene)
    if source.area is not None:
        raise UsageError(
            f"{shown(source.path)} already has an area of interest; give their intersection, with the original scene",
            "aoi",
        )
    area = read_area(aoi, source.geobox, shown(source.path), aoi_crs)
    if area.within(source.shape) is None:
        is_bare = isinstance(aoi, shapely.Geometry) and aoi_crs is None
        hint = ", or name the CRS of the geometry with `aoi_crs`" if is_bare else ""
        raise OutsideError(
            f"no pixel of {shown(source.path)} has its center in `aoi`: {_extent_text(source.geobox)}; give an area "
            f"that overlaps the scene{hint}",
            "aoi",
        )
    return replace(source, area=area)


def open_map(
    landcover: SceneLike, legend: GivenLegend | None, aoi: Aoi | None, aoi_crs: CrsLike | None
) -> tuple[ClassRaster, Nomenclature]:
    """Return a raster of classes, restricted to an area if one is given, and the names of its classes."""
    part = landcover if aoi is None and aoi_crs is None else within(landcover, aoi, aoi_crs)
    names = given_names(legend)
    raster = ClassRaster.open(part, names)
    return raster, raster.names if names is None else names


def read_area(aoi: Aoi, grid: GeoBox, scene: str, crs: str | None = None) -> AreaOfInterest:
    """Return an area of interest on a grid; `scene` is the grid's name in messages. See `within`."""
    if not grid.has_grid:
        raise SceneError(f"{scene} has no grid in a CRS, so an area cannot be found in it; {grid.grid_hint}", "aoi")
    polygons = _checked_polygons(aoi, crs, grid)
    shapes = _polygons_on_grid(polygons, grid)
    to_pixels = ~grid.transform
    matrix = np.array([[to_pixels.a, to_pixels.b], [to_pixels.d, to_pixels.e]])
    rings = [
        shapely.get_coordinates(ring) @ matrix.T + (to_pixels.c, to_pixels.f) for ring in shapely.get_rings(shapes)
    ]
    return AreaOfInterest.of(rings, polygons.digest, polygons.given)


def _checked_polygons(aoi: Aoi, crs: str | None, grid: GeoBox) -> _Polygons:
    """Return the polygons of an area, in its own CRS; UsageError if there are none, or no CRS."""
    name, geometries, own_wkt, given = _read(aoi)
    if own_wkt is not None and crs is not None and own_wkt != _wkt(crs):
        raise UsageError(f"`aoi_crs` is only for areas without a CRS, but {name} has its own; leave it out", "aoi_crs")
    shapes, _, others = unpacked_polygons(geometries)
    if not len(shapes):
        contents = f", only {counted(others)}" if others else ""
        raise UsageError(f"{name} has no polygons{contents}; give polygons (points and lines can be buffered)", "aoi")
    invalid = np.flatnonzero(~shapely.is_valid(shapes))
    if len(invalid):
        reason = shapely.is_valid_reason(shapes[invalid[0]])
        raise UsageError(
            f"polygon {invalid[0] + 1} of {name} is not valid ({reason}); repair it, for instance with Fix geometries "
            "in QGIS or shapely.make_valid",
            "aoi",
        )
    crs_wkt = own_wkt if crs is None else _wkt(crs)
    if crs_wkt is None and grid.crs is not None:
        if not isinstance(aoi, shapely.Geometry):
            raise UsageError(f"{name} has no CRS; give it with `aoi_crs`, such as EPSG:4326", "aoi_crs")
        crs_wkt = str(grid.crs.to_wkt())
    if crs_wkt is not None and grid.crs is None:
        raise SceneError(f"{name} has a CRS, but the scene has none; assign one to it (rio edit-info --crs)", "aoi")
    return _Polygons(name, shapes, crs_wkt, given)


def _read(aoi: Aoi) -> tuple[str, NDArray[Any], str | None, str | None]:
    """Return the name of an area for messages, its geometries, the CRS that it names, and its path as given."""
    if isinstance(aoi, shapely.Geometry):
        return "the geometry", np.array([shapely.force_2d(aoi)], object), None, None
    if isinstance(aoi, Mapping):
        try:
            geometry = shapely.from_geojson(json.dumps(dict(aoi)))
        except (shapely.errors.ShapelyError, TypeError, ValueError) as error:
            raise UsageError(f"`aoi` is not valid GeoJSON: {one_line(error)}; give polygons", "aoi") from None
        return "the GeoJSON", np.array([shapely.force_2d(geometry)], object), _wkt(_GEOJSON_CRS), None
    if is_frame(aoi):
        read = FeatureFrame.of(aoi)
        return read.name, read.geometries, read.crs_wkt, None
    source = find_area(aoi)
    with blamed_on("aoi"):
        features = source.read()
    return source.name, features.geometries, features.crs_wkt, os.fspath(aoi)


def find_area(aoi: object) -> VectorSource:
    """Return the source of an area of interest; raises as `find_features` does."""
    try:
        return find_features(aoi, "polygons", "area of interest", hint="name one as in area.gpkg|layername=NAME")
    except (UsageError, SceneError) as error:
        raise type(error)(str(error), "aoi") from None


def _wkt(crs: str) -> str:
    return str(crs_named(crs, "aoi_crs").to_wkt())


def _polygons_on_grid(polygons: _Polygons, grid: GeoBox) -> NDArray[Any]:
    """Return the polygons near a grid, in its CRS and without overlaps, including those 360 degrees away."""
    grid_wkt = None if grid.crs is None else grid.crs.to_wkt()
    shapes = polygons.geometries
    if polygons.crs_wkt is not None and grid_wkt is not None and CRS.from_wkt(polygons.crs_wkt) != grid.crs:
        near = _near(shapes, grid, polygons.crs_wkt)
        shapes = untorn(near, polygons.crs_wkt, grid_wkt, polygons.name)
    frame = grid.footprint
    copies = [shape for turn in turns_of(grid_wkt) for shape in shifted(shapely.get_parts(shapes), turn)]
    nearby = np.array([shape for shape in copies if shapely.intersects(shapely.envelope(shape), frame)], object)
    merged = nearby if len(nearby) < 2 else np.array([shapely.union_all(shapely.make_valid(nearby))], object)
    return shapely.get_parts(shapely.get_parts(merged))


def _near(shapes: NDArray[Any], grid: GeoBox, crs_wkt: str) -> NDArray[Any]:
    """Return polygons in their own CRS, cut around a grid if that has an outline in it, with short sides."""
    reach = reach_of(grid, crs_wkt)
    if reach is None:
        return shapes
    cut = is_bent(shapes, reach, crs_wkt) if reach.is_belt else np.ones(len(shapes), np.bool_)
    return np.concatenate([shapes[~cut], cut_around(shapes[cut], reach, turns_of(crs_wkt))[0]])


def _extent_text(grid: GeoBox) -> str:
    crs = "" if grid.crs is None else f" ({grid.crs.to_string()[:40]})"
    return f"the scene spans W,S,E,N {','.join(f'{edge:.12g}' for edge in grid.bounds)}{crs}"
