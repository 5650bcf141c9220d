"""Out of focus, or moved while it was taken: one kernel per sample, all samples in one convolution.

Written here rather than taken from kornia because valid pixels must not mix with invalid ones, which asks for the
same convolution of the weights; kornia's Gaussian is the oracle of the tests.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from geoseg.training.weighed import unweigh, weigh


def gaussian_blur(image: Tensor, valid: Tensor, sigma_px: Tensor, longest_px: float) -> Tensor:
    """Return the image (n,band,row,col) blurred by a Gaussian of sigma_px (n,) up to longest_px."""
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
    pixels = weigh(image, valid).flatten(0, 1)[None]
    for kernel in kernels:
        height, width = kernel.shape[1:]
        weights = kernel[:, None].repeat_interleave(bands + 1, dim=0)
        pixels = conv2d(pixels, weights, padding=(height // 2, width // 2), groups=len(weights))
    mixed = pixels[0].view(count, bands + 1, *image.shape[2:])
    return torch.where(valid[:, None], unweigh(mixed, 1e-6), image)
