"""Types of options and arguments: parse typed text into a value, or explain in one line why that fails.

Misspelled words are rejected here, before any data is read. The words for mapping are copied here, so that help texts
need no import; tests compare them with the library's. Those of `geoseg train` are taken from the library when such an
option is given.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from geoseg.given import nearest

ACTIVATIONS = ("softmax", "sigmoid", "none")
DATA_TYPES = ("uint8", "uint16", "int16", "float32")
BLENDS = ("hann", "linear", "gaussian", "mean", "crop")
DEVICES = ("auto", "cpu", "cuda", "mps", "onnx", "torch-cpu")
TRAINING_DEVICES = ("auto", "cpu", "cuda", "mps")
METHODS = ("visvalingam", "douglas-peucker")
PALETTES = ("soft", "own", "deepglobe", "color-blind", "colour-blind")
PARTS = ("test", "train", "valid", "all")
LOSSES = ("cross-entropy", "dice", "focal", "lovasz")
"""Copied, because importing them from the library would load torch."""

_Type = TypeVar("_Type", bound=Callable[..., Any])
_TERM = re.compile(r"(?<![\w.-])[A-Za-z][\w-]*")
"""Matches the name in a term: `0.5 dice`, `2*focal:gamma=2`, `hflip:0.3`."""
_SEPARATORS = {"loss": "+", "augmentation": ",/"}
"""Separators of the terms in options that take several words."""


def _completed_by(*words: str) -> Callable[[_Type], _Type]:
    """Return a decorator that gives a type its words for shell completion."""

    def noted(kind: _Type) -> _Type:
        kind.words = words  # type: ignore[attr-defined]
        return kind

    return noted


def listed(words: Sequence[str]) -> str:
    """Return `a, b or c`."""
    return f"{', '.join(words[:-1])} or {words[-1]}"


def numbers(text: str) -> tuple[float, ...]:
    """Parse numbers such as `0.485,0.456,0.406`."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise click.BadParameter(f"expected numbers with commas such as 0.5,0.4,0.3, got {text!r}") from None


def numbers_or_none(text: str) -> tuple[float, ...] | str:
    """Parse numbers such as `0.229,0.224,0.225`, or the word `none`."""
    return "none" if text.strip().lower() == "none" else numbers(text)


def scale(text: str) -> tuple[float, float]:
    """Parse `LOW,HIGH` into (low, high); `HIGH` alone means `0,HIGH`."""
    with contextlib.suppress(ValueError):
        match [float(number) for number in text.split(",")]:
            case [low, high]:
                return low, high
            case [high]:
                return 0.0, high
    raise click.BadParameter(f"expected LOW,HIGH or HIGH, such as 200,3000 or 3000, got {text!r}")


def word_or_meters(first: str, second: str, example: str) -> Callable[[str], str | float]:
    """Return a type that takes one of two words, or a number of meters."""

    @_completed_by(first, second)
    def size(text: str) -> str | float:
        try:
            return text if text in {first, second} else float(text)
        except ValueError:
            raise click.BadParameter(f"expected {first}, {second} or meters such as {example}, got {text!r}") from None

    return size


def bands(text: str) -> tuple[int | str, ...]:
    """Parse bands such as `4,3,2` or `nir,red,green`: numbers from 1, or names, in the given order."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise click.BadParameter(f"expected bands with commas such as 4,3,2 or nir,red,green, got {text!r}")
    return tuple(int(name) if name.isdecimal() else name for name in names)


def creation_option(text: str) -> tuple[str, str]:
    """Parse `KEY=VALUE`, as in gdal_translate -co, into the key, in upper case, and the value."""
    key, sign, value = text.partition("=")
    if not (key.strip() and sign and value.strip()):
        raise click.BadParameter(f"expected KEY=VALUE such as COMPRESS=ZSTD, got {text!r}")
    return key.strip().upper(), value.strip()


def box(text: str) -> tuple[float, float, float, float]:
    """Parse `W,S,E,N`, or rio's forms `W S E N` and `[W, S, E, N]`, into (west, south, east, north)."""
    with contextlib.suppress(ValueError):
        west, south, east, north = map(float, text.strip("[] ").replace(",", " ").split())
        return west, south, east, north
    raise click.BadParameter(f"expected W,S,E,N such as 400000,4999000,401000,5000000, got {text!r}")


class NumberOr(click.ParamType[Any]):
    """A number, or a word that stands for None, such as auto or none."""

    def __init__(self, word: str, kind: type[int | float]) -> None:
        self.name = f"{'N' if kind is int else 'X'}|{word}"
        self.word = word
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Return the number, or the word itself, because click uses None for absent options."""
        if value == self.word:
            return value
        try:
            return self._kind(value)
        except (TypeError, ValueError):
            self.fail(f"expected a number or {self.word}, got {value!r}", param, ctx)


class JsonObject(click.ParamType[Any]):
    """Values by name, as JSON."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Return the values as a dict."""
        try:
            parsed = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            self.fail(f'expected a JSON object such as {{"encoder_depth": 4}}, got {value!s:.80}', param, ctx)
        return parsed


def word(option: str, *words: str) -> Callable[[str], str]:
    """Return a type that rejects near misses of some words and leaves everything else to the library."""

    @_completed_by(*words)
    def name(text: str) -> str:
        near = nearest(text, words)
        if near is not None and text.partition(":")[0] not in words:  # cuda:1 counts as cuda
            choices = ", ".join(words)
            raise click.BadParameter(f"{option} must be one of {choices}, got {text!r:.40} (did you mean {near}?)")
        return text

    return name


def device(*words: str) -> Callable[[str], str]:
    """Return the type of --device, which ignores case; the library knows what `gpu` means."""
    check = word("device", *words)

    @_completed_by(*words)
    def name(text: str) -> str:
        return text if "gpu" in text.lower() else check(text.lower())

    return name


def one_of(option: str, words: tuple[str, ...], otherwise: str = "") -> Callable[[str], str]:
    """Return a type that accepts only some words; `otherwise` ends the message for all others."""
    nearly = word(option, *words)

    @_completed_by(*words)
    def name(text: str) -> str:
        if nearly(text) not in words:
            raise click.BadParameter(f"{option} must be one of {', '.join(words)}, got {text!r:.40}{otherwise}")
        return text

    return name


def training_word(option: str) -> Callable[[str], str]:
    """Return a type that rejects near misses of the words of an option of `geoseg train`, in any of its terms."""

    def name(text: str) -> str:
        choices = TRAINING_WORDS[option]()
        check = word(option, *choices)
        lower = {choice.lower() for choice in choices} if option == "architecture" else set()  # which ignores case
        for term in _terms(option, text):
            if term.lower() not in lower:
                check(term)
        return text

    name.words = TRAINING_WORDS[option]  # type: ignore[attr-defined]  # called for shell completion
    return name


def _terms(option: str, text: str) -> list[str]:
    if option not in _SEPARATORS:
        return [text]
    matches = [_TERM.search(term) for term in re.split(f"[{_SEPARATORS[option]}]", text)]
    return [match.group() for match in matches if match]


def _words_in(*constants: str) -> Callable[[], tuple[str, ...]]:
    """Return a function that returns the words in some constants of geoseg.training."""

    def find() -> tuple[str, ...]:
        import geoseg.training

        return tuple(name for constant in constants for name in getattr(geoseg.training, constant))

    return find


def _architectures() -> tuple[str, ...]:
    from geoseg.model import ARCHITECTURES

    return tuple(ARCHITECTURES)


TRAINING_WORDS: dict[str, Callable[[], tuple[str, ...]]] = {
    "recipe": _words_in("RECIPES"),
    "architecture": _architectures,
    "augmentation": _words_in("PRESETS", "OPERATIONS"),
    "loss": lambda: LOSSES,
    "optimizer": _words_in("OPTIMIZERS"),
    "schedule": _words_in("SCHEDULES"),
    "norm": _words_in("NORMS"),
    "trainable": _words_in("TRAINABLES"),
    "normalization": _words_in("NORMALIZATIONS"),
    "precision": _words_in("PRECISIONS"),
}
"""Functions that return the words of options of `geoseg train`."""
