"""The report of a training: a folder with the figures of the weights that were kept, how they came, where they fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from geoseg.evaluation import Draw, Evaluation, Pictures, draw_calibration, number, table, to_markdown, write_report
from geoseg.training.curves import draw_curves
from geoseg.training.history import EpochRow, best_epoch, to_csv

_SHOWN_EPOCHS = 12
"""Epochs in the page's table; history.csv has them all."""


def write_training_report(  # noqa: PLR0913 - the parts of the report
    folder: str | os.PathLike[str],
    history: Sequence[EpochRow],
    evaluation: Evaluation,
    recipe_text: str = "",
    *,
    data: Mapping[str, str] | None = None,
    overwrite: bool = False,
    announce: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Write all of `write_report`, and history.csv, curves.png and calibration.png.

    `evaluation` is of the weights that were kept, on validation, with the crops that they get most wrong. `recipe_text`
    goes into the page as it is; `data`: lines on data set and split, by a word for each. The folder appears whole;
    without matplotlib there are no pictures, and `announce` says so. Raises OutputError.
    """
    legend = evaluation.worst.legend if evaluation.worst is not None else None
    extras: dict[str, str | Draw] = {"history.csv": to_csv(history)}
    if history:
        extras["curves.png"] = lambda path: draw_curves(history, path, legend)
    calibration = evaluation.calibration
    if calibration is not None and calibration.pixels:
        extras["calibration.png"] = lambda path: draw_calibration(calibration, path)
    return write_report(
        evaluation,
        folder,
        overwrite=overwrite,
        extras=extras,
        page=lambda pictures: training_page(evaluation, history, recipe_text, data or {}, pictures),
        announce=announce,
    )


def training_page(
    evaluation: Evaluation,
    history: Sequence[EpochRow],
    recipe_text: str,
    data: Mapping[str, str],
    pictures: Pictures,
) -> str:
    """Return report.md: how it was trained, the figures as every report has them, the recipe."""
    page = to_markdown(evaluation, pictures).rstrip().split("\n")
    title, rest = page[0], page[1:]
    lines = [title, *rest[: rest.index("## Classes")], *_training(history, pictures)]
    if data:
        lines += ["## Data", "", *(f"- {word}: {line}" for word, line in data.items()), ""]
    lines += rest[rest.index("## Classes") :]
    if recipe_text:
        lines += ["", "## Recipe", "", "```", recipe_text.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _training(history: Sequence[EpochRow], pictures: Pictures) -> Iterator[str]:
    best = best_epoch(history)
    if best is None:
        return
    yield from ("## Training", *pictures.shown("curves.png"), "")
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
