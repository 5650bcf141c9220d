"""Lengths and areas as people type them: "1.5", "1.5m", "1.5px", "100", "100m2", "0.5ha", "25px"."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from geoseg.errors import UsageError

_TYPED = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*([a-z²]*[23]?)\s*", re.IGNORECASE | re.ASCII)
_LENGTHS: Final = {"": 1.0, "m": 1.0, "km": 1e3, "cm": 1e-2}
_AREAS: Final = {"": 1.0, "m2": 1.0, "m²": 1.0, "ha": 1e4, "km2": 1e6, "km²": 1e6}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A length or an area, at least 0."""

    value: float
    """In metres or square metres, or in pixels."""
    in_px: bool = False
    option: str = "this"
    """How the user calls it, for messages: "`simplify`"."""
    typed: str = ""
    """What the user gave: "0.5ha"."""
    unit: str = ""
    """The unit in that, if there is one."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise UsageError(f"{self.option} must be a number from 0 up, got {self.value:g}")


def length(typed: float | str, option: str = "`simplify`") -> Quantity:
    """Return a length in metres or pixels; a bare number is in metres. UsageError, naming the option, for all else."""
    return _quantity(typed, option, _LENGTHS, "metres such as 1.5, or pixels such as 1.5px")


def area(typed: float | str, option: str = "`min_area`") -> Quantity:
    """Return an area in m2 or pixels; a bare number is in m2. UsageError, naming the option, for all else."""
    return _quantity(typed, option, _AREAS, "square metres such as 100, hectares such as 0.5ha, or pixels such as 25px")


def _quantity(typed: float | str, option: str, units: dict[str, float], wanted: str) -> Quantity:
    parts = _TYPED.fullmatch(str(typed))
    unit = parts[2].lower() if parts else ""
    if parts is None or (unit != "px" and unit not in units):
        raise UsageError(f"{option} wants {wanted}; got {str(typed)!r:.40}")
    in_px = unit == "px"
    factor = 1.0 if in_px else units[unit]
    return Quantity(float(parts[1]) * factor, in_px, option, str(typed).strip(), unit)
