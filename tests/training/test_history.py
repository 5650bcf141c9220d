"""The rows of the epochs survive a checkpoint."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from geoseg.training.callbacks import TrainingState
from geoseg.training.report import EpochRow

FIGURES = st.floats(allow_infinity=False)


@given(st.lists(FIGURES, min_size=5, max_size=5), st.dictionaries(st.text(), FIGURES))
def test_a_row_comes_back_as_it_went(figures: list[float], iou: dict[str, float]) -> None:
    loss, valid, miou, lr, seconds = figures
    row = EpochRow(4, 40, loss, valid, miou, iou, lr, seconds)
    state = TrainingState(rows=(row,))
    assert repr(TrainingState.from_text(state.to_text())) == repr(state)  # nan is not equal to nan


def test_a_course_comes_back_as_it_went() -> None:
    course = TrainingState(batches=7, batch_size=2, epoch_batches=5, loss_sum=0.5, epoch_s=3.5)
    assert course.close_epoch(EpochRow(0, 5, 1.0, math.nan, math.nan)) is False
    assert course.close_epoch(EpochRow(1, 10, 1.0, 0.9, 0.4, {"water": 0.4})) is True
    assert course.close_epoch(EpochRow(2, 15, 1.0, 0.9, 0.3)) is False
    assert (course.epochs, course.best, course.best_epoch, course.loss_sum, course.epoch_s) == (3, 0.4, 1, 0.0, 0.0)
    assert repr(TrainingState.from_text(course.to_text())) == repr(course)
