"""A server of map tiles for tests: each has its zoom, column and row as its color. It runs as a process of its own.

`/--seen` tells which tiles were asked for. Rows of 1000 and more are not there.
"""

from __future__ import annotations

import http.server
import json
import re
import sys
from http import HTTPStatus

import numpy as np
from rasterio.io import MemoryFile

SEEN: list[list[int]] = []
TILE_PX = 256


def tile(zoom: int, col: int, row: int) -> bytes:
    """Return a PNG in which column and row of a pixel can be told."""
    pixels = np.empty((3, TILE_PX, TILE_PX), np.uint8)
    pixels[0] = (col * 7 + zoom) % 200 + 20
    pixels[1] = (row * 11) % 200 + 20
    pixels[2] = np.add.outer(np.arange(TILE_PX), np.arange(TILE_PX)) % 200 + 20
    with MemoryFile() as file:
        with file.open(driver="PNG", count=3, dtype="uint8", height=TILE_PX, width=TILE_PX) as png:
            png.write(pixels)
        return bytes(file.read())


class TileHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/--seen":
            self._send(HTTPStatus.OK, json.dumps(SEEN).encode())
            return
        found = re.match(r"/tiles/(\d+)/(\d+)/(\d+)\.png", self.path)
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, b"")
            return
        zoom, col, row = map(int, found.groups())
        SEEN.append([zoom, col, row])
        self._send(HTTPStatus.OK, tile(zoom, col, row), "image/png")

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
