"""A sheet of paper: title, one map or two images side by side, legend, scale bar, north arrow, notes; as a PNG."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from affine import Affine
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform

from geoseg.display.frame import Bounds
from geoseg.display.origin import grouped
from geoseg.legend import short_name
from geoseg.raster import GDAL_ERRORS, GeoBox

_LONG_SIDE, _BESIDE_SIDE = 1600, 1100
"""Long side of a single image, and of each of two, in units: one unit is a pixel at the sheet's default size."""
_DPI = 144
"""Units per inch, and the default resolution stored in a file."""
_UNIT = 72 / _DPI
"""Points per unit."""
_MARGIN, _HEAD, _GAP, _LEGEND_WIDTH, _NARROW_COLUMN, _ROW = 48, 104, 24, 400, 300, 58
_SHORTEST, _NARROWEST = 320, 900
_WIDE = 1.9
"""Images with a larger aspect ratio have the legend below."""
_MOST_ENTRIES = 24
_LINE, _NOTE, _LETTER = 30, 24, 0.6
"""Line heights of the description and of notes; a letter's width relative to its height."""
_INK, _PALE, _FRAME = "#1f2328", "#6a737d", "#8c959f"
_WGS84 = CRS.from_epsg(4326)
_METERS_PER_DEGREE = 111_320.0
_STEP = 1e-3
"""Step relative to the map's size: short enough to be straight, long enough to avoid rounding errors."""
_LONGEST_BAR_M = 1e6
"""On larger maps, no single scale is valid."""
_UPRIGHT_DEGREES, _TURN_DEGREES = 2.5, 5.0
"""North is drawn upright within the first; if it turns by more than the second between corners, there is no arrow."""


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A class in the legend."""

    name: str
    color: tuple[int, int, int]
    area: float
    """Square meters, or pixels."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One image of a sheet."""

    image: NDArray[np.uint8]
    """(row, col, 4): red, green, blue, coverage."""
    label: str = ""
    """A heading, if there are two images."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """The contents of a sheet, independent of its size."""

    title: str
    facts: str
    entries: Sequence[LegendEntry]
    in_px: bool
    """Whether areas are in pixels."""
    scale: MapScale
    aspect: float
    """Width of an image divided by its height."""
    panels: Callable[[tuple[int, int]], Sequence[Panel]]
    """Returns the images with a given (rows, cols)."""
    count: int
    """Number of images side by side."""
    notes: Sequence[str]
    """Notes at the bottom: warnings, the source."""
    nothing: str
    """Text in the middle of a map without classes."""
    paragraphs: Sequence[str] = ()
    """Paragraphs of the description."""


@dataclass(frozen=True, slots=True)
class _SheetLayout:
    """Positions on a sheet, in units from the upper left."""

    cols: float
    """Width of each image."""
    rows: float
    count: int
    """Number of images side by side."""
    top: float
    """Top of the images."""
    columns: int
    """Number of columns in the legend."""
    column: float
    """Width of each column."""
    width: float
    legend: tuple[float, float]
    foot: tuple[float, float]
    """Position of the north arrow and the scale bar."""
    description: list[str]
    notes: list[str]
    notes_top: float
    height: float

    @classmethod
    def of(cls, sheet: Sheet) -> _SheetLayout:
        """Lay out a sheet."""
        aspect, count = sheet.aspect, sheet.count
        side = _LONG_SIDE if count == 1 else _BESIDE_SIDE
        cols, rows = float(side * min(1.0, aspect)), float(side / max(1.0, aspect))
        images = count * cols + (count - 1) * _GAP
        beside = images / rows < _WIDE
        width = max(_NARROWEST, images + 2 * _MARGIN + beside * (_LEGEND_WIDTH + _MARGIN))
        description, notes = (_wrapped(each, width - 2 * _MARGIN, 21) for each in (sheet.paragraphs, sheet.notes))
        top = _MARGIN + _HEAD + _LINE * len(description) + (32 if count > 1 else 0)
        longest = max((len(short_name(entry.name)) for entry in sheet.entries), default=0)
        column = _LEGEND_WIDTH if beside else max(_NARROW_COLUMN, 84 + 20 * _LETTER * longest)
        columns = 1 if beside else max(1, int(images / column))
        legend_height = 50 + -(-min(len(sheet.entries), _MOST_ENTRIES) // columns) * _ROW + 110
        bottom = top + (max(rows, legend_height, _SHORTEST) if beside else rows + legend_height)
        legend = (images + 2 * _MARGIN, top) if beside else (float(_MARGIN), top + rows + 36)
        points_down = sheet.scale.north is not None and math.cos(math.radians(sheet.scale.north)) < 0
        notes_top = bottom + (36 if notes else 0) + (_NOTE if points_down else 0)  # the letter N is below its arrow
        return cls(
            cols=cols,
            rows=rows,
            count=count,
            top=top,
            columns=columns,
            column=column,
            width=width,
            legend=legend,
            foot=(legend[0], bottom - (20 if beside else 8)),
            description=description,
            notes=notes,
            notes_top=notes_top,
            height=math.ceil(notes_top + _NOTE * len(notes) + _MARGIN),
        )

    def left(self, place: int) -> float:
        """Return the left edge of an image."""
        return _MARGIN + place * (self.cols + _GAP)


def draw_sheet(sheet: Sheet, width_px: int | None, dpi: int | None) -> bytes:
    """Return a sheet as a PNG; without panels it has an empty frame."""
    layout = _SheetLayout.of(sheet)
    factor = 1.0 if width_px is None else width_px / layout.width
    panels = sheet.panels((max(1, round(layout.rows * factor)), max(1, round(layout.cols * factor))))
    drawing = _Drawing(layout, factor)
    drawing.write(_MARGIN, _MARGIN + 34, sheet.title, size=40, weight="bold", widest=layout.width - 2 * _MARGIN)
    drawing.write(_MARGIN, _MARGIN + 74, sheet.facts, size=21, color=_PALE)
    for number, line in enumerate(layout.description):
        drawing.write(_MARGIN, _MARGIN + _HEAD + 10 + _LINE * number, line, size=21)
    for place, panel in enumerate(panels):
        drawing.show(panel, place)
    if not panels:
        drawing.frame(0)
    if not sheet.entries:
        middle = layout.left(layout.count - 1) + layout.cols / 2, layout.top + layout.rows / 2
        drawing.write(*middle, sheet.nothing, size=30, color=_PALE, align="center")
    drawing.legend(sheet.entries, in_px=sheet.in_px)
    if panels:
        drawing.scale(sheet.scale)
    for number, line in enumerate(layout.notes):
        drawing.write(_MARGIN, layout.notes_top + _NOTE * number, line, size=17, color=_PALE)
    return drawing.png(dpi or _DPI)


@dataclass(slots=True)
class _Drawing:
    """A figure with coordinates in units from the upper left."""

    layout: _SheetLayout
    factor: float
    """Pixels per unit."""
    figure: Figure = field(init=False)

    def __post_init__(self) -> None:
        size = (self.layout.width / _DPI, self.layout.height / _DPI)
        self.figure = Figure(figsize=size, dpi=_DPI * self.factor)
        FigureCanvasAgg(self.figure)
        axes = self.figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, self.layout.width), ylim=(self.layout.height, 0))
        axes.axis("off")

    def show(self, panel: Panel, place: int) -> None:
        """Draw an image at its position, pixel for pixel."""
        layout, rows = self.layout, panel.image.shape[0]
        total = round(self.figure.get_size_inches()[1] * self.figure.dpi)
        x, y = round(layout.left(place) * self.factor), total - round(layout.top * self.factor) - rows
        self.figure.figimage(panel.image, x, y, origin="upper", zorder=1)
        if panel.label:
            self.write(layout.left(place), layout.top - 14, panel.label, size=21, weight="bold")
        self.frame(place)

    def frame(self, place: int) -> None:
        """Draw the line around an image."""
        layout, x = self.layout, self.layout.left(place)
        self._box((x - 1, layout.top - 1), layout.cols + 2, layout.rows + 2, _FRAME, None)

    def legend(self, entries: Sequence[LegendEntry], *, in_px: bool) -> None:
        """List the classes with shares and areas; if there are many, the largest, and the number of others."""
        layout, total = self.layout, sum(entry.area for entry in entries) or 1.0
        left, top = layout.legend
        if entries:
            self.write(left, top + 26, "Land cover", size=25, weight="bold")
        shown, rest = largest(entries)
        for number, entry in enumerate(shown):
            x = left + (number % layout.columns) * layout.column
            y = top + 50 + (number // layout.columns) * _ROW
            self._box((x, y + 6), 44, 36, _FRAME, "#" + bytes(entry.color).hex())
            self.write(x + 60, y + 22, short_name(entry.name), size=20, widest=layout.column - 76)
            text = f"{_share(entry.area / total)}  ·  {_area(entry.area, in_px=in_px)}"
            self.write(x + 60, y + 44, text, size=17, color=_PALE)
        if rest:
            y = top + 50 + -(-len(shown) // layout.columns) * _ROW
            text = f"and {len(rest)} more, {_share(sum(entry.area for entry in rest) / total)}"
            self.write(left, y + 22, text, size=19, color=_PALE)

    def scale(self, scale: MapScale) -> None:
        """Draw the scale bar and the north arrow below the legend."""
        x, y = self.layout.foot
        if scale.north is not None:
            self._arrow(x + 22, y - 8, scale.north)
            x += 84
        if scale.meters_per_width is None:
            return
        meters_per_unit = scale.meters_per_width / self.layout.cols
        length_m = _bar_length_m(meters_per_unit * 340)
        if length_m is None:
            return
        half = length_m / meters_per_unit / 2
        for number, color in enumerate((_INK, "white")):
            self._box((x + number * half, y - 16), half, 12, _INK, color)
        self.write(x, y - 26, "0", size=18, align="center")
        self.write(x + 2 * half, y - 26, _length(length_m), size=18, align="center")

    def write(  # noqa: PLR0913 - how a text looks
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float,
        color: str = _INK,
        weight: str = "normal",
        align: str = "left",
        widest: float | None = None,
    ) -> None:
        """Write text on a baseline, in smaller letters if it is wider than `widest`; `size` is in units.

        Dollar signs do not start math text.
        """
        look: dict[str, Any] = {"color": color, "weight": weight, "ha": align, "va": "baseline", "parse_math": False}
        written = self.figure.axes[0].text(x, y, text, fontsize=size * _UNIT, **look)
        width = 0.0 if widest is None else written.get_window_extent().width / self.factor
        if widest is not None and width > widest:
            written.set_fontsize(size * _UNIT * widest / width)

    def png(self, dpi: int) -> bytes:
        """Return the PNG file, with its resolution stored as `dpi`."""
        content = io.BytesIO()
        options = {"dpi": (dpi, dpi)}
        self.figure.savefig(content, format="png", dpi=self.figure.dpi, facecolor="white", pil_kwargs=options)
        return content.getvalue()

    def _box(self, at: tuple[float, float], width: float, height: float, edge: str, face: str | None) -> None:
        shape = Rectangle(
            at, width, height, facecolor=face or "none", edgecolor=edge, linewidth=1.3 * _UNIT, fill=face is not None
        )
        self.figure.axes[0].add_patch(shape)

    def _arrow(self, x: float, y: float, north: float) -> None:
        """Draw an arrow around a point, rotated clockwise, and the letter N beyond its tip."""
        turn = Affine.translation(x, y) @ Affine.rotation(north)
        tip = [turn @ point for point in ((0, -26), (16, 22), (0, 10), (-16, 22))]
        self.figure.axes[0].add_patch(Polygon(tip, closed=True, facecolor=_INK, edgecolor=_INK, linewidth=_UNIT))
        letter = turn @ (0, -40)
        self.write(letter[0], letter[1] + 7, "N", size=21, weight="bold", align="center")


def _wrapped(paragraphs: Sequence[str], width: float, size: float) -> list[str]:
    letters = max(20, int(width / (size * _LETTER)))
    return [line for text in paragraphs for line in textwrap.wrap(text, letters)]


def largest(entries: Sequence[LegendEntry]) -> tuple[list[LegendEntry], list[LegendEntry]]:
    """Return the largest entries, in their order, and the others; among equal areas the first ones win."""
    ranked = sorted(range(len(entries)), key=lambda index: -entries[index].area)
    shown, hidden = sorted(ranked[:_MOST_ENTRIES]), sorted(ranked[_MOST_ENTRIES:])
    return [entries[index] for index in shown], [entries[index] for index in hidden]


def _share(share: float) -> str:
    return "< 0.1 %" if 0 < share < 0.0005 else f"{share:.1%}".replace("%", " %")


def _area(area: float, *, in_px: bool) -> str:
    if in_px:
        return f"{grouped(round(area))} px"
    for unit, size in (("km²", 1e6), ("ha", 1e4)):
        if area >= size:
            value = area / size
            return f"{grouped(value, 0 if value >= 100 else 1)} {unit}"
    return f"{grouped(area)} m²" if area >= 10 else f"{area:.2g} m²"


def _length(length_m: float) -> str:
    return f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"


@dataclass(frozen=True, slots=True)
class MapScale:
    """The size of an image on the ground, along its middle; None if unknown or misleading."""

    meters_per_width: float | None = None
    north: float | None = None
    """Direction of north, in degrees clockwise from up."""

    @classmethod
    def of_bounds(cls, crs: CRS | None, bounds: Bounds) -> MapScale:
        """Measure an image with these bounds, aligned with the axes of the CRS."""
        left, bottom, right, top = bounds
        return cls._of(crs, Affine(right - left, 0, left, 0, bottom - top, top))

    @classmethod
    def of_raster(cls, box: GeoBox) -> MapScale:
        """Measure an image of a raster's rows and columns."""
        crs, place = box.mapping()
        if crs is None or place is None:
            return cls()
        return cls._of(crs, place @ Affine.scale(box.width_px, box.height_px))

    @classmethod
    def _of(cls, crs: CRS | None, place: Affine) -> MapScale:
        """Measure an image; `place` maps its (0 to 1 right, 0 to 1 down) to the CRS."""
        if crs is None:
            return cls()
        at = [(0.5, 0.5), *((u, v) for u in (0.02, 0.98) for v in (0.02, 0.98))]
        try:
            directions = [_directions(crs, place, value) for value in at]
        except GDAL_ERRORS:
            return cls()  # another planet, or an office floor
        (meters, north), corners = directions[0], [value[1] for value in directions[1:]]
        if not (math.isfinite(meters) and meters > 0):
            return cls()
        turns = [abs((corner - north + 180) % 360 - 180) for corner in corners if math.isfinite(corner)]
        if not math.isfinite(north) or len(turns) < len(corners) or max(turns) > _TURN_DEGREES:
            return cls(meters)
        return cls(meters, 0.0 if abs(north) <= _UPRIGHT_DEGREES else north)


def _directions(crs: CRS, place: Affine, at: tuple[float, float]) -> tuple[float, float]:
    """Return the meters from the left to the right side at a point of an image, and north in degrees from up."""
    u, v = at
    points = [place @ point for point in ((u, v), (u + _STEP, v), (u, v - _STEP))]
    lon, lat = transform(crs, _WGS84, [x for x, _ in points], [y for _, y in points])
    shrink = math.cos(math.radians(lat[0]))
    (east_right, north_right), (east_up, north_up) = (
        (
            ((lon[end] - lon[0] + 180) % 360 - 180) * shrink * _METERS_PER_DEGREE / _STEP,
            (lat[end] - lat[0]) * _METERS_PER_DEGREE / _STEP,
        )
        for end in (1, 2)
    )
    width, height = math.hypot(east_right, north_right), math.hypot(east_up, north_up)
    if not (width and height):
        return width, math.nan
    return width, math.degrees(math.atan2(north_right / width, north_up / height))


def _bar_length_m(longest_m: float) -> float | None:
    """Return the largest of 1, 2, 5, 10, 20 ... meters that is not longer; None if a bar would mislead."""
    if not 0 < longest_m <= _LONGEST_BAR_M:
        return None
    power = 10.0 ** math.floor(math.log10(longest_m))
    return next(step * power for step in (5, 2, 1) if step * power <= longest_m * (1 + 1e-9))


def vertical_stretch(crs: CRS | None, bounds: Bounds) -> float:
    """Return a unit's height divided by its width, as drawn: degrees of longitude are shorter than of latitude."""
    if crs is None or not crs.is_geographic:
        return 1.0
    middle = min(80.0, abs((bounds[1] + bounds[3]) / 2))
    return 1 / math.cos(math.radians(middle))
