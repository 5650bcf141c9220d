"""Train a model: `geoseg train`."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingOutputNumber,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from geoseg_qgis.algorithms.algorithm import GeosegAlgorithm
from geoseg_qgis.algorithms.parameters import count, field, legend, length, models, polygons, positive
from geoseg_qgis.translation import tr


class Train(GeosegAlgorithm):
    """Trains a model on labeled scenes."""

    verb = "train"
    keywords = ("machine learning", "neural network", "labels", "fine-tuning")
    stages = (("decode", 5), ("train", 90), ("export", 5))
    needs_crs = False

    def title(self) -> str:
        """Return the name in the toolbox."""
        return tr("Train a model")

    def explanation(self) -> str:
        """Return a description in a few sentences."""
        return tr(
            "Trains a model on your own labels: polygons with a class, or a raster of classes, over one scene or a "
            "folder of scenes. Training takes hours without a GPU. It can be canceled: a run with the same settings "
            "and output resumes from its last checkpoint. The model is one file, which “Map land cover” takes."
        )

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ARG002 - QGIS's names
        """Add the parameters."""
        self._add_data()
        self.add(
            QgsProcessingParameterNumber("EPOCHS", tr("Epochs"), optional=True, minValue=1),
            tr("How often the model sees each scene, roughly. Empty: as in the recipe."),
            "--epochs",
        )
        self.add(
            QgsProcessingParameterFileDestination("OUTPUT", tr("Model"), fileFilter=f"{tr('Models')} (*.safetensors)"),
            tr("The trained model."),
            "--out",
        )
        self.add(
            QgsProcessingParameterFolderDestination("REPORT", tr("Report"), optional=True, createByDefault=False),
            tr("A folder for curves, figures and the worst crops."),
            "--report",
        )
        self._add_advanced()
        self.addOutput(QgsProcessingOutputNumber("MIOU", tr("Mean IoU")))

    def _add_data(self) -> None:
        self.add(
            QgsProcessingParameterRasterLayer("INPUT", tr("Scene"), optional=True),
            tr("The image to learn from: a layer of a file. Or give a folder of scenes below."),
        )
        self.add(
            QgsProcessingParameterFile(
                "FOLDER", tr("Folder of scenes"), behavior=QgsProcessingParameterFile.Folder, optional=True
            ),
            tr("Scenes with images/ and labels/, in the DeepGlobe layout, or scenes to which the labels below belong."),
        )
        self.add(
            polygons("LABELS", tr("Label polygons")),
            tr("Polygons of known classes. What no polygon covers does not count."),
            "--labels",
        )
        self.add(
            field("COLUMN", tr("Field of the class"), "LABELS"),
            tr("The field with the class of the polygons, by name or code."),
            "--column",
        )
        self.add(
            QgsProcessingParameterRasterLayer("LABELS_RASTER", tr("Label raster"), optional=True),
            tr("Or the labels as a raster of classes."),
        )

    def _add_advanced(self) -> None:
        self.add(
            QgsProcessingParameterString("RECIPE", tr("Recipe"), optional=True),
            tr("A named recipe to start from. Empty: default. geoseg train --recipes lists them."),
            "--recipe",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterFile("INIT", tr("Model to start from"), optional=True, fileFilter=models()),
            tr("Empty: as in the recipe."),
            "--init",
            advanced=True,
        )
        self.add(
            positive("GSD", tr("Pixel size (m)")),
            tr("Finer imagery is averaged to this size. Empty: as in the recipe."),
            "--gsd",
            advanced=True,
        )
        self.add(
            legend("LEGEND", tr("Legend")),
            tr("Names and colors of the classes. Empty: from the labels."),
            "--legend",
            advanced=True,
        )
        self.add_device()
        self.add_extra()

    def checkParameterValues(self, parameters: Any, context: Any) -> tuple[bool, str]:
        """Require data, and at most one kind of labels."""
        if bool(parameters.get("INPUT")) == bool(parameters.get("FOLDER")):
            return False, tr("Give a scene or a folder of scenes, one of the two.")
        labels = [name for name in ("LABELS", "LABELS_RASTER") if parameters.get(name)]
        if len(labels) > 1:
            return False, tr("Give label polygons or a label raster, not both.")
        if parameters.get("INPUT") and not labels:
            return False, tr("Give the labels of the scene: polygons or a raster.")
        return super().checkParameterValues(parameters, context)

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the algorithm."""
        data = self.raster("INPUT") or self.parameterAsString(parameters, "FOLDER", context)
        labels = self.raster("LABELS_RASTER")
        polygons, layer = self.vector(parameters, "LABELS", context, feedback)
        out = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        report = self.parameterAsString(parameters, "REPORT", context)
        options = {
            "--out": out,
            "--labels": labels or polygons,
            "--layer": layer,
            "--column": self.parameterAsString(parameters, "COLUMN", context),
            "--epochs": count(self, parameters, "EPOCHS", context),
            "--report": report,
            "--recipe": self.parameterAsString(parameters, "RECIPE", context),
            "--init": self.parameterAsString(parameters, "INIT", context),
            "--gsd": length(self, parameters, "GSD", context),
            "--legend": self.parameterAsString(parameters, "LEGEND", context),
            **self.device(parameters, context),
        }
        told, _ = self.run_command([data], options, parameters, context, feedback)
        if told is None:
            return {}
        found: dict[str, Any] = {"OUTPUT": out} if not report else {"OUTPUT": out, "REPORT": report}
        return {**found, "MIOU": told.get("miou")}
