"""The knobs of a recipe as options; their defaults are the recipe's, so none is written here."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from geoseg_cli.groups import GroupedOption
from geoseg_cli.training_words import KNOWN, word

_NETWORK, _DATA, _LEARNING, _KEPT = "The network", "What it sees", "How it learns", "What is kept"


class NumberOr(click.ParamType[Any]):
    """A number, or a word that stands for None: auto, none."""

    def __init__(self, word: str, kind: type[int | float]) -> None:
        self.name = f"{'N' if kind is int else 'X'}|{word}"
        self.word = word
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Return the number, or the word itself: None is what click gives for an option that was not."""
        if value == self.word:
            return value
        try:
            return self._kind(value)
        except (TypeError, ValueError):
            self.fail(f"wanted a number or {self.word}, got {value!r}", param, ctx)


class KnobOption(GroupedOption):
    """An option whose default is that of the recipe `default`, asked for only when the help text is."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option and its text, with the default."""
        from geoseg.training import Recipe

        record = super().get_help_record(ctx)
        default = getattr(Recipe(), self.name or "", _UNSAID)
        if record is None or default is _UNSAID or default == ():
            return record
        return record[0], f"{record[1]} [default: {self._in_words(default)}]"

    def _in_words(self, default: Any) -> str:  # noqa: ANN401 - as many types as knobs
        match default:
            case bool():
                return "on" if default else "off"
            case None:
                return self.type.word if isinstance(self.type, NumberOr) else "none"
            case tuple():
                return ",".join(map(str, default))
            case dict():
                return json.dumps(default)
        return f"{default:g}" if isinstance(default, float) else str(default)


_UNSAID = object()
"""Of a knob that the recipe has under another name."""
_OPTIONS: tuple[tuple[str, str, str, Any, str], ...] = (
    (_NETWORK, "--architecture", "architecture", str, "Unet, FPN, DeepLabV3Plus, FCN8s, SegNet, PlainUnet, ..."),
    (_NETWORK, "--encoder", "encoder", str, "resnet34, timm-mobilenetv3_small_100, tu-convnext_tiny, ... or none."),
    (_NETWORK, "--arguments", "arguments", str, "Further arguments of the architecture, as a JSON object."),
    (
        _NETWORK,
        "--encoder-weights",
        "encoder_weights",
        str,
        "imagenet, noisy-student, ... (fetched once), a file, or none.",
    ),
    (_NETWORK, "--init", "init", str, "A bundle to start from, `demo` for the one geoseg ships, or none."),
    (_NETWORK, "--norm", "norm", str, "auto, batch, group (for batches of one to four) or frozen."),
    (_DATA, "--gsd", "gsd_m", NumberOr("none", float), "Metres a pixel to resample to; finer imagery is averaged."),
    (_DATA, "--size", "size_px", NumberOr("none", int), "Pixels to resize the long side of each scene to."),
    (_DATA, "--crop", "crop_px", int, "Pixels a side of a crop."),
    (_DATA, "--rare", "rare", float, "0: crops fall anywhere; 1: as often on each class."),
    (_DATA, "--augmentation", "augmentation", str, "none, flips, default, strong, or a list: hflip,rot90,color:0.5."),
    (
        _DATA,
        "--normalization",
        "normalization",
        str,
        "auto, dataset, imagenet, inception, model (that of --init), or MEANS/STDS.",
    ),
    (_DATA, "--ignore", "ignore", str, "Classes that are not learnt, between commas, or none."),
    (_LEARNING, "--loss", "loss", str, "cross-entropy, dice, focal, lovasz, or a sum: 'cross-entropy + 0.5 dice'."),
    (_LEARNING, "--weights", "weights", str, "Of the classes in the loss: none, auto, or numbers between commas."),
    (_LEARNING, "--optimizer", "optimizer", str, "adam, adamw, rmsprop or sgd."),
    (_LEARNING, "--lr", "lr", NumberOr("auto", float), "Learning rate; auto finds one by a sweep."),
    (_LEARNING, "--weight-decay", "weight_decay", float, "Weight decay."),
    (_LEARNING, "--momentum", "momentum", float, "Momentum, of sgd and rmsprop."),
    (_LEARNING, "--betas", "betas", str, "Two numbers between a comma, of adam and adamw."),
    (_LEARNING, "--eps", "eps", float, "Epsilon, of adam, adamw and rmsprop."),
    (_LEARNING, "--amsgrad/--no-amsgrad", "amsgrad", bool, "AMSGrad, of adam and adamw."),
    (_LEARNING, "--schedule", "schedule", str, "constant, step, multi-step, cyclic, exp-range, one-cycle or cosine."),
    (_LEARNING, "--warmup", "warmup", float, "Share of the steps in which the rate rises."),
    (_LEARNING, "--step-epochs", "step_epochs", int, "Epochs between steps, and of half a cycle."),
    (_LEARNING, "--milestones", "milestones", str, "Epochs at which multi-step steps, between commas."),
    (_LEARNING, "--gamma", "gamma", float, "Factor of a step, and of exp-range's cycles."),
    (_LEARNING, "--floor", "floor", float, "The lowest rate, as a share of --lr."),
    (_LEARNING, "--batch-size", "batch_size", NumberOr("auto", int), "Crops of a batch; auto: what the memory holds."),
    (_LEARNING, "--accumulate", "accumulate", int, "Batches whose gradients are added for one step."),
    (_LEARNING, "--epochs", "epochs", int, "Epochs."),
    (_LEARNING, "--batches", "batches", NumberOr("auto", int), "Batches of an epoch; auto: all pixels about once."),
    (_LEARNING, "--clip", "clip", float, "Largest norm of the gradients; 0: no limit."),
    (_LEARNING, "--average", "average", float, "Decay of the running average of the weights; 0: none."),
    (_LEARNING, "--start-share", "start_share", float, "How much of the finished weights are those of --init."),
    (_LEARNING, "--precision", "precision", str, "auto, 32, bf16 or 16."),
    (_LEARNING, "--patience", "patience", NumberOr("none", int), "Stop after so many epochs without a better mIoU."),
    (_LEARNING, "--valid-every", "valid_every", int, "Epochs from one validation to the next."),
    (_LEARNING, "--seed", "seed", int, "The seed of all that is random."),
    (
        _KEPT,
        "--window",
        "window_px",
        NumberOr("none", int),
        "Of the bundle, in pixels; none: 512, less where scenes are smaller.",
    ),
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every knob of a recipe."""
    for heading, flag, name, kind, text in reversed(_OPTIONS):
        settings: dict[str, Any] = {"type": word(name) if name in KNOWN else kind} if kind is not bool else {}
        metavar = None if kind is bool else _metavar(kind)
        how = {"default": None, "help": text, "metavar": metavar, **settings}
        command = click.option(flag, name, cls=KnobOption, heading=heading, **how)(command)
    return command


def read_knobs(given: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `recipe_options` out of `given`, and return those that were used as plain values."""
    named = {name: given.pop(name) for _, _, name, _, _ in _OPTIONS}
    return {name: _plain(name, value) for name, value in named.items() if value is not None}


def _metavar(kind: Any) -> str:  # noqa: ANN401 - click's types and Python's
    return {int: "N", float: "X", str: "TEXT"}.get(kind) or kind.name


def _plain(name: str, value: Any) -> Any:  # noqa: ANN401 - as many types as knobs
    match name, value:
        case _, "none" | "auto" if name in {
            "encoder", "encoder_weights", "init", "gsd_m", "size_px", "lr", "batch_size", "batches", "patience",
            "window_px",
        }:  # fmt: skip
            return None
        case "ignore", str():
            return [] if value == "none" else _items(value)
        case "milestones", str():
            return [_number(name, item, int) for item in _items(value)]
        case "betas", str():
            return [_number(name, item, float) for item in _items(value)]
        case "arguments", str():
            return _object(value)
    return value


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _number(name: str, text: str, kind: type[int | float]) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise click.BadParameter(f"numbers between commas, got {text!r}", param_hint=f"--{name}") from None


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise click.BadParameter(f'a JSON object such as {{"depth": 4}}, got {text:.80}', param_hint="--arguments")
    return value
