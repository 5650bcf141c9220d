"""Features to write: real polygons of a random raster, as shapely geometries and as flat arrays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.legend import NamedClass, Nomenclature
from geoseg.vector.polygons import FeatureTable, PolygonLayer, Polygons

UTM = CRS.from_epsg(32631)
LEGEND = Nomenclature(
    (
        NamedClass(0, "bâti & <ville>", (0, 255, 255)),
        NamedClass(1, "water", (0, 0, 255)),
        NamedClass(3, "wood", (0, 99, 0)),
    )
)
PLACE = Affine(0.5, 0, 448_000, 0, -0.5, 5_411_000)
SUFFIXES = (".gpkg", ".parquet", ".geoparquet", ".fgb", ".geojson", ".json", ".geojsonl", ".geojsons", ".geojsonseq")


def shapes(seed: int, side_px: int = 24, place: Affine = PLACE) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Return (feature,) polygons, many with holes, and their codes 0 to 3; the legend lacks code 2."""
    raster = np.random.default_rng(seed).choice(4, (side_px, side_px), p=[0.5, 0.3, 0.15, 0.05]).astype(np.uint8)
    found = list(rasterio.features.shapes(raster, transform=place))
    polygons = shapely.orient_polygons([shapely.geometry.shape(shape) for shape, _ in found])
    return polygons, np.array([code for _, code in found], np.int32)


def dissolved(polygons: NDArray[Any], codes: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Return a multipolygon for each code, and the codes."""
    known = np.unique(codes)
    return np.array([shapely.multipolygons(polygons[codes == code]) for code in known]), known


def flat(polygons: NDArray[Any], codes: NDArray[np.int32], confidence: NDArray[np.float64] | None = None) -> Polygons:
    """Return shapely polygons or multipolygons as flat arrays."""
    kind, xy, levels = shapely.to_ragged_array(list(polygons))
    features = levels[2] if kind == shapely.GeometryType.MULTIPOLYGON else np.arange(len(polygons) + 1)
    area_px = np.round(shapely.area(polygons)).astype(np.int64)
    return Polygons(
        codes,
        area_px,
        features.astype(np.int64),
        levels[1].astype(np.int64),
        levels[0].astype(np.int64),
        xy,
        confidence,
    )


def table(
    polygons: NDArray[Any], codes: NDArray[np.int32], confidence: NDArray[np.float64] | None = None
) -> FeatureTable:
    """Return a table with true areas and perimeters."""
    return FeatureTable(flat(polygons, codes, confidence), shapely.area(polygons), shapely.length(polygons))


def batches(whole: FeatureTable, size: int) -> Iterator[FeatureTable]:
    """Split a table into batches of `size` features; the first batch is empty."""
    yield whole.part(0, 0)
    for start in range(0, len(whole), size):
        yield whole.part(start, min(start + size, len(whole)))


def layer(**changes: Any) -> PolygonLayer:
    return PolygonLayer(**({"name": "cover", "crs": UTM, "legend": LEGEND, "description": "A test."} | changes))


def read(path: Path) -> geopandas.GeoDataFrame:
    """Read a file with other libraries: GeoParquet with geopandas, all others with GDAL."""
    if path.suffix in (".parquet", ".geoparquet"):
        return geopandas.read_parquet(path)
    with_layer = {"layer": "cover"} if path.suffix == ".gpkg" else {}
    return pyogrio.read_dataframe(path, **with_layer)


def theirs(path: Path) -> bytes:
    """Put an unrelated file at a path, a GeoPackage if the suffix says so; return its bytes."""
    if path.suffix == ".gpkg":
        parcels = geopandas.GeoDataFrame({"owner": ["me"]}, geometry=[shapely.box(0, 0, 1, 1)], crs=UTM)
        parcels.to_file(path, layer="parcels")
    else:
        path.write_bytes(b"theirs")
    return path.read_bytes()
