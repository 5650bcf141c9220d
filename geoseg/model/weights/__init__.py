"""Makes bundles from weights trained elsewhere: what a file contains, which network it fits, what is known about it."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
