"""The optimizers by their names."""

from __future__ import annotations

from typing import Any

import torch

from geoseg.training.recipe import Recipe

_MATRIX = 2


def optimizer_of(recipe: Recipe, network: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
    """Return an optimizer of the parameters that learn; biases and the scales of norm layers are not decayed."""
    learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in learnt if parameter.ndim >= _MATRIX]},
        {"params": [parameter for parameter in learnt if parameter.ndim < _MATRIX], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
        case "rmsprop":
            return torch.optim.RMSprop(
                groups, lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, eps=recipe.eps
            )
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(
        groups, lr, betas=recipe.betas, eps=recipe.eps, weight_decay=recipe.weight_decay, amsgrad=recipe.amsgrad
    )
