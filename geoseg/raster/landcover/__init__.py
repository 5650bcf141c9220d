"""The raster that geoseg writes: parts with their overviews, then one COG and its sidecars."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
