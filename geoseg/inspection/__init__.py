"""Facts about scenes, maps and models, and checks of this machine."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
