"""Believable landscapes with exact truth: any size, any seed; a pixel does not depend on the rectangle requested."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
