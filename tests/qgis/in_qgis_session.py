"""A QGIS without a desktop, with the plugin; for the programs that run in QGIS's own Python."""

from __future__ import annotations

import sys
from pathlib import Path

from qgis.core import QgsApplication, QgsCoordinateReferenceSystem, QgsProcessingFeedback, QgsProject

sys.path[:0] = [
    "/usr/share/qgis/python/plugins",
    str(Path.home() / ".local/share/QGIS/QGIS3/profiles/default/python/plugins"),
]
application = QgsApplication([], True)  # with widgets, for the settings
application.initQgis()

import processing  # noqa: F401 - the programs import it from here
from processing.core.Processing import Processing

Processing.initialize()
from geoseg_qgis import classFactory

plugin = classFactory(None)
plugin.initProcessing()
registry, project = QgsApplication.processingRegistry(), QgsProject.instance()
project.setCrs(QgsCoordinateReferenceSystem("EPSG:32631"))


class Told(QgsProcessingFeedback):
    """Records the messages of a dialog, and cancels after the first tile if requested."""

    def __init__(self, cancel_from=None):
        super().__init__(False)
        self.lines, self._cancel_from = [], cancel_from
        self.progressChanged.connect(self._cancel)

    def _cancel(self, percent):
        if self._cancel_from is not None and percent > self._cancel_from:
            self.cancel()

    def pushInfo(self, text):
        self.lines.append(text)

    def setProgressText(self, text):
        self.lines.append(text)

    def pushWarning(self, text):
        self.lines.append(text)
