"""Models on the Hugging Face hub: `hf://owner/name[@revision][/file]`, fetched once, then identified by revision.

`huggingface_hub` fetches models into its own cache (`HF_HOME`, `HF_HUB_CACHE`); `HF_ENDPOINT` and `HF_TOKEN` are its
variables too. Nothing that it fetches is run.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import re
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from geoseg.errors import ModelError, UsageError, listed, one_line, warn
from geoseg.progress import Download, download_listener

_ADDRESS = re.compile(
    r"hf:[/\\]+(?P<owner>[\w.-]+)[/\\](?P<name>[\w.-]+)(?:@(?P<revision>[\w./-]+?))?(?:[/\\](?P<file>[^@]+))?"
)
"""One slash is enough: a Path collapses two into one."""
_KINDS = (".safetensors", ".onnx", ".pth", ".ckpt", ".pt", ".bin")
"""Model files in order of preference: the first kind that a repository has is used."""
_FOLDER = ("config.json", "model.safetensors")
_OLD_FOLDER = ("config.json", "pytorch_model.bin")
_COMMIT = re.compile("[0-9a-f]{40}")
_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class _HubAddress:
    """The address of a model on the hub; its str is the URL."""

    repository: str
    """owner/name."""
    revision: str | None = None
    """A branch, a tag or a commit; None is the main branch."""
    file: str | None = None

    def __str__(self) -> str:
        at = "" if self.revision is None else f"@{self.revision}"
        return f"hf://{self.repository}{at}" + ("" if self.file is None else f"/{self.file}")


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model from the hub, on this machine."""

    path: Path
    """The file, or the folder if the model is config.json and weights."""
    address: _HubAddress
    """The address with commit and file."""

    @property
    def title(self) -> str:
        """The name of its repository, or of its file without the suffix."""
        return Path(self.address.file).stem if self.address.file else self.address.repository.partition("/")[2]


def is_hub_address(path: str | os.PathLike[str]) -> bool:
    """Return whether a path starts with hf:/, or is just hf:."""
    return re.match(r"hf:([/\\]|$)", os.fspath(path)) is not None


def hub_address(path: str | os.PathLike[str]) -> _HubAddress:
    """Parse an address; UsageError if it is not one."""
    text = os.fspath(path)
    match = _ADDRESS.fullmatch(text)
    if match is None or ".." in text:
        typed = re.sub(r"^hf:/+", "hf://", text)  # a Path has one slash
        raise UsageError(
            f"{typed} is not the address of a model on the hub; give hf://owner/name, hf://owner/name/file or "
            "hf://owner/name@revision/file",
            "model",
        )
    file = match["file"]
    return _HubAddress(f"{match['owner']}/{match['name']}", match["revision"], file and file.replace("\\", "/"))


def fetch(path: str | os.PathLike[str]) -> HubModel:
    """Return a model from the hub, fetched now unless it is on this machine. ModelError if it is not available.

    Without a connection, a copy cached on this machine is used, with a GeosegWarning.
    """
    address = hub_address(path)
    if _COMMIT.fullmatch(address.revision or "") and (cached := _cached_model(address)) is not None:
        return cached
    reason = why_offline()
    if reason is not None:
        return _cached_or_refused(address, reason)
    try:
        commit, sizes = _listing(address)
        files = _model_files(address, [*sizes])
        pinned = replace(address, revision=commit, file=None if len(files) > 1 else files[0])
        paths = [_download(pinned, file, sizes[file]) for file in files]
        _record_commit(address, commit)
        return HubModel(paths[0].parent if len(paths) > 1 else paths[0], pinned)
    except _UnreachableError as fault:
        return _cached_or_refused(address, f"{_host()} {fault}")


class _UnreachableError(Exception):
    """The hub does not answer, or with a fault of its own; the text says which."""


def _listing(address: _HubAddress) -> tuple[str, dict[str, int | None]]:
    """Return the commit of a repository, and the sizes of its files."""
    import huggingface_hub  # noqa: PLC0415 - takes half a second, needed only for hub addresses

    with _hub_errors(address):
        info = huggingface_hub.HfApi(endpoint=_constants().ENDPOINT).model_info(
            address.repository, revision=address.revision, timeout=_TIMEOUT_S, files_metadata=True
        )
    if not isinstance(info.sha, str) or not re.fullmatch(r"[0-9a-f]{7,64}", info.sha):
        raise ModelError(f"{address}: the hub reported no revision; try again later")
    return info.sha, {file.rfilename: file.size for file in info.siblings or ()}


def _model_files(address: _HubAddress, files: Sequence[str]) -> tuple[str, ...]:
    """Return the model's files: the one asked for, those of an smp folder, or the only one of the preferred kind."""
    if address.file is not None:
        if address.file not in files:
            raise ModelError(f"{address} does not exist; {address.repository} has {_sample(files)}")
        return (address.file,)
    for folder in (_FOLDER, _OLD_FOLDER):
        if set(folder) <= set(files):
            return folder
    for kind in _KINDS:
        fitting = [name for name in files if name.lower().endswith(kind)]
        if len(fitting) == 1:
            return (fitting[0],)
        if fitting:
            raise ModelError(
                f"{address} has several models, {_sample(fitting)}; name one: hf://{address.repository}/{fitting[0]}"
            )
    raise ModelError(f"{address} has no model that geoseg reads ({', '.join(_KINDS)}); it has {_sample(files)}")


def _sample(files: Sequence[str]) -> str:
    return listed((one_line(name, 60) for name in files), 4) or "no file"


def _download(pinned: _HubAddress, file: str, size: int | None) -> Path:
    """Return a file of a commit, fetched unless it is cached; a partial download never has the final name."""
    import huggingface_hub  # noqa: PLC0415 - as above

    address = replace(pinned, file=file)
    with _hub_errors(address):
        path = Path(
            huggingface_hub.hf_hub_download(
                pinned.repository,
                file,
                revision=pinned.revision,
                endpoint=_constants().ENDPOINT,
                **_progress_options(str(address), size or 0),
            )
        )
    size_on_disk = path.stat().st_size
    if size is not None and size_on_disk != size:
        raise ModelError(
            f"{pinned}: {file} arrived with {size_on_disk} of {size} bytes; delete {path.resolve()} and try again"
        )
    return path


def _progress_options(name: str, size: int) -> dict[str, Any]:
    """Return download arguments that report progress to the listener; without one, huggingface_hub shows its bars."""
    import huggingface_hub  # noqa: PLC0415 - as above

    listener = download_listener()
    if listener is None or "tqdm_class" not in inspect.signature(huggingface_hub.hf_hub_download).parameters:
        return {}
    started_s = time.monotonic()
    bars: list[_Bar] = []

    def report() -> None:
        done = min(max(bar.n for bar in bars), size) if size else max(bar.n for bar in bars)
        listener(Download(name, done, size, time.monotonic() - started_s))

    def begin(**options: Any) -> _Bar:  # noqa: ANN401 - the arguments of tqdm
        bars.append(_Bar(int(options.get("initial") or 0), options.get("total"), report))
        return bars[-1]

    return {"tqdm_class": begin}


class _Bar:
    """A stand-in for a tqdm bar in huggingface_hub. Xet opens two (bytes sent, bytes written): the longer counts."""

    def __init__(self, initial: int, total: int | None, tell: Callable[[], None]) -> None:
        self.n, self.total = initial, total
        self._report = tell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, count: int | None = 1) -> None:
        self.n += count or 0
        self._report()

    def set_postfix_str(self, *_: object, **__: object) -> None:
        """Ignore a rate: it is reported already."""

    def refresh(self, *_: object, **__: object) -> None:
        """Draw nothing."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


@contextlib.contextmanager
def _hub_errors(address: _HubAddress) -> Iterator[None]:
    """Turn an error of the hub, or of the connection, into one line."""
    from huggingface_hub import errors  # noqa: PLC0415 - as above

    try:
        with quiet_logs(logging.ERROR, "huggingface_hub"):  # it logs its retries, whose outcome is one line here
            yield
    except errors.GatedRepoError:
        raise ModelError(
            f"{address} is gated: ask for access on its page, then log in (hf auth login, or the variable HF_TOKEN)"
        ) from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"{address} does not exist, or is private; check the name, or log in (hf auth login, or the variable "
            "HF_TOKEN)"
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"{address} does not exist: {address.repository} has no such revision") from None
    except errors.LocalEntryNotFoundError as fault:  # an EntryNotFoundError too, but the connection failed
        raise _connection_error(address, fault) from None
    except errors.EntryNotFoundError:
        raise ModelError(f"{address} does not exist: {address.repository} has no such file") from None
    except errors.HFValidationError as fault:
        raise ModelError(f"{address} is not a valid repository name: {one_line(fault, 120)}") from None
    except errors.HfHubHTTPError as fault:
        raise _response_error(address, fault) from None
    except (ModelError, MemoryError):
        raise
    except Exception as fault:  # noqa: BLE001 - the libraries that fetch raise all kinds of errors
        raise _connection_error(address, fault) from None


@contextlib.contextmanager
def quiet_logs(level: int, *names: str) -> Iterator[None]:
    """Keep libraries from logging anything below a level."""
    before = {log: log.level for log in map(logging.getLogger, names)}
    for log, own_level in before.items():
        log.setLevel(max(own_level, level))
    try:
        yield
    finally:
        for log, own_level in before.items():
            log.setLevel(own_level)


def _response_error(address: _HubAddress, fault: Any) -> Exception:  # noqa: ANN401 - the hub's own type
    status = getattr(getattr(fault, "response", None), "status_code", None)
    if status in {401, 403}:
        return ModelError(
            f"you have no access to {address} (status {status}): ask for it on its page, then log in (hf auth login, "
            "or the variable HF_TOKEN)"
        )
    if status is None or status >= 500:
        return _UnreachableError("cannot be reached" if status is None else f"answered with status {status}")
    return ModelError(f"{address} cannot be fetched (status {status}): {one_line(fault, 100)}; try again later")


def _connection_error(address: _HubAddress, fault: Exception) -> Exception:
    """Return the error for a failure outside the hub: no connection, a broken one, a full disk."""
    text = one_line(fault, 120)
    if getattr(fault, "errno", None) in {28, 122}:  # no space, over quota
        return ModelError(f"{address} cannot be cached: the disk is full; free some space, or set HF_HOME")
    if isinstance(fault, PermissionError):
        return ModelError(f"{address} cannot be cached: {text}; check the folder, or set HF_HOME")
    words = "incomplete|peer closed|should be of size|consistency|chunked|protocol|remote.*disconnect"
    if re.search(words, f"{type(fault).__name__} {text}", re.IGNORECASE):
        return ModelError(f"the download of {address} was interrupted ({text}); nothing was kept, so try again")
    return _UnreachableError("stopped answering" if "ReadTimeout" in type(fault).__name__ else "cannot be reached")


def _cached_or_refused(address: _HubAddress, why: str) -> HubModel:
    cached = _cached_model(address)
    if cached is None:
        way = "unset it and start Python again" if _constants().HF_HUB_OFFLINE else "try again when it answers"
        raise ModelError(f"{address} is not cached on this machine and {why}; {way}, or give a file")
    warn(f"{why}; using the cached copy, {cached.address}")
    return cached


def _record_commit(address: _HubAddress, commit: str) -> None:
    """Record the commit of a branch in the cache, as huggingface_hub does, to find it without a connection."""
    branch = address.revision or "main"
    note = _repository_cache(address) / "refs" / branch
    if branch != commit:
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(commit, encoding="utf-8")


def _repository_cache(address: _HubAddress) -> Path:
    return Path(_constants().HF_HUB_CACHE) / f"models--{address.repository.replace('/', '--')}"


def _cached_model(address: _HubAddress) -> HubModel | None:
    folder = _repository_cache(address)
    commit = address.revision or "main"
    with contextlib.suppress(OSError):
        commit = (folder / "refs" / commit).read_text(encoding="utf-8").strip()
    snapshot = folder / "snapshots" / commit
    if not re.fullmatch(r"[0-9a-f]{7,64}", commit) or not snapshot.is_dir():
        return None
    files = [path.relative_to(snapshot).as_posix() for path in sorted(snapshot.rglob("*")) if path.is_file()]
    try:
        chosen = _model_files(address, files)
    except ModelError:
        return None
    pinned = replace(address, revision=commit, file=None if len(chosen) > 1 else chosen[0])
    return HubModel(snapshot / (pinned.file or ""), pinned)


def _constants() -> Any:  # noqa: ANN401 - a module
    from huggingface_hub import constants  # noqa: PLC0415 - as above

    return constants


def why_offline() -> str | None:
    """Return why nothing can be fetched from the hub now; None if its host can be looked up, or only a proxy could."""
    if _constants().HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"
    import urllib.request  # noqa: PLC0415 - 20 ms, which a local model need not wait for

    if {"http", "https", "all"} & set(urllib.request.getproxies()):
        return None
    try:
        socket.getaddrinfo(_host(), 443)
    except OSError:
        return f"{_host()} cannot be reached"
    return None


def _host() -> str:
    return urllib.parse.urlsplit(_constants().ENDPOINT).hostname or ""
