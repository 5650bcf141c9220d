"""A CUDA device gives nearly the CPU's probabilities, and nearly always its labels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from geoseg.model import ModelBundle, Weights, choose_engine, cuda_devices
from tests.model.test_engines import FOOTPRINT, WINDOW, WINDOWS, pixels, scores
from tests.networks import tiny_bundle

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_the_driver_and_torch_agree() -> None:
    assert cuda_devices() == torch.cuda.device_count()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_probabilities_are_near_the_cpus(tiny: ModelBundle, dtype: str) -> None:
    data, valid = pixels(dtype)
    scale = (float(data.min()), float(data.max()))
    choice = choose_engine(tiny, "auto", scale=scale)
    assert choice.device == "cuda:0"
    assert "CUDA" in choice.describe()
    near = scores(choice.open(), data, valid)
    wanted = scores(choose_engine(tiny, "cpu", scale=scale).open(), data, valid)
    assert np.abs(near - wanted).mean() < 0.01


def test_labels_are_the_cpus(tmp_path: Path) -> None:
    """Only pixels whose two best classes are 5 % apart count: random networks are less sure than trained ones."""
    bundle = tiny_bundle(tmp_path)
    data, valid = pixels()
    gpu, cpu = (scores(choose_engine(bundle, device).open(), data, valid) for device in ("cuda", "cpu"))
    second, best = np.sort(cpu, axis=1)[:, -2:].swapaxes(0, 1)
    sure = best - second > 0.05
    assert sure.mean() > 0.5
    assert (gpu.argmax(axis=1) == cpu.argmax(axis=1))[sure].mean() >= 0.999


def test_threads_share_the_device(tiny: ModelBundle) -> None:
    engine = choose_engine(tiny, "cuda").open()
    data, valid = pixels()
    wanted = scores(engine, data, valid)
    with ThreadPoolExecutor(8) as callers:
        for found in callers.map(lambda _: scores(engine, data, valid), range(8)):
            np.testing.assert_allclose(found, wanted, atol=0.02)


def test_footprint_goes_over_as_stored(tiny: ModelBundle) -> None:
    engine = choose_engine(tiny, "cuda").open()
    footprint = engine.upload(*pixels("uint16"))
    assert footprint.data.element_size() == 2
    assert footprint.data.is_cuda
    assert engine.probabilities(footprint, WINDOWS, Weights.ones(len(WINDOWS), WINDOW)).is_cuda
    assert tuple(footprint.valid.shape) == FOOTPRINT
