"""SegNet (Badrinarayanan, Kendall and Cipolla 2017, arXiv 1511.00561): a VGG and its mirror image.

What a pooling took its maximum from is remembered, and the mirror puts each value back where the maximum was.
"""

from __future__ import annotations

import itertools

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import initialization
from torch.nn import functional

SEGNET_ENCODER = "vgg16_bn"
"""The paper's."""
_DEPTH = 5


class SegNet(torch.nn.Module):
    """The encoder is smp's VGG, so that its ImageNet weights fit; the mirror has as many 3 x 3 convolutions."""

    def __init__(
        self,
        *,
        in_channels: int,
        classes: int,
        encoder_name: str = SEGNET_ENCODER,
        encoder_weights: str | bool | None = None,
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(encoder_name, in_channels, _DEPTH, encoder_weights)
        stages = _widths(self.encoder.features)
        self.decoder = torch.nn.ModuleList(
            _mirrored(stage, below[-1]) for stage, below in zip(stages[:0:-1], stages[-2::-1], strict=True)
        )
        # the convolution nearest to the pixels is the classifier
        self.decoder.append(torch.nn.Sequential(*(_block(width, width) for width in stages[0][1:])))
        self.segmentation_head = torch.nn.Sequential(torch.nn.Conv2d(stages[0][0], classes, 3, padding=1))
        initialization.initialize_decoder(self.decoder)
        initialization.initialize_head(self.segmentation_head)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (n, class, row, col) of an image (n, band, row, col) whose sides are multiples of 32."""
        values, places = image, []
        for layer in self.encoder.features:
            if isinstance(layer, torch.nn.MaxPool2d):
                values, place = pool(values)
                places.append(place)
            else:
                values = layer(values)
        for stage, place in zip(self.decoder, reversed(places), strict=True):
            values = stage(unpool(values, place))
        logits: torch.Tensor = self.segmentation_head(values)
        return logits


def pool(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the maxima of 2 x 2 pixels, and their places: bool (n, channel, 4, row, col), exactly one true of four.

    Of equal pixels the first in reading order has the place, as in torch's own max pooling. Places instead of torch's
    indices because ONNX has these, and because they give the same bits twice on a GPU.
    """
    maxima = functional.max_pool2d(values, 2)
    one, two, three = (values[..., row::2, col::2].detach() == maxima.detach() for row, col in ((0, 0), (0, 1), (1, 0)))
    two = two & ~one
    three = three & ~one & ~two
    return maxima, torch.stack((one, two, three, ~(one | two | three)), dim=2)


def unpool(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return an array of twice the sides with each value at its place and 0 elsewhere, as torch's MaxUnpool2d does."""
    spread = torch.where(places, values.unsqueeze(2), torch.zeros((), dtype=values.dtype, device=values.device))
    return functional.pixel_shuffle(spread.flatten(1, 2), 2)


def _widths(features: torch.nn.Sequential) -> list[list[int]]:
    """Return the output channels of each convolution, stage by stage; a pooling ends a stage."""
    stages: list[list[int]] = [[]]
    for layer in features:
        if isinstance(layer, torch.nn.MaxPool2d):
            stages.append([])
        elif isinstance(layer, torch.nn.Conv2d):
            stages[-1].append(layer.out_channels)
    return stages[:-1]


def _mirrored(stage: list[int], width_below: int) -> torch.nn.Sequential:
    widths = [*reversed(stage), width_below]
    return torch.nn.Sequential(*(_block(before, after) for before, after in itertools.pairwise(widths)))


def _block(before: int, after: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(before, after, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(after),
        torch.nn.ReLU(inplace=True),
    )
