"""A network that sees averaged pixels, against numpy and torch, and independent of the tiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray

import geoseg
from geoseg.errors import UsageError
from geoseg.inference import SceneMapping, map_tile
from geoseg.inference.derived_engines import (
    CoarseEngine,
    average,
    average_compiled,
    interpolate,
    interpolate_compiled,
)
from geoseg.model import ModelBundle, Weights, build, choose_engine, middles, save_bundle
from geoseg.model.engines.torch_engine import Means
from geoseg.model.engines.torch_sweep import Batch
from geoseg.raster import Window, WindowGrid, tiles
from tests.inference.conftest import MakeScene
from tests.inference.position_engine import CLASSES, PositionEngine
from tests.networks import RGB, tiny_bundle

SIZES = [(6, 6), (6, 3), (7, 3), (40, 16), (33, 32), (12, 1), (50, 32), (21, 20), (64, 32), (2, 1)]
DTYPES = ["uint8", "uint16", "int16", "float32"]
STORED = [(*sizes, DTYPES[(number + number // 4) % 4]) for number, sizes in enumerate(SIZES)]
"""Every size with one data type, and every type with two sizes."""


def averaged(pixels: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the sums over `side` equal parts of each axis, by splitting every pixel into `side` pixels first."""
    fine = pixels.repeat(side, axis=-1).repeat(side, axis=-2)
    length = pixels.shape[-1]
    return np.asarray(fine.reshape(*pixels.shape[:-2], side, length, side, length).sum((-3, -1)))


@pytest.mark.parametrize(("window_px", "network_px", "dtype"), STORED)
@pytest.mark.parametrize("way", [average, average_compiled], ids=["numpy", "compiled"])
def test_a_mean_is_that_of_the_valid_ground_it_covers(
    way: Callable[..., None], window_px: int, network_px: int, dtype: str
) -> None:
    rng = np.random.default_rng(window_px)
    data = rng.integers(0, 200, (3, window_px, window_px)).astype(dtype)
    valid = rng.random((window_px, window_px)) < 0.6
    valid[: window_px // 2, : window_px // 2] = False
    means, any_valid = np.empty((3, network_px, network_px), np.float32), np.empty((network_px, network_px), np.bool_)
    way(data, valid, means, any_valid)
    area = averaged(valid.astype(float), network_px)
    np.testing.assert_array_equal(any_valid, area > 0)
    with np.errstate(invalid="ignore"):
        wanted = np.where(area > 0, averaged(np.where(valid, data, 0).astype(float), network_px) / area, 0)
    np.testing.assert_allclose(means, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("window_px", "network_px", "dtype"), STORED)
def test_numpy_and_compiled_kernels_give_the_same_bits(window_px: int, network_px: int, dtype: str) -> None:
    rng = np.random.default_rng(window_px)
    data = (rng.random((3, window_px, window_px)) * 250).astype(dtype)
    valid = rng.random((window_px, window_px)) < 0.6
    valid[: window_px // 2, : window_px // 2] = False
    coarse = rng.random((2, 4, network_px, network_px), np.float32)
    weights = rng.random((2, window_px), np.float32), rng.random((2, window_px), np.float32)
    found = []
    for mean, between in ((average, interpolate), (average_compiled, interpolate_compiled)):
        means, seen = np.empty((3, network_px, network_px), np.float32), np.empty((network_px, network_px), np.bool_)
        mean(data, valid, means, seen)
        fine = np.empty((2, 4, window_px, window_px), np.float32)
        between(coarse, *middles(window_px, network_px), *weights, fine)
        found.append((means, seen, fine))
    for plain, compiled in zip(*found, strict=True):
        np.testing.assert_array_equal(plain, compiled)


@pytest.mark.parametrize(("window_px", "network_px"), [(160, 64), (64, 64), (128, 64), (83, 64)])
@pytest.mark.parametrize("device", ["onnx", "torch-cpu"])
def test_probabilities_are_interpolated_as_torch_does_it(
    tmp_path: Path, device: str, window_px: int, network_px: int
) -> None:
    rng = np.random.default_rng(5)
    bundle = tiny_bundle(tmp_path, window_px=network_px)
    inner: Any = choose_engine(bundle, device, window_px=network_px).open()
    averages = device == "torch-cpu"
    engine = inner.averaging(window_px, network_px) if averages else CoarseEngine(inner, window_px, network_px)
    data = rng.integers(0, 256, (3, window_px + 9, 2 * window_px), dtype=np.uint8)
    valid = rng.random(data.shape[1:]) < 0.9
    windows = [Window(9, 0, window_px, window_px), Window(0, window_px - 3, window_px, window_px)]
    weights = Weights(rng.random((2, window_px), np.float32), rng.random((2, window_px), np.float32))
    found = engine.download(engine.probabilities(engine.upload(data, valid), windows, weights))
    for index, window in enumerate(windows):
        means, seen = np.empty((3, network_px, network_px), np.float32), np.empty((network_px, network_px), np.bool_)
        average(data[:, window.rows, window.cols], valid[window.rows, window.cols], means, seen)
        whole = Window(0, 0, network_px, network_px)
        coarse = inner.download(inner.probabilities(inner.upload(means, seen), [whole], Weights.ones(1, network_px)))
        fine = torch.nn.functional.interpolate(
            torch.from_numpy(coarse), (window_px, window_px), mode="bilinear", align_corners=False
        )[0].numpy()
        np.testing.assert_allclose(fine.sum(axis=0), 1, atol=1e-5)
        wanted = fine * (weights.rows[index][:, None] * weights.cols[index])
        np.testing.assert_allclose(found[index], wanted, atol=2e-5)


@pytest.mark.parametrize(("window_px", "network_px", "dtype"), STORED)
def test_a_device_makes_the_same_means(window_px: int, network_px: int, dtype: str) -> None:
    rng = np.random.default_rng(window_px)
    data = rng.integers(0, 200, (2, 3, window_px, window_px)).astype(dtype) * (300 if dtype == "uint16" else 1)
    valid = rng.random((2, 1, window_px, window_px)) < 0.6
    valid[0, :, : window_px // 2, : window_px // 2] = False
    if dtype == "float32":
        data[np.broadcast_to(~valid, data.shape)] = 3e38  # NaN is read as 0
    ones = torch.ones(2, window_px)
    unsigned = dtype == "uint16"
    stored = torch.from_numpy(data.view(np.int16) if unsigned else data)
    means = Means(window_px, network_px, torch.device("cpu"))
    found = means.of(Batch(stored, torch.from_numpy(valid), ones, ones, unsigned))
    for index in range(2):
        wanted = np.empty((3, network_px, network_px), np.float32)
        seen = np.empty((network_px, network_px), np.bool_)
        average(data[index], valid[index, 0], wanted, seen)
        np.testing.assert_array_equal(found.valid[index, 0].numpy(), seen)
        np.testing.assert_allclose(found.stored[index].numpy(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("window_px", "network_px"), [(40, 16), (24, 12), (21, 20)])
def test_the_map_does_not_depend_on_tiles_or_batches(make_scene: MakeScene, window_px: int, network_px: int) -> None:
    scene = make_scene(130, 97, seed=11)
    grid = WindowGrid(130, 97, window_px, window_px // 4)
    maps = []
    for tile_px, batch in ((200, 1), (200, 5), (37, 3), (64, 2)):
        mapping = SceneMapping(scene, grid, "hann", batch, tuple(range(CLASSES)), ("labels", "confidence"))
        engine, found = CoarseEngine(PositionEngine(), window_px, network_px), np.zeros((2, 130, 97), np.uint8)
        for tile in tiles(130, 97, tile_px, tile_px):
            mapped = map_tile(mapping, engine, tile)
            found[:, tile.rows, tile.cols] = mapped["labels"], mapped["confidence"]
        maps.append(found)
    assert len(np.unique(maps[0][0])) > 2
    for found in maps[1:]:
        np.testing.assert_array_equal(found, maps[0])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=64, gsd_m=1.25)


def pixels_of(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read())


def test_a_scene_finer_than_the_model_is_shown_at_its_size_and_keeps_its_own_grid(
    make_scene: MakeScene, bundle: ModelBundle, tmp_path: Path
) -> None:
    scene, said = make_scene(300, 210, seed=2), list[str]()
    made = geoseg.plan(scene, model=bundle, device="onnx", tile=128, probabilities=True)
    assert made.network_factor == pytest.approx(2.5)
    assert (made.grid.window_px, made.grid.overlap_px, made.engine.window_px) == (160, 40, 64)
    assert "64 px (pixels of 1.25 m" in str(made)
    out, percents = tmp_path / "map.tif", tmp_path / "p.tif"
    geoseg.predict(scene, out, probabilities=percents, model=bundle, device="onnx", tile=128, announce=said.append)
    assert any("sees pixels of 1.25 m" in line and "keeps 0.5 m" in line for line in said)
    with rasterio.open(scene.path) as source, rasterio.open(out) as written:
        assert (written.shape, written.transform, written.crs) == (source.shape, source.transform, source.crs)
    inner = choose_engine(bundle, "onnx", window_px=64).open()
    mapping = SceneMapping(made.scene, made.grid, "hann", 1, bundle.output_codes, ("labels", "probabilities"))
    whole = map_tile(mapping, CoarseEngine(inner, 160, 64), Window(0, 0, 300, 210))
    np.testing.assert_array_equal(pixels_of(out)[0], whole["labels"])
    np.testing.assert_array_equal(pixels_of(percents), whole["probabilities"])


@pytest.mark.filterwarnings("ignore::geoseg.errors.UnlikeTrainingWarning")
def test_the_scene_s_own_pixels_are_shown_where_they_are_asked_for(make_scene: MakeScene, bundle: ModelBundle) -> None:
    scene = make_scene(150, 140, seed=3)
    plans = [
        geoseg.plan(scene, model=bundle, device="onnx", tile=128, network_resolution=shown)
        for shown in ("auto", 1.25, "scene", 0.5, 1.0)
    ]
    assert [made.network_factor for made in plans] == pytest.approx([2.5, 2.5, 1, 1, 2])
    assert len({made.fingerprint() for made in plans}) == 3
    assert plans[2].open_engine() is plans[2].engine.open()
    assert plans[0].open_engine() is plans[1].open_engine()


@pytest.mark.parametrize(("gsd_m", "factor"), [(None, 1), (0.4, 1), (0.5, 1), (0.66, 1), (0.7, 1.4), (5.0, 10)])
def test_only_a_scene_finer_by_more_than_a_third_is_averaged(
    make_scene: MakeScene, tmp_path: Path, gsd_m: float | None, factor: float
) -> None:
    bundle = tiny_bundle(tmp_path, window_px=64, gsd_m=gsd_m, export=False)
    made = geoseg.plan(make_scene(150, 140, seed=3), model=bundle, device="torch-cpu")
    assert made.network_factor == pytest.approx(factor, rel=0.01)


def test_windows_of_very_fine_pixels_see_less_of_the_ground(make_scene: MakeScene, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, window_px=512, gsd_m=6, export=False)
    made = geoseg.plan(make_scene(150, 140, seed=3), model=bundle, device="torch-cpu")
    assert (made.engine.window_px, made.grid.window_px) == (208, 2496)
    asked = geoseg.plan(make_scene(150, 140, seed=3), model=bundle, device="torch-cpu", window=256, workers=1)
    assert (asked.engine.window_px, asked.grid.window_px) == (256, 3072)


@pytest.mark.parametrize(
    ("encoder", "window_px"), [("tu-vit_tiny_patch16_224", 224), ("tu-tf_efficientnet_lite0", 160)]
)
def test_a_network_of_one_size_keeps_it(make_scene: MakeScene, tmp_path: Path, encoder: str, window_px: int) -> None:
    architecture = "DPT" if "vit" in encoder else "FPN"
    arguments = {"encoder_name": encoder, "in_channels": 3, "classes": 7}
    bundle = save_bundle(
        tmp_path / "model.safetensors",
        build(architecture, arguments),
        architecture=architecture,
        arguments=arguments,
        legend=geoseg.DEEPGLOBE,
        normalization=RGB,
        window_px=224,
        gsd_m=8,
    )
    made = geoseg.plan(make_scene(150, 140, seed=3), model=bundle, device="torch-cpu", workers=1)
    assert made.engine.window_px == window_px


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ("model", "auto, scene, or meters"),
        (0, "more than 0"),
        (1e300, "at most 100000"),
        (float("nan"), "meters"),
        (0.3, "finer"),
    ],
)
def test_a_pixel_size_that_cannot_be_shown_is_refused(
    make_scene: MakeScene, bundle: ModelBundle, asked: object, word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        geoseg.plan(make_scene(150, 140, seed=3), model=bundle, network_resolution=asked)  # type: ignore[arg-type]
