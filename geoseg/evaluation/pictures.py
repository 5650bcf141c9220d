"""The pictures of a report: confusion matrix, reliability diagram, and the crops that a network gets most wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import GeosegError
from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.metrics import ConfusionMatrix, grouped, shares
from geoseg.legend import NODATA, LandCover, Legend, name_key, short_name
from geoseg.raster import Patch, Window, natural_colors, tiles

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
_KEPT = 6
_CROP_PX = 256
_LEAST_SHARE = 0.08
"""Share of a crop: a class with fewer pixels in it is no example of how the class looks."""
_SHOWN_BANDS = 3
_GRAY = 225
"""The gray of pixels that are invalid or have no class."""


def new_figure(name: str, size_in: tuple[float, float], *, constrained: bool = True) -> Any:  # noqa: ANN401 - matplotlib's own
    """Return an empty figure that needs no display. GeosegError, which names the picture, without matplotlib."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - the extra [plot]
    except ImportError:
        raise GeosegError(f"{name} needs matplotlib; pip install 'geoseg[plot]'") from None
    return Figure(figsize=size_in, dpi=_DPI, layout="constrained" if constrained else None)


def draw_matrix(matrix: ConfusionMatrix, target: Path, unit: str = "pixels") -> None:
    """Write a PNG. Raises GeosegError without matplotlib, OSError if the file cannot be written."""
    counts = matrix.counts
    of_reference = shares(counts, counts.sum(axis=1, keepdims=True))
    cell = _CELL_IN if len(counts) <= _LEGIBLE else _SMALL_CELL_IN
    side = min(_MOST_IN, max(4.5, cell * len(counts) + 1.8))
    figure = new_figure(target.name, (side + 1.0, side))
    axes = figure.subplots()
    axes.set_facecolor("0.93")  # a class without reference has no shares
    image = axes.imshow(of_reference, cmap="Blues", vmin=0, vmax=1)
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
            share = of_reference[row, col]
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


class _CropScene(Protocol):
    """A scene that crops are cut from, such as a `PreparedScene`."""

    @property
    def id(self) -> str:
        """Its name."""

    def read(self, window: Window) -> Patch:
        """Read a window."""


@dataclass(frozen=True, slots=True, eq=False)
class WorstCrop:
    """A crop in which many pixels of one class are mapped as another."""

    scene: str
    window: Window
    code: int
    """The class."""
    class_px: int
    """Its pixels in the reference."""
    wrong_px: int
    """Those that the network maps as another class."""
    mostly: int
    """The class that most of the wrong pixels are mapped as."""
    image: NDArray[Any]
    """(band, row, col): the first three bands, or the first alone, as stored."""
    valid: NDArray[np.bool_]
    """(row, col), True = valid."""
    reference: NDArray[np.uint8]
    """(row, col) codes, 255 = none."""
    predicted: NDArray[np.uint8]
    """(row, col) codes."""

    @property
    def share(self) -> float:
        """The share of the class that is wrong in this crop."""
        return self.wrong_px / self.class_px


class WorstCrops:
    """The few worst crops of each class so far; no others are held."""

    def __init__(self, legend: Legend, *, stretch: tuple[float, float] | None = None) -> None:
        """Begin without crops. `stretch`: the darkest and lightest stored value of the imagery, for its pictures."""
        self.legend = legend
        self.stretch = stretch
        self._worst: dict[int, list[WorstCrop]] = {code: [] for code in legend.codes}

    def see(
        self, scene: _CropScene, window: Window, reference: NDArray[np.uint8], predicted: NDArray[np.uint8]
    ) -> None:
        """Examine a window of a scene: codes of the reference, 255 = none, and of the network, each (row, col).

        The window is cut into crops. The image of a crop is read only if it is among the worst.
        """
        for cell in _cells(window.shape):
            reference_crop, predicted_crop = reference[cell.rows, cell.cols], predicted[cell.rows, cell.cols]
            counts = np.bincount(
                reference_crop.ravel().astype(np.intp) * 256 + predicted_crop.ravel(), minlength=256**2
            )
            counts = counts.reshape(256, 256)
            least_px = max(1, round(_LEAST_SHARE * cell.size))
            for code in np.flatnonzero(counts.sum(axis=1) >= least_px).tolist():
                if code in self._worst:
                    place = cell.shifted(window.row, window.col)
                    self._consider(scene, place, code, counts[code], reference_crop, predicted_crop)

    def take(self, crop: WorstCrop) -> None:
        """Keep a crop if it is among the worst of its class; among equals the earlier one wins."""
        kept = self._worst[crop.code]
        kept.append(crop)
        kept.sort(key=_rank, reverse=True)
        del kept[_KEPT:]

    def of(self, code: int) -> tuple[WorstCrop, ...]:
        """Return the crops of a class, the worst first; none if every pixel of it is right."""
        return tuple(self._worst[code])

    def merge(self, other: WorstCrops) -> Self:
        """Return the worst crops of two collections with the same legend; among equals the first one's win."""
        both = type(self)(self.legend, stretch=self.stretch)
        for _, crops in (*self, *other):
            for crop in crops:
                both.take(crop)
        return both

    def __iter__(self) -> Iterator[tuple[int, tuple[WorstCrop, ...]]]:
        """Yield the code and the crops of each class that has any."""
        return ((code, tuple(crops)) for code, crops in self._worst.items() if crops)

    def _consider(  # noqa: PLR0913, PLR0917 - the parts of one crop
        self,
        scene: _CropScene,
        place: Window,
        code: int,
        counts: NDArray[np.int64],
        reference: NDArray[np.uint8],
        predicted: NDArray[np.uint8],
    ) -> None:
        """Keep a crop whose class was given the codes (256,) if it is among the worst."""
        class_px = int(counts.sum())
        wrong = counts.copy()
        wrong[code] = 0
        wrong_px = int(wrong.sum())
        kept = self._worst[code]
        if not wrong_px or (len(kept) == _KEPT and (wrong_px / class_px, wrong_px) <= _rank(kept[-1])):
            return
        patch = scene.read(place)
        bands = _SHOWN_BANDS if len(patch.data) >= _SHOWN_BANDS else 1
        self.take(
            WorstCrop(
                scene.id, place, code, class_px, wrong_px, int(wrong.argmax()),
                patch.data[:bands].copy(), patch.valid.copy(), reference.copy(), predicted.copy(),
            )
        )  # fmt: skip


def _cells(shape: tuple[int, int]) -> list[Window]:
    """Cut a window evenly into crops of at most `_CROP_PX`."""
    height, width = (math.ceil(side / math.ceil(side / _CROP_PX)) for side in shape)
    return tiles(shape[0], shape[1], height, width)


def _rank(crop: WorstCrop) -> tuple[float, int]:
    return crop.share, crop.wrong_px


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


def paint_codes(codes: NDArray[np.uint8], legend: Legend) -> NDArray[np.uint8]:
    """Return codes (row, col) in the legend's colors (row, col, 3); codes without a class are gray."""
    table = np.full((NODATA + 1, 3), _GRAY, np.uint8)
    for land_cover in legend:
        table[land_cover.code] = land_cover.color
    return table[codes]


def paint_bands(data: NDArray[Any], valid: NDArray[np.bool_], stretch: tuple[float, float]) -> NDArray[np.uint8]:
    """Return imagery (band, row, col) as a picture (row, col, 3): its first three bands, or the first alone as gray.

    `stretch`: the darkest and the lightest stored value. Invalid pixels, (row, col), are gray.
    """
    pixels = natural_colors(data, *stretch).transpose(1, 2, 0)
    pixels[~valid] = _GRAY
    return pixels
