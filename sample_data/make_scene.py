"""Make the sample scene and its truth again: `python sample_data/make_scene.py`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import rasterio.shutil

from geoseg.legend import DEEPGLOBE
from geoseg.raster.landcover import LEGEND_TAG
from geoseg.synthetic import Landscape, write_landscape

LANDSCAPE = Landscape(seed=63, height_px=2048, width_px=3072)
"""A town on a river, with halls, woods, fields, lakes, dry grass and red earth; no seed the demo model learned from."""


def main(folder: Path) -> None:
    """Write scene.tif (a COG, JPEG as most imagery on the web) and truth.tif (a COG without loss, with its legend)."""
    with tempfile.TemporaryDirectory() as scratch:
        scene, truth = Path(scratch) / "scene.tif", Path(scratch) / "truth.tif"
        write_landscape(LANDSCAPE, scene, truth)
        with rasterio.open(truth, "r+") as file:
            file.update_tags(**{LEGEND_TAG: json.dumps(DEEPGLOBE.to_json())})
        shared = {"driver": "COG", "BLOCKSIZE": 512}
        rasterio.shutil.copy(scene, folder / "scene.tif", COMPRESS="JPEG", QUALITY=85, **shared)
        rasterio.shutil.copy(truth, folder / "truth.tif", COMPRESS="DEFLATE", OVERVIEW_RESAMPLING="MODE", **shared)
    for path in (folder / "scene.tif", folder / "truth.tif"):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(__file__).parent)
