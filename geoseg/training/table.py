"""The table that grows while a training runs: a line an epoch."""

from __future__ import annotations

import math

from geoseg.training.history import EpochRow
from geoseg.training.plan import TrainingPlan

_WIDTH = 7
_SHORT = 10


class Table:
    """Lines of equal width: epoch, losses, mIoU, and the IoU of each class."""

    def __init__(self, plan: TrainingPlan) -> None:
        self._names = tuple(plan.legend.by_code(code).name for code in plan.output_codes)
        self._epochs = plan.recipe.epochs
        self._width = max(_WIDTH, min(_SHORT, max(map(len, self._names))))

    def heading(self) -> list[str]:
        """Return the lines above."""
        titles = ["train", "valid", "mIoU", *(_short(name) for name in self._names)]
        return ["epoch".rjust(9) + "".join(title.rjust(self._width + 1) for title in titles)]

    def line(self, row: EpochRow) -> str:
        """Return an epoch's line; what was not measured is a dash."""
        figures = [row.train_loss, row.valid_loss, row.miou, *(row.iou.get(name, math.nan) for name in self._names)]
        cells = "".join(("-" if math.isnan(each) else f"{each:.3f}").rjust(self._width + 1) for each in figures)
        return f"{row.epoch + 1}/{self._epochs}".rjust(9) + cells


def _short(name: str) -> str:
    """Return the name's first word, for a narrow column."""
    return name.split("_", maxsplit=1)[0].split(" ", maxsplit=1)[0][:_SHORT]
