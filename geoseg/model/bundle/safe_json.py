"""JSON from untrusted files: parsed with limits on everything, before any of it is used."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, NoReturn

from geoseg.errors import ModelError, one_line

_MAX_DIGITS = 20
"""Longer integers take quadratic time to parse and have no use in a model."""
_MAX_DEPTH = 32
"""A model's metadata is nested about six levels deep."""


def parse_json(text: str | bytes, source: str) -> Any:  # noqa: ANN401 - its type is for the caller to check
    """Return the value of a JSON text.

    Raises ModelError for things that JSON readers commonly accept: a name twice in one object, NaN and infinities,
    integers of more than 20 digits, nesting deeper than 32, text that is not UTF-8. `source` names the text in
    messages.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(
            text,
            object_pairs_hook=_object_of_unique_names,
            parse_constant=_refuse_constant,
            parse_int=_bounded_int,
            parse_float=_finite_float,
        )
        _refuse_depth(value)
    except RecursionError:
        raise ModelError(f"{source} is not valid model metadata: nested deeper than {_MAX_DEPTH}") from None
    except ValueError as fault:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise ModelError(f"{source} is not valid model metadata: {one_line(fault)}") from None
    return value


def _object_of_unique_names(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"the name {name[:60]!r} occurs twice in one object")
        members[name] = value
    return members


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _bounded_int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits, at most {_MAX_DIGITS} allowed")
    return int(text)


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is beyond what a float holds")
    return value


def _refuse_depth(value: object) -> None:
    level: list[object] = [value]
    for _ in range(_MAX_DEPTH):
        nested: list[object] = []
        for item in level:
            if isinstance(item, dict):
                nested.extend(item.values())
            elif isinstance(item, list):
                nested.extend(item)
        if not nested:
            return
        level = nested
    raise ValueError(f"nested deeper than {_MAX_DEPTH}")
