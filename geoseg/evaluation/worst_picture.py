"""The worst crops as a sheet a class: image, reference and prediction side by side, in the legend's colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from geoseg.evaluation.matching import key
from geoseg.evaluation.plotting import new_figure
from geoseg.evaluation.worst import WorstCrop, WorstCrops, colored, natural
from geoseg.legend import Legend

WORST = "worst/"
"""The folder of the sheets in a report."""
_ACROSS = 2
"""Crops beside each other, three pictures each."""
_SIDE_IN = 1.9
_CAPTION_IN = 0.5
_LEGEND_IN = 0.55
_TITLES = ("image", "reference", "prediction")


def sheets(worst: WorstCrops) -> dict[str, Callable[[Path], None]]:
    """Return what draws the sheet of each class, by its file in a report."""
    return {
        _file_of(worst.legend, code): partial(_draw, crops=crops, legend=worst.legend, stretch=worst.stretch)
        for code, crops in worst
    }


def _file_of(legend: Legend, code: int) -> str:
    """Return the name of a class's sheet: its own, of letters that every system takes."""
    name = key(legend.by_code(code).name)
    plain = "".join(letter if letter.isalnum() else "_" for letter in name)
    alone = sum(key(each.name) == name for each in legend) == 1
    return f"{WORST}{plain[:60]}{'' if alone else f'_{code}'}.png"


def _draw(target: Path, crops: Sequence[WorstCrop], legend: Legend, stretch: tuple[float, float] | None) -> None:
    """Write the sheet of one class as a PNG. GeosegError without matplotlib, OSError where it cannot be written.

    Without a stretch the darkest and the lightest value are those that 2 and 98 % of the images are below.
    """
    across = min(_ACROSS, len(crops))
    down = math.ceil(len(crops) / across)
    gap = 0.35
    width = across * 3 * _SIDE_IN + (across - 1) * gap + 0.3
    height = down * (_SIDE_IN + _CAPTION_IN) + _LEGEND_IN + 0.55
    figure = new_figure(target.name, (width, height), constrained=False)
    shades = _stretch(crops) if stretch is None else stretch
    for place, crop in enumerate(crops):
        row, col = divmod(place, across)
        top = height - 0.55 - row * (_SIDE_IN + _CAPTION_IN) - _SIDE_IN
        left = 0.15 + col * (3 * _SIDE_IN + gap)
        pictures = (
            natural(crop.image, crop.valid, shades),
            colored(crop.reference, legend),
            colored(crop.predicted, legend),
        )
        for part, pixels in enumerate(pictures):
            _show(
                figure, pixels, ((left + part * _SIDE_IN) / width, top / height), (_SIDE_IN / width, _SIDE_IN / height)
            )
            if row == 0:
                figure.text(
                    (left + (part + 0.5) * _SIDE_IN) / width, (height - 0.5) / height, _TITLES[part],
                    ha="center", va="bottom", fontsize=9, color="0.35",
                )  # fmt: skip
        figure.text(
            left / width,
            (top - 0.08) / height,
            _caption(crop, legend),
            va="top",
            fontsize=8,
            color="0.2",
            parse_math=False,
        )
    name = legend.by_code(crops[0].code).name
    figure.text(
        0.15 / width,
        (height - 0.1) / height,
        f"worst of {name}",
        va="top",
        fontsize=12,
        weight="bold",
        parse_math=False,
    )
    _explain(figure, crops, legend)
    figure.savefig(target, format="png")


def _show(figure: Any, pixels: Any, corner: tuple[float, float], size: tuple[float, float]) -> None:  # noqa: ANN401
    axes = figure.add_axes((*corner, size[0] * 0.98, size[1] * 0.98))
    axes.imshow(pixels, interpolation="nearest", aspect="equal")
    axes.set_anchor("N")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color="0.75", linewidth=0.5)


def _caption(crop: WorstCrop, legend: Legend) -> str:
    names = {land_cover.code: land_cover.name for land_cover in legend}
    mostly = names.get(crop.mostly, f"class {crop.mostly}")
    thousands = f"{crop.class_px:,}".replace(",", " ")
    return (
        f"{crop.share:.0%} of {thousands} px wrong, mostly {mostly}\n"
        f"{crop.scene}, row {crop.window.row}, col {crop.window.col}"
    )


def _explain(figure: Any, crops: Sequence[WorstCrop], legend: Legend) -> None:  # noqa: ANN401 - matplotlib's
    """Name the colours that are there."""
    from matplotlib.patches import Patch as Swatch  # noqa: PLC0415 - the extra [plot]

    there = set().union(*(np.unique(codes).tolist() for crop in crops for codes in (crop.reference, crop.predicted)))
    named = [each for each in legend if each.code in there]
    swatches = [
        Swatch(facecolor=f"#{bytes(each.color).hex()}", edgecolor="0.5", linewidth=0.5, label="class") for each in named
    ]
    made = figure.legend(
        handles=swatches, loc="lower center", ncols=min(len(swatches), 8), frameon=False, fontsize=8,
        handlelength=1.2, columnspacing=1.2,
    )  # fmt: skip
    for text, each in zip(made.get_texts(), named, strict=True):
        text.set(text=each.name, parse_math=False)  # a label with a leading _ would be left out


def _stretch(crops: Sequence[WorstCrop]) -> tuple[float, float]:
    pixels = np.concatenate([crop.image[:, crop.valid].ravel() for crop in crops])
    low, high = np.percentile(pixels, (2, 98)) if len(pixels) else (0.0, 1.0)
    return float(low), float(high)
