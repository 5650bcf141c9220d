"""The pictures of a report: confusion matrix, reliability diagram, worst crops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from geoseg.errors import GeosegError
from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.metrics import ConfusionMatrix, grouped
from geoseg.evaluation.worst_crops import WorstCrop, WorstCrops, paint_bands, paint_codes
from geoseg.legend import LandCover, Legend, name_key, short_name

_DPI = 120
_CELL_IN, _SMALL_CELL_IN = 0.95, 0.35
"""Inches per cell, with numbers and without."""
_MOST_IN = 24.0
_LEGIBLE = 25
"""Up to this many classes, numbers can be read."""
_DARK = 0.55
_SURE, _RIGHT = "#c0504d", "#4a7ebb"
WORST = "worst/"
"""The folder of the sheets in a report."""
_ACROSS = 2
"""Crops side by side, with three pictures each."""
_SIDE_IN = 1.9
_CAPTION_IN = 0.5
_LEGEND_ROW_IN, _SWATCH_IN, _LETTER_IN = 0.17, 0.4, 0.065
"""Height of a legend's row; width of a swatch with its gaps, and of a letter."""
_TITLES = ("image", "reference", "prediction")


def new_figure(name: str, size_in: tuple[float, float], *, constrained: bool = True) -> Any:  # noqa: ANN401 - matplotlib's own
    """Return an empty figure that needs no display. GeosegError, which names the picture, without matplotlib."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - the extra [plot]
    except ImportError:
        raise GeosegError(f"{name} needs matplotlib; pip install 'geoseg[plot]'") from None
    return Figure(figsize=size_in, dpi=_DPI, layout="constrained" if constrained else None)


def draw_matrix(matrix: ConfusionMatrix, target: Path, unit: str = "pixels") -> None:
    """Write a PNG. Raises GeosegError without matplotlib, OSError if the file cannot be written."""
    counts = matrix.counts.astype(float)
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, sums, out=np.full_like(counts, np.nan), where=sums > 0)
    cell = _CELL_IN if len(counts) <= _LEGIBLE else _SMALL_CELL_IN
    side = min(_MOST_IN, max(4.5, cell * len(counts) + 1.8))
    figure = new_figure(target.name, (side + 1.0, side))
    axes = figure.subplots()
    axes.set_facecolor("0.93")  # a class without reference has no shares
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    labels = [short_name(name) for name in matrix.names]
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=40, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(ticks, labels, parse_math=False)
    axes.set(xlabel="map", ylabel="reference")
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(1, len(labels)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(labels)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    if len(labels) <= _LEGIBLE:
        for row, col in np.ndindex(counts.shape):
            share = shares[row, col]
            text = f"{_short(float(counts[row, col]))}\n{share:.1%}" if counts[row, col] else "0"
            axes.text(col, row, text, ha="center", va="center", fontsize=9, color="white" if share > _DARK else "0.2")
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=30, pad=0.02, label=f"share of the reference's {unit}")
    bar.ax.yaxis.set_major_formatter(lambda share, _place: f"{share:.0%}")
    bar.outline.set_visible(False)
    figure.savefig(target, format="png")


def _short(count: float) -> str:
    """Return 1234567 as 1.23M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}" if count < 999.5 * size else f"{count / size:.0f}{letter}"
    return f"{count:.0f}"


def draw_calibration(calibration: Calibration, target: Path) -> None:
    """Write a PNG. Raises GeosegError without matplotlib, OSError if the file cannot be written."""
    figure = new_figure(target.name, (5.2, 5.6))
    above, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    bins = len(calibration.count_px)
    width, middles = 1 / bins, (np.arange(bins) + 0.5) / bins
    filled = calibration.count_px > 0
    accuracy, confidence = calibration.accuracy[filled], calibration.confidence[filled]
    above.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", zorder=3)
    above.bar(middles[filled], accuracy, width * 0.94, color=_RIGHT, label="how often right", zorder=2)
    above.plot(confidence, accuracy, "o", color="0.15", markersize=4, zorder=4)
    above.bar(
        middles[filled], confidence - accuracy, width * 0.94, bottom=accuracy, color=_SURE, alpha=0.4, hatch="//",
        edgecolor=_SURE, linewidth=0, label="gap to its confidence", zorder=2.5,
    )  # fmt: skip
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of pixels that are right")
    above.set_title(f"expected calibration error {calibration.error:.3f}", fontsize=11, loc="left")
    above.legend(loc="upper left", frameon=False, fontsize=9)
    below.bar(middles, calibration.count_px / max(calibration.pixels, 1), width * 0.94, color="0.6")
    below.set(xlabel="confidence", ylabel="share of pixels")
    below.yaxis.set_major_formatter(lambda share, _place: f"{share:.0%}")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.92")
        axes.set_axisbelow(True)
    figure.savefig(target, format="png")


def sheets(worst: WorstCrops) -> dict[str, Callable[[Path], None]]:
    """Return functions that draw the sheet of each class, by its file in a report."""
    return {
        _file_of(worst.legend, code): partial(_draw_sheet, crops=crops, legend=worst.legend, stretch=worst.stretch)
        for code, crops in worst
    }


def _file_of(legend: Legend, code: int) -> str:
    """Return the file of a class's sheet: the class name in portable letters, with the code if two names are equal."""
    stems = {
        land_cover.code: "".join(letter if letter.isalnum() else "_" for letter in name_key(land_cover.name))[:60]
        for land_cover in legend
    }
    is_unique = list(stems.values()).count(stems[code]) == 1
    return f"{WORST}{stems[code]}{'' if is_unique else f'_{code}'}.png"


def _draw_sheet(target: Path, crops: Sequence[WorstCrop], legend: Legend, stretch: tuple[float, float] | None) -> None:
    """Write the sheet of one class as a PNG. GeosegError without matplotlib, OSError if it cannot be written.

    Without a stretch, the 2nd and 98th percentiles of the images become the darkest and the lightest value.
    """
    across = min(_ACROSS, len(crops))
    down = math.ceil(len(crops) / across)
    gap = 0.35
    width = across * 3 * _SIDE_IN + (across - 1) * gap + 0.3
    named = _classes_in(crops, legend)
    longest = max(len(short_name(land_cover.name)) for land_cover in named)
    columns = max(1, min(len(named), int(width / (_SWATCH_IN + _LETTER_IN * longest))))
    height = down * (_SIDE_IN + _CAPTION_IN) + 0.93 + _LEGEND_ROW_IN * math.ceil(len(named) / columns)
    figure = new_figure(target.name, (width, height), constrained=False)
    shades = _stretch(crops) if stretch is None else stretch
    write = partial(_write, figure, (width, height))
    for place, crop in enumerate(crops):
        row, col = divmod(place, across)
        top = height - 0.55 - row * (_SIDE_IN + _CAPTION_IN) - _SIDE_IN
        left = 0.15 + col * (3 * _SIDE_IN + gap)
        pictures = (
            paint_bands(crop.image, crop.valid, shades),
            paint_codes(crop.reference, legend),
            paint_codes(crop.predicted, legend),
        )
        for part, pixels in enumerate(pictures):
            _show(figure, (width, height), pixels, (left + part * _SIDE_IN, top))
            if row == 0:
                middle = left + (part + 0.5) * _SIDE_IN, height - 0.5
                write(middle, _TITLES[part], ha="center", va="bottom", fontsize=9, color="0.35")
        write((left, top - 0.08), _caption(crop, legend), fontsize=8, color="0.2")
    write(
        (0.15, height - 0.1), f"worst of {short_name(legend.by_code(crops[0].code).name)}", fontsize=12, weight="bold"
    )
    _draw_legend(figure, named, columns)
    figure.savefig(target, format="png")


_Inches = tuple[float, float]
"""(right, up)."""


def _write(figure: Any, sheet_in: _Inches, place_in: _Inches, text: str, *, va: str = "top", **look: Any) -> None:  # noqa: ANN401 - matplotlib's
    (across, up), (width, height) = place_in, sheet_in
    figure.text(across / width, up / height, text, va=va, parse_math=False, **look)


def _show(figure: Any, sheet_in: _Inches, pixels: Any, corner_in: _Inches) -> None:  # noqa: ANN401 - matplotlib's
    (left, top), (width, height) = corner_in, sheet_in
    axes = figure.add_axes((left / width, top / height, _SIDE_IN / width * 0.98, _SIDE_IN / height * 0.98))
    axes.imshow(pixels, interpolation="nearest", aspect="equal")
    axes.set_anchor("N")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color="0.75", linewidth=0.5)


def _caption(crop: WorstCrop, legend: Legend) -> str:
    names = {land_cover.code: land_cover.name for land_cover in legend}
    mostly = short_name(names.get(crop.mostly, f"class {crop.mostly}"))
    return (
        f"{crop.share:.0%} of {grouped(crop.class_px)} px wrong, mostly {mostly}\n"
        f"{crop.scene}, row {crop.window.row}, col {crop.window.col}"
    )


def _classes_in(crops: Sequence[WorstCrop], legend: Legend) -> list[LandCover]:
    codes = set().union(*(np.unique(codes).tolist() for crop in crops for codes in (crop.reference, crop.predicted)))
    return [land_cover for land_cover in legend if land_cover.code in codes]


def _draw_legend(figure: Any, named: Sequence[LandCover], columns: int) -> None:  # noqa: ANN401 - matplotlib's
    from matplotlib.patches import Patch as Swatch  # noqa: PLC0415 - the extra [plot]

    swatches = [
        Swatch(facecolor=f"#{bytes(land_cover.color).hex()}", edgecolor="0.5", linewidth=0.5, label="class")
        for land_cover in named
    ]
    legend_box = figure.legend(
        handles=swatches, loc="lower center", ncols=columns, frameon=False, fontsize=8, handlelength=1.2,
        columnspacing=1.2,
    )  # fmt: skip
    for text, land_cover in zip(legend_box.get_texts(), named, strict=True):
        text.set(text=short_name(land_cover.name), parse_math=False)  # a label with a leading _ would be left out


def _stretch(crops: Sequence[WorstCrop]) -> tuple[float, float]:
    pixels = np.concatenate([crop.image[:, crop.valid].ravel() for crop in crops])
    low, high = np.percentile(pixels, (2, 98)) if len(pixels) else (0.0, 1.0)
    return float(low), float(high)
