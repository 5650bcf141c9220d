"""The help of the command line."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import get_args

import click
import pyogrio
import pytest
import rasterio
from click.testing import Result

import geoseg
from geoseg.inference import Blend
from geoseg.model.engines.device import DEVICES
from geoseg.training import Recipe
from geoseg_cli.main import geoseg as command_line
from geoseg_cli.options import GroupedCommand
from geoseg_cli.train import _RecipeOption, _take_recipe

Run = Callable[..., Result]
COMMANDS = sorted(command_line.commands)

HELP = ["-h", "--help"]
"""The group's names; a command keeps the names of the first context that it sees."""


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_text_has_examples_that_can_be_copied(run: Run, name: str) -> None:
    command = command_line.commands[name]
    assert isinstance(command, GroupedCommand)
    assert command.examples
    lines = [line.strip() for line in run(name, "--help").stdout.splitlines()]
    for example in command.examples:
        assert example in lines  # on one line
        program, subcommand, *words = shlex.split(example)
        assert (program, subcommand) == ("geoseg", name)
        with command.make_context(name, words, help_option_names=HELP):  # raises if an option no longer exists
            pass


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_under_a_heading(run: Run, name: str) -> None:
    text = run(name, "--help").stdout
    assert "\nOptions:" not in text
    other = text.partition("\nOther:\n")[2]
    assert re.findall(r"--[a-z-]+", other) == ["--help"]


def test_the_help_of_train_has_the_defaults_of_the_recipe() -> None:
    """Each default in the help, given as an option, parses to the recipe's own value."""
    recipe, train, told = Recipe(), command_line.commands["train"], 0
    options = [parameter for parameter in train.params if isinstance(parameter, _RecipeOption)]
    for option in options:
        record = option.get_help_record(click.Context(train, help_option_names=HELP))
        assert record is not None
        default = re.search(r" \[default: (.*)\]$", record[1])
        if default is None:
            assert getattr(recipe, str(option.name)) == ()
            continue
        told += 1
        if option.is_flag:
            assert default[1] == ("on" if getattr(recipe, str(option.name)) else "off")
            continue
        words = ["data", "--out", "m.safetensors", option.opts[0], default[1]]
        with train.make_context("train", words, help_option_names=HELP) as context:
            assert Recipe.from_json(_take_recipe(dict(context.params))) == recipe
    assert told >= len(options) - 1 > 30


def test_the_help_of_train_loads_no_torch() -> None:
    program = """import sys
from click.testing import CliRunner
from geoseg_cli.main import geoseg
assert CliRunner().invoke(geoseg, ["train", "--help"]).exit_code == 0
assert "torch" not in sys.modules"""
    subprocess.run([sys.executable, "-P", "-c", program], check=True)


def test_the_help_of_the_program_loads_next_to_nothing() -> None:
    """Help must appear within 0.25 s, and numpy alone takes nearly that long to import."""
    program = """import sys
from click.testing import CliRunner
from geoseg_cli.main import geoseg
assert CliRunner().invoke(geoseg, ["--help"]).exit_code == 0
assert not {"numpy", "dask", "rasterio", "shapely", "torch", "tqdm"} & set(sys.modules)"""
    subprocess.run([sys.executable, "-P", "-c", program], check=True)


def test_exit_codes_are_told(run: Run) -> None:
    codes = dict(re.findall(r"^ +([0-9])  (\w+)", run("--help").stdout, flags=re.MULTILINE))
    assert codes == {"0": "done", "1": "failure", "2": "wrong"}


def test_the_version_is_followed_by_those_of_what_matters(run: Run) -> None:
    done = run("--version")
    assert run("-V").stdout == done.stdout
    first, *others = done.stdout.splitlines()
    assert done.exit_code == 0
    assert first == f"geoseg, version {geoseg.__version__}"
    told = "\n".join(others)
    assert rasterio.__gdal_version__ in told
    assert pyogrio.__gdal_version_string__ in told
    assert f"torch {importlib.metadata.version('torch')}" in told
    assert platform.python_version() in told
    assert others[-1].startswith("device ")


def test_the_version_loads_no_torch() -> None:
    program = """import sys
from click.testing import CliRunner
from geoseg_cli.main import geoseg
from geoseg.model.engines.device import cuda_devices
assert CliRunner().invoke(geoseg, ["--version"]).exit_code == 0
assert "torch" not in sys.modules"""
    subprocess.run([sys.executable, "-P", "-c", program], check=True)


def test_no_help_text_uses_colors(run: Run) -> None:
    for words in ([], *([name] for name in COMMANDS)):
        assert "\x1b" not in run(*words, "--help").stdout


def test_examples_are_paragraphs_of_the_docstring() -> None:
    @click.command(cls=GroupedCommand)
    def tell() -> None:
        """Tell.

        Example: geoseg tell --long
        option

        Example: geoseg tell
        """

    assert isinstance(tell, GroupedCommand)
    assert tell.examples == ["geoseg tell --long option", "geoseg tell"]


def completed(*words: str) -> list[tuple[str, str]]:
    """Return the completions of the last word as (type, value), using click's protocol for zsh."""
    environment = os.environ | {
        "_GEOSEG_COMPLETE": "zsh_complete", "COMP_WORDS": shlex.join(["geoseg", *words]), "COMP_CWORD": str(len(words)),
    }  # fmt: skip
    program = [sys.executable, "-c", "from geoseg_cli.main import geoseg; geoseg(prog_name='geoseg')"]
    shell = subprocess.run(program, env=environment, check=True, capture_output=True, text=True)
    assert not shell.stderr  # it would appear in the middle of the line that the user types
    lines = shell.stdout.splitlines()
    return list(zip(lines[::3], lines[1::3], strict=True))


def test_a_shell_completes_commands_words_and_paths() -> None:
    assert completed("pred") == [("plain", "predict")]
    assert completed("predict", "sc") == [("file", "sc")]
    assert completed("predict", "scene.tif", "--blend", "") == [("plain", name) for name in get_args(Blend)]
    assert completed("predict", "-out", "map.tif", "--dry") == [("plain", "--dry-run")]
    assert completed("predcit", "pred") == [("plain", "predict")]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_path_and_each_word_of_a_command_is_completed(name: str) -> None:
    command = command_line.commands[name]
    context = click.Context(command, info_name=name)
    for parameter in command.params:
        found = [(item.type, item.value) for item in parameter.shell_complete(context, "")]
        if isinstance(parameter, click.Argument) or parameter.metavar in {"FILE", "TIF", "PNG", "JSON", "PATH"}:
            assert found == [("file", "")], parameter.name
        elif parameter.metavar == "FOLDER":
            assert found == [("dir", "")], parameter.name
        elif (words := getattr(getattr(parameter.type, "func", None), "words", None)) is not None:
            assert [kind for kind, _ in found] == ["plain"] * len(found)
            assert {value for _, value in found} == set(words() if callable(words) else words)
            for _, word in found:
                assert isinstance(parameter.type, click.types.FuncParamType)
                parameter.type.func(word)  # no offered value is refused


@pytest.mark.parametrize("name", COMMANDS)
def test_the_kinds_of_legend_files_are_named_together(name: str) -> None:
    for option in command_line.commands[name].params:
        told = getattr(option, "help", None) or ""
        assert (".qml" in told) == (".sld" in told) == (".clr" in told), option.name


def test_devices_resolutions_and_symmetries_are_words_of_predict() -> None:
    predict = command_line.commands["predict"]
    words = {
        str(option.name): {item.value for item in option.shell_complete(click.Context(predict), "")}
        for option in predict.params
    }
    assert words["device"] == set(DEVICES)
    assert words["resolution"] == {"scene", "model"}
    assert words["tta"] == {"1", "2", "4", "8"}


def test_completion_loads_neither_torch_nor_gdal() -> None:
    program = """import sys, click
from geoseg_cli.main import geoseg
for command in geoseg.commands.values():
    for parameter in command.params:
        parameter.shell_complete(click.Context(command), "")
assert not {"torch", "rasterio", "pyogrio"} & set(sys.modules), sys.modules.keys() & {"torch", "rasterio"}"""
    subprocess.run([sys.executable, "-P", "-c", program], check=True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("click asks bash for its version")
    program = [sys.executable, "-c", "from geoseg_cli.main import geoseg; geoseg(prog_name='geoseg')"]
    environment = os.environ | {"_GEOSEG_COMPLETE": f"{shell}_source"}
    script = subprocess.run(program, env=environment, check=True, capture_output=True, text=True).stdout
    assert f"_GEOSEG_COMPLETE={shell}_complete" in script
