"""The specification of augmentations: their operations, and the text that describes them."""

from __future__ import annotations

from dataclasses import dataclass

from geoseg.errors import UsageError

_PARAMETER = "augmentation"
_FLIPS = "hflip,vflip,rot90,transpose"

PRESETS: dict[str, str] = {
    "none": "",
    # The eight symmetries of the square: land cover from above has no upright direction.
    "flips": _FLIPS,
    # No shift: crops are drawn at random places anyway.
    "default": f"{_FLIPS},shift-scale-rotate:0.3:shift=0:degrees=30,color:0.5,gaussian-blur/noise:0.1",
    "strong": (
        f"{_FLIPS},shift-scale-rotate:0.5:shift=0:scale=0.3,optical-distortion/grid-distortion/elastic-distortion:0.3,"
        "color:0.8:brightness=0.4:contrast=0.4:gamma=0.4:saturation=0.4:hue_degrees=20:gain=0.1,"
        "motion-blur/gaussian-blur:0.2,noise:0.2,grid-dropout:0.1"
    ),
}
"""Named augmentations."""

DEFAULT = "default"
"""The preset of recipes that do not name one."""


@dataclass(frozen=True, slots=True)
class Strength:
    """One setting of an operation: its default, and its lowest and highest reasonable values."""

    default: float
    low: float
    high: float
    whole: bool = False
    """Whether only integers are valid."""

    def check(self, value: float, what: str) -> None:
        """Raise UsageError for an invalid value of this setting."""
        if not self.low <= value <= self.high or (self.whole and value != int(value)):
            kind = "a whole number" if self.whole else "a number"
            raise UsageError(f"{what} must be {kind} {self.low:g} to {self.high:g}, got {value!r}", _PARAMETER)


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

_SQUARE = ("rot90", "transpose")
"""Operations that need square crops."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation and its strength; settings not given take their defaults."""

    name: str
    settings: tuple[tuple[str, float], ...] = ()
    """(setting, value) pairs; after initialization, all settings of the operation in their own order."""

    def __post_init__(self) -> None:
        strengths, chosen = OPERATIONS[self.name][1], dict(self.settings)
        for setting, value in chosen.items():
            if setting not in strengths:
                available = ", ".join(strengths) or "none"
                raise UsageError(f"augmentation {self.name} has no setting {setting!r}; it has {available}", _PARAMETER)
            strengths[setting].check(value, f"{setting} of augmentation {self.name}")
        whole = tuple(
            (setting, float(chosen.get(setting, strength.default))) for setting, strength in strengths.items()
        )
        object.__setattr__(self, "settings", whole)

    def __getitem__(self, setting: str) -> float:
        return dict(self.settings)[setting]


@dataclass(frozen=True, slots=True)
class Step:
    """Applies one of the operations with a probability, drawn for each crop separately."""

    operations: tuple[Operation, ...]
    probability: float

    def __post_init__(self) -> None:
        names = "/".join(operation.name for operation in self.operations)
        Strength(1, 0, 1).check(self.probability, f"probability of {names}")


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Steps, each drawn independently ("all"); a step with several operations applies one of them ("one of").

    Pixels are always changed in the same order, whatever the order of the steps: geometry, color, blur, noise, dropout.
    Without steps nothing is changed.
    """

    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        names = [operation.name for step in self.steps for operation in step.operations]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise UsageError(f"augmentation {', '.join(repeated)} is given twice; name each operation once", _PARAMETER)

    def operation(self, name: str) -> Operation | None:
        """Return the operation of that name, or None if it is not among the steps."""
        return next((each for step in self.steps for each in step.operations if each.name == name), None)

    def setting(self, name: str, setting: str, absent: float = 0) -> float:
        """Return a setting of an operation, or `absent` if the operation is not among the steps."""
        operation = self.operation(name)
        return operation[setting] if operation else absent

    @property
    def needs_square(self) -> bool:
        """Whether it works only on square crops."""
        return any(self.operation(name) for name in _SQUARE)


def augmentation_of(text: str = DEFAULT) -> Augmentation:
    """Parse an augmentation: comma-separated items, each a preset or operations with a probability and settings.

    "hflip" has the operation's default probability, "hflip:0.3" sets one, "color:0.5:hue_degrees=20" also sets options;
    "a/b/c:0.3" applies one of them, each equally likely. UsageError for an unknown name, listing the known ones.
    """
    items = [item.strip() for item in text.split(",")]
    return Augmentation(tuple(step for item in items if item for step in _steps(item)))


def _steps(item: str) -> tuple[Step, ...]:
    if item in PRESETS:
        return augmentation_of(PRESETS[item]).steps
    parsed = [_operation(part.strip()) for part in item.split("/")]
    operations = tuple(operation for operation, _ in parsed)
    chances = [chance for _, chance in parsed if chance is not None]
    if len(chances) > 1:
        raise UsageError(
            f"augmentation {item!r} has {len(chances)} probabilities; give one for all: a/b:0.3", _PARAMETER
        )
    chance = chances[0] if chances else max(OPERATIONS[operation.name][0] for operation in operations)
    return (Step(operations, chance),)


def _operation(part: str) -> tuple[Operation, float | None]:
    name, *tokens = (token.strip() for token in part.split(":"))
    if name not in OPERATIONS:
        choices = f"{', '.join(OPERATIONS)}, and the presets {', '.join(PRESETS)}"
        raise UsageError(f"unknown augmentation {name!r}; geoseg knows {choices}", _PARAMETER)
    settings = [token.partition("=") for token in tokens if "=" in token]
    chances = [_number(token, f"the probability of augmentation {name}") for token in tokens if "=" not in token]
    if len(chances) > 1:
        raise UsageError(f"augmentation {part!r} has {len(chances)} probabilities; give one", _PARAMETER)
    values = tuple((key.strip(), _number(value, f"{key.strip()} of augmentation {name}")) for key, _, value in settings)
    return Operation(name, values), chances[0] if chances else None


def _number(text: str, label: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{label} must be a number, got {text!r}", _PARAMETER) from None
