"""SegNet's pooling by positions, against torch's pooling by indices."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from geoseg.model import build
from geoseg.model.network.own_networks import _unpool, pool


@pytest.mark.parametrize("equal", [False, True], ids=["all differ", "many are equal"])
def test_places_are_those_of_torch(equal: bool) -> None:  # noqa: FBT001 - a parameter of a test
    generator = torch.Generator().manual_seed(3)
    values = torch.rand(2, 5, 12, 8, generator=generator)
    values = (values * 3).floor() if equal else values
    maxima, places = pool(values)
    wanted, indices = functional.max_pool2d(values, 2, return_indices=True)
    assert torch.equal(maxima, wanted)
    assert torch.equal(places.sum(dim=2), torch.ones_like(wanted, dtype=torch.int64))
    others = torch.rand(maxima.shape, generator=generator)
    assert torch.equal(_unpool(others, places), torch.nn.MaxUnpool2d(2)(others, indices))


def test_gradients_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(4)
    values = torch.rand(1, 3, 8, 8, generator=generator)
    factor = torch.rand(1, 3, 8, 8, generator=generator)
    values.requires_grad_()
    maxima, places = pool(values)
    (ours,) = torch.autograd.grad((_unpool(maxima * 2, places) * factor).sum(), values)
    wanted, indices = functional.max_pool2d(values, 2, return_indices=True)
    (torchs,) = torch.autograd.grad((torch.nn.MaxUnpool2d(2)(wanted * 2, indices) * factor).sum(), values)
    assert bool(torchs.any())
    torch.testing.assert_close(ours, torchs)


def test_all_that_a_seed_fills_comes_back() -> None:
    """Only VGG's classifier, which is discarded, stays uninitialized."""
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build("SegNet", {"encoder_name": "vgg11_bn", "in_channels": 3, "classes": 2}).state_dict())
    one, other = states
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(tensor.isfinite().all() and tensor.std() > 0 for tensor in one.values() if tensor.ndim == 4)


def test_mirror_has_the_convolutions_of_the_vgg() -> None:
    """Thirteen convolutions in the encoder, thirteen in the decoder with the classifier: the paper's figure 2."""
    with torch.device("meta"):
        network = build("SegNet", {"in_channels": 4, "classes": 7})

    def convolutions(part: torch.nn.Module) -> list[tuple[int, int]]:
        return [(m.in_channels, m.out_channels) for m in part.modules() if isinstance(m, torch.nn.Conv2d)]

    down = convolutions(network.get_submodule("encoder"))
    up = convolutions(network.get_submodule("decoder")) + convolutions(network.get_submodule("segmentation_head"))
    assert len(down) == 13
    assert [(after, before) for before, after in reversed(down[1:])] == up[:-1]
    assert up[-1] == (64, 7)
