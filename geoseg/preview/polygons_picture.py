"""Polygons drawn as a map: title, legend with shares, scale bar."""

from __future__ import annotations

import colorsys
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from geoseg.errors import GeosegError, OutputError, UsageError
from geoseg.legend import DEEPGLOBE, Legend
from geoseg.preview.feature_source import Batch, FeatureSource, open_features
from geoseg.preview.geopackage_style import RGB
from geoseg.raster.durable import probe_writable, same_file, write_durably

if TYPE_CHECKING:
    import geopandas

    from geoseg.preview.canvas import Canvas
    from geoseg.preview.map_page import Entry

_Key = TypeVar("_Key", int, str)
LONG_SIDE_PX = 1600
"""Of the map; the page is some hundred pixels larger."""
_SPARE_COLORS = (
    (141, 211, 199), (190, 186, 218), (251, 128, 114), (128, 177, 211), (253, 180, 98), (179, 222, 105),
    (252, 205, 229), (188, 128, 189), (204, 235, 197), (255, 237, 111), (166, 118, 29), (117, 112, 179),
)  # fmt: skip
"""For classes whose colour nobody told: Set3 of colorbrewer2.org (Cynthia Brewer), and two of its Dark2."""
_GOLDEN = 0.618034


def draw_polygons(
    polygons: str | os.PathLike[str] | geopandas.GeoDataFrame,
    out: str | os.PathLike[str],
    *,
    legend: Legend | None = None,
    title: str | None = None,
) -> Path:
    """Draw polygons as `geoseg.vectorize` makes them, of any number, as a map in a PNG of about 2000 pixels.

    ```python
    geoseg.draw_polygons("landcover.gpkg", "landcover.png")
    ```

    Each pixel shows the mix of the classes in it; borders are drawn round what is large enough to be seen. The colours
    are the legend's, else those of the style inside a GeoPackage, else the DeepGlobe legend's for its names, else some
    that differ. The title is the file's name where none is given.

    Raises GeosegError without matplotlib and for what is no file of polygons, UsageError for polygons without the
    columns of `vectorize`, OutputError where the picture cannot be written.
    """
    _need_matplotlib()
    target = probe_writable(out)
    from geoseg.preview.map_page import draw_page  # noqa: PLC0415 - matplotlib is an extra

    source = open_features(polygons)
    drawing = _Drawing(source, legend)
    drawing.paint()
    content = draw_page(title or source.title, source, drawing.entries(), drawing.count, drawing.canvas)
    write_durably(target, content)
    return target


def check_picture(out: str | os.PathLike[str], *, overwrite: bool, others: Iterable[str] = ()) -> Path:
    """Return the target of a picture if it can be drawn there, before any work is done.

    GeosegError without matplotlib; UsageError for another extension than .png, or for one of the `others`, which the
    run reads or writes; OutputError where no file can be made, or one exists and may not be replaced.
    """
    _need_matplotlib()
    path = probe_writable(out)
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path} is no name of a PNG picture; give it the extension .png")
    if any(same_file(path, Path(name)) for name in others):
        raise UsageError(
            f"{path} is read or written by this run and would be replaced by the picture; choose another --png"
        )
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; add --overwrite to replace it, or choose another --png")
    return path


def _need_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise GeosegError("pictures need matplotlib, which is not installed; pip install matplotlib")


class _Drawing:
    """Goes through the features once: paints them, and counts areas."""

    def __init__(self, source: FeatureSource, legend: Legend | None) -> None:
        self.source, self.count = source, 0
        self.canvas: Canvas | None = None
        self._colors = _Colors(source.colors, legend)
        self._names: dict[int, str] = {}
        self._areas: dict[int, float] = {}

    def paint(self) -> None:
        from geoseg.preview.canvas import Canvas  # noqa: PLC0415 - matplotlib is an extra
        from geoseg.preview.ground import vertical_stretch  # noqa: PLC0415 - with the canvas

        bounds = self.source.bounds
        if bounds is None:
            return
        self.canvas = Canvas(bounds, LONG_SIDE_PX, vertical_stretch(self.source.crs, bounds))
        for batch in self.source.batches():
            self._paint_batch(self.canvas, batch)

    def _paint_batch(self, canvas: Canvas, batch: Batch) -> None:
        self.count += len(batch.codes)
        codes, first, which = np.unique(batch.codes, return_index=True, return_inverse=True)
        sums = np.bincount(which, batch.areas)
        for number, code in enumerate(codes.tolist()):
            self._names.setdefault(code, batch.names[first[number]])
            self._areas[code] = self._areas.get(code, 0.0) + float(sums[number])
            canvas.fill(batch.shapes[which == number], self._colors.of(code, self._names[code]))
        canvas.border(batch.shapes)

    def entries(self) -> list[Entry]:
        """Return the legend of what is there, in the order of the codes."""
        from geoseg.preview.map_page import Entry  # noqa: PLC0415 - matplotlib is an extra

        return [
            Entry(self._names[code].replace("_", " "), self._colors.of(code, self._names[code]), self._areas[code])
            for code in sorted(self._names)
        ]


class _Colors:
    """The colour of each class, the same for the whole map."""

    def __init__(self, by_name: dict[str, RGB], legend: Legend | None) -> None:
        self._by_code = _telling({land_cover.code: land_cover.color for land_cover in legend or ()})
        self._by_name = {land_cover.name: land_cover.color for land_cover in DEEPGLOBE} | _telling(by_name)
        self._chosen: dict[int, RGB] = {}

    def of(self, code: int, name: str) -> RGB:
        known = self._by_code.get(code) or self._by_name.get(name)
        if known is not None:
            return known
        return self._chosen.setdefault(code, _spare(len(self._chosen)))


def _telling(colors: dict[_Key, RGB]) -> dict[_Key, RGB]:
    """Return the colours, or none where they are all the same: a raster with names alone has only gray."""
    return colors if len(set(colors.values())) > 1 or len(colors) == 1 else {}


def _spare(number: int) -> RGB:
    """Return one of many colours; each next hue is as far as can be from those before (by the golden section)."""
    if number < len(_SPARE_COLORS):
        return _SPARE_COLORS[number]
    red, green, blue = colorsys.hls_to_rgb(number * _GOLDEN % 1, 0.45 + 0.3 * (number % 2), 0.5)
    return round(255 * red), round(255 * green), round(255 * blue)
