from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.transform
from click.testing import CliRunner

from geoseg.errors import ModelError
from geoseg.progress import Download, Progress, download_listener
from geoseg_cli.main import geoseg
from geoseg_cli.output import complain
from geoseg_cli.progress_bar import ProgressBar

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
            bar.announce("see `bands`")
        bar.announce("put together")
    said = capsys.readouterr().err
    assert "see --bands" in said
    assert "px/s" in said
    assert "20%" in said
    assert "10.0M/10.0M" in said
    assert "put together" in said


@pytest.mark.parametrize("no_color", [None, "1"])
def test_no_colors_with_or_without_no_color(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, no_color: str | None
) -> None:
    """The output has no colors, so https://no-color.org is respected either way."""
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
    complain("error", "no colors")
    said = capsys.readouterr().err
    assert "no colors" in said
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


def test_a_run_that_finds_all_its_tiles_done_sums_up_nothing() -> None:
    with ProgressBar(quiet=True) as bar:
        bar.update(Progress(4, 4, 8_366, 8_366, 0, 0.0))
    assert bar.summary == ""


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_tells_each_stage_from_its_beginning_to_its_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geoseg_cli.output._shown", ["json"])
    many = [Progress(n, 1000, n * 1000, 1_000_000, n * 1000, n / 100) for n in range(1001)]
    built = [Progress(n, 2, n * 500_000, 1_000_000, n * 500_000, n, stage="assemble") for n in range(3)]
    with ProgressBar(quiet=False) as bar:
        bar.announce("bands 1,2,3")
        for state in (Progress(0, 1, 0, 0, 0, 0.0, stage="export"), *many, *built):
            bar.update(state)
        complain("warning", "two\nlines")
    said = capsys.readouterr()
    assert said.out == ""
    told = lines(said.err)
    assert told[0] == {"message": "bands 1,2,3"}
    assert {"warning": "two lines"} in told
    states = [each for each in told if "stage" in each]
    assert [each["stage"] for each in states if each["done"] == 0] == ["export", "map", "assemble"]
    assert [each["stage"] for each in states if each["done"] == each["total"]] == ["map", "assemble"]
    assert len(states) < 20  # a thousand instant tiles do not print a thousand lines
    last = next(each for each in states if each["stage"] == "map" and each["done"] == each["total"])
    assert last | {"seconds_left": 0.0, "megapixels_per_second": 0.1, "unit": "px", "pieces_total": 1000} == last


@pytest.mark.parametrize("how", ["json", "lines", "none"])
def test_a_command_is_told_how_to_show_its_progress(tmp_path: Path, how: str) -> None:
    """A successful run, a failed run and a usage error all write to stderr in the chosen form."""
    raster = tmp_path / "map.tif"
    with rasterio.open(
        raster, "w", driver="GTiff", width=40, height=30, count=1, dtype="uint8", crs="EPSG:32631",
        transform=rasterio.transform.from_origin(0, 30, 1, 1),
    ) as dataset:  # fmt: skip
        dataset.write((np.indices((30, 40)).sum(0) // 9 % 3).astype("uint8"), 1)
    words = ["vectorize", str(raster), "--out", str(tmp_path / "a.geojson"), "--progress", how]
    done, failed = (CliRunner().invoke(geoseg, words) for _ in range(2))
    wrong = CliRunner().invoke(geoseg, [*words, "--connectivity", "x"])
    assert (done.exit_code, failed.exit_code, wrong.exit_code) == (0, 1, 2)
    if how == "json":
        told = lines(done.stderr)
        assert {each["stage"] for each in told if "stage" in each} == {"polygons"}
        assert told[-1]["message"].startswith("wrote ")
        assert "exists" in lines(failed.stderr)[-1]["error"]
        assert "connectivity" in lines(wrong.stderr)[-1]["error"]
    else:
        assert not set("\r{") & set(done.stderr + failed.stderr + wrong.stderr)  # neither a bar nor JSON
        assert done.stderr.splitlines()[-1].startswith("wrote ")
        for ended in (failed, wrong):
            assert ended.stderr.splitlines()[-1].startswith("geoseg: error: ")


def test_an_error_does_not_stand_behind_the_bar_of_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_short(address: str) -> None:
        listener = download_listener()
        assert listener is not None
        for done in (1, 2):
            listener(Download(address, done * 10**6, 10**7, done))
        raise ModelError("it was cut short")

    monkeypatch.setattr("geoseg.model.bundle.bundle.fetch", cut_short)
    monkeypatch.setattr("geoseg_cli.progress_bar.progress_shown", lambda: "bar")
    monkeypatch.setattr("geoseg_cli.progress_bar._DOWNLOAD_DELAY_S", 0)
    monkeypatch.setenv("COLUMNS", "100")
    said = CliRunner().invoke(geoseg, ["info", "hf://us/coast"]).stderr
    drawn, _, error = said.rpartition("\r")
    assert "coast: " in drawn
    assert "/10.0M" in drawn
    assert drawn.rpartition("\r")[2].strip() == ""  # wiped
    assert error == "geoseg: error: it was cut short\n"
