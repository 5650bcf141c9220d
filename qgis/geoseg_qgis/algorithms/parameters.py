"""Parameters that several algorithms share, and their values in the form that the command expects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (
    QgsDataSourceUri,
    QgsProcessing,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
)

from geoseg_qgis.command.arguments import value_of
from geoseg_qgis.translation import tr

DEVICES = ("auto", "cpu", "cuda", "mps")


def models() -> str:
    """Return the filter of a file dialog for models."""
    return f"{tr('Models')} (*.safetensors *.onnx);;{tr('All files')} (*)"


def legend(name: str, description: str) -> QgsProcessingParameterFile:
    """Return the parameter for an optional legend file."""
    filters = f"{tr('Legends')} (*.json *.csv *.qml *.sld *.clr *.txt);;{tr('All files')} (*)"
    return QgsProcessingParameterFile(name, description, optional=True, fileFilter=filters)


def polygons(name: str, description: str) -> QgsProcessingParameterFeatureSource:
    """Return the parameter for an optional layer of polygons."""
    kinds = [QgsProcessing.TypeVectorPolygon]
    return QgsProcessingParameterFeatureSource(name, description, types=kinds, optional=True)


def field(name: str, description: str, layer: str) -> QgsProcessingParameterField:
    """Return the parameter for an optional field of the layer in another parameter."""
    return QgsProcessingParameterField(name, description, parentLayerParameterName=layer, optional=True)


def positive(name: str, description: str) -> QgsProcessingParameterNumber:
    """Return the parameter for an optional positive number."""
    return QgsProcessingParameterNumber(
        name, description, type=QgsProcessingParameterNumber.Double, optional=True, minValue=0.0
    )


def is_number(given: object) -> bool:
    """Return whether a value of an optional number is one, or empty; only a script gives a text."""
    try:
        float(given if isinstance(given, str) and given.strip() else "0")
    except ValueError:
        return False
    return True


def length(algorithm: Any, parameters: Any, name: str, context: Any) -> float | None:
    """Return an optional number; None if it is empty or zero."""
    return float(algorithm.parameterAsDouble(parameters, name, context)) or None if parameters.get(name) else None


def count(algorithm: Any, parameters: Any, name: str, context: Any) -> int | None:
    """Return an optional integer; None if it is empty."""
    given = parameters.get(name)
    return int(algorithm.parameterAsInt(parameters, name, context)) if given or given == 0 else None


def chosen(algorithm: Any, parameters: Any, name: str, context: Any, default: str) -> str | None:
    """Return the chosen word of an enumeration; None for the default, which is the command's default too."""
    word = str(algorithm.parameterAsEnumString(parameters, name, context))
    return None if word in {"", default} else word


def area(path: str, layer: str) -> str:
    """Return a polygon layer in the form that the command expects."""
    return f"{path}|layername={layer}" if layer else path


def polygon_layer(destination: str, extra: str) -> tuple[str, str]:
    """Return the file and the layer to write polygons to; the layer is empty if the format has only one.

    `destination` may also be QGIS's name of a table, `ogr:dbname='a.gpkg' table="b" (geom)`; `extra` are more options
    of the command.
    """
    if destination.startswith("ogr:"):
        table = QgsDataSourceUri(destination[len("ogr:") :])
        return str(table.database()), str(table.table())
    path = Path(destination)
    return destination, value_of("--layer", extra) or (path.stem if path.suffix.lower() == ".gpkg" else "")
