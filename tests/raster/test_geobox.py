from __future__ import annotations

import math
import pickle
import re
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.io import MemoryFile
from rasterio.rpc import RPC
from rasterio.vrt import WarpedVRT

from geoseg.errors import SceneError
from geoseg.raster import GDAL_ERRORS, GeoBox, Window, check_place
from geoseg.raster.geobox import GroundControlPoint, crs_text

UTM = CRS.from_epsg(32618)
TRANSFORMS = {
    "north-up": Affine(0.5, 0, 5e5, 0, -0.5, 4e6),
    "south-up": Affine(0.5, 0, 5e5, 0, 0.5, 4e6),
    "rotated": Affine.translation(5e5, 4e6) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@given(row=st.integers(-50, 50), col=st.integers(-50, 50))
def test_a_pixel_stays_in_its_place_when_cropped(name: str, row: int, col: int) -> None:
    points = (GroundControlPoint(3, 4, 1.0, 2.0),)
    whole = GeoBox(100, 90, TRANSFORMS[name], UTM, points, UTM)
    part = whole[Window(row, col, 7, 5)]
    assert part.shape == (7, 5)
    assert part.crs == whole.crs
    assert part.transform @ (2, 3) == pytest.approx(whole.transform @ (2 + col, 3 + row))
    assert (part.gcps[0].row + row, part.gcps[0].col + col) == (3, 4)


def test_rpcs_move_with_the_window() -> None:
    rpcs = _rpcs()
    part = GeoBox(10, 10, Affine.identity(), rpcs=rpcs)[Window(3, 5, 2, 2)]
    assert part.rpcs is not None
    assert (part.rpcs.line_off, part.rpcs.samp_off) == (rpcs.line_off - 3, rpcs.samp_off - 5)
    assert part.has_place


@pytest.mark.parametrize("name", TRANSFORMS)
def test_metres_a_pixel_in_utm(name: str) -> None:
    assert GeoBox(100, 100, TRANSFORMS[name], UTM).gsd_m == pytest.approx(0.5)


def test_metres_a_pixel_where_the_map_lies_about_them() -> None:
    # At 60 degrees north Web Mercator shows everything twice as large; a minute of latitude is a nautical mile.
    mercator = GeoBox(2, 2, Affine(1, 0, 0, 0, -1, 8399737.9), CRS.from_epsg(3857))
    minutes = GeoBox(2, 2, Affine(1 / 60, 0, 0, 0, -1 / 60, 0), CRS.from_epsg(4326))
    feet = GeoBox(2, 2, Affine(1, 0, 2e6, 0, -1, 5e5), CRS.from_epsg(2263))
    assert mercator.gsd_m == pytest.approx(0.5, rel=0.005)
    assert minutes.gsd_m == pytest.approx(1852, rel=0.005)
    assert feet.gsd_m == pytest.approx(0.3048, rel=0.001)


def geodesic_m(box: GeoBox) -> float:
    """Return the square root of the middle pixel's area on the ellipsoid, computed with pyproj."""
    row, col = (length // 2 for length in box.shape)
    corners = [box.transform @ corner for corner in ((col, row), (col + 1, row), (col + 1, row + 1), (col, row + 1))]
    into = Transformer.from_crs(box.crs, 4326, always_xy=True)
    lons, lats = into.transform([x for x, _ in corners], [y for _, y in corners])
    return math.sqrt(abs(Geod(ellps="WGS84").polygon_area_perimeter(lons, lats)[0]))


@given(lat=st.floats(-89.9, 89.9), lon=st.floats(-180, 180), size=st.floats(1e-6, 1e-3))
def test_pixels_of_degrees_are_measured_on_the_ellipsoid(lat: float, lon: float, size: float) -> None:
    box = GeoBox(3, 5, Affine(size, 0, lon, 0, -size, lat), CRS.from_epsg(4326))
    assert box.gsd_m == pytest.approx(geodesic_m(box), rel=1e-3)


@pytest.mark.parametrize("size", [1e-3, 1e-2, 0.1])
@pytest.mark.parametrize("pole", [1, -1])
def test_pixels_of_degrees_at_a_pole(size: float, pole: int) -> None:
    """The last pixel before a pole is a triangle; pixels beyond it have no size."""
    crs, down = CRS.from_epsg(4326), Affine(size, 0, 20, 0, -pole * size, pole * 90)
    last, before = GeoBox(1, 1, down, crs), GeoBox(3, 3, down, crs)
    assert last.gsd_m == pytest.approx(geodesic_m(last), rel=1e-3)
    assert before.gsd_m == pytest.approx(geodesic_m(before), rel=1e-3)
    assert GeoBox(2, 2, down @ Affine.translation(0, -1), crs).gsd_m is None
    assert GeoBox(9, 9, down @ Affine.translation(0, -9), crs).gsd_m is None


@pytest.mark.parametrize("epsg", [3413, 3031, 3995, 3832])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (5, 8)])
def test_maps_of_the_poles_and_of_the_date_line(epsg: int, shape: tuple[int, int]) -> None:
    """The map is centered on a pole, where all longitudes meet, or on the 180th meridian, where they jump."""
    x = Transformer.from_crs(4326, epsg, always_xy=True).transform(180, 0)[0] if epsg == 3832 else 0.0
    rows, cols = shape
    box = GeoBox(rows, cols, Affine(30, 0, x - 15 * cols, 0, -30, 15 * rows), CRS.from_epsg(epsg))
    ground = geodesic_m(box)
    wanted = 30 if max(30 / ground, ground / 30) <= 1.02 else ground
    assert box.gsd_m == pytest.approx(wanted, rel=1e-4)
    assert box[Window(0, 0, 1, 1)].gsd_m == pytest.approx(box.gsd_m, rel=1e-5)


def test_a_place_is_found_without_what_affine_deprecates() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        part = GeoBox(100, 90, TRANSFORMS["rotated"], UTM)[Window(3, 4, 7, 5)]
        assert part.gsd_m == pytest.approx(0.5)


def test_metres_a_pixel_are_unknown_without_a_place() -> None:
    assert GeoBox(5, 5, Affine(2, 0, 0, 0, -2, 0)).gsd_m is None
    assert GeoBox(5, 5, Affine.identity(), UTM).gsd_m is None
    assert not GeoBox(5, 5, Affine.identity(), UTM).has_place


def test_control_points_give_metres_a_pixel() -> None:
    corners = [(0, 0), (0, 100), (100, 0), (100, 100)]
    points = tuple(GroundControlPoint(row, col, 5e5 + 2 * col, 4e6 - 2 * row) for row, col in corners)
    box = GeoBox(100, 100, Affine.identity(), None, points, UTM)
    assert box.gsd_m == pytest.approx(2)
    assert box.has_place


def test_it_is_a_value() -> None:
    box = GeoBox(5, 5, TRANSFORMS["rotated"], UTM, (GroundControlPoint(0, 0, 1, 2),), UTM, _rpcs())
    assert pickle.loads(pickle.dumps(box)) == box  # noqa: S301 - our own bytes
    assert hash(box) == hash(pickle.loads(pickle.dumps(box)))  # noqa: S301


def test_a_raster_without_pixels_is_refused() -> None:
    with pytest.raises(SceneError, match="0 rows"):
        GeoBox(0, 5, Affine.identity())


def _rpcs() -> RPC:
    ones = [1.0] * 20
    return RPC(100, 50, 45, 0.1, ones, ones, 500, 500, 7, 0.1, ones, ones, 400, 400, None, None)


def test_a_place_that_no_map_can_keep_is_told_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    geobox = GeoBox(9, 9, TRANSFORMS["north-up"], UTM)
    check_place(geobox)

    def fails(*_: object, **__: object) -> str:
        raise CRSError("no words for it")

    monkeypatch.setattr("geoseg.raster.views.crs_words", fails)
    with pytest.raises(SceneError, match=r"no words for it.*rio warp"):
        check_place(geobox)


def by_points(pixels: Sequence[tuple[float, float]], transform: Affine = TRANSFORMS["rotated"]) -> GeoBox:
    """Return a raster with control points at the given (row, col), positioned by a transform."""
    points = (GroundControlPoint(row, col, *(transform @ (col, row))) for row, col in pixels)
    return GeoBox(100, 90, Affine.identity(), None, tuple(points), UTM)


def gdal_places(box: GeoBox) -> bool:
    """Return whether GDAL can georeference a raster from its control points alone."""
    points = [point.to_rasterio() for point in box.gcps]
    shape = {"height": box.height_px, "width": box.width_px, "count": 1, "dtype": "uint8"}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", **shape, gcps=points, crs=box.gcp_crs) as file:
            file.write(np.ones((1, *box.shape), np.uint8))
        with memory.open() as file:
            try:
                with WarpedVRT(file, crs="EPSG:3857", src_crs=box.gcp_crs) as warped:
                    return bool(warped.read().any())
            except GDAL_ERRORS:
                return False


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 90)), min_size=3, max_size=9, unique=True),
    st.sampled_from(sorted(TRANSFORMS)),
)
def test_points_that_span_an_area_say_how_large_a_pixel_is(pixels: list[tuple[int, int]], name: str) -> None:
    box = by_points(pixels, TRANSFORMS[name])
    spread = [(r - pixels[0][0], c - pixels[0][1]) for r, c in pixels]
    on_a_line = all(a * d == b * c for a, b in spread for c, d in spread)
    assert (box.gcp_fault is not None) == on_a_line
    assert box.has_place is not on_a_line
    assert box.gsd_m is None if on_a_line else box.gsd_m == pytest.approx(0.5, rel=1e-4)


UNSOLVABLE = {
    "alone": ([(3, 4)], "1 ground control point cannot place it: one alone says neither"),
    "two": ([(0, 0), (0, 90)], "2 ground control points cannot place it: their pixels have one coordinate in common"),
    "row": ([(50, col) for col in range(0, 90, 20)], "5 ground .* all lie on one line"),
    "diagonal": ([(side, side) for side in range(0, 90, 20)], "5 ground .* all lie on one line"),
    "same": ([(10, 10)] * 4, "4 ground .* their pixels are all the same"),
}


@pytest.mark.parametrize(("pixels", "words"), UNSOLVABLE.values(), ids=UNSOLVABLE)
def test_points_that_place_nothing_are_told_apart_from_a_damaged_file(
    pixels: list[tuple[float, float]], words: str
) -> None:
    box = by_points(pixels, TRANSFORMS["north-up"])
    assert not gdal_places(box)
    assert not box.has_place
    assert box.gsd_m is None
    assert box.gcp_fault is not None
    assert re.match(
        f"{words}.*; give it 3 or more that span an area \\(rasterio's dataset.gcps\\), .*--transform\\)$",
        box.gcp_fault,
    )


def test_places_that_place_nothing() -> None:
    corners = [(row, col) for row in (0, 100) for col in (0, 90)]
    at_one_place = [GroundControlPoint(row, col, 5e5, 4e6) for row, col in corners]
    on_a_line = [GroundControlPoint(row, col, 5e5 + col, 4e6 - col) for row, col in corners]
    unknown = [GroundControlPoint(row, col, math.nan, 4e6) for row, col in corners]
    said = ("places are all the same", "places all lie on one line", "numbers are not finite")
    for points, words in zip((at_one_place, on_a_line, unknown), said, strict=True):
        box = GeoBox(100, 90, Affine.identity(), None, tuple(points), UTM)
        assert not gdal_places(box)
        assert words in str(box.gcp_fault)
        assert (box.has_place, box.gsd_m) == (False, None)


def test_a_line_is_one_for_all_the_rounding_of_its_numbers() -> None:
    along = np.random.default_rng(3).random(6) * 90
    for x, y, unit in ((5e5, 4e6, 0.3333), (3.0, 48.0, 1e-5)):
        points = [GroundControlPoint(0.37 * t + 3, t, x + unit * t, y - unit * (0.37 * t + 3)) for t in along.tolist()]
        box = GeoBox(100, 90, Affine.identity(), None, tuple(points), UTM)
        assert "all lie on one line" in str(box.gcp_fault)
        bent = (*points, GroundControlPoint(0, 90, x + unit * 90, y))
        assert GeoBox(100, 90, Affine.identity(), None, bent, UTM).gcp_fault is None


def test_two_corners_place_a_north_up_raster_as_gdal_has_it() -> None:
    box = by_points([(0, 0), (100, 90)], TRANSFORMS["north-up"])
    assert gdal_places(box)
    assert box.has_place
    assert box.gsd_m == pytest.approx(0.5, rel=1e-4)


def test_points_are_not_asked_where_a_transform_is() -> None:
    line = by_points(UNSOLVABLE["row"][0]).gcps
    box = GeoBox(100, 90, TRANSFORMS["north-up"], UTM, line, UTM)
    assert box.gcp_fault is None
    assert box.gsd_m == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        *(("EPSG:4326", Affine(4.5e-6, 0, 12, 0, -4.5e-6, lat)) for lat in (0, 45, 65, 70, -80)),
        ("EPSG:32631", Affine(0.5, 0, 4e5, 0, -0.8, 5e6)),
        ("EPSG:32631", Affine(0.5, 0, 4e5, 0, -0.8, 5e6) @ Affine.rotation(0)),
        ("EPSG:32631", Affine.translation(4e5, 5e6) @ Affine.rotation(30) @ Affine.scale(3, -1)),
        ("EPSG:3857", Affine(2, 0, 1e6, 0, -4, 8e6)),
        ("EPSG:6933", Affine(10, 0, 9e5, 0, -10, 5.5e6)),  # an equal-area cylinder: areas are true, sides are not
        ("EPSG:2229", Affine(1, 0, 6.4e6, 0, -2, 1.8e6)),  # US feet
    ],
)
def test_both_sides_of_a_pixel_are_those_of_the_ellipsoid(crs: str, transform: Affine) -> None:
    box = GeoBox(40, 60, transform, CRS.from_user_input(crs))
    ends = [(29.5, 20), (30.5, 20), (30, 19.5), (30, 20.5)]
    to_lon_lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    left, right, top, bottom = (to_lon_lat.transform(*(transform @ end)) for end in ends)
    ellipsoid = Geod(ellps="WGS84")
    height, width = ellipsoid.inv(*top, *bottom)[2], ellipsoid.inv(*left, *right)[2]
    assert box.pixel_m == pytest.approx((height, width), rel=2e-3)
    assert box.gsd_m == pytest.approx((height * width) ** 0.5, rel=2e-3)
    assert box.stretch == pytest.approx(max(height, width) / min(height, width), rel=2e-3)


def test_a_pixel_without_a_place_has_no_sides() -> None:
    box = GeoBox(4, 6, Affine.identity())
    assert (box.pixel_m, box.stretch) == (None, 1.0)


def test_pixels_of_a_geocentric_crs_have_no_size() -> None:
    place = Affine(0.5, 0, 4e5, 0, -0.5, 6e5)
    assert GeoBox(40, 50, place, CRS.from_epsg(4978)).gsd_m is None
    assert GeoBox(40, 50, place, CRS.from_epsg(32631)).gsd_m == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("EPSG:32632", "EPSG:32632"),
        (CRS.from_epsg(7415).to_wkt(), "EPSG:7415"),
        ('LOCAL_CS["site",UNIT["metre",1]]', "site"),
        ('LOCAL_CS["",UNIT["metre",1]]', "a CRS without a name"),
        ("+proj=tmerc +lat_0=10 +lon_0=11 +datum=WGS84", "+proj=tmerc +lat_0=10 +lon_0=11"),
    ],
)
def test_a_crs_without_a_code_is_shown_by_its_name(words: str, text: str) -> None:
    assert crs_text(CRS.from_user_input(words)).startswith(text)
