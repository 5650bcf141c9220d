"""Texts in the user's language."""

from __future__ import annotations

try:
    from qgis.PyQt.QtCore import QCoreApplication
except ImportError:  # outside QGIS, for example in the tests of `command`

    def tr(text: str) -> str:
        """Return a text unchanged."""
        return text

else:

    def tr(text: str) -> str:
        """Return a text in the user's language, from the translations in `i18n`."""
        translated: str = QCoreApplication.translate("geoseg", text)
        return translated
