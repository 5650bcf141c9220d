"""predict, train and evaluate see the same pixels and mask of a scene, at its own resolution and at others."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from sklearn.metrics import confusion_matrix

import geoseg
from geoseg.dataset import open_dataset, prepare, split
from geoseg.errors import GeosegWarning
from geoseg.legend import DEEPGLOBE
from geoseg.model import ModelBundle
from geoseg.raster import Window
from tests.networks import tiny_bundle

from .conftest import noise, patchwork, write_raster

SHAPE = (150, 203)
GSD_M = 10.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=64, overlap_px=16, gsd_m=23.0)


def write_pair(folder: Path, mask: str, sides_m: tuple[float, float] = (GSD_M, GSD_M)) -> None:
    """Write a scene with an invalid block and single invalid pixels, and labels with gaps elsewhere."""
    place: dict[str, Any] = {"transform": Affine(sides_m[1], 0, 5e5, 0, -sides_m[0], 4e6)}
    data, valid = noise(3, *SHAPE, seed=4), np.random.default_rng(5).random(SHAPE) < 0.97
    valid[40:83, 20:71] = False
    if mask == "nodata":
        data[:, ~valid] = 0
        place["nodata"] = 0
    path = write_raster(folder / "images/a.tif", data, photometric="RGB", **place)
    if mask == "mask band":
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(valid)
    codes = patchwork(SHAPE, len(DEEPGLOBE), patch_px=9)
    codes[:, -5:] = 255
    place.pop("nodata", None)
    write_raster(folder / "labels/a.tif", codes[None], nodata=255, **place)


@pytest.mark.parametrize("mask", ["none", "nodata", "mask band"])
@pytest.mark.parametrize("gsd_m", [10.0, 10.15, 23.0, 6.0])
@pytest.mark.parametrize("sides_m", [(10.0, 10.0), (10.0, 14.0)])
def test_training_reads_what_predict_reads(
    tmp_path: Path, model: ModelBundle, mask: str, gsd_m: float, sides_m: tuple[float, float]
) -> None:
    write_pair(tmp_path, mask, sides_m)
    dataset = open_dataset(tmp_path, legend=DEEPGLOBE)
    (seen,) = prepare(dataset, split(dataset, "all").train, tmp_path / "cache", gsd_m=gsd_m)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeosegWarning)
        mapped = geoseg.plan(tmp_path / "images/a.tif", model=model, resolution=gsd_m).scene
    assert seen.shape == mapped.shape
    for window in (Window(0, 0, *seen.shape), Window(9, 7, 31, 20)):
        mine, predicts = seen.read(window), mapped.read(window)
        assert np.array_equal(mine.data[:, mine.valid], predicts.data[:, predicts.valid])
        assert np.array_equal(mine.valid, predicts.valid)
        assert (seen.codes(window)[~predicts.valid] == 255).all()
    assert (seen.shape == SHAPE) == (gsd_m <= 10.2 and gsd_m >= 10 and sides_m[0] == sides_m[1])


@pytest.mark.parametrize("mask", ["none", "nodata", "mask band"])
def test_evaluate_counts_what_predict_maps_at_the_models_resolution(
    tmp_path: Path, model: ModelBundle, mask: str
) -> None:
    write_pair(tmp_path, mask)
    if mask == "none":  # a window that extends beyond the scene
        model = tiny_bundle(tmp_path, window_px=320, gsd_m=23.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeosegWarning)
        found = geoseg.evaluate(model, open_dataset(tmp_path, legend=DEEPGLOBE), split="all", device="cpu")
        geoseg.predict(tmp_path / "images/a.tif", tmp_path / "map.tif", model=model, resolution="model", device="cpu")
    with rasterio.open(tmp_path / "map.tif") as file:
        coarse = file.read(1)
    rows, cols = (
        np.floor((np.arange(side) + 0.5) / side * other).astype(int)
        for side, other in zip(SHAPE, coarse.shape, strict=True)
    )
    mapped = coarse[np.ix_(rows, cols)]
    with rasterio.open(tmp_path / "labels/a.tif") as labels, rasterio.open(tmp_path / "images/a.tif") as image:
        truth, valid = labels.read(1), image.dataset_mask() != 0
    there = (truth != 255) & (mapped != 255) & valid
    assert np.array_equal(found.matrix.counts, confusion_matrix(truth[there], mapped[there], labels=range(7)))
