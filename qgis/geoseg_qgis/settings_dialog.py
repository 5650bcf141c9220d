"""The settings dialog: choose geoseg, test it, or install it."""

from __future__ import annotations

import threading
from html import escape
from typing import Any

from qgis.gui import QgsFileWidget
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QTextBrowser,
    QVBoxLayout,
)

from geoseg_qgis.command import installation, program
from geoseg_qgis.settings import configure, configured
from geoseg_qgis.translation import tr

_POLL_MS = 100
_SHOWN_LINES = 20


class SettingsDialog(QDialog):
    """The dialog at Plugins > geoseg > Settings."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(tr("geoseg: settings"))
        self.setMinimumSize(640, 460)
        self._path = QgsFileWidget()
        self._path.setFilePath(configured())
        self._path.setDialogTitle(tr("The program geoseg of an environment"))
        self._test = QPushButton(tr("Test"))
        self._test.clicked.connect(self.test)
        self._install = QPushButton(tr("Install geoseg"))
        self._install.setToolTip(
            tr("Into an environment of its own, in your home folder; QGIS's Python stays as it is")
        )
        self._install.clicked.connect(self.install)
        self._lines: list[str] = []
        self._installed = ""
        self._is_canceled: threading.Event | None = None
        self._answer = QTextBrowser()
        self._answer.setOpenExternalLinks(True)
        self._answer.setHtml(_how_to_install())
        self._buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        self._ok = self._buttons.button(QDialogButtonBox.StandardButton.Ok)
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        self._arrange()
        self._found: list[tuple[bool, str]] = []
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._show_answer)
        self._say_where()

    def accept(self) -> None:
        """Store the chosen program, if it exists."""
        chosen = self._path.filePath().strip().strip('"')
        try:
            if chosen:
                program.find(chosen)
        except program.ProgramError as error:
            self._show(str(error), is_fit=False)
            return
        self._stop()
        configure(chosen)
        super().accept()

    def test(self) -> None:
        """Run geoseg's checks in the background; the dialog stays responsive."""
        self._begin()
        self._install.setEnabled(False)
        self._answer.setHtml(f"<p>{escape(tr('Asking geoseg; this takes some seconds…'))}</p>")
        chosen = self._path.filePath()
        threading.Thread(target=lambda: self._found.append(examine(chosen)), daemon=True).start()

    def install(self) -> None:
        """Install geoseg in the background and test it; until then, the button cancels."""
        if self._is_canceled is not None:
            self._is_canceled.set()
            return
        self._begin()
        self._is_canceled = canceled = threading.Event()
        self._install.setText(tr("Cancel"))
        self._lines[:] = [tr("Installing geoseg into {folder}…").format(folder=installation.home_environment())]
        threading.Thread(target=self._run_installation, args=(canceled,), daemon=True).start()

    def reject(self) -> None:
        """Close the dialog and cancel any installation."""
        self._stop()
        super().reject()

    def answer(self) -> str:
        """Return the text shown in the dialog."""
        return str(self._answer.toPlainText())

    def _arrange(self) -> None:
        rows = QVBoxLayout(self)
        rows.addWidget(QLabel(tr("Program geoseg, or the folder of its environment (empty: look for it):")))
        row = QHBoxLayout()
        row.addWidget(self._path, 1)
        row.addWidget(self._test)
        row.addWidget(self._install)
        rows.addLayout(row)
        rows.addWidget(self._answer, 1)
        rows.addWidget(self._buttons)

    def _say_where(self) -> None:
        """Show, as the field's placeholder, which geoseg is found if the field is empty."""
        try:
            where = program.find("")
        except program.ProgramError:
            return
        self._path.lineEdit().setPlaceholderText(where)

    def _begin(self) -> None:
        """Start waiting for a thread's answer. Only one thread runs at a time: another's answer would end the wait."""
        self._found.clear()
        self._test.setEnabled(False)
        self._ok.setEnabled(False)
        self._timer.start(_POLL_MS)

    def _stop(self) -> None:
        if self._is_canceled is not None:
            self._is_canceled.set()

    def _run_installation(self, canceled: threading.Event) -> None:
        """Install in a thread, which takes minutes; it must not touch any widget."""
        try:
            python = installation.find_python()
            path = installation.install(installation.home_environment(), python, self._lines.append, canceled.is_set)
            self._installed = path
            self._found.append(examine(path))
        except program.ProgramError as error:
            self._found.append((False, str(error)))
        except OSError as error:
            self._found.append((False, tr("geoseg could not be installed: {error}").format(error=error)))

    def _show_answer(self) -> None:
        if not self._found:
            if self._is_canceled is not None:
                self._answer.setPlainText("\n".join(self._lines[-_SHOWN_LINES:]))
            return
        self._timer.stop()
        for button in (self._test, self._install, self._ok):
            button.setEnabled(True)
        self._install.setText(tr("Install geoseg"))
        self._is_canceled = None
        if self._installed:
            self._path.setFilePath(self._installed)
            self._installed = ""
        is_fit, text = self._found[0]
        self._show(text, is_fit=is_fit)

    def _show(self, text: str, *, is_fit: bool) -> None:
        """Show a sentence with details below it and, unless geoseg is fit, how to install it."""
        color = "#1b7837" if is_fit else "#b2182b"
        first, _, rest = text.partition("\n")
        more = f"<pre>{escape(rest)}</pre>" if rest else ""
        steps = "" if is_fit else _how_to_install()
        self._answer.setHtml(f'<p style="color:{color}"><b>{escape(first)}</b></p>{more}{steps}')


def examine(chosen: str) -> tuple[bool, str]:
    """Return whether geoseg works, and a report: a sentence, then details."""
    try:
        path = program.find(chosen)
        program.check_version(path)
        health = program.examine(path)
    except program.ProgramError as error:
        return False, str(error)
    sentence = tr("geoseg {version} works.") if health.is_usable else tr("geoseg {version} does not work here yet.")
    return health.is_usable, f"{sentence.format(version=health.version)}\n{path}\n\n{health.describe()}"


def _how_to_install() -> str:
    steps = "".join(
        f"<p>{escape(needs)}:<br><code>{escape(command).replace(chr(10), '<br>')}</code></p>"
        for needs, command in program.install_steps()
    )
    intro = tr(
        "geoseg runs outside QGIS, in an environment of its own, so that it cannot break QGIS. Install it once, in a "
        "terminal, in one of these ways; where QGIS does not find it by itself, choose it above and press Test:"
    )
    return f"<p>{escape(intro)}</p>{steps}"
