"""Shared borders with fewer vertices, or round ones: no two cross, no region vanishes."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
