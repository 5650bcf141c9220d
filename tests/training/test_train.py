"""Training gives the same weights, bit for bit, from the same seed and after being stopped and resumed."""

from __future__ import annotations

import csv
import functools
import itertools
import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from geoseg import atomic
from geoseg.errors import (
    DivergedError,
    GeosegError,
    LockedError,
    OutputError,
    ResumeError,
    SceneError,
    TrainingError,
    UsageError,
)
from geoseg.model import ModelBundle, export_model
from geoseg.training import TrainingProgress, train
from geoseg.training.callbacks import TrainingState
from geoseg.training.checkpoint import BEST, Checkpointer, RunFolder, load_checkpoint, open_folder, save_checkpoint
from geoseg.training.loop import Learner
from tests.training import tiny
from tests.training.tiny import (
    SIDE_PX,
    TINY,
    prepared_processes,
    read_history,
    same,
    weights,
    write_data,
    write_picture,
)

learn = functools.partial(tiny.learn, checkpoint_minutes=0.0)
"""Train with a checkpoint after every step."""
VARIANTS = {
    "average and dropout": TINY,
    "without an average, rmsprop, cyclic rate": replace(
        TINY, average=0.0, clip=0.0, optimizer="rmsprop", schedule="cyclic", step_epochs=1, floor=0.1, lr=1e-3
    ),
    "steps of two batches, an odd epoch, adam, amsgrad, group norm": replace(
        TINY, batches=5, accumulate=2, optimizer="adam", amsgrad=True, norm="group"
    ),
    "sgd, a rate that is found": replace(TINY, optimizer="sgd", lr=None),
}


class StopHereError(Exception):
    """Raised by a test to simulate a power cut."""


def stop_after(batches: int) -> Callable[[TrainingProgress], None]:
    def stop(state: TrainingProgress) -> None:
        if state.batches_done >= batches:
            raise StopHereError

    return stop


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that trains each variant once, without a stop, and returns its bundle."""
    folder, made = tmp_path_factory.mktemp("whole"), dict[str, Path]()

    def train(name: str) -> Path:
        if name not in made:
            made[name] = folder / f"{len(made)}.safetensors"
            learn(data, made[name], VARIANTS[name])
        return made[name]

    return train


def test_the_same_seed_gives_the_same_weights(data: Path, tmp_path: Path, uninterrupted: Callable[[str], Path]) -> None:
    first = uninterrupted("average and dropout")
    again = learn(data, tmp_path / "again.safetensors", checkpoint_minutes=60)  # checkpoints change nothing
    assert same(again, weights(first))
    one, two = (ModelBundle.open(path) for path in (first, tmp_path / "again.safetensors"))
    assert one.temperature == two.temperature
    other = learn(data, tmp_path / "other.safetensors", replace(TINY, seed=22))
    assert not same(other, again)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_that_fails_within_an_epoch_goes_on(
    data: Path, tmp_path: Path, uninterrupted: Callable[[str], Path], name: str
) -> None:
    recipe, out = VARIANTS[name], tmp_path / "model.safetensors"
    total = (recipe.batches or 0) * recipe.epochs
    for batches in (2, total // 2 + 2) if recipe == TINY else (total // 2 + 2,):
        with pytest.raises(StopHereError):
            learn(data, out, recipe, progress=stop_after(batches))
        assert not out.exists()
    seen: list[int] = []
    found = learn(data, out, recipe, progress=lambda state: seen.append(state.batches_done))
    assert total // 2 < seen[0]  # the first epoch was not lost
    assert seen == list(range(seen[0], total + 1))
    assert same(found, weights(uninterrupted(name)))


def test_without_frequent_checkpoints_at_most_an_epoch_is_lost(
    data: Path, tmp_path: Path, uninterrupted: Callable[[str], Path]
) -> None:
    out = tmp_path / "model.safetensors"
    with pytest.raises(StopHereError):
        learn(data, out, progress=stop_after(5), checkpoint_minutes=60)
    seen: list[int] = []
    found = learn(data, out, progress=lambda state: seen.append(state.batches_done), checkpoint_minutes=60)
    assert seen == [4, 5, 6]
    assert same(found, weights(uninterrupted("average and dropout")))
    assert [path.name for path in tmp_path.glob("model.safetensors.training/*.ckpt")] == []  # they were removed
    rows = read_history(out.with_name("model.safetensors.training") / "history.csv")
    assert [(row.epoch, row.step) for row in rows] == [(0, 3), (1, 6)]


def test_steps_of_two_batches_end_with_their_epoch(data: Path, tmp_path: Path) -> None:
    """Five batches make three steps; rates and rows count steps, and checkpoints fall only between them."""
    recipe, out = replace(TINY, batches=5, accumulate=2, schedule="cosine", warmup=0.0), tmp_path / "m.safetensors"
    told: list[tuple[int, float]] = []
    kept: list[int] = []

    def see(state: TrainingProgress) -> None:
        told.append((state.batches_done, state.lr))
        before = load_checkpoint(out.with_name("m.safetensors.training") / "last.ckpt")
        kept.append(TrainingState.from_text(before["course"]).batches if before else 0)

    learn(data, out, recipe, progress=see)
    steps = [0, 0, 1, 1, 2, 3, 3, 4, 4, 5]
    wanted = [0.01 * 0.5 * (1 + np.cos(np.pi * step / 6)) for step in steps]
    assert [lr for _, lr in told] == pytest.approx(wanted)
    assert kept == [0, 0, 2, 2, 4, 5, 5, 7, 7, 9]
    assert [row.step for row in read_history(out.with_name("m.safetensors.training") / "history.csv")] == [3, 6]


def test_a_step_of_fewer_batches_has_the_mean_of_their_gradients(data: Path, tmp_path: Path) -> None:
    """An epoch of one batch is a whole step, of one batch or of the three that a step usually has."""
    usual = replace(TINY, batches=1, optimizer="sgd", clip=0.0)
    one, three = (
        learn(data, tmp_path / f"{accumulate}.safetensors", replace(usual, accumulate=accumulate))
        for accumulate in (1, 3)
    )
    assert all(torch.allclose(one[name], three[name], rtol=1e-5, atol=1e-7) for name in one)


def learn_up_to(batch: int, data: Path, out: Path, arrived: Connection) -> None:
    """Train, report a batch, and wait there to be killed, or until the other end of the pipe closes."""

    def see(state: TrainingProgress) -> None:
        if state.batches_done == batch:
            arrived.send(batch)
            arrived.poll(200)

    learn(data, out, TINY, progress=see)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_run_goes_on(data: Path, tmp_path: Path, uninterrupted: Callable[[str], Path]) -> None:
    batch, out, processes = 4, tmp_path / "model.safetensors", prepared_processes()
    here, there = processes.Pipe()
    process = processes.Process(target=learn_up_to, args=(batch, data, out, there), daemon=True)
    process.start()
    there.close()
    assert here.recv() == batch
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    seen: list[int] = []
    found = learn(data, out, progress=lambda state: seen.append(state.batches_done))
    assert seen[0] == batch  # learned, but not saved yet
    assert same(found, weights(uninterrupted("average and dropout")))


# --- resuming with other settings


@pytest.fixture(scope="module")
def stopped_once(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that stopped after its fourth batch."""
    out = tmp_path_factory.mktemp("stopped") / "model.safetensors"
    with pytest.raises(StopHereError):
        learn(data, out, progress=stop_after(5))
    return out.parent


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """Return the output of a run that stopped after its fourth batch, in a copy for this test."""
    shutil.copytree(stopped_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"lr": 0.02}, "lr"),
        ({"seed": 3}, "seed"),
        ({"batch_size": 4}, "batch_size"),
        ({"batches": 6}, "batches"),
        ({"accumulate": 2, "batches": 6}, "batch_size"),
        ({"epochs": 3}, "epochs"),
        ({"arguments_text": '{"depth": 3, "channels": 8}'}, "arguments"),
        ({"loss": "dice", "crop_px": 32}, "crop_px, loss"),
    ],
)
def test_another_recipe_does_not_go_on(data: Path, stopped: Path, options: dict[str, Any], named: str) -> None:
    folder = stopped.with_name(f"{stopped.name}.training")
    before = (folder / "last.ckpt").read_bytes()
    with pytest.raises(ResumeError, match=f"different {named}; .*overwrite"):
        learn(data, stopped, replace(TINY, **options))
    assert (folder / "last.ckpt").read_bytes() == before
    assert not stopped.exists()


def test_other_data_or_another_split_do_not_go_on(data: Path, stopped: Path, tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="different split"):
        learn(data, stopped, split_rule="random:0.5")
    other = write_data(tmp_path / "data", seed=1)
    with pytest.raises(ResumeError, match="different data set"):
        learn(other, stopped)
    copy = tmp_path / "copy" / "data"
    shutil.copytree(data, copy)
    learn(copy, stopped)  # the same pixels elsewhere are the same


def test_overwrite_starts_over(data: Path, stopped: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    found = learn(
        data, stopped, replace(TINY, lr=0.02), overwrite=True, progress=lambda state: seen.append(state.batches_done)
    )
    assert seen == [1, 2, 3, 4, 5, 6]
    assert same(found, learn(data, tmp_path / "fresh.SAFETENSORS", replace(TINY, lr=0.02)))


def test_a_batch_may_be_cut_in_two(data: Path, stopped: Path) -> None:
    """A course counts batches: 4 of 6 batches of two crops are 8 of 12 batches of one."""
    seen: list[tuple[int, int]] = []
    recipe = replace(TINY, batch_size=1, accumulate=2, batches=6)
    learn(data, stopped, recipe, progress=lambda state: seen.append((state.batches_done, state.batches_total)))
    assert seen == [(done, 12) for done in (9, 10, 11, 12)]
    rows = read_history(stopped.with_name(f"{stopped.name}.training") / "history.csv")
    assert [row.step for row in rows] == [3, 6]


def test_batches_by_themselves_may_be_cut_in_two(data: Path, tmp_path: Path) -> None:
    """By default an epoch shows each pixel once, so halving the batches doubles their number and keeps the steps."""
    out, whole = tmp_path / "model.safetensors", replace(TINY, batches=None, epochs=2)
    totals: list[int] = []

    def stop(state: TrainingProgress) -> None:
        totals.append(state.batches_total)
        if state.batches_done == 8:
            raise StopHereError

    with pytest.raises(StopHereError):
        learn(data, out, whole, progress=stop)
    seen: list[tuple[int, int]] = []
    recipe = replace(whole, batch_size=1, accumulate=2)
    learn(data, out, recipe, progress=lambda state: seen.append((state.batches_done, state.batches_total)))
    assert totals[-1] == 12  # 3 x 128 x 128 pixels in batches of 2 x 64 x 64
    assert seen[0] == (15, 24)
    assert seen[-1] == (24, 24)


def test_a_batch_size_that_was_found_stays(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, recipe = tmp_path / "model.safetensors", replace(TINY, batch_size=None)
    monkeypatch.setattr("geoseg.training.run.batch_size", lambda *_: 4)
    with pytest.raises(StopHereError):
        learn(data, out, recipe, progress=stop_after(2))
    monkeypatch.setattr("geoseg.training.run.batch_size", lambda *_: 1)
    with pytest.raises(StopHereError):
        learn(data, out, recipe, progress=stop_after(4))
    with pytest.raises(ResumeError, match="batch_size"):
        learn(data, out, replace(TINY, batch_size=2))
    learn(data, out, replace(TINY, batch_size=2, accumulate=2, batches=6))  # what a message on full memory says
    assert ModelBundle.open(out).provenance["batch_size"] == 2


def test_another_count_of_devices_does_not_go_on(data: Path, stopped: Path) -> None:
    """Each device draws its own crops, so the weights would differ."""
    with pytest.raises(ResumeError, match="different devices; "):
        learn(data, stopped, devices=2)


def test_a_run_that_began_with_other_weights_does_not_go_on(data: Path, tmp_path: Path) -> None:
    """The file of the same name may have changed since."""
    first, out = tmp_path / "first.safetensors", tmp_path / "model.safetensors"
    learn(data, first)
    recipe = replace(TINY, init=str(first))
    with pytest.raises(StopHereError):
        learn(data, out, recipe, progress=stop_after(5))
    before = first.read_bytes()
    learn(data, first, replace(TINY, seed=3), overwrite=True)
    with pytest.raises(ResumeError, match="different init weights; "):
        learn(data, out, recipe)
    first.write_bytes(before)
    learn(data, out, recipe)
    begun = ModelBundle.open(first)
    assert ModelBundle.open(out).provenance["init_weights_hash"] == begun.weights_hash


# --- failures


def break_loss(monkeypatch: pytest.MonkeyPatch, at: int, kind: str) -> None:
    """Make the batch of a number return a NaN loss, or a finite loss with NaN gradients."""
    loss = Learner.loss
    counter = itertools.count()

    def broken(learner: Learner, answer: Any, targets: torch.Tensor) -> torch.Tensor:
        value = loss(learner, answer, targets)
        if next(counter) != at:
            return value
        return value * float("nan") if kind == "loss" else value + torch.sqrt(0 * value)

    monkeypatch.setattr(Learner, "loss", broken)


@pytest.mark.parametrize(("kind", "minutes"), [("loss", 0.0), ("gradient", 60.0)])
def test_a_loss_that_is_no_number_ends_the_run(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: Callable[[str], Path],
    kind: str,
    minutes: float,
) -> None:
    out = tmp_path / "model.safetensors"
    folder = out.with_name("model.safetensors.training")
    with monkeypatch.context() as patched:
        break_loss(patched, 4, kind)
        with pytest.raises(
            TrainingError, match=r"at batch 2 of 3 of epoch 2 \(\d at row -?\d+, col -?\d+; \d at"
        ) as said:
            learn(data, out, checkpoint_minutes=minutes)
    learnt = folder / "kept.safetensors"
    assert "; the best epoch, 1, is kept as a model: start from it" in str(said.value)
    assert f"`init={str(learnt)!r}`, `overwrite=True`" in str(said.value)
    assert not out.exists()
    state = load_checkpoint(folder / "last.ckpt")
    assert state is not None
    assert TrainingState.from_text(state["course"]).batches == (4 if minutes == 0 else 3)
    assert all(tensor.isfinite().all() for part in ("network", "averaged") for tensor in state[part].values())
    assert same(weights(learnt), (load_checkpoint(folder / "best.ckpt", BEST) or {})["weights"])
    assert same(learn(data, out), weights(uninterrupted("average and dropout")))  # nothing of it is left


def test_a_rate_beyond_all_sense_ends_the_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "model.safetensors"
    recipe = replace(
        TINY, optimizer="sgd", lr=100.0, clip=0.0, epochs=40, schedule="constant", momentum=0.99,
        arguments_text='{"depth": 1, "channels": 4, "batch_norm": false}', average=0.0, valid_every=40,
    )  # fmt: skip
    with pytest.raises(
        TrainingError, match=r"(loss is (nan|inf)|gradient is not a number) at batch \d of 3 of epoch .*smaller `lr`"
    ):
        learn(data, out, recipe, checkpoint_minutes=60)
    with monkeypatch.context() as patched:
        break_loss(patched, 0, "loss")
        with pytest.raises(DivergedError, match=r"batch 1 of 3 of epoch 1 .*A smaller .*; nothing was learned"):
            learn(data, tmp_path / "other.safetensors", checkpoint_minutes=60)
    assert not (tmp_path / "other.safetensors.training" / "kept.safetensors").exists()
    assert not out.exists()


@pytest.mark.parametrize("average", [0.0, 0.99])
def test_no_batch_is_lost_to_a_loss_that_is_no_number(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: float
) -> None:
    """If no epoch has been validated, the weights from just before the failing batch are kept."""
    recipe = replace(TINY, average=average, schedule="constant", epochs=2, batches=3)
    with monkeypatch.context() as patched:
        break_loss(patched, 2, "loss")
        with pytest.raises(DivergedError, match="; what was learned in 2 batches is kept"):
            learn(data, tmp_path / "model.safetensors", recipe, checkpoint_minutes=60, split_rule="all")
    kept = weights(tmp_path / "model.safetensors.training" / "kept.safetensors")
    seen: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(Checkpointer, "due", lambda _keeper: True)
    monkeypatch.setattr(Checkpointer, "keep", lambda _keeper, learner: seen.append(cloned(learner.kept.state_dict())))
    learn(data, tmp_path / "other.safetensors", recipe, checkpoint_minutes=0, split_rule="all")
    trained = {name for name, tensor in kept.items() if tensor.is_floating_point() and "running" not in name}
    assert trained
    assert all(kept[name].equal(seen[1][name]) for name in trained)


def cloned(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def test_a_run_begins_with_what_one_that_diverged_had_learnt(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new run replaces the old one's files, except the weights that it starts from."""
    out = tmp_path / "model.safetensors"
    with monkeypatch.context() as patched:
        break_loss(patched, 4, "loss")
        with pytest.raises(DivergedError):
            learn(data, out)
    learnt = out.with_name("model.safetensors.training") / "kept.safetensors"
    before, gentler = learnt.read_bytes(), replace(TINY, lr=1e-4, init=str(learnt))
    with pytest.raises(ResumeError, match=r"different .*lr"):
        learn(data, out, gentler)
    lines: list[str] = []
    learn(data, out, gentler, overwrite=True, announce=lines.append)
    assert [line for line in lines if "starts with " in line and "from kept" in line]
    assert learnt.read_bytes() == before
    assert ModelBundle.open(out).provenance["init_weights_hash"] == ModelBundle.open(learnt).weights_hash


def test_a_full_disk_at_a_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Callable[[str], Path]
) -> None:
    out = tmp_path / "model.safetensors"
    folder = out.with_name("model.safetensors.training")
    for fault, at in ((OSError(28, "No space left on device"), 2), (RuntimeError("PytorchStreamWriter failed"), 4)):
        save, counter = torch.save, itertools.count(1)

        def full(
            state: object, path: Path, fault: Exception = fault, counter: Any = counter, at: int = at, save: Any = save
        ) -> None:
            if next(counter) == at:
                path.write_bytes(b"half")
                raise fault
            save(state, path)

        with monkeypatch.context() as patched:
            patched.setattr(torch, "save", full)
            with pytest.raises(OutputError, match="the disk is full") as caught:
                learn(data, out)
        assert "\n" not in str(caught.value)
        assert not list(folder.glob("*.tmp"))
        assert not out.exists()
        state = load_checkpoint(folder / "last.ckpt")
        assert state is not None
    assert same(learn(data, out), weights(uninterrupted("average and dropout")))


def test_a_full_disk_at_the_bundle(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Callable[[str], Path]
) -> None:
    out = tmp_path / "model.safetensors"
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if not out.with_name("model.safetensors.training").joinpath("last.ckpt").exists():
            fsync(descriptor)
            return
        raise OSError(28, "No space left on device")

    with pytest.raises(StopHereError):
        learn(data, out, progress=stop_after(6))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="disk is full"):
            learn(data, out)
    assert not out.exists()
    assert same(learn(data, out), weights(uninterrupted("average and dropout")))


def test_a_report_that_could_not_be_written_is_written_without_another_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, report = tmp_path / "model.safetensors", tmp_path / "report"

    def full(*_: object, **__: object) -> None:
        raise OutputError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("geoseg.training.run.write_training_report", full)
        with pytest.raises(OutputError, match=r"full; the model is written, and .* `overwrite=True` writes the report"):
            learn(data, out, report=report)
    learned, batches = weights(out), list[int]()
    again = learn(data, out, report=report, overwrite=True, progress=lambda state: batches.append(state.batches_done))
    assert same(again, learned)
    assert batches == []
    assert (report / "report.md").exists()


@pytest.mark.parametrize("fault", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError()])
@pytest.mark.parametrize(
    ("options", "way"),
    [
        ({"batches": None}, "`batch_size=1`, `accumulate=2`: "),
        ({}, "`batch_size=1`, `accumulate=2`, `batches=6`: "),
        ({"batch_size": 6, "accumulate": 3}, "`batch_size=3`, `accumulate=6`, `batches=6`: "),
        ({"batch_size": 5}, "`batch_size=1`, `accumulate=5`, `batches=15`: "),
        ({"batch_size": 1}, "a smaller `crop_px`"),
    ],
)
def test_a_batch_that_does_not_fit_says_what_does(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, options: dict[str, Any], way: str
) -> None:
    def full(*_: object) -> torch.Tensor:
        raise fault

    monkeypatch.setattr(Learner, "loss", full)
    with pytest.raises(TrainingError, match=f"does not fit in the memory of cpu .*{way}"):
        learn(data, tmp_path / "model.safetensors", replace(TINY, **options))


def test_a_sweep_that_does_not_fit_says_what_does(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried")

    monkeypatch.setattr(Learner, "loss", full)
    with pytest.raises(TrainingError, match=r"does not fit in the memory of cpu .*batch_size=1"):
        learn(data, tmp_path / "model.safetensors", replace(TINY, lr=None))


@pytest.mark.parametrize("lr", [0.01, None])
def test_one_crop_is_too_few_for_some_batch_norms(data: Path, tmp_path: Path, lr: float | None) -> None:
    """PAN's decoder pools a crop to one pixel; the error comes before training or the rate sweep starts."""
    recipe = replace(
        TINY, architecture="PAN", encoder="resnet18", arguments_text="{}", batch_size=1, lr=lr, crop_px=128,
        window_px=128,
    )  # fmt: skip
    with pytest.raises(
        UsageError, match=r"PAN cannot learn from a batch of 1 crop .*`batch_size=2` or more, or `norm='group'`"
    ):
        learn(data, tmp_path / "model.safetensors", recipe)


@pytest.mark.parametrize("content", [b"", b"\0" * 400, b"PK\x03\x04", None])
def test_a_damaged_checkpoint_is_said(
    data: Path, stopped: Path, uninterrupted: Callable[[str], Path], content: bytes | None
) -> None:
    last = stopped.with_name(f"{stopped.name}.training") / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000] if content is None else content)
    with pytest.raises(ResumeError, match=r"last\.ckpt is damaged, cannot resume .* remove .*\.training to start over"):
        learn(data, stopped)
    if content is None:
        shutil.rmtree(last.parent)
        assert same(learn(data, stopped), weights(uninterrupted("average and dropout")))


@pytest.mark.parametrize("foreign", [{"epoch": 3, "state_dict": {}}, {"weights": {}, "course": "{}"}, [1]])
def test_a_checkpoint_of_another_program_is_said(data: Path, stopped: Path, foreign: Any) -> None:
    last = stopped.with_name(f"{stopped.name}.training") / "last.ckpt"
    torch.save(foreign, last)
    with pytest.raises(ResumeError, match=r"last\.ckpt is not a checkpoint of this training; remove .* to start over"):
        learn(data, stopped)


def test_a_checkpoint_of_another_network_is_said(data: Path, stopped: Path) -> None:
    last = stopped.with_name(f"{stopped.name}.training") / "last.ckpt"
    state = load_checkpoint(last)
    assert state is not None
    save_checkpoint(last, {**state, "network": {"head.weight": torch.zeros(3)}})
    with pytest.raises(ResumeError, match="belongs to another network; start over with `overwrite=True`"):
        learn(data, stopped)


def test_a_damaged_run_file_is_said(data: Path, stopped: Path) -> None:
    stopped.with_name(f"{stopped.name}.training").joinpath("run.json").write_bytes(b"{")
    with pytest.raises(ResumeError, match=r"cannot be read .*overwrite"):
        learn(data, stopped)
    learn(data, stopped, overwrite=True)
    assert stopped.exists()


def test_a_checkpoint_that_a_kill_cut_short_is_removed(tmp_path: Path) -> None:
    for _ in range(2):
        with open_folder(tmp_path / "m.safetensors", {}, start_over=False) as folder:
            assert not [*folder.path.glob("*.tmp")]
            folder.last.write_bytes(b"whole")
            (folder.path / "0123.tmp").write_bytes(b"cut sh")


def test_the_folder_of_a_run_that_kept_nothing_is_not_removed_once_another_run_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows cannot remove a lock that is held, so there the folder is removed after the release."""
    monkeypatch.setattr(atomic, "os", SimpleNamespace(**{**vars(os), "name": "nt"}))
    release, later = FileLock.release, []

    def release_and_start_another(lock: FileLock, *how: Any, **more: Any) -> None:
        release(lock, *how, **more)
        if not later:
            later.append(open_folder(tmp_path / "m.safetensors", {"recipe": "another"}, start_over=False))
            later[0].__enter__()

    monkeypatch.setattr(FileLock, "release", release_and_start_another)
    with open_folder(tmp_path / "m.safetensors", {}, start_over=False) as folder:
        pass
    assert folder.known == {"recipe": "another"}
    later[0].__exit__(None, None, None)
    assert not folder.path.exists()


def test_two_runs_on_one_output(data: Path, stopped: Path) -> None:
    meaning = {"recipe": "another"}
    with (
        open_folder(stopped.with_name("locked.safetensors"), meaning, start_over=False),
        pytest.raises(LockedError, match="another run is training"),
    ):
        learn(data, stopped.with_name("locked.safetensors"), overwrite=True)


def refuse(*_: object, **__: object) -> None:
    pytest.fail("work was begun")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("devices", 0, "must be at least 1, got 0"),
        ("threads", 0, "must be at least 1, got 0"),
        ("threads", 10**6, "must be at most 4096, got 1"),
        ("devices", 10**6, "must be at most 4096, got 1"),
        ("checkpoint_minutes", -1.0, "must be 0 or more, got -1"),
        ("checkpoint_minutes", math.nan, "must be 0 or more, got nan"),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_any_work(tmp_path: Path, name: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError, match=f"`{name}` {said}") as refused:
        train(tmp_path / "nothing", tmp_path / "new" / "m.safetensors", mkdir=True, **{name: value})
    assert refused.value.parameter == name
    assert not (tmp_path / "new").exists()


def test_outputs_are_refused_before_any_work(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["geoseg.dataset"], "open_dataset", refuse)
    out = tmp_path / "model.safetensors"
    out.write_bytes(b"an old model")
    with pytest.raises(OutputError, match="exists; add `overwrite=True` to replace it, or choose another `out`"):
        learn(data, out)
    assert out.read_bytes() == b"an old model"
    with pytest.raises(UsageError, match=r"name it model\.safetensors"):
        learn(data, tmp_path / "model.pt")
    with pytest.raises(OutputError, match="it is a folder; give the name of a file in it"):
        learn(data, tmp_path)
    report = tmp_path / "report"
    report.mkdir()
    (report / "mine.txt").write_text("stays")
    with pytest.raises(OutputError, match="report"):
        learn(data, tmp_path / "new.safetensors", report=report)
    with pytest.raises(OutputError, match="cannot be both the bundle and the report; choose another `report`"):
        learn(data, tmp_path / "new.safetensors", report=tmp_path / "here" / ".." / "new.safetensors")
    assert not (tmp_path / "new.safetensors.training").exists()


def test_a_run_that_could_not_begin_leaves_no_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SceneError("labels that cannot be read")

    monkeypatch.setattr("geoseg.training.run.plan_training", fail)
    with pytest.raises(SceneError, match="cannot be read"):
        learn(data, tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors.training").exists()


def test_an_old_bundle_stays_until_the_new_one_is_whole(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    out.write_bytes(b"an old model")
    with pytest.raises(StopHereError):
        learn(data, out, overwrite=True, progress=stop_after(6))
    assert out.read_bytes() == b"an old model"
    seen: list[int] = []
    learn(data, out, overwrite=True, progress=lambda state: seen.append(state.batches_done))
    assert seen == [6]  # the same command resumed, it did not start over
    assert ModelBundle.open(out)


def test_the_bundle_is_on_the_disk_before_the_checkpoints_go(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.safetensors"
    synced = list[tuple[int, int]]()
    fsync, finish = os.fsync, RunFolder.finish

    def of(status: os.stat_result) -> tuple[int, int]:
        return status.st_ino, status.st_size  # the number of a deleted file may be reused

    def note(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(of(os.fstat(descriptor)))

    def look(folder: RunFolder) -> None:
        assert of(out.stat()) in synced
        assert synced.index(of(out.stat())) < len(synced) - 1  # and then its folder, which has its name
        assert folder.last.exists()
        finish(folder)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(RunFolder, "finish", look)
    learn(data, out)
    assert not out.with_name("model.safetensors.training").joinpath("last.ckpt").exists()


# --- output of a training


def test_the_logs_of_a_run_that_goes_on_stay(data: Path, tmp_path: Path) -> None:
    """Figures are logged by the step of the whole training; logs of earlier runs are not deleted."""
    out, recipe = tmp_path / "model.safetensors", replace(TINY, epochs=6)
    for batches in (11, 16):  # within the fourth epoch and the sixth; steps 10 and 15 are kept
        with pytest.raises(StopHereError):
            learn(data, out, recipe, progress=stop_after(batches))
    learn(data, out, recipe)
    logs = out.with_name("model.safetensors.training")
    files = sorted(logs.joinpath("csv").rglob("metrics.csv"), key=lambda path: path.stat().st_mtime)
    assert [path.parent.name for path in files] == ["csv", "from_step_10", "from_step_15"]
    rows = [list(csv.DictReader(path.read_text().splitlines())) for path in files]
    assert [[int(row["step"]) for row in part] for part in rows] == [[3, 6, 9, 10], [12, 15], [18]]
    assert rows[0][3]["lr"]
    epochs = read_history(logs / "history.csv")
    assert [float(row["train_loss"]) for part in rows for row in part if row["train_loss"]] == pytest.approx(
        [row.train_loss for row in epochs]
    )
    events = EventAccumulator(str(logs / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [3, 6, 9, 12, 15, 18]


def test_steps_that_are_made_again_are_shown_once(data: Path, tmp_path: Path) -> None:
    out, recipe = tmp_path / "model.safetensors", replace(TINY, epochs=4)
    with pytest.raises(StopHereError):
        learn(data, out, recipe, progress=stop_after(11), checkpoint_minutes=60)  # step 9 is kept, the tenth logged
    learn(data, out, recipe, checkpoint_minutes=60)
    events = EventAccumulator(str(out.with_name("model.safetensors.training") / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("smoothed_loss")] == [10]


def test_an_epochs_time_includes_that_before_a_stop(data: Path, stopped: Path) -> None:
    last = stopped.with_name(f"{stopped.name}.training") / "last.ckpt"
    state = load_checkpoint(last)
    assert state is not None
    course = json.loads(state["course"])
    assert 0 < course["epoch_s"] < 100  # that of the first batch of the second epoch
    save_checkpoint(last, {**state, "course": json.dumps(course | {"epoch_s": 1000.0})})
    learn(data, stopped)
    first, second = read_history(last.parent / "history.csv")
    assert first.seconds < 1000 < second.seconds < 1100


def test_patience_ends_a_run_and_stays_ended(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out, recipe = tmp_path / "model.safetensors", replace(TINY, lr=1e-9, epochs=9, patience=2, average=0.0)
    lines: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr("geoseg.training.run._finalize", _stop)
        with pytest.raises(StopHereError):
            learn(data, out, recipe)
    seen: list[int] = []
    with caplog.at_level("INFO", "geoseg"):
        learn(data, out, recipe, progress=lambda state: seen.append(state.batches_done), announce=lines.append)
    assert seen == []
    assert [record.message for record in caplog.records if record.name == "geoseg"] == lines
    rows = read_history(out.with_name("model.safetensors.training") / "history.csv")
    best = max(rows, key=lambda row: row.miou)
    assert len(rows) == best.epoch + 3 < 9


def test_patience_ends_a_run_only_at_a_validation(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    learn(data, out, replace(TINY, lr=1e-9, batches=1, epochs=9, patience=1, valid_every=3, average=0.0))
    rows = read_history(out.with_name("model.safetensors.training") / "history.csv")
    assert [row.epoch for row in rows if not math.isnan(row.miou)] == [2, 5]
    assert len(rows) == 6


def _stop(*_: object, **__: object) -> None:
    raise StopHereError


def test_the_best_epoch_is_kept_and_its_figures_are_those_of_the_table(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    lines: list[str] = []
    learn(data, out, replace(TINY, epochs=4), report=tmp_path / "report", announce=lines.append)
    card = ModelBundle.open(out)
    rows = read_history(out.with_name("model.safetensors.training") / "history.csv")
    best = max(rows, key=lambda row: row.miou)
    assert card.provenance["epoch"] == best.epoch + 1
    assert card.metrics["validation"]["miou_without_unknown"] == pytest.approx(
        best.miou, abs=0.01
    )  # it is blended at its temperature
    table = [line.split() for line in lines if "/4 " in line]
    assert [float(cells[3]) for cells in table] == pytest.approx([row.miou for row in rows], abs=5e-4)
    assert {"report.md", "history.csv", "confusion.png", "curves.png"} <= {
        path.name for path in (tmp_path / "report").iterdir()
    }
    assert rows[-1].train_loss < rows[0].train_loss
    assert list((out.with_name("model.safetensors.training") / "tensorboard").rglob("events.*"))
    assert list((out.with_name("model.safetensors.training") / "csv").rglob("metrics.csv"))


def test_all_scenes_may_train(data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    learn(data, tmp_path / "m.safetensors", split_rule="all", report=tmp_path / "report", announce=lines.append)
    card = ModelBundle.open(tmp_path / "m.safetensors")
    assert card.temperature == 1
    assert card.provenance["epoch"] == 2
    assert card.metrics == {}
    assert any("nothing was validated" in line for line in lines)


def test_validation_without_a_class_to_judge_keeps_the_last_epoch_and_says_so(tmp_path: Path) -> None:
    data, lines = write_data(tmp_path / "data"), list[str]()
    (mask,) = (data / "valid").glob("*_mask.png")
    write_picture(mask, np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8))  # unknown, which is not learned
    learn(data, tmp_path / "m.safetensors", report=tmp_path / "report", announce=lines.append)
    told = [line for line in lines if "no validation pixel has a class" in line and "the last one is kept" in line]
    assert len(told) == 1
    assert any("nothing was validated, so there is no report" in line for line in lines)
    assert not any("nan" in line or "is the best" in line or "the other classes" in line for line in lines)
    card = ModelBundle.open(tmp_path / "m.safetensors")
    assert (card.provenance["epoch"], card.temperature, card.metrics) == (TINY.epochs, 1, {})


def test_a_report_without_an_miou_says_that_the_last_epoch_is_kept(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "m.safetensors"
    (mask,) = (data / "valid").glob("*_mask.png")
    write_picture(mask, np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8))  # unknown, of which there is no mean
    recipe = replace(TINY, ignore=(), epochs=3, lr=1.0, schedule="constant", average=0.0)
    learn(data, out, recipe, report=tmp_path / "report")
    losses = [row.valid_loss for row in read_history(out.with_name("m.safetensors.training") / "history.csv")]
    assert losses.index(min(losses)) < 2
    assert ModelBundle.open(out).provenance["epoch"] == 3
    assert "kept: epoch 3," in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


def test_the_recipe_is_in_the_bundle_and_its_options_are_checked(data: Path, tmp_path: Path) -> None:
    learn(data, tmp_path / "m.safetensors", "default", **vars_of(TINY))
    told = ModelBundle.open(tmp_path / "m.safetensors").provenance["recipe"]
    assert told == TINY.to_json()
    with pytest.raises(UsageError, match="no option 'rate'"):
        learn(data, tmp_path / "n.safetensors", "default", rate=1)
    with pytest.raises(UsageError, match="unknown recipe 'best'"):
        learn(data, tmp_path / "n.safetensors", "best")
    with pytest.raises(SceneError, match="no such file"):
        learn(data / "nowhere", tmp_path / "n.safetensors")


def vars_of(recipe: Any) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in recipe.__slots__}


@pytest.mark.parametrize(
    ("name", "value"), [("data_gsd_m", -1.0), ("split_rule", "randm:0.8"), ("lr", -1.0), ("init", "none.safetensors")]
)
def test_errors_name_the_parameter_of_train(data: Path, tmp_path: Path, name: str, value: object) -> None:
    """Parameters that other verbs share under another name: here `gsd_m` is the recipe's."""
    with pytest.raises(GeosegError, match=f"^`{name}") as refused:
        learn(data, tmp_path / "m.safetensors", **{name: value})
    assert refused.value.parameter == name


def test_an_init_that_cannot_be_trained_is_called_by_its_name(data: Path, tmp_path: Path) -> None:
    learn(data, tmp_path / "m.safetensors")
    export_model(tmp_path / "m.safetensors", tmp_path / "m.onnx")
    for init, said in (
        (tmp_path / "m.onnx", ": .*m is an ONNX file, which cannot be trained; give the .safetensors bundle"),
        (tmp_path, ": .*is a folder"),
        ("", " must be a path, got ''"),
    ):
        with pytest.raises(GeosegError, match=f"^`init`{said}") as refused:
            learn(data, tmp_path / "n.safetensors", init=init)
        assert refused.value.parameter == "init"
