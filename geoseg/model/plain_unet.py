"""The U-Net as it was published (Ronneberger, Fischer and Brox 2015, arXiv 1505.04597), padded to keep sizes."""

from __future__ import annotations

import torch
from segmentation_models_pytorch.base import initialization
from torch.nn import functional

from geoseg.model.architectures import PLAIN_UNET_CHANNELS, PLAIN_UNET_DEPTH


class PlainUnet(torch.nn.Module):
    """Two 3 x 3 convolutions on each of `depth` + 1 levels, twice as many channels on each deeper one.

    The paper has depth 4 and 64 channels, no batch normalization, dropout at the end of the contracting path. Without
    `skip` nothing but the deepest level reaches the mirror.
    """

    def __init__(  # noqa: PLR0913 (the arguments of an architecture)
        self,
        *,
        in_channels: int,
        classes: int,
        depth: int = PLAIN_UNET_DEPTH,
        channels: int = PLAIN_UNET_CHANNELS,
        batch_norm: bool = True,
        dropout: float = 0.0,
        skip: bool = True,
    ) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(depth + 1)]
        self.encoder = torch.nn.ModuleList(
            _two_convolutions(before, after, batch_norm=batch_norm)
            for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.dropout = torch.nn.Dropout(dropout)
        self.decoder = torch.nn.ModuleList(
            _Up(deeper, width, batch_norm=batch_norm, skip=skip)
            for deeper, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.segmentation_head = torch.nn.Sequential(torch.nn.Conv2d(channels, classes, 1))
        initialization.initialize_decoder(self.encoder)
        initialization.initialize_decoder(self.decoder)
        initialization.initialize_head(self.segmentation_head)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (n, class, row, col) of an image (n, band, row, col) whose sides are multiples of 2**depth."""
        features = [self.encoder[0](image)]
        for level in list(self.encoder)[1:]:
            features.append(level(functional.max_pool2d(features[-1], 2)))
        values = self.dropout(features.pop())
        for up, finer in zip(self.decoder, reversed(features), strict=True):
            values = up(values, finer)
        logits: torch.Tensor = self.segmentation_head(values)
        return logits


class _Up(torch.nn.Module):
    """Twice the size, half the channels; beside them, with skip, those of the way down."""

    def __init__(self, deeper: int, width: int, *, batch_norm: bool, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.up = torch.nn.ConvTranspose2d(deeper, width, 2, stride=2)
        self.convolutions = _two_convolutions(width * (1 + skip), width, batch_norm=batch_norm)

    def forward(self, values: torch.Tensor, finer: torch.Tensor) -> torch.Tensor:
        up = self.up(values)
        together: torch.Tensor = self.convolutions(torch.cat((finer, up), dim=1) if self.skip else up)
        return together


def _two_convolutions(before: int, after: int, *, batch_norm: bool) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for width in (before, after):
        layers.append(torch.nn.Conv2d(width, after, 3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(torch.nn.BatchNorm2d(after))
        layers.append(torch.nn.ReLU(inplace=True))
    return torch.nn.Sequential(*layers)
