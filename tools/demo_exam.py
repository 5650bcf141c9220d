"""An exam of the demo model: one confusion matrix over all scenes, and the figures that the bundle and card keep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from geoseg.dataset.dataset import Dataset
from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.evaluation.evaluation import Evaluation
from geoseg.evaluation.exam import examine
from geoseg.evaluation.metrics import constant_map
from geoseg.model.bundle import ModelBundle


def examine_as(
    bundle: ModelBundle, dataset: Dataset, rule: Path | None, cache: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return the figures of a model on the test part of a rule's scenes, or on all scenes.

    Each scene is mapped at the model's own pixel size and counted on its labels' pixels; `unknown` never counts.
    """
    part, said = ("all", None) if rule is None else ("test", str(rule))
    ignore = [name for name in dataset.legend.names if name == "unknown"] or None
    found = examine(bundle, dataset, part, rule=said, device="cpu", ignore=ignore, cache=cache, announce=say)
    return figures_of(found)


def figures_of(found: Evaluation) -> dict[str, Any]:
    """Return plain figures; the mean is over the classes that occur in the labels."""
    iou = iou_by_name(found.matrix)
    occurring = [value for value in iou.values() if value is not None]
    return {
        "mean_iou": round(sum(occurring) / len(occurring), 4),
        "classes_in_mean": len(occurring),
        "accuracy": round(found.metrics.overall_accuracy, 4),
        "iou": {name: None if value is None else round(value, 4) for name, value in iou.items()},
        **confidence_of(found.calibration),
        "pixels": found.matrix.total_px,
        "constant": constant_of(found.matrix),
    }


def confidence_of(table: Calibration | None) -> dict[str, float]:
    """Return how sure the model was on average, and the expected calibration error; nothing where nobody asked."""
    if table is None or not table.pixels:
        return {}
    mean = float(table.confidence_sum.sum()) / table.pixels
    return {"mean_confidence": round(mean, 4), "calibration_error": round(table.error, 4)}


def iou_by_name(matrix: ConfusionMatrix) -> dict[str, float | None]:
    """Return the IoU of each class; None for one without a pixel in the labels."""
    unions = matrix.reference_px + matrix.map_px - matrix.right_px
    each = zip(matrix.names, matrix.reference_px, matrix.right_px, unions, strict=True)
    return {name: float(right / union) if there else None for name, there, right, union in each}


def constant_of(matrix: ConfusionMatrix) -> dict[str, Any]:
    """Return the class that a map of one class does best to show, and what it would get.

    Its accuracy is the class's share of the pixels, which is its IoU too; all other classes have an IoU of 0.
    """
    best = constant_map(matrix)
    if best is None:
        raise ValueError("an exam without a labelled pixel has no figures")
    name, mean_iou = best
    accuracy = int(matrix.reference_px[matrix.names.index(name)]) / matrix.total_px
    return {"class": name, "mean_iou": round(mean_iou, 4), "accuracy": round(accuracy, 4)}
