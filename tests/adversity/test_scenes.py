"""Files that are not scenes, and scenes with odd grids."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.control import GroundControlPoint

from geoseg.legend import NODATA
from tests.adversity.conftest import Predict
from tests.adversity.promises import check_map, check_refused, files_in
from tests.adversity.scenes import noise, write_scene


def test_a_missing_file(predict: Predict, folder: Path) -> None:
    line = check_refused(predict(folder / "no.tif", "--out", folder / "map.tif"), 1, folder, {})
    assert "no such file" in line


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("text.tif", b"these are words\n" * 100, "is not a raster"),
        ("parcels.geojson", b'{"type": "FeatureCollection", "features": []}', "is a file of features"),
        ("model.safetensors", bytes(5000), "is a model; give a raster (are two paths swapped?)"),
        ("empty.tif", b"", "empty (0 bytes)"),
        ("zeros.tif", bytes(5000), "is not a raster"),
        ("head.tif", b"II*\0", "cannot read"),
        ("loop.tif", b"II*\0\x08\0\0\0\x01\0" + b"\0" * 12 + b"\x08\0\0\0", "cannot read"),
        ("scene.vrt", b"<VRTDataset rasterXSize='10'", "cannot read"),
        ("scene.vrt", b"<VRTDataset rasterXSize='0' rasterYSize='0'></VRTDataset>", "cannot read"),
        ("bands.vrt", b"<VRTDataset rasterXSize='9' rasterYSize='9'></VRTDataset>", "cannot read"),
        (
            "gone.vrt",
            b"<VRTDataset rasterXSize='9' rasterYSize='9'>"
            + b"<VRTRasterBand dataType='Byte' band='%d'><SimpleSource><SourceFilename>no.tif</SourceFilename>"
            b"</SimpleSource></VRTRasterBand>" % 1 + b"</VRTDataset>",
            "needs 3 bands",
        ),
    ],
)
def test_not_a_raster(predict: Predict, folder: Path, name: str, content: bytes, says: str) -> None:
    (folder / name).write_bytes(content)
    line = check_refused(predict(folder / name, "--out", folder / "map.tif"), 1, folder, {name: content})
    assert says in line
    assert name in line


def test_a_folder(predict: Predict, folder: Path) -> None:
    (folder / "tiles").mkdir()
    line = check_refused(predict(folder / "tiles", "--out", folder / "map.tif"), 2, folder, {})
    assert "contains no raster" in line


def test_a_virtual_raster_that_lost_its_sources(predict: Predict, folder: Path) -> None:
    band = (
        "<VRTRasterBand dataType='Byte' band='{}'><ColorInterp>{}</ColorInterp><SimpleSource>"
        "<SourceFilename>/no/where.tif</SourceFilename></SimpleSource></VRTRasterBand>"
    )
    bands = "".join(band.format(i, name) for i, name in enumerate(("Red", "Green", "Blue"), start=1))
    (folder / "lost.vrt").write_text(f"<VRTDataset rasterXSize='90' rasterYSize='90'>{bands}</VRTDataset>")
    before = files_in(folder)
    check_refused(predict(folder / "lost.vrt", "--out", folder / "map.tif"), 1, folder, before)


def test_a_picture_by_another_name_is_read_for_what_it_is(predict: Predict, folder: Path) -> None:
    Image.fromarray(noise(70, 80).transpose(1, 2, 0)).save(folder / "scene.tif", format="png")
    assert predict(folder / "scene.tif", "--out", folder / "map.tif").code == 0
    check_map(folder / "map.tif", folder / "scene.tif")


@pytest.mark.parametrize("bands", [1, 2])
def test_too_few_bands(predict: Predict, folder: Path, bands: int) -> None:
    write_scene(folder / "scene.tif", noise(50, 50, bands=bands))
    line = check_refused(predict(folder / "scene.tif", "--out", folder / "map.tif"), 1, folder, files_in(folder))
    assert "needs 3 bands" in line
    assert "--bands" in line


def test_other_units_are_refused_with_a_scale_that_works(predict: Predict, folder: Path) -> None:
    scene = write_scene(folder / "scene.tif", noise(60, 60).astype(np.uint16) * 12)
    line = check_refused(predict(scene, "--out", folder / "map.tif"), 1, folder, files_in(folder))
    proposed = line.partition("for example --scale ")[2].split()[0]
    assert predict(scene, "--out", folder / "map.tif", "--scale", proposed).code == 0


@pytest.mark.parametrize("value", [0, 7])
def test_no_scale_is_proposed_for_a_scene_of_one_value(predict: Predict, folder: Path, value: int) -> None:
    scene = write_scene(folder / "scene.tif", np.full((3, 60, 60), value, np.uint16))
    line = check_refused(predict(scene, "--out", folder / "map.tif"), 1, folder, files_in(folder))
    assert "--scale LOW,HIGH" in line
    assert "for example" not in line


@pytest.mark.parametrize("dtype", ["complex64", "complex_int16"])
def test_complex_numbers(predict: Predict, folder: Path, dtype: str) -> None:
    profile = {"dtype": dtype, "count": 3, "height": 9, "width": 9, "driver": "GTiff"}
    with rasterio.open(folder / "scene.tif", "w", **profile):
        pass
    line = check_refused(predict(folder / "scene.tif", "--out", folder / "map.tif"), 1, folder, files_in(folder))
    assert "complex" in line


@pytest.mark.parametrize("nodata", [0, 255])
def test_nothing_but_nodata_is_a_map_of_nodata(predict: Predict, folder: Path, nodata: int) -> None:
    scene = write_scene(folder / "scene.tif", np.full((3, 700, 90), nodata, np.uint8), nodata=nodata)
    assert predict(scene, "--out", folder / "map.tif").code == 0
    check_map(folder / "map.tif", scene)
    with rasterio.open(folder / "map.tif") as land_cover:
        assert (land_cover.read() == NODATA).all()


def test_nothing_but_nan_is_a_map_of_nodata(predict: Predict, folder: Path) -> None:
    scene = write_scene(folder / "scene.tif", np.full((3, 90, 90), np.nan, np.float32))
    assert predict(scene, "--out", folder / "map.tif", "--scale", "0,1").code == 0
    with rasterio.open(folder / "map.tif") as land_cover:
        assert (land_cover.read() == NODATA).all()


GCPS = [GroundControlPoint(row, col, 3 + col / 1e4, 48 - row / 1e4) for row in (0, 70) for col in (0, 90)]
GRIDS: dict[str, dict[str, Any]] = {
    "rotated": {"transform": Affine.translation(5e5, 5e6) @ Affine.rotation(33) @ Affine.scale(2, -2)},
    "sheared": {"transform": Affine(2, 0.7, 5e5, 0.1, -2, 5e6)},
    "south_up": {"transform": Affine(2, 0, 5e5, 0, 2, 5e6)},
    "east_left": {"transform": Affine(-2, 0, 5e5, 0, -2, 5e6)},
    "points": {"gcps": GCPS, "crs": "EPSG:4326"},
    "no_crs": {"crs": None},
    "nothing": {"crs": None, "transform": Affine.identity()},
    "degrees": {"crs": "EPSG:4326", "transform": Affine(1e-5, 0, 179.9999, 0, -1e-5, 10)},
    "long_wkt": {"crs": "+proj=laea +lat_0=52 +lon_0=10 +x_0=4321000.25 +units=us-ft +ellps=bessel"},
    "many_digits": {"transform": Affine(1 / 3, 0, 500000.1234567, 0, -1 / 3, 5e6 / 3)},
    "interleaved": {"interleave": "pixel", "compress": "lzw"},
    "striped": {"tiled": False, "blockysize": 1},
    "stretched_blocks": {"blockxsize": 16, "blockysize": 512},
}


@pytest.mark.parametrize("grid", GRIDS)
def test_the_map_keeps_the_grid(predict: Predict, folder: Path, grid: str) -> None:
    scene = write_scene(folder / "scene.tif", noise(70, 90), **GRIDS[grid])
    outcome = predict(scene, "--out", folder / "map.tif")
    assert outcome.code == 0
    if grid == "points":  # a degree of longitude is shorter there
        assert "not square on the ground: 11.1 m high, 7.46 m wide" in outcome.stderr
    else:
        assert not outcome.stderr
    check_map(folder / "map.tif", scene)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (3, 64), (64, 64), (65, 63)])
def test_the_map_keeps_the_shape(predict: Predict, folder: Path, shape: tuple[int, int]) -> None:
    scene = write_scene(folder / "scene.tif", noise(*shape))
    assert predict(scene, "--out", folder / "map.tif").code == 0
    check_map(folder / "map.tif", scene)


NAMES = {
    "spaces": "a scene  of two spaces.tif",
    "unicode": "Wälder & Flüsse <北>.tif",
    "newline": "two\nlines.tif",
    "percent": "100%20%s%d.tif",
    "quotes": 'it\'s "quoted".tif',
    "control": "bell\a\x1b[31mred.tif",
    "question": "scene.tif?ovr=1",
    "dash": "-scene.tif",
    "long": "s" * 190 + ".tif",
}


@pytest.mark.parametrize("name", NAMES)
def test_names(predict: Predict, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    scene = write_scene(folder / "plain.tif").rename(folder / NAMES[name])
    monkeypatch.chdir(folder)
    target = f"map of {NAMES[name].partition('?')[0]}"
    outcome = predict("--out", target, "--", NAMES[name])
    assert (outcome.code, outcome.stderr) == (0, "")
    if name != "question":  # rasterio would read it as a URL
        check_map(folder / target, scene)


def test_a_deep_path(predict: Predict, folder: Path) -> None:
    deep = folder / "d" / ("e" * 200) / ("f" * 200)
    deep.mkdir(parents=True)
    scene = write_scene(deep / "scene.tif")
    assert predict(scene, "--out", deep / "new" / "map.tif").code == 1
    assert predict(scene, "--out", deep / "new" / "map.tif", "--mkdir").code == 0
    check_map(deep / "new" / "map.tif", scene)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has names that are no text")
def test_a_name_that_is_no_text(predict: Predict, folder: Path) -> None:
    odd = os.fsdecode(b"\xff.tif")
    write_scene(folder / "scene.tif").rename(folder / odd)
    check_refused(predict(folder / odd, "--out", folder / "map.tif"), 1, folder, files_in(folder))
    (folder / odd).rename(folder / "scene.tif")
    check_refused(predict(folder / "scene.tif", "--out", folder / odd), 1, folder, files_in(folder))
