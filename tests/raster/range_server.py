"""A web server for tests that serves byte ranges, unlike the standard library's.

It runs as a separate process, because GDAL may hold the GIL while it waits for a response. `/--busy/2` makes it
refuse the next two requests, `/--slow/2` wait two seconds before each file; `/--seen` reports the number of requests,
of those for what is not there, of signed ones, and the bytes.
"""

from __future__ import annotations

import http.server
import json
import re
import sys
import time
from functools import partial
from http import HTTPStatus
from pathlib import Path

STATE = {"busy": 0, "slow": 0, "requests": 0, "bytes": 0, "signed": 0, "missing": 0}


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = Path(self.translate_path(self.path))
        STATE["signed"] += "Authorization" in self.headers
        if self.path.startswith("/--busy/"):
            STATE["busy"] = int(self.path.removeprefix("/--busy/"))
            self._send(HTTPStatus.OK, b"")
        elif self.path.startswith("/--slow/"):
            STATE["slow"] = int(self.path.removeprefix("/--slow/"))
            self._send(HTTPStatus.OK, b"")
        elif self.path == "/--seen":
            self._send(HTTPStatus.OK, json.dumps(STATE).encode())
        elif STATE["busy"] > 0:
            STATE["busy"] -= 1
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"")
        elif not path.is_file():
            STATE["missing"] += 1
            self._send(HTTPStatus.NOT_FOUND, b"")
        else:
            self._send_file(path)

    def _send_file(self, path: Path) -> None:
        time.sleep(STATE["slow"])
        content = path.read_bytes()
        tag = {"ETag": f'"{path.stat().st_mtime_ns}"', "Accept-Ranges": "bytes"}
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        STATE["requests"] += 1
        if not asked:
            STATE["bytes"] += len(content) if self.command == "GET" else 0
            self._send(HTTPStatus.OK, content, tag)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        STATE["bytes"] += last - first + 1
        span = {"Content-Range": f"bytes {first}-{last}/{len(content)}", **tag}
        self._send(HTTPStatus.PARTIAL_CONTENT, content[first : last + 1], span)

    def _send(self, status: HTTPStatus, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


if __name__ == "__main__":
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(RangeHandler, directory=sys.argv[1])) as server:
        sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()
