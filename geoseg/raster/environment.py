"""GDAL's settings for one thread: a bounded cache, patient requests, no noise on stderr."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

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

# Without a handler of their own, rasterio's log records of GDAL errors end on stderr; each is raised as well.
logging.getLogger("rasterio").addHandler(logging.NullHandler())


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
