"""Geometry: one sampling for all that needs new pixel values, and the symmetries of the square.

Element e of 0 to 7: transposed if e & 4, then turned over left-right if e & 1, then top-bottom if e & 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from geoseg.legend import NODATA
from geoseg.training.augment.pixels import unweigh, weigh


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """One warp per sample, as drawn; an operation that was not drawn has the values that change nothing.

    Lengths are shares of half the shorter side of the output. Pixels go through it from the output back to the
    source: elastic and grid distortion, optical distortion, then rotation, scale and shift.
    """

    shift: Tensor
    """(n,2): right and down."""
    scale: Tensor
    """(n,): above 1 things look bigger."""
    radians: Tensor
    """(n,): clockwise as seen."""
    bend: Tensor
    """(n,): a point at radius r is read at r (1 + bend r²)."""
    elastic: Tensor
    """(n,2,knots,knots): control points of the displacement, right and down."""
    grid: Tensor
    """(n,2,cells): widths of the columns and heights of the rows of the distorted grid, each 1 at rest."""


def source_px(warp: Warp, out_px: tuple[int, int], in_px: tuple[int, int]) -> Tensor:
    """Return (n,row,col,2) float32: the column and row in the source of each output pixel's center."""
    rows, cols = out_px
    half = min(rows, cols) / 2
    axes = [(torch.arange(size, device=warp.scale.device) - (size - 1) / 2) / half for size in (cols, rows)]
    x, y = (_stretched(warp.grid[:, axis], axes[axis]) for axis in (0, 1))
    pushed = _displacement(warp.elastic, out_px)
    x, y = x[:, None, :] + pushed[:, 0], y[:, :, None] + pushed[:, 1]
    bent = 1 + warp.bend[:, None, None] * (x.square() + y.square())
    x, y = x * bent - warp.shift[:, 0, None, None], y * bent - warp.shift[:, 1, None, None]
    cosine, sine = (
        function(warp.radians)[:, None, None] / warp.scale[:, None, None] for function in (torch.cos, torch.sin)
    )
    x, y = cosine * x + sine * y, cosine * y - sine * x
    return torch.stack((x * half + (in_px[1] - 1) / 2, y * half + (in_px[0] - 1) / 2), dim=-1)


def sample(image: Tensor, valid: Tensor, codes: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Read image (n,band,row,col), valid and codes (n,row,col) at `source`: image bilinear, the others nearest.

    Outside and where the nearest source pixel is invalid, valid is False, codes are 255 and the image is 0. Invalid
    pixels, and what lies outside, weigh nothing: they do not bleed into their valid neighbors.
    """
    height, width = valid.shape[-2:]
    nearest = source.round().long()
    col, row = nearest[..., 0], nearest[..., 1]
    inside = (col >= 0) & (col < width) & (row >= 0) & (row < height)
    index = (row.clamp(0, height - 1) * width + col.clamp(0, width - 1)).flatten(1)
    kept = inside & valid.flatten(1).gather(1, index).view_as(inside)
    found = codes.flatten(1).gather(1, index).view_as(inside).masked_fill(~kept, NODATA)
    size = torch.tensor([max(width - 1, 1), max(height - 1, 1)], device=source.device)
    at = source * (2 / size) - 1
    mixed = grid_sample(weigh(image, valid), at, mode="bilinear", padding_mode="zeros", align_corners=True)
    # The nearest pixel alone weighs a quarter or more, so this divides by nothing small.
    return unweigh(mixed, 0.125).masked_fill_(~kept[:, None], 0), kept, found


def _stretched(widths: Tensor, at: Tensor) -> Tensor:
    """Return (n,size): the positions `at` (size,) on a line whose cells have other widths; its ends stay."""
    cells = widths.shape[1]
    if cells == 1:
        return at.expand(len(widths), -1)
    ends = 2 * at.abs().amax().clamp_min(torch.finfo(at.dtype).tiny)
    cell = (at / ends + 0.5) * cells
    index = cell.floor().clamp(0, cells - 1).long()
    share = widths / widths.sum(dim=1, keepdim=True)
    before = share.cumsum(dim=1) - share
    return (before[:, index] + share[:, index] * (cell - index) - 0.5) * ends


def _displacement(control: Tensor, out_px: tuple[int, int]) -> Tensor:
    """Return (n,2,row,col): a smooth field of a few control points; it never goes beyond the largest of them."""
    knots = control.shape[-1]
    down, across = (_spline(size, knots, control.device) for size in out_px)
    return torch.einsum("rk,nakl,cl->narc", down, control, across)


def _spline(size: int, knots: int, device: torch.device) -> Tensor:
    """Return (size,knots): cubic B-spline weights of knots along a side, the first and the last at its ends."""
    at = torch.linspace(0, knots - 1, size, device=device)
    away = (at[:, None] - torch.arange(-1, knots + 1, device=device)).abs()
    near, far = 2 / 3 - away.square() + away**3 / 2, (2 - away).clamp_min(0) ** 3 / 6
    weights = torch.where(away < 1, near, far)
    inner = weights[:, 1:-1].clone()
    inner[:, 0] += weights[:, 0]  # beyond the ends the last knot goes on
    inner[:, -1] += weights[:, -1]
    return inner


def reach(degrees: float, scale: float, shift: float, bend: float, displacement: float) -> float:
    """Return how far from the center the largest warp reads, in half sides of a square output, never below 1."""
    corner = 1 + displacement
    corner *= 1 + 2 * bend * corner**2
    angle = math.radians(min(degrees, 45))
    return max(1.0, (corner + shift) * (math.cos(angle) + math.sin(angle)) * (1 + scale))


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
