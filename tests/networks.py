"""Small random networks as bundles, shared by all tests: the same bytes for the same arguments."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from geoseg.legend import DEEPGLOBE, Legend
from geoseg.model import ModelBundle, Normalization, build, save_bundle
from geoseg.model.engines.export import export_onnx

TINY = {"encoder_name": "tu-tf_mobilenetv3_small_minimal_100", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}
"""A network of 160 kB that halves a window three times, so windows are multiples of 8."""
RGB = Normalization((118.0, 112.0, 98.0), (54.0, 50.0, 48.0))


def random_network(architecture: str, arguments: dict[str, Any], seed: int = 0) -> torch.nn.Module:
    """Return a network that predicts a mix of classes and whose batch normalization is not the identity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(architecture, arguments)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
                torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        head = network.segmentation_head[0]
        torch.nn.init.normal_(head.weight, std=0.5)
    return network.eval()


def tiny_bundle(
    folder: Path,
    *,
    architecture: str = "Unet",
    arguments: dict[str, Any] | None = None,
    window_px: int = 64,
    export: bool = True,
    seed: int = 0,
    legend: Legend = DEEPGLOBE,
    normalization: Normalization = RGB,
    **card: Any,
) -> ModelBundle:
    """Write a bundle into the folder, with its ONNX file unless export is False; equal bundles are copied."""
    sizes = {"in_channels": len(normalization.mean), "classes": len(card.get("output_codes") or legend)}
    everything = {**(TINY if arguments is None else arguments), **sizes}
    card |= {"legend": legend, "normalization": normalization, "window_px": window_px}
    key = repr((architecture, everything, seed, sorted(card.items())))
    first = _first.get(key)
    if first is None:
        first = _first[key] = save_bundle(
            Path(tempfile.mkdtemp(dir=_place.name)) / f"{architecture}-{seed}.safetensors",
            random_network(architecture, everything, seed),
            architecture=architecture,
            arguments=everything,
            **card,
        )
    if export and not first.weights_path.with_suffix(".onnx").exists():
        export_onnx(first, window_px, first.weights_path.with_suffix(".onnx"))
    return ModelBundle.open(_copied(first, folder, export=export))


_place = tempfile.TemporaryDirectory(prefix="networks-")
_first: dict[str, ModelBundle] = {}


def _copied(bundle: ModelBundle, folder: Path, *, export: bool) -> Path:
    suffixes = (".safetensors", ".onnx") if export else (".safetensors",)
    for suffix in suffixes:
        shutil.copyfile(bundle.weights_path.with_suffix(suffix), folder / bundle.weights_path.with_suffix(suffix).name)
    return folder / bundle.weights_path.name
