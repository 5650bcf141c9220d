"""A training, wholly decided before its first step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from geoseg.dataset import Member, PreparedScene
from geoseg.legend import Legend
from geoseg.model import Normalization, default_overlap
from geoseg.raster import BandStatistics
from geoseg.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What a training learns, from what, and how long. Small and picklable: scenes are paths."""

    recipe: Recipe
    architecture: str
    arguments: dict[str, Any]
    legend: Legend
    output_codes: tuple[int, ...]
    """The class code of each channel of the network."""
    bands: tuple[str, ...]
    dtype: str
    normalization: Normalization
    statistics: BandStatistics
    """Of the training scenes, in stored units."""
    stretch: tuple[float, float]
    """The stored values that stand for 0 and 1 while colours are changed."""
    class_weights: tuple[float, ...] | None
    """Of each channel in the loss."""
    train: tuple[PreparedScene, ...]
    valid: tuple[PreparedScene, ...]
    """May be empty: then the last weights are kept."""
    gsd_m: float | None
    window_px: int
    batch_size: int
    batches: int
    """Of one epoch."""
    from_bundle: bool
    """Whether the network begins with what a bundle knows."""
    data: dict[str, Any]
    """The data set and its split, for the bundle's provenance."""
    sets: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """(code, channels) of labels that leave open which of several classes a pixel is."""
    members: tuple[Member, ...] = ()
    """The data sets of a mixture, which have some of `train` each; empty for one data set."""

    @property
    def overlap_px(self) -> int:
        """Of the bundle's windows."""
        return default_overlap(self.window_px)

    @property
    def total_batches(self) -> int:
        """Of all epochs."""
        return self.batches * self.recipe.epochs

    @property
    def epoch_steps(self) -> int:
        """Steps of the optimizer in an epoch."""
        return math.ceil(self.batches / self.recipe.accumulate)

    @property
    def steps(self) -> int:
        """Steps of the optimizer in all."""
        return self.epoch_steps * self.recipe.epochs

    def step_of(self, batch: int) -> int:
        """Return the step, from 0, that the gradients of a batch, from 0, go into; an epoch's last may have fewer."""
        epoch, within = divmod(batch, self.batches)
        return epoch * self.epoch_steps + within // self.recipe.accumulate
