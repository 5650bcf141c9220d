"""Names and numbers become a torch network; which encoders, weights and windows there are."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
