"""Running a training from a data set and a recipe to the bundle: plan, learn, finalize, or resume where it stopped."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from geoseg.dataset import Dataset, Split
from geoseg.errors import DivergedError, OutputError, numbered
from geoseg.evaluation import Evaluation, LeftOut, WorstCrops
from geoseg.model import ModelBundle, recorded_weights, use_threads
from geoseg.progress import Announce, Progress
from geoseg.training.callbacks import Callbacks, TrainingProgress, TrainingState, polite_stop
from geoseg.training.checkpoint import (
    BEST,
    DEVICES,
    ENCODER_WEIGHTS,
    INIT_WEIGHTS,
    Checkpointer,
    RunFolder,
    load_checkpoint,
    open_folder,
    recipe_as_run,
    write_bundle,
)
from geoseg.training.loop import Learner, fit, hardware
from geoseg.training.network import bring_back, check_recipe, start_network
from geoseg.training.optimization import batch_size, check_fits, validation_errors
from geoseg.training.plan import TrainingPlan, plan_training
from geoseg.training.recipe import Recipe, opened
from geoseg.training.report import ConsoleTable, EpochRow, write_training_report
from geoseg.training.validation import LiveEngine, Scores, calibrated_temperature, score_scene


def check_runnable(recipe: Recipe, device: str, devices: int, threads: int | None) -> None:
    """Raise UsageError or ModelError for a recipe that cannot run here with any data; set the number of threads."""
    hardware(device, devices, recipe)
    check_recipe(recipe)
    use_threads(threads)


def run(  # noqa: PLR0913 - the options of `train`, resolved
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
    announce: Announce,
) -> ModelBundle:
    """Train a recipe on the parts of a data set and return the bundle at `target`; see `train`."""
    meaning = _run_meaning(recipe, dataset, parts, devices)
    free = ("batch_size",) if recipe.batch_size is None else ()  # an automatic size is kept for the whole run
    with open_folder(target, meaning, start_over=overwrite, free=free) as folder:
        plan = plan_training(dataset, parts, recipe, cache, announce, progress=decoding)
        network = start_network(plan, announce)
        checkpoint = load_checkpoint(folder.last)
        plan = _with_batch_size(plan, network, device, devices, checkpoint, announce)
        check_fits(plan, network, device)
        folder.settle(batch_size=plan.batch_size * recipe.accumulate)
        with polite_stop(announce) as stop:
            console = _Console(plan, progress, announce)
            checkpointer = Checkpointer(plan, folder, checkpoint_minutes)
            callbacks = Callbacks(
                batch=console.batch,
                epoch=console.epoch,
                keep=checkpointer.keep,
                keep_best=checkpointer.keep_best,
                due=checkpointer.due,
                stop=lambda: stop.requested,
                seen=checkpointer.see,
            )
            learner = _learner(plan, network, device, checkpoint, callbacks, announce)
            console.begin(learner.state)
            _run_epochs(learner, device, devices, folder, wandb=wandb)
        bundle = _finalize(learner.to(device), folder, target, report, overwrite=overwrite, announce=announce)
        folder.finish()
    return bundle


def _run_meaning(recipe: Recipe, dataset: Dataset, parts: Split, devices: int) -> dict[str, object]:
    """Return plain values that differ whenever the weights would, including the devices, which draw their own crops."""
    return {
        **recipe.meaning(),
        ENCODER_WEIGHTS: recorded_weights(recipe.encoder_weights),
        "data set": dataset.digest,
        "split": parts.digest,
        DEVICES: devices,
        INIT_WEIGHTS: None if recipe.init is None else opened(recipe.init).weights_hash,
    }


def _with_batch_size(  # noqa: PLR0913, PLR0917 - all of these decide the size
    plan: TrainingPlan,
    network: torch.nn.Module,
    device: str,
    devices: int,
    checkpoint: dict[str, Any] | None,
    announce: Announce,
) -> TrainingPlan:
    """Return the plan with the batch size requested, or that of an earlier run, or the largest that is likely to fit.

    Without a number of batches, an epoch shows each pixel about once, shared out among the devices.
    """
    if plan.recipe.batch_size is not None:
        return replace(plan, batches=plan.recipe.batches or math.ceil(plan.batches / devices))
    before = TrainingState.from_text(checkpoint["course"]) if checkpoint else TrainingState()
    size = before.batch_size * before.accumulate // plan.recipe.accumulate or batch_size(plan, network, device)
    batches = plan.recipe.batches or math.ceil(plan.batches / (size * devices))
    announce(f"batches of {numbered(size, 'crop')} should fit in memory")
    return replace(plan, batch_size=size, batches=batches)


def _learner(  # noqa: PLR0913, PLR0917 - the parts of a learner
    plan: TrainingPlan,
    network: torch.nn.Module,
    device: str,
    checkpoint: dict[str, Any] | None,
    callbacks: Callbacks,
    announce: Announce,
) -> Learner:
    """Return the learner in its initial state, or where an equal run stopped."""
    learner = Learner(plan, network, checkpoint["lr"] if checkpoint else plan.recipe.lr or 0.0, callbacks)
    if checkpoint is not None:
        learner.resume(checkpoint)
        announce(f"resumes at batch {learner.state.batches} of {plan.total_batches}")
    elif plan.recipe.lr is None:
        learner.lr = learner.find_lr(device)
        announce(f"learning rate {learner.lr:g}, by a learning rate range test")
    return learner


def _run_epochs(learner: Learner, device: str, devices: int, folder: RunFolder, *, wandb: bool) -> None:
    """Run the remaining epochs. A run that diverges raises DivergedError, which says where its weights are kept.

    The same command would only diverge again, since its batches are the same.
    """
    try:
        fit(learner, device, devices, folder.path, wandb=wandb)
    except DivergedError as fault:
        raise DivergedError(f"{fault}; {_kept_note(learner, folder, devices)}") from None
    if devices > 1:  # other processes learned the weights, and wrote them to a checkpoint
        learner.resume(load_checkpoint(folder.last) or {})


def _kept_note(learner: Learner, folder: RunFolder, devices: int) -> str:
    try:
        weights_kept = _save_learned(learner, folder, here=devices == 1)
    except OutputError as fault:
        return f"what was learned could not be kept: {fault}"
    if weights_kept is None:
        return "nothing was learned before it"
    return f"{weights_kept} is kept as a model: start from it with `init={str(folder.kept)!r}`, `overwrite=True`"


def _finalize(  # noqa: PLR0913 - a run, and its outputs
    learner: Learner, folder: RunFolder, target: Path, report: Path | None, *, overwrite: bool, announce: Announce
) -> ModelBundle:
    """Write the bundle of the best epoch, and the report if requested.

    Raises OutputError; the checkpoints then stay, and the same call writes the bundle.
    """
    plan = learner.plan
    best = load_checkpoint(folder.best, BEST)
    if best is not None:  # if no epoch was validated, the last weights are kept
        learner.kept.load_state_dict(best["weights"])
    network = learner.kept.eval()
    if bring_back(plan, network):
        announce(f"the weights are moved back toward those at the start, {plan.recipe.start_share:.0%} of the way")
    with validation_errors(plan, str(learner.device)):
        temperature = calibrated_temperature(plan, network)
        evaluation = _evaluated(plan, network, temperature, target.name)
    bundle = write_bundle(learner, target, folder.known, temperature=temperature, found=evaluation)
    if evaluation is not None and evaluation.calibration is not None and best is not None:
        announce(
            f"epoch {learner.state.best_epoch + 1} is the best: mIoU {evaluation.metrics.miou_of_reference:.4f} on "
            f"validation, confidence off by {evaluation.calibration.error:.3f} at temperature {temperature:.2f}"
        )
    if evaluation is not None and (invented := evaluation.metrics.note_on_invented):
        announce(invented)
    if evaluation is not None and evaluation.left_out.several:
        pixels = numbered(evaluation.left_out.several, "pixel")
        announce(f"{pixels} of validation not counted: the labels allow several classes")
    if report is not None and evaluation is not None:
        _report(learner, evaluation, report, folder.known, overwrite=overwrite, announce=announce)
    elif report is not None:
        announce("nothing was validated, so there is no report; evaluate the bundle on a data set instead")
    return bundle


def _save_learned(learner: Learner, folder: RunFolder, *, here: bool) -> str | None:
    """Write the weights of a run that cannot continue as a bundle, and return which they are; None if there are none.

    They are the best epoch's. If none was validated, they are the learner's own, if it learned `here` and they are
    finite, or else the last checkpoint's. Raises OutputError.
    """
    best = load_checkpoint(folder.best, BEST)
    if best is not None:
        learner.kept.load_state_dict(best["weights"])
        learner.state = TrainingState.from_text(best["course"])
    elif not (here and all(tensor.isfinite().all() for tensor in learner.kept.state_dict().values())):
        last = load_checkpoint(folder.last)
        if last is None:
            return None
        learner.resume(last)
    if not learner.state.batches:
        return None
    learner.kept.eval()
    write_bundle(learner, folder.kept, folder.known)
    batches = learner.state.batches
    if best:
        return f"the best epoch, {learner.state.best_epoch + 1},"
    return f"what was learned in {numbered(batches, 'batch')}"


def _evaluated(plan: TrainingPlan, network: torch.nn.Module, temperature: float, name: str) -> Evaluation | None:
    """Return the figures on validation at the bundle's temperature; None if no pixel counts."""
    if not plan.valid:
        return None
    engine = LiveEngine(network, plan.normalization, len(plan.output_codes), temperature)
    scores, worst = Scores.empty(plan.legend, plan.output_codes), WorstCrops(plan.legend, stretch=plan.stretch)
    for scene in plan.valid:
        scores = scores.merge(score_scene(plan, engine, scene, worst.see))
    if not scores.matrix.total_px:
        return None
    reference = f"validation of {plan.data['name']}"
    left_out = LeftOut(several=scores.several_px)
    return Evaluation.of(name, reference, scores.matrix, left_out=left_out, calibration=scores.calibration, worst=worst)


def _report(  # noqa: PLR0913 - a run, and its report
    learner: Learner,
    evaluation: Evaluation,
    folder: Path,
    meaning: Mapping[str, object],
    *,
    overwrite: bool,
    announce: Announce,
) -> None:
    """Write the report. Raises OutputError, which says how to write it without another training."""
    plan = learner.plan
    split = plan.data["split"]
    data = {
        "data set": plan.data["name"],
        "split": f"{split['name']}: {numbered(len(plan.train), 'scene')} to train on, {len(plan.valid)} to validate",
        "digests": f"data set {plan.data['digest'][:16]}, split {split['digest'][:16]}",
        "pixels": f"{plan.gsd_m:g} m" if plan.gsd_m else "of unknown size",
    }
    try:
        write_training_report(
            folder,
            learner.state.rows,
            evaluation,
            json.dumps(recipe_as_run(plan, meaning), indent=1),
            data=data,
            overwrite=overwrite,
            announce=announce,
        )
    except OutputError as fault:
        raise OutputError(
            f"{fault}; the model is written, and the same command with `overwrite=True` writes the report", "report"
        ) from None


class _Console:
    """What the user sees of a run: one line per epoch, and progress."""

    def __init__(
        self, plan: TrainingPlan, progress: Callable[[TrainingProgress], None] | None, announce: Announce
    ) -> None:
        self._plan = plan
        self._progress = progress
        self._announce = announce
        self._table = ConsoleTable(plan)
        self._begun_s = time.monotonic()
        self._begun_at = 0

    def begin(self, state: TrainingState) -> None:
        """Print the table's header and the lines of an earlier run."""
        self._begun_at = state.batches
        for line in (self._table.heading(), *map(self._table.line, state.rows)):
            self._announce(line)

    def batch(self, state: TrainingState, lr: float) -> None:
        """Report progress."""
        if self._progress is not None:
            seconds = time.monotonic() - self._begun_s
            self._progress(TrainingProgress.of(self._plan, state, lr, seconds, self._begun_at))

    def epoch(self, row: EpochRow) -> None:
        """Print an epoch's line."""
        self._announce(self._table.line(row))
