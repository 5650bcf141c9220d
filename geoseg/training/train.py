"""The verb: labelled scenes in, a bundle out."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from geoseg.atomic import make_folders, probe_writable
from geoseg.dataset import Dataset, Split, Wanted, default_rule, open_dataset, split
from geoseg.errors import DivergedError, OutputError
from geoseg.evaluation import check_folder
from geoseg.given import plain_arguments
from geoseg.legend import Legend
from geoseg.model import DEMO as SHIPPED
from geoseg.model import ModelBundle, cache_folder, choose_device, told, use_threads
from geoseg.progress import Progress
from geoseg.raster import DEFAULT_TOLERANCE
from geoseg.training.batch_size import batch_size, check_fits
from geoseg.training.checkpoint import load_state
from geoseg.training.course import Course
from geoseg.training.faults import learning_faults
from geoseg.training.finish import finish, keep_learnt
from geoseg.training.fit import fit
from geoseg.training.folder import DEVICES, ENCODER_WEIGHTS, INIT_WEIGHTS, RunFolder, open_folder
from geoseg.training.keeper import Keeper
from geoseg.training.learner import Learner
from geoseg.training.listener import Listener
from geoseg.training.plan import TrainingPlan
from geoseg.training.planning import check_recipe, plan_training
from geoseg.training.recipe import Recipe
from geoseg.training.recipes import recipe_named
from geoseg.training.runnable import check_runnable
from geoseg.training.start import DEMO, start_network
from geoseg.training.stop import Stop, polite_stop
from geoseg.training.sweep import sweep
from geoseg.training.table import Table
from geoseg.training.told import TrainingProgress

if TYPE_CHECKING:
    import geopandas

StrPath = str | os.PathLike[str]
Says = Callable[[str], None]
DEFAULT_CHECKPOINT_MINUTES = 5.0


@plain_arguments()
def train(  # noqa: PLR0913 - the knobs of the verb
    data: StrPath | Dataset,
    out: StrPath,
    report: StrPath | None = None,
    *,
    recipe: str | Recipe = "default",
    labels: StrPath | geopandas.GeoDataFrame | None = None,
    column: str | None = None,
    layer: Wanted = None,
    legend: StrPath | Legend | None = None,
    bands: Sequence[int | str] | None = None,
    data_gsd_m: float | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    split_rule: str | None = None,
    cache: StrPath | None = None,
    device: str = "auto",
    devices: int = 1,
    threads: int | None = None,
    checkpoint_minutes: float = DEFAULT_CHECKPOINT_MINUTES,
    wandb: bool = False,
    mkdir: bool = False,
    overwrite: bool = False,
    progress: Callable[[TrainingProgress], None] | None = None,
    decoding: Callable[[Progress], None] | None = None,
    announce: Says | None = None,
    **knobs: Any,  # noqa: ANN401 - those of a recipe
) -> ModelBundle:
    """Train a network on labelled scenes and write it as a bundle; the same call after a crash goes on.

    `data`: what `open_dataset` takes, with `labels`, `column`, `layer`, `legend`, `bands`, `data_gsd_m`, `tolerance`;
    or an open one. `split_rule`: see `split`. `recipe` and any knob of `Recipe` say what is learnt and how. Scenes are
    decoded once to `cache`. Beside `out` a folder `OUT.training` holds checkpoints, written after each epoch and every
    `checkpoint_minutes`, a history and TensorBoard's logs; the checkpoints go when the bundle is there. The weights of
    the best epoch on validation are kept, with the temperature that makes their confidence honest there. `report`: a
    folder to be made, with curves, figures and the crops that are most wrong.

    `device`: auto, cpu, mps, cuda or cuda:N; `devices`: so many of them; `threads`: of the CPU. `progress` is called
    after each batch, `decoding` while scenes are decoded, `announce` with lines for the user.

    Raises UsageError, SceneError, ModelError, OutputError for what cannot be right; DivergedError when the loss is no
    number, TrainingError when a batch does not fit, ResumeError when an unfinished training of another kind lies beside
    `out`.
    """
    say = announce or (lambda _line: None)
    if mkdir:
        make_folders(out, report)
    target = _check_target(out, overwrite=overwrite)
    folder_of_report = None if report is None else check_folder(report, overwrite=overwrite)
    chosen = (recipe if isinstance(recipe, Recipe) else recipe_named(recipe)).changed(**knobs)
    where = _device(device)
    check_runnable(chosen, where, devices, wandb=wandb)
    check_recipe(chosen)
    use_threads(threads)
    dataset = data if isinstance(data, Dataset) else open_dataset(
        data, legend=legend, bands=bands, gsd_m=data_gsd_m, labels=labels, column=column, layer=layer,
        tolerance=tolerance,
    )  # fmt: skip
    for note in dataset.notes:
        say(note)
    parts = _split(dataset, split_rule, chosen.seed, say)
    meaning = _meaning(chosen, dataset, parts, devices)
    free = ("batch_size",) if chosen.batch_size is None else ()  # what was found to fit holds for the whole run
    with open_folder(target, meaning, start_over=overwrite, free=free) as folder:
        stored = Path(cache) if cache is not None else cache_folder() / "scenes"
        plan = plan_training(dataset, parts, chosen, stored, say, progress=decoding)
        network = start_network(plan, say)
        state = load_state(folder.last)
        plan = _sized(plan, network, where, devices, state, say)
        check_fits(plan, network, where)
        folder.settle(batch_size=plan.batch_size * chosen.accumulate)
        run = _Run(plan, Keeper(plan, folder, checkpoint_minutes), progress, say)
        learner = run.learner(network, where, state)
        with polite_stop(say) as run.stop:
            _learn(learner, where, devices, folder, wandb=wandb)
        bundle = finish(learner.to(where), folder, target, folder_of_report, overwrite=overwrite, say=say)
        folder.finish()
    return bundle


def _meaning(recipe: Recipe, dataset: Dataset, parts: Split, devices: int) -> dict[str, object]:
    """Return plain values that differ whenever the weights would: each device draws crops of its own."""
    begun = None if recipe.init is None else ModelBundle.open(SHIPPED if recipe.init == DEMO else recipe.init)
    return {
        **recipe.meaning(),
        ENCODER_WEIGHTS: told(recipe.encoder_weights),
        "data set": dataset.digest,
        "split": parts.digest,
        DEVICES: devices,
        INIT_WEIGHTS: None if begun is None else begun.weights_hash,
    }


def _check_target(out: StrPath, *, overwrite: bool) -> Path:
    path = probe_writable(out)
    if path.suffix != ".safetensors":
        raise OutputError(
            f"a bundle is a .safetensors file, got {path}; name it {path.with_suffix('.safetensors').name}"
        )
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; choose another `out`, or replace it with `overwrite=True`")
    return path


def _split(dataset: Dataset, rule: str | None, seed: int, say: Says) -> Split:
    """Divide the data set, and say how and why."""
    rule, why = (rule, "") if rule is not None else default_rule(dataset)
    parts = split(dataset, rule, seed=seed)
    train, valid, test = (
        f"{len(areas)} area{'s' * (len(areas) != 1)} to {purpose}"
        for areas, purpose in ((parts.train, "train on"), (parts.valid, "validate"), (parts.test, "keep apart"))
    )
    say(f"{dataset.name}: {train}, {valid}, {test} (split {parts.name}{why and ': '}{why})")
    return parts


def _device(wanted: str) -> str:
    """Return cpu, mps or cuda:N for what the user asked; ONNX Runtime does not learn."""
    found = choose_device(wanted)
    return "cpu" if found in {"onnx", "torch-cpu"} else found


def _sized(  # noqa: PLR0913, PLR0917 - what decides it
    plan: TrainingPlan,
    network: torch.nn.Module,
    device: str,
    devices: int,
    state: dict[str, Any] | None,
    say: Says,
) -> TrainingPlan:
    """Return the plan with the batch that was asked for, or that the run had, or as large a one as is likely to fit.

    An epoch without a number of batches shows each pixel about once, whatever the devices: each has its share of it.
    """
    if plan.recipe.batch_size is not None:
        return replace(plan, batches=plan.recipe.batches or math.ceil(plan.batches / devices))
    before = Course.from_text(state["course"]) if state else Course()
    size = before.batch_size * before.accumulate // plan.recipe.accumulate or batch_size(plan, network, device)
    batches = plan.recipe.batches or math.ceil(plan.batches / (size * devices))
    say(f"batches of {size} crops should fit the memory")
    return replace(plan, batch_size=size, batches=batches)


def _learn(learner: Learner, device: str, devices: int, folder: RunFolder, *, wandb: bool) -> None:
    """Run the epochs that are left. A run that diverges raises DivergedError, which says where what it learnt is kept.

    The same command would only diverge again: its batches are the same.
    """
    try:
        fit(learner, device, devices, folder.path, wandb=wandb)
    except DivergedError as fault:
        raise DivergedError(f"{fault}; {_kept(learner, folder, devices)}") from None
    if devices > 1:  # what other processes learnt is in their checkpoint
        learner.go_on_from(load_state(folder.last) or {})


def _kept(learner: Learner, folder: RunFolder, devices: int) -> str:
    try:
        what = keep_learnt(learner, folder, here=devices == 1)
    except OutputError as fault:
        return f"what was learnt could not be kept: {fault}"
    if what is None:
        return "nothing was learnt before it"
    return f"{what} is kept as a model: begin with it, `init={str(folder.kept)!r}`, `overwrite=True`"


class _Run:
    """One run: what it keeps, and whom it tells."""

    def __init__(
        self,
        plan: TrainingPlan,
        keeper: Keeper,
        progress: Callable[[TrainingProgress], None] | None,
        say: Says,
    ) -> None:
        self.stop = Stop()
        """Whether the user wants the run to end."""
        self._plan = plan
        self._keeper = keeper
        self._progress = progress
        self._say = say
        self._table = Table(plan)
        self._begun_s = time.monotonic()
        self._begun_at = 0

    def learner(self, network: torch.nn.Module, device: str, state: dict[str, Any] | None) -> Learner:
        """Return the learner at its beginning, or in the state where an equal run stopped."""
        listener = Listener(
            batch=self._tell,
            epoch=self._row,
            keep=self._keeper.keep,
            keep_best=self._keeper.keep_best,
            due=self._keeper.due,
            stop=lambda: self.stop.requested,
            seen=self._keeper.see,
        )
        learner = Learner(self._plan, network, state["lr"] if state else self._plan.recipe.lr or 0.0, listener)
        if state is not None:
            learner.go_on_from(state)
            self._begun_at = learner.course.batches
            self._say(f"goes on at batch {learner.course.batches} of {self._plan.total_batches}")
        elif self._plan.recipe.lr is None:
            with learning_faults(self._plan, device):
                learner.lr = sweep(learner, device)
            self._say(f"learning rate {learner.lr:g}, where the loss falls steepest")
        for line in self._table.heading():
            self._say(line)
        for row in learner.course.rows:
            self._say(self._table.line(row))
        return learner

    def _tell(self, course: Course, lr: float) -> None:
        if self._progress is not None:
            seconds = time.monotonic() - self._begun_s
            self._progress(TrainingProgress.of(self._plan, course, lr, seconds, self._begun_at))

    def _row(self, row: Any) -> None:  # noqa: ANN401 - an EpochRow
        self._say(self._table.line(row))
