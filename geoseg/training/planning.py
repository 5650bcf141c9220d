"""From a data set and a recipe to a plan: every check that needs no step of learning happens here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geoseg.dataset.dataset import Dataset
from geoseg.dataset.prepared import PreparedScene, prepare
from geoseg.dataset.split import Split
from geoseg.dataset.statistics import band_statistics_of, class_px_of
from geoseg.errors import SceneError, UsageError
from geoseg.evaluation.origin import to_provenance
from geoseg.legend import Legend
from geoseg.model.architectures import architecture_named
from geoseg.model.bundle import ModelBundle
from geoseg.model.card import DEFAULT_BANDS, DEFAULT_WINDOW_PX, check_window
from geoseg.model.normalization import VALUE_RANGES, Normalization
from geoseg.progress import Progress
from geoseg.raster.statistics import BandStatistics
from geoseg.training.class_weights import class_weights
from geoseg.training.plan import TrainingPlan
from geoseg.training.recipe import Recipe
from geoseg.training.start import init_bundle

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green, blue from 0 to 1 (torchvision's models, https://pytorch.org/vision/stable/models.html)."""
_ALREADY_NORMALIZED = 0.5
"""Floating-point bands with a mean nearer to 0 than this, and values on both sides, are somebody's normalized ones."""
_MOST_PROVENANCE = 150_000
"""Characters; a bundle's header has bounds."""
Says = Callable[[str], None]


def plan_training(  # noqa: PLR0913 - a data set, its parts, a recipe, and who is told
    dataset: Dataset,
    parts: Split,
    recipe: Recipe,
    cache: Path,
    say: Says,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingPlan:
    """Decode the scenes once into the cache, and decide all that can be decided before the first step.

    Raises UsageError for a recipe that does not fit the data, SceneError for data that cannot be learnt from,
    OutputError where the cache cannot be written.
    """
    if not parts.train:
        raise UsageError(f"the split {parts.name} has no scene to train on; see --split")
    gsd_m = _finer_only(dataset, recipe, say)
    train = prepare(dataset, parts.train, cache, gsd_m=gsd_m, size_px=recipe.size_px, progress=progress, announce=say)
    valid = prepare(dataset, parts.valid, cache, gsd_m=gsd_m, size_px=recipe.size_px, progress=progress, announce=say)
    train_px = class_px_of(train)
    codes, weights = _learnt(dataset, recipe, train_px, class_px_of(valid), say)
    statistics = _measured(train)
    bundle = init_bundle(recipe.init)
    arguments = _arguments(recipe, len(dataset.bands), len(codes))
    seen_m = train[0].gsd_m
    return TrainingPlan(
        recipe=recipe,
        architecture=architecture_named(recipe.architecture).name,
        arguments=arguments,
        legend=dataset.legend,
        output_codes=codes,
        bands=_bands(dataset),
        dtype=dataset.dtype,
        normalization=_normalization(recipe, dataset, statistics, bundle),
        statistics=statistics,
        stretch=_stretch(dataset.dtype, statistics),
        class_weights=weights,
        train=train,
        valid=valid,
        gsd_m=seen_m,
        window_px=_window_px(recipe, arguments),
        batch_size=recipe.batch_size or 1,
        batches=recipe.batches or _batches(recipe, sum(train_px.values()), recipe.batch_size or 1),
        data=_provenance(dataset, parts),
    )


def _finer_only(dataset: Dataset, recipe: Recipe, say: Says) -> float | None:
    """Return the GSD to resample to: never finer than the imagery, for no detail comes of it."""
    if recipe.size_px is not None or recipe.gsd_m is None:
        return None
    if dataset.gsd_m is None:
        say("the imagery does not say how large its pixels are; it is learnt from as it is")
        return None
    if recipe.gsd_m < dataset.gsd_m * 1.01:
        return None
    say(f"imagery of {dataset.gsd_m:g} m is resampled to {recipe.gsd_m:g} m")
    return recipe.gsd_m


def _learnt(
    dataset: Dataset, recipe: Recipe, train_px: dict[int, int], valid_px: dict[int, int], say: Says
) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """Return the codes to be learnt and their weights in the loss; say which classes cannot be."""
    ignored = _ignored_codes(dataset.legend, recipe)
    codes = tuple(code for code in dataset.legend.codes if code not in ignored)
    if len(codes) < 2:
        raise UsageError(f"two classes or more are wanted to tell apart, {len(codes)} left of {dataset.legend.names}")
    absent = [dataset.legend.by_code(code).name for code in codes if not train_px.get(code)]
    if len(absent) == len(codes):
        raise SceneError(f"no training pixel of {dataset.name} has a class that is to be learnt; look at its labels")
    if absent:
        say(f"no training pixel is {', '.join(absent)}: the network cannot learn it")
    unjudged = [dataset.legend.by_code(code).name for code in codes if valid_px and not valid_px.get(code)]
    if unjudged:
        say(f"no validation pixel is {', '.join(unjudged)}: mIoU is the mean of the other classes")
    return codes, class_weights(recipe.weights, [train_px.get(code, 0) for code in codes])


def _ignored_codes(legend: Legend, recipe: Recipe) -> set[int]:
    """Return the codes of the classes to ignore; a name that the legend lacks is no fault: recipes name `unknown`."""
    wanted = {name.casefold() for name in recipe.ignore}
    return {land_cover.code for land_cover in legend if land_cover.name.casefold() in wanted}


def _measured(train: tuple[PreparedScene, ...]) -> BandStatistics:
    statistics = band_statistics_of(train)
    if not all(math.isfinite(value) for value in (*statistics.mean, *statistics.std)):
        raise SceneError(
            "the training imagery has values beyond all sense; declare them nodata, gdal_edit.py -a_nodata"
        )
    if min(statistics.std) <= 0:
        band = statistics.std.index(min(statistics.std)) + 1
        raise SceneError(
            f"band {band} of the training imagery is {statistics.mean[band - 1]:g} everywhere; see --bands"
        )
    return statistics


def _arguments(recipe: Recipe, bands: int, classes: int) -> dict[str, Any]:
    arguments = recipe.arguments | {"in_channels": bands, "classes": classes}
    if recipe.encoder is not None:
        arguments["encoder_name"] = recipe.encoder
    if recipe.norm == "group":
        arguments["norm"] = "group"
    architecture_named(recipe.architecture).check(arguments)
    return arguments


def _bands(dataset: Dataset) -> tuple[str, ...]:
    """Return the bands' names; three without a name are red, green and blue, as pictures are."""
    nameless = all(name.startswith("band_") for name in dataset.bands)
    return DEFAULT_BANDS if nameless and len(dataset.bands) == len(DEFAULT_BANDS) else dataset.bands


def _normalization(
    recipe: Recipe, dataset: Dataset, statistics: BandStatistics, bundle: ModelBundle | None
) -> Normalization:
    """Return how stored values become the network's; UsageError where that would be done twice."""
    if dataset.dtype not in VALUE_RANGES:
        raise UsageError(
            f"{dataset.dtype} imagery cannot be learnt from; convert it to one of {', '.join(VALUE_RANGES)}"
        )
    _refuse_normalized(dataset, statistics)
    kind = recipe.normalization
    fits = bundle is not None and bundle.dtype == dataset.dtype and bundle.bands == _bands(dataset)
    pretrained = recipe.encoder_weights is not None and dataset.dtype == "uint8" and len(statistics.mean) == 3
    if kind == "auto":
        kind = "model" if fits else "imagenet" if pretrained else "dataset"
    if kind == "model":
        if bundle is None or not fits:
            raise UsageError("--normalization model needs --init with a model of the same bands and data type")
        return bundle.normalization
    low, high = VALUE_RANGES[dataset.dtype]
    if kind == "imagenet":
        if len(statistics.mean) != 3:
            raise UsageError(f"--normalization imagenet is for three bands, got {len(statistics.mean)}; take dataset")
        mean, std = (
            tuple(low + value * (high - low) for value in _IMAGENET_MEAN),
            tuple(value * (high - low) for value in _IMAGENET_STD),
        )
        return Normalization(mean, std, (low, high))
    return Normalization(statistics.mean, statistics.std, (low, high))


def _refuse_normalized(dataset: Dataset, statistics: BandStatistics) -> None:
    """Refuse imagery that somebody has normalized: a second time makes another image of it."""
    centred = all(abs(mean) < _ALREADY_NORMALIZED for mean in statistics.mean)
    both_sides = all(low < 0 < high for low, high in zip(statistics.low, statistics.high, strict=True))
    if dataset.dtype == "float32" and centred and both_sides and max(statistics.std) > _ALREADY_NORMALIZED:
        raise UsageError(
            f"the imagery looks normalized already (means {_brief(statistics.mean)}, stds {_brief(statistics.std)}); "
            "give the values as they were measured: geoseg normalizes, and so does every map made with the model"
        )


def _brief(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.2g}" for value in values)


def _stretch(dtype: str, statistics: BandStatistics) -> tuple[float, float]:
    """Return the values that are dark and bright: all a byte holds, of other types what occurs."""
    if dtype == "uint8":
        return VALUE_RANGES["uint8"]
    low, high = min(statistics.low), max(statistics.high)
    return (low, high) if low < high else (low, low + 1)


def _window_px(recipe: Recipe, arguments: dict[str, Any]) -> int:
    """Return the bundle's window: that wanted, or the usual one where crops are not larger."""
    divisor = architecture_named(recipe.architecture).divisor(arguments)
    check_window(recipe.crop_px, divisor)
    wanted = recipe.window_px or max(recipe.crop_px, DEFAULT_WINDOW_PX // divisor * divisor)
    check_window(wanted, divisor)
    return wanted


def _batches(recipe: Recipe, labelled_px: int, size: int) -> int:
    """Return the batches that show each labelled pixel about once."""
    return max(1, math.ceil(labelled_px / (size * recipe.crop_px**2)))


def _provenance(dataset: Dataset, parts: Split) -> dict[str, Any]:
    """Return what the bundle says of its data; of very many scenes only how they were divided."""
    told = to_provenance(dataset, parts)
    if len(json.dumps(told)) > _MOST_PROVENANCE:
        return {"name": dataset.name, "digest": dataset.digest, "split": {"name": parts.name, "digest": parts.digest}}
    return told
