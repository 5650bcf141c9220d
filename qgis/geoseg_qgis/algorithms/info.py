"""About a scene, map or model: `geoseg info`."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingOutputString,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterRasterLayer,
)

from geoseg_qgis.algorithms.algorithm import GeosegAlgorithm
from geoseg_qgis.algorithms.parameters import models
from geoseg_qgis.command.report import text_page
from geoseg_qgis.translation import tr


class Info(GeosegAlgorithm):
    """Shows what is known about a scene, a map or a model."""

    verb = "info"
    keywords = ("metadata", "properties")
    needs_crs = False
    fixed: dict[str, object] = {}  # noqa: RUF012 - as in the base class; info writes no file and has no progress

    def title(self) -> str:
        """Return the name in the toolbox."""
        return tr("About a scene, map or model")

    def explanation(self) -> str:
        """Return a description in a few sentences."""
        return tr(
            "Shows what is known about a scene (bands, values, pixel size), about a land-cover map (classes, shares, "
            "how it was made), or about a model (classes, bands, accuracy). With neither it shows the model that is "
            "used where none is given."
        )

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ARG002 - QGIS's names
        """Add the parameters."""
        self.add(
            QgsProcessingParameterRasterLayer("INPUT", tr("Scene or map"), optional=True),
            tr("A raster layer of a file."),
        )
        self.add(
            QgsProcessingParameterFile("MODEL", tr("Model"), optional=True, fileFilter=models()),
            tr("A model made by “Train a model” or by others."),
        )
        self.add(
            QgsProcessingParameterFileDestination("OUTPUT", tr("About"), fileFilter="HTML (*.html)"),
            tr("A page; it appears in the results viewer."),
        )
        self.addOutput(QgsProcessingOutputString("TEXT", tr("Text")))

    def checkParameterValues(self, parameters: Any, context: Any) -> tuple[bool, str]:
        """Require at most one of the two inputs."""
        if parameters.get("INPUT") and parameters.get("MODEL"):
            return False, tr("Give a scene or map, or a model, one of the two.")
        return super().checkParameterValues(parameters, context)

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the algorithm."""
        path = self.raster("INPUT")
        path = path or self.parameterAsString(parameters, "MODEL", context)
        out = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        self.check_page(out)
        told, _ = self.run_command([path] if path else [], {}, parameters, context, feedback)
        if told is None:
            return {}
        text = str(told["text"])
        feedback.pushInfo(text)
        self.write_page(out, text_page(self.title(), text))
        return {"OUTPUT": out, "TEXT": text}
