"""The layouts that data sets have on disks: pairs by name or table, DeepGlobe's, images by class, mixtures of them."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
