"""A fake Hugging Face hub on 127.0.0.1 that answers the requests of huggingface_hub."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories by owner/name with their files, and the requests received."""

    repositories: dict[str, dict[str, bytes]]
    closed: dict[str, str] = field(default_factory=dict)
    """Repositories that answer with an error, and the hub's code for it."""
    cut: set[str] = field(default_factory=set)
    """Files of which only the first half is sent."""
    broken: set[str] = field(default_factory=set)
    """Files whose requests fail on the server."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request."""
    endpoint: str = ""

    @property
    def downloads(self) -> int:
        """The number of files sent."""
        return sum(method == "GET" and "/resolve/" in path for method, path in self.asked)


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve the hub inside the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)  # shutdown waits that long
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append((self.command, path))
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self._about("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
        if parts[2:3] == ["resolve"]:
            return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self._send(404, b"")

    def _about(self, name: str, revision: str) -> None:
        files = self._open(name, revision)
        if files is None:
            return
        siblings = [{"rfilename": file, "size": len(content)} for file, content in files.items()]
        self._send(200, json.dumps({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}).encode())

    def _file(self, name: str, revision: str, file: str) -> None:
        files = self._open(name, revision)
        if files is None:
            return
        if file not in files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        if file in self.hub.broken:
            self._send(503, b"")
            return
        content = files[file]
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        self._send(200, content, headers, half=file in self.hub.cut)

    def _open(self, name: str, revision: str) -> dict[str, bytes] | None:
        """Return the files of a repository, or send the error and return None."""
        code = self.hub.closed.get(name)
        if code is None and name not in self.hub.repositories:
            code = "RepoNotFound"
        if code is None and revision not in {"main", COMMIT}:
            code = "RevisionNotFound"
        if code is None:
            return self.hub.repositories[name]
        status = {"GatedRepo": 403, "Forbidden": 403, "Broken": 500, "RepoNotFound": 401}.get(code, 404)
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": "no"})
        return None

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None, *, half: bool = False) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if half else content)
            self.wfile.flush()
        if half:
            self.close_connection = True
