"""Group normalization instead of batch normalization, and frozen batch normalization."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d

from geoseg.model import build, early_layers, freeze_batch_norm
from geoseg.model.network.network import _replace_batch_norm
from tests.networks import TINY, random_network

SEVEN = {**TINY, "in_channels": 3, "classes": 7}


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def test_an_image_does_not_depend_on_the_others_of_its_batch() -> None:
    def differs(norm: str) -> float:
        network = random_network("Unet", {**SEVEN, "norm": norm}).train()
        with torch.no_grad():
            alone, together = network(images(1)), network(torch.cat((images(1), images(3, seed=1) * 5)))[:1]
        return float((alone - together).abs().max() / alone.abs().max())

    assert differs("group") < 1e-4
    assert differs("batch") > 1e-2, "the oracle says too little"


def test_training_and_evaluation_are_one() -> None:
    network = random_network("PlainUnet", {"in_channels": 3, "classes": 7, "depth": 2, "channels": 8, "norm": "group"})
    with torch.no_grad():
        torch.testing.assert_close(network.train()(images(2)), network.eval()(images(2)))


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (256, 32), (48, 24), (24, 12), (16, 8), (7, 1), (1, 1)])
def test_groups_are_equal_and_of_two_channels_at_least(channels: int, groups: int) -> None:
    network: Any = torch.nn.Sequential(torch.nn.BatchNorm2d(channels))
    _replace_batch_norm(network)
    values = torch.rand(2, channels, 5, 4)
    oracle = torch.nn.GroupNorm(groups, channels)
    torch.testing.assert_close(network(values), oracle(values))


def test_scale_shift_and_activation_are_kept() -> None:
    norm = BatchNormAct2d(8, act_layer=torch.nn.Hardswish)
    torch.nn.init.uniform_(norm.weight, -1, 1)
    torch.nn.init.uniform_(norm.bias, -1, 1)
    network: Any = torch.nn.Sequential(copy.deepcopy(norm))
    _replace_batch_norm(network)
    values = torch.rand(2, 8, 5, 4)
    wanted = torch.nn.functional.hardswish(torch.nn.functional.group_norm(values, 4, norm.weight, norm.bias, norm.eps))
    torch.testing.assert_close(network(values), wanted)
    assert set(network.state_dict()) == {"0.weight", "0.bias"}


def test_no_tiny_batch_is_too_small() -> None:
    """A decoder that pools one crop to one pixel trains with group normalization; batch normalization refuses it."""
    arguments = {"encoder_name": TINY["encoder_name"], "in_channels": 3, "classes": 7, "decoder_channels": 8}
    with pytest.raises(ValueError, match="more than 1 value"):
        build("DeepLabV3", arguments).train()(images(1))
    assert build("DeepLabV3", {**arguments, "norm": "group"}).train()(images(1)).isfinite().all()


def trained(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict after two training steps."""
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    for seed in range(2):
        network.train()
        optimizer.zero_grad()
        network(images(2, seed) * 3).square().mean().backward()
        optimizer.step()
    return {key: tensor.clone() for key, tensor in network.state_dict().items()}


def test_frozen_batch_norm_stays_through_train() -> None:
    network = random_network("Unet", SEVEN)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    norms = {name for name, module in network.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert freeze_batch_norm(network) == len(norms) > 10
    after = trained(network)
    of_norms = [key for key in before if key.rpartition(".")[0] in norms]
    assert len(of_norms) == 5 * len(norms)
    assert all(torch.equal(before[key], after[key]) for key in of_norms)
    assert any(not torch.equal(before[key], after[key]) for key in before if key not in of_norms)
    moving = trained(random_network("Unet", SEVEN))
    assert not all(torch.equal(before[key], moving[key]) for key in of_norms), "the oracle says too little"


def pickled(network: torch.nn.Module) -> Any:
    return pickle.loads(pickle.dumps(network))  # noqa: S301 - our own bytes


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_frozen_stays_frozen_in_a_copy(copied: Any) -> None:
    """Weight averaging copies the network, and training on several devices pickles it."""
    network = random_network("PlainUnet", {"in_channels": 3, "classes": 7, "depth": 1, "channels": 4})
    freeze_batch_norm(network)
    twin = copied(network).train()
    before = copy.deepcopy({key: value for key, value in twin.state_dict().items() if "running" in key})
    twin(images(2))
    assert all(torch.equal(before[key], twin.state_dict()[key]) for key in before)
    assert set(twin.state_dict()) == set(network.state_dict())


@pytest.mark.parametrize(
    ("arguments", "early", "late"),
    [
        ({"encoder_name": "resnet18"}, ("conv1", "bn1", "layer1."), ("layer2.", "layer3.", "layer4.")),
        ({"encoder_name": "mobilenet_v2"}, ("features.0.", "features.1.", "features.3."), ("features.4.conv.2",)),
        ({"encoder_name": "mit_b0"}, ("patch_embed1", "block1"), ("block2", "patch_embed2", "block4")),
    ],
)
def test_early_layers_see_a_quarter_of_the_resolution(
    arguments: dict[str, Any], early: tuple[str, ...], late: tuple[str, ...]
) -> None:
    network = random_network("FPN", {**arguments, "in_channels": 3, "classes": 7})
    found = early_layers(network, images(1))
    names = {name.removeprefix("encoder.") for name, module in network.named_modules() if module in found}
    assert all(any(name.startswith(start) for name in names) for start in early)
    assert not [name for name in names if name.startswith(late)]
