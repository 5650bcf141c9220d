"""Pixels whose color or code no class has: ignored where they are few, refused where they are many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError

DEFAULT_TOLERANCE = 0.001
"""Share of a raster's pixels in colors or codes that no class has, which is ignored instead of refused."""
_EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class Strays:
    """Pixels whose color or code is not of the legend, among those looked at."""

    pixels: int = 0
    total_px: int = 0
    """Pixels looked at."""
    examples: tuple[str, ...] = ()
    """A few of the colors or codes found."""

    def __add__(self, other: Strays) -> Strays:
        """Return what was found in both places."""
        examples = tuple(dict.fromkeys((*self.examples, *other.examples)))[:_EXAMPLES]
        return Strays(self.pixels + other.pixels, self.total_px + other.total_px, examples)

    @property
    def share(self) -> float:
        """Of the pixels looked at."""
        return self.pixels / self.total_px if self.total_px else 0.0

    def judge(self, name: str, tolerance: float) -> str | None:
        """Return a line for the user if there are strays; SceneError when they are more than a share of the pixels."""
        if not self.pixels:
            return None
        found = f"{name}: {self.pixels} pixels ({self.share:.2%}) hold {', '.join(self.examples)}"
        if self.share > tolerance:
            raise SceneError(
                f"{found}, not of the legend; tolerated are {tolerance:.2%}: name them in `legend`, or repair the "
                "labels (a mask saved as JPEG, or resized by interpolation, has such values along its borders)"
            )
        return f"{found}, not of the legend; they are ignored"


def some(values: NDArray[Any]) -> list[int]:
    """Return the most frequent of values, a few."""
    found, counts = np.unique(values, return_counts=True)
    return [int(value) for value in found[np.argsort(-counts, kind="stable")][:_EXAMPLES]]
