"""The figures of a confusion matrix. What is not defined is nan, never 0, and no part of a mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from geoseg.evaluation.confusion import OTHERS, ConfusionMatrix

UNKNOWN = "unknown"
"""The class that DeepGlobe's published figures leave out of their mean."""


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """The figures of one class."""

    code: int
    name: str
    reference_px: int
    map_px: int
    iou: float
    """Pixels of the class in both, in those of the class in either; nan without any."""
    precision: float
    """User's accuracy: how much of the class in the map is right; nan where the map has none of it."""
    recall: float
    """Producer's accuracy: how much of the class in the reference was found; nan where the reference has none."""
    f1: float
    """Harmonic mean of the two; nan only where neither has the class."""

    @property
    def is_absent(self) -> bool:
        """Whether neither reference nor map has a pixel of it."""
        return not self.reference_px and not self.map_px

    @property
    def is_unknown(self) -> bool:
        """Whether it is the class called unknown."""
        return self.name.casefold() == UNKNOWN


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures of a confusion matrix."""

    classes: tuple[ClassMetrics, ...]
    miou: float
    """Mean IoU over all classes that are there, `unknown` too."""
    miou_without_unknown: float
    """Mean IoU over all classes that are there but `unknown`: six in DeepGlobe's published protocol."""
    overall_accuracy: float
    kappa: float
    """Cohen's (1960, 10.1177/001316446002000104): agreement beyond chance, where chance could fall short of 1."""
    pixels: int

    @classmethod
    def of(cls, matrix: ConfusionMatrix) -> Self:
        """Work out all figures. Those of a matrix without a pixel are nan."""
        right, theirs, ours = (px.astype(float) for px in (matrix.right_px, matrix.reference_px, matrix.map_px))
        iou = _share(right, theirs + ours - right)
        precision, recall, f1 = _share(right, ours), _share(right, theirs), _share(2 * right, theirs + ours)
        classes = tuple(
            ClassMetrics(code, name, int(theirs[i]), int(ours[i]), *(float(each[i]) for each in figures))
            for figures in [(iou, precision, recall, f1)]
            for i, (code, name) in enumerate(matrix)
        )
        counted = [each for each in classes if each.name != OTHERS]
        total = float(matrix.total_px)
        observed = right.sum() / total if total else math.nan
        chance = float((theirs / total) @ (ours / total)) if total else math.nan
        return cls(
            classes,
            miou=_mean([each.iou for each in counted]),
            miou_without_unknown=_mean([each.iou for each in counted if not each.is_unknown]),
            overall_accuracy=float(observed),
            kappa=(observed - chance) / (1 - chance) if chance < 1 else math.nan,
            pixels=matrix.total_px,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each thing that a reader of the means should know."""
        absent = [each.name for each in self.classes if each.is_absent]
        if not absent:
            return ()
        which = "has no pixel" if len(absent) == 1 else "have no pixel"
        return (f"{', '.join(absent)} {which} in reference and map: nan, and left out of the means",)

    def to_json(self) -> dict[str, object]:
        """Return plain values; None stands for nan, which JSON lacks."""
        return {
            "miou_without_unknown": plain(self.miou_without_unknown),
            "miou_all_classes": plain(self.miou),
            "overall_accuracy": plain(self.overall_accuracy),
            "kappa": plain(self.kappa),
            "pixels": self.pixels,
            "classes": [
                {
                    "code": each.code,
                    "name": each.name,
                    "reference_px": each.reference_px,
                    "map_px": each.map_px,
                    "iou": plain(each.iou),
                    "precision": plain(each.precision),
                    "recall": plain(each.recall),
                    "f1": plain(each.f1),
                }
                for each in self.classes
            ],
        }


def constant_map(matrix: ConfusionMatrix) -> tuple[str, float] | None:
    """Return the class that a map of one class does best to show, and its mIoU; pixels that are unknown never count.

    None where no pixel counts. What a map has learnt is what it gets beyond this.
    """
    pixels = {
        name: int(px) for name, px in zip(matrix.names, matrix.reference_px, strict=True) if name.casefold() != UNKNOWN
    }
    total, there = sum(pixels.values()), sum(px > 0 for px in pixels.values())
    if not total:
        return None
    name = max(pixels, key=lambda each: pixels[each])
    return name, pixels[name] / total / there


def plain(number: float) -> float | None:
    """Return a number as JSON can hold it: None for nan."""
    return number if math.isfinite(number) else None


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    share: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return share


def _mean(numbers: Sequence[float]) -> float:
    there = [number for number in numbers if not math.isnan(number)]
    return sum(there) / len(there) if there else math.nan
