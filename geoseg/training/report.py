"""The report of a training: a folder with the figures of the weights that were kept, how they came, where they fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from geoseg.evaluation.calibration_picture import draw_calibration
from geoseg.evaluation.evaluation import Evaluation
from geoseg.evaluation.markdown import number, table, to_markdown
from geoseg.evaluation.matching import key
from geoseg.evaluation.report import Draw, write_report
from geoseg.legend import Legend
from geoseg.training.curves import draw_curves
from geoseg.training.history import EpochRow, best_epoch, to_csv
from geoseg.training.worst import WorstCrop, WorstCrops
from geoseg.training.worst_picture import draw_worst

_SHOWN_EPOCHS = 12
"""Epochs in the page's table; history.csv has them all."""


def write_training_report(  # noqa: PLR0913 - the parts of the report
    folder: str | os.PathLike[str],
    history: Sequence[EpochRow],
    evaluation: Evaluation,
    worst: WorstCrops | None = None,
    recipe_text: str = "",
    *,
    data: Mapping[str, str] | None = None,
    stretch: tuple[float, float] | None = None,
    overwrite: bool = False,
    announce: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Write all of `write_report`, and history.csv, curves.png, calibration.png, and worst/ with a sheet a class.

    `evaluation` and `worst` are of the weights that were kept, on validation. `recipe_text` goes into the page as it
    is; `data`: lines on data set and split, by a word for each. `stretch`: the darkest and lightest stored value of the
    imagery, for the crops. The folder appears whole; without matplotlib there are no pictures, and `announce` says so.
    Raises OutputError.
    """
    legend = worst.legend if worst is not None else None
    crops = {} if worst is None else {_file_of(worst.legend, code): found for code, found in worst}
    extras: dict[str, str | Draw] = {
        "report.md": training_page(evaluation, history, recipe_text, data or {}, crops),
        "history.csv": to_csv(history),
    }
    if history:
        extras["curves.png"] = lambda path: draw_curves(history, path, legend)
    calibration = evaluation.calibration
    if calibration is not None and calibration.pixels:
        extras["calibration.png"] = lambda path: draw_calibration(calibration, path)
    for name, found in crops.items():
        extras[name] = _sheet(found, worst, stretch)
    return write_report(evaluation, folder, overwrite=overwrite, extras=extras, announce=announce)


def training_page(
    evaluation: Evaluation,
    history: Sequence[EpochRow],
    recipe_text: str,
    data: Mapping[str, str],
    crops: Mapping[str, Sequence[WorstCrop]],
) -> str:
    """Return report.md: how it was trained, the figures as every report has them, the pictures."""
    page = to_markdown(evaluation).rstrip().split("\n")
    title, rest = page[0], page[1:]
    lines = [title, *rest[: rest.index("## Classes")], *_training(history)]
    if data:
        lines += ["## Data", "", *(f"- {word}: {line}" for word, line in data.items()), ""]
    lines += rest[rest.index("## Classes") :]
    if evaluation.calibration is not None and evaluation.calibration.pixels:
        lines += ["", "## Is its confidence honest?", "", "![calibration](calibration.png)"]
    lines += ["", "## Which class is taken for which", "", "![confusion matrix](confusion.png)"]
    if crops:
        lines += ["", "## Where it fails", "", *_failures(crops)]
    if recipe_text:
        lines += ["", "## Recipe", "", "```", recipe_text.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _training(history: Sequence[EpochRow]) -> Iterator[str]:
    best = best_epoch(history)
    if best is None:
        return
    yield from ("## Training", "", "![curves](curves.png)", "")
    hours = sum(row.seconds for row in history) / 3600
    took = f" in {hours:.2g} h" if hours == hours else ""  # noqa: PLR0124 - not nan
    yield f"{len(history)} epochs{took}; kept: epoch {best.epoch + 1}, step {best.step}."
    yield ""
    step = -(-len(history) // _SHOWN_EPOCHS)
    shown = [row for place, row in enumerate(history) if place % step == 0 or row in (best, history[-1])]
    yield from table(
        ("epoch", "train loss", "validation loss", "mIoU", "learning rate"),
        (
            (
                f"{row.epoch + 1}{' (kept)' if row == best else ''}",
                *(number(value) for value in (row.train_loss, row.valid_loss, row.miou)),
                f"{row.lr:.3g}",
            )
            for row in shown
        ),
    )
    yield ""


def _failures(crops: Mapping[str, Sequence[WorstCrop]]) -> Iterator[str]:
    yield "The crops of each class in which the largest share of its pixels is taken for another."
    for name in crops:
        yield from ("", f"![worst of {Path(name).stem.replace('_', ' ')}]({name})")


def _sheet(found: Sequence[WorstCrop], worst: WorstCrops | None, stretch: tuple[float, float] | None) -> Draw:
    def draw(path: Path) -> None:
        if worst is not None:
            draw_worst(found, worst.legend, path, stretch)

    return draw


def _file_of(legend: Legend, code: int) -> str:
    """Return the name of a class's sheet: its own, of letters that every system takes."""
    name = key(legend.by_code(code).name)
    plain = "".join(letter if letter.isalnum() else "_" for letter in name)
    alone = sum(key(each.name) == name for each in legend) == 1
    return f"worst/{plain[:60]}{'' if alone else f'_{code}'}.png"
