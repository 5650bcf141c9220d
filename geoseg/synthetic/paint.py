"""Colours of many pixels: (3, pixel) float32, 0 to 1."""

from __future__ import annotations

import numpy as np

from geoseg.synthetic.noise import Floats, Mask
from geoseg.synthetic.place import Color

Paint = Floats
"""(3, pixel): red, green, blue, 0 to 1."""


def flat(color: Color, count: int) -> Paint:
    """Return one colour for all pixels."""
    return np.repeat(np.array(color, np.float32)[:, None], count, axis=1)


def mix(first: Paint | Color, second: Paint | Color, share: Floats) -> Paint:
    """Go from the first colour to the second as the share goes from 0 to 1."""
    low, high = _column(first), _column(second)
    result: Paint = low + (high - low) * share
    return result


def lay(under: Paint, mask: Mask, over: Paint | Color) -> Paint:
    """Lay a colour over the pixels of a mask."""
    result: Paint = np.where(mask, _column(over), under)
    return result


def _column(color: Paint | Color) -> Paint:
    return np.array(color, np.float32)[:, None] if isinstance(color, tuple) else color


def lighter(color: Color, factor: float) -> Color:
    """Return a colour brightened or darkened."""
    red, green, blue = color
    return red * factor, green * factor, blue * factor


def blend(first: Color, second: Color, share: float) -> Color:
    """Return a colour between two."""
    return tuple(a + (b - a) * share for a, b in zip(first, second, strict=True))  # type: ignore[return-value]
