"""Library messages name parameters as Python does; the command line spells them as its own options."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, is_typeddict

import click
import pytest

import geoseg
from geoseg.errors import numbered, spelled
from geoseg_cli.main import geoseg as command_line
from geoseg_cli.output import as_option, speak_of, with_options

ROOT = Path(__file__).parents[2]
_PARAMETER = re.compile(r"`([a-z]\w*)(?:=[^`]*)?`")


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, string) for the strings of a module except docstrings; `x` stands for interpolated values."""
    inside = {
        id(part)
        for node in ast.walk(tree)
        for part in (
            node.values
            if isinstance(node, ast.JoinedStr)
            else [node.value]
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            else []
        )
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            filled = (part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
            yield node.lineno, "".join(map(str, filled))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


@cache
def named_parameters() -> dict[str, str]:
    """Return each parameter that a message names and the place of its first mention."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "geoseg").rglob("*.py")):
        if path.name != "errors.py":  # it spells the given names
            for line, text in texts(ast.parse(path.read_text(encoding="utf-8"))):
                for match in _PARAMETER.finditer(text):
                    found.setdefault(match[1], f"{path.relative_to(ROOT)}:{line}")
    return found


def parameters_of(thing: Any) -> set[str]:
    """Return the names of a callable's parameters, including those of its typed dictionary of options."""
    names: set[str] = set()
    for name, parameter in inspect.signature(thing).parameters.items():
        names.add(name)
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            annotation = re.fullmatch(r"Unpack\[(\w+)\]", str(parameter.annotation))
            module = inspect.getmodule(inspect.unwrap(thing))
            if annotation:
                options = getattr(module, annotation[1])
                names |= {field for each in options.__mro__ for field in getattr(each, "__annotations__", {})}
                names |= set(getattr(options, "__optional_keys__", ()))
    return names


def public_parameters() -> set[str]:
    """Return the parameter names of all functions, classes and methods that `geoseg` exports."""
    names: set[str] = set()
    for exported in geoseg.__all__:
        thing = getattr(geoseg, exported)
        if is_typeddict(thing):
            names |= set(thing.__annotations__)
            continue
        methods = [each for _, each in inspect.getmembers(thing, callable)] if inspect.isclass(thing) else []
        for each in [thing, *methods]:
            if callable(each) and (getattr(each, "__module__", None) or "").startswith("geoseg"):
                names |= parameters_of(each)
    return names


COMMANDS = sorted(command_line.commands)


def test_a_name_between_backticks_is_a_parameter_of_a_public_verb_or_an_option() -> None:
    options = {each.name for command in command_line.commands.values() for each in command.params}
    known = public_parameters() | options | {"x", "unknown"}  # filled in later; a class in Markdown, not a message
    assert len(named_parameters()) > 50
    assert {name: place for name, place in named_parameters().items() if name not in known} == {}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_parameter_of_a_command_is_spelled_as_its_option(command: str) -> None:
    speak_of(command_line.commands[command])
    for parameter in command_line.commands[command].params:
        if isinstance(parameter, click.Option) and parameter.name in named_parameters():
            assert as_option(parameter.name, None) in parameter.opts


@pytest.mark.parametrize(
    ("command", "message", "told"),
    [
        ("predict", "map.tif exists; replace it with `overwrite=True`", "map.tif exists; replace it with --overwrite"),
        ("predict", "give a `scale=(0, 3000)`", "give a --scale 0,3000"),
        ("predict", "`creation_options` must be pairs", "--co must be pairs"),
        ("train", "`split_rule='blocks:0.2'` or `split='all'`", "--split blocks:0.2 or --split all"),
        ("train", "say it with `data_gsd_m`; `crop_px=256`", "say it with --data-gsd; --crop 256"),
        ("evaluate", "say it with `gsd_m`; `split_rule='folders'`", "say it with --gsd; --split-rule folders"),
        ("preview", "leave out `later`, give `landcover`", "leave out LATER, give LANDCOVER"),
        ("predict", "`scenes` must be a list", "SCENE must be a list"),
        ("export", "give that with `model`", "give that with MODEL"),
        ("info", "`window_px` and `batch_size`", "--window and --batch-size"),  # not parameters of info
    ],
)
def test_a_message_as_a_command_says_it(command: str, message: str, told: str) -> None:
    speak_of(command_line.commands[command])
    assert spelled(message, as_option) == told


def test_messages_in_a_result_name_options_and_names_stay_as_they_are() -> None:
    speak_of(command_line.commands["predict"])
    said, path = "give `overwrite=True`", "`overwrite`.tif"
    values = {"path": path, "notes": [said], "profile": {"limit": None, "advice": said}, "findings": [{"text": said}]}
    assert with_options(values) == {
        "path": path,
        "notes": ["give --overwrite"],
        "profile": {"limit": None, "advice": "give --overwrite"},
        "findings": [{"text": "give --overwrite"}],
    }


@pytest.mark.parametrize(
    "noun", ["band bands", "class classes", "batch batches", "epoch epochs", "empty geometry empty geometries"]
)
def test_one_thing_and_several(noun: str) -> None:
    one, several = noun.replace("empty ", "empty_").split()
    one, several = one.replace("_", " "), several.replace("_", " ")
    assert [numbered(count, one) for count in (0, 1, 2)] == [f"0 {several}", f"1 {one}", f"2 {several}"]
