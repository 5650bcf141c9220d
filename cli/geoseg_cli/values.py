"""What people type for bands, scales and lists of numbers, turned into values at the edge."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from geoseg.nearest import nearest

BLENDS = ("hann", "linear", "gaussian", "mean", "crop")
DEVICES = ("auto", "cpu", "cuda", "mps", "onnx", "torch-cpu")
DEVICES_THAT_LEARN = ("auto", "cpu", "cuda", "mps")
METHODS = ("visvalingam", "douglas-peucker")
PALETTES = ("own", "colour-blind", "color-blind")
PARTS = ("test", "train", "valid", "all")


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of `0.485,0.456,0.406`."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise click.BadParameter(f"expected numbers with commas such as 0.5,0.4,0.3, got {text!r}") from None


def scale(text: str) -> tuple[float, float]:
    """Return (low, high) of `LOW,HIGH`, or of `HIGH` alone, which means `0,HIGH`."""
    with contextlib.suppress(ValueError):
        match [float(number) for number in text.split(",")]:
            case [low, high]:
                return low, high
            case [high]:
                return 0.0, high
    raise click.BadParameter(f"expected LOW,HIGH or HIGH, such as 200,3000 or 3000, got {text!r}")


_Type = TypeVar("_Type", bound=Callable[..., Any])


def completed_by(*words: str) -> Callable[[_Type], _Type]:
    """Return what notes on a type the words that a shell completes."""

    def noted(kind: _Type) -> _Type:
        kind.words = words  # type: ignore[attr-defined]
        return kind

    return noted


def listed(words: Sequence[str]) -> str:
    """Return `a, b or c`."""
    return f"{', '.join(words[:-1])} or {words[-1]}"


@completed_by("scene", "model")
def resolution(text: str) -> str | float:
    """Return `scene` or `model` as it is, and `0.5` as a number of metres."""
    return _word_or_metres(text, "scene", "model", "0.5")


@completed_by("auto", "scene")
def network_resolution(text: str) -> str | float:
    """Return `auto` or `scene` as it is, and `1` as a number of metres."""
    return _word_or_metres(text, "auto", "scene", "1")


def _word_or_metres(text: str, first: str, second: str, example: str) -> str | float:
    try:
        return text if text in {first, second} else float(text)
    except ValueError:
        raise click.BadParameter(f"expected {first}, {second} or metres such as {example}, got {text!r}") from None


def bands(text: str) -> tuple[int | str, ...]:
    """Return the bands of `4,3,2` or `nir,red,green`: numbers from 1 on, or names, in the order given."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise click.BadParameter(f"expected bands with commas such as 4,3,2 or nir,red,green, got {text!r}")
    return tuple(int(name) if name.isdecimal() else name for name in names)


def word(knob: str, *words: str) -> Callable[[str], str]:
    """Return a function that refuses what is nearly one of some words, and leaves all else to the library to judge.

    The words stand here, and a test compares them with the library's, so that no help text waits for its imports.
    """

    @completed_by(*words)
    def name(text: str) -> str:
        near = nearest(text, words)
        if near is not None and text.partition(":")[0] not in words:  # cuda:1 is one of cuda
            wanted = ", ".join(words)
            raise click.BadParameter(f"{knob} must be one of {wanted}, got {text!r:.40} (did you mean {near}?)")
        return text

    return name


def one_of(knob: str, words: tuple[str, ...], otherwise: str = "") -> Callable[[str], str]:
    """Return a function that takes some words and refuses all others; `otherwise` is the way out for these."""
    nearly = word(knob, *words)

    @completed_by(*words)
    def name(text: str) -> str:
        if nearly(text) not in words:
            raise click.BadParameter(f"{knob} must be one of {', '.join(words)}, got {text!r:.40}{otherwise}")
        return text

    return name


def creation_option(text: str) -> tuple[str, str]:
    """Return the name, in capitals, and the value of `KEY=VALUE`, as gdal_translate -co takes it."""
    key, sign, value = text.partition("=")
    if not (key.strip() and sign and value.strip()):
        raise click.BadParameter(f"expected KEY=VALUE such as COMPRESS=ZSTD, got {text!r}")
    return key.strip().upper(), value.strip()


def box(text: str) -> tuple[float, float, float, float]:
    """Return (west, south, east, north) of `W,S,E,N`, or as rio has it: `W S E N`, `[W, S, E, N]`."""
    with contextlib.suppress(ValueError):
        west, south, east, north = map(float, text.strip("[] ").replace(",", " ").split())
        return west, south, east, north
    raise click.BadParameter(f"expected W,S,E,N such as 400000,4999000,401000,5000000, got {text!r}")
