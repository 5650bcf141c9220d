"""Does a data set suit a model? Refuse what cannot be right before a pixel is mapped."""

from __future__ import annotations

from collections.abc import Sequence

from geoseg.errors import SceneError, UsageError
from geoseg.evaluation.matching import Matching, class_list, share_a_name
from geoseg.legend import Legend, Nomenclature
from geoseg.model import ModelCard, Scale
from geoseg.raster import BandStatistics

_UNIT = 1.5
"""Values up to here may be those of 0 to 1, with some overshoot ..."""
_WIDE = 100.0
"""... where the model knows values up to here or beyond."""
_SPREAD = 0.5
"""Standardized bands have means nearer to 0 than this, and standard deviations beyond."""


def match_legends(card: ModelCard, legend: Legend, name: str, ignore: str | Sequence[str | int] | None) -> Matching:
    """Match the classes of a model and of a data set by name. UsageError where they share none."""
    ours, theirs = Nomenclature.from_legend(card.legend), Nomenclature.from_legend(legend)
    if not share_a_name(ours, theirs):
        raise UsageError(
            f"{card.name} maps {class_list(ours)}, {name} has {class_list(theirs)}: no class of the same name; "
            "say with `mapping` what the classes of the data set are of the model's, or use another model",
            "mapping",
        )
    return Matching.of(ours, theirs, ignore)


def choose_bands(card: ModelCard, bands: Sequence[str], name: str) -> tuple[int, ...] | None:
    """Return which of the data set's bands, from 0, the model wants; None for all as they are.

    By name; where none has a name that the model knows, in order if there are as many. SceneError where one is missing.
    """
    plain = [band.strip().casefold() for band in bands]
    wanted = [band.strip().casefold() for band in card.bands]
    missing = [band for band in wanted if band not in plain]
    if not missing:
        places = tuple(plain.index(band) for band in wanted)
        return None if places == tuple(range(len(plain))) else places
    if len(missing) == len(wanted) == len(plain):
        return None
    raise SceneError(
        f"{card.name} needs the bands {', '.join(card.bands)}; {name} lacks {', '.join(missing)} and "
        f"has {', '.join(bands)}; choose {len(wanted)} with `bands`, or use another model"
    )


def check_type(card: ModelCard, dtype: str, name: str, scale: Scale | None) -> None:
    """Raise SceneError unless the data are of the model's type, or a scale brings them there."""
    if scale is None and dtype != card.dtype:
        raise SceneError(
            f"{name} holds {dtype}, {card.name} was trained on {card.dtype}; give the range of stored values to "
            f"stretch with `scale=(LOW, HIGH)`{' (values from 0 to 1: `scale=(0, 1)`)' if 'float' in dtype else ''}"
        )


def check_not_normalized(statistics: BandStatistics, card: ModelCard, name: str) -> None:
    """Raise SceneError for data that look normalized already: the model would do it a second time."""
    low, high = card.normalization.value_range
    known_to = high if card.statistics is None else max(card.statistics.high)
    if high >= _WIDE and known_to > _UNIT and max(statistics.high) <= _UNIT:
        raise SceneError(
            f"{name} looks divided by {high:g} already: its values end at {max(statistics.high):.3g}, {card.name} "
            f"knows {low:g} to {high:g} and normalizes by itself; give the imagery as stored, or `scale=(0, 1)`"
        )
    if "float" in card.dtype and _disagrees(statistics, card):
        raise SceneError(
            f"{name} looks normalized already: mean {_numbers(statistics.mean)} and standard deviation "
            f"{_numbers(statistics.std)} where {card.name} knows {_numbers(card.normalization.mean)} and "
            f"{_numbers(card.normalization.std)} and normalizes by itself; "
            "give the imagery as stored"
        )


def looks_normalized(statistics: BandStatistics) -> bool:
    """Say whether bands are centered on 0 and scatter like standardized ones; reflectance just below 0 does not."""
    centered = all(abs(mean) < _SPREAD for mean in statistics.mean)
    both_sides = all(low < 0 < high for low, high in zip(statistics.low, statistics.high, strict=True))
    return centered and both_sides and max(statistics.std) > _SPREAD


def _disagrees(found: BandStatistics, card: ModelCard) -> bool:
    """Say whether values are another kind than those a model was trained on: standardized, or far below all of them."""
    known = card.statistics or _presumed(card)
    if looks_normalized(found) and not looks_normalized(known):
        return True
    least = card.normalization.value_range[0] - _SPREAD
    bands = zip(found.low, known.low, known.std, strict=True)
    return any(low >= least and here < low - max(_SPREAD, std) for here, low, std in bands)


def _presumed(card: ModelCard) -> BandStatistics:
    """Return what mean and std say of the imagery of a model that says no more: two deviations, in its range."""
    mean, std, (least, most) = card.normalization.mean, card.normalization.std, card.normalization.value_range
    bands = list(zip(mean, std, strict=True))
    low = tuple(max(m - 2 * s, least) if m >= least else m - 2 * s for m, s in bands)
    high = tuple(min(m + 2 * s, most) if m <= most else m + 2 * s for m, s in bands)
    return BandStatistics(mean, std, low, high)


def normalization_note(card: ModelCard) -> str | None:
    """Return a line where a model's own mean and std seem to be for 0 to 1, its values being larger; else None."""
    high, mean = card.normalization.value_range[1], card.normalization.mean
    if high >= _WIDE and max(mean) <= _UNIT and max(card.normalization.std) <= _UNIT:
        return (
            f"the normalization of {card.name} fits values from 0 to 1 (mean {_numbers(mean)}), but its imagery goes "
            f"to {high:g}: unless it was trained this way, its mean and std must be {high:g} times as large"
        )
    return None


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
