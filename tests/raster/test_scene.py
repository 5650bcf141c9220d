from __future__ import annotations

import os
import pickle
import re
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError

from geoseg.errors import GeosegWarning, SceneError, UsageError
from geoseg.raster import GeoBox, Scene, Window, band_statistics, natural_colors, tiles
from geoseg.raster import dataset_cache as handles
from tests.raster.conftest import NORTH_UP, MakeRaster, noise

RGB = ("red", "green", "blue")
SHARED_DATA = Path(os.environ.get("GEOSEG_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
ZOO = SHARED_DATA / "geotiff_zoo"
ZOO_FILES = sorted(str(path.relative_to(ZOO)) for path in ZOO.rglob("*") if path.is_file()) or ["(absent)"]


def whole(scene: Scene) -> Window:
    return Window(0, 0, *scene.shape)


def test_a_crs_that_was_misspelled_is_no_fault_of_the_next_file(make_raster: MakeRaster) -> None:
    path = make_raster(noise(1, 20, 30), crs="EPSG:32631")
    known = Scene.open(path)
    for wrong in ("PROJCS[", 'GEOGCS["x"', "EPSG:0", "nonsense"):
        with pytest.raises(UsageError, match="`crs` of the `bbox` is not a known CRS"):
            known.crop((0, 0, 1, 1), wrong)
        assert Scene.open(path) == known
        with pytest.raises(CRSError):  # the user's own
            CRS.from_user_input(wrong)
        assert Scene.open(path) == known


@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_path_is_not_this_folder(path: str) -> None:
    with pytest.raises(UsageError, match="the path of a scene is empty"):
        Scene.open(path)


def test_a_scene_without_permission_is_not_said_to_be_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scene.tif"
    path.write_bytes(b"II*\0")  # root may read any file, so the system's answers are replaced
    monkeypatch.setattr(os, "access", lambda place, _mode: Path(place) != path)
    with pytest.raises(SceneError, match=r"scene\.tif cannot be read by this user; change its permissions"):
        Scene.open(path)


@pytest.mark.parametrize("name", ZOO_FILES)
def test_every_animal_of_the_zoo_is_read_as_rasterio_reads_it(shared_data: Path, name: str) -> None:
    path = shared_data / "geotiff_zoo" / name
    if name == "rasterio/corrupt.tif":
        with pytest.raises(SceneError, match=re.escape(str(path))) as caught:
            Scene.open(path).read(Window(0, 0, 1024, 1024))
        assert "\n" not in str(caught.value)
        return
    scene = Scene.open(path)
    patch = scene.read(whole(scene))
    with rasterio.open(path) as dataset:
        data, valid = dataset.read(scene.band_indexes), dataset.dataset_mask() != 0
        assert scene.geobox.crs == dataset.crs
        assert scene.geobox.transform == dataset.transform
    if data.dtype.kind == "f":
        valid &= np.isfinite(data).all(axis=0)
        data = np.nan_to_num(data, nan=0, posinf=0, neginf=0)
    np.testing.assert_array_equal(patch.data, data)
    np.testing.assert_array_equal(patch.valid, valid)
    np.testing.assert_array_equal(scene.valid(whole(scene)), valid)
    assert patch.data.dtype == scene.dtype
    assert pickle.loads(pickle.dumps(scene)) == scene  # noqa: S301 - our own bytes


@pytest.mark.parametrize("name", ["cogeo.tif", "RGBA.uint16.tif", "rgb1.tif", "float_raster_with_nodata.tif"])
def test_any_window_is_the_whole_scene_cropped(shared_data: Path, name: str) -> None:
    scene = Scene.open(shared_data / "geotiff_zoo" / "rasterio" / name)
    patch = scene.read(whole(scene))
    height, width = scene.shape
    for tile in tiles(height, width, height // 2 + 1, width // 3 + 1):
        part = scene.read(tile)
        np.testing.assert_array_equal(part.data, patch.data[:, tile.rows, tile.cols])
        np.testing.assert_array_equal(part.valid, patch.valid[tile.rows, tile.cols])


@pytest.fixture
def without_zeros(make_raster: MakeRaster) -> tuple[np.ndarray, Scene]:
    pixels = noise(2, 23, 17) + 1
    return pixels, Scene.open(make_raster(pixels))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_window_that_sticks_out_is_invalid_and_zero_outside(
    without_zeros: tuple[np.ndarray, Scene], data: st.DataObject
) -> None:
    pixels, scene = without_zeros
    start = st.integers(-30, 30)
    window = Window(data.draw(start), data.draw(start), data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60)))
    padded = np.pad(pixels, ((0, 0), (100, 100), (100, 100)))
    expected = padded[:, window.row + 100 : window.row_stop + 100, window.col + 100 : window.col_stop + 100]
    patch = scene.read(window)
    np.testing.assert_array_equal(patch.data, expected)
    np.testing.assert_array_equal(patch.valid, (expected != 0).all(axis=0))
    np.testing.assert_array_equal(scene.valid(window), patch.valid)


def test_masks_inside_and_beside_the_file_agree(shared_data: Path) -> None:
    twins = shared_data / "geotiff_zoo" / "rio-tiler" / "colorado_twins"
    scenes = {
        name: Scene.open(twins / f"colorado_{name}.tif", wanted_bands=RGB) for name in ("mask", "extmask", "alpha")
    }
    patches = {name: scene.read(whole(scene)) for name, scene in scenes.items()}
    assert 0 < patches["mask"].valid.mean() < 1
    np.testing.assert_array_equal(patches["mask"].valid, patches["extmask"].valid)
    assert scenes["alpha"].band_indexes == (1, 2, 3)
    with rasterio.open(twins / "colorado_alpha.tif") as dataset:
        np.testing.assert_array_equal(patches["alpha"].valid, dataset.read(4) != 0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_trace_of_alpha_is_enough_to_be_valid(make_raster: MakeRaster, dtype: str) -> None:
    pixels = noise(4, 4, 4, dtype=dtype)
    pixels[3] = np.arange(16).reshape(4, 4)
    path = make_raster(pixels, photometric="rgb", alpha="yes")
    scene = Scene.open(path, wanted_bands=RGB)
    assert scene.band_indexes == (1, 2, 3)
    np.testing.assert_array_equal(scene.read(whole(scene)).valid, pixels[3] > 0)


def test_a_pixel_is_nodata_only_where_all_bands_are(make_raster: MakeRaster) -> None:
    pixels = np.array([[[0, 0, 1]], [[0, 5, 0]], [[0, 0, 0]]], np.uint8)
    scene = Scene.open(make_raster(pixels, nodata=0))
    assert scene.read(whole(scene)).valid.tolist() == [[False, True, True]]


def test_nan_and_infinity_are_invalid_in_the_bands_used_only(make_raster: MakeRaster) -> None:
    pixels = np.ones((2, 1, 4), np.float32)
    pixels[0, 0, 1], pixels[0, 0, 2], pixels[1, 0, 3] = np.nan, -np.inf, np.nan
    path = make_raster(pixels)
    scene = Scene.open(path, bands=[1])
    patch = scene.read(whole(scene))
    assert patch.valid.tolist() == [[True, False, False, True]]
    assert patch.data.tolist() == [[[1, 0, 0, 1]]]
    assert Scene.open(path).valid(Window(0, 0, 1, 4)).tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_scenes_one_pixel_wide(make_raster: MakeRaster, shape: tuple[int, int]) -> None:
    scene = Scene.open(make_raster(noise(3, *shape)))
    assert scene.read(Window(-1, -1, shape[0] + 2, shape[1] + 2)).valid.sum() == shape[0] * shape[1]
    assert scene.overview(64).valid.all()
    assert scene.statistics() is not None


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "int32", "uint32", "float64", "int8"])
def test_pixels_come_as_stored(make_raster: MakeRaster, dtype: str) -> None:
    pixels = noise(1, 8, 8, dtype=dtype)
    scene = Scene.open(make_raster(pixels))
    patch = scene.read(whole(scene))
    assert patch.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(patch.data, pixels)


def test_complex_numbers_are_refused(make_raster: MakeRaster) -> None:
    with pytest.raises(SceneError, match="complex"):
        Scene.open(make_raster(np.ones((1, 2, 2), np.complex64)))


def test_a_palette_is_refused_by_a_colour_model(make_raster: MakeRaster) -> None:
    path = make_raster(noise(1, 4, 4))
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.palette]
        dataset.write_colormap(1, {0: (255, 0, 0, 255)})
    with pytest.raises(SceneError, match="gdal_translate -expand rgb"):
        Scene.open(path, wanted_bands=RGB)
    assert Scene.open(path).band_indexes == (1,)


def test_errors_about_bands_name_the_file(make_raster: MakeRaster) -> None:
    path = make_raster(noise(1, 4, 4))
    with pytest.raises(SceneError, match=r"scene\.tif.*1,1,1"):
        Scene.open(path, wanted_bands=RGB)
    with pytest.raises(UsageError, match=r"scene\.tif.*band 7 does not exist"):
        Scene.open(path, bands=[7])


def test_threads_read_side_by_side(make_raster: MakeRaster) -> None:
    pixels = noise(3, 300, 200)
    scene = Scene.open(make_raster(pixels, tiled=True, blockxsize=64, blockysize=64, compress="deflate"))
    windows = tiles(300, 200, 37, 41) * 3
    with ThreadPoolExecutor(6) as pool:
        for window, patch in zip(windows, pool.map(scene.read, windows), strict=True):
            np.testing.assert_array_equal(patch.data, pixels[:, window.rows, window.cols])


def test_a_handle_is_kept_until_the_file_changes(make_raster: MakeRaster) -> None:
    path = make_raster(np.ones((1, 4, 4), np.uint8))
    scene = Scene.open(path)
    with handles.opened(scene.path) as first, handles.opened(scene.path) as second:
        assert first is second
    make_raster(np.full((1, 6, 6), 2, np.uint8))
    assert (Scene.open(path).read(Window(0, 0, 6, 6)).data == 2).all()


@pytest.mark.parametrize("nested", [False, True])
def test_a_source_of_a_vrt_that_is_replaced_is_read_anew(
    make_raster: MakeRaster, tmp_path: Path, *, nested: bool
) -> None:
    source, inner, outer = Path(make_raster(np.full((1, 6, 6), 7, np.uint8))), tmp_path / "in.vrt", tmp_path / "out.vrt"
    rasterio.shutil.copy(source, inner, driver="VRT")
    outer.write_text(
        '<VRTDataset rasterXSize="6" rasterYSize="6"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">in.vrt</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    vrt = str(outer if nested else inner)
    part = Scene.open(vrt).cut(Window(0, 0, 3, 3))
    for value in (7, 9, 11):
        new = make_raster(np.full((1, 6, 6), value, np.uint8), "new.tif")
        Path(new).replace(source)
        assert (Scene.open(vrt).read(Window(0, 0, 6, 6)).data == value).all()
        assert (part.read(Window(0, 0, 2, 2)).data == value).all()


def test_a_sidecar_that_appears_changes_or_goes_counts(make_raster: MakeRaster) -> None:
    path = make_raster(np.full((1, 6, 6), 7, np.uint8), "scene.png", driver="PNG")
    beside = Path(f"{path}.aux.xml")
    for nodata in (None, 7, 8, None):
        if nodata is None:
            beside.unlink(missing_ok=True)
        else:
            hole = f'<PAMRasterBand band="1"><NoDataValue>{nodata}</NoDataValue></PAMRasterBand>'
            beside.write_text(f"<PAMDataset>{hole}{' ' * nodata}</PAMDataset>")
        assert Scene.open(path).nodata == nodata
    path.with_suffix(".pgw").write_text("2\n0\n0\n-2\n1\n-1\n")
    assert Scene.open(path).geobox.transform.a == 2


def test_a_handle_in_use_stays_open_if_its_file_changes_or_others_are_opened(make_raster: MakeRaster) -> None:
    path = make_raster(np.full((1, 6, 6), 7, np.uint8), "scene.tif")
    others = [make_raster(noise(1, 2, 2), f"{number}.tif") for number in range(9)]
    with handles.opened(str(path)) as outer:
        path.with_suffix(".tfw").write_text("2\n0\n0\n-2\n1\n-1\n")
        with handles.opened(str(path)) as inner:
            assert inner is not outer
        for other in others:
            with handles.opened(str(other)):
                pass
        assert (outer.read() == 7).all()
    assert not handles._thread.used


def test_a_thread_keeps_a_few_handles_only(make_raster: MakeRaster) -> None:
    scenes = [Scene.open(make_raster(noise(1, 2, 2), f"{number}.tif")) for number in range(9)]
    assert 0 < len(handles._thread.kept) < len(scenes)
    assert all(scene.read(whole(scene)).valid.all() for scene in scenes)


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 64, "blockysize": 64}, {"blockysize": 1}])
def test_statistics_without_overviews_come_near_the_truth(make_raster: MakeRaster, layout: dict[str, object]) -> None:
    rows = np.linspace(0, 200, 1300)[:, np.newaxis]
    pixels = np.stack([np.broadcast_to(rows, (1300, 1100)), np.full((1300, 1100), 7.0)]).astype(np.uint8)
    pixels[:, :, :100] = 255
    statistics = Scene.open(make_raster(pixels, nodata=255, **layout)).statistics()
    assert statistics is not None
    valid = pixels[:, :, 100:].reshape(2, -1)
    assert statistics.mean == pytest.approx(valid.mean(axis=1), rel=0.05)
    assert statistics.std == pytest.approx(valid.std(axis=1), rel=0.1)
    assert statistics.low == pytest.approx(np.percentile(valid, 2, axis=1), abs=12)
    assert statistics.high == pytest.approx(np.percentile(valid, 98, axis=1), abs=12)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32"])
@pytest.mark.parametrize("size", [1, 2, 999])
def test_statistics_of_pixels_are_those_of_numpy(dtype: str, size: int) -> None:
    values = np.random.default_rng(size).normal(40, 30, (3, size)).astype(dtype)
    values[2] = values[2, 0]
    found = band_statistics(values)
    assert found is not None
    plain = values.astype(np.float64)
    low, high = np.percentile(plain, (2, 98), axis=1)
    for got, wanted in zip(
        (found.mean, found.std, found.low, found.high), (plain.mean(axis=1), plain.std(axis=1), low, high), strict=True
    ):
        assert got == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_a_scene_without_valid_pixels_has_no_statistics(make_raster: MakeRaster) -> None:
    assert Scene.open(make_raster(np.zeros((1, 20, 20), np.uint8), nodata=0)).statistics() is None


def test_an_overview_is_the_scene_decimated(make_raster: MakeRaster) -> None:
    pixels = np.arange(400, dtype=np.uint16).reshape(1, 20, 20).repeat(4, 1).repeat(4, 2)
    patch = Scene.open(make_raster(pixels)).overview(20)
    np.testing.assert_array_equal(patch.data, pixels[:, ::4, ::4])


def test_jpeg2000_reads_as_the_geotiff_it_came_from(make_raster: MakeRaster, tmp_path: Path) -> None:
    path = make_raster(noise(3, 300, 200))
    copy = tmp_path / "scene.jp2"
    rasterio.shutil.copy(path, copy, driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
    scene = Scene.open(copy)
    window = Window(-10, 20, 290, 200)
    np.testing.assert_array_equal(scene.read(window).data, Scene.open(path).read(window).data)
    assert scene.geobox.transform.almost_equals(Scene.open(path).geobox.transform)


def test_a_scene_remembers_whether_its_bands_were_chosen(make_raster: MakeRaster) -> None:
    path = make_raster(noise(3, 9, 9))
    plain, by_model, by_user = Scene.open(path), Scene.open(path, wanted_bands=RGB), Scene.open(path, bands=[1, 2, 3])
    assert (plain.chosen, by_model.chosen, by_user.chosen) == (False, True, True)
    assert not pickle.loads(pickle.dumps(plain)).chosen  # noqa: S301 - our own bytes


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
def test_natural_colors_are_the_nearest_shades_of_one_stretch(bands: int, dtype: str) -> None:
    data = np.random.default_rng(bands).uniform(0, 250, (bands, 9, 8)).astype(dtype)
    wanted = 255 * np.clip((data.astype(float)[[0, 1, 2] if bands >= 3 else [0, 0, 0]] - 20) / 180, 0, 1)
    assert np.abs(natural_colors(data, 20, 200) - wanted).max() <= 0.5 + 1e-4


def test_a_portable_pixmap_has_no_place_unless_it_has_a_world_file(make_raster: MakeRaster, tmp_path: Path) -> None:
    with rasterio.open(make_raster(noise(1, 4, 5))) as other:
        assert other.transform == NORTH_UP
    picture = tmp_path / "picture.ppm"
    picture.write_bytes(b"P6\n5 4\n255\n" + noise(4, 5, 3).tobytes())
    assert Scene.open(picture).geobox == GeoBox(4, 5, Affine.identity())
    picture.with_suffix(".wld").write_text("10\n0\n0\n-10\n400005\n5399995\n")
    assert Scene.open(picture).geobox.transform == Affine(10, 0, 4e5, 0, -10, 5.4e6)


def test_a_thumbnail_is_no_page(tmp_path: Path) -> None:
    pages = [Image.fromarray(noise(*shape)) for shape in ((200, 300), (20, 30))]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("error", GeosegWarning)
        Scene.open(tmp_path / "pages.tif")


def test_a_page_that_cannot_be_opened_is_nobodys_business(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    pages = [Image.fromarray(page) for page in noise(2, 20, 30)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    content = path.read_bytes()
    compression = struct.pack("<HHIHH", 259, 3, 1, 1, 0)
    first, second = content.index(compression), content.rindex(compression)
    assert first < second
    path.write_bytes(content[:second] + struct.pack("<HHIHH", 259, 3, 1, 34712, 0) + content[second + 12 :])
    np.testing.assert_array_equal(Scene.open(path).read(Window(0, 0, 20, 30)).data[0], pages[0])


def test_a_file_of_several_pages_is_told(tmp_path: Path) -> None:
    pages = [Image.fromarray(page) for page in noise(3, 20, 30)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(GeosegWarning, match=r"only the first of 3 pages of .*tif is read; others are GTIFF_DIR:2:"):
        first = Scene.open(tmp_path / "pages.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error", GeosegWarning)  # once is enough
        Scene.open(tmp_path / "pages.tif")
    second = Scene.open(f"GTIFF_DIR:2:{tmp_path / 'pages.tif'}")
    for scene, page in ((first, pages[0]), (second, pages[1])):
        np.testing.assert_array_equal(scene.read(Window(0, 0, 20, 30)).data[0], page)


def test_a_band_of_real_numbers_is_cut_beside_complex_ones(make_raster: MakeRaster) -> None:
    stored = noise(1, 20, 20)
    files = make_raster(stored, "a.tif"), make_raster(stored.astype("complex64"), "b.tif")
    bands = (
        f'<VRTRasterBand dataType="{dtype}" band="{band}"><SimpleSource><SourceFilename>{file}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for band, (dtype, file) in enumerate(zip(("Byte", "CFloat32"), files, strict=True), start=1)
    )
    scene = Scene.open(f'<VRTDataset rasterXSize="20" rasterYSize="20">{"".join(bands)}</VRTDataset>', bands=[1])
    assert np.array_equal(scene.cut(Window(5, 5, 9, 9)).read(Window(0, 0, 9, 9)).data, stored[:, 5:14, 5:14])


def test_a_map_of_a_local_scene_loads_nothing_that_talks_to_servers(make_raster: MakeRaster, tmp_path: Path) -> None:
    (tmp_path / "boto3.py").write_text("raise ImportError")  # rasterio would load it, and it all of urllib
    program = (
        "import sys, geoseg; geoseg.predict(*sys.argv[1:]);"
        "print([name for name in ('urllib.request', 'http.client') if name in sys.modules])"
    )
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", program, str(make_raster(noise(3, 20, 30))), str(tmp_path / "map.tif")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": paths})
    assert done.stdout.strip() == "[]"
