"""A raster read on another grid: shifts by whole pixels are recognized; otherwise the nearest pixel is taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points

from geoseg.errors import SceneError
from geoseg.raster import (
    ClassRaster,
    GeoBox,
    Patch,
    Scene,
    Window,
    align,
    first_valid,
    is_placed,
    period_of,
    warped,
    whole_shift,
)

UTM = CRS.from_epsg(32631)
GRID = GeoBox(90, 70, Affine(10, 0, 400_000, 0, -10, 5_000_000), UTM)
NODATA = 255


def moved(rows: float, cols: float, scale: float = 1.0) -> GeoBox:
    return replace(GRID, transform=GRID.transform @ Affine.translation(cols, rows) @ Affine.scale(scale))


@pytest.mark.parametrize(("rows", "cols"), [(0, 0), (3, -2), (-400, 12)])
def test_a_window_of_a_grid_is_a_whole_shift_of_it(rows: int, cols: int) -> None:
    assert whole_shift(GRID, moved(rows, cols)) == (rows, cols)
    assert whole_shift(GRID, moved(rows + 0.004, cols - 0.004)) == (rows, cols)


@pytest.mark.parametrize("other", [moved(0.5, 0), moved(0, -0.02), moved(0, 0, 2), moved(0, 0, 1.001)])
def test_what_is_no_whole_shift_is_none(other: GeoBox) -> None:
    assert whole_shift(GRID, other) is None


def test_grids_in_different_crs_have_no_shift() -> None:
    assert whole_shift(GRID, replace(GRID, crs=CRS.from_epsg(32632))) is None


def test_a_grid_is_placed_by_crs_and_transform() -> None:
    assert is_placed(GRID)
    assert not is_placed(replace(GRID, crs=None))
    assert not is_placed(replace(GRID, transform=Affine.identity()))
    assert not is_placed(replace(GRID, transform=Affine(10, 10, 0, 10, 10, 0)))


@pytest.mark.parametrize("crs", ["EPSG:32631", "EPSG:3857"])
def test_each_pixel_is_the_one_in_which_its_middle_lies(tmp_path: Path, crs: str) -> None:
    codes = np.random.default_rng(1).integers(0, 200, GRID.shape).astype(np.uint8)
    codes[:20, :20] = NODATA
    path = tmp_path / "codes.tif"
    shape = {"count": 1, "height": GRID.height_px, "width": GRID.width_px, "dtype": "uint8"}
    with rasterio.open(path, "w", crs=UTM, transform=GRID.transform, nodata=NODATA, **shape) as file:
        file.write(codes, 1)
    ((x,), (y,)) = transform_points(UTM, CRS.from_string(crs), [399_903.0], [5_000_077.0])
    grid = GeoBox(80, 75, Affine(13, 0, x, 0, -13, y), CRS.from_string(crs))
    patch = warped(Scene.open(path), grid)

    cols, rows = np.meshgrid(np.arange(75) + 0.5, np.arange(80) + 0.5)
    points = grid.transform @ (cols.ravel(), rows.ravel())
    at = ~GRID.transform @ tuple(np.array(axis) for axis in transform_points(grid.crs, UTM, *map(list, points)))
    inside = (at[0] >= 0) & (at[0] < GRID.width_px) & (at[1] >= 0) & (at[1] < GRID.height_px)
    # GDAL may be off by a hundredth of a pixel: centers that close to an edge may be on either side
    sure = np.all([np.abs(axis - np.round(axis)) > 0.02 for axis in at], axis=0)
    cells = np.floor(at[1]).astype(int).clip(0, 89), np.floor(at[0]).astype(int).clip(0, 69)
    expected = np.where(inside, codes[cells], NODATA)
    valid = expected != NODATA
    assert sure.mean() > 0.9
    assert np.array_equal(patch.valid.ravel()[sure], valid[sure])
    assert np.array_equal(patch.data[0].ravel()[sure & valid], expected[sure & valid])
    window = Window(11, 7, 30, 40)
    there = sure.reshape(grid.shape)[window.rows, window.cols]
    part = warped(Scene.open(path), grid[window])
    assert np.array_equal(part.data[0][there], patch.data[0, window.rows, window.cols][there])


LONGITUDES = CRS.from_epsg(4326)
AROUND_180 = {
    "to 180.3": GeoBox(12, 30, Affine(0.02, 0, 179.7, 0, -0.02, 10), LONGITUDES),
    "from -180.3": GeoBox(12, 30, Affine(0.02, 0, -180.3, 0, -0.02, 10), LONGITUDES),
    "west alone": GeoBox(12, 30, Affine(0.02, 0, -100, 0, -0.02, 10), LONGITUDES),
    "beyond 180 alone": GeoBox(12, 30, Affine(0.02, 0, 200, 0, -0.02, 10), LONGITUDES),
    "UTM 1": GeoBox(12, 30, Affine(2000, 0, 140_000, 0, -2000, 1_000_000), CRS.from_epsg(32601)),
    "UTM 14": GeoBox(12, 30, Affine(2000, 0, 400_000, 0, -2000, 1_000_000), CRS.from_epsg(32614)),
    "polar": GeoBox(12, 30, Affine(20_000, 0, -300_000, 0, -20_000, -1_000_000), CRS.from_epsg(3413)),
}


def world(path: Path, west: float) -> tuple[Path, NDArray[np.uint8]]:
    """Write a world map of 1 degree pixels that starts at a longitude; return it and its pixels from 0 degrees on."""
    from_0 = np.random.default_rng(3).integers(0, 250, (180, 360), np.uint8)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 180, "width": 360, "nodata": NODATA}
    with rasterio.open(path, "w", crs=LONGITUDES, transform=Affine(1, 0, west, 0, -1, 90), **profile) as file:
        file.write(np.roll(from_0, -int(west % 360), axis=1), 1)
    return path, from_0


@pytest.mark.parametrize("west", [-180.0, 0.0])
@pytest.mark.parametrize("where", AROUND_180)
def test_a_raster_of_the_world_covers_whatever_lies_on_it(tmp_path: Path, where: str, west: float) -> None:
    path, from_0 = world(tmp_path / "world.tif", west)
    grid = AROUND_180[where]
    cols, rows = (axis.ravel() + 0.5 for axis in np.meshgrid(np.arange(grid.width_px), np.arange(grid.height_px)))
    x, y = grid.transform @ (cols, rows)
    lon, lat = map(np.array, transform_points(grid.crs, LONGITUDES, x, y))
    expected = from_0[(90 - lat).astype(int), (lon % 360).astype(int)].reshape(grid.shape)

    patch = warped(Scene.open(path), grid)

    assert patch.valid.all()
    assert np.mean(patch.data[0] == expected) > 0.98  # GDAL places pixels to a hundredth of one


@pytest.mark.parametrize("crs", ["EPSG:32660", "EPSG:3832"])
def test_no_strip_is_lost_beside_the_meridian_where_longitudes_jump(tmp_path: Path, crs: str) -> None:
    """The world from 0 to 360 in pixels smaller than the distance of 21 points along the edges of the map."""
    path = tmp_path / "world.tif"
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 400, "width": 3600, "compress": "deflate"}
    with rasterio.open(path, "w", crs=LONGITUDES, transform=Affine(0.1, 0, 0, 0, -0.1, 20), **profile) as file:
        file.write(np.ones((400, 3600), np.uint8), 1)
    x = 300_000 if crs == "EPSG:32660" else 2_600_000
    grid = GeoBox(400, 400, Affine(3000, 0, x, 0, -3000, 1_900_000), CRS.from_string(crs))

    assert warped(Scene.open(path), grid).valid.all()


@pytest.mark.parametrize(
    ("code", "period"),
    [(4326, 360), (4807, 400), (3857, 40075016.685), (3832, 40075016.685), (3395, 40075016.685), (6933, 34735060.89)]
    + [(code, 0) for code in (32601, 3413, 2193, 3035, 54009)],
)
def test_after_how_much_of_x_the_same_places_come_again(code: int, period: float) -> None:
    crs = CRS.from_user_input(f"{'ESRI' if code == 54009 else 'EPSG'}:{code}")
    assert period_of(crs) == pytest.approx(period, rel=1e-6)


def test_the_first_valid_pixels_are_taken_until_none_is_missing() -> None:
    def patches() -> Iterator[Patch]:
        yield Patch(np.uint8([[[1, 9]]]), np.array([[True, False]]))
        yield Patch(np.uint8([[[2, 2]]]), np.array([[True, True]]))
        raise AssertionError("nothing is missing")

    found = first_valid(patches())
    assert found.data.tolist() == [[[1, 2]]]
    assert found.valid.all()
    lacking = first_valid([Patch(np.uint8([[[1, 9]]]), np.array([[True, False]]))] * 2)
    assert lacking.data.tolist() == [[[1, 9]]]
    assert lacking.valid.tolist() == [[True, False]]


@pytest.mark.parametrize("which", ["reference", "map"])
def test_what_cannot_be_aligned_because_its_transform_is_damaged_is_named(tmp_path: Path, which: str) -> None:
    damaged, place = Affine(np.nan, 0, 4e5, 0, -10, 5e6), Affine(10, 0, 4e5, 0, -10, 5e6)
    stored = {"driver": "GTiff", "height": 9, "width": 7, "count": 1, "dtype": "uint8", "crs": "EPSG:32632"}
    transform = damaged if which == "reference" else place
    with rasterio.open(tmp_path / "a.tif", "w", **stored, transform=transform) as file:
        file.write(np.ones((1, 9, 7), np.uint8))
    grid = GeoBox(4, 5, damaged if which == "map" else place, CRS.from_epsg(32632))
    with pytest.raises(SceneError, match=rf"the {which}'s pixels have no area or no place.*edit-info --transform"):
        align(ClassRaster.open(tmp_path / "a.tif"), grid)
