"""The UPerNet of segmentation-models-pytorch 0.4, which later versions replaced by another network of that name.

IGN's FLAIR-HUB weights are of it. Its layers, their names and its arithmetic are smp 0.4's
(https://github.com/qubvel-org/segmentation_models.pytorch, MIT); the parts are those of the installed smp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationHead, initialization
from segmentation_models_pytorch.base.modules import Conv2dReLU
from torch.nn import functional

_POOLED = (1, 2, 3, 6)
"""Sides of the pyramid's pooled maps, in pixels."""
_STRIDE = 4
"""Of the sum of all levels."""


class UPerNet04(torch.nn.Module):
    """Unified perceptual parsing (Xiao et al. 2018, arXiv 1807.10221) as smp 0.4 built it."""

    def __init__(  # noqa: PLR0913 (the arguments of an architecture)
        self,
        *,
        encoder_name: str,
        in_channels: int,
        classes: int,
        encoder_depth: int = 5,
        encoder_weights: str | bool | None = None,
        decoder_pyramid_channels: int = 256,
        decoder_segmentation_channels: int = 64,
        **timm_arguments: Any,  # noqa: ANN401 (whatever timm takes)
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(
            encoder_name, in_channels, encoder_depth, encoder_weights, **timm_arguments
        )
        self.decoder = _Decoder(self.encoder.out_channels, decoder_pyramid_channels, decoder_segmentation_channels)
        self.segmentation_head = SegmentationHead(
            decoder_segmentation_channels, classes, kernel_size=1, upsampling=_STRIDE
        )
        initialization.initialize_decoder(self.decoder)
        initialization.initialize_head(self.segmentation_head)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (n, class, row, col) of an image (n, band, row, col)."""
        logits: torch.Tensor = self.segmentation_head(self.decoder(self.encoder(image)))
        return logits


class _Decoder(torch.nn.Module):
    """Every level brought to one width, added from the coarsest on, and read side by side at stride 4."""

    def __init__(self, encoder_channels: Sequence[int], width: int, out_channels: int) -> None:
        super().__init__()
        coarsest, *finer = encoder_channels[::-1]
        self.psp = _PooledPyramid(coarsest, width)
        # the last one, of the image itself, is never used; smp 0.4 saved it all the same
        self.fpn_stages = torch.nn.ModuleList(_Level(channels, width) for channels in finer)
        self.fpn_bottleneck = Conv2dReLU(len(finer) * width, out_channels, 3, padding=1, use_norm="batchnorm")

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        rows, cols = features[0].shape[2:]
        coarsest, *finer = list(features[1:])[::-1]
        levels = [self.psp(coarsest)]
        for feature, stage in zip(finer, self.fpn_stages, strict=False):
            levels.append(stage(levels[-1], feature))
        sums = [_resized(level, rows // _STRIDE, cols // _STRIDE) for level in levels]
        found: torch.Tensor = self.fpn_bottleneck(torch.cat(sums, dim=1))
        return found


class _PooledPyramid(torch.nn.Module):
    """The coarsest level, and means over ever smaller parts of it."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.AdaptiveAvgPool2d(side),
                Conv2dReLU(channels, channels // len(_POOLED), kernel_size=1, use_norm="batchnorm"),
            )
            for side in _POOLED
        )
        self.out_conv = Conv2dReLU(channels * 2, width, kernel_size=1, use_norm="batchnorm")

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        pooled = [_resized(block(feature), *feature.shape[2:]) for block in self.blocks]
        found: torch.Tensor = self.out_conv(torch.cat([feature, *pooled], dim=1))
        return found


class _Level(torch.nn.Module):
    """A level of the encoder added to the coarser sum; some encoders have a level without channels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.skip_conv = (
            Conv2dReLU(channels, width, kernel_size=1, use_norm="batchnorm") if channels else torch.nn.Identity()
        )

    def forward(self, coarser: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
        found = _resized(coarser, *feature.shape[2:])
        return found + self.skip_conv(feature) if feature.shape[1] else found


def _resized(values: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    return functional.interpolate(values, size=(rows, cols), mode="bilinear", align_corners=False)
