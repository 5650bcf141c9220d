"""A canvas on which matplotlib's renderer paints polygons: each pixel shows the mix of the classes in it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import shapely
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path as Outline
from matplotlib.transforms import IdentityTransform
from numpy.typing import NDArray

from geoseg.display.frame import Bounds

_LINE_PX = 1.3
_LINE_SHADE = 0.45
"""How much a border darkens the colors below it."""
_RING_PX = 7.0
"""Rings smaller than this in both directions get no border: too many borders would hide the classes."""
_THINNED_PX = 0.3
"""Borders are simplified by dropping vertices closer to the line than this."""


class Canvas:
    """A canvas in bounded memory: 20 bytes per pixel, plus the batch being painted."""

    def __init__(self, bounds: Bounds, long_side_px: int, stretch: float = 1.0) -> None:
        """Make a canvas for some bounds; `stretch` is a unit's height divided by its width, as drawn."""
        self._left, self._bottom = bounds[:2]
        width, height = bounds[2] - bounds[0], (bounds[3] - bounds[1]) * stretch
        self.units_per_px = max(width, height) / long_side_px
        self._scale = np.array([1 / self.units_per_px, stretch / self.units_per_px])
        self.shape = tuple(max(1, math.ceil(side / self.units_per_px - 1e-6)) for side in (height, width))
        self._paint = np.zeros((*self.shape, 4), np.float32)  # red, green, blue, each multiplied by coverage; coverage
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
        """Draw the borders of rings that are large enough to see."""
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
        """Return (row, col, 4): the colors with borders drawn over them; unpainted pixels are transparent."""
        cover = self._paint[..., 3:]
        color = np.divide(self._paint[..., :3], cover, out=np.zeros_like(self._paint[..., :3]), where=cover > 0)
        line = np.asarray(self._lines.buffer_rgba())[..., 3:].astype(np.float32) / 255
        color *= 1 - _LINE_SHADE * line
        return np.concatenate([color, 255 * np.minimum(cover, 1)], axis=2).round().astype(np.uint8)

    def _rings(self, shapes: NDArray[np.object_]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return (vertex, 2) in pixels from the lower left, and (ring + 1,) the index where each ring starts."""
        counts = shapely.get_num_coordinates(shapely.get_rings(shapely.get_parts(shapes)))
        xy = (shapely.get_coordinates(shapes) - (self._left, self._bottom)) * self._scale
        return xy, np.concatenate([[0], np.cumsum(counts)])


def _outline(xy: NDArray[np.float64], starts: NDArray[np.int64], *, closed: bool) -> Outline:
    codes = np.full(len(xy), Outline.LINETO, Outline.code_type)
    if closed:
        codes[starts[1:] - 1] = Outline.CLOSEPOLY
    codes[starts[:-1]] = Outline.MOVETO
    return Outline(xy, codes)


def _renderer(shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - matplotlib's renderer is untyped
    return RendererAgg(shape[1], shape[0], 72)  # type: ignore[no-untyped-call]  # at 72 dpi a point is a pixel


def _pen(width_px: float) -> Any:  # noqa: ANN401 - see above
    pen = _renderer((1, 1)).new_gc()
    pen.set_linewidth(width_px)
    pen.set_foreground((0.0, 0.0, 0.0, 1.0), isRGBA=True)
    pen.set_snap(False)
    pen.set_joinstyle("round")
    return pen
