"""The number of crops that fit into memory."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from geoseg.errors import TrainingError
from geoseg.training.loop import Learner
from geoseg.training.optimization import MOST_CPU, batch_size, check_fits
from tests.training.tiny import TINY, learn, same, tiny_learner

Memory = namedtuple("Memory", ["available"])  # noqa: PYI024 - as psutil's


def test_it_is_a_power_of_two_that_grows_with_the_memory(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = tiny_learner(data, replace(TINY, batch_size=None))
    before = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}
    sizes = []
    for megabytes in (1, 10, 20, 40, 80, 10_000):
        monkeypatch.setattr(psutil, "virtual_memory", lambda megabytes=megabytes: Memory(megabytes << 20))
        sizes.append(batch_size(learner.plan, learner.network, "cpu"))
    assert sizes == sorted(sizes)
    assert set(sizes) <= {1, 2, 4, 8}
    assert len(set(sizes)) > 2
    assert (sizes[0], sizes[-1]) == (1, MOST_CPU)
    assert same(learner.network.state_dict(), before)  # running statistics too
    assert learner.network.training


def test_larger_crops_are_fewer(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(60 << 20))
    small, large = (tiny_learner(data, replace(TINY, crop_px=side, window_px=128)) for side in (64, 128))
    small_size, large_size = (batch_size(each.plan, each.network, "cpu") for each in (small, large))
    assert small_size in {2 * large_size, 4 * large_size, 8 * large_size}


def test_a_batch_beyond_all_memory_is_refused_before_the_system_ends_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(TINY, batch_size=64)
    wanted = wanted_gb(tiny_learner(data, recipe), monkeypatch)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(int(wanted * 1e9 / 8)))
    with pytest.raises(
        TrainingError, match=r"64 crops .* of cpu \(it needs about .*\); give `batch_size=4`, `accumulate=16`"
    ):
        learn(data, tmp_path / "model.safetensors", recipe)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(1))
    with pytest.raises(TrainingError, match=r"give a smaller `crop_px` \(with `overwrite"):
        learn(data, tmp_path / "model.safetensors", recipe)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(int(wanted * 1e9 * 0.6)))
    learner = tiny_learner(data, recipe)
    check_fits(learner.plan, learner.network, "cpu")  # it may fit: this is only an estimate


def test_what_a_large_crop_keeps_is_reckoned_from_a_small_one(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = tiny_learner(data, replace(TINY, crop_px=128, window_px=128, batch_size=1000))
    said = []
    for probe_px in (128, 64):
        monkeypatch.setattr("geoseg.training.optimization._PROBE_PX", probe_px)
        said.append(wanted_gb(learner, monkeypatch))
    assert said == pytest.approx([said[0]] * 2, rel=0.05)
    assert said[0] > 0.1


@pytest.mark.parametrize("fault", [RuntimeError, AssertionError, ValueError])
def test_a_network_for_one_size_alone_is_reckoned_from_that(
    data: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    learner = tiny_learner(data, replace(TINY, crop_px=128, window_px=128, batch_size=1000))
    whole = wanted_gb(learner, monkeypatch)
    monkeypatch.setattr("geoseg.training.optimization._PROBE_PX", 64)
    forward = learner.network.forward

    def picky(image: torch.Tensor) -> Any:
        if image.shape[-1] != 128:
            raise fault("height (64) must be divisible by window (128)")
        return forward(image)

    monkeypatch.setattr(learner.network, "forward", picky)
    before = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}
    assert wanted_gb(learner, monkeypatch) == whole
    assert same(learner.network.state_dict(), before)


def wanted_gb(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> float:
    """Return the memory that the error states for a batch on a machine with no memory."""
    with monkeypatch.context() as patched:
        patched.setattr(psutil, "virtual_memory", lambda: Memory(0))
        with pytest.raises(TrainingError) as fault:
            check_fits(learner.plan, learner.network, "cpu")
    return float(str(fault.value).split("needs about ")[1].split()[0])
