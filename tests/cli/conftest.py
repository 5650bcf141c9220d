"""Commands run in this process, with a function of the test's own in place of the library's verb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from geoseg_cli.main import geoseg

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Return a function that runs `geoseg` with the given arguments."""
    return lambda *arguments: CliRunner().invoke(geoseg, [str(argument) for argument in arguments])


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Return a function that replaces `plan` and `predict` of the library with a given function."""

    def put(verb: Callable[..., Any]) -> None:
        monkeypatch.setattr("geoseg.inference.plan", verb)
        monkeypatch.setattr("geoseg.inference.predict", verb)

    return put
