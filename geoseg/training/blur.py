"""Out of focus, or moved while it was taken: one kernel per sample, all samples in one convolution.

Written here rather than taken from kornia because valid pixels must not mix with invalid ones, which asks for the
same convolution of the weights; kornia's Gaussian is the oracle of the tests.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d


def gaussian_blur(image: Tensor, valid: Tensor, sigma_px: Tensor, longest_px: float) -> Tensor:
    """Return the image (n,band,row,col) blurred by a Gaussian of sigma_px (n,) <= longest_px, cut at 3 of the longest."""
    reach = math.ceil(3 * longest_px)
    away = torch.arange(-reach, reach + 1, device=image.device)
    line = torch.exp(-away.square() / (2 * sigma_px[:, None].square()))
    line = line / line.sum(dim=1, keepdim=True)
    return _weighed(image, valid, [line[:, None, :], line[:, :, None]])


def motion_blur(image: Tensor, valid: Tensor, length_px: Tensor, radians: Tensor, longest_px: float) -> Tensor:
    """Return the image smeared along a line of length_px (n,) <= longest_px in a direction (n,)."""
    reach = math.ceil(longest_px / 2)
    away = torch.arange(-reach, reach + 1, device=image.device)
    down, across = away[None, :, None], away[None, None, :]
    cosine, sine = torch.cos(radians)[:, None, None], torch.sin(radians)[:, None, None]
    along, aside = across * cosine + down * sine, down * cosine - across * sine
    beyond = (along.abs() - (length_px[:, None, None] - 1) / 2).clamp_min(0)
    kernel = (1 - torch.hypot(beyond, aside)).clamp_min(0)
    return _weighed(image, valid, [kernel / kernel.sum(dim=(1, 2), keepdim=True)])


def _weighed(image: Tensor, valid: Tensor, kernels: list[Tensor]) -> Tensor:
    """Convolve with each kernel (n,row,col) in turn; invalid pixels and what lies outside weigh nothing and stay."""
    count, bands = image.shape[:2]
    mask = valid[:, None]
    pixels = torch.cat((image.masked_fill(~mask, 0), mask.to(image.dtype)), dim=1).flatten(0, 1)[None]
    for kernel in kernels:
        height, width = kernel.shape[1:]
        weights = kernel[:, None].repeat_interleave(bands + 1, dim=0)
        pixels = conv2d(pixels, weights, padding=(height // 2, width // 2), groups=len(weights))
    mixed = pixels[0].unflatten(0, (count, bands + 1))
    return torch.where(mask, mixed[:, :-1] / mixed[:, -1:].clamp_min(1e-6), image)
