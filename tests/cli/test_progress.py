from __future__ import annotations

import sys

import pytest

from geoseg.progress import Progress
from geoseg_cli.progress import ProgressBar
from geoseg_cli.say import complain

RESUMED = Progress(2, 10, 2_000_000, 10_000_000, 0, 0.0)
HALF = Progress(5, 10, 5_000_000, 10_000_000, 3_000_000, 30.0)
DONE = Progress(10, 10, 10_000_000, 10_000_000, 8_000_000, 80.0)


def test_elsewhere_than_on_a_terminal_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(quiet=False) as bar:
        bar.announce("bands 1,2,3")
        for state in (RESUMED, HALF):
            bar.update(state)
    said = capsys.readouterr()
    assert said.out == ""
    # three million pixels in 30 s are 0.1 Mpx/s, which leaves 50 s for the other five
    assert said.err.splitlines() == ["bands 1,2,3", "50% of 10 Mpx, 0.10 Mpx/s, 00:50 left"]


def test_on_a_terminal_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    with ProgressBar(quiet=False) as bar:
        for state in (RESUMED, HALF, DONE):
            bar.update(state)
        bar.announce("put together")
    said = capsys.readouterr().err
    assert "px/s" in said
    assert "20%" in said
    assert "10.0M/10.0M" in said
    assert "put together" in said


@pytest.mark.parametrize("no_color", [None, "1"])
def test_no_colours_with_or_without_no_color(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, no_color: str | None
) -> None:
    """https://no-color.org: there are none to be left out."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    if no_color is None:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", no_color)
    with ProgressBar(quiet=False) as bar:
        for state in (RESUMED, HALF, DONE):
            bar.update(state)
        bar.announce("put together")
    complain("error", "no colours")
    said = capsys.readouterr().err
    assert "no colours" in said
    assert "\x1b" not in said


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressBar(quiet=True) as bar:
        bar.announce("bands 1,2,3")
        bar.update(HALF)
    said = capsys.readouterr()
    assert said.out + said.err == ""


def test_the_summary_counts_this_run_only() -> None:
    with ProgressBar(quiet=True) as bar:
        assert bar.summary == ""
        bar.update(DONE)
    assert bar.summary == ": 8.0 Mpx in 80.0 s, 0.10 Mpx/s"


def test_the_summary_of_few_pixels_is_in_pixels() -> None:
    with ProgressBar(quiet=True) as bar:
        bar.update(Progress(1, 1, 8_366, 8_366, 8_366, 0.2))
    assert bar.summary == ": 8 366 px in 0.2 s"
