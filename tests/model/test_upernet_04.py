"""The UPerNet of smp 0.4, against a second implementation of its arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch.nn import functional

from geoseg.legend import DEEPGLOBE
from geoseg.model import ModelBundle, build
from geoseg.model.network import load_network
from tests.networks import RGB

ARGUMENTS: dict[str, Any] = {
    "encoder_name": "resnet18",
    "in_channels": 3,
    "classes": 7,
    "decoder_pyramid_channels": 16,
    "decoder_segmentation_channels": 8,
}


def normed(state: dict[str, torch.Tensor], name: str, values: torch.Tensor, padding: int = 0) -> torch.Tensor:
    """Apply convolution, batch normalization and ReLU with the tensors of a state dict."""
    found = functional.conv2d(values, state[f"{name}.0.weight"], padding=padding)
    sides = (state[f"{name}.1.{side}"] for side in ("running_mean", "running_var", "weight", "bias"))
    return functional.batch_norm(found, *sides).relu()


def resized(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(values, size=size, mode="bilinear", align_corners=False)


def oracle(network: Any, image: torch.Tensor) -> torch.Tensor:
    """Return the output of smp 0.4.0 (decoders/upernet/decoder.py), computed from the encoder's features."""
    state = network.state_dict()
    _, *features = network.encoder(image)
    deepest, *finer = features[::-1]
    size = (deepest.shape[2], deepest.shape[3])
    pooled = [
        resized(normed(state, f"decoder.psp.blocks.{number}.1", functional.adaptive_avg_pool2d(deepest, side)), size)
        for number, side in enumerate((1, 2, 3, 6))
    ]
    levels = [normed(state, "decoder.psp.out_conv", torch.cat([deepest, *pooled], 1))]
    for number, feature in enumerate(finer):
        upper = resized(levels[-1], (feature.shape[2], feature.shape[3]))
        levels.append(upper + normed(state, f"decoder.fpn_stages.{number}.skip_conv", feature))
    quarter = (image.shape[2] // 4, image.shape[3] // 4)
    summed = normed(state, "decoder.fpn_bottleneck", torch.cat([resized(level, quarter) for level in levels], 1), 1)
    scores = functional.conv2d(summed, state["segmentation_head.0.weight"], state["segmentation_head.0.bias"])
    return functional.interpolate(scores, scale_factor=4, mode="bilinear", align_corners=True)


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(1)
    made = build("UPerNet04", ARGUMENTS)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return made.eval()


def test_it_computes_what_smp_04_did(network: Any) -> None:
    image = torch.rand((2, 3, 96, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(image), oracle(network, image))


def test_a_folder_of_smp_04_is_known_by_its_arguments(network: Any, tmp_path: Path) -> None:
    smp.create_model("UPerNet", "resnet18", encoder_weights=None, classes=7).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("decoder_channels", "decoder_use_norm", "upsampling"):  # not in 0.4
        del config[name]
    (tmp_path / "config.json").write_text(json.dumps(config | ARGUMENTS | {"encoder_depth": 5}))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    bundle = ModelBundle.from_pretrained(tmp_path, legend=DEEPGLOBE, normalization=RGB)
    image = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert bundle.architecture == "UPerNet04"
        assert torch.equal(load_network(bundle)(image), network(image))
