"""The cost of training besides the network: waiting for data, and validation compared with bare forward passes.

    python benchmarks/training.py --work FOLDER [--device cpu] [--batches 40] [--json PATH] [--quick]

waiting      share of a training in which the network waits for its next batch; on a GPU U-Net/ResNet34 at 512 px,
             on a CPU the recipe `default`
validation   time to validate a whole 2448 x 2448 tile, beside the same network run on the same windows, pixels ready in
             memory; in turn, the best of each. With U-Net/ResNet34, and on a CPU with the recipe `default` too, whose
             network is so small that what is done beside it shows

Tiles are synthetic landscapes, made once and kept in the folder (60 MB).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from report import Report

from geoseg.dataset import open_dataset, split
from geoseg.legend import DEEPGLOBE
from geoseg.raster import Window, WindowGrid
from geoseg.synthetic import Landscape, write_landscape
from geoseg.training import Recipe
from geoseg.training.callbacks import Callbacks
from geoseg.training.loop import Learner, fit
from geoseg.training.network import start_network
from geoseg.training.plan import TrainingPlan, plan_training
from geoseg.training.validation import LiveEngine, score_scene

TILE_PX, TILES = 2448, 4
WAITING_CPU, WAITING_GPU, VALIDATION = 0.02, 0.05, 1.1
"""Promised: shares of the time of a step; a multiple of the bare forward passes."""
UNET = Recipe(architecture="Unet", encoder="resnet34", arguments_text="{}", init=None, crop_px=512, batch_size=16)
_UNET, _SMALL = "U-Net/ResNet34", "the recipe default"


def main() -> int:
    """Measure, print, and return 1 if a figure was missed."""
    arguments = _arguments()
    size_px = 512 if arguments.quick else TILE_PX
    data = make_tiles(arguments.work, size_px)
    small = "Small tiles, which say nothing; " if arguments.quick else ""
    report = Report("Training", f"{small}{arguments.batches} batches; validation the best of {arguments.rounds}.")
    small_learner, learner = (_learner(data, arguments, recipe) for recipe in (Recipe(), UNET))
    trained = small_learner if arguments.device == "cpu" else learner
    waiting = _waiting(report, trained, arguments.device)
    wanted = WAITING_CPU if arguments.device == "cpu" else WAITING_GPU
    report.figure("share of a step spent waiting for data", waiting, wanted=wanted, at_least=False)
    for name, each in ((_UNET, learner), (_SMALL, small_learner)):
        if name == _SMALL and arguments.device != "cpu":
            continue
        ratio = _validation(report, name, each, arguments.device, arguments.rounds)
        figure = f"validation of a tile with {name}, times its bare forward passes"
        report.figure(figure, ratio, wanted=VALIDATION, at_least=False)
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for tiles and their cache, kept")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or mps")
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--quick", action="store_true", help="small tiles, to try the program")
    return parser.parse_args()


def make_tiles(work: Path, size_px: int) -> Path:
    """Render the missing tiles, and return the folder of the data set."""
    folder = work / f"tiles{size_px}"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for seed in range(TILES):
        image, labels = folder / "images" / f"{seed}.tif", folder / "labels" / f"{seed}.tif"
        if not labels.exists():
            write_landscape(Landscape(seed, size_px, size_px), image, labels)
    return folder


def _learner(data: Path, arguments: argparse.Namespace, recipe: Recipe) -> Learner:
    dataset = open_dataset(data, legend=DEEPGLOBE)
    ids = [pair.id for pair in dataset.pairs]
    parts = arguments.work / "split.csv"
    lines = [f"{name},{'valid' if name == ids[0] else 'train'}" for name in ids]
    parts.write_text("id,part\n" + "\n".join(lines) + "\n", encoding="utf-8")
    recipe = recipe.changed(epochs=1, batches=arguments.batches, gsd_m=None)
    plan = plan_training(dataset, split(dataset, str(parts)), recipe, arguments.work / "cache", print)
    return Learner(plan, start_network(plan, print), plan.recipe.lr or 1e-4, Callbacks())


def _waiting(report: Report, learner: Learner, device: str) -> float:
    """Return the share of a training's time in which the network waits for its next batch."""
    moments: list[tuple[float, float]] = []

    def note(*_: object) -> None:
        waited = learner.loader.waited_s if learner.loader is not None else 0.0
        moments.append((time.perf_counter(), waited))

    valid, learner.plan = learner.plan.valid, _without_validation(learner.plan)
    learner.callbacks = Callbacks(batch=note)
    with tempfile.TemporaryDirectory() as folder:
        fit(learner, device, 1, Path(folder))
    learner.plan = _with_validation(learner.plan, valid)
    (begin, waited_before), (end, waited) = moments[2], moments[-1]  # the first two warm up
    seconds = (end - begin) / (len(moments) - 3)
    report.add(what="a step", seconds=seconds, waiting_s=(waited - waited_before) / (len(moments) - 3))
    return (waited - waited_before) / (end - begin)


def _without_validation(plan: TrainingPlan) -> TrainingPlan:
    return _with_validation(plan, ())


def _with_validation(plan: TrainingPlan, valid: tuple[object, ...]) -> TrainingPlan:
    return replace(plan, valid=valid)


def _validation(report: Report, name: str, learner: Learner, device: str, rounds: int) -> float:
    """Return the time to validate a whole tile over that of its bare forward passes."""
    plan = learner.plan
    network = learner.kept.to(device).eval()
    engine = LiveEngine(network, plan.normalization, len(plan.output_codes))
    whole, bare = [], []
    score_scene(plan, engine, plan.valid[0])
    for _ in range(rounds):
        bare.append(_bare(plan, network, device))
        begin = time.perf_counter()
        score_scene(plan, engine, plan.valid[0])
        whole.append(time.perf_counter() - begin)
    report.add(what=f"validation of a tile with {name}", seconds=min(whole))
    report.add(what="its bare forward passes", seconds=min(bare))
    return min(whole) / min(bare)


@torch.no_grad()
def _bare(plan: TrainingPlan, network: torch.nn.Module, device: str) -> float:
    """Return the time of the network alone on the windows of a tile, in the batches of validation."""
    scene = plan.valid[0]
    grid = WindowGrid(*scene.shape, plan.window_px, plan.overlap_px)
    count = len(grid.windows_touching(Window(0, 0, *scene.shape)))
    columns = len(grid.col_starts)
    batch = torch.randn(-(-columns // -(-columns // 4)), len(plan.bands), plan.window_px, plan.window_px)
    batch = batch.to(device, memory_format=torch.channels_last)
    begin = time.perf_counter()
    for _ in range(-(-count // len(batch))):
        network(batch)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
