"""The formats specified in docs/, checked against newly written files."""

from __future__ import annotations

import re
from pathlib import Path

import rasterio

import geoseg
from tests.docs.blocks import ROOT

OF_SOME = {"GEOSEG_MODEL_HUB"}
"""Tags that only the maps of some models have; see tests/model/test_hub.py."""


def test_every_tag_of_a_map_is_in_its_specification(folder: Path) -> None:
    geoseg.predict("scene.tif", "fresh.tif", bbox=(1.7422, 45.1455, 1.7428, 45.1459), bbox_crs="EPSG:4326")
    with rasterio.open(folder / "fresh.tif") as landcover:
        written = {name for name in landcover.tags() if name.startswith("GEOSEG_")}
    rows = re.findall(
        r"^\| (`GEOSEG_.*?) \|", (ROOT / "docs" / "landcover.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == written | OF_SOME
