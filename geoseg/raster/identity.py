"""What tells one state of a scene from another: the files behind it, or what a server says of them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import rasterio
from rasterio.env import getenv, hasenv

from geoseg.raster.environment import GDAL_ERRORS, is_remote, raster_environment, shown
from geoseg.raster.headers import server_stamp

_REQUESTS_AT_ONCE = 16
_STREAMS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_INSIDE = re.compile(r"(file|(zip|tar|gzip|7z|rar)(\+file)?)://|/vsi(zip|tar|gzip|7z|rar)/", re.IGNORECASE)


def files_behind(path: str) -> list[str]:
    """Return every file GDAL reads for a raster: itself, its sidecars, and through VRTs all their sources; sorted."""
    seen: set[str] = set()
    waiting = [path]
    with raster_environment(remote=is_remote(path)):
        while waiting:
            for name in _listed(waiting.pop()):
                if name not in seen:
                    seen.add(name)
                    # GDAL lists the sources of a VRT, not the sources of its sources.
                    if name.lower().endswith(".vrt") and name != path:
                        waiting.append(name)
    return sorted(seen)


def _listed(path: str) -> list[str]:
    try:
        with rasterio.open(path, sharing=False) as dataset:
            return list(dataset.files)
    except GDAL_ERRORS:  # a VRT may name a source that is gone; reading says so
        return [path]


def local_file(name: str) -> Path | None:
    """Return the file on a disk that GDAL reads for a name: for `/vsizip/a.zip/b.tif` the archive; None where none is.

    https://gdal.org/user/virtual_file_systems.html
    """
    return next((Path(place) for place in _places(name) if os.path.isfile(place)), None)  # noqa: PTH113 as below


def stream(name: str) -> str | None:
    """Return what a path is where it gives its bytes once, if ever, and keeps GDAL waiting: "a pipe"; else None."""
    for place in _places(name):
        try:
            mode = os.stat(place).st_mode  # noqa: PTH116 Path raises for the text of a VRT in place of a name
        except (OSError, ValueError):
            continue
        return next((kind for is_one, kind in _STREAMS if is_one(mode)), None)
    return None


def _places(name: str) -> Iterator[str]:
    """Yield what may be on a disk of a name: itself, or whatever of it may be an archive, the longest first."""
    inside = False
    while match := _INSIDE.match(name):
        name, inside = name[match.end() :], True
        if name.startswith("vsi"):  # /vsizip/vsicurl/... does without the second slash
            name = f"/{name}"
    if is_remote(name):
        return
    if inside:  # {} may stand around an archive, ! after it
        name = name.removeprefix("{").replace("}", "").replace("!", "/")
    yield name
    while inside and (shorter := os.path.dirname(name)) not in {"", name}:  # noqa: PTH120 as above
        yield (name := shorter)


def stamps(names: list[str]) -> list[list[object]]:
    """Return what identifies each file: its name, then size and mtime_ns, or what its server says; None if nothing."""
    settings = getenv() if hasenv() else {}  # the user's, which GDAL keeps by thread
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        return list(pool.map(partial(_stamp, settings=settings), names))


def _stamp(name: str, settings: Mapping[str, object]) -> list[object]:
    try:
        file = local_file(name)
        if file is not None:
            status = file.stat()
            return [name if Path(name) != file else str(file.absolute()), status.st_size, status.st_mtime_ns]
    except (OSError, ValueError):
        return [name, None]
    return [shown(name), server_stamp(name, settings)]


def digest(value: object) -> str:
    """Return the SHA-256 of plain values, as hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
