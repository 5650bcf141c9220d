"""ONNX files from any source: their metadata, inputs and outputs, and how to make models from them. No torch here."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
