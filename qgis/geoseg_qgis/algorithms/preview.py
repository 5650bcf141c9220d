"""Look at a map: `geoseg preview`."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)
from qgis.PyQt.QtCore import QUrl

from geoseg_qgis.algorithms.algorithm import GeosegAlgorithm
from geoseg_qgis.algorithms.parameters import chosen, count, polygons
from geoseg_qgis.translation import tr

_PALETTES = ("auto", "soft", "own", "deepglobe", "color-blind")


class Preview(GeosegAlgorithm):
    """Makes a web page of a map, to view and share."""

    verb = "preview"
    keywords = ("HTML", "web map", "swipe", "compare")
    stages = (("page", 1),)

    def __init__(self) -> None:
        super().__init__()
        self._page_to_open = ""

    def title(self) -> str:
        """Return the name in the toolbox."""
        return tr("Look at a map")

    def explanation(self) -> str:
        """Return a description in a few sentences."""
        return tr(
            "Makes one web page of a land-cover map of any size, and opens it. Pan and zoom, swipe between scene and "
            "map, switch classes on and off, read areas. The page is one file that needs no network: send it to "
            "anybody who has a browser."
        )

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ARG002 - QGIS's names
        """Add the parameters."""
        self._add_layers()
        self._add_words_and_colors()
        self._add_page()

    def _add_layers(self) -> None:
        self.add(
            QgsProcessingParameterRasterLayer("INPUT", tr("Land-cover map")),
            tr("A raster of classes, such as “Map land cover” makes."),
        )
        self.add(
            QgsProcessingParameterRasterLayer("SCENE", tr("Scene"), optional=True),
            tr("The image under the map, compared by a swipe line."),
            "--scene",
        )
        self.add(
            polygons("POLYGONS", tr("Polygons")),
            tr("Polygons of the map, drawn as outlines."),
            "--polygons",
        )
        self.add(
            QgsProcessingParameterRasterLayer("CONFIDENCE", tr("Confidence"), optional=True),
            tr("As made by “Map land cover”."),
            "--confidence",
        )
        self.add(
            QgsProcessingParameterRasterLayer("LATER", tr("Map of a later date"), optional=True),
            tr("The swipe line then lies between the two maps, and the page shows what changed."),
        )

    def _add_words_and_colors(self) -> None:
        self.add(
            QgsProcessingParameterString("TITLE", tr("Title"), optional=True),
            tr("The heading of the page. Empty: the name of the file."),
            "--title",
        )
        self.add(
            QgsProcessingParameterString("DESCRIPTION", tr("Description"), optional=True, multiLine=True),
            tr("What stands below the heading."),
            "--description",
        )
        self.add(
            QgsProcessingParameterEnum(
                "PALETTE", tr("Colors"), options=list(_PALETTES), defaultValue=_PALETTES[0], usesStaticStrings=True
            ),
            tr(
                "auto: softer ones for maps in DeepGlobe's colors, else those of the map; own: those of the map; "
                "color-blind: colors that everybody can tell apart."
            ),
            "--palette",
        )

    def _add_page(self) -> None:
        self.add(
            QgsProcessingParameterFileDestination("OUTPUT", tr("Page"), fileFilter="HTML (*.html)"),
            tr("The page; it appears in the results viewer too."),
            "--out",
        )
        self.add(
            QgsProcessingParameterBoolean("OPEN", tr("Open the page in the browser"), defaultValue=True),
            tr("When it is finished."),
        )
        self.add(
            QgsProcessingParameterNumber("MAX_MB", tr("Largest size (MB)"), optional=True, minValue=1),
            tr("A larger page zooms deeper. Empty: 15."),
            "--max-mb",
            advanced=True,
        )
        self.add_extra()

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the algorithm."""
        landcover, scene, confidence, later = (self.raster(name) for name in ("INPUT", "SCENE", "CONFIDENCE", "LATER"))
        polygons, layer = self.vector(parameters, "POLYGONS", context, feedback)
        out = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        options = {
            "--out": out,
            "--scene": scene,
            "--polygons": polygons,
            "--layer": layer,
            "--confidence": confidence,
            "--palette": chosen(self, parameters, "PALETTE", context, _PALETTES[0]),
            "--title": self.parameterAsString(parameters, "TITLE", context),
            "--description": self.parameterAsString(parameters, "DESCRIPTION", context),
            "--max-mb": count(self, parameters, "MAX_MB", context),
        }
        told, _ = self.run_command([landcover, later] if later else [landcover], options, parameters, context, feedback)
        if told is None:
            return {}
        self._page_to_open = out if self.parameterAsBool(parameters, "OPEN", context) else ""
        return {"OUTPUT": out}

    def postProcessAlgorithm(self, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: ARG002
        """Open the page, in the main thread, if there is a desktop."""
        from qgis.utils import iface

        if self._page_to_open and iface is not None:
            from qgis.PyQt.QtGui import QDesktopServices

            QDesktopServices.openUrl(QUrl.fromLocalFile(self._page_to_open))
        return {}
