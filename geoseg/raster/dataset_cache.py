"""Open datasets, a few per thread: reopening a scene for every tile took up to eight times as long as reading it."""

from __future__ import annotations

import atexit
import os
import re
import tarfile
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path

import rasterio
from rasterio.crs import CRS
from rasterio.io import DatasetReader

from geoseg.errors import GeosegError, SceneError
from geoseg.given import TABLES
from geoseg.raster.environment import GDAL_ERRORS, OWN_GDAL_ERRORS, gdal_name, raster_environment
from geoseg.raster.fingerprint import files_behind, forget_answers, local_file, replaced, stream
from geoseg.raster.names import is_remote, is_vrt_text, lists_remote, shown, sources_of, without_secrets

_ZIPS, _TARS = (".zip", ".kmz"), (".tar", ".tar.gz", ".tgz")
_IN_ARCHIVES = {".tif", ".tiff", ".jp2", ".img", ".vrt", ".jpg", ".png"}
"""Extensions of the rasters to look for in an archive."""
_LOOKED_AT = 20
"""Files listed in a tar: listing all of a compressed one reads it to its end."""

_KEPT = 4
_STORES = "/vsis3/:/vsigs/:/vsiaz/"
_NO_FILE = -1, -1
"""In place of a file's size and time."""
_MOST_STAMPS = 64
"""Files of a mosaic checked for changes at each read, out of perhaps thousands; a run checks them all at its end."""
_BESIDE = ".aux.xml", ".msk", ".ovr", ".aux"
_OF_STEM = ".hdr", ".prj", ".wld", ".tab", ".aux", ".RPB", "_rpc.txt", "_RPC.TXT"
"""Endings of sidecars, after the name of a file, and in place of its ending; a sidecar may appear, change or go."""
_MESSAGE_CHARACTERS = 240
_OF_FEATURES = (".fgb", ".geojson", ".geojsonl", ".gml", ".gpkg", ".kml", ".parquet", ".shp")
_OF_MODELS = (".onnx", ".pt", ".pth", ".safetensors")
_OWN_REASON = re.compile(r"should be selected|not registered|not supported|unsupported", re.IGNORECASE)
"""GDAL messages that say what to do, or mean that nothing is damaged."""
_NO_GRID = "Ungridded dataset"
"""GDAL's message for a table of points that it takes for a grid of x, y and z."""
_WAYS_OUT = {
    "Range downloading not supported": "download the file first",
    "Operation too slow": "the server is slow: try again, or set GDAL_HTTP_LOW_SPEED_TIME=120",
    "got 0 bytes": "check the address and the credentials; if the server is slow, set GDAL_HTTP_LOW_SPEED_TIME=120",
    "response code: 429": "the server is busy: try again later",
    "response code: 5": "the server has a fault of its own: try again later",
    "Operation timed out": "the server is slow: try again, or set GDAL_HTTP_TIMEOUT=600",
    "Unsupported codec": "write it in Zarr format 2 (zarr_format=2), or give geoseg the xarray.DataArray in Python",
}
"""What to do after some of GDAL's messages."""
_OF_TILES, _NO_ANSWER = 'Service name="TMS"', "Unable to download"
_NOT_THERE = "does not exist in the file system"
_STAC_ITEM = re.compile(r'^STACIT:"?([^"]+?)"?(:[^:"/\\]*)*$', re.IGNORECASE)
_OF_OTHER_FILES = ("VRT", "GTI", "MRF", "Zarr", "SENTINEL2")
"""Drivers of rasters whose pixels are in other files."""
_Stamps = tuple[tuple[int, int], ...]
_Key = tuple[str, int, int, _Stamps]
_behind: dict[str, tuple[_Stamps, tuple[str, ...]]] = {}
"""The files behind each raster whose pixels are in others, and its own stamps when they were listed."""


class _OfThread(threading.local):
    """The handles of a thread."""

    def __init__(self) -> None:
        self.kept: OrderedDict[_Key, DatasetReader] = OrderedDict()
        self.used: list[DatasetReader] = []
        """Those inside `opened`, which must not be closed; once for each call."""


_thread = _OfThread()


@contextmanager
def opened(path: str) -> Iterator[DatasetReader]:
    """Yield this thread's handle to a raster; a GDAL error inside becomes a SceneError.

    The handle stays open for the next call, unless reading failed or the file has changed. If a file changes while an
    outer call of this thread reads it, the outer one keeps its handle, and the inner one may share its old blocks.
    """
    key = _key(path)
    if key not in _thread.kept:
        check_seekable(path)
    try:
        with raster_environment(path, remote=_is_far(key)), _in_use(_handle(key)) as dataset:
            yield dataset
    except GeosegError:
        raise
    except GDAL_ERRORS as error:
        _drop(path)
        if _is_far(key) and isinstance(error, OWN_GDAL_ERRORS):
            listed = _behind.get(path, ((), ()))[1]
            forget_answers(path, listed if len(listed) < _MOST_STAMPS else ())
        raise SceneError(_error_message(path, error)) from error


def fresh_tags(path: str) -> dict[str, str]:
    """Return the current tags of a raster in a store, bypassing GDAL's cache. Raises SceneError."""
    try:
        with (
            raster_environment(remote=True, CPL_VSIL_CURL_NON_CACHED=_STORES),
            rasterio.open(path, sharing=False) as dataset,
        ):
            tags: dict[str, str] = dataset.tags()
            return tags
    except GDAL_ERRORS as error:
        raise SceneError(_error_message(path, error)) from error


def check_seekable(path: str) -> None:
    """Raise SceneError for a pipe or a device instead of a file: GDAL would wait on it forever."""
    kind = next(filter(None, map(stream, sources_of(path))), None)
    if kind is not None:
        raise SceneError(f"{shown(path)} is {kind}, which can be read only once; save it to a file first")


@contextmanager
def _in_use(dataset: DatasetReader) -> Iterator[DatasetReader]:
    _thread.used.append(dataset)
    try:
        yield dataset
    finally:
        _thread.used.remove(dataset)


def _close(dataset: DatasetReader) -> None:
    """Close a handle that is no longer kept; one in use closes when it is let go."""
    if dataset not in _thread.used:
        dataset.close()


@atexit.register  # rasterio 1.5 prints an error if Python closes the handles of the main thread as it shuts down
def close_kept() -> None:
    """Close this thread's handles that are not in use: Windows neither replaces nor removes an open file."""
    while _thread.kept:
        _close(_thread.kept.popitem()[1])


def _key(path: str) -> _Key:
    """Return path, process (a fork shares no file offsets), replaced remote files, and sizes and times of the files."""
    own = _own_stamps(path)
    listed, names = _behind.get(path, (own, ()))
    behind = names if listed == own else ()
    key = path, os.getpid(), 0, (*own, *map(_stamp, behind))
    return (*key[:2], replaced(path, behind if len(behind) < _MOST_STAMPS else ()), key[3]) if _is_far(key) else key


def _own_stamps(path: str) -> _Stamps:
    """Return the stamps of a file and its sidecars, or of the sources that the text of a VRT names."""
    return (*map(_stamp, sources_of(path)[:_MOST_STAMPS]), *map(_plain_stamp, _sidecars(path)))


def _sidecars(path: str) -> list[str]:
    """Return the usual names of sidecars of a local file; a world file is .tfw, .tifw or .wld."""
    if is_remote(path) or is_vrt_text(path):
        return []
    stem, ending = os.path.splitext(path)  # noqa: PTH122 - a URL is no Path
    world = (f".{ending[1]}{ending[-1]}w", f"{ending}w") if len(ending) > 1 else ()
    return [*(path + end for end in _BESIDE), *(stem + end for end in (*_OF_STEM, *world))]


def _plain_stamp(name: str) -> tuple[int, int]:
    try:
        status = os.stat(name)  # noqa: PTH116 - as above, and ten times as fast
    except (OSError, ValueError):
        return _NO_FILE
    return status.st_size, status.st_mtime_ns


def _stamp(path: str) -> tuple[int, int]:
    """Return size and time of a file, or of the archive it is in; (-1, -1) if there is none."""
    stamp = _plain_stamp(path)
    if stamp != _NO_FILE:
        return stamp
    try:
        file = local_file(path)
    except (OSError, ValueError):
        return _NO_FILE
    return _NO_FILE if file is None else _plain_stamp(os.fspath(file))


@lru_cache(maxsize=64)
def _is_far(key: _Key) -> bool:
    """Return whether GDAL will use a network; a local list of remote rasters is inspected once per version of it."""
    if is_remote(key[0]):
        return True
    try:
        return any(lists_remote(Path(_STAC_ITEM.sub(r"\1", name))) for name in sources_of(key[0])[:_MOST_STAMPS])
    except (OSError, ValueError):
        return False


def _handle(key: _Key) -> DatasetReader:
    kept = _thread.kept
    if key in kept:
        # GDAL keeps a thread's last error until a call clears it, as this one does. Otherwise rasterio blames this
        # file for a WKT misspelled earlier. Opening a file clears it too.
        CRS.from_epsg(4326)
        kept.move_to_end(key)
        return kept[key]
    path = key[0]
    _drop(path)  # GDAL keeps the sources of a VRT open, and their blocks, as long as any handle to it is open
    dataset = rasterio.open(gdal_name(path), sharing=False)
    if dataset.driver in _OF_OTHER_FILES and not is_remote(path):
        _note_files(path)
        key = _key(path)
    kept[key] = dataset
    while len(kept) > _KEPT:
        _close(kept.popitem(last=False)[1])
    return dataset


def _note_files(path: str) -> None:
    """Note the files that hold a raster's pixels, once per version of it: a handle must not outlive a change of any."""
    stamps = _own_stamps(path)
    if _behind.get(path, (None,))[0] == stamps:
        return
    names = (each for name in files_behind(path) if name != path for each in _within(name))
    for oldest in list(_behind)[: 1 - _MOST_STAMPS]:
        _behind.pop(oldest, None)
    _behind[path] = stamps, tuple(islice(names, _MOST_STAMPS))


def _within(name: str) -> Iterator[str]:
    """Yield a file, or a folder and all that is in it."""
    yield name
    if os.path.isdir(name):  # noqa: PTH112 - Path raises for the text of a VRT
        yield from map(str, Path(name).rglob("*"))


def _drop(path: str) -> None:
    kept = _thread.kept
    for key in [key for key in kept if key[0] == path]:
        _close(kept.pop(key))


def _error_message(path: str, error: BaseException) -> str:
    name = shown(path)
    name = name if len(name) <= _MESSAGE_CHARACTERS else f"{name[:_MESSAGE_CHARACTERS]}..."
    name = " ".join(name.split())
    if not is_remote(path) and "://" not in path and not is_vrt_text(path) and not path.lstrip().startswith("/vsi"):
        fault = _fault_of_file(path)
        if fault is not None:
            return f"{name}{fault}"
    reason = root_message(error, path)
    way_out = next((way for words, way in _WAYS_OUT.items() if words in reason), None)
    if way_out is None and _OF_TILES in path and _NO_ANSWER not in reason:
        way_out = "check the address: each tile must be a square picture, as large as all others"
    if way_out is None and ("not recognized as being in a supported" in reason or reason.startswith(_NO_GRID)):
        return f"{name} is {_other_kind(path)}"
    if way_out is None and _OWN_REASON.search(reason):
        return f"cannot read {name}: {reason}"
    if is_remote(path) or way_out:
        return f"cannot read {name}: {reason}; {way_out or 'check the address and the credentials'}"
    is_missing = reason.endswith("No such file or directory") and local_file(path) is None and not is_vrt_text(path)
    if is_missing or _NOT_THERE in reason:
        return f"{name}: no such file or raster; check the path, and what comes after the name of an archive or a file"
    return f"cannot read {name}: {reason}; it may be cut short or damaged: copy it again, or see what rio info says"


def _fault_of_file(path: str) -> str | None:
    """Return what is wrong with a local file, as words that follow its name; None to leave that to GDAL."""
    local = Path(path)
    if not local.exists() and local.with_name(f"{local.name}.parts").is_dir():
        return f" is not finished, only {local.name}.parts is there; wait for the run, or run the same command again"
    if not local.exists() and ":" not in path[2:]:  # NETCDF:file:variable is no file name
        return ": no such file; check the path"
    if local.is_file() and local.stat().st_size == 0:
        return " is empty (0 bytes); copy it again from its source"
    if local.is_file() and not os.access(local, os.R_OK):
        return " cannot be read by this user; change its permissions"
    is_utf8 = not any("\ud800" <= letter <= "\udfff" for letter in path)  # bytes that Python keeps as surrogates
    return None if is_utf8 else " has a name that is not UTF-8, which GDAL does not open; rename it"


def _other_kind(path: str) -> str:
    """Say what a file is that is not a raster, and what to give instead."""
    if os.path.isdir(path):  # noqa: PTH112 Path raises for the text of a VRT
        return "a folder; give a raster in it"
    ending, inside = Path(path).suffix.lower(), _inside(path)
    if inside is not None:
        return f"an archive; give a raster inside it, such as {inside}"
    if ending in _OF_FEATURES:
        return "a file of features (polygons, lines or points); give a raster (are two paths swapped?)"
    if ending in TABLES:
        return "a table, not a raster of x, y and z on a grid; give a raster (are two paths swapped?)"
    if ending in _OF_MODELS:
        return "a model; give a raster (are two paths swapped?)"
    way_out = "give a GeoTIFF, COG, VRT, JPEG2000 or the like"
    if is_remote(path):
        way_out = (
            "check that the address is the file's, and that its server states its length, or download it; if the "
            "server is slow, set GDAL_HTTP_LOW_SPEED_TIME=120"
        )
    return f"not a raster that GDAL knows; {way_out}"


def root_message(error: BaseException, path: str = "") -> str:
    """Return the first error of a chain on one line: rasterio's own says only "see previous exception".

    Passwords and tokens are removed from URLs, including `path`.
    """
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    message = str(error).replace(path, shown(path)) if path else str(error)
    message = " ".join(without_secrets(message).split()).rstrip(".;!")
    return message if len(message) <= _MESSAGE_CHARACTERS else f"{message[:_MESSAGE_CHARACTERS]}..."


def _inside(path: str) -> str | None:
    """Return GDAL's name for the first raster in a local archive; None if it has none or is no archive."""
    file = Path(path)
    if file.suffix.lower() == ".gz" and Path(file.stem).suffix.lower() in _IN_ARCHIVES and file.is_file():
        return f"/vsigzip/{file.as_posix()}"
    if not path.lower().endswith((*_ZIPS, *_TARS)) or not file.is_file():
        return None
    is_zip = path.lower().endswith(_ZIPS)
    try:
        names = sorted(_in_zip(path) if is_zip else _in_tar(path))
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError):
        return None
    first_raster = next((name for name in names if Path(name).suffix.lower() in _IN_ARCHIVES), None)
    return None if first_raster is None else f"/vsi{'zip' if is_zip else 'tar'}/{file.as_posix()}/{first_raster}"


def _in_zip(path: str) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _in_tar(path: str) -> list[str]:
    with tarfile.open(path) as archive:
        return [member.name for member in islice(archive, _LOOKED_AT)]
