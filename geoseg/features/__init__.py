"""Features that users bring: polygons and points of anything that GDAL or pyarrow reads, or of a GeoDataFrame."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
