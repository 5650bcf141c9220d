"""Sources of scenes other than raster files: arrays, STAC items, tiles of a map server."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
