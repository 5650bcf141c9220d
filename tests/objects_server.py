"""A fake Google and Azure object store on 127.0.0.1; a separate program, because GDAL holds the GIL.

python objects_server.py [--refuses PUT,POST,DELETE] [--busy 10]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

WRITTEN = "Sun, 29 Nov 2026 08:00:00 GMT"
_BLOB = (
    "<Blob><Name>{name}</Name><Properties><Last-Modified>{written}</Last-Modified><Etag>1</Etag>"
    "<Content-Length>{size}</Content-Length><Content-Type>image/tiff</Content-Type></Properties></Blob>"
)
_CONTENTS = (
    "<Contents><Key>{name}</Key><LastModified>2026-11-29T08:00:00Z</LastModified><ETag>1</ETag><Size>{size}</Size>"
    "</Contents>"
)
_DELETED = "--reply\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n\r\n"


class Objects(BaseHTTPRequestHandler):
    """Stores objects by `/bucket/key`; `/--names` lists the keys as JSON."""

    protocol_version = "HTTP/1.1"
    objects: ClassVar[dict[str, bytes]] = {}
    refuses: tuple[str, ...] = ()
    """HTTP methods that are refused."""
    busy = 0
    """The number of coming requests to answer with 503."""

    def do_PUT(self) -> None:
        """Store an object; refuse if it exists and the request is for new objects only."""
        content = self._body()
        headers = self.headers
        is_new = headers.get("If-None-Match") == "*" or headers.get("x-goog-if-generation-match") == "0"
        if self._is_refused():
            return
        if is_new and self._name in self.objects:
            self._send(409 if "x-ms-version" in headers else 412)
            return
        self.objects[self._name] = content
        self._send(201)

    def do_GET(self) -> None:
        """Send an object, a byte range of it, or the names with a prefix."""
        if self.path == "/--names":
            self._send(200, json.dumps(sorted(self.objects)).encode())
            return
        if self._is_refused():
            return
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query or query.get("comp") == ["list"]:
            self._list(query.get("prefix", [""])[0], _BLOB if "comp" in query else _CONTENTS)
            return
        content = self.objects.get(self._name)
        if content is None:
            self._send(404)
            return
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or self.headers.get("x-ms-range") or "")
        if asked is None:
            self._send(200, content)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        self._send(206, content[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(content)}"})

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def do_DELETE(self) -> None:
        """Delete an object."""
        if not self._is_refused():
            self._send(404 if self.objects.pop(self._name, None) is None else 204)

    def do_POST(self) -> None:
        """Delete the objects of an Azure batch request."""
        body = self._body().decode()
        if self._is_refused():
            return
        numbers = re.findall(r"Content-ID: *(\d+)", body, re.IGNORECASE)
        for name in re.findall(r"DELETE (\S+) HTTP", body):
            self.objects.pop(unquote(urlsplit(name).path), None)
        reply = "".join(_DELETED.format(number=number) for number in numbers) + "--reply--\r\n"
        self._send(202, reply.encode(), {"Content-Type": "multipart/mixed; boundary=reply"})

    def _list(self, prefix: str, row: str) -> None:
        bucket = f"{self._name.rstrip('/')}/"
        names = sorted(name.removeprefix(bucket) for name in self.objects if name.startswith(bucket + prefix))
        rows = [row.format(name=escape(n), size=len(self.objects[bucket + n]), written=WRITTEN) for n in names]
        before, after = ("<ListBucketResult>", "</ListBucketResult>")
        if row is _BLOB:
            before, after = ("<EnumerationResults><Blobs>", "</Blobs><NextMarker/></EnumerationResults>")
        self._send(200, "".join([before, *rows, after]).encode(), {"Content-Type": "application/xml"})

    def _is_refused(self) -> bool:
        kind = type(self)
        if kind.busy:
            kind.busy -= 1
            self._send(503)
            return True
        if self.command in self.refuses:
            self._send(403)
            return True
        return False

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    @property
    def _name(self) -> str:
        return unquote(urlsplit(self.path).path)

    def _send(self, status: int, content: bytes = b"", more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"ETag": '"1"', "Last-Modified": WRITTEN, "Content-Length": str(len(content))}
        for name, text in (headers | (more or {})).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def main() -> None:
    """Print the address, then serve until this process is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--refuses", default="")
    parser.add_argument("--busy", type=int, default=0)
    arguments = parser.parse_args()
    Objects.refuses, Objects.busy = tuple(arguments.refuses.split(",")), arguments.busy
    server = ThreadingHTTPServer(("127.0.0.1", 0), Objects)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
