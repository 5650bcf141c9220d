"""Weights that other people trained become bundles: what is in a file, which network it is, what is known about it."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
