"""The window sizes that a network accepts; the oracle is running the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from geoseg.errors import UsageError
from geoseg.legend import DEEPGLOBE
from geoseg.model import (
    ModelBundle,
    build,
    check_network_accepts,
    choose_engine,
    save_bundle,
    usual_window_px,
    window_fault,
)
from tests.networks import RGB

SIZES: dict[str, Any] = {"in_channels": 3, "classes": 7}
SMALL_DPT = {"decoder_intermediate_channels": [8, 8, 8, 8], "decoder_fusion_channels": 8}
VIT = {"encoder_name": "tu-vit_tiny_patch16_224", **SMALL_DPT, **SIZES}
SWIN = {"encoder_name": "tu-swin_tiny_patch4_window7_224", **SIZES}
NETWORKS: dict[str, tuple[str, dict[str, Any], int, int | None]] = {
    # architecture, arguments, the usual window, another size that it does not take
    "ViT": ("DPT", VIT, 224, 448),
    "ViT of another size": ("DPT", VIT | {"img_size": 96}, 96, 224),
    "ViT of any size": ("DPT", VIT | {"dynamic_img_size": True}, 512, None),
    "ViT, small patches": ("DPT", VIT | {"patch_size": 8, "img_size": 64}, 64, 72),
    "Swin": ("Unet", SWIN, 224, 448),
    "Swin v2": ("FPN", {"encoder_name": "tu-swinv2_cr_tiny_ns_224", **SIZES}, 224, 256),
    "MaxViT": ("Unet", {"encoder_name": "tu-maxvit_rmlp_pico_rw_256", **SIZES}, 512, 288),
    "ConvNeXt": ("Unet", {"encoder_name": "tu-convnext_atto", **SIZES}, 512, None),
    "ResNet": ("PSPNet", {"encoder_name": "resnet18", **SIZES}, 512, None),
    "no encoder": ("PlainUnet", {"depth": 2, "channels": 4, **SIZES}, 512, None),
    "MiT": ("Segformer", {"encoder_name": "mit_b0", **SIZES}, 512, None),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_usual_window_is_one_that_the_network_takes(kind: str) -> None:
    architecture, arguments, usual, wrong = NETWORKS[kind]
    assert usual_window_px(architecture, arguments) == usual
    check_network_accepts(architecture, arguments, usual)
    if wrong is not None:
        with pytest.raises(UsageError, match=rf"^`crop={wrong}` does not suit {architecture} on .*; give `crop=\d+`"):
            check_network_accepts(architecture, arguments, wrong, "crop")


@pytest.mark.parametrize("kind", ["ViT of another size", "Swin", "MaxViT", "ConvNeXt", "ResNet"])
def test_what_is_said_without_memory_is_what_happens(kind: str) -> None:
    """The prediction, made without allocating memory, matches a real run for sizes that fit and sizes that do not."""
    architecture, arguments, usual, wrong = NETWORKS[kind]
    network = build(architecture, arguments).eval()
    for size in {min(usual, 256), wrong, 64} - {None}:
        try:
            with torch.no_grad():
                runs = network(torch.zeros(1, 3, size, size)).shape[-1] == size
        except (AssertionError, RuntimeError, ValueError):
            runs = False
        assert (window_fault(architecture, arguments, size) is None) is runs


def test_what_is_too_small_and_what_comes_back_in_another_size_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Output size is too small; give `window=256`"):
        check_network_accepts("PAN", {"encoder_name": "resnet18", **SIZES}, 32)
    with pytest.raises(UsageError, match="it gives 128 x 128 px for 64 x 64"):
        check_network_accepts("FPN", {"encoder_name": "resnet18", "upsampling": 8, **SIZES}, 64)


@pytest.mark.parametrize(("batch", "fits"), [(1, False), (2, True)])
def test_a_batch_that_batch_norm_cannot_learn_from_is_known_beforehand(batch: int, *, fits: bool) -> None:
    arguments = {"encoder_name": "resnet18", **SIZES}
    network = build("DeepLabV3", arguments).train()
    try:
        network(torch.zeros(batch, 3, 64, 64))
        learns = True
    except ValueError:
        learns = False
    assert learns is fits
    assert (window_fault("DeepLabV3", arguments, 64, batch=batch, learning=True) is None) is fits


def test_a_bundle_has_a_window_that_its_network_takes(tmp_path: Path) -> None:
    network = build("DPT", VIT)
    sides: dict[str, Any] = {"architecture": "DPT", "arguments": VIT, "legend": DEEPGLOBE, "normalization": RGB}
    bundle = save_bundle(tmp_path / "vit.safetensors", network, **sides)
    assert (bundle.window_px, bundle.overlap_px) == (224, 56)
    assert ModelBundle.open(bundle.weights_path).window_px == 224
    with pytest.raises(UsageError, match=r"^`window=448` does not suit DPT on tu-vit_tiny.*give `window=224`"):
        save_bundle(tmp_path / "other.safetensors", network, window_px=448, **sides)
    assert not (tmp_path / "other.safetensors").exists()
    for device in ("onnx", "torch-cpu"):
        with pytest.raises(UsageError, match=r"^`window=448` .*give `window=224`.*dynamic_img_size"):
            choose_engine(bundle, device, window_px=448)
