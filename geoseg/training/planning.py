"""From a data set and a recipe to a plan: every check that needs no step of learning happens here."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geoseg.dataset import Dataset, PreparedScene, Split, band_statistics_of, class_px_of, prepare
from geoseg.errors import SceneError, UsageError
from geoseg.evaluation import UNKNOWN, looks_normalized, to_provenance
from geoseg.legend import Legend, name_key
from geoseg.model import (
    DEFAULT_BANDS,
    HALF,
    IMAGENET,
    VALUE_RANGES,
    ModelBundle,
    Normalization,
    Scaling,
    architecture_named,
    check_encoder_weights,
    check_takes,
    is_file,
    parameter_shapes,
    scaling_of,
    usual_window_px,
    why_not,
)
from geoseg.progress import Progress
from geoseg.raster import BandStatistics
from geoseg.training.augmentation_text import augmentation_of
from geoseg.training.class_weights import class_weights
from geoseg.training.losses import loss_of
from geoseg.training.mixed_scenes import by_finest_size, size_of_mixture
from geoseg.training.plan import TrainingPlan
from geoseg.training.recipe import Recipe
from geoseg.training.resolution import resolution
from geoseg.training.start import has_batch_norm, init_bundle

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

    What pixels need not be known for is checked before they are decoded. Raises UsageError for a recipe that does not
    fit the data, ModelError for a network that cannot be, SceneError for data that cannot be learnt from, OutputError
    where the cache cannot be written.
    """
    if not parts.train:
        raise UsageError(f"the split {parts.name} has no scene to train on; see `split`")
    codes = _codes(dataset, recipe, say)
    arguments = _arguments(recipe, len(dataset.bands), len(codes))
    architecture = architecture_named(recipe.architecture).name
    _check_recipe(recipe, architecture, arguments)
    bundle = init_bundle(recipe, architecture, arguments, say)
    _check_batch(recipe, architecture, arguments, bundle)
    kind = _kind_of_normalization(recipe, dataset, bundle)
    sets = _sets(dataset, codes)
    train, valid, gsd_m = _prepared(dataset, parts, recipe, cache, say, progress)
    train_px = class_px_of(train)
    _say_absent(dataset, codes, train_px, class_px_of(valid), say)
    statistics = _measured(train)
    return TrainingPlan(
        recipe=recipe,
        architecture=architecture,
        arguments=arguments,
        legend=dataset.legend,
        output_codes=codes,
        bands=_bands(dataset),
        dtype=dataset.dtype,
        normalization=_normalization(kind, dataset, recipe, statistics, bundle),
        statistics=statistics,
        stretch=_stretch(dataset.dtype, statistics),
        class_weights=class_weights(recipe.weights, _shown_px(dataset, train, codes)),
        train=train,
        valid=valid,
        gsd_m=gsd_m,
        window_px=_window_px(recipe, arguments, max(max(scene.shape) for scene in (*train, *valid))),
        batch_size=recipe.batch_size or 1,
        batches=recipe.batches or _batches(recipe, sum(train_px.values()), recipe.batch_size or 1),
        from_bundle=bundle is not None,
        data=to_provenance(dataset, parts),
        sets=sets,
        members=dataset.members,
    )


def _prepared(  # noqa: PLR0913, PLR0917 - a data set, its parts, a recipe, and who is told
    dataset: Dataset,
    parts: Split,
    recipe: Recipe,
    cache: Path,
    say: Says,
    progress: Callable[[Progress], None] | None,
) -> tuple[tuple[PreparedScene, ...], tuple[PreparedScene, ...], float | None]:
    """Return the scenes that train and those that validate, decoded, and the pixel size of the model."""
    make = functools.partial(prepare, dataset, folder=cache, progress=progress, announce=say)
    if dataset.members:
        usual_m = size_of_mixture(dataset, recipe, say)
        groups = by_finest_size(dataset, parts.train, usual_m)
        found = [scene for finest_m, areas in groups.items() for scene in make(areas, gsd_m=finest_m)]
        train = tuple(sorted(found, key=lambda scene: scene.id))
        return train, make(parts.valid, gsd_m=usual_m), usual_m
    gsd_m = resolution(dataset, parts, recipe, say)
    train, valid = (make(areas, gsd_m=gsd_m, size_px=recipe.size_px) for areas in (parts.train, parts.valid))
    return train, valid, train[0].gsd_m


def _sets(dataset: Dataset, codes: tuple[int, ...]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Return (code, channels) of labels that leave several classes open; one that leaves all open says nothing.

    UsageError for a set of which no class is learnt.
    """
    found = []
    for code, classes in dataset.sets:
        channels = tuple(codes.index(each) for each in classes if each in codes)
        if not channels:
            names = ", ".join(dataset.legend.by_code(each).name for each in classes)
            raise UsageError(f"labels of {dataset.name} that may be {names} are of no class that is learnt; see ignore")
        if len(channels) < len(codes):
            found.append((code, channels))
    return tuple(found)


def _shown_px(dataset: Dataset, train: tuple[PreparedScene, ...], codes: tuple[int, ...]) -> list[int]:
    """Return the training pixels of each class; of a mixture, of a million that are shown by its shares."""
    if not dataset.members:
        counts = class_px_of(train)
        return [counts.get(code, 0) for code in codes]
    shown = dict.fromkeys(codes, 0.0)
    parts = [(member, [scene for scene in train if member.has(scene.id)]) for member in dataset.members]
    shares = sum(member.share for member, scenes in parts if scenes)
    for member, scenes in parts:
        by_id = dict(member.weights)
        pixels: dict[int, float] = defaultdict(float)
        for scene in scenes:
            for code, count in scene.class_px.items():
                pixels[code] += by_id.get(scene.id, 1.0) * count
        for code in pixels.keys() & shown.keys():
            shown[code] += 1e6 * member.share / shares * pixels[code] / sum(pixels.values())
    return [math.ceil(shown[code]) for code in codes]


def _codes(dataset: Dataset, recipe: Recipe, say: Says) -> tuple[int, ...]:
    """Return the codes to be learnt."""
    ignored = _ignored_codes(dataset.legend, recipe, say)
    codes = tuple(code for code in dataset.legend.codes if code not in ignored)
    if len(codes) < 2:
        raise UsageError(f"two classes or more are wanted to tell apart, {len(codes)} left of {dataset.legend.names}")
    return codes


def _ignored_codes(legend: Legend, recipe: Recipe, say: Says) -> set[int]:
    """Return the codes of the classes to ignore; say which are none, but for `unknown`, which recipes name anyway."""
    by_name = {name_key(land_cover.name): land_cover.code for land_cover in legend}
    absent = [name for name in recipe.ignore if name_key(name) not in by_name and name_key(name) != UNKNOWN]
    if absent:
        say(f"no class is named {', '.join(absent)}, so none is ignored for it; there are {', '.join(legend.names)}")
    return {by_name[name_key(name)] for name in recipe.ignore if name_key(name) in by_name}


def _check_recipe(recipe: Recipe, architecture: str, arguments: dict[str, Any]) -> None:
    """Raise UsageError or ModelError for a knob that cannot be, before hours are spent on pixels."""
    loss_of(recipe.loss, class_weights(recipe.weights, [1] * arguments["classes"]))
    augmentation_of(recipe.augmentation)
    check_network(recipe, architecture, arguments)


def check_recipe(recipe: Recipe) -> None:
    """Raise UsageError or ModelError for a network that cannot be, whatever the data: before any is opened."""
    architecture = architecture_named(recipe.architecture).name
    check_network(recipe, architecture, _arguments(recipe, len(DEFAULT_BANDS), 2))


def check_network(recipe: Recipe, architecture: str, arguments: dict[str, Any]) -> None:
    """Raise UsageError or ModelError for sizes or encoder weights that a network does not take; takes no memory."""
    parameter_shapes(architecture, arguments)  # builds it
    for name, size_px in (("crop", recipe.crop_px), ("window", recipe.window_px)):
        if size_px is not None:
            check_takes(architecture, arguments, size_px, name)
    if recipe.encoder_weights is not None and "encoder_name" not in architecture_named(architecture).checks:
        raise UsageError(
            f"{architecture} has no encoder that encoder weights {recipe.encoder_weights} are for; give none"
        )
    check_encoder_weights(architecture, arguments, recipe.encoder_weights)


def _check_batch(recipe: Recipe, architecture: str, arguments: dict[str, Any], bundle: ModelBundle | None) -> None:
    """Raise UsageError for a batch that the network cannot learn from: of one crop, where it pools that to one pixel.

    Batch normalization that is frozen learns from any.
    """
    size = recipe.batch_size or 2
    is_frozen = recipe.norm == "frozen" or (recipe.norm == "auto" and bundle is not None and has_batch_norm(bundle))
    reason = None if is_frozen else why_not(architecture, arguments, recipe.crop_px, batch=size, learning=True)
    if reason is not None:
        raise UsageError(
            f"{architecture} cannot learn from a batch of {size} crop{'s' * (size != 1)} of {recipe.crop_px} px: "
            f"{reason}; give batch_size 2 or more, or norm group"
        )


def _say_absent(
    dataset: Dataset, codes: tuple[int, ...], train_px: dict[int, int], valid_px: dict[int, int], say: Says
) -> None:
    """Say which classes cannot be learnt, or judged. Raises SceneError where none can be learnt."""
    absent = [dataset.legend.by_code(code).name for code in codes if not train_px.get(code)]
    if len(absent) == len(codes):
        raise SceneError(f"no training pixel of {dataset.name} has a class that is to be learnt; look at its labels")
    perhaps = {dataset.legend.by_code(code).name for _, classes in dataset.sets for code in classes}
    if lost := [name for name in absent if name not in perhaps]:
        say(f"no training pixel is {', '.join(lost)}: the network cannot learn it")
    if unsure := [name for name in absent if name in perhaps]:
        say(f"no training pixel is {', '.join(unsure)} for sure: only labels that leave several open tell of it")
    unjudged = [dataset.legend.by_code(code).name for code in codes if valid_px and not valid_px.get(code)]
    if unjudged:
        say(f"no validation pixel is {', '.join(unjudged)}: mIoU is the mean of the other classes")


def _measured(train: tuple[PreparedScene, ...]) -> BandStatistics:
    statistics = band_statistics_of(train)
    if not all(math.isfinite(value) for value in (*statistics.mean, *statistics.std)):
        raise SceneError(
            "the training imagery has values beyond all sense; declare them nodata (rio edit-info --nodata)"
        )
    if min(statistics.std) <= 0:
        band = statistics.std.index(min(statistics.std)) + 1
        raise SceneError(
            f"band {band} of the training imagery is {statistics.mean[band - 1]:g} everywhere; see `bands`"
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


def _kind_of_normalization(recipe: Recipe, dataset: Dataset, bundle: ModelBundle | None) -> str:
    """Return dataset, pretrained, model, or what was told: whose means and deviations the network sees.

    Raises UsageError for a misfit.
    """
    if dataset.dtype not in VALUE_RANGES:
        raise UsageError(
            f"{dataset.dtype} imagery cannot be learnt from; convert it to one of {', '.join(VALUE_RANGES)}"
        )
    fits = bundle is not None and bundle.dtype == dataset.dtype and bundle.bands == _bands(dataset)
    if recipe.normalization == "model" and not fits:
        raise UsageError("`normalization='model'` needs `init` with a model of the same encoder, bands and data type")
    wanted = len(recipe.scaling[0]) if recipe.scaling is not None else len(DEFAULT_BANDS)
    if (recipe.normalization == "imagenet" or recipe.scaling is not None) and len(dataset.bands) != wanted:
        raise UsageError(f"normalization {recipe.normalization} is for {wanted} bands, got {len(dataset.bands)}")
    if recipe.normalization != "auto":
        return recipe.normalization
    if bundle is not None:  # whose encoder is taken, whatever the weights it had
        return "model" if fits else "dataset"
    pretrained = recipe.encoder_weights is not None and dataset.dtype == "uint8"
    return "pretrained" if pretrained and len(dataset.bands) == len(DEFAULT_BANDS) else "dataset"


def _normalization(
    kind: str, dataset: Dataset, recipe: Recipe, statistics: BandStatistics, bundle: ModelBundle | None
) -> Normalization:
    """Return how stored values become the network's; UsageError where that would be done twice."""
    _refuse_normalized(dataset, statistics)
    if kind == "model" and bundle is not None:
        return bundle.normalization
    low, high = VALUE_RANGES[dataset.dtype]
    if kind == "dataset":
        return Normalization(statistics.mean, statistics.std, (low, high))
    mean, std = recipe.scaling or _scaling(kind, recipe, len(dataset.bands))
    if max(*mean, *std) <= 1:
        mean, std = tuple(low + value * (high - low) for value in mean), tuple(value * (high - low) for value in std)
    return Normalization(mean, std, (low, high))


def _scaling(kind: str, recipe: Recipe, bands: int) -> Scaling:
    """Return the mean and deviation, of 0 to 1, of each band that encoder weights expect, or that have a name."""
    encoder, weights = recipe.encoder, recipe.encoder_weights
    if kind == "inception":
        return HALF[0][:1] * bands, HALF[1][:1] * bands
    if encoder is None or weights is None:
        return IMAGENET
    if is_file(weights):  # which does not say it: those of the encoder's usual weights, unless told
        return IMAGENET if kind == "imagenet" else scaling_of(encoder, None)
    return scaling_of(encoder, weights)


def _refuse_normalized(dataset: Dataset, statistics: BandStatistics) -> None:
    """Refuse imagery that somebody has normalized: a second time makes another image of it."""
    if dataset.dtype == "float32" and looks_normalized(statistics):
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


def _window_px(recipe: Recipe, arguments: dict[str, Any], longest_px: int) -> int:
    """Return the bundle's window: that wanted, or the usual one, less where every scene is smaller than it."""
    if recipe.window_px is not None:
        return recipe.window_px
    usual = max(recipe.crop_px, usual_window_px(recipe.architecture, arguments, longest_px))
    return usual if why_not(recipe.architecture, arguments, usual) is None else recipe.crop_px


def _batches(recipe: Recipe, labelled_px: int, size: int) -> int:
    """Return the batches that show each labelled pixel about once."""
    return max(1, math.ceil(labelled_px / (size * recipe.crop_px**2)))
