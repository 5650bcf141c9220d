"""Everything geoseg raises on purpose; each message is one line that shows the way out.

A message names parameters between backticks, as Python spells them: `bbox`, `overwrite=True`. Whoever shows it to
people who do not write Python spells them its own way (`spelled`): `--bbox`, the label of a field in a dialog.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Self

_Spell = Callable[[str, str | None], str]
"""How a face writes a parameter: by its name and its value as Python spells it, or None."""

_PARAMETER = re.compile(r"`([a-z]\w*)(?:=([^`]*))?`")


class GeosegError(Exception):
    """What went wrong, the value got, the value wanted, the way out.

    Parameters
    ----------
    message : str
        One line, for people.
    parameter : str, optional
        The argument that is at fault, by its name in Python; None where it is none or not one alone.

    """

    exit_code = 1
    """What the command line returns to the shell."""

    def __init__(self, message: str = "", parameter: str | None = None) -> None:
        super().__init__(" ".join(message.split("\n")) if "\n" in message else message)  # of a value, such as an array
        self.parameter = parameter

    def renamed(self, **names: str) -> Self:
        """Return the error as a verb raises it that calls parameters otherwise: `error.renamed(split="split_rule")`."""
        message = spelled(str(self), lambda name, value: named(names.get(name, name), value))
        parameter = None if self.parameter is None else names.get(self.parameter, self.parameter)
        return type(self)(message, parameter)


class UsageError(GeosegError, ValueError):
    """An argument or option that cannot be right whatever the data."""

    exit_code = 2


class OutsideError(UsageError):
    """A box or an area that lies beside the scene, or holds none of its pixels."""


class SceneError(GeosegError):
    """A raster that cannot be read, or does not suit the model."""


class ModelError(GeosegError):
    """A model file that cannot be read, is not safe, or does not suit the request."""


class TrainingError(GeosegError):
    """A training that cannot begin or continue; what it has learned is kept."""


class DivergedError(TrainingError):
    """A loss or an output of the network that is not a number."""


class OutputError(GeosegError):
    """A target that exists, cannot be written, or does not fit on the disk."""


class LockedError(OutputError):
    """Another run is writing the same output."""


class ResumeError(OutputError):
    """An unfinished run with other parameters lies beside the output."""


class GeosegWarning(UserWarning):
    """A map will be made, but the reader should know something about it."""


class UnlikeTrainingWarning(GeosegWarning):
    """The scene's statistics or resolution differ from those of the training imagery."""


def one_line(fault: object, most: int | None = 160) -> str:
    """Return a text that cannot break a terminal: one line, no control characters, of at most so many letters."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in str(fault)).split())
    return text if most is None or len(text) <= most else text[: most - 3] + "..."


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return the first names, and how many more there are, as a message has them."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def numbered(count: int, what: str) -> str:
    """Return `1 band`, `3 bands`, `2 classes`, `2 geometries`."""
    if count == 1:
        return f"1 {what}"
    if what.endswith("ry"):
        return f"{count} {what.removesuffix('y')}ies"
    return f"{count} {what}{'es' if what.endswith(('s', 'ch')) else 's'}"


def named(name: str, value: str | None = None) -> str:
    """Return a parameter, and the value it is to have, as a message holds it."""
    return f"`{name}`" if value is None else f"`{name}={value}`"


def spelled(message: str, spell: _Spell) -> str:
    """Return a message whose parameters are written as a face of geoseg writes them."""
    return _PARAMETER.sub(lambda found: spell(found[1], found[2]), message)
