from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from geoseg_cli.main import geoseg
from tests.adversity.promises import Outcome
from tests.adversity.scenes import write_scene
from tests.networks import tiny_bundle

Predict = Callable[..., Outcome]
Start = Callable[..., "subprocess.Popen[str]"]
GEOSEG = (sys.executable, "-m", "geoseg_cli")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small bundle with its export next to it; its window is 64."""
    return tiny_bundle(tmp_path_factory.mktemp("model")).weights_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder in which to run commands."""
    place = tmp_path / "place"
    place.mkdir()
    return place


@pytest.fixture
def scene(folder: Path) -> Path:
    """Return a scene of 100 x 130 pixels."""
    return write_scene(folder / "scene.tif")


@pytest.fixture
def predict(model: Path, capfd: pytest.CaptureFixture[str]) -> Predict:
    """Return a function that runs `geoseg predict --quiet` in this process and captures C libraries' output too."""

    def run(*arguments: object, quiet: bool = True) -> Outcome:
        words = [str(argument) for argument in arguments]
        chosen = [] if "--model" in words else ["--model", str(model)]
        capfd.readouterr()
        result = CliRunner().invoke(geoseg, ["predict", *chosen, *(["--quiet"] if quiet else []), *words])
        native = capfd.readouterr()
        return Outcome(result.exit_code, result.stdout + native.out, result.stderr + native.err)

    return run


@pytest.fixture
def start(model: Path) -> Start:
    """Return a function that starts `geoseg predict --quiet` as a separate process."""

    def run(
        *arguments: object, env: dict[str, str] | None = None, program: Sequence[str] = GEOSEG, **popen: Any
    ) -> subprocess.Popen[str]:
        settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [*program, "predict", "--model", str(model), "--quiet", *map(str, arguments)]
        return subprocess.Popen(command, env=os.environ | (env or {}), **(settings | popen))

    return run


def finish(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a process and return its outcome."""
    out, err = process.communicate(timeout=120)
    return Outcome(process.returncode, out or "", err or "")


@pytest.fixture
def stop_all() -> Iterator[list[subprocess.Popen[str]]]:
    """Return a list; the processes in it are killed when the test ends."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
