"""Labels of scenes: rasters of codes, pictures, polygons, one label for an image; which class each of them is."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
