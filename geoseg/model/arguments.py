"""What an architecture may be built with: one small check per argument, so that no header can ask for too much."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

Check: TypeAlias = Callable[[object], str | None]
"""Returns what is wanted instead of a wrong value, None for a right one."""

_ENCODER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}")
MAX_CHANNELS = 4096


def integer(low: int, high: int) -> Check:
    """Want an integer from low to high."""
    return lambda value: None if _is_integer(value, low, high) else f"an integer {low} to {high}"


def integers(count: int, low: int, high: int) -> Check:
    """Want a list of up to `count` integers, each from low to high."""

    def check(value: object) -> str | None:
        right = (
            isinstance(value, list) and 1 <= len(value) <= count and all(_is_integer(item, low, high) for item in value)
        )
        return None if right else f"a list of 1 to {count} integers {low} to {high}"

    return check


def fraction(value: object) -> str | None:
    """Want a number from 0 to 1."""
    right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    return None if right else "a number 0 to 1"


def boolean(value: object) -> str | None:
    """Want true or false."""
    return None if isinstance(value, bool) else "true or false"


def choice(*values: object) -> Check:
    """Want one of the values; true is not 1."""
    wanted = " or ".join("null" if value is None else str(value) for value in values)
    return lambda got: None if any(type(got) is type(value) and got == value for value in values) else wanted


def optional(check: Check) -> Check:
    """Want null or what `check` wants."""
    return lambda value: None if value is None else _or_null(check(value))


def either(*checks: Check) -> Check:
    """Want what any of the checks wants."""

    def check(value: object) -> str | None:
        wanted = [wish for wish in (check(value) for check in checks) if wish]
        return None if len(wanted) < len(checks) else " or ".join(wanted)

    return check


def encoder(value: object) -> str | None:
    """Want a plain name: a ':' or '/' would make timm call home. Whether it is known is asked when it is built."""
    return (
        None if isinstance(value, str) and _ENCODER.fullmatch(value) else "a name of letters, digits, '_', '-' and '.'"
    )


def _is_integer(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _or_null(wanted: str | None) -> str | None:
    return wanted and f"null or {wanted}"
