"""Builds torch networks from names and numbers; the available encoders, pretrained weights and window sizes."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
