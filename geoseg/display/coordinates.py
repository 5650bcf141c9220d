"""A map's own coordinates as a polynomial of a page's, so that the page needs no projection library."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform

from geoseg.display.frame import Frame
from geoseg.raster import GDAL_ERRORS, GeoBox

_DEGREES = (1, 3, 5, 7, 9)
_NODES = 24
_GOOD_PX = 0.01
"""Of the map's pixel: a polynomial this good is good enough."""
_USABLE_PX = 0.6
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Polynomial:
    """x and y of the map from (u, v) in -1 to 1 over the bounds; terms u^i v^j with i + j up to a degree, i first."""

    label: str
    degree: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    decimals: int
    error: float
    """The largest found between the nodes, in the map's units."""

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return {"label": self.label, "degree": self.degree, "x": self.x, "y": self.y, "decimals": self.decimals}


def polynomial(frame: Frame, box: GeoBox) -> Polynomial | None:
    """Fit the coordinates of a map's CRS; None where it has none, or they bend too much for a polynomial."""
    crs = box.crs if box.has_transform else None
    pixel = math.sqrt(abs(box.transform.determinant)) if crs is not None else 1.0
    if crs is None or not pixel:
        return None
    nodes, between = _chebyshev(_NODES), np.linspace(-0.99, 0.99, 17)
    try:
        wanted, checks = (_map_xy(frame, box, crs, axis) for axis in (nodes, between))
    except (*GDAL_ERRORS, CRSError, RuntimeError):
        return None
    best = None
    for degree in _DEGREES:
        best = _fitted(degree, (nodes, wanted), (between, checks), (_label(crs), pixel))
        if best.error <= _GOOD_PX * pixel:
            break
    return best if best is not None and best.error <= _USABLE_PX * pixel else None


def _fitted(
    degree: int, nodes: tuple[Values, Values], checks: tuple[Values, Values], of: tuple[str, float]
) -> Polynomial:
    middle = nodes[1].mean(axis=1, keepdims=True)
    terms, *_ = np.linalg.lstsq(_terms(nodes[0], degree), (nodes[1] - middle).T, rcond=None)
    terms[0] += middle[:, 0]
    error = float(np.abs(_terms(checks[0], degree) @ terms - checks[1].T).max())
    label, pixel = of
    decimals = max(0, min(9, 1 - math.floor(math.log10(pixel) + 1e-9)))
    return Polynomial(label, degree, tuple(terms[:, 0].tolist()), tuple(terms[:, 1].tolist()), decimals, error)


def _terms(axis: Values, degree: int) -> Values:
    u, v = (grid.ravel() for grid in np.meshgrid(axis, axis))
    return np.stack([u**i * v**j for i in range(degree + 1) for j in range(degree + 1 - i)], axis=1)


def _chebyshev(count: int) -> Values:
    return np.asarray(np.cos((np.arange(count) + 0.5) * np.pi / count))


def _map_xy(frame: Frame, box: GeoBox, crs: CRS, axis: Values) -> Values:
    """Return (2, node) of the grid of an axis with itself."""
    (left, right), (bottom, top) = frame.bounds[::2], frame.bounds[1::2]
    u, v = (grid.ravel() for grid in np.meshgrid(axis, axis))
    x, y = left + (u + 1) / 2 * (right - left), bottom + (v + 1) / 2 * (top - bottom)
    a, b, c, d, e, f = tuple(box.transform)[:6]
    plane = (a * x - b * y + c, d * x - e * y + f)  # the plane's y is minus the row
    found = np.array(transform(frame.crs, crs, x, y)[:2] if frame.is_earth else plane)
    if not np.isfinite(found).all():
        raise RasterioError("no coordinates there")
    return found


def _label(crs: CRS) -> str:
    authority = crs.to_authority()
    return ":".join(authority) if authority else "map"
