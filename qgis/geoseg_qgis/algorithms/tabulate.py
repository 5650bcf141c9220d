"""Areas by class, district or date: `geoseg tabulate`."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from qgis.core import (
    QgsFeature,
    QgsFeatureSink,
    QgsField,
    QgsFields,
    QgsProcessing,
    QgsProcessingException,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterRasterLayer,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QVariant

from geoseg_qgis.algorithms.algorithm import GeosegAlgorithm
from geoseg_qgis.algorithms.parameters import area, field, legend, polygons
from geoseg_qgis.translation import tr

if hasattr(QVariant, "String"):
    _TYPES = {str: QVariant.String, int: QVariant.LongLong, float: QVariant.Double}
else:  # Qt 6
    from qgis.PyQt.QtCore import QMetaType

    _TYPES = {str: QMetaType.Type.QString, int: QMetaType.Type.LongLong, float: QMetaType.Type.Double}


class Tabulate(GeosegAlgorithm):
    """Makes a table of areas."""

    verb = "tabulate"
    keywords = ("zonal statistics", "histogram", "change detection", "transition matrix")
    stages = (("evaluate", 1),)

    def title(self) -> str:
        """Return the name in the toolbox."""
        return tr("Areas by class, district or date")

    def explanation(self) -> str:
        """Return a description in a few sentences."""
        return tr(
            "Adds up the area of each class of a land-cover map: of all of it, by district, or by an earlier map (what "
            "became of what). A pixel is in the zone that contains its center. Areas are those on the ground, in every "
            "coordinate reference system, and what the map shows: “Accuracy of a map” corrects them for its errors."
        )

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ARG002 - QGIS's names
        """Add the parameters."""
        self.add(
            QgsProcessingParameterRasterLayer("INPUT", tr("Land-cover map")),
            tr("A raster of classes, such as “Map land cover” makes."),
        )
        self._add_zones()
        self.add(
            QgsProcessingParameterFeatureSink("OUTPUT", tr("Table"), QgsProcessing.TypeVector),
            tr("A line for each class in each zone, with its pixels, area and share."),
        )
        self._add_advanced()

    def _add_zones(self) -> None:
        self.add(
            polygons("ZONES", tr("Zones")),
            tr("Polygons, such as districts. Empty: the whole map is counted, or by the earlier map below."),
            "--by",
        )
        self.add(
            field("COLUMN", tr("Field of the zone"), "ZONES"),
            tr("The field with the names of the zones. Polygons of one name are one zone."),
            "--column",
        )
        self.add(
            QgsProcessingParameterRasterLayer("EARLIER", tr("Earlier map"), optional=True),
            tr("Another raster of classes, on any grid: the zones are its classes."),
        )

    def _add_advanced(self) -> None:
        self.add(
            polygons("AOI", tr("Area")),
            tr("Polygons: only pixels in them count."),
            "--aoi",
            advanced=True,
        )
        self.add(
            legend("LEGEND", tr("Legend")),
            tr("Names and colors of the codes. Empty: the map's own."),
            "--legend",
            advanced=True,
        )
        self.add(
            legend("BY_LEGEND", tr("Legend of the earlier map")),
            tr("Names of its codes. Empty: its own."),
            "--by-legend",
            advanced=True,
        )
        self.add_extra()

    def checkParameterValues(self, parameters: Any, context: Any) -> tuple[bool, str]:
        """Require at most one kind of zones."""
        if parameters.get("ZONES") and parameters.get("EARLIER"):
            return False, tr("Give zones or an earlier map, not both.")
        return super().checkParameterValues(parameters, context)

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the algorithm, and write the table with QGIS: in any format, with numeric columns."""
        landcover = self.raster("INPUT")
        earlier = self.raster("EARLIER")
        zones, layer = self.vector(parameters, "ZONES", context, feedback)
        options = {
            "--by": earlier or zones,
            "--layer": layer,
            "--column": self.parameterAsString(parameters, "COLUMN", context),
            "--aoi": area(*self.vector(parameters, "AOI", context, feedback)),
            "--legend": self.parameterAsString(parameters, "LEGEND", context),
            "--by-legend": self.parameterAsString(parameters, "BY_LEGEND", context),
        }
        told, _ = self.run_command([landcover], options, parameters, context, feedback)
        if told is None:
            return {}
        out = self._write_table(told["rows"], parameters, context)
        self.load(parameters, context, "OUTPUT", out, tr("Areas of {name}").format(name=self.layer_name("INPUT")))
        return {"OUTPUT": out}

    def _write_table(self, rows: Sequence[Mapping[str, Any]], parameters: Any, context: Any) -> str:
        fields = QgsFields()
        for name, value in rows[0].items():
            fields.append(QgsField(name, _TYPES[type(value)]))
        sink, out = self.parameterAsSink(parameters, "OUTPUT", context, fields, QgsWkbTypes.NoGeometry)
        if sink is None:
            raise QgsProcessingException(self.invalidSinkError(parameters, "OUTPUT"))
        for row in rows:
            feature = QgsFeature(fields)
            feature.setAttributes(list(row.values()))
            sink.addFeature(feature, QgsFeatureSink.FastInsert)
        return str(out)
