"""The lock of a folder in which one run at a time writes."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from geoseg.errors import LockedError

LOCK = "lock"
"""Name of the file."""
_TRIES = 20


def claim(folder: Path, busy: str) -> FileLock:
    """Make a folder and return its lock, held until it is released.

    A run may remove the file of its lock when it leaves. A file that is removed while it is taken locks nothing, so it
    is taken again. Raises LockedError, with the message `busy`, where another run holds it; OSError where the folder
    cannot be made.
    """
    path = folder / LOCK
    for _ in range(_TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        before = _file_number(path)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LockedError(busy, "out") from None
        now = _file_number(path)
        if now is not None and before in {None, now}:
            return lock
        lock.release()
    raise LockedError(f"other runs keep taking and leaving {path}; try again", "out")


def _file_number(path: Path) -> int | None:
    """Return what tells a file from another of its name; None where there is none, or another run removes it."""
    try:
        return path.stat().st_ino
    except OSError:
        return None
