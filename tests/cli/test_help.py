"""What the command line says of itself."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable

import click
import pyogrio
import pytest
import rasterio
from click.testing import Result

import geoseg
from geoseg.training.recipe import Recipe
from geoseg_cli.groups import GroupedCommand
from geoseg_cli.knobs import KnobOption, read_knobs
from geoseg_cli.main import geoseg as command_line

Run = Callable[..., Result]
COMMANDS = sorted(command_line.commands)

HELP = ["-h", "--help"]
"""As the group has them: a command keeps those of the first context that it sees."""


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
        with command.make_context(name, words, help_option_names=HELP):  # raises where an option is no more
            pass


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_under_a_heading(run: Run, name: str) -> None:
    text = run(name, "--help").stdout
    assert "\nOptions:" not in text
    other = text.partition("\nOther:\n")[2]
    assert re.findall(r"--[a-z-]+", other) == ["--help"]


def test_the_help_of_train_has_the_defaults_of_the_recipe() -> None:
    """Each default, given as an option, is read back as the recipe's own value."""
    recipe, train, told = Recipe(), command_line.commands["train"], 0
    knobs = [parameter for parameter in train.params if isinstance(parameter, KnobOption)]
    for knob in knobs:
        record = knob.get_help_record(click.Context(train, help_option_names=HELP))
        assert record is not None
        default = re.search(r" \[default: (.*)\]$", record[1])
        if default is None:
            assert getattr(recipe, str(knob.name)) == ()
            continue
        told += 1
        if knob.is_flag:
            assert default[1] == ("on" if getattr(recipe, str(knob.name)) else "off")
            continue
        words = ["data", "--out", "m.safetensors", knob.opts[0], default[1]]
        with train.make_context("train", words, help_option_names=HELP) as context:
            assert Recipe.from_json(read_knobs(dict(context.params))) == recipe
    assert told >= len(knobs) - 1 > 30


def test_the_help_of_train_loads_no_torch() -> None:
    program = """import sys
from click.testing import CliRunner
from geoseg_cli.main import geoseg
assert CliRunner().invoke(geoseg, ["train", "--help"]).exit_code == 0
assert "torch" not in sys.modules"""
    subprocess.run([sys.executable, "-P", "-c", program], check=True)


def test_exit_codes_are_told(run: Run) -> None:
    codes = dict(re.findall(r"^ +([0-9])  (\w+)", run("--help").stdout, flags=re.MULTILINE))
    assert codes == {"0": "done", "1": "failure", "2": "wrong"}


def test_the_version_is_followed_by_those_of_what_matters(run: Run) -> None:
    done = run("--version")
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
from geoseg.model.device import cuda_devices
assert CliRunner().invoke(geoseg, ["--version"]).exit_code == 0
assert "torch" not in sys.modules"""
    subprocess.run([sys.executable, "-P", "-c", program], check=True)


def test_no_help_text_uses_colours(run: Run) -> None:
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
