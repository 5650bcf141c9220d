"""The reliability diagram: how often a map is right, by how sure it says it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.plotting import new_figure

_SURE, _RIGHT = "#c0504d", "#4a7ebb"


def draw_calibration(calibration: Calibration, target: Path) -> None:
    """Write a PNG. Raises GeosegError without matplotlib, OSError where the file cannot be written."""
    figure = new_figure(target.name, (5.2, 5.6))
    above, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    bins = len(calibration.count_px)
    width, middles = 1 / bins, (np.arange(bins) + 0.5) / bins
    filled = calibration.count_px > 0
    right, sure = calibration.accuracy[filled], calibration.confidence[filled]
    above.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", zorder=3)
    above.bar(middles[filled], right, width * 0.94, color=_RIGHT, label="how often right", zorder=2)
    above.plot(sure, right, "o", color="0.15", markersize=4, zorder=4)
    above.bar(
        middles[filled], sure - right, width * 0.94, bottom=right, color=_SURE, alpha=0.4, hatch="//",
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
