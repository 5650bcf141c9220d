"""Tiles of a local map server, against the raster that they make up."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

import geoseg
from geoseg.errors import GeosegWarning, SceneError, UsageError
from geoseg.model import ModelBundle
from geoseg.raster import Scene, Window, class_shares, is_tile_address, mosaic, tiles_raster
from tests.networks import tiny_bundle
from tests.raster import tile_server

ZOOM, COL, ROW = 15, 16_700, 11_500
HALF_M = 20037508.342789244
TILE_M = 2 * HALF_M / 2**ZOOM
pytestmark = pytest.mark.filterwarnings("ignore::geoseg.errors.GeosegWarning")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Yield the address of a tile server."""
    program = [sys.executable, Path(tile_server.__file__)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/tiles/{{z}}/{{x}}/{{y}}.png"
        process.kill()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=64)


def box(cols: float, rows: float) -> tuple[float, float, float, float]:
    """Return a box in Web Mercator, given in tiles, whose corner is the center of a tile."""
    west, north = -HALF_M + (COL + 0.5) * TILE_M, HALF_M - (ROW + 0.5) * TILE_M
    return west, north - rows * TILE_M, west + cols * TILE_M, north


def picture(cols: int, rows: int, zoom: int = ZOOM) -> np.ndarray[Any, Any]:
    """Return the tiles from (COL, ROW) on, unchanged, as one array."""
    lines = []
    for row in range(ROW, ROW + rows):
        line = []
        for col in range(COL, COL + cols):
            with MemoryFile(tile_server.tile(zoom, col, row)) as file, file.open() as png:
                line.append(png.read())
        lines.append(np.concatenate(line, axis=2))
    return np.concatenate(lines, axis=1)


def test_the_tiles_of_a_zoom_are_one_raster(server: str) -> None:
    scene = Scene.open(tiles_raster(server, ZOOM))
    part = scene.crop(box(1.5, 0.75))
    assert part.shape == (192, 384)
    data = part.read(Window(0, 0, 192, 384)).data
    np.testing.assert_array_equal(data, picture(2, 2)[:, 128:320, 128:512])
    assert scene.geobox.crs == rasterio.crs.CRS.from_epsg(3857)


def test_transparent_and_black_pixels_of_tiles_are_not_valid(server: str) -> None:
    west, south, east, north = box(0.5, 0.5)
    whole = Scene.open(tiles_raster(server.replace("tiles", "clear"), ZOOM)).crop(
        (west - TILE_M / 2 + 1, south, east, north + TILE_M / 2 - 1)
    )
    valid = whole.read(Window(0, 0, 256, 256)).valid
    assert not valid[:128].any()
    assert not valid[:, :9].any()
    assert valid[128:, 9:].all()


def test_a_page_instead_of_a_tile_is_one_line(server: str) -> None:
    part = Scene.open(tiles_raster(server.replace("tiles", "page"), ZOOM)).crop(box(0.5, 0.5))
    with pytest.raises(SceneError, match=r"check the address: each tile must be a square picture"):
        part.read(Window(0, 0, 128, 128))


def test_a_tile_that_is_refused_is_no_wrong_picture(server: str) -> None:
    part = Scene.open(tiles_raster(server.replace("tiles", "locked"), ZOOM)).crop(box(0.5, 0.5))
    with pytest.raises(SceneError, match=r"status code: 403.*; check the address and the credentials"):
        part.read(Window(0, 0, 128, 128))


def test_a_part_of_the_tiles_is_not_looked_up_as_a_file(server: str) -> None:
    part = Scene.open(tiles_raster(server, ZOOM)).crop(box(1.5, 0.75))
    assert class_shares(part, 50)
    assert class_shares(mosaic([part, part]), 50)


def test_a_map_of_tiles_is_that_of_the_picture_they_make(server: str, bundle: ModelBundle, tmp_path: Path) -> None:
    whole = tmp_path / "whole.tif"
    pixel_m = TILE_M / 256
    grid = from_origin(box(1, 1)[0] - 128 * pixel_m, box(1, 1)[3] + 128 * pixel_m, pixel_m, pixel_m)
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": 512, "width": 512}
    with rasterio.open(whole, "w", crs="EPSG:3857", transform=grid, nodata=0, **profile) as file:
        file.write(picture(2, 2))
    options: dict[str, Any] = {"model": bundle, "device": "onnx", "bbox": box(1.25, 1.25)}
    with pytest.warns(GeosegWarning, match=r"is a map server: about 9 requests at zoom 15 \(320 x 320 px of") as caught:
        made = geoseg.plan(server, zoom=ZOOM, **options)
    assert caught[0].filename == __file__
    expected = geoseg.plan(whole, **options)
    np.testing.assert_array_equal(made.to_dask().compute(), expected.to_dask().compute())
    assert made.fingerprint() == geoseg.plan(server, zoom=ZOOM, **options).fingerprint()


@pytest.mark.parametrize("host", ["127.0.0.1", "{switch:127.0.0.1,no.host}", "127.0.0.1{r}"])
def test_tiles_may_have_512_pixels_and_several_hosts(server: str, bundle: ModelBundle, host: str) -> None:
    options: dict[str, Any] = {"model": bundle, "device": "onnx", "bbox": box(1.25, 1.25)}
    expected = geoseg.plan(server, zoom=ZOOM, **options)
    address = server.replace("tiles", "large").replace("127.0.0.1", host)
    with pytest.warns(GeosegWarning, match=r"is a map server: about 4 requests at zoom 14 \(320 x 320 px of"):
        made = geoseg.plan(address, zoom=ZOOM - 1, **options)
    np.testing.assert_array_equal(made.to_dask().compute(), expected.to_dask().compute())
    wanted_m = expected.source.geobox.gsd_m
    assert geoseg.plan(address, resolution=wanted_m, **options).source.geobox == expected.source.geobox


def test_the_size_of_tiles_is_found_where_there_is_one(server: str, bundle: ModelBundle) -> None:
    assert COL % 2 == 0  # the center of the box is in the next column
    with pytest.warns(GeosegWarning, match=r"\(512 x 512 px of"):
        geoseg.plan(server.replace("tiles", "gaps"), model=bundle, device="onnx", bbox=box(1, 1), zoom=ZOOM)


def test_a_placeholder_is_not_the_size_of_tiles(server: str, bundle: ModelBundle) -> None:
    address = server.replace("tiles", "dots")
    with (
        pytest.warns(GeosegWarning, match=r"about 4 requests at zoom 15 \(256 x 256 px of"),
        pytest.raises(SceneError, match="Incorrect size 1 x 1 of downloaded block"),
    ):
        geoseg.plan(address, model=bundle, device="onnx", bbox=box(1, 1), zoom=ZOOM).to_dask().compute()


def test_the_first_of_a_servers_hosts_is_asked() -> None:
    for host, asked in (("{s}", "a"), ("{switch:t0,t1}", "t0"), ("{S}", "a")):
        assert f"<ServerUrl>https://{asked}.example.org/${{z}}/" in tiles_raster(
            f"https://{host}.example.org/{{z}}/", 3
        )
    assert "<BlockSizeX>512</BlockSizeX>" in tiles_raster("https://example.org/{z}", 21, 512)
    with pytest.raises(UsageError, match="`zoom` must be 0 to 21, got 22"):
        tiles_raster("https://example.org/{z}", 22, 512)


def test_the_zoom_is_nearest_to_the_pixels_wanted(server: str, bundle: ModelBundle) -> None:
    there = transform_bounds("EPSG:3857", "EPSG:4326", *box(1, 1))
    for wanted_m in (1.0, 3.0, 10.0):
        made = geoseg.plan(server, model=bundle, device="onnx", bbox=there, bbox_crs="EPSG:4326", resolution=wanted_m)
        assert made.source.geobox.gsd_m is not None
        assert 2**-0.51 <= made.source.geobox.gsd_m / wanted_m <= 2**0.51


def test_the_map_is_written_and_says_where_it_is_from(server: str, bundle: ModelBundle, tmp_path: Path) -> None:
    out = geoseg.predict(
        server + "?token=secret", tmp_path / "m.tif", model=bundle, device="onnx", bbox=box(0.5, 0.5), zoom=ZOOM
    )
    with rasterio.open(out) as made:
        assert made.shape == (128, 128)
        assert made.tags()["GEOSEG_SCENE_PATH"].startswith("http://127.0.0.1")
        assert "secret" not in json.dumps(made.tags())


def test_planning_fetches_little(server: str, bundle: ModelBundle) -> None:
    def seen() -> int:
        with urllib.request.urlopen(server.partition("/tiles")[0] + "/--seen") as answer:  # noqa: S310 - this machine
            return len(json.load(answer))

    before = seen()
    geoseg.plan(server, model=bundle, device="onnx", bbox=box(40, 40), zoom=ZOOM)
    assert seen() - before < 200  # of 1681 tiles, to see whether they look like the training imagery


EXTENT = 2**17
"""The layer's extent from 0, in meters; the pixel sizes of its levels are whole meters from 1 m up."""


def layer(server: str, name: str) -> str:
    """Return GDAL's name for a layer of a WMS."""
    asked = f"SERVICE=WMS&VERSION=1.1.1&REQUEST=GetMap&LAYERS=x&SRS=EPSG:3857&BBOX=0,0,{EXTENT},{EXTENT}"
    return f"WMS:{server.partition('/tiles')[0]}/{name}?{asked}&FORMAT=image/png"


def write_picture(path: Path, bbox: tuple[int, int, int, int]) -> Path:
    west, south, east, north = bbox
    pixels = tile_server.picture(bbox, east - west, north - south)
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": north - south, "width": east - west}
    with rasterio.open(path, "w", crs="EPSG:3857", transform=from_origin(west, north, 1, 1), **profile) as file:
        file.write(pixels)
    return path


@pytest.mark.parametrize("kind", ["WMS:", "xml"])
def test_a_layer_is_the_picture_it_shows_at_the_level_asked_for(
    server: str, bundle: ModelBundle, tmp_path: Path, kind: str
) -> None:
    box = (1100, 2000, 1300, 2300)
    path = layer(server, "wms")
    if kind == "xml":
        address = f"{server.partition('/tiles')[0]}/wms?"
        (tmp_path / "layer.xml").write_text(
            f'<GDAL_WMS><Service name="WMS"><Version>1.1.1</Version><ServerUrl>{address}</ServerUrl><Layers>x</Layers>'
            "<SRS>EPSG:3857</SRS><ImageFormat>image/png</ImageFormat></Service><DataWindow><UpperLeftX>0</UpperLeftX>"
            f"<UpperLeftY>{EXTENT}</UpperLeftY><LowerRightX>{EXTENT}</LowerRightX><LowerRightY>0</LowerRightY>"
            f"<SizeX>{2**30}</SizeX><SizeY>{2**30}</SizeY></DataWindow><Projection>EPSG:3857</Projection>"
            "<BandsCount>3</BandsCount><BlockSizeX>256</BlockSizeX><BlockSizeY>256</BlockSizeY></GDAL_WMS>"
        )
        path = str(tmp_path / "layer.xml")
    options: dict[str, Any] = {"model": bundle, "device": "onnx", "bbox": box}
    with pytest.warns(GeosegWarning, match=r"is a map server: about \d+ requests at level 13 \(200 x 300 px of 1 m\)"):
        made = geoseg.plan(path, resolution=1.0, **options)
    expected = geoseg.plan(write_picture(tmp_path / "whole.tif", box), **options)
    np.testing.assert_array_equal(made.to_dask().compute(), expected.to_dask().compute())


def test_a_wmts_is_its_tiles(server: str, bundle: ModelBundle) -> None:
    path = f"WMTS:{server.partition('/tiles')[0]}/wmts.xml,layer=x"
    options: dict[str, Any] = {"model": bundle, "device": "onnx", "bbox": box(1.25, 1.25)}
    expected = geoseg.plan(server, zoom=15, **options)
    wanted_m = expected.scene.geobox.gsd_m
    made = geoseg.plan(path, resolution=wanted_m, **options)
    assert made.scene.shape == expected.scene.shape
    np.testing.assert_array_equal(made.to_dask().compute(), expected.to_dask().compute())


def test_a_server_that_shows_nothing_or_refuses_is_one_line(
    server: str, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    options: dict[str, Any] = {"model": bundle, "device": "onnx", "resolution": 1.0, "bbox": (100, 100, 200, 200)}
    with pytest.warns(GeosegWarning, match="shows only one color there; check the layer's name") as caught:
        geoseg.plan(layer(server, "wms-black"), **options)
    assert caught[0].filename == __file__
    for name, said in {"wms-sorry": "exception", "wms-503": "503"}.items():
        with pytest.raises(SceneError, match=said) as raised:
            geoseg.plan(layer(server, name), **options)
        assert len(str(raised.value).splitlines()) == 1
        assert "LAYERS" not in str(raised.value)
    with pytest.raises(UsageError, match="choose a part with `bbox` or `aoi`"):
        geoseg.plan(layer(server, "wms"), model=bundle)
    with pytest.raises(UsageError, match="choose a `resolution`"):
        geoseg.plan(layer(server, "wms"), model=bundle, bbox=(0, 0, 9, 9))


def test_what_cannot_be_meant(server: str, bundle: ModelBundle, tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": bundle, "device": "onnx"}
    with pytest.raises(UsageError, match="covers the whole world; choose a part with `bbox` or `aoi`"):
        geoseg.plan(server, **options)
    with pytest.raises(UsageError, match="`zoom` must be 0 to 22, got 30"):
        geoseg.plan(server, bbox=box(1, 1), zoom=30, **options)
    with pytest.raises(UsageError, match="`zoom` applies to map server tiles"):
        geoseg.plan(tmp_path / "scene.tif", zoom=3, **options)
    assert is_tile_address("https://example.org/{z}/{x}/{-y}.jpg")
    assert is_tile_address("https://example.org/tiles?x=${x}&y=${y}&z=${z}")
    assert not is_tile_address("https://example.org/{z}/scene.tif")
    assert "<YOrigin>bottom</YOrigin>" in tiles_raster("https://example.org/{z}/{x}/{-y}.jpg", 3)
