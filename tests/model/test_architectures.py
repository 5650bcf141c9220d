"""Every architecture: its arguments are bounded, and a trained network survives its bundle and ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from geoseg.errors import ModelError, UsageError
from geoseg.model import (
    ARCHITECTURES,
    Engine,
    ModelBundle,
    Weights,
    architecture_named,
    build,
    choose_engine,
    parameter_shapes,
)
from geoseg.model.network import load_network
from geoseg.raster import Window
from tests.networks import random_network, tiny_bundle

ENCODER = {"encoder_name": "tu-tf_mobilenetv3_small_minimal_100"}
SIZES = {"in_channels": 3, "classes": 7}
OWN: dict[str, tuple[str, dict[str, Any]]] = {
    "FCN32s": ("FCN32s", ENCODER),
    "FCN16s with fc6 and fc7": ("FCN16s", {**ENCODER, "decoder_channels": 16}),
    "FCN8s": ("FCN8s", ENCODER),
    "LightFPN": ("LightFPN", {**ENCODER, "decoder_channels": 16}),
    "SegNet": ("SegNet", {"encoder_name": "vgg11_bn"}),
    "DeepLabV3 with an auxiliary head": ("DeepLabV3", {**ENCODER, "decoder_channels": 8, "aux_head": True}),
    "DeepLabV3Plus with an auxiliary head": ("DeepLabV3Plus", {**ENCODER, "decoder_channels": 8, "aux_head": True}),
    "PlainUnet": ("PlainUnet", {"depth": 3, "channels": 4, "dropout": 0.5}),
    "PlainUnet in groups": ("PlainUnet", {"depth": 2, "channels": 6, "norm": "group"}),
    "PlainUnet without skips": ("PlainUnet", {"depth": 2, "channels": 4, "skip": False, "batch_norm": False}),
    "Unet in groups": ("Unet", {**ENCODER, "encoder_depth": 3, "decoder_channels": [16, 8, 8], "norm": "group"}),
}


def probabilities(engine: Engine, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    valid = np.ones(image.shape[1:], bool)
    found = engine.probabilities(engine.upload(image, valid), [Window(0, 0, 64, 64)], Weights.ones(1, 64))
    return np.asarray(engine.download(found))


@pytest.mark.parametrize("architecture", ["Unet", "MAnet", "PSPNet"])
@pytest.mark.parametrize("encoder", ["mit_b0", "tu-convnext_atto"])
def test_an_encoder_without_layers_at_a_depth_is_refused(architecture: str, encoder: str) -> None:
    arguments: dict[str, Any] = {"encoder_name": encoder, "encoder_depth": 1, **SIZES}
    if architecture != "PSPNet":
        arguments["decoder_channels"] = [16]
    with pytest.raises(ModelError, match=f"{encoder} has no layers at encoder_depth 1; .* of at least 2"):
        build(architecture, arguments)


@pytest.mark.usefixtures("narrow_vgg")
@pytest.mark.parametrize("which", OWN)
def test_it_comes_back_from_its_bundle_and_onnx_agrees(tmp_path: Path, which: str) -> None:
    architecture, arguments = OWN[which]
    bundle = tiny_bundle(tmp_path, architecture=architecture, arguments=arguments)
    network = random_network(architecture, {**arguments, **SIZES})
    image = np.random.default_rng(1).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    gain, bias = (torch.from_numpy(side)[:, None, None] for side in bundle.normalization.gain_bias())
    normalized = (torch.from_numpy(image) * gain + bias)[None]
    with torch.no_grad():
        logits = network(normalized)
        before = torch.get_rng_state()
        assert torch.equal(load_network(bundle)(normalized), logits)
        assert torch.equal(torch.get_rng_state(), before), "what is read from a file was filled at random first"
        wanted = torch.softmax(network.double()(normalized.double()), dim=1).numpy()  # without torch's own roundings
    assert ModelBundle.open(bundle.weights_path).arguments == {**arguments, **SIZES}
    np.testing.assert_allclose(probabilities(choose_engine(bundle, "onnx").open(), image), wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("PlainUnet", {"depth": 99}),
        ("PlainUnet", {"depth": 0}),
        ("PlainUnet", {"depth": True}),
        ("PlainUnet", {"depth": 2.0}),
        ("PlainUnet", {"channels": 10**9}),
        ("PlainUnet", {"channels": 1024, "depth": 7}),
        ("PlainUnet", {"dropout": 1.5}),
        ("PlainUnet", {"dropout": float("nan")}),
        ("PlainUnet", {"skip": 1}),
        ("PlainUnet", {"batch_norm": "yes"}),
        ("PlainUnet", {"encoder_name": "resnet18"}),
        ("PlainUnet", {"norm": "layer"}),
        ("SegNet", {"encoder_name": "resnet18"}),
        ("SegNet", {"encoder_name": "vgg16_bn", "aux_head": True}),
        ("FCN8s", {}),
        ("FCN8s", {**ENCODER, "decoder_channels": 10**9}),
        ("FCN8s", {**ENCODER, "decoder_channels": True}),
        ("FCN8s", {**ENCODER, "decoder_dropout": -1}),
        ("FCN8s", {**ENCODER, "stride": 4}),
        ("FCN8s", {"encoder_name": "tu-hf-hub:someone/something"}),
        ("LightFPN", {}),
        ("LightFPN", {**ENCODER, "decoder_channels": 10**9}),
        ("LightFPN", {**ENCODER, "decoder_dropout": 2.0}),
        ("DeepLabV3", {**ENCODER, "aux_head": 1}),
        ("Unet", {**ENCODER, "aux_head": True}),
        ("Unet", {**ENCODER, "norm": ["group"]}),
    ],
    ids=str,
)
def test_hostile_arguments_are_refused(architecture: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as refusal:
        build(architecture, {**arguments, **SIZES})
    assert architecture in str(refusal.value)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("name", ["in_channels", "classes"])
@pytest.mark.parametrize("architecture", ["FCN8s", "LightFPN", "SegNet", "PlainUnet"])
def test_sizes_are_needed(architecture: str, name: str) -> None:
    arguments = {key: value for key, value in SIZES.items() if key != name}
    with pytest.raises(ModelError, match=rf"{architecture} needs the arguments .*{name}"):
        architecture_named(architecture).check(arguments | (ENCODER if architecture in {"FCN8s", "LightFPN"} else {}))


@pytest.mark.parametrize("which", OWN)
def test_divisor_is_the_least_size_that_keeps_the_size(which: str) -> None:
    architecture, arguments = OWN[which]
    divisor = architecture_named(architecture).divisor(arguments)
    with torch.device("meta"):
        network = build(architecture, {**arguments, **SIZES}).eval()
        image = torch.empty(1, 3, 2 * divisor, 3 * divisor)
        assert network(image).shape == (1, 7, 2 * divisor, 3 * divisor)


def test_window_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiple of 8"):
        tiny_bundle(tmp_path, architecture="PlainUnet", arguments={"depth": 3, "channels": 2}, window_px=60)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in {"PlainUnet", "SegNet"}])
def test_every_architecture_takes_norm_and_loses_its_batch_norm(architecture: str) -> None:
    encoder = "tu-vit_tiny_patch16_224" if architecture == "DPT" else "resnet18"
    with torch.device("meta"):
        network = build(architecture, {"encoder_name": encoder, **SIZES, "norm": "group"})
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("architecture", ["FCN8s", "LightFPN"])
def test_encoder_without_the_strides_is_refused(architecture: str) -> None:
    with pytest.raises(ModelError, match=r"tu-vit_tiny_patch16_224|no features of stride"):
        build(architecture, {"encoder_name": "tu-vit_tiny_patch16_224", **SIZES})
    assert parameter_shapes("FCN8s", {"encoder_name": "mit_b0", **SIZES})["segmentation_head.0.bias"] == (7,)


def test_argument_less_bundles_of_before_are_the_same_network() -> None:
    """Bundles older than the argument `norm` lack it; they still mean batch normalization."""
    arguments = {"encoder_name": "resnet18", **SIZES}
    assert parameter_shapes("Unet", arguments) == parameter_shapes("Unet", arguments | {"norm": "batch"})
    oracle = smp.Unet("resnet18", encoder_weights=None, classes=7).state_dict()
    assert parameter_shapes("Unet", arguments) == {key: tuple(tensor.shape) for key, tensor in oracle.items()}
