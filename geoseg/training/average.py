"""The running average of the weights: steadier than any of them (Polyak and Juditsky 1992; arXiv 1803.05407)."""

from __future__ import annotations

import copy

import torch

_SOON = 20
"""In the first steps the average of a network that began at random follows quicker, or it would remember that."""


def average_of(network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy that does not learn by itself."""
    return copy.deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def average_into(
    averaged: torch.nn.Module, network: torch.nn.Module, decay: float, step: int, *, began_well: bool = False
) -> None:
    """Move an average towards the weights, and the statistics of its norm layers, after a step counted from 1.

    Where the network began with weights that know something they are part of the average like any others: between
    those and the last ones lie weights that do better on what neither saw (Wortsman et al. 2022, arXiv 2109.01903).
    """
    decay = decay if began_well else min(decay, step / (step + _SOON))
    kept, new = averaged.state_dict(), network.state_dict()
    floats = [name for name, tensor in kept.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([kept[name] for name in floats], [new[name] for name in floats], 1 - decay)
    for name in kept.keys() - floats:
        kept[name].copy_(new[name])
