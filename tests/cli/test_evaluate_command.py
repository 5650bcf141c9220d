"""`geoseg evaluate`: options reach the library, results are printed, errors take one line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

import geoseg
from geoseg.dataset import PARTS
from geoseg.evaluation import ConfusionMatrix, Evaluation
from geoseg.evaluation.evaluate import ModelOptions
from geoseg.evaluation.provenance import DEFAULT_PART
from geoseg.legend import DEEPGLOBE
from geoseg_cli import parameter_types
from tests.evaluation.rasters import UTM, patches, write, wrong
from tests.networks import tiny_bundle

Run = Callable[..., Result]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the verb with a function that records its arguments, and return them."""
    given: dict[str, Any] = {}
    pixels = np.arange(7, dtype=np.uint8)

    def verb(landcover: str, reference: str | None, **options: Any) -> Evaluation:
        given.update(options, landcover=landcover, reference=reference)
        return Evaluation.of(landcover, "truth", ConfusionMatrix.from_arrays(pixels, pixels, DEEPGLOBE))

    monkeypatch.setattr("geoseg.evaluation.evaluate", verb)
    return given


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    truth = patches(0, 60, 80)
    return (
        write(tmp_path / "map.tif", wrong(1, truth), legend=DEEPGLOBE, **UTM),
        write(tmp_path / "truth.tif", truth, legend=DEEPGLOBE, **UTM),
    )


def test_options_not_given_are_left_to_the_library(run: Run, seen: dict[str, Any]) -> None:
    result = run("evaluate", "map.tif", "truth.tif")
    assert result.exit_code == 0, result.stderr
    assert set(seen) == {"landcover", "reference", "progress", "announce"}


def test_options_given_arrive(run: Run, seen: dict[str, Any]) -> None:
    result = run(
        "evaluate", "map.tif", "truth.tif", "--report", "report", "--areas", "--sample", "points.gpkg", "--column",
        "class", "--classes", "water,0", "--ignore", "unknown,9", "--ignore", "Developed, Open Space", "--legend",
        "l.csv", "--reference-legend", "r.csv", "--confidence", "c.tif", "--overwrite",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    seen.pop("progress")
    seen.pop("announce")
    assert seen == {
        "landcover": "map.tif", "reference": "truth.tif", "report": "report", "areas": True, "sample": "points.gpkg",
        "column": "class", "classes": "water,0", "ignore": ("unknown,9", "Developed, Open Space"), "legend": "l.csv",
        "reference_legend": "r.csv", "confidence": "c.tif", "overwrite": True,
    }  # fmt: skip


def test_the_table_goes_to_stdout(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    result = run("evaluate", *pair, "--report", tmp_path / "report")
    assert result.exit_code == 0, result.stderr
    page = (tmp_path / "report" / "report.md").read_text()
    told = result.stdout
    for path in pair:  # a shared report reveals no folders
        told = told.replace(str(path), path.name)
    assert told == re.sub(r"\n\n!\[[^\n]+\.png\)(?=\n)", "", page)
    assert f"wrote {tmp_path / 'report'}: 4 800 px in" in result.stderr


def test_json_is_all_there_is_on_stdout(run: Run, pair: tuple[Path, Path]) -> None:
    result = run("evaluate", *pair, "--json", "--areas")
    found = geoseg.evaluate(*pair, areas=True)
    assert json.loads(result.stdout) == found.to_json()


def test_quiet_says_nothing(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    result = run("evaluate", *pair, "--quiet", "--report", tmp_path / "report")
    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "report" / "metrics.json").exists()


def test_an_interruption_says_that_nothing_is_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def verb(*_args: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("geoseg.evaluation.evaluate", verb)
    result = run("evaluate", "map.tif", "truth.tif", "--report", "report")
    assert result.exit_code == 1
    assert result.stderr == "geoseg: error: interrupted; no report was written\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nothing.tif", "truth.tif"), 1, "nothing.tif: no such file"),
        (("map.tif",), 2, "got neither"),
        (("map.tif", "truth.tif", "--classes", "sea"), 2, "no class is called 'sea'"),
        (("map.tif", "truth.tif", "--report", "map.tif"), 1, "cannot write map.tif"),
        (("map.tif", "truth.tif", "--sample", "points.csv", "--areas"), 1, "points.csv: no such file"),
        (("map.tif", "truth.tif", "--legend", "none.csv"), 2, "--legend: none.csv cannot be read"),
        (("map.tif", "truth.tif", "--nonsense"), 2, "no such option"),
    ],
)
@pytest.mark.usefixtures("pair")
def test_failures_are_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("evaluate", *arguments)
    assert result.exit_code == code
    assert result.stderr.startswith("geoseg: error: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a model and a data set of two scenes."""
    folder = tmp_path_factory.mktemp("examined")
    data = folder / "data"
    for number, name in enumerate(("a", "b")):
        truth, pixels = patches(number, 70, 90), np.random.default_rng(number).integers(1, 256, (3, 70, 90), np.uint8)
        for part in ("images", "labels"):
            (data / part).mkdir(parents=True, exist_ok=True)
        write(data / "images" / f"{name}.tif", pixels, nodata=None, photometric="RGB", **UTM)
        write(data / "labels" / f"{name}.tif", truth, legend=DEEPGLOBE, **UTM)
    return tiny_bundle(folder, window_px=64, gsd_m=10.0).weights_path, data


def test_a_model_and_a_data_set(
    run: Run, examined: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path / "cache"))
    report = tmp_path / "report"
    result = run("evaluate", *examined, "--split", "all", "--device", "cpu", "--json", "--report", report)
    assert result.exit_code == 0, result.stderr
    found = geoseg.evaluate(*examined, split="all", device="cpu")
    assert json.loads(result.stdout) == found.to_json()
    assert found.metrics.pixels == 2 * 70 * 90
    assert "evaluated on 2 scenes of data: all scenes" in result.stderr
    assert {path.name for path in report.iterdir()} == {
        "metrics.json", "classes.csv", "confusion.csv", "calibration.csv", "report.md", "confusion.png",
        "calibration.png", "worst",
    }  # fmt: skip
    assert list((report / "worst").iterdir())


def test_notes_speak_of_options_in_json_too(run: Run, tmp_path: Path) -> None:
    landcover = write(tmp_path / "map.tif", patches(0, 60, 80), **UTM)
    (x, y) = UTM["transform"] @ (3.5, 3.5)
    (tmp_path / "points.csv").write_text(f"x,y,class\n{x},{y},0\n")
    result = run("evaluate", landcover, "--sample", tmp_path / "points.csv", "--json", "--quiet")
    assert result.exit_code == 0, result.stderr
    notes = json.loads(result.stdout)["notes"]
    assert any(note.endswith("come with --areas") for note in notes)
    assert "`" not in "".join(notes)


def test_a_terminal_shows_each_note_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    landcover = write(tmp_path / "map.tif", patches(0, 60, 80), **UTM)
    (x, y) = UTM["transform"] @ (3.5, 3.5)
    (tmp_path / "points.csv").write_text(f"x,y,class\n{x},{y},0\n")
    told = [run("evaluate", landcover, "--sample", tmp_path / "points.csv")]
    monkeypatch.setattr("geoseg_cli.evaluate.is_terminal", lambda: True)
    monkeypatch.setattr("geoseg_cli.evaluate.progress_shown", lambda: "bar")
    told += [run("evaluate", landcover, "--sample", tmp_path / "points.csv")]
    assert [(result.stdout.count("--areas"), result.stderr.count("--areas")) for result in told] == [(1, 1), (0, 1)]


def test_options_of_a_model_arrive(run: Run, seen: dict[str, Any]) -> None:
    result = run(
        "evaluate", "model.safetensors", "data", "--split", "valid", "--split-rule", "random:0.8", "--labels", "l.gpkg",
        "--bands", "3,2,red", "--scale", "0,3000", "--gsd", "0.5", "--tolerance", "0.01", "--window", "64", "--overlap",
        "0", "--blend", "mean", "--tta", "4", "--batch-size", "2", "--device", "onnx",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    seen.pop("progress")
    seen.pop("announce")
    assert seen == {
        "landcover": "model.safetensors", "reference": "data", "split": "valid", "split_rule": "random:0.8",
        "labels": "l.gpkg", "bands": (3, 2, "red"), "scale": (0, 3000), "gsd_m": 0.5, "tolerance": 0.01, "window": 64,
        "overlap": 0, "blend": "mean", "tta": 4, "batch_size": 2, "device": "onnx",
    }  # fmt: skip
    known = set(ModelOptions.__annotations__) - {"cache"}
    assert known <= set(seen)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("{model}",), 2, "a model is evaluated on a data set; give its folder"),
        (("{model}", "{data}", "--areas"), 2, "--areas is for maps"),
        (
            ("{model}", "{data}", "--classes", "water", "--confidence", "c.tif"),
            2,
            "--classes, --confidence are for maps",
        ),
        (("map.tif", "truth.tif", "--split", "all"), 2, "--split is for models"),
        (("{model}", "{data}", "--split", "tset"), 2, "test, train, valid, all, got 'tset' (did you mean test?)"),
        (("{model}", "{data}", "--split", "all", "--tta", "3"), 2, "--tta must be 1, 2, 4 or 8"),
        (("{model}", "{data}", "--split", "all", "--blend", "soft"), 2, "blend must be one of"),
        (("{model}", "{data}", "--split", "all", "--batch-size", "0"), 2, "batch-size must be at least 1, got 0"),
        (("{model}", "{data}", "--split", "all", "--window", "63"), 2, "window must be a multiple of 8"),
        (("{model}", "nowhere", "--split", "all"), 1, "nowhere: no such file or folder"),
        (("none.safetensors", "{data}"), 1, "none.safetensors does not exist"),
        (("{data}/labels/a.tif.safetensors", "{data}"), 1, "does not exist"),
    ],
)
def test_failures_of_a_model_are_one_line(
    run: Run,
    examined: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path / "cache"))
    result = run("evaluate", *(word.format(model=examined[0], data=examined[1]) for word in arguments), "--quiet")
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("geoseg: error: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr


@pytest.mark.parametrize("word", ["nonsense", "random:0.8", "published", "Test", "test:1", ""])
def test_a_part_that_is_none_is_refused_before_the_data(run: Run, seen: dict[str, Any], word: str) -> None:
    result = run("evaluate", "model.safetensors", "data", "--split", word)
    assert (result.exit_code, seen) == (2, {})
    assert "split must be one of test, train, valid, all, got" in result.stderr
    assert ("(did you mean test?)" in result.stderr) == (word == "Test")
    assert ("--split-rule" in result.stderr) == (word != "Test")
    assert len(result.stderr.splitlines()) == 1


def test_the_parts_are_the_librarys() -> None:
    assert parameter_types.PARTS[0] == DEFAULT_PART
    assert set(parameter_types.PARTS) == {*PARTS, "all"}


def test_two_rasters_need_no_engine() -> None:
    program = "import sys, geoseg.evaluation.evaluate; print({'torch', 'onnxruntime', 'dask'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
