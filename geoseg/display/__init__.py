"""Pictures of a map for people: a web page that needs no network, and PNG files."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
