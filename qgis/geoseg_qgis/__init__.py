"""geoseg in QGIS: a Processing provider that runs the command `geoseg` of an environment of its own."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """Return the plugin; QGIS calls this."""
    from geoseg_qgis.plugin import GeosegPlugin

    return GeosegPlugin(iface)
