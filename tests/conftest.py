"""Fixtures for all tests."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.buckets import Bucket

# No deadline: an example's time only shows how busy the machine is.
settings.register_profile("geoseg", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("geoseg")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background, where children ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


os.environ.pop("GEOSEG_MODEL", None)  # tests must not use the developer's own default model

# Many tests start processes: like the tests, they read the compiled kernels and compile nothing.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


gc.disable()  # seven thousand collected tests and the imported libraries stay until the end: none of it is garbage


def pytest_collection_finish() -> None:
    """Turn garbage collection on, and leave out the objects that exist already.

    pytest collects several times at its end; with those objects each collection takes a second or two.
    """
    gc.enable()
    gc.set_threshold(5000, 20, 20)  # networks are thousands of objects that stay until their test ends
    gc.freeze()
    atexit.register(gc.unfreeze)  # nanobind reports objects that are never freed as leaks


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real imagery next to the checkout; skip the test if it is absent."""
    folder = Path(os.environ.get("GEOSEG_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real imagery is not here: {folder} (set GEOSEG_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Skip syncing to disk: no test cuts the power, and 20,000 syncs take a minute.

    The durability tests still record what is synced and in which order.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", os.fstat)  # fails for the same descriptors
        yield


@pytest.fixture
def replaced_while_open(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the files that are replaced or removed while this process holds them open: Windows refuses that."""
    links = Path("/proc/self/fd")
    if not links.is_dir():
        pytest.skip("only Linux lists a process's open files in /proc")
    found: list[str] = []

    def note(is_lost: Callable[[Path], bool]) -> None:
        opened = {link.readlink() for link in links.iterdir() if link.is_symlink()}
        found.extend(sorted(str(path) for path in opened if is_lost(path)))

    replace, remove_tree = Path.replace, shutil.rmtree

    def noting_replace(source: Path, target: Path) -> Path:
        note(lambda path: path in {source, Path(target)})
        return replace(source, target)

    def noting_rmtree(folder: str | Path, *arguments: Any, **options: Any) -> None:
        note(lambda path: path.is_relative_to(folder))
        remove_tree(folder, *arguments, **options)

    monkeypatch.setattr(Path, "replace", noting_replace)
    monkeypatch.setattr(shutil, "rmtree", noting_rmtree)
    return found


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export and import networks in this process, as QGIS does: a new process loads torch for three seconds."""
    for module in ("geoseg.model.engines.exported", "geoseg.model.weights.import_weights"):
        monkeypatch.setattr(importlib.import_module(module), "is_python", lambda: False)


@pytest.fixture
def narrow_vgg(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give VGG-11 an eighth of its channels: the tests write and read its nine million weights many times."""
    vgg = importlib.import_module("segmentation_models_pytorch.encoders.vgg").vgg_encoders["vgg11_bn"]["params"]
    network = importlib.import_module("geoseg.model.network.network")
    monkeypatch.setitem(vgg, "config", [8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"])
    monkeypatch.setitem(vgg, "out_channels", [8, 16, 32, 64, 64, 64])
    known = (network._without_memory, network._fault)  # by the name of the encoder
    for each in known:
        each.cache_clear()
    yield
    for each in known:
        each.cache_clear()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Return the address of a fake S3 server on 127.0.0.1.

    It is a separate process, because GDAL holds the GIL while it waits for a response.
    """
    pytest.importorskip("moto.server", reason="moto, the stand-in for S3, is not installed")
    command = [sys.executable, "-m", "tests.buckets"]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Return an empty bucket; environment variables point geoseg, GDAL and their child processes to it."""
    boto3 = pytest.importorskip("boto3", reason="boto3, which makes the bucket, is not installed")
    host = s3_server.removeprefix("http://")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_ENDPOINT_URL": s3_server,
        "AWS_S3_ENDPOINT": host, "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=s3_server)
    name = f"bucket-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name)
    return Bucket(client, name)
