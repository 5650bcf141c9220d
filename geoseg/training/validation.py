"""How well the network does on scenes it does not learn from: whole scenes, stitched as predict does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.compiled import njit
from geoseg.dataset import PreparedScene
from geoseg.errors import DivergedError
from geoseg.evaluation import BINS, Calibration, ConfusionMatrix, bin_of
from geoseg.inference import DEFAULT_BLEND, SceneMapping, blended
from geoseg.legend import NODATA, Legend
from geoseg.model import Engine, Normalization, TorchEngine
from geoseg.raster import Patch, Window, WindowGrid, tiles
from geoseg.training.network import channel_table
from geoseg.training.plan import TrainingPlan

_LEAST_PROBABILITY = 1e-7
"""Where the network is wholly sure and wrong: the loss stays finite."""
_BATCH = 4
"""Windows that a GPU scores at once; a CPU gains nothing by more than one, and batches are filled up."""
_FACTORS = 32
"""Probabilities multiplied before a logarithm is taken of them: 1e-7 to this power is still a number."""
TILE_PX = 4096
"""Edge of what is mapped at a time: the rows of windows of a wide scene would not fit the memory."""

Seen = Callable[[PreparedScene, Window, NDArray[np.uint8], NDArray[np.uint8]], None]
"""Called with a scene, a window of it, the codes of the reference and of the network, each (row, col)."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelCounts:
    """What one pass over some pixels found."""

    channel: NDArray[np.uint8]
    """(row, col): the most probable channel of every pixel, counted or not; of equal ones the first."""
    pixels: NDArray[np.int64]
    """(reference, map), by channel."""
    calibration: Calibration
    loss_sum: float
    """Negative log-likelihood of the pixels counted; nan where a probability of one is NaN."""


def count(probabilities: NDArray[np.float32], truth: NDArray[np.uint8]) -> PixelCounts:
    """Count pixels by their probabilities (channel, row, col) and true channel (row, col), 255 = not to be counted."""
    channels = len(probabilities)
    channel = np.empty(truth.shape, np.uint8)
    pixels = np.zeros((channels, channels), np.int64)
    count_px, right_px, confidence_sum = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64), np.zeros(BINS)
    loss_sum = _count_all(probabilities, truth, channel, pixels, count_px, right_px, confidence_sum)
    return PixelCounts(channel, pixels, Calibration(count_px, right_px, confidence_sum), loss_sum)


@njit(cache=True, nogil=True)
def _count_all(  # noqa: PLR0913, PLR0917 - a kernel takes flat arrays
    probabilities: Any,  # noqa: ANN401
    truth: Any,  # noqa: ANN401
    channel: Any,  # noqa: ANN401
    pixels: Any,  # noqa: ANN401
    count_px: Any,  # noqa: ANN401
    right_px: Any,  # noqa: ANN401
    confidence_sum: Any,  # noqa: ANN401
) -> float:
    """Fill the arrays, which hold zeros, and return the loss."""
    loss_sum, product, factors = 0.0, 1.0, 0
    for row in range(truth.shape[0]):
        for col in range(truth.shape[1]):
            best, most = 0, probabilities[0, row, col]
            for index in range(1, probabilities.shape[0]):
                if probabilities[index, row, col] > most:
                    best, most = index, probabilities[index, row, col]
            channel[row, col] = best
            true = truth[row, col]
            if true == NODATA:
                continue
            if not most >= 0.0:
                loss_sum = math.nan
                continue
            pixels[true, best] += 1
            confidence = min(max(float(most), 0.0), 1.0)  # sums of weights end a hair above 1
            place = bin_of(confidence, len(count_px))
            count_px[place] += 1
            right_px[place] += true == best
            confidence_sum[place] += confidence
            product *= max(float(probabilities[true, row, col]), _LEAST_PROBABILITY)
            factors += 1
            if factors == _FACTORS:
                loss_sum, product, factors = loss_sum - math.log(product), 1.0, 0
    return loss_sum - math.log(product)


class LiveEngine(TorchEngine):
    """An engine over a network that may go on learning."""

    def __init__(
        self, network: torch.nn.Module, normalization: Normalization, classes: int, temperature: float = 1.0
    ) -> None:
        # Not the parent's: there is no bundle yet, and the network is where it is.
        device = next(network.parameters()).device
        self._stand(device, normalization, None)
        self.batch_size = 1 if device.type == "cpu" else _BATCH
        self.classes = classes
        self._temperature = temperature
        self._network = network


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
        """Return scores without a pixel, of the classes that are learned."""
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
class _MappedScene:
    """A prepared scene as what can be mapped."""

    scene: PreparedScene

    @property
    def path(self) -> str:
        return self.scene.id

    def read(self, window: Window) -> Patch:
        return self.scene.read(window)


def score_scene(plan: TrainingPlan, engine: LiveEngine, scene: PreparedScene, seen: Seen = lambda *_: None) -> Scores:
    """Map the areas of a scene and count every pixel whose class is learned.

    Raises SceneError where the scene cannot be read, DivergedError where the network gives no number.
    """
    scores = Scores.empty(plan.legend, plan.output_codes)
    grid = WindowGrid(*scene.shape, plan.window_px, plan.overlap_px)
    mapping = SceneMapping(_MappedScene(scene), grid, DEFAULT_BLEND, engine.batch_size, plan.output_codes)
    for tile in (tile for area in scene.areas for tile in _tiles(area)):
        for window, probabilities, valid in blended(mapping, engine, tile):
            codes = scene.codes(window)
            counted, predicted = _counted(plan, engine, codes, probabilities, valid)
            if math.isnan(counted.loss_sum):
                raise DivergedError(
                    f"the network returned NaN for pixels of {scene.id}, which validates; a smaller `lr` or `clip=1` "
                    "may help"
                )
            scores = scores.merge(counted)
            seen(scene, window, _certain(plan, codes), predicted)
    return scores


def _tiles(area: Window) -> list[Window]:
    return [
        Window(area.row + tile.row, area.col + tile.col, tile.height, tile.width)
        for tile in tiles(area.height, area.width, TILE_PX, TILE_PX)
    ]


def _certain(plan: TrainingPlan, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the codes of classes, 255 where several are open."""
    return np.where(np.isin(codes, plan.legend.codes), codes, np.uint8(NODATA)) if plan.members else codes


def _counted(
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
