"""The base of all algorithms: parameters with help, running the command, its errors and results."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any, Mapping, Sequence

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterString,
)
from qgis.PyQt.QtGui import QIcon

from geoseg_qgis.algorithms.layers import LayerError, check_crs, raster_source
from geoseg_qgis.algorithms.parameters import DEVICES, chosen, length, positive
from geoseg_qgis.command.arguments import command_line
from geoseg_qgis.command.child import run
from geoseg_qgis.command.listener import Listener
from geoseg_qgis.command.program import ProgramError, check_version
from geoseg_qgis.settings import find_program
from geoseg_qgis.styles import forget
from geoseg_qgis.translation import tr

_ICONS = Path(__file__).parents[1] / "icons"
_VECTOR_FILES = ["gpkg", "fgb", "geojson", "json", "shp", "kml", "gml", "sqlite"]
"""Vector files that are passed directly; other layers are exported first."""


class GeosegAlgorithm(QgsProcessingAlgorithm):
    """An algorithm that runs a command of geoseg."""

    verb = ""
    stages: Sequence[tuple[str, float]] = ()
    """The stages that the command reports, with their typical shares of the time."""
    fixed: Mapping[str, object] = {"--overwrite": True, "--mkdir": True, "--json": True, "--progress": "json"}
    """Options that users cannot choose: files are replaced, as in Processing, and output is for programs."""

    def __init__(self) -> None:
        super().__init__()
        self._labels: dict[str, str] = {}
        self._raster_inputs: list[str] = []
        self._vector_inputs: list[str] = []

    # Methods that QGIS calls.

    def name(self) -> str:
        """Return the name in scripts."""
        return self.verb

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return self.title()

    def createInstance(self) -> GeosegAlgorithm:
        """Return a new instance."""
        return type(self)()

    def icon(self) -> QIcon:
        """Return the icon."""
        return QIcon(self.svgIconPath())

    def svgIconPath(self) -> str:
        """Return the path of the icon."""
        return str(_ICONS / f"{self.verb}.svg")

    def shortDescription(self) -> str:
        """Return the tooltip in the toolbox."""
        return self.explanation().partition(". ")[0] + "."

    def shortHelpString(self) -> str:
        """Return the help shown next to the dialog."""
        rows = [
            f"<h3>{escape(each.description())}</h3><p>{escape(each.help())}</p>"
            for each in self.parameterDefinitions()
            if each.help()
        ]
        return f"<p>{escape(self.explanation())}</p>{''.join(rows)}"

    def canExecute(self) -> tuple[bool, str]:
        """Return an error before the dialog opens if geoseg is missing."""
        try:
            find_program()
        except ProgramError as error:
            return False, str(error)
        return True, ""

    def checkParameterValues(self, parameters: Any, context: Any) -> tuple[bool, str]:
        """Return an error before the run if geoseg cannot read a layer."""
        passed, message = super().checkParameterValues(parameters, context)
        if not passed:
            return passed, message
        try:
            for name in self._raster_inputs:
                self.raster(parameters, name, context)
            for name in self._vector_inputs:
                layer = self.vector_layer(parameters, name, context)
                if layer is not None:
                    check_crs(layer)
        except LayerError as error:
            return False, str(error)
        return True, ""

    # Texts that each algorithm defines.

    def title(self) -> str:
        """Return the name in the toolbox."""
        raise NotImplementedError

    def explanation(self) -> str:
        """Return a description in a few sentences."""
        raise NotImplementedError

    # Building blocks of the algorithms.

    def add(self, parameter: Any, text: str, option: str = "", *, advanced: bool = False) -> None:
        """Add a parameter with its help; `option` is its name in the command's messages."""
        parameter.setHelp(text)
        if advanced:
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        if option:
            self._labels[option] = parameter.description()
        kind = parameter.type()
        if kind == "raster":
            self._raster_inputs.append(parameter.name())
        elif kind == "source":
            self._vector_inputs.append(parameter.name())
        self.addParameter(parameter)

    def add_borders(self) -> None:
        """Add the parameters for the borders of polygons."""
        self.add(
            positive("MIN_AREA", tr("Smallest polygon (m²)")),
            tr("Smaller regions are merged into the neighbor with the longest shared border. Empty: all are kept."),
            "--min-area",
        )
        self.add(
            positive("SIMPLIFY", tr("Simplify borders (m)")),
            tr("About how far borders may move to drop vertices. Empty: borders follow the pixels."),
            "--simplify",
        )
        self.add(
            QgsProcessingParameterBoolean("SMOOTH", tr("Smooth borders"), defaultValue=False),
            tr("Rounds the pixel steps of borders."),
            "--smooth",
        )

    def borders(self, parameters: Any, context: Any) -> dict[str, object]:
        """Return the borders' parameters as options."""
        return {
            "--min-area": length(self, parameters, "MIN_AREA", context),
            "--simplify": length(self, parameters, "SIMPLIFY", context),
            "--smooth": self.parameterAsBool(parameters, "SMOOTH", context),
        }

    def add_device(self) -> None:
        """Add the parameter for the network's device."""
        self.add(
            QgsProcessingParameterEnum(
                "DEVICE", tr("Device"), options=list(DEVICES), defaultValue=DEVICES[0], usesStaticStrings=True
            ),
            tr("auto: a GPU where there is one."),
            "--device",
            advanced=True,
        )

    def device(self, parameters: Any, context: Any) -> dict[str, object]:
        """Return the device as an option."""
        return {"--device": chosen(self, parameters, "DEVICE", context, DEVICES[0])}

    def add_extra(self) -> None:
        """Add the parameter for all other options."""
        self.add(
            QgsProcessingParameterString("EXTRA", tr("More options of the command"), optional=True),
            tr("As at a command line: geoseg {verb} --help lists all options.").format(verb=self.verb),
            advanced=True,
        )

    def raster(self, parameters: Any, name: str, context: Any) -> str:
        """Return the file of a raster layer; empty if none is given. Raises LayerError."""
        if not parameters.get(name):
            return ""
        layer = self.parameterAsRasterLayer(parameters, name, context)
        return "" if layer is None else raster_source(layer)

    def vector_layer(self, parameters: Any, name: str, context: Any) -> Any:
        """Return the layer of which all or the selected features are given; None if there is none."""
        given = parameters.get(name)
        if isinstance(given, QgsProcessingFeatureSourceDefinition):
            given = given.source.staticValue()
        return self.parameterAsVectorLayer({name: given}, name, context) if given else None

    def vector(self, parameters: Any, name: str, context: Any, feedback: Any) -> tuple[str, str]:
        """Return a vector layer's file and layer name; selections, filters, memory and server layers are exported."""
        if not parameters.get(name):
            return "", ""
        layer = self.vector_layer(parameters, name, context)
        formats = [] if layer is not None and layer.subsetString() else _VECTOR_FILES
        path, inside = self.parameterAsCompatibleSourceLayerPathAndLayerName(
            parameters, name, context, formats, "gpkg", feedback
        )
        return str(path), str(inside)

    def run_command(  # noqa: PLR0913, PLR0917 - a run has this many parts
        self,
        inputs: Sequence[str],
        options: Mapping[str, object],
        parameters: Any,
        context: Any,
        feedback: Any,
        destinations: Sequence[str] = (),
    ) -> tuple[dict[str, Any] | None, Listener]:
        """Run the command; return its results, None if it was canceled, and the listener with its messages.

        Raises
        ------
        QgsProcessingException
            With one sentence, if it failed.
        """
        try:
            program = find_program()
            check_version(program)
            extra = self.parameterAsString(parameters, "EXTRA", context)
            command = command_line(program, self.verb, inputs, {**options, **self.fixed}, extra)
        except (ProgramError, ValueError) as error:  # ValueError: unclosed quotes in `extra`
            raise QgsProcessingException(str(error)) from None
        feedback.pushCommandInfo(" ".join(f'"{word}"' if " " in word else word for word in command))
        listener = Listener(feedback, self.stages, self._labels)
        try:
            done = run(command, listener.hear, feedback.isCanceled)
        except OSError as error:
            raise QgsProcessingException(
                tr("{program} does not start: {error}").format(program=program, error=error.strerror or error)
            ) from None
        if done.is_canceled and done.code:
            forget(context, list(destinations))
            feedback.pushInfo(listener.error or tr("Canceled."))
            return None, listener
        if done.code:
            raise QgsProcessingException(
                listener.error or tr("geoseg ended with code {code} and no message").format(code=done.code)
            )
        return _told(done.stdout), listener

    def write(self, path: str, text: str) -> None:
        """Write a page; raise QgsProcessingException if that fails."""
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise QgsProcessingException(
                tr("{path} cannot be written: {error}").format(path=path, error=error.strerror or error)
            ) from None


def _told(stdout: str) -> dict[str, Any]:
    try:
        told = json.loads(stdout)
    except ValueError:
        return {"text": stdout}
    return told if isinstance(told, dict) else {"rows": told} if isinstance(told, list) else {"text": stdout}
