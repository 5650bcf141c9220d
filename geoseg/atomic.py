"""Atomic files, renamed once they are complete on disk; the lock of a folder with a single writer."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path

from filelock import FileLock, Timeout

from geoseg.errors import LockedError, OutputError, UsageError

try:
    import fcntl
except ImportError:  # Windows
    _FULL_SYNC = None
else:
    # On macOS fsync leaves the bytes in the disk's own cache: https://developer.apple.com/library/archive/documentation/
    # System/Conceptual/ManPages_iPhoneOS/man2/fsync.2.html
    _FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)

_IGNORES_CASE = os.name == "nt" or sys.platform == "darwin"
_URL = re.compile(r"^[a-z][a-z0-9+.-]+:/|^/vsi", re.IGNORECASE)  # Path makes one slash of two

LOCK = "lock"
"""Name of the file that locks a folder."""
_CLAIM_TRIES = 20


def write_durably(path: Path, content: bytes, workplace: Path | None = None) -> None:
    """Write a file atomically, even if the power fails. Raises OutputError, for example if the disk is full.

    `workplace` is the folder for the unfinished file, which a kill may leave behind; by default that of `path`.
    """
    temporary = (
        workplace or path.parent
    ) / f"{uuid.uuid4().hex}.tmp"  # short: `path` may have the longest name allowed
    try:
        with temporary.open("wb") as file:
            file.write(content)
            _sync(file)
        replace_durably(temporary, path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with suppress(OSError):  # whatever prevented the write prevents this too
            temporary.unlink(missing_ok=True)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary file to write, renamed to `path` once it is complete on disk. Raises OutputError."""
    try:
        handle, name = tempfile.mkstemp(suffix=path.suffix.lower(), prefix=f".{path.stem[:40]}-", dir=path.parent)
    except OSError as error:
        raise output_error(path, error) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp gives access to the owner only
        sync_file(temporary)
        replace_durably(temporary, path)
    except OSError as error:
        raise output_error(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def append_durably(path: Path, line: bytes) -> None:
    """Append a line to a file, creating it if missing; both are on disk when this returns.

    Raises OSError; then nothing is appended, not even the first bytes of a line that no longer fits on the disk.
    """
    is_new = not path.exists()
    length = 0 if is_new else path.stat().st_size
    try:
        with path.open("ab") as file:
            file.write(line)
            _sync(file)
    except OSError:
        with suppress(OSError):
            os.truncate(path, length)
        raise
    if is_new:
        sync_folder(path.parent)


def replace_durably(source: Path, target: Path) -> None:
    """Rename a file onto another and sync the folder; across disks, copy it first. Raises OSError."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _replace_on_other_disk(source, target)
    sync_folder(target.parent)


def _replace_on_other_disk(source: Path, target: Path) -> None:
    temporary = target.with_name(f".geoseg-{uuid.uuid4().hex}.tmp")
    try:
        shutil.copyfile(source, temporary)
        sync_file(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    source.unlink()


def sync_file(path: Path) -> None:
    """Sync a file written by other code to disk. Raises OSError."""
    with path.open("rb+") as file:
        _sync(file)


def _sync(file: BufferedIOBase) -> None:
    file.flush()
    if _FULL_SYNC is not None:
        try:
            fcntl.fcntl(file.fileno(), _FULL_SYNC)
        except OSError:  # a file system that lacks it
            os.fsync(file.fileno())
        return
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Sync the entries of a folder to disk, if the system can (Windows cannot open folders)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(descriptor)


def same_file(first: Path, second: Path) -> bool:
    """Return whether two paths are the same file, following links, and ignoring case if the system does."""
    try:
        return first.samefile(second)
    except OSError:  # one of them does not exist yet
        return _normalized(first) == _normalized(second)


def _normalized(path: Path) -> str:
    text = os.path.realpath(path)
    return text.casefold() if _IGNORES_CASE else text


def output_error(path: Path, error: BaseException) -> OutputError:
    """Return the error for a file that could not be written, with a way out."""
    reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "no space left" in reason.lower():
        return OutputError(f"cannot write {path}: the disk is full; free some space and run the same command again")
    if getattr(error, "errno", None) == errno.EFBIG:  # 4 GB on FAT32
        cause = "the file is too large for its disk, or for this shell (ulimit -f)"
        return OutputError(f"cannot write {path}: {cause}; choose another disk")
    return OutputError(f"cannot write {path}: {reason}; check the folder and its permissions, or choose another output")


def free_space_bytes(folder: Path) -> int:
    """Return the free space on the disk of a folder, which may not exist yet. Raises OutputError."""
    try:
        return shutil.disk_usage(_nearest_existing(folder)).free
    except OSError as error:
        raise output_error(folder, error) from error


def make_folders(*targets: str | os.PathLike[str] | None) -> None:
    """Create the parent folders of files to be written, like mkdir -p. Raises OutputError."""
    for target in targets:
        try:
            if target is not None and not _URL.match(os.fspath(target)):  # URLs are refused elsewhere
                Path(target).absolute().parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(Path(target or ""), error) from error


def probe_writable(target: str | os.PathLike[str], *, mkdir: bool = False) -> Path:
    """Return the target as a path if a file can be created there, or raise OutputError. Leaves nothing behind.

    Its folder must exist, unless it will be created (`mkdir`).
    """
    text = os.fspath(target)
    if _URL.match(text):
        raise OutputError(
            f"cannot write to {text}: outputs must be local files (maps and polygons also objects of s3://, gs:// or "
            "az://); write to a local path and upload the file"
        )
    _check_name(text)
    try:
        return _probe(Path(text), mkdir=mkdir)
    except OSError as error:  # no permission to read a folder
        raise output_error(Path(text), error) from error


def check_target(
    target: str | os.PathLike[str], parameter: str = "out", *, mkdir: bool = False, overwrite: bool, aside: str = ""
) -> Path:
    """Return the target as a path: `probe_writable` and `check_free` in one. Raises OutputError."""
    path = probe_writable(target, mkdir=mkdir)
    check_free(path, parameter, overwrite=overwrite, aside=aside)
    return path


def check_free(path: Path, parameter: str, *, overwrite: bool, aside: str = "") -> None:
    """Raise OutputError for an existing file, unless it may be replaced; `aside` says what is lost, or another way."""
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path} exists; add `overwrite=True` to replace it{aside}, or choose another `{parameter}`", parameter
        )


def check_unread(target: Path, parameter: str, *read: object) -> None:
    """Raise UsageError if a target is a file that the run reads, even if it may be replaced.

    `read` are arguments of a verb; those that are no paths are skipped. `area.gpkg|layername=one` is area.gpkg too.
    """
    texts = [os.fspath(given) for given in read if isinstance(given, str | os.PathLike)]
    if any(same_file(target, Path(path)) for text in texts for path in {text, text.partition("|")[0]}):
        raise UsageError(f"{target} is read by this run and would be replaced; choose another `{parameter}`", parameter)


def check_closed(target: Path) -> None:
    """Raise OutputError if SQLite's log is next to the target: it holds changes that the file lacks."""
    for ending in ("-wal", "-journal"):
        log = target.with_name(target.name + ending)
        if log.exists():
            raise OutputError(
                f"{target} is open in another program ({log.name} is next to it); close it there (after a crash, open "
                "and close the file once in QGIS), or choose another `out`",
                "out",
            )


def _probe(path: Path, *, mkdir: bool) -> Path:
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; give the name of a file in it")
    if path.exists() and not path.is_file():
        raise OutputError(f"cannot write {path}: it is not a regular file; choose another name")
    folder = _nearest_existing(path.parent)
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}: {folder} is a file, not a folder; choose another output")
    if not mkdir and not path.parent.is_dir():
        raise OutputError(
            f"cannot write {path}: the folder {path.parent} does not exist; check the path, or add `mkdir=True`"
        )
    with tempfile.TemporaryFile(dir=folder, prefix=".geoseg-"):
        return path


def _check_name(text: str) -> None:
    """Raise OutputError for a name that a map or its sidecar files cannot have."""
    try:
        text.encode()
        os.lstat(f"{text}.aux.xml")
    except UnicodeEncodeError:
        raise OutputError(f"cannot write {text!r}: GDAL needs file names in UTF-8; choose another output") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise output_error(Path(text), error) from error


def _nearest_existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    folder = folder.absolute()
    while not folder.exists() and folder.parent != folder:
        folder = folder.parent
    return folder


def claim(folder: Path, busy: str) -> FileLock:
    """Create a folder and return its lock, held until it is released.

    A run may remove its lock file when it exits. A lock file that is removed while being acquired locks nothing, so it
    is acquired again. Raises LockedError, with the message `busy`, if another run holds the lock; OSError if the folder
    cannot be created.
    """
    path = folder / LOCK
    for _ in range(_CLAIM_TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        before = _inode(path)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LockedError(busy, "out") from None
        after = _inode(path)
        if after is not None and before in {None, after}:
            return lock
        lock.release()
    raise LockedError(f"other runs keep acquiring and releasing {path}; try again", "out")


def release(lock: FileLock) -> None:
    """Release the lock of a folder, and remove the folder if it holds nothing else."""
    folder = Path(lock.lock_file).parent
    _remove_if_idle(folder)
    lock.release()
    if os.name == "nt":  # Windows cannot remove an open lock file
        _remove_if_idle(folder)


def _remove_if_idle(folder: Path) -> None:
    with suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {LOCK}:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def _inode(path: Path) -> int | None:
    """Return the inode number of a file; None if it does not exist, or another run is removing it."""
    try:
        return path.stat().st_ino
    except OSError:
        return None
