"""GDAL's settings for one thread: a bounded cache, requests with retries, no noise on stderr."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.env import getenv, hasenv, setenv
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.session import DummySession

from geoseg.machine import is_fork
from geoseg.raster.names import is_map_server, sources_of
from geoseg.raster.own_data import own_gdal_options
from geoseg.store import azure_account, is_unsigned

OWN_GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""What only GDAL raises."""
GDAL_ERRORS = (*OWN_GDAL_ERRORS, OSError, ValueError)
"""Everything rasterio raises when GDAL fails; some of GDAL's own classes come through unwrapped."""

CACHE_BYTES = 64 * 1024**2
"""GDAL's block cache. By default GDAL takes 5 % of the machine's memory: 445 MB on one tall scene.

The caller keeps each row of windows after reading it, so the cache need only hold the blocks that two rows share: 6 MB
for a tile of a tiled file; 100 MB for one 32k wide, where a few blocks are decoded twice instead.
"""

_HONEST: dict[str, object] = {"GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO", "VRT_NUM_THREADS": 1}
"""GDAL 3.10's fast path for a whole PNG accepts a truncated file and returns uninitialized memory; the other takes 30
ms longer for 18 million values. Its threads for a VRT lose errors: a source that is missing or damaged becomes 0.
"""
_ALWAYS: dict[str, object] = {"GDAL_NUM_THREADS": 1}
"""Not left to users, because it is often set: in GDAL's threads a damaged tile of JPEG 2000 becomes any pixels. geoseg
has readers of its own.
"""

_REQUESTS = {
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 20,
    "GDAL_HTTP_TIMEOUT": 120,
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    # Not EMPTY_DIR, the usual advice: it hides masks and overviews next to the file, so a scene would get a different
    # map over HTTP than from a disk. TRUE asks for the few names that matter instead of listing the folder.
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
}
_SILENCE = "GDAL_HTTP_LOW_SPEED_TIME"
"""A server that sends no byte for so many seconds is not waited for; map servers may draw longer."""
SILENCE_S = 60
_PATIENCE = {_SILENCE, "GDAL_HTTP_TIMEOUT"}
"""Settings with which users say themselves how long to wait."""
_PLAIN_TIFF = re.compile(r"(\w+:/|/vsi\w+)(?!.*/vsi)/[^?#]*\.tiff?", re.IGNORECASE)
_BESIDE_TIFF = ".tif,.tiff,.aux.xml,.aux,.ovr,.msk,.tfw,.tifw,.tiffw,.wld,.tab,_rpc.txt,.rpb"
"""What GDAL may look for beside a remote TIFF: of the thirty names it would try, those that change pixels or place."""
_NO_SIDECARS = re.compile(r"/vsicurl\?\S*(%3f|url=[^&\s]*&)", re.IGNORECASE)
"""A name whose end is not the file's: with the ending of a sidecar GDAL gets the file again, and asks for its own."""
_AZURE_STRING, _AZURE_NAME = "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT"
_OBJECT = re.compile(r"(s3|gs|az)://", re.IGNORECASE)
_ONE_THREAD = dict.fromkeys(("GDAL_NUM_THREADS", "VRT_NUM_THREADS", "GTI_NUM_THREADS"), 1)
"""GDAL has a single thread pool; in a fork it waits for the parent's threads."""

# Without a handler, rasterio's log records of GDAL errors end up on stderr, although each error is raised as well.
logging.getLogger("rasterio").addHandler(logging.NullHandler())


def _options(path: str, silence_s: int, *, remote: bool) -> dict[str, object]:
    user_settings = getenv() if hasenv() else {}
    given = os.environ.keys() | user_settings.keys()
    options = _HONEST | {"GDAL_CACHEMAX": CACHE_BYTES}
    if remote:
        options |= _REQUESTS
        options |= {} if is_map_server(path) or _PATIENCE & given else {_SILENCE: silence_s}
        options |= {} if any(name.startswith("AZURE_") for name in user_settings) else _azure_options()
    if remote and _PLAIN_TIFF.fullmatch(path):
        options["CPL_VSIL_CURL_ALLOWED_EXTENSIONS"] = _BESIDE_TIFF
    if remote and all(map(_NO_SIDECARS.search, sources_of(path))):
        options["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
    # Settings of the user, in the shell or in their own rasterio.Env, take precedence.
    applied = {name: value for name, value in options.items() if name not in given} | _ALWAYS
    return applied | _ONE_THREAD if is_fork() else applied


def _azure_options() -> dict[str, str]:
    """Return what GDAL does not find itself of the account in the environment, with which maps are written."""
    account = azure_account()
    if "AccountName" not in account or _AZURE_STRING in os.environ:
        return {}
    name = os.environ.get(_AZURE_NAME, account["AccountName"])
    if name != account["AccountName"]:  # scenes are in another account than maps
        return {}
    has_key = account.keys() & {"AccountKey", "SharedAccessSignature"}
    return {_AZURE_NAME: name} | ({_AZURE_STRING: ";".join(map("=".join, account.items()))} if has_key else {})


@contextmanager
def raster_environment(
    path: str = "", *, remote: bool = False, silence_s: int = SILENCE_S, **settings: object
) -> Iterator[None]:
    """Apply GDAL's settings in this thread; cheap (40 microseconds), nests, and never overrides the user's settings.

    GDAL keeps settings per thread, so every thread that reads or writes enters its own. `Scene` does so itself.
    `path`: the raster to read, if it is a single one. A server that is silent for `silence_s` is not waited for.
    `settings` are GDAL's, and take precedence over all others.
    """
    # with a session, rasterio would set the keys in the environment again each time: see `gdal_name`
    options = {**_options(path, silence_s, remote=remote), **settings}
    with rasterio.Env(session=DummySession(), **options), _without_a_place():
        own = own_gdal_options()
        if own:  # on entering, rasterio applies the environment's value
            setenv(**own)
        yield


def gdal_name(path: str) -> str:
    """Return GDAL's name of a remote file, or the path if only rasterio may know the keys, from boto3.

    Whenever rasterio opens s3://, it sets keys, and GDAL then forgets which sidecars it has looked for in vain. It cuts
    a URL at a semicolon.
    """
    if path.startswith(("http://", "https://")):
        return f"/vsicurl/{path}"
    store = _OBJECT.match(path)
    knows_keys = is_unsigned() or os.environ.get("AWS_ACCESS_KEY_ID")
    if store is None or (store[1].lower() == "s3" and not knows_keys):
        return path
    return f"/vsi{store[1].lower()}/{path[store.end() :]}"


@contextmanager
def _without_a_place() -> Iterator[None]:
    """Hide rasterio's warning about a raster that is not georeferenced: geoseg allows it, and reports it itself.

    It adds one filter to the list, and removes it from the same list. `warnings.catch_warnings` restores whole lists,
    so one thread would undo, or keep, the changes that other threads make in between.
    """
    filters, entry = warnings.filters, ("ignore", None, NotGeoreferencedWarning, None, 0)
    filters.insert(0, entry)  # type: ignore[attr-defined] # a list, as the documentation of warnings says
    try:
        yield
    finally:
        with suppress(ValueError):  # someone else has cleared the list
            filters.remove(entry)  # type: ignore[attr-defined]
