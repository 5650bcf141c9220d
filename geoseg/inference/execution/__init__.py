"""Running a plan: tiles on threads, devices or a cluster, parts and journal, outputs moved to their places."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
