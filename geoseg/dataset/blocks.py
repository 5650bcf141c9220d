"""Blocks held out of scenes, apart in space from what trains."""

from __future__ import annotations

from geoseg.dataset.area import Area
from geoseg.errors import UsageError


def hold_out_blocks(dataset: object, share: float, seed: int, valid_share: float) -> tuple[tuple[Area, ...], ...]:
    """Stub."""
    raise UsageError("blocks")
