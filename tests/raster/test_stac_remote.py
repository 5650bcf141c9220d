"""STAC documents over HTTP: relative addresses, further pages, and servers that refuse."""

from __future__ import annotations

import base64
import gzip
import io
import json
import socketserver
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import geoseg
from geoseg.errors import SceneError
from geoseg.inference import find_scenes
from geoseg.inference.scene_list import map_names
from geoseg.raster import Scene, Window
from geoseg.raster import dataset_cache as handles
from geoseg.raster.sources import document, stac
from tests.inference.conftest import random_pixels, write_scene
from tests.networks import tiny_bundle
from tests.raster import range_server

WHOLE = Window(0, 0, 70, 90)
TIFF = "image/tiff; application=geotiff"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the test's folder and yield the address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    program = [sys.executable, Path(range_server.__file__), tmp_path]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def item(name: str, href: str, **more: Any) -> dict[str, Any]:
    bands = [{"name": color, "eo:common_name": color} for color in ("red", "green", "blue")]
    assets = {"visual": {"href": href, "type": TIFF, "bands": bands}}
    told = {"datetime": "2024-05-06T07:08:09Z"}
    return {"type": "Feature", "stac_version": "1.1.0", "id": name, "properties": told, "assets": assets} | more


def page(*items: dict[str, Any], following: str | None = None) -> str:
    links = [] if following is None else [{"rel": "next", "href": following}]
    return json.dumps({"type": "FeatureCollection", "features": list(items), "links": links})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "api").mkdir()
    for seed, name in enumerate("abc"):
        write_scene(tmp_path / "data" / f"{name}.tif", random_pixels(70, 90, seed, 0.1))
    return tmp_path


def expected(folder: Path, name: str) -> Any:
    return Scene.open(folder / "data" / f"{name}.tif").read(WHOLE).data


def test_hrefs_are_relative_to_the_items_address(server: str, folder: Path) -> None:
    (folder / "api" / "a.json").write_text(json.dumps(item("a", "../data/a.tif")))
    (folder / "api" / "b.json").write_text(json.dumps(item("b", f"{server}/data/b.tif?key=secret")))
    for name in "ab":
        scene = Scene.open(f"{server}/api/{name}.json?token=hidden", bands=["red", "green", "blue"])
        np.testing.assert_array_equal(scene.read(WHOLE).data, expected(folder, name))
    bundle = tiny_bundle(folder, window_px=64)
    out = geoseg.predict(f"{server}/api/a.json?token=hidden", folder / "a.tif", model=bundle, device="onnx", stac=True)
    alone = geoseg.predict(folder / "data" / "a.tif", folder / "alone.tif", model=bundle, device="onnx")
    np.testing.assert_array_equal(Scene.open(out).read(WHOLE).data, Scene.open(alone).read(WHOLE).data)
    told = (folder / "a.json").read_text()
    assert "hidden" not in told
    assert json.loads(told)["links"][0]["href"] == f"{server}/api/a.json"
    assert json.loads(told)["properties"]["datetime"] == "2024-05-06T07:08:09Z"


def test_the_pages_of_a_search_are_its_scenes(server: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = stac._parsed

    def counted(name: str, text: bytes) -> Any:
        parsed.append(name)
        return parse(name, text)

    monkeypatch.setattr(stac, "_parsed", counted)
    (folder / "api" / "search").write_text(
        page(item("a", "../data/a.tif"), item("b", "../data/b.tif"), following="./more.json")
    )
    (folder / "api" / "more.json").write_text(page(item("c", "../data/c.tif")))
    address = f"{server}/api/search?collections=x"
    found = find_scenes([address])
    assert found == [f"{address}#{name}" for name in "abc"]
    assert map_names(found) == ["a", "b", "c"]
    for name, scene in zip("abc", found, strict=True):
        np.testing.assert_array_equal(Scene.open(str(scene), bands=["visual"]).read(WHOLE).data, expected(folder, name))
    assert len(parsed) <= 3  # two pages, the first also to see that it is one; not for each of their items
    (folder / "api" / "round.json").write_text(page(item("a", "../data/a.tif"), following="./round.json"))
    with pytest.raises(SceneError, match="pages of items; ask for fewer"):
        find_scenes([f"{server}/api/round.json"])


def test_links_of_an_item_in_a_collection_are_relative_to_its_own_address(server: str, folder: Path) -> None:
    own = [{"rel": "self", "href": f"{server}/api/items/of/a.json"}]
    content = page(item("a", "../../../data/a.tif", links=own), item("b", "../data/b.tif"))
    (folder / "api" / "search").write_text(content)
    (folder / "saved.json").write_text(page(item("a", "../../../data/a.tif", links=own), item("b", "data/b.tif")))
    for collection in (f"{server}/api/search", folder / "saved.json"):
        for name in "ab":
            scene = Scene.open(f"{collection}#{name}", bands=["visual"])
            np.testing.assert_array_equal(scene.read(WHOLE).data, expected(folder, name))


def test_pages_that_are_no_addresses_are_not_left_out(server: str, folder: Path) -> None:
    following = {"rel": "next", "href": f"{server}/api/search", "method": "POST", "body": {"token": "2"}}
    content = json.loads(page(item("a", "../data/a.tif"))) | {"links": ["no link", following]}
    (folder / "api" / "search").write_text(json.dumps(content))
    with pytest.raises(SceneError, match=r"further pages .* asked for by POST; save the items to a file"):
        find_scenes([f"{server}/api/search"])
    content["links"].append({"rel": "next", "href": "./more.json", "method": "GET"})
    (folder / "api" / "items").write_text(json.dumps(content))
    (folder / "api" / "more.json").write_text(page(item("c", "../data/c.tif")))
    assert map_names(find_scenes([f"{server}/api/items"])) == ["a", "c"]


def test_an_asset_of_which_nothing_is_said_is_its_file(server: str, folder: Path) -> None:
    plain = item("a", "../data/a.tif")
    del plain["assets"]["visual"]["bands"]
    (folder / "api" / "a.json").write_text(json.dumps(plain))
    scene = Scene.open(f"{server}/api/a.json", bands=["visual"])
    np.testing.assert_array_equal(scene.read(WHOLE).data, expected(folder, "a"))


@pytest.mark.parametrize(
    ("name", "bands", "said"),
    [
        ("gone.json", None, r"cannot read .*/api/gone.json: HTTP status 404"),
        ("items/gone", None, r"cannot read .*/api/items/gone: HTTP status 404"),
        ("a.json", ["nir"], r"the STAC item a .* has no band nir; it has red, green, blue"),
        ("lost.json", ["red"], r"cannot read http.*/api/lost.tif"),
        ("page.json", None, "is not valid JSON, so it cannot be read as a STAC item"),
    ],
)
def test_what_a_server_does_not_have_is_one_line(
    server: str, folder: Path, name: str, bands: list[str] | None, said: str
) -> None:
    (folder / "api" / "a.json").write_text(json.dumps(item("a", "../data/a.tif")))
    (folder / "api" / "lost.json").write_text(json.dumps(item("lost", "lost.tif")))
    (folder / "api" / "page.json").write_text("<html>")
    with pytest.raises(SceneError, match=said) as raised:
        Scene.open(f"{server}/api/{name}?token=hidden", bands=bands)
    assert len(str(raised.value).splitlines()) == 1
    assert "hidden" not in str(raised.value)


def test_addresses_with_spaces_and_other_letters_are_encoded(server: str, folder: Path) -> None:
    (folder / "data" / "a.tif").rename(folder / "data" / "a b.tif")
    (folder / "api" / "ä b.json").write_text(json.dumps(item("a", "../data/a b.tif")))
    scene = Scene.open(f"{server}/api/ä b.json", bands=["visual"])
    np.testing.assert_array_equal(scene.read(WHOLE).data, expected(folder, "a b"))


@pytest.mark.parametrize("kind", [{"type": TIFF}, {}], ids=["typed", "plain"])
@pytest.mark.parametrize("name", ["a#b.tif", "a;b.tif", "a%b #c.tif"])
def test_a_mark_in_the_address_of_an_asset_is_part_of_its_name(
    server: str, folder: Path, name: str, kind: dict[str, str]
) -> None:
    (folder / "data" / "a.tif").rename(folder / "data" / name)
    for number, href in enumerate((f"../data/{name}", f"{server}/data/{name}", (folder / "data" / name).as_uri())):
        document = json.dumps(item("a", "") | {"assets": {"visual": {"href": href, **kind}}})
        (folder / "api" / f"{number}.json").write_text(document)
        (folder / "api" / "file.json").write_text(document.replace("%23", "#").replace("%20", " ").replace("%25", "%"))
        remote = [] if href.startswith("file") else [f"{server}/api/{number}.json"]
        for address in (*remote, folder / "api" / f"{number}.json", folder / "api" / "file.json"):
            scene = Scene.open(address, bands=["visual"])
            assert scene.shape == (70, 90)
            handles.close_kept()


@pytest.mark.parametrize("address", ["http://127.0.0.1:x/a.json", "http://[::1/a.json", "http:///a.json"])
def test_an_address_that_is_none_is_one_line(address: str) -> None:
    with pytest.raises(SceneError, match="check the address"):
        Scene.open(address)


@pytest.mark.parametrize("answer", [b"", b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"type":'])
def test_a_connection_that_is_lost_is_made_again(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.raster.sources.document._PAUSE_S", 0.01)
    answers = [answer, answer, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]

    class Cut(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(answers.pop(0))

    with socketserver.TCPServer(("127.0.0.1", 0), Cut) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{listening.server_address[1]}/a.json"
        assert stac._document(address) == {}
        answers[:] = [answer] * 9
        with pytest.raises(SceneError, match=r"cannot read .*b\.json: .*; check the address"):
            stac._document(address.replace("a.json", "b.json"))
        assert len(answers) == 5
        listening.shutdown()


def test_a_password_in_the_address_is_given_to_the_server() -> None:
    asked: list[str] = []
    packed = gzip.compress(b'{"type": "Feature"}')  # as some servers send it unasked

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(self.request.recv(1 << 16).decode())
            head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
            self.request.sendall(head.encode() + packed)

    with socketserver.TCPServer(("127.0.0.1", 0), Answer) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://me:p%40ss@127.0.0.1:{listening.server_address[1]}/a@b/c.json?q=@"
        assert stac._document(address) == {"type": "Feature"}
        listening.shutdown()
    assert asked[0].startswith("GET /a@b/c.json?q=@ ")
    assert f"Authorization: Basic {base64.b64encode(b'me:p@ss').decode()}" in asked[0]


@pytest.mark.parametrize(
    ("user", "settings", "expected"),
    [
        ("", {"GDAL_HTTP_BEARER": "token", "GDAL_HTTP_AUTH": "BEARER"}, "Authorization: Bearer token"),
        ("", {"GDAL_HTTP_BEARER": "token"}, None),
        ("", {"GDAL_HTTP_HEADERS": 'X-One: 1,"X-Key: 2,3"'}, "X-Key: 2,3"),
        ("", {"GDAL_HTTP_HEADERS": "X-One: 1\r\nX-Key: 2,3"}, "X-Key: 2,3"),
        ("", {"GDAL_HTTP_HEADERS": "X-One: 1\rX-Key: 2,3"}, "X-Key: 2,3"),
        ("", {"GDAL_HTTP_HEADERS": "X-Key: 2,3\n"}, "X-Key: 2,3"),
        ("", {"GDAL_HTTP_HEADERS": "X-One: 1", "GDAL_HTTP_HEADER_FILE": "headers.txt"}, "X-Key: of a file"),
        ("", {"GDAL_HTTP_BEARER": "token\n", "GDAL_HTTP_AUTH": "BEARER"}, "Authorization: Bearer token"),
        ("it:self@", {"GDAL_HTTP_HEADERS": "Authorization: X"}, "Authorization: X"),
        ("", {"GDAL_HTTP_HEADERS": "Authorization: X", "GDAL_HTTP_USERPWD": "you:pw"}, "Authorization: X"),
        ("", {"GDAL_HTTP_NETRC_FILE": "netrc"}, "me:secret"),
        ("", {"GDAL_HTTP_NETRC_FILE": "netrc", "GDAL_HTTP_NETRC": "NO"}, None),
        ("", {"GDAL_HTTP_NETRC_FILE": "netrc", "GDAL_HTTP_USERPWD": "you:pw"}, "you:pw"),
        ("", {"GDAL_HTTP_NETRC_FILE": "netrc", "GDAL_HTTP_HEADERS": "authorization: X"}, "Authorization: X"),
        ("it:self@", {"GDAL_HTTP_NETRC_FILE": "netrc"}, "it:self"),
    ],
)
def test_gdals_settings_of_requests_are_meant_for_documents_too(
    user: str, settings: dict[str, str], expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(self.request.recv(1 << 16).decode())
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    monkeypatch.chdir(tmp_path)
    Path("headers.txt").write_text("X-Two: 1\nX-Key: of a file\n")
    Path("netrc").write_text("machine 127.0.0.1 login me password secret\n")
    with socketserver.TCPServer(("127.0.0.1", 0), Answer) as listening, rasterio.Env(**settings):
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        assert stac._document(f"http://{user}127.0.0.1:{listening.server_address[1]}/a.json") == {}
        listening.shutdown()
    if expected is None:
        assert "Authorization" not in asked[0]
    elif expected.count(":") and ": " not in expected:
        assert f"Authorization: Basic {base64.b64encode(expected.encode()).decode()}\r\n" in asked[0]
    else:
        assert f"\r\n{expected}\r\n" in asked[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"GDAL_HTTP_BEARER": "SEC\nRET", "GDAL_HTTP_AUTH": "BEARER"},
        {"GDAL_HTTP_HEADERS": "X-Key: SECRET\u20ac"},
        {"GDAL_HTTP_HEADERS": ": SECRET"},
    ],
)
def test_a_header_that_is_none_is_one_line_without_its_value(settings: dict[str, str]) -> None:
    with rasterio.Env(**settings), pytest.raises(SceneError, match=r"GDAL_HTTP_BEARER is no valid header") as raised:
        stac._document("http://127.0.0.1:9/a.json")
    assert not any(part in str(raised.value) for part in ("\n", "SEC", "RET", "\u20ac"))


def test_a_request_that_is_redirected_names_the_new_host() -> None:
    request = urllib.request.Request("http://host:80/a")
    request.add_unredirected_header("Host", "host:80")
    following = document._Redirects().redirect_request(request, io.BytesIO(), 302, "", Message(), "https://host/b")
    assert following is not None
    assert following.get_header("Host") == "host"


def test_a_password_is_not_given_to_a_server_that_is_redirected_to() -> None:
    asked: list[str] = []

    class Moved(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            head = self.request.recv(1 << 16).decode()
            asked.append(head)
            place = {"/a": "/b", "/b": f"http://127.0.0.1:{other.server_address[1]}/c"}.get(head.split()[1])
            answer = (
                "200 OK\r\nContent-Length: 2\r\n\r\n{}" if place is None else f"302 Found\r\nLocation: {place}\r\n\r\n"
            )
            self.request.sendall(f"HTTP/1.0 {answer}".encode())

    with (
        socketserver.TCPServer(("127.0.0.1", 0), Moved) as first,
        socketserver.TCPServer(("127.0.0.1", 0), Moved) as other,
    ):
        for listening in (first, other):
            threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        assert stac._document(f"http://me:secret@127.0.0.1:{first.server_address[1]}/a") == {}
        for listening in (first, other):
            listening.shutdown()
    assert [(head.split()[1], "Authorization" in head) for head in asked] == [("/a", True), ("/b", True), ("/c", False)]


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("c.tif", "http://me:p%40ss@host:80/a/c.tif"),
        ("http://host/c.tif?x=1", "http://me:p%40ss@host/c.tif?x=1"),
        ("http://you:pw@host/c.tif", "http://you:pw@host/c.tif"),
        ("https://host/c.tif", "https://me:p%40ss@host/c.tif"),
        ("https://host:81/c.tif", "https://host:81/c.tif"),
        ("http://host:81/c.tif", "http://host:81/c.tif"),
        ("//host.org/c.tif", "http://host.org/c.tif"),
        ("http://host:x/c.tif", "http://host:x/c.tif"),
        ("s3://host/c.tif", "s3://host/c.tif"),
    ],
)
def test_the_password_of_a_document_is_that_of_its_links_on_the_same_server(href: str, expected: str) -> None:
    base = "http://me:p%40ss@host:80/a/b.json"
    assert stac._absolute(href, base) == expected
    links = [{"rel": "self", "href": href}, {"rel": "next", "href": href}]
    if href.startswith("http"):
        assert stac._base({"links": links}, f"{base}#a") == expected
        assert stac._next_page({"links": links}, base) == expected


def test_a_busy_server_is_asked_again(server: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.raster.sources.document._PAUSE_S", 0.01)
    (folder / "api" / "a.json").write_text(json.dumps(item("a", "../data/a.tif")))
    for busy, works in ((2, True), (9, False)):
        with urllib.request.urlopen(f"{server}/--busy/{busy}", timeout=10):  # noqa: S310 - our own server
            pass
        if works:
            assert Scene.open(f"{server}/api/a.json?try={busy}").shape == (70, 90)
        else:
            with pytest.raises(SceneError, match="HTTP status 503; try again later"):
                Scene.open(f"{server}/api/a.json?try={busy}")
