"""An augmentation as people write it: "flips,shift-scale-rotate:0.5:degrees=20,motion-blur/gaussian-blur:0.3"."""

from __future__ import annotations

from geoseg.errors import UsageError
from geoseg.training.augmentation import OPERATIONS, Augmentation, Operation, Step

_FLIPS = "hflip,vflip,rot90,transpose"

PRESETS: dict[str, str] = {
    "none": "",
    # The eight symmetries of the square: land cover seen from above has no up.
    "flips": _FLIPS,
    # No shift: crops are drawn at random places anyway.
    "default": f"{_FLIPS},shift-scale-rotate:0.3:shift=0:degrees=30,color:0.5,gaussian-blur/noise:0.1",
    "strong": (
        f"{_FLIPS},shift-scale-rotate:0.5:shift=0:scale=0.3,optical-distortion/grid-distortion/elastic-distortion:0.3,"
        "color:0.8:brightness=0.4:contrast=0.4:gamma=0.4:saturation=0.4:hue_degrees=20:gain=0.1,"
        "motion-blur/gaussian-blur:0.2,noise:0.2,grid-dropout:0.1"
    ),
}
"""Augmentations with a name."""

DEFAULT = "default"
"""The preset of a recipe that does not choose."""


def augmentation_of(text: str = DEFAULT) -> Augmentation:
    """Read an augmentation: items between commas, each a preset or operations with a probability and settings.

    "hflip" takes the operation's own probability, "hflip:0.3" gives one, "color:0.5:hue_degrees=20" gives settings too;
    "a/b/c:0.3" does one of them, each as likely. UsageError for an unknown name, with those known.
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
        raise UsageError(f"augmentation {item!r} has {len(chances)} probabilities; give one for all: a/b:0.3")
    chance = chances[0] if chances else max(OPERATIONS[operation.name][0] for operation in operations)
    return (Step(operations, chance),)


def _operation(part: str) -> tuple[Operation, float | None]:
    name, *tokens = (token.strip() for token in part.split(":"))
    if name not in OPERATIONS:
        known = f"{', '.join(OPERATIONS)}, and the presets {', '.join(PRESETS)}"
        raise UsageError(f"unknown augmentation {name!r}; geoseg knows {known}")
    settings = [token.partition("=") for token in tokens if "=" in token]
    chances = [_number(token, f"the probability of augmentation {name}") for token in tokens if "=" not in token]
    if len(chances) > 1:
        raise UsageError(f"augmentation {part!r} has {len(chances)} probabilities; give one")
    values = tuple((key.strip(), _number(value, f"{key.strip()} of augmentation {name}")) for key, _, value in settings)
    return Operation(name, values), chances[0] if chances else None


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{what} must be a number, got {text!r}") from None
