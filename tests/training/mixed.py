"""A small mixture: tiles with two legends, images with one label each, synthetic landscapes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from geoseg.training import Recipe
from tests.training.tiny import COLORS, TINY, write_picture

GROUND = ("roof", "field", "grass", "trees", "lake", "sand", "cloud")
"""Classes of the coded tiles: DEEPGLOBE's under other names."""
MEANT: dict[str, Any] = {
    "roof": "urban_land",
    "field": "agriculture_land",
    "grass": ["rangeland", "agriculture_land"],
    "trees": {"not": ["water", "urban_land"]},
    "lake": "water",
    "sand": "barren_land",
    "cloud": None,
}
RECIPE: Recipe = replace(TINY, gsd_m=0.5, loss="cross-entropy + 0.5 dice", batch_size=3)


def write_mixture(folder: Path, *, synthetic: bool = False, **changed: dict[str, Any]) -> Path:
    """Write data sets and the mixture file that lists them; `changed` overrides entries by the data set's name."""
    draw = np.random.default_rng(5)
    for number in range(3):
        codes = np.kron(draw.integers(0, 7, (8, 8)), np.ones((16, 16), np.int64)).astype(np.uint8)
        place = {"crs": "EPSG:32631", "transform": Affine(0.5, 0, 4e5 + 100 * number, 0, -0.5, 5e6)}
        _write(folder / f"tiles/images/{number}.tif", COLORS[codes].transpose(2, 0, 1) // 2 + 60, **place)
        _write(folder / f"tiles/labels/{number}.tif", codes[None], **place)
    legend = [{"code": code, "name": name} for code, name in enumerate(GROUND)]
    (folder / "ground.json").write_text(json.dumps(legend), encoding="utf-8")
    for name, code in (("woods", 3), ("shore", 4), ("ploughed", 1)):
        for number in range(3):
            pixels = np.broadcast_to(COLORS[code], (40, 40, 3)) // 2 + draw.integers(0, 60, (40, 40, 3))
            (folder / "whole" / name).mkdir(parents=True, exist_ok=True)
            write_picture(folder / "whole" / name / f"{number}.jpg", pixels)
    members: list[dict[str, Any]] = [
        {
            "path": "tiles", "share": 0.6, "gsd_m": [0.4, 1.2], "legend": "ground.json", "classes": MEANT,
            "split": "random:0.6",
        },
        {
            "path": "whole", "share": 0.4, "gsd_m": [0.5, 0.8], "data_gsd_m": 0.5, "mosaic": 4,
            "classes": {"woods": "forest_land", "shore": ["water", "barren_land"], "ploughed": "agriculture_land"},
            "weights": {"woods": 2},
        },
    ]  # fmt: skip
    if synthetic:
        members.append({"synthetic": {"scenes": 2, "size_px": 96}, "share": 0.2})
    for member in members:
        member.update(changed.get(member.get("path", "synthetic"), {}))
    return write_members(folder / "mixture.json", members)


def write_members(file: Path, members: list[dict[str, Any]], legend: object = "deepglobe") -> Path:
    """Write a mixture file."""
    members = [{key: value for key, value in member.items() if value != "-"} for member in members]
    file.write_text(json.dumps({"legend": legend, "datasets": members}), encoding="utf-8")
    return file


def _write(path: Path, data: np.ndarray, **profile: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = data.shape
    shape = {"count": count, "height": height, "width": width, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as file:
        file.write(data.astype(np.uint8))
