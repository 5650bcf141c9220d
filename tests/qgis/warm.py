"""A `geoseg` with its libraries loaded: each command is a fork of one process that loaded them once.

python warm.py SOCKET PATH...    serve on the socket, with the paths first on Python's path, until killed
"""

from __future__ import annotations

import contextlib
import importlib
import marshal
import os
import select
import signal
import socket
import sys
from typing import NoReturn

LIBRARIES = ("geopandas", "onnxruntime", "pyogrio", "rasterio", "geoseg_cli.main")
VERBS = ("areas", "evaluate", "info", "predict", "preview", "sample", "vectorize")
CLIENT = """
import marshal, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    asked = marshal.dumps((sys.argv[1:], os.getcwd(), dict(os.environ)))
    socket.send_fds(line, [len(asked).to_bytes(4, "big")], [0, 1, 2])
    line.sendall(asked)
    os._exit((line.recv(1) or b"\\1")[0])
"""
"""The client: it has the server run the command on the client's stdin, stdout and stderr, and exits with its code."""


def serve(address: str) -> NoReturn:
    """Run each requested command in a fork, and kill it if the client disappears."""
    import geoseg  # noqa: PLC0415 - the paths are known now

    for name in LIBRARIES:
        importlib.import_module(name)
    for verb in VERBS:
        getattr(geoseg, verb, None)
    importlib.import_module("geoseg.inspection.doctor")._broken_import = lambda _modules: None  # it would try torch
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)  # noqa: T201
        while True:
            line, _ = server.accept()
            if not os.fork():
                server.close()
                _attend(line)
            line.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _attend(line: socket.socket) -> NoReturn:
    head, streams, *_ = socket.recv_fds(line, 4, 3)
    size, asked = int.from_bytes(head, "big"), b""
    while len(asked) < size:
        asked += line.recv(size - len(asked))
    worker = os.fork()
    if not worker:
        line.close()
        _work(streams, *marshal.loads(asked))  # noqa: S302 - our own client's
    for stream in (0, 1, 2, *streams):  # their reader waits for their end
        os.close(stream)
    ended = os.pidfd_open(worker)
    if ended not in select.select([line, ended], [], [])[0]:
        os.kill(worker, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    with contextlib.suppress(OSError):
        line.send(bytes([code & 0xFF]))
    os._exit(0)


def _work(streams: list[int], arguments: list[str], folder: str, environment: dict[str, str]) -> NoReturn:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code = 1
    try:
        importlib.import_module("geoseg_cli.main").geoseg(arguments, prog_name="geoseg")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.path[:0] = sys.argv[2:]
    serve(sys.argv[1])
