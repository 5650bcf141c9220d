"""Map land cover: `geoseg predict`."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingOutputNumber,
    QgsProcessingParameterBand,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from geoseg_qgis.algorithms.algorithm import GeosegAlgorithm
from geoseg_qgis.algorithms.parameters import area, chosen, count, length, models, polygon_layer, polygons, positive
from geoseg_qgis.command.arguments import box
from geoseg_qgis.translation import tr


class Predict(GeosegAlgorithm):
    """Makes a land-cover map of a scene, and its polygons."""

    verb = "predict"
    keywords = ("classify", "inference", "neural network", "ONNX")
    stages = (("export", 5), ("map", 80), ("assemble", 10), ("polygons", 5))

    def __init__(self) -> None:
        super().__init__()
        self._box: list[float] | None = None

    def title(self) -> str:
        """Return the name in the toolbox."""
        return tr("Map land cover")

    def explanation(self) -> str:
        """Return a description in a few sentences."""
        return tr(
            "Maps the land cover of an aerial or satellite image of any size. The image must be a file: a GeoTIFF, "
            "VRT, JPEG 2000 and others. A run can be canceled: finished tiles are kept, and a run with the same "
            "settings and outputs resumes. The model that comes with geoseg knows six classes of land cover in images "
            "with red, green and blue and pixels of 0.3 to 2 m; for other imagery train your own."
        )

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ARG002 - QGIS's names
        """Add the parameters."""
        self._add_inputs()
        self._add_outputs()
        self._add_advanced()
        self.addOutput(QgsProcessingOutputNumber("POLYGON_COUNT", tr("Number of polygons")))

    def _add_inputs(self) -> None:
        self.add(
            QgsProcessingParameterRasterLayer("INPUT", tr("Scene")),
            tr("The image to map: a layer of a file with a coordinate reference system."),
        )
        self.add(
            QgsProcessingParameterFile("MODEL", tr("Model"), optional=True, fileFilter=models()),
            tr("A model made by “Train a model” or by others. Empty: the small model that comes with geoseg."),
            "--model",
        )
        self.add(
            QgsProcessingParameterExtent("EXTENT", tr("Extent"), optional=True),
            tr("Map only this box. Empty: the whole scene."),
            "--bbox",
        )
        self.add(
            polygons("AOI", tr("Area")),
            tr("Map only inside these polygons, all of a layer or the selected ones. Empty: the whole scene."),
            "--aoi",
        )

    def _add_outputs(self) -> None:
        self.add(
            QgsProcessingParameterRasterDestination("OUTPUT", tr("Land-cover map")),
            tr("The map, with the colors and the names of its classes. Keep the files beside it that share its name."),
            "--out",
        )
        self.add(
            QgsProcessingParameterRasterDestination(
                "CONFIDENCE", tr("Confidence"), optional=True, createByDefault=False
            ),
            tr("How sure the model is of each pixel, in percent."),
            "--confidence",
        )
        self.add(
            QgsProcessingParameterVectorDestination("POLYGONS", tr("Polygons"), optional=True, createByDefault=False),
            tr("The map as polygons with the class, area and perimeter of each. Neighbors share their borders."),
            "--polygons",
        )
        self.add_borders()

    def _add_advanced(self) -> None:
        self.add(
            QgsProcessingParameterBand(
                "BANDS", tr("Bands for the model"), parentLayerParameterName="INPUT", optional=True, allowMultiple=True
            ),
            tr("In the order of the model. Empty: by their colors, then by their names, else the first."),
            "--bands",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterString("SCALE", tr("Values of black and white"), optional=True),
            tr("For scenes of more than 8 bits: two numbers such as 0,3000. Empty: as in training."),
            "--scale",
            advanced=True,
        )
        self.add(
            positive("RESOLUTION", tr("Pixel size of the map (m)")),
            tr("Empty: that of the scene."),
            "--resolution",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterEnum(
                "TTA", tr("Passes"), options=["1", "2", "4", "8"], defaultValue="1", usesStaticStrings=True
            ),
            tr("The mean over this many flips and rotations is better, and takes as many times as long."),
            "--tta",
            advanced=True,
        )
        self.add_device()
        self.add(
            QgsProcessingParameterNumber("WORKERS", tr("Windows at once on a CPU"), optional=True, minValue=1),
            tr("Empty: as cores and memory allow."),
            "--workers",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterRasterDestination(
                "PROBABILITIES", tr("Probabilities"), optional=True, createByDefault=False
            ),
            tr("The probability of each class, one band per class, in percent."),
            "--probabilities",
            advanced=True,
        )
        self.add_extra()

    def checkParameterValues(self, parameters: Any, context: Any) -> tuple[bool, str]:
        """Return an error before the run if the extent does not overlap the scene."""
        passed, message = super().checkParameterValues(parameters, context)
        if not passed or not parameters.get("EXTENT"):
            return passed, message
        layer = self.parameterAsRasterLayer(parameters, "INPUT", context)
        if not self.parameterAsExtent(parameters, "EXTENT", context, layer.crs()).intersects(layer.extent()):
            return False, tr("The extent lies outside the scene: choose one that overlaps it, or none.")
        return True, ""

    def prepareAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> bool:
        """Look at the layers and the extent in the main thread."""
        super().prepareAlgorithm(parameters, context, feedback)
        if parameters.get("EXTENT"):
            crs = self.parameterAsRasterLayer(parameters, "INPUT", context).crs()
            found = self.parameterAsExtent(parameters, "EXTENT", context, crs)
            self._box = box(found.xMinimum(), found.yMinimum(), found.xMaximum(), found.yMaximum())
        return True

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the algorithm."""
        scene = self.raster("INPUT")
        destinations = {
            name: self.parameterAsOutputLayer(parameters, name, context)
            for name in ("OUTPUT", "CONFIDENCE", "PROBABILITIES", "POLYGONS")
            if parameters.get(name)
        }
        polygons, layer = polygon_layer(destinations.get("POLYGONS", ""), self.more_options(parameters, context))
        outputs = {**destinations, "POLYGONS": polygons} if polygons else destinations
        options = {**self._options(parameters, context, outputs), "--layer": layer if polygons else ""}
        options["--aoi"] = area(*self.vector(parameters, "AOI", context, feedback))
        told, _ = self.run_command([scene], options, parameters, context, feedback, list(destinations.values()))
        if told is None:
            return {}
        sources = {**outputs, "POLYGONS": area(polygons, layer)} if polygons else outputs
        for name, destination in destinations.items():
            title = self._layer_title(name).format(name=self.layer_name("INPUT"))
            self.load(parameters, context, name, destination, title, source=sources[name], landcover=outputs["OUTPUT"])
        if polygons and polygons != destinations["POLYGONS"]:
            outputs["POLYGONS"] = sources["POLYGONS"]
        count = {"POLYGON_COUNT": told["polygon_count"]} if "polygon_count" in told else {}
        return {**outputs, **count}

    @staticmethod
    def _layer_title(output: str) -> str:
        titles = {
            "OUTPUT": tr("Land cover of {name}"),
            "CONFIDENCE": tr("Confidence of {name}"),
            "PROBABILITIES": tr("Probabilities of {name}"),
            "POLYGONS": tr("Land-cover polygons of {name}"),
        }
        return titles[output]

    def _options(self, parameters: Any, context: Any, outputs: dict[str, str]) -> dict[str, object]:
        return {
            "--out": outputs["OUTPUT"],
            "--confidence": outputs.get("CONFIDENCE"),
            "--probabilities": outputs.get("PROBABILITIES"),
            "--polygons": outputs.get("POLYGONS"),
            **(self.borders(parameters, context) if outputs.get("POLYGONS") else {}),
            "--model": self.parameterAsString(parameters, "MODEL", context),
            "--bbox": self._box,
            "--bands": self.parameterAsInts(parameters, "BANDS", context) if parameters.get("BANDS") else None,
            "--scale": self.parameterAsString(parameters, "SCALE", context),
            "--resolution": length(self, parameters, "RESOLUTION", context),
            "--tta": chosen(self, parameters, "TTA", context, "1"),
            **self.device(parameters, context),
            "--workers": count(self, parameters, "WORKERS", context),
        }
