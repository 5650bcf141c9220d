"""Polygons that cross the 180th meridian are cut there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from geoseg.vector import check_target
from geoseg.vector.io.crs import needing_a_cut
from geoseg.vector.io.formats import stored_crs, write
from tests.vector.features import flat, layer, read, shapes, table

WGS84 = CRS.from_epsg(4326)
FIJI = CRS.from_epsg(3832)  # meters around 150 degrees east: the meridian is a line inside of it
_X, _Y = pyproj.Transformer.from_crs(4326, 3832, always_xy=True).transform(180, -17)
PLACE = Affine(1000, 0, _X - 12_300, 0, -1000, _Y)


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb"])
def test_reprojected_polygons_are_cut_at_the_meridian(tmp_path: Path, suffix: str) -> None:
    polygons, codes = shapes(1, 24, PLACE)
    target = check_target(tmp_path / f"cover{suffix}")
    write(target, layer(crs=FIJI, multi=True), [table(polygons, codes)], crs=WGS84)
    found = read(target)
    assert len(found) == len(polygons)
    assert found.is_valid.all()
    assert found.total_bounds[0] == -180
    assert found.total_bounds[2] == 180
    parts = found.geometry.explode()
    assert np.ptp(parts.bounds[["minx", "maxx"]], axis=1).max() < 1
    assert _area_of(parts) == pytest.approx(_area_of(polygons, FIJI), rel=1e-9)


def test_polygons_beside_the_meridian_are_not_touched() -> None:
    beside = [shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -179, 1), shapely.box(178, 0, 179, 1)]
    across = shapely.Polygon([(179, 2), (-179, 2), (-179, 3), (179, 3)])
    mixed = flat(np.array([beside[0], beside[1], across, beside[2]]), np.arange(4, dtype=np.int32))
    assert needing_a_cut(mixed).tolist() == [2]
    assert needing_a_cut(mixed.take(np.array([0, 1, 3]))).tolist() == []
    around = shapely.Polygon([(170, 5), (-170, 5), (-170, 9), (170, 9)], [[(175, 6), (176, 7), (176, 6)]])
    assert needing_a_cut(flat(np.array([beside[1], around]), np.zeros(2, np.int32))).tolist() == [1]


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("suffix", [".geojson", ".geojsonl"])
@pytest.mark.parametrize("west", [None, 179.8, -180.2, 539.8])
def test_geojson_is_cut_at_the_meridian(tmp_path: Path, suffix: str, west: float | None, *, multi: bool) -> None:
    crs, place = (FIJI, PLACE) if west is None else (WGS84, Affine(1 / 64, 0, west, 0, -1 / 64, -17))
    polygons, codes = shapes(2, 24, place)
    if multi:
        polygons = np.array([shapely.multipolygons([polygon]) for polygon in polygons])
    target = check_target(tmp_path / f"cover{suffix}")
    kind = layer(crs=crs, multi=multi)
    write(target, kind, [table(polygons, codes)], crs=stored_crs(target, crs))
    found = read(target)
    assert len(found) == len(polygons)
    assert np.array_equal(found.code, codes)
    assert found.is_valid.all()
    west_of_all, _, east_of_all, _ = found.total_bounds
    assert west_of_all >= -180
    assert east_of_all <= 180
    assert _area_of(found.geometry) == pytest.approx(_area_of(polygons, crs), rel=1e-5)
    parts = shapely.get_parts(found.geometry.to_numpy())
    assert np.ptp(shapely.bounds(parts)[:, ::2], axis=1).max() < 1
    assert all(shapely.is_ccw(shapely.get_exterior_ring(parts)))


def test_pixels_are_not_degrees(tmp_path: Path) -> None:
    target = check_target(tmp_path / "cover.geojson")
    write(target, layer(crs=None), [table(*shapes(3, 24, Affine(30, 0, 0, 0, -30, 0)))], crs=stored_crs(target, None))
    content = json.loads(target.read_bytes())
    assert {feature["geometry"]["type"] for feature in content["features"]} == {"Polygon"}
    assert read(target).total_bounds.tolist() == [0, -720, 720, 0]


def _area_of(polygons: Any, crs: CRS = WGS84) -> float:
    """Return the total area on a plane centered on the 180th meridian."""
    there = pyproj.Transformer.from_crs(crs.to_wkt(), 3832, always_xy=True)

    def moved(xy: np.ndarray) -> np.ndarray:
        return np.column_stack(there.transform(*xy.T))

    return float(shapely.area([shapely.transform(one, moved) for one in polygons]).sum())
