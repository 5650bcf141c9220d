from __future__ import annotations

import gzip
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from PIL import Image

from geoseg.errors import SceneError
from geoseg.features import find_features
from geoseg.raster import Scene, Window
from tests.raster.conftest import MakeRaster, noise

LAYOUTS = {
    "plain": {},
    "deflate": {"compress": "deflate"},
    "deflate strips": {"compress": "deflate", "tiled": False},
    "lzw": {"compress": "lzw"},
    "zstd": {"compress": "zstd"},
    "packbits": {"compress": "packbits"},
    "jpeg": {"compress": "jpeg", "photometric": "ycbcr", "interleave": "pixel"},
}


def read_all(path: Path) -> np.ndarray:
    scene = Scene.open(path)
    return scene.read(Window(0, 0, *scene.shape)).data


def damaged_copy(path: Path, keep: float) -> Path:
    copy = path.with_name("damaged.tif")
    content = path.read_bytes()
    copy.write_bytes(content[: int(len(content) * keep)])
    return copy


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("keep", [0.001, 0.3, 0.6, 0.95])
def test_a_file_cut_short_is_an_error_and_never_a_picture(make_raster: MakeRaster, name: str, keep: float) -> None:
    layout = {"tiled": True, "blockxsize": 64, "blockysize": 64, **LAYOUTS[name]}
    if not layout["tiled"]:
        layout = {"compress": "deflate", "blockysize": 16}
    path = make_raster(noise(3, 256, 256), **layout)
    read_all(path)
    with pytest.raises(SceneError) as caught:
        read_all(damaged_copy(path, keep))
    message = str(caught.value)
    assert "\n" not in message
    assert "damaged.tif" in message
    assert len(message) < 600


@pytest.mark.parametrize(("driver", "interleave"), [("ENVI", "bip"), ("ENVI", "bsq"), ("netCDF", "band")])
def test_an_uncompressed_file_cut_short_is_an_error_too(
    make_raster: MakeRaster, tmp_path: Path, driver: str, interleave: str
) -> None:
    path, file = make_raster(noise(1, 64, 48).astype("int16")), tmp_path / "whole.bin"
    options = {"INTERLEAVE": interleave} if driver == "ENVI" else {}
    rasterio.shutil.copy(path, file, driver=driver, **options)
    np.testing.assert_array_equal(read_all(file), read_all(path))
    content = file.read_bytes()
    for keep in (64 * 48 * 2 - 2, 4000):
        file.write_bytes(content[:keep])
        with pytest.raises(SceneError, match=r"whole\.bin is cut short: \d+ bytes, expected \d+ or more; copy"):
            read_all(file)


@pytest.mark.parametrize("offset", ["0 bytes", " 0", "none"])
def test_an_offset_in_words_is_no_damage(make_raster: MakeRaster, tmp_path: Path, offset: str) -> None:
    path, file = make_raster(noise(1, 64, 48)), tmp_path / "whole.bin"
    rasterio.shutil.copy(path, file, driver="ENVI")
    header = file.with_suffix(".hdr")
    header.write_text(header.read_text().replace("header offset = 0", f"header offset = {offset}"))
    file.with_name("whole.bin.aux.xml").unlink()  # holds the offset too
    np.testing.assert_array_equal(read_all(file), read_all(path))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("shape", [(3, 64, 48), (1, 64, 48), (3, 700, 600)])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_a_picture_cut_short_is_an_error_too(
    tmp_path: Path, suffix: str, shape: tuple[int, int, int], keep: float
) -> None:
    path = tmp_path / f"whole{suffix}"
    Image.fromarray(noise(*shape).transpose(1, 2, 0).squeeze()).save(path)
    assert read_all(path).shape == shape
    content = path.read_bytes()
    damaged = path.with_name(f"damaged{suffix}")
    damaged.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(SceneError, match=f"cannot read .*damaged{suffix}: .*cut short or damaged"):
        read_all(damaged)


@pytest.mark.parametrize("name", ["deflate", "lzw", "zstd"])
@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_end_in_pixels_or_in_one_line(make_raster: MakeRaster, name: str, seed: int) -> None:
    path = make_raster(noise(3, 128, 128), tiled=True, blockxsize=64, blockysize=64, **LAYOUTS[name])
    content = bytearray(path.read_bytes())
    for position in np.random.default_rng(seed).integers(0, len(content), 40):
        content[position] ^= 0x5A
    path.write_bytes(content)
    message = ""
    try:
        shape: tuple[int, ...] = read_all(path).shape
    except SceneError as error:
        shape, message = (), str(error)
    assert len(shape) == 3 or message.count("\n") == 0 < len(message)


def test_a_block_never_written_is_nodata_and_no_error(make_raster: MakeRaster) -> None:
    pixels = np.zeros((1, 128, 128), np.uint8)
    pixels[:, :64, :64] = 9
    path = make_raster(pixels, tiled=True, blockxsize=64, blockysize=64, sparse_ok=True, nodata=0)
    np.testing.assert_array_equal(read_all(path), pixels)


def test_what_is_no_raster_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("not a raster\n")
    (tmp_path / "lies.vrt").write_text("<VRTDataset rasterXSize='x'>")
    (tmp_path / "map.tif.parts").mkdir()
    cases = {
        "map.tif": "not finished",
        "missing.tif": "no such file",
        "empty.tif": "0 bytes",
        "text.tif": "not a raster",
        "lies.vrt": "lies.vrt",
        ".": "folder",
    }
    for name, told in cases.items():
        with pytest.raises(SceneError, match=told) as caught:
            Scene.open(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_vrt_whose_source_is_gone_is_refused_when_read(shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "alone.vrt"
    shutil.copy(shared_data / "geotiff_zoo" / "rasterio" / "RGB.byte.gcp.vrt", path)
    with pytest.raises(SceneError, match=r"alone\.vrt"):
        read_all(path)


def test_gdal_is_quiet_about_it(make_raster: MakeRaster, capfd: pytest.CaptureFixture[str]) -> None:
    path = make_raster(noise(3, 256, 256), compress="deflate", tiled=True, blockxsize=64, blockysize=64)
    with pytest.raises(SceneError):
        read_all(damaged_copy(path, 0.5))
    assert capfd.readouterr() == ("", "")


def test_a_reason_that_is_no_damage_is_given_alone(tmp_path: Path) -> None:
    with rasterio.open(tmp_path / "envi.img", "w", driver="ENVI", width=8, height=8, count=1, dtype="uint8") as file:
        file.write(np.ones((1, 8, 8), np.uint8))
    vrt = tmp_path / "odd.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1" '
        'subClass="VRTDerivedRasterBand"><PixelFunctionType>nobody_knows</PixelFunctionType><SimpleSource>'
        '<SourceFilename relativeToVRT="1">envi.img</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    for path, reason in ((tmp_path / "envi.hdr", "the data file should be selected"), (vrt, "'nobody_knows' not")):
        with pytest.raises(SceneError, match=reason) as caught:
            Scene.open(path).read(Window(0, 0, 8, 8))
        assert "damaged" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize(
    "name", ["a.tif", "a.vrt", "/vsizip/{}/a.zip/in/a.tif", "zip://{}/a.zip!in/a.tif", "file://{}/a.tif"]
)
def test_a_pipe_in_place_of_a_scene_is_refused_before_gdal_waits_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for ending in ("tif", "vrt", "zip"):
        os.mkfifo(f"a.{ending}")
    with pytest.raises(SceneError, match=r" is a pipe, which can be read only once; save it to a file"):
        Scene.open(name.format(tmp_path))
    if name == "a.tif":
        with pytest.raises(SceneError, match=r"^a\.tif is a pipe"):
            find_features(name, "polygons", "labels")


@pytest.mark.skipif(os.name == "nt", reason="Windows has its devices elsewhere")
def test_a_device_in_place_of_a_scene_is_refused() -> None:
    with pytest.raises(SceneError, match=r"^/dev/zero is a device"):
        Scene.open("/dev/zero")


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tgz"])
def test_an_archive_is_told_how_to_name_what_is_in_it(tmp_path: Path, make_raster: MakeRaster, ending: str) -> None:
    inside = make_raster(noise(3, 20, 30), name="scene.tif")
    archive = tmp_path / f"two words.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr("about.txt", "text")
            made.write(inside, "deep/scene.tif")
    else:
        with tarfile.open(archive, "w" if ending == "tar" else "w:gz") as made:
            made.add(inside, "deep/scene.tif")
    with pytest.raises(SceneError, match=r"is an archive; give a raster inside it, such as (.+)") as caught:
        Scene.open(archive)
    named = str(caught.value).rpartition("such as ")[2]
    assert Scene.open(named).shape == (20, 30)
    archive.write_bytes(archive.read_bytes()[:40])
    with pytest.raises(SceneError, match=r"two words"):
        Scene.open(archive)


def test_a_compressed_raster_is_told_its_name_and_one_that_is_not_in_an_archive_is_no_damage(
    tmp_path: Path, make_raster: MakeRaster
) -> None:
    small = tmp_path / "scene.tif.gz"
    small.write_bytes(gzip.compress(make_raster(noise(3, 20, 30), name="scene.tif").read_bytes()))
    with pytest.raises(SceneError, match=r"is an archive; give a raster inside it, such as (/vsigzip/.+)") as caught:
        Scene.open(small)
    assert Scene.open(str(caught.value).rpartition("such as ")[2]).shape == (20, 30)
    for gone in (f"/vsigzip/{tmp_path}/nothing.tif.gz", f"/vsizip/{tmp_path}/nothing.zip/scene.tif"):
        with pytest.raises(SceneError, match=r": no such file or raster; check the path"):
            Scene.open(gone)


def test_a_table_is_no_damaged_raster(tmp_path: Path) -> None:
    table = tmp_path / "points.csv"
    points = "id,lon,lat,x,y,class\n1,3.1,48.7,5,9,\n2,3.4,48.9,8,1,\n3,3.2,48.8,2,4,\n"
    for text in (points, "scene,labels\na.tif,b.tif\n"):
        table.write_text(text)
        with pytest.raises(SceneError, match=r"points\.csv is a table, not a raster of x, y and z on a grid"):
            Scene.open(table)
    table.write_text("x,y,z\n" + "".join(f"{x},{y},{x * y}\n" for y in (9, 8, 7) for x in (1, 2, 3)))
    assert Scene.open(table).shape == (3, 3)


@pytest.mark.parametrize("name", ["/vsimem/absent.tif", "GTIFF_DIR:1:{}/absent.tif", 'NETCDF:"{}/absent.nc":band'])
def test_what_is_not_there_is_not_called_damaged(tmp_path: Path, name: str) -> None:
    with pytest.raises(SceneError, match="no such file or raster; check the path") as caught:
        Scene.open(name.format(tmp_path))
    assert "damaged" not in str(caught.value)


def test_a_zarr_that_gdal_cannot_decode_is_not_only_called_a_folder(tmp_path: Path, make_raster: MakeRaster) -> None:
    zarr = tmp_path / "s.zarr"
    rasterio.shutil.copy(make_raster(noise(1, 20, 20)), zarr, driver="Zarr", FORMAT="ZARR_V3")
    array = json.loads((zarr / "s" / "zarr.json").read_text())
    (zarr / "s" / "zarr.json").write_text(json.dumps(array | {"codecs": [{"name": "quirks"}]}))
    with pytest.raises(SceneError, match=r"s\.zarr.s: Unsupported codec: quirks; write it in Zarr format 2 "):
        Scene.open(zarr / "s")
    with pytest.raises(SceneError, match="is a folder; give a raster in it"):
        Scene.open(tmp_path)


@pytest.mark.parametrize("form", ["file", "vrt"])
def test_a_jpeg_2000_cut_short_is_an_error_where_gdal_decodes_several_tiles(
    tmp_path: Path, make_raster: MakeRaster, form: str
) -> None:
    file = path = tmp_path / "tiled.jp2"
    blocks = {"BLOCKXSIZE": "64", "BLOCKYSIZE": "64"}
    rasterio.shutil.copy(make_raster(noise(1, 256, 256)), file, driver="JP2OpenJPEG", QUALITY="100", **blocks)
    if form == "vrt":
        path = tmp_path / "tiled.vrt"
        rasterio.shutil.copy(file, path, driver="VRT")
    scene = pickle.dumps(Scene.open(path))
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    code = "import pickle, sys; scene = pickle.load(sys.stdin.buffer); scene.overview(256)"
    fresh = subprocess.run([sys.executable, "-c", code], input=scene, capture_output=True, check=False)
    assert re.search(rb"SceneError: .*tiled\..*cut short or damaged", fresh.stderr)


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_vrt_of_files_that_are_missing_or_damaged_is_an_error_where_gdal_reads_in_threads(
    tmp_path: Path, make_raster: MakeRaster, *, is_gone: bool
) -> None:
    sources = []
    for row in (0, 600):
        file = make_raster(noise(1, 600, 1800), f"{row}.tif", tiled=True, compress="deflate")
        size = 'xSize="1800" ySize="600"/>'
        sources.append(
            f"<SimpleSource><SourceFilename>{file}</SourceFilename><SourceBand>1</SourceBand>"
            f'<SrcRect xOff="0" yOff="0" {size}<DstRect xOff="0" yOff="{row}" {size}</SimpleSource>'
        )
    band = f'<VRTRasterBand dataType="Byte" band="1">{"".join(sources)}</VRTRasterBand>'
    vrt = tmp_path / "both.vrt"
    vrt.write_text(f'<VRTDataset rasterXSize="1800" rasterYSize="1200">{band}</VRTDataset>')
    assert read_all(vrt).any(axis=(0, 2)).all()
    if is_gone:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(SceneError, match=r"both\.vrt"):
        read_all(vrt)
