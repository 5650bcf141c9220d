"""The provider: eight algorithms in the toolbox."""

from __future__ import annotations

import configparser
from pathlib import Path

from qgis.core import QgsProcessingProvider, QgsVectorFileWriter
from qgis.PyQt.QtGui import QIcon

from geoseg_qgis.algorithms.evaluate import Evaluate
from geoseg_qgis.algorithms.info import Info
from geoseg_qgis.algorithms.predict import Predict
from geoseg_qgis.algorithms.preview import Preview
from geoseg_qgis.algorithms.sample import Sample
from geoseg_qgis.algorithms.tabulate import Tabulate
from geoseg_qgis.algorithms.train import Train
from geoseg_qgis.algorithms.vectorize import Vectorize
from geoseg_qgis.command.program import ProgramError
from geoseg_qgis.settings import add_settings, find_program, remove_settings

_ICON = str(Path(__file__).parent / "icons" / "geoseg.svg")
_METADATA = str(Path(__file__).parent / "metadata.txt")
_VECTORS = ("gpkg", "fgb", "geojson", "parquet")
"""Formats that geoseg writes and QGIS may be able to open."""
_TABLES = ("gpkg", "xlsx", "ods", "csv")


class GeosegProvider(QgsProcessingProvider):
    """geoseg in the Processing toolbox."""

    def load(self) -> bool:
        """Add the setting and the algorithms."""
        add_settings(self.name(), self.icon())
        return bool(super().load())

    def unload(self) -> None:
        """Remove the setting."""
        remove_settings(self.name())

    def loadAlgorithms(self) -> None:
        """Add the algorithms."""
        for algorithm in (Predict, Vectorize, Sample, Evaluate, Tabulate, Preview, Train, Info):
            self.addAlgorithm(algorithm())

    def id(self) -> str:
        """Return the prefix of algorithm ids, as in geoseg:predict."""
        return "geoseg"

    def name(self) -> str:
        """Return the name in the toolbox."""
        return "geoseg"

    def longName(self) -> str:
        """Return the name with a short description."""
        return "geoseg: land-cover maps"

    def versionInfo(self) -> str:
        """Return the version of the plugin."""
        metadata = configparser.ConfigParser(interpolation=None)
        metadata.read(_METADATA, encoding="utf-8")
        return metadata.get("general", "version", fallback="")

    def icon(self) -> QIcon:
        """Return the icon."""
        return QIcon(_ICON)

    def svgIconPath(self) -> str:
        """Return the path of the icon."""
        return _ICON

    def warningMessage(self) -> str:
        """Return the warning that dialogs show if geoseg is missing."""
        try:
            find_program()
        except ProgramError as error:
            return str(error)
        return ""

    def supportedOutputRasterLayerExtensions(self) -> list[str]:
        """Return the raster formats that geoseg writes, before QGIS 4."""
        return [extension for _, extension in self.supportedOutputRasterLayerFormatAndExtensions()]

    def supportedOutputRasterLayerFormatAndExtensions(self) -> list[tuple[str, str]]:
        """Return the raster formats that geoseg writes, since QGIS 4."""
        return [("GTiff", "tif"), ("GTiff", "tiff")]

    def supportedOutputVectorLayerExtensions(self) -> list[str]:
        """Return the vector formats that geoseg writes and this QGIS opens."""
        known = {each.lower() for each in QgsVectorFileWriter.supportedFormatExtensions()}
        return [each for each in _VECTORS if each in known or each == "gpkg"]

    def supportedOutputTableExtensions(self) -> list[str]:
        """Return the table formats that QGIS writes with numeric columns, and .csv."""
        known = {each.lower() for each in QgsVectorFileWriter.supportedFormatExtensions()}
        return [each for each in _TABLES if each in known or each == "gpkg"]

    def supportsNonFileBasedOutput(self) -> bool:
        """Return False, so that no databases are offered."""
        return False
