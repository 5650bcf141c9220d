"""The command line of a run."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import Mapping, Sequence


def command_line(
    program: str, verb: str, inputs: Sequence[str], options: Mapping[str, object], extra: str = ""
) -> list[str]:
    """Return the arguments of `geoseg VERB`.

    In `options`, None, False, empty texts and empty lists are left out, True is a flag, and a list becomes one value
    with commas. `extra` holds more arguments, as typed by the user.
    """
    words = [program, verb]
    for name, value in options.items():
        if value is None or value is False or value in ("", [], ()):
            continue
        words.append(name if value is True else f"{name}={_text(value)}")
    return [*words, *split_extra(extra), "--", *inputs]


def split_extra(extra: str, *, windows: bool | None = None) -> list[str]:
    """Split a command line into words; on Windows, backslashes in paths are kept."""
    lexer = shlex.shlex(extra, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    if os.name == "nt" if windows is None else windows:
        lexer.escape = ""
    return list(lexer)


def value_of(option: str, extra: str) -> str:
    """Return the last value of an option among more arguments, as typed by the user; empty if it is not there."""
    words, value = split_extra(extra), ""
    for word, following in zip(words, [*words[1:], ""]):
        if word == option:
            value = following
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
    return value


def as_typed(words: Sequence[str], *, windows: bool | None = None) -> str:
    """Return a command line that a terminal takes."""
    if os.name == "nt" if windows is None else windows:
        return subprocess.list2cmdline(words)
    return " ".join(map(shlex.quote, words))


def box(x_min: float, y_min: float, x_max: float, y_max: float) -> list[float] | None:
    """Return W,S,E,N; None for a box without an area, QGIS's value for no extent."""
    if not (x_max > x_min and y_max > y_min):
        return None
    return [x_min, y_min, x_max, y_max]


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(_text(each) for each in value)
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)
