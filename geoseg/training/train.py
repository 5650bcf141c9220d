"""The verb: labeled scenes in, a bundle out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from geoseg.atomic import check_free, make_folders, probe_writable
from geoseg.dataset import check_there
from geoseg.errors import GeosegError, OutputError, UsageError, numbered
from geoseg.given import StrPath, plain_arguments
from geoseg.legend import GivenLegend, Legend, legend_of_labels
from geoseg.model import ModelBundle, cache_folder, choose_device
from geoseg.progress import Progress, Says, announcer
from geoseg.raster import DEFAULT_TOLERANCE
from geoseg.training.recipe import Recipe, RecipeOptions, check_names, recipe_named

if TYPE_CHECKING:
    import geopandas

    from geoseg.dataset import Dataset, Split
    from geoseg.features import LayerChoice
    from geoseg.training.callbacks import TrainingProgress

DEFAULT_CHECKPOINT_MINUTES = 5.0
_MOST_AT_ONCE = 4096
"""Devices, or threads: more than any machine has."""


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
    announce: Callable[[str], None] | None = None,
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
    target = _check_target(out, mkdir=mkdir, overwrite=overwrite)
    folder_of_report = None if report is None else _check_report(report, mkdir=mkdir, overwrite=overwrite)
    chosen = (recipe if isinstance(recipe, Recipe) else recipe_named(recipe)).changed(**options)
    where = _check_device(device, wandb=wandb)
    check_names(chosen)
    _check_given(data, legend)
    dataset = _open_data(
        data, legend=legend, bands=bands, gsd_m=data_gsd_m, labels=labels, column=column, layer=layer,
        tolerance=tolerance, say=say,
    )  # fmt: skip
    parts = _split_as(dataset, split_rule, chosen.seed, say)
    from geoseg.training.run import check_runnable, run  # noqa: PLC0415 - torch, only once all else is right

    check_runnable(chosen, where, devices, threads)
    if mkdir:
        make_folders(target, folder_of_report)
    return run(
        dataset, parts, chosen, target, folder_of_report, device=where, devices=devices, wandb=wandb,
        cache=Path(cache) if cache is not None else cache_folder() / "scenes", checkpoint_minutes=checkpoint_minutes,
        overwrite=overwrite, progress=progress, decoding=decoding, say=say,
    )  # fmt: skip


def _check_numbers(devices: int, threads: int | None, checkpoint_minutes: float) -> None:
    for name, value in (("devices", devices), ("threads", threads)):
        if value is not None and value > _MOST_AT_ONCE:
            raise UsageError(f"`{name}` must be at most {_MOST_AT_ONCE}, got {value}", name)
    if not checkpoint_minutes >= 0:  # nan is refused too
        raise UsageError(f"`checkpoint_minutes` must be 0 or more, got {checkpoint_minutes:g}", "checkpoint_minutes")


def _check_name(out: StrPath) -> None:
    path = Path(out)
    if path.suffix != ".safetensors" and not path.is_dir():
        raise OutputError(
            f"a bundle is a .safetensors file, got {path}; name it {path.with_suffix('.safetensors').name}", "out"
        )


def _check_target(out: StrPath, *, mkdir: bool, overwrite: bool) -> Path:
    path = probe_writable(out, mkdir=mkdir)
    check_free(path, "out", overwrite=overwrite)
    return path


def _check_device(device: str, *, wandb: bool) -> str:
    """Return cpu, mps or cuda:N for what the user asked. Raises UsageError for what is not there."""
    found = choose_device(device)
    if wandb and find_spec("wandb") is None:
        raise UsageError("`wandb=True` needs Weights & Biases; pip install wandb, or leave it out", "wandb")
    return "cpu" if found in {"onnx", "torch-cpu"} else found  # ONNX Runtime does not learn


def _check_report(report: StrPath, *, mkdir: bool, overwrite: bool) -> Path:
    from geoseg.evaluation import check_folder  # noqa: PLC0415 - numba and what draws, where there is a report

    return check_folder(report, mkdir=mkdir, overwrite=overwrite)


def _check_given(data: StrPath | Dataset, legend: GivenLegend | None) -> None:
    """Raise an error for files that are not there."""
    if isinstance(data, str | os.PathLike):
        check_there(os.fspath(data))
    if legend is not None:
        legend_of_labels(legend)


def _open_data(data: StrPath | Dataset, *, say: Says, **how: Any) -> Dataset:  # noqa: ANN401 - see `open_dataset`
    """Return a data set as it is or as its path and the caller say, with what there is to know of it said."""
    from geoseg.dataset import dataset_of  # noqa: PLC0415 - numba and pandas, only once all else is right

    try:
        dataset = dataset_of(data, **how)
    except GeosegError as error:  # here gsd_m is the recipe's
        raise error.renamed(gsd_m="data_gsd_m") from None
    for note in dataset.notes:
        say(note)
    return dataset


def _split_as(dataset: Dataset, rule: str | None, seed: int, say: Says) -> Split:
    """Divide the data set, and say how and why."""
    from geoseg.dataset import default_rule, split  # noqa: PLC0415 - as above

    rule, why = (rule, "") if rule is not None else default_rule(dataset)
    try:
        parts = split(dataset, rule, seed=seed)
    except GeosegError as error:
        raise error.renamed(split="split_rule", rule="split_rule") from None
    train, valid, test = (
        f"{numbered(len(areas), 'area')} to {purpose}"
        for areas, purpose in ((parts.train, "train on"), (parts.valid, "validate"), (parts.test, "keep apart"))
    )
    say(f"{dataset.name}: {train}, {valid}, {test} (split {parts.name}{why and ': '}{why})")
    return parts
