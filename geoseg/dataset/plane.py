"""Scenes on one plane: where a rectangle of one lies in another, whatever their grids."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from geoseg.dataset.pair import Pair
from geoseg.errors import SceneError
from geoseg.raster import GDAL_ERRORS, Window, shown

Box = tuple[float, float, float, float]
"""Left, low, right, high in the units of a plane."""
_EDGE_POINTS = 21


@dataclass(frozen=True, slots=True)
class OnPlane:
    """A pair and its plane: a CRS that it shares with others, or its own pixels where it has no place."""

    pair: Pair
    crs: CRS | None
    """Of the plane; None for pixels (x = column, y = row)."""

    @property
    def name(self) -> str:
        """What tells planes apart."""
        return f"pixels of {self.pair.id}" if self.crs is None else "earth"

    @property
    def px(self) -> float:
        """Edge of a pixel of the scene in units of the plane."""
        left, low, right, high = self.box(self.pair.whole)
        return math.sqrt((right - left) * (high - low) / self.pair.whole.size)

    def box(self, window: Window) -> Box:
        """Return the box around a window of the scene. SceneError when its CRS does not reach there."""
        pixels = (window.col, window.row, window.col_stop, window.row_stop)
        if self.crs is None:
            return tuple(map(float, pixels))  # type: ignore[return-value]
        return self._moved(_around(self.pair.scene.geobox.transform, pixels), inverse=False)

    def frame(self, box: Box) -> Box:
        """Return the box in pixels (left, low, right, high) around a box of the plane."""
        if self.crs is None:
            return box
        return _around(~self.pair.scene.geobox.transform, self._moved(box, inverse=True))

    def _moved(self, box: Box, *, inverse: bool) -> Box:
        own = self.pair.scene.geobox.crs
        if own == self.crs:
            return box
        try:
            first, second = (self.crs, own) if inverse else (own, self.crs)
            found: Box = transform_bounds(first, second, *box, densify_pts=_EDGE_POINTS)
        except GDAL_ERRORS as error:
            name = shown(self.pair.scene.path)
            raise SceneError(
                f"cannot bring {name} to the CRS of the others: {error}; take `split='random:0.8'`"
            ) from None
        if not all(map(math.isfinite, found)):
            raise SceneError(
                f"{shown(self.pair.scene.path)} has no place in the CRS of the others; take `split='random:0.8'`"
            )
        return found


def on_planes(pairs: tuple[Pair, ...]) -> tuple[OnPlane, ...]:
    """Return each pair on the plane of the first that has a place, or on its own."""
    placed = [pair.scene.geobox for pair in pairs if _is_placed(pair)]
    return tuple(OnPlane(pair, placed[0].crs if _is_placed(pair) else None) for pair in pairs)


def grown(box: Box, margin: float) -> Box:
    """Return a box with a margin around it."""
    return box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin


def _is_placed(pair: Pair) -> bool:
    geobox = pair.scene.geobox
    return geobox.crs is not None and geobox.has_transform and not geobox.transform.is_degenerate


def _around(transform: object, box: Box | tuple[int, int, int, int]) -> Box:
    corners = [transform @ (x, y) for x in (box[0], box[2]) for y in (box[1], box[3])]  # type: ignore[operator]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)
