"""Accuracy of a map: `geoseg evaluate`."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from geoseg_qgis.algorithms.algorithm import GeosegAlgorithm
from geoseg_qgis.algorithms.parameters import field
from geoseg_qgis.command.report import accuracy_page
from geoseg_qgis.translation import tr


class Evaluate(GeosegAlgorithm):
    """Compares a map with reference data."""

    verb = "evaluate"
    keywords = ("validation", "confusion matrix", "kappa", "IoU")
    stages = (("export", 5), ("map", 5), ("evaluate", 90))

    def title(self) -> str:
        """Return the name in the toolbox."""
        return tr("Accuracy of a map")

    def explanation(self) -> str:
        """Return a description in a few sentences."""
        return tr(
            "Compares a land-cover map with reference data: a raster of classes, polygons, or points with the true "
            "class. The page shows the overall accuracy, the figures of each class, the confusion matrix, and the "
            "areas of the classes with 95 % confidence intervals. Classes match by name where both have names, else "
            "by code."
        )

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ARG002 - QGIS's names
        """Add the parameters."""
        self._add_compared()
        self.add(
            QgsProcessingParameterBoolean("AREAS", tr("Areas with confidence intervals"), defaultValue=False),
            tr("Corrected for the errors of the map (Olofsson et al. 2014). Points always give areas."),
            "--areas",
        )
        self.add(
            QgsProcessingParameterFileDestination("OUTPUT", tr("Accuracy"), fileFilter="HTML (*.html)"),
            tr("A page with all figures; it appears in the results viewer."),
        )
        self.add(
            QgsProcessingParameterFolderDestination("REPORT", tr("Report"), optional=True, createByDefault=False),
            tr("A folder for the figures as tables (CSV, JSON), and the confusion matrix as a picture."),
            "--report",
        )
        self._add_advanced()
        self.addOutput(QgsProcessingOutputNumber("OVERALL_ACCURACY", tr("Overall accuracy")))
        self.addOutput(QgsProcessingOutputNumber("MIOU", tr("Mean IoU")))

    def _add_compared(self) -> None:
        self.add(
            QgsProcessingParameterRasterLayer("INPUT", tr("Land-cover map")),
            tr("A raster of classes, such as “Map land cover” makes."),
        )
        self.add(
            QgsProcessingParameterRasterLayer("REFERENCE", tr("Reference raster"), optional=True),
            tr("The truth as a raster of classes on any grid. Or give polygons or points below."),
        )
        self.add(
            QgsProcessingParameterFeatureSource(
                "REFERENCE_VECTOR",
                tr("Reference polygons or points"),
                types=[QgsProcessing.TypeVectorPolygon, QgsProcessing.TypeVectorPoint],
                optional=True,
            ),
            tr("The truth as polygons, or as points drawn at random from each class of the map."),
        )
        self.add(
            field("COLUMN", tr("Field of the class"), "REFERENCE_VECTOR"),
            tr("The field with the class of the polygons or points, by name or code."),
            "--column",
        )

    def _add_advanced(self) -> None:
        self.add(
            QgsProcessingParameterString("IGNORE", tr("Classes that do not count"), optional=True),
            tr("Names or codes, separated by commas: unknown,0."),
            "--ignore",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterRasterLayer("CONFIDENCE", tr("Confidence"), optional=True),
            tr("As made by “Map land cover”, for the calibration error."),
            "--confidence",
            advanced=True,
        )
        self.add_extra()

    def checkParameterValues(self, parameters: Any, context: Any) -> tuple[bool, str]:
        """Require exactly one reference."""
        if bool(parameters.get("REFERENCE")) == bool(parameters.get("REFERENCE_VECTOR")):
            return False, tr("Give a reference raster, or reference polygons or points, one of the two.")
        return super().checkParameterValues(parameters, context)

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the algorithm."""
        inputs = [self.raster("INPUT")]
        confidence = self.raster("CONFIDENCE")
        reference = self.raster("REFERENCE")
        report = self.parameterAsString(parameters, "REPORT", context)
        options: dict[str, object] = {
            "--areas": self.parameterAsBool(parameters, "AREAS", context),
            "--ignore": self.parameterAsString(parameters, "IGNORE", context),
            "--confidence": confidence,
            "--report": report,
        }
        if reference:
            inputs.append(reference)
        else:
            path, layer = self.vector(parameters, "REFERENCE_VECTOR", context, feedback)
            options.update({"--layer": layer, "--column": self.parameterAsString(parameters, "COLUMN", context)})
            if self.has_points("REFERENCE_VECTOR"):
                options.update({"--sample": path, "--areas": True})
            else:
                inputs.append(path)
        out = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        self.check_page(out)
        told, listener = self.run_command(inputs, options, parameters, context, feedback)
        if told is None:
            return {}
        notes = [listener.plain(str(note)) for note in told.get("notes") or ()]
        reference = listener.plain(str(told.get("reference")))
        self.write_page(out, accuracy_page({**told, "reference": reference}, listener.warnings, notes))
        found: dict[str, Any] = {"OUTPUT": out} if not report else {"OUTPUT": out, "REPORT": report}
        return {
            **found,
            "OVERALL_ACCURACY": told.get("overall_accuracy"),
            "MIOU": told.get("miou_without_unknown"),
        }
