"""Who is told what happens in a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoseg.training.course import Course
from geoseg.training.history import EpochRow
from geoseg.training.validate import Seen

if TYPE_CHECKING:
    from geoseg.training.learner import Learner


def _nothing(*_: object) -> None:
    pass


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Listener:
    """Functions that are called; every one may do nothing. Called by the first of several devices alone."""

    batch: Callable[[Course, float], None] = _nothing
    """After each batch: the course and the learning rate."""
    epoch: Callable[[EpochRow], None] = _nothing
    keep: Callable[[Learner], None] = _nothing
    """Write a checkpoint."""
    keep_best: Callable[[Learner], None] = _nothing
    due: Callable[[], bool] = _never
    """Whether a checkpoint is due within an epoch."""
    stop: Callable[[], bool] = _never
    """Whether the run is to end after this batch."""
    seen: Seen = _nothing
    """Of validation: a scene, a window, the codes of the reference and of the network."""
