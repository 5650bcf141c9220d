"""A part of a scene beside the same pixels cut from the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import transform_bounds

from geoseg.errors import SceneError, UsageError
from geoseg.raster.crop import crop
from geoseg.raster.scaled import scaled
from geoseg.raster.scene import Scene
from geoseg.raster.windows import Window

GRID = Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)
SHAPE = (120, 160)
BOX = (400_010.0, 4_999_960.0, 400_030.0, 4_999_990.0)
"""Columns 20 to 60, rows 20 to 80."""
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
        ((1, 2, 3), None, "W,S,E,N with W < E and S < N, got 1,2,3"),
        ((1, 2, 1, 4), None, "got 1,2,1,4"),
        ((0, 0, 1, 1), None, "which reaches from W,S,E,N 400000,4999940,400080,5000000"),
        ((0, 0, 1, 1), "EPSG:4326", "lies beside"),
        ((0, 0, 1, 1), "nonsense", "a bbox in 'nonsense' cannot be brought"),
    ],
)
def test_a_box_that_is_none_is_refused(tmp_path: Path, box: Any, crs: str | None, said: str) -> None:
    whole = Scene.open(write(tmp_path / "scene.tif"))
    with pytest.raises(UsageError, match=r"(?i)bbox") as caught:
        crop(whole, box, crs)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scene_without_a_grid_is_refused(tmp_path: Path) -> None:
    whole = Scene.open(write(tmp_path / "scene.tif", transform=Affine.identity(), crs=None))
    with pytest.raises(SceneError, match="has no grid in a CRS"):
        crop(whole, BOX)
