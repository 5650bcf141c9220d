"""geoseg in QGIS: a Processing provider that runs the command `geoseg` from a separate environment."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """Return the plugin; called by QGIS."""
    from geoseg_qgis.plugin import GeosegPlugin

    return GeosegPlugin(iface)
