"""The common parts of STAC items for maps and models: links, checksums, times."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

STAC_VERSION = "1.1.0"
FILE_EXTENSION = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
_SHA256_MULTIHASH = "1220"
"""The multihash code of SHA-256, and its length of 32 bytes (https://multiformats.io/multihash)."""


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file in hex. Raises OSError."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def file_facts(file: Path) -> dict[str, Any]:
    """Return size and checksum of a file, as fields of the STAC extension `file`. Raises OSError."""
    stat = file.stat()
    return {
        "file:size": stat.st_size,
        "file:checksum": _SHA256_MULTIHASH + _cached_sha256(file, stat.st_size, stat.st_mtime_ns),
    }


@lru_cache(maxsize=16)
def _cached_sha256(file: Path, _size: int, _modified: int) -> str:
    """Return the SHA-256 of a file, cached, so that writing an item again does not read its map again."""
    return sha256(file)


def href(file: Path, item: Path) -> str:
    """Return the link from an item to a file: relative if possible."""
    try:
        return "./" + Path(os.path.relpath(file, item.parent)).as_posix()
    except ValueError:  # on another Windows drive
        return file.absolute().as_uri()


def utc_text(when: datetime) -> str:
    """Return a time as in STAC, to the second; without a time zone it is taken as UTC."""
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return aware.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def modified_text(file: Path) -> str:
    """Return a file's modification time, as in STAC. Raises OSError."""
    return utc_text(datetime.fromtimestamp(file.stat().st_mtime, UTC))
