"""A scene with its reference: mapped by the code of predict, counted on the reference's own pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import GeosegError
from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.matching import Matching
from geoseg.evaluation.shared_codes import SharedCodes
from geoseg.evaluation.tally import Codes, Tally, tally
from geoseg.evaluation.worst import WorstCrops
from geoseg.inference import Blend, Mapping, map_tile
from geoseg.legend import NODATA
from geoseg.model import Engine, OutOfMemory
from geoseg.raster import Patch, Window, WindowGrid, tiles

_TILE_PX = 4096
"""The edge of a tile as the network sees it ..."""
_MOST_PX = 8192
"""... and of the reference's, however much coarser the network sees."""
_PERCENTS = 101


class Reference(Protocol):
    """Pixels, and which class each is of: what `geoseg.dataset.prepared` keeps of a pair."""

    @property
    def id(self) -> str:
        """Its name in messages."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        ...

    @property
    def areas(self) -> tuple[Window, ...]:
        """The parts of it that count; none shares a pixel with another."""
        ...

    def read(self, window: Window) -> Patch:
        """Read a window, which may stick out."""
        ...

    def codes(self, window: Window) -> NDArray[np.uint8]:
        """Return the reference (row, col); 255 where it says nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Pixels:
    """A prepared scene as what can be mapped: the bands of it that the model wants."""

    scene: Reference
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
class Found:
    """What was counted; added to, never averaged."""

    tally: Tally = field(default_factory=Tally)
    percent_px: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, _PERCENTS), np.int64))
    """(wrong or right, percent of confidence)"""
    worst: WorstCrops | None = None
    """None where they are not wanted."""

    def merge(self, other: Found) -> Self:
        """Return the sum of two."""
        both = Tally(self.tally.pixels.copy())
        both.add(other.tally)
        worst = self.worst.merge(other.worst) if self.worst and other.worst else self.worst or other.worst
        return type(self)(both, self.percent_px + other.percent_px, worst)

    @property
    def calibration(self) -> Calibration:
        """The reliability table."""
        return Calibration.from_percent(self.percent_px.sum(axis=0), self.percent_px[1])


@dataclass(frozen=True, slots=True)
class Labelled:
    """One scene to be examined on."""

    reference: Reference
    """At its own resolution: what is counted."""
    image: Pixels
    """At the model's resolution: what the network sees. Both show the same ground."""
    image_shape: tuple[int, int]

    @property
    def shown(self) -> Pixels:
        """What a picture shows: the pixels of the reference, in the model's bands."""
        return Pixels(self.reference, self.image.bands)

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
class Counter:
    """How scenes are mapped and counted; one for all scenes of an examination."""

    window_px: int
    overlap_px: int
    blend: Blend
    batch_size: int
    output_codes: tuple[int, ...]
    matching: Matching
    model: str
    shared: SharedCodes | None = None
    """What the worst crops are gathered by; None where they are not wanted."""

    def with_batch(self, batch_size: int) -> Counter:
        """Return the same with another number of windows at once."""
        return replace(self, batch_size=batch_size)

    def count(self, scene: Labelled, engine: Engine, tile: Window, checkpoint: Callable[[], None]) -> Found:
        """Map the ground of a tile of the reference and count it. SceneError where a file is damaged."""
        truth = scene.reference.codes(tile)
        if (truth == NODATA).all():
            return Found(Tally())
        rows, cols = scene.nearest(tile)
        place = Window(int(rows[0]), int(cols[0]), int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1)
        grid = WindowGrid(*scene.image_shape, self.window_px, self.overlap_px)
        mapping = Mapping(
            scene.image, grid, self.blend, self.batch_size, self.output_codes, ("labels", "confidence")
        )  # fmt: skip
        try:
            mapped = map_tile(mapping, engine, place, checkpoint)
        except OutOfMemory:
            raise GeosegError(
                f"the rows of a tile of {place.width} x {place.height} pixels do not fit the device's memory; "
                "take `device='cpu'`"
            ) from None
        labels, confidence = mapped["labels"], mapped["confidence"]
        if place.shape != tile.shape:
            at = np.ix_(rows - place.row, cols - place.col)
            labels, confidence = labels[at], confidence[at]
        names = scene.reference.id, self.model
        counted = tally(Codes(truth, None, NODATA), Codes(labels, None, NODATA), None, names)
        return Found(
            counted, self._percents(truth, labels, confidence, counted), self._worst(scene, tile, truth, labels)
        )

    def _worst(
        self, scene: Labelled, tile: Window, truth: NDArray[np.uint8], labels: NDArray[np.uint8]
    ) -> WorstCrops | None:
        if self.shared is None:
            return None
        worst = WorstCrops(self.shared.legend)
        worst.see(scene.shown, tile, *self.shared.of(truth, labels))
        return worst

    def _percents(
        self, truth: NDArray[np.uint8], labels: NDArray[np.uint8], confidence: NDArray[np.uint8], counted: Tally
    ) -> NDArray[np.int64]:
        """Count pixels of classes that the model knows by their confidence (wrong or right, percent)."""
        known = set(self.output_codes)
        kind = np.full((256, 256), 2, np.uint8)  # wrong, right, not counted
        for theirs, ours in counted.pixels:
            if self.matching.counts(theirs, ours) and any(self.matching.same(theirs, code) for code in known):
                kind[theirs, ours] = self.matching.same(theirs, ours)
        kinds = kind[truth, labels].astype(np.intp)
        found = np.bincount((kinds * 256 + confidence).ravel(), minlength=3 * 256).reshape(3, 256)
        return found[:2, :_PERCENTS].astype(np.int64)
