"""matplotlib, where it is installed."""

from __future__ import annotations

from typing import Any

from geoseg.errors import GeosegError

_DPI = 120


def new_figure(name: str, size_in: tuple[float, float], *, constrained: bool = True) -> Any:  # noqa: ANN401 - matplotlib's own
    """Return an empty figure that needs no screen. Raises GeosegError, naming the picture, without matplotlib."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - the extra [plot]
    except ImportError:
        raise GeosegError(f"{name} needs matplotlib; pip install 'geoseg[plot]'") from None
    return Figure(figsize=size_in, dpi=_DPI, layout="constrained" if constrained else None)
