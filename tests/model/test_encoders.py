"""Names of encoders and of their downloadable weights; no test in this folder may reach the network."""

from __future__ import annotations

import contextlib
import socket
import time
import urllib.request
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants

from geoseg.errors import ModelError
from geoseg.model import IMAGENET, build, scaling_of
from geoseg.model.network import network as network_room
from geoseg.model.network.encoders import encoder_weights_of, fetchable

SIZES = {"in_channels": 3, "classes": 7}


@pytest.mark.parametrize(
    ("encoder", "weights"),
    [
        ("resnet18", ("imagenet", "ssl", "swsl")),
        ("efficientnet-b0", ("imagenet", "advprop")),
        ("timm-efficientnet-b4", ("imagenet", "advprop", "noisy-student")),
        ("timm-efficientnet-l2", ("noisy-student", "noisy-student-475")),
        ("vgg16_bn", ("imagenet",)),
    ],
)
def test_weights_are_smps(encoder: str, weights: tuple[str, ...]) -> None:
    assert encoder_weights_of(encoder) == weights


def test_weights_of_timm_are_its_tags() -> None:
    assert {"imagenet", "a1_in1k", "fb_swsl_ig1b_ft_in1k"} <= set(encoder_weights_of("tu-resnet18"))
    assert encoder_weights_of("tu-resnet18.a1_in1k") == ("imagenet",)
    assert "imagenet" in encoder_weights_of("timm-mobilenetv3_small_minimal_100")
    assert fetchable("tu-resnet18", "a1_in1k") == ("tu-resnet18.a1_in1k", True)
    assert fetchable("tu-resnet18", "imagenet") == ("tu-resnet18", True)
    with pytest.raises(ModelError, match="unknown encoder"):
        encoder_weights_of("tu-no_such")


def test_every_encoder_of_smp_has_weights_and_a_name() -> None:
    assert all(encoder_weights_of(name) for name in smp.encoders.encoders)


@pytest.mark.parametrize(
    ("encoder", "weights", "mean"),
    [
        ("resnet34", "imagenet", 0.485),
        ("timm-efficientnet-b4", "noisy-student", 0.485),
        ("timm-efficientnet-b4", "advprop", 0.5),
        ("timm-tf_efficientnet_lite0", "imagenet", 0.5),
        ("inceptionv4", "imagenet", 0.5),
        ("xception", "imagenet", 0.5),
        ("dpn68", "imagenet", 124 / 255),
    ],
)
def test_pictures_are_scaled_as_smps_weights_learnt_them(encoder: str, weights: str, mean: float) -> None:
    assert scaling_of(encoder, weights)[0][0] == mean


@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "regnetx_002", "resnest14d"])
def test_pictures_are_scaled_as_timms_weights_learnt_them(name: str) -> None:
    """smp takes these weights from timm, for MobileNetV3 those that TensorFlow trained."""
    tag = f"tf_{name}" if name.startswith("mobilenet") else name
    config = timm.create_model(tag).pretrained_cfg
    for encoder in (f"timm-{name}", f"tu-{tag}"):
        assert scaling_of(encoder, "imagenet") == (config["mean"], config["std"])


def test_a_tag_of_timm_has_its_own_scaling() -> None:
    assert scaling_of("tu-tf_efficientnet_b0", "ap_in1k")[0] == (0.5, 0.5, 0.5)
    assert scaling_of("tu-tf_efficientnet_b0", "aa_in1k") == IMAGENET
    with pytest.raises(ModelError, match="has no weights 'ap_in2k'"):
        scaling_of("tu-tf_efficientnet_b0", "ap_in2k")


@pytest.mark.parametrize(
    ("architecture", "arguments", "weights", "wanted"),
    [
        ("Unet", {"encoder_name": "resnet18"}, "noisy-student", "it has imagenet, ssl, swsl"),
        ("FCN8s", {"encoder_name": "vgg16"}, "ssl", "has no weights 'ssl'"),
        ("SegNet", {}, "ssl", "encoder vgg16_bn has no weights"),
        ("PlainUnet", {}, "imagenet", "no encoder"),
        ("FCN8s", {"encoder_name": "resnet18"}, "swsl", "needs the network once.*random weights.*from a bundle"),
        ("SegNet", {"encoder_name": "vgg11_bn"}, "imagenet", "needs the network once.*from a bundle"),
        ("Unet", {"encoder_name": "tu-resnet18"}, "a1_in1k", "needs the network once.*from a bundle"),
    ],
)
def test_weights_that_cannot_be_had_are_one_clear_line(
    architecture: str, arguments: dict[str, Any], weights: str, wanted: str
) -> None:
    with pytest.raises(ModelError, match=wanted) as refusal:
        build(architecture, {**arguments, **SIZES}, encoder_weights=weights)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(("offline", "said"), [(False, "cannot be reached"), (True, "TRANSFORMERS_OFFLINE is set")])
def test_weights_out_of_reach_are_one_line_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, said: str, *, offline: bool
) -> None:
    def unknown(*_: object) -> None:
        raise OSError("name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "nowhere")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    naps_s: list[float] = []
    monkeypatch.setattr(time, "sleep", naps_s.append)
    with pytest.raises(ModelError, match=rf"weights of vgg11_bn .*not cached on this machine and .* {said}"):
        build("SegNet", {"encoder_name": "vgg11_bn", **SIZES}, encoder_weights="imagenet")
    assert sum(naps_s) < 10  # it is not asked repeatedly, however slow the machine
    assert caplog.records == []
    assert constants.HF_HUB_OFFLINE is offline


def test_weights_reach_smp_by_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    monkeypatch.setattr(network_room, "fetching", contextlib.nullcontext)

    def create(name: str, **arguments: Any) -> torch.nn.Module:
        asked.append({"name": name, **arguments})
        return torch.nn.Identity()

    monkeypatch.setattr(smp, "create_model", create)
    build("Unet", {"encoder_name": "timm-efficientnet-b0", **SIZES}, encoder_weights="noisy-student")
    build("Unet", {"encoder_name": "timm-efficientnet-b0", **SIZES})
    assert asked[0]["encoder_weights"] == "noisy-student"
    assert asked[1]["encoder_weights"] is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("resnet3", "resnet3"),
        ("ResNet34", "resnet34"),
        ("tu-convnext_tinny", "tu-convnext_tiny"),
        ("mitt_b0", "mit_b0"),
    ],
)
def test_a_word_that_is_nearly_an_encoder_is_answered_with_it(typed: str, meant: str) -> None:
    with pytest.raises(ModelError, match=rf"did you mean '{meant}"):
        encoder_weights_of(typed)


def test_a_word_unlike_any_encoder_is_answered_with_none() -> None:
    with pytest.raises(ModelError) as fault:
        encoder_weights_of("zzzzzzzzzzzz")
    assert "did you mean" not in str(fault.value)
