from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from shapely import box

import geoseg
from geoseg.raster import ClassRaster, Scene, Window, local_file
from tests.raster.conftest import MakeRaster, noise


@pytest.fixture
def nested(make_raster: MakeRaster) -> tuple[Path, Path, Path]:
    """Return a file, a VRT of it, and a VRT of that VRT."""
    source = make_raster(noise(3, 20, 20), "source.tif")
    inner, outer = source.with_name("inner.vrt"), source.with_name("outer.vrt")
    rasterio.shutil.copy(source, inner, driver="VRT")
    outer.write_text(inner.read_text().replace("source.tif", "inner.vrt"))
    return source, inner, outer


def test_every_file_behind_nested_vrts_is_known(nested: tuple[Path, Path, Path]) -> None:
    assert set(Scene.open(nested[2]).local_files()) == {path.resolve() for path in nested}


def test_the_file_of_a_raster_inside_it_is_known_through_a_vrt(tmp_path: Path, make_raster: MakeRaster) -> None:
    source, outer = make_raster(noise(3, 20, 20), "source.tif"), tmp_path / "outer.vrt"
    for inside in (f"GTIFF_DIR:1:{source}", f"vrt://{source}?bands=3,2,1"):
        rasterio.shutil.copy(inside, outer, driver="VRT")
        before = Scene.open(outer)
        assert set(before.local_files()) == {source.resolve(), outer.resolve()}
        made = before.fingerprint()
        os.utime(source, ns=(0, source.stat().st_mtime_ns + 1_000_000_000))
        assert Scene.open(outer).fingerprint() != made


@pytest.mark.parametrize("form", ["table", "text"])
def test_the_rasters_of_a_tile_index_are_known(tmp_path: Path, make_raster: MakeRaster, form: str) -> None:
    source = make_raster(noise(3, 20, 20), "source.tif")
    with rasterio.open(source) as dataset:
        place = geopandas.GeoDataFrame({"location": ["source.tif"]}, geometry=[box(*dataset.bounds)], crs=dataset.crs)
    index = table = tmp_path / "index.gti.gpkg"
    place.to_file(table, layer="tiles")
    if form == "text":
        index = tmp_path / "index.gti"
        named = f"<IndexDataset>{table}</IndexDataset><IndexLayer>tiles</IndexLayer>"
        index.write_text(f"<GDALTileIndexDataset>{named}</GDALTileIndexDataset>")
    before = Scene.open(index)
    assert set(before.local_files()) == {source.resolve(), table.resolve(), index.resolve()}
    made = before.fingerprint()
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 1_000_000_000))
    assert Scene.open(index).fingerprint() != made


@pytest.mark.parametrize(("driver", "pixels"), [("Zarr", "scene.zarr/scene/0.1"), ("MRF", "scene.ppg")])
def test_files_of_pixels_that_gdal_does_not_list_are_known(
    tmp_path: Path, make_raster: MakeRaster, driver: str, pixels: str
) -> None:
    path, file = tmp_path / f"scene.{driver.lower()}", tmp_path / pixels
    rasterio.shutil.copy(make_raster(noise(1, 300, 300), "source.tif"), path, driver=driver)
    for before in (Scene.open(path), Scene.open(path).cut(Window(0, 0, 90, 90))):
        assert (file if driver == "MRF" else file.parent).resolve() in before.local_files()
        made = before.fingerprint()
        (tmp_path / "scene.tif").touch()  # such as a map of it
        assert before.fingerprint() == made
        assert (tmp_path / "scene.tif").resolve() not in before.local_files()
        (tmp_path / "scene.tif").unlink()
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 1_000_000_000))
        assert before.fingerprint() != made


def test_pixels_of_a_zarr_that_are_replaced_in_place_are_read_again(tmp_path: Path, make_raster: MakeRaster) -> None:
    for name, value in (("a", 1), ("b", 2)):
        pixels = np.full((1, 60, 60), value, np.uint8)
        rasterio.shutil.copy(make_raster(pixels, f"{name}.tif"), tmp_path / f"{name}.zarr", driver="Zarr")
    window, path = Window(0, 0, 60, 60), tmp_path / "a.zarr"
    assert Scene.open(path).read(window).data.max() == 1
    for chunk in (tmp_path / "b.zarr" / "b").iterdir():
        (path / "a" / chunk.name).write_bytes(chunk.read_bytes())
    assert Scene.open(path).read(window).data.min() == 2


def test_what_gdal_keeps_of_the_source_of_an_mrf_is_not_the_scenes(tmp_path: Path, make_raster: MakeRaster) -> None:
    source = make_raster(noise(1, 300, 300), "source.tif")
    rasterio.shutil.copy(source, tmp_path / "plain.mrf", driver="MRF")
    cached = f"<MRF_META><CachedSource><Source>{source}</Source></CachedSource>"
    path = tmp_path / "scene.mrf"
    path.write_text((tmp_path / "plain.mrf").read_text().replace("<MRF_META>", cached))
    scene = Scene.open(path)
    made = scene.fingerprint()
    scene.read(Window(0, 0, 300, 300))
    assert path.with_suffix(".idx").exists()
    assert scene.fingerprint() == made


@pytest.mark.parametrize("form", ["relative", "absolute"])
def test_a_tile_index_may_name_folders(tmp_path: Path, make_raster: MakeRaster, form: str) -> None:
    source = make_raster(noise(1, 20, 20), "source.tif")
    with rasterio.open(source) as dataset:
        shape, crs = [box(*dataset.bounds)], dataset.crs
    zarr = tmp_path / "scene.zarr"
    rasterio.shutil.copy(source, zarr, driver="Zarr")
    index = tmp_path / "index.gti.gpkg"
    name = zarr.name if form == "relative" else str(zarr)
    geopandas.GeoDataFrame({"location": [name]}, geometry=shape, crs=crs).to_file(index)
    scene = Scene.open(index)
    np.testing.assert_array_equal(scene.read(Window(0, 0, 20, 20)).data, noise(1, 20, 20))
    assert (zarr / "scene").resolve() in scene.local_files()


def test_a_map_is_written_beside_a_zarr(tmp_path: Path, make_raster: MakeRaster) -> None:
    rasterio.shutil.copy(make_raster(noise(1, 60, 60), "source.tif"), tmp_path / "scene.zarr", driver="Zarr")
    legend = {1: "water", 2: "land"}
    bundle = geoseg.ModelBundle.from_callable(
        lambda batch: np.full_like(batch, 0.5).repeat(2, 1), legend=legend, bands=["gray"]
    )
    out = geoseg.predict(tmp_path / "scene.zarr", tmp_path / "scene.tif", model=bundle, bands=[1])
    assert ClassRaster.open(out).scene.shape == (60, 60)


def test_sidecars_are_files_of_the_scene(shared_data: Path) -> None:
    scene = Scene.open(shared_data / "geotiff_zoo" / "rio-tiler" / "colorado_twins" / "colorado_extmask.tif")
    assert [path.name for path in scene.local_files()] == ["colorado_extmask.tif", "colorado_extmask.tif.msk"]


def test_the_fingerprint_stays_while_nothing_changes(nested: tuple[Path, Path, Path]) -> None:
    before = Scene.open(nested[2]).fingerprint()
    Scene.open(nested[2]).read(Window(0, 0, 20, 20))
    assert Scene.open(nested[2]).fingerprint() == before


@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_fingerprint_changes_with_any_file(nested: tuple[Path, Path, Path], which: int) -> None:
    before = Scene.open(nested[2]).fingerprint()
    status = nested[which].stat()
    os.utime(nested[which], ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    assert Scene.open(nested[2]).fingerprint() != before


@pytest.mark.parametrize("apart_ns", [400_000_000, 1_000_000, 1000])
def test_a_file_rewritten_within_a_second_has_another_fingerprint(make_raster: MakeRaster, apart_ns: int) -> None:
    path, second_ns = make_raster(noise(1, 20, 20)), 1_700_000_000 * 10**9
    os.utime(path, ns=(second_ns, second_ns + 1000))
    if path.stat().st_mtime_ns % 10**9 != 1000:
        pytest.skip("this file system keeps whole seconds")
    before = Scene.open(path).fingerprint()
    os.utime(path, ns=(second_ns, second_ns + 1000 + apart_ns))
    assert Scene.open(path).fingerprint() != before


def test_the_fingerprint_changes_with_a_mask_beside_the_file_and_with_the_bands(make_raster: MakeRaster) -> None:
    path = make_raster(noise(3, 20, 20))
    seen = {Scene.open(path).fingerprint(), Scene.open(path, bands=[2, 1, 3]).fingerprint()}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(noise(20, 20) > 100)
    assert path.with_name("scene.tif.msk").exists()
    seen.add(Scene.open(path).fingerprint())
    assert len(seen) == 3


def archive(kind: str, path: Path) -> str:
    """Pack a file and return the name under which GDAL reads it."""
    packed = path.with_name(f"packed.{kind}")
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as file:
            file.write(path, "in/s.tif")
    elif kind == "tar":
        with tarfile.open(packed, "w") as tar:
            tar.add(path, "in/s.tif")
    else:
        with path.open("rb") as plain, gzip.open(packed, "wb") as small:
            shutil.copyfileobj(plain, small)
        return f"/vsigzip/{packed}"
    return f"/vsi{kind}/{packed}/in/s.tif"


@pytest.mark.parametrize("kind", ["zip", "tar", "gz"])
def test_another_scene_in_the_archive_is_another_scene(make_raster: MakeRaster, kind: str) -> None:
    path = make_raster(noise(1, 20, 20))
    name = archive(kind, path)
    packed = path.with_name(f"packed.{kind}")
    os.utime(packed, (0, 0))  # a clock may tick slower than this test
    before = Scene.open(name).fingerprint()
    assert Scene.open(name).fingerprint() == before
    make_raster(noise(1, 20, 20, seed=1))
    scene = Scene.open(archive(kind, path))
    np.testing.assert_array_equal(scene.read(Window(0, 0, 20, 20)).data, noise(1, 20, 20, seed=1))
    assert scene.fingerprint() != before
    assert scene.local_files() == [packed.resolve()]


@pytest.mark.parametrize(
    "name",
    [
        "{0}/a.zip",
        "file://{0}/a.zip",
        "zip://{0}/a.zip!in/s.tif",
        "zip+file://{0}/a.zip!/in/s.tif",
        "/vsizip/{0}/a.zip/in/s.tif",
        "/vsizip/{{{0}/a.zip}}/in/s.tif",
        "/vsigzip//vsizip/{0}/a.zip/in/s.tif.gz",
        "/vsisubfile/100_200,{0}/a.zip",
        "/vsicached?chunk_size=1000&file={0}/a.zip",
        "vrt://{0}/a.zip?bands=1",
        "vrt:///vsizip/{0}/a.zip/in/s.tif?bands=3,2,1&ot=Byte",
    ],
)
def test_the_file_behind_a_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.zip").touch()
    assert local_file(name.format(tmp_path)) == tmp_path / "a.zip"


@pytest.mark.parametrize("name", ["/vsizip/nothing.zip/s.tif", "/vsizip/vsis3/b/a.zip/s.tif", "<VRTDataset/>", "", "."])
def test_names_without_a_file(name: str) -> None:
    assert local_file(name) is None


def test_pixels_without_a_file_are_told_apart_by_a_decimated_read(
    make_raster: MakeRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geoseg.raster.scene.files_behind", lambda _: ["/vsimystery/s.tif"])
    path = make_raster(noise(1, 20, 20))
    before = Scene.open(path).fingerprint()
    assert Scene.open(path).fingerprint() == before
    make_raster(noise(1, 20, 20, seed=1))
    assert Scene.open(path).fingerprint() != before
