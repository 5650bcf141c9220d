"""How far a run is: what a checkpoint holds beside tensors."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Self

from geoseg.training.history import EpochRow
from geoseg.training.plan import TrainingPlan

_SMOOTHING = 0.95
"""Of the loss that is shown: the weight of what was."""


@dataclass(slots=True)
class Course:
    """Counts and figures of a run so far. Whatever is added here later needs a default: older checkpoints lack it."""

    batches: int = 0
    """Done, of all epochs."""
    batch_size: int = 0
    """Of these; 0: none is done."""
    accumulate: int = 1
    """How many of them a step takes."""
    epoch_batches: int = 0
    """How many of them an epoch has."""
    epochs: int = 0
    """Whole ones, validation included."""
    best: float = -math.inf
    """The best mIoU on validation."""
    best_epoch: int = -1
    loss_sum: float = 0.0
    """Of the batches of the epoch that is not yet whole."""
    epoch_s: float = 0.0
    """What the epoch that is not yet whole has taken, in seconds."""
    shown_loss: float = math.nan
    """The smoothed one."""
    rows: tuple[EpochRow, ...] = ()

    def add_loss(self, value: float) -> None:
        """Count the loss of one more batch."""
        self.loss_sum += value
        first = math.isnan(self.shown_loss)
        self.shown_loss = value if first else _SMOOTHING * self.shown_loss + (1 - _SMOOTHING) * value

    def close_epoch(self, row: EpochRow) -> bool:
        """Count an epoch that is whole; tell whether it is the best so far."""
        self.epochs += 1
        self.loss_sum = self.epoch_s = 0.0
        self.rows = (*self.rows, row)
        better = row.miou > self.best  # no figure is better than none
        if better:
            self.best, self.best_epoch = row.miou, row.epoch
        return better

    def recounted(self, plan: TrainingPlan) -> Self:
        """Return the same course in the batches of a plan whose steps are as large, of more or fewer batches each."""
        if self.epoch_batches in {0, plan.batches} and self.accumulate == plan.recipe.accumulate:
            return self
        within = self.batches - self.epochs * self.epoch_batches
        now_within = within // self.accumulate * plan.recipe.accumulate
        return replace(
            self,
            batches=self.epochs * plan.batches + now_within,
            loss_sum=self.loss_sum * now_within / max(1, within),
        )

    def to_text(self) -> str:
        """Return the course as JSON text."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "rows"}
        return json.dumps(plain | {"rows": [row.to_json() for row in self.rows]})

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the course whose `to_text` this is."""
        told = json.loads(text)
        rows = tuple(EpochRow.from_json(row) for row in told.pop("rows"))
        return cls(**told, rows=rows)
