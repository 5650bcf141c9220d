"""What somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that one nearly is, upper and lower case being one; None if it is unlike all of them."""
    in_small: dict[str, str] = {}
    for each in known:
        in_small.setdefault(each.casefold(), each)
    near = difflib.get_close_matches(word.casefold(), in_small, n=1)
    return in_small[near[0]] if near else None
