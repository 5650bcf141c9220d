"""The report: a folder that is there as a whole, or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from geoseg.atomic import output_error, probe_writable, replace_durably, sync_folder, write_durably
from geoseg.errors import GeosegError, OutputError
from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.evaluation import Evaluation
from geoseg.evaluation.markdown import Pictures, to_markdown
from geoseg.evaluation.matrix_picture import draw_matrix
from geoseg.evaluation.worst_picture import sheets
from geoseg.raster import public_name

FILES = ("metrics.json", "classes.csv", "confusion.csv", "report.md", "confusion.png", "areas.csv", "calibration.csv")
"""What a report may hold."""
EXTRAS = ("calibration.png", "history.csv", "curves.png", "worst")
"""What one of a model may hold besides, the last a folder; all else in a report's folder is somebody else's."""
_OURS = (*FILES, *EXTRAS)

Draw = Callable[[Path], None]
"""Writes a file at a path; may raise GeosegError where something it needs is not installed."""
Page = Callable[[Pictures], str]
"""The text of report.md, which shows the pictures that there are."""


def check_folder(folder: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Return the folder of a report if it can be made. Raises OutputError, as for one that holds anything."""
    path = probe_writable(Path(folder) / FILES[0], mkdir=True).parent
    if not path.absolute().parent.is_dir():
        parent = path.absolute().parent
        raise OutputError(f"cannot write {path}: there is no folder {parent}; check the path, or make it by mkdir")
    path = path.resolve() if path.is_symlink() else path.absolute()
    try:
        held = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    except OSError as error:
        raise output_error(path, error) from error
    if held and not overwrite:
        raise OutputError(
            f"{path} holds {', '.join(held[:3])}{' and more' if len(held) > 3 else ''}; "
            "choose another `report`, or replace an older report with `overwrite=True`"
        )
    blocked = next((name for name in (*FILES, *EXTRAS[:-1]) if (path / name).is_dir()), None)
    if blocked:
        raise OutputError(f"{path / blocked} is a folder, where the report has a file; choose another `report`")
    return path


def write_report(  # noqa: PLR0913 - the parts of a report
    found: Evaluation,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    extras: Mapping[str, str | Draw] | None = None,
    page: Page | None = None,
    announce: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Write metrics.json, classes.csv, confusion.csv, report.md, confusion.png, and areas.csv or calibration.csv.

    Where the worst crops are known, worst/ has a sheet of them for each class. The folder appears with all of them.
    With `overwrite` an older report is replaced as a whole; in a folder that holds other files too these are kept, and
    the report's replaced one by one. Files are named in it without the sender's folders. `extras`: further files by
    name, of those in EXTRAS: their text, or what draws them. `page` makes report.md, by default `to_markdown`. Without
    matplotlib there are no pictures; `announce` and a note in report.md say so. Raises OutputError.
    """
    target, found = check_folder(folder, overwrite=overwrite), _without_folders(found)
    made = target.with_name(f".geoseg-{uuid.uuid4().hex}")
    try:
        made.mkdir(parents=True)
        pictures = _fill(made, {**_files(found), **(extras or {})})
        if pictures.lacking:
            announce(pictures.lacking)
        text = to_markdown(found, pictures) if page is None else page(pictures)
        write_durably(made / "report.md", text.encode())
        sync_folder(made)
        _put(made, target)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target


def _without_folders(found: Evaluation) -> Evaluation:
    """Return an evaluation as anybody may read it: what was given by an absolute path is told by its name."""
    given = [text for text in (found.subject, found.reference) if Path(text).is_absolute() or "://" in text]
    told = {text: public_name(text) for text in given}
    notes = found.notes
    for text, name in told.items():
        notes = tuple(note.replace(text, name) for note in notes)
    subject, reference = (told.get(text, text) for text in (found.subject, found.reference))
    return replace(found, subject=subject, reference=reference, notes=notes)


def _fill(folder: Path, files: Mapping[str, str | Draw]) -> Pictures:
    """Write the files; without matplotlib go on, for all else of a report does without."""
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
    for inner in {(folder / name).parent for name in files} - {folder}:
        if any(inner.iterdir()):
            sync_folder(inner)
        else:  # nothing was drawn there
            inner.rmdir()
    return Pictures(tuple(drawn), _lacking(undrawn))


def _lacking(undrawn: Sequence[str]) -> str | None:
    others = len(undrawn) - 1
    return undrawn[0].replace(" needs ", f" and {others} more need ", 1) if others > 0 else next(iter(undrawn), None)


def _put(made: Path, target: Path) -> None:
    """Rename the finished folder to its place; the older report is moved away first.

    Among other people's files the report's are replaced one by one, each whole: theirs are never moved.
    """
    if not target.exists():
        made.rename(target)
    elif any(entry.name not in _OURS for entry in target.iterdir()):
        for name in _OURS:
            if (target / name).is_dir() and not (target / name).is_symlink():
                shutil.rmtree(target / name)
            if (made / name).exists():
                replace_durably(made / name, target / name)
            else:
                (target / name).unlink(missing_ok=True)
    else:
        _swap(made, target)
    sync_folder(target.parent)


def _swap(made: Path, target: Path) -> None:
    before = target.with_name(f".geoseg-{uuid.uuid4().hex}")
    target.rename(before)
    try:
        made.rename(target)
    except OSError:
        before.rename(target)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _files(found: Evaluation) -> dict[str, str | Draw]:
    files: dict[str, str | Draw] = {
        "metrics.json": json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "classes.csv": _classes(found),
        "confusion.csv": _confusion(found),
        "confusion.png": lambda path: draw_matrix(found.matrix, path, found.unit),
    }
    if found.areas is not None:
        files["areas.csv"] = _csv(*found.areas.table())
    if found.calibration is not None:
        files["calibration.csv"] = _calibration(found.calibration)
    if found.worst is not None:
        files |= sheets(found.worst)
    return files


def _classes(found: Evaluation) -> str:
    names = ("code", "name", "reference_px", "map_px", "iou", "precision", "recall", "f1")
    return _csv(names, ([getattr(each, name) for name in names] for each in found.metrics.classes))


def _confusion(found: Evaluation) -> str:
    matrix = found.matrix
    rows = ([code, name, *row] for (code, name), row in zip(matrix, matrix.counts.tolist(), strict=True))
    return _csv(("reference_code", "reference", *(f"map {name}" for name in matrix.names)), rows)


def _calibration(calibration: Calibration) -> str:
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
