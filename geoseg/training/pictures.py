"""A few pictures of validation for TensorBoard: imagery, reference, map; bounded in number and in time."""

from __future__ import annotations

import time

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from geoseg.dataset import PreparedScene
from geoseg.evaluation import colored, natural
from geoseg.raster import Window
from geoseg.training.learner import Learner
from geoseg.training.plan import TrainingPlan

EVERY_EPOCHS, SCENES, SIDE_PX = 5, 4, 256
SHARE = 0.05
"""Of the run's time: whoever waits for a training waits for the network."""


class Pictures:
    """Looks at validation, and shows a handful of places now and then."""

    def __init__(self, plan: TrainingPlan) -> None:
        self._plan = plan
        self._rows: dict[str, NDArray[np.uint8]] = {}
        self._begun_s = time.monotonic()
        self._spent_s = 0.0

    def see(
        self, scene: PreparedScene, window: Window, reference: NDArray[np.uint8], predicted: NDArray[np.uint8]
    ) -> None:
        """Remember the first place of each of the first scenes: codes of reference and network, each (row, col)."""
        if scene.id in self._rows or len(self._rows) == SCENES or not self._has_time():
            return
        begin = time.monotonic()
        cut = Window(0, 0, min(SIDE_PX, window.height), min(SIDE_PX, window.width))
        patch = scene.read(Window(window.row, window.col, cut.height, cut.width))
        image = natural(patch.data, patch.valid, self._plan.stretch)
        shown = [colored(codes[cut.rows, cut.cols], self._plan.legend) for codes in (reference, predicted)]
        self._rows[scene.id] = np.concatenate([image, *shown], axis=1)
        self._spent_s += time.monotonic() - begin

    def log(self, learner: Learner) -> None:
        """Hand the pictures of this validation to TensorBoard, where it is their epoch."""
        epoch = learner.course.epochs
        if epoch % EVERY_EPOCHS == 1 or epoch == self._plan.recipe.epochs:
            begin = time.monotonic()
            for logger in learner.loggers:
                if isinstance(logger, TensorBoardLogger):
                    for name, row in self._rows.items():
                        logger.experiment.add_image(name, row, epoch, dataformats="HWC")
            self._spent_s += time.monotonic() - begin
        self._rows.clear()

    def _has_time(self) -> bool:
        return self._spent_s <= SHARE * (time.monotonic() - self._begun_s)
