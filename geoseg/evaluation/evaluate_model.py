"""A model evaluated on a data set: mapped as `predict` maps, counted in one matrix over the whole set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from geoseg.counts import NONE, PairCounts, StoredCodes, count_pairs
from geoseg.dataset import Area, Dataset, PreparedScene, dataset_of, prepare
from geoseg.errors import GeosegError, SceneError, numbered, warn
from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.comparison import confusion, left_out
from geoseg.evaluation.evaluation import Evaluation
from geoseg.evaluation.matching import Matching, SharedCodes, match_legends
from geoseg.evaluation.metrics import UNKNOWN, ConfusionMatrix, constant_map
from geoseg.evaluation.pictures import WorstCrops
from geoseg.evaluation.provenance import DEFAULT_PART, TrainingData, check_part, choose_areas, overlap_note
from geoseg.evaluation.report import check_folder, write_report
from geoseg.features import LayerChoice
from geoseg.given import StrPath
from geoseg.inference import (
    Scoring,
    ScoringOptions,
    check_not_normalized,
    check_type,
    checkpoint,
    choose_bands,
    map_tile,
    normalization_note,
    stoppable,
)
from geoseg.legend import NODATA, GivenLegend, GivenMapping, given_meanings
from geoseg.model import ModelBundle, ModelCard, OutOfMemory, Scale, as_bundle, cache_folder
from geoseg.prefetch import prefetch_map
from geoseg.progress import Announce, Progress, announcer, count_pieces
from geoseg.raster import Patch, Window, WindowGrid, band_statistics, size_factors

_BYTES_A_PIXEL = 32
"""Memory of a tile while it is counted: labels, confidence, truth, and the indexes of the sums."""
_TILE_PX = 4096
"""Edge of a tile in the network's pixels ..."""
_MOST_PX = 8192
"""... and its limit in pixels of the reference, if the network's are coarser."""
_PERCENTS = 101
_SAMPLED, _SAMPLE_PX = 16, 256
"""Scenes to sample for a check of the values, and the side of the square in their middle that is read."""


class _DataOptions(TypedDict, total=False):
    """Options of a data set, as for `open_dataset`."""

    legend: GivenLegend | None
    column: str | None
    layer: LayerChoice
    bands: Sequence[int | str] | None
    gsd_m: float | None
    labels: Any
    tolerance: float


class _Options(_DataOptions, ScoringOptions, total=False):
    pass


def evaluate_model(  # noqa: PLR0913 - the options of the verb
    model: StrPath | ModelBundle,
    data: StrPath | Dataset,
    split: str | Sequence[Area] = DEFAULT_PART,
    *,
    report: StrPath | None = None,
    split_rule: str | None = None,
    ignore: str | Sequence[str | int] | None = None,
    mapping: GivenMapping | None = None,
    cache: StrPath | None = None,
    mkdir: bool = False,
    overwrite: bool = False,
    worst: bool = False,
    progress: Callable[[Progress], None] | None = None,
    announce: Announce | None = None,
    **options: Unpack[_Options],
) -> Evaluation:
    """Map the scenes of a part of a data set with a model and compare them with their labels, all in one matrix.

    `split`: train, valid, test, all, or areas. The scenes of a part are those of `split_rule`, else of the split
    recorded in the model, else of the split that training would make. The network sees each scene at the model's own
    resolution, in blended windows, as in `predict`; its map is resampled to the pixels of the labels by nearest
    neighbor and counted there. Classes are matched by name. `options` are those of `open_dataset` and `plan`, all
    others those of `evaluate`. `worst`: collect the crops that the model gets most wrong, as a `report` does.

    Warns if the model was trained on these scenes. Raises UsageError for invalid options and legends that share no
    class, SceneError for data that do not suit the model or cannot be read, ModelError for a model that cannot be
    opened, OutputError for a report that cannot be written.
    """
    announce = announcer(announce)
    target = None if report is None else check_folder(report, mkdir=mkdir, overwrite=overwrite)
    bundle = as_bundle(model, options.get("window"))
    if isinstance(split, str) or not isinstance(split, Sequence):
        check_part(split, split_rule)
    scoring = Scoring.choose(bundle, options).on_one_device("an evaluation")
    dataset = _opened(data, options, mapping, bundle)
    for note in dataset.notes:
        announce(note)
    scale = options.get("scale")
    matching, bands = _suited(bundle, dataset, ignore, scale)
    areas, notes = _areas(bundle, dataset, split, split_rule, matching)
    for line in notes:
        announce(line)
    folder = Path(cache) if cache else cache_folder() / "scenes"
    scenes, preparation_notes = _prepare_both(dataset, areas, folder, bundle, bands, announce)
    if scale is None:
        _check_values(scenes, bundle, dataset.name)
    tiles = [(scene, tile) for scene in scenes for tile in scene.tiles()]
    scoring, workers = _shared_out(scoring, scenes, len(tiles), dataset.dtype)
    scoring = scoring.exported(announce=announce)
    announce(f"scoring with {bundle.name} on {scoring.engine.describe()}")
    wants_crops = worst or target is not None
    shared_codes = SharedCodes.between(dataset.legend, bundle.legend, matching) if wants_crops else None
    counts = _count_all(tiles, _SceneCounter(scoring, matching, shared_codes), workers, progress)
    evaluation = _evaluation(bundle, dataset, counts, matching, split, len(scenes), [*notes, *preparation_notes])
    if target is not None:
        write_report(evaluation, target, mkdir=mkdir, overwrite=overwrite, announce=announce)
    return evaluation


def _opened(data: StrPath | Dataset, options: _Options, mapping: GivenMapping | None, bundle: ModelBundle) -> Dataset:
    """Open the data set with the caller's options, and map its classes to the model's if there is a mapping."""
    of_data: dict[str, Any] = {name: value for name, value in options.items() if name in _DataOptions.__annotations__}
    dataset = dataset_of(data, **of_data)
    return dataset if mapping is None else dataset.mapped(given_meanings(mapping), bundle.legend)


def _suited(
    bundle: ModelBundle, dataset: Dataset, ignore: str | Sequence[str | int] | None, scale: Scale | None
) -> tuple[Matching, tuple[int, ...] | None]:
    """Match the classes and choose the model's bands, from 0. Raises if the data set does not suit the model."""
    several = frozenset(code for code, _ in dataset.sets)
    matching = replace(match_legends(bundle, dataset.legend, dataset.name, ignore), several=several)
    bands = choose_bands(bundle, dataset.bands, dataset.name)
    check_type(bundle, dataset.dtype, dataset.name, scale)
    return matching, bands


def _areas(
    bundle: ModelBundle, dataset: Dataset, part: str | Sequence[Area], rule: str | None, matching: Matching
) -> tuple[tuple[Area, ...], list[str]]:
    """Return the areas to evaluate, and notes: how they were chosen, and what a reader should know beforehand."""
    training_data = TrainingData.of(bundle).on(dataset, rule)
    if isinstance(part, str):
        areas, how = choose_areas(training_data, dataset, part, rule)
    else:
        areas, how = tuple(part), "areas as given"
    scenes, all_scenes = len({area.pair_id for area in areas}), len(dataset.pairs)
    share = f"{scenes} of " if scenes < all_scenes else ""
    line = f"evaluated on {share}{numbered(all_scenes, 'scene')} of {dataset.name}: {how}"
    return areas, [line, *_notes(bundle, overlap_note(training_data, dataset, areas, bundle.name), part, matching)]


def _notes(model: ModelBundle, overlap: str | None, part: str | Sequence[Area], matching: Matching) -> Iterator[str]:
    """Yield notes for readers of the figures; warn of anything that invalidates them."""
    for line, is_intended in ((overlap, part in ("train", "valid")), (normalization_note(model), False)):
        if line:
            yield line
            if not is_intended:
                warn(line)
    if matching.note:
        yield matching.note
    missing = [named.name for named in matching.map_names if named.code not in model.output_codes]
    if missing:
        yield f"{model.name} cannot map {', '.join(missing)}: its network has no channel for it"


def _check_values(scenes: Sequence[_LabeledScene], model: ModelBundle, name: str) -> None:
    """Measure the middle of some scenes. SceneError if their values cannot be what the model expects."""
    samples = []
    for scene in scenes[:: max(1, len(scenes) // _SAMPLED)]:
        height, width = (min(side, _SAMPLE_PX) for side in scene.image_shape)
        row, col = (scene.image_shape[0] - height) // 2, (scene.image_shape[1] - width) // 2
        patch = scene.image.read(Window(row, col, height, width))
        samples.append(patch.data[:, patch.valid])
    statistics = band_statistics(np.concatenate(samples, axis=1))
    if statistics is None:
        raise SceneError(f"{name}: no pixel of these scenes is valid; check their nodata values")
    check_not_normalized(statistics, model, name)


def _shared_out(scoring: Scoring, scenes: Sequence[_LabeledScene], tiles: int, dtype: str) -> tuple[Scoring, int]:
    """Return the scoring with its share of the cores, and how many tiles to process at once.

    UsageError if one tile does not fit into memory, as in `plan`.
    """
    bands = len(scoring.bundle.bands)
    largest_px = max((tile.size for scene in scenes for tile in scene.tiles()), default=1)
    shapes = {(scene.image_shape, scene.tile_shape) for scene in scenes} or {((1, 1), (1, 1))}
    grids = ((WindowGrid(*shape, scoring.window_px, scoring.overlap_px), tile) for shape, tile in shapes)
    tile_bytes = max(scoring.worker_bytes(grid, tile, bands, dtype, products=2) for grid, tile in grids)
    tile_bytes += _BYTES_A_PIXEL * largest_px
    # torch has one thread count for the whole process
    workers = 1 if scoring.engine.device == "torch-cpu" else None
    return scoring.share_out(tiles, lambda count: count * tile_bytes, workers)


def _count_all(
    tiles: Sequence[tuple[_LabeledScene, Window]],
    counter: _SceneCounter,
    workers: int,
    progress: Callable[[Progress], None] | None,
) -> _SceneCounts:
    """Count every tile of every scene, a few at a time, and add the counts in order."""
    total = _SceneCounts()
    piece = count_pieces(progress, "evaluate", len(tiles), sum(tile.size for _, tile in tiles))

    def count(task: tuple[_LabeledScene, Window]) -> _SceneCounts:
        return counter.count(*task, check)

    with closing(prefetch_map(count, tiles, workers, workers)) as results, stoppable() as run:
        check = checkpoint(run)
        for (_, tile), counted in zip(tiles, results, strict=True):
            total = total.merge(counted)
            piece(tile.size)
    return total


def _evaluation(  # noqa: PLR0913, PLR0917 - one step of the verb
    model: ModelBundle,
    dataset: Dataset,
    scene_counts: _SceneCounts,
    matching: Matching,
    part: str | Sequence[Area],
    scenes: int,
    notes: Sequence[str],
) -> Evaluation:
    """Return the figures of the counts, with a note on the score that a map without any skill would get."""
    matrix = confusion(scene_counts.counts, matching, matching.classes(scene_counts.counts))
    if not matrix.total_px:
        raise SceneError(
            f"no pixel of these scenes of {dataset.name} has a label that counts; check the labels, and `ignore`"
        )
    name = part if isinstance(part, str) else "areas"
    return Evaluation.of(
        model.name,
        f"{dataset.name}, {name} ({numbered(scenes, 'scene')})",
        matrix,
        left_out=left_out(scene_counts.counts, matching),
        calibration=scene_counts.calibration,
        notes=(*notes, *_open_to_several(scene_counts, dataset, matching), *_skill(matrix)),
        worst=scene_counts.worst,
    )


def _skill(matrix: ConfusionMatrix) -> Iterator[str]:
    """Yield a note on the best map that shows one class only; nothing if no pixel counts."""
    best_constant = constant_map(matrix)
    if best_constant is not None:
        protocol = " by the published protocol" if UNKNOWN in map(str.casefold, matrix.names) else ""
        yield "a map of {} everywhere would have an mIoU of {:.4f}".format(*best_constant) + protocol


def _open_to_several(scene_counts: _SceneCounts, dataset: Dataset, matching: Matching) -> Iterator[str]:
    """Yield a note on pixels whose label allows several classes; they do not count."""
    sets = dict(dataset.sets)
    pixels = {pair: count for pair, count in scene_counts.counts.pixels.items() if pair[0] in sets and pair[1] != NONE}
    total = sum(pixels.values())
    if total:
        consistent = sum(
            count
            for (reference_code, map_code), count in pixels.items()
            if any(matching.same(code, map_code) for code in sets[reference_code])
        )
        yield (
            f"{numbered(total, 'pixel')} with labels that leave several classes open do not count; the map shows one "
            f"of these classes in {consistent / total:.1%} of them"
        )


@dataclass(frozen=True, slots=True)
class SceneBands:
    """A prepared scene with only the bands that the model needs, ready to be mapped."""

    scene: PreparedScene
    bands: tuple[int, ...] | None
    """From 0, in the model's order; None for all bands in their own order."""

    @property
    def id(self) -> str:
        """Its name."""
        return self.scene.id

    @property
    def path(self) -> str:
        """Its name in messages."""
        return self.scene.id

    def read(self, window: Window) -> Patch:
        """Read a window, which may extend beyond the scene."""
        patch = self.scene.read(window)
        return patch if self.bands is None else Patch(patch.data[list(self.bands)], patch.valid)


@dataclass(frozen=True, slots=True)
class _SceneCounts:
    """Counts of tiles, which are added up, never averaged."""

    counts: PairCounts = field(default_factory=PairCounts)
    percent_px: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, _PERCENTS), np.int64))
    """(wrong or right, percent of confidence)"""
    worst: WorstCrops | None = None
    """None if not requested."""

    def merge(self, other: _SceneCounts) -> Self:
        """Return the sum of two counts."""
        both = PairCounts(self.counts.pixels.copy())
        both.add(other.counts)
        worst = self.worst.merge(other.worst) if self.worst and other.worst else self.worst or other.worst
        return type(self)(both, self.percent_px + other.percent_px, worst)

    @property
    def calibration(self) -> Calibration:
        """The reliability table."""
        return Calibration.from_percent(self.percent_px.sum(axis=0), self.percent_px[1])


@dataclass(frozen=True, slots=True)
class _LabeledScene:
    """One scene to evaluate a model on."""

    reference: PreparedScene
    """The scene at its own resolution, where pixels are counted."""
    image: SceneBands
    """The scene at the model's resolution, as the network sees it. Both show the same ground."""
    image_shape: tuple[int, int]

    @property
    def tile_shape(self) -> tuple[int, int]:
        """(rows, cols) of the largest tile in the network's pixels."""
        return min(_TILE_PX, self.image_shape[0]), min(_TILE_PX, self.image_shape[1])

    def tiles(self) -> list[Window]:
        """Return the tiles of the reference to count; each of its pixels is in at most one of them."""
        edges = [
            max(1, min(_MOST_PX, round(_TILE_PX * reference_side / image_side)))
            for reference_side, image_side in zip(self.reference.shape, self.image_shape, strict=True)
        ]
        return [tile for area in self.reference.areas for tile in area.tiles(*edges)]

    def nearest(self, tile: Window) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows and the columns of the image that contain the centers of a tile's pixels."""
        spans = ((tile.row, tile.row_stop), (tile.col, tile.col_stop))
        rows, cols = (
            (2 * np.arange(*span) + 1) * image_side // (2 * reference_side)
            for span, image_side, reference_side in zip(spans, self.image_shape, self.reference.shape, strict=True)
        )
        return rows, cols


@dataclass(frozen=True, slots=True)
class _SceneCounter:
    """Maps and counts the tiles of all scenes of a data set."""

    scoring: Scoring
    matching: Matching
    shared: SharedCodes | None = None
    """The codes that the worst crops are collected by; None if they are not requested."""

    def count(self, scene: _LabeledScene, tile: Window, checkpoint: Callable[[], None]) -> _SceneCounts:
        """Map the ground of a tile of the reference and count it. SceneError if a file is damaged."""
        truth = scene.reference.codes(tile)
        if (truth == NODATA).all():
            return _SceneCounts()
        rows, cols = scene.nearest(tile)
        place = Window(int(rows[0]), int(cols[0]), int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1)
        scoring = self.scoring.fitted(scene.image_shape)
        mapping = scoring.mapping(scene.image, scene.image_shape, ("labels", "confidence"))
        try:
            mapped = map_tile(mapping, scoring.open(), place, checkpoint)
        except OutOfMemory:
            raise GeosegError(
                f"the rows of a tile of {place.width} x {place.height} pixels do not fit into the device's memory; "
                "use `device='cpu'`"
            ) from None
        labels, confidence = mapped["labels"], mapped["confidence"]
        if place.shape != tile.shape:
            pixels = np.ix_(rows - place.row, cols - place.col)
            labels, confidence = labels[pixels], confidence[pixels]
        names = scene.reference.id, self.scoring.bundle.name
        pair_counts = count_pairs(StoredCodes(truth, None, NODATA), StoredCodes(labels, None, NODATA), None, names)
        worst = None
        if self.shared is not None:
            worst = WorstCrops(self.shared.legend)
            worst.see(SceneBands(scene.reference, scene.image.bands), tile, *self.shared.of(truth, labels))
        return _SceneCounts(pair_counts, self._percents(truth, labels, confidence, pair_counts), worst)

    def _percents(
        self,
        truth: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        confidence: NDArray[np.uint8],
        pair_counts: PairCounts,
    ) -> NDArray[np.int64]:
        """Count the pixels of classes that the model knows, by confidence (wrong or right, percent)."""
        model_codes = set(self.scoring.bundle.output_codes)
        kind = np.full((256, 256), 2, np.uint8)  # wrong, right, not counted
        for reference_code, map_code in pair_counts.pixels:
            if self.matching.counts(reference_code, map_code) and any(
                self.matching.same(reference_code, code) for code in model_codes
            ):
                kind[reference_code, map_code] = self.matching.same(reference_code, map_code)
        kinds = kind[truth, labels].astype(np.intp)
        counts = np.bincount((kinds * 256 + confidence).ravel(), minlength=3 * 256).reshape(3, 256)
        return counts[:2, :_PERCENTS].astype(np.int64)


def _prepare_both(  # noqa: PLR0913, PLR0917 - a data set, a model, and how to prepare one for the other
    dataset: Dataset,
    areas: Sequence[Area],
    folder: Path,
    model: ModelCard,
    bands: tuple[int, ...] | None,
    announce: Announce,
) -> tuple[list[_LabeledScene], list[str]]:
    """Decode the scenes of areas into a folder, twice if their pixels differ from the model's in size.

    `bands`: those that the model needs, from 0. Returns the scenes, and the notes that were announced. Raises
    SceneError, OutputError.
    """
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        announce(line)

    is_announced = False

    def decoding(state: Progress) -> None:
        nonlocal is_announced
        if state.pixels_now and not is_announced:
            is_announced = True
            announce(f"decoding scenes into {folder}, once")

    labeled = prepare(dataset, areas, folder, progress=decoding, announce=note)
    images: dict[str, PreparedScene] = {scene.id: scene for scene in labeled}
    sizes, model_gsd_m = [scene.gsd_m for scene in labeled], model.gsd_m
    if model_gsd_m is None or None in sizes:
        owner = model.name if model_gsd_m is None else dataset.name
        note(f"the pixel size of {owner} is unknown: scenes are mapped at their own resolution")
    elif any(size_factors((size, size), model_gsd_m) != (1, 1) for size in sizes if size):
        note(f"mapped at the model's pixel size, {model_gsd_m:.3g} m; counted at that of the labels, {_range(sizes)}")
        images = {scene.id: scene for scene in prepare(dataset, areas, folder, gsd_m=model_gsd_m, progress=decoding)}
    return [
        _LabeledScene(scene, SceneBands(images[scene.id], bands), images[scene.id].shape) for scene in labeled
    ], notes


def _range(sizes: Iterable[float | None]) -> str:
    texts = sorted({f"{size:.3g}" for size in sizes if size}, key=float)
    return f"{texts[0]} m" if len(texts) == 1 else f"{texts[0]} to {texts[-1]} m"
