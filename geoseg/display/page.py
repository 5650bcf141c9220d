"""A self-contained HTML file: the library, the styles, the data, and tiles as deep as a byte budget allows.

Its security policy forbids all network access.
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

from geoseg.atomic import check_target, make_folders, write_durably
from geoseg.display.code_table import CodeTable
from geoseg.display.frame import Frame, Tile
from geoseg.display.overview_source import OverviewSource
from geoseg.display.placement import Placement, read_tiles
from geoseg.legend import NODATA
from geoseg.prefetch import prefetch
from geoseg.raster import Patch, encoded_picture, natural_colors, raster_environment
from geoseg.typed import as_path, checked

_SLOT = re.compile(r"\{\{(\w+)\}\}")
_MAP_COMMENT = re.compile(r"\n//# sourceMappingURL=.*$")
_INLINE_HEIGHT_PX = 620
QUALITY, ROUGH_QUALITY = 72, 40
"""Quality of pictures, 1 to 100; the second is for the deepest level if it does not fit otherwise."""
_PERCENT_STEP = 4
"""Confidence is shown in steps of this many percent: finer steps cost bytes and are not visible."""
_SAMPLED_TILES = 24
"""Number of tiles, spread over a level, from which its size is estimated."""


@dataclass(frozen=True, slots=True, repr=False)
@checked
class Page:
    """A self-contained page, without network or server. Notebooks show it inline."""

    title: str
    html: str
    path: Path | None = None
    """Where it was saved, if it was."""

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
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
        """Return a sandboxed frame with the page, which may only run its own scripts and download its table."""
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" title="{html.escape(self.title)}" '
            'sandbox="allow-scripts allow-downloads" '
            f'style="width:100%;height:{_INLINE_HEIGHT_PX}px;border:1px solid #ccc;border-radius:6px"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Page({self.title!r}, {self.size_bytes / 1e6:.1f} MB)"


def build_page(title: str, data: Mapping[str, object]) -> Page:
    """Return a page that shows some data; text in the data is never interpreted as HTML."""
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
    """Return JSON in which no HTML parser can find a tag or the end of the script."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode("utf-8", "replace").decode()  # UTF-8 cannot encode lone surrogates


def _policy(scripts: list[str], styles: list[str]) -> str:
    """Return a Content-Security-Policy that allows only these texts, by hash, and pictures inside the page."""
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
"""Encodes the pixels of a tile for the page."""


@dataclass(slots=True)
class PageLayer:
    """A layer of a page: its source, and how its tiles are encoded."""

    name: str
    source: OverviewSource
    place: Placement
    resampling: Resampling
    encode: Encode
    rough: Encode | None = None
    """Encodes in fewer bytes, if possible."""
    is_exact: bool = False
    """Whether its tiles go as deep as needed to show every pixel of the map."""
    tiles: dict[str, str] = field(default_factory=dict)
    """Base64 by "zoom/column/row"; tiles without valid pixels are left out."""
    last_zoom: int = 0
    """The deepest zoom that has tiles."""


def fill(
    layers: Sequence[PageLayer], frame: Frame, budget_bytes: int, filled: Callable[[int], None] = lambda _levels: None
) -> None:
    """Fill layers with tiles from the coarsest level on, until the budget or the map's own resolution is reached.

    `filled` is called with the number of finished levels. If a level does not fit, the last layers stop first.
    """
    spent, unfinished = 0, list(layers)
    for zoom in range(frame.first_zoom, frame.exact_zoom + 1):
        unfinished = [layer for layer in unfinished if layer.is_exact or zoom <= frame.native_zoom]
        left_bytes = None if zoom == frame.first_zoom else budget_bytes - spent  # a page without a map would be useless
        while unfinished and (level := _level_within(unfinished, frame, zoom, left_bytes)) is None:
            unfinished.pop()
        if not unfinished or level is None:
            break
        for layer, tiles in zip(unfinished, level, strict=True):
            layer.tiles.update(tiles)
            layer.last_zoom = zoom
        spent += sum(len(text) for tiles in level for text in tiles.values())
        filled(zoom - frame.first_zoom + 1)


def _level_within(
    layers: Sequence[PageLayer], frame: Frame, zoom: int, left_bytes: int | None
) -> list[dict[str, str]] | None:
    """Return the tiles of one level, by layer, at rough quality if needed; None if they do not fit."""
    for candidates in (layers, [replace(layer, encode=layer.rough or layer.encode) for layer in layers]):
        if left_bytes is None or _estimated(candidates, frame, zoom) <= left_bytes:
            level = _level(candidates, frame, zoom, left_bytes)
            if level is not None:
                return level
    return None


def _estimated(layers: Sequence[PageLayer], frame: Frame, zoom: int) -> float:
    """Estimate how many characters a level needs; 0 if it is so small that it can simply be encoded."""
    tiles = frame.tiles(zoom)
    if len(tiles) < 2 * _SAMPLED_TILES:
        return 0.0
    indexes = np.linspace(0, len(tiles) - 1, _SAMPLED_TILES).round().astype(int)
    sample = [tiles[index] for index in indexes.tolist()]
    size = sum(len(text) for layer in layers for _, text in _encoded(layer, frame, sample))
    return size * len(tiles) / len(sample)


def _level(
    layers: Sequence[PageLayer], frame: Frame, zoom: int, budget_bytes: int | None
) -> list[dict[str, str]] | None:
    """Return the tiles of one level, by layer; None if they exceed the budget."""
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
    for tile, patch in prefetch(read_tiles(layer.source, layer.place, frame, tiles, layer.resampling)):
        yield "/".join(map(str, tile)), base64.b64encode(layer.encode(patch)).decode()


def encode_codes(patch: Patch, table: CodeTable) -> bytes:
    """Return the codes of a tile as bytes, row by row, as a zlib stream (RFC 1950); 255 where there is no code."""
    return zlib.compress(table.of(patch.data[0], patch.valid).tobytes(), 9)


def encode_confidence(patch: Patch) -> bytes:
    """Return percentages, encoded like codes, in coarse steps."""
    percent = np.minimum(patch.data[0], 100) // _PERCENT_STEP * _PERCENT_STEP
    return zlib.compress(np.where(patch.valid, percent, NODATA).astype(np.uint8).tobytes(), 9)


@dataclass(frozen=True, slots=True)
class NaturalColors:
    """Encodes a scene as pictures: one stretch for three bands keeps colors true; invalid pixels are transparent."""

    low: float
    high: float
    quality: int = QUALITY

    def __call__(self, patch: Patch) -> bytes:
        """Return a WebP, or a PNG if this GDAL cannot write WebP."""
        colors = natural_colors(patch.data, self.low, self.high)
        image = np.concatenate([colors, patch.valid[None].astype(np.uint8) * 255])
        if patch.valid.all():
            return _encode_picture(image[:3], self.quality)
        image[:3, ~patch.valid] = image[:3, patch.valid].mean(axis=1, keepdims=True)  # black would bleed into the rim
        return _encode_picture(image, self.quality)


def picture_type() -> str:
    """Return the media type of `encode_picture`."""
    with raster_environment() as _, rasterio.Env() as environment:
        return "image/webp" if "WEBP" in environment.drivers() else "image/png"


def _encode_picture(image: NDArray[np.uint8], quality: int) -> bytes:
    """Encode (band, row, col), three or four bands, as a picture of the media type `picture_type`."""
    if picture_type() == "image/webp":
        return encoded_picture(image, "WEBP", QUALITY=quality)
    return encoded_picture(image, "PNG")
