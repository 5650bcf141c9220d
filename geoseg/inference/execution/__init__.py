"""A plan carried out: its tiles on threads, devices or a cluster, its parts and its journal, its outputs in place."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
