"""A network prepared for inference gives the same output in fewer steps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d

from geoseg.model.network import fold_batch_norm, halve_weights
from tests.networks import random_network

SMALL: dict[str, Any] = {"decoder_channels": [32, 16, 16, 8, 8]}
NETWORKS: list[tuple[str, str | None, dict[str, Any]]] = [
    ("Unet", "resnet18", SMALL),
    ("UnetPlusPlus", "tu-tf_efficientnet_lite0", SMALL),
    ("FPN", "mobilenet_v2", {}),
    ("PSPNet", "resnet18", {}),
    ("DeepLabV3Plus", "timm-regnetx_002", {"decoder_channels": 32}),
    ("Linknet", "efficientnet-b0", {}),
    ("MAnet", "tu-resnet10t", {**SMALL, "decoder_pab_channels": 8}),
    ("Segformer", "mit_b0", {}),
    ("UPerNet", "tu-ghostnet_100", {"decoder_channels": 16}),
    ("LightFPN", "tu-mobilenetv4_conv_small", {}),
    ("FCN8s", "densenet121", {}),
    ("PlainUnet", None, {"depth": 2, "channels": 8}),
    ("SegNet", "vgg11_bn", {}),
]
EXAMPLE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
OTHER = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1)) * 3


def norms(network: torch.nn.Module) -> int:
    return sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(("architecture", "encoder", "more"), NETWORKS)
def test_folded_it_says_the_same_and_has_fewer_normalizations(
    architecture: str, encoder: str | None, more: dict[str, Any]
) -> None:
    sizes: dict[str, Any] = {"in_channels": 3, "classes": 5} | ({"encoder_name": encoder} if encoder else {})
    network = random_network(architecture, sizes | more)
    before = norms(network)
    with torch.no_grad():
        wanted = network.double()(OTHER.double()).float()  # of pixels and a size that the folding never saw
        folded, count = fold_batch_norm(network.float(), EXAMPLE)
        found = folded(OTHER)
    assert (count > 0) == (before > 0)
    assert norms(folded) == before - count
    assert norms(network) == before, "the network itself was changed"
    assert count >= 0.4 * before
    torch.testing.assert_close(found, wanted, atol=2e-5 * float(wanted.abs().max()), rtol=0)


class Net(torch.nn.Module):
    """One convolution and one normalization, one after the other unless a subclass joins them otherwise."""

    def __init__(self, convolution: torch.nn.Module | None = None, norm: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.convolution = convolution or torch.nn.Conv2d(3, 6, 3, padding=1)
        self.norm = norm or torch.nn.BatchNorm2d(6)
        for name, (low, high) in {"running_mean": (-1, 1), "running_var": (0.1, 3), "weight": (-2, 2)}.items():
            torch.nn.init.uniform_(getattr(self.norm, name), low, high)
        torch.nn.init.uniform_(self.norm.bias, -1, 1)
        self.eval()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.norm(self.convolution(values))
        return found


class UsedTwice(Net):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        made = self.convolution(values)
        found: torch.Tensor = self.norm(made) + made
        return found


class BetweenThem(Net):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.norm(self.convolution(values).relu_())
        return found


class OnTwoPaths(Net):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.norm(self.convolution(values)) + self.convolution(values * 2)
        return found


class WeightSeen(Net):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.norm(self.convolution(values)) * self.convolution.weight.mean()
        return found


class LooksIntoItsNorm(Net):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.norm(self.convolution(values)) * self.norm.eps
        return found


@pytest.mark.parametrize("kind", [UsedTwice, BetweenThem, OnTwoPaths, WeightSeen, LooksIntoItsNorm])
def test_where_more_hangs_on_a_pair_it_is_left_alone(kind: type[Net]) -> None:
    network = kind()
    with torch.no_grad():
        wanted = network(OTHER)
        folded, count = fold_batch_norm(network, EXAMPLE)
        assert count == 0
        torch.testing.assert_close(folded(OTHER), wanted, atol=0, rtol=0)


def test_a_convolution_that_changes_its_weights_first_is_left_alone() -> None:
    class Standardized(torch.nn.Conv2d):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return torch.nn.functional.conv2d(values, weight, self.bias, padding=1)

    network = Net(Standardized(3, 6, 3))
    assert fold_batch_norm(network, EXAMPLE)[1] == 0
    assert halve_weights(copy.deepcopy(network), EXAMPLE, torch.float16) == 1, "its bias alone"


@pytest.mark.parametrize(
    "network",
    [
        Net(),
        Net(torch.nn.Conv2d(3, 6, 3, bias=False, padding=1, padding_mode="reflect")),
        Net(torch.nn.Conv2d(3, 6, 3, groups=3)),
        Net(torch.nn.ConvTranspose2d(3, 6, 2, stride=2)),
        Net(norm=BatchNormAct2d(6, act_layer=torch.nn.Hardswish)),
    ],
    ids=["plain", "reflecting, no bias", "groups", "transposed", "with an activation"],
)
def test_pairs_of_every_kind_are_folded(network: Net) -> None:
    with torch.no_grad():
        wanted = network(OTHER)
        folded, count = fold_batch_norm(network, EXAMPLE)
        assert count == 1
        torch.testing.assert_close(folded(OTHER), wanted, atol=1e-5, rtol=1e-5)


def test_a_transposed_convolution_in_groups_is_left_alone() -> None:
    assert fold_batch_norm(Net(torch.nn.ConvTranspose2d(3, 6, 2, groups=3)), EXAMPLE)[1] == 0


@pytest.mark.parametrize(
    ("architecture", "encoder", "leading"),
    [("Unet", "resnet18", 1), ("Segformer", "mit_b0", 1), ("LightFPN", "tu-tf_efficientnet_lite0", 11)],
)
def test_halved_weights_say_what_autocast_says_and_the_rest_stays(
    architecture: str, encoder: str, leading: int
) -> None:
    network = random_network(architecture, {"in_channels": 3, "classes": 5, "encoder_name": encoder})
    halved = copy.deepcopy(network)
    count = halve_weights(halved, EXAMPLE, torch.float16)
    dtypes = {name: weight.dtype for name, weight in halved.named_parameters()}
    assert sum(dtype == torch.float16 for dtype in dtypes.values()) == count > 20
    assert all(dtype == torch.float32 for name, dtype in dtypes.items() if "norm" in name or "bn" in name)
    convolutions = [module for module in halved.modules() if isinstance(module, torch.nn.Conv2d)]
    full = [module for module in convolutions if module.weight.dtype == torch.float32]
    assert full == convolutions[:leading]
    with torch.no_grad():
        exact = network.double()(EXAMPLE.double()).float()
        with torch.autocast("cpu", torch.float16):
            plain, ours = network.float()(EXAMPLE), halved(EXAMPLE)
    assert (ours - exact).abs().max() < 0.01 * exact.abs().max()
    # processors round half-precision sums differently: a hundredth more is acceptable
    assert (ours - exact).abs().mean() < 1.02 * (plain - exact).abs().mean()
