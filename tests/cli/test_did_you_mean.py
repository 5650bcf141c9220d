"""Suggestions for unknown options: the one the user meant, or none."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result

from geoseg_cli.main import geoseg as command_line
from geoseg_cli.options import _SYNONYMS

Run = Callable[..., Result]
PREDICT = ("predict", "scene.tif", "--out", "map.tif")


def options_of(command: click.Command) -> set[str]:
    parameters = command.get_params(click.Context(command, help_option_names=["-h", "--help"]))
    return {name for each in parameters for name in (*each.opts, *each.secondary_opts) if name.startswith("--")}


def meant(result: Result) -> str | None:
    """Return the suggestion in the one-line refusal, or None."""
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    found = re.fullmatch(r"geoseg: error: no such option '[^']+'(?: \(did you mean (--[a-z-]+)\?\))?; see .*", line)
    assert found, line
    return found[1]


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("--overlaps", "--overlap"), ("--widnow", "--window"), ("--Window", "--window"),
        ("--batch_size=3", "--batch-size"), ("--overwrit", "--overwrite"),
        ("--bounds", "--bbox"), ("--extent", "--bbox"), ("--output", "--out"),
        ("--zzzz", None), ("--zzzz-zzzz", None), ("-x", None),
    ],
)  # fmt: skip
def test_the_option_that_was_meant(run: Run, option: str, wanted: str | None) -> None:
    assert meant(run(*PREDICT, option)) == wanted


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("vectorize map.tif v.gpkg", "--out v.gpkg"), ("sample map.tif p.csv --seed 3", "--out p.csv"),
        ("preview map.tif page.html", "--out page.html"), ("predict map.tif new.tif", "--out new.tif"),
        ("import map.tif m.safetensors", "--out m.safetensors"), ("export map.tif m.onnx", "--out m.onnx"),
        ("tabulate map.tif t.csv", "--out t.csv"), ("tabulate map.tif other.tif", "--by other.tif"),
        ("train map.tif other.tif --out m.safetensors", "--labels other.tif"),
        ("evaluate map.tif other.tif r.json", "--report r.json"),
        ("vectorize gone.tif", None), ("vectorize map.tif --legend gone.json", None),
        ("preview map.tif other.tif", None),
        ("predict map.tif other.tif", None), ("info map.tif other.tif", None), ("tabulate map.tif a.csv b.csv", None),
        ("vectorize map.tif other.tif --out v.gpkg", None), ("tabulate map.tif --out t.csv u.csv", None),
    ],
)  # fmt: skip
def test_the_option_that_an_argument_was_meant_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, wanted: str | None
) -> None:
    """A stray argument suggests the option that takes it; many programs take the output as second argument."""
    monkeypatch.chdir(tmp_path)
    for name in ("map.tif", "other.tif"):
        (tmp_path / name).touch()
    result = run(*arguments.split())
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    found = re.search(r"\(did you mean (--[a-z]+ \S+)\?\); see ", line)
    assert (found and found[1]) == wanted, line
    assert {path.name for path in tmp_path.iterdir()} == {"map.tif", "other.tif"}


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("-out", "--out"), ("-bbox=1,2,3,4", "--bbox"), ("-co", "--co"), ("-mosaic", "--mosaic"), ("-help", "--help"),
        ("\u2014out", "--out"), ("\u2013tile=64", "--tile"), ("\u2013-tile", "--tile"),
    ],
)  # fmt: skip
def test_one_dash_or_a_printed_one_stands_for_two(run: Run, option: str, wanted: str) -> None:
    assert meant(run("predict", "scene.tif", option, "x.tif")) == wanted


@pytest.mark.parametrize(
    ("arguments", "wanted"), [("vectorize x -t_srs EPSG:4326", "--crs"), ("evaluate x y -out r", "--report")]
)
def test_one_dash_before_the_name_of_another_program(run: Run, arguments: str, wanted: str) -> None:
    assert meant(run(*arguments.split())) == wanted


@pytest.mark.parametrize(
    "words", [("--title", "-overwrite"), ("--description", "\u2014title"), ("--title", "-help"), ("--title=--out",)]
)
def test_a_value_may_look_like_an_option(run: Run, words: tuple[str, ...]) -> None:
    assert "gone.tif: no such file" in run("preview", "gone.tif", *words, "--out", "page.html").stderr


def test_what_begins_with_a_short_option_is_still_one(run: Run, tmp_path: Path) -> None:
    result = run("vectorize", "gone.tif", f"-o{tmp_path / 'v.gpkg'}", "--classes=-1")
    assert "gone.tif: no such file" in result.stderr


@pytest.mark.parametrize("command", ["predict", "vectorize"])
def test_an_option_before_its_command(run: Run, command: str) -> None:
    line = f"no such option '--out' (put it after the command: geoseg {command} --out); see geoseg --help"
    assert line in run("--out", "new", command, "old.tif").stderr


@pytest.mark.parametrize(
    "arguments",
    ["predict scene.tif -o new.tif --confidence", "vectorize map.tif -o v.gpkg --png", "evaluate a.tif b.tif --ignore"],
)
def test_an_option_is_no_value(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments.split(), "--overwrite")
    assert result.exit_code == 2
    last = arguments.rsplit(maxsplit=1)[-1]
    assert f"{last} needs a value, got the option --overwrite; see" in result.stderr
    if last != "--ignore":
        for option in ("-overwrite", "-q", "-h"):
            line = f"{last} needs a value, got the option {option}; see"
            assert line in run(*arguments.split(), option).stderr
    assert not list(tmp_path.iterdir())


def test_the_other_half_of_a_switch_is_an_option_too(run: Run) -> None:
    assert meant(run("train", "data", "--out", "m.safetensors", "--no-amsgra")) == "--no-amsgrad"
    assert meant(run("--verison")) == "--version"  # of the program itself


@pytest.mark.parametrize("name", sorted(command_line.commands))
def test_an_option_with_a_letter_too_many_is_known_again(run: Run, name: str) -> None:
    options = options_of(command_line.commands[name])
    for option in options - {"--help"}:
        if f"{option}s" not in options:
            near = difflib.get_close_matches(f"{option}s"[2:], [each[2:] for each in options], n=1)
            assert meant(run(name, "x", f"{option}s")) == f"--{near[0]}"


def test_synonyms_are_of_options_that_there_are(run: Run) -> None:
    known = {name: options_of(command) for name, command in command_line.commands.items()}
    for synonym, option in _SYNONYMS.items():
        having = [name for name, options in known.items() if option in options and synonym not in options]
        assert having, synonym
        for name in having:
            assert meant(run(name, "x", synonym)) == option


def test_a_synonym_is_not_said_where_its_option_is_not(run: Run) -> None:
    assert meant(run("vectorize", "map.tif", "--out", "map.gpkg", "--bounds", "1,2,3,4")) is None
