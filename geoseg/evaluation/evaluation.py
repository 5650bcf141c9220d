"""The result of an evaluation as one value: for scripts, the report and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

from geoseg.evaluation.areas import Areas
from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.metrics import ConfusionMatrix, Metrics, classes_in_words, json_number, ratio_text
from geoseg.evaluation.pictures import WorstCrops
from geoseg.html import columns, table
from geoseg.typed import checked
from geoseg.version import VERSION

_PUBLISHED = "pixels that are `unknown` in the reference never count; the mean is over the other classes"
"""DeepGlobe's protocol (Demir et al. 2018, arXiv 1805.06561, and its leaderboard)."""


@dataclass(frozen=True, slots=True)
@checked
class LeftOut:
    """Pixels, or points of a sample, that do not count."""

    no_map: int = 0
    """The map has no class there: nodata, masked or outside."""
    no_reference: int = 0
    """The map has a class there, the reference has none."""
    ignored: int = 0
    """Both have a class, and one of the two is ignored."""
    several: int = 0
    """The map has a class there, and the reference allows several classes."""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(count for count, _ in self.reasons)

    @property
    def reasons(self) -> tuple[tuple[int, str], ...]:
        """(count, reason) for each reason that occurs."""
        all_reasons = (
            (self.no_map, "without a class in the map"),
            (self.no_reference, "without a class in the reference"),
            (self.ignored, "ignored"),
            (self.several, "that may be of several classes"),
        )
        return tuple(row for row in all_reasons if row[0])


@dataclass(frozen=True, slots=True)
@checked
class Evaluation:
    """The result of `evaluate`: a confusion matrix with its figures and notes.

    Examples
    --------
    >>> found = geoseg.evaluate("landcover.tif", "reference.tif", areas=True)  # doctest: +SKIP
    >>> found.metrics.miou, found.areas.to_frame()  # doctest: +SKIP

    """

    subject: str
    """The map, or the model."""
    reference: str
    """The data that it was compared with."""
    matrix: ConfusionMatrix
    metrics: Metrics
    left_out: LeftOut = LeftOut()
    unit: str = "pixels"
    """The unit of the counts: pixels or points."""
    areas: Areas | None = None
    calibration: Calibration | None = None
    notes: tuple[str, ...] = ()
    """Lines that a reader of the figures should know."""
    worst: WorstCrops | None = field(default=None, compare=False, repr=False)
    """For a model with a report: the crops that it gets most wrong."""

    @classmethod
    @checked
    def of(  # noqa: PLR0913 - the parts of the value
        cls,
        subject: str,
        reference: str,
        matrix: ConfusionMatrix,
        *,
        left_out: LeftOut | None = None,
        unit: str = "pixels",
        areas: Areas | None = None,
        calibration: Calibration | None = None,
        notes: tuple[str, ...] = (),
        worst: WorstCrops | None = None,
    ) -> Evaluation:
        """Return the evaluation of a matrix, with its figures and the notes of all parts."""
        metrics = Metrics.of(matrix)
        all_notes = (*notes, *metrics.notes, *(areas.notes if areas else ()))
        return cls(
            subject, reference, matrix, metrics, left_out or LeftOut(), unit, areas, calibration, all_notes, worst
        )

    @property
    def published(self) -> Metrics:
        """The figures of DeepGlobe's published protocol: pixels that are `unknown` in the reference never count.

        The published figure is `miou_without_unknown`. The same as `metrics` if no class is called unknown.
        """
        unknown = [class_metrics.code for class_metrics in self.metrics.classes if class_metrics.is_unknown]
        return Metrics.of(self.matrix.ignoring(unknown)) if unknown else self.metrics

    def __repr__(self) -> str:
        figures = f"mIoU {ratio_text(self.metrics.miou)}, overall accuracy {ratio_text(self.metrics.overall_accuracy)}"
        return f"Evaluation({self.subject!r} against {self.reference!r}, {figures})"

    def _repr_html_(self) -> str:
        miou, right = ratio_text(self.metrics.miou), ratio_text(self.metrics.overall_accuracy)
        rows = (("of", self.subject), ("against", self.reference), ("mIoU", miou), ("overall accuracy", right))
        areas = "" if self.areas is None else self.areas._repr_html_()
        return f"<div>{table(rows)}{columns(*classes_in_words(self.metrics))}{areas}</div>"

    def to_json(self) -> dict[str, object]:
        """Return plain values, as in metrics.json; None stands for nan."""
        values: dict[str, object] = {
            "geoseg": VERSION,
            "map": self.subject,
            "reference": self.reference,
            "counted": self.unit,
            "left_out": {
                "map_without_class": self.left_out.no_map,
                "reference_without_class": self.left_out.no_reference,
                "ignored": self.left_out.ignored,
                **({"reference_of_several_classes": self.left_out.several} if self.left_out.several else {}),
            },
            **self.metrics.to_json(),
            "published_protocol": _published(self.published),
            "confusion": {
                "codes": list(self.matrix.codes),
                "names": list(self.matrix.names),
                "rows_are": "reference",
                "counts": self.matrix.counts.tolist(),
            },
        }
        if self.calibration is not None:
            values["calibration"] = self.calibration.to_json()
        if self.areas is not None:
            values["areas"] = self.areas.to_json()
        return values | {"notes": list(self.notes)}


def _published(metrics: Metrics) -> dict[str, object]:
    return {
        "is": _PUBLISHED,
        "miou": json_number(metrics.miou_without_unknown),
        "overall_accuracy": json_number(metrics.overall_accuracy),
        "kappa": json_number(metrics.kappa),
        "pixels": metrics.pixels,
        "iou": {
            class_metrics.name: json_number(class_metrics.iou)
            for class_metrics in metrics.classes
            if not class_metrics.is_unknown
        },
    }
