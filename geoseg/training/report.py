"""The report of a training: history, curves, pictures, the table in the console, the page."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from geoseg.atomic import write_durably
from geoseg.dataset import PreparedScene
from geoseg.errors import numbered
from geoseg.evaluation import (
    Draw,
    Evaluation,
    Pictures,
    markdown_table,
    new_figure,
    paint_bands,
    paint_codes,
    ratio_text,
    to_markdown,
    write_report,
)
from geoseg.legend import Legend, short_name
from geoseg.progress import Announce
from geoseg.raster import Window
from geoseg.training.plan import TrainingPlan

_IOU = "iou "
_FIELDS = ("epoch", "step", "train_loss", "valid_loss", "miou", "lr", "seconds")
_WIDTH = 7
_SHORT = 10
_DARK, _LIGHT = "#27408b", "#d2691e"
_HUES = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666")
_PALE = 0.36
"""Relative luminance; lighter colors are darkened, since they would be hard to see on white."""
_NAMED, _LINE = 13, 0.075
"""Most lines labeled at their end, and the share of the height that each label takes."""
PICTURES_EVERY, SCENES, SIDE_PX = 5, 4, 256
SHARE = 0.05
"""Largest share of the run's time for pictures; the rest is for training."""
_SHOWN_EPOCHS = 12
"""Epochs in the page's table; history.csv has them all."""


@dataclass(frozen=True, slots=True)
class EpochRow:
    """The figures of one epoch; nan if not measured."""

    epoch: int
    """From 0."""
    step: int
    """Optimizer steps since the training started, including this epoch's."""
    train_loss: float
    valid_loss: float
    miou: float
    """On validation, over the classes that its labels contain, except `unknown`."""
    iou: Mapping[str, float] = field(default_factory=dict, hash=False)
    """On validation, by class name; nan for classes that its labels do not contain."""
    lr: float = math.nan
    """At the end of the epoch."""
    seconds: float = math.nan
    """Duration of the epoch, including validation."""


def to_csv(rows: Iterable[EpochRow]) -> str:
    """Return rows as CSV, with one line per epoch and one column per class."""
    rows = list(rows)
    classes = list(dict.fromkeys(name for row in rows for name in row.iou))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*_FIELDS, *(f"{_IOU}{name}" for name in classes)])
    for row in rows:
        writer.writerow([*(getattr(row, name) for name in _FIELDS), *(row.iou.get(name, math.nan) for name in classes)])
    return file.getvalue()


def write_history(path: Path, rows: Iterable[EpochRow]) -> None:
    """Write rows as CSV. Raises OutputError; the previous file stays until the new one is complete."""
    write_durably(path, to_csv(rows).encode())


def kept_epoch(rows: Sequence[EpochRow]) -> EpochRow | None:
    """Return the row of the epoch that is kept: that of the highest mIoU, or the last if none was measured."""
    measured = [row for row in rows if not math.isnan(row.miou)]
    return max(measured, key=lambda row: row.miou) if measured else rows[-1] if rows else None


class ConsoleTable:
    """Lines of equal width: epoch, losses, mIoU, and the IoU of each class."""

    def __init__(self, plan: TrainingPlan) -> None:
        self._names = tuple(plan.legend.by_code(code).name for code in plan.output_codes)
        self._epochs = plan.recipe.epochs
        self._width = max(_WIDTH, min(_SHORT, max(map(len, self._names))))

    def heading(self) -> str:
        """Return the header line."""
        titles = ["train", "valid", "mIoU", *_short(self._names)]
        return "epoch".rjust(9) + "".join(title.rjust(self._width + 1) for title in titles)

    def line(self, row: EpochRow) -> str:
        """Return an epoch's line, with a dash for figures not measured."""
        figures = [row.train_loss, row.valid_loss, row.miou, *(row.iou.get(name, math.nan) for name in self._names)]
        cells = "".join(f" {_figure_text(figure):>{self._width}}" for figure in figures)
        return f"{row.epoch + 1}/{self._epochs}".rjust(9) + cells


def _figure_text(figure: float) -> str:
    """Return a figure in at most _WIDTH characters."""
    if math.isnan(figure):
        return "-"
    return f"{figure:.3f}" if figure < 999.9995 else f"{figure:.1e}"


def _short(names: Sequence[str]) -> list[str]:
    """Return one word of each name for a narrow column: the first, or the last if the first is not unique."""
    words = [name.replace("_", " ").split() or [name] for name in names]
    first, last = ([parts[end][:_SHORT] for parts in words] for end in (0, -1))
    return [
        first_word if first.count(first_word) == 1 else last_word
        for first_word, last_word in zip(first, last, strict=True)
    ]


def draw_curves(history: Sequence[EpochRow], target: Path, legend: Legend | None) -> None:
    """Write a PNG of the curves, with the legend's colors. GeosegError without matplotlib, OSError if not writable."""
    figure = new_figure(target.name, (11, 7))
    (losses, scores), (classes, rates) = figure.subplots(2, 2, sharex=True)
    epochs = [row.epoch + 1 for row in history]
    _line(losses, epochs, [row.train_loss for row in history], _DARK, "train")
    _line(losses, epochs, [row.valid_loss for row in history], _LIGHT, "validation")
    losses.legend(frameon=False)
    _line(scores, epochs, [row.miou for row in history], _DARK, "mIoU")
    _mark_best(scores, history)
    _draw_classes(classes, epochs, history, legend)
    _line(rates, epochs, [row.lr for row in history], _DARK, "learning rate")
    positive = [row.lr for row in history if 0 < row.lr < math.inf]
    if positive and max(positive) / min(positive) > 20:
        rates.set_yscale("log")
    titles = "loss", "mIoU on validation", "IoU of each class on validation", "learning rate"
    for axes, title in zip((losses, scores, classes, rates), titles, strict=True):
        axes.set_title(title, loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
    scores.set_ylim(bottom=0)
    for axes in (classes, rates):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(target, format="png")


def _line(axes: Any, epochs: list[int], values: list[float], color: str, label: str) -> None:  # noqa: ANN401
    """Draw a line through the measured epochs, with dots if they are few."""
    measured = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if math.isfinite(value)]
    if measured:
        dots = "o" if len(measured) <= 30 else None
        axes.plot(*zip(*measured, strict=True), color=color, label=label, linewidth=1.6, marker=dots, markersize=3)


def _mark_best(axes: Any, history: Sequence[EpochRow]) -> None:  # noqa: ANN401 - matplotlib's own
    best = kept_epoch(history)
    if best is None or math.isnan(best.miou):
        return
    axes.plot(best.epoch + 1, best.miou, "o", color=_LIGHT, markersize=8, fillstyle="none", markeredgewidth=2)
    axes.text(
        0.98, 0.05, f"best: {best.miou:.4f}, epoch {best.epoch + 1}", transform=axes.transAxes, ha="right",
        fontsize=10, color=_LIGHT,
    )  # fmt: skip


def _draw_classes(axes: Any, epochs: list[int], history: Sequence[EpochRow], legend: Legend | None) -> None:  # noqa: ANN401
    """Draw one line per class, with its name at the end; names that would collide are moved apart."""
    names = list(dict.fromkeys(name for row in history for name in row.iou))
    colors = {entry.name: entry.color for entry in legend or ()}
    ends: list[tuple[float, str, str]] = []
    for place, name in enumerate(names):
        color = _shade(colors[name]) if name in colors else _HUES[place % len(_HUES)]
        values = [row.iou.get(name, math.nan) for row in history]
        _line(axes, epochs, values, color, name)
        last = next((value for value in reversed(values) if math.isfinite(value)), math.nan)
        if math.isfinite(last):
            ends.append((last, name, color))
    axes.set_ylim(bottom=0)
    top = axes.get_ylim()[1]
    named = _ends_to_label(sorted(ends))
    for height, (_, name, color) in zip(_spread_out([end for end, *_ in named], _LINE * top, top), named, strict=True):
        axes.annotate(
            short_name(name), (1.01, height), xycoords=("axes fraction", "data"), va="center", fontsize=8.5,
            color=color, annotation_clip=False, parse_math=False,
        )  # fmt: skip


def _ends_to_label(ends: list[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Return the line ends to label, ascending: if there are many, the lowest, the highest and a count of the rest."""
    if len(ends) <= _NAMED:
        return ends
    half = _NAMED // 2
    middle = ends[half:-half]
    return [*ends[:half], (middle[len(middle) // 2][0], f"and {len(middle)} more", _HUES[-1]), *ends[-half:]]


def _spread_out(heights: list[float], least: float, top: float) -> list[float]:
    """Return ascending heights up to `top`, at least `least` apart; there must be room for all."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + least) if moved else height)
    for place, room in enumerate(reversed(range(len(moved)))):
        moved[place] = min(moved[place], top - least * room)
    return moved


def _shade(color: tuple[int, int, int]) -> str:
    """Return a legend's color, darkened if hard to see on white (roughly by WCAG 2's relative luminance)."""
    red, green, blue = (level / 255 for level in color)
    light = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    factor = 1.0 if light <= _PALE else 0.62
    return "#" + "".join(f"{round(level * factor * 255):02x}" for level in (red, green, blue))


class ValidationPictures:
    """Collects a few places from validation, and logs them as pictures from time to time."""

    def __init__(self, plan: TrainingPlan) -> None:
        self._plan = plan
        self._rows: dict[str, NDArray[np.uint8]] = {}
        self._begun_s = time.monotonic()
        self._spent_s = 0.0

    def see(
        self, scene: PreparedScene, window: Window, reference: NDArray[np.uint8], predicted: NDArray[np.uint8]
    ) -> None:
        """Keep the first place of each of the first scenes; the codes of reference and network are (row, col)."""
        if scene.id in self._rows or len(self._rows) == SCENES or not self._has_time():
            return
        begin = time.monotonic()
        cut = Window(0, 0, min(SIDE_PX, window.height), min(SIDE_PX, window.width))
        patch = scene.read(Window(window.row, window.col, cut.height, cut.width))
        image = paint_bands(patch.data, patch.valid, self._plan.stretch)
        maps = [paint_codes(codes[cut.rows, cut.cols], self._plan.legend) for codes in (reference, predicted)]
        self._rows[scene.id] = np.concatenate([image, *maps], axis=1)
        self._spent_s += time.monotonic() - begin

    def log(self, epoch: int, loggers: Iterable[object]) -> None:
        """Log the pictures of this validation to TensorBoard, if they are due in this epoch."""
        if epoch % PICTURES_EVERY == 1 or epoch == self._plan.recipe.epochs:
            begin = time.monotonic()
            for logger in loggers:
                if isinstance(logger, TensorBoardLogger):
                    for name, row in self._rows.items():
                        logger.experiment.add_image(name, row, epoch, dataformats="HWC")
            self._spent_s += time.monotonic() - begin
        self._rows.clear()

    def _has_time(self) -> bool:
        return self._spent_s <= SHARE * (time.monotonic() - self._begun_s)


def write_training_report(  # noqa: PLR0913 - the parts of the report
    folder: str | os.PathLike[str],
    history: Sequence[EpochRow],
    evaluation: Evaluation,
    recipe_text: str = "",
    *,
    data: Mapping[str, str] | None = None,
    overwrite: bool = False,
    announce: Announce = lambda _line: None,
) -> Path:
    """Write the files of `write_report`, plus history.csv and curves.png.

    `evaluation` is that of the kept weights on validation, with the worst crops. `recipe_text` is copied to the page
    verbatim; `data` holds lines about data set and split, by a heading word. The folder is written atomically. Without
    matplotlib there are no pictures, and `announce` says so. Raises OutputError.
    """
    legend = evaluation.worst.legend if evaluation.worst is not None else None
    extras: dict[str, str | Draw] = {"history.csv": to_csv(history)}
    if history:
        extras["curves.png"] = lambda path: draw_curves(history, path, legend)
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
    """Return report.md: the course of the training, the figures of every report, and the recipe."""
    page = to_markdown(evaluation, pictures).rstrip().split("\n")
    title, body = page[0], page[1:]
    lines = [title, *body[: body.index("## Classes")], *_training(history, pictures)]
    if data:
        lines += ["## Data", "", *(f"- {word}: {line}" for word, line in data.items()), ""]
    lines += body[body.index("## Classes") :]
    if recipe_text:
        lines += ["", "## Recipe", "", "```", recipe_text.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _training(history: Sequence[EpochRow], pictures: Pictures) -> Iterator[str]:
    best = kept_epoch(history)
    if best is None:
        return
    yield from ("## Training", *pictures.shown("curves.png"), "")
    seconds = sum(row.seconds for row in history)
    size, unit = (3600, "h") if seconds >= 3600 else (60, "min") if seconds >= 60 else (1, "s")
    took = "" if math.isnan(seconds) else f" in {seconds / size:{'.2g' if seconds < 10 * size else '.0f'}} {unit}"
    yield f"{numbered(len(history), 'epoch')}{took}; kept: epoch {best.epoch + 1}, step {best.step}."
    yield ""
    step = -(-len(history) // _SHOWN_EPOCHS)
    rows = [row for place, row in enumerate(history) if place % step == 0 or row in (best, history[-1])]
    yield from markdown_table(
        ("epoch", "train loss", "validation loss", "mIoU", "learning rate"),
        (
            (
                f"{row.epoch + 1}{' (kept)' if row == best else ''}",
                *(ratio_text(value) for value in (row.train_loss, row.valid_loss, row.miou)),
                f"{row.lr:.3g}",
            )
            for row in rows
        ),
    )
    yield ""
