"""The files behind layers, and the export of layers that no file holds: geoseg reads files, not layers."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Sequence

from qgis.core import (
    QgsFeature,
    QgsFeatureRequest,
    QgsFields,
    QgsGeometry,
    QgsProcessingFeatureSource,
    QgsProcessingUtils,
    QgsVectorFileWriter,
    QgsWkbTypes,
)

from geoseg_qgis.translation import tr

_OPEN_OPTIONS = re.compile(r"(\|(option|credential):[^|]*)+$")
_FILE = re.compile(
    r"^(?P<path>[^|]+?\.(gpkg|fgb|geojson|json|kml|gml|sqlite))(\|layername=(?P<layer>[^|,]+))?$", re.IGNORECASE
)
"""Sources that geoseg reads as QGIS does. A comma would separate layers for geoseg."""
_EXPORTED_AT = "2000-01-01T00:00:00.000Z"
"""The same each time, since a run resumes only with the same labels."""
_CHANGE_COUNTER, _COUNTED_AT = 24, 92
"""Where SQLite counts the transactions of a file, and repeats the count; how many an export takes depends on timing."""


class LayerError(Exception):
    """A layer that geoseg cannot read; the message is one sentence for people.

    QGIS shows a traceback for subclasses of QgsProcessingException.
    """


@dataclass(frozen=True)
class RasterInput:
    """A raster layer, as seen from the main thread."""

    path: str
    """Its file, or another name that GDAL opens."""
    name: str


@dataclass(frozen=True)
class VectorInput:
    """A vector layer, as seen from the main thread."""

    path: str
    """The file that holds just what the layer shows; empty if it must be exported."""
    layer: str
    """The layer in the file; empty if the file has only one."""
    name: str
    has_points: bool
    keys: tuple[str, ...] = ()
    """Fields that only number the features, which files of other formats do not have."""


def raster_input(layer: Any, *, needs_crs: bool) -> RasterInput:
    """Return a raster layer's file and name; LayerError if geoseg cannot read it."""
    if layer.providerType() != "gdal":
        raise LayerError(
            tr("The layer “{name}” is not a file ({kind}): export it as a GeoTIFF first (Export > Save As).").format(
                name=layer.name(), kind=layer.providerType()
            )
        )
    if needs_crs and not layer.dataProvider().crs().isValid():
        raise LayerError(
            tr(
                "The file of the layer “{name}” has no coordinate reference system: give it one first "
                "(Raster > Projections > Assign Projection)."
            ).format(name=layer.name())
        )
    path = _OPEN_OPTIONS.sub("", layer.source())
    if path.lstrip().startswith("<GDAL_WM"):
        raise LayerError(
            tr("The layer “{name}” is a map service: export it as a GeoTIFF first (Export > Save As).").format(
                name=layer.name()
            )
        )
    return RasterInput(path, layer.name())


def unlike_its_file(layer: Any) -> list[str]:
    """Return a warning for each way in which a raster layer was set to differ from its file."""
    source, warnings = layer.dataProvider(), []
    if layer.crs() != source.crs():
        warnings.append(
            tr("The layer “{name}” has {crs} in QGIS, but its file has {other}: geoseg reads the file.").format(
                name=layer.name(), crs=layer.crs().userFriendlyIdentifier(), other=source.crs().userFriendlyIdentifier()
            )
        )
    bands = range(1, source.bandCount() + 1)
    has_less = any(source.sourceHasNoDataValue(band) and not source.useSourceNoDataValue(band) for band in bands)
    if has_less or any(source.userNoDataValues(band) for band in bands):
        warnings.append(
            tr("The layer “{name}” has other nodata values in QGIS than its file: geoseg reads the file.").format(
                name=layer.name()
            )
        )
    return warnings


def vector_input(layer: Any, *, only_selected: bool, is_part: bool) -> VectorInput:
    """Return a vector layer's file, if it holds just what the layer shows; LayerError if geoseg cannot read it.

    `only_selected`: the selected features are given; `is_part`: these or others, but not all.
    """
    if not layer.isSpatial():
        raise LayerError(
            tr("The layer “{name}” is a table without geometries: choose one on the map.").format(name=layer.name())
        )
    if not layer.crs().isValid():
        raise LayerError(
            tr(
                "The layer “{name}” has no coordinate reference system: set it first (Layer CRS > Set Layer CRS in its "
                "menu)."
            ).format(name=layer.name())
        )
    if only_selected and not layer.selectedFeatureCount():
        raise LayerError(
            tr("Nothing is selected in the layer “{name}”: select features, or use all of them.").format(
                name=layer.name()
            )
        )
    has_points = layer.geometryType() == QgsWkbTypes.PointGeometry
    file = None if is_part else _own_file(layer)
    if file is None:
        keys = layer.primaryKeyAttributes() if layer.providerType() == "ogr" else []
        return VectorInput("", "", layer.name(), has_points, tuple(layer.fields().at(each).name() for each in keys))
    return VectorInput(file["path"], file["layer"] or "", layer.name(), has_points)


def _own_file(layer: Any) -> re.Match[str] | None:
    """Return path and layer name of the file that holds just what a layer shows; None if there is no such file."""
    provider = layer.dataProvider()
    file = _FILE.match(layer.source())
    is_shown_as_stored = (
        provider.name() == "ogr"
        and not layer.subsetString()
        and not layer.isModified()
        and layer.fields().names() == provider.fields().names()  # no joins, no virtual fields
        and layer.crs() == provider.crs()
    )
    if file is None or not is_shown_as_stored or file["layer"] == "all" or not os.path.isfile(file["path"]):  # noqa: PTH113
        return None
    if not file["layer"] and len([each for each in provider.subLayers() if "!!No geometry!!" not in each]) > 1:
        return None  # QGIS shows the first one
    return file


def export(source: Any, name: str, keys: Sequence[str], context: Any, feedback: Any) -> str:
    """Write features to a temporary GeoPackage and return its path; LayerError if they cannot be written.

    QGIS's own export loses features whose field `fid` repeats, as after a split or a merge. `keys` are left out.
    """
    path = str(QgsProcessingUtils.generateTempFilename(f"{name}.gpkg"))
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GPKG"
    options.layerOptions = ["FID=geoseg_fid", "GEOMETRY_NAME=geoseg_geometry"]
    kind = QgsWkbTypes.linearType(source.wkbType())
    kept = [at for at, field in enumerate(source.fields()) if field.name() not in keys]
    fields = QgsFields()
    for at in kept:
        fields.append(source.fields().at(at))
    names = sorted(field.name().casefold() for field in fields)
    repeated = [one for one, other in zip(names, names[1:]) if one == other]
    if repeated:
        raise LayerError(
            tr("The layer “{name}” has several fields called “{field}”: rename them (case does not count).").format(
                name=source.sourceName(), field=repeated[0]
            )
        )
    writer = QgsVectorFileWriter.create(path, fields, kind, source.sourceCrs(), context.transformContext(), options)
    features = source.getFeatures(QgsFeatureRequest(), QgsProcessingFeatureSource.FlagSkipGeometryValidityChecks)
    for feature in features:
        if feedback.isCanceled() or writer.hasError():
            break
        written = QgsFeature(fields)
        written.setAttributes([feature.attribute(at) for at in kept])
        written.setGeometry(_straight(feature.geometry()))
        writer.addFeature(written)
    error = writer.errorMessage() if writer.hasError() else ""
    del writer  # closes the file
    if error:
        raise LayerError(
            tr("The layer “{name}” cannot be exported for geoseg: {error}").format(
                name=source.sourceName(), error=" ".join(error.split())
            )
        )
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE gpkg_contents SET last_change = ?", (_EXPORTED_AT,))
    with open(path, "r+b") as file:  # noqa: PTH123
        for place in (_CHANGE_COUNTER, _COUNTED_AT):
            file.seek(place)
            file.write((1).to_bytes(4, "big"))
    return path


def _straight(geometry: Any) -> Any:
    is_curved = QgsWkbTypes.isCurvedType(geometry.wkbType())
    return QgsGeometry(geometry.constGet().segmentize()) if is_curved else geometry
