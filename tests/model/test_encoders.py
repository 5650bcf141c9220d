"""Names of encoders and of the weights that can be fetched for them; no test of this room may reach the network."""

from __future__ import annotations

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch

from geoseg.errors import ModelError
from geoseg.model import network as network_room
from geoseg.model.encoders import encoder_weights_of, fetchable
from geoseg.model.network import build

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
    ("architecture", "arguments", "weights", "wanted"),
    [
        ("Unet", {"encoder_name": "resnet18"}, "noisy-student", "there are imagenet, ssl, swsl"),
        ("FCN8s", {"encoder_name": "vgg16"}, "ssl", "has no weights 'ssl'"),
        ("SegNet", {}, "ssl", "encoder vgg16_bn has no weights"),
        ("PlainUnet", {}, "imagenet", "no encoder"),
        ("FCN8s", {"encoder_name": "resnet18"}, "swsl", "needs the network once.*random weights.*from a bundle"),
        ("SegNet", {"encoder_name": "vgg11_bn"}, "imagenet", "needs the network once.*from a bundle"),
        ("Unet", {"encoder_name": "tu-resnet18"}, "a1_in1k", "needs the network once.*from a bundle"),
    ],
)
def test_weights_that_cannot_be_had_are_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, architecture: str, arguments: dict[str, Any], weights: str, wanted: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=wanted) as refusal:
        build(architecture, {**arguments, **SIZES}, encoder_weights=weights)
    assert str(refusal.value).isprintable()


def test_weights_reach_smp_by_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def create(name: str, **arguments: Any) -> torch.nn.Module:
        asked.append({"name": name, **arguments})
        return torch.nn.Identity()

    monkeypatch.setattr(network_room.smp, "create_model", create)
    build("Unet", {"encoder_name": "timm-efficientnet-b0", **SIZES}, encoder_weights="noisy-student")
    build("Unet", {"encoder_name": "timm-efficientnet-b0", **SIZES})
    assert asked[0]["encoder_weights"] == "noisy-student"
    assert asked[1]["encoder_weights"] is None
