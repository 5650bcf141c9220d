"""The eight symmetries of the square, as exact permutations of pixels.

Element e of 0 to 7: transposed if e & 4, then turned over left-right if e & 1, then top-bottom if e & 2.
"""

from __future__ import annotations

import torch
from torch import Tensor


def compose(rows: Tensor, columns: Tensor, quarters: Tensor, transposes: Tensor) -> Tensor:
    """Return the element (n,) int64 for: flip rows (vflip), flip columns (hflip), quarter turns, then transpose.

    Flips and transposes are bool (n,), quarter turns (counter-clockwise, as torch.rot90 does) are int64 (n,).
    """
    swapped = torch.zeros_like(rows)
    for turn in range(1, 4):  # a quarter turn is a transpose, then the rows reversed
        turned = quarters >= turn
        rows, columns = torch.where(turned, ~columns, rows), torch.where(turned, rows, columns)
        swapped = swapped ^ turned
    rows, columns = torch.where(transposes, columns, rows), torch.where(transposes, rows, columns)
    swapped = swapped ^ transposes
    return columns.long() + 2 * rows.long() + 4 * swapped.long()


def turn(pixels: Tensor, element: int) -> Tensor:
    """Return (..., row, col) pixels turned by one element."""
    if element & 4:
        pixels = pixels.transpose(-1, -2)
    axes = [axis for bit, axis in ((1, -1), (2, -2)) if element & bit]
    return pixels.flip(axes) if axes else pixels


def turn_each(pixels: Tensor, elements: Tensor) -> Tensor:
    """Return (n, ..., row, col) pixels, sample i by elements[i] (on the CPU); square where any is transposed."""
    result = torch.empty_like(pixels)
    for number, element in enumerate(elements.tolist()):
        result[number] = turn(pixels[number], element)
    return result
