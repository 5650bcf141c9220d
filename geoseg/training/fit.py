"""Lightning runs the loop: devices, mixed precision, loggers. What is kept between runs is geoseg's own."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from geoseg.errors import UsageError
from geoseg.model import cuda_devices
from geoseg.training.faults import learning_faults
from geoseg.training.learner import Learner
from geoseg.training.recipe import Recipe
from geoseg.training.several import heard

_TALKATIVE = ("lightning.pytorch", "lightning.fabric", "lightning_utilities")


def fit(learner: Learner, device: str, devices: int, folder: Path, *, wandb: bool = False) -> None:
    """Run what is left of the epochs. The course, and the weights, are then in the learner and in its checkpoints.

    `device`: cpu, mps, cuda or cuda:N; `devices`: how many of them. Raises TrainingError when the loss is no number or
    a batch does not fit, whatever the learner's listener raises, KeyboardInterrupt.
    """
    if learner.is_over:
        return
    with _quiet(), _interruptible():
        trainer = pl.Trainer(
            max_epochs=learner.plan.recipe.epochs - learner.course.epochs,
            logger=loggers(folder, learner.plan.recipe, learner.plan.step_of(learner.course.batches), wandb=wandb),
            **hardware(device, devices, learner.plan.recipe),
            accumulate_grad_batches=learner.plan.recipe.accumulate,
            gradient_clip_val=learner.plan.recipe.clip or None,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with learning_faults(learner.plan, device), heard(learner) if devices > 1 else contextlib.nullcontext():
            trainer.fit(learner)


def hardware(device: str, devices: int, recipe: Recipe) -> dict[str, Any]:
    """Return Lightning's arguments for the device and the precision. Raises UsageError for what cannot be."""
    kind, _, number = device.partition(":")
    if kind == "cpu" and recipe.precision == "16":
        raise UsageError("precision 16 needs a GPU; take bf16 or 32")
    where: dict[str, Any] = {"accelerator": "gpu" if kind == "cuda" else kind, "devices": devices}
    if devices > 1:
        if int(number or 0):
            raise UsageError(
                f"{devices} devices are the first {devices}, got device {device}; leave `device` out, and choose among "
                "GPUs by CUDA_VISIBLE_DEVICES"
            )
        there = {"cuda": cuda_devices(), "mps": 1}.get(kind, devices)
        if devices > there:
            raise UsageError(f"{devices} devices were asked for, {there} of kind {kind} found; give `devices={there}`")
        # spawn: other processes load the same learner; a command line that started it is not run again
        where["strategy"] = "ddp_spawn_find_unused_parameters_true"
    elif number:
        where["devices"] = [int(number)]
    return where | {"precision": _precision(kind, recipe.precision)}


def loggers(folder: Path, recipe: Recipe, step: int, *, wandb: bool) -> list[Logger]:
    """Return where the figures of the steps after `step` go: CSV and TensorBoard always, Weights & Biases if asked.

    A run that goes on has a CSV of its own beside that of the run before, which Lightning's logger would delete;
    TensorBoard hides what was logged of steps that are made again.
    """
    found: list[Logger] = [
        CSVLogger(folder, name="csv", version=f"from_step_{step}" if step else ""),
        TensorBoardLogger(folder, name="tensorboard", version="", purge_step=step + 1 if step else None),
    ]
    if wandb:
        from lightning.pytorch.loggers import WandbLogger  # noqa: PLC0415 - an extra of an extra

        found.append(WandbLogger(project="geoseg", save_dir=folder, config=recipe.to_json()))
    return found


def _precision(kind: str, wanted: str) -> Any:  # noqa: ANN401 - Lightning's own literal
    if wanted == "auto":
        wanted = "bf16" if kind == "cuda" and _has_bf16() else "32"
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[wanted]


def _has_bf16() -> bool:
    import torch  # noqa: PLC0415 - asked of GPUs alone

    return bool(torch.cuda.is_bf16_supported())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Have Lightning keep its advice to itself: who types `geoseg train` cannot follow it."""
    before = {name: logging.getLogger(name).level for name in _TALKATIVE}
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=".*(treespec|pytree|lr_scheduler|isinstance).*")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Give Ctrl-C back: Lightning takes it, ends the process, and leaves it ignored."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if main and handler is not None:
            signal.signal(signal.SIGINT, handler)
