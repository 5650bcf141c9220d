"""Fully convolutional networks (Long, Shelhamer and Darrell 2015, arXiv 1411.4038) on any encoder.

A 1 x 1 convolution scores the features of stride 32; FCN-16s and 8s add the scores of strides 16 and 8. Differences
from the paper: every upsampling is bilinear and fixed, as the paper's last one is (it learns those between, beginning
with bilinear ones); the features of a stride are the encoder's last of that size, which for a VGG are those before the
next pooling.
"""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import initialization
from torch.nn import functional

from geoseg.errors import ModelError

_DEEPEST = 5
"""The level of stride 32, halved five times."""


class FCN(torch.nn.Module):
    """Scores at strides 32 to `stride`, summed from the coarsest on.

    `decoder_channels` puts the paper's fc6 and fc7 before the coarsest score, 7 x 7 and 1 x 1 convolutions of that
    width (4096 there), each with dropout; without, the encoder's features are scored as they are. Raises ModelError for
    an encoder without features of a stride that is needed.
    """

    def __init__(  # noqa: PLR0913 (the arguments of an architecture)
        self,
        *,
        stride: int,
        encoder_name: str,
        in_channels: int,
        classes: int,
        encoder_weights: str | bool | None = None,
        decoder_channels: int | None = None,
        decoder_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(encoder_name, in_channels, _DEEPEST, encoder_weights)
        levels = [level for level in range(_DEEPEST, 2, -1) if 2**level >= stride]
        widths = _widths(encoder_name, list(self.encoder.out_channels), levels)
        self.decoder = _fully_connected(widths[0], decoder_channels, decoder_dropout)
        self.segmentation_head = torch.nn.Sequential(torch.nn.Conv2d(decoder_channels or widths[0], classes, 1))
        self.skip_heads = torch.nn.ModuleList(torch.nn.Conv2d(width, classes, 1) for width in widths[1:])
        initialization.initialize_decoder(self.decoder)
        initialization.initialize_head(self.segmentation_head)
        initialization.initialize_head(self.skip_heads)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (n, class, row, col) of an image (n, band, row, col)."""
        features = self.encoder(image)
        scores: torch.Tensor = self.segmentation_head(self.decoder(features[_DEEPEST]))
        for level, head in zip(range(_DEEPEST - 1, 0, -1), self.skip_heads, strict=False):
            finer = head(features[level])
            scores = finer + _resized(scores, finer)
        return _resized(scores, image)


def _resized(scores: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(scores, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _widths(encoder: str, channels: list[int], levels: list[int]) -> list[int]:
    missing = [2**level for level in levels if level >= len(channels) or channels[level] == 0]
    if missing:
        raise ModelError(
            f"{encoder} has no features of stride {missing[0]}, its strides are "
            f"{[2**level for level, width in enumerate(channels) if level and width]}; try resnet34"
        )
    return [channels[level] for level in levels]


def _fully_connected(width: int, channels: int | None, dropout: float) -> torch.nn.Sequential:
    if channels is None:
        return torch.nn.Sequential()
    return torch.nn.Sequential(
        torch.nn.Conv2d(width, channels, 7, padding=3),
        torch.nn.ReLU(inplace=True),
        torch.nn.Dropout(dropout),
        torch.nn.Conv2d(channels, channels, 1),
        torch.nn.ReLU(inplace=True),
        torch.nn.Dropout(dropout),
    )
