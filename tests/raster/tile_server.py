"""A map tile server for tests, run as a separate process: a tile's color encodes its zoom, column and row.

`/--seen` lists the requested tiles. `/wms` answers like a WMS, `/wms-black` with an empty picture, `/wms-sorry` with an
error message, `/wms-503` without one; `/wmts.xml` describes the tiles as a WMTS. A tile
below `/clear` is transparent in part, one below `/page` is no picture, one below `/locked` is refused, and one below
`/large` has 512 pixels per side: the four tiles of the next zoom. Below `/gaps` only columns of an even number have
such tiles; below `/dots` all have 1 pixel.
"""

from __future__ import annotations

import http.server
import json
import re
import sys
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from rasterio.io import MemoryFile

SEEN: list[list[int]] = []
TILE_PX = 256
HALF_M = 20037508.342789244
WMTS_ZOOMS = (14, 15, 16)


def tile(zoom: int, col: int, row: int) -> bytes:
    """Return a PNG whose pixels encode the tile and their position in it."""
    pixels = np.empty((3, TILE_PX, TILE_PX), np.uint8)
    pixels[0] = (col * 7 + zoom) % 200 + 20
    pixels[1] = (row * 11) % 200 + 20
    pixels[2] = np.add.outer(np.arange(TILE_PX), np.arange(TILE_PX)) % 200 + 20
    return png_of(pixels)


def clear_tile() -> bytes:
    """Return a PNG: white, its upper half transparent, its first columns black."""
    pixels = np.full((4, TILE_PX, TILE_PX), 255, np.uint8)
    pixels[3, : TILE_PX // 2] = pixels[:3, :, :9] = 0
    return png_of(pixels)


def picture(bbox: tuple[float, float, float, float], width: int, height: int) -> np.ndarray[Any, Any]:
    """Return the WMS's picture of a box: each pixel's value encodes the position of its center."""
    west, south, east, north = bbox
    xs = west + (np.arange(width) + 0.5) * (east - west) / width
    ys = north - (np.arange(height) + 0.5) * (north - south) / height
    pixels = np.full((3, height, width), 90, np.uint8)
    pixels[0], pixels[1] = (np.floor(xs) % 200 + 20)[None], (np.floor(ys) % 200 + 20)[:, None]
    return pixels


def large_tile(zoom: int, col: int, row: int) -> bytes:
    """Return the PNG of the four tiles of the next zoom."""
    lines = []
    for below in (2 * row, 2 * row + 1):
        line = []
        for across in (2 * col, 2 * col + 1):
            with MemoryFile(tile(zoom + 1, across, below)) as file, file.open() as png:
                line.append(png.read())
        lines.append(np.concatenate(line, axis=2))
    return png_of(np.concatenate(lines, axis=1))


def png_of(pixels: np.ndarray[Any, Any]) -> bytes:
    """Return pixels (band, row, col) as a PNG."""
    count, height, width = pixels.shape
    with MemoryFile() as file:
        with file.open(driver="PNG", count=count, dtype="uint8", height=height, width=width) as png:
            png.write(pixels)
        return bytes(file.read())


def capabilities(port: int) -> str:
    """Return the description of a WMTS that has the tiles of three zooms."""
    matrices = "".join(
        f"<TileMatrix><ows:Identifier>{zoom}</ows:Identifier>"
        f"<ScaleDenominator>{2 * HALF_M / 2**zoom / TILE_PX / 0.00028!r}</ScaleDenominator>"
        f"<TopLeftCorner>{-HALF_M} {HALF_M}</TopLeftCorner><TileWidth>{TILE_PX}</TileWidth>"
        f"<TileHeight>{TILE_PX}</TileHeight><MatrixWidth>{2**zoom}</MatrixWidth>"
        f"<MatrixHeight>{2**zoom}</MatrixHeight></TileMatrix>"
        for zoom in WMTS_ZOOMS
    )
    template = f"http://127.0.0.1:{port}/tiles/{{TileMatrix}}/{{TileCol}}/{{TileRow}}.png"
    return (
        '<Capabilities xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1" '
        'version="1.0.0"><Contents><Layer><ows:Identifier>x</ows:Identifier><Style isDefault="true">'
        "<ows:Identifier>default</ows:Identifier></Style><Format>image/png</Format><TileMatrixSetLink>"
        "<TileMatrixSet>web</TileMatrixSet></TileMatrixSetLink>"
        f'<ResourceURL format="image/png" resourceType="tile" template="{template}"/></Layer>'
        "<TileMatrixSet><ows:Identifier>web</ows:Identifier>"
        f"<ows:SupportedCRS>urn:ogc:def:crs:EPSG::3857</ows:SupportedCRS>{matrices}</TileMatrixSet></Contents>"
        "</Capabilities>"
    )


class TileHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/--seen":
            self._send(HTTPStatus.OK, json.dumps(SEEN).encode())
            return
        if self.path.startswith(("/wms", "/wmts")):
            self._send_map()
            return
        if self.path.startswith("/locked"):
            self._send(HTTPStatus.FORBIDDEN, b"")
            return
        if self.path.startswith(("/clear", "/page")):
            is_page = self.path.startswith("/page")
            self._send(HTTPStatus.OK, b"<html>" if is_page else clear_tile(), "text/html" if is_page else "image/png")
            return
        found = re.match(r"/(?:tiles|large|gaps|dots)/(\d+)/(\d+)/(\d+)\.png", self.path)
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, b"")
            return
        zoom, col, row = map(int, found.groups())
        SEEN.append([zoom, col, row])
        if self.path.startswith("/gaps") and col % 2:
            self._send(HTTPStatus.NOT_FOUND, b"")
            return
        made = large_tile if self.path.startswith(("/large", "/gaps")) else tile
        dot = png_of(np.full((3, 1, 1), 9, np.uint8))
        self._send(HTTPStatus.OK, dot if self.path.startswith("/dots") else made(zoom, col, row), "image/png")

    def _send_map(self) -> None:
        address = urlsplit(self.path)
        asked = {name.upper(): values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "/wmts.xml":
            self._send(HTTPStatus.OK, capabilities(self.server.server_address[1]).encode(), "text/xml")
        elif address.path == "/wms-sorry":
            self._send(HTTPStatus.OK, b"<ServiceException>no such layer</ServiceException>", "text/xml")
        elif address.path == "/wms-503":
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"")
        else:
            west, south, east, north = map(float, asked["BBOX"].split(","))
            pixels = picture((west, south, east, north), int(asked["WIDTH"]), int(asked["HEIGHT"]))
            SEEN.append([0, 0, 0])
            self._send(HTTPStatus.OK, png_of(pixels * (address.path == "/wms")), "image/png")

    def _send(self, status: HTTPStatus, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), TileHandler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
