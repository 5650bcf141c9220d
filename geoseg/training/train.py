"""The verb: labeled scenes in, a bundle out."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import torch

from geoseg.atomic import make_folders, probe_writable
from geoseg.dataset import Dataset, Split, default_rule, open_dataset, split
from geoseg.errors import DivergedError, GeosegError, OutputError, UsageError
from geoseg.evaluation import check_folder
from geoseg.given import plain_arguments
from geoseg.legend import Legend
from geoseg.model import ModelBundle, cache_folder, choose_device, recorded_weights, use_threads
from geoseg.progress import Progress, announcer
from geoseg.raster import DEFAULT_TOLERANCE
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
from geoseg.training.network import Says, check_recipe, opened, start_network
from geoseg.training.optimization import batch_size, check_fits
from geoseg.training.plan import TrainingPlan, plan_training
from geoseg.training.recipe import Recipe, RecipeOptions, recipe_named
from geoseg.training.report import ConsoleTable, EpochRow

if TYPE_CHECKING:
    import geopandas

    from geoseg.features import LayerChoice

StrPath = str | os.PathLike[str]
DEFAULT_CHECKPOINT_MINUTES = 5.0


@plain_arguments()
def train(  # noqa: PLR0913 - the options of the verb
    data: StrPath | Dataset,
    out: StrPath,
    report: StrPath | None = None,
    *,
    recipe: str | Recipe = "default",
    labels: StrPath | geopandas.GeoDataFrame | None = None,
    column: str | None = None,
    layer: LayerChoice = None,
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
    **options: Unpack[RecipeOptions],
) -> ModelBundle:
    """Train a network on labeled scenes and write it as a bundle; the same call after a crash resumes.

    Scenes are decoded once to `cache`. A folder `OUT.training` beside `out` holds checkpoints, a history and
    TensorBoard's logs; the checkpoints go when the bundle is there. The weights of the best epoch on validation are
    kept, with the temperature that makes their confidence honest there.

    Parameters
    ----------
    data : path or Dataset
        What `open_dataset` takes, or an open data set.
    out : path
        The bundle to write, a .safetensors file.
    report : path, optional
        A folder to make, with curves, figures and the crops that are most wrong.
    recipe : str or Recipe
        What is learned and how: a name of `geoseg.training.RECIPES`, or a recipe.
    labels, column, layer, legend, bands, data_gsd_m, tolerance
        Of `data`, as `open_dataset` takes them; `data_gsd_m` is its `gsd_m`, in meters a pixel.
    split_rule : str, optional
        How scenes are divided to train on and to validate: the `rule` of `split`.
    cache : path, optional
        A folder for decoded scenes; the user's cache by default.
    device : str
        auto, cpu, mps, cuda or cuda:N.
    devices : int
        How many of them train at once.
    threads : int, optional
        CPU threads; all cores by default.
    checkpoint_minutes : float
        Minutes between checkpoints within an epoch: the work that a crash may cost.
    wandb : bool
        Log to Weights & Biases too.
    mkdir : bool
        Make the folders that `out` and `report` lie in.
    overwrite : bool
        Replace an existing bundle, and start over where an unfinished training of another kind lies beside `out`.
    progress : callable, optional
        Called with a `TrainingProgress` after each batch.
    decoding : callable, optional
        Called with a `Progress` while scenes are decoded.
    announce : callable, optional
        Called with lines for the user; they go to the logger `geoseg` as well.
    **options
        Fields of `Recipe` that differ from `recipe`.

    Returns
    -------
    ModelBundle
        The bundle at `out`.

    Raises
    ------
    UsageError, SceneError, ModelError, OutputError
        For what cannot be right, before the first step.
    DivergedError
        When the loss becomes NaN; what was learned before is kept.
    TrainingError
        When a batch does not fit the memory.
    ResumeError
        When an unfinished training of another kind lies beside `out`.

    Examples
    --------
    >>> bundle = geoseg.train("deepglobe/", "model.safetensors", epochs=40, lr=1e-3)  # doctest: +SKIP

    """
    say = announcer(announce)
    _check_numbers(devices, threads, checkpoint_minutes)
    _check_name(out)
    if mkdir:
        make_folders(out, report)
    target = _check_target(out, overwrite=overwrite)
    folder_of_report = None if report is None else check_folder(report, overwrite=overwrite)
    chosen = (recipe if isinstance(recipe, Recipe) else recipe_named(recipe)).changed(**options)
    where = _check_runnable(chosen, device, devices, wandb=wandb)
    check_recipe(chosen)
    use_threads(threads)
    dataset = data if isinstance(data, Dataset) else _opened(
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
        checkpoint = load_checkpoint(folder.last)
        plan = _sized(plan, network, where, devices, checkpoint, say)
        check_fits(plan, network, where)
        folder.settle(batch_size=plan.batch_size * chosen.accumulate)
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
            learner = _learner(plan, network, where, checkpoint, callbacks, say)
            console.begin(learner.state)
            _learn(learner, where, devices, folder, wandb=wandb)
        bundle = finalize(learner.to(where), folder, target, folder_of_report, overwrite=overwrite, say=say)
        folder.finish()
    return bundle


def _check_numbers(devices: int, threads: int | None, checkpoint_minutes: float) -> None:
    for name, value in (("devices", devices), ("threads", threads)):
        if value is not None and value < 1:
            raise UsageError(f"`{name}` must be at least 1, got {value}", name)
    if not checkpoint_minutes >= 0:  # nan is refused too
        raise UsageError(f"`checkpoint_minutes` must be 0 or more, got {checkpoint_minutes:g}", "checkpoint_minutes")


def _check_name(out: StrPath) -> None:
    path = Path(out)
    if path.suffix != ".safetensors" and not path.is_dir():
        raise OutputError(
            f"a bundle is a .safetensors file, got {path}; name it {path.with_suffix('.safetensors').name}", "out"
        )


def _check_target(out: StrPath, *, overwrite: bool) -> Path:
    path = probe_writable(out)
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; choose another `out`, or replace it with `overwrite=True`", "out")
    return path


def _check_runnable(recipe: Recipe, device: str, devices: int, *, wandb: bool) -> str:
    """Return cpu, mps or cuda:N for what the user asked. Raises UsageError for what is not there."""
    found = choose_device(device)
    where = "cpu" if found in {"onnx", "torch-cpu"} else found  # ONNX Runtime does not learn
    hardware(where, devices, recipe)
    if wandb and find_spec("wandb") is None:
        raise UsageError("`wandb=True` needs Weights & Biases; pip install wandb, or leave it out", "wandb")
    return where


def _opened(data: StrPath, **how: Any) -> Dataset:  # noqa: ANN401 - as many types as `open_dataset` takes
    try:
        return open_dataset(data, **how)
    except GeosegError as error:  # here gsd_m is the recipe's
        raise error.renamed(gsd_m="data_gsd_m") from None


def _split(dataset: Dataset, rule: str | None, seed: int, say: Says) -> Split:
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
