"""The plugin: its toolbox provider and its menu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QCoreApplication, QTranslator
from qgis.PyQt.QtGui import QIcon

_FOLDER = Path(__file__).parent


class GeosegPlugin:
    """The plugin that QGIS loads; `iface` is None in qgis_process."""

    def __init__(self, iface: Any) -> None:
        self._iface = iface
        self._translator = _install_translator()
        self._provider: Any = None  # QGIS keeps no reference
        self._action: Any = None

    def initProcessing(self) -> None:
        """Add the provider."""
        from geoseg_qgis.provider import GeosegProvider

        self._provider = GeosegProvider()
        QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:
        """Add the provider and the menu."""
        try:
            from qgis.PyQt.QtGui import QAction
        except ImportError:  # Qt 5
            from qgis.PyQt.QtWidgets import QAction

        from geoseg_qgis.translation import tr

        self.initProcessing()
        self._action = QAction(QIcon(str(_FOLDER / "icons" / "geoseg.svg")), tr("Settings…"), self._iface.mainWindow())
        self._action.triggered.connect(self._show_settings)
        self._iface.addPluginToMenu("geoseg", self._action)

    def unload(self) -> None:
        """Remove the provider and the menu."""
        if self._action is not None:
            self._iface.removePluginMenu("geoseg", self._action)
            self._action.deleteLater()  # its parent is the main window
            self._action = None
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None
        if self._translator is not None:
            QCoreApplication.removeTranslator(self._translator)
            self._translator = None

    def _show_settings(self) -> None:
        from geoseg_qgis.settings_dialog import SettingsDialog

        dialog = SettingsDialog(self._iface.mainWindow())
        dialog.exec()
        dialog.deleteLater()


def _install_translator() -> QTranslator | None:
    """Install and return the translator for the user's language; None if there is none."""
    chosen = str(QgsApplication.locale())
    for name in (chosen, chosen[:2]):
        path = _FOLDER / "i18n" / f"geoseg_{name}.qm"
        translator = QTranslator()
        if path.is_file() and translator.load(str(path)):
            QCoreApplication.installTranslator(translator)
            return translator
    return None
