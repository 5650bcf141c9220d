"""Squares of a grid that the network does not see (GridMask, Chen et al. 2020, arXiv 2001.04086)."""

from __future__ import annotations

import torch
from torch import Tensor


def grid_dropped(out_px: tuple[int, int], cells: Tensor, ratio: float, offset: Tensor) -> Tensor:
    """Return bool (n,row,col), True = dropped: in each of `cells` (n,) cells a side, a square of `ratio` of its side.

    The offset (n,2) moves the grid right and down by shares of a cell. `cells` fit in the longer side.
    """
    rows, cols = out_px
    cell_px = max(rows, cols) / cells
    down, across = (
        ((torch.arange(size, device=cells.device) + 0.5) / cell_px[:, None] + offset[:, axis, None]).frac() < ratio
        for size, axis in ((rows, 1), (cols, 0))
    )
    return down[:, :, None] & across[:, None, :]
