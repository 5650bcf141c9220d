"""Random points of each class of a map: `geoseg sample`."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from geoseg_qgis.algorithms.algorithm import GeosegAlgorithm
from geoseg_qgis.algorithms.parameters import area, count, legend, polygons
from geoseg_qgis.translation import tr


class Sample(GeosegAlgorithm):
    """Draws points whose true class is to be filled in."""

    verb = "sample"
    keywords = ("stratified", "validation", "reference points")
    stages = (("sample", 1),)
    fixed = {name: value for name, value in GeosegAlgorithm.fixed.items() if name != "--overwrite"}  # noqa: RUF012
    """Filled-in classes are days of work, so they are replaced only on request."""

    def title(self) -> str:
        """Return the name in the toolbox."""
        return tr("Random points of a map")

    def explanation(self) -> str:
        """Return a description in a few sentences."""
        return tr(
            "Draws random points of each class of a land-cover map, to find out how accurate it is. Fill in the field "
            "class, on the ground or in better imagery, with names or codes of the map's classes. Then “Accuracy of a "
            "map” tells the accuracy of the map and the true areas of its classes with 95 % confidence intervals. The "
            "points do not tell what the map says of them, and come in random order."
        )

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ARG002 - QGIS's names
        """Add the parameters."""
        self.add(
            QgsProcessingParameterRasterLayer("INPUT", tr("Land-cover map")),
            tr("A raster of classes, such as “Map land cover” makes."),
        )
        self._add_numbers()
        self.add(
            QgsProcessingParameterVectorDestination("OUTPUT", tr("Points"), QgsProcessing.TypeVectorPoint),
            tr("The points, with a number and an empty class."),
            "--out",
        )
        self.add(
            QgsProcessingParameterBoolean("OVERWRITE", tr("Replace existing points"), defaultValue=False),
            tr("Classes that were filled in are lost. Otherwise an existing file stays, and the run ends."),
            "--overwrite",
        )
        self._add_advanced()

    def _add_numbers(self) -> None:
        self.add(
            QgsProcessingParameterNumber("PER_CLASS", tr("Points in each class"), optional=True, minValue=1),
            tr("Where the number of all points is given, the fewest in each. Empty: 50."),
            "--per-class",
        )
        self.add(
            QgsProcessingParameterNumber("POINTS", tr("Points in all"), optional=True, minValue=1),
            tr("Rare classes get the points of each class, the others share the rest by area. Empty: equally many."),
            "--points",
        )

    def _add_advanced(self) -> None:
        self.add(
            QgsProcessingParameterString("CLASSES", tr("Only these classes"), optional=True),
            tr("Names or codes, separated by commas: water,5. Empty: all."),
            "--classes",
            advanced=True,
        )
        self.add(
            polygons("AOI", tr("Area")),
            tr("Polygons: only pixels in them are drawn."),
            "--aoi",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber("SEED", tr("Seed"), optional=True, minValue=0),
            tr("Another number draws other points. Empty: 21."),
            "--seed",
            advanced=True,
        )
        self.add(
            legend("LEGEND", tr("Legend")),
            tr("Names and colors of the codes. Empty: the map's own."),
            "--legend",
            advanced=True,
        )
        self.add_extra()

    def checkParameterValues(self, parameters: Any, context: Any) -> tuple[bool, str]:
        """Refuse a table of a GeoPackage: the points are a file of their own, which is replaced only on request."""
        output = self.parameterAsOutputLayer(parameters, "OUTPUT", QgsProcessingContext())
        if output.startswith("ogr:"):
            return False, tr("The points need a file of their own: name one, such as points.gpkg, without a table.")
        return super().checkParameterValues(parameters, context)

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the algorithm."""
        landcover = self.raster("INPUT")
        out = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        options = {
            "--out": out,
            "--per-class": count(self, parameters, "PER_CLASS", context),
            "--points": count(self, parameters, "POINTS", context),
            "--overwrite": self.parameterAsBool(parameters, "OVERWRITE", context),
            "--classes": self.parameterAsString(parameters, "CLASSES", context),
            "--aoi": area(*self.vector(parameters, "AOI", context, feedback)),
            "--seed": count(self, parameters, "SEED", context),
            "--legend": self.parameterAsString(parameters, "LEGEND", context),
        }
        told, _ = self.run_command([landcover], options, parameters, context, feedback, [out])
        if told is None:
            return {}
        self.load(parameters, context, "OUTPUT", out, tr("Points of {name}").format(name=self.layer_name("INPUT")))
        return {"OUTPUT": out}
