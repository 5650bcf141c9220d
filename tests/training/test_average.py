"""The running average of the weights, against a loop over numpy arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geoseg.training.optimization import average_into, average_of


def network(seed: int) -> torch.nn.Module:
    """Return a network with weights, running statistics and a counter."""
    torch.manual_seed(seed)
    norm = torch.nn.BatchNorm2d(3)
    for name, tensor in norm.named_buffers():
        tensor.fill_(seed) if name == "num_batches_tracked" else tensor.normal_()
    return torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), norm)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
def test_the_average_is_that_of_a_loop(decay: float) -> None:
    steps = [network(seed) for seed in range(40)]
    averaged = average_of(steps[0])
    wanted = {name: tensor.double().numpy().copy() for name, tensor in steps[0].state_dict().items()}
    for step, learnt in enumerate(steps[1:], start=1):
        average_into(averaged, learnt, decay, step)
        share = min(decay, step / (step + 20))
        for name, tensor in learnt.state_dict().items():
            wanted[name] = share * wanted[name] + (1 - share) * tensor.double().numpy()
    found = averaged.state_dict()
    assert int(found["1.num_batches_tracked"]) == 39, "a counter is no number to average"
    for name in wanted.keys() - {"1.num_batches_tracked"}:
        np.testing.assert_allclose(found[name].numpy(), wanted[name], rtol=0, atol=1e-5)


def test_the_average_does_not_learn_and_leaves_the_network_alone() -> None:
    learnt = network(1).train()
    before = {name: tensor.clone() for name, tensor in learnt.state_dict().items()}
    averaged = average_of(learnt)
    average_into(averaged, network(2), 0.9, 1)
    assert not averaged.training
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in learnt.state_dict().items())
    assert learnt.training
    assert all(parameter.requires_grad for parameter in learnt.parameters())
