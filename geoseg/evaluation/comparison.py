"""Comparing a map with its reference: open, match, count tile by tile on a few threads, compute the figures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import isqrt
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from geoseg.counts import NONE, PairCounts, count_pairs
from geoseg.errors import GeosegError, SceneError, UsageError, listed, numbered
from geoseg.evaluation.areas import Areas
from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.evaluation import Evaluation, LeftOut
from geoseg.evaluation.matching import Classes, Matching
from geoseg.evaluation.metrics import ConfusionMatrix
from geoseg.evaluation.points import PointSample, is_table_of_points
from geoseg.evaluation.reference import BurnedPolygons, are_polygons, class_codes, points_error
from geoseg.given import is_frame, is_geoseg_type
from geoseg.legend import (
    GivenLegend,
    GivenMapping,
    Nomenclature,
    choose_classes,
    given_meanings,
    given_names,
    names_said,
)
from geoseg.machine import available_cores
from geoseg.prefetch import prefetch_map
from geoseg.progress import Announce, Progress, count_pieces
from geoseg.raster import (
    ClassRaster,
    Ground,
    Scene,
    ShiftedRaster,
    WarpedRaster,
    Window,
    align,
    as_scene,
    open_confidence,
    public_name,
    raster_environment,
    read_nomenclature,
    shown,
    tiles,
    used_colors,
)

if TYPE_CHECKING:
    from geoseg.features import LayerChoice
    from geoseg.raster.scene import SceneLike


_TILE_PX = 4 * 1024**2
"""Pixels of a tile of bytes; a quarter of that if each pixel takes 64 bits while it is counted."""
_TALLEST_PX = 16 * _TILE_PX
"""A tile of whole blocks larger than this is cut, even though each part then decodes all its blocks."""
_WIDE_TILES = 4
"""How many times as large a tile may be that is as wide as the map."""
_MOST_THREADS = 8
_CODES_SHOWN = 12
_CLUSTERED = (
    "the pixels of the reference are neighbors, not a random sample: the intervals are too narrow; "
    "use a stratified random sample of points (`sample`)"
)
_UNWEIGHTED = (
    "each point counts once in the matrix and its figures, however large the area of its class is; "
    "accuracies by area, with their standard errors,"
)
_TILES_AHEAD = 2
"""Tiles in progress or ready per thread, so that no thread waits."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A map and the data it is compared with."""

    mapped: ClassRaster
    reference: ShiftedRaster | WarpedRaster | BurnedPolygons | None
    """None to count the map alone."""
    matching: Matching
    confidence: Scene | None = None
    ground: Ground | None = None
    """None if no areas are requested."""

    def count(self, window: Window) -> tuple[PairCounts, Calibration | None]:
        """Count the pixels of a window. SceneError if a file is damaged or holds no classes."""
        mapped = ShiftedRaster(self.mapped, 0, 0).read(window)
        reference = None if self.reference is None else self.reference.read(window)
        names = self.reference.name if self.reference else self._name, self._name
        pair_counts = count_pairs(reference, mapped, self._pixel_areas(window), names)
        pair_counts.contested = 0 if reference is None else reference.contested
        if self.confidence is None or reference is None:
            return pair_counts, None
        name = shown(self.confidence.path)
        reference_index, reference_codes = reference.indexed(names[0])
        map_index, map_codes = mapped.indexed(names[1])
        reference_codes, map_codes = reference_codes.tolist(), map_codes.tolist()
        counts, right = (
            np.array(
                [[holds(reference_code, map_code) for map_code in map_codes] for reference_code in reference_codes]
            )
            for holds in (self.matching.counts, self.matching.same)
        )
        patch = self.confidence.read(window)
        is_judged = counts[reference_index, map_index] & patch.valid.ravel()
        stored = patch.data[0].ravel()[is_judged]
        return pair_counts, Calibration.of_stored(stored, right[reference_index, map_index][is_judged], name)

    def tiles(self) -> list[Window]:
        """Return the windows to count: whole blocks of the map, and of the reference if it is only shifted.

        They are as wide as the map, if that is not too much, for a warped reference in strips: each window decodes its
        strips from end to end.
        """
        height, width = self.mapped.scene.shape
        shapes = [self.mapped.scene.block_shape]
        if isinstance(self.reference, ShiftedRaster):
            shapes.append(self.reference.raster.scene.block_shape)
        rows, cols = (max(sides) for sides in zip(*shapes, strict=True))
        is_plain = self.confidence is None and self.mapped.scene.dtype == "uint8" and not self.mapped.colors
        is_plain = is_plain and (self.reference is None or self.reference.is_plain)
        target_px = _TILE_PX if is_plain else _TILE_PX // 4
        if isinstance(self.reference, WarpedRaster) and rows * width <= _WIDE_TILES * target_px:
            stored = self.reference.raster.scene
            cols = width if stored.block_shape[1] >= stored.shape[1] else cols
        cols = width if cols >= width else min(width, max(1, isqrt(target_px) // cols) * cols)
        rows = max(1, target_px // cols // rows) * rows
        if rows * cols > _TALLEST_PX:
            rows = max(1, target_px // cols)
        return tiles(height, width, min(rows, height), cols)

    def areas(self, counts: PairCounts) -> dict[tuple[int, int], float]:
        """Return the area on the ground by code in the reference and in the map; in pixels without a `ground`."""
        if self.ground is None or self.ground.is_even:
            pixel = 1.0 if self.ground is None else self.ground.pixel
            return {pair: pixels * pixel for pair, pixels in counts.pixels.items()}
        return counts.areas

    @property
    def _name(self) -> str:
        return shown(self.mapped.scene.path)

    def _pixel_areas(self, window: Window) -> NDArray[np.float64] | None:
        """Return the areas of pixels, (row,) or (row, col); None if all are equal or not requested."""
        if self.ground is None or self.ground.is_even:
            return None
        areas = self.ground.areas(window)
        return areas[:, 0] if areas.shape[1] == 1 else areas


def count(
    comparison: Comparison, *, threads: int | None = None, progress: Callable[[Progress], None] | None = None
) -> tuple[PairCounts, Calibration | None]:
    """Count all pixels of a map and its reference. SceneError if a file is damaged or changes during the run.

    UsageError for less than one thread.

    Tiles are added in order, not as they finish, so sums of areas are the same for any number of threads.
    """
    total, calibration_total = PairCounts(), None if comparison.confidence is None else Calibration.empty()
    windows = comparison.tiles()
    piece = count_pieces(progress, "evaluate", len(windows), sum(window.size for window in windows))
    if threads is None:
        threads = min(available_cores(), _MOST_THREADS)
    counting = prefetch_map(comparison.count, windows, threads, _TILES_AHEAD * threads)
    with raster_environment(), closing(counting) as results:  # rasterio's threads undo each other's warning filters
        for window, (counted, calibration) in zip(windows, results, strict=True):
            total.add(counted)
            if calibration_total is not None and calibration is not None:
                calibration_total = calibration_total.merge(calibration)
            piece(window.size)
    comparison.mapped.check_unchanged()
    if comparison.reference is not None:
        comparison.reference.check_unchanged()
    return total, calibration_total


def confusion(counts: PairCounts, matching: Matching, classes: Classes) -> ConfusionMatrix:
    """Return the confusion matrix of the pixels that count."""
    cells = _cells(counts.pixels, matching, classes).astype(np.int64)
    return ConfusionMatrix(classes.codes, classes.names, cells)


def _cells(sums: Mapping[tuple[int, int], float], matching: Matching, classes: Classes) -> NDArray[np.float64]:
    """Return sums by code in the reference and in the map as sums by class (reference, map)."""
    cells = np.zeros((len(classes.codes),) * 2)
    for (reference_code, map_code), value in sums.items():
        if matching.counts(reference_code, map_code):
            cells[classes.of_reference[reference_code], classes.of_map[map_code]] += value
    return cells


def left_out(counts: PairCounts, matching: Matching) -> LeftOut:
    """Return how many pixels do not count, by reason."""
    pixels_by_reason: Counter[str] = Counter()
    for (reference_code, map_code), pixels in counts.pixels.items():
        if map_code == NONE:
            pixels_by_reason["no_map"] += pixels
        elif reference_code == NONE:
            pixels_by_reason["no_reference"] += pixels
        elif reference_code in matching.several:
            pixels_by_reason["several"] += pixels
        elif not matching.counts(reference_code, map_code):
            pixels_by_reason["ignored"] += pixels
    return LeftOut(**pixels_by_reason)


@dataclass(frozen=True, slots=True)
class Truth:
    """The reference as given by the caller."""

    given: Any
    """A path, a Scene, a GeoDataFrame, or None."""
    column: str | None
    layer: LayerChoice
    polygons: bool

    @classmethod
    def of(cls, reference: Any, column: str | None, layer: LayerChoice) -> Self:  # noqa: ANN401 - whatever was given
        """Tell polygons from rasters. UsageError if it is neither, such as the points of a sample."""
        if is_geoseg_type(reference, "Dataset"):
            raise UsageError(
                "a map is evaluated against a raster or polygons, got a Dataset; give its label raster instead",
                "reference",
            )
        if reference is not None and not is_frame(reference):
            reference = as_scene(reference, "reference")
        if is_table_of_points(reference):
            raise points_error(shown(os.fspath(reference)))
        return cls(reference, column, layer, polygons=are_polygons(reference))


@dataclass(frozen=True, slots=True)
class LegendsGiven:
    """The legends that the caller gave for the map and the reference."""

    map: Nomenclature | None
    reference: Nomenclature | None
    mapping: Mapping[str, Any] | None
    """The map's classes for each class of the reference; None to match by name or code."""

    @classmethod
    def of(cls, legend: GivenLegend | None, reference_legend: GivenLegend | None, mapping: GivenMapping | None) -> Self:
        """Read the legends. Raises UsageError."""
        map_names, meanings_by_name = given_names(legend), None if mapping is None else given_meanings(mapping)
        try:
            return cls(map_names, given_names(reference_legend), meanings_by_name)
        except UsageError as error:
            raise error.renamed(legend="reference_legend") from None

    def of_features(self, map_names: Nomenclature) -> Nomenclature | None:
        """Return names for a reference that has values, not codes."""
        if self.reference is not None or self.mapping is None:
            return self.reference
        return names_said(self.mapping, map_names)

    def match(
        self, map_names: Nomenclature, reference_names: Nomenclature, ignore: str | Sequence[str | int] | None
    ) -> Matching:
        """Match the classes of map and reference. Raises UsageError."""
        if self.mapping is None:
            return Matching.of(map_names, reference_names, ignore)
        return Matching.by_mapping(map_names, reference_names, self.mapping, ignore)


@dataclass(frozen=True, slots=True)
class MapEvaluation:
    """The inputs of an evaluation, opened and checked."""

    comparison: Comparison
    """The map and the reference, pixel by pixel; without a reference, the map alone."""
    reference: str
    """Name of the raster or the polygons, else of the sample."""
    points: PointSample | None
    notes: tuple[str, ...]
    """Lines for the user before anything is counted."""

    @classmethod
    def prepare(  # noqa: PLR0913, PLR0917 - the options of the verb
        cls,
        landcover: SceneLike,
        truth: Truth,
        points: PointSample | None,
        legends: LegendsGiven,
        ignore: str | Sequence[str | int] | None,
        confidence: SceneLike | None,
        *,
        areas: bool,
    ) -> Self:
        """Open map and reference, match their classes and align their grids."""
        mapped, map_names, aligned, reference_names = _opened(landcover, truth, legends)
        matching = legends.match(map_names, reference_names, ignore)
        grid = mapped.scene.geobox
        confidence_scene = None if confidence is None else open_confidence(confidence, grid)
        comparison = Comparison(mapped, aligned, matching, confidence_scene, Ground.of(grid) if areas else None)
        notes = (
            mapped.note,
            aligned.raster.note if isinstance(aligned, ShiftedRaster | WarpedRaster) else None,
            *(points.notes if points else ()),
            aligned and aligned.note,
            matching.note,
            _unnamed_note(map_names, reference_names) if aligned and legends.mapping is None else None,
        )
        name = aligned.name if aligned else shown(points.path) if points else ""
        return cls(comparison, name, points, tuple(note for note in notes if note))

    def run(
        self,
        classes: str | Sequence[str | int] | None,
        threads: int | None,
        progress: Callable[[Progress], None] | None,
        announce: Announce,
    ) -> Evaluation:
        """Count, and return the figures. Each note is announced as soon as it is known."""
        for note in self.notes:
            announce(note)
        counts, calibration = PairCounts(), None
        if self.comparison.reference is not None or self.comparison.ground is not None:
            counts, calibration = count(self.comparison, threads=threads, progress=progress)
        evaluation = self._result(counts, calibration, classes)
        for note in evaluation.notes[len(self.notes) :]:
            announce(note)
        return evaluation

    def _result(
        self, counts: PairCounts, calibration: Calibration | None, classes: str | Sequence[str | int] | None
    ) -> Evaluation:
        """Return the figures of the counts. SceneError if nothing counts."""
        comparison, matching = self.comparison, self.comparison.matching
        point_names = matching.own_names or matching.reference_names
        points = None if self.points is None else self.points.count(comparison.mapped, point_names)
        all_counts = PairCounts(Counter(counts.pixels))
        if points is not None:  # a class that only points have counts too
            all_counts.add(PairCounts(Counter(dict.fromkeys(points.pixels, 0))))
        every_class = matching.classes(all_counts)
        is_by_points = comparison.reference is None and points is not None
        judged = points if points is not None and is_by_points else counts
        matrix, skipped = confusion(judged, matching, every_class), left_out(judged, matching)
        if not matrix.total_px:
            reasons = ", ".join(f"{count} {reason}" for count, reason in skipped.reasons)
            hint = "check `ignore`" if skipped.ignored == skipped.total > 0 else "check that the two overlap"
            what = f"no {'point' if is_by_points else 'pixel'} counts{f' ({reasons})' if reasons else ''}"
            raise SceneError(f"nothing to compare: {what}; {hint}")
        names = dict(matrix)
        nomenclature = Nomenclature.from_names(names, {}).completed(names)
        chosen_codes = None if classes is None else choose_classes(nomenclature, classes)
        areas = None if comparison.ground is None else self._areas(comparison.ground, counts, points, every_class)
        return Evaluation.of(
            shown(comparison.mapped.scene.path),
            self.reference,
            matrix if chosen_codes is None else matrix.only(chosen_codes),
            left_out=skipped,
            unit="points" if is_by_points else "pixels",
            areas=areas if areas is None or chosen_codes is None else areas.only(chosen_codes),
            calibration=calibration,
            notes=(*self.notes, *self._result_notes(counts, areas, is_by_points=is_by_points)),
        )

    def _result_notes(self, counts: PairCounts, areas: Areas | None, *, is_by_points: bool) -> Iterator[str]:
        if unnamed := self.comparison.matching.unnamed(counts):
            codes = listed(map(str, unnamed), _CODES_SHOWN)
            yield f"codes of the reference without a class, whose pixels count as errors: {codes}"
        if counts.contested:
            share = counts.contested / sum(counts.pixels.values())
            yield (
                f"{self.reference}: {numbered(counts.contested, 'pixel')} ({share:.2%} of the map) in polygons of "
                "different classes; the last polygon counts"
            )
        if is_by_points:
            yield f"{_UNWEIGHTED} {'come with `areas=True`' if areas is None else 'are with the areas'}"
        elif self.points is not None:
            yield f"areas come from the sample ({public_name(self.points.path)}), everything else from the reference"
        elif areas is not None and any(class_area.standard_error > 0 for class_area in areas.classes):
            yield _CLUSTERED

    def _areas(self, ground: Ground, counts: PairCounts, points: PairCounts | None, classes: Classes) -> Areas:
        matching, by_pair = self.comparison.matching, self.comparison.areas(counts)
        mapped = classes.map_sums(by_pair)
        if points is not None:
            return Areas.of(confusion(points, matching, classes), mapped, unit=ground.unit)
        sample, weights = confusion(counts, matching, classes), _cells(by_pair, matching, classes)
        population = classes.map_sums(counts.pixels).astype(np.int64)
        return Areas.of(sample, mapped, unit=ground.unit, weights=weights, population=population)


def _opened(
    landcover: SceneLike, truth: Truth, legends: LegendsGiven
) -> tuple[ClassRaster, Nomenclature, ShiftedRaster | WarpedRaster | BurnedPolygons | None, Nomenclature]:
    """Return a map and its reference, each with its names. Colors of one are read by the legend of the other.

    If neither has names, two palettes are matched by their colors.
    """
    is_raster = truth.given is not None and not truth.polygons
    own_names = read_nomenclature(Scene.open(truth.given)) if is_raster else Nomenclature()
    mapped = ClassRaster.open(landcover, legends.map or legends.reference or own_names)
    map_names = mapped.names if legends.map is None else legends.map
    grid = mapped.scene.geobox
    if is_raster:
        try:
            raster = ClassRaster.open(truth.given, legends.reference or map_names or used_colors(mapped.scene))
        except GeosegError as error:
            raise error.renamed(legend="reference_legend") from None
        return mapped, map_names, align(raster, grid), raster.names if legends.reference is None else legends.reference
    if truth.given is None:
        return mapped, map_names, None, legends.of_features(map_names) or own_names
    assign_codes = partial(class_codes, map_names=map_names, reference_names=legends.of_features(map_names))
    burned = BurnedPolygons.open(truth.given, truth.column, truth.layer, grid, mapped.scene.path, assign_codes)
    return mapped, map_names, burned, burned.names


def _unnamed_note(map_names: Nomenclature, reference_names: Nomenclature) -> str | None:
    """Return a note if classes are matched by code and only one of the two has names for them."""
    if len(map_names) and not len(reference_names):
        unnamed, named, hint = "reference", "map", "`reference_legend` or `mapping`"
    elif len(reference_names) and not len(map_names):
        unnamed, named, hint = "map", "reference", "`legend`"
    else:
        return None
    return f"the {unnamed} has no class names: its codes count as the {named}'s; if they differ, give {hint}"
