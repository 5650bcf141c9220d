"""One data set of a mixture: how often it is shown, how large its pixels, and what its classes mean."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """A data set among others that one network learns from."""

    name: str
    """What its ids begin with, before a slash."""
    share: float
    """Of the crops, more than 0; the shares of a mixture may have any sum."""
    shown_m: tuple[float, float] | None = None
    """Between these sizes, in metres a pixel, the size of a crop is drawn, alike on a logarithmic scale. None: the
    training's."""
    images_a_crop: int = 1
    """So many images at least are shown side by side in one crop."""
    weights: tuple[tuple[str, float], ...] = ()
    """(id, weight) of images that are drawn more or less often than others, ascending by id."""
    rule: str | None = None
    """How it is divided; None: as its folders or its table say, else all of it trains."""
    valid_share: float | None = None
    """Of what its rule holds out, the share that validates; None: that of the whole mixture."""

    def has(self, pair_id: str) -> bool:
        """Say whether a scene is of this data set."""
        return pair_id.startswith(f"{self.name}/")
