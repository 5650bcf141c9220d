"""A data set that a small network learns in seconds, and trainings on it."""

from __future__ import annotations

import csv
import multiprocessing
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from geoseg.dataset import open_dataset, split
from geoseg.legend import DEEPGLOBE
from geoseg.training import Recipe, train
from geoseg.training.callbacks import Callbacks
from geoseg.training.loop import Learner
from geoseg.training.network import start_network
from geoseg.training.plan import TrainingPlan, plan_training
from geoseg.training.report import EpochRow

COLORS = np.array([land_cover.color for land_cover in DEEPGLOBE], np.uint8)
SIDE_PX = 128
TINY = Recipe(
    architecture="PlainUnet",
    encoder=None,
    arguments_text='{"depth": 2, "channels": 8, "dropout": 0.2}',
    init=None,
    gsd_m=None,
    crop_px=64,
    window_px=64,
    augmentation="flips,color:0.5",
    lr=0.01,
    batch_size=2,
    batches=3,
    epochs=2,
)
"""Six steps of a network with batch norm, dropout and a running average."""
State = dict[str, torch.Tensor]


def write_data(folder: Path, *, scenes: int = 4, classes: int = 6, seed: int = 0) -> Path:
    """Write noisy tiles in the DeepGlobe layout, squares in the colors of their classes; the last is for validation."""
    draw = np.random.default_rng(seed)
    for number in range(scenes):
        codes = np.kron(draw.integers(0, classes, (8, 8)), np.ones((16, 16), np.int64))
        noisy = COLORS[codes].astype(np.int64) + draw.integers(-20, 20, (*codes.shape, 3))
        part = folder / ("valid" if number == scenes - 1 else "train")
        part.mkdir(parents=True, exist_ok=True)
        write_picture(part / f"{number}_sat.jpg", np.clip(noisy, 1, 255))
        write_picture(part / f"{number}_mask.png", COLORS[codes])
    return folder


def write_picture(path: Path, pixels: NDArray[Any]) -> None:
    """Write (row, col, band) as JPEG or PNG."""
    height, width, count = pixels.shape
    driver = "JPEG" if path.suffix == ".jpg" else "PNG"
    shape: dict[str, Any] = {"height": height, "width": width, "count": count, "dtype": "uint8"}
    with rasterio.open(path, "w", driver=driver, **shape) as picture:
        picture.write(pixels.transpose(2, 0, 1).astype(np.uint8))


def learn(data: Path, out: Path, recipe: Recipe = TINY, **options: Any) -> State:
    """Train on one CPU thread with decoded scenes cached next to the data; return the bundle's weights."""
    settings = {"device": "cpu", "threads": 1, "cache": data.parent / "cache", "checkpoint_minutes": 60.0}
    train(data, out, recipe=recipe, **(settings | options))
    return weights(out)


def weights(path: Path) -> State:
    """Return the tensors of a bundle."""
    return load_file(path)


def prepared_processes() -> BaseContext:
    """Return a context for processes; if possible they fork from one that has spent nine seconds loading torch."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.tiny"])
    return context


def read_history(path: Path) -> list[EpochRow]:
    """Return the rows of a history.csv."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            EpochRow(
                int(cells["epoch"]),
                int(cells["step"]),
                *(float(cells[name]) for name in ("train_loss", "valid_loss", "miou")),
                {name.removeprefix("iou "): float(cells[name]) for name in cells if name.startswith("iou ")},
                float(cells["lr"]),
                float(cells["seconds"]),
            )
            for cells in csv.DictReader(file)
        ]


def same(one: State, other: State) -> bool:
    """Return whether two states are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def tiny_plan(data: Path, recipe: Recipe = TINY, **options: Any) -> TrainingPlan:
    """Return the plan of a training."""
    dataset = open_dataset(data, **options)
    return plan_training(dataset, split(dataset), recipe, data.parent / "cache", lambda _line: None)


def tiny_learner(data: Path, recipe: Recipe = TINY, callbacks: Callbacks | None = None) -> Learner:
    """Return a learner before its first batch."""
    plan = tiny_plan(data, recipe)
    return Learner(plan, start_network(plan, lambda _line: None), recipe.lr or 0.0, callbacks or Callbacks())
