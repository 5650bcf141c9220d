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
        before = path.stat().st_ino if path.exists() else None
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LockedError(busy, "out") from None
        if path.exists() and before in {None, path.stat().st_ino}:
            return lock
        lock.release()
    raise LockedError(f"other runs keep taking and leaving {path}; try again", "out")
