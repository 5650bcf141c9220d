"""Samples of points for the accuracy of a map: drawn at random from its classes, read back with the truth."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
