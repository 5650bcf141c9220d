"""The picture of polygons: painted on a canvas, in a page with title, legend, scale bar and north arrow."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.transforms import IdentityTransform
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform

from geoseg.display.features import RGB, FeatureBatch, FeatureSource
from geoseg.display.frame import Bounds
from geoseg.legend import DEEPGLOBE, Nomenclature, distinct_color

LONG_SIDE_PX = 1600
"""Of the canvas; the page is some hundred pixels larger."""
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
_LINE_PX = 1.3
_LINE_SHADE = 0.45
"""How far a border darkens what is below it."""
_RING_PX = 7.0
"""A ring less wide and less high than this gets no border: in a thicket of borders the classes are lost."""
_THINNED_PX = 0.3
"""Vertices of a border nearer to its line than this are left out."""
_WGS84 = CRS.from_epsg(4326)
_METERS_PER_DEGREE = 111_320.0
_STEP = 1e-3
"""Of the map's size: short enough to be straight, long enough for its digits."""
_LONGEST_BAR_M = 1e6
"""On a map of continents no one scale holds."""
_UPRIGHT_DEGREES = 2.5


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A class of the legend."""

    name: str
    color: tuple[int, int, int]
    area: float
    """Square meters, or pixels."""


class _Drawing:
    """Goes through the features once: paints them, and counts areas."""

    def __init__(self, source: FeatureSource, legend: Nomenclature | None) -> None:
        self.source, self.count = source, 0
        self.canvas: Canvas | None = None
        self._colors = _Colors(source.colors, legend)
        self._names: dict[int, str] = {}
        self._areas: dict[int, float] = {}

    def paint(self) -> None:
        bounds = self.source.bounds
        if bounds is None:
            return
        self.canvas = Canvas(bounds, LONG_SIDE_PX, vertical_stretch(self.source.crs, bounds))
        for batch in self.source.batches():
            self._paint_batch(self.canvas, batch)

    def _paint_batch(self, canvas: Canvas, batch: FeatureBatch) -> None:
        self.count += len(batch.codes)
        codes, first, which = np.unique(batch.codes, return_index=True, return_inverse=True)
        sums = np.bincount(which, batch.areas)
        for number, code in enumerate(codes.tolist()):
            self._names.setdefault(code, batch.names[first[number]])
            self._areas[code] = self._areas.get(code, 0.0) + float(sums[number])
            canvas.fill(batch.shapes[which == number], self._colors.of(code, self._names[code]))
        canvas.border(batch.shapes)

    def entries(self) -> list[LegendEntry]:
        """Return the legend of what is there, in the order of the codes."""
        return [
            LegendEntry(self._names[code], self._colors.of(code, self._names[code]), self._areas[code])
            for code in sorted(self._names)
        ]


class _Colors:
    """The color of each class, the same for the whole map."""

    def __init__(self, by_name: dict[str, RGB], legend: Nomenclature | None) -> None:
        self._known = legend
        self._by_name = {land_cover.name: land_cover.color for land_cover in DEEPGLOBE} | by_name

    def of(self, code: int, name: str) -> RGB:
        if self._known is not None:
            return self._known.of(code).color
        return self._by_name.get(name) or distinct_color(code)


def draw_page(title: str, source: FeatureSource, legend: Nomenclature | None) -> bytes:
    """Return the PNG of some polygons; without a polygon it has an empty frame."""
    drawing = _Drawing(source, legend)
    drawing.paint()
    canvas, entries, count = drawing.canvas, drawing.entries(), drawing.count
    rows, cols = canvas.shape if canvas else (600, 800)
    page = _PageLayout(rows, cols, len(entries))
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
        scale = MapScale.of(source.crs, source.bounds)
        _draw_scale(page, scale, canvas.units_per_px)
    content = io.BytesIO()
    page.figure.savefig(content, format="png", dpi=_DPI, facecolor="white")
    return content.getvalue()


class _PageLayout:
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


def _draw_legend(page: _PageLayout, entries: list[LegendEntry], *, in_px: bool) -> None:
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


def _draw_scale(page: _PageLayout, scale: MapScale, units_per_px: float) -> None:
    """Draw the bar and the arrow at the foot of the legend."""
    x, y = page.foot
    if scale.north_up:
        tip = np.array([[x + 18, y - 62], [x + 34, y - 14], [x + 18, y - 26], [x + 2, y - 14]])
        page.axes.add_patch(Polygon(tip, closed=True, facecolor=_INK, edgecolor=_INK, linewidth=_PX))
        _write(page.axes, x + 18, y + 16, "N", size=21, weight="bold", align="center")
        x += 76
    if scale.meters_per_unit is None:
        return
    meters_per_px = scale.meters_per_unit * units_per_px
    length_m = bar_length_m(meters_per_px * 340)
    if length_m is None:
        return
    half = length_m / meters_per_px / 2
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


def _largest(entries: list[LegendEntry]) -> tuple[list[LegendEntry], list[LegendEntry]]:
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


class Canvas:
    """Bounded memory: 20 bytes a pixel of the canvas, and the batch that is painted."""

    def __init__(self, bounds: Bounds, long_side_px: int, stretch: float = 1.0) -> None:
        """Lay a canvas over some bounds; `stretch` is how much higher than wide a unit is drawn."""
        self._left, self._bottom = bounds[:2]
        width, height = bounds[2] - bounds[0], (bounds[3] - bounds[1]) * stretch
        self.units_per_px = max(width, height) / long_side_px
        self._scale = np.array([1 / self.units_per_px, stretch / self.units_per_px])
        self.shape = tuple(max(1, math.ceil(side / self.units_per_px - 1e-6)) for side in (height, width))
        self._paint = np.zeros((*self.shape, 4), np.float32)  # red, green, blue, each times cover; cover
        self._lines = _renderer(self.shape)

    def fill(self, shapes: NDArray[np.object_], color: tuple[int, int, int]) -> None:
        """Paint polygons that do not overlap."""
        xy, starts = self._rings(shapes)
        if not len(xy):
            return
        low = np.maximum(np.floor(xy.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(xy.max(axis=0)).astype(int), self.shape[::-1])
        cols, rows = np.maximum(high - low, 1).tolist()
        renderer = _renderer((rows, cols))
        renderer.draw_path(
            _pen(0.0), _outline(xy - low, starts, closed=True), IdentityTransform(), (1.0, 1.0, 1.0, 1.0)
        )
        cover = np.asarray(renderer.buffer_rgba())[..., 3].astype(np.float32) / 255
        top = self.shape[0] - low[1] - rows
        place = self._paint[max(top, 0) : top + rows, low[0] : low[0] + cols]
        cover = cover[-place.shape[0] :, : place.shape[1]]
        place[..., 3] += cover
        for channel, level in enumerate(color):
            place[..., channel] += cover * np.float32(level)

    def border(self, shapes: NDArray[np.object_]) -> None:
        """Draw the rings that are large enough to be seen."""
        xy, starts = self._rings(shapes)
        if not len(xy):
            return
        sizes = np.maximum.reduceat(xy, starts[:-1]) - np.minimum.reduceat(xy, starts[:-1])
        large = sizes.max(axis=1) >= _RING_PX
        counts = np.diff(starts)
        xy, starts = xy[np.repeat(large, counts)], np.concatenate([[0], np.cumsum(counts[large])])
        if len(xy):
            outline = _outline(xy, starts, closed=False)
            outline.should_simplify, outline.simplify_threshold = True, _THINNED_PX
            self._lines.draw_path(_pen(_LINE_PX), outline, IdentityTransform())

    def image(self) -> NDArray[np.uint8]:
        """Return (row, col, 4): the colors with the borders over them; bare ground is transparent."""
        cover = self._paint[..., 3:]
        color = np.divide(self._paint[..., :3], cover, out=np.zeros_like(self._paint[..., :3]), where=cover > 0)
        line = np.asarray(self._lines.buffer_rgba())[..., 3:].astype(np.float32) / 255
        color *= 1 - _LINE_SHADE * line
        return np.concatenate([color, 255 * np.minimum(cover, 1)], axis=2).round().astype(np.uint8)

    def _rings(self, shapes: NDArray[np.object_]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return (vertex, 2) in pixels from the lower left, and (ring + 1,) where each ring begins."""
        counts = shapely.get_num_coordinates(shapely.get_rings(shapely.get_parts(shapes)))
        xy = (shapely.get_coordinates(shapes) - (self._left, self._bottom)) * self._scale
        return xy, np.concatenate([[0], np.cumsum(counts)])


def _outline(xy: NDArray[np.float64], starts: NDArray[np.int64], *, closed: bool) -> Outline:
    codes = np.full(len(xy), Outline.LINETO, Outline.code_type)
    if closed:
        codes[starts[1:] - 1] = Outline.CLOSEPOLY
    codes[starts[:-1]] = Outline.MOVETO
    return Outline(xy, codes)


def _renderer(shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - matplotlib gives its renderer no types
    return RendererAgg(shape[1], shape[0], 72)  # type: ignore[no-untyped-call]  # at 72 dots an inch a point is a pixel


def _pen(width_px: float) -> Any:  # noqa: ANN401 - see above
    pen = _renderer((1, 1)).new_gc()
    pen.set_linewidth(width_px)
    pen.set_foreground((0.0, 0.0, 0.0, 1.0), isRGBA=True)
    pen.set_snap(False)
    pen.set_joinstyle("round")
    return pen


@dataclass(frozen=True, slots=True)
class MapScale:
    """A map's middle; None where it is not known, or of no use."""

    meters_per_unit: float | None
    north_up: bool

    @classmethod
    def of(cls, crs: CRS | None, bounds: Bounds) -> MapScale:
        """Measure the middle of some bounds."""
        if crs is None:
            return cls(None, north_up=False)
        x, y = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
        step = _STEP * max(bounds[2] - bounds[0], bounds[3] - bounds[1])
        try:
            lon, lat = transform(crs, _WGS84, [x, x + step, x], [y, y, y + step])
        except (CRSError, RasterioError, RuntimeError):
            return cls(None, north_up=False)  # another planet, or an office floor
        shrink = math.cos(math.radians(lat[0]))
        east, up = (
            ((lon[end] - lon[0]) * shrink * _METERS_PER_DEGREE, (lat[end] - lat[0]) * _METERS_PER_DEGREE)
            for end in (1, 2)
        )
        meters = math.hypot(*east) / step
        if not (math.isfinite(meters) and meters > 0):
            return cls(None, north_up=False)
        tilt = math.degrees(math.atan2(up[0], up[1]))
        return cls(meters, north_up=abs(tilt) <= _UPRIGHT_DEGREES)


def bar_length_m(longest_m: float) -> float | None:
    """Return the longest of 1, 2, 5, 10, 20 ... meters that is not longer; None where a bar would mislead."""
    if not 0 < longest_m <= _LONGEST_BAR_M:
        return None
    power = 10.0 ** math.floor(math.log10(longest_m))
    return next(step * power for step in (5, 2, 1) if step * power <= longest_m * (1 + 1e-9))


def vertical_stretch(crs: CRS | None, bounds: Bounds) -> float:
    """Return how much higher than wide a unit is drawn: degrees of longitude are shorter than those of latitude."""
    if crs is None or not crs.is_geographic:
        return 1.0
    middle = min(80.0, abs((bounds[1] + bounds[3]) / 2))
    return 1 / math.cos(math.radians(middle))
