"""Object stores (S3, Google Cloud, Azure): objects written atomically, and a lock that a dead owner loses.

An object appears only when complete, so listing a folder shows what is finished. obstore talks to the stores.
Credentials and endpoints come from where the stores' own tools look for them (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL,
AWS_PROFILE with boto3, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME, ...), and from GDAL's settings
(AWS_S3_ENDPOINT, AWS_HTTPS, AWS_NO_SIGN_REQUEST), so that a scene and its map can share them.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from geoseg.errors import GeosegError, LockedError, OutputError, UsageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az", "azure": "az"}
_URL = re.compile(r"^([a-z0-9]+)://([^/?#]+)/([^/?#][^?#]*)$", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_RETRIES, _RETRY_S = 12, 120
_QUICK_S = 10.0
"""A request that fails sooner is sent once more."""
_BEAT_S, _DEAD_S = 20.0, 120.0
"""Interval at which an owner renews its lock, and the silence after which it has lost it."""
_BACK_OFF = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2}
_ADDRESS_VARIABLES = {
    "gs": ("GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_BASE_URL"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""Variables read by obstore itself that give a store's address; one without TLS is allowed."""
_AZURE = {
    "AccountName": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
    "AccountKey": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_KEY"),
    "SharedAccessSignature": ("AZURE_STORAGE_SAS_TOKEN",),
    "BlobEndpoint": ("AZURE_STORAGE_ENDPOINT",),
}
"""Fields of a connection string, and their variables of obstore, of GDAL and of Azure's own command line."""
_AZURE_SETTINGS = dict(zip(_AZURE, ("account_name", "account_key", "sas_token", "endpoint"), strict=True))
"""obstore's names of these fields."""
_TRUE = {"YES", "TRUE", "ON", "1"}
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_NO_SIGN_REQUEST=YES",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
}
_AT_ONCE = 16
_LARGE_BYTES = 64 << 20
"""Files of this size or larger are uploaded in pieces."""
_Result = TypeVar("_Result")


def is_store(target: str | os.PathLike[str]) -> bool:
    """Return whether a path names a key of an object store."""
    scheme, separator, _ = os.fspath(target).partition("://")
    return bool(separator) and scheme.lower() in _SCHEMES


@dataclass(frozen=True, slots=True)
class Key:
    """The name of an object: s3://bucket/maps/landcover.tif."""

    scheme: str
    """s3, gs or az."""
    bucket: str
    """On Azure, the container."""
    path: PurePosixPath

    @classmethod
    def of(cls, url: str | os.PathLike[str], parameter: str = "out") -> Key:
        """Return the key of a URL; UsageError if it does not name one."""
        match = _URL.match(os.fspath(url))
        if match is None or match[1].lower() not in _SCHEMES:
            raise UsageError(
                f"`{parameter}` must be a URL such as s3://bucket/folder/name.tif (or gs://, az://), "
                f"got {os.fspath(url)!r:.120}",
                parameter,
            )
        path = PurePosixPath(match[3])
        if not path.name or match[3].endswith("/") or ".." in path.parts or "//" in match[3]:
            raise UsageError(
                f"`{parameter}` must name one object, got {os.fspath(url)!r:.120}; end it with a file name", parameter
            )
        return cls(_SCHEMES[match[1].lower()], match[2], path)

    def __str__(self) -> str:
        """Return the URL."""
        return f"{self.scheme}://{self.bucket}/{self.path}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.name

    def beside(self, name: str) -> Key:
        """Return another key in the same folder."""
        return Key(self.scheme, self.bucket, self.path.with_name(name))

    def inside(self, name: str) -> Key:
        """Return a key below this one, treated as a folder."""
        return Key(self.scheme, self.bucket, self.path / name)

    def exists(self) -> bool:
        """Return whether the object exists."""
        return self.size() is not None

    def size(self) -> int | None:
        """Return its size in bytes, or None if it does not exist."""
        facts = _head(self)
        return None if facts is None else int(facts["size"])

    def version(self) -> str | None:
        """Return a text that changes whenever the object does, or None if it does not exist."""
        facts = _head(self)
        return None if facts is None else f"{facts['e_tag']} {facts['last_modified']}"

    def read(self) -> bytes | None:
        """Return the object's content, or None if it does not exist."""

        def get(obstore: ModuleType, store: ObjectStore) -> bytes | None:
            try:
                return bytes(obstore.get(store, str(self.path)).bytes())
            except FileNotFoundError:
                return None

        return _request(self, get)

    def write(self, content: bytes) -> None:
        """Write the object in one piece, replacing an existing one atomically."""
        _request(self, lambda obstore, store: obstore.put(store, str(self.path), content, use_multipart=False))

    def upload(self, file: Path) -> None:
        """Upload a file; the object appears, or replaces an existing one, only when complete."""
        is_large = file.stat().st_size >= _LARGE_BYTES
        _request(self, lambda obstore, store: obstore.put(store, str(self.path), file, use_multipart=is_large))

    def download(self, file: Path) -> None:
        """Download the object atomically, keeping its modification time. OutputError if it does not exist."""
        unfinished = file.with_name(f"{uuid.uuid4().hex}.tmp")

        def fetch(obstore: ModuleType, store: ObjectStore) -> None:
            response = obstore.get(store, str(self.path))
            written = response.meta["last_modified"].timestamp()
            with unfinished.open("wb") as opened:
                for piece in response.stream(min_chunk_size=8 << 20):
                    opened.write(piece)
            os.utime(unfinished, (written, written))

        try:
            _request(self, fetch)
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)

    def names(self) -> dict[str, int]:
        """Return the objects below this folder, with sizes in bytes by relative path."""
        prefix = f"{self.path}/"

        def listed(obstore: ModuleType, store: ObjectStore) -> dict[str, int]:
            pages = obstore.list(store, prefix=prefix, chunk_size=1000)
            return {str(item["path"])[len(prefix) :]: int(item["size"]) for page in pages for item in page}

        return _request(self, listed)

    def remove(self, names: Iterable[str] | None = None) -> None:
        """Remove the object, or the objects of these names below it; missing ones are ignored."""
        paths = [str(self.path)] if names is None else [f"{self.path}/{name}" for name in names]

        def delete(obstore: ModuleType, store: ObjectStore) -> None:
            with suppress(FileNotFoundError):
                obstore.delete(store, paths)
                return
            # Google's stops at a missing one, such as one whose answer was lost
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(partial(delete_one, obstore, store), paths))

        def delete_one(obstore: ModuleType, store: ObjectStore, path: str) -> None:
            with suppress(FileNotFoundError):
                obstore.delete(store, path)

        _request(self, delete)


@contextmanager
def claimed(key: Key, busy: str) -> Iterator[None]:
    """Hold the lock represented by an object; its owner renews it, or loses it after a while.

    Raises LockedError if another run holds it, `busy` and when it would expire; OutputError if the store refuses.
    """
    owner = json.dumps({"run": uuid.uuid4().hex, "host": socket.gethostname(), "process": os.getpid()}).encode()
    _take(key, owner, busy)
    released = threading.Event()
    renewal = threading.Thread(target=_renew, args=(key, owner, released), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        released.set()
        renewal.join()
        with suppress(GeosegError):  # the run has ended, and a lock that is not renewed is lost
            if key.read() == owner:
                key.remove()


def _take(key: Key, owner: bytes, busy: str) -> None:
    def create(obstore: ModuleType, store: ObjectStore) -> bool:
        try:
            obstore.put(store, str(key.path), owner, mode="create", use_multipart=False)
        except obstore.exceptions.AlreadyExistsError:
            return False
        return True

    if _request(key, create) or key.read() == owner:  # the answer to a first try may have been lost
        return
    facts = _head(key)
    left_s = _DEAD_S if facts is None else facts["last_modified"].timestamp() + _DEAD_S - time.time()
    if facts is not None and left_s > 0:
        raise LockedError(f"{busy}; if that run was killed, its lock expires in {left_s:.0f} s", "out")
    key.remove()
    if not _request(key, create) and key.read() != owner:
        raise LockedError(busy, "out")


def _head(key: Key) -> dict[str, Any] | None:
    """Return what the store knows of an object, or None if it does not exist."""

    def ask(obstore: ModuleType, store: ObjectStore) -> dict[str, Any] | None:
        with suppress(FileNotFoundError):
            return dict(obstore.head(store, str(key.path)))
        return None

    return _request(key, ask)


def _renew(key: Key, owner: bytes, released: threading.Event) -> None:
    while not released.wait(_BEAT_S):
        try:
            if key.read() == owner:
                key.write(owner)
        except GeosegError:  # the next renewal may succeed; the run itself notices at its next request
            continue


@lru_cache(maxsize=8)
def _opened(scheme: str, bucket: str, settings: tuple[tuple[str, str], ...], *, allow_http: bool) -> ObjectStore:
    from obstore.store import from_url  # noqa: PLC0415 - see _request

    options: dict[str, Any] = dict(settings)
    if scheme == "s3" and not os.environ.get("AWS_ACCESS_KEY_ID") and "skip_signature" not in options:
        options |= _profile()
    options["retry_config"] = {
        "max_retries": _RETRIES,
        "retry_timeout": timedelta(seconds=_RETRY_S),
        "backoff": _BACK_OFF,
    }
    options["client_options"] = {"allow_http": allow_http, "timeout": "120 seconds", "connect_timeout": "20 seconds"}
    opened: ObjectStore = from_url(f"{scheme}://{bucket}", **options)
    return opened


def _store(key: Key) -> ObjectStore:
    settings = _settings(key.scheme)
    addresses = [
        settings.get("endpoint", ""),
        *(os.environ.get(name, "") for name in _ADDRESS_VARIABLES.get(key.scheme, ())),
    ]
    allow_http = any("http://" in place for place in addresses)
    return _opened(key.scheme, key.bucket, tuple(sorted(settings.items())), allow_http=allow_http)


def _settings(scheme: str) -> dict[str, str]:
    """Return the settings in the environment that obstore does not read itself: GDAL's, and the endpoint of S3."""
    if scheme == "az":
        return {_AZURE_SETTINGS[field]: value for field, value in azure_account().items()}
    if scheme != "s3":
        return {}
    settings: dict[str, str] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint is None and (host := os.environ.get("AWS_S3_ENDPOINT")):
        secure = os.environ.get("AWS_HTTPS", "YES").upper() not in {"NO", "FALSE", "OFF", "0"}
        endpoint = host if "://" in host else f"{'https' if secure else 'http'}://{host}"
    if endpoint:
        settings["endpoint"] = endpoint.rstrip("/")
    if is_unsigned():
        settings["skip_signature"] = "true"
    settings["region"] = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return settings


def is_unsigned() -> bool:
    """Return whether the environment asks for requests to S3 without keys."""
    return os.environ.get("AWS_NO_SIGN_REQUEST", "").upper() in _TRUE


def azure_account() -> dict[str, str]:
    """Return the Azure account in the environment as fields of a connection string.

    A connection string counts unless obstore's name of the account, AZURE_STORAGE_ACCOUNT_NAME, is set.
    """
    is_named = bool(os.environ.get(_AZURE["AccountName"][0]))
    text = "" if is_named else os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    stated = dict(field.partition("=")[::2] for field in text.split(";"))
    found = {
        field: stated.get(field) or next(filter(None, map(os.environ.get, names)), "")
        for field, names in _AZURE.items()
    }
    return {field: value for field, value in found.items() if value}


def _profile() -> dict[str, Any]:
    """Return the credentials of ~/.aws or of a role if boto3 is installed; obstore itself uses the machine's role."""
    try:
        from boto3 import Session  # noqa: PLC0415 - optional
        from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415 - see _request
    except ImportError:
        return {}
    session = Session()
    return {"credential_provider": Boto3CredentialProvider(session)} if session.get_credentials() else {}


def _request(key: Key, send: Callable[[ModuleType, ObjectStore], _Result]) -> _Result:
    """Call `send` with the package obstore and the key's store, and return the store's answer.

    A one-line OutputError if obstore is not installed, or the store refuses, or does not respond after all retries.
    """
    try:
        import obstore  # noqa: PLC0415 - only those who use a store need it
        from obstore.exceptions import BaseError, GenericError  # noqa: PLC0415 - as above
    except ImportError:
        raise OutputError(
            f"{key} is in an object store, which needs the package obstore; run pip install 'geoseg[store]'"
        ) from None
    began = time.monotonic()
    try:
        try:
            return send(obstore, _store(key))
        except GenericError:  # obstore does not repeat a POST whose connection was lost, such as a removal
            if time.monotonic() - began > _QUICK_S:
                raise
            return send(obstore, _store(key))
    except FileNotFoundError as fault:
        if _lacks_bucket(str(fault)):
            raise OutputError(f"cannot use {key}: {_reason(key, str(fault))}") from None
        raise OutputError(f"{key} does not exist; check the bucket and the key") from None
    except (BaseError, PermissionError, OSError, ValueError) as fault:
        if (code := getattr(fault, "errno", None)) is not None:  # of the file on the disk
            way_out = "check the folder for temporary files"
            if code in (errno.ENOSPC, errno.EDQUOT):
                way_out = "free some space, or set TMPDIR to another folder for temporary files"
            raise OutputError(f"cannot copy {key} to the disk: {os.strerror(code)}; {way_out}") from None
        raise OutputError(f"cannot use {key}: {_reason(key, str(fault))}") from None


def _reason(key: Key, fault: str) -> str:
    """Return the reason in a store's long error message in plain words, with a way out."""
    text = " ".join(fault.split())
    message = _ADDRESS.sub("", text).lower()  # 403 may be part of a folder's name
    if _lacks_bucket(text):
        return f"the bucket {key.bucket} does not exist; check its name, or create it"
    if re.search(r"accessdenied|forbidden|unauthenticated|permission|\b40[13]\b", message):
        return "permission denied; check the credentials in the environment and the bucket's policy"
    if "//169.254.169.254/" in text or re.search(r"credential|metadata|imds|account must be", message):
        return f"no credentials were found; set {_CREDENTIALS[key.scheme]}"
    if re.search(r"slow ?down|timed out|retries|\b50[0234]\b", message):
        return "the store does not respond after several retries; try again later"
    return f"{text:.200}; check the network, and try again"


def _lacks_bucket(fault: str) -> bool:
    return any(word in fault.lower() for word in ("nosuchbucket", "bucketnotfound", "containernotfound"))


@contextmanager
def staged(
    target: str | os.PathLike[str],
    parameter: str = "out",
    *,
    overwrite: bool = False,
    check: Callable[[Key], None] | None = None,
) -> Iterator[str | os.PathLike[str]]:
    """Yield a local path to write instead of a key; on exit without an error, upload the files there.

    Its sidecar files (`.aux.xml`, `.qml`, ...) are uploaded first, the target last. A local target is yielded
    unchanged. Raises what `check` raises for the key, and OutputError if the key exists, unless `overwrite`, if another
    program writes it meanwhile, or if the store refuses.
    """
    if not is_store(target):
        yield target
        return
    key = Key.of(target, parameter)
    version = key.version()
    if check is not None:
        check(key)
    check_free(key, parameter, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
        local = Path(folder) / key.name
        yield local
        check_unchanged(key, version, parameter)
        upload_with_sidecars(local, key)


def check_unchanged(key: Key, version: str | None, parameter: str) -> None:
    """Raise OutputError if an object is no longer of this version; None if it did not exist."""
    if key.version() != version:
        raise OutputError(
            f"another program wrote {key} during this run, so it is left as it is; choose another `{parameter}`",
            parameter,
        )


def check_free(key: Key, parameter: str, *, overwrite: bool) -> None:
    """Raise OutputError for a key that exists, unless it may be replaced, or cannot be written."""
    probe = key.beside(f".geoseg-{key.name}.tmp")  # the next run removes one that a lost connection left
    probe.write(b"")
    probe.remove()
    if not overwrite and key.exists():
        raise OutputError(
            f"{key} exists; add `overwrite=True` to replace it, or choose another `{parameter}`", parameter
        )


def upload_with_sidecars(local: Path, key: Key) -> None:
    """Upload a file after all others in its folder, which become its siblings."""
    for path in sorted(local.parent.iterdir()):
        if path != local and path.is_file():
            key.beside(path.name).upload(path)
    key.upload(local)
