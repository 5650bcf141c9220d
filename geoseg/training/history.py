"""What each epoch of a training was like: one row an epoch, in a file that a killed run goes on with."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from geoseg.atomic import write_durably
from geoseg.errors import SceneError
from geoseg.evaluation import plain

_IOU = "iou "
_FIELDS = ("epoch", "step", "train_loss", "valid_loss", "miou", "lr", "seconds")


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch. What was not measured is nan."""

    epoch: int
    """From 0."""
    step: int
    """Optimizer steps since the training began, this epoch's included."""
    train_loss: float
    valid_loss: float
    miou: float
    """On validation; the published protocol's, without `unknown`."""
    iou: Mapping[str, float] = field(default_factory=dict, hash=False)
    """On validation, by the name of the class."""
    lr: float = math.nan
    """At the end of the epoch."""
    seconds: float = math.nan
    """The epoch took, validation included."""

    def to_json(self) -> dict[str, object]:
        """Return plain values; None stands for nan."""
        numbers = {name: plain(float(getattr(self, name))) for name in _FIELDS[2:]}
        return {
            "epoch": self.epoch,
            "step": self.step,
            **numbers,
            "iou": {name: plain(float(value)) for name, value in self.iou.items()},
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """Return the row whose `to_json` this is."""
        numbers = {name: _number(value) for name, value in told.items() if name in _FIELDS[2:]}
        iou = {name: _number(value) for name, value in told["iou"].items()}
        return cls(told["epoch"], told["step"], iou=iou, **numbers)


def to_csv(rows: Iterable[EpochRow]) -> str:
    """Return rows as CSV, a line an epoch, a column a class."""
    rows = list(rows)
    classes = list(dict.fromkeys(name for row in rows for name in row.iou))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*_FIELDS, *(f"{_IOU}{name}" for name in classes)])
    for row in rows:
        writer.writerow([*(getattr(row, name) for name in _FIELDS), *(row.iou.get(name, math.nan) for name in classes)])
    return file.getvalue()


def write_history(path: Path, rows: Iterable[EpochRow]) -> None:
    """Write rows as CSV. Raises OutputError; the file that was there stays until the new one is whole."""
    write_durably(path, to_csv(rows).encode())


def read_history(path: Path) -> tuple[EpochRow, ...]:
    """Return the rows of a file; none if it is not there. Raises SceneError for one that holds something else."""
    if not path.exists():
        return ()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return tuple(_row(cells) for cells in csv.DictReader(file))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SceneError(
            f"{path} is no history that geoseg wrote ({' '.join(str(error).split()):.80}); move it away"
        ) from None


def best_epoch(rows: Sequence[EpochRow]) -> EpochRow | None:
    """Return the row with the highest mIoU; where there is none the lowest loss; None of no row."""
    for name, sign in (("miou", 1.0), ("valid_loss", -1.0), ("train_loss", -1.0)):
        measured = [row for row in rows if not math.isnan(getattr(row, name))]
        if measured:
            return max(measured, key=lambda row: sign * float(getattr(row, name)))
    return rows[-1] if rows else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _row(cells: Mapping[str, str]) -> EpochRow:
    numbers = {name: float(cells[name]) for name in _FIELDS[2:]}
    iou = {name.removeprefix(_IOU): float(value) for name, value in cells.items() if name.startswith(_IOU)}
    return EpochRow(int(cells["epoch"]), int(cells["step"]), iou=iou, **numbers)
