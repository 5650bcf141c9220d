"""The training loop: several devices, here two processes on the CPU, and the contents of a checkpoint."""

from __future__ import annotations

import multiprocessing
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from geoseg.dataset import open_dataset, split
from geoseg.errors import UsageError
from geoseg.model import ModelBundle
from geoseg.training.callbacks import Callbacks, TrainingState
from geoseg.training.checkpoint import load_checkpoint, save_checkpoint
from geoseg.training.loop import Learner, hardware
from geoseg.training.network import start_network
from geoseg.training.optimization import optimizer_of
from geoseg.training.plan import plan_training
from geoseg.training.run import _with_batch_size
from tests.training.tiny import TINY, learn, prepared_processes, read_history, tiny_learner, tiny_plan

STILL = replace(TINY, lr=1e-9, average=0.0, arguments_text='{"depth": 2, "channels": 8}')
"""Barely learns and draws nothing at random, so the loss of each batch is known beforehand."""


def test_two_processes_are_one_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Losses and scores are summed over both processes, the first reports here, and the bundle is written once.

    Both get the arguments of spawned processes, but find torch loaded.
    """
    processes = prepared_processes()
    monkeypatch.setattr(multiprocessing, "get_context", lambda _method=None: processes)
    seen, lines = list[int](), list[str]()
    parts = tmp_path / "ids.csv"
    parts.write_text("id,part\n0,train\n1,valid\n2,valid\n3,valid\n")
    out, recipe = tmp_path / "m.safetensors", replace(STILL, batches=2)
    learn(
        data, out, recipe, devices=2, split_rule=str(parts), announce=lines.append,
        progress=lambda state: seen.append(state.batches_done),
    )  # fmt: skip
    assert seen == [1, 2, 3, 4]
    assert "distributed" not in "".join(capfd.readouterr())  # Lightning's lines about its processes
    rows = read_history(out.with_name("m.safetensors.training") / "history.csv")
    bundle = ModelBundle.open(out)
    best = max(rows, key=lambda row: row.miou)
    told = bundle.metrics["validation"]
    assert isinstance(told, dict)
    assert told["pixels"] == 3 * 128 * 128
    assert told["miou_without_unknown"] == pytest.approx(best.miou, abs=0.01)  # judged again, at its temperature
    assert len([line for line in lines if line.split()[:1] in (["1/2"], ["2/2"])]) == 2
    losses = [losses_of(data, recipe, str(parts), rank, monkeypatch) for rank in (0, 1)]
    assert abs(losses[0][0] - losses[1][0]) > 0.01  # each has its own crops
    wanted = np.reshape(losses, (2, 2, 2)).mean(axis=(0, 2))  # (rank, epoch, batch)
    assert [row.train_loss for row in rows] == pytest.approx(wanted, rel=1e-4)


def losses_of(data: Path, recipe: Any, rule: str, rank: int, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the losses of the batches of two epochs on one device, for a network that does not learn."""
    dataset = open_dataset(data)
    plan = plan_training(dataset, split(dataset, rule), recipe, data.parent / "cache", lambda _line: None)
    learner = Learner(plan, start_network(plan, lambda _line: None), 0.0, Callbacks())
    monkeypatch.setattr(Learner, "global_rank", rank)
    found = []
    for number in range(4):
        image, targets = learner.seen_by_network(learner.batch(number))
        found.append(float(learner.loss(learner.network(image), targets).detach()))
    return found


@pytest.mark.parametrize("size", [None, 2])
def test_an_epoch_shows_each_pixel_once_whatever_the_devices(data: Path, size: int | None) -> None:
    """Three scenes of 128 x 128 pixels are 12 crops of 64 x 64: 6 batches of two, divided among the devices."""
    plan = tiny_plan(data, replace(TINY, batches=None, batch_size=size))
    network = torch.nn.Conv2d(3, 1, 1)
    state = {"course": TrainingState(batch_size=2).to_text()}  # the size that was found to fit
    batches = [
        _with_batch_size(plan, network, "cpu", devices, state, lambda _line: None).batches for devices in (1, 2, 4)
    ]
    assert batches == [6, 3, 2]
    fixed = replace(plan, recipe=replace(plan.recipe, batches=5), batches=5)
    assert _with_batch_size(fixed, network, "cpu", 2, state, lambda _line: None).batches == 5


def test_devices_that_are_not_here_are_refused() -> None:
    with pytest.raises(UsageError, match="1 mps device found, got `devices=2`; give `devices=1`"):
        hardware("mps", 2, TINY)
    assert hardware("cuda:3", 1, TINY)["devices"] == [3]


def test_several_devices_are_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.training.loop.cuda_devices", lambda: 4)
    recipe = replace(TINY, precision="32")
    with pytest.raises(UsageError, match="uses the first 2, got `device='cuda:1'`; leave `device` out"):
        hardware("cuda:1", 2, recipe)
    assert hardware("cuda:0", 2, recipe)["devices"] == 2  # the meaning of cuda and auto


def test_devices_are_refused_before_any_work(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys.modules["geoseg.training.run"], "plan_training", lambda *_, **__: pytest.fail("work was begun")
    )
    with pytest.raises(UsageError, match="`precision='16'` needs a GPU"):
        learn(data, tmp_path / "m.safetensors", replace(TINY, precision="16"), devices=2)


def trainer_of(scaler: torch.amp.GradScaler, learner: Learner) -> Any:
    """Return the parts of a trainer that a checkpoint needs."""
    precision = MixedPrecision("16-mixed", "cpu", scaler)
    return types.SimpleNamespace(precision_plugin=precision, optimizers=[torch.optim.SGD(learner.parameters(), 0.1)])


def test_the_scale_of_16_bits_is_kept(data: Path, tmp_path: Path) -> None:
    """If the scale restarted at 65536, the first steps after a resume would be skipped."""
    learner, other = tiny_learner(data, STILL), tiny_learner(data, STILL)
    learner._trainer = trainer_of(torch.amp.GradScaler("cpu", init_scale=512.0), learner)
    save_checkpoint(tmp_path / "state", learner.checkpoint())
    state = load_checkpoint(tmp_path / "state")
    assert state is not None
    for kept, wanted in ((state, 512.0), ({**state, "scaler": {}}, 65536.0)):
        other._trainer = trainer_of(torch.amp.GradScaler("cpu"), other)
        other.resume({**kept, "optimizer": other_optimizer_state(other)})
        other.configure_optimizers()
        assert other.trainer.precision_plugin.scaler.get_scale() == wanted


def other_optimizer_state(learner: Learner) -> dict[str, Any]:
    return optimizer_of(learner.plan.recipe, learner.network, learner.lr).state_dict()
