"""A training, from a data set and a recipe to the bundle: planned, learned, finished; it resumes where it stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from geoseg.dataset import Dataset, Split, default_rule, open_dataset, split
from geoseg.errors import DivergedError, GeosegError, OutputError
from geoseg.model import ModelBundle, recorded_weights, use_threads
from geoseg.progress import Progress
from geoseg.training.callbacks import Callbacks, TrainingProgress, TrainingState, polite_stop
from geoseg.training.checkpoint import (
    DEVICES,
    ENCODER_WEIGHTS,
    INIT_WEIGHTS,
    Checkpointer,
    RunFolder,
    load_checkpoint,
    open_folder,
)
from geoseg.training.finalization import finalize, keep_learned
from geoseg.training.loop import Learner, fit, hardware
from geoseg.training.network import Says, check_recipe, start_network
from geoseg.training.optimization import batch_size, check_fits
from geoseg.training.plan import TrainingPlan, plan_training
from geoseg.training.recipe import Recipe, opened
from geoseg.training.report import ConsoleTable, EpochRow


def check_runnable(recipe: Recipe, device: str, devices: int, threads: int | None) -> None:
    """Raise UsageError or ModelError for a recipe that cannot run here, whatever the data; set the threads."""
    hardware(device, devices, recipe)
    check_recipe(recipe)
    use_threads(threads)


def open_data(data: str | PathLike[str] | Dataset, *, say: Says, **how: Any) -> Dataset:  # noqa: ANN401 - see `open_dataset`
    """Return a data set as it is or as its path and the caller say, with what there is to know of it said."""
    try:
        dataset = data if isinstance(data, Dataset) else open_dataset(data, **how)
    except GeosegError as error:  # here gsd_m is the recipe's
        raise error.renamed(gsd_m="data_gsd_m") from None
    for note in dataset.notes:
        say(note)
    return dataset


def split_as(dataset: Dataset, rule: str | None, seed: int, say: Says) -> Split:
    """Divide the data set, and say how and why."""
    rule, why = (rule, "") if rule is not None else default_rule(dataset)
    try:
        parts = split(dataset, rule, seed=seed)
    except GeosegError as error:
        raise error.renamed(split="split_rule", rule="split_rule") from None
    train, valid, test = (
        f"{len(areas)} area{'s' * (len(areas) != 1)} to {purpose}"
        for areas, purpose in ((parts.train, "train on"), (parts.valid, "validate"), (parts.test, "keep apart"))
    )
    say(f"{dataset.name}: {train}, {valid}, {test} (split {parts.name}{why and ': '}{why})")
    return parts


def run(  # noqa: PLR0913 - the sides of `train`, settled
    dataset: Dataset,
    parts: Split,
    recipe: Recipe,
    target: Path,
    report: Path | None,
    *,
    device: str,
    devices: int,
    wandb: bool,
    cache: Path,
    checkpoint_minutes: float,
    overwrite: bool,
    progress: Callable[[TrainingProgress], None] | None,
    decoding: Callable[[Progress], None] | None,
    say: Says,
) -> ModelBundle:
    """Learn a recipe from the parts of a data set and return the bundle at `target`; see `train`."""
    meaning = _meaning(recipe, dataset, parts, devices)
    free = ("batch_size",) if recipe.batch_size is None else ()  # what was found to fit holds for the whole run
    with open_folder(target, meaning, start_over=overwrite, free=free) as folder:
        plan = plan_training(dataset, parts, recipe, cache, say, progress=decoding)
        network = start_network(plan, say)
        checkpoint = load_checkpoint(folder.last)
        plan = _sized(plan, network, device, devices, checkpoint, say)
        check_fits(plan, network, device)
        folder.settle(batch_size=plan.batch_size * recipe.accumulate)
        with polite_stop(say) as stop:
            console = _Console(plan, progress, say)
            keeper = Checkpointer(plan, folder, checkpoint_minutes)
            callbacks = Callbacks(
                batch=console.batch,
                epoch=console.epoch,
                keep=keeper.keep,
                keep_best=keeper.keep_best,
                due=keeper.due,
                stop=lambda: stop.requested,
                seen=keeper.see,
            )
            learner = _learner(plan, network, device, checkpoint, callbacks, say)
            console.begin(learner.state)
            _learn(learner, device, devices, folder, wandb=wandb)
        bundle = finalize(learner.to(device), folder, target, report, overwrite=overwrite, say=say)
        folder.finish()
    return bundle


def _meaning(recipe: Recipe, dataset: Dataset, parts: Split, devices: int) -> dict[str, object]:
    """Return plain values that differ whenever the weights would: each device draws crops of its own."""
    return {
        **recipe.meaning(),
        ENCODER_WEIGHTS: recorded_weights(recipe.encoder_weights),
        "data set": dataset.digest,
        "split": parts.digest,
        DEVICES: devices,
        INIT_WEIGHTS: None if recipe.init is None else opened(recipe.init).weights_hash,
    }


def _sized(  # noqa: PLR0913, PLR0917 - what decides it
    plan: TrainingPlan,
    network: torch.nn.Module,
    device: str,
    devices: int,
    checkpoint: dict[str, Any] | None,
    say: Says,
) -> TrainingPlan:
    """Return the plan with the batch that was asked for, or that the run had, or as large a one as is likely to fit.

    An epoch without a number of batches shows each pixel about once, whatever the devices: each has its share of it.
    """
    if plan.recipe.batch_size is not None:
        return replace(plan, batches=plan.recipe.batches or math.ceil(plan.batches / devices))
    before = TrainingState.from_text(checkpoint["course"]) if checkpoint else TrainingState()
    size = before.batch_size * before.accumulate // plan.recipe.accumulate or batch_size(plan, network, device)
    batches = plan.recipe.batches or math.ceil(plan.batches / (size * devices))
    say(f"batches of {size} crops should fit the memory")
    return replace(plan, batch_size=size, batches=batches)


def _learner(  # noqa: PLR0913, PLR0917 - what it begins with
    plan: TrainingPlan,
    network: torch.nn.Module,
    device: str,
    checkpoint: dict[str, Any] | None,
    callbacks: Callbacks,
    say: Says,
) -> Learner:
    """Return the learner at its beginning, or where an equal run stopped."""
    learner = Learner(plan, network, checkpoint["lr"] if checkpoint else plan.recipe.lr or 0.0, callbacks)
    if checkpoint is not None:
        learner.resume(checkpoint)
        say(f"resumes at batch {learner.state.batches} of {plan.total_batches}")
    elif plan.recipe.lr is None:
        learner.lr = learner.find_lr(device)
        say(f"learning rate {learner.lr:g}, where the loss falls steepest")
    return learner


def _learn(learner: Learner, device: str, devices: int, folder: RunFolder, *, wandb: bool) -> None:
    """Run the epochs that are left. A run that diverges raises DivergedError, which says where what it learned is kept.

    The same command would only diverge again: its batches are the same.
    """
    try:
        fit(learner, device, devices, folder.path, wandb=wandb)
    except DivergedError as fault:
        raise DivergedError(f"{fault}; {_kept(learner, folder, devices)}") from None
    if devices > 1:  # what other processes learned is in their checkpoint
        learner.resume(load_checkpoint(folder.last) or {})


def _kept(learner: Learner, folder: RunFolder, devices: int) -> str:
    try:
        what = keep_learned(learner, folder, here=devices == 1)
    except OutputError as fault:
        return f"what was learned could not be kept: {fault}"
    if what is None:
        return "nothing was learned before it"
    return f"{what} is kept as a model: begin with it, `init={str(folder.kept)!r}`, `overwrite=True`"


class _Console:
    """What the user sees of a run: a line an epoch, and progress."""

    def __init__(self, plan: TrainingPlan, progress: Callable[[TrainingProgress], None] | None, say: Says) -> None:
        self._plan = plan
        self._progress = progress
        self._say = say
        self._table = ConsoleTable(plan)
        self._begun_s = time.monotonic()
        self._begun_at = 0

    def begin(self, state: TrainingState) -> None:
        """Say what a run before has said."""
        self._begun_at = state.batches
        for line in (*self._table.heading(), *map(self._table.line, state.rows)):
            self._say(line)

    def batch(self, state: TrainingState, lr: float) -> None:
        """Tell how far the run is."""
        if self._progress is not None:
            seconds = time.monotonic() - self._begun_s
            self._progress(TrainingProgress.of(self._plan, state, lr, seconds, self._begun_at))

    def epoch(self, row: EpochRow) -> None:
        """Say an epoch's line."""
        self._say(self._table.line(row))
