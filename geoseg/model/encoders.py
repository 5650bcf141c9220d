"""Encoders by name: those of smp's own list, and for 'tu-' of timm's; asking never calls home."""

from __future__ import annotations

import segmentation_models_pytorch as smp
import timm

from geoseg.errors import ModelError
from geoseg.model.untrusted import one_line
from geoseg.nearest import nearest

_RENAMED = ("timm-regnet", "timm-res2", "timm-resnest", "timm-mobilenetv3", "timm-gernet")
"""smp's older names for encoders that it takes from timm."""
_USUAL = "imagenet"

Scaling = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of red, green and blue, each from 0 to 1."""
IMAGENET: Scaling = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of nearly all weights (https://pytorch.org/vision/stable/models.html)."""
HALF: Scaling = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
"""Of networks by the Inception family's habit: values from -1 to 1."""
_DPN: Scaling = (124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3
_HALVED = ("inception", "xception", "timm-tf_efficientnet_lite")


def check_encoder(name: str) -> None:
    """Raise ModelError for an encoder that neither smp nor timm knows."""
    if name in smp.encoders.encoders:
        return
    timm_name = timm_name_of(name)
    if timm_name is not None and timm.is_model(timm_name):
        return
    known = [*smp.encoders.encoders, *(f"tu-{model}" for model in timm.list_models())]
    near = nearest(name, known)
    meant = "" if near is None else f"did you mean {near!r}? "
    raise ModelError(
        f"unknown encoder {one_line(name, 60)!r}; {meant}smp has {len(smp.encoders.encoders)} (resnet34, ...), "
        "and 'tu-' takes timm's (tu-convnext_tiny, ...)"
    )


def encoder_weights_of(name: str) -> tuple[str, ...]:
    """Return the names of the weights that can be fetched for an encoder: imagenet, noisy-student, ssl, ...

    For timm's encoders these are its tags, such as a1_in1k, and "imagenet" stands for the one timm takes by default.
    Empty if there are none. ModelError for an unknown encoder.
    """
    check_encoder(name)
    timm_name = timm_name_of(name)
    if timm_name is None:
        return tuple(smp.encoders.encoders[name]["pretrained_settings"])
    if not timm.models.is_model_pretrained(timm_name):
        return ()
    if "." in timm_name:
        return (_USUAL,)
    tags = (tagged.partition(".")[2] for tagged in timm.list_pretrained(f"{timm_name}.*"))
    return (_USUAL, *(tag for tag in tags if tag))


def fetchable(name: str, weights: str | None) -> tuple[str, str | bool | None]:
    """Return encoder and weights as smp wants them; ModelError, with the weights there are, for any other."""
    if weights is None:
        return name, None
    known = encoder_weights_of(name)
    if weights not in known:
        raise ModelError(
            f"encoder {name} has no weights {one_line(repr(weights), 40)}; there are {', '.join(known) or 'none'}; "
            "or give a file of weights, or start from random weights (encoder_weights none) or from a bundle"
        )
    if timm_name_of(name) is None:
        return name, weights
    return name if weights == _USUAL else f"{name}.{weights}", True


def scaling_of(name: str, weights: str | None) -> Scaling:
    """Return how pictures were scaled for an encoder when its pretrained weights learnt. ModelError as `fetchable`.

    None: weights of which nothing but the encoder is known; the usual ones are meant.

    timm says it of its own. smp keeps it beside the weights since 0.5, to be fetched; here it stands as smp 0.4 had it.
    """
    encoder, _ = fetchable(name, weights)
    timm_name = timm_name_of(encoder)
    if timm_name is not None:
        pretrained = timm.get_pretrained_cfg(timm_name)
        return (pretrained.mean, pretrained.std) if pretrained is not None else IMAGENET
    if weights == "advprop" or name.startswith(_HALVED):
        return HALF
    return _DPN if name.startswith("dpn") else IMAGENET


def timm_name_of(name: str) -> str | None:
    """Return timm's name of an encoder that smp takes from timm, None for smp's own."""
    if name.startswith("tu-"):
        return name.removeprefix("tu-")
    if name.startswith(_RENAMED):
        timm_name = name.removeprefix("timm-")
        return f"tf_{timm_name}" if timm_name.startswith("mobilenetv3") else timm_name
    return None
