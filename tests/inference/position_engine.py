"""A fake network whose output depends on each pixel's position in the window and its neighbors: any seam shows."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.model import UPRIGHT, OutOfMemory, Turn, Weights
from geoseg.raster import Window

CLASSES = 4


def window_probabilities(data: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return probabilities (class, row, col) of one window (band, row, col)."""
    height, width = valid.shape
    brightness = np.where(valid, data.astype(np.float32).sum(axis=0), np.float32(0))
    neighbour = np.roll(brightness, (1, 3), axis=(0, 1))
    row, col = np.indices((height, width), dtype=np.float32)
    logits = np.stack(
        [
            np.sin(
                brightness * np.float32(0.01 * (k + 1)) + row * np.float32(0.3 + 0.1 * k) - col * np.float32(0.2 * k)
            )
            + np.cos(neighbour * np.float32(0.02) + np.float32(k))
            for k in range(CLASSES)
        ]
    )
    odds = np.exp(logits * np.float32(2))
    return np.asarray(odds / odds.sum(axis=0), dtype=np.float32)


class PositionEngine:
    """An engine over that network; records its batches, and runs out of memory above a batch size."""

    device = "cpu"
    classes = CLASSES
    xp: ModuleType = np

    def __init__(self, fits: int = 10**9) -> None:
        self.fits = fits
        self.batches: list[int] = []

    def upload(self, data: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        return data, valid

    def probabilities(
        self,
        footprint: tuple[NDArray[Any], NDArray[np.bool_]],
        windows: Sequence[Window],
        weights: Weights,
        turn: Turn = UPRIGHT,
    ) -> NDArray[np.float32]:
        if len(windows) > self.fits:
            raise OutOfMemory
        self.batches.append(len(windows))
        data, valid = footprint
        assert {(len(windows), *window.shape) for window in windows} == {weights.shape}
        cuts = [[turn.of_pixels(each[..., w.rows, w.cols], np) for each in (data, valid)] for w in windows]
        scored = np.stack([window_probabilities(*cut) for cut in cuts])
        return scored * (weights.rows[:, None, :, None] * weights.cols[:, None, None, :])

    def zeros(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return np.zeros(shape, np.float32)

    def download(self, array: NDArray[Any]) -> NDArray[Any]:
        return array


class TorchPositionEngine(PositionEngine):
    """The same arithmetic, with sums on torch arrays as on a GPU."""

    xp: ModuleType = torch

    def probabilities(self, *arguments: Any) -> Any:
        return torch.from_numpy(super().probabilities(*arguments))

    def zeros(self, shape: tuple[int, ...]) -> Any:
        return torch.zeros(shape)

    def download(self, array: Any) -> NDArray[Any]:
        return np.asarray(array.numpy())
