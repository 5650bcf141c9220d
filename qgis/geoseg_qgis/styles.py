"""Load results as layers of the project, with their own style and name."""

from __future__ import annotations

from collections import deque
from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingLayerPostProcessorInterface

_kept: deque[Any] = deque(maxlen=1000)
"""QGIS keeps no reference to post-processors, and crashes if one is deleted or shared by two layers."""


class _DefaultStyle(QgsProcessingLayerPostProcessorInterface):
    """Gives a loaded result the style that geoseg wrote, which Processing does not do by itself."""

    def postProcessLayer(self, layer: Any, context: Any, feedback: Any) -> None:  # noqa: ARG002 - QGIS's
        """Load the style of a layer."""
        layer.loadDefaultStyle()
        layer.triggerRepaint()


def load_with_style(context: QgsProcessingContext, destination: str, name: str, layer: str = "") -> None:
    """Load a result with its style, if it is to be loaded at all.

    `layer` is its layer in a file that may have others.
    """
    if not destination or not context.willLoadLayerOnCompletion(destination):
        return
    if layer:
        destination = _rename(context, destination, f"{destination}|layername={layer}")
    style = _DefaultStyle()
    _kept.append(style)
    details = context.layerToLoadOnCompletionDetails(destination)
    details.name = name
    details.setPostProcessor(style)


def _rename(context: QgsProcessingContext, before: str, after: str) -> str:
    """Rename a layer to be loaded; call it before setting a post-processor, which QGIS would delete."""
    waiting = dict(context.layersToLoadOnCompletion())
    waiting[after] = waiting.pop(before)
    context.setLayersToLoadOnCompletion(waiting)
    return after


def forget(context: QgsProcessingContext, destinations: list[str]) -> None:
    """Load none of the results of a canceled run."""
    waiting = dict(context.layersToLoadOnCompletion())
    for each in list(waiting):
        if each.partition("|")[0] in destinations:
            waiting.pop(each)
    context.setLayersToLoadOnCompletion(waiting)
