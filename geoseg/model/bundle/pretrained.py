"""Folders written by segmentation-models-pytorch's `save_pretrained`: nothing is run, nothing is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoseg.errors import ModelError, listed, one_line
from geoseg.model.bundle.architectures import TIMM_ARGUMENTS, UPERNET_04_ARGUMENTS, architecture_named
from geoseg.model.bundle.header import readable, refuse_foreign_folder
from geoseg.model.bundle.safe_json import parse_json

_MAX_CONFIG_BYTES = 2**20
PICKLES = ("pytorch_model.bin", "model.bin", "model.pth", "model.pt")
"""Weights files that older folders have instead of model.safetensors, the most common first."""
_IMPORT = "geoseg import (in Python geoseg.import_weights)"
_ACTIVATIONS = (None, "identity", "softmax", "softmax2d")
"""geoseg takes logits and applies the softmax itself, so dropping these loses nothing."""
_BINARY_ACTIVATIONS = (None, "identity", "sigmoid")
_NORM = {"decoder_use_batchnorm": "decoder_use_norm"}
_RENAMED: dict[str, dict[str, str]] = {
    "Unet": _NORM,
    "UnetPlusPlus": _NORM,
    "MAnet": _NORM,
    "Linknet": _NORM,
    "PSPNet": {"psp_use_batchnorm": "decoder_use_norm"},
    "PAN": {"upscale_mode": "decoder_interpolation"},
}
"""Arguments that had another name in smp 0.3 and 0.4, by architecture.

Since 0.5, smp writes both names if the old one was given, and the old one counts. Other architectures ignore the old
names. The UPerNet of 0.4 is another network, which smp itself no longer loads: here it is UPerNet04.
"""


def read_config(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the architecture's name and arguments.

    ModelError if the folder lacks config.json or model.safetensors, or the config has anything unknown.
    """
    _check_files(folder)
    architecture, arguments, has_second_head = read_architecture(folder)
    if has_second_head:
        raise ModelError(f"{folder} has a second head, a classifier (aux_params); {_IMPORT} leaves it out")
    return architecture, arguments


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(
            f"{folder} is not a folder; smp's save_pretrained writes one with config.json and model.safetensors"
        )
    refuse_foreign_folder(folder)
    pickles = [name for name in PICKLES if (folder / name).is_file()]
    if not (folder / "model.safetensors").is_file():
        if pickles:
            raise ModelError(
                f"{folder} holds only {pickles[0]}, a pickle, which can run any code when opened; {_IMPORT} makes a "
                "bundle from it and runs nothing"
            )
        models = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in {".onnx", ".safetensors"})
        if models:
            raise ModelError(f"{folder} is a folder; give the model in it: {listed(map(one_line, models), 3)}")
        raise ModelError(
            f"{folder} is a folder without model.safetensors; smp's save_pretrained writes that and config.json"
        )


def read_architecture(folder: Path) -> tuple[str, dict[str, Any], bool]:
    """Return the architecture's name and arguments, and whether a second, classifying head is saved with it.

    ModelError if the folder has no config.json, or one with anything unknown.
    """
    config = parse_json(_read(folder / "config.json"), str(folder / "config.json"))
    if not isinstance(config, dict):
        raise ModelError(f"{folder / 'config.json'} must be an object, got {one_line(repr(config), 60)}")
    name = config.pop("_model_class", None)
    if name == "UPerNet" and any(argument in config for argument in UPERNET_04_ARGUMENTS):
        name = "UPerNet04"
    if name is None:
        raise _foreign_folder_error(folder, config)
    architecture = architecture_named(name)
    has_second_head = config.pop("aux_params", None) is not None
    arguments = _arguments(architecture.name, config, folder)
    architecture.check(arguments)
    return architecture.name, arguments, has_second_head


def _foreign_folder_error(folder: Path, config: Mapping[str, Any]) -> ModelError:
    """Return the error for a folder with a config.json from a library other than smp."""
    if isinstance(config.get("architecture"), str) and "num_features" in config:  # written by timm, not by geoai
        name = one_line(config["architecture"], 60)
        return ModelError(
            f"{folder} holds a timm encoder, {name}, which maps no classes; train a network that starts from it: "
            f"geoseg train (in Python geoseg.train) with `encoder='tu-{name}'`"
        )
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures:
        return ModelError(
            f"{folder} holds {one_line(architectures[0], 60)} of the transformers library, which geoseg cannot "
            "build; export it to ONNX and use that: optimum-cli export onnx --model FOLDER "
            "--task semantic-segmentation OUT; or, if optimum cannot, make it a function: ModelBundle.from_callable"
        )
    return ModelError(
        f"{folder / 'config.json'} names no network (_model_class, as smp's save_pretrained writes it); "
        f"give the weights file itself to {_IMPORT}"
    )


def _read(path: Path) -> bytes:
    with readable(path), path.open("rb") as file:
        text = file.read(_MAX_CONFIG_BYTES + 1)
    if len(text) > _MAX_CONFIG_BYTES:
        raise ModelError(f"{path} is over {_MAX_CONFIG_BYTES} bytes; smp writes about 1,000")
    return text


def _arguments(architecture: str, config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the arguments that shape the network, under their current names."""
    config.pop("encoder_weights", None)  # the trained weights are in the folder
    activation, is_binary = config.pop("activation", None), config.get("classes") == 1
    if activation not in (_BINARY_ACTIVATIONS if is_binary else _ACTIVATIONS):
        expected = "sigmoid, which is what one channel means" if is_binary else "softmax"
        several = (
            f" over {one_line(config.get('classes'), 20)} channels, a multi-label network whose classes overlap"
            if activation in {"sigmoid", "logsoftmax"} and not is_binary
            else ""
        )
        raise ModelError(
            f"{folder} has the activation {one_line(repr(activation), 40)}{several}; geoseg gives each pixel one class "
            f"and needs {expected}, or none"
        )
    for old in {old for names in _RENAMED.values() for old in names} & config.keys():
        value, new = config.pop(old), _RENAMED.get(architecture, {}).get(old)
        if value is not None and new is not None:
            config[new] = value
    # smp ignores names that start with an underscore, timm ignores nulls
    return {
        name: value
        for name, value in config.items()
        if not name.startswith("_") and not (value is None and name in TIMM_ARGUMENTS)
    }
