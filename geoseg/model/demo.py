"""The model that comes with geoseg, and the word for it."""

from __future__ import annotations

import os
from pathlib import Path

DEMO = Path(__file__).with_name("demo.safetensors")
DEMO_NAME = "demo"


def is_demo(path: str | os.PathLike[str]) -> bool:
    """Say whether a path is the word for the model that comes with geoseg; a file or folder of that name wins."""
    return os.fspath(path) == DEMO_NAME and not Path(path).exists()
