"""Peak memory of `geoseg import` for a checkpoint of 340 MB, torch included, beside a process that only loads torch.

And how long a refusal takes.

python benchmarks/import_weights.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_ENCODER = "mit_b5"
"""A U-Net on it has 85 million weights."""
_WRITE = """
import sys, torch
from geoseg.model import build
network = build("Unet", {"encoder_name": sys.argv[1], "in_channels": 3, "classes": 19})
torch.save({f"model.seg_model.{name}": tensor for name, tensor in network.state_dict().items()}, sys.argv[2])
"""
"""Runs in its own process: a child process would inherit this one's peak memory."""


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "FLAIR-INC_rgb_15cl_mitb5-unet_weights.pth"
        subprocess.run([sys.executable, "-c", _WRITE, _ENCODER, str(source)], check=True)
        size = source.stat().st_size
        _, alone = finished("import segmentation_models_pytorch")
        _, peak = run("import", str(source), "--out", str(Path(folder) / "model.safetensors"), "-q")
        print(f"checkpoint {size / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB: {peak / size:.2f} times")
        print(f"a process that loads torch and smp, and does nothing: {alone / 1e6:.0f} MB, {alone / size:.2f} times")
        os.truncate(source, size // 2)
        seconds, peak = run("import", str(source), "--out", str(Path(folder) / "other.safetensors"), "-q")
        print(f"cut short: refused after {seconds:.2f} s, peak {peak / 1e6:.0f} MB")


def run(*words: str) -> tuple[float, int]:
    """Run a command; return its seconds and its peak memory in bytes."""
    return finished("import sys; from geoseg_cli.main import geoseg; geoseg(sys.argv[1:])", *words)


def finished(code: str, *words: str) -> tuple[float, int]:
    """Run Python code in a new process; return its seconds and its peak memory in bytes."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - start, usage.ru_maxrss * unit


if __name__ == "__main__":
    main()
