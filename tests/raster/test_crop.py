"""A part of a scene, against the same pixels cut from the whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform, transform_bounds

from geoseg.errors import SceneError, UsageError
from geoseg.raster import Scene, Window, crop, mosaic, scaled
from tests.raster.conftest import MakeRaster, noise

GRID = Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)
SHAPE = (120, 160)
BOX = (400_010.0, 4_999_960.0, 400_030.0, 4_999_990.0)
"""Columns 20 to 60 and rows 20 to 80."""
PART = Window(20, 20, 60, 40)


def write(path: Path, dtype: str = "uint8", count: int = 3, transform: Affine = GRID, **more: Any) -> Path:
    pixels = np.random.default_rng(2).integers(0, 90, (count, *SHAPE)).astype(dtype)
    shape = {"count": count, "height": SHAPE[0], "width": SHAPE[1], "dtype": dtype}
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **{"crs": "EPSG:32631"} | shape | more) as file:
        file.write(pixels)
        file.set_band_description(1, "red <edge> & more")
    return path


def assert_same_part(part: Scene, whole: Scene, window: Window = PART) -> None:
    assert part.geobox == whole.geobox[window]
    cut, here = whole.read(window), part.read(Window(0, 0, *part.shape))
    np.testing.assert_array_equal(here.valid, cut.valid)
    np.testing.assert_array_equal(here.data, cut.data)
    assert (part.dtype, part.colors, part.descriptions) == (whole.dtype, whole.colors, whole.descriptions)
    assert part.band_indexes == whole.band_indexes


@pytest.mark.parametrize(
    ("dtype", "more"),
    [
        ("uint8", {}),
        ("uint8", {"nodata": 0}),
        ("uint16", {"nodata": 7, "count": 5}),
        ("int16", {"nodata": -1}),
        ("float32", {"nodata": float("nan")}),
        ("float64", {"nodata": 3.0}),
        ("uint8", {"count": 4, "photometric": "RGB", "alpha": "YES"}),
        ("uint8", {"tiled": True, "blockxsize": 64, "blockysize": 64}),
    ],
)
def test_a_part_is_the_pixels_of_the_whole(tmp_path: Path, dtype: str, more: dict[str, Any]) -> None:
    whole = Scene.open(write(tmp_path / "scene & more.tif", dtype, **more))
    assert_same_part(crop(whole, BOX), whole)


def test_a_mask_of_its_own_comes_along(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif")
    with rasterio.open(path, "r+") as file:
        file.write_mask(np.random.default_rng(3).random(SHAPE) > 0.5)
    whole = Scene.open(path)
    assert_same_part(crop(whole, BOX), whole)
    assert not crop(whole, BOX).read(Window(0, 0, 60, 40)).valid.all()


def test_chosen_bands_stay_chosen_and_all_bands_say_what_is_valid(tmp_path: Path) -> None:
    whole = Scene.open(write(tmp_path / "scene.tif", nodata=5), bands=[3, 1])
    part = crop(whole, BOX)
    assert_same_part(part, whole)
    assert part.chosen


def test_rotated_grids_are_cut_as_they_are(tmp_path: Path) -> None:
    grid = GRID @ Affine.rotation(30)
    whole = Scene.open(write(tmp_path / "scene.tif", transform=grid))
    centre = grid @ (80, 60)
    box = (centre[0] - 5, centre[1] - 4, centre[0] + 5, centre[1] + 4)
    part = crop(whole, box)
    corners = [~part.geobox.transform @ (x, y) for x in box[::2] for y in box[1::2]]
    assert all(0 <= col <= part.shape[1] and 0 <= row <= part.shape[0] for col, row in corners)
    col, row = ~grid @ (part.geobox.transform @ (0, 0))
    assert_same_part(part, whole, Window(round(row), round(col), *part.shape))


def test_a_box_in_another_crs_holds_the_same_place(tmp_path: Path) -> None:
    whole = Scene.open(write(tmp_path / "scene.tif"))
    part = crop(whole, transform_bounds("EPSG:32631", "EPSG:4326", *BOX), "EPSG:4326")
    assert part.shape[0] - PART.height in range(3)
    assert part.shape[1] - PART.width in range(3)
    left, top = part.geobox.transform @ (0, 0)
    assert left <= BOX[0] + 1e-3
    assert top >= BOX[3] - 1e-3


def test_a_box_over_the_edge_is_cut_there_and_a_point_is_a_pixel(tmp_path: Path) -> None:
    whole = Scene.open(write(tmp_path / "scene.tif"))
    assert_same_part(crop(whole, (0, 0, 1e6, 1e7)), whole, Window(0, 0, *SHAPE))
    assert_same_part(crop(whole, (400_000.1, 4_999_999.6, 400_000.2, 4_999_999.7)), whole, Window(0, 0, 1, 1))


def test_a_part_can_be_brought_to_another_resolution(tmp_path: Path) -> None:
    whole = Scene.open(write(tmp_path / "scene.tif"))
    half = scaled(crop(whole, BOX), 0.5)
    assert half.shape == (30, 20)
    means = whole.read(PART).data.reshape(3, 30, 2, 20, 2).mean(axis=(2, 4))
    assert np.abs(half.read(Window(0, 0, 30, 20)).data - means).max() <= 0.51


def test_a_path_will_do(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif")
    assert crop(path, BOX) == crop(str(path), BOX) == crop(Scene.open(path), BOX)
    with pytest.raises(SceneError, match="no such file"):
        crop(tmp_path / "gone.tif", BOX)


def test_a_part_of_a_part(tmp_path: Path) -> None:
    whole = Scene.open(write(tmp_path / "scene.tif"))
    assert_same_part(crop(crop(whole, (400_000, 4_999_950, 400_040, 5_000_000)), BOX), whole)


def test_a_changed_file_changes_the_fingerprint_and_so_does_the_box(tmp_path: Path) -> None:
    whole = Scene.open(write(tmp_path / "scene.tif"))
    before = crop(whole, BOX).fingerprint()
    assert crop(whole, BOX).fingerprint() == before
    assert crop(whole, (BOX[0] + 2, *BOX[1:])).fingerprint() != before
    write(tmp_path / "scene.tif", compress="deflate")
    assert crop(Scene.open(tmp_path / "scene.tif"), BOX).fingerprint() != before
    assert [file.name for file in crop(whole, BOX).local_files()] == ["scene.tif"]


@pytest.mark.parametrize(
    ("box", "crs", "said"),
    [
        ((3, 2, 1, 4), None, "W < E and S < N, got 3,2,1,4"),
        ((1, 2, 3, float("nan")), None, "W < E and S < N"),
        (None, None, "four numbers: west, south, east, north, got None"),
        ((1, 2, 3), None, "W,S,E,N with W < E and S < N, got 1,2,3"),
        ((1, 2, 1, 4), None, "got 1,2,1,4"),
        ((0, 0, 1, 1), None, "which extends from W,S,E,N 400000,4999940,400080,5000000"),
        ((0, 0, 1, 1), "EPSG:4326", "in that CRS it is 166021.44"),
        ((0, 0, 1, 1), "nonsense", "`crs` of the `bbox` is not a known CRS: 'nonsense'; give one such as"),
    ],
)
def test_a_box_that_is_none_is_refused(tmp_path: Path, box: Any, crs: str | None, said: str) -> None:
    whole = Scene.open(write(tmp_path / "scene.tif"))
    with pytest.raises(UsageError, match=r"(?i)bbox") as caught:
        crop(whole, box, crs)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ["nan", "inf", "0"])
def test_a_transform_that_gives_pixels_no_place_or_no_size_is_refused(tmp_path: Path, fault: str) -> None:
    write(tmp_path / "a.tif", count=1)
    vrt = tmp_path / "a.vrt"
    vrt.write_text(
        f'<VRTDataset rasterXSize="160" rasterYSize="120"><SRS>EPSG:32631</SRS>'
        f"<GeoTransform>400000, {fault}, 0, 5000000, 0, -0.5</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="1">a.tif'
        "</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    scene = Scene.open(vrt)
    assert scene.geobox.gsd_m is None
    for crs, box in ((None, BOX), ("EPSG:4326", (1.7, 45.1, 1.8, 45.2))):
        with pytest.raises(SceneError, match=r"so it cannot be cropped to a box; .*edit-info --transform"):
            scene.crop(box, crs)


def test_a_scene_without_a_grid_is_refused(tmp_path: Path) -> None:
    whole = Scene.open(write(tmp_path / "scene.tif", transform=Affine.identity(), crs=None))
    with pytest.raises(SceneError, match="has no CRS or transform"):
        crop(whole, BOX)


def scene_over_180(tmp_path: Path, crs: str, width: int = 60) -> Scene:
    """Return a scene whose middle column borders the 180th meridian, at 65 degrees north or near the pole."""
    name, _, turns = crs.partition("+")
    (x,), (y,) = transform("EPSG:4326", name, [180.0], [65.0])
    if name in {"EPSG:4326", "EPSG:3857"}:  # it begins west of the meridian, and reaches beyond; or ends east of -180
        x = {"EPSG:4326": 180.0, "EPSG:3857": 20037508.342789244}[name] * (-1 if turns else 1)
    px = 1e-4 if name == "EPSG:4326" else 20.0
    grid = Affine(px, 0, x - px * (width // 2), 0, -px, y + px * 20)
    return Scene.open(write(tmp_path / "scene.tif", transform=grid, crs=name))


@pytest.mark.parametrize(
    "crs",
    ["EPSG:4326", "EPSG:4326+360", "EPSG:3857", "EPSG:3857+", "EPSG:32601", "EPSG:32660", "EPSG:3413", "EPSG:3832"],
)
@pytest.mark.parametrize("east", ["less than west", "beyond 180", "from -180 on"])
def test_a_box_over_the_180th_meridian_holds_the_pixels_on_both_sides(tmp_path: Path, crs: str, east: str) -> None:
    whole = scene_over_180(tmp_path, crs)
    window = Window(10, 10, 12, 40)
    height, width = window.shape
    corners = [(window.col + col, window.row + row) for col in np.linspace(0, width, 9) for row in (0, height)]
    xs, ys = zip(*(whole.geobox.transform @ corner for corner in corners), strict=True)
    lons, lats = transform(whole.geobox.crs, "EPSG:4326", xs, ys)
    round_lons = [lon % 360 for lon in lons]
    west, right = min(round_lons), max(round_lons)
    assert west < 180 < right
    shift = {"less than west": (0, 360), "beyond 180": (0, 0), "from -180 on": (360, 360)}[east]
    part = crop(whole, (west - shift[0], min(lats), right - shift[1], max(lats)), "EPSG:4326")
    col, row = (round(edge) for edge in ~whole.geobox.transform @ (part.geobox.transform.c, part.geobox.transform.f))
    assert_same_part(part, whole, Window(row, col, *part.shape))
    slack = 60 if crs == "EPSG:3413" else 3  # a box of longitudes is not a rectangle near the pole
    assert window.row - slack <= row <= window.row
    assert window.col - slack <= col <= window.col
    assert window.row_stop <= row + part.shape[0] <= window.row_stop + slack
    assert window.col_stop <= col + part.shape[1] <= window.col_stop + slack


def test_what_rasterio_says_of_a_utm_zone_beside_the_meridian_is_a_box(tmp_path: Path) -> None:
    for crs in ("EPSG:32601", "EPSG:32660"):
        whole = scene_over_180(tmp_path, crs)
        with rasterio.open(whole.path) as file:
            box = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
        assert box[0] > box[2]
        assert crop(whole, box, "EPSG:4326").shape == whole.shape


def test_a_box_at_both_ends_of_a_world_is_two(tmp_path: Path) -> None:
    world = Scene.open(write(tmp_path / "world.tif", transform=Affine(360 / 160, 0, -180, 0, -1, 60), crs="EPSG:4326"))
    with pytest.raises(UsageError, match="at both ends of") as caught:
        crop(world, (170, 0, -170, 10))
    assert "separately" in str(caught.value)
    assert crop(world, (-180, -90, 180, 90)).shape == world.shape
    assert crop(world, (0, -90, 360, 90)).shape == world.shape
    assert (
        crop(world, (350, 0, 370, 9)).shape == crop(world, (-10, 0, 10, 9)).shape == crop(world, (350, 0, 10, 9)).shape
    )


def test_edges_that_differ_in_the_last_digits_differ_in_the_message(tmp_path: Path) -> None:
    whole = Scene.open(write(tmp_path / "scene.tif"))
    with pytest.raises(UsageError, match=re.escape("got 400010.00000001,4,400010,5")):
        crop(whole, (400010.00000001, 4, 400010, 5))
    with pytest.raises(UsageError, match=re.escape("or W > E over the 180th meridian, got 179.9995,2,179.9996,1")):
        crop(whole, (179.9995, 2, 179.9996, 1), "EPSG:4326")


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (re.sub(r'("7004"\]\])', r"\1,TOWGS84[1,2,3,0,0,0,0]", CRS.from_epsg(31467).to_wkt()), "TOWGS84[1,2,3,"),
        (CRS.from_epsg(31467).to_wkt().replace('"EPSG","31467"', '"OWN","1"'), '"OWN","1"'),
        (CRS.from_epsg(7415).to_wkt().replace('"EPSG","7415"', '"OWN","1"'), '"OWN","1"'),
    ],
)
def test_a_crs_that_resembles_one_with_a_code_stays_what_it_is(words: str, own: str) -> None:
    scene = Scene.open(
        f'<VRTDataset rasterXSize="30" rasterYSize="20"><SRS>{escape(words)}</SRS><GeoTransform>100000,1,0,400000,0,-1'
        '</GeoTransform><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    )
    for each in (scene, scene.crop(scene.geobox.bounds), mosaic([scene])):
        assert own in each.geobox.crs.to_wkt()


@pytest.mark.parametrize("code", ["EPSG:7415", "EPSG:6649", "EPSG:4979", "EPSG:32632", "EPSG:31467", "ESRI:102003"])
def test_a_part_in_a_crs_with_heights_is_written_in_the_same_crs(
    make_raster: MakeRaster, tmp_path: Path, code: str
) -> None:
    place = Affine(1e-5, 0, 5, 0, -1e-5, 52) if code in {"EPSG:6649", "EPSG:4979"} else Affine(1, 0, 1e5, 0, -1, 4e5)
    scene = Scene.open(make_raster(noise(1, 20, 30), crs=code, transform=place))
    rasterio.shutil.copy(scene.crop(scene.geobox.bounds).path, tmp_path / "part.tif", driver="GTiff")
    assert Scene.open(tmp_path / "part.tif").geobox == scene.geobox
