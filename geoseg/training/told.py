"""How far a training is, for whoever draws the bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from geoseg.training.course import Course
from geoseg.training.plan import TrainingPlan


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """A moment of a training."""

    batches_done: int
    """Those before a resume included."""
    batches_total: int
    epoch: int
    """From 1."""
    epochs: int
    loss: float
    """Smoothed."""
    lr: float
    seconds: float
    """Time since this run began."""
    seconds_left: float
    """At this run's rate."""

    @classmethod
    def of(cls, plan: TrainingPlan, course: Course, lr: float, seconds: float, begun_at: int) -> Self:
        """Return the moment after a batch of a run that began after `begun_at` batches."""
        done, total = course.batches, plan.total_batches
        rate = (done - begun_at) / seconds if seconds > 0 else 0.0
        left = (total - done) / rate if rate > 0 else 0.0
        return cls(done, total, course.epochs + 1, plan.recipe.epochs, course.shown_loss, lr, seconds, left)
