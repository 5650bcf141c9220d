"""Whole runs into object stores of Google and Azure: the result equals the map on the local disk."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio

import geoseg
from geoseg import store
from geoseg.errors import OutputError
from geoseg.inference.execution import stored
from geoseg.model import ModelBundle
from tests import objects_server
from tests.inference.conftest import random_pixels, write_scene
from tests.networks import tiny_bundle

pytestmark = pytest.mark.filterwarnings("ignore::geoseg.errors.GeosegWarning")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Return a function that starts a fake store of both kinds, sets the environment, and returns its address."""
    with ExitStack() as stack:

        def served(*options: str) -> str:
            program = [sys.executable, objects_server.__file__, *options]
            process = stack.enter_context(subprocess.Popen(program, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            for name, text in environment(address).items():
                monkeypatch.setenv(name, text)
            return address

        store._opened.cache_clear()
        yield served
    store._opened.cache_clear()


def environment(address: str) -> dict[str, str]:
    """Return the environment variables that point obstore and GDAL to the store."""
    nobody = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    key = base64.b64encode(b"nothing").decode()
    return {
        "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps({"gcs_base_url": address, "disable_oauth": True, **nobody}),
        "CPL_GS_ENDPOINT": f"{address}/",
        "GS_NO_SIGN_REQUEST": "YES",
        "AZURE_STORAGE_ACCOUNT_NAME": "nobody",
        "AZURE_STORAGE_ACCOUNT_KEY": key,
        "AZURE_STORAGE_ENDPOINT": address,
        "AZURE_STORAGE_CONNECTION_STRING": f"BlobEndpoint={address};AccountName=nobody;AccountKey={key}",
        "no_proxy": "127.0.0.1",
    }


def read(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - our own server
        content: bytes = answer.read()
    return content


def names(address: str) -> set[str]:
    return set(json.loads(read(f"{address}/--names")))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=64)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    (tmp_path / "scenes").mkdir()
    for name, seed in (("a", 1), ("b", 2)):
        write_scene(tmp_path / "scenes" / f"{name}.tif", random_pixels(150, 200, seed, 0.1))
    return tmp_path / "scenes"


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_runs_begin_go_on_and_end_in_other_stores(
    serve: Callable[..., str],
    scheme: str,
    scenes: Path,
    tmp_path: Path,
    bundle: ModelBundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = serve()
    local = geoseg.predict(scenes / "a.tif", tmp_path / "a.tif", model=bundle, device="onnx", tile=64)
    keep, kept = stored.PartsStore.keep, [0]

    def ends_after_three(self: stored.PartsStore, part: Path) -> None:
        kept[0] += 1
        if kept[0] == 4:
            raise OutputError("the disk is full")
        keep(self, part)

    out = f"{scheme}://box/maps/a.tif"
    with monkeypatch.context() as patched:
        patched.setattr(stored.PartsStore, "keep", ends_after_three)
        with pytest.raises(OutputError, match="the disk is full"):
            geoseg.predict(scenes / "a.tif", out, model=bundle, device="onnx", tile=64, workers=1)
    assert sum("labels_" in name for name in names(address)) == 3
    said: list[str] = []
    assert geoseg.predict(scenes / "a.tif", out, model=bundle, device="onnx", tile=64, announce=said.append) == out
    assert any("3 of 12 tiles are done" in line for line in said)
    assert names(address) == {f"/box/maps/a.{end}" for end in ("tif", "tif.aux.xml", "qml")}
    (tmp_path / "back.tif").write_bytes(read(f"{address}/box/maps/a.tif"))
    with rasterio.open(tmp_path / "back.tif") as ours, rasterio.open(local) as theirs:
        np.testing.assert_array_equal(ours.read(), theirs.read())
    for expected in (["finished", "mapped"], ["finished", "finished"]):
        found = geoseg.predict_many(scenes, f"{scheme}://box/maps", model=bundle, device="onnx", tile=64)
        assert [each.status for each in found] == expected, [each.error for each in found]


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_a_bucket_that_may_be_read_only_is_one_line_before_the_work(
    serve: Callable[..., str], scheme: str, scenes: Path, bundle: ModelBundle
) -> None:
    address = serve("--refuses", "PUT,POST,DELETE")
    with pytest.raises(OutputError, match=rf"{scheme}://box/a.tif.* permission denied") as refused:
        geoseg.predict(scenes / "a.tif", f"{scheme}://box/a.tif", model=bundle, device="onnx")
    assert len(str(refused.value).splitlines()) == 1
    assert names(address) == set()


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_a_store_that_is_busy_ten_times_gets_its_map(
    serve: Callable[..., str], scheme: str, scenes: Path, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = timedelta(milliseconds=1)
    monkeypatch.setattr(store, "_BACK_OFF", {"init_backoff": short, "max_backoff": short, "base": 2})
    address = serve("--busy", "10")
    geoseg.predict(scenes / "a.tif", f"{scheme}://box/a.tif", model=bundle, device="onnx")
    assert "/box/a.tif" in names(address)
