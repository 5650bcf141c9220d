from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import Resampling
from rasterio.env import get_gdal_config
from rasterio.errors import RasterioIOError

import geoseg
from geoseg import info
from geoseg.errors import GeosegWarning, SceneError
from geoseg.legend import given_legend
from geoseg.raster import (
    ClassRaster,
    Scene,
    Window,
    files_behind,
    fingerprint,
    is_remote,
    public_name,
    raster_environment,
    shown,
    stamps,
    with_own_codes,
)
from geoseg.raster import (
    dataset_cache as handles,
)
from geoseg.raster.environment import gdal_name
from geoseg.raster.fingerprint import server_stamp
from geoseg.raster.names import without_secrets
from tests.raster.conftest import MakeRaster, noise


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the test's folder and yield the address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    program = [sys.executable, Path(__file__).with_name("range_server.py"), tmp_path]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def seen_bytes(server: str) -> int:
    return int(json.loads(ask(f"{server}/--seen"))["bytes"])


def ask(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own server
        content: bytes = answer.read()
    return content


def test_a_remote_map_whose_overviews_are_means_is_not_read_as_a_whole(server: str, make_raster: MakeRaster) -> None:
    path = make_raster(noise(1, 4096, 4096) % 3 * 7, tiled=True, compress="deflate")
    with rasterio.open(path, "r+") as file:
        file.update_tags(GEOSEG_LEGEND=json.dumps(given_legend({0: "water", 7: "trees", 14: "roofs"}).to_json()))
        file.build_overviews([2, 4, 8, 16], Resampling.average)
    facts = info(f"{server}/scene.tif").to_json()
    assert [known["code"] for known in facts["classes"]] == [0, 7, 14]
    assert seen_bytes(server) < path.stat().st_size * 0.7
    Scene.open(f"{server}/scene.tif")._repr_html_()
    assert seen_bytes(server) < path.stat().st_size * 0.7
    with pytest.warns(GeosegWarning, match=r"scene.tif do not match its pixels, so all pixels are"):
        with_own_codes(Scene.open(f"{server}/scene.tif"))


def test_a_scene_behind_http_is_the_scene_on_disk(server: str, make_raster: MakeRaster) -> None:
    pixels = noise(3, 1024, 1024)
    path = make_raster(pixels, tiled=True, blockxsize=128, blockysize=128, compress="deflate")
    scene = Scene.open(f"{server}/scene.tif", wanted_bands=("red", "green", "blue"))
    local = Scene.open(path)
    assert (scene.geobox, scene.dtype, scene.block_shape) == (local.geobox, local.dtype, local.block_shape)
    window = Window(100, 100, 200, 200)
    np.testing.assert_array_equal(scene.read(window).data, pixels[:, window.rows, window.cols])
    assert 0 < json.loads(ask(f"{server}/--seen"))["bytes"] < path.stat().st_size / 3


def test_masks_and_overviews_beside_the_file_are_seen_through_http(
    server: str, shared_data: Path, tmp_path: Path
) -> None:
    twins = shared_data / "geotiff_zoo" / "rio-tiler" / "colorado_twins"
    for file in twins.glob("colorado_extmask.tif*"):
        shutil.copy(file, tmp_path)
    scene, local = Scene.open(f"{server}/colorado_extmask.tif"), Scene.open(tmp_path / "colorado_extmask.tif")
    window = Window(0, 0, *local.shape)
    assert not local.valid(window).all()
    np.testing.assert_array_equal(scene.valid(window), local.valid(window))


@pytest.mark.parametrize(
    "sidecar",
    ["scene.tfw", "scene.tifw", "scene.wld", "scene.tab", "scene.aux", "scene_rpc.txt", "scene_RPC.TXT"],
)
def test_the_place_beside_the_file_is_seen_through_http(
    server: str, make_raster: MakeRaster, tmp_path: Path, sidecar: str
) -> None:
    path = make_raster(noise(3, 90, 70), crs=None, transform=None)
    assert not Scene.open(path).geobox.has_transform  # the handle that is kept is of a file without a sidecar
    if "rpc" in sidecar.lower():
        one = {"LINE_OFF": 45, "SAMP_OFF": 35, "LAT_OFF": 48, "LONG_OFF": 9, "HEIGHT_OFF": 0, "HEIGHT_SCALE": 500}
        scales = dict.fromkeys(("LINE_SCALE", "SAMP_SCALE", "LAT_SCALE", "LONG_SCALE"), 50)
        terms = {
            f"{axis}_{part}_COEFF_{number}": float(number == (1 if part == "DEN" else 3))
            for axis in ("LINE", "SAMP")
            for part in ("NUM", "DEN")
            for number in range(1, 21)
        }
        lines = [f"{name}: {value}" for name, value in {**one, **scales, **terms}.items()]
        (tmp_path / sidecar).write_text("\n".join(lines))
    elif sidecar == "scene.tab":
        corners = zip((0, 70, 70, 0), (0, 0, 90, 90), strict=True)
        lines = ["!table", "!version 300", "!charset WindowsLatin1", "", "Definition Table"]
        lines += ['File "scene.tif"', 'Type "RASTER"']
        lines += [f'({4e5 + col * 10},{54e5 - row * 10}) ({col},{row}) Label "P",' for col, row in corners]
        lines[-1] = lines[-1].rstrip(",")
        lines += ['CoordSys Earth Projection 8, 104, "m", 9, 0, 0.9996, 500000, 0']
        (tmp_path / sidecar).write_text("\n".join(lines))
    elif sidecar == "scene.aux":
        profile = {"driver": "HFA", "AUX": "YES", "DEPENDENT_FILE": path.name, "dtype": "uint8", "count": 3}
        grid = {"width": 70, "height": 90, "crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 4e5, 0, -10, 54e5)}
        rasterio.open(tmp_path / sidecar, "w", **profile, **grid).close()
    else:
        (tmp_path / sidecar).write_text("10\n0\n0\n-10\n400000\n5400000\n")
    local = Scene.open(path)
    assert local.geobox.has_transform or local.geobox.rpcs
    assert Scene.open(f"{server}/scene.tif").geobox == local.geobox


@pytest.mark.parametrize("name", ["/vsicurl?use_head=no&url={}%3Fkey%3D1", "/vsicurl?url={}&use_head=no"])
def test_nothing_is_looked_for_beside_a_file_whose_options_follow_its_name(
    server: str, make_raster: MakeRaster, name: str
) -> None:
    path = name.format(quote(f"{server}/scene.tif", safe=""))
    with raster_environment(path, remote=True):
        assert get_gdal_config("GDAL_DISABLE_READDIR_ON_OPEN") == "EMPTY_DIR"  # else the server sends its masks' masks
    make_raster(noise(1, 9, 9))
    scene = Scene.open(path)
    assert scene.read(Window(0, 0, 9, 9)).valid.all()
    assert scene.local_files() == []


def test_the_mask_beside_another_file_of_the_same_mosaic_is_seen(server: str, make_raster: MakeRaster) -> None:
    make_raster(noise(1, 9, 9) + 1, transform=rasterio.Affine(10, 0, 4e5, 0, -10, 54e5))
    path = make_raster(noise(1, 9, 9) + 1, "masked.tif", transform=rasterio.Affine(10, 0, 400_090, 0, -10, 54e5))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(path, "r+") as file:
        file.write_mask(np.eye(9, dtype=bool))
    with_options = f"/vsicurl?url={quote(f'{server}/scene.tif', safe='')}&use_head=no"
    valid = geoseg.mosaic([with_options, f"{server}/masked.tif"]).valid(Window(0, 0, 9, 18))
    np.testing.assert_array_equal(valid, np.hstack([np.ones((9, 9), bool), np.eye(9, dtype=bool)]))


def test_few_files_are_looked_for_beside_a_tiff(server: str, make_raster: MakeRaster) -> None:
    """GDAL looks for thirty, each a request of up to 0.1 s."""
    make_raster(noise(3, 90, 70))
    info(f"{server}/scene.tif")
    assert json.loads(ask(f"{server}/--seen"))["missing"] <= 13


def test_a_busy_server_is_asked_again(server: str, make_raster: MakeRaster) -> None:
    make_raster(np.ones((1, 9, 9), np.uint8), "busy.tif")
    ask(f"{server}/--busy/2")
    scene = Scene.open(f"{server}/busy.tif")
    assert scene.read(Window(0, 0, 9, 9)).data.all()
    assert json.loads(ask(f"{server}/--seen"))["busy"] == 0


def test_what_the_server_lacks_is_one_line(server: str) -> None:
    with pytest.raises(SceneError, match=r"nothing\.tif.*check the address") as caught:
        Scene.open(f"{server}/nothing.tif")
    assert "\n" not in str(caught.value)


def test_what_is_to_be_done_about_a_server_is_said(server: str, tmp_path: Path) -> None:
    (tmp_path / "page.tif").write_text("<html>Log in</html>")
    with pytest.raises(SceneError, match="not a raster that GDAL knows; check that the address is the file's"):
        Scene.open(f"{server}/page.tif")
    for code, said in ((503, "has a fault of its own: try again later"), (429, "is busy: try again later")):
        assert handles._error_message("https://h/a.tif", OSError(f"HTTP response code: {code}")).endswith(said)


def test_a_server_without_ranges_is_one_line() -> None:
    line = handles._error_message("https://h/a.tif", OSError("Range downloading not supported by this server!"))
    assert line.endswith("h/a.tif: Range downloading not supported by this server; download the file first")


def test_what_a_server_lacked_once_is_found_later(server: str, make_raster: MakeRaster) -> None:
    with pytest.raises(SceneError, match=r"late\.tif"):
        Scene.open(f"{server}/late.tif")
    make_raster(noise(1, 9, 9), "late.tif")
    assert Scene.open(f"{server}/late.tif").shape == (9, 9)


@pytest.mark.parametrize("address", ["{}/{}.tif", "/vsicurl/{}/{}.tif", "s3://{}/{}.tif", "/vsis3/{}/{}.tif"])
def test_an_error_makes_gdal_forget_only_the_raster_that_failed(
    stores: str, make_raster: MakeRaster, address: str
) -> None:
    def requests() -> int:
        return int(json.loads(ask(f"{stores}/--seen"))["requests"])

    server = "bucket" if "s3" in address else f"{stores}/bucket"
    here, lacking = address.format(server, "here"), address.format(server, "lacking")
    make_raster(noise(1, 9, 9), "bucket/here.tif")
    Scene.open(here)
    with pytest.raises(SceneError, match="lacking"):
        Scene.open(lacking)
    with pytest.raises(SceneError, match="of a caller"), handles.opened(here):
        raise ValueError("of a caller")
    handles.close_kept()
    before = requests()
    with handles.opened(here) as dataset:
        assert dataset.shape == (9, 9)
    assert requests() == before
    make_raster(noise(1, 9, 9), "bucket/lacking.tif")
    assert Scene.open(lacking).shape == (9, 9)


def test_a_server_that_no_longer_answers_is_asked_once(
    server: str, make_raster: MakeRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    make_raster(noise(1, 20, 20), "gone.tif")
    scene = Scene.open(f"{server}/gone.tif")
    ask(f"{server}/--busy/99")
    for gone in (scene, scene.cut(Window(0, 0, 9, 9))):
        with pytest.raises(SceneError, match=r"cannot read .*/gone\.tif: its server does not answer"):
            gone.fingerprint()
    assert scene.local_files() == []
    assert json.loads(ask(f"{server}/--seen"))["busy"] >= 96
    ask(f"{server}/--busy/0")
    assert scene.fingerprint()


def test_a_silent_server_is_not_waited_for_unless_it_draws_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    drawn = "<GDAL_WMS><ServerUrl>https://h</ServerUrl></GDAL_WMS>"
    for path, settings in (("https://h/a.tif", {}), (drawn, {}), ("https://h/a.tif", {"GDAL_HTTP_TIMEOUT": 300})):
        with rasterio.Env(**settings), raster_environment(path, remote=True):
            told.append(get_gdal_config("GDAL_HTTP_LOW_SPEED_TIME"))
    assert told == [60, None, None]
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "99")
    with raster_environment("https://h/a.tif", remote=True, silence_s=20):
        assert int(get_gdal_config("GDAL_HTTP_LOW_SPEED_TIME")) == 99


def test_a_server_is_waited_for_less_when_asked_whether_it_answers(
    server: str, make_raster: MakeRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []
    ask_lines = fingerprint._header_lines

    def noted(*of: Any) -> list[str]:
        waits.append(int(get_gdal_config("GDAL_HTTP_LOW_SPEED_TIME")))
        return ask_lines(*of)

    monkeypatch.setattr(fingerprint, "_header_lines", noted)
    make_raster(noise(1, 20, 20))
    scene = Scene.open(f"{server}/scene.tif")
    scene.fingerprint()
    scene.statistics()
    assert waits == [20, 60, 20]
    with rasterio.Env(GDAL_HTTP_LOW_SPEED_TIME=77):
        scene.fingerprint()
    assert waits[3:] == [77, 77]


def test_a_slow_server_is_told_as_such(server: str, make_raster: MakeRaster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    make_raster(noise(1, 20, 20))
    ask(f"{server}/--slow/3")
    with pytest.raises(SceneError, match=r"the server is slow: try again, or set GDAL_HTTP_LOW_SPEED_TIME=120"):
        Scene.open(f"{server}/scene.tif")
    ask(f"{server}/--slow/0")


def test_a_scene_that_its_server_replaced_is_told(server: str, make_raster: MakeRaster) -> None:
    path = make_raster(noise(1, 9, 9), "replaced.tif")
    scene, raster = Scene.open(f"{server}/replaced.tif"), ClassRaster.open(f"{server}/replaced.tif")
    version = scene.version()
    assert not scene.is_changed(version)
    raster.check_unchanged()
    make_raster(noise(1, 9, 9, seed=1), "replaced.tif")
    os.utime(path, (1e9, 1e9))
    assert scene.is_changed(version)
    with pytest.raises(SceneError, match="has changed since the run began"):
        raster.check_unchanged()
    path.unlink()
    assert not scene.is_changed(version)  # a server that is not reached at the end does not undo the run


@pytest.mark.parametrize("kind", ["address", "part", "vrt", "vrt on the server"])
def test_a_replaced_file_of_the_same_size_is_read_again_once_its_server_told(
    server: str, make_raster: MakeRaster, tmp_path: Path, kind: str
) -> None:
    def replace_with(value: int) -> None:
        path = make_raster(np.full((1, 90, 90), value, np.uint8), "replaced.tif")
        os.utime(path, (1e9 + value, 1e9 + value))

    replace_with(1)
    scene = Scene.open(f"{server}/replaced.tif")
    if kind != "address":
        scene = scene.cut(Window(0, 0, 9, 9))
    if kind.startswith("vrt"):
        (tmp_path / "list.vrt").write_text(scene.path)
        scene = Scene.open(f"{server}/list.vrt" if "server" in kind else tmp_path / "list.vrt")
    assert scene.read(Window(0, 0, 9, 9)).data.max() == 1
    first = scene.fingerprint()
    for value in (2, 3):
        replace_with(value)
        assert scene.fingerprint() != first
        assert set(scene.read(Window(0, 0, 9, 9)).data.ravel()) == {value}


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"ETag": "1", "Last-Modified": "today"}, {"ETag": "2", "Last-Modified": "today"}, False),
        ({"ETag": "1", "Last-Modified": "today"}, {"ETag": "1", "Last-Modified": "later"}, True),
        ({"ETag": "1"}, {"ETag": "2", "Last-Modified": "today"}, True),
        ({"Last-Modified": "today", "Content-Length": "1"}, {"Last-Modified": "today", "Content-Length": "2"}, True),
        ({"ETag": "1", "Content-Length": "1"}, {"ETag": "1"}, False),
        ({"ETag": "1"}, {"ETag": "1", "Content-Length": "1"}, False),
        ({"ETag": "1"}, None, False),
    ],
)
def test_two_answers_are_of_two_versions(
    before: dict[str, str], now: dict[str, str] | None, *, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "server_stamp", lambda _name, **_settings: now)
    assert fingerprint.is_replaced("https://host/a.tif", {"https://host/a.tif": before}) is expected


def test_a_new_version_reopens_only_the_handles_of_its_own_file(
    server: str, make_raster: MakeRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = str(make_raster(noise(1, 9, 9)))
    path, other = f"{server}/scene.tif", "https://other/b.tif"
    said = {"etag": "1", "last-modified": "today"}
    monkeypatch.setattr(fingerprint, "_gdal_headers", lambda *_: dict(said))
    server_stamp(path)
    server_stamp(other)
    with handles.opened(path) as far, handles.opened(local) as near:
        said["etag"] = "2"
        server_stamp(other)
        with handles.opened(path) as far_again, handles.opened(local) as near_again:
            assert (far_again, near_again) == (far, near)
        server_stamp(path)
        with handles.opened(path) as far_again, handles.opened(local) as near_again:
            assert far_again is not far
            assert near_again is near


def test_the_fingerprint_follows_the_etag(server: str, make_raster: MakeRaster) -> None:
    make_raster(noise(1, 9, 9), "tagged.tif")
    scene = Scene.open(f"{server}/tagged.tif")
    first = scene.fingerprint()
    assert scene.fingerprint() == first
    assert scene.local_files() == []
    make_raster(noise(1, 9, 9, seed=1), "tagged.tif")
    assert scene.fingerprint() != first


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("https://host/a.tif", True),
        ("s3://bucket/a.tif", True),
        ("/vsicurl/https://host/a.tif", True),
        ("/vsizip/vsis3/bucket/a.zip/a.tif", True),
        ("zip+https://host/a.zip!a.tif", True),
        ("/vsicurl?url=https%3A%2F%2Fhost%2Fa.tif", True),
        ("a.tif", False),
        ("C:\\data\\a.tif", False),
        ("/vsizip/a.zip/a.tif", False),
        ("zip://a.zip!a.tif", False),
        ("file:///a.tif", False),
        ("<VRTDataset>https://host</VRTDataset>", False),
    ],
)
def test_remote_paths_are_told_from_local_ones(path: str, remote: bool) -> None:  # noqa: FBT001
    assert is_remote(path) == remote


def test_settings_of_the_user_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "9")
    with rasterio.Env(GDAL_HTTP_TIMEOUT=7), raster_environment(remote=True):
        told = rasterio.env.getenv()
    assert told["GDAL_HTTP_TIMEOUT"] == 7
    assert "GDAL_HTTP_MAX_RETRY" not in told
    assert told["GDAL_DISABLE_READDIR_ON_OPEN"] == "TRUE"


@pytest.fixture
def stores(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the server act as the stores of S3, Google and Azure, each with a `bucket`; return its address."""
    (tmp_path / "bucket").mkdir()
    for name, value in {
        "AWS_S3_ENDPOINT": server.removeprefix("http://"),
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_NO_SIGN_REQUEST": "YES",
        "CPL_GS_ENDPOINT": f"{server}/",
        "GS_NO_SIGN_REQUEST": "YES",
        "AZURE_STORAGE_CONNECTION_STRING": f"AccountName=a;AccountKey=a2V5;BlobEndpoint={server}",
    }.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.mark.parametrize(
    ("variables", "knows"),
    [
        ({"AWS_NO_SIGN_REQUEST": "YES"}, True),
        ({"AWS_NO_SIGN_REQUEST": "true"}, True),
        ({"AWS_NO_SIGN_REQUEST": "NO"}, False),
        ({"AWS_NO_SIGN_REQUEST": ""}, False),
        ({"AWS_ACCESS_KEY_ID": "key", "AWS_NO_SIGN_REQUEST": "0"}, True),
        ({"AWS_ACCESS_KEY_ID": ""}, False),
    ],
)
def test_gdal_opens_objects_itself_if_it_knows_the_keys(
    variables: dict[str, str],
    knows: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_NO_SIGN_REQUEST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert gdal_name("s3://bucket/a.tif") == ("/vsis3/bucket/a.tif" if knows else "s3://bucket/a.tif")


@pytest.mark.usefixtures("stores")
def test_s3_paths_are_read_through_gdals_own_client(make_raster: MakeRaster, tmp_path: Path) -> None:
    pixels = noise(3, 300, 200)
    make_raster(pixels).rename(tmp_path / "bucket" / "scene.tif")
    scene = Scene.open("s3://bucket/scene.tif")
    np.testing.assert_array_equal(scene.read(Window(0, 0, 300, 200)).data, pixels)
    assert scene.local_files() == []


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_what_is_not_beside_an_object_is_looked_for_once(
    stores: str, make_raster: MakeRaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.delenv("AWS_NO_SIGN_REQUEST")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (tmp_path / "bucket" / scheme).mkdir()
    make_raster(noise(1, 9, 9)).rename(tmp_path / "bucket" / scheme / "scene.tif")

    def missing() -> int:
        return int(json.loads(ask(f"{stores}/--seen"))["missing"])

    scene = Scene.open(f"{scheme}://bucket/{scheme}/scene.tif")
    scene.fingerprint()
    handles.close_kept()
    before = missing()
    scene.fingerprint()
    scene.overview()
    assert 0 < before == missing()


@pytest.mark.parametrize(
    "name", ["s3://bucket/a.tif", "/vsis3/bucket/a.tif", "gs://bucket/a.tif", "az://bucket/a.tif", "{}/bucket/a.tif"]
)
def test_a_stores_word_is_the_fingerprint_not_the_file(stores: str, make_raster: MakeRaster, name: str) -> None:
    pixels = noise(1, 2000, 2500)  # 5 MB without overviews
    path = make_raster(pixels, "bucket/a.tif")
    scene = Scene.open(name.format(stores))
    before = json.loads(ask(f"{stores}/--seen"))["bytes"]
    first = scene.fingerprint()
    assert json.loads(ask(f"{stores}/--seen"))["bytes"] - before < 100_000
    assert Scene.open(name.format(stores)).fingerprint() == first
    with rasterio.open(path, "r+") as dataset:
        dataset.write(pixels[:, :1, :1] + 1, window=((0, 1), (0, 1)))
    assert scene.fingerprint() != first


@pytest.mark.usefixtures("stores")
def test_an_archive_in_a_store_is_told_by_the_store(make_raster: MakeRaster, tmp_path: Path) -> None:
    path = make_raster(noise(1, 20, 20))
    for name in ("/vsizip/vsis3/bucket/a.zip/in/s.tif", "zip+s3://bucket/a.zip!in/s.tif"):
        with zipfile.ZipFile(tmp_path / "bucket" / "a.zip", "w") as archive:
            archive.write(path, "in/s.tif")
        scene = Scene.open(name)
        stamp = stamps(files_behind(scene.path))[0][-1]
        status = (tmp_path / "bucket" / "a.zip").stat()
        assert stamp == {"ETag": f'"{status.st_mtime_ns}"', "Content-Length": str(status.st_size)}


def test_the_store_is_asked_with_the_keys_of_the_reader(
    stores: str, make_raster: MakeRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_raster(noise(1, 9, 9), "bucket/mine.tif")
    monkeypatch.delenv("AWS_NO_SIGN_REQUEST")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with rasterio.Env(AWS_REQUEST_PAYER="requester"):
        before = json.loads(ask(f"{stores}/--seen"))["signed"]
        assert stamps(["/vsis3/bucket/mine.tif"])[0][-1]
    assert json.loads(ask(f"{stores}/--seen"))["signed"] > before


def test_what_a_server_does_not_tell_is_not_known(stores: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_stamp("s3://bucket/nothing.tif") is None
    assert server_stamp(f"{stores}/nothing.tif") is None
    assert server_stamp("hdfs://host/a.tif") is None
    monkeypatch.setattr(fingerprint, "_gdal", lambda: None)  # a GDAL that is not found
    assert server_stamp("s3://bucket/nothing.tif") is None


def test_where_gdal_is_not_found_a_web_server_is_asked_all_the_same(
    server: str, make_raster: MakeRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_raster(noise(1, 9, 9), "a.tif")
    asked = server_stamp(f"{server}/a.tif")
    assert asked
    monkeypatch.setattr(fingerprint, "_gdal", lambda: None)
    assert server_stamp(f"{server}/a.tif") == server_stamp(f"/vsicurl/{server}/a.tif") == asked


def test_a_vrt_over_http_follows_its_sources(server: str, make_raster: MakeRaster, tmp_path: Path) -> None:
    source, vrt = make_raster(noise(1, 9, 9), "far.tif"), tmp_path / "near.vrt"
    rasterio.shutil.copy(source, vrt, driver="VRT")
    text = vrt.read_text().replace('relativeToVRT="1">', 'relativeToVRT="0">')
    vrt.write_text(text.replace(">far.tif<", f">/vsicurl/{server}/far.tif<"))
    first = Scene.open(vrt).fingerprint()
    assert Scene.open(vrt).fingerprint() == first
    assert Scene.open(vrt).local_files() == [vrt.resolve()]
    make_raster(noise(1, 9, 9, seed=1), "far.tif")
    assert Scene.open(vrt).fingerprint() != first


@pytest.mark.parametrize(
    ("path", "public"),
    [
        ("https://user:pass@host:80/a b.tif?X-Sig=secret 2#f", "https://host:80/a b.tif"),
        ("/vsicurl/https://user:p@ss?@host/a.tif?X-Sig=secret", "/vsicurl/https://host/a.tif"),
        ("/vsicurl?pc_url_signing=yes&url=https%3A%2F%2Fhost%2Fa.tif%3Fsecret", "/vsicurl/https://host/a.tif"),
        ("/vsizip//vsicurl/https://u:p@host/a.zip?secret", "/vsizip//vsicurl/https://host/a.zip"),
        ("zip+https://u:p@host/a.zip?secret!a.tif", "zip+https://host/a.zip"),
        ("NETCDF:https://u:p@host/a.nc?secret:v", "NETCDF:https://host/a.nc"),
        ("GTIFF_DIR:off:12:/vsicurl/https://u:p@host/a.tif?secret", "GTIFF_DIR:off:12:/vsicurl/https://host/a.tif"),
        ("s3://bucket/a.tif", "s3://bucket/a.tif"),
        ("/data/what? #1 user@host.tif", "/data/what? #1 user@host.tif"),
        ("C:\\data\\a#1.tif", "C:\\data\\a#1.tif"),
        ("file:///data/a#1.tif", "file:///data/a#1.tif"),
        ("vrt:///data/a.tif?bands=3,2,1", "vrt:///data/a.tif?bands=3,2,1"),
        ("vrt:///vsicurl/https://u:p@host/a.tif?secret", "vrt:///vsicurl/https://host/a.tif"),
    ],
)
def test_paths_are_shown_without_secrets(path: str, public: str) -> None:
    assert shown(path) == public
    assert shown(public) == public


def test_secrets_are_left_out_of_texts() -> None:
    vrt = "<VRTDataset><a b='https://u:p@h/a?sig=1'/>/vsicurl/https://h/b.tif?t=2</VRTDataset>"
    assert shown(vrt) == "<VRTDataset><a b='https://h/a'/>/vsicurl/https://h/b.tif</VRTDataset>"
    assert without_secrets("no 'https://u:p@h/a?sig=1', sorry?") == "no 'https://h/a', sorry?"


def test_errors_hold_no_credentials(server: str) -> None:
    for path in (f"{server}/nothing.tif?X-Amz-Signature=secret", server.replace("//", "//me:secret@") + "/nothing.tif"):
        with pytest.raises(SceneError, match=r"nothing\.tif") as caught:
            Scene.open(path)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/home/ada/secret client/scene.tif", "scene.tif"),
        ("C:\\Users\\ada\\scene.tif", "scene.tif"),
        ("scene.tif", "scene.tif"),
        ("/vsizip//home/ada/all.zip/in/scene.tif", "scene.tif"),
        ("zip:///home/ada/all.zip!scene.tif", "all.zip!scene.tif"),
        ("https://ada:pw@host/data/scene.tif?token=1", "https://host/data/scene.tif"),
        ("s3://bucket/data/scene.tif", "s3://bucket/data/scene.tif"),
        (
            '<VRTDataset><SourceFilename relativeToVRT="0">/home/ada/scene.tif</SourceFilename></VRTDataset>',
            "scene.tif",
        ),
    ],
)
def test_a_map_tells_no_folders(path: str, told: str) -> None:
    assert public_name(path) == told


def test_an_error_in_a_local_vrt_makes_gdal_forget_only_its_rasters(
    server: str, make_raster: MakeRaster, tmp_path: Path
) -> None:
    for name in ("other", "inside"):
        make_raster(noise(1, 20, 20), f"{name}.tif")
    vrt = tmp_path / "local.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="20" rasterYSize="20"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">/vsicurl/{server}/inside.tif</SourceFilename></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    Scene.open(f"{server}/other.tif")
    Scene.open(vrt).overview()
    with pytest.raises(SceneError, match="of GDAL"), handles.opened(str(vrt)):
        raise RasterioIOError("of GDAL")
    handles.close_kept()
    before = json.loads(ask(f"{server}/--seen"))
    Scene.open(f"{server}/other.tif")
    assert json.loads(ask(f"{server}/--seen")) == before


def test_a_local_vrt_of_remote_rasters_is_asked_again_too(server: str, make_raster: MakeRaster, tmp_path: Path) -> None:
    make_raster(noise(1, 20, 20), "busy.tif")
    vrt = tmp_path / "local.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="20" rasterYSize="20"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">/vsicurl/{server}/busy.tif</SourceFilename></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    with handles.opened(str(vrt)):
        assert get_gdal_config("GDAL_HTTP_MAX_RETRY") == 4
    for text, far in (("{}", False), ('{"href": "https://h/a.tif"}', True)):
        item = tmp_path / f"item{far}.json"
        item.write_text(text)
        assert handles._is_far(handles._key(f'STACIT:"{item}":asset=visual')) is far
    for name in ("index.gti", "index.gti.fgb"):
        (tmp_path / name).write_bytes(b"\x00fgb\x00/vsis3/bucket/a.tif\x00")
        assert handles._is_far(handles._key(str(tmp_path / name)))
