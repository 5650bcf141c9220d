"""With `tta`, the map does not depend on the orientation of the scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

import geoseg
from geoseg.errors import UsageError
from geoseg.model import ModelBundle
from tests.inference.conftest import random_pixels, write_scene
from tests.networks import tiny_bundle

WINDOW_PX, OVERLAP_PX = 64, 16
HEIGHT, WIDTH = 64 + 48 * 3, 64 + 48 * 2  # divided evenly by windows, so that they match in a rotated scene
TURNS = {
    "mirrored": lambda pixels: pixels[..., ::-1],
    "flipped": lambda pixels: pixels[..., ::-1, :],
    "rotated": lambda pixels: np.rot90(pixels, 1, (-2, -1)),
    "transposed": lambda pixels: pixels.swapaxes(-1, -2),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=WINDOW_PX)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return random_pixels(HEIGHT, WIDTH, seed=8, invalid=0.2)


def percents(pixels: NDArray[np.uint8], folder: Path, bundle: ModelBundle, tta: int) -> NDArray[Any]:
    """Return the probability of every class (class, row, col) in percent, with 255 for nodata."""
    folder.mkdir()
    scene, out = write_scene(folder / "scene.tif", pixels), folder / "p.tif"
    knobs: dict[str, Any] = {"overlap": OVERLAP_PX, "device": "onnx", "tile": 128, "workers": 1}
    geoseg.predict(scene, folder / "map.tif", probabilities=out, model=bundle, tta=tta, **knobs)
    with rasterio.open(out) as dataset:
        return dataset.read().astype(int)  # type: ignore[no-any-return] # rasterio is untyped


@pytest.mark.parametrize(("tta", "turns"), [(2, ["mirrored"]), (4, ["flipped"]), (8, ["rotated", "transposed"])])
def test_the_map_of_a_turned_scene_is_the_turned_map(
    pixels: NDArray[np.uint8], bundle: ModelBundle, tmp_path: Path, tta: int, turns: list[str]
) -> None:
    upright = percents(pixels, tmp_path / "upright", bundle, tta)
    for name in turns:
        turned = percents(TURNS[name](pixels), tmp_path / name, bundle, tta)
        assert np.abs(turned - TURNS[name](upright)).max() <= 1  # percents are rounded


def test_without_it_the_map_does_depend_on_that(pixels: NDArray[np.uint8], bundle: ModelBundle, tmp_path: Path) -> None:
    upright = percents(pixels, tmp_path / "upright", bundle, 1)
    mirrored = percents(TURNS["mirrored"](pixels), tmp_path / "mirrored", bundle, 1)
    assert np.abs(mirrored - TURNS["mirrored"](upright)).max() > 1


def test_one_way_is_the_network_itself_and_more_are_another_run(
    pixels: NDArray[np.uint8], bundle: ModelBundle, tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "scene.tif", pixels)
    plans = [geoseg.plan(scene, model=bundle, device="onnx", tile=128, tta=tta) for tta in (1, 2, 8)]
    assert plans[0].open_engine() is plans[0].engine.open()
    assert plans[2].open_engine() is plans[2].open_engine()
    assert len({made.fingerprint() for made in plans}) == 3
    assert plans[0].memory_bytes < plans[1].memory_bytes == plans[2].memory_bytes
    one, eight = plans[0].estimate(), plans[2].estimate()
    assert eight.seconds > 2 * one.seconds
    assert "each in 8 symmetries" in str(eight)
    assert "symmetries" not in str(one)
    with pytest.raises(UsageError, match="1, 2, 4 or 8"):
        geoseg.plan(scene, model=bundle, tta=3)
