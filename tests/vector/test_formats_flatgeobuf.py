"""FlatGeobuf is written by our own code: other people's must read it, and find by its index what looking finds."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely

from geoseg.vector import check_target, flatgeobuf
from geoseg.vector.formats import write
from geoseg.vector.geodataframe import to_geodataframe
from geoseg.vector.packed_rtree import hilbert_keys, level_sizes
from tests.vector.features import batches, layer, read, shapes, table


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


def test_by_way_of_the_disk_it_is_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = table(*shapes(2, 60))
    direct, piled = (check_target(tmp_path / f"{name}.fgb") for name in ("direct", "piled"))
    write(direct, layer(), [given])
    for name, value in (
        ("_PILE_BYTES", 10_000),
        ("_RECORDS_BYTES", 1000),
        ("_GROUP_FEATURES", 37),
        ("_GROUP_BYTES", 9000),
        ("_COPIED_FEATURES", 5),
        ("_PART_FEATURES", 11),
    ):
        monkeypatch.setattr(flatgeobuf, name, value)
    write(piled, layer(), batches(given, 23))
    assert piled.read_bytes() == direct.read_bytes()


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


def test_the_curve_is_hilberts() -> None:
    side = 8
    rows, cols = np.mgrid[:side, :side]
    points = np.column_stack([cols.ravel(), rows.ravel()]).astype(float)
    keys = hilbert_keys(np.hstack([points, points]), np.array([0, 0, side - 1.0, side - 1.0]))
    assert len(np.unique(keys)) == side**2
    path = points[np.argsort(keys)]
    assert np.array_equal(np.abs(np.diff(path, axis=0)).sum(axis=1), np.ones(side**2 - 1))  # never a jump


def test_all_stands_at_multiples_of_eight(tmp_path: Path) -> None:
    target = check_target(tmp_path / "cover.fgb")
    given = table(*shapes(5))
    write(target, layer(), [given])
    content = target.read_bytes()
    at = 12 + struct.unpack_from("<I", content, 8)[0]
    assert at % 8 == 0
    at += sum(level_sizes(len(given))) * 40
    for _ in range(len(given)):
        assert at % 8 == 0
        at += 4 + struct.unpack_from("<I", content, at)[0]
    assert at == len(content)


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
