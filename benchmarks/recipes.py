"""Train every named recipe for a few steps at its real sizes: its loss must fall, and its bundle must predict.

    python benchmarks/recipes.py --work FOLDER [--only NAME,NAME] [--minutes 2] [--batch-size 2] [--device cpu]

The loss is the recipe's own, on the same crops of the same tiles before and after, not augmented, with the same
dropout. Batch norm takes its statistics from these crops both times, as in training: the running statistics of a random
network mean nothing. "Before" is the network as initialized from the seed, "after" is the bundle's.

Each recipe has its own network, sizes, loss and rate, over ten epochs of as many batches as are likely to fit in the
minutes, at least one. Pretrained encoders are left out, because they must be downloaded. This checks that each recipe
runs and learns, not how well. Tiles are synthetic landscapes, made once and kept in the folder, like those of
training.py.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from report import Report
from training import TILES, make_tiles

import geoseg
from geoseg.model.network import load_network
from geoseg.training import RECIPES, recipe_named
from geoseg.training.callbacks import Callbacks
from geoseg.training.loop import Learner
from geoseg.training.network import start_network
from geoseg.training.plan import plan_training

_TILE_PX = 1024
_SCENE_PX = 512
_EPOCHS = 10
"""Half of the longest learning rate cycle of a recipe: in fewer epochs its rate would not have risen."""
_CROPS = range(1_000_000, 1_000_004)
"""Numbers of the batches used for the loss: none of training's, as a batch depends only on seed and number."""
_STEP = 4.0
"""Approximate time of a step, in forward passes without gradients."""


def main() -> int:
    """Train each, print, and return 1 if a loss did not fall or a bundle left pixels without a class."""
    arguments = _arguments()
    names = arguments.only.split(",") if arguments.only else list(RECIPES)
    data = make_tiles(arguments.work, _TILE_PX)
    scene, truth = _scene(arguments.work, data)
    dataset = geoseg.open_dataset(data, legend=geoseg.DEEPGLOBE)
    most = np.bincount(truth.ravel()).max() / truth.size
    report = Report(
        "Recipes",
        f"{_EPOCHS} epochs of batches of {arguments.batch_size} crops, loss of {len(_CROPS)} other batches; "
        f"a map of the scene's largest class alone would be right on {most:.3f} of it.",
    )
    for name in names:
        learnt = _learn(arguments, dataset, name)
        found = _mapped(arguments, name, scene)
        report.add(recipe=name, **learnt, classes=len(np.unique(found)), right=float((found == truth).mean()))
        fallen = learnt["loss_after"] / learnt["loss_before"]
        report.figure(f"{name}: loss after, times that before", fallen, wanted=1.0, at_least=False)
        mapped = float((found != geoseg.NODATA).mean())
        report.figure(f"{name}: share of the scene mapped", mapped, wanted=1.0, at_least=True)
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for tiles and their cache, kept")
    parser.add_argument("--only", help="recipes, between commas [default: all]")
    parser.add_argument("--minutes", type=float, default=2, help="of training, for each, about [default: 2]")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser.parse_args()


def _learn(arguments: argparse.Namespace, dataset: geoseg.Dataset, name: str) -> dict[str, Any]:
    """Write a recipe's bundle; return the number of batches it was trained on, and the loss before and after."""
    recipe = recipe_named(name).changed(encoder_weights=None, batch_size=arguments.batch_size, epochs=_EPOCHS)
    parts, cache = geoseg.split(dataset, "all"), arguments.work / "cache"
    plan = plan_training(dataset, parts, recipe.changed(augmentation="none"), cache, print)
    judge = Learner(plan, start_network(plan, print), 0.0, Callbacks()).to(arguments.device)
    begin = time.perf_counter()
    before = _loss(judge)
    forward_s = (time.perf_counter() - begin) / len(_CROPS)
    batches = max(1, round(60 * arguments.minutes / (_STEP * forward_s * _EPOCHS)))
    out = _bundle(arguments, name)
    begin = time.perf_counter()
    bundle = geoseg.train(
        dataset,
        out,
        recipe=recipe,
        batches=batches,
        split_rule="all",
        cache=cache,
        device=arguments.device,
        overwrite=True,
    )
    minutes = (time.perf_counter() - begin) / 60
    shutil.rmtree(out.with_name(out.name + ".training"))
    judge.network.load_state_dict(load_network(bundle).state_dict())
    return {
        "crop_px": recipe.crop_px,
        "lr": recipe.lr,
        "batches": _EPOCHS * batches,
        "minutes": minutes,
        "loss_before": before,
        "loss_after": _loss(judge),
    }


@torch.no_grad()
def _loss(judge: Learner) -> float:
    """Return the mean loss over the crops, always the same ones, with the network in training mode."""
    judge.network.train()
    torch.manual_seed(0)  # of dropout
    losses = []
    for number in _CROPS:
        image, targets = judge.seen_by_network(judge.batch(number))
        losses.append(float(judge.loss(judge.network(image), targets)))
    return sum(losses) / len(losses)


def _mapped(arguments: argparse.Namespace, name: str, scene: Path) -> NDArray[np.uint8]:
    """Return the codes (row, col) that a recipe's bundle predicts for a scene."""
    landcover = arguments.work / "landcover.tif"
    device = "torch-cpu" if arguments.device == "cpu" else arguments.device  # exports nothing for one map
    geoseg.predict(scene, landcover, model=_bundle(arguments, name), device=device, overwrite=True)
    with rasterio.open(landcover) as dataset:
        codes: NDArray[np.uint8] = dataset.read(1)
    return codes


def _bundle(arguments: argparse.Namespace, name: str) -> Path:
    return Path(arguments.work) / f"{name}.safetensors"


def _scene(work: Path, data: Path) -> tuple[Path, NDArray[np.uint8]]:
    """Return a corner of the last tile as a scene, and its true codes (row, col)."""
    path, corner = work / "scene.tif", ((0, _SCENE_PX), (0, _SCENE_PX))
    if not path.exists():
        with rasterio.open(data / "images" / f"{TILES - 1}.tif") as tile:
            profile = tile.profile | {"height": _SCENE_PX, "width": _SCENE_PX}
            pixels = tile.read(window=corner)
        with rasterio.open(path, "w", **profile) as scene:
            scene.write(pixels)
    with rasterio.open(data / "labels" / f"{TILES - 1}.tif") as labels:
        codes: NDArray[np.uint8] = labels.read(1, window=corner)
    return path, codes


if __name__ == "__main__":
    sys.exit(main())
