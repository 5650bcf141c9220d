"""One browser for all pages."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from geoseg.display import preview
from tests.display.browser import SIZES, Browser, Tab, browsing, find_browser

NEEDS = [
    pytest.mark.skipif(find_browser() is None, reason="no Chromium here (Debian: apt-get install chromium)"),
    pytest.mark.skipif(sys.platform == "win32", reason="the browser is driven over POSIX pipes"),
]
"""The marks of tests that need a browser."""
Open = Callable[..., Tab]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = find_browser()
    assert program is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, browsing(program, Path(folder)) as found:
        yield found


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens the page of a map in a tab; tabs close when the test ends."""
    tabs: list[Tab] = []

    def show(landcover: Path, scene: Path | None = None, size: tuple[int, int] = SIZES[0], **knobs: Any) -> Tab:
        out = tmp_path / "map.html"
        preview(landcover, scene, out=out, overwrite=True, **knobs)
        tabs.append(Tab(browser, out, *size))
        return tabs[-1]

    yield show
    for tab in tabs:
        tab.close()
