"""Does the scene suit the model? Refuse what cannot be right, warn of what looks unlike the training data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from geoseg.errors import SceneError, UnlikeTrainingWarning, UsageError
from geoseg.model import ModelBundle
from geoseg.raster import BandStatistics, Scene, shown

GSD_TOLERANCE = 1.5
"""A scene whose pixels are this many times larger or smaller than those of the training imagery gets a warning."""
STRETCH_TOLERANCE = 1.1
"""So does one whose pixels are this many times longer than wide, or wider than long ..."""
SHIFT_TOLERANCE = 1.5
"""... whose mean lies this many standard deviations of the training imagery away from it ..."""
CONTRAST_TOLERANCE = 4.0
"""... or whose standard deviation is this many times larger or smaller ..."""
REVERSED_TOLERANCE = 0.5
"""... or whose color balance is this far off, in the same unit, and fits three times better backwards."""
Unlike = tuple[str, str]
"""What is unlike the training imagery, and the way out."""


def check_bands(scene: Scene, bundle: ModelBundle) -> None:
    """Raise SceneError unless the scene gives one band for each that the model wants."""
    got, wanted = len(scene.band_indexes), len(bundle.bands)
    if got != wanted:
        raise SceneError(
            f"the model needs {wanted} bands ({', '.join(bundle.bands)}), {shown(scene.path)} gives {got}; "
            f"choose {wanted} of its {scene.count} with `bands`, or another `model`",
            "bands",
        )


def check_scale(scene: Scene, bundle: ModelBundle, scale: tuple[float, float] | None) -> None:
    """Raise unless the scene's stored values are in the model's units or a scale brings them there.

    UsageError for a scale that is none; SceneError, with a scale to try, where one is needed.
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
        f"values to stretch with `scale=(LOW, HIGH)`{_proposal(scene)}",
        "scale",
    )


def warn_if_unlike(
    scene: Scene, bundle: ModelBundle, scale: tuple[float, float] | None, factor: float = 1
) -> tuple[str, ...]:
    """Warn when pixel size, brightness, contrast or band order differ from the training imagery's.

    `factor`: how many of the scene's pixels lie along one that the network sees. Returns what was found, a sentence for
    each, as the map's file keeps it.
    """
    found = [_compare_gsd(scene, bundle, factor), _compare_sides(scene), _compare_looks(scene, bundle, scale)]
    unlike = [each for each in found if each is not None]
    for what, way_out in unlike:
        warnings.warn(f"{shown(scene.path)} {what}; {way_out}", UnlikeTrainingWarning, stacklevel=3)
    return tuple(f"The scene {what}." for what, _ in unlike)


def _proposal(scene: Scene) -> str:
    statistics = scene.statistics()
    if statistics is None:
        return ""
    low, high = min(statistics.low), max(statistics.high)
    if float(f"{low:g}") >= float(f"{high:g}"):
        return ""
    return f", for example `scale=({low:g}, {high:g})` (2 and 98 % of its values)"


def _compare_gsd(scene: Scene, bundle: ModelBundle, factor: float) -> Unlike | None:
    gsd_m = scene.geobox.gsd_m
    if gsd_m is None or bundle.gsd_m is None:
        return None
    seen_m = gsd_m * factor
    if 1 / GSD_TOLERANCE <= seen_m / bundle.gsd_m <= GSD_TOLERANCE:
        return None
    return (
        f"is mapped with pixels of {seen_m:.3g} m, the model was trained on {bundle.gsd_m:.3g} m",
        "expect a poor map, or work on the model's pixels with `resolution='model'`",
    )


def _compare_sides(scene: Scene) -> Unlike | None:
    sides_m = scene.geobox.pixel_m
    if sides_m is None or scene.geobox.stretch < STRETCH_TOLERANCE:
        return None
    return (
        f"has pixels that are not square on the ground: {sides_m[0]:.3g} m high, {sides_m[1]:.3g} m wide",
        f"networks have seen square ones: make them so with `resolution={min(sides_m):.3g}` or `resolution='model'`",
    )


def _compare_looks(scene: Scene, bundle: ModelBundle, scale: tuple[float, float] | None) -> Unlike | None:
    here = None if bundle.statistics is None else scene.statistics()
    if here is None or bundle.statistics is None:
        return None
    how = _difference(_in_model_units(here, bundle, scale), bundle.statistics, bundle.bands)
    if how is None:
        return None
    return f"looks unlike the training imagery: {how}", "check `scale`, `bands`, and the map"


def _in_model_units(here: BandStatistics, bundle: ModelBundle, scale: tuple[float, float] | None) -> BandStatistics:
    if scale is None:
        return here
    low, high = bundle.normalization.value_range
    factor = (high - low) / (scale[1] - scale[0])

    def convert(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(float(np.clip(low + (value - scale[0]) * factor, low, high)) for value in values)

    std = tuple(value * factor for value in here.std)
    return BandStatistics(mean=convert(here.mean), std=std, low=convert(here.low), high=convert(here.high))


def _difference(here: BandStatistics, training: BandStatistics, bands: Sequence[str]) -> str | None:
    if _looks_reversed(here, training):
        return "its bands would fit better in the opposite order"
    for name, mean, std, usual_mean, usual_std in zip(
        bands, here.mean, here.std, training.mean, training.std, strict=True
    ):
        if abs(mean - usual_mean) > SHIFT_TOLERANCE * usual_std:
            return f"the mean of {name} is {mean:.4g}, in training {usual_mean:.4g} ± {usual_std:.4g}"
        if not 1 / CONTRAST_TOLERANCE <= max(std, 1e-9) / max(usual_std, 1e-9) <= CONTRAST_TOLERANCE:
            return f"the standard deviation of {name} is {std:.4g}, in training {usual_std:.4g}"
    return None


def _looks_reversed(here: BandStatistics, training: BandStatistics) -> bool:
    """Tell whether the color balance is that of the training imagery read backwards (blue, green, red)."""
    balance, usual = np.subtract(here.mean, np.mean(here.mean)), np.subtract(training.mean, np.mean(training.mean))
    distance, reverse = np.abs(balance - usual).max(), np.abs(balance[::-1] - usual).max()
    return bool(distance > REVERSED_TOLERANCE * np.mean(training.std) and reverse < distance / 3)
