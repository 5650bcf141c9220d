"""Polygons as short lists of integers for a page, simplified until they fit a budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.warp import transform

from geoseg.display.feature_source import Batch, FeatureSource
from geoseg.display.frame import Frame
from geoseg.errors import GeosegError
from geoseg.raster import GDAL_ERRORS, GeoBox

_STEPS_PER_PX = 64
"""Coordinates are integers of such a part of a pixel of the deepest tiles: these can be enlarged 16 times."""
_FINEST_PX = 0.1
_LEAST_AREA_PX = 1.0
_BYTES_PER_VERTEX = 10
_MOST_VERTICES = 400_000
"""What a phone still draws."""

Rings = list[list[int]]


@dataclass(frozen=True, slots=True)
class Outlines:
    """Polygons in steps from the frame's left and top."""

    step: float
    """In the frame's units."""
    shapes: list[tuple[int, str, float, Rings]]
    """Code, name, area (m2, or pixels where the source says so), rings: x, y of the first vertex, then differences."""
    count: int
    """Of the source; smaller ones than a pixel of the page are left out."""
    in_px: bool

    def to_json(self) -> dict[str, object]:
        """Return plain values; each name stands there once."""
        names = sorted({name for _, name, _, _ in self.shapes})
        place = {name: number for number, name in enumerate(names)}
        shapes = [[code, place[name], float(f"{area:.5g}"), *rings] for code, name, area, rings in self.shapes]
        return {"step": self.step, "names": names, "shapes": shapes, "count": self.count, "inPx": self.in_px}


def outlines(source: FeatureSource, frame: Frame, box: GeoBox, zoom: int, budget_bytes: int) -> Outlines:
    """Return the polygons that can be seen at a zoom. GeosegError where they cannot be laid on the map."""
    if frame.is_earth and source.crs is None:
        raise GeosegError(f"the polygons of {source.title} have no CRS, the map has one; give them the map's")
    pixel = frame.unit_per_px(zoom)
    tolerance, most = _FINEST_PX * pixel, min(_MOST_VERTICES, budget_bytes // _BYTES_PER_VERTEX)
    while (found := _simplified(source, frame, box, (pixel / _STEPS_PER_PX, tolerance, most))) is None:
        tolerance *= 2
    if found.count and not found.shapes and not _touches(source, frame, box):
        raise GeosegError(f"no polygon of {source.title} lies on the map; give the polygons of this map")
    return found


def _simplified(
    source: FeatureSource, frame: Frame, box: GeoBox, fineness: tuple[float, float, int]
) -> Outlines | None:
    """Return the polygons simplified; None if there are more vertices than wanted."""
    step, tolerance, most = fineness
    shapes: list[tuple[int, str, float, Rings]] = []
    count = vertices = 0
    for batch in source.batches():
        count += len(batch.codes)
        placed = _placed(batch, source, frame, box)
        smallest = max(_LEAST_AREA_PX * (step * _STEPS_PER_PX) ** 2, 4 * tolerance**2)
        large = (shapely.area(placed) >= smallest) & _inside(placed, frame)
        thin = shapely.simplify(placed[large], tolerance, preserve_topology=False)
        for number, shape in zip(np.flatnonzero(large).tolist(), thin.tolist(), strict=True):
            rings = _rings(shape, frame, step)
            vertices += sum(len(ring) for ring in rings) // 2
            if rings:
                shapes.append((int(batch.codes[number]), str(batch.names[number]), float(batch.areas[number]), rings))
        if vertices > most:
            return None
    return Outlines(step, shapes, count, source.in_px)


def _inside(placed: NDArray[np.object_], frame: Frame) -> NDArray[np.bool_]:
    left, bottom, right, top = frame.bounds
    sides = shapely.bounds(placed)
    return (sides[:, 0] <= right) & (sides[:, 2] >= left) & (sides[:, 1] <= top) & (sides[:, 3] >= bottom)


def _touches(source: FeatureSource, frame: Frame, box: GeoBox) -> bool:
    return any(_inside(_placed(batch, source, frame, box), frame).any() for batch in source.batches())


def _placed(batch: Batch, source: FeatureSource, frame: Frame, box: GeoBox) -> NDArray[np.object_]:
    """Return the shapes in the frame's plane."""
    xy = shapely.get_coordinates(batch.shapes)
    target = frame.crs if frame.is_earth else box.crs
    try:
        if source.crs is not None and target is not None and source.crs != target:
            xy = np.array(transform(source.crs, target, xy[:, 0], xy[:, 1])[:2]).T
    except GDAL_ERRORS as error:
        raise GeosegError(f"the polygons of {source.title} cannot be laid on the map: {error}") from error
    if not frame.is_earth:
        a, b, c, d, e, f = tuple(~box.transform)[:6]
        x, y = xy.T
        xy = np.stack([a * x + b * y + c, -(d * x + e * y + f)], axis=1)
    return np.asarray(shapely.set_coordinates(shapely.force_2d(batch.shapes), xy))


def _rings(shape: shapely.Geometry, frame: Frame, step: float) -> Rings:
    rings = []
    for part in shapely.get_rings(shapely.get_parts(shape)):
        xy = shapely.get_coordinates(part)[:-1]  # the page closes them
        steps = np.rint((xy - (frame.bounds[0], frame.bounds[3])) / (step, -step)).astype(np.int64)
        kept = np.any(np.diff(steps, axis=0, prepend=steps[:1] - 1), axis=1)
        if kept.sum() >= 3:
            rings.append(np.diff(steps[kept], axis=0, prepend=0).ravel().tolist())
    return rings
