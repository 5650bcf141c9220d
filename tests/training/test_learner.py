"""Several devices, here two processes on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from geoseg.errors import UsageError
from geoseg.model.bundle import ModelBundle
from geoseg.training.fit import hardware
from geoseg.training.history import read_history
from tests.training.tiny import TINY, learn


def test_two_processes_are_one_training(data: Path, tmp_path: Path) -> None:
    """What both validate is summed, what the first one tells arrives here, and the bundle is written once."""
    seen, lines = list[int](), list[str]()
    parts = tmp_path / "ids.csv"
    parts.write_text("id,part\n0,train\n1,valid\n2,valid\n3,valid\n")
    out, recipe = tmp_path / "m.safetensors", replace(TINY, batches=2)
    learn(
        data, out, recipe, devices=2, split_rule=str(parts), announce=lines.append,
        progress=lambda state: seen.append(state.batches_done),
    )  # fmt: skip
    assert seen == [1, 2, 3, 4]
    rows = read_history(out.with_name("m.safetensors.training") / "history.csv")
    bundle = ModelBundle.open(out)
    best = max(rows, key=lambda row: row.miou)
    told = bundle.metrics["validation"]
    assert isinstance(told, dict)
    assert told["pixels"] == 3 * 128 * 128
    assert told["miou_without_unknown"] == pytest.approx(best.miou, abs=0.01)  # judged again, at its temperature
    assert len([line for line in lines if line.split()[:1] in (["1/2"], ["2/2"])]) == 2


def test_devices_that_are_not_here_are_refused() -> None:
    with pytest.raises(UsageError, match="2 devices were asked for, 1 of kind mps found"):
        hardware("mps", 2, TINY)
    assert hardware("cuda:3", 1, TINY)["devices"] == [3]
