"""A device that never waits: readers, an owner and a finisher per device, and writers, linked by bounded queues."""

from __future__ import annotations

from geoseg.face import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
