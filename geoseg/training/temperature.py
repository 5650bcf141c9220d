"""One number that makes a network's confidence honest: what its logits are divided by before the softmax."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.errors import UsageError

LOWEST, HIGHEST = 0.05, 20.0
"""Between these a temperature is looked for; a network that wants another is not worth calibrating."""
_STEPS = 60
_PRECISION = 1e-9
_CHUNK = 1 << 18

Numbers: TypeAlias = NDArray[np.float32] | torch.Tensor
Codes: TypeAlias = NDArray[np.int64] | torch.Tensor


def fit_temperature(logits: Numbers, targets: Codes, ignore: int = 255) -> float:
    """Return the temperature, 0.05 to 20, at which logits (pixel, class) say best how sure they may be.

    The one that minimizes the negative log likelihood of targets (pixel,), channel numbers (Guo et al. 2017, arXiv
    1706.04599, section 4.2). In 1 / T that is convex, so Newton's method, kept inside a shrinking bracket, finds it
    whatever it starts from; the same for the same pixels. Pixels whose target is `ignore`, or with a logit that is not
    finite, do not count; with none left the temperature is 1. UsageError for shapes that do not belong together and for
    targets that are no channel.
    """
    scores, places = _checked(logits, targets, ignore)
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


def _checked(logits: Numbers, targets: Codes, ignore: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pixels that count: logits (pixel, class) and targets (pixel,)."""
    scores, places = torch.as_tensor(logits).detach(), torch.as_tensor(targets).long()
    if scores.ndim != 2 or places.shape != scores.shape[:1]:
        raise UsageError(
            f"logits are (pixel, class) and targets (pixel,), got {tuple(scores.shape)} and {tuple(places.shape)}"
        )
    counted = (places != ignore) & scores.isfinite().all(dim=1)
    scores, places = scores[counted], places[counted]
    if len(places) and not 0 <= int(places.min()) <= int(places.max()) < scores.shape[1]:
        raise UsageError(
            f"targets are channels 0 to {scores.shape[1] - 1}, or {ignore} to be ignored, "
            f"got {int(places.min())} to {int(places.max())}"
        )
    return scores, places


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
