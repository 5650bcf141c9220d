"""What the STAC items of maps and of models have in common: addresses, checksums, times."""

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
"""The code of sha256, and its 32 bytes (https://multiformats.io/multihash)."""


def sha256(file: Path) -> str:
    """Return the sha256 of a file, hexadecimal. Raises OSError."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def file_facts(file: Path) -> dict[str, Any]:
    """Return size and checksum of a file in the words of the extension `file`. Raises OSError."""
    told = file.stat()
    return {
        "file:size": told.st_size,
        "file:checksum": _SHA256_MULTIHASH + _known_sha256(file, told.st_size, told.st_mtime_ns),
    }


@lru_cache(maxsize=16)
def _known_sha256(file: Path, _size: int, _modified: int) -> str:
    """Return the sha256 of a file; an item that is written again need not read its map again."""
    return sha256(file)


def href(file: Path, item: Path) -> str:
    """Return where a file is from an item's place, as a URL has it."""
    try:
        return "./" + Path(os.path.relpath(file, item.parent)).as_posix()
    except ValueError:  # another drive of Windows
        return file.absolute().as_uri()


def utc_text(when: datetime) -> str:
    """Return a time as STAC writes it, to the second; one without a zone is UTC."""
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return aware.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def modified_text(file: Path) -> str:
    """Return when a file was written. Raises OSError."""
    return utc_text(datetime.fromtimestamp(file.stat().st_mtime, UTC))
