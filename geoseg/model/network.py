"""Names and numbers become a torch network; weights are let in only where they fit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch

from geoseg.errors import ModelError
from geoseg.model.architectures import architecture_named
from geoseg.model.bundle import ModelBundle, file_hash
from geoseg.model.header import Header, read_header
from geoseg.model.untrusted import one_line

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_RENAMED = ("timm-regnet", "timm-res2", "timm-resnest", "timm-mobilenetv3", "timm-gernet")
"""smp's older names for encoders that it takes from timm."""


def build(architecture: str, arguments: Mapping[str, Any], encoder_weights: str | None = None) -> torch.nn.Module:
    """Return a new network: (n, band, row, col) float32 to logits (n, class, row, col).

    encoder_weights, such as "imagenet", makes smp fetch them, for training; a bundle is always loaded with None. Raises
    ModelError for an unknown architecture, encoder or argument, and when the weights cannot be fetched.
    """
    kind = architecture_named(architecture)
    kind.check(arguments)
    _check_encoder(arguments["encoder_name"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the names of encoders outlive smp's taste in them
            network: torch.nn.Module = smp.create_model(kind.name, encoder_weights=encoder_weights, **arguments)
    except Exception as fault:  # noqa: BLE001 (smp, timm and what they fetch with raise whatever they like)
        raise ModelError(_why_not_built(kind.name, arguments, encoder_weights, fault)) from None
    return network


def load(bundle: ModelBundle) -> torch.nn.Module:
    """Return the network of a bundle on the CPU in float32, in evaluation mode, without gradients.

    The network is first built without memory and compared with the file's header, so that a small file cannot ask for a
    large network. ModelError if the weights do not fit, are not finite, or the file is not the one the bundle was
    opened from.
    """
    check_fit(bundle.architecture, bundle.arguments, read_header(bundle.weights_path), bundle.name)
    if file_hash(bundle.weights_path) != bundle.weights_hash:
        raise ModelError(f"{bundle.weights_path} has changed since it was opened; start again")
    network = build(bundle.architecture, bundle.arguments)
    weights = safetensors.torch.load_file(bundle.weights_path)
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"{bundle.weights_path} holds weights that are not finite, in {one_line(name, 60)}; train again"
            )
    _load_strictly(network, weights, bundle.name)
    return network.eval().requires_grad_(False)


def check_fit(architecture: str, arguments: Mapping[str, Any], header: Header, name: str) -> None:
    """Raise ModelError unless the tensors of a header are exactly the architecture's; takes no memory for either."""
    try:
        with torch.device("meta"):
            network = build(architecture, arguments)
    except ModelError as fault:
        if "meta tensors" not in str(fault) or arguments["encoder_name"] not in smp.encoders.encoders:
            raise
        network = build(
            architecture, arguments
        )  # smp's mit_b0 to b5 cannot be built without memory; 82 million weights at most
    shapes = {
        tensor.name: torch.empty(tensor.shape, dtype=_DTYPES[tensor.dtype], device="meta") for tensor in header.tensors
    }
    wanted = {key: tensor.is_floating_point() for key, tensor in network.state_dict().items()}
    mixed = [
        key
        for key, tensor in shapes.items()
        if wanted.get(key, tensor.is_floating_point()) != tensor.is_floating_point()
    ]
    if mixed:
        raise ModelError(f"the weights of {name} are no {architecture}: {one_line(mixed[0], 60)} has another data type")
    _load_strictly(network.to("meta"), shapes, name)


def _load_strictly(network: torch.nn.Module, weights: dict[str, torch.Tensor], name: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a tensor without memory takes no values
            network.load_state_dict(weights, strict=True)
    except (RuntimeError, KeyError, ValueError) as fault:
        reason = one_line(str(fault).partition(":\n")[2] or fault)
        raise ModelError(f"the weights of {name} do not fit its architecture: {reason}") from None


def _check_encoder(name: str) -> None:
    """Only names of smp's own list, and for 'tu-' of timm's; neither ever asks the network."""
    if name in smp.encoders.encoders:
        return
    timm_name = name.removeprefix("tu-")
    if name.startswith(_RENAMED):
        timm_name = name.removeprefix("timm-")
        timm_name = f"tf_{timm_name}" if timm_name.startswith("mobilenetv3") else timm_name
    if timm_name != name and timm.is_model(timm_name):
        return
    raise ModelError(
        f"unknown encoder {one_line(name, 60)!r}; smp has {len(smp.encoders.encoders)} (resnet34, ...), "
        "and 'tu-' takes timm's (tu-convnext_tiny, ...)"
    )


def _why_not_built(name: str, arguments: Mapping[str, Any], encoder_weights: str | None, fault: Exception) -> str:
    encoder = arguments["encoder_name"]
    if encoder_weights is not None:
        return (
            f"{name} with the {encoder_weights} weights of {encoder} cannot be built: {one_line(fault)}; fetching them "
            "needs the network once; without, start from random weights (encoder_weights=None)"
        )
    return f"{name} with encoder {encoder} cannot be built: {one_line(fault)}"
