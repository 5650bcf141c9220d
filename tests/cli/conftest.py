"""Commands run in this process, on a library verb that a test chooses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from geoseg_cli.main import geoseg

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Return a function that runs `geoseg` with arguments."""
    return lambda *arguments: CliRunner().invoke(geoseg, [str(argument) for argument in arguments])


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Return a function that puts a function in the place of the library's verbs."""

    def put(verb: Callable[..., Any]) -> None:
        for home, name in (("planning", "plan"), ("predict", "predict")):
            module = ModuleType(f"geoseg.inference.{home}")
            setattr(module, name, verb)
            monkeypatch.setitem(sys.modules, module.__name__, module)

    return put
