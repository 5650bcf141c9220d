"""What a source that a user gives may be, as far as its looks say: asked before anything heavy is loaded."""

from __future__ import annotations

import os

_RASTER_ENDS = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".img", ".bsq", ".bil")
"""Nobody's endings of features: of a thousand masks none need be opened twice to know."""


def is_frame(given: object) -> bool:
    """Say whether a value is a GeoDataFrame, without an import of geopandas."""
    return any(kind.__name__ == "GeoDataFrame" for kind in type(given).__mro__)


def looks_raster(given: object) -> bool:
    """Say whether a source need not be asked for features."""
    return isinstance(given, str | os.PathLike) and os.fspath(given).lower().endswith(_RASTER_ENDS)
