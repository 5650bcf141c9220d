"""A map against a reference, a model against a data set: one confusion matrix, its figures, the report."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
