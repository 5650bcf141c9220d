"""Pixels with their weights as one more band: what mixes neighbours mixes both; the invalid weigh nothing."""

from __future__ import annotations

from torch import Tensor


def weigh(image: Tensor, valid: Tensor) -> Tensor:
    """Return (n,band+1,row,col): the image, 0 where invalid (even where it is NaN there), then 1 where valid."""
    count, bands, *size = image.shape
    weighed = image.new_empty((count, bands + 1, *size))
    weighed[:, :-1] = image
    weighed[:, -1] = 1
    return weighed.masked_fill_(~valid[:, None], 0)


def unweigh(mixed: Tensor, least: float) -> Tensor:
    """Return (n,band,row,col) from mixed pixels and weights; below the weight `least` it means nothing."""
    return mixed[:, :-1] / mixed[:, -1:].clamp_min(least)
