"""Polygons of a land-cover map: `geoseg vectorize`."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingOutputNumber,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from geoseg_qgis.algorithms.algorithm import GeosegAlgorithm
from geoseg_qgis.algorithms.parameters import area, chosen, legend, polygon_layer
from geoseg_qgis.translation import tr


class Vectorize(GeosegAlgorithm):
    """Makes polygons from a raster of classes."""

    verb = "vectorize"
    keywords = ("polygonize", "raster to vector", "sieve", "simplify")
    stages = (("polygons", 1),)

    def title(self) -> str:
        """Return the name in the toolbox."""
        return tr("Polygons of a land-cover map")

    def explanation(self) -> str:
        """Return a description in a few sentences."""
        return tr(
            "Draws the polygons of a map of classes of any size. There are no gaps, no overlaps and no cuts: "
            "neighbors share their borders, simplified or not. Each polygon has the code and the name of its class, "
            "its area and its perimeter. Any raster of classes will do, also WorldCover, NLCD or CORINE."
        )

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ARG002 - QGIS's names
        """Add the parameters."""
        self.add(
            QgsProcessingParameterRasterLayer("INPUT", tr("Land-cover map")),
            tr("A raster of classes, such as “Map land cover” makes."),
        )
        self.add_borders()
        self.add(
            QgsProcessingParameterVectorDestination("OUTPUT", tr("Polygons")),
            tr("The polygons, with the colors of the map."),
            "--out",
        )
        self._add_advanced()
        self.addOutput(QgsProcessingOutputNumber("POLYGON_COUNT", tr("Number of polygons")))

    def _add_advanced(self) -> None:
        self.add(
            QgsProcessingParameterRasterLayer("CONFIDENCE", tr("Confidence"), optional=True),
            tr("As made by “Map land cover”: each polygon gets its mean."),
            "--confidence",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterString("CLASSES", tr("Only these classes"), optional=True),
            tr("Names or codes, separated by commas: water,5. Empty: all."),
            "--classes",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterBoolean("DISSOLVE", tr("One multipolygon per class"), defaultValue=False),
            tr("All regions of a class become one feature."),
            "--dissolve",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterEnum(
                "CONNECTIVITY", tr("Connectivity"), options=["4", "8"], defaultValue="4", usesStaticStrings=True
            ),
            tr("4: pixels that share a side are one region; 8: also pixels that share a corner."),
            "--connectivity",
            advanced=True,
        )
        self.add(
            legend("LEGEND", tr("Legend")),
            tr("Names and colors of the codes. Empty: the map's own."),
            "--legend",
            advanced=True,
        )
        self.add_extra()

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the algorithm."""
        landcover = self.raster("INPUT")
        confidence = self.raster("CONFIDENCE")
        destination = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        out, layer = polygon_layer(destination, self.more_options(parameters, context))
        options = {
            "--out": out,
            "--layer": layer,
            "--confidence": confidence,
            **self.borders(parameters, context),
            "--classes": self.parameterAsString(parameters, "CLASSES", context),
            "--dissolve": self.parameterAsBool(parameters, "DISSOLVE", context),
            "--connectivity": chosen(self, parameters, "CONNECTIVITY", context, "4"),
            "--legend": self.parameterAsString(parameters, "LEGEND", context),
        }
        told, _ = self.run_command([landcover], options, parameters, context, feedback, [destination])
        if told is None:
            return {}
        title = tr("Polygons of {name}").format(name=self.layer_name("INPUT"))
        source = area(out, layer)
        self.load(parameters, context, "OUTPUT", destination, title, source=source, landcover=landcover)
        return {"OUTPUT": out if out == destination else source, "POLYGON_COUNT": told.get("polygons")}
