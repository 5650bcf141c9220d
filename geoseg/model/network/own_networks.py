"""Networks that segmentation-models-pytorch lacks: FCN, LightFPN, SegNet, the plain U-Net, auxiliary heads, UPerNet04.

UPerNet04 is the UPerNet of smp 0.4, which later versions replaced with another network of that name. IGN's FLAIR-HUB
weights are for it. Its layers, their names and its arithmetic are smp 0.4's
(https://github.com/qubvel-org/segmentation_models.pytorch, MIT); the building blocks are those of the installed smp.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationHead, initialization
from segmentation_models_pytorch.base.modules import Conv2dReLU
from torch.nn import functional

from geoseg.errors import ModelError
from geoseg.model.bundle import PLAIN_UNET_CHANNELS, PLAIN_UNET_DEPTH

_SHARE = 4
_DROPOUT = 0.1
_UPERNET_POOLED = (1, 2, 3, 6)
"""Sides of the pyramid's pooled maps, in pixels."""
_UPERNET_STRIDE = 4
"""The stride of the decoder's output."""


class _Auxiliary:
    """In training: (logits, auxiliary logits), both (n, class, row, col); in evaluation: only the logits.

    The head is torchvision's FCNHead (https://github.com/pytorch/vision, models/segmentation), applied to the features
    before the last stage, which have stride 16, or stride 8 with encoder_output_stride 8: 3 x 3 to a quarter of the
    channels, batch normalization, ReLU, dropout 0.1, 1 x 1 to the classes, bilinear upsampling.
    """

    encoder: Any
    decoder: Any
    segmentation_head: Any
    training: bool

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401 - smp's
        super().__init__(**arguments)
        width = self.encoder.out_channels[-2]
        narrow = max(width // _SHARE, 1)
        self.aux_head = torch.nn.Sequential(
            *_normalized_convolution(width, narrow),
            torch.nn.Dropout(_DROPOUT),
            torch.nn.Conv2d(narrow, arguments["classes"], 1),
        )
        initialization.initialize_decoder(self.aux_head)

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        features = self.encoder(image)
        logits: torch.Tensor = self.segmentation_head(self.decoder(features))
        if not self.training:
            return logits
        return logits, _resized(self.aux_head(features[-2]), *image.shape[2:])


class DeepLabV3Auxiliary(_Auxiliary, smp.DeepLabV3):  # type: ignore[misc] # smp has no types
    """smp's DeepLabV3 with an auxiliary head."""


class DeepLabV3PlusAuxiliary(_Auxiliary, smp.DeepLabV3Plus):  # type: ignore[misc] # smp has no types
    """smp's DeepLabV3+ with an auxiliary head."""


_DEEPEST = 5
"""The level of stride 32, halved five times."""


class FCN(torch.nn.Module):
    """Scores at strides 32 to `stride`, summed from the coarsest to the finest.

    `decoder_channels` adds the paper's fc6 and fc7 before the coarsest score: 7 x 7 and 1 x 1 convolutions of that
    width (4096 in the paper), each with dropout. Without it, the encoder's features are scored directly. Raises
    ModelError if the encoder has no features of a required stride.
    """

    def __init__(  # noqa: PLR0913 - the arguments of an architecture
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
        widths = _level_widths(encoder_name, list(self.encoder.out_channels), levels)
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
            scores = finer + _resized(scores, *finer.shape[2:])
        return _resized(scores, *image.shape[2:])


_FINEST = 2
"""The level of stride 4."""
_PYRAMID = range(_DEEPEST, _FINEST - 1, -1)
"""The levels of LightFPN."""


class LightFPN(torch.nn.Module):
    """A feature pyramid (Lin et al. 2017, arXiv 1612.03144): strides 32 to 4, added from the coarsest to the finest.

    Its output depends only on a pixel's surroundings, not on the window. smp's FPN normalizes over groups of channels,
    with statistics of the whole window, and interpolates with aligned corners, which shifts everything slightly,
    depending on the window's position: its labels change with the window grid. Here batch normalization uses learned
    statistics, and interpolation uses pixel centers. Each stride is projected to `decoder_channels`; one 3 x 3
    convolution at stride 4 reads their sum. Raises ModelError if the encoder lacks features of one of these strides.
    """

    def __init__(  # noqa: PLR0913 - the arguments of an architecture
        self,
        *,
        encoder_name: str,
        in_channels: int,
        classes: int,
        encoder_weights: str | bool | None = None,
        decoder_channels: int = 64,
        decoder_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(encoder_name, in_channels, _DEEPEST, encoder_weights)
        widths = _level_widths(encoder_name, list(self.encoder.out_channels), _PYRAMID)
        self.decoder = _Pyramid(widths, decoder_channels, decoder_dropout)
        self.segmentation_head = torch.nn.Sequential(torch.nn.Conv2d(decoder_channels, classes, 1))
        initialization.initialize_decoder(self.decoder)
        initialization.initialize_head(self.segmentation_head)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (n, class, row, col) of an image (n, band, row, col)."""
        features = self.encoder(image)
        logits = self.segmentation_head(self.decoder([features[level] for level in _PYRAMID]))
        return _upsampled(logits, 2**_FINEST)


class _Pyramid(torch.nn.Module):
    def __init__(self, widths: list[int], channels: int, dropout: float) -> None:
        super().__init__()
        self.laterals = torch.nn.ModuleList(_normalized_convolution(width, channels, 1) for width in widths)
        self.merge = _normalized_convolution(channels, channels)
        self.dropout = torch.nn.Dropout2d(dropout)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Return (n, channel, row, col) at the finest stride; `features` starts with the coarsest."""
        total, *finer = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        for feature in finer:
            total = _upsampled(total, 2) + feature
        merged: torch.Tensor = self.dropout(self.merge(total))
        return merged


def _normalized_convolution(width: int, channels: int, kernel: int = 3) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(width, channels, kernel, padding=kernel // 2, bias=False),
        torch.nn.BatchNorm2d(channels),
        torch.nn.ReLU(inplace=True),
    )


def _upsampled(values: torch.Tensor, factor: int) -> torch.Tensor:
    return functional.interpolate(values, scale_factor=float(factor), mode="bilinear", align_corners=False)


def _resized(values: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    return functional.interpolate(values, size=(rows, cols), mode="bilinear", align_corners=False)


def _level_widths(encoder: str, channels: list[int], levels: Sequence[int]) -> list[int]:
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


SEGNET_ENCODER = "vgg16_bn"
"""The paper's."""
_DEPTH = 5


class SegNet(torch.nn.Module):
    """SegNet on smp's VGG encoder, so its ImageNet weights fit; the decoder mirrors its 3 x 3 convolutions."""

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
        stages = _stage_widths(self.encoder.features)
        self.decoder = torch.nn.ModuleList(
            _mirrored(stage, below[-1]) for stage, below in zip(stages[:0:-1], stages[-2::-1], strict=True)
        )
        # the last convolution of the finest stage is the classifier
        self.decoder.append(torch.nn.Sequential(*(_normalized_convolution(width, width) for width in stages[0][1:])))
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
            values = stage(_unpool(values, place))
        logits: torch.Tensor = self.segmentation_head(values)
        return logits


def pool(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the maxima of 2 x 2 pixels, and their places: bool (n, channel, 4, row, col), exactly one true of four.

    Of equal pixels, the first in reading order is chosen, as in torch's own max pooling. Places are used instead of
    torch's indices because ONNX supports them, and because on a GPU they give the same bits every time.
    """
    maxima = functional.max_pool2d(values, 2)
    one, two, three = (values[..., row::2, col::2].detach() == maxima.detach() for row, col in ((0, 0), (0, 1), (1, 0)))
    two = two & ~one
    three = three & ~one & ~two
    return maxima, torch.stack((one, two, three, ~(one | two | three)), dim=2)


def _unpool(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return an array with sides twice as long, each value at its place and 0 elsewhere, like torch's MaxUnpool2d."""
    spread = torch.where(places, values.unsqueeze(2), torch.zeros((), dtype=values.dtype, device=values.device))
    return functional.pixel_shuffle(spread.flatten(1, 2), 2)


def _stage_widths(features: torch.nn.Sequential) -> list[list[int]]:
    """Return the output channels of each convolution, stage by stage; a pooling layer ends a stage."""
    stages: list[list[int]] = [[]]
    for layer in features:
        if isinstance(layer, torch.nn.MaxPool2d):
            stages.append([])
        elif isinstance(layer, torch.nn.Conv2d):
            stages[-1].append(layer.out_channels)
    return stages[:-1]


def _mirrored(stage: list[int], width_below: int) -> torch.nn.Sequential:
    widths = [*reversed(stage), width_below]
    return torch.nn.Sequential(*itertools.starmap(_normalized_convolution, itertools.pairwise(widths)))


class PlainUnet(torch.nn.Module):
    """Two 3 x 3 convolutions on each of `depth` + 1 levels, with twice as many channels on each deeper level.

    The paper has depth 4 and 64 channels, no batch normalization, and dropout at the end of the contracting path.
    Without `skip`, only the deepest level reaches the decoder.
    """

    def __init__(  # noqa: PLR0913 - the arguments of an architecture
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
    """Doubles the size and halves the channels; with skip, appends the channels of the contracting path."""

    def __init__(self, deeper: int, width: int, *, batch_norm: bool, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.up = torch.nn.ConvTranspose2d(deeper, width, 2, stride=2)
        self.convolutions = _two_convolutions(width * (1 + skip), width, batch_norm=batch_norm)

    def forward(self, values: torch.Tensor, finer: torch.Tensor) -> torch.Tensor:
        up = self.up(values)
        together: torch.Tensor = self.convolutions(torch.cat((finer, up), dim=1) if self.skip else up)
        return together


def _two_convolutions(in_channels: int, out_channels: int, *, batch_norm: bool) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for width in (in_channels, out_channels):
        layers.append(torch.nn.Conv2d(width, out_channels, 3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(torch.nn.BatchNorm2d(out_channels))
        layers.append(torch.nn.ReLU(inplace=True))
    return torch.nn.Sequential(*layers)


class UPerNet04(torch.nn.Module):
    """Unified perceptual parsing (Xiao et al. 2018, arXiv 1807.10221) as smp 0.4 built it."""

    def __init__(  # noqa: PLR0913 - the arguments of an architecture
        self,
        *,
        encoder_name: str,
        in_channels: int,
        classes: int,
        encoder_depth: int = 5,
        encoder_weights: str | bool | None = None,
        decoder_pyramid_channels: int = 256,
        decoder_segmentation_channels: int = 64,
        **timm_arguments: Any,  # noqa: ANN401 - whatever timm takes
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(
            encoder_name, in_channels, encoder_depth, encoder_weights, **timm_arguments
        )
        self.decoder = _UPerNetDecoder(
            self.encoder.out_channels, decoder_pyramid_channels, decoder_segmentation_channels
        )
        self.segmentation_head = SegmentationHead(
            decoder_segmentation_channels, classes, kernel_size=1, upsampling=_UPERNET_STRIDE
        )
        initialization.initialize_decoder(self.decoder)
        initialization.initialize_head(self.segmentation_head)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (n, class, row, col) of an image (n, band, row, col)."""
        logits: torch.Tensor = self.segmentation_head(self.decoder(self.encoder(image)))
        return logits


class _UPerNetDecoder(torch.nn.Module):
    """Projects every level to one width, adds them from the coarsest on, and reads them side by side at stride 4."""

    def __init__(self, encoder_channels: Sequence[int], width: int, out_channels: int) -> None:
        super().__init__()
        coarsest, *finer = encoder_channels[::-1]
        self.psp = _UPerNetPyramid(coarsest, width)
        # the last one, for the image itself, is never used, but smp 0.4 saved it
        self.fpn_stages = torch.nn.ModuleList(_UPerNetLevel(channels, width) for channels in finer)
        self.fpn_bottleneck = Conv2dReLU(len(finer) * width, out_channels, 3, padding=1, use_norm="batchnorm")

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        rows, cols = features[0].shape[2:]
        coarsest, *finer = list(features[1:])[::-1]
        levels = [self.psp(coarsest)]
        for feature, stage in zip(finer, self.fpn_stages, strict=False):
            levels.append(stage(levels[-1], feature))
        sums = [_resized(level, rows // _UPERNET_STRIDE, cols // _UPERNET_STRIDE) for level in levels]
        fused: torch.Tensor = self.fpn_bottleneck(torch.cat(sums, dim=1))
        return fused


class _UPerNetPyramid(torch.nn.Module):
    """The coarsest level, and its means over smaller and smaller parts."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.AdaptiveAvgPool2d(side),
                Conv2dReLU(channels, channels // len(_UPERNET_POOLED), kernel_size=1, use_norm="batchnorm"),
            )
            for side in _UPERNET_POOLED
        )
        self.out_conv = Conv2dReLU(channels * 2, width, kernel_size=1, use_norm="batchnorm")

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        pooled = [_resized(block(feature), *feature.shape[2:]) for block in self.blocks]
        output: torch.Tensor = self.out_conv(torch.cat([feature, *pooled], dim=1))
        return output


class _UPerNetLevel(torch.nn.Module):
    """Adds a level of the encoder to the coarser sum; some encoders have a level without channels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.skip_conv = (
            Conv2dReLU(channels, width, kernel_size=1, use_norm="batchnorm") if channels else torch.nn.Identity()
        )

    def forward(self, coarser: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
        upsampled = _resized(coarser, *feature.shape[2:])
        return upsampled + self.skip_conv(feature) if feature.shape[1] else upsampled
