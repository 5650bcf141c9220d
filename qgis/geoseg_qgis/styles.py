"""Load results as layers of the project, with their own style and name."""

from __future__ import annotations

from collections import deque
from typing import Any

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsProcessingContext,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingOutputLayerDefinition,
    QgsRasterLayer,
    QgsRendererCategory,
    QgsSymbol,
    QgsVectorLayer,
)

from geoseg_qgis.translation import tr

_kept: deque[Any] = deque(maxlen=1000)
"""QGIS keeps no reference to post-processors, and crashes if one is deleted or shared by two layers."""


class _DefaultStyle(QgsProcessingLayerPostProcessorInterface):
    """Gives a loaded result the style that geoseg wrote, which Processing does not do by itself.

    A style that the user chose for this output in the toolbox comes first. `landcover` is the map whose legend colors
    polygons of a format without a style.
    """

    def __init__(self, algorithm: str, output: str, landcover: str) -> None:
        super().__init__()
        self._algorithm, self._output, self._landcover = algorithm, output, landcover

    def postProcessLayer(self, layer: Any, context: Any, feedback: Any) -> None:  # noqa: ARG002 - QGIS's
        """Load the style of a layer; one that the project had before the run is read again."""
        from processing.gui.RenderingStyles import RenderingStyles

        if layer.providerType() in {"gdal", "ogr"}:
            layer.setDataSource(layer.source(), layer.name(), layer.providerType())
            if isinstance(layer, QgsVectorLayer):
                layer.updateExtents(True)
        chosen = RenderingStyles.getStyle(self._algorithm, self._output)
        if chosen:
            layer.loadNamedStyle(chosen)
        else:
            layer.loadDefaultStyle()
            if self._landcover and isinstance(layer, QgsVectorLayer):
                _color_like(self._landcover, layer)
        layer.triggerRepaint()


def load_with_style(  # noqa: PLR0913 - what a layer in the project is made of
    context: QgsProcessingContext,
    given: object,
    destination: str,
    name: str,
    *,
    source: str = "",
    of: tuple[str, str] = ("", ""),
    landcover: str = "",
) -> None:
    """Load a result with its style, if it is to be loaded at all.

    `given` is the value of the parameter, which may name the layer, as models do; else it gets `name`. `source` opens
    the layer, if `destination` does not; `of` is the algorithm and its output.
    """
    if not destination or not context.willLoadLayerOnCompletion(destination):
        return
    if source and source != destination:
        _rename(context, destination, source)
        destination = source
    style = _DefaultStyle(*of, landcover)
    _kept.append(style)
    details = context.layerToLoadOnCompletionDetails(destination)
    if not (isinstance(given, QgsProcessingOutputLayerDefinition) and given.destinationName):
        details.name = name
    details.setPostProcessor(style)


def _rename(context: QgsProcessingContext, before: str, after: str) -> None:
    """Rename a layer to be loaded; call it before setting a post-processor, which QGIS would delete."""
    waiting = dict(context.layersToLoadOnCompletion())
    waiting[after] = waiting.pop(before)
    context.setLayersToLoadOnCompletion(waiting)


def forget(context: QgsProcessingContext, destinations: list[str]) -> None:
    """Load none of the results of a run that wrote nothing."""
    waiting = dict(context.layersToLoadOnCompletion())
    for each in destinations:
        waiting.pop(each, None)
    context.setLayersToLoadOnCompletion(waiting)


def _color_like(landcover: str, layer: Any) -> None:
    """Give polygons the colors of a map, if they have no style of their own."""
    field = layer.fields().indexOf("code")
    if layer.renderer().type() != "singleSymbol" or field < 0:
        return
    raster = QgsRasterLayer(landcover)  # owns its renderer
    renderer = raster.renderer()
    if renderer is None or renderer.type() != "paletted":
        return
    codes, categories = layer.uniqueValues(field), []
    for each in renderer.classes():
        if each.value in codes:
            symbol = QgsSymbol.defaultSymbol(layer.geometryType())
            symbol.setColor(each.color)
            symbol.symbolLayer(0).setStrokeColor(each.color)  # as in geoseg's own styles
            symbol.symbolLayer(0).setStrokeWidth(0.1)
            categories.append(QgsRendererCategory(each.value, symbol, each.label))
    if codes - {each.value() for each in categories}:  # QGIS draws no polygon without a category
        symbol = QgsSymbol.defaultSymbol(layer.geometryType())
        categories.append(QgsRendererCategory(None, symbol, tr("Other classes")))
    layer.setRenderer(QgsCategorizedSymbolRenderer("code", categories))
