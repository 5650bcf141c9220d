"""Validation on whole scenes that are not trained on; the temperature that calibrates the network's confidence."""

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
from geoseg.model import Engine, Normalization, TorchEngine, Weights
from geoseg.raster import Window, WindowGrid
from geoseg.training.network import channel_table
from geoseg.training.plan import TrainingPlan

_LEAST_PROBABILITY = 1e-7
"""Keeps the loss finite where the network is completely certain and wrong."""
_BATCH = 4
"""Windows that a GPU scores at once; a CPU gains nothing from more than one, and batches are padded."""
_FACTORS = 32
"""Probabilities multiplied before taking a logarithm: 1e-7 to this power does not underflow."""
TILE_PX = 4096
"""Edge of the part mapped at a time: the rows of windows of a wide scene would not fit in memory."""

LOWEST, HIGHEST = 0.05, 20.0
"""Range of the temperature; a network that needs another is not worth calibrating."""
_STEPS = 60
_PRECISION = 1e-9
_CHUNK = 1 << 18
_SAMPLE_PX = 400_000
"""Pixels to fit the temperature with: a single number needs no more."""
_MOST_STEP_PX = 8
"""Of large sets, at least every eighth pixel of a row and of a column is used: closer neighbors are similar."""

Seen = Callable[[PreparedScene, Window, NDArray[np.uint8], NDArray[np.uint8]], None]
"""Called with a scene, a window of it, and the codes of the reference and of the network, each (row, col); a pixel of
the reference that may be of several classes has a code that the legend lacks."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelCounts:
    """The results of one pass over some pixels."""

    channel: NDArray[np.uint8]
    """(row, col): the most probable channel of every pixel, counted or not; the first in a tie."""
    pixels: NDArray[np.int64]
    """(reference, map), by channel."""
    calibration: Calibration
    loss_sum: float
    """Negative log-likelihood of the pixels counted; nan if a probability of any is NaN."""


def count(probabilities: NDArray[np.float32], truth: NDArray[np.uint8]) -> PixelCounts:
    """Count pixels by their probabilities (channel, row, col) and true channel (row, col), 255 = not counted."""
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
    """Fill the zero-initialized arrays, and return the loss."""
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
            confidence = min(max(float(most), 0.0), 1.0)  # blended sums may slightly exceed 1
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
    """An engine for a network that is still being trained."""

    def __init__(
        self, network: torch.nn.Module, normalization: Normalization, classes: int, temperature: float = 1.0
    ) -> None:
        # Not the parent's __init__: there is no bundle yet, and the network is already on its device.
        device = next(network.parameters()).device
        self._set_up(device, normalization, None)
        self.batch_size = 1 if device.type == "cpu" else _BATCH
        self.classes = classes
        self._temperature = temperature
        self._network = network


class _LogitEngine(LiveEngine):
    """An engine whose probabilities are logits, without weights: what the temperature divides."""

    def _weighted(self, logits: torch.Tensor, _rows: torch.Tensor, _cols: torch.Tensor) -> torch.Tensor:
        return logits.float()


@dataclass(frozen=True, slots=True)
class Scores:
    """Counts over scenes; summed, never averaged."""

    matrix: ConfusionMatrix
    calibration: Calibration = field(default_factory=Calibration.empty)
    loss_sum: float = 0.0
    """Negative log-likelihood of all pixels."""
    several_px: int = 0
    """Pixels not counted because their label allows several classes."""

    @classmethod
    def empty(cls, legend: Legend, output_codes: tuple[int, ...]) -> Self:
        """Return empty scores for the classes that are learned."""
        return cls(ConfusionMatrix.of_legend(legend).without(set(legend.codes) - set(output_codes)))

    def merge(self, other: Scores) -> Self:
        """Return the sum of both scores."""
        return type(self)(
            self.matrix.merge(other.matrix),
            self.calibration.merge(other.calibration),
            self.loss_sum + other.loss_sum,
            self.several_px + other.several_px,
        )

    @property
    def loss(self) -> float:
        """The mean cross-entropy per pixel."""
        return self.loss_sum / self.matrix.total_px if self.matrix.total_px else float("nan")


def score_scene(plan: TrainingPlan, engine: LiveEngine, scene: PreparedScene, seen: Seen = lambda *_: None) -> Scores:
    """Map the areas of a scene and count every pixel whose class is learned.

    Raises SceneError if the scene cannot be read, DivergedError if the network returns NaN.
    """
    scores = Scores.empty(plan.legend, plan.output_codes)
    grid = WindowGrid(*scene.shape, plan.window_px, plan.overlap_px)
    mapping = SceneMapping(scene, grid, DEFAULT_BLEND, engine.batch_size, plan.output_codes)
    for tile in (tile for area in scene.areas for tile in area.tiles(TILE_PX, TILE_PX)):
        for window, probabilities, valid in blended(mapping, engine, tile):
            codes = scene.codes(window)
            counted, predicted = _scored(plan, engine, codes, probabilities, valid)
            if math.isnan(counted.loss_sum):
                raise DivergedError(
                    f"the network returned NaN for pixels of {scene.id} around row {window.row}, col {window.col} in "
                    "validation. A smaller `lr` or `clip=1` may help; look there for extreme or undeclared nodata "
                    "values"
                )
            scores = scores.merge(counted)
            seen(scene, window, codes, predicted)
    return scores


def _scored(
    plan: TrainingPlan,
    engine: Engine,
    codes: NDArray[np.uint8],
    probabilities: Any,  # noqa: ANN401 - an engine's own kind of array
    valid: NDArray[np.bool_],
) -> tuple[Scores, NDArray[np.uint8]]:
    """Return the scores of some pixels, and the codes (row, col) that the network assigns."""
    truth = channel_table(plan.output_codes).astype(np.uint8)[codes]
    truth[~valid] = NODATA
    counts = count(engine.download(probabilities), truth)
    empty = Scores.empty(plan.legend, plan.output_codes)
    # the matrix is in the legend's order, which the network's channels may not be
    order = [plan.output_codes.index(code) for code in empty.matrix.codes]
    matrix = replace(empty.matrix, counts=counts.pixels[np.ix_(order, order)])
    predicted = np.asarray(plan.output_codes, np.uint8)[counts.channel]
    several_px = int(np.isin(codes[valid], [code for code, _ in plan.sets]).sum()) if plan.sets else 0
    return Scores(matrix, counts.calibration, counts.loss_sum, several_px), predicted


def calibrated_temperature(plan: TrainingPlan, network: torch.nn.Module) -> float:
    """Return the temperature fitted to validation; 1 without validation."""
    return fit_temperature(*sample_logits(plan, network))


def fit_temperature(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Return the temperature, 0.05 to 20, that best calibrates logits (pixel, class).

    It minimizes the negative log likelihood of targets (pixel,), channel numbers (Guo et al. 2017, arXiv 1706.04599,
    section 4.2). That is convex in 1 / T, so Newton's method, kept inside a shrinking bracket, converges from any
    start, and always to the same value. Pixels with a logit that is not finite are ignored; if none is left, the
    temperature is 1.
    """
    counted = logits.isfinite().all(dim=1)
    scores, places = logits[counted], targets[counted]
    if not len(places):
        return 1.0
    low, high = 1 / HIGHEST, 1 / LOWEST
    if _derivatives(scores, places, low)[0] >= 0:
        return HIGHEST
    if _derivatives(scores, places, high)[0] <= 0:
        return LOWEST
    inverse = 1.0
    for _ in range(_STEPS):
        slope, curve = _derivatives(scores, places, inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        newton = inverse - slope / curve if curve > 0 else math.inf
        step = newton if low < newton < high else math.sqrt(low * high)
        if abs(step - inverse) <= _PRECISION * inverse:
            break
        inverse = step
    return 1 / inverse


def _derivatives(scores: torch.Tensor, places: torch.Tensor, inverse: float) -> tuple[float, float]:
    """Return the first and second derivative of the negative log likelihood with respect to 1 / T.

    With p = softmax(z / T) they are the sums over the pixels of E_p[z] - z[target] and of Var_p[z].
    """
    slope = curve = 0.0
    for first in range(0, len(places), _CHUNK):
        z = scores[first : first + _CHUNK].double()
        p = (z * inverse).softmax(dim=1)
        mean = (p * z).sum(dim=1)
        slope += float((mean - z.gather(1, places[first : first + _CHUNK, None])[:, 0]).sum())
        curve += float((p * (z - mean[:, None]) ** 2).sum())
    return slope, curve


def sample_logits(plan: TrainingPlan, network: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (pixel, class) and channel numbers (pixel,) of pixels spread over the validation areas.

    Gaps, and what is missing of a scene smaller than the window, are filled as in a map.
    """
    engine = _LogitEngine(network, plan.normalization, len(plan.output_codes))
    windows = [(scene, window) for scene in plan.valid for window in _windows(plan, scene)]
    step_px = min(_MOST_STEP_PX, max(1, math.ceil(math.sqrt(len(windows) * plan.window_px**2 / _SAMPLE_PX))))
    every = max(1, len(windows) * (plan.window_px // step_px) ** 2 // _SAMPLE_PX)
    samples = [_sampled(plan, engine, scene, window, step_px) for scene, window in windows[::every]]
    if not samples:
        return torch.empty(0, len(plan.output_codes)), torch.empty(0, dtype=torch.int64)
    logits, targets = zip(*samples, strict=True)
    return torch.cat(logits), torch.cat(targets)


def _windows(plan: TrainingPlan, scene: PreparedScene) -> list[Window]:
    """Return the windows that touch an area, cut as in predict but without overlap; each only once."""
    grid = WindowGrid(*scene.shape, plan.window_px, 0)
    return list(dict.fromkeys(window for area in scene.areas for window in grid.windows_touching(area)))


def _sampled(
    plan: TrainingPlan, engine: _LogitEngine, scene: PreparedScene, window: Window, step_px: int
) -> tuple[torch.Tensor, torch.Tensor]:
    patch, weights = scene.read(window), np.ones((1, plan.window_px), np.float32)
    pixels, whole = engine.upload(patch.data, patch.valid), Window(0, 0, *window.shape)
    logits = engine.probabilities(pixels, [whole], Weights(weights, weights))[0].cpu()
    targets = torch.from_numpy(channel_table(plan.output_codes)[scene.codes(window)])
    thin = slice(step_px // 2, None, step_px)
    flat, reference = logits[:, thin, thin].flatten(1).T, targets[thin, thin].flatten()
    return flat[reference < 255], reference[reference < 255]
