"""Batch normalization where batches are too small for it: replaced by group normalization, or frozen."""

from __future__ import annotations

import torch

MAX_GROUPS = 32
"""Wu and He 2018, arXiv 1803.08494, table 3: 32 groups were the best of those tried."""
_LEAST_CHANNELS = 2
"""A group of one channel is empty of meaning where a decoder pools a window to one pixel."""


def replace_batch_norm(network: torch.nn.Module) -> int:
    """Put group normalization in place of every 2-D batch normalization; return how many.

    Scale and shift are kept under their names, running statistics are dropped: each image is normalized by itself, in
    training and afterwards. Pretrained weights expect the statistics they were trained with and lose by it at first.
    """
    found = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, torch.nn.BatchNorm2d)
    ]
    for parent, name, norm in found:
        setattr(parent, name, _GroupNorm(norm))
    return len(found)


def freeze_batch_norm(network: torch.nn.Module) -> int:
    """Make every batch normalization use its running statistics for good, and learn no more; return how many.

    It holds through `network.train()`: each one goes back to evaluation mode before it is used.
    """
    found = [module for module in network.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001 (the parent of all)
    for norm in found:
        norm.eval().requires_grad_(False)
        norm.register_forward_pre_hook(_stay)
    return len(found)


class _GroupNorm(torch.nn.GroupNorm):
    """In the place of a batch normalization, and of the activation that timm's carry with them."""

    def __init__(self, norm: torch.nn.BatchNorm2d) -> None:
        super().__init__(_groups(norm.num_features), norm.num_features, norm.eps, affine=False)
        self.weight, self.bias = norm.weight, norm.bias
        self.drop = getattr(norm, "drop", torch.nn.Identity())
        self.act = getattr(norm, "act", torch.nn.Identity())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        normalized: torch.Tensor = self.act(self.drop(super().forward(values)))
        return normalized


def _groups(channels: int) -> int:
    """Return the largest number of equal groups, at most 32, that leaves each at least two channels."""
    most = max(min(MAX_GROUPS, channels // _LEAST_CHANNELS), 1)
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


def _stay(norm: torch.nn.Module, _: object) -> None:
    norm.eval()
