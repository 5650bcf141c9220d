"""Words that `geoseg train` takes: one that is nearly one of the library's is refused as it is read, before the data.

The words are the library's own, asked for when one is given, so that no help text waits for its imports.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from geoseg_cli import values

LOSSES = ("cross-entropy", "dice", "focal", "lovasz")
"""Written here, for to ask is to load torch; a test compares them with the library's."""
_TERM = re.compile(r"(?<![\w.-])[A-Za-z][\w-]*")
"""The name in a term: `0.5 dice`, `2*focal:gamma=2`, `hflip:0.3`."""
_BETWEEN = {"loss": "+", "augmentation": ",/"}
"""What stands between the terms of knobs that are several words."""
_ANY_CASE = ("architecture",)


def word(knob: str) -> Callable[[str], str]:
    """Return a function that refuses what is nearly a word of a knob, and leaves all else to the library to judge."""

    def name(text: str) -> str:
        known = KNOWN[knob]()
        check = values.word(knob, *known)
        small = {each.lower() for each in known} if knob in _ANY_CASE else set()
        for term in _terms(knob, text):
            if term.lower() not in small:
                check(term)
        return text

    name.words = KNOWN[knob]  # type: ignore[attr-defined]  # asked for when a shell completes one
    return name


def _terms(knob: str, text: str) -> list[str]:
    """Return the names in a text, as many as it has terms with one."""
    if knob not in _BETWEEN:
        return [text]
    found = [_TERM.search(term) for term in re.split(f"[{_BETWEEN[knob]}]", text)]
    return [match.group() for match in found if match]


def _recipes() -> tuple[str, ...]:
    from geoseg.training import RECIPES

    return tuple(RECIPES)


def _architectures() -> tuple[str, ...]:
    from geoseg.model import ARCHITECTURES

    return tuple(ARCHITECTURES)


def _augmentations() -> tuple[str, ...]:
    from geoseg.training import OPERATIONS, PRESETS

    return (*PRESETS, *OPERATIONS)


def _of_recipe(constant: str) -> Callable[[], tuple[str, ...]]:
    def find() -> tuple[str, ...]:
        import geoseg.training

        words: tuple[str, ...] = getattr(geoseg.training, constant)
        return words

    return find


KNOWN: dict[str, Callable[[], tuple[str, ...]]] = {
    "recipe": _recipes,
    "architecture": _architectures,
    "augmentation": _augmentations,
    "loss": lambda: LOSSES,
    "optimizer": _of_recipe("OPTIMIZERS"),
    "schedule": _of_recipe("SCHEDULES"),
    "norm": _of_recipe("NORMS"),
    "normalization": _of_recipe("NORMALIZATIONS"),
    "precision": _of_recipe("PRECISIONS"),
}
"""What finds the words of each knob that has them."""
