"""GDAL's settings for one thread: a bounded cache, patient requests, no noise on stderr."""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.env import getenv, hasenv, setenv
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geoseg.machine import is_fork
from geoseg.raster.own_data import own_gdal_options

GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError, ValueError)
"""Everything rasterio raises when GDAL fails; some of GDAL's own classes come through undressed."""

CACHE_BYTES = 64 * 1024**2
"""GDAL's block cache. Left to GDAL it takes 5 % of the machine: 445 MB were measured on one tall scene.

A row of windows is read once and then kept by the caller, so the cache need only hold the blocks that two rows share:
6 MB for a tile of a tiled file, 100 MB for one 32k wide in which a few blocks would be decoded twice.
"""

_HONEST: dict[str, object] = {"GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}
"""GDAL 3.10's quick way to read a whole PNG takes one that is cut short for whole, and gives what was in memory.

The other way takes 30 ms longer for 18 million values.
"""

_REQUESTS = {
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 20,
    "GDAL_HTTP_TIMEOUT": 120,
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    # Not EMPTY_DIR, the usual advice: it hides masks and overviews beside the file, so a scene would get another map
    # over http than from a disk. TRUE asks for the few names that matter instead of listing the folder.
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
}
_ONE_THREAD = dict.fromkeys(("GDAL_NUM_THREADS", "VRT_NUM_THREADS", "GTI_NUM_THREADS"), 1)
"""GDAL has one pool of threads for everything; in a fork it waits for those of the parent."""
_SCHEMES = "https?|ftp|s3|gs|az|adls|abfss?|oss|swift|webhdfs|hdfs"
_REMOTE = re.compile(
    rf"(^|\+|^WMT?S:)({_SCHEMES})://|/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)(_streaming)?[/?]", re.IGNORECASE
)
_NAMES_REMOTE = re.compile(rf"\b({_SCHEMES})://|/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)", re.IGNORECASE)
_LISTS, _LIST_BYTES = (".vrt", ".json", ".geojson", ".xml"), 1 << 20
"""Files that name rasters, and how much of one is looked at."""
_LOCAL = ("file", "zip", "tar", "gzip")
"""Schemes without server, in whose names ? and # are letters like others."""
_URL = re.compile(
    # The user ends at the last @ before a slash, the rest where a query or fragment begins.
    r"(?P<scheme>(?:\w+:\"?)?[^:?#]*?[a-z][a-z0-9+.-]*)://(?:[^/]*@)?(?P<rest>[^?#]*)",
    re.IGNORECASE | re.DOTALL,
)
OF_ARRAYS = "geoseg-arrays-"
"""How the temporary folders are called in which the arrays of callers stand as files."""
_TILE_INDEX = re.compile(r"<IndexDataset>(.*?)</IndexDataset>", re.DOTALL)
_VRT_SOURCE = re.compile(r"<(?:Source(?:Dataset|Filename)|ServerUrl)\b[^>]*>([^<]+)<")
_WORD_WITH_URL = re.compile(r"[^\s'\"<>=]*(?:://|/vsicurl\w*\?)[^\s'\"<>]*", re.IGNORECASE)

# Without a handler of their own, rasterio's log records of GDAL errors end on stderr; each is raised as well.
logging.getLogger("rasterio").addHandler(logging.NullHandler())


def is_remote(path: str) -> bool:
    """Say whether GDAL will fetch this path over a network: https://, s3://, /vsicurl/..."""
    if is_vrt_text(path):
        return any(map(is_remote, vrt_sources(path)))
    return _REMOTE.search(path) is not None


def is_vrt_text(path: str) -> bool:
    """Say whether a path is none but the text of a VRT, which GDAL takes in its place."""
    return path.lstrip().startswith("<")


def lists_remote(file: Path) -> bool:
    """Say whether a local VRT or STAC item names rasters that GDAL will fetch over a network."""
    if file.suffix.lower() not in _LISTS:
        return False
    with file.open("rb") as opened:
        return _NAMES_REMOTE.search(opened.read(_LIST_BYTES).decode(errors="replace")) is not None


@lru_cache(maxsize=16)
def vrt_sources(path: str) -> tuple[str, ...]:
    """Return the rasters that a text in place of a path reads, VRT or tile index, each once; none for a path."""
    if not is_vrt_text(path):
        return ()
    found = [unescape(name) for name in _VRT_SOURCE.findall(path)]  # of which some may be texts again
    found += [name for index in _TILE_INDEX.findall(path) for name in _indexed(unescape(index))]
    return tuple(dict.fromkeys(leaf for name in found for leaf in (vrt_sources(name) or (name,))))


def sources_of(path: str) -> tuple[str, ...]:
    """Return the rasters that a scene is made of: itself, or those that a text in place of a path reads."""
    return vrt_sources(path) or (path,)


def _indexed(index: str) -> list[str]:
    """Return the rasters of a tile index, of one that is the text of a GeoJSON."""
    try:
        return [str(each["properties"]["location"]) for each in json.loads(index)["features"]]
    except (ValueError, KeyError, TypeError):
        return []


def shown(path: str) -> str:
    """Return a path as it may be shown or stored: its URLs without query and user, where passwords and tokens stand.

    The text of a VRT in place of a path is shown as what it reads.
    """
    if is_vrt_text(path):
        names = vrt_sources(path)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return f"{shown(names[0])}{more}" if names else without_secrets(path)
    if OF_ARRAYS in path:
        return "the DataArray"
    if "/vsicurl?" in path or "/vsicurl_streaming?" in path:
        before, _, options = path.partition("/vsicurl")
        address = parse_qs(options.partition("?")[2]).get("url", [""])[0]
        return f"{before}/vsicurl/{shown(address)}"
    match = _URL.match(path)
    if match is None or match["scheme"].lower().endswith(_LOCAL):
        return path
    return f"{match['scheme']}://{match['rest']}"


def public_name(path: str) -> str:
    """Return what a map may tell of a raster wherever it goes: an address without secrets, or a file's name alone."""
    return shown(path) if is_remote(path) else re.split(r"[/\\]", shown(path).rstrip("/\\"))[-1]


def without_secrets(text: str) -> str:
    """Return a text with each of its URLs as `shown` returns it."""
    return _WORD_WITH_URL.sub(lambda match: shown(match[0]), text)


def _options(*, remote: bool) -> dict[str, object]:
    options = _HONEST | {"GDAL_CACHEMAX": CACHE_BYTES}
    if remote:
        options |= _REQUESTS
    # What the user set, in the shell or in a rasterio.Env of their own, is meant.
    theirs = getenv() if hasenv() else {}
    meant = {name: value for name, value in options.items() if name not in os.environ and name not in theirs}
    return meant | _ONE_THREAD if is_fork() else meant


@contextmanager
def raster_environment(*, remote: bool = False, **settings: object) -> Iterator[None]:
    """Hold GDAL's settings in this thread; cheap (40 microseconds), nests, and yields to what the user has set.

    GDAL keeps settings by thread, so every thread that reads or writes enters its own. `Scene` does so by itself.
    `settings` are GDAL's, and win.
    """
    with rasterio.Env(**{**_options(remote=remote), **settings}), _without_a_place():
        own = own_gdal_options()
        if own:  # on entering, rasterio takes the environment's for meant
            setenv(**own)
        yield


@contextmanager
def _without_a_place() -> Iterator[None]:
    """Hide rasterio's warning of a raster without a place: that is allowed, and geoseg says it in plain words.

    One entry goes into the list of filters and out of that very list: `warnings.catch_warnings` puts back whole lists,
    so that of one thread would undo, or keep, what other threads have changed meanwhile.
    """
    filters, entry = warnings.filters, ("ignore", None, NotGeoreferencedWarning, None, 0)
    filters.insert(0, entry)  # type: ignore[attr-defined] # a list, as the documentation of warnings says
    try:
        yield
    finally:
        with suppress(ValueError):  # somebody has emptied it
            filters.remove(entry)  # type: ignore[attr-defined]
