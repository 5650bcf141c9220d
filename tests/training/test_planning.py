"""What is refused, and what is said, before a training begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from geoseg.dataset.dataset import open_dataset
from geoseg.dataset.split import split
from geoseg.errors import SceneError, UsageError
from geoseg.training.planning import plan_training
from geoseg.training.recipe import Recipe
from geoseg.training.train import train
from tests.training.tiny import TINY, tiny_plan, write_data


def write_floats(folder: Path, *, mean: float, std: float) -> Path:
    draw = np.random.default_rng(0)
    for place in ("images", "labels"):
        (folder / place).mkdir(parents=True)
    for name in ("a", "b"):
        shape: dict[str, Any] = {"height": 64, "width": 64, "driver": "GTiff"}
        with rasterio.open(folder / "images" / f"{name}.tif", "w", count=3, dtype="float32", **shape) as image:
            image.write((mean + std * draw.standard_normal((3, 64, 64))).astype(np.float32))
        with rasterio.open(folder / "labels" / f"{name}.tif", "w", count=1, dtype="uint8", **shape) as labels:
            labels.write(draw.integers(1, 3, (1, 64, 64)).astype(np.uint8))
    return folder


def test_imagery_that_was_normalized_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="looks normalized already"):
        tiny_plan(write_floats(tmp_path / "z", mean=0.02, std=1.0))
    assert tiny_plan(write_floats(tmp_path / "reflectance", mean=0.3, std=0.05)).dtype == "float32"


def test_a_class_without_a_pixel_is_said(tmp_path: Path) -> None:
    data, lines = write_data(tmp_path / "data", classes=4), list[str]()
    dataset = open_dataset(data)
    plan_training(dataset, split(dataset), TINY, tmp_path / "cache", lines.append)
    assert any(line.startswith("no training pixel is water, barren_land") for line in lines)


def test_nothing_to_learn_is_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", classes=1)
    with pytest.raises(SceneError, match="no training pixel of data has a class"):
        tiny_plan(data, replace(TINY, ignore=("unknown", "urban_land")))


def test_parts_that_overlap_are_refused(data: Path, tmp_path: Path) -> None:
    ids = tmp_path / "ids.csv"
    ids.write_text("id,part\n0,train\n1,train\n1,valid\n")
    with pytest.raises(UsageError, match=r"overlaps: 1 in train and valid|twice"):
        train(data, tmp_path / "m.safetensors", recipe=TINY, split_rule=str(ids), device="cpu")
    assert not (tmp_path / "m.safetensors.training").exists()


@pytest.mark.parametrize(("size", "accumulate"), [(8, 1), (4, 2), (3, 3), (1, 8)])
def test_an_epoch_shows_each_pixel_about_once(data: Path, size: int, accumulate: int) -> None:
    plan = tiny_plan(data, replace(TINY, batches=None, batch_size=size, accumulate=accumulate))
    crops = 3 * 128 * 128 / 64**2
    assert plan.batches == int(np.ceil(crops / size))
    assert plan.epoch_steps == int(np.ceil(crops / (size * accumulate)))
    steps = [plan.step_of(batch) for batch in range(plan.total_batches)]
    assert (steps[0], steps[-1]) == (0, plan.steps - 1)
    assert steps == sorted(steps)


@pytest.mark.parametrize("knobs", [{"betas": (0.9,)}, {"schedule": "multi-step"}, {"lr": float("nan")}])
def test_knobs_that_cannot_be_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Recipe(**knobs)
