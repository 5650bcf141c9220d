"""The names of rasters: whether they are remote, which sources they read, and how to show them without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache, partial
from html import escape as escape_html
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_SCHEMES = "https?|ftp|s3|gs|az|adls|abfss?|oss|swift|webhdfs|hdfs"
_REMOTE = re.compile(
    rf"(^|\+|^WMT?S:)({_SCHEMES})://|/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)(_streaming)?[/?]", re.IGNORECASE
)
_NAMES_REMOTE = re.compile(rf"\b({_SCHEMES})://|/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)", re.IGNORECASE)
_LISTS, _LIST_BYTES = (".vrt", ".json", ".geojson", ".xml"), 1 << 20
"""Extensions of files that list rasters, and how many bytes of one are searched."""
_LOCAL = ("file", "zip", "tar", "gzip")
"""Schemes without a server, where ? and # are ordinary characters."""
_URL = re.compile(
    # The user name ends at the last @ before a slash, the rest ends where a query or fragment starts.
    r"(?P<scheme>(?:\w+:\"?){0,4}[^:?#]*?[a-z][a-z0-9+.-]*)://(?:[^/]*@)?(?P<rest>[^?#]*)",
    re.IGNORECASE | re.DOTALL,
)
_MAP_SERVER = re.compile(r"GDAL_WMT?S\b|^\s*WMT?S:", re.IGNORECASE)
OF_ARRAYS = "geoseg-arrays-"
"""Prefix of the temporary folders that hold callers' arrays as files."""
_TILE_INDEX = re.compile(r"<IndexDataset>(.*?)</IndexDataset>", re.DOTALL)
_VRT_SOURCE = re.compile(r"<(?:Source(?:Dataset|Filename)|ServerUrl)\b[^>]*>([^<]+)<")
_WORD_WITH_URL = re.compile(r"[^\s'\"<>=]*(?:://|/vsicurl\w*\?)[^\s'\"<>]*", re.IGNORECASE)
escape = partial(escape_html, quote=False)
"""Escape the text of an XML element as `xml.sax.saxutils.escape` does, which loads urllib.request: 20 ms."""


def is_remote(path: str) -> bool:
    """Return whether GDAL will fetch this path over a network: https://, s3://, /vsicurl/..."""
    if is_vrt_text(path):
        return any(map(is_remote, vrt_sources(path)))
    return _REMOTE.search(path) is not None


def is_vrt_text(path: str) -> bool:
    """Return whether a path is in fact the text of a VRT, which GDAL accepts instead of a path."""
    return path.lstrip().startswith("<")


def lists_remote(file: Path) -> bool:
    """Return whether a local VRT, tile index or STAC item names rasters that GDAL will fetch over a network."""
    if (file.suffix.lower() not in _LISTS and ".gti" not in file.name.lower()) or not file.is_file():
        return False
    with file.open("rb") as opened:
        return _NAMES_REMOTE.search(opened.read(_LIST_BYTES).decode(errors="replace")) is not None


def is_map_server(path: str) -> bool:
    """Return whether a path, or the text of a VRT, reads a map server through GDAL: WMS, WMTS, tiles."""
    return _MAP_SERVER.search(path) is not None


def is_of_arrays(path: str) -> bool:
    """Return whether a raster holds the arrays of a caller."""
    return OF_ARRAYS in path


@lru_cache(maxsize=16)
def vrt_sources(path: str) -> tuple[str, ...]:
    """Return the rasters that the text of a VRT or tile index reads, each once; none for a path."""
    if not is_vrt_text(path):
        return ()
    sources = [unescape(name) for name in _VRT_SOURCE.findall(path)]  # some may be VRT texts themselves
    sources += [name for index in _TILE_INDEX.findall(path) for name in _indexed(unescape(index))]
    return tuple(dict.fromkeys(leaf for name in sources for leaf in (vrt_sources(name) or (name,))))


def sources_of(path: str) -> tuple[str, ...]:
    """Return the rasters that a scene reads: the path itself, or the sources of a VRT text."""
    return vrt_sources(path) or (path,)


def _indexed(index: str) -> list[str]:
    """Return the rasters of a tile index given as GeoJSON text."""
    try:
        return [str(feature["properties"]["location"]) for feature in json.loads(index)["features"]]
    except (ValueError, KeyError, TypeError):
        return []


def with_sources(path: str, change: Callable[[str], str]) -> str:
    """Return the text of a VRT or tile index with each raster in `sources_of` changed; of a path, the changed path."""
    if not is_vrt_text(path):
        return change(path)

    def replaced(match: re.Match[str]) -> str:
        text = unescape(match[1])
        if match.re is _TILE_INDEX:
            index = json.loads(text)
            for feature in index["features"]:
                feature["properties"]["location"] = with_sources(feature["properties"]["location"], change)
            text = json.dumps(index)
        else:
            text = with_sources(text, change)
        start = match.start()
        return f"{match[0][: match.start(1) - start]}{escape(text)}{match[0][match.end(1) - start :]}"

    return _TILE_INDEX.sub(replaced, _VRT_SOURCE.sub(replaced, path))


def shown(path: str) -> str:
    """Return a path that is safe to show or store: URLs lose their query and user, which hold passwords and tokens.

    The text of a VRT is shown as the rasters it reads.
    """
    if is_vrt_text(path):
        names = vrt_sources(path)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return f"{shown(names[0])}{more}" if names else without_secrets(path)
    if is_of_arrays(path):
        return "the DataArray"
    if "/vsicurl?" in path or "/vsicurl_streaming?" in path:
        before, _, options = path.partition("/vsicurl")
        address = parse_qs(options.partition("?")[2]).get("url", [""])[0]
        return f"{before}/vsicurl/{shown(address)}"
    match = _URL.match(path)
    if match is None or match["scheme"].lower().endswith(_LOCAL) or (match["scheme"] == "vrt" and not is_remote(path)):
        return path
    return f"{match['scheme']}://{match['rest']}"


def public_name(path: str) -> str:
    """Return the name of a raster that a published map may carry: a URL without secrets, or a bare file name."""
    return shown(path) if is_remote(path) else re.split(r"[/\\]", shown(path).rstrip("/\\"))[-1]


def without_secrets(text: str) -> str:
    """Return a text with `shown` applied to each of its URLs."""
    return _WORD_WITH_URL.sub(lambda match: shown(match[0]), text)


def without_user(address: str) -> tuple[str, str]:
    """Return user and password of a URL, as they stand there, and the URL without them."""
    scheme, _, rest = address.partition("://")
    user, mark, _ = rest.partition("/")[0].rpartition("@")
    return user, f"{scheme}://{rest[len(user) + len(mark) :]}"


def is_same_server(old: str, new: str) -> bool:
    """Return whether a link leads to the same host and port, or from http to https there. ValueError for a bad URL."""
    (old_host, *before), (new_host, *after) = (
        (parts.hostname, parts.scheme, parts.port or {"http": 80, "https": 443}.get(parts.scheme))
        for parts in map(urlsplit, (old, new))
    )
    return old_host == new_host and (before == after or [before, after] == [["http", 80], ["https", 443]])
