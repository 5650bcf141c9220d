"""What may happen to a crop before the network learns from it: operations, their chances and their strengths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from geoseg.errors import UsageError

Settings: TypeAlias = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Strength:
    """One setting of an operation: its default, and the lowest and highest value that make sense."""

    default: float
    low: float
    high: float
    whole: bool = False
    """Whether only whole numbers are meant."""

    @property
    def wanted(self) -> str:
        """What an error message asks for."""
        return f"a {'whole ' if self.whole else ''}number {self.low:g} to {self.high:g}"

    def admits(self, value: object) -> bool:
        """Whether a value, perhaps from a foreign file, is one this setting can have."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return self.low <= value <= self.high and (not self.whole or value == int(value))


OPERATIONS: dict[str, tuple[float, dict[str, Strength]]] = {
    "hflip": (0.5, {}),
    "vflip": (0.5, {}),
    "rot90": (0.5, {}),
    "transpose": (0.5, {}),
    "shift-scale-rotate": (
        0.5,
        {"shift": Strength(0.0625, 0, 0.5), "scale": Strength(0.1, 0, 1), "degrees": Strength(45, 0, 180)},
    ),
    "optical-distortion": (0.3, {"bend": Strength(0.1, 0, 0.3)}),
    "grid-distortion": (0.3, {"cells": Strength(5, 1, 20, whole=True), "stretch": Strength(0.3, 0, 0.9)}),
    # Ronneberger et al. 2015, section 3.1: a 3 x 3 grid, 10 px of the 572 px of an input.
    "elastic-distortion": (0.3, {"knots": Strength(3, 2, 20, whole=True), "displacement": Strength(0.0175, 0, 0.1)}),
    "grid-dropout": (
        0.3,
        {
            "cells": Strength(8, 2, 64, whole=True),
            "ratio": Strength(0.5, 0, 0.9),
            "drop_codes": Strength(0, 0, 1, whole=True),
        },
    ),
    "color": (
        0.5,
        {
            "brightness": Strength(0.2, 0, 2),
            "contrast": Strength(0.2, 0, 2),
            "gamma": Strength(0.2, 0, 2),
            "saturation": Strength(0.2, 0, 2),
            "hue_degrees": Strength(10, 0, 180),
            "gain": Strength(0.05, 0, 1),
        },
    ),
    "motion-blur": (0.2, {"length_px": Strength(7, 1, 31)}),
    "gaussian-blur": (0.2, {"sigma_px": Strength(1.5, 0.1, 10)}),
    "noise": (0.2, {"level": Strength(0.06, 0, 1)}),
}
"""Each operation's default probability and its settings; the settings are explained in docs/augmentation.md."""

SQUARE = ("rot90", "transpose")
"""Operations that want crops as high as wide."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation and how strong it is; settings not given take their defaults."""

    name: str
    settings: Settings = ()
    """(setting, value) pairs; once made, all settings of the operation in their own order."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in OPERATIONS:
            raise UsageError(f"unknown augmentation {self.name!r}; geoseg knows {', '.join(OPERATIONS)}")
        strengths, given = OPERATIONS[self.name][1], dict(self.settings)
        for setting, value in given.items():
            if setting not in strengths:
                known = ", ".join(strengths) or "none"
                raise UsageError(f"augmentation {self.name} has no setting {setting!r}; it has {known}")
            if not strengths[setting].admits(value):
                wanted = strengths[setting].wanted
                raise UsageError(f"{setting} of augmentation {self.name} must be {wanted}, got {value!r}")
        whole = tuple((setting, float(given.get(setting, strength.default))) for setting, strength in strengths.items())
        object.__setattr__(self, "settings", whole)

    def __getitem__(self, setting: str) -> float:
        return dict(self.settings)[setting]

    @property
    def text(self) -> str:
        """The operation as it is written on a command line; only settings that differ from their default."""
        strengths = OPERATIONS[self.name][1]
        said = [f"{setting}={value:.12g}" for setting, value in self.settings if value != strengths[setting].default]
        return ":".join([self.name, *said])


@dataclass(frozen=True, slots=True)
class Step:
    """With this probability, drawn for each crop by itself, one of the operations is done."""

    operations: tuple[Operation, ...]
    probability: float

    def __post_init__(self) -> None:
        if not self.operations:
            raise UsageError("an augmentation step needs an operation, got none")
        chance = self.probability
        if isinstance(chance, bool) or not isinstance(chance, int | float) or not 0 <= chance <= 1:
            raise UsageError(f"probability of {self.names} must be a number 0 to 1, got {chance!r}")
        object.__setattr__(self, "probability", float(chance))

    @property
    def names(self) -> str:
        """The names of the operations, as an error message gives them."""
        return "/".join(operation.name for operation in self.operations)

    @property
    def text(self) -> str:
        """The step as it is written on a command line."""
        return f"{'/'.join(operation.text for operation in self.operations)}:{self.probability:.12g}"


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Steps, each drawn for itself ("all"); a step of several operations does one of them ("one of").

    The order in which things are done to the pixels does not depend on the order of the steps: geometry, colour,
    blur, noise, dropout. No step: nothing is done.
    """

    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        names = [operation.name for step in self.steps for operation in step.operations]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"augmentation {', '.join(twice)} is given twice; name each operation once")

    def __bool__(self) -> bool:
        return bool(self.steps)

    def operation(self, name: str) -> Operation | None:
        """Return the operation of that name, None where it is not among the steps."""
        found = [operation for step in self.steps for operation in step.operations if operation.name == name]
        return found[0] if found else None

    def setting(self, name: str, setting: str, absent: float = 0) -> float:
        """Return a setting of an operation, `absent` where the operation is not among the steps."""
        operation = self.operation(name)
        return operation[setting] if operation else absent

    @property
    def wants_square(self) -> bool:
        """Whether only crops as high as wide can be augmented so."""
        return any(self.operation(name) for name in SQUARE)

    @property
    def text(self) -> str:
        """The augmentation as it is written on a command line; `augmentation_of` reads it back."""
        return ",".join(step.text for step in self.steps) or "none"

    def to_json(self) -> list[dict[str, object]]:
        """Return plain values that stay right when defaults change: every setting is written."""
        return [
            {
                "probability": step.probability,
                "operations": [{"name": op.name, "settings": dict(op.settings)} for op in step.operations],
            }
            for step in self.steps
        ]

    @classmethod
    def from_json(cls, value: object) -> Augmentation:
        """Build from what `to_json` gave, or from such a list by hand; UsageError for anything unknown."""
        if not isinstance(value, list):
            raise UsageError(f"an augmentation is a list of steps, got {type(value).__name__}")
        return cls(tuple(_step(row) for row in value))


def _step(row: object) -> Step:
    fields = _fields(row, "an augmentation step", ("operations", "probability"))
    operations = fields.get("operations")
    if not isinstance(operations, list) or "probability" not in fields:
        raise UsageError(f"an augmentation step needs a list of operations and a probability, got {row!r:.100}")
    return Step(tuple(_operation(item) for item in operations), fields["probability"])


def _operation(row: object) -> Operation:
    fields = _fields(row, "an augmentation", ("name", "settings"))
    settings = fields.get("settings", {})
    if not isinstance(settings, Mapping):
        raise UsageError(f"settings of an augmentation are an object of names and numbers, got {settings!r:.100}")
    return Operation(fields.get("name", ""), tuple(settings.items()))


def _fields(row: object, what: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise UsageError(f"{what} is an object with {' and '.join(known)}, got {row!r:.100}")
    unknown = [name for name in row if name not in known]
    if unknown:
        raise UsageError(f"{what} has no {unknown[0]!r}; it has {', '.join(known)}")
    return row
