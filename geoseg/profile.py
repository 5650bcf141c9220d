"""Where the time of a run goes: busy seconds of each of its stages, whoever works at them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

READ, SCORE, PASTE, WRITE, ASSEMBLE = "read", "score", "paste", "write", "assemble"
"""Work."""
PIXELS, DEVICE, WRITERS = "pixels", "device", "writers"
"""What was waited for: pixels by the owner of a device, the device and the writers by its finisher."""


class Profile:
    """Seconds by name, added up by several threads."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        """Add to the seconds of a stage."""
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds that the block takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - began)

    @property
    def seconds(self) -> Mapping[str, float]:
        """What each stage has so far."""
        with self._lock:
            return dict(self._seconds)
