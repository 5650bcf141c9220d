"""One number that makes a network's confidence honest: what its logits are divided by before the softmax."""

from __future__ import annotations

import math

import torch

from geoseg.dataset import PreparedScene
from geoseg.raster import Window, WindowGrid
from geoseg.training.network import channel_table, normalized
from geoseg.training.plan import TrainingPlan

LOWEST, HIGHEST = 0.05, 20.0
"""Between these a temperature is looked for; a network that needs another is not worth calibrating."""
_STEPS = 60
_PRECISION = 1e-9
_CHUNK = 1 << 18
_SAMPLE_PX = 400_000
"""Pixels that fit the temperature: one number needs no more."""
_STEP_PX = 8
"""Neighbors say the same: every eighth pixel of a window."""


def calibrated_temperature(plan: TrainingPlan, network: torch.nn.Module) -> float:
    """Return the temperature that fits validation; 1 where there is none."""
    return fit_temperature(*sample_logits(plan, network))


def fit_temperature(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Return the temperature, 0.05 to 20, at which logits (pixel, class) say best how sure they may be.

    The one that minimizes the negative log likelihood of targets (pixel,), channel numbers (Guo et al. 2017, arXiv
    1706.04599, section 4.2). In 1 / T that is convex, so Newton's method, kept inside a shrinking bracket, finds it
    whatever it starts from; the same for the same pixels. Pixels with a logit that is not finite do not count; with
    none left the temperature is 1.
    """
    counted = logits.isfinite().all(dim=1)
    scores, places = logits[counted], targets[counted]
    if not len(places):
        return 1.0
    low, high = 1 / HIGHEST, 1 / LOWEST
    if _slopes(scores, places, low)[0] >= 0:
        return HIGHEST
    if _slopes(scores, places, high)[0] <= 0:
        return LOWEST
    inverse = 1.0
    for _ in range(_STEPS):
        slope, curve = _slopes(scores, places, inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        newton = inverse - slope / curve if curve > 0 else math.inf
        step = newton if low < newton < high else math.sqrt(low * high)
        if abs(step - inverse) <= _PRECISION * inverse:
            break
        inverse = step
    return 1 / inverse


def _slopes(scores: torch.Tensor, places: torch.Tensor, inverse: float) -> tuple[float, float]:
    """Return the first and second derivative of the negative log likelihood in 1 / T.

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
    """Return logits (pixel, class) and channel numbers (pixel,) of pixels spread over the validation areas."""
    windows = [(scene, window) for scene in plan.valid for window in _windows(plan, scene)]
    share = (plan.window_px // _STEP_PX) ** 2
    every = max(1, len(windows) * share // _SAMPLE_PX)
    found = [_sampled(plan, network, scene, window) for scene, window in windows[::every]]
    if not found:
        return torch.empty(0, len(plan.output_codes)), torch.empty(0, dtype=torch.int64)
    logits, targets = zip(*found, strict=True)
    return torch.cat(logits), torch.cat(targets)


def _windows(plan: TrainingPlan, scene: PreparedScene) -> list[Window]:
    """Return windows as predict cuts them, without overlap, that touch an area; one that touches two, once."""
    grid = WindowGrid(*scene.shape, plan.window_px, 0)
    return list(dict.fromkeys(window for area in scene.areas for window in grid.windows_touching(area)))


@torch.no_grad()
def _sampled(
    plan: TrainingPlan, network: torch.nn.Module, scene: PreparedScene, window: Window
) -> tuple[torch.Tensor, torch.Tensor]:
    patch = scene.read(window)
    device = next(network.parameters()).device
    gain, bias = (torch.from_numpy(values)[:, None, None] for values in plan.normalization.gain_bias())
    image = normalized(torch.from_numpy(patch.data[None]).float(), torch.from_numpy(patch.valid[None]), gain, bias)
    logits = network(image.to(device))[0].float().cpu()
    targets = torch.from_numpy(channel_table(plan.output_codes)[scene.codes(window)])
    thin = slice(_STEP_PX // 2, None, _STEP_PX)
    flat, reference = logits[:, thin, thin].flatten(1).T, targets[thin, thin].flatten()
    return flat[reference < 255], reference[reference < 255]
