"""Half precision agrees with 99.9 % of float32's labels on real imagery; plain autocast would not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.inference import SceneMapping, map_tile
from geoseg.model import ModelBundle, TorchEngine
from geoseg.raster import Scene, Window, WindowGrid

PX = 512
SCENES = [
    "deepglobe/172307_sat.jpg",
    "deepglobe/119_sat.jpg",
    "naip/chesapeake_wv/train_wv_3708020_sw_17_1-0_new_sat.png",
]


def labels(engine: TorchEngine, bundle: ModelBundle, path: Path) -> NDArray[np.uint8]:
    scene = Scene.open(path, wanted_bands=bundle.bands)
    height, width = (min(length, PX) for length in scene.shape)
    mapping = SceneMapping(scene, WindowGrid(height, width, 512, 128), "hann", 1, bundle.output_codes)
    return map_tile(mapping, engine, Window(0, 0, height, width))["labels"]


def test_the_demo_models_labels_are_float32s_on_real_imagery(shared_data: Path) -> None:
    bundle = ModelBundle.open(None)
    engines = [TorchEngine(bundle, "torch-cpu", None, 1, precision=precision) for precision in ("float32", "fp16")]
    plain = TorchEngine(bundle, "torch-cpu", None, 1, precision="bf16")
    plain._half = None  # as plain autocast would
    plain._network.to(memory_format=torch.channels_last)
    for name in SCENES:
        full, half = (labels(engine, bundle, shared_data / name) for engine in engines)
        assert len(np.unique(full)) > 1
        assert (half == full).mean() >= 0.999, name
    full, rough = (labels(engine, bundle, shared_data / SCENES[1]) for engine in (engines[0], plain))
    assert (rough == full).mean() < 0.999, "the measure says too little"
