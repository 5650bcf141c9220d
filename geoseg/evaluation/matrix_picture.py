"""The confusion matrix as a picture: shades are shares of the reference, numbers are pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.evaluation.plotting import new_figure

_CELL_IN, _SMALL_CELL_IN = 0.95, 0.35
"""Inches a cell with numbers, and without."""
_MOST_IN = 24.0
_LEGIBLE = 25
"""Classes up to which numbers can be read."""
_DARK = 0.55


def draw_matrix(matrix: ConfusionMatrix, target: Path, unit: str = "pixels") -> None:
    """Write a PNG. Raises GeosegError without matplotlib, OSError where the file cannot be written."""
    counts = matrix.counts.astype(float)
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, sums, out=np.full_like(counts, np.nan), where=sums > 0)
    cell = _CELL_IN if len(counts) <= _LEGIBLE else _SMALL_CELL_IN
    side = min(_MOST_IN, max(4.5, cell * len(counts) + 1.8))
    figure = new_figure(target.name, (side + 1.0, side))
    axes = figure.subplots()
    axes.set_facecolor("0.93")  # a class without reference has no shares
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    labels = list(matrix.names)
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
