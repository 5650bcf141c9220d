"""Scenes on a faulty web server: missing, erroring, truncated, or gone in the middle of a run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rasterio

import geoseg
from geoseg.errors import ResumeError, SceneError
from geoseg.progress import Progress
from tests.adversity.conftest import Predict
from tests.adversity.promises import check_refused, files_in
from tests.adversity.scenes import noise, write_scene


class Server:
    """A running server with one scene, on 127.0.0.1."""

    def __init__(self, scene: Path) -> None:
        self.scene = scene
        self._fault = scene.with_name("fault")
        self.fault("")
        program = [sys.executable, str(Path(__file__).with_name("faulty_server.py")), str(scene), str(self._fault)]
        self._process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def fault(self, what: str) -> None:
        """Make the following responses fail: with a status, or cut short."""
        self._fault.write_text(what)

    def close(self) -> None:
        """Stop the server process."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    monkeypatch.setenv("VSI_CACHE", "FALSE")
    monkeypatch.setenv("CPL_VSIL_CURL_CACHE_SIZE", "32768")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = Server(write_scene(tmp_path / "scene.tif", noise(640, 260)))
    yield running
    running.close()


def test_a_scene_on_a_server(predict: Predict, server: Server, folder: Path, tmp_path: Path) -> None:
    assert predict(server.url, "--out", folder / "far.tif").code == 0
    assert predict(tmp_path / "scene.tif", "--out", folder / "near.tif").code == 0
    with rasterio.open(folder / "far.tif") as far, rasterio.open(folder / "near.tif") as near:
        assert (far.read() == near.read()).all()
        assert far.transform == near.transform


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_server_that_refuses(predict: Predict, server: Server, folder: Path, status: int) -> None:
    server.fault(str(status))
    line = check_refused(predict(server.url, "--out", folder / "map.tif"), 1, folder, {})
    assert ("try again later" if status >= 500 else "check the address") in line


def test_bodies_cut_short(predict: Predict, server: Server, folder: Path) -> None:
    server.fault("cut")
    check_refused(predict(server.url, "--out", folder / "map.tif"), 1, folder, {})


def test_an_address_where_nobody_listens(predict: Predict, server: Server, folder: Path) -> None:
    server.close()
    check_refused(predict(server.url, "--out", folder / "map.tif"), 1, folder, {})


@pytest.mark.parametrize("fault", ["dies", "500", "cut"])
def test_a_server_that_fails_in_the_middle(
    server: Server, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("geoseg.inference.pipeline.slabs._CHUNK_PX", 1)  # a row of blocks: the end is read late

    def fail(state: Progress) -> None:
        if state.pieces_done == 3:
            if fault == "dies":
                server.close()
            else:
                server.fault(fault)

    with pytest.raises(SceneError):
        geoseg.predict(server.url, folder / "map.tif", model=model, tile=64, workers=1, progress=fail)
    assert not (folder / "map.tif").exists()
    assert any("labels_" in name for name in files_in(folder))
    if fault != "dies":
        server.fault("")
        counts: list[int] = []
        geoseg.predict(
            server.url,
            folder / "map.tif",
            model=model,
            tile=64,
            progress=lambda state: counts.append(state.pieces_done),
        )
        assert counts[0] >= 3


def test_another_file_at_the_same_address_does_not_go_on(server: Server, folder: Path, model: Path) -> None:
    def stop(state: Progress) -> None:
        if state.pieces_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        geoseg.predict(server.url, folder / "map.tif", model=model, tile=64, workers=1, progress=stop)
    server.scene.write_bytes(server.scene.read_bytes() + b"\0")
    with pytest.raises(ResumeError, match="scene"):
        geoseg.predict(server.url, folder / "map.tif", model=model, tile=64)
