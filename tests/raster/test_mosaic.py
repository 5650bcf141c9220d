"""Joined scenes, against the raster that they were cut from."""

from __future__ import annotations

import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.merge import merge
from shapely import box

import geoseg
from geoseg.errors import GeosegWarning, SceneError, UsageError
from geoseg.features import is_features
from geoseg.model import ModelBundle
from geoseg.raster import ClassRaster, Scene, Window, scaled
from tests.inference.conftest import random_pixels, write_scene
from tests.networks import tiny_bundle

GRID = Affine(0.5, 0, 500_000, 0, -0.5, 5_400_000)
PARTS = {"nw": (0, 0, 120, 160), "ne": (0, 150, 120, 150), "south": (110, 0, 90, 300)}
"""(row, col, height, width), overlapping."""
WHOLE = Window(0, 0, 200, 300)


def cut(folder: Path, pixels: NDArray[Any], names: tuple[str, ...] = tuple(PARTS), **profile: Any) -> list[Path]:
    paths = []
    for name in names:
        row, col, height, width = PARTS[name]
        part = pixels[:, row : row + height, col : col + width]
        grid = profile.get("transform", GRID) @ Affine.translation(col, row)
        paths.append(write_scene(folder / f"{name}.tif", part, **profile | {"transform": grid}))
    return paths


def test_bands_have_the_order_of_the_first_scene(tmp_path: Path) -> None:
    pixels = random_pixels(200, 300, 1, 0.2)
    paths = cut(tmp_path, pixels, nodata=None)
    with rasterio.open(paths[1], "r+") as scene:
        scene.write(scene.read()[[2, 0, 1]])
        scene.colorinterp = [ColorInterp.blue, ColorInterp.red, ColorInterp.green]
    seen = geoseg.mosaic(paths).read(WHOLE)
    inside = np.zeros(WHOLE.shape, bool)
    for row, col, height, width in PARTS.values():
        inside[row : row + height, col : col + width] = True
    assert np.array_equal(seen.valid, inside)
    assert np.array_equal(seen.data[:, inside], pixels[:, inside])
    with rasterio.open(paths[1], "r+") as scene:
        scene.colorinterp = [ColorInterp.nir, ColorInterp.red, ColorInterp.green]
    with pytest.raises(SceneError, match=r"ne\.tif: no band is recognized as blue"):
        geoseg.mosaic(paths)


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"nodata": None},
        {"dtype": "uint16", "nodata": 0},
        {"dtype": "float32", "nodata": float("nan")},
        {"crs": "EPSG:4326", "transform": Affine(1e-5, 0, 8.5, 0, -1e-5, 47.4)},
        {"crs": "EPSG:3857"},
        {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"},
    ],
    ids=str,
)
def test_parts_are_the_whole(tmp_path: Path, profile: dict[str, Any]) -> None:
    pixels = random_pixels(200, 300, 1, 0.2).astype(profile.get("dtype", "uint8"))
    if profile.get("dtype") == "float32":
        pixels[:, 10:20, 10:50] = np.nan
    whole = Scene.open(write_scene(tmp_path / "whole.tif", pixels, **profile))
    scene = geoseg.mosaic(cut(tmp_path, pixels, **profile))
    assert scene.shape == whole.shape
    assert scene.geobox.crs == whole.geobox.crs
    assert scene.geobox.transform.almost_equals(whole.geobox.transform, 1e-9)
    assert (scene.dtype, scene.colors[:3], scene.band_indexes) == (whole.dtype, whole.colors[:3], whole.band_indexes)
    for window in (WHOLE, Window(100, 140, 30, 40), Window(-5, 290, 50, 50)):
        expected, patch = whole.read(window), scene.read(window)
        np.testing.assert_array_equal(patch.valid, expected.valid)
        np.testing.assert_array_equal(patch.data[:, patch.valid], expected.data[:, expected.valid])


def test_alpha_masks_and_different_nodata_are_kept_and_gaps_are_not_valid(tmp_path: Path) -> None:
    pixels = random_pixels(200, 300, 2, 0)
    alpha = np.where(np.random.default_rng(0).random((1, 200, 300)) < 0.5, 0, 255).astype(np.uint8)
    with_alpha = np.concatenate([pixels, alpha])
    paths = cut(tmp_path, with_alpha, ("nw",), nodata=None, photometric="RGB", alpha="YES")
    paths += cut(tmp_path, pixels, ("ne",), nodata=7)
    scene = geoseg.mosaic(paths)
    patch = scene.read(Window(0, 0, 120, 300))
    expected = np.zeros((120, 300), bool)
    expected[:, :160] = alpha[0, :120, :160] != 0
    expected[:, 150:] |= ~(pixels[:, :120, 150:] == 7).all(axis=0)
    np.testing.assert_array_equal(patch.valid, expected)
    np.testing.assert_array_equal(patch.data[:, expected], pixels[:, :120][:, expected])
    far = write_scene(
        tmp_path / "far.tif", pixels[:, :20, :20], nodata=None, transform=GRID @ Affine.translation(400, 0)
    )
    gap = geoseg.mosaic([*cut(tmp_path, pixels, ("nw",), nodata=None), far])
    valid = gap.read(Window(0, 0, *gap.shape)).valid
    assert valid[:, :160].all()
    assert not valid[:, 160:400].any()
    assert valid[:20, 400:].all()


def test_windows_that_begin_where_a_scene_ends_are_whole(tmp_path: Path) -> None:
    pixels = random_pixels(80, 80, 9, 0)
    paths = [
        write_scene(
            tmp_path / f"{row}_{col}.tif",
            pixels[:, row : row + 40, col : col + 40],
            nodata=None,
            transform=GRID @ Affine.translation(col, row),
        )
        for row in (0, 40)
        for col in (0, 40)
    ]
    scene = geoseg.mosaic(paths)
    for window in (Window(40, 20, 30, 30), Window(20, 40, 30, 30), Window(40, 0, 20, 80), Window(0, 40, 80, 20)):
        patch = scene.read(window)
        assert patch.valid.all()
        np.testing.assert_array_equal(patch.data, pixels[:, window.rows, window.cols])


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("nodata", [None, 0])
def test_mosaics_are_resampled_as_the_whole(tmp_path: Path, dtype: str, nodata: int | None) -> None:
    pixels = random_pixels(200, 300, 10, 0.2).astype(dtype)
    whole = scaled(Scene.open(write_scene(tmp_path / "whole.tif", pixels, nodata=nodata)), 0.4)
    scene = scaled(geoseg.mosaic(cut(tmp_path, pixels, nodata=nodata)), 0.4)
    assert scene.shape == whole.shape == (80, 120)
    for window in (Window(0, 0, 80, 120), Window(16, 24, 32, 32), Window(48, 64, 32, 56)):
        expected, patch = whole.read(window), scene.read(window)
        np.testing.assert_array_equal(patch.valid, expected.valid)
        np.testing.assert_allclose(patch.data[:, patch.valid], expected.data[:, expected.valid], atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "nodata", "hidden", "seen"),
    [
        ("uint8", 0, (0, 0), (0, 7)),
        ("int16", -9999, (-9999, -9999), (-9999, 7)),
        ("float32", None, (np.nan, 7), (-9999, 7)),
        ("float32", np.nan, (7, np.inf), (-9999, 7)),
        ("float32", -9999, (np.nan, 7), (-9999, 7)),
    ],
)
def test_where_scenes_overlap_a_pixel_is_of_the_last_one_in_which_it_is_valid_in_all_bands(
    tmp_path: Path, dtype: str, nodata: float | None, hidden: tuple[float, float], seen: tuple[float, float]
) -> None:
    first, second = np.full((2, 6, 6), 10, dtype), np.full((2, 6, 6), 20, dtype)
    second[:, 1, 1], second[:, 2, 2] = hidden, seen
    paths = [
        write_scene(tmp_path / f"{name}.tif", pixels, dtype=dtype, nodata=nodata)
        for name, pixels in (("first", first), ("second", second))
    ]
    patch = geoseg.mosaic(paths).read(Window(0, 0, 6, 6))
    expected = second.copy()
    expected[:, 1, 1] = 10
    assert patch.valid.all()
    np.testing.assert_array_equal(patch.data, expected)


def test_of_scenes_that_overlap_the_last_one_counts_as_in_rasterio(tmp_path: Path) -> None:
    first, second = (random_pixels(120, 160, seed, 0.2) for seed in (3, 4))
    paths = [write_scene(tmp_path / "a.tif", first), write_scene(tmp_path / "b.tif", second)]
    merged, _ = merge(paths[::-1], nodata=0)
    np.testing.assert_array_equal(geoseg.mosaic(paths).read(Window(0, 0, 120, 160)).data, merged)


def test_the_map_of_a_mosaic_is_that_of_the_whole(tmp_path: Path) -> None:
    model: ModelBundle = tiny_bundle(tmp_path, window_px=64)
    pixels = random_pixels(200, 300, 5, 0.2)
    options: dict[str, Any] = {"model": model, "device": "onnx"}
    whole = geoseg.predict(write_scene(tmp_path / "whole.tif", pixels), tmp_path / "w.tif", **options)
    scene = geoseg.mosaic(cut(tmp_path, pixels))
    joined = geoseg.predict(scene, tmp_path / "m.tif", tile=64, workers=2, **options)
    with rasterio.open(whole) as expected, rasterio.open(joined) as made:
        np.testing.assert_array_equal(made.read(1), expected.read(1))
        assert made.tags()["GEOSEG_SCENE_PATH"] == "nw.tif and 2 more"
    box = (500_020, 5_399_920, 500_100, 5_399_980)
    part = geoseg.predict(scene, tmp_path / "p.tif", bbox=box, **options)
    expected_part = geoseg.predict(tmp_path / "whole.tif", tmp_path / "wp.tif", bbox=box, **options)
    with rasterio.open(part) as made, rasterio.open(expected_part) as expected:
        np.testing.assert_array_equal(made.read(), expected.read())


def test_every_scene_counts_in_the_fingerprint_and_is_listed(tmp_path: Path) -> None:
    pixels = random_pixels(200, 300, 6, 0)
    paths = cut(tmp_path, pixels)
    scene = geoseg.mosaic(paths)
    assert scene.local_files() == sorted(path.resolve() for path in paths)
    before = scene.fingerprint()
    assert geoseg.mosaic(paths).fingerprint() == before
    cut(tmp_path, pixels, ("ne",), compress="deflate")
    assert scene.fingerprint() != before
    part = scene.crop((500_000, 5_399_950, 500_020, 5_400_000))
    assert part.local_files() == scene.local_files()


def test_pixels_of_two_sizes_are_said_and_taken(tmp_path: Path) -> None:
    fine, coarse = random_pixels(100, 100, 7, 0), np.full((3, 50, 50), 90, np.uint8)
    paths = [
        write_scene(tmp_path / "coarse.tif", coarse, transform=GRID @ Affine.translation(100, 0) @ Affine.scale(2)),
        write_scene(tmp_path / "fine.tif", fine),
    ]
    with pytest.warns(GeosegWarning, match=r"larger pixels than .*\.tif are interpolated: .*coarse.tif") as caught:
        scene = geoseg.mosaic(paths)
    assert caught[0].filename == __file__
    assert scene.shape == (100, 200)
    data = scene.read(Window(0, 0, 100, 200)).data
    np.testing.assert_array_equal(data[:, :, :100], fine)
    assert (data[:, :, 100:] == 90).all()


def test_scenes_far_apart_are_warned_of(tmp_path: Path) -> None:
    near = cut(tmp_path, random_pixels(200, 300, 1, 0.2))
    with warnings.catch_warnings():
        warnings.simplefilter("error", GeosegWarning)
        geoseg.mosaic(near)
    far = write_scene(tmp_path / "far.tif", random_pixels(64, 64, 1, 0), transform=GRID @ Affine.translation(9e4, 9e4))
    with pytest.warns(GeosegWarning, match=r"far apart: they cover 0.00029 % of the mosaic of 90064 x 90064 pixels"):
        geoseg.mosaic([near[0], far])


@pytest.mark.parametrize(
    ("other", "kind", "said"),
    [
        ({"crs": "EPSG:32632"}, UsageError, "need one CRS: .*b.tif has EPSG:32632, .*a.tif has EPSG:32631; warp"),
        ({"crs": None}, SceneError, "b.tif has no CRS"),
        ({"bands": 2}, SceneError, "b.tif has 2 bands, .*a.tif has 3"),
        ({"dtype": "uint16"}, SceneError, "b.tif has uint16 pixels, .*a.tif has uint8 pixels"),
        ({"transform": GRID @ Affine.rotation(9)}, SceneError, "b.tif is not on a north-up grid"),
        ({"transform": Affine(math.nan, 0, 5e5, 0, -0.5, 5e6)}, SceneError, "rio edit-info --transform"),
        ({"transform": Affine(0.5, 0, math.inf, 0, -0.5, 5e6)}, SceneError, "rio edit-info --transform"),
        ({"transform": Affine(0.5, 0, 5e5, 0, 0, 5e6)}, SceneError, "rio edit-info --transform"),
        ({"transform": GRID @ Affine.translation(1e10, 0)}, UsageError, "is too large"),
    ],
    ids=str,
)
def test_what_cannot_be_joined(tmp_path: Path, other: dict[str, Any], kind: type[Exception], said: str) -> None:
    pixels = random_pixels(20, 30, 8, 0)
    write_scene(tmp_path / "a.tif", pixels)
    bands, dtype = other.pop("bands", 3), other.pop("dtype", "uint8")
    write_scene(tmp_path / "b.tif", pixels[:bands].astype(dtype), **other)
    with pytest.raises(kind, match=said):
        geoseg.mosaic([tmp_path / "a.tif", tmp_path / "b.tif"])
    with pytest.raises(SceneError, match="no such file"):
        geoseg.mosaic([tmp_path / "a.tif", tmp_path / "gone.tif"])
    with pytest.raises(UsageError, match="a mosaic needs a scene"):
        geoseg.mosaic([])


@pytest.mark.parametrize("scenes", ["a.tif", Path("a.tif"), None, 5])
def test_a_mosaic_is_of_a_list(scenes: Any) -> None:
    with pytest.raises(UsageError, match="`scenes` must be a list of scenes, got "):
        geoseg.mosaic(scenes)


def test_a_mosaic_used_as_a_map_holds_only_codes_of_its_pixels(tmp_path: Path) -> None:
    """The codes have no names, so the mosaic itself may as well be imagery."""
    codes = np.random.default_rng(0).choice(np.array([1, 9], np.uint8), (1, 60, 60))
    fine = write_scene(tmp_path / "fine.tif", codes, nodata=None)
    grid = GRID @ Affine.translation(60, 0) @ Affine.scale(2)
    coarse = write_scene(tmp_path / "coarse.tif", codes[:, :30, :30], nodata=None, transform=grid)
    with pytest.warns(GeosegWarning, match="larger pixels"):
        scene = geoseg.mosaic([fine, coarse])
    for part in (scene, scene.crop((500_005, 5_399_975, 500_050, 5_400_000))):
        whole = Window(0, 0, *part.shape)
        assert len(np.unique(part.read(whole).data)) > 2
        used = ClassRaster.open(part).scene
        for patch in (used.read(whole), used.overview(20)):
            assert set(patch.data[:, patch.valid].tolist()[0]) == {1, 9}


@pytest.mark.parametrize("nodata", [None, 0])
def test_a_tile_index_loses_no_pixels_of_windows_that_begin_at_the_edge_of_a_raster(
    tmp_path: Path, nodata: int | None
) -> None:
    pixels = random_pixels(90, 90, 1, 0.2)
    names, boxes = [], []
    for row, col in itertools.product(range(0, 90, 30), repeat=2):
        grid = GRID @ Affine.translation(col, row)
        part = pixels[:, row : row + 30, col : col + 30]
        names.append(str(write_scene(tmp_path / f"{row}_{col}.tif", part, nodata=nodata, transform=grid)))
        boxes.append(box(*(grid @ (0, 30)), *(grid @ (30, 0))))
    index = tmp_path / "index.gti.gpkg"
    geopandas.GeoDataFrame({"location": names}, geometry=boxes, crs=rasterio.open(names[0]).crs).to_file(index)
    scene = Scene.open(index)
    assert scene.shape == (90, 90)
    for row, col, stop in itertools.product((0, 11, 30, 60), (0, 13, 30, 60), (61, 75, 90)):
        window = Window(row, col, stop - row, stop - col)
        assert np.array_equal(scene.read(window).data, pixels[:, window.rows, window.cols])
    assert np.array_equal(scene.cut(Window(30, 30, 60, 60)).read(Window(0, 0, 60, 60)).data, pixels[:, 30:, 30:])
    assert np.array_equal(scene.without_overviews().read(WHOLE).data[:, :90, :90], pixels)
    assert {path.name for path in scene.local_files()} == {index.name, *(Path(name).name for name in names)}
    assert not is_features(index)
    assert scene.driver == "GTI"
    Path(names[4]).unlink()
    with pytest.raises(SceneError, match=r"index\.gti\.gpkg names .*30_30\.tif, which does not exist"):
        Scene.open(index)
    filtered = tmp_path / "filtered.gti"
    filtered.write_text(
        f"<GDALTileIndexDataset><IndexDataset>{index}</IndexDataset><Filter>location &lt;> '{names[4]}'</Filter>"
        "</GDALTileIndexDataset>"
    )
    assert np.array_equal(Scene.open(filtered).read(Window(0, 0, 30, 90)).data, pixels[:, :30])
    table = tmp_path / "index.shp"
    years = [2020, 2021, *[2020] * 7]
    geopandas.GeoDataFrame({"location": names, "year": years}, geometry=boxes).to_file(table)
    filtered.write_text(
        f"<GDALTileIndexDataset><IndexDataset>{table}</IndexDataset><Filter>year = 2021</Filter></GDALTileIndexDataset>"
    )
    assert {path.name for path in Scene.open(filtered).local_files()} >= {Path(names[1]).name, filtered.name}


@pytest.mark.parametrize("kind", ["mask", "alpha"])
def test_a_tile_index_of_which_gdal_loses_pixels_is_refused(tmp_path: Path, kind: str) -> None:
    file = write_scene(tmp_path / "a.tif", random_pixels(30, 30, 1, 0.2), nodata=None)
    with rasterio.open(file, "r+") as raster:
        place = geopandas.GeoDataFrame({"location": [str(file)]}, geometry=[box(*raster.bounds)], crs=raster.crs)
        if kind == "mask":
            raster.write_mask(np.eye(30, dtype=bool))
        else:
            raster.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.alpha]
    index = tmp_path / "index.gti.gpkg"
    place.to_file(index)
    with pytest.raises(SceneError, match=r"index\.gti\.gpkg is a tile index of rasters with a mask or an alpha band"):
        Scene.open(index)
    assert Scene.open(geoseg.mosaic([file])).shape == (30, 30)
