"""LightFPN's output for a pixel depends on its surroundings, not on the window that contains it."""

from __future__ import annotations

import pytest
import torch

from geoseg.model import build
from tests.networks import random_network

ENCODER = "tu-tf_efficientnet_lite0"
ARGUMENTS = {"encoder_name": ENCODER, "in_channels": 3, "classes": 4, "decoder_channels": 8}
WIDTH, STRIP = 1536, 64
REACH_PX = 544
"""The receptive radius of Lite0 and the pyramid: the kernels' summed reach, about 460 pixels, and a stride or two."""


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return random_network("LightFPN", ARGUMENTS)


@pytest.fixture(scope="module")
def strip() -> torch.Tensor:
    return torch.randn(1, 3, STRIP, WIDTH, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_what_is_far_away_changes_nothing(network: torch.nn.Module, strip: torch.Tensor) -> None:
    other = strip.clone()
    other[..., -STRIP:] = 3 * other[..., -STRIP:] + 5
    first, second = network(strip), network(other)
    assert not torch.allclose(first[..., -STRIP:], second[..., -STRIP:], atol=1e-3)
    near = WIDTH - STRIP - REACH_PX
    torch.testing.assert_close(first[..., :near], second[..., :near], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shift_px", [32, 192])
@torch.no_grad()
def test_a_window_that_lies_elsewhere_says_the_same(
    network: torch.nn.Module, strip: torch.Tensor, shift_px: int
) -> None:
    here, there = network(strip), network(strip[..., shift_px:])
    torch.testing.assert_close(
        here[..., REACH_PX + shift_px : -REACH_PX], there[..., REACH_PX:-REACH_PX], atol=1e-4, rtol=1e-4
    )


def test_strides_are_added_from_the_coarsest_on() -> None:
    """The oracle is the definition, upsampling to sizes in pixels instead of by factors."""
    network = random_network("LightFPN", ARGUMENTS).double()
    image = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        features = network.get_submodule("encoder")(image)
        laterals = list(network.get_submodule("decoder.laterals").children())
        total = laterals[0](features[5])
        for lateral, level in zip(laterals[1:], (4, 3, 2), strict=True):
            grown = torch.nn.functional.interpolate(
                total, size=features[level].shape[-2:], mode="bilinear", align_corners=False
            )
            total = grown + lateral(features[level])
        logits = network.get_submodule("segmentation_head")(network.get_submodule("decoder.merge")(total))
        wanted = torch.nn.functional.interpolate(logits, size=(64, 96), mode="bilinear", align_corners=False)
        torch.testing.assert_close(network(image), wanted)


def test_no_norm_layer_measures_the_window() -> None:
    with torch.device("meta"):
        network = build("LightFPN", ARGUMENTS)
    kinds = (torch.nn.GroupNorm, torch.nn.InstanceNorm2d, torch.nn.LayerNorm, torch.nn.AdaptiveAvgPool2d)
    assert not any(isinstance(module, kinds) for module in network.modules())
