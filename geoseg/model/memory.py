"""How much memory a window takes while a network looks at it: an estimate."""

from __future__ import annotations

from geoseg.model.bundle import ModelBundle


def window_bytes(bundle: ModelBundle, window_px: int) -> int:
    """Return the bytes of input, output and the largest layers alive at once."""
    pixels = window_px**2
    return pixels * 4 * (len(bundle.bands) + 1 + 2 * len(bundle.output_codes) + 64)
