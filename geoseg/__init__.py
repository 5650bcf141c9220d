"""Land-cover maps from georeferenced rasters too big for memory.

>>> import geoseg
>>> geoseg.predict("scene.tif", "landcover.tif")  # doctest: +SKIP
>>> polygons = geoseg.vectorize("landcover.tif", simplify=1.5)  # doctest: +SKIP
>>> geoseg.evaluate("landcover.tif", "reference.tif").metrics.miou  # doctest: +SKIP
>>> geoseg.train("deepglobe/", "model.safetensors", epochs=40)  # doctest: +SKIP

The names below are loaded on first use: `import geoseg` is quick, and loads neither torch nor GDAL.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from geoseg.version import VERSION

if TYPE_CHECKING:
    from geoseg import errors
    from geoseg.dataset.dataset import Dataset, open_dataset
    from geoseg.dataset.split import Split, split
    from geoseg.evaluation.confusion import ConfusionMatrix
    from geoseg.evaluation.evaluate import evaluate
    from geoseg.evaluation.evaluation import Evaluation
    from geoseg.evaluation.metrics import Metrics
    from geoseg.facts.doctor import doctor
    from geoseg.facts.info import info
    from geoseg.inference.labels import labels
    from geoseg.inference.plan import Plan
    from geoseg.inference.planning import plan
    from geoseg.inference.predict import predict
    from geoseg.legend import DEEPGLOBE, NODATA, LandCover, Legend
    from geoseg.model.bundle import ModelBundle
    from geoseg.model.normalization import Normalization
    from geoseg.model.save import save_bundle
    from geoseg.preview.page_file import Page
    from geoseg.preview.picture import picture
    from geoseg.preview.polygons_picture import draw_polygons
    from geoseg.preview.preview import preview
    from geoseg.progress import Progress
    from geoseg.raster.crop import crop
    from geoseg.raster.geobox import GeoBox
    from geoseg.raster.scene import Patch, Scene
    from geoseg.raster.statistics import BandStatistics
    from geoseg.raster.windows import Window
    from geoseg.training.recipe import Recipe
    from geoseg.training.train import train
    from geoseg.vector.vectorize import vectorize

__version__ = VERSION

__all__ = [
    "DEEPGLOBE",
    "NODATA",
    "BandStatistics",
    "ConfusionMatrix",
    "Dataset",
    "Evaluation",
    "GeoBox",
    "LandCover",
    "Legend",
    "Metrics",
    "ModelBundle",
    "Normalization",
    "Page",
    "Patch",
    "Plan",
    "Progress",
    "Recipe",
    "Scene",
    "Split",
    "Window",
    "__version__",
    "crop",
    "doctor",
    "draw_polygons",
    "errors",
    "evaluate",
    "info",
    "labels",
    "open_dataset",
    "picture",
    "plan",
    "predict",
    "preview",
    "save_bundle",
    "split",
    "train",
    "vectorize",
]

_HOME = {
    "BandStatistics": "geoseg.raster.statistics",
    "ConfusionMatrix": "geoseg.evaluation.confusion",
    "DEEPGLOBE": "geoseg.legend",
    "Dataset": "geoseg.dataset.dataset",
    "Evaluation": "geoseg.evaluation.evaluation",
    "GeoBox": "geoseg.raster.geobox",
    "LandCover": "geoseg.legend",
    "Legend": "geoseg.legend",
    "Metrics": "geoseg.evaluation.metrics",
    "ModelBundle": "geoseg.model.bundle",
    "NODATA": "geoseg.legend",
    "Normalization": "geoseg.model.normalization",
    "Page": "geoseg.preview.page_file",
    "Patch": "geoseg.raster.scene",
    "Plan": "geoseg.inference.plan",
    "Progress": "geoseg.progress",
    "Recipe": "geoseg.training.recipe",
    "Scene": "geoseg.raster.scene",
    "Split": "geoseg.dataset.split",
    "Window": "geoseg.raster.windows",
    "crop": "geoseg.raster.crop",
    "doctor": "geoseg.facts.doctor",
    "draw_polygons": "geoseg.preview.polygons_picture",
    "evaluate": "geoseg.evaluation.evaluate",
    "info": "geoseg.facts.info",
    "labels": "geoseg.inference.labels",
    "open_dataset": "geoseg.dataset.dataset",
    "picture": "geoseg.preview.picture",
    "plan": "geoseg.inference.planning",
    "predict": "geoseg.inference.predict",
    "preview": "geoseg.preview.preview",
    "save_bundle": "geoseg.model.save",
    "split": "geoseg.dataset.split",
    "train": "geoseg.training.train",
    "vectorize": "geoseg.vector.vectorize",
}
"""The module in which each public name lives."""


def __getattr__(name: str) -> object:
    """Load a public name on its first use."""
    if name == "errors":
        return import_module("geoseg.errors")
    if name not in _HOME:
        raise AttributeError(f"module 'geoseg' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
