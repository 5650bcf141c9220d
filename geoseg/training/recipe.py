"""Every knob of a training as one value."""

from __future__ import annotations

import functools
import json
import math
import os
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from types import NoneType
from typing import Any, Self, get_args, get_origin, get_type_hints

from geoseg.dataset import DEFAULT_SEED
from geoseg.errors import UsageError
from geoseg.model import architecture_named, frozen_text
from geoseg.nearest import nearest

OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
SCHEDULES = ("constant", "step", "multi-step", "cyclic", "exp-range", "one-cycle", "cosine")
NORMS = ("auto", "batch", "group", "frozen")
NORMALIZATIONS = ("auto", "dataset", "imagenet", "inception", "model")
PRECISIONS = ("auto", "32", "bf16", "16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The knobs of a training; the values here are the recipe `default`, and docs/recipes.md has their reasons.

    Raises UsageError for a knob of another type or out of its range.
    """

    # --- the network
    architecture: str = "FPN"
    encoder: str | None = "tu-tf_efficientnet_lite0"
    """None: the architecture has none, or its own."""
    arguments_text: str = '{"decoder_pyramid_channels": 128, "decoder_segmentation_channels": 64}'
    """Further arguments of the architecture, as JSON text."""
    encoder_weights: str | None = None
    """Pretrained weights of the encoder, fetched once: imagenet, noisy-student, ...; or a file of them."""
    init: str | None = "demo"
    """A bundle to start from: "demo" is the one geoseg ships; of another architecture nothing is taken."""
    norm: str = "auto"
    """batch; group: in its place, for batches of one to four; frozen: batch norm as it was pretrained; auto: frozen
    where the network begins with a bundle, whose statistics a few scenes would only narrow, else batch."""

    # --- what it sees
    gsd_m: float | None = 1.0
    """Imagery is resampled to so many metres a pixel; None: as it is."""
    size_px: int | None = None
    """The long side of each scene is resampled to so many pixels; gsd_m does not count then."""
    crop_px: int = 320
    rare: float = 0.5
    """0: each pixel is as likely in a crop; 1: each class is as likely in a crop's centre."""
    augmentation: str = "strong"
    """Operations and their probabilities; see `geoseg.training.augmentation`."""
    normalization: str = "auto"
    """dataset: mean and std of the training scenes; imagenet: those its weights want, or ImageNet's; inception: 0.5
    and 0.5; model: those of `init`; MEANS/STDS, a number a band: "0.48,0.46,0.41/0.23,0.22,0.23"; auto."""
    ignore: tuple[str, ...] = ("unknown",)
    """Classes that are not learnt and never count."""

    # --- how it learns
    loss: str = "cross-entropy + 0.5 dice"
    """A sum of losses; see `geoseg.training.losses`."""
    weights: str = "none"
    """Of the classes in the loss: none, auto, or numbers in the order of the legend, without those of `ignore`."""
    optimizer: str = "adamw"
    lr: float | None = 1e-4
    """None: found by a sweep before the training."""
    weight_decay: float = 0.01
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False
    schedule: str = "cosine"
    warmup: float = 0.05
    """Share of all steps in which the rate rises; of the schedules cosine and one-cycle."""
    step_epochs: int = 10
    """Epochs between the steps of `step`, and of half a cycle of `cyclic` and `exp-range`."""
    milestones: tuple[int, ...] = ()
    """Epochs at which `multi-step` steps."""
    gamma: float = 0.1
    """A step's factor; of `exp-range` the factor of each further cycle."""
    floor: float = 0.0
    """The lowest rate of cosine, one-cycle and the cycles, as a share of lr."""
    batch_size: int | None = 8
    """None: as many as the memory holds, by an estimate."""
    accumulate: int = 1
    """Batches whose gradients are added for one step."""
    epochs: int = 3
    batches: int | None = None
    """Batches of an epoch; None: as many as show each training pixel about once."""
    clip: float = 2.0
    """The largest norm of the gradients; 0: no limit."""
    average: float = 0.99
    """Decay a step of the running average of the weights, which is what is validated and kept; 0: none."""
    start_share: float = 0.5
    """How much of the finished weights are those of `init`, 0: none; nothing where the network begins without."""
    precision: str = "auto"
    """auto: bf16 where the device has it, else 32 bits."""
    patience: int | None = None
    """Epochs without a better mIoU after which to stop; None: never."""
    valid_every: int = 1
    """Epochs from one validation to the next."""
    seed: int = DEFAULT_SEED

    # --- what is kept
    window_px: int | None = None
    """Of the bundle; None: 512, less where every scene is smaller, but never less than the crop."""

    def __post_init__(self) -> None:
        for name in KNOBS:
            object.__setattr__(self, name, _typed(name, getattr(self, name)))
        for name, choices in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("norm", NORMS),
            ("normalization", NORMALIZATIONS),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in choices and not (name == "normalization" and self.scaling is not None):
                raise UsageError(f"{_said(name)} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else () if value is None else (value,)
            if not all(math.isfinite(number) and low <= number <= high for number in numbers):
                raise UsageError(f"{_said(name)} must be {low:g} to {high:g}, got {value}")
        if len(self.betas) != 2:
            raise UsageError(f"betas must be two numbers, got {', '.join(map(str, self.betas))}")
        if self.schedule == "multi-step" and not self.milestones:
            raise UsageError("schedule multi-step needs milestones, the epochs at which it steps; give `milestones`")
        if not isinstance(self.arguments, dict):
            raise UsageError(f"the architecture's arguments are a JSON object, got {self.arguments_text:.80}")

    @property
    def scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and std of each band where `normalization` tells them, of 0 to 1 or of stored values; else None."""
        mean, slash, std = self.normalization.partition("/")
        if not slash:
            return None
        try:
            told = tuple(float(value) for value in mean.split(",")), tuple(float(value) for value in std.split(","))
        except ValueError:
            told = (), ()
        if not told[0] or len(told[0]) != len(told[1]) or not all(map(math.isfinite, (*told[0], *told[1]))):
            raise UsageError(
                f"normalization must be as many means as stds, MEANS/STDS, got {self.normalization!r:.80}; for three "
                "bands 0.485,0.456,0.406/0.229,0.224,0.225"
            )
        if min(told[1]) <= 0:
            raise UsageError(f"normalization must have stds over 0, got {self.normalization!r:.80}")
        return told

    @property
    def arguments(self) -> dict[str, Any]:
        """A fresh copy of the architecture's arguments but the encoder."""
        try:
            arguments: dict[str, Any] = json.loads(self.arguments_text)
        except ValueError as fault:
            raise UsageError(
                f"the architecture's arguments are a JSON object, got {self.arguments_text:.80}: {fault}"
            ) from None
        return arguments

    def changed(self, **knobs: Any) -> Self:  # noqa: ANN401 - as many types as knobs
        """Return the recipe with other knobs; `arguments` may be given as an object.

        Another architecture takes its own defaults for the arguments that are not given with it, and no encoder where
        it has none. Raises UsageError, with the names there are, for a knob it has not, ModelError for an unknown
        architecture.
        """
        if "arguments" in knobs:
            knobs["arguments_text"] = frozen_text(knobs.pop("arguments"), "arguments")
        unknown = sorted(set(knobs) - set(KNOBS))
        if unknown:
            near = nearest(unknown[0], KNOBS)
            meant = "" if near is None else f" (did you mean {near!r}?)"
            raise UsageError(f"a recipe has no knob {unknown[0]!r}{meant}; it has {', '.join(KNOBS)}")
        return replace(self, **(self._forgotten(knobs.get("architecture")) | knobs))

    def _forgotten(self, architecture: str | None) -> dict[str, Any]:
        """Return the knobs that mean nothing to another architecture, as it has them."""
        if architecture is None or architecture_named(architecture) is architecture_named(self.architecture):
            return {}
        wanted = architecture_named(architecture).checks.get("encoder_name")
        is_taken = wanted is not None and wanted(self.encoder) is None
        return {"arguments_text": "{}", "encoder": self.encoder if is_taken else None}

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return plain | {"arguments": self.arguments} if plain.pop("arguments_text") else plain

    @classmethod
    def from_json(cls, plain: dict[str, Any], base: Recipe | None = None) -> Recipe:
        """Return `base` (the defaults) with the knobs given as plain values; UsageError for what is none."""
        return (base or cls()).changed(**plain)

    def meaning(self) -> dict[str, Any]:
        """Return plain values that differ whenever the weights would.

        The batch may be cut into smaller ones whose gradients are added: a run that did not fit can so go on.
        `batch_size` is here that of a step, and `batches` are an epoch's steps.
        """
        plain = self.to_json()
        accumulate = plain.pop("accumulate")
        if self.batch_size is not None:
            plain["batch_size"] = self.batch_size * accumulate
        if self.batches is not None:
            plain["batches"] = math.ceil(self.batches / accumulate)
        return plain


KNOBS = tuple(field.name for field in fields(Recipe))
_RANGES = {
    "gsd_m": (1e-3, 1e5),
    "size_px": (16, 1_000_000),
    "crop_px": (16, 16_384),
    "rare": (0, 1),
    "lr": (1e-9, 100),
    "weight_decay": (0, 10),
    "momentum": (0, 0.9999),
    "betas": (0, 0.99999),
    "eps": (1e-16, 1),
    "warmup": (0, 0.9),
    "step_epochs": (1, 100_000),
    "milestones": (1, 1_000_000),
    "gamma": (1e-6, 1),
    "floor": (0, 1),
    "batch_size": (1, 65_536),
    "accumulate": (1, 65_536),
    "epochs": (1, 1_000_000),
    "batches": (1, 10_000_000),
    "clip": (0, 1e9),
    "average": (0, 0.99999),
    "start_share": (0, 0.95),
    "patience": (1, 1_000_000),
    "valid_every": (1, 1_000_000),
    "seed": (0, 2**31 - 1),
    "window_px": (16, 16_384),
}


@functools.cache
def _hints() -> dict[str, Any]:
    return get_type_hints(Recipe)


def _typed(name: str, value: object) -> Any:  # noqa: ANN401 - as many types as knobs
    """Return a value as its knob holds it, a list as a tuple, numpy's numbers as Python's; UsageError for others."""
    kinds = _kinds(_hints()[name])
    for kind in kinds:
        found = _as(kind, value)
        if found is not None:
            return found
    if value is None and NoneType in kinds:
        return None
    raise UsageError(f"{_said(name)} must be {' or '.join(_kind(kind) for kind in kinds)}, got {value!r:.60}")


def _kinds(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a type as Python writes it
    return (hint,) if get_origin(hint) is tuple else get_args(hint) or (hint,)


def _as(kind: Any, value: object) -> Any:  # noqa: ANN401 - a type, and what it holds
    """Return a value as one kind of knob holds it; None if it is of another."""
    if get_origin(kind) is tuple:
        items = [_as(get_args(kind)[0], item) for item in value] if isinstance(value, list | tuple) else [None]
        return None if None in items else tuple(items)
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool | str):
        return value if isinstance(value, kind) and kind in {bool, str} else None
    if kind is int:
        return int(value) if isinstance(value, Integral) else None
    return float(value) if kind is float and isinstance(value, Real) else None


def _kind(kind: Any) -> str:  # noqa: ANN401 - a type as Python writes it
    if get_origin(kind) is tuple:
        return f"a list of {get_args(kind)[0].__name__}"
    return "null" if kind is NoneType else str(kind.__name__)


def _said(name: str) -> str:
    """Return a knob as the command line writes it."""
    return {"gsd_m": "gsd", "size_px": "size", "crop_px": "crop", "window_px": "window"}.get(
        name, name.replace("_", "-")
    )
