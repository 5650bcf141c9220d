"""How well the network does on scenes it does not learn from: whole scenes, stitched as predict does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geoseg.dataset import PreparedScene
from geoseg.errors import DivergedError
from geoseg.evaluation import Calibration, ConfusionMatrix, Metrics
from geoseg.inference import DEFAULT_BLEND, Mapping, blended
from geoseg.legend import NODATA, Legend
from geoseg.model import Engine
from geoseg.raster import Patch, Window, WindowGrid, tiles
from geoseg.training.count import count
from geoseg.training.network_input import channel_table
from geoseg.training.plan import TrainingPlan

TILE_PX = 4096
"""Edge of what is mapped at a time: the rows of windows of a wide scene would not fit the memory."""

Seen = Callable[[PreparedScene, Window, NDArray[np.uint8], NDArray[np.uint8]], None]
"""Called with a scene, a window of it, the codes of the reference and of the network, each (row, col)."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Counts over scenes; they are added, never averaged."""

    matrix: ConfusionMatrix
    calibration: Calibration = field(default_factory=Calibration.empty)
    loss_sum: float = 0.0
    """Negative log-likelihood of all pixels."""
    several_px: int = 0
    """Pixels, not counted, whose label leaves open which of several classes they are."""

    @classmethod
    def empty(cls, legend: Legend, output_codes: tuple[int, ...]) -> Self:
        """Return scores without a pixel, of the classes that are learnt."""
        return cls(ConfusionMatrix.of_legend(legend).without(set(legend.codes) - set(output_codes)))

    def merge(self, other: Scores) -> Self:
        """Return the sum of two."""
        return type(self)(
            self.matrix.merge(other.matrix),
            self.calibration.merge(other.calibration),
            self.loss_sum + other.loss_sum,
            self.several_px + other.several_px,
        )

    @property
    def loss(self) -> float:
        """The mean cross-entropy of a pixel."""
        return self.loss_sum / self.matrix.total_px if self.matrix.total_px else float("nan")


@dataclass(frozen=True, slots=True)
class _Source:
    """A prepared scene as what can be mapped."""

    scene: PreparedScene

    @property
    def path(self) -> str:
        return self.scene.id

    def read(self, window: Window) -> Patch:
        return self.scene.read(window)


def score_scene(
    plan: TrainingPlan, engine: Engine, scene: PreparedScene, seen: Seen = lambda *_: None, *, batch_size: int = 4
) -> Scores:
    """Map the areas of a scene and count every pixel whose class is learnt.

    Raises SceneError where the scene cannot be read, DivergedError where the network gives no number.
    """
    scores = Scores.empty(plan.legend, plan.output_codes)
    grid = WindowGrid(*scene.shape, plan.window_px, plan.overlap_px)
    mapping = Mapping(_Source(scene), grid, DEFAULT_BLEND, batch_size, plan.output_codes)
    for tile in (tile for area in scene.areas for tile in _tiles(area)):
        for window, probabilities, valid in blended(mapping, engine, tile):
            codes = scene.codes(window)
            counted, predicted = _count(plan, engine, codes, probabilities, valid)
            if math.isnan(counted.loss_sum):
                raise DivergedError(
                    f"the network gives no number for some of {scene.id}, which validates. A smaller `lr` or a `clip` "
                    "of 1 may cure it"
                )
            scores = scores.merge(counted)
            seen(scene, window, _certain(plan, codes), predicted)
    return scores


def judged_miou(matrix: ConfusionMatrix) -> float:
    """Return the mean IoU of the classes that the reference has, but `unknown`; nan where it has none.

    A class that is only on the map has an IoU of 0: one stray pixel of it would take a whole share off the mean of a
    small validation part, and choose another epoch.
    """
    judged = [each.iou for each in Metrics.of(matrix).classes if each.reference_px and not each.is_unknown]
    return sum(judged) / len(judged) if judged else float("nan")


def _tiles(area: Window) -> list[Window]:
    return [
        Window(area.row + tile.row, area.col + tile.col, tile.height, tile.width)
        for tile in tiles(area.height, area.width, TILE_PX, TILE_PX)
    ]


def _certain(plan: TrainingPlan, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the codes of classes, 255 where several are open."""
    return np.where(np.isin(codes, plan.legend.codes), codes, np.uint8(NODATA)) if plan.members else codes


def _count(
    plan: TrainingPlan,
    engine: Engine,
    codes: NDArray[np.uint8],
    probabilities: Any,  # noqa: ANN401 - an engine's own kind of array
    valid: NDArray[np.bool_],
) -> tuple[Scores, NDArray[np.uint8]]:
    """Return the scores of some pixels, and the codes (row, col) that the network gives them."""
    truth = channel_table(plan.output_codes).astype(np.uint8)[codes]
    truth[~valid] = NODATA
    found = count(engine.download(probabilities), truth)
    empty = Scores.empty(plan.legend, plan.output_codes)
    # the matrix has the legend's order, the network's channels may have another
    order = [plan.output_codes.index(code) for code in empty.matrix.codes]
    matrix = replace(empty.matrix, counts=found.pixels[np.ix_(order, order)])
    predicted = np.asarray(plan.output_codes, np.uint8)[found.channel]
    several_px = int(np.isin(codes[valid], [code for code, _ in plan.sets]).sum()) if plan.sets else 0
    return Scores(matrix, found.calibration, found.loss_sum, several_px), predicted
