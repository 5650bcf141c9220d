"""When a run's checkpoints are written, and what is in them. It goes to the process that has the weights."""

from __future__ import annotations

import time

from geoseg.training.checkpoint import save_state
from geoseg.training.finish import keep_best_bundle
from geoseg.training.folder import RunFolder
from geoseg.training.history import write_history
from geoseg.training.learner import Learner
from geoseg.training.pictures import Pictures
from geoseg.training.plan import TrainingPlan


class Keeper:
    """Writes into the folder of a run."""

    def __init__(self, plan: TrainingPlan, folder: RunFolder, minutes: float) -> None:
        self._folder = folder
        self._pictures = Pictures(plan)
        self.see = self._pictures.see
        self._every_s = 60 * minutes
        self._kept_s = time.monotonic()

    def due(self) -> bool:
        """Tell whether the last checkpoint is so many minutes old."""
        return time.monotonic() - self._kept_s >= self._every_s

    def keep(self, learner: Learner) -> None:
        """Write the checkpoint to go on from. Raises OutputError; the one before is then still there."""
        save_state(self._folder.last, learner.state())
        write_history(self._folder.history, learner.course.rows)
        if learner.course.batches % learner.plan.batches == 0:
            self._pictures.log(learner)
        self._kept_s = time.monotonic()

    def keep_best(self, learner: Learner) -> None:
        """Write the weights that the bundle will have. Raises OutputError."""
        save_state(self._folder.best, {"weights": learner.kept.state_dict(), "course": learner.course.to_text()})
        keep_best_bundle(learner, self._folder)
