"""Whether the imagery suits the model: refuse what cannot be right, warn where it looks unlike the training data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geoseg.errors import SceneError, UnlikeTrainingWarning, UsageError, numbered, warn
from geoseg.model import ModelBundle, ModelCard, Scale
from geoseg.raster import BandStatistics, Scene, opened, sample_windows, shown
from geoseg.raster.landcover import PRODUCT_TAG

GSD_TOLERANCE = 1.5
"""A scene whose pixels are this many times larger or smaller than those of the training imagery gets a warning."""
STRETCH_TOLERANCE = 1.1
"""So does a scene whose pixels are this many times longer than wide, or wider than long ..."""
SHIFT_TOLERANCE = 1.5
"""... whose mean lies this many standard deviations of the training imagery away from it ..."""
CONTRAST_TOLERANCE = 4.0
"""... or whose standard deviation is this many times larger or smaller ..."""
REVERSED_TOLERANCE = 0.5
"""... or whose color balance is off by this many standard deviations and fits three times better in reverse order."""
_UNIT = 1.5
"""Values up to this may have been scaled to 0 to 1, with some overshoot ..."""
_WIDE = 100.0
"""... if the model was trained on values up to this or larger."""
_SPREAD = 0.5
"""Standardized bands have means closer to 0 than this, and larger standard deviations."""
_BYTE = 255
_ROUNDED = 0.01
"""Rounding error, in byte steps, that a division by 255 may leave."""

Unlike = tuple[str, str]
"""How the scene differs from the training imagery, and how to fix it."""


def check_imagery(path: str) -> None:
    """Raise SceneError for a map that geoseg made, which is often among the files of a folder."""
    with opened(path) as dataset:
        product = dataset.tags().get(PRODUCT_TAG)
    if product is not None:
        raise SceneError(
            f"{shown(path)} is a map that geoseg made ({product}), not imagery; give its scene, or leave it out"
        )


def check_bands(scene: Scene, bundle: ModelBundle) -> None:
    """Raise SceneError unless the scene provides one band for each of the model's bands."""
    got, expected = len(scene.band_indexes), len(bundle.bands)
    if got != expected:
        raise SceneError(
            f"the model needs {numbered(expected, 'band')} ({', '.join(bundle.bands)}), {shown(scene.path)} "
            f"provides {got}; choose {expected} of its {scene.count} with `bands`, or another `model`",
            "bands",
        )


def check_scale(scene: Scene, bundle: ModelBundle, scale: tuple[float, float] | None) -> None:
    """Raise unless the scene's stored values are in the model's units, or a scale converts them.

    UsageError for an invalid scale; SceneError, with a suggested scale, if one is needed.
    """
    if scale is not None:
        low, high = scale
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise UsageError(
                f"`scale` must be two finite numbers (LOW, HIGH) with LOW < HIGH, got ({low:g}, {high:g})", "scale"
            )
        return
    if scene.dtype == bundle.dtype:
        return
    raise SceneError(
        f"{shown(scene.path)} is {scene.dtype}, the model was trained on {bundle.dtype}; give the range of stored "
        f"values to stretch with `scale=(LOW, HIGH)`{_proposal(scene, bundle)}",
        "scale",
    )


def warn_if_unlike(
    scene: Scene, bundle: ModelBundle, scale: tuple[float, float] | None, factor: float = 1
) -> tuple[str, ...]:
    """Warn when pixel size, brightness, contrast or band order differ from the training imagery's.

    `factor`: scene pixels per network pixel, along one axis. Returns one sentence for each difference, as stored in
    the map's file.
    """
    comparisons = [_compare_gsd(scene, bundle, factor), _compare_sides(scene), _compare_looks(scene, bundle, scale)]
    unlike = [comparison for comparison in comparisons if comparison is not None]
    for what, hint in unlike:
        warn(f"{shown(scene.path)} {what}; {hint}", UnlikeTrainingWarning)
    return tuple(f"The scene {what}." for what, _ in unlike)


def _proposal(scene: Scene, bundle: ModelBundle) -> str:
    if bundle.dtype == "uint8" and _holds_bytes(scene, _BYTE):
        return ", here `scale=(0, 255)`: its values are bytes, stored as another type"
    if bundle.dtype == "uint8" and scene.dtype.startswith("float") and _holds_bytes(scene, 1):
        return ", here `scale=(0, 1)`: its values are bytes, divided by 255"
    statistics = scene.statistics()
    if statistics is None:
        return ""
    low, high = min(statistics.low), max(statistics.high)
    if float(f"{low:g}") >= float(f"{high:g}"):
        return ""
    return f", for example `scale=({low:g}, {high:g})` (2 and 98 % of its values)"


def _holds_bytes(scene: Scene, white: float) -> bool:
    """Return whether a sample of a scene holds only 256 shades from 0 to white, some of them bright."""
    lightest = 0.0
    for window, _ in sample_windows(scene.shape, scene.block_shape):
        patch = scene.read(window)
        values = patch.data[:, patch.valid] * (_BYTE / white)
        if not ((values >= 0) & (values < _BYTE + _ROUNDED) & (np.abs(values - np.round(values)) < _ROUNDED)).all():
            return False
        lightest = max(lightest, float(values.max(initial=0)))
    return lightest > _BYTE / 2


def _compare_gsd(scene: Scene, bundle: ModelBundle, factor: float) -> Unlike | None:
    gsd_m = scene.geobox.gsd_m
    if gsd_m is None or bundle.gsd_m is None:
        return None
    seen_m = gsd_m * factor
    if 1 / GSD_TOLERANCE <= seen_m / bundle.gsd_m <= GSD_TOLERANCE:
        return None
    return (
        f"is mapped with pixels of {seen_m:.3g} m, the model was trained on {bundle.gsd_m:.3g} m",
        "expect a poor map, or map at the model's pixel size with `resolution='model'`",
    )


def _compare_sides(scene: Scene) -> Unlike | None:
    sides_m = scene.geobox.pixel_m
    if sides_m is None or scene.geobox.stretch < STRETCH_TOLERANCE:
        return None
    return (
        f"has pixels that are not square on the ground: {sides_m[0]:.3g} m high, {sides_m[1]:.3g} m wide",
        f"networks are trained on square ones: use `resolution={min(sides_m):.3g}` or `resolution='model'`",
    )


def _compare_looks(scene: Scene, bundle: ModelBundle, scale: tuple[float, float] | None) -> Unlike | None:
    if bundle.statistics is None:
        return None
    statistics = scene.statistics()
    if statistics is None:
        nodata = "" if scene.nodata is None else f" ({scene.nodata:g})"
        warn(
            f"no valid pixel was found in {shown(scene.path)}, and invalid ones are 255 in the map; check its nodata "
            f"value{nodata} and its masks"
        )
        return None
    difference = _difference(_in_model_units(statistics, bundle, scale), bundle.statistics, bundle.bands)
    if difference is None:
        return None
    return f"looks unlike the training imagery: {difference}", "check `scale`, `bands`, and the map"


def _in_model_units(
    statistics: BandStatistics, bundle: ModelBundle, scale: tuple[float, float] | None
) -> BandStatistics:
    if scale is None:
        return statistics
    low, high = bundle.normalization.value_range
    factor = (high - low) / (scale[1] - scale[0])

    def convert(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(float(np.clip(low + (value - scale[0]) * factor, low, high)) for value in values)

    std = tuple(value * factor for value in statistics.std)
    return BandStatistics(
        mean=convert(statistics.mean), std=std, low=convert(statistics.low), high=convert(statistics.high)
    )


def _difference(statistics: BandStatistics, training: BandStatistics, bands: Sequence[str]) -> str | None:
    if _looks_reversed(statistics, training):
        return "its bands would fit better in reverse order"
    for name, mean, std, usual_mean, usual_std in zip(
        bands, statistics.mean, statistics.std, training.mean, training.std, strict=True
    ):
        if abs(mean - usual_mean) > SHIFT_TOLERANCE * usual_std:
            return f"the mean of {name} is {mean:.4g}, in training {usual_mean:.4g} ± {usual_std:.4g}"
        if not 1 / CONTRAST_TOLERANCE <= max(std, 1e-9) / max(usual_std, 1e-9) <= CONTRAST_TOLERANCE:
            return f"the standard deviation of {name} is {std:.4g}, in training {usual_std:.4g}"
    return None


def _looks_reversed(statistics: BandStatistics, training: BandStatistics) -> bool:
    """Return whether the color balance matches the training imagery in reverse band order (blue, green, red)."""
    balance = np.subtract(statistics.mean, np.mean(statistics.mean))
    usual = np.subtract(training.mean, np.mean(training.mean))
    distance, reverse = np.abs(balance - usual).max(), np.abs(balance[::-1] - usual).max()
    return bool(distance > REVERSED_TOLERANCE * np.mean(training.std) and reverse < distance / 3)


def choose_bands(card: ModelCard, bands: Sequence[str], name: str) -> tuple[int, ...] | None:
    """Return the indexes, from 0, of the data set's bands that the model uses; None for all of them in order.

    Bands match by name; if no name matches, by position if the counts agree. SceneError if a band is missing.
    """
    available = [band.strip().casefold() for band in bands]
    required = [band.strip().casefold() for band in card.bands]
    missing = [band for band in required if band not in available]
    if not missing:
        indexes = tuple(available.index(band) for band in required)
        return None if indexes == tuple(range(len(available))) else indexes
    if len(missing) == len(required) == len(available):
        return None
    raise SceneError(
        f"{card.name} needs the bands {', '.join(card.bands)}; {name} lacks {', '.join(missing)} and "
        f"has {', '.join(bands)}; choose {len(required)} with `bands`, or use another model"
    )


def check_type(card: ModelCard, dtype: str, name: str, scale: Scale | None) -> None:
    """Raise SceneError unless the data have the model's dtype, or a scale converts them."""
    if scale is None and dtype != card.dtype:
        raise SceneError(
            f"{name} is {dtype}, {card.name} was trained on {card.dtype}; give the range of stored values to "
            f"stretch with `scale=(LOW, HIGH)`{' (values from 0 to 1: `scale=(0, 1)`)' if 'float' in dtype else ''}"
        )


def check_not_normalized(statistics: BandStatistics, card: ModelCard, name: str) -> None:
    """Raise SceneError for data that look normalized already: the model would normalize them a second time."""
    low, high = card.normalization.value_range
    known_high = high if card.statistics is None else max(card.statistics.high)
    if high >= _WIDE and known_high > _UNIT and max(statistics.high) <= _UNIT:
        raise SceneError(
            f"{name} already looks divided by {high:g}: its values end at {max(statistics.high):.3g}, {card.name} "
            f"expects {low:g} to {high:g} and normalizes them itself; give the imagery as stored, or `scale=(0, 1)`"
        )
    if "float" in card.dtype and _disagrees(statistics, card):
        raise SceneError(
            f"{name} already looks normalized: mean {_numbers(statistics.mean)} and standard deviation "
            f"{_numbers(statistics.std)} where {card.name} expects {_numbers(card.normalization.mean)} and "
            f"{_numbers(card.normalization.std)} and normalizes them itself; give the imagery as stored"
        )


def looks_normalized(statistics: BandStatistics) -> bool:
    """Return whether bands look standardized: centered on 0 and widely spread, unlike reflectance just below 0."""
    centered = all(abs(mean) < _SPREAD for mean in statistics.mean)
    both_sides = all(low < 0 < high for low, high in zip(statistics.low, statistics.high, strict=True))
    return centered and both_sides and max(statistics.std) > _SPREAD


def _disagrees(statistics: BandStatistics, card: ModelCard) -> bool:
    """Return whether values cannot be the model's kind: standardized where its own are not, or far below them."""
    expected = card.statistics or _presumed(card)
    if looks_normalized(statistics) and not looks_normalized(expected):
        return True
    least = card.normalization.value_range[0] - _SPREAD
    bands = zip(statistics.low, expected.low, expected.std, strict=True)
    return any(low >= least and value < low - max(_SPREAD, std) for value, low, std in bands)


def _presumed(card: ModelCard) -> BandStatistics:
    """Return the statistics implied by a model's mean and std alone: two deviations each way, within its range."""
    mean, std, (least, most) = card.normalization.mean, card.normalization.std, card.normalization.value_range
    bands = list(zip(mean, std, strict=True))
    low = tuple(max(m - 2 * s, least) if m >= least else m - 2 * s for m, s in bands)
    high = tuple(min(m + 2 * s, most) if m <= most else m + 2 * s for m, s in bands)
    return BandStatistics(mean, std, low, high)


def normalization_note(card: ModelCard) -> str | None:
    """Return a note if a model's mean and std seem to be for values from 0 to 1 while its range is larger, or None."""
    high, mean = card.normalization.value_range[1], card.normalization.mean
    if high >= _WIDE and max(mean) <= _UNIT and max(card.normalization.std) <= _UNIT:
        return (
            f"the normalization of {card.name} fits values from 0 to 1 (mean {_numbers(mean)}), but its imagery goes "
            f"to {high:g}: unless it was trained this way, its mean and std must be {high:g} times as large"
        )
    return None


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
