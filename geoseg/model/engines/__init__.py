"""Engines: ONNX Runtime or torch, on the CPU or a GPU, with the same probabilities."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
