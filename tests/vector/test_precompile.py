"""The first run on a machine: kernels compile in a second process if there is a Python for it, else in this one."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from geoseg.vector.polygonize import Tracing
from geoseg.vector.vectorize import precompile

verb: Any = import_module("geoseg.vector.vectorize")  # where the face has the function of that name


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the list of commands that were started; all of them fail, and nothing is compiled yet."""
    commands: list[list[str]] = []

    def refuse(command: list[str], **_settings: Any) -> None:
        commands.append(command)
        raise OSError("no more processes")

    monkeypatch.setattr(verb.subprocess, "Popen", refuse)
    monkeypatch.setattr(verb, "_is_compiled", lambda _kernel: False)
    return commands


def test_a_process_that_cannot_start_is_done_without(started: list[list[str]]) -> None:
    precompile("uint8", Tracing(), Path("cover.fgb"), print)
    (command,) = started
    assert command[:4] == [sys.executable, "-P", "-m", "geoseg.vector.vectorize"]  # nothing of the working directory
    assert command[4:] == [".fgb"]


@pytest.mark.parametrize("program", ["/opt/bin/qgis", "C:\\QGIS\\bin\\qgis-bin.exe", "", None])
def test_another_program_with_python_in_it_is_not_started_again(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    precompile("uint8", Tracing(), None, print)
    assert started == []


def test_compiled_kernels_need_no_process(monkeypatch: pytest.MonkeyPatch, started: list[list[str]]) -> None:
    monkeypatch.setattr(verb, "_is_compiled", lambda _kernel: True)
    precompile("uint8", Tracing(), None, print)
    assert started == []
