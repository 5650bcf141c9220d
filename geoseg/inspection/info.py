"""The verb `info`: facts of whatever a path holds."""

from __future__ import annotations

import os
from pathlib import Path

from geoseg.inspection.facts import Facts
from geoseg.inspection.landcover import map_facts, product_facts, provenance
from geoseg.inspection.model import folder_facts, model_facts
from geoseg.inspection.scene import scene_facts
from geoseg.model import ModelBundle, is_demo
from geoseg.raster import Scene, is_classes

_MODEL_SUFFIXES = {".safetensors", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".keras", ".pkl"}


def info(path: str | os.PathLike[str] | None = None) -> Facts:
    """Return what is known of a scene, a map or a model; "demo" is the model that comes with geoseg.

    None is the default model: the one that the environment variable GEOSEG_MODEL names, else the demo model.

    Raises SceneError or ModelError when it cannot be read. Statistics and shares come from a sample.
    """
    if path is None:
        return model_facts(ModelBundle.open())
    name = os.fspath(path)
    if is_demo(name):
        return model_facts(ModelBundle.open(name))
    if (Path(name) / "config.json").is_file():
        return folder_facts(Path(name))
    if Path(name).suffix.lower() in _MODEL_SUFFIXES:
        return model_facts(ModelBundle.open(Path(name)))
    scene = Scene.open(name)
    if is_classes(scene):
        return map_facts(scene)
    return product_facts(scene) if provenance(scene) else scene_facts(scene)
