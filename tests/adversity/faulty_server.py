"""A web server for one file, with faults: python faulty_server.py FILE FAULT.

FAULT is a file that may hold a status such as 404, or the word cut. Runs as a separate process, because rasterio holds
the GIL while GDAL requests a file's sidecars.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CONTENT, FAULT = Path(sys.argv[1]), Path(sys.argv[2])


class Handler(BaseHTTPRequestHandler):
    """Serves /scene.tif, including byte ranges."""

    def do_HEAD(self) -> None:
        """Send the headers only."""
        self._answer()

    def do_GET(self) -> None:
        """Send the file, or the requested range."""
        self._answer()

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _answer(self) -> None:
        fault = FAULT.read_text()
        content = CONTENT.read_bytes()
        if self.path != "/scene.tif" or fault.isdigit():
            self._send(int(fault) if fault.isdigit() else 404, {}, b"", 0)
            return
        first, last = 0, len(content) - 1
        span = self.headers.get("Range", "")
        if span.startswith("bytes="):
            start, _, stop = span.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(stop or last), last)
        if first > last:
            self._send(416, {}, b"", 0)
            return
        chunk = content[first : last + 1]
        headers = {"ETag": f'"{len(content)}"', "Accept-Ranges": "bytes"}
        if span:
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(206 if span else 200, headers, chunk[: len(chunk) // 2] if fault == "cut" else chunk, len(chunk))

    def _send(self, status: int, headers: dict[str, str], body: bytes, announced: int) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(announced)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sys.stdout.write(f"http://127.0.0.1:{server.server_port}/scene.tif\n")
        sys.stdout.flush()
        server.serve_forever()
