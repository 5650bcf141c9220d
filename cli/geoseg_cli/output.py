"""Lines for people on stderr; stdout holds only results."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any, TextIO

import click

from geoseg.errors import GeosegWarning, spelled

PROGRESS = ("auto", "bar", "lines", "json", "none")
"""Ways to show progress; auto is a bar on a terminal, lines elsewhere."""
_MESSAGES = {"advice", "error", "limit", "notes", "remedy", "text"}
"""Keys that hold sentences in the results of commands."""
_shown = ["auto"]
_quiet = [False]
_running: list[click.Command] = []
"""The running command, to whose options messages refer."""


def show_progress(how: str) -> None:
    """Set how this process shows progress; with json, every line on stderr is a JSON object."""
    _shown[:] = [how]


def be_quiet(quiet: bool) -> bool:  # noqa: FBT001 - click's flag
    """Set whether this process shows only warnings and errors."""
    _quiet[:] = [quiet]
    return quiet


def is_quiet() -> bool:
    """Return whether only warnings and errors are shown."""
    return _quiet[0]


def progress_shown() -> str:
    """Return how progress is shown: bar, lines, json or none."""
    if _shown[0] == "auto":
        return "bar" if sys.stderr is not None and sys.stderr.isatty() else "lines"
    return _shown[0]


def is_terminal() -> bool:
    """Return whether stdout is a terminal, so that a person sees it with the lines on stderr."""
    return sys.stdout is not None and sys.stdout.isatty()


def complain(kind: str, message: str) -> None:
    """Print `geoseg: kind: message` on one line."""
    line = spelled(" ".join(message.split()), as_option)
    if progress_shown() == "json":
        say_json({kind: line})
    else:
        _print(f"geoseg: {kind}: {line}")


def speak_of(*command: click.Command) -> None:
    """Spell parameters in messages as options of this command; without one, by a general rule."""
    _running[:] = command


def as_option(name: str, value: str | None) -> str:
    """Return a parameter as typed on the command line: `overwrite=True` is --overwrite, `scale=(0, 1)` --scale 0,1.

    An argument is named as in the help: LATER.
    """
    parameters = (parameter for command in _running for parameter in command.params)
    declared = next((parameter for parameter in parameters if parameter.name == name), None)
    if isinstance(declared, click.Argument):
        return declared.human_readable_name.strip(".")
    by_rule = "--" + name.removesuffix("_px").removesuffix("_m").replace("_", "-")  # for another command's parameter
    option = by_rule if declared is None else declared.opts[0]
    if value is None or value == "True":
        return option
    if value == "None":
        return f"{option} {getattr(declared and declared.type, 'word', 'none')}"
    plain = re.sub(r",\s+", ",", value.strip("()[]")) if value.startswith(("(", "[")) else value.strip("'\"")
    return f"{option} {plain}"


def with_options(values: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Return plain values for `--json`, with options spelled in messages; names of files and classes are unchanged."""
    if isinstance(values, list | tuple):
        return [with_options(item) for item in values]
    if not isinstance(values, Mapping):
        return values
    return {name: _spelled(value) if name in _MESSAGES else with_options(value) for name, value in values.items()}


def _spelled(message: Any) -> Any:  # noqa: ANN401 - a line, several, or none
    if isinstance(message, list | tuple):
        return [_spelled(item) for item in message]
    return spelled(message, as_option) if isinstance(message, str) else with_options(message)


def say(line: str) -> None:
    """Print a line for people."""
    line = spelled(line, as_option)
    if progress_shown() == "json":
        say_json({"message": line})
    else:
        _print(line)


def say_json(values: Mapping[str, object]) -> None:
    """Print a JSON object on one line and flush it."""
    _print(json.dumps(values))


def _print(line: str) -> None:
    """Print a line on stderr; the first one that finds its disk full is the last: a log must not end hours of work."""
    try:
        click.echo(line, err=True)  # which flushes
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        sys.stderr = None  # as if closed; else Python ends with another code


def warn_in_one_line() -> None:
    """Print each of geoseg's own warnings on one line, and other libraries' warnings only with GEOSEG_DEBUG."""
    if not os.environ.get("GEOSEG_DEBUG"):
        warnings.simplefilter("ignore")
    warnings.simplefilter("always", GeosegWarning)
    warnings.showwarning = _show


def _show(  # noqa: PLR0913, PLR0917 - the signature of warnings.showwarning
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, GeosegWarning):
        complain("warning", str(message))
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))
