"""How a training went, as one picture: losses, mIoU, each class, learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geoseg.evaluation import new_figure
from geoseg.legend import Legend
from geoseg.training.history import EpochRow, best_epoch

_DARK, _LIGHT = "#27408b", "#d2691e"
_HUES = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666")
_PALE = 0.72
"""Colours lighter than this, as relative luminance, are darkened: they would not show on white."""


def draw_curves(history: Sequence[EpochRow], target: Path, legend: Legend | None = None) -> None:
    """Write a PNG. `legend` gives the classes their colours. GeosegError without matplotlib, OSError unwritten."""
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
    if any(row.lr > 0 for row in history) and _spread([row.lr for row in history]) > 20:
        rates.set_yscale("log")
    titles = "loss", "mIoU on validation", "IoU of each class on validation", "learning rate"
    for axes, title in zip((losses, scores, classes, rates), titles, strict=True):
        axes.set_title(title, loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
    for axes in (scores, classes):
        axes.set_ylim(bottom=0)
    for axes in (classes, rates):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(target, format="png")


def _line(axes: Any, epochs: list[int], values: list[float], color: str, label: str) -> None:  # noqa: ANN401
    """Draw a line through the epochs that were measured; few of them get dots."""
    measured = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if math.isfinite(value)]
    if measured:
        dots = "o" if len(measured) <= 30 else None
        axes.plot(*zip(*measured, strict=True), color=color, label=label, linewidth=1.6, marker=dots, markersize=3)


def _mark_best(axes: Any, history: Sequence[EpochRow]) -> None:  # noqa: ANN401 - matplotlib's own
    best = best_epoch(history)
    if best is None or math.isnan(best.miou):
        return
    axes.plot(best.epoch + 1, best.miou, "o", color=_LIGHT, markersize=8, fillstyle="none", markeredgewidth=2)
    axes.text(
        0.98, 0.05, f"best: {best.miou:.4f}, epoch {best.epoch + 1}", transform=axes.transAxes, ha="right",
        fontsize=10, color=_LIGHT,
    )  # fmt: skip


def _draw_classes(axes: Any, epochs: list[int], history: Sequence[EpochRow], legend: Legend | None) -> None:  # noqa: ANN401
    """Draw a line a class, its name at the line's end; names that would collide are moved apart."""
    names = list(dict.fromkeys(name for row in history for name in row.iou))
    own = {each.name: each.color for each in legend or ()}
    ends: list[tuple[float, str, str]] = []
    for place, name in enumerate(names):
        color = _shade(own[name]) if name in own else _HUES[place % len(_HUES)]
        values = [row.iou.get(name, math.nan) for row in history]
        _line(axes, epochs, values, color, name)
        last = next((value for value in reversed(values) if math.isfinite(value)), math.nan)
        if math.isfinite(last):
            ends.append((last, name, color))
    ends.sort()
    least = 0.075 * (max((end for end, *_ in ends), default=0.0) or 1.0)
    for height, (_, name, color) in zip(_apart([end for end, *_ in ends], least), ends, strict=True):
        axes.annotate(
            name, (1.01, height), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=color,
            annotation_clip=False, parse_math=False,
        )  # fmt: skip


def _apart(heights: list[float], least: float) -> list[float]:
    """Return ascending heights moved up so that none is nearer than `least` to the one below."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + least) if moved else height)
    return moved


def _shade(color: tuple[int, int, int]) -> str:
    """Return a legend's colour, darkened where it would not show on white (WCAG 2's relative luminance, roughly)."""
    red, green, blue = (level / 255 for level in color)
    light = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    factor = 1.0 if light <= _PALE / 2 else 0.62
    return "#" + "".join(f"{round(level * factor * 255):02x}" for level in (red, green, blue))


def _spread(values: list[float]) -> float:
    there = [value for value in values if math.isfinite(value) and value > 0]
    return max(there) / min(there) if there else 1.0
