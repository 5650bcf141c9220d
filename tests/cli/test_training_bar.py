from __future__ import annotations

import sys

import pytest

from geoseg.progress import Progress
from geoseg.training import TrainingProgress
from geoseg_cli.progress_bar import TrainingBar

DECODED = Progress(1, 4, 1_000_000, 4_000_000, 1_000_000, 40.0)


def moment(batches_done: int, seconds: float) -> TrainingProgress:
    return TrainingProgress(batches_done, 200, 1 + batches_done // 100, 2, 0.5, 1e-3, seconds, 2 * seconds)


def test_nothing_is_known_before_the_first_batch() -> None:
    with TrainingBar(quiet=False) as bar:
        assert (bar.summary, bar.kept) == ("", "")


def test_elsewhere_than_on_a_terminal_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingBar(quiet=False) as bar:
        bar.announce("4 scenes")
        bar.decoding(DECODED)
        for batches, seconds in ((1, 1.0), (60, 61.0), (110, 110.0), (130, 122.0)):
            bar.update(moment(batches, seconds))
    said = capsys.readouterr()
    assert said.out == ""
    # a million pixels in 40 s are 0.025 Mpx/s, which leaves 120 s; a line of batches at most once in 60 s
    assert said.err.splitlines() == [
        "4 scenes", "25% of 4 Mpx, 0.03 Mpx/s, 02:00 left", "epoch 1 of 2, batch 60 of 200, loss 0.500, 02:02 left",
        "epoch 2 of 2, batch 130 of 200, loss 0.500, 04:04 left",
    ]  # fmt: skip
    assert bar.summary == ": 130 batches, this run 02:02"
    assert bar.kept == " at batch 130 of 200"


def test_on_a_terminal_one_bar_after_the_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    with TrainingBar(quiet=False) as bar:
        bar.decoding(DECODED)
        bar.announce("learning")
        bar.update(moment(1, 1.0))
        bar.announce("1/2 0.9")
        bar.update(moment(200, 200.0))
    told = capsys.readouterr().err
    parts = ["1.00M/4.00M", "learning", "1/2 0.9", "200/200"]
    places = [told.index(part) for part in parts]
    assert places == sorted(places)
    assert "\n" in told[places[0] : places[1]]  # the line is not appended to the decoding bar


def test_quiet_says_nothing_and_counts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with TrainingBar(quiet=True) as bar:
        bar.announce("4 scenes")
        bar.decoding(DECODED)
        bar.update(moment(7, 70.0))
    assert bar.kept == " at batch 7 of 200"
    said = capsys.readouterr()
    assert said.out + said.err == ""
