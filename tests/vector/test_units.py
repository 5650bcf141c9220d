from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod
from rasterio.crs import CRS

from geoseg.errors import GeosegWarning, UsageError
from geoseg.raster import GeoBox, Ground
from geoseg.vector import parse_area, parse_length, sieve_weights, simplify_plane, vectorize
from geoseg.vector.generalize import Generalization
from geoseg.vector.polygonize import Tracing, trace
from geoseg.vector.request import side_weights

UTM = GeoBox(100, 90, Affine(0.5, 0, 5e5, 0, -0.5, 4e6), CRS.from_epsg(32618))
FEET = GeoBox(100, 90, Affine(2, 0, 1e6, 0, -2, 2e5), CRS.from_epsg(2263))
NOWHERE = GeoBox(100, 90, Affine.identity())
WORLD = GeoBox(1800, 3600, Affine(0.1, 0, -180, 0, -0.1, 90), CRS.from_epsg(4326))


@pytest.mark.parametrize(
    ("typed", "value", "in_px"),
    [
        ("1.5", 1.5, False),
        ("1.5m", 1.5, False),
        (" 1.5 M ", 1.5, False),
        ("1.5px", 1.5, True),
        (".5 px", 0.5, True),
        (2, 2, False),
        (1e-7, 1e-7, False),
        ("1e3m", 1000, False),
        ("2km", 2000, False),
        ("30cm", 0.3, False),
        (np.float32(1.5), 1.5, False),
    ],
)
def test_lengths(typed: float | str, value: float, in_px: bool) -> None:  # noqa: FBT001 - pytest fills it in
    said = parse_length(typed)
    assert said.value == pytest.approx(value)
    assert said.in_px is in_px


@pytest.mark.parametrize(
    ("typed", "value", "in_px"),
    [
        ("100", 100, False),
        ("100m2", 100, False),
        ("100 m²", 100, False),
        ("25px", 25, True),
        ("0.5ha", 5000, False),
        ("2 km2", 2e6, False),
        (0, 0, False),
    ],
)
def test_areas(typed: float | str, value: float, in_px: bool) -> None:  # noqa: FBT001 - pytest fills it in
    said = parse_area(typed)
    assert said.value == pytest.approx(value)
    assert said.in_px is in_px


NONSENSE = [
    "",
    "m",
    "px",
    "nan",
    "inf",
    "-1",
    "-0.1px",
    "1,5",
    "1.5 2",
    "1.5ft",
    "1e",
    "0x10",
    "1e999",
    "\N{ARABIC-INDIC DIGIT ONE}",
    "1_0",
    "2\n3",
    math.nan,
    math.inf,
    -1.0,
    True,
]


@pytest.mark.parametrize("typed", [*NONSENSE, "1m2", "1ha"])
def test_lengths_that_are_none(typed: float | str) -> None:
    with pytest.raises(UsageError, match=r"simplify") as caught:
        parse_length(typed)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("typed", [*NONSENSE, "1m", "1m3"])
def test_areas_that_are_none(typed: float | str) -> None:
    with pytest.raises(UsageError, match=r"min_area") as caught:
        parse_area(typed)
    assert len(str(caught.value).splitlines()) == 1


def test_pixels_have_the_size_of_their_crs() -> None:
    assert Ground.of(UTM).matrix == pytest.approx((0.5, 0, 0, -0.5))
    assert Ground.of(FEET).matrix == pytest.approx((2 * 1200 / 3937, 0, 0, -2 * 1200 / 3937))
    assert Ground.of(FEET).pixel == pytest.approx((2 * 1200 / 3937) ** 2)
    assert Ground.of(NOWHERE).in_px


@given(lat=st.floats(-89, 89))
def test_geographic_pixels_are_measured_at_the_middle(lat: float) -> None:
    box = GeoBox(11, 21, Affine(1e-4, 0, 7 - 10.5e-4, 0, -2e-4, lat + 5.5 * 2e-4), CRS.from_epsg(4326))
    a, b, c, d = Ground.of(box).matrix
    geod = Geod(ellps="WGS84")
    assert a == pytest.approx(geod.inv(7, lat, 7 + 1e-4, lat)[2], rel=1e-6)
    assert -d == pytest.approx(geod.inv(7, lat - 1e-4, 7, lat + 1e-4)[2], rel=1e-6)
    assert (b, c) == (0, 0)


def test_a_raster_around_a_pole_has_a_size() -> None:
    polar = GeoBox(20, 360, Affine(1, 0, -180, 0, -1, 100), CRS.from_epsg(4326))
    assert Ground.of(polar).pixel > 0


def test_rotated_pixels_keep_their_area() -> None:
    turned = GeoBox(
        9, 9, Affine.translation(5e5, 4e6) @ Affine.rotation(30) @ Affine.scale(3, -2), CRS.from_epsg(32618)
    )
    assert Ground.of(turned).pixel == pytest.approx(6)


def test_tolerances() -> None:
    for box in (WORLD, NOWHERE):
        assert simplify_plane(parse_length("1.5px"), box) == (1.0, 0.0, 0.0, 1.0)
    assert parse_length("1.5px").value == 1.5
    meters = simplify_plane(parse_length("1.5m"), UTM)
    assert Generalization(distance=1.5, matrix=meters).doubled_area_px == 2 * 3**2
    assert simplify_plane(parse_length(1), FEET) == Ground.of(FEET).matrix


@pytest.mark.parametrize(
    "box", [NOWHERE, GeoBox(9, 9, Affine(2, 0, 0, 0, -2, 0)), GeoBox(9, 9, Affine.identity(), CRS.from_epsg(32618))]
)
def test_metres_without_a_place_are_refused_with_the_way_out(box: GeoBox) -> None:
    with pytest.raises(UsageError, match=r"is in meters, .*give pixels: `simplify` 1\.5px"):
        simplify_plane(parse_length("1.5"), box)
    with pytest.raises(UsageError, match=r"is in square meters, .*give pixels: `min_area` 100px"):
        sieve_weights(parse_area("100"), box)
    assert sieve_weights(parse_area("100px"), box)[1] == 100
    for typed in ("0.5ha", "2 km2", "100m²"):  # reported as typed, not in another unit
        with pytest.raises(UsageError, match=rf"`min_area` {typed} is on the ground.* give pixels, a number and px"):
            sieve_weights(parse_area(typed), box)


@given(pixels=st.integers(0, 10**6), size=st.sampled_from([0.1, 0.3, 0.5, 0.7, 10.0, 30.0]))
def test_whole_pixels_stay_whole(pixels: int, size: float) -> None:
    box = GeoBox(4, 5, Affine(size, 0, 5e5, 0, -size, 4e6), CRS.from_epsg(32618))
    weights, threshold = sieve_weights(parse_area(pixels * (size * size)), box)
    assert (weights, threshold) == (None, pixels)
    assert sieve_weights(parse_area((pixels + 0.5) * size * size), box)[1] == pixels + 1


def test_rows_of_a_geographic_raster_weigh_what_they_measure() -> None:
    weights, threshold = sieve_weights(parse_area("3km2"), WORLD)
    assert weights is not None
    geod = Geod(ellps="WGS84")
    for row in (0, 1, 450, 899, 1300, 1799):
        cell = shapely.box(0, 90 - 0.1 * (row + 1), 0.1, 90 - 0.1 * row)
        area_m2, _ = geod.geometry_area_perimeter(shapely.segmentize(cell, 1e-3))
        assert weights[row] / threshold == pytest.approx(area_m2 / 3e6, rel=1e-6)
    assert 2**59 < int(weights.sum()) * WORLD.width_px < 2**62


@pytest.mark.parametrize("typed", ["1e300", "1e300px"])
@pytest.mark.parametrize("box", [UTM, WORLD])
def test_a_threshold_fits_its_integer(box: GeoBox, typed: str) -> None:
    weights, threshold = sieve_weights(parse_area(typed), box)
    total = box.height_px * box.width_px if weights is None else int(weights.sum()) * box.width_px
    assert total < threshold < 2**63


def test_rows_of_a_rotated_geographic_raster_weigh_about_what_the_middle_does() -> None:
    turned = GeoBox(
        9, 9, Affine.translation(10, 50) @ Affine.rotation(30) @ Affine.scale(1e-4, -1e-4), CRS.from_epsg(4326)
    )
    weights, threshold = sieve_weights(parse_area(10 * Ground.of(turned).pixel), turned)
    assert weights is not None
    assert weights / threshold == pytest.approx(0.1, rel=1e-4)


def test_sides_of_pixels() -> None:
    assert side_weights(UTM) == side_weights(NOWHERE) == (1, 1)
    assert side_weights(GeoBox(718, 791, Affine(300.038, 0, 1e5, 0, -300.042, 3e6), CRS.from_epsg(32618))) == (1, 1)
    assert side_weights(GeoBox(9, 9, Affine(2, 0, 5e5, 0, -3, 4e6), CRS.from_epsg(32618))) == (1000, 1500)
    north = GeoBox(10, 10, Affine(1e-3, 0, 7, 0, -1e-3, 60.005), CRS.from_epsg(4326))
    along_row, along_column = side_weights(north)
    assert along_row / along_column == pytest.approx(0.5, rel=0.01)


_FINE = GeoBox(24, 24, Affine(1e-4, 0, 7, 0, -1e-4, 46), CRS.from_epsg(4326))


@pytest.mark.parametrize("box", [UTM, FEET, _FINE, NOWHERE])
@pytest.mark.parametrize("method", ["visvalingam", "douglas-peucker"])
@pytest.mark.parametrize("share", [1e-6, 0.3, 0.44, 0.5, 0.7, 0.72, 1.5])
def test_a_tolerance_is_idle_where_it_drops_no_vertex(box: GeoBox, method: str, share: float) -> None:
    classes = np.random.default_rng(5).integers(0, 2, (24, 24)).astype(np.uint8)
    classes[np.triu_indices(24)] = 0  # long staircases next to the noise
    wanted = parse_length(f"{share}px" if box is NOWHERE else share * math.sqrt(Ground.of(box).pixel))
    how = Generalization(method, wanted.value, simplify_plane(wanted, box))
    kept = [len(trace(classes, 255, Affine.identity(), Tracing(True, one)).xy) for one in (how, Generalization())]
    if how.is_idle:
        assert kept[0] == kept[1]
    elif box is not _FINE:  # whose pixels are 7.7 m by 11.1 m: what is idle there is bounded, not known
        assert kept[0] < kept[1]


@pytest.mark.parametrize(
    ("box", "typed", "said"),
    [
        (_FINE, 0.0001, r"0.0001 \(0.0001 m\) is 1.\de-05 of a pixel.*1.5px, 13.\d m here"),
        (UTM, "10cm", r"10cm \(0.1 m\) is 0.2 of a pixel.*0.75 m here"),
        (UTM, "0.1px", r"0.1px: no border .*0.75 m here"),
        (NOWHERE, "0.1px", r"0.1px: no border .*\(1.5px\)"),
    ],
)
def test_a_length_too_small_is_told(tmp_path: Path, box: GeoBox, typed: float | str, said: str) -> None:
    path = _raster(tmp_path, box)
    with pytest.warns(GeosegWarning, match=f"`simplify` {said}") as caught:
        vectorize(path, simplify=typed)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("typed", ["0.1m2", "0.25m2", "1px"])
def test_an_area_too_small_is_told(tmp_path: Path, typed: str) -> None:
    with pytest.warns(GeosegWarning, match=rf"`min_area` {typed}.*no region is smaller.*25px, 6.25 m2 here") as caught:
        vectorize(_raster(tmp_path, UTM), min_area=typed)
    assert caught[0].filename == __file__


@pytest.mark.filterwarnings("error")
def test_what_is_large_enough_is_not_warned_of(tmp_path: Path) -> None:
    vectorize(_raster(tmp_path, UTM), simplify=0, min_area=0)
    vectorize(tmp_path / "map.tif", simplify="0.8px", min_area="2px")


def _raster(folder: Path, box: GeoBox) -> Path:
    path = folder / "map.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=4, height=4, count=1, dtype="uint8", crs=box.crs, transform=box.transform
    ) as dataset:
        dataset.write(np.eye(4, dtype=np.uint8), 1)
    return path
