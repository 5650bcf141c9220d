"""Anybody's ONNX files: what they say, what they take and give, and how they become models. No torch here."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
