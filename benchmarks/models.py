"""The networks to measure, made once and kept in a work folder.

    python benchmarks/models.py FOLDER NAME

Runs as a separate process, so that torch's memory is not measured.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WINDOW_PX = 512
OVERLAP_PX = 128
ARGUMENTS = {
    "peers": (
        "deeplabv3plus",
        {"encoder_name": "timm-mobilenetv3_small_minimal_100", "in_channels": 3, "classes": 7},
    ),
    "unet": ("unet", {"encoder_name": "resnet34", "in_channels": 3, "classes": 7}),
    "small": ("fpn", {"encoder_name": "timm-mobilenetv3_small_minimal_100", "in_channels": 3, "classes": 7}),
}
"""Architecture and its arguments, by name.

`peers` is for the comparison, `unet` for GPUs, `small` if there is no demo model.
"""
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""ImageNet's mean and standard deviation, in units of uint8."""
_SEED = 0


def bundle(folder: Path, name: str) -> Path:
    """Return a bundle with fixed random weights; make it and export it to ONNX if it does not exist yet."""
    path = folder / f"{name}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"making {path.name}, kept for the next time", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, __file__, str(folder), name], check=True)
    return path


def _make(path: Path, name: str) -> None:
    import torch

    from geoseg import DEEPGLOBE, Normalization, save_bundle
    from geoseg.model import build

    architecture, arguments = ARGUMENTS[name]
    torch.manual_seed(_SEED)
    save_bundle(
        path,
        build(architecture, arguments).eval(),
        architecture=architecture,
        arguments=arguments,
        legend=DEEPGLOBE,
        normalization=Normalization(mean=MEAN, std=STD, value_range=(0, 255)),
        window_px=WINDOW_PX,
        overlap_px=OVERLAP_PX,
        name=f"{name}-random",
    )


if __name__ == "__main__":
    _make(Path(sys.argv[1]) / f"{sys.argv[2]}.safetensors", sys.argv[2])
