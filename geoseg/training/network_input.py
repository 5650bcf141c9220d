"""What a network is given, and what its channels stand for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.legend import NODATA
from geoseg.training.plan import TrainingPlan


def normalized(image: torch.Tensor, valid: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return image (n, band, row, col) times gain plus bias (band, 1, 1); 0 where not valid (n, row, col).

    In the memory layout in which convolutions are quickest.
    """
    pixels = torch.where(valid[:, None], image * gain + bias, 0.0)
    return pixels.contiguous(memory_format=torch.channels_last)


def channel_table(output_codes: Sequence[int]) -> NDArray[np.int64]:
    """Return (256,): the network's channel of each class code, 255 for a code that is not learnt."""
    table = np.full(256, NODATA, np.int64)
    table[list(output_codes)] = np.arange(len(output_codes))
    return table


def target_table(plan: TrainingPlan) -> NDArray[np.int64]:
    """Return (256,): the target of each class code, 255 = ignore; sets of classes are numbered after the channels."""
    table = channel_table(plan.output_codes)
    for number, (code, channels) in enumerate(plan.sets, start=len(plan.output_codes)):
        table[code] = channels[0] if len(channels) == 1 else number
    return table
