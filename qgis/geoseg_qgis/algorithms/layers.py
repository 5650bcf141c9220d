"""The files behind layers: geoseg reads files, not layers."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingException, QgsProviderRegistry

from geoseg_qgis.translation import tr


class LayerError(QgsProcessingException):
    """A layer that geoseg cannot read; the message is one sentence for people."""


def raster_source(layer: Any) -> str:
    """Return the path of a raster layer, or another name that GDAL opens; raise LayerError if there is none."""
    if layer.providerType() != "gdal":
        raise LayerError(
            tr("The layer “{name}” is not a file ({kind}): export it as a GeoTIFF first (Export > Save As).").format(
                name=layer.name(), kind=layer.providerType()
            )
        )
    check_crs(layer)
    parts = QgsProviderRegistry.instance().decodeUri("gdal", layer.source())
    path = str(parts.get("path") or layer.source())
    if path.lstrip().startswith("<"):
        raise LayerError(
            tr("The layer “{name}” is a map service: export it as a GeoTIFF first (Export > Save As).").format(
                name=layer.name()
            )
        )
    if parts.get("layerName"):
        return layer.source().partition("|")[0]  # GPKG:file.gpkg:layer, NETCDF:"file.nc":variable
    return path


def check_crs(layer: Any) -> None:
    """Raise LayerError if a layer has no CRS."""
    if not layer.crs().isValid():
        raise LayerError(
            tr(
                "The layer “{name}” has no coordinate reference system: give its file one first "
                "(Raster > Projections > Assign Projection, or Define Shapefile Projection)."
            ).format(name=layer.name())
        )
