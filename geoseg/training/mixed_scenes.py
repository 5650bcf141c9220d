"""How large the pixels of a mixture are: as decoded, as validated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from geoseg.dataset import Area, Dataset, Member, middle_m, shown_range
from geoseg.errors import UsageError
from geoseg.training.recipe import Recipe

_FINER = 1.01
"""Imagery is not resampled for less."""


def size_of_mixture(dataset: Dataset, recipe: Recipe, say: Callable[[str], None]) -> float:
    """Return the pixel size of validation and of the bundle: the recipe's, else the middle of what is shown.

    Raises UsageError where it cannot be known how large the pixels of a scene are.
    """
    if recipe.size_px is not None:
        raise UsageError("a mixture is shown at sizes in metres, so size must be none; give gsd_m to its data sets")
    for pair in dataset.pairs:
        if pair.gsd_m is None:
            name, _, scene = pair.id.partition("/")
            raise UsageError(
                f"data set {name}: {scene} does not say how large its pixels are; write data_gsd_m beside it"
            )
    shown = shown_range(dataset.members)
    if recipe.gsd_m is not None or shown is None:
        return recipe.gsd_m or dataset.gsd_m or 1.0
    gsd_m = middle_m(*shown)
    say(f"validated at {gsd_m:.3g} m a pixel, the middle of what is shown; see `gsd`")
    return gsd_m


def by_finest_size(dataset: Dataset, areas: Sequence[Area], usual_m: float) -> dict[float | None, list[Area]]:
    """Return the areas by the size to decode their scenes at: the finest that they are shown at; None as they are."""
    sizes = {pair.id: pair.gsd_m or usual_m for pair in dataset.pairs}
    groups: dict[float | None, list[Area]] = defaultdict(list)
    for area in areas:
        finest_m = _finest(dataset.members, area.pair_id, usual_m)
        groups[finest_m if finest_m > sizes[area.pair_id] * _FINER else None].append(area)
    return groups


def _finest(members: Sequence[Member], pair_id: str, usual_m: float) -> float:
    member = next(member for member in members if member.has(pair_id))
    return usual_m if member.shown_m is None else member.shown_m[0]
