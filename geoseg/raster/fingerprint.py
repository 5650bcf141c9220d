"""What distinguishes one version of a scene from another: the files behind it, or what a server reports for them.

GDAL asks the server, since it knows how to reach it: credentials, endpoints, proxies, signatures. Neither rasterio nor
pyogrio exposes VSIGetFileMetadata, so it is called in the GDAL library that rasterio has loaded.
https://gdal.org/en/stable/api/cpl.html#_CPPv418VSIGetFileMetadataPKcPKc12CSLConstList
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from html import unescape
from importlib.util import find_spec
from pathlib import Path

import rasterio
from rasterio.env import ensure_env_with_credentials, getenv, hasenv, setenv
from rasterio.io import DatasetReader
from rasterio.session import DummySession

from geoseg.errors import SceneError
from geoseg.raster.environment import GDAL_ERRORS, SILENCE_S, gdal_name, raster_environment
from geoseg.raster.names import is_map_server, is_remote, is_vrt_text, shown, sources_of, vrt_sources

_STATES = ("ETag", "Last-Modified")
"""Each distinguishes versions of a file; the size alone does not."""
_TIMEOUT_S = 20
_ANSWER_S = 20
"""A server that is silent for so long when asked whether it answers does not."""
_ARCHIVED = re.compile(r"^(?:(?:zip|tar|gzip)\+|/vsi(?:zip|tar|gzip|7z|rar)/+)\{?(?=[\w/]*(?:://|vsi))", re.IGNORECASE)
_ARCHIVE = re.compile(r"^(.*?\.(?:zip|kmz|tar|tgz|tar\.gz|gz|7z|rar))(?:[}!/].*)?$", re.IGNORECASE | re.DOTALL)
_STORE = re.compile(r"^(?:/vsi(s3|gs|az|adls|oss|swift)(?:_streaming)?/|(s3|gs|az|adls|oss|swift)://)", re.IGNORECASE)
_ONE_FILE = re.compile(r"/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs)[/?](?!.*\.(vrt|gti)\b)", re.IGNORECASE)
"""GDAL's names of files on servers that list no others."""
_MOST_REPORTED = 4096
_reported: dict[str, dict[str, str]] = {}
"""The version of each remote file that its server reported last."""
_replaced = Counter[str]()
"""How often a server has reported a new version of each."""
Version = str | Mapping[str, Mapping[str, str]]
"""A scene's fingerprint, or the headers of each of its remote rasters by name."""
_Strings = ctypes.POINTER(ctypes.c_char_p)


def server_stamp(name: str, settings: Mapping[str, object] | None = None) -> dict[str, str] | None:
    """Return the ETag, Last-Modified and Content-Length of a remote file, or of the archive that contains it.

    `name` is a URL or a GDAL path, `settings` are GDAL's for the request. None if no version is reported.
    """
    ask = _http_headers if _gdal() is None else _gdal_headers
    name = _gdal_name(_name_on_server(name))[0]
    headers = ask(name, settings or {})
    if not any(headers.get(state.lower()) for state in _STATES):
        return None
    stamp = {key: headers[key.lower()] for key in (*_STATES, "Content-Length") if headers.get(key.lower())}
    if _reported.pop(name, stamp) != stamp:
        forget_answers(name)
        _replaced[name] += 1
    _reported[name] = stamp
    for oldest in list(_reported)[:-_MOST_REPORTED]:
        _reported.pop(oldest, None)
    return stamp


def replaced(path: str, behind: Sequence[str] = ()) -> int:
    """Return how often servers have reported new versions of a remote raster: open handles may hold old pixels of it.

    `behind` are the rasters that a file such as a .vrt lists. If they are not known, it counts those of all files.
    """
    names = _asked_names(path, behind) if _replaced else None
    return _replaced.total() if names is None else sum(_replaced[name] for name, _ in names)


def check_answer(path: str) -> None:
    """Raise SceneError if a server no longer answers for a raster, or for the first that a VRT reads.

    GDAL would ask it for minutes: for sidecars too, and for each as patiently.
    """
    name = next(filter(is_remote, sources_of(path)), "")
    on_server = _name_on_server(name)
    is_asked = _gdal() is not None and _ONE_FILE.match(_gdal_name(on_server)[0]) and not is_map_server(path)
    if is_asked and not _gdal_headers(on_server, getenv() if hasenv() else {}, _ANSWER_S):
        raise SceneError(
            f"cannot read {shown(name)}: its server does not answer, or lacks it now; try again later, or set "
            "GDAL_HTTP_LOW_SPEED_TIME=120 if it is slow"
        )


def _name_on_server(name: str) -> str:
    """Return the name of the file on the server: for `/vsizip/vsis3/bucket/a.zip/b.tif` the archive."""
    inner = _without_prefixes(name, _ARCHIVED)
    archive = None if inner == name else _ARCHIVE.match(inner)
    return archive[1] if archive else inner


def _gdal_headers(name: str, settings: Mapping[str, object], silence_s: int = SILENCE_S) -> dict[str, str]:
    """Return the headers of GDAL's request, with names in lower case; empty if there is no answer.

    GDAL requests the first 16 KB from object stores, since a key may allow reading but not HEAD.
    """
    library, (name, uri) = _gdal(), _gdal_name(name)
    if library is None or not name.startswith("/vsi"):
        return {}
    with rasterio.Env(session=DummySession()):
        setenv(**settings)  # Env refuses AWS keys among its options
        with raster_environment(remote=True, silence_s=silence_s):
            # As rasterio.open does: it takes the credentials of an s3:// scene from boto3, if that is installed.
            lines = ensure_env_with_credentials(lambda _uri: _header_lines(library, name))(uri)
    headers = {key.lower(): value for key, separator, value in (line.partition("=") for line in lines) if separator}
    if total := re.search(r"/(\d+)$", headers.get("content-range", "")):
        headers["content-length"] = total[1]
    return headers


def _gdal_name(name: str) -> tuple[str, str]:
    """Return GDAL's name of a file on a server, and the URL for which rasterio looks up credentials."""
    if store := _STORE.match(name):
        scheme, key = (store[1] or store[2]).lower(), name[store.end() :]
        return f"/vsi{scheme}/{key}", gdal_name(f"{scheme}://{key}")
    return (gdal_name(name),) * 2


def forget_answers(path: str, behind: Sequence[str] = ()) -> None:
    """Make GDAL forget what servers have answered about a raster: it keeps failures and cut bodies too.

    `behind` are the rasters that a file such as a .vrt lists. If they are not known, it forgets all answers.
    """
    library, names = _gdal(), _asked_names(path, behind)
    if library is None:
        return
    if names is None:
        library.VSICurlClearCache()
        return
    with raster_environment(remote=True):
        for name, uri in names:
            ensure_env_with_credentials(lambda _uri, name=name: library.VSICurlPartialClearCache(name.encode()))(uri)


def _asked_names(path: str, behind: Sequence[str]) -> list[tuple[str, str]] | None:
    """Return what `_gdal_name` does of each file on a server that a raster reads; None if it may read others."""
    remote = filter(is_remote, (*sources_of(path), *behind))
    names = [_gdal_name(_name_on_server(name)) for name in remote]
    return names if names and all(_ONE_FILE.match(name) for name, _ in names) else None


@cache
def _gdal() -> ctypes.CDLL | None:
    """Return the GDAL library that rasterio has loaded; None if it does not export the functions used here.

    Looking up the symbol in rasterio's own module finds it in the GDAL it is linked to, and in no other copy. On
    Windows a module exposes only its own symbols, so the library bundled in rasterio's wheel is loaded instead.
    """
    spec = find_spec("rasterio._base")
    if spec is None or spec.origin is None:
        return None
    module = Path(spec.origin)
    if os.name == "nt":
        module = next(iter((module.parents[1] / "rasterio.libs").glob("gdal*.dll")), module)
    try:
        library = ctypes.CDLL(str(module))
        ask, free = library.VSIGetFileMetadata, library.CSLDestroy
        clear, clear_one = library.VSICurlClearCache, library.VSICurlPartialClearCache
    except (OSError, AttributeError):
        return None
    ask.restype, ask.argtypes = _Strings, (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
    free.restype, free.argtypes = None, (_Strings,)
    clear.restype, clear.argtypes = None, ()
    clear_one.restype, clear_one.argtypes = None, (ctypes.c_char_p,)
    return library


def _header_lines(library: ctypes.CDLL, name: str) -> list[str]:
    strings = library.VSIGetFileMetadata(name.encode(), b"HEADERS", None)
    lines: list[str] = []
    while strings and strings[len(lines)] is not None:
        lines.append(strings[len(lines)].decode(errors="replace"))
    library.CSLDestroy(strings)
    return lines


def _http_headers(name: str, _settings: Mapping[str, object]) -> dict[str, str]:
    address = name.removeprefix("/vsicurl/")
    if not address.startswith(("http://", "https://")):
        return {}
    import http.client  # noqa: PLC0415 - 20 ms with the next, and few copies of GDAL need them
    import urllib.request  # noqa: PLC0415

    try:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - http(s) only, as just checked
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            return {key.lower(): value for key, value in answer.headers.items()}
    except (OSError, ValueError, http.client.HTTPException):  # HTTPException: a user and password in the address
        return {}


_REQUESTS_AT_ONCE = 16
_STREAMS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_INSIDE = re.compile(
    r"vrt://|(file|(zip|tar|gzip|7z|rar)(\+file)?)://|/vsi(zip|tar|gzip|7z|rar)/"
    r"|/vsisubfile/\d+(_\d+)?,|/vsicached\?([^&=]+=[^&]*&)*file=",
    re.IGNORECASE,
)
_INDEX_NAME = re.compile(r"\.(vrt|mrf|gti|gti\.\w+)$", re.IGNORECASE)
_INDEX_TAGS = re.compile(r"<(IndexDataset|IndexLayer|LocationField|Filter)>([^<]+)<")
_GTI = re.compile("^GTI:", re.IGNORECASE)
_OF_MRF = (".idx", ".ppg", ".pjg", ".pzp", ".ptf", ".til", ".lrc")
"""Endings of an MRF's index and pixels, in place of its own."""


def files_behind(path: str) -> list[str]:
    """Return every file GDAL reads for a raster, sorted: itself, its sidecars, and the sources of VRTs, recursively.

    Raises SceneError if its server no longer answers.
    """
    check_answer(path)
    behind: dict[str, list[str]] = {}
    waiting = [path]
    with raster_environment(path, remote=is_remote(path)):
        while waiting:
            name = waiting.pop()
            if name not in behind:
                behind[name] = _listed(name) if name == path or _lists_other_files(name) else [name]
                waiting += behind[name]
    return sorted(name for name, names in behind.items() if name in names)


def _lists_other_files(name: str) -> bool:
    """Return whether GDAL lists other files for a name: the sources of a VRT, or a.nc for NETCDF:a.nc:band."""
    return _INDEX_NAME.search(name) is not None or (not is_remote(name) and local_file(name) is None)


def _listed(path: str) -> list[str]:
    try:
        with rasterio.open(gdal_name(path), sharing=False) as dataset:
            names = [*_own_files(dataset), *_tile_index_sources(path, dataset.driver)]
    except GDAL_ERRORS:  # a VRT may name a missing source; reading reports it
        return [path]
    return [*names, path] if path.lower().startswith("vrt://") else names


def _tile_index_sources(path: str, driver: str) -> Iterator[str]:
    """Yield the files of the rasters in a tile index, or in a view of one: GDAL lists none."""
    if is_vrt_text(path):
        for source in vrt_sources(path):
            yield from _listed(source) if "GDALTileIndexDataset" in path or _GTI.match(source) else ()
    elif driver == "GTI" and (file := local_file(_GTI.sub("", path))) is not None:
        table, names = _indexed(file)
        yield from (str(file), table, *names)


def missing_in_index(path: str) -> str | None:
    """Return the first raster that a tile index names and that is on no disk: GDAL would leave out others with it."""
    file = local_file(_GTI.sub("", path))
    names = () if file is None else _indexed(file)[1]
    plain = (name for name in names if not name.startswith("/vsi") and ":" not in name[2:])
    return next((name for name in plain if not os.path.exists(name)), None)  # noqa: PTH110 - as in `stream`


def _own_files(dataset: DatasetReader) -> list[str]:
    """Return the files that GDAL lists for a raster, with those of an MRF's pixels; for a Zarr array its folder."""
    names: list[str] = dataset.files
    if dataset.driver == "Zarr" and not any(map(is_remote, names)):
        return sorted({os.path.dirname(name) for name in names if not os.path.isdir(name)})  # noqa: PTH112, PTH120
    file = Path(names[0]) if dataset.driver == "MRF" and names else None
    if file is None or not file.is_file() or "<CachedSource>" in _start(file):  # GDAL writes those when it reads
        return names
    return [*names, *(str(each) for each in map(file.with_suffix, _OF_MRF) if each.is_file())]


def _start(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(1 << 16).decode(errors="replace")


def _indexed(file: Path) -> tuple[str, list[str]]:
    """Return the table of a tile index, which may be the file itself, and the rasters that it names.

    GDAL resolves names relative to the table or to the current folder: https://gdal.org/drivers/raster/gti.html
    """
    import pyogrio  # noqa: PLC0415 - few scenes are tile indexes

    start = _start(file)
    found = _INDEX_TAGS.findall(start) if is_vrt_text(start) else ()
    text_by_tag = {tag: unescape(text.strip()) for tag, text in found}
    table, column = text_by_tag.get("IndexDataset", str(file)), text_by_tag.get("LocationField", "location")
    condition = text_by_tag.get("Filter")
    try:
        meta, _, _, values = pyogrio.raw.read(
            table,
            layer=text_by_tag.get("IndexLayer"),
            columns=[column] if condition is None else None,  # a condition may need any column
            where=condition,
            read_geometry=False,
        )
        names = values[list(meta["fields"]).index(column)]
    except (*GDAL_ERRORS, pyogrio.errors.DataSourceError):  # GDAL could read the index: nothing more is known about it
        return table, []
    folder = os.path.dirname(table)  # noqa: PTH120 - as in `stream`
    pairs = ((name, os.path.join(folder, name)) for name in map(str, names))  # noqa: PTH118
    return table, [beside if os.path.exists(beside) else name for name, beside in pairs]  # noqa: PTH110


def local_file(name: str) -> Path | None:
    """Return the local file that GDAL reads for a name: the archive for `/vsizip/a.zip/b.tif`; None if there is none.

    https://gdal.org/user/virtual_file_systems.html
    """
    return next((Path(place) for place in _places(name) if os.path.isfile(place)), None)  # noqa: PTH113 - as below


def stream(name: str) -> str | None:
    """Return what a path is if it can be read only once and may block GDAL, such as "a pipe"; else None."""
    for place in _places(name):
        try:
            mode = os.stat(place).st_mode  # noqa: PTH116 Path raises for the text of a VRT
        except (OSError, ValueError):
            continue
        return next((kind for is_one, kind in _STREAMS if is_one(mode)), None)
    return None


def _places(name: str) -> Iterator[str]:
    """Yield the local paths a name may mean: itself, then each leading part that may be an archive, longest first."""
    inner = _without_prefixes(name, _INSIDE)
    inside, name = inner != name, inner
    if is_remote(name):
        return
    if inside:  # an archive may be in {}, or followed by !
        name = name.removeprefix("{").replace("}", "").replace("!", "/")
    yield name
    while inside and (shorter := os.path.dirname(name)) not in {"", name}:  # noqa: PTH120 - as above
        yield (name := shorter)


def _without_prefixes(name: str, prefix: re.Pattern[str]) -> str:
    """Return a name without what stands before the file in it, such as /vsizip/ or vrt://."""
    while match := prefix.match(name):
        name = name[match.end() :]
        if match[0].lower() == "vrt://" and not is_remote(name):
            name = name.partition("?")[0]
        if name.startswith("vsi"):  # /vsizip/vsicurl/... omits the second slash
            name = f"/{name}"
    return name


def stamps(names: list[str]) -> list[list[object]]:
    """Return what identifies each file: its name, then size and mtime_ns, or its server's headers; None if unknown.

    Of a folder, the number of its files and the sums of theirs.
    """
    settings = getenv() if hasenv() else {}  # the user's, which GDAL keeps per thread
    if len(names) == 1:
        return [_stamp(names[0], settings)]
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        return list(pool.map(partial(_stamp, settings=settings), names))


def _stamp(name: str, settings: Mapping[str, object]) -> list[object]:
    try:
        if os.path.isdir(name):  # noqa: PTH112 - as in `stream`
            return [os.path.abspath(name), *_folder_stamp(name)]  # noqa: PTH100
        file = local_file(name)
        if file is not None:
            status = file.stat()
            return [name if Path(name) != file else str(file.absolute()), status.st_size, status.st_mtime_ns]
    except (OSError, ValueError):
        return [name, None]
    return [shown(name), server_stamp(name, settings)]


def _folder_stamp(folder: str) -> tuple[int, int, int]:
    """Return the number of files in a folder, and the sums of their sizes and times: a Zarr may have a million."""
    count = size = time_ns = 0
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    status = entry.stat()
                    count, size, time_ns = count + 1, size + status.st_size, time_ns + status.st_mtime_ns
    return count, size, time_ns


def server_versions(path: str) -> dict[str, dict[str, str]]:
    """Return what servers report of the remote rasters that a path reads, by name; see `server_stamp`."""
    names = [name for name in sources_of(path) if is_remote(name)]
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        found = pool.map(partial(server_stamp, settings=getenv() if hasenv() else {}), names)
        return {name: stamp for name, stamp in zip(names, found, strict=True) if stamp}


def is_replaced(path: str, before: Mapping[str, Mapping[str, str]]) -> bool:
    """Return whether servers now report other versions; machines that share an address may differ in ETags alone."""
    now = server_versions(path)
    return any(_is_other(before[name], now[name]) for name in before.keys() & now.keys())


def _is_other(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    both = old.keys() & new.keys()
    state = next((each for each in reversed(_STATES) if each in both), None)
    return any(old[each] != new[each] for each in both & {state, "Content-Length"})


def digest(value: object) -> str:
    """Return the SHA-256 of plain values, as hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
