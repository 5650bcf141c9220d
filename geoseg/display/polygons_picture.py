"""Polygons drawn as a map: title, legend with shares, scale bar."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoseg.atomic import probe_writable, same_file, write_durably
from geoseg.display.feature_source import Batch, FeatureSource, open_features
from geoseg.display.geopackage_style import RGB
from geoseg.errors import GeosegError, OutputError, UsageError
from geoseg.given import plain_arguments
from geoseg.legend import DEEPGLOBE, Legend, Nomenclature, distinct_color, read_legend_file

if TYPE_CHECKING:
    import geopandas

    from geoseg.display.canvas import Canvas
    from geoseg.display.map_page import Entry

StrPath = str | os.PathLike[str]
LONG_SIDE_PX = 1600
"""Of the map; the page is some hundred pixels larger."""


@plain_arguments()
def draw_polygons(
    polygons: StrPath | geopandas.GeoDataFrame,
    out: StrPath,
    *,
    legend: StrPath | Legend | Nomenclature | None = None,
    title: str | None = None,
    layer: str | None = None,
) -> Path:
    """Draw polygons as `geoseg.vectorize` makes them, of any number, as a map in a PNG of about 2000 pixels.

    ```python
    geoseg.draw_polygons("landcover.gpkg", "landcover.png")
    ```

    Each pixel shows the mix of the classes in it; borders are drawn round what is large enough to be seen. The colours
    are those of a legend (a value, or a file as for `vectorize`), else those of the style inside a GeoPackage, else
    the DeepGlobe legend's for its names, else some that differ. The title is the file's name where none is given. Of a
    GeoPackage it is the `layer` of that name, else the first of such polygons.

    Raises GeosegError without matplotlib and for what is no file of polygons, UsageError for polygons without the
    columns of `vectorize`, OutputError where the picture cannot be written.
    """
    _need_matplotlib()
    target = probe_writable(out)
    from geoseg.display.map_page import draw_page  # noqa: PLC0415 - matplotlib is an extra

    source = open_features(polygons, layer)
    drawing = _Drawing(source, legend)
    drawing.paint()
    content = draw_page(title or source.title, source, drawing.entries(), drawing.count, drawing.canvas)
    write_durably(target, content)
    return target


def check_picture(out: StrPath, *, overwrite: bool, others: Iterable[str] = ()) -> Path:
    """Return the target of a picture if it can be drawn there, before any work is done.

    GeosegError without matplotlib; UsageError for another extension than .png, or for one of the `others`, which the
    run reads or writes; OutputError where no file can be made, or one exists and may not be replaced.
    """
    _need_matplotlib()
    path = probe_writable(out)
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: a picture of polygons must end in .png")
    if any(same_file(path, Path(name)) for name in others):
        raise UsageError(
            f"{path} is read or written by this run and would be replaced by the picture; choose another `png`"
        )
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; add `overwrite=True` to replace it, or choose another `png`")
    return path


def _need_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise GeosegError("pictures need matplotlib, which is not installed; pip install matplotlib")


class _Drawing:
    """Goes through the features once: paints them, and counts areas."""

    def __init__(self, source: FeatureSource, legend: StrPath | Legend | Nomenclature | None) -> None:
        self.source, self.count = source, 0
        self.canvas: Canvas | None = None
        self._colors = _Colors(source.colors, legend)
        self._names: dict[int, str] = {}
        self._areas: dict[int, float] = {}

    def paint(self) -> None:
        from geoseg.display.canvas import Canvas  # noqa: PLC0415 - matplotlib is an extra
        from geoseg.display.ground import vertical_stretch  # noqa: PLC0415 - with the canvas

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
        from geoseg.display.map_page import Entry  # noqa: PLC0415 - matplotlib is an extra

        return [
            Entry(self._names[code], self._colors.of(code, self._names[code]), self._areas[code])
            for code in sorted(self._names)
        ]


class _Colors:
    """The colour of each class, the same for the whole map."""

    def __init__(self, by_name: dict[str, RGB], legend: StrPath | Legend | Nomenclature | None) -> None:
        self._known = _nomenclature(legend)
        self._by_name = {land_cover.name: land_cover.color for land_cover in DEEPGLOBE} | by_name

    def of(self, code: int, name: str) -> RGB:
        if self._known is not None:
            return self._known.of(code).color
        return self._by_name.get(name) or distinct_color(code)


def _nomenclature(legend: StrPath | Legend | Nomenclature | None) -> Nomenclature | None:
    match legend:
        case None | Nomenclature():
            return legend
        case Legend():
            return Nomenclature.from_legend(legend)
    return read_legend_file(legend)
