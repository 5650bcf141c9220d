from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from typing import Any, get_args

import pytest
from click.testing import Result

from geoseg import errors
from geoseg.display import palette
from geoseg.inference import CPU_BATCH, DEFAULT_BLEND, GPU_BATCH, Blend
from geoseg.model import VALUE_RANGES
from geoseg.model.engines.device import DEVICES
from geoseg.model.onnx_files.onnx_bundle import ACTIVATIONS
from geoseg.progress import Progress
from geoseg.vector import METHODS
from geoseg_cli import main
from geoseg_cli import parameter_types as types

Run = Callable[..., Result]
StandIn = Callable[[Callable[..., Any]], None]
PREDICT = ("predict", "scene.tif", "--out", "landcover.tif")


def raising(error: BaseException) -> Callable[..., Any]:
    def verb(*_args: Any, **_options: Any) -> None:
        raise error

    return verb


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("overlap must be less than the window 512, got 600"), 2),
        (errors.SceneError("scene.tif: not a raster"), 1),
        (errors.ModelError("model.pt is a pickle"), 1),
        (errors.OutputError("landcover.tif exists; add --overwrite"), 1),
        (errors.LockedError("another run is writing landcover.tif"), 1),
        (errors.GeosegError("two\n  lines\nbecome one"), 1),
        (MemoryError(), 1),
        (RuntimeError("surprise\nof two lines"), 1),
        (OSError(28, "No space left on device"), 1),
        (KeyboardInterrupt(), 1),
    ],
)
def test_a_failure_is_one_line_and_its_code(run: Run, stand_in: StandIn, error: BaseException, code: int) -> None:
    stand_in(raising(error))
    result = run(*PREDICT)
    assert result.exit_code == code
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("geoseg: error: ")
    assert " ".join(str(error).split()) in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows finds no such file")
def test_a_name_that_is_too_long_for_a_path_is_one_line(run: Run) -> None:
    result = run("predict", "x" * 5000, "--out", "landcover.tif")
    assert result.exit_code == 1
    assert "File name too long; check the path" in result.stderr
    assert "unexpected" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("predict", "", "--out", "landcover.tif"), "SCENE"),
        (("predict", "a.tif", " ", "--out-dir", "maps"), "SCENE"),
        (("predict", "scene.tif", "--out", ""), "--out"),
        (("predict", "scene.tif", "--out", "landcover.tif", "--model", ""), "--model"),
        (("predict", "scene.tif", "--out-dir", ""), "--out-dir"),
        (("preview", "landcover.tif", "", "--out", "map.html"), "LATER"),
        (("info", ""), "PATH"),
        (("train", "", "--out", "model.safetensors"), "DATA"),
        (("import", "", "--out", "model.safetensors"), "WEIGHTS"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(run: Run, arguments: tuple[str, ...], what: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"geoseg: error: {what} is empty")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "scene.tif"),
        ("predict", "--out", "landcover.tif"),
        ("predict", "scene.tif", "more.tif", "--out", "landcover.tif"),
        ("nonsense",),
        ("predict", "scene.tif", "--out", "landcover.tif", "--nonsense"),
        ("predict", "scene.tif", "--out", "landcover.tif", "--window", "wide"),
        ("predict", "scene.tif", "--out", "landcover.tif", "--scale", "1,2,3"),
        ("predict", "scene.tif", "--out", "landcover.tif", "--scale", "dark,bright"),
        ("predict", "scene.tif", "--out", "landcover.tif", "--bands", "1,,3"),
        ("vectorize",),
    ],
)
def test_wrong_usage_is_one_line_and_two(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("geoseg: error: ")
    assert "--help" in result.stderr


def test_the_traceback_is_there_for_those_who_ask(run: Run, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(raising(RuntimeError("surprise")))
    assert "GEOSEG_DEBUG=1" in run(*PREDICT).stderr
    monkeypatch.setenv("GEOSEG_DEBUG", "1")
    assert "Traceback" in run(*PREDICT).stderr


def test_an_interruption_tells_what_is_kept(run: Run, stand_in: StandIn) -> None:
    def verb(*_args: Any, progress: Callable[[Any], None], **_options: Any) -> None:
        progress(Progress(7, 9, 70, 90, 30, 1.0))
        raise KeyboardInterrupt

    stand_in(verb)
    result = run(*PREDICT)
    assert result.exit_code == 1
    assert "7 of 9 tiles are finished and kept" in result.stderr


def test_an_interruption_before_the_first_tile_claims_none(run: Run, stand_in: StandIn) -> None:
    stand_in(raising(KeyboardInterrupt()))
    result = run(*PREDICT)
    assert result.stderr == "geoseg: error: interrupted; no tile was mapped this time, run the same command again\n"


def test_an_interruption_in_disguise_is_one(run: Run, stand_in: StandIn) -> None:
    """Ctrl-C while a class is being created, as during imports, arrives as the cause of another error."""

    def verb(*_args: Any, **_options: Any) -> None:
        raise RuntimeError("Error calling __set_name__ on 'Field' instance") from KeyboardInterrupt()

    stand_in(verb)
    result = run(*PREDICT)
    assert (result.exit_code, result.stderr) == (1, "geoseg: interrupted: no output file was written\n")


def test_an_error_that_a_second_interruption_causes_is_one(run: Run, stand_in: StandIn) -> None:
    def verb(*_args: Any, **_options: Any) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            threading.Lock().release()

    stand_in(verb)
    result = run(*PREDICT)
    assert (result.exit_code, result.stderr) == (1, "geoseg: interrupted: no output file was written\n")


def test_an_interruption_before_the_command_is_parsed_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "warn_in_one_line", raising(KeyboardInterrupt()))
    result = run(*PREDICT)
    assert (result.exit_code, result.stderr) == (1, "geoseg: interrupted: no output file was written\n")


def test_warnings_are_lines_and_those_of_others_are_silent(run: Run, stand_in: StandIn) -> None:
    def verb(*_args: Any, **_options: Any) -> str:
        warnings.warn("darker than\nthe training imagery", errors.UnlikeTrainingWarning, stacklevel=2)
        warnings.warn("of no use to the reader", UserWarning, stacklevel=2)
        return "landcover.tif"

    stand_in(verb)
    result = run(*PREDICT, "--quiet")
    assert result.exit_code == 0
    assert result.stderr == "geoseg: warning: darker than the training imagery\n"


def test_options_not_given_are_left_to_the_library(run: Run, stand_in: StandIn) -> None:
    seen: dict[str, Any] = {}
    stand_in(lambda scene, out, **options: seen.update(options, scene=scene, out=out))
    assert run(*PREDICT).exit_code == 0
    assert {name for name, value in seen.items() if value is not None} <= {
        "announce", "out", "overwrite", "progress", "scene",
    }  # fmt: skip


def test_options_given_arrive_as_values(run: Run, stand_in: StandIn) -> None:
    seen: dict[str, Any] = {}
    stand_in(lambda _scene, _out, **options: seen.update(options))
    result = run(
        *PREDICT, "--bands", "4,red, green", "--scale", "3000", "--window", "256", "--overlap", "0", "--blend", "mean",
        "--tile", "2048", "--batch-size", "8", "--device", "cpu", "--workers", "3", "--confidence", "c.tif",
        "--probabilities", "p.tif", "--overwrite", "--model", "m.safetensors",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    seen.pop("progress")
    seen.pop("announce")
    assert seen == {
        "bands": (4, "red", "green"), "scale": (0.0, 3000.0), "window": 256, "overlap": 0, "blend": "mean",
        "tile": 2048, "batch_size": 8, "device": "cpu", "workers": 3, "confidence": "c.tif",
        "probabilities": "p.tif", "overwrite": True, "model": "m.safetensors",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("predict", "s.tif", "-o", "m.tif", "--blend", "hannn"), "hann"),
        (("predict", "s.tif", "-o", "m.tif", "--blend", "Gaussian"), "gaussian"),
        (("predict", "s.tif", "-o", "m.tif", "--device", "cdua"), "cuda"),
        (("vectorize", "m.tif", "-o", "m.gpkg", "--method", "douglas-puecker"), "douglas-peucker"),
        (("preview", "m.tif", "-o", "m.html", "--palette", "colorblind"), "color-blind"),
        (("evaluate", "m.safetensors", "data", "--split", "tset"), "test"),
    ],
)
def test_a_word_that_is_nearly_one(run: Run, words: tuple[str, ...], meant: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert f"got '{words[-1]}' (did you mean {meant}?)" in result.stderr
    assert words[-2] in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_words_are_the_librarys() -> None:
    assert set(types.ACTIVATIONS) == set(ACTIVATIONS)
    assert set(types.DATA_TYPES) == set(VALUE_RANGES)
    assert set(types.BLENDS) == set(get_args(Blend))
    assert set(types.DEVICES) == set(DEVICES)
    assert set(types.METHODS) == set(METHODS)
    assert {palette.check_palette(name) for name in types.PALETTES} == set(get_args(palette.PaletteName))


@pytest.mark.parametrize("name", ["cuda:1", "nothing-like-it", "onnx"])
def test_other_words_are_for_the_library_to_judge(run: Run, stand_in: StandIn, name: str) -> None:
    seen: dict[str, Any] = {}
    stand_in(lambda _scene, _out, **options: seen.update(options))
    assert run(*PREDICT, "--device", name).exit_code == 0
    assert seen["device"] == name


def test_creation_options_arrive_by_name(run: Run, stand_in: StandIn) -> None:
    seen: dict[str, Any] = {}
    stand_in(lambda _scene, _out, **options: seen.update(options))
    assert run(*PREDICT, "--co", "compress=ZSTD", "--co", "LEVEL=9").exit_code == 0
    assert seen["creation_options"] == {"COMPRESS": "ZSTD", "LEVEL": "9"}
    for wrong in ("COMPRESS", "=ZSTD", "COMPRESS="):
        refused = run(*PREDICT, "--co", wrong)
        assert refused.exit_code == 2
        assert "expected KEY=VALUE such as COMPRESS=ZSTD" in refused.stderr


def test_a_scale_may_start_below_zero(run: Run, stand_in: StandIn) -> None:
    seen: dict[str, Any] = {}
    stand_in(lambda _scene, _out, **options: seen.update(options))
    assert run(*PREDICT, "--scale", "-100,3000.5").exit_code == 0
    assert seen["scale"] == (-100.0, 3000.5)


def test_help_quotes_the_librarys_defaults(run: Run) -> None:
    text = " ".join(run("predict", "--help").stdout.split())
    assert all(name in text for name in get_args(Blend))
    assert f"[default: {DEFAULT_BLEND}]" in text
    assert f"[default: {CPU_BATCH} on a CPU, up to {GPU_BATCH} on a GPU]" in text


def test_help_is_on_stdout(run: Run) -> None:
    assert run("--help").stdout.startswith("Usage:")
    assert run("predict", "-h").exit_code == 0


def test_no_arguments_is_help_on_stderr(run: Run) -> None:
    result = run()
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


def test_a_command_that_is_nearly_one(run: Run) -> None:
    assert "no such command 'predct' (did you mean predict?); see geoseg --help" in run("predct").stderr
    assert "commands: predict, vectorize" in run("zzz").stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["predict", "a.tif", "b.tif", "c.tif", "--out", "m.tif"],
            "3 scenes (a.tif, b.tif, ...) need a folder: give --out-dir FOLDER",
        ),
        (["vectorize", "a.tif", "b.tif", "--out", "m.gpkg"], "'b.tif': vectorize takes only LANDCOVER; run"),
        (["evaluate", "a", "b", "c"], "'c': evaluate takes only LANDCOVER and REFERENCE; run"),
        (["doctor", "me"], "'me': doctor takes no arguments"),
    ],
)
def test_too_many_arguments_are_told_what_to_do(run: Run, words: list[str], told: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
