"""How large the pixels are that a network learns from: one size for all scenes, the size that its maps will have."""

from __future__ import annotations

from collections.abc import Callable

from geoseg.dataset import Dataset, Pair, Split
from geoseg.errors import UsageError
from geoseg.training.recipe import Recipe

_ALIKE = 1.02
"""Pixel sizes whose ratio is smaller are one: latitude alone makes so much."""
_FINER = 1.01
"""Imagery is not resampled for less."""


def resolution(dataset: Dataset, parts: Split, recipe: Recipe, say: Callable[[str], None]) -> float | None:
    """Return the GSD in metres to resample to, None for imagery that stays as it is or is resized to `size_px`.

    Never finer than the coarsest scene, for no detail comes of it. Raises UsageError where scenes would be learnt from
    at different pixel sizes, or at one that nobody knows.
    """
    wanted = {area.pair_id for area in (*parts.train, *parts.valid)}
    pairs = [pair for pair in dataset.pairs if pair.id in wanted]
    if recipe.size_px is not None:
        _refuse_sizes(dataset, pairs, recipe.size_px)
        return None
    known = [pair.gsd_m for pair in pairs if pair.gsd_m is not None]
    if not known:
        if recipe.gsd_m is not None:
            say("the imagery does not say how large its pixels are; it is learnt from as it is")
        return None
    _refuse_unknown(pairs)
    finest, coarsest = min(known), max(known)
    if recipe.gsd_m is not None and recipe.gsd_m >= coarsest * _FINER:
        say(f"imagery of {_range(finest, coarsest)} m is resampled to {recipe.gsd_m:g} m")
        return recipe.gsd_m
    if coarsest < finest * _ALIKE:
        return None
    say(f"imagery of {_range(finest, coarsest)} m is resampled to {coarsest:.4g} m, the coarsest of it; see `gsd`")
    return coarsest


def _refuse_sizes(dataset: Dataset, pairs: list[Pair], size_px: int) -> None:
    """Refuse a size in pixels where it makes no one size in metres."""
    after = {pair.id: pair.gsd_m * max(pair.scene.shape) / size_px for pair in pairs if pair.gsd_m is not None}
    if len(after) < len(pairs):
        raise UsageError(
            f"`size={size_px}` changes how large pixels are, and {dataset.name} does not say how large they were: no "
            "map could be made at the size that was learnt; say the pixel size with `data_gsd`"
        )
    finest, coarsest = min(after, key=after.__getitem__), max(after, key=after.__getitem__)
    if after[coarsest] >= after[finest] * _ALIKE:
        raise UsageError(
            f"`size={size_px}` makes pixels of {after[finest]:.3g} m of {finest} and of {after[coarsest]:.3g} m of "
            f"{coarsest}; give one pixel size for all with `size='none'` `gsd={after[coarsest]:.3g}`"
        )


def _refuse_unknown(pairs: list[Pair]) -> None:
    """Refuse scenes of unknown pixel size beside others."""
    unknown = [pair.id for pair in pairs if pair.gsd_m is None]
    if unknown:
        raise UsageError(
            f"{unknown[0]} does not say how large its pixels are, as other scenes do; say it for all with `data_gsd`"
        )


def _range(finest: float, coarsest: float) -> str:
    return f"{finest:.4g}" if coarsest < finest * _ALIKE else f"{finest:.4g} to {coarsest:.4g}"
