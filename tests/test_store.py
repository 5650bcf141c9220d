"""Keys of an object store, against a fake S3 server on 127.0.0.1."""

from __future__ import annotations

import base64
import errno
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import rasterio
from rasterio.env import get_gdal_config
from rasterio.session import AzureSession

import geoseg
import geoseg.store
from geoseg.errors import LockedError, OutputError, UsageError
from geoseg.raster import raster_environment
from geoseg.store import Key, check_free, claimed, is_store, staged
from tests.buckets import Bucket
from tests.objects_server import Objects

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://bucket/a.tif", True),
        ("S3://bucket/a.tif", True),
        ("gs://bucket/a.tif", True),
        ("az://box/a.tif", True),
        ("abfss://box/a.tif", True),
        ("maps/a.tif", False),
        ("C:/maps/a.tif", False),
        ("C:\\maps\\a.tif", False),
        ("http://host/a.tif", False),
        ("s3:/bucket/a.tif", False),
        ("", False),
    ],
)
def test_what_is_in_a_store(path: str, expected: bool) -> None:  # noqa: FBT001 - of the table above
    assert is_store(path) is expected


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://bucket/", "s3:///a.tif", "s3://bucket/maps/", "s3://b/../a.tif", "s3://b//a.tif"]
)
def test_a_url_that_names_no_object_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="confidence") as refused:
        Key.of(url, "confidence")
    assert refused.value.parameter == "confidence"


def test_what_is_put_is_there_whole_and_goes(bucket: Bucket, tmp_path: Path) -> None:
    key = Key.of(bucket.url("maps/Größe & Fläche/a.tif"))
    assert (key.exists(), key.read(), key.size()) == (False, None, None)
    key.write(b"map")
    assert (key.exists(), key.read(), key.size()) == (True, b"map", 3)
    assert bucket.read("maps/Größe & Fläche/a.tif") == b"map"
    file = tmp_path / "file"
    file.write_bytes(b"other")
    key.upload(file)
    key.download(tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"other"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "back"}
    key.remove()
    assert bucket.names() == []
    key.remove()


def test_a_large_file_goes_in_pieces(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geoseg.store, "_LARGE_BYTES", 1 << 20)
    content = bytes(range(256)) * (24 << 12)
    (tmp_path / "large").write_bytes(content)
    Key.of(bucket.url("large")).upload(tmp_path / "large")
    assert bucket.read("large") == content


def test_the_names_below_a_folder_are_its_own(bucket: Bucket) -> None:
    folder = Key.of(bucket.url("maps/a.tif.parts"))
    for number in range(30):
        bucket.write(f"maps/a.tif.parts/{number:04d}", b"x" * (number % 3))
    bucket.write("maps/a.tif.parts2/0000", b"")
    bucket.write("maps/a.tif", b"")
    names = folder.names()
    assert names == {f"{number:04d}": number % 3 for number in range(30)}
    folder.remove([*names, "not there"])
    assert bucket.names() == ["maps/a.tif", "maps/a.tif.parts2/0000"]


def test_one_owner_at_a_time_has_the_lock(bucket: Bucket) -> None:
    lock = Key.of(bucket.url("a.parts/lock"))
    with claimed(lock, "busy"):
        with pytest.raises(LockedError, match="busy"), claimed(lock, "busy"):
            pass
        assert lock.exists()
    assert bucket.names() == []


def test_a_dead_owner_loses_its_lock(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Key.of(bucket.url("a.parts/lock"))
    lock.write(b"of a run that was killed")
    with (
        pytest.raises(LockedError, match=r"^busy; if that run was killed, its lock expires in 1[12]\d s"),
        claimed(lock, "busy"),
    ):
        pass
    monkeypatch.setattr(geoseg.store, "_DEAD_S", -1e9)
    with claimed(lock, "busy"):
        assert lock.read() != b"of a run that was killed"
    assert bucket.names() == []


def test_an_owner_whose_first_answer_was_lost_has_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    class LosesAnswers(Objects):
        """Stores what is put, and answers the first time as if it had not."""

        lost = 0

        def _send(self, status: int, content: bytes = b"", more: dict[str, str] | None = None) -> None:
            kind = type(self)
            kind.lost += self.command == "PUT"
            super()._send(500 if self.command == "PUT" and kind.lost == 1 else status, content, more)

    LosesAnswers.objects = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), LosesAnswers)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setattr(Key, "remove", lambda key: LosesAnswers.objects.pop(f"/{key.bucket}/{key.path}"))
    with claimed(Key.of("s3://bucket/lock"), "busy"):
        assert list(LosesAnswers.objects) == ["/bucket/lock"]
    assert LosesAnswers.lost == 2
    assert LosesAnswers.objects == {}
    server.shutdown()
    server.server_close()


def test_a_lock_that_cannot_be_released_hides_no_result_and_no_error(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_key: Key) -> None:
        raise OutputError("the store does not respond")

    monkeypatch.setattr(Key, "remove", fails)
    with claimed(Key.of(bucket.url("a.parts/lock")), "busy"):
        pass
    with pytest.raises(ZeroDivisionError), claimed(Key.of(bucket.url("b.parts/lock")), "busy"):
        raise ZeroDivisionError


def test_what_a_check_could_not_remove_the_next_one_does(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_key: Key) -> None:
        raise OutputError("the store does not respond")

    key = Key.of(bucket.url("maps/a.tif"))
    with monkeypatch.context() as patched:
        patched.setattr(Key, "remove", fails)
        for _ in range(2):
            with pytest.raises(OutputError, match="does not respond"):
                check_free(key, "out", overwrite=False)
    assert len(bucket.names()) == 1
    check_free(key, "out", overwrite=False)
    assert bucket.names() == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "No space left on device; free some space, or set TMPDIR to another folder for temporary files"),
        (errno.EACCES, "Permission denied; check the folder for temporary files"),
    ],
)
def test_a_fault_of_the_disk_is_no_fault_of_the_store(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: str
) -> None:
    def fails(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    bucket.write("a.tif", b"map")
    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(OutputError, match=rf"cannot copy s3://.*a\.tif to the disk: {expected}$"):
        Key.of(bucket.url("a.tif")).download(tmp_path / "a.tif")


def test_an_owner_shows_that_it_lives(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geoseg.store, "_BEAT_S", 0.01)
    lock, beats = Key.of(bucket.url("a.parts/lock")), threading.Event()
    write = Key.write

    def beaten(key: Key, content: bytes) -> None:
        write(key, content)
        beats.set()

    monkeypatch.setattr(Key, "write", beaten)
    with claimed(lock, "busy"):
        assert beats.wait(30)


def test_staged_files_become_keys_when_all_went_well(bucket: Bucket) -> None:
    with staged(bucket.url("maps/a.gpkg")) as local:
        assert Path(local).name == "a.gpkg"
        Path(local).write_bytes(b"polygons")
        Path(local).with_suffix(".qml").write_bytes(b"style")
        assert bucket.names() == []
    assert bucket.names() == ["maps/a.gpkg", "maps/a.qml"]
    assert not Path(local).parent.exists()


def test_staged_files_of_a_failure_become_nothing(bucket: Bucket) -> None:
    def fail() -> None:
        with staged(bucket.url("a.gpkg")) as local:
            Path(local).write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert bucket.names() == []


def test_an_object_is_replaced_only_when_asked(bucket: Bucket) -> None:
    bucket.write("a.gpkg", b"before")
    with pytest.raises(OutputError, match="overwrite=True") as refused, staged(bucket.url("a.gpkg")):
        pass
    assert refused.value.parameter == "out"
    with staged(bucket.url("a.gpkg"), overwrite=True) as local:
        Path(local).write_bytes(b"after")
    assert bucket.read("a.gpkg") == b"after"


def test_no_bucket_is_one_line(bucket: Bucket) -> None:
    url = bucket.url("a.gpkg").replace(bucket.name, "other-bucket")
    with pytest.raises(OutputError, match="the bucket other-bucket does not exist"), staged(url):
        pass


class _Answers(BaseHTTPRequestHandler):
    """Answers with the given status codes, then as a store that lacks the object."""

    codes: tuple[int, ...] = ()
    asked = 0

    def _answer(self) -> None:
        kind = type(self)
        code = kind.codes[kind.asked] if kind.asked < len(kind.codes) else 404
        kind.asked += 1
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET = do_PUT = _answer  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Answers]]:
    kind = type("Answers", (_Answers,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    yield kind
    server.shutdown()
    server.server_close()


def test_a_store_that_is_busy_is_asked_again(answers: type[_Answers]) -> None:
    answers.codes = (503, 503, 500)
    assert Key.of("s3://bucket/a.tif").size() is None
    assert answers.asked == 4


def test_a_store_that_is_busy_ten_times_is_asked_on(answers: type[_Answers], monkeypatch: pytest.MonkeyPatch) -> None:
    short = timedelta(milliseconds=1)
    monkeypatch.setattr(geoseg.store, "_BACK_OFF", {"init_backoff": short, "max_backoff": short, "base": 2})
    geoseg.store._opened.cache_clear()
    answers.codes = (503,) * 10
    assert Key.of("s3://bucket/a.tif").size() is None
    assert answers.asked == 11
    geoseg.store._opened.cache_clear()


def test_a_removal_whose_connection_was_lost_is_sent_again(
    answers: type[_Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_the_first(handler: _Answers) -> None:
        type(handler).asked += 1
        handler.rfile.read(int(handler.headers["Content-Length"]))
        if handler.asked == 1:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
        else:
            handler.send_response(200)
            done = b"<DeleteResult><Deleted><Key>a.tif</Key></Deleted></DeleteResult>"
            handler.send_header("Content-Length", str(len(done)))
            handler.end_headers()
            handler.wfile.write(done)

    monkeypatch.setattr(answers, "do_POST", lose_the_first, raising=False)
    Key.of("s3://bucket/a.tif").remove()
    assert answers.asked == 2


def test_a_store_that_stays_busy_is_one_line(answers: type[_Answers], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geoseg.store, "_RETRIES", 2)
    geoseg.store._opened.cache_clear()
    answers.codes = (503,) * 100
    with pytest.raises(OutputError, match="does not respond after several retries") as failed:
        Key.of("s3://bucket/a.tif").size()
    assert "\n" not in str(failed.value)
    geoseg.store._opened.cache_clear()


def test_no_permission_is_one_line(answers: type[_Answers]) -> None:
    answers.codes = (403,) * 100
    with pytest.raises(OutputError, match="permission denied"):
        Key.of("s3://bucket/a.tif").write(b"map")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "PUT http://127.0.0.1:1/b403/500/401.tif in 5.503s - connection refused",
            "check the network, and try again",
        ),
        ("PUT http://127.0.0.1:1/b/1.tif: status 403 Forbidden", "permission denied"),
        ("PUT http://127.0.0.1:1/b/1.tif: status 503", "does not respond after several retries"),
        ("error sending request for url (http://169.254.169.254/latest/api/token)", "no credentials were found"),
    ],
)
def test_a_number_in_an_address_is_no_status_of_the_store(said: str, reason: str) -> None:
    assert reason in geoseg.store._reason(Key.of("s3://b403/500/401.tif"), said)


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_googles_and_azures_stores_are_asked_in_their_words(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("Served", (Objects,), {"objects": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    nobody = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    account = json.dumps({"gcs_base_url": address, "disable_oauth": True, **nobody})
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", account)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "nobody")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"nothing").decode())
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", address)
    geoseg.store._opened.cache_clear()
    key = Key.of(f"{scheme}://box/maps/a b.tif")
    assert (key.exists(), key.read()) == (False, None)
    key.write(b"map")
    assert (key.size(), key.read()) == (3, b"map")
    key.download(tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"map"
    assert list(kind.objects) == ["/box/maps/a b.tif"]
    folder = Key.of(f"{scheme}://box/maps")
    for number in range(30):
        folder.inside(f"{number}").write(b"")
    folder.remove([name for number in range(30) for name in (f"gone {number}", f"{number}")])
    assert list(kind.objects) == ["/box/maps/a b.tif"]
    server.shutdown()
    server.server_close()
    geoseg.store._opened.cache_clear()


@pytest.mark.parametrize(
    "variables",
    [
        {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=me;AccountKey=a2U=;BlobEndpoint=http://h/me"},
        {"AZURE_STORAGE_ACCOUNT": "me", "AZURE_STORAGE_ACCESS_KEY": "a2U=", "AZURE_STORAGE_ENDPOINT": "http://h/me"},
        {"AZURE_STORAGE_ACCOUNT": "me", "AZURE_STORAGE_KEY": "a2U=", "AZURE_STORAGE_ENDPOINT": "http://h/me"},
        {"AZURE_STORAGE_ACCOUNT_NAME": "me", "AZURE_STORAGE_KEY": "a2U=", "AZURE_STORAGE_ENDPOINT": "http://h/me"},
    ],
)
def test_azures_and_gdals_words_for_an_account_are_understood(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    expected = {"account_name": "me", "account_key": "a2U=", "endpoint": "http://h/me"}
    assert geoseg.store._settings("az") == expected
    assert geoseg.store._store(Key.of("az://box/key")).config.items() >= expected.items()
    with raster_environment(remote=True):
        fields = get_gdal_config("AZURE_STORAGE_CONNECTION_STRING").split(";")
    assert set(fields) == {"AccountName=me", "AccountKey=a2U=", "BlobEndpoint=http://h/me"}


def test_gdal_understands_the_words_for_an_account_that_writes_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "me")
    for name, found in (("AZURE_STORAGE_ACCOUNT", "me"), ("AZURE_STORAGE_CONNECTION_STRING", None)):
        with raster_environment(remote=True):
            assert get_gdal_config(name) == found
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2U=")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://h/me")
    words = "AccountName=me;AccountKey=a2U=;BlobEndpoint=http://h/me"
    with raster_environment(remote=True):
        assert get_gdal_config("AZURE_STORAGE_CONNECTION_STRING") == words
    mine = AzureSession(azure_storage_account="mine", azure_storage_access_key="a2V5")
    with rasterio.Env(mine), raster_environment(remote=True):
        assert get_gdal_config("AZURE_STORAGE_ACCOUNT") == "mine"
        assert get_gdal_config("AZURE_STORAGE_CONNECTION_STRING") is None
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "another")
    with raster_environment(remote=True):
        assert get_gdal_config("AZURE_STORAGE_CONNECTION_STRING") is None


def test_an_account_that_is_not_named_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    geoseg.store._opened.cache_clear()
    with pytest.raises(OutputError, match="no credentials were found; set AZURE_STORAGE_ACCOUNT_NAME") as refused:
        Key.of("az://box/a.tif").size()
    assert len(str(refused.value).splitlines()) == 1


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    for call in (
        lambda: Key.of("s3://bucket/a.tif").size(),
        lambda: geoseg.predict(tmp_path / "scene.tif", "s3://bucket/map.tif"),
    ):
        with pytest.raises(OutputError, match=r"needs the package obstore; run pip install 'geoseg\[store\]'"):
            call()


def test_a_bucket_without_permission_ends_a_run_before_its_work(
    answers: type[_Answers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    answers.codes = (403,) * 1000
    scene = tmp_path / "scene.tif"  # does not exist, and is not checked
    for call in (
        lambda: geoseg.predict(scene, "s3://bucket/map.tif"),
        lambda: geoseg.predict_many([scene], "s3://bucket/maps"),
    ):
        with pytest.raises(OutputError, match="permission denied") as refused:
            call()
        assert len(str(refused.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"AWS_S3_ENDPOINT": "127.0.0.1:9000", "AWS_HTTPS": "NO"}, "http://127.0.0.1:9000"),
        ({"AWS_S3_ENDPOINT": "store.example"}, "https://store.example"),
        ({"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "http://b/"}, "http://b"),
    ],
)
def test_gdals_words_for_the_endpoint_are_understood(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_S3_ENDPOINT", "AWS_HTTPS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert geoseg.store._settings("s3")["endpoint"] == expected
