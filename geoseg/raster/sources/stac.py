"""STAC items as rasters: assets are chosen by band and combined.

Format: https://github.com/radiantearth/stac-spec, versions 1.0 and 1.1; bands as in the extensions eo and raster.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

from affine import Affine
from rasterio.enums import MaskFlags

from geoseg.errors import SceneError, UsageError, numbered
from geoseg.raster.dataset_cache import opened
from geoseg.raster.geobox import GeoBox, is_grid
from geoseg.raster.names import escape, is_same_server, shown, without_user
from geoseg.raster.views import band_tag, band_words, block_words, color_name, file_name, head_lines, joined, vrt_source
from geoseg.raster.windows import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_ENDS = (".json", ".geojson")
_ITEM_ADDRESS = re.compile(r"/(search|items|items/[^/]+)/?$")
"""STAC API paths: a search, the items of a collection, an item."""
_MOST_PAGES = 100
_MOST_TEXTS = 8
"""Documents kept in memory."""
_MOST_BYTES = 64 << 20
_SAME_PX = 0.01
"""Tolerance in pixels between the corners of assets with the same extent."""
_NO_IMAGES = frozenset({"thumbnail", "overview", "metadata", "preview"})
_IMAGE_ENDS = (".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".vrt", ".img", ".webp")
_RGB = ("red", "green", "blue")
_NAMES_SHOWN = 20
_TIMES = ("datetime", "start_datetime", "end_datetime")


@dataclass(frozen=True, slots=True)
class _Band:
    """A band of an asset."""

    asset: str
    href: str
    index: int
    """1-based."""
    name: str
    common_name: str
    nodata: float | None
    is_described: bool
    """Whether the item describes the band; if not, this stands for all bands of an asset without band metadata."""
    rank: tuple[bool, bool]
    """Lower is preferred: rendered pictures come last, GeoTIFFs before other formats."""

    @property
    def label(self) -> str:
        """The band's name in messages."""
        return f"{self.name} ({self.common_name})" if self.common_name not in {"", self.name} else self.name


def is_item(path: str) -> bool:
    """Return whether a path is a STAC document: a local JSON file with a STAC version, or the URL of an item."""
    name, _ = _split(path)
    if name.lstrip().startswith(("<", "{")) or name.startswith("STACIT"):
        return False
    if name.startswith(("http://", "https://")):
        return _is_address(name)
    if not name.lower().endswith(_ENDS):
        return False
    try:
        file = Path(name)
        if not file.is_file() or file.stat().st_size > _MOST_BYTES:
            return False
        return b'"stac_version"' in _text(name, _stamp(name))
    except (OSError, ValueError, SceneError):
        return False


def item_names(path: str) -> list[str]:
    """Return each item of an item collection as `collection.json#ID`; for a single item its own path.

    SceneError if the document cannot be read.
    """
    name, requested_id = _split(path)
    document = _document(name)
    if requested_id is not None or document.get("type") != "FeatureCollection":
        return [path]
    return [f"{name}#{item_id}" for item_id, texts in _collection(name, _stamp(name)).items() for _ in texts]


def raster_of(
    path: str, bands: Sequence[int | str] | None, wanted: Sequence[str] | None
) -> tuple[str, Sequence[int | str] | None, str]:
    """Return the raster that GDAL opens for an item: a path, which of its bands to use (None: all), and a line on them.

    `bands` are those the user chose, `wanted` the model's: band names, common names or asset keys. Without either it is
    the rendered picture, or red, green and blue. SceneError if the item cannot be read, or lacks a band.
    """
    item = _item(path)
    every = list(_bands(item, _base(item, path)))
    if not every:
        raise SceneError(f"the STAC item {_label(item, path)} has no raster among its assets; give another item")
    numbers = bands is not None and any(isinstance(band, int) for band in bands)
    names = [str(band) for band in (bands or wanted or ())]
    choice: Sequence[int | str] | None
    if numbers:
        chosen, choice = every, bands
        if len({band.asset for band in every}) > 1:
            raise UsageError(
                f"bands of the STAC item {_label(item, path)} are chosen by name, not number: {_listed(every)}", "bands"
            )
    elif not names:
        chosen, choice = _picture(every), None
    else:
        chosen = [band for name in names for band in _bands_named(name, every, _label(item, path))]
        choice = None if len(chosen) == 1 and not chosen[0].is_described else [band.index for band in chosen]
    line = "" if numbers else _line(chosen)
    if len({band.href for band in chosen}) == 1 and not _hides_more(chosen[0]):
        return chosen[0].href, choice, line
    stack, stack_bands = _stacked(chosen, path)
    return stack, choice if numbers else stack_bands, line


def _line(chosen: Sequence[_Band]) -> str:
    """Return a line that says which bands are used, and of which assets."""
    assets = list(dict.fromkeys(band.asset for band in chosen))
    of = f"the STAC item's {'asset' if len(assets) == 1 else 'assets'} {', '.join(assets)}"
    described = [band for band in chosen if band.is_described]
    return f"bands {', '.join(band.label for band in described)} of {of}" if described else of


def item_times(path: str) -> dict[str, str | None] | None:
    """Return the acquisition time of an item in STAC's terms: `datetime`, or its start and end; None if unknown."""
    try:
        properties = _item(path).get("properties")
    except SceneError:  # its server may be unreachable while the scene's files are not
        return None
    texts = {name: properties.get(name) for name in _TIMES} if isinstance(properties, Mapping) else {}
    times = {name: text for name, text in texts.items() if isinstance(text, str) and text}
    if _TIMES[0] in times:
        return dict(times)
    return {_TIMES[0]: None, **times} if len(times) == len(_TIMES) - 1 else None


def _split(path: str) -> tuple[str, str | None]:
    """Split a path into the document and the item ID, None if there is none."""
    before, mark, item = path.rpartition("#")
    is_named = before.lower().partition("?")[0].endswith(_ENDS) or _is_address(before)
    return (before, item) if mark and is_named else (path, None)


def _is_address(name: str) -> bool:
    """Return whether a name is the URL of a STAC document."""
    if not name.startswith(("http://", "https://")):
        return False
    try:
        where = urlsplit(name).path
    except ValueError:  # brackets that hold no IPv6 address
        return False
    return where.lower().endswith(_ENDS) or _ITEM_ADDRESS.search(where) is not None


def _base(item: Mapping[str, Any], path: str) -> str:
    """Return the address or file at which an item's relative links start: of one in a collection its own address."""
    name, requested_id = _split(path)
    own = "" if requested_id is None else next((str(link.get("href")) for link in _links(item, "self")), "")
    return _joined(name, own) if own.startswith(("http://", "https://")) else name


def _joined(base: str, href: str) -> str:
    """Return the URL of a link, with the user and password of the document's own URL if it leads to the same server."""
    user, base = without_user(base)
    try:
        address = urljoin(base, href)
        is_same = is_same_server(base, address)
    except ValueError:  # a bad port, or brackets that hold no IPv6 address
        return href
    return address.replace("://", f"://{user}@", 1) if user and is_same and not without_user(address)[0] else address


def _links(document: Mapping[str, Any], relation: str) -> list[Mapping[str, Any]]:
    links = document.get("links")
    known = [link for link in links if isinstance(link, Mapping)] if isinstance(links, list) else []
    return [link for link in known if link.get("rel") == relation and isinstance(link.get("href"), str)]


def _label(item: Mapping[str, Any], path: str) -> str:
    return f"{item.get('id', '')} ({shown(_split(path)[0])})"


def _item(path: str) -> Mapping[str, Any]:
    name, requested_id = _split(path)
    if requested_id is None and (document := _document(name)).get("type") != "FeatureCollection":
        return _checked_item(document, name)
    items = _collection(name, _stamp(name))
    matching = items.get(requested_id or "", ())
    if len(matching) == 1:
        return _checked_item(json.loads(matching[0]), name)
    ids = [item_id for item_id, texts in items.items() for _ in texts]
    some = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
    raise SceneError(
        f"{shown(name)} holds {numbered(len(ids), 'STAC item')} ({some}), "
        f"got {requested_id or 'none'}; choose one as {Path(shown(name)).name}#ID, or map or join them all"
    )


def _checked_item(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if document.get("type") != "Feature" or not isinstance(document.get("assets"), Mapping):
        kind = document.get("type") or "JSON"
        raise SceneError(f"{shown(name)} is a STAC {kind}, not an item with assets; give an item or an item collection")
    return document


@lru_cache(maxsize=2)
def _collection(name: str, _stamp: int) -> Mapping[str, Sequence[bytes]]:
    """Return the items of a collection and of all following pages, by ID; each as its own JSON.

    A search may return ten thousand scenes, which are opened one after the other. SceneError for endless pages.
    """
    items_by_id: defaultdict[str, list[bytes]] = defaultdict(list)
    page, seen, count = _document(name), {name}, itertools.count()
    while True:
        features = page.get("features") if page.get("type") == "FeatureCollection" else [page]
        for feature in features if isinstance(features, list) else []:
            if isinstance(feature, Mapping):
                items_by_id[str(feature.get("id", next(count)))].append(json.dumps(feature).encode())
        following = _next_page(page, name)
        if following is None:
            return dict(items_by_id)
        if following in seen or len(seen) >= _MOST_PAGES:
            raise SceneError(f"{shown(name)} has more than {len(seen)} pages of items; ask for fewer, by place or time")
        seen.add(following)
        page = _parsed(following, _read(following))


def _next_page(page: Mapping[str, Any], name: str) -> str | None:
    links = _links(page, "next")
    if not links or not name.startswith(("http://", "https://")):
        return None
    methods = [str(link.get("method") or "GET").upper() for link in links]
    if "GET" not in methods:
        raise SceneError(
            f"{shown(name)} has further pages that are not addresses, but must be asked for by {methods[0]}; save "
            "the items to a file, for example with pystac-client: search.item_collection().save_object('items.json')"
        )
    return _joined(name, str(links[methods.index("GET")]["href"]))


def _document(name: str) -> Mapping[str, Any]:
    """Return a STAC document; SceneError if it cannot be read."""
    return _parsed(name, _text(name, _stamp(name)))


def _parsed(name: str, text: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise SceneError(
            f"{shown(name)} is not valid JSON, so it cannot be read as a STAC item; check the address"
        ) from None
    if not isinstance(document, Mapping):
        raise SceneError(f"{shown(name)} is not a STAC item; give an item or an item collection")
    return document


def _stamp(name: str) -> int:
    """Return a stamp that changes with a local document; a remote one is fetched only once."""
    if name.startswith(("http://", "https://")):
        return 0
    try:
        return os.stat(name).st_mtime_ns  # noqa: PTH116 - an invalid name is reported below
    except (OSError, ValueError):
        return -1


@lru_cache(maxsize=_MOST_TEXTS)
def _text(name: str, _stamp: int) -> bytes:
    return _read(name)


def _read(name: str) -> bytes:
    from geoseg.raster.sources.document import read  # noqa: PLC0415 - loads urllib.request and http.client, 20 ms

    return read(name)


def _bands(item: Mapping[str, Any], base: str) -> Iterator[_Band]:
    """Yield the bands of all image assets."""
    for key, asset in item["assets"].items():
        if not isinstance(asset, Mapping) or not isinstance(asset.get("href"), str) or not _is_image(asset):
            continue
        href = _absolute(asset["href"], base)
        said = [each for name in ("bands", "eo:bands", "raster:bands") for each in [asset.get(name)] if each]
        count = max((len(each) for each in said if isinstance(each, list)), default=1)
        rank = (
            "visual" in _roles(asset) or key.lower() in {"visual", "tci", "rendered_preview"},
            "tiff" not in _type(asset),
        )
        for place in range(count):
            rows: dict[str, Any] = {}
            for each in said:
                if isinstance(each, list) and place < len(each) and isinstance(each[place], Mapping):
                    rows = dict(each[place]) | rows
            name = str(rows.get("name") or (key if count == 1 else f"{key}:{place + 1}"))
            common = str(rows.get("common_name") or rows.get("eo:common_name") or "")
            nodata = _number(rows.get("nodata", asset.get("nodata")))
            yield _Band(str(key), href, place + 1, name, common, nodata, bool(said), rank)


def _type(asset: Mapping[str, Any]) -> str:
    return str(asset.get("type") or "").lower() or ("tiff" if asset["href"].lower().endswith(".tif") else "")


def _roles(asset: Mapping[str, Any]) -> set[str]:
    roles = asset.get("roles")
    return set(map(str, roles)) if isinstance(roles, list) else set()


def _is_image(asset: Mapping[str, Any]) -> bool:
    if _NO_IMAGES & _roles(asset) or asset["href"].lower().startswith("data:"):  # the picture itself
        return False
    kind = str(asset.get("type") or "").lower()
    if kind:
        return kind.startswith("image/") or "tiff" in kind  # application/x-geotiff
    href = str(asset["href"]).lower()
    return href.endswith(_IMAGE_ENDS) or href.partition("?")[0].endswith(_IMAGE_ENDS)


def _absolute(href: str, base: str) -> str:
    """Return where an asset is. Links are percent-encoded URLs, but many are plain file names."""
    is_link = "://" not in href and not href.startswith("/vsi")
    if base.startswith(("http://", "https://")) and (is_link or href.startswith(("http://", "https://"))):
        href = _joined(base, href.replace("#", "%23"))
    if href.startswith(("http://", "https://")):  # a raster has no fragments: # is part of its name
        return href.replace(" ", "%20").replace("#", "%23")
    if href.startswith("file://"):
        from urllib.request import url2pathname  # noqa: PLC0415 - as in `_read`

        plain = href.removeprefix("file://")
        return plain if os.path.exists(plain) else url2pathname(urlsplit(href).path)  # noqa: PTH110 - as below
    if "://" in href or href.startswith("/vsi"):
        return href
    folder = Path(base).absolute().parent
    exists = os.path.exists(folder / href)  # noqa: PTH110 - Path raises for a name that is too long
    return str((folder / (href if exists else unquote(href))).resolve())


def _number(value: object) -> float | None:
    """Return a nodata value: a number, or "nan", as JSON must spell it."""
    try:
        return None if value is None else float(str(value))
    except ValueError:
        return None


def _bands_named(name: str, every: Sequence[_Band], called: str) -> list[_Band]:
    """Return the band with a name, or the bands of the asset with that key. SceneError if there is none."""
    key = name.casefold()
    by_name = [band for band in every if band.name.casefold() == key]
    by_color = [band for band in every if band.common_name.casefold() == key]
    matching = sorted(by_name or by_color, key=lambda band: band.rank)
    if matching:
        return matching[:1]
    matching = [band for band in every if band.asset.casefold() == key]
    if matching:
        return matching
    raise SceneError(
        f"the STAC item {called} has no band {name}; it has {_listed(every)}; choose from these with `bands`", "bands"
    )


def _hides_more(band: _Band) -> bool:
    """Return whether the item gives a nodata value for a band whose file marks no pixels as invalid."""
    if band.nodata is None:
        return False
    with opened(band.href) as dataset:
        return list(dataset.mask_flag_enums[band.index - 1 : band.index]) == [[MaskFlags.all_valid]]


def _listed(every: Sequence[_Band]) -> str:
    names = list(dict.fromkeys(band.label for band in every))
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")


def _picture(every: Sequence[_Band]) -> list[_Band]:
    """Return the bands of the rendered picture, else red, green and blue, else those of the first asset."""
    visual = [band for band in every if band.rank[0]]
    if visual:
        return [band for band in visual if band.asset == visual[0].asset]
    by_color = [next((band for band in every if band.common_name == color), None) for color in _RGB]
    rgb = [band for band in by_color if band is not None]
    return rgb if len(rgb) == len(_RGB) else [band for band in every if band.asset == every[0].asset]


@dataclass(frozen=True, slots=True)
class _Source:
    """A band's file as stored."""

    band: _Band
    geobox: GeoBox
    dtype: str
    nodata: float | None
    block: tuple[int, int]
    has_mask: bool
    knows_nodata: bool
    """Whether the file itself gives the nodata value, not the item alone."""


def _stacked(chosen: Sequence[_Band], path: str) -> tuple[str, Sequence[int | str]]:
    """Return a VRT of bands from several files, on the grid of the finest."""
    sources = []
    for band in chosen:
        with opened(band.href) as dataset:
            sources.append(_source(band, dataset))
    finest = min(sources, key=lambda source: abs(source.geobox.transform.determinant))
    for source in sources:
        _check_extent(source, finest, path)
    return "".join(_stack(sources, finest, _shared(sources, finest.geobox))), range(1, len(sources) + 1)


def _source(band: _Band, dataset: DatasetReader) -> _Source:
    if not 1 <= band.index <= dataset.count:
        raise SceneError(
            f"{shown(band.href)} has {numbered(dataset.count, 'band')}, but its STAC item describes band {band.index}"
        )
    transform: Affine = dataset.transform
    nodata = dataset.nodatavals[band.index - 1]
    return _Source(
        band,
        GeoBox(dataset.height, dataset.width, transform, dataset.crs or None),
        dataset.dtypes[band.index - 1],
        band.nodata if nodata is None else nodata,
        dataset.block_shapes[band.index - 1],
        any(flag.name == "per_dataset" for flag in dataset.mask_flag_enums[band.index - 1]),
        knows_nodata=nodata is not None,
    )


def _check_extent(source: _Source, finest: _Source, path: str) -> None:
    own_box, finest_box = source.geobox, finest.geobox
    own, other = own_box.transform, finest_box.transform
    size = max(abs(own.a) + abs(own.b), abs(own.d) + abs(own.e))
    apart = max(abs(one - other) for one, other in zip(own_box.bounds, finest_box.bounds, strict=True))
    if own_box.crs != finest_box.crs or not is_grid(own) or apart > size * (1 + _SAME_PX):
        fault = "do not have the same extent and CRS"
    elif min(own.a * other.a + own.d * other.d, own.b * other.b + own.e * other.e) <= 0:
        fault = "have rows or columns in different directions"
    else:
        return
    raise SceneError(
        f"the assets {source.band.asset} and {finest.band.asset} of the STAC item {shown(_split(path)[0])} {fault}; "
        "warp them to one grid (rio warp --like)"
    )


def _shared(sources: Sequence[_Source], grid: GeoBox) -> GeoBox:
    """Return the pixels of a grid that every asset touches; coarser ones may end up to one of theirs inside it."""
    shared = Window(0, 0, *grid.shape)
    for box in (source.geobox for source in sources):
        into = ~grid.transform @ box.transform
        (col, row), (right, bottom) = into @ (0, 0), into @ (box.width_px, box.height_px)
        first_row, first_col = math.floor(row + _SAME_PX), math.floor(col + _SAME_PX)
        height, width = math.ceil(bottom - _SAME_PX) - first_row, math.ceil(right - _SAME_PX) - first_col
        shared = shared.intersection(Window(first_row, first_col, height, width)) or shared
    return grid[shared]


def _stack(sources: Sequence[_Source], finest: _Source, place: GeoBox) -> Iterator[str]:
    yield from head_lines(place)
    for number, source in enumerate(sources, start=1):
        band = source.band
        color = band.common_name if band.common_name in {*_RGB, "nir"} else ""
        yield band_tag(number, source.dtype, block_words(finest.block, place))
        yield band_words(band.name, source.nodata, color_name(color))
        yield f"{_vrt_source(source, place, str(band.index))}</VRTRasterBand>\n"
    by_file = {source.band.href: source for source in sources if source.has_mask}
    masks = [_vrt_source(source, place, f"mask,{source.band.index}") for source in by_file.values()]
    if masks:  # a pixel is masked where all of them mask it; an asset without a mask says nothing
        yield f"<MaskBand>{joined('max', masks, 1)}</MaskBand>\n"
    yield "</VRTDataset>\n"


def _vrt_source(source: _Source, place: GeoBox, band: str) -> str:
    """Return a VRT source: the part of the file that lies on the grid; larger pixels are interpolated."""
    into = ~source.geobox.transform @ place.transform
    col, row = into @ (0, 0)
    right, bottom = into @ (place.width_px, place.height_px)
    is_same = math.isclose(right - col, place.width_px) and math.isclose(bottom - row, place.height_px)
    is_mask = band.startswith("mask")
    how = "" if is_same or is_mask else ' resampling="bilinear"'
    nodata = "" if source.nodata is None or is_same or is_mask else f"<NODATA>{source.nodata!r}</NODATA>"
    kind = "ComplexSource" if nodata else "SimpleSource"
    name = file_name(source.band.href)
    if nodata and not source.knows_nodata:  # GDAL interpolates before it compares with <NODATA>
        name, band = _with_nodata(source), "1"
    return (
        f'<{kind}{how}><SourceFilename relativeToVRT="0">{escape(name)}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>"
        f'<SrcRect xOff="{col!r}" yOff="{row!r}" xSize="{right - col!r}" ySize="{bottom - row!r}"/>'
        f'<DstRect xOff="0" yOff="0" xSize="{place.width_px}" ySize="{place.height_px}"/>{nodata}</{kind}>'
    )


def _with_nodata(source: _Source) -> str:
    """Return a VRT of a band whose file lacks its nodata value."""
    tag = band_tag(1, source.dtype, block_words(source.block, source.geobox))
    words = band_words(None, source.nodata, color_name(""))
    pixels = vrt_source(source.band.href, None, str(source.band.index))
    return f"{''.join(head_lines(source.geobox))}{tag}{words}{pixels}</VRTRasterBand></VRTDataset>"
