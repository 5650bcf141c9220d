"""An evaluation as Markdown that people can paste."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from geoseg.evaluation.areas import M2_OF_HA, Areas
from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.confusion import OTHERS, ConfusionMatrix
from geoseg.evaluation.evaluation import Evaluation
from geoseg.evaluation.worst_picture import WORST

_WIDEST = 30
"""Classes that a confusion matrix on a page may have; confusion.csv has them all."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures beside a page."""

    names: tuple[str, ...] = ()
    """Of those that were drawn."""
    lacking: str | None = None
    """One line on those that were not."""

    def shown(self, name: str) -> list[str]:
        """Return the lines that show a picture; none where it was not drawn."""
        return ["", f"![{PurePosixPath(name).stem}]({name})"] if name in self.names else []


_NO_PICTURES = Pictures()


def to_markdown(found: Evaluation, pictures: Pictures = _NO_PICTURES) -> str:
    """Return the report: figures, classes, areas, calibration, confusion matrix, worst crops, notes."""
    lines = [f"# {_cell(found.subject)} against {_cell(found.reference)}", "", *summary(found), "", *_classes(found)]
    if found.areas is not None:
        lines += ["", *_areas(found.areas)]
    if found.calibration is not None:
        lines += ["", *_calibration(found.calibration), *pictures.shown("calibration.png")]
    if len(found.matrix.codes) <= _WIDEST:
        lines += ["", *_confusion(found.matrix)]
    lines += pictures.shown("confusion.png")
    lines += _worst(pictures)
    notes = [*found.notes, *([pictures.lacking] if pictures.lacking else [])]
    if notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def summary(found: Evaluation) -> Iterator[str]:
    """Yield the table of the figures for the whole."""
    metrics = found.metrics
    named = [each for each in metrics.classes if not math.isnan(each.iou) and each.name != OTHERS]
    known = sum(not each.is_unknown for each in named)
    rows = [
        (f"mIoU without `unknown` ({known} classes)", number(metrics.miou_without_unknown)),
        (f"mIoU of all classes ({len(named)})", number(metrics.miou)),
        ("overall accuracy", number(metrics.overall_accuracy)),
        ("Cohen's kappa", number(metrics.kappa)),
    ]
    if any(each.is_unknown for each in metrics.classes):
        name = "mIoU, published protocol (`unknown` in the reference never counts)"
        rows.insert(0, (name, number(found.published.miou_without_unknown)))
    if found.calibration is not None:
        rows.append(("expected calibration error", number(found.calibration.error)))
    rows.append((f"{found.unit} counted", grouped(metrics.pixels)))
    rows.append((f"{found.unit} left out", _left_out(found)))
    yield from table(("figure", "value"), rows)


def number(value: float) -> str:
    """Return a figure from 0 to 1 as a report shows it."""
    return "nan" if math.isnan(value) else f"{value:.4f}"


def grouped(value: float) -> str:
    """Return 1234567 as 1 234 567."""
    return "nan" if math.isnan(value) else f"{value:,.0f}".replace(",", " ")


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table, all columns but the first to the right."""
    yield f"| {' | '.join(heading)} |"
    yield f"| --- |{' ---: |' * (len(heading) - 1)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _worst(pictures: Pictures) -> Iterator[str]:
    sheets = [name for name in pictures.names if name.startswith(WORST)]
    if sheets:
        yield from ("", "## Where it fails", "")
        yield "The crops of each class in which the largest share of its pixels is taken for another."
    for name in sheets:
        yield from pictures.shown(name)


def _left_out(found: Evaluation) -> str:
    left = found.left_out
    parts = [
        f"{grouped(count)} {why}"
        for count, why in (
            (left.no_map, "without a class in the map"),
            (left.no_reference, "without one in the reference"),
            (left.ignored, "ignored"),
            (left.several, "that may be of several classes"),
        )
        if count
    ]
    why = f" ({', '.join(parts)})" if parts else ""
    return f"{grouped(left.total)}{why}"


def _classes(found: Evaluation) -> Iterator[str]:
    yield from ("## Classes", "")
    heading = ("class", "IoU", "precision (user's)", "recall (producer's)", "F1", "reference", "map")
    yield from table(
        heading,
        (
            (
                f"{each.name} ({each.code})",
                *(number(value) for value in (each.iou, each.precision, each.recall, each.f1)),
                grouped(each.reference_px),
                grouped(each.map_px),
            )
            for each in found.metrics.classes
        ),
    )


def _areas(areas: Areas) -> Iterator[str]:
    yield from ("## Areas, corrected for the map's errors (Olofsson et al. 2014)", "")
    overall = f"{number(areas.overall)} ± {number(areas.overall_error)}"
    yield from (f"Overall accuracy by area {overall}; ± are standard errors of accuracies.", "")
    yield from table(*areas_in_words(areas))


def areas_in_words(areas: Areas) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the heading and the rows of a table of areas for people."""
    unit, size = ("ha", M2_OF_HA) if areas.unit == "m2" else (areas.unit, 1.0)
    heading = ("class", f"mapped, {unit}", f"area, {unit}", "95 % interval", "user's", "producer's", "sample")
    return heading, [
        (
            f"{each.name} ({each.code})",
            _size(each.mapped / size),
            _size(each.area / size),
            f"{_size(each.low / size)} to {_size(each.high / size)}",
            f"{number(each.users)} ± {number(each.users_error)}",
            f"{number(each.producers)} ± {number(each.producers_error)}",
            grouped(each.sample),
        )
        for each in areas.classes
    ]


def _calibration(calibration: Calibration) -> Iterator[str]:
    yield from ("## Calibration", "")
    bins = len(calibration.count_px)
    rows = zip(calibration.count_px, calibration.confidence, calibration.accuracy, strict=True)
    yield from table(
        ("confidence", "pixels", "mean confidence", "accuracy"),
        (
            (f"{place / bins:.2f} to {(place + 1) / bins:.2f}", grouped(pixels), number(mean), number(right))
            for place, (pixels, mean, right) in enumerate(rows)
        ),
    )


def _confusion(matrix: ConfusionMatrix) -> Iterator[str]:
    yield from ("## Confusion matrix", "", "Rows: the reference; columns: the map.", "")
    rows = ((name, *map(grouped, row)) for name, row in zip(matrix.names, matrix.counts, strict=True))
    yield from table(("reference", *map(_cell, matrix.names)), rows)


def _size(value: float) -> str:
    """Return an area with as many digits as it needs."""
    return f"{value:.2f}" if abs(value) < 1000 else grouped(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
