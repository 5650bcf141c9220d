"""Texts in the user's language."""

from __future__ import annotations

try:
    from qgis.PyQt.QtCore import QCoreApplication
except ImportError:  # outside QGIS, as in the tests of `command`

    def tr(text: str) -> str:
        """Return a text as it is."""
        return text

else:

    def tr(text: str) -> str:
        """Return a text in the user's language; `i18n` has the translations."""
        translated: str = QCoreApplication.translate("geoseg", text)
        return translated
