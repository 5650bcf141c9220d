from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import CRS as PROJ_CRS
from pyproj import Geod
from rasterio.crs import CRS
from shapely.affinity import translate

from geoseg.errors import SceneError
from geoseg.raster import GeoBox, Ground, Surface
from geoseg.vector.polygons import Polygons, measure

NORTH_UP = Affine(0.5, 0, 5e5, 0, -0.5, 4e6)
DEGREES = Affine(0.01, 0, 1, 0, -0.01, 1)
ELLIPSOIDS = {
    "WGS 84": "EPSG:4326",
    "Clarke 1880 in grads": "EPSG:4807",
    "Mars": "ESRI:104905",
    "Moon, a sphere": "+proj=longlat +R=1737400",
    "oblate": 'GEOGCS["x",DATUM["x",SPHEROID["Uranus, ""oblate""",25559000,43.62]],PRIMEM["G",0],UNIT["radian",1]]',
}


def surface(crs: str | None, transform: Affine = NORTH_UP) -> Surface:
    return Surface.of(GeoBox(10, 10, transform, None if crs is None else CRS.from_user_input(crs)))


def polygons(*shapes: shapely.Polygon | shapely.MultiPolygon) -> Polygons:
    """Return shapes as flat arrays, one feature each."""
    _, xy, (rings, parts, features) = shapely.to_ragged_array(
        [shapely.multipolygons([s]) if s.geom_type == "Polygon" else s for s in shapes]
    )
    zeros = np.zeros(len(shapes), np.int32)
    return Polygons(
        zeros, zeros.astype(np.int64), features.astype(np.int64), parts.astype(np.int64), rings.astype(np.int64), xy
    )


def measured(shape: shapely.Polygon | shapely.MultiPolygon, on: Surface | Ground) -> tuple[float, float]:
    area, perimeter = measure(polygons(shape), on)
    return float(area[0]), float(perimeter[0])


def densified(ring: NDArray[np.float64], points: int = 4000) -> NDArray[np.float64]:
    """Return a ring whose many short geodesics follow the straight edges in longitude and latitude."""
    share = np.linspace(0, 1, points, endpoint=False)[:, None]
    return np.concatenate([start + share * (stop - start) for start, stop in pairwise(ring)])


def geod(crs: str) -> tuple[Geod, float]:
    """Return pyproj's geodesics on the CRS's own ellipsoid, and the degrees per unit of the CRS."""
    known = PROJ_CRS.from_user_input(crs)
    oracle = known.get_geod()
    assert oracle is not None
    return oracle, math.degrees(known.axis_info[0].unit_conversion_factor)


@pytest.mark.parametrize("name", ELLIPSOIDS)
@settings(max_examples=40, deadline=None)
@given(
    lon=st.floats(-170, 170),
    lat=st.floats(-85, 85),
    size=st.floats(1e-4, 1e-2),
    turn=st.floats(0, math.pi),
)
def test_small_polygons_agree_with_geodesics(name: str, lon: float, lat: float, size: float, turn: float) -> None:
    crs = ELLIPSOIDS[name]
    oracle, degrees = geod(crs)
    angles = turn + np.array([0, 1, 2.5, 4, 5, 0])
    ring = np.stack([lon + size * np.cos(angles), lat + size * np.sin(angles)], -1)
    hole = np.array([lon, lat]) + (ring - [lon, lat]) / 3
    area, perimeter = oracle.geometry_area_perimeter(shapely.Polygon(densified(ring, 20), [densified(hole[::-1], 20)]))
    perimeter += oracle.geometry_length(shapely.LinearRing(hole))
    ours = measured(shapely.Polygon(ring / degrees, [hole[::-1] / degrees]), surface(crs, DEGREES))
    noise_m2 = 0.1 * (oracle.a / 6e6) ** 2  # of the oracle: geodesics are exact, sums of their areas are rounded
    assert ours[0] == pytest.approx(area, rel=2e-6, abs=noise_m2)
    assert ours[1] == pytest.approx(perimeter, rel=2e-6)


@given(lat=st.floats(-89, 89), size=st.floats(1e-6, 1e-4))
def test_tiny_polygons_keep_their_digits(lat: float, size: float) -> None:
    # A pixel of 10 cm: its area from the radii of curvature at its center, at 180 degrees east.
    oracle, _ = geod("EPSG:4326")
    north, east = np.nextafter(lat + size, 90), 180 + size
    middle = math.radians((lat + north) / 2)
    curvature = 1 - oracle.es * math.sin(middle) ** 2
    square = math.radians(east - 180) * math.radians(north - lat) * oracle.a**2 * (1 - oracle.es) / curvature**2
    area, _ = measured(shapely.box(180, lat, east, north), surface("EPSG:4326", DEGREES))
    assert area == pytest.approx(square * math.cos(middle), rel=1e-9)


@pytest.mark.parametrize("name", ["WGS 84", "Mars", "Moon, a sphere"])
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-60, 60), st.floats(-89, 89)), min_size=3, max_size=3))
def test_long_edges_are_straight_in_longitude_and_latitude(name: str, corners: list[tuple[float, float]]) -> None:
    crs = ELLIPSOIDS[name]
    oracle, _ = geod(crs)
    triangle = shapely.Polygon(corners)
    ring = densified(np.array(triangle.exterior.coords))
    area, perimeter = oracle.polygon_area_perimeter(ring[:, 0], ring[:, 1])
    area_m2, perimeter_m = measured(triangle, surface(crs, DEGREES))
    assert perimeter_m == pytest.approx(perimeter, rel=1e-6, abs=1e-6)
    assert area_m2 == pytest.approx(abs(area), rel=1e-6, abs=oracle.a**2 * 1e-7)


@pytest.mark.parametrize("name", ELLIPSOIDS)
def test_the_whole_body_is_its_own_area(name: str) -> None:
    crs = ELLIPSOIDS[name]
    oracle, degrees = geod(crs)
    e = math.sqrt(oracle.es)
    whole = 2 * math.pi * oracle.a**2 * (1 + (1 - oracle.es) * (math.atanh(e) / e if e else 1))
    # Half a pixel beyond each pole, as in world grids at pixel centers.
    assert measured(
        shapely.box(-180 / degrees, -90.25 / degrees, 180 / degrees, 90.25 / degrees), surface(crs, DEGREES)
    )[0] == pytest.approx(whole, rel=1e-12)


def test_pixels_add_up_to_the_box_on_the_ellipsoid() -> None:
    on = surface("EPSG:4326", DEGREES)
    cells = [shapely.box(x, y, x + 0.7, y + 1.1) for x in np.arange(-3.5, 3.4, 0.7) for y in np.arange(-55, 54.9, 1.1)]
    area, _ = measure(polygons(*cells), on)
    whole, _ = measured(shapely.box(-3.5, -55, 3.5, 55), on)
    assert area.sum() == pytest.approx(whole, rel=1e-12)


def test_a_parallel_is_followed_not_cut_short() -> None:
    # 90 degrees along 60 degrees north: a quarter of a circle of half the radius, there and back.
    _, perimeter = measured(shapely.box(0, 60, 90, 60 + 1e-9), surface("+proj=longlat +R=1000000", DEGREES))
    assert perimeter == pytest.approx(2 * (math.pi / 2) * (1e6 / 2), rel=1e-6)


@pytest.mark.parametrize(("crs", "meters"), [("EPSG:32618", 1.0), ("EPSG:2263", 1200 / 3937), ("EPSG:2222", 0.3048)])
@given(x=st.floats(-1e7, 1e7), y=st.floats(-1e7, 1e7), size=st.floats(0.1, 1e5))
def test_projected_measures_are_in_true_metres(crs: str, meters: float, x: float, y: float, size: float) -> None:
    shape = shapely.Point(0, 0).buffer(size, 4).difference(shapely.Point(0, 0).buffer(size / 2, 4))
    moved = translate(shape, x, y)
    assert isinstance(moved, shapely.Polygon)
    back = translate(moved, -x, -y)  # digits lost by the translation are not our error
    assert measured(moved, surface(crs)) == pytest.approx((back.area * meters**2, back.length * meters), rel=1e-9)


def test_parts_and_holes_belong_to_their_feature() -> None:
    ring = shapely.Polygon(
        [(0, 0), (9, 0), (9, 9), (0, 9)], [[(1, 1), (2, 1), (2, 2), (1, 2)], [(4, 4), (7, 4), (7, 6), (4, 6)]]
    )
    parts = shapely.MultiPolygon([ring, shapely.box(20, 0, 21, 2)])
    area, perimeter = measure(polygons(shapely.box(0, 0, 3, 1), parts, ring), surface("EPSG:32618"))
    assert area.tolist() == pytest.approx([3, 81 - 7 + 2, 81 - 7])
    assert perimeter.tolist() == pytest.approx([8, 36 + 14 + 6, 36 + 14])


def test_no_polygons_have_no_measures() -> None:
    none = np.zeros(1, np.int64)
    area, perimeter = measure(
        Polygons(np.zeros(0, np.int32), none[:0], none, none, none, np.zeros((0, 2))), surface(None)
    )
    assert (area.shape, perimeter.shape) == ((0,), (0,))


@pytest.mark.parametrize(
    "transform",
    [
        Affine.identity(),
        Affine(100, 0, 0, 0, 100, 0),
        Affine(0.5, 0, 7, 0, -2, 9),
        Affine.rotation(30) @ Affine.scale(3, -2),
    ],
)
def test_without_a_place_pixels_are_counted(transform: Affine) -> None:
    square = shapely.Polygon([transform * corner for corner in ((1, 1), (5, 1), (5, 3), (1, 3))])
    on = surface(None, transform)
    assert on.in_px
    assert measured(square, on) == pytest.approx((8, 12))


def test_a_crs_without_a_transform_is_no_place() -> None:
    assert surface("EPSG:32618", Affine.identity()).in_px


@pytest.mark.parametrize(
    ("crs", "meters"),
    [
        ('LOCAL_CS["site",UNIT["foot",0.3048]]', 0.3048),
        ('ENGCRS["site",EDATUM["x"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]', 1),
        ("EPSG:7415", 1),
        ("+proj=utm +zone=18 +ellps=clrk66 +units=us-ft", 1200 / 3937),
    ],
)
def test_local_and_compound_crs_have_units(crs: str, meters: float) -> None:
    assert measured(shapely.box(0, 0, 10, 20), surface(crs)) == pytest.approx((200 * meters**2, 60 * meters))


@pytest.mark.parametrize(
    "crs", ["EPSG:4979", "EPSG:5498", "+proj=ob_tran +o_proj=longlat +o_lat_p=39.25 +lon_0=18 +R=6371229"]
)
def test_heights_and_rotated_poles_are_still_geographic(crs: str) -> None:
    area, _ = measured(shapely.box(0, 0, 1, 1), surface(crs, DEGREES))
    assert area == pytest.approx(1.23e10, rel=0.01)


def test_every_place_of_the_zoo_has_a_surface(shared_data: Path) -> None:
    found = 0
    for path in sorted((shared_data / "geotiff_zoo").rglob("*.tif")):
        with rasterio.open(path) as dataset:
            box = GeoBox(dataset.height, dataset.width, dataset.transform, dataset.crs)
        pixel = shapely.Polygon(
            [box.transform * (box.width_px / 2 + c, box.height_px / 2 + r) for r, c in ((0, 0), (0, 1), (1, 1), (1, 0))]
        )
        on = Surface.of(box)
        ground = Ground.of(box)
        area, perimeter = measured(pixel, on if on.in_px else ground.surface or ground)
        assert perimeter > 0
        wanted = 1.0 if on.in_px else box.gsd_m**2 if box.gsd_m else area
        assert area == pytest.approx(wanted, rel=0.05), path.name  # GeoBox only knows the ellipsoid of WGS 84
        found += 1
    assert found > 30


def test_metres_under_a_geographic_crs_are_refused() -> None:
    with pytest.raises(SceneError, match="beyond the pole"):
        surface("EPSG:4326", NORTH_UP)


@pytest.mark.parametrize("crs", ["EPSG:32618", None])
@pytest.mark.parametrize(
    "transform",
    [
        Affine(1, 0, 0, 0, 0, 0),
        Affine(math.nan, 0, 0, 0, -1, 0),
        Affine(math.inf, 0, 0, 0, -1, 0),
        Affine(1, 0, math.nan, 0, -1, 0),
        Affine(1, 0, 0, 0, -1, math.inf),
        Affine(1e200, 0, 0, 0, -1e200, 0),
    ],
    ids=str,
)
def test_pixels_without_area_or_place_are_refused(transform: Affine, crs: str | None) -> None:
    with pytest.raises(SceneError, match=r"pixels have no area or no place .* \(rio edit-info --transform\)"):
        surface(crs, transform)
