"""A device that never waits: readers, an owner for each device, finishers and writers, with bounded queues between."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
