"""Every named recipe trained for a few steps at its real sizes: its loss falls, and its bundle predicts.

    python benchmarks/recipes.py --work FOLDER [--only NAME,NAME] [--batches 12] [--batch-size 2] [--device cpu]

Pretrained encoders are left out (they must be fetched), batches are small: a check that each recipe runs and learns, no
measure of how well. Tiles are synthetic landscapes, made once and kept in the folder, as training.py's.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from report import Report
from training import TILES, make_tiles

import geoseg
from geoseg.training.history import read_history
from geoseg.training.recipes import RECIPES

_TILE_PX = 1024
_SCENE_PX = 512


def main() -> int:
    """Train each, print, and return 1 if a loss did not fall or a bundle did not predict."""
    arguments = _arguments()
    names = arguments.only.split(",") if arguments.only else list(RECIPES)
    data = make_tiles(arguments.work, _TILE_PX)
    report = Report("Recipes", f"Two epochs of {arguments.batches} batches of {arguments.batch_size} crops each.")
    for name in names:
        first, last, seconds, classes = _try(arguments, data, name)
        report.add(recipe=name, loss_first=first, loss_last=last, seconds_a_batch=seconds, classes_mapped=classes)
        report.figure(f"{name}: second epoch's loss, times the first's", last / first, wanted=1.0, at_least=False)
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for tiles and their cache, kept")
    parser.add_argument("--only", help="recipes, between commas [default: all]")
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser.parse_args()


def _try(arguments: argparse.Namespace, data: Path, name: str) -> tuple[float, float, float, int]:
    """Return the loss of the first and the second epoch, seconds a batch, and how many classes the bundle maps."""
    out = arguments.work / f"{name}.safetensors"
    begin = time.perf_counter()
    geoseg.train(
        data,
        out,
        recipe=name,
        legend=geoseg.DEEPGLOBE,
        split_rule="all",
        cache=arguments.work / "cache",
        device=arguments.device,
        overwrite=True,
        encoder_weights=None,
        batch_size=arguments.batch_size,
        batches=arguments.batches,
        epochs=2,
    )
    seconds = (time.perf_counter() - begin) / (2 * arguments.batches)
    rows = read_history(out.with_name(out.name + ".training") / "history.csv")
    landcover = arguments.work / "landcover.tif"
    geoseg.predict(_scene(arguments.work, data), landcover, model=out, overwrite=True)
    with rasterio.open(landcover) as dataset:
        classes = len(set(np.unique(dataset.read(1)).tolist()) - {geoseg.NODATA})
    shutil.rmtree(out.with_name(out.name + ".training"))
    return rows[0].train_loss, rows[1].train_loss, seconds, classes


def _scene(work: Path, data: Path) -> Path:
    """Return a corner of the last tile as a scene of its own."""
    path = work / "scene.tif"
    if not path.exists():
        with rasterio.open(data / "images" / f"{TILES - 1}.tif") as tile:
            profile = tile.profile | {"height": _SCENE_PX, "width": _SCENE_PX}
            pixels = tile.read(window=((0, _SCENE_PX), (0, _SCENE_PX)))
        with rasterio.open(path, "w", **profile) as scene:
            scene.write(pixels)
    return path


if __name__ == "__main__":
    sys.exit(main())
