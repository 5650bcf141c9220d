"""The page of a map: title, the map in its frame, the legend, a scale bar and an arrow to the north."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from geoseg.display.canvas import Canvas
from geoseg.display.feature_source import FeatureSource
from geoseg.display.ground import Ground, bar_length_m

_DPI = 144
_PX = 72 / _DPI
"""Points in a pixel."""
_MARGIN, _HEAD, _LEGEND_WIDTH, _ROW = 48, 104, 400, 58
_SHORTEST, _NARROWEST = 320, 900
_WIDE = 1.9
"""A map so much wider than high has its legend below."""
_MOST_ENTRIES = 24
_LETTERS = 30
_INK, _PALE, _FRAME = "#1f2328", "#6a737d", "#8c959f"


@dataclass(frozen=True, slots=True)
class Entry:
    """A class of the legend."""

    name: str
    color: tuple[int, int, int]
    area: float
    """Square metres, or pixels."""


def draw_page(title: str, source: FeatureSource, entries: list[Entry], count: int, canvas: Canvas | None) -> bytes:
    """Return a PNG; an empty frame without a canvas."""
    rows, cols = canvas.shape if canvas else (600, 800)
    page = _Page(rows, cols, len(entries))
    axes = page.axes
    _write(axes, _MARGIN, _MARGIN + 34, title, size=40, weight="bold")
    _write(axes, _MARGIN, _MARGIN + 74, _facts(source, count), size=21, color=_PALE)
    if canvas is not None:
        page.figure.figimage(canvas.image(), page.left, page.height - page.top - rows, origin="upper", zorder=1)
    else:
        _write(axes, page.left + cols / 2, page.top + rows / 2, "no polygons", size=30, color=_PALE, align="center")
    axes.add_patch(
        Rectangle((page.left - 1, page.top - 1), cols + 2, rows + 2, fill=False, edgecolor=_FRAME, linewidth=1.5 * _PX)
    )
    _draw_legend(page, entries, in_px=source.in_px)
    if canvas is not None and source.bounds is not None:
        ground = Ground.of(source.crs, source.bounds)
        _draw_scale(page, ground, canvas.units_per_px)
    content = io.BytesIO()
    page.figure.savefig(content, format="png", dpi=_DPI, facecolor="white")
    return content.getvalue()


class _Page:
    """Where things stand, in pixels from the upper left."""

    def __init__(self, rows: int, cols: int, entries: int) -> None:
        shown = min(entries, _MOST_ENTRIES)
        self.beside = cols / rows < _WIDE
        self.left, self.top = _MARGIN, _MARGIN + _HEAD
        self.columns = 1 if self.beside else max(1, cols // _LEGEND_WIDTH)
        legend_rows = -(-shown // self.columns)
        legend_height = 50 + legend_rows * _ROW + 110
        if self.beside:
            self.width = max(_NARROWEST, cols + 3 * _MARGIN + _LEGEND_WIDTH)
            self.height = self.top + max(rows, legend_height, _SHORTEST) + _MARGIN
            self.legend = (cols + 2 * _MARGIN, self.top)
            self.foot = (self.legend[0], self.top + max(rows, legend_height) - 20)
        else:
            self.width = max(_NARROWEST, cols + 2 * _MARGIN)
            self.height = self.top + rows + _MARGIN + legend_height
            self.legend = (self.left, self.top + rows + 36)
            self.foot = (self.left, self.height - _MARGIN)
        self.figure = Figure(figsize=(self.width / _DPI, self.height / _DPI), dpi=_DPI)
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        self.axes.axis("off")


def _draw_legend(page: _Page, entries: list[Entry], *, in_px: bool) -> None:
    total = sum(entry.area for entry in entries) or 1.0
    left, top = page.legend
    if entries:
        _write(page.axes, left, top + 26, "Land cover", size=25, weight="bold")
    shown, rest = _largest(entries)
    for number, entry in enumerate(shown):
        x = left + (number % page.columns) * _LEGEND_WIDTH
        y = top + 50 + (number // page.columns) * _ROW
        fill = "#" + bytes(entry.color).hex()
        page.axes.add_patch(Rectangle((x, y + 6), 44, 36, facecolor=fill, edgecolor=_FRAME, linewidth=1.2 * _PX))
        _write(page.axes, x + 60, y + 22, _fitting(entry.name), size=20)
        said = f"{_share(entry.area / total)}  ·  {_area(entry.area, in_px=in_px)}"
        _write(page.axes, x + 60, y + 44, said, size=17, color=_PALE)
    if rest:
        y = top + 50 + -(-len(shown) // page.columns) * _ROW
        said = f"and {len(rest)} more, {_share(sum(entry.area for entry in rest) / total)}"
        _write(page.axes, left, y + 22, said, size=19, color=_PALE)


def _draw_scale(page: _Page, ground: Ground, units_per_px: float) -> None:
    """Draw the bar and the arrow at the foot of the legend."""
    x, y = page.foot
    if ground.north_up:
        tip = np.array([[x + 18, y - 62], [x + 34, y - 14], [x + 18, y - 26], [x + 2, y - 14]])
        page.axes.add_patch(Polygon(tip, closed=True, facecolor=_INK, edgecolor=_INK, linewidth=_PX))
        _write(page.axes, x + 18, y + 16, "N", size=21, weight="bold", align="center")
        x += 76
    if ground.metres_per_unit is None:
        return
    metres_per_px = ground.metres_per_unit * units_per_px
    length_m = bar_length_m(metres_per_px * 340)
    if length_m is None:
        return
    half = length_m / metres_per_px / 2
    for number, color in enumerate((_INK, "white")):
        page.axes.add_patch(
            Rectangle((x + number * half, y - 16), half, 12, facecolor=color, edgecolor=_INK, linewidth=1.2 * _PX)
        )
    _write(page.axes, x, y - 26, "0", size=18, color=_INK, align="center")
    _write(page.axes, x + 2 * half, y - 26, _length(length_m), size=18, color=_INK, align="center")


def _write(  # noqa: PLR0913 - how a text looks
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    color: str = _INK,
    weight: str = "normal",
    align: str = "left",
) -> None:
    """Write on a base line; `size` is in pixels. A dollar sign is a dollar sign."""
    axes.text(x, y, text, fontsize=size * _PX, color=color, weight=weight, ha=align, va="baseline", parse_math=False)


def _facts(source: FeatureSource, count: int) -> str:
    authority = None if source.crs is None else source.crs.to_authority()
    place = "no CRS" if source.crs is None else ":".join(authority) if authority else "own CRS"
    return f"{_grouped(count)} polygon{'' if count == 1 else 's'}  ·  {place}"


def _largest(entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Return the entries to show, in their order, and the others."""
    if len(entries) <= _MOST_ENTRIES:
        return entries, []
    least = sorted((entry.area for entry in entries), reverse=True)[_MOST_ENTRIES - 1]
    shown = [entry for entry in entries if entry.area >= least][:_MOST_ENTRIES]
    return shown, [entry for entry in entries if entry not in shown]


def _fitting(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1].rstrip()}…"


def _share(share: float) -> str:
    return "< 0.1 %" if 0 < share < 0.0005 else f"{share:.1%}".replace("%", " %")


def _area(area: float, *, in_px: bool) -> str:
    if in_px:
        return f"{_grouped(round(area))} px"
    for unit, size in (("km²", 1e6), ("ha", 1e4)):
        if area >= size:
            value = area / size
            return f"{value:,.{0 if value >= 100 else 1}f} {unit}".replace(",", " ")
    return f"{area:,.0f} m²".replace(",", " ") if area >= 10 else f"{area:.2g} m²"


def _length(length_m: float) -> str:
    return f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")
