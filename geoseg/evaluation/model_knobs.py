"""What `evaluate` may be told besides where the first is a model and the second a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from geoseg.model import is_demo

if TYPE_CHECKING:
    import geopandas


class ModelKnobs(TypedDict, total=False):
    """Knobs that a model and a data set have, and two rasters have not."""

    split: str
    """train, valid, test (the default) or all."""
    split_rule: str
    """How the parts are made: published, random:0.8, blocks:0.2, folders, or a file of ids. Default: as trained."""
    bands: Sequence[int | str]
    """Of the scenes, from 1 or by name, in the model's order."""
    gsd_m: float
    """Of scenes that do not say."""
    labels: str | os.PathLike[str] | geopandas.GeoDataFrame
    """Of scenes whose labels lie elsewhere."""
    tolerance: float
    """Share of a label image's pixels that may have a colour without class."""
    device: str
    batch_size: int
    window: int
    overlap: int
    blend: str
    tta: int
    """Symmetries of the square that are averaged: 1, 2, 4 or 8."""
    scale: tuple[float, float]
    """The range of stored values that stands for the model's."""
    cache: str | os.PathLike[str]
    """Folder for decoded scenes."""


def is_model(path: str | os.PathLike[str]) -> bool:
    """Say whether a path is a model's, not a map's: a .safetensors file, a folder of save_pretrained's, or "demo"."""
    return Path(path).suffix.lower() == ".safetensors" or (Path(path) / "config.json").is_file() or is_demo(path)
