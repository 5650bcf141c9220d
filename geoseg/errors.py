"""The errors that geoseg raises deliberately; each message is one line that shows a way out.

Messages name parameters in backticks, as spelled in Python: `bbox`, `overwrite=True`. Interfaces for people who do not
write Python respell them with `spelled`: `--bbox`, or the label of a field in a dialog.
"""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Self

_Spell = Callable[[str, str | None], str]
"""How an interface spells a parameter, given its name, and its value as spelled in Python or None."""

_NOT_CALLERS = sys.stdlib_module_names | {"geoseg", "lazy_loader"}
"""Packages whose frames lie between the line that calls geoseg and a warning."""
_PARAMETER = re.compile(r"`([a-z]\w*)(?:=([^`]*))?`")


class GeosegError(Exception):
    """Base class of geoseg's errors: what is wrong, the value got, the value wanted, a way out.

    Parameters
    ----------
    message : str
        One readable line.
    parameter : str, optional
        The Python name of the argument at fault; None if there is not exactly one.

    """

    exit_code = 1
    """The exit code of the command line."""

    def __init__(self, message: str = "", parameter: str | None = None) -> None:
        super().__init__(" ".join(message.split("\n")) if "\n" in message else message)  # from a value such as an array
        self.parameter = parameter

    def renamed(self, **names: str) -> Self:
        """Return the error for a verb with other parameter names: `error.renamed(split="split_rule")`."""
        message = spelled(str(self), lambda name, value: named(names.get(name, name), value))
        parameter = None if self.parameter is None else names.get(self.parameter, self.parameter)
        error = type(self)(message, parameter)
        error.__cause__, error.__suppress_context__ = self.__cause__, self.__suppress_context__
        return error.with_traceback(self.__traceback__)


@contextlib.contextmanager
def blamed_on(parameter: str) -> Iterator[None]:
    """Name the argument at fault in errors that name none."""
    try:
        yield
    except GeosegError as error:
        error.parameter = error.parameter or parameter
        raise


class UsageError(GeosegError, ValueError):
    """An argument or option that is invalid for any data."""

    exit_code = 2


class OutsideError(UsageError):
    """A box or an area that is outside the scene, or contains none of its pixels."""


class SceneError(GeosegError):
    """A raster that cannot be read, or does not suit the model."""


class ModelError(GeosegError):
    """A model file that cannot be read, is not safe, or does not suit the request."""


class TrainingError(GeosegError):
    """A training that cannot start or continue; its progress is kept."""


class DivergedError(TrainingError):
    """A loss or an output of the network that is not finite."""


class OutputError(GeosegError):
    """A target that exists, cannot be written, or does not fit on the disk."""


class LockedError(OutputError):
    """Another run is writing the same output."""


class ResumeError(OutputError):
    """An unfinished run with other parameters is next to the output."""


class GeosegWarning(UserWarning):
    """The map will be made, but the user should know something about it."""


class UnlikeTrainingWarning(GeosegWarning):
    """The scene's statistics or resolution differ from those of the training imagery."""


def warn(message: str, category: type[GeosegWarning] = GeosegWarning) -> None:
    """Warn, and point at the line that called geoseg, whatever lies between: decorators, contexts, imports.

    In a thread of geoseg's own there is no such line; the warning then points at the line that warns.
    """
    warning = sys._getframe(1)  # noqa: SLF001 - as the warnings module does
    caller: FrameType | None = warning
    while caller is not None and str(caller.f_globals.get("__name__")).partition(".")[0] in _NOT_CALLERS:
        caller = caller.f_back
    frame = caller or warning
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    module = frame.f_globals.get("__name__")
    warnings.warn_explicit(message, category, frame.f_code.co_filename, frame.f_lineno, module, registry)


def one_line(fault: object, most: int | None = 160) -> str:
    """Return a text that is safe for a terminal: one line, no control characters, at most `most` characters."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in str(fault)).split())
    return text if most is None or len(text) <= most else text[: most - 3] + "..."


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return the first names and the number of further ones, for a message."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def enumerated(names: Iterable[str]) -> str:
    """Return `a`, `a and b`, or `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def numbered(count: int, what: str) -> str:
    """Return `1 band`, `3 bands`, `2 classes`, `2 batches`, `2 epochs`, `2 geometries`."""
    if count == 1:
        return f"1 {what}"
    if what.endswith("ry"):
        return f"{count} {what.removesuffix('y')}ies"
    return f"{count} {what}{'es' if what.endswith(('s', 'tch')) else 's'}"


def named(name: str, value: str | None = None) -> str:
    """Return a parameter, with the value to give it, in the form used in messages."""
    return f"`{name}`" if value is None else f"`{name}={value}`"


def spelled(message: str, spell: _Spell) -> str:
    """Return a message with its parameters spelled by an interface."""
    return _PARAMETER.sub(lambda match: spell(match[1], match[2]), message)
