"""How many crops fit."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from geoseg.training.batch_size import MOST_CPU, batch_size
from tests.training.tiny import TINY, same, tiny_learner

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
