"""The report of an evaluation: a folder, complete or not there at all, and its text in Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from geoseg.atomic import output_error, probe_writable, replace_durably, sync_folder, write_durably
from geoseg.errors import GeosegError, OutputError, numbered
from geoseg.evaluation.areas import Areas, areas_in_words
from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.evaluation import Evaluation
from geoseg.evaluation.metrics import ConfusionMatrix, classes_in_words, grouped, ratio_text
from geoseg.evaluation.pictures import WORST, draw_calibration, draw_matrix, sheets
from geoseg.progress import Announce
from geoseg.raster import public_name

_FILES = (
    "metrics.json", "classes.csv", "confusion.csv", "report.md", "confusion.png", "areas.csv", "calibration.csv",
    "calibration.png",
)  # fmt: skip
"""The files that a report may hold."""
_EXTRAS = ("history.csv", "curves.png", "worst")
"""Files that the report of a model may also hold, the last a folder; anything else in its folder is not ours."""
_OURS = (*_FILES, *_EXTRAS)

Draw = Callable[[Path], None]
"""A function that writes a file at a path; may raise GeosegError if a package it needs is not installed."""
Page = Callable[["Pictures"], str]
"""A function that returns the text of report.md, given the pictures to show."""
_WIDEST = 30
"""Most classes of a confusion matrix on a page; confusion.csv has them all."""


def check_folder(folder: str | os.PathLike[str], *, mkdir: bool = False, overwrite: bool) -> Path:
    """Return the folder of a report if it can be made. Raises OutputError, for example if it is not empty."""
    path = probe_writable(Path(folder) / _FILES[0], mkdir=True).parent
    if not mkdir and not path.absolute().parent.is_dir():
        parent = path.absolute().parent
        raise OutputError(
            f"cannot write {path}: the folder {parent} does not exist; check the path, or add `mkdir=True`"
        )
    path = path.resolve() if path.is_symlink() else path.absolute()
    try:
        entries = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    except OSError as error:
        raise output_error(path, error) from error
    if entries and not overwrite:
        raise OutputError(
            f"{path} holds {', '.join(entries[:3])}{' and more' if len(entries) > 3 else ''}; "
            "choose another `report`, or replace an older report with `overwrite=True`"
        )
    blocked = next((name for name in (*_FILES, *_EXTRAS[:-1]) if (path / name).is_dir()), None)
    if blocked:
        raise OutputError(
            f"{path / blocked} is a folder, but the report needs a file of that name; choose another `report`"
        )
    return path


def write_report(  # noqa: PLR0913 - the parts of a report
    evaluation: Evaluation,
    folder: str | os.PathLike[str],
    *,
    mkdir: bool = False,
    overwrite: bool = False,
    extras: Mapping[str, str | Draw] | None = None,
    page: Page | None = None,
    announce: Announce = lambda _line: None,
) -> Path:
    """Write metrics.json, classes.csv, confusion.csv, report.md, confusion.png; areas and calibration if known.

    If the worst crops are known, worst/ has a sheet of them for each class. The folder appears only when complete.
    With `overwrite`, an older report is replaced as a whole; if its folder also holds other files, these are kept and
    the report's files are replaced one by one. The report shows no private paths. `extras`: further files by name, of
    those in _EXTRAS, as text or as functions that draw them. `page` makes report.md, by default `to_markdown`. Without
    matplotlib there are no pictures; `announce` and a note in report.md say so. Raises OutputError.
    """
    target, evaluation = check_folder(folder, mkdir=mkdir, overwrite=overwrite), _without_folders(evaluation)
    finished = target.with_name(f".geoseg-{uuid.uuid4().hex}")
    try:
        finished.mkdir(parents=True)
        pictures = _fill(finished, {**_files(evaluation), **(extras or {})})
        if pictures.lacking:
            announce(pictures.lacking)
        text = to_markdown(evaluation, pictures) if page is None else page(pictures)
        write_durably(finished / "report.md", text.encode())
        sync_folder(finished)
        _put(finished, target)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        shutil.rmtree(finished, ignore_errors=True)
    return target


def _without_folders(evaluation: Evaluation) -> Evaluation:
    """Return an evaluation without private paths: an absolute path becomes the name of its file."""
    paths = [text for text in (evaluation.subject, evaluation.reference) if Path(text).is_absolute() or "://" in text]
    public_names = {text: public_name(text) for text in paths}
    notes = evaluation.notes
    for text, name in public_names.items():
        notes = tuple(note.replace(text, name) for note in notes)
    subject, reference = (public_names.get(text, text) for text in (evaluation.subject, evaluation.reference))
    return replace(evaluation, subject=subject, reference=reference, notes=notes)


def _fill(folder: Path, files: Mapping[str, str | Draw]) -> Pictures:
    """Write the files. Without matplotlib only the pictures are missing."""
    drawn: list[str] = []
    undrawn: list[str] = []
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        if isinstance(content, str):
            write_durably(folder / name, content.encode())
            continue
        try:
            content(folder / name)
            drawn.append(name)
        except GeosegError as error:
            undrawn.append(str(error))
    for subfolder in {(folder / name).parent for name in files} - {folder}:
        if any(subfolder.iterdir()):
            sync_folder(subfolder)
        else:  # nothing was drawn there
            subfolder.rmdir()
    missing = f"{len(undrawn)} pictures are missing: {undrawn[0]}" if len(undrawn) > 1 else next(iter(undrawn), None)
    return Pictures(tuple(drawn), missing)


def _put(finished: Path, target: Path) -> None:
    """Rename the finished folder to its final name; an older report is moved away first.

    In a folder with other files, the report's files are replaced one by one, and the others are never moved.
    """
    if not target.exists():
        finished.rename(target)
    elif any(entry.name not in _OURS for entry in target.iterdir()):
        for name in _OURS:
            if (target / name).is_dir() and not (target / name).is_symlink():
                shutil.rmtree(target / name)
            if (finished / name).exists():
                replace_durably(finished / name, target / name)
            else:
                (target / name).unlink(missing_ok=True)
    else:
        _swap(finished, target)
    sync_folder(target.parent)


def _swap(finished: Path, target: Path) -> None:
    older = target.with_name(f".geoseg-{uuid.uuid4().hex}")
    target.rename(older)
    try:
        finished.rename(target)
    except OSError:
        older.rename(target)
        raise
    shutil.rmtree(older, ignore_errors=True)


def _files(evaluation: Evaluation) -> dict[str, str | Draw]:
    files: dict[str, str | Draw] = {
        "metrics.json": json.dumps(evaluation.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "classes.csv": _classes_csv(evaluation),
        "confusion.csv": _confusion_csv(evaluation),
        "confusion.png": lambda path: draw_matrix(evaluation.matrix, path, evaluation.unit),
    }
    if evaluation.areas is not None:
        files["areas.csv"] = _csv(*evaluation.areas.table())
    calibration = evaluation.calibration
    if calibration is not None:
        files["calibration.csv"] = _calibration_csv(calibration)
        if calibration.pixels:
            files["calibration.png"] = lambda path: draw_calibration(calibration, path)
    if evaluation.worst is not None:
        files |= sheets(evaluation.worst)
    return files


def _classes_csv(evaluation: Evaluation) -> str:
    names = ("code", "name", "reference_px", "map_px", "iou", "precision", "recall", "f1")
    return _csv(
        names, ([getattr(class_metrics, name) for name in names] for class_metrics in evaluation.metrics.classes)
    )


def _confusion_csv(evaluation: Evaluation) -> str:
    matrix = evaluation.matrix
    rows = ([code, name, *row] for (code, name), row in zip(matrix, matrix.counts.tolist(), strict=True))
    return _csv(("reference_code", "reference", *(f"map {name}" for name in matrix.names)), rows)


def _calibration_csv(calibration: Calibration) -> str:
    bins = len(calibration.count_px)
    columns = calibration.count_px, calibration.right_px, calibration.confidence, calibration.accuracy
    rows = ([i / bins, (i + 1) / bins, *row] for i, row in enumerate(zip(*map(list, columns), strict=True)))
    return _csv(("above", "up_to", "pixels", "right", "confidence", "accuracy"), rows)


def _csv(heading: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    return file.getvalue()


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of a page."""

    names: tuple[str, ...] = ()
    """Names of the pictures that were drawn."""
    lacking: str | None = None
    """One line on the pictures that were not."""

    def shown(self, name: str) -> list[str]:
        """Return the lines that show a picture; none if it was not drawn."""
        return ["", f"![{PurePosixPath(name).stem}]({name})"] if name in self.names else []


_NO_PICTURES = Pictures()


def to_markdown(evaluation: Evaluation, pictures: Pictures = _NO_PICTURES) -> str:
    """Return the report: figures, classes, areas, calibration, confusion matrix, worst crops, notes."""
    title = f"# {_cell(evaluation.subject)} against {_cell(evaluation.reference)}"
    lines = [title, "", *_summary(evaluation), "", *_classes(evaluation)]
    if evaluation.areas is not None:
        lines += ["", *_areas(evaluation.areas)]
    if evaluation.calibration is not None:
        lines += ["", *_calibration(evaluation.calibration), *pictures.shown("calibration.png")]
    if len(evaluation.matrix.codes) <= _WIDEST:
        lines += ["", *_confusion(evaluation.matrix)]
    lines += pictures.shown("confusion.png")
    lines += _worst(pictures)
    notes = [*map(_prose, evaluation.notes), *([pictures.lacking] if pictures.lacking else [])]
    if notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _summary(evaluation: Evaluation) -> Iterator[str]:
    """Yield the table of overall figures."""
    metrics = evaluation.metrics
    defined = [each for each in metrics.classes if not (math.isnan(each.iou) or each.is_merged)]
    rows = [
        (f"mIoU of all classes ({len(defined)})", ratio_text(metrics.miou)),
        ("overall accuracy", ratio_text(metrics.overall_accuracy)),
        ("Cohen's kappa", ratio_text(metrics.kappa)),
    ]
    if any(class_metrics.is_unknown for class_metrics in metrics.classes):
        name = "mIoU, published protocol (`unknown` in the reference never counts)"
        known_classes = numbered(sum(not class_metrics.is_unknown for class_metrics in defined), "class")
        rows = [
            (name, ratio_text(evaluation.published.miou_without_unknown)),
            (f"mIoU without `unknown` ({known_classes})", ratio_text(metrics.miou_without_unknown)),
            *rows,
        ]
    if evaluation.calibration is not None:
        rows.append(("expected calibration error", ratio_text(evaluation.calibration.error)))
    rows.append((f"{evaluation.unit} counted", grouped(metrics.pixels)))
    rows.append((f"{evaluation.unit} left out", _left_out(evaluation)))
    yield from markdown_table(("figure", "value"), rows)


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table; all columns but the first are right-aligned."""
    yield f"| {' | '.join(heading)} |"
    yield f"| --- |{' ---: |' * (len(heading) - 1)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _worst(pictures: Pictures) -> Iterator[str]:
    sheets = [name for name in pictures.names if name.startswith(WORST)]
    if sheets:
        yield from ("", "## Where it fails", "")
        yield "For each class, the crops in which the largest share of its pixels is mapped as another class."
    for name in sheets:
        yield from pictures.shown(name)


def _left_out(evaluation: Evaluation) -> str:
    parts = ", ".join(f"{grouped(count)} {reason}" for count, reason in evaluation.left_out.reasons)
    return grouped(evaluation.left_out.total) + (f" ({parts})" if parts else "")


def _classes(evaluation: Evaluation) -> Iterator[str]:
    yield from ("## Classes", "")
    yield from markdown_table(*classes_in_words(evaluation.metrics))


def _areas(areas: Areas) -> Iterator[str]:
    yield from ("## Areas, corrected for the map's errors (Olofsson et al. 2014)", "")
    overall = f"{ratio_text(areas.overall)} ± {ratio_text(areas.overall_error)}"
    yield from (f"Overall accuracy by area {overall}; ± is the standard error of an accuracy.", "")
    yield from markdown_table(*areas_in_words(areas))


def _calibration(calibration: Calibration) -> Iterator[str]:
    yield from ("## Calibration", "")
    bins = len(calibration.count_px)
    rows = zip(calibration.count_px, calibration.confidence, calibration.accuracy, strict=True)
    yield from markdown_table(
        ("confidence", "pixels", "mean confidence", "accuracy"),
        (
            (f"{place / bins:.2f} to {(place + 1) / bins:.2f}", grouped(pixels), ratio_text(mean), ratio_text(right))
            for place, (pixels, mean, right) in enumerate(rows)
        ),
    )


def _confusion(matrix: ConfusionMatrix) -> Iterator[str]:
    yield from ("## Confusion matrix", "", "Rows: the reference; columns: the map.", "")
    rows = ((name, *map(grouped, row)) for name, row in zip(matrix.names, matrix.counts, strict=True))
    yield from markdown_table(("reference", *map(_cell, matrix.names)), rows)


def _prose(text: str) -> str:
    """Return a sentence in which only backticks are markup."""
    parts = text.split("`")
    return "`".join(part if index % 2 else _cell(part) for index, part in enumerate(parts))


def _cell(text: str) -> str:
    return re.sub(r"[\\|*<\[]", r"\\\g<0>", text)
