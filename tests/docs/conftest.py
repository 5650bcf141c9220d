"""A folder with every file that the docs mention, built once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs import world


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "all"
    world.build(folder)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: None) -> Path:  # noqa: ARG001
    """Return a copy of the folder, made the current one."""
    here = tmp_path / "here"
    shutil.copytree(built, here)
    monkeypatch.chdir(here)
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path / "cache"))
    return here
