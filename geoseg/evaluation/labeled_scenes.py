"""Labeled scenes: mapped at the model's resolution by the code of predict, counted on the pixels of their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from geoseg.counts import PairCounts, StoredCodes, count_pairs
from geoseg.dataset import Area, Dataset, PreparedScene, prepare
from geoseg.errors import GeosegError
from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.matching import Matching, SharedCodes
from geoseg.evaluation.worst_crops import WorstCrops
from geoseg.inference import Scoring, map_tile
from geoseg.legend import NODATA
from geoseg.model import ModelCard, OutOfMemory
from geoseg.progress import Progress
from geoseg.raster import BandStatistics, Patch, Window, band_statistics, size_factors, tiles

_TILE_PX = 4096
"""The edge of a tile as the network sees it ..."""
_MOST_PX = 8192
"""... and of the reference's, however much coarser the network sees."""
_PERCENTS = 101
_SAMPLED, _SAMPLE_PX = 16, 256
"""Scenes, and pixels along each side of their middle, that tell what the data are like."""
Says = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SceneBands:
    """A prepared scene as what can be mapped: the bands of it that the model wants."""

    scene: PreparedScene
    bands: tuple[int, ...] | None
    """From 0, in the model's order; None for all as they are."""

    @property
    def id(self) -> str:
        """Its name."""
        return self.scene.id

    @property
    def path(self) -> str:
        """Its name in messages."""
        return self.scene.id

    def read(self, window: Window) -> Patch:
        """Read a window, which may stick out."""
        patch = self.scene.read(window)
        return patch if self.bands is None else Patch(patch.data[list(self.bands)], patch.valid)


@dataclass(frozen=True, slots=True)
class SceneCounts:
    """What was counted; added to, never averaged."""

    counts: PairCounts = field(default_factory=PairCounts)
    percent_px: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, _PERCENTS), np.int64))
    """(wrong or right, percent of confidence)"""
    worst: WorstCrops | None = None
    """None where nobody asks for them."""

    def merge(self, other: SceneCounts) -> Self:
        """Return the sum of two."""
        both = PairCounts(self.counts.pixels.copy())
        both.add(other.counts)
        worst = self.worst.merge(other.worst) if self.worst and other.worst else self.worst or other.worst
        return type(self)(both, self.percent_px + other.percent_px, worst)

    @property
    def calibration(self) -> Calibration:
        """The reliability table."""
        return Calibration.from_percent(self.percent_px.sum(axis=0), self.percent_px[1])


@dataclass(frozen=True, slots=True)
class LabeledScene:
    """One scene to evaluate a model on."""

    reference: PreparedScene
    """At its own resolution: what is counted."""
    image: SceneBands
    """At the model's resolution: what the network sees. Both show the same ground."""
    image_shape: tuple[int, int]

    @property
    def shown(self) -> SceneBands:
        """What a picture shows: the pixels of the reference, in the model's bands."""
        return SceneBands(self.reference, self.image.bands)

    @property
    def tile_shape(self) -> tuple[int, int]:
        """(rows, cols) of the largest tile as the network sees it."""
        return min(_TILE_PX, self.image_shape[0]), min(_TILE_PX, self.image_shape[1])

    def tiles(self) -> list[Window]:
        """Return the pieces of the reference to count; each of its pixels in one of them at most."""
        edges = [
            max(1, min(_MOST_PX, round(_TILE_PX * theirs / ours)))
            for theirs, ours in zip(self.reference.shape, self.image_shape, strict=True)
        ]
        return [
            Window(area.row + tile.row, area.col + tile.col, tile.height, tile.width)
            for area in self.reference.areas
            for tile in tiles(area.height, area.width, edges[0], edges[1])
        ]

    def nearest(self, tile: Window) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the row and the column of the image in which the middle of each pixel of a tile lies."""
        spans = ((tile.row, tile.row_stop), (tile.col, tile.col_stop))
        rows, cols = (
            (2 * np.arange(*span) + 1) * ours // (2 * theirs)
            for span, ours, theirs in zip(spans, self.image_shape, self.reference.shape, strict=True)
        )
        return rows, cols


@dataclass(frozen=True, slots=True)
class SceneCounter:
    """How scenes are mapped and counted; one for all scenes of a data set."""

    scoring: Scoring
    matching: Matching
    shared: SharedCodes | None = None
    """What the worst crops are gathered by; None where nobody asks for them."""

    def count(self, scene: LabeledScene, tile: Window, checkpoint: Callable[[], None]) -> SceneCounts:
        """Map the ground of a tile of the reference and count it. SceneError where a file is damaged."""
        truth = scene.reference.codes(tile)
        if (truth == NODATA).all():
            return SceneCounts(PairCounts())
        rows, cols = scene.nearest(tile)
        place = Window(int(rows[0]), int(cols[0]), int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1)
        scoring = self.scoring.fitted(scene.image_shape)
        mapping = scoring.mapping(scene.image, scene.image_shape, ("labels", "confidence"))
        try:
            mapped = map_tile(mapping, scoring.open(), place, checkpoint)
        except OutOfMemory:
            raise GeosegError(
                f"the rows of a tile of {place.width} x {place.height} pixels do not fit the device's memory; "
                "use `device='cpu'`"
            ) from None
        labels, confidence = mapped["labels"], mapped["confidence"]
        if place.shape != tile.shape:
            at = np.ix_(rows - place.row, cols - place.col)
            labels, confidence = labels[at], confidence[at]
        names = scene.reference.id, self.scoring.bundle.name
        counted = count_pairs(StoredCodes(truth, None, NODATA), StoredCodes(labels, None, NODATA), None, names)
        return SceneCounts(
            counted, self._percents(truth, labels, confidence, counted), self._worst(scene, tile, truth, labels)
        )

    def _worst(
        self, scene: LabeledScene, tile: Window, truth: NDArray[np.uint8], labels: NDArray[np.uint8]
    ) -> WorstCrops | None:
        if self.shared is None:
            return None
        worst = WorstCrops(self.shared.legend)
        worst.see(scene.shown, tile, *self.shared.of(truth, labels))
        return worst

    def _percents(
        self, truth: NDArray[np.uint8], labels: NDArray[np.uint8], confidence: NDArray[np.uint8], counted: PairCounts
    ) -> NDArray[np.int64]:
        """Count pixels of classes that the model knows by their confidence (wrong or right, percent)."""
        known = set(self.scoring.bundle.output_codes)
        kind = np.full((256, 256), 2, np.uint8)  # wrong, right, not counted
        for theirs, ours in counted.pixels:
            if self.matching.counts(theirs, ours) and any(self.matching.same(theirs, code) for code in known):
                kind[theirs, ours] = self.matching.same(theirs, ours)
        kinds = kind[truth, labels].astype(np.intp)
        found = np.bincount((kinds * 256 + confidence).ravel(), minlength=3 * 256).reshape(3, 256)
        return found[:2, :_PERCENTS].astype(np.int64)


def prepare_both(  # noqa: PLR0913, PLR0917 - a data set, a model, and how the one is brought to the other
    dataset: Dataset,
    areas: Sequence[Area],
    folder: Path,
    model: ModelCard,
    bands: tuple[int, ...] | None,
    say: Says,
) -> tuple[list[LabeledScene], list[str]]:
    """Decode the scenes of areas into a folder, twice where their pixels are not of the model's size.

    `bands`: those that the model wants, from 0. Returns them with lines on what was done, which are said too. Raises
    SceneError, OutputError.
    """
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        say(line)

    decoding = _Once(f"decoding scenes into {folder}, once", say)
    native = prepare(dataset, areas, folder, progress=decoding, announce=note)
    seen: dict[str, PreparedScene] = {scene.id: scene for scene in native}
    sizes, wanted = [scene.gsd_m for scene in native], model.gsd_m
    if wanted is None or None in sizes:
        which = model.name if wanted is None else dataset.name
        note(f"the pixel size of {which} is unknown: scenes are mapped at their own resolution")
    elif any(size_factors((size, size), wanted) != (1, 1) for size in sizes if size):
        note(f"mapped at the model's pixel size, {wanted:.3g} m; counted at that of the labels, {_range(sizes)}")
        seen = {scene.id: scene for scene in prepare(dataset, areas, folder, gsd_m=wanted, progress=decoding)}
    return [LabeledScene(scene, SceneBands(seen[scene.id], bands), seen[scene.id].shape) for scene in native], notes


def statistics_of(scenes: Sequence[LabeledScene]) -> BandStatistics | None:
    """Measure the middle of some of the scenes; None where nothing is valid there."""
    samples = []
    for scene in scenes[:: max(1, len(scenes) // _SAMPLED)]:
        height, width = (min(side, _SAMPLE_PX) for side in scene.image_shape)
        row, col = (scene.image_shape[0] - height) // 2, (scene.image_shape[1] - width) // 2
        patch = scene.image.read(Window(row, col, height, width))
        samples.append(patch.data[:, patch.valid])
    return band_statistics(np.concatenate(samples, axis=1))


class _Once:
    """Says a line when work turns out to be under way, and never again."""

    def __init__(self, line: str, say: Says) -> None:
        self._line, self._say, self._said = line, say, False

    def __call__(self, seen: Progress) -> None:
        """Take a moment of the work."""
        if seen.pixels_now and not self._said:
            self._say(self._line)
            self._said = True


def _range(sizes: Iterable[float | None]) -> str:
    known = sorted({f"{size:.3g}" for size in sizes if size}, key=float)
    return f"{known[0]} m" if len(known) == 1 else f"{known[0]} to {known[-1]} m"
