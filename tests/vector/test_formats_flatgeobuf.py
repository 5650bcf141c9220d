"""FlatGeobuf has a spatial index that finds the same features as a full search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely

from geoseg.vector import check_target
from geoseg.vector.io.formats import to_geodataframe, write
from tests.vector.features import layer, read, shapes, table


@pytest.mark.parametrize("side_px", [1, 2, 4, 5, 9, 40])
def test_the_index_finds_what_looking_finds(tmp_path: Path, side_px: int) -> None:
    polygons, codes = shapes(1, side_px)
    target = check_target(tmp_path / "cover.fgb")
    write(target, layer(), [table(polygons, codes)])
    rng = np.random.default_rng(side_px)
    for _ in range(20):
        corner = (448_000, 5_411_000 - side_px / 2) + rng.random(2) * side_px / 2
        box = (*corner, *(corner + rng.random(2) * side_px / 4))
        found = pyogrio.read_dataframe(target, bbox=box)
        inside = polygons[shapely.intersects(polygons, shapely.box(*box))]
        assert sorted(found.geometry.to_wkb()) == sorted(shapely.to_wkb(inside))


def test_multipolygons_with_any_number_of_parts_and_holes(tmp_path: Path) -> None:
    polygons, codes = shapes(3, 12)
    groups = [polygons[start:stop] for start in range(6) for stop in range(start + 1, 12)]
    features = np.array([shapely.multipolygons(group) for group in groups])
    given = table(features, np.resize(codes, len(features)))
    target = check_target(tmp_path / "cover.fgb")
    write(target, layer(multi=True), [given])
    assert sorted(read(target).geometry.to_wkb()) == sorted(shapely.to_wkb(features))


def test_neighbours_on_the_map_are_neighbours_in_the_file(tmp_path: Path) -> None:
    target = check_target(tmp_path / "cover.fgb")
    given = table(*shapes(4, 60))
    write(target, layer(), [given])
    centres = shapely.get_coordinates(read(target).centroid)
    before = shapely.get_coordinates(to_geodataframe([given], layer()).centroid)
    assert np.median(_steps(centres)) < np.median(_steps(before)) / 2


def test_the_header_tells_of_the_layer(tmp_path: Path) -> None:
    target = check_target(tmp_path / "cover.fgb")
    write(target, layer(), [table(*shapes(6))])
    info = pyogrio.read_info(target)
    assert info["layer_name"] == "cover"
    assert info["crs"] == "EPSG:32631"
    assert info["capabilities"]["fast_spatial_filter"]
    assert tuple(info["total_bounds"]) == (448_000, 5_410_988, 448_012, 5_411_000)


def _steps(centres: np.ndarray) -> np.ndarray:
    return np.hypot(*np.diff(centres, axis=0).T)
