"""What tells one state of a scene from another: the files behind it, or what a server says of them."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from pathlib import Path

import rasterio

from geoseg.raster.environment import GDAL_ERRORS, is_remote, raster_environment

_HEADERS = ("ETag", "Last-Modified", "Content-Length")
_TIMEOUT_S = 20


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


def file_stamps(names: list[str]) -> list[list[object]]:
    """Return [name, size, mtime_ns] of each local file; [name, None, None] where there is none."""
    stamps: list[list[object]] = []
    for name in names:
        try:
            status = Path(name).stat()
            stamps.append([str(Path(name).absolute()), status.st_size, status.st_mtime_ns])
        except (OSError, ValueError):
            stamps.append([name, None, None])
    return stamps


def server_stamp(url: str) -> dict[str, str] | None:
    """Return what identifies an http(s) resource: ETag, Last-Modified, Content-Length; None if the server is silent."""
    address = url.removeprefix("/vsicurl/")
    if not address.startswith(("http://", "https://")):
        return None
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310 http(s) only, as just checked
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            said = {name: answer.headers[name] for name in _HEADERS if answer.headers[name]}
    except (OSError, ValueError):
        return None
    return said if said.keys() & {"ETag", "Last-Modified"} else None


def digest(value: object) -> str:
    """Return the SHA-256 of plain values, as hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
