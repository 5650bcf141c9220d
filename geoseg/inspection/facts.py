"""Facts for programs and for people."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, repr=False)
class Facts:
    """What is known of one thing."""

    kind: Literal["scene", "map", "model"]
    path: str
    values: dict[str, object]
    """Plain values; the keys of each kind stay the same from version to version."""
    lines: tuple[tuple[str, str], ...]
    """The same in words: label and text."""

    def __repr__(self) -> str:
        return self.describe()

    def to_json(self) -> dict[str, object]:
        """Return plain values that strict JSON can hold: NaN and infinities become texts."""
        return {"kind": self.kind, "path": self.path} | {name: _finite(value) for name, value in self.values.items()}

    def describe(self) -> str:
        """Return a table of lines for people."""
        width = max((len(label) for label, _ in self.lines), default=0)
        return "\n".join([f"{self.path}: {self.kind}", *(f"  {label:<{width}}  {text}" for label, text in self.lines)])


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
