"""Vector features from the user: polygons and points from any file GDAL or pyarrow reads, or a GeoDataFrame."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
