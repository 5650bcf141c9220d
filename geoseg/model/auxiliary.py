"""DeepLabV3 and V3+ with a second, coarser opinion that only training hears."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import initialization
from torch.nn import functional

_SHARE = 4
_DROPOUT = 0.1


class _Auxiliary:
    """While training: (logits, auxiliary logits), both (n, class, row, col); in evaluation: the logits alone.

    The head is torchvision's FCNHead (https://github.com/pytorch/vision, models/segmentation): on the features before
    the last stage, which have stride 16, or stride 8 with encoder_output_stride 8; 3 x 3 to a quarter of the channels,
    batch normalization, ReLU, dropout 0.1, 1 x 1 to the classes, bilinear upsampling.
    """

    encoder: Any
    decoder: Any
    segmentation_head: Any
    training: bool

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401 (smp's)
        super().__init__(**arguments)
        width = self.encoder.out_channels[-2]
        self.aux_head = torch.nn.Sequential(
            torch.nn.Conv2d(width, max(width // _SHARE, 1), 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(max(width // _SHARE, 1)),
            torch.nn.ReLU(inplace=True),
            torch.nn.Dropout(_DROPOUT),
            torch.nn.Conv2d(max(width // _SHARE, 1), arguments["classes"], 1),
        )
        initialization.initialize_decoder(self.aux_head)

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        features = self.encoder(image)
        logits: torch.Tensor = self.segmentation_head(self.decoder(features))
        if not self.training:
            return logits
        auxiliary = self.aux_head(features[-2])
        return logits, functional.interpolate(auxiliary, size=image.shape[-2:], mode="bilinear", align_corners=False)


class DeepLabV3Auxiliary(_Auxiliary, smp.DeepLabV3):  # type: ignore[misc] # smp has no types
    """smp's DeepLabV3 with an auxiliary head."""


class DeepLabV3PlusAuxiliary(_Auxiliary, smp.DeepLabV3Plus):  # type: ignore[misc] # smp has no types
    """smp's DeepLabV3+ with an auxiliary head."""
