"""Means of pixels on a device, for a network that sees fewer of them, and its probabilities brought back."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from geoseg.model.engines.torch_sweep import Batch


class Means:
    """Windows of `window_px` pixels a side, of which a network sees means, `network_px` a side.

    An averaged pixel is the mean of the valid part of the ground that it covers, invalid where there is none.
    """

    def __init__(self, window_px: int, network_px: int, device: torch.device) -> None:
        self._window_px = window_px
        places, shares = _taps(window_px, network_px)
        self._places = [torch.from_numpy(place).to(device) for place in places]
        self._shares = [torch.from_numpy(share).to(device) for share in shares]

    def of(self, batch: Batch) -> Batch:
        """Return what the network sees of windows; their weights stay those of the windows."""
        stored = batch.stored.int() & 0xFFFF if batch.unsigned else batch.stored
        area = self._sums(batch.valid.float())
        sums = self._sums(torch.where(batch.valid, stored.float(), 0.0))
        means = torch.where(area > 0, sums / area, 0.0)
        return replace(batch, stored=means, valid=area > 0, unsigned=False)

    def interpolated(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Return probabilities (n, class, row, col) of all pixels, bilinear between the middles of the averaged."""
        side = self._window_px
        return functional.interpolate(probabilities, (side, side), mode="bilinear", align_corners=False)

    def _sums(self, values: torch.Tensor) -> torch.Tensor:
        """Return sums (n, band, row, col) over the ground of each averaged pixel, in the order of the pixels."""
        for axis, across in ((2, (-1, 1)), (3, (-1,))):
            taps = [
                values.index_select(axis, place) * share.view(across)
                for place, share in zip(self._places, self._shares, strict=True)
            ]
            values = functools.reduce(torch.add, taps)
        return values


def _taps(window_px: int, network_px: int) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float32]]]:
    """Return which pixels of an axis lie in each averaged one, a first, a second and so on, and how much of each."""
    edges = [index * window_px / network_px for index in range(network_px + 1)]
    spans = [(int(top), min(math.ceil(bottom), window_px)) for top, bottom in itertools.pairwise(edges)]
    most = max(stop - start for start, stop in spans)
    places = np.zeros((most, network_px), np.int64)
    shares = np.zeros((most, network_px), np.float32)
    for index, (start, stop) in enumerate(spans):
        for tap, pixel in enumerate(range(start, stop)):
            places[tap, index] = pixel
            shares[tap, index] = min(pixel + 1.0, edges[index + 1]) - max(float(pixel), edges[index])
    return list(places), list(shares)
