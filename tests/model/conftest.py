"""Network access is blocked for all tests in this folder, whatever a model requests."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NoReturn

import pytest

from geoseg.model import ModelBundle
from tests.networks import tiny_bundle


def _refuse(*_: object) -> NoReturn:
    raise AssertionError("a model called home")


@pytest.fixture(autouse=True)
def _no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    for way in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, way, _refuse)
    monkeypatch.setattr(socket, "getaddrinfo", _refuse)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("GEOSEG_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"), provenance={"by": "a test"}, gsd_m=0.5, temperature=1.5)
