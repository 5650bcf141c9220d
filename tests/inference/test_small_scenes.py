"""A scene smaller than a window is scored in a smaller one, mirrored beyond its edges; evaluation sees the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import rasterio
from numpy.typing import NDArray

import geoseg
from geoseg.inference import Scoring
from geoseg.model import ModelBundle
from tests.inference.conftest import MakeScene
from tests.model.mirrored import mirrored
from tests.networks import tiny_bundle

WINDOW_PX = 320


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=WINDOW_PX)


@pytest.fixture(scope="module")
def scoring(bundle: ModelBundle) -> Scoring:
    return Scoring.choose(bundle, {"device": "cpu"})


@pytest.mark.parametrize("longest_px", [1, 50, 176, 177, 190, 295, 296, 297, 303, 320, 321, 5000])
def test_the_window_is_the_smallest_with_a_mirrored_edge(scoring: Scoring, longest_px: int) -> None:
    divisor = scoring.bundle.divisor
    fitting = [px for px in range(192, WINDOW_PX, divisor) if px >= longest_px + 2 * divisor]
    wanted = fitting[0] if fitting else WINDOW_PX
    for shape in ((longest_px, 1), (1, longest_px), (longest_px, longest_px)):
        fitted = scoring.fitted(shape)
        assert (fitted.window_px, fitted.engine.window_px) == (wanted, wanted)
        assert fitted.overlap_px < wanted


def test_a_window_or_an_overlap_that_is_asked_for_is_kept(bundle: ModelBundle, make_scene: MakeScene) -> None:
    small = make_scene(40, 60)
    assert geoseg.plan(small, model=bundle, device="cpu").grid.window_px == 192
    assert geoseg.plan(small, model=bundle, device="cpu", window=WINDOW_PX).grid.window_px == WINDOW_PX
    assert geoseg.plan(small, model=bundle, device="cpu", overlap=0).grid.window_px == WINDOW_PX


@pytest.mark.parametrize("shape", [(100, 60), (1, 250), (7, 5)], ids=str)
def test_the_map_is_what_the_network_says_of_the_mirrored_scene(
    bundle: ModelBundle, make_scene: MakeScene, tmp_path: Path, shape: tuple[int, int]
) -> None:
    scene = make_scene(*shape, seed=7)
    plan = geoseg.plan(scene, model=bundle, device="cpu")
    geoseg.predict(scene, tmp_path / "map.tif", model=bundle, device="cpu")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        made = dataset.read(1)
    with rasterio.open(scene.path) as dataset:
        data, valid = dataset.read().astype(np.float32), dataset.dataset_mask() > 0
    expected = _labels(bundle, data, valid, plan.grid.window_px)
    np.testing.assert_array_equal(made, np.where(valid, expected, 255))


def _labels(bundle: ModelBundle, data: NDArray[np.float32], valid: NDArray[np.bool_], side: int) -> NDArray[np.uint8]:
    """Return class codes (row, col) from ONNX Runtime alone, mirrored with numpy."""
    height, width = valid.shape
    beyond = (0, side - height), (0, side - width)
    session = onnxruntime.InferenceSession(bundle.weights_path.with_suffix(".onnx"))
    gain, bias = bundle.normalization.gain_bias()
    filled, seen = mirrored(np.pad(data, ((0, 0), *beyond), mode="symmetric"), np.pad(valid, beyond, mode="symmetric"))
    image = np.where(seen, filled * gain[:, None, None] + bias[:, None, None], 0).astype(np.float32)
    (scores,) = session.run(None, {"image": image[None]})
    assert scores.shape[-1] == side, "a U-Net does not interpolate its scores"
    codes = np.asarray(bundle.output_codes, np.uint8)
    found: NDArray[np.uint8] = codes[scores[0, :, :height, :width].argmax(axis=0)]
    return found
