"""The base of all algorithms: parameters with help, running the command, its errors and results."""

from __future__ import annotations

import contextlib
import os
from html import escape
from pathlib import Path
from typing import Any, Mapping, Sequence

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterString,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QIcon

from geoseg_qgis.algorithms.layers import (
    LayerError,
    RasterInput,
    VectorInput,
    export,
    raster_input,
    unlike_its_file,
    vector_input,
)
from geoseg_qgis.algorithms.parameters import DEVICES, area, chosen, is_number, length, polygon_layer, positive
from geoseg_qgis.command.arguments import as_typed, command_line, split_extra
from geoseg_qgis.command.child import answer, run
from geoseg_qgis.command.listener import Listener
from geoseg_qgis.command.program import ProgramError, check_version
from geoseg_qgis.settings import find_program
from geoseg_qgis.styles import forget, load_with_style
from geoseg_qgis.translation import tr

_ICONS = Path(__file__).parents[1] / "icons"
_KEYWORDS = ("land cover", "land use", "LULC", "segmentation", "classification", "deep learning", "AI")


class GeosegAlgorithm(QgsProcessingAlgorithm):
    """An algorithm that runs a command of geoseg."""

    verb = ""
    keywords: Sequence[str] = ()
    """What users may search for in the toolbox, besides the name."""
    stages: Sequence[tuple[str, float]] = ()
    """The stages that the command reports, with their typical shares of the time."""
    fixed: Mapping[str, object] = {"--overwrite": True, "--mkdir": True, "--json": True, "--progress": "json"}
    """Options that users cannot choose: files are replaced, as in Processing, and output is for programs."""
    needs_crs = True
    """Whether the files of raster layers need a coordinate reference system."""

    def __init__(self) -> None:
        super().__init__()
        self._labels: dict[str, str] = {}
        self._layer_names: dict[str, str] = {}
        """The layers' names by the files to which they were exported."""
        self._rasters: dict[str, RasterInput] = {}
        self._vectors: dict[str, VectorInput] = {}

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

    def tags(self) -> list[str]:
        """Return the words by which the toolbox finds the algorithm."""
        return [*_KEYWORDS, *self.keywords]

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
        for parameter in self.parameterDefinitions():
            value = parameters.get(parameter.name())
            if parameter.type() == "number" and not is_number(value):  # QGIS takes 1,5 for none
                return False, tr("“{field}” takes a number, such as 2.5, not {value}.").format(
                    field=parameter.description(), value=value
                )
            if parameter.type() in {"rasterDestination", "vectorDestination"}:  # dialogs check it, scripts do not
                # in a context of its own: there it asks QGIS to load a temporary output
                passed, message = self.provider().isSupportedOutputValue(value, parameter, QgsProcessingContext())
                if not passed:
                    return passed, message
        try:
            self._look(parameters, context)
        except LayerError as error:
            return False, str(error)
        return True, ""

    def prepareAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> bool:
        """Look at the layers in the main thread, to which they belong."""
        try:
            layers = self._look(parameters, context)
        except LayerError as error:
            raise QgsProcessingException(str(error)) from None
        for layer in layers:
            for warning in unlike_its_file(layer):
                feedback.pushWarning(warning)
        return True

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
            "--",
            advanced=True,
        )

    def more_options(self, parameters: Any, context: Any) -> str:
        """Return more options of the command, as typed; raise QgsProcessingException if quotes are not closed."""
        typed = str(self.parameterAsString(parameters, "EXTRA", context))
        try:
            split_extra(typed)
        except ValueError:
            raise QgsProcessingException(
                tr("“More options of the command”: a quotation mark is not closed in {text}").format(text=typed)
            ) from None
        return typed

    def load(  # noqa: PLR0913 - as load_with_style
        self,
        parameters: Any,
        context: Any,
        output: str,
        destination: str,
        title: str,
        *,
        source: str = "",
        landcover: str = "",
    ) -> None:
        """Load a result as a layer with its style, named `title` if the caller gives no name."""
        load_with_style(
            context, parameters.get(output), destination, title,
            source=source, of=(self.id(), output), landcover=landcover,
        )  # fmt: skip

    def raster(self, name: str) -> str:
        """Return the file of a raster layer; empty if none is given."""
        return self._rasters[name].path if name in self._rasters else ""

    def layer_name(self, name: str) -> str:
        """Return the name of a raster layer in the list of layers."""
        return self._rasters[name].name

    def vector(self, parameters: Any, name: str, context: Any, feedback: Any) -> tuple[str, str]:
        """Return a vector layer's file and layer name; what no file holds as the layer shows it is exported."""
        given = self._vectors.get(name)
        if given is None:
            return "", ""
        if given.path:
            return given.path, given.layer
        source = self.parameterAsSource(parameters, name, context)
        try:
            path = export(source, name, given.keys, context, feedback)
        except LayerError as error:
            raise QgsProcessingException(str(error)) from None
        self._layer_names[path] = given.name
        return path, ""

    def has_points(self, name: str) -> bool:
        """Return whether a vector layer has points."""
        return self._vectors[name].has_points

    def _look(self, parameters: Any, context: Any) -> list[Any]:
        """Keep what the run needs to know of the layers that are given; return the raster layers."""
        layers = []
        for parameter in self.parameterDefinitions():
            name, kind = parameter.name(), parameter.type()
            if kind not in {"raster", "source"} or not parameters.get(name):
                continue
            if kind == "raster":
                layer = self.parameterAsRasterLayer(parameters, name, context)
                if layer is None:
                    raise LayerError(self.invalidRasterError(parameters, name))
                self._rasters[name] = raster_input(layer, needs_crs=self.needs_crs)
                layers.append(layer)
            else:
                self._vectors[name] = self._look_at_vector(parameters, name, context)
        return layers

    def _look_at_vector(self, parameters: Any, name: str, context: Any) -> VectorInput:
        given, only_selected, is_part = parameters[name], False, False
        if isinstance(given, QgsProcessingFeatureSourceDefinition):
            only_selected = given.selectedFeaturesOnly
            is_part = only_selected or given.featureLimit >= 0 or bool(getattr(given, "filterExpression", ""))
            given = given.source.valueAsString(context.expressionContext())[0]
        layer = self.parameterAsVectorLayer({name: given}, name, context)
        if layer is None:
            raise LayerError(self.invalidSourceError(parameters, name))
        return vector_input(layer, only_selected=only_selected, is_part=is_part)

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
            extra = self.more_options(parameters, context)
            command = command_line(program, self.verb, inputs, {**options, **self.fixed}, extra)
        except ProgramError as error:
            raise QgsProcessingException(str(error)) from None
        feedback.pushCommandInfo(as_typed(command))
        titles = {each.name(): each.displayName() for each in self.provider().algorithms()}
        listener = Listener(feedback, self.stages, {**titles, **self._labels}, self._layer_names)
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
            raise QgsProcessingException(listener.error or _end_of(done.code, listener.last_line))
        told = self._result(done.stdout)
        forget(context, [each for each in destinations if not _is_written(each)])  # a dry run, for example
        return told, listener

    def _result(self, stdout: str) -> dict[str, Any]:
        """Return what the command printed. Raises QgsProcessingException if it printed no result, as for --help."""
        if "--json" not in self.fixed:
            return {"text": stdout}
        told = answer(stdout)
        if isinstance(told, list):
            return {"rows": told}
        if not isinstance(told, dict):
            raise QgsProcessingException(
                tr("geoseg gave no result: check “More options of the command”; it printed {text}").format(
                    text=" ".join(stdout.split())[:200] or "-"
                )
            )
        return told

    def check_page(self, path: str) -> None:
        """Raise QgsProcessingException if a page cannot be written, before the run and not after it."""
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(path, error) from None
        if Path(path).is_dir() or not os.access(str(Path(path).parent), os.W_OK):
            raise _cannot_write(path, tr("it is a folder, or in one that is read-only"))

    def write_page(self, path: str, text: str) -> None:
        """Write a page, whole or not at all; raise QgsProcessingException if that fails."""
        unfinished = Path(f"{path}.part")
        try:
            unfinished.write_text(text, encoding="utf-8")
            os.replace(str(unfinished), path)  # noqa: PTH105
        except OSError as error:
            raise _cannot_write(path, error) from None
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink()


def _cannot_write(path: str, reason: OSError | str) -> QgsProcessingException:
    text = reason if isinstance(reason, str) else reason.strerror or str(reason)
    return QgsProcessingException(tr("{path} cannot be written: {error}").format(path=path, error=text))


def _is_written(destination: str) -> bool:
    if not destination.startswith("ogr:"):
        return Path(destination).exists()
    return bool(QgsVectorLayer(area(*polygon_layer(destination, "")), "", "ogr").isValid())


def _end_of(code: int, last_line: str) -> str:
    if last_line:
        return str(tr("geoseg ended with code {code}: {line}").format(code=code, line=last_line))
    return str(tr("geoseg ended with code {code} and no message").format(code=code))
