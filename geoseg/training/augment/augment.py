"""Augmentation of a batch of crops, each changed in its own way, with all randomness from one generator.

All warps together sample the pixels only once. The symmetries of the square are numbered: element e, 0 to 7, is
transposed if e & 4, then flipped left-right if e & 1, then top-bottom if e & 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from geoseg.errors import UsageError
from geoseg.legend import NODATA
from geoseg.training.augment.pixels import (
    Tint,
    add_noise,
    gaussian_blur,
    grid_dropped,
    motion_blur,
    recolor,
    unweigh,
    weigh,
)
from geoseg.training.augment.spec import Augmentation

Chosen: TypeAlias = dict[str, Tensor]
"""For each possible operation, which samples get it: bool (n,) on the CPU."""

_ELASTIC_LIMIT = 2.5
"""Displacements are normal, clipped at this many standard deviations, so that none reads far outside."""
Crops: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Image float32 (n,band,row,col), valid bool (n,row,col), codes uint8 (n,row,col)."""

_WIDEST = 1.25
"""Crops are read at most this much wider than the output: 1.6 times the pixels; warps then rarely read outside."""

_WARPS = ("shift-scale-rotate", "optical-distortion", "grid-distortion", "elastic-distortion")
_Drawn = TypeVar("_Drawn", "Warp", Tint)


def augment(  # noqa: PLR0913 - a batch of crops is three tensors
    image: Tensor,
    valid: Tensor,
    codes: Tensor,
    how: Augmentation,
    generator: torch.Generator,
    *,
    bands: Sequence[str],
    out_px: int | tuple[int, int] | None = None,
) -> Crops:
    """Return the crops augmented, as new tensors on the same device.

    image: float32 (n,band,row,col), 0 to 1 of the value range; valid: bool (n,row,col), True = valid; codes: uint8
    (n,row,col), 255 = ignore; bands: their names. out_px (one number, or rows and columns; default: the crops' size):
    the size of the output, the center of the crops; around it, rotations and shifts find real pixels (`context_px`).

    Every pixel that a warp reads from outside, and every invalid one, becomes invalid with code 255; its value is
    finite, even if it was NaN, but meaningless. Grid dropout makes pixels invalid but keeps their codes by default: the
    network must infer them from context. Deterministic for a seeded generator; a CPU generator is best, since it avoids
    waiting for a GPU. UsageError for crops that do not fit together, or an output larger than the crops.
    """
    size_px = _output_px(image, how, out_px)
    _check_shapes(image, valid, codes, bands)
    with torch.no_grad():
        chosen = choose(how, len(image), generator)
        crops = _warped((image, valid, codes), size_px, how, chosen, generator)
        crops = _turned(crops, chosen, generator)
        degraded = _degraded(crops[0], crops[1], how, chosen, bands, generator)
        return _dropped((degraded, *crops[1:]), how, chosen, generator)


def context_px(how: Augmentation, out_px: int, widest: float = _WIDEST) -> int:
    """Return how wide crops should be for warps to find real pixels: at most `widest` times out_px.

    Returns out_px if nothing is warped. With widest=math.inf no warp ever reads outside.
    """
    if not any(how.operation(name) for name in _WARPS):
        return out_px
    place = "shift-scale-rotate"
    factor = reach(
        how.setting(place, "degrees"),
        how.setting(place, "scale"),
        2 * how.setting(place, "shift"),
        how.setting("optical-distortion", "bend"),
        2 * _ELASTIC_LIMIT * how.setting("elastic-distortion", "displacement"),
    )
    return math.ceil(out_px * min(factor, widest)) + 2


def _warped(
    crops: Crops, size_px: tuple[int, int], augmentation: Augmentation, chosen: Chosen, generator: torch.Generator
) -> Crops:
    """Return the centers of the crops: resampled if they are warped, otherwise unchanged pixel by pixel."""
    size = crops[1].shape[-2:]
    top, left = ((size_in - size_out) // 2 for size_in, size_out in zip(size, size_px, strict=True))
    image, valid, codes = (part[..., top : top + size_px[0], left : left + size_px[1]] for part in crops)
    image, valid, codes = image.masked_fill(~valid[:, None], 0), valid.clone(), codes.masked_fill(~valid, NODATA)
    warps = {name: chosen[name] for name in _WARPS if name in chosen}
    samples = _samples(torch.stack(list(warps.values())).any(dim=0)) if warps else torch.empty(0)
    if len(samples):
        warp = draw_warp(augmentation, {name: mask[samples] for name, mask in warps.items()}, generator)
        index = samples.to(image.device)
        source = source_px(_to_device(warp, image.device), size_px, (size[0], size[1]))
        wide_image, wide_valid, wide_codes = (part.index_select(0, index) for part in crops)
        resampled = sample(wide_image, wide_valid, wide_codes, source)
        for part, new in zip((image, valid, codes), resampled, strict=True):
            part.index_copy_(0, index, new)
    return image, valid, codes


def _turned(crops: Crops, chosen: Chosen, generator: torch.Generator) -> Crops:
    elements = draw_elements(chosen, len(crops[0]), generator)
    if not elements.any():
        return crops
    image, valid, codes = (turn_each(part, elements) for part in crops)
    return image, valid, codes


def _degraded(  # noqa: PLR0913, PLR0917 - private: the state of `augment`
    image: Tensor,
    valid: Tensor,
    augmentation: Augmentation,
    chosen: Chosen,
    bands: Sequence[str],
    generator: torch.Generator,
) -> Tensor:
    """Return the image with changed light, blur and noise, in their physical order."""
    for name in ("color", "motion-blur", "gaussian-blur", "noise"):
        samples = _samples(chosen[name]) if name in chosen else torch.empty(0)
        count, device = len(samples), image.device
        if not count:
            continue
        index = samples.to(device)
        pixels, mask = image.index_select(0, index), valid.index_select(0, index)
        if name == "color":
            tint = draw_tint(augmentation, count, len(bands), generator)
            pixels = recolor(pixels, mask, _to_device(tint, device), bands)
        elif name == "motion-blur":
            longest = augmentation.setting(name, "length_px")
            length = uniform(generator, (count,), min(3, longest), longest).to(device)
            pixels = motion_blur(pixels, mask, length, uniform(generator, (count,), 0, math.pi).to(device), longest)
        elif name == "gaussian-blur":
            longest = augmentation.setting(name, "sigma_px")
            pixels = gaussian_blur(pixels, mask, uniform(generator, (count,), 0.1, longest).to(device), longest)
        else:
            level = uniform(generator, (count,), 0, augmentation.setting(name, "level")).to(device)
            pixels = add_noise(pixels, mask, level, own_generator(generator, device))
        image.index_copy_(0, index, pixels)
    return image


def _dropped(crops: Crops, augmentation: Augmentation, chosen: Chosen, generator: torch.Generator) -> Crops:
    image, valid, codes = crops
    operation = augmentation.operation("grid-dropout")
    samples = _samples(chosen["grid-dropout"]) if operation else torch.empty(0)
    if operation is None or not len(samples):
        return crops
    device, size = image.device, (valid.shape[-2], valid.shape[-1])
    cells = uniform(generator, (len(samples),), 2, operation["cells"]).to(device)
    offset = uniform(generator, (len(samples), 2)).to(device)
    index = samples.to(device)
    dropped = grid_dropped(size, cells, operation["ratio"], offset)
    valid[index] = valid[index] & ~dropped
    if operation["drop_codes"]:
        codes[index] = codes[index].masked_fill(dropped, NODATA)
    return image, valid, codes


def _samples(mask: Tensor) -> Tensor:
    return mask.nonzero().flatten()


def _to_device(drawn: _Drawn, device: torch.device) -> _Drawn:
    return type(drawn)(**{field.name: getattr(drawn, field.name).to(device) for field in fields(drawn)})


def _output_px(image: Tensor, how: Augmentation, out_px: int | tuple[int, int] | None) -> tuple[int, int]:
    available = (int(image.shape[-2]), int(image.shape[-1]))
    size_px = available if out_px is None else (out_px, out_px) if isinstance(out_px, int) else out_px
    if not all(1 <= want <= size for want, size in zip(size_px, available, strict=True)):
        raise UsageError(
            f"augmented crops cannot be {size_px} px (rows, columns), the crops given are {available}; cut wider crops"
        )
    if how.needs_square and size_px[0] != size_px[1]:
        raise UsageError(
            f"rot90 and transpose need square crops, got {size_px} px (rows, columns); cut squares, or leave both out"
        )
    return size_px


def _check_shapes(image: Tensor, valid: Tensor, codes: Tensor, bands: Sequence[str]) -> None:
    types = (image.dtype, valid.dtype, codes.dtype)
    if types != (torch.float32, torch.bool, torch.uint8):
        raise UsageError(f"crops are float32, bool and uint8 (image, valid, codes), got {types}")
    shape = (len(image), *image.shape[-2:])
    if image.ndim != 4 or valid.shape != shape or codes.shape != shape or image.shape[1] != len(bands):
        shapes = ", ".join(str(tuple(part.shape)) for part in (image, valid, codes))
        raise UsageError(
            f"crops are an image (n,band,row,col), valid and codes (n,row,col), got {shapes}; {len(bands)} bands"
        )


# --- random draws: which crops get which operations, and how strong; kept on the CPU


def choose(how: Augmentation, count: int, generator: torch.Generator) -> Chosen:
    """Return which of `count` samples get which operation: steps are drawn independently, then one operation each."""
    chosen: Chosen = {}
    for step in how.steps:
        done = uniform(generator, (count,)) < step.probability
        drawn = (uniform(generator, (count,)) * len(step.operations)).long()
        chosen |= {operation.name: done & (drawn == place) for place, operation in enumerate(step.operations)}
    return chosen


def draw_elements(chosen: Chosen, count: int, generator: torch.Generator) -> Tensor:
    """Return each sample's symmetry of the square, int64 (count,); rot90 is one of the four quarter turns."""
    never = torch.zeros(count, dtype=torch.bool)
    rows, columns, swaps = (chosen.get(name, never) for name in ("vflip", "hflip", "transpose"))
    quarters = (uniform(generator, (count,)) * 4).long() * chosen.get("rot90", never)
    return compose(rows, columns, quarters, swaps)


def draw_warp(how: Augmentation, chosen: Chosen, generator: torch.Generator) -> Warp:
    """Return a warp for each sample of `chosen`; sides and lengths are in the half sides of `Warp`."""
    count = len(next(iter(chosen.values())))

    def drawn(operation: str, setting: str, shape: tuple[int, ...] = ()) -> Tensor:
        strength = how.setting(operation, setting) * _chosen_share(chosen, operation, count)
        return strength.view(count, *[1 for _ in shape]) * symmetric(generator, (count, *shape))

    place = "shift-scale-rotate"
    knots = int(how.setting("elastic-distortion", "knots", 2))
    cells = int(how.setting("grid-distortion", "cells", 1))
    bumps = torch.randn((count, 2, knots, knots), generator=generator, device=generator.device).cpu()
    moved = how.setting("elastic-distortion", "displacement") * _chosen_share(chosen, "elastic-distortion", count)
    return Warp(
        shift=2 * drawn(place, "shift", (2,)),
        scale=(1 + how.setting(place, "scale"))
        ** (symmetric(generator, (count,)) * _chosen_share(chosen, place, count)),
        radians=drawn(place, "degrees") * (math.pi / 180),
        bend=drawn("optical-distortion", "bend"),
        elastic=2 * moved.view(count, 1, 1, 1) * bumps.clamp(-_ELASTIC_LIMIT, _ELASTIC_LIMIT),
        grid=1 + drawn("grid-distortion", "stretch", (2, cells)),
    )


def draw_tint(how: Augmentation, count: int, bands: int, generator: torch.Generator) -> Tint:
    """Return a color change for each of `count` samples; a setting of 0.2 means a factor of 1 / 1.2 to 1.2."""

    def factor(setting: str, shape: tuple[int, ...] = ()) -> Tensor:
        return (1 + how.setting("color", setting)) ** symmetric(generator, (count, *shape))

    return Tint(
        brightness=factor("brightness"),
        contrast=factor("contrast"),
        gamma=factor("gamma"),
        saturation=factor("saturation"),
        hue=symmetric(generator, (count,)) * math.radians(how.setting("color", "hue_degrees")),
        gains=factor("gain", (bands,)),
    )


def uniform(generator: torch.Generator, shape: tuple[int, ...], low: float = 0, high: float = 1) -> Tensor:
    """Return float32 numbers from low (inclusive) to high."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device).cpu()


def symmetric(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """Return float32 numbers from -1 to 1."""
    return uniform(generator, shape, -1, 1)


def own_generator(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """Return a generator on a device, seeded by another's next number: draws many numbers where they are used."""
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    return torch.Generator(device).manual_seed(int(seed))


def _chosen_share(chosen: Chosen, operation: str, count: int) -> Tensor:
    return chosen[operation].float() if operation in chosen else torch.zeros(count)


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """One warp per sample; operations that were not drawn have neutral values.

    Lengths are shares of half the shorter side of the output. A warp maps output pixels back to the source: elastic and
    grid distortion, optical distortion, then rotation, scale and shift.
    """

    shift: Tensor
    """(n,2): right and down."""
    scale: Tensor
    """(n,): above 1 things look larger."""
    radians: Tensor
    """(n,): clockwise as viewed."""
    bend: Tensor
    """(n,): a point at radius r is read at r (1 + bend r²)."""
    elastic: Tensor
    """(n,2,knots,knots): control points of the displacement, right and down."""
    grid: Tensor
    """(n,2,cells): widths of the columns and heights of the rows of the distorted grid, each 1 at rest."""


def source_px(warp: Warp, out_px: tuple[int, int], in_px: tuple[int, int]) -> Tensor:
    """Return (n,row,col,2) float32: the source column and row of each output pixel's center."""
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

    Outside, and where the nearest source pixel is invalid, valid is False, codes are 255 and the image is 0. Invalid
    and outside pixels have weight 0: they do not bleed into their valid neighbors.
    """
    height, width = valid.shape[-2:]
    nearest = source.round().long()
    col, row = nearest[..., 0], nearest[..., 1]
    inside = (col >= 0) & (col < width) & (row >= 0) & (row < height)
    index = (row.clamp(0, height - 1) * width + col.clamp(0, width - 1)).flatten(1)
    is_valid = inside & valid.flatten(1).gather(1, index).view_as(inside)
    sampled_codes = codes.flatten(1).gather(1, index).view_as(inside).masked_fill(~is_valid, NODATA)
    size = torch.tensor([max(width - 1, 1), max(height - 1, 1)], device=source.device)
    at = source * (2 / size) - 1
    mixed = grid_sample(weigh(image, valid), at, mode="bilinear", padding_mode="zeros", align_corners=True)
    # The nearest pixel alone weighs at least a quarter, so the divisor is never small.
    return unweigh(mixed, 0.125).masked_fill_(~is_valid[:, None], 0), is_valid, sampled_codes


def _stretched(widths: Tensor, at: Tensor) -> Tensor:
    """Return (n,size): the positions `at` (size,) on a line whose cells change their widths; its ends stay fixed."""
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
    """Return (n,2,row,col): a smooth field from a few control points that never exceeds the largest of them."""
    knots = control.shape[-1]
    down, across = (_spline(size, knots, control.device) for size in out_px)
    return torch.einsum("rk,nakl,cl->narc", down, control, across)


def _spline(size: int, knots: int, device: torch.device) -> Tensor:
    """Return (size,knots): cubic B-spline weights of knots along a side, the first and last at its ends."""
    at = torch.linspace(0, knots - 1, size, device=device)
    away = (at[:, None] - torch.arange(-1, knots + 1, device=device)).abs()
    near, far = 2 / 3 - away.square() + away**3 / 2, (2 - away).clamp_min(0) ** 3 / 6
    weights = torch.where(away < 1, near, far)
    inner = weights[:, 1:-1].clone()
    inner[:, 0] += weights[:, 0]  # beyond the ends the last knot repeats
    inner[:, -1] += weights[:, -1]
    return inner


def reach(degrees: float, scale: float, shift: float, bend: float, displacement: float) -> float:
    """Return how far from the center the largest warp reads, in half sides of a square output, at least 1."""
    corner = 1 + displacement
    corner *= 1 + 2 * bend * corner**2
    angle = math.radians(min(degrees, 45))
    return max(1.0, (corner + shift) * (math.cos(angle) + math.sin(angle)) * (1 + scale))


def compose(rows: Tensor, columns: Tensor, quarters: Tensor, transposes: Tensor) -> Tensor:
    """Return the element (n,) int64 for: flip rows (vflip), flip columns (hflip), quarter turns, then transpose.

    Flips and transposes are bool (n,), quarter turns (counterclockwise, like torch.rot90) are int64 (n,).
    """
    swapped = torch.zeros_like(rows)
    for turn in range(1, 4):  # a quarter turn is a transpose followed by reversing the rows
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
    """Return (n, ..., row, col) pixels, sample i turned by elements[i] (on the CPU); square if any is transposed."""
    result = torch.empty_like(pixels)
    for number, element in enumerate(elements.tolist()):
        result[number] = turn(pixels[number], element)
    return result
