"""The plan of a training, made before its first step, with every check that does not need a step."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.dataset import (
    Area,
    Dataset,
    Member,
    Pair,
    PreparedScene,
    Split,
    band_statistics_of,
    class_px_of,
    prepare,
    shown_range,
)
from geoseg.errors import SceneError, UsageError
from geoseg.evaluation import UNKNOWN, to_provenance
from geoseg.legend import Legend, name_key
from geoseg.model import DEFAULT_BANDS, Normalization, architecture_named, default_overlap
from geoseg.progress import Announce, Progress
from geoseg.raster import SAME_SIZE, BandStatistics
from geoseg.training.augment import augmentation_of
from geoseg.training.losses import class_weights, loss_of
from geoseg.training.network import (
    bundle_window_px,
    check_batch,
    check_network,
    init_bundle,
    kind_of_normalization,
    normalization_of,
    stretch_of,
)
from geoseg.training.recipe import Recipe, arguments_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What a training learns, from which data, and how long. Small and picklable: scenes are paths."""

    recipe: Recipe
    architecture: str
    arguments: dict[str, Any]
    legend: Legend
    output_codes: tuple[int, ...]
    """The class code of each channel of the network."""
    bands: tuple[str, ...]
    dtype: str
    normalization: Normalization
    statistics: BandStatistics
    """Statistics of the training scenes, in stored units."""
    stretch: tuple[float, float]
    """The stored values that map to 0 and 1 while colors are augmented."""
    class_weights: tuple[float, ...] | None
    """Weight of each channel in the loss."""
    train: tuple[PreparedScene, ...]
    valid: tuple[PreparedScene, ...]
    """May be empty; the last weights are then kept."""
    gsd_m: float | None
    window_px: int
    batch_size: int
    batches: int
    """Batches per epoch."""
    from_bundle: bool
    """Whether the network starts from a bundle's weights."""
    data: dict[str, Any]
    """The data set and its split, for the bundle's provenance."""
    sets: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """(code, channels) of labels that do not say which of several classes a pixel is."""
    members: tuple[Member, ...] = ()
    """The data sets of a mixture, each with some scenes of `train`; empty for a single data set."""

    @property
    def overlap_px(self) -> int:
        """Overlap of the bundle's windows."""
        return default_overlap(self.window_px)

    @property
    def total_batches(self) -> int:
        """Batches of all epochs."""
        return self.batches * self.recipe.epochs

    @property
    def epoch_steps(self) -> int:
        """Optimizer steps per epoch."""
        return math.ceil(self.batches / self.recipe.accumulate)

    @property
    def steps(self) -> int:
        """Optimizer steps in total."""
        return self.epoch_steps * self.recipe.epochs

    def step_of(self, batch: int) -> int:
        """Return the step, from 0, that uses the gradients of a batch, from 0; an epoch's last may use fewer."""
        epoch, within = divmod(batch, self.batches)
        return epoch * self.epoch_steps + within // self.recipe.accumulate

    def step_batches(self, batch: int) -> int:
        """Return how many batches the step has that uses the gradients of a batch, from 0."""
        within = batch % self.batches
        return min(self.recipe.accumulate, self.batches - within + within % self.recipe.accumulate)


def plan_training(  # noqa: PLR0913 - a data set, its parts, a recipe, and listeners
    dataset: Dataset,
    parts: Split,
    recipe: Recipe,
    cache: Path,
    announce: Announce,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingPlan:
    """Decode the scenes once into the cache, and decide everything that can be decided before the first step.

    Checks that do not need pixels come before decoding. Raises UsageError for a recipe that does not fit the data,
    ModelError for an invalid network, SceneError for data that cannot be learned from, OutputError if the cache cannot
    be written.
    """
    if not parts.train:
        raise UsageError(f"the split {parts.name} has no scene to train on; see `split_rule`", "split_rule")
    codes, bands = _codes(dataset, recipe, announce), _bands(dataset)
    arguments = arguments_of(recipe, len(bands), len(codes))
    architecture = architecture_named(recipe.architecture).name
    loss_of(recipe.loss, class_weights(recipe.weights, [1] * len(codes)))
    augmentation_of(recipe.augmentation)
    check_network(recipe, architecture, arguments)
    bundle = init_bundle(recipe, architecture, arguments, announce)
    check_batch(recipe, architecture, arguments, bundle)
    kind = kind_of_normalization(recipe, dataset, bands, bundle)
    sets = _sets(dataset, codes)
    train, valid, gsd_m = _prepared_parts(dataset, parts, recipe, cache, announce, progress)
    _announce_absent(dataset, codes, train, valid, announce)
    statistics = _band_statistics(train, kind, announce)
    labeled_px, crops_px = sum(class_px_of(train).values()), (recipe.batch_size or 1) * recipe.crop_px**2
    return TrainingPlan(
        recipe=recipe,
        architecture=architecture,
        arguments=arguments,
        legend=dataset.legend,
        output_codes=codes,
        bands=bands,
        dtype=dataset.dtype,
        normalization=normalization_of(kind, dataset, recipe, statistics, bundle),
        statistics=statistics,
        stretch=stretch_of(dataset.dtype, statistics),
        class_weights=class_weights(recipe.weights, _training_px(dataset, train, codes)),
        train=train,
        valid=valid,
        gsd_m=gsd_m,
        window_px=bundle_window_px(recipe, arguments, max(max(scene.shape) for scene in (*train, *valid))),
        batch_size=recipe.batch_size or 1,
        batches=recipe.batches or max(1, math.ceil(labeled_px / crops_px)),  # show each labeled pixel about once
        from_bundle=bundle is not None,
        data=to_provenance(dataset, parts),
        sets=sets,
        members=dataset.members,
    )


# --- classes


def _codes(dataset: Dataset, recipe: Recipe, announce: Announce) -> tuple[int, ...]:
    """Return the codes to learn; report ignored names that are not classes, except `unknown`, a default of recipes.

    A class without a name, `class 3`, may be given by its code.
    """
    by_name = {name_key(land_cover.name): land_cover.code for land_cover in dataset.legend}
    names = dataset.legend.names
    ignored = {name: by_name.get(name_key(name), by_name.get(name_key(f"class {name}"))) for name in recipe.ignore}
    absent = [name for name, code in ignored.items() if code is None and name_key(name) != UNKNOWN]
    if absent:
        announce(f"`ignore` names {', '.join(absent)}, not among the classes {', '.join(names)}")
    codes = tuple(code for code in dataset.legend.codes if code not in ignored.values())
    if len(codes) < 2 and len(names) < 2:
        raise UsageError(
            f"at least two classes are needed, the labels hold only {', '.join(names)}; label other classes too",
            "data",
        )
    if len(codes) < 2:
        raise UsageError(
            f"at least two classes are needed, `ignore` leaves {len(codes)} of {', '.join(names)}; ignore fewer",
            "ignore",
        )
    return codes


def _sets(dataset: Dataset, codes: tuple[int, ...]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Return (code, channels) of labels that allow several classes; those that allow all classes are skipped.

    UsageError for a set without any class that is learned.
    """
    sets = []
    for code, classes in dataset.sets:
        channels = tuple(codes.index(class_code) for class_code in classes if class_code in codes)
        if not channels:
            names = ", ".join(dataset.legend.by_code(class_code).name for class_code in classes)
            message = f"labels of {dataset.name} that may be {names} hold no class that is trained; see `ignore`"
            raise UsageError(message, "ignore")
        if len(channels) < len(codes):
            sets.append((code, channels))
    return tuple(sets)


def _training_px(dataset: Dataset, train: tuple[PreparedScene, ...], codes: tuple[int, ...]) -> list[int]:
    """Return the training pixels of each class; for a mixture, out of a million pixels shown by its shares."""
    if not dataset.members:
        counts = class_px_of(train)
        return [counts.get(code, 0) for code in codes]
    totals = dict.fromkeys(codes, 0.0)
    parts = [(member, [scene for scene in train if member.has(scene.id)]) for member in dataset.members]
    shares = sum(member.share for member, scenes in parts if scenes)
    for member, scenes in parts:
        by_id = dict(member.weights)
        pixels: dict[int, float] = defaultdict(float)
        for scene in scenes:
            for code, count in scene.class_px.items():
                pixels[code] += by_id.get(scene.id, 1.0) * count
        total_px = sum(pixels.values()) or 1.0
        for code in pixels.keys() & totals.keys():
            totals[code] += 1e6 * member.share / shares * pixels[code] / total_px
    return [math.ceil(totals[code]) for code in codes]


def _announce_absent(
    dataset: Dataset,
    codes: tuple[int, ...],
    train: tuple[PreparedScene, ...],
    valid: tuple[PreparedScene, ...],
    announce: Announce,
) -> None:
    """Report classes that cannot be learned or validated. Raises SceneError if none can be learned."""
    train_px, valid_px = class_px_of(train), class_px_of(valid)
    absent = [dataset.legend.by_code(code).name for code in codes if not train_px.get(code)]
    if len(absent) == len(codes):
        raise SceneError(f"no training pixel of {dataset.name} has a class to learn; check its labels", "data")
    possible = {dataset.legend.by_code(code).name for _, classes in dataset.sets for code in classes}
    if unlearnable := [name for name in absent if name not in possible]:
        pronoun = "it" if len(unlearnable) == 1 else "them"
        announce(
            f"no training pixel is {', '.join(unlearnable)}{_resampling_note(dataset, train)}: "
            f"the network cannot learn {pronoun}"
        )
    if uncertain := [name for name in absent if name in possible]:
        announce(
            f"no training pixel is certain to be {', '.join(uncertain)}: only labels that leave several open include it"
        )
    unvalidated = [dataset.legend.by_code(code).name for code in codes if not valid_px.get(code)]
    if valid and len(unvalidated) == len(codes):
        announce("no validation pixel has a class that is learned: epochs cannot be compared, so the last one is kept")
    elif valid and unvalidated:
        names = ", ".join(unvalidated)
        announce(
            f"no validation pixel is {names}{_resampling_note(dataset, valid)}: mIoU is the mean of the other classes"
        )


def _resampling_note(dataset: Dataset, scenes: tuple[PreparedScene, ...]) -> str:
    """Return a possible reason for a missing small class: resampled pixels take their most frequent class."""
    shapes = {pair.id: pair.scene.shape for pair in dataset.pairs}
    return "" if all(scene.shape == shapes[scene.id] for scene in scenes) else " after resampling"


# --- imagery


def _bands(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of the bands; three unnamed bands are red, green and blue, as in pictures."""
    nameless = all(name.startswith("band_") for name in dataset.bands)
    return DEFAULT_BANDS if nameless and len(dataset.bands) == len(DEFAULT_BANDS) else dataset.bands


def _band_statistics(train: tuple[PreparedScene, ...], kind: str, announce: Announce) -> BandStatistics:
    """Return the statistics of the training imagery. SceneError if it cannot be normalized in this way."""
    statistics = band_statistics_of(train)
    if not all(math.isfinite(value) for value in (*statistics.mean, *statistics.std)):
        raise SceneError(
            "the training imagery has extreme or undeclared nodata values; declare them (rio edit-info --nodata)",
            "data",
        )
    for band, (mean, std) in enumerate(zip(statistics.mean, statistics.std, strict=True), start=1):
        if std <= 0:
            line = f"band {band} of the training imagery is {mean:g} everywhere"
            if kind == "dataset":
                raise SceneError(f"{line}; leave it out with `bands`, or give another `normalization`", "bands")
            announce(line)
    return statistics


def _prepared_parts(  # noqa: PLR0913, PLR0917 - a data set, its parts, a recipe, and listeners
    dataset: Dataset,
    parts: Split,
    recipe: Recipe,
    cache: Path,
    announce: Announce,
    progress: Callable[[Progress], None] | None,
) -> tuple[tuple[PreparedScene, ...], tuple[PreparedScene, ...], float | None]:
    """Return the decoded scenes for training and for validation, and the pixel size of the model."""
    make = functools.partial(prepare, dataset, folder=cache, progress=progress, announce=announce)
    if dataset.members:
        usual_m = _mixture_pixel_size(dataset, recipe, announce)
        groups = _by_finest_size(dataset, parts.train, usual_m)
        scenes = [scene for finest_m, areas in groups.items() for scene in make(areas, gsd_m=finest_m)]
        train = tuple(sorted(scenes, key=lambda scene: scene.id))
        return train, make(parts.valid, gsd_m=usual_m), usual_m
    gsd_m = _pixel_size(dataset, parts, recipe, announce)
    train, valid = (make(areas, gsd_m=gsd_m, size_px=recipe.size_px) for areas in (parts.train, parts.valid))
    return train, valid, train[0].gsd_m


# --- the pixel size: the same for all scenes and for the maps to be made


def _pixel_size(dataset: Dataset, parts: Split, recipe: Recipe, announce: Announce) -> float | None:
    """Return the GSD in meters to resample to, None for imagery that is used unchanged or resized to `size_px`.

    Never finer than the coarsest scene, since that adds no detail. Raises UsageError if scenes would be learned at
    different pixel sizes, or at an unknown one.
    """
    ids = {area.pair_id for area in (*parts.train, *parts.valid)}
    pairs = [pair for pair in dataset.pairs if pair.id in ids]
    if recipe.size_px is not None:
        _refuse_sizes(dataset, pairs, recipe.size_px)
        return None
    sizes = [pair.gsd_m for pair in pairs if pair.gsd_m is not None]
    if not sizes:
        if recipe.gsd_m is not None:
            announce("the pixel size of the imagery is unknown; it is used without resampling")
        return None
    unknown = [pair.id for pair in pairs if pair.gsd_m is None]
    if unknown:
        raise UsageError(
            f"the pixel size of {unknown[0]} is unknown, unlike that of others; give one for all as `data_gsd_m`",
            "data_gsd_m",
        )
    finest, coarsest = min(sizes), max(sizes)
    is_uniform = coarsest < finest * SAME_SIZE
    size_text = f"{finest:.4g}" if is_uniform else f"{finest:.4g} to {coarsest:.4g}"
    if recipe.gsd_m is not None and recipe.gsd_m >= coarsest * SAME_SIZE:
        announce(f"imagery of {size_text} m is resampled to {recipe.gsd_m:g} m")
        return recipe.gsd_m
    if is_uniform:
        return None
    announce(f"imagery of {size_text} m is resampled to {coarsest:.4g} m, the coarsest of them; see `gsd_m`")
    return coarsest


def _refuse_sizes(dataset: Dataset, pairs: list[Pair], size_px: int) -> None:
    """Raise UsageError if a size in pixels does not give a single pixel size in meters."""
    after = {pair.id: pair.gsd_m * max(pair.scene.shape) / size_px for pair in pairs if pair.gsd_m is not None}
    if len(after) < len(pairs):
        raise UsageError(
            f"`size_px={size_px}` changes the pixel size, and that of {dataset.name} is unknown: no map could be made "
            "at the size that was trained; give the pixel size as `data_gsd_m`",
            "data_gsd_m",
        )
    finest, coarsest = min(after, key=after.__getitem__), max(after, key=after.__getitem__)
    if after[coarsest] >= after[finest] * SAME_SIZE:
        raise UsageError(
            f"`size_px={size_px}` makes pixels of {after[finest]:.3g} m in {finest} and of {after[coarsest]:.3g} m in "
            f"{coarsest}; give one pixel size for all with `size_px=None`, `gsd_m={after[coarsest]:.3g}`",
            "size_px",
        )


def _mixture_pixel_size(dataset: Dataset, recipe: Recipe, announce: Announce) -> float:
    """Return the pixel size for validation and the bundle: the recipe's, or else the middle of the sizes shown.

    Raises UsageError if the pixel size of a scene is unknown.
    """
    if recipe.size_px is not None:
        message = "a mixture is trained at pixel sizes in meters: give `size_px=None`, and gsd_m in its data sets"
        raise UsageError(message, "size_px")
    for pair in dataset.pairs:
        if pair.gsd_m is None:
            name, _, scene = pair.id.partition("/")
            message = f"data set {name}: the pixel size of {scene} is unknown; add data_gsd_m to its entry"
            raise UsageError(message, "data")
    size_range = shown_range(dataset.members)
    if recipe.gsd_m is not None or size_range is None:
        return recipe.gsd_m or dataset.gsd_m or 1.0
    gsd_m = math.sqrt(math.prod(size_range))  # sizes are drawn on a logarithmic scale
    announce(f"validated at {gsd_m:.3g} m a pixel, the middle of the trained range; see `gsd_m`")
    return gsd_m


def _by_finest_size(dataset: Dataset, areas: Sequence[Area], usual_m: float) -> dict[float | None, list[Area]]:
    """Return the areas by the pixel size to decode their scenes at: the finest one shown; None for their own."""
    sizes = {pair.id: pair.gsd_m or usual_m for pair in dataset.pairs}
    groups: dict[float | None, list[Area]] = defaultdict(list)
    for area in areas:
        member = next(member for member in dataset.members if member.has(area.pair_id))
        finest_m = usual_m if member.shown_m is None else member.shown_m[0]
        groups[finest_m if finest_m > sizes[area.pair_id] * SAME_SIZE else None].append(area)
    return groups
