"""One HTML file with everything in it: the library, the styles, the data, and tiles as deep as a budget allows.

Its policy forbids all network.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

from geoseg.atomic import check_target, make_folders, write_durably
from geoseg.display.code_table import CodeTable
from geoseg.display.frame import Frame, Tile
from geoseg.display.overview_source import OverviewSource
from geoseg.display.placement import Placement, read_tiles
from geoseg.legend import NODATA
from geoseg.raster import Patch, natural_colors, raster_environment
from geoseg.typed import as_path, checked

_SLOT = re.compile(r"\{\{(\w+)\}\}")
_MAP_COMMENT = re.compile(r"\n//# sourceMappingURL=.*$")
_INLINE_HEIGHT_PX = 620
QUALITY, ROUGH_QUALITY = 72, 40
"""Of pictures, 1 to 100; and of the deepest level where it fits no other way."""
_PERCENT_STEP = 4
"""Confidence is shown in steps of so many percent: finer ones cost bytes, and nobody sees them."""
_SAMPLED_TILES = 24
"""So many tiles, spread over a level, say how large all will be."""


@dataclass(frozen=True, slots=True, repr=False)
@checked
class Page:
    """A page that needs nothing else: no network, no server. A notebook shows it in place."""

    title: str
    html: str
    path: Path | None = None
    """Where it was written, if it was."""

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return len(self.html.encode())

    @checked
    def save(self, path: str | os.PathLike[str], *, mkdir: bool = False, overwrite: bool = False) -> Path:
        """Write the page, whole or not at all, and return its path. Raises OutputError."""
        target = check_target(as_path("path", path), mkdir=mkdir, overwrite=overwrite)
        if mkdir:
            make_folders(target)
        write_durably(target, self.html.encode())
        return target

    def _repr_html_(self) -> str:
        """Return a frame that holds the page; it may run its own program, hand out its table, and nothing else."""
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" title="{html.escape(self.title)}" '
            'sandbox="allow-scripts allow-downloads" '
            f'style="width:100%;height:{_INLINE_HEIGHT_PX}px;border:1px solid #ccc;border-radius:6px"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Page({self.title!r}, {self.size_bytes / 1e6:.1f} MB)"


def build_page(title: str, data: Mapping[str, object]) -> Page:
    """Return the page that shows some data; whatever text the data holds stays text."""
    scripts = {"leaflet": _MAP_COMMENT.sub("", _part("leaflet.js")), "program": _part("page.js")}
    styles = {"leaflet_style": _part("leaflet.css"), "style": _part("page.css")}
    slots = {
        **scripts,
        **styles,
        "title": html.escape(title),
        "policy": _policy(list(scripts.values()), list(styles.values())),
        "license": _part("leaflet-LICENSE.txt").replace("--", "- -"),
        "data": _json_in_html(data),
    }
    return Page(title, _SLOT.sub(lambda slot: slots[slot[1]], _part("page.html")))


def shell_bytes() -> int:
    """Return the size of a page without data."""
    return build_page("", {}).size_bytes


def _json_in_html(data: object) -> str:
    """Return JSON that no parser of HTML can take for the end of its script, or for a tag."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode("utf-8", "replace").decode()  # a lone surrogate has no place in a file


def _policy(scripts: list[str], styles: list[str]) -> str:
    """Return a Content-Security-Policy that allows these very texts, pictures inside the page, and nothing else."""
    return (
        f"default-src 'none'; script-src {_hashes(scripts)}; style-src {_hashes(styles)}; img-src data:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def _hashes(texts: list[str]) -> str:
    digests = (hashlib.sha256(text.encode()).digest() for text in texts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


@cache
def _part(name: str) -> str:
    return (files("geoseg.display") / "page" / name).read_text(encoding="utf-8").replace("\r\n", "\n")


Encode = Callable[[Patch], bytes]
"""Returns the pixels of a tile as they stand in a page."""


@dataclass(slots=True)
class PageLayer:
    """Something to show: where it is read, and how its tiles become bytes."""

    name: str
    source: OverviewSource
    place: Placement
    resampling: Resampling
    encode: Encode
    rough: Encode | None = None
    """Encodes in fewer bytes, if that can be done."""
    is_exact: bool = False
    """It goes on until no pixel of the map is left out."""
    tiles: dict[str, str] = field(default_factory=dict)
    """Base64 by "zoom/column/row"; a tile without a valid pixel is left out."""
    last_zoom: int = 0
    """The deepest that there are tiles of."""


def fill(
    layers: Sequence[PageLayer], frame: Frame, budget_bytes: int, filled: Callable[[int], None] = lambda _levels: None
) -> None:
    """Fill layers with tiles from the coarsest level on, until the budget or the map's own pixels are reached.

    `filled` is told how many levels are. Where one does not fit, the last layers stop first: the first goes deepest.
    """
    spent, deeper = 0, list(layers)
    for zoom in range(frame.first_zoom, frame.exact_zoom + 1):
        deeper = [layer for layer in deeper if layer.is_exact or zoom <= frame.native_zoom]
        left = None if zoom == frame.first_zoom else budget_bytes - spent  # a page without a map is of no use
        while deeper and (level := _fitting(deeper, frame, zoom, left)) is None:
            deeper.pop()
        if not deeper or level is None:
            break
        for layer, tiles in zip(deeper, level, strict=True):
            layer.tiles.update(tiles)
            layer.last_zoom = zoom
        spent += sum(len(text) for tiles in level for text in tiles.values())
        filled(zoom - frame.first_zoom + 1)


def _fitting(layers: Sequence[PageLayer], frame: Frame, zoom: int, left: int | None) -> list[dict[str, str]] | None:
    """Return the tiles of one level, by layer, rough if they must be; None if they do not fit."""
    for tried in (layers, [replace(layer, encode=layer.rough or layer.encode) for layer in layers]):
        if left is None or _estimated(tried, frame, zoom) <= left:
            level = _level(tried, frame, zoom, left)
            if level is not None:
                return level
    return None


def _estimated(layers: Sequence[PageLayer], frame: Frame, zoom: int) -> float:
    """Return about how many characters a level will have; 0 where it is so small that one may as well see."""
    tiles = frame.tiles(zoom)
    if len(tiles) < 2 * _SAMPLED_TILES:
        return 0.0
    places = np.linspace(0, len(tiles) - 1, _SAMPLED_TILES).round().astype(int)
    sample = [tiles[place] for place in places.tolist()]
    size = sum(len(text) for layer in layers for _, text in _encoded(layer, frame, sample))
    return size * len(tiles) / len(sample)


def _level(
    layers: Sequence[PageLayer], frame: Frame, zoom: int, budget_bytes: int | None
) -> list[dict[str, str]] | None:
    """Return the tiles of one level, by layer; None if they are too many for the budget."""
    level: list[dict[str, str]] = []
    spent = 0
    for layer in layers:
        tiles: dict[str, str] = {}
        for key, text in _encoded(layer, frame, frame.tiles(zoom)):
            tiles[key] = text
            spent += len(text)
            if budget_bytes is not None and spent > budget_bytes:
                return None
        level.append(tiles)
    return level


def _encoded(layer: PageLayer, frame: Frame, tiles: Sequence[Tile]) -> Iterator[tuple[str, str]]:
    for tile, patch in read_tiles(layer.source, layer.place, frame, tiles, layer.resampling):
        yield "/".join(map(str, tile)), base64.b64encode(layer.encode(patch)).decode()


def encode_codes(patch: Patch, table: CodeTable) -> bytes:
    """Return the codes of a tile as bytes, row by row, as a zlib stream (RFC 1950); 255 where there is none."""
    return zlib.compress(table.of(patch.data[0], patch.valid).tobytes(), 9)


def encode_confidence(patch: Patch) -> bytes:
    """Return percent like codes, in coarse steps."""
    percent = np.minimum(patch.data[0], 100) // _PERCENT_STEP * _PERCENT_STEP
    return zlib.compress(np.where(patch.valid, percent, NODATA).astype(np.uint8).tobytes(), 9)


@dataclass(frozen=True, slots=True)
class NaturalColors:
    """A scene as a picture: three bands stretched alike, so that colors stay; transparent where it is invalid."""

    low: float
    high: float
    quality: int = QUALITY

    def __call__(self, patch: Patch) -> bytes:
        """Return WebP, or PNG where this GDAL cannot write that."""
        colors = natural_colors(patch.data, self.low, self.high)
        image = np.concatenate([colors, patch.valid[None].astype(np.uint8) * 255])
        if patch.valid.all():
            return _encode_picture(image[:3], self.quality)
        image[:3, ~patch.valid] = image[:3, patch.valid].mean(axis=1, keepdims=True)  # black would bleed over the rim
        return _encode_picture(image, self.quality)


def picture_type() -> str:
    """Return the media type of `encode_picture`."""
    with raster_environment() as _, rasterio.Env() as environment:
        return "image/webp" if "WEBP" in environment.drivers() else "image/png"


def _encode_picture(image: NDArray[np.uint8], quality: int) -> bytes:
    """Return (band, row, col) of three or four bands as a picture of the media type `picture_type`."""
    count, rows, cols = image.shape
    profile = {"width": cols, "height": rows, "count": count, "dtype": "uint8"}
    profile |= {"driver": "WEBP", "QUALITY": quality} if picture_type() == "image/webp" else {"driver": "PNG"}
    with raster_environment(GDAL_PAM_ENABLED=False), MemoryFile() as file:
        with file.open(**profile) as picture:
            picture.write(image)
        return bytes(file.read())
