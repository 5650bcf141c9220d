"""Polygons in another CRS: pyproj's coordinates, the same rings, outer ones still counter-clockwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from geoseg.errors import SceneError, UsageError
from geoseg.vector import check_target
from geoseg.vector.io.crs import parse_crs, reprojection
from geoseg.vector.io.formats import to_geodataframe, write
from geoseg.vector.polygons import FeatureTable
from tests.vector.features import UTM, flat, layer, read, shapes, table


@pytest.mark.parametrize("code", [4326, 3857, 2193, 2154, 27700, 2048, 5514])
def test_vertices_are_pyprojs_and_rings_right_handed(code: int) -> None:
    given = flat(*shapes(1))
    target = CRS.from_epsg(code)
    there = reprojection(UTM, target)(given)
    x, y = pyproj.Transformer.from_crs(32631, code, always_xy=True).transform(*given.xy.T)
    found = to_geodataframe(
        [FeatureTable(there, np.zeros(len(there)), np.zeros(len(there)))], layer(crs=target)
    ).geometry
    assert np.array_equal(np.sort(there.xy, axis=0), np.sort(np.column_stack([x, y]), axis=0))
    assert all(ring.is_ccw for ring in found.exterior)
    assert not any(shapely.is_ccw(hole) for holes in found.interiors for hole in holes)
    assert found.is_valid.all()
    assert np.array_equal(there.rings, given.rings)


def test_neighbours_share_their_vertices_still() -> None:
    given = flat(*shapes(2))
    there = reprojection(UTM, CRS.from_epsg(4326))(given)
    assert len(np.unique(there.xy, axis=0)) == len(np.unique(given.xy, axis=0))


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb"])
def test_a_file_in_another_crs(tmp_path: Path, suffix: str) -> None:
    given = table(*shapes(3))
    target = check_target(tmp_path / f"cover{suffix}")
    write(target, layer(), [given], crs=parse_crs("EPSG:4326"))
    found = read(target)
    expected = to_geodataframe([given], layer()).to_crs(4326)
    assert found.crs.to_epsg() == 4326
    assert np.allclose(found.total_bounds, expected.total_bounds, rtol=0, atol=1e-12)
    assert sorted(found.area_m2) == sorted(expected.area_m2)  # true areas, not degrees
    frame = to_geodataframe([given], layer(), crs=CRS.from_epsg(4326))
    assert sorted(frame.geometry.to_wkb()) == sorted(found.geometry.to_wkb())
    assert frame.crs.to_epsg() == 4326


def test_a_place_that_is_not_in_the_target_is_one_line(tmp_path: Path) -> None:
    degrees = Affine(1, 0, -170, 0, -1, 85)
    given = table(*shapes(4, 24, degrees))
    target = check_target(tmp_path / "cover.gpkg")
    with pytest.raises(SceneError, match=r"cannot be transformed to .*crs"):
        write(target, layer(crs=CRS.from_epsg(4326)), [given], crs=CRS.from_proj4("+proj=gnom +lat_0=-90 +lon_0=0"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["EPSG:999999", "nonsense", "", None, 7.5, "EPSG:5703", "EPSG:4978"])
def test_what_is_no_crs_is_one_line(text: object, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="EPSG:4326") as caught:
        parse_crs(text)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # PROJ prints its own message if no handler is set


def test_nothing_is_nothing() -> None:
    there = reprojection(UTM, CRS.from_epsg(4326))(table(*shapes(5)).part(0, 0).polygons)
    assert len(there) == 0
