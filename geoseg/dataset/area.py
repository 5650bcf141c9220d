"""A scene of a data set, or a window of it."""

from __future__ import annotations

from dataclasses import dataclass

from geoseg.raster import Window

PARTS = ("train", "valid", "test")
DEFAULT_SEED = 21
"""Of all that is drawn, in training and in judging: so both divide a data set alike."""


@dataclass(frozen=True, slots=True)
class Area:
    """What belongs to a part of a split."""

    pair_id: str
    window: Window | None = None
    """In the scene's own pixels, inside it; None for the whole scene."""

    def order(self) -> tuple[str, int, int]:
        """Return what areas are sorted by."""
        return (self.pair_id, -1, -1) if self.window is None else (self.pair_id, self.window.row, self.window.col)
