"""FCN against the paper's sum, composed by hand; the plain U-Net's size and skips; the auxiliary head."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from geoseg.model import build
from tests.networks import random_network

SIZES = {"in_channels": 3, "classes": 5}
ENCODER = {"encoder_name": "tu-tf_mobilenetv3_small_minimal_100", **SIZES}


def image(*, requires_grad: bool = False) -> torch.Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)).requires_grad_(requires_grad)


def bilinear(scores: torch.Tensor, times: int) -> torch.Tensor:
    return functional.interpolate(scores, scale_factor=times, mode="bilinear", align_corners=False)


def score(convolution: Any, features: torch.Tensor) -> torch.Tensor:
    """Return a 1 x 1 convolution, computed as a matrix product."""
    product = torch.einsum("kc,ncyx->nkyx", convolution.weight[:, :, 0, 0], features)
    return torch.add(product, convolution.bias[None, :, None, None])


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_fcn_is_the_sum_of_scores(stride: int) -> None:
    network: Any = random_network(f"FCN{stride}s", ENCODER)
    with torch.no_grad():
        features = network.encoder(image())
        wanted, heads = score(network.segmentation_head[0], features[5]), iter(network.skip_heads)
        for level in (4, 3):
            if 2**level >= stride:
                wanted = bilinear(wanted, 2) + score(next(heads), features[level])
        found = network(image())
        torch.testing.assert_close(found, bilinear(wanted, stride), atol=1e-5 * float(found.abs().max()), rtol=0)
    assert len(network.skip_heads) == {32: 0, 16: 1, 8: 2}[stride]


def test_fc6_and_fc7_are_the_papers() -> None:
    with torch.device("meta"):
        network: Any = build("FCN32s", {"encoder_name": "vgg16", **SIZES, "decoder_channels": 4096})
    fc6, fc7 = (module for module in network.decoder if isinstance(module, torch.nn.Conv2d))
    assert tuple(fc6.weight.shape) == (4096, 512, 7, 7)
    assert tuple(fc7.weight.shape) == (4096, 4096, 1, 1)


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("skip", [True, False])
def test_plain_unet_keeps_sizes_and_doubles_channels(depth: int, skip: bool) -> None:  # noqa: FBT001 - of a test
    with torch.device("meta"):
        network: Any = build("PlainUnet", {**SIZES, "depth": depth, "channels": 4, "skip": skip})
        side = 2**depth
        assert network(torch.empty(1, 3, 3 * side, side)).shape == (1, 5, 3 * side, side)
    assert [level[0].out_channels for level in network.encoder] == [4 * 2**level for level in range(depth + 1)]
    assert [up.convolutions[0].in_channels for up in network.decoder] == [
        4 * 2**level * (2 if skip else 1) for level in range(depth - 1, -1, -1)
    ]


def test_plain_unet_has_the_papers_size() -> None:
    """31.03 million weights for one band and two classes, the usual count for the published network."""
    with torch.device("meta"):
        network = build("PlainUnet", {"in_channels": 1, "classes": 2, "batch_norm": False})
    sizes = [64, 128, 256, 512, 1024]
    down = sum(9 * (a * b + b * b) + 2 * b for a, b in zip([1, *sizes], sizes, strict=False))
    up = sum(4 * 2 * b * b + b + 9 * (2 * b * b + b * b) + 2 * b for b in sizes[:-1])
    assert sum(parameter.numel() for parameter in network.parameters()) == down + up + 64 * 2 + 2 == 31_030_658


def test_without_skips_only_the_deepest_level_reaches_the_map() -> None:
    """With the deepest level zeroed, the image influences the output only through skips."""
    for skip, told in ((True, True), (False, False)):
        network: Any = random_network("PlainUnet", {**SIZES, "depth": 2, "channels": 4, "skip": skip})
        network.encoder[-1].register_forward_hook(lambda _, __, output: torch.zeros_like(output))
        pixels = image(requires_grad=True)
        network(pixels).square().sum().backward()
        assert (pixels.grad is not None and bool(pixels.grad.abs().max() > 0)) is told


def test_dropout_only_while_training() -> None:
    network = random_network("PlainUnet", {**SIZES, "depth": 2, "channels": 8, "batch_norm": False, "dropout": 0.5})
    assert torch.equal(network(image()), network(image()))
    network.train()
    assert not torch.equal(network(image()), network(image()))


@pytest.mark.parametrize("architecture", ["DeepLabV3", "DeepLabV3Plus"])
@pytest.mark.parametrize("stride", [8, 16])
def test_auxiliary_head_speaks_only_while_training(architecture: str, stride: int) -> None:
    arguments = {**ENCODER, "encoder_output_stride": stride, "decoder_channels": 8}
    network: Any = random_network(architecture, {**arguments, "aux_head": True})
    plain = random_network(architecture, arguments)
    missing = plain.load_state_dict(network.state_dict(), strict=False)
    assert missing.missing_keys == []
    assert all(key.startswith("aux_head.") for key in missing.unexpected_keys)
    heard: list[tuple[int, ...]] = []
    network.aux_head.register_forward_hook(lambda _, inputs, __: heard.append(tuple(inputs[0].shape[2:])))
    with torch.no_grad():
        assert torch.equal(network(image()), plain(image()))
    assert heard == []
    network.train()
    logits, auxiliary = network(image())
    assert logits.shape == auxiliary.shape == (2, 5, 64, 96)
    assert heard == [(64 // stride, 96 // stride)]
    auxiliary.sum().backward()
    assert network.encoder.model.conv_stem.weight.grad.abs().max() > 0
    assert network.decoder.aspp[0].convs[0][0].weight.grad is None if architecture == "DeepLabV3Plus" else True
