"""The verb `train`: labeled scenes in, a bundle out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from geoseg.atomic import check_free, make_folders, probe_writable, same_file
from geoseg.dataset import check_there
from geoseg.errors import GeosegError, OutputError, UsageError, numbered
from geoseg.given import StrPath, plain_arguments
from geoseg.legend import GivenLegend, legend_of_labels
from geoseg.model import ModelBundle, cache_folder, choose_device
from geoseg.progress import Announce, Progress, announcer
from geoseg.raster import DEFAULT_TOLERANCE
from geoseg.training.recipe import Recipe, RecipeOptions, check_names, recipe_named

if TYPE_CHECKING:
    import geopandas

    from geoseg.dataset import Dataset, Split
    from geoseg.features import LayerChoice
    from geoseg.training.callbacks import TrainingProgress

DEFAULT_CHECKPOINT_MINUTES = 5.0
_MOST_AT_ONCE = 4096
"""Limit on devices and threads: more than any machine has."""


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
    legend: GivenLegend | None = None,
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
    """Train a network on labeled scenes and write it as a bundle; after a crash the same call resumes.

    Scenes are decoded once to `cache`. A folder `OUT.training` next to `out` holds checkpoints, a history and
    TensorBoard logs; the checkpoints are removed once the bundle is written. The weights of the best epoch on
    validation are kept, with the temperature that calibrates their confidence there.

    Parameters
    ----------
    data : path or Dataset
        A path accepted by `open_dataset`, or an open data set.
    out : path
        The bundle to write, a .safetensors file.
    report : path, optional
        A folder to create, with curves, figures and the worst crops.
    recipe : str or Recipe
        What to learn and how: a name from `geoseg.training.RECIPES`, or a recipe.
    labels, column, layer, legend, bands, data_gsd_m, tolerance
        Options of `open_dataset` for `data`; `data_gsd_m` is its `gsd_m`, in meters per pixel.
    split_rule : str, optional
        How to split scenes into training and validation: the `rule` of `split`.
    cache : path, optional
        A folder for decoded scenes; the user's cache by default.
    device : str
        auto, cpu, mps, cuda or cuda:N.
    devices : int
        How many of them train at once.
    threads : int, optional
        CPU threads; all cores by default.
    checkpoint_minutes : float
        Minutes between checkpoints within an epoch: the most work that a crash may cost.
    wandb : bool
        Also log to Weights & Biases.
    mkdir : bool
        Create missing parent folders of `out` and `report`.
    overwrite : bool
        Replace an existing bundle, and start over if there is an unfinished training of another kind next to `out`.
    progress : callable, optional
        Called with a `TrainingProgress` after each batch.
    decoding : callable, optional
        Called with a `Progress` while scenes are decoded.
    announce : callable, optional
        Called with messages for the user; the logger `geoseg` gets them too.
    **options
        Fields of `Recipe` that differ from `recipe`.

    Returns
    -------
    ModelBundle
        The bundle at `out`.

    Raises
    ------
    UsageError, SceneError, ModelError, OutputError
        For invalid options or data, before the first step.
    DivergedError
        If the loss becomes NaN; the weights learned before are kept.
    TrainingError
        If a batch does not fit in memory.
    ResumeError
        If there is an unfinished training of another kind next to `out`.

    Examples
    --------
    >>> bundle = geoseg.train("deepglobe/", "model.safetensors", epochs=40, lr=1e-3)  # doctest: +SKIP

    """
    announce = announcer(announce)
    _check_numbers(devices, threads, checkpoint_minutes)
    _check_name(out)
    target = probe_writable(out, mkdir=mkdir)
    check_free(target, "out", overwrite=overwrite)
    folder_of_report = None if report is None else _check_report(report, target, mkdir=mkdir, overwrite=overwrite)
    chosen_recipe = (recipe if isinstance(recipe, Recipe) else recipe_named(recipe)).changed(**options)
    chosen_device = _check_device(device, wandb=wandb)
    check_names(chosen_recipe)
    _check_inputs(data, legend)
    dataset = _open_data(
        data, legend=legend, bands=bands, gsd_m=data_gsd_m, labels=labels, column=column, layer=layer,
        tolerance=tolerance, announce=announce,
    )  # fmt: skip
    parts = _split_dataset(dataset, split_rule, chosen_recipe.seed, announce)
    from geoseg.training.run import check_runnable, run  # noqa: PLC0415 - imports torch, so only after other checks

    check_runnable(chosen_recipe, chosen_device, devices, threads)
    if mkdir:
        make_folders(target, folder_of_report)
    return run(
        dataset, parts, chosen_recipe, target, folder_of_report, device=chosen_device, devices=devices, wandb=wandb,
        cache=Path(cache) if cache is not None else cache_folder() / "scenes", checkpoint_minutes=checkpoint_minutes,
        overwrite=overwrite, progress=progress, decoding=decoding, announce=announce,
    )  # fmt: skip


def _check_numbers(devices: int, threads: int | None, checkpoint_minutes: float) -> None:
    for name, value in (("devices", devices), ("threads", threads)):
        if value is not None and value > _MOST_AT_ONCE:
            raise UsageError(f"`{name}` must be at most {_MOST_AT_ONCE}, got {value}", name)
    if not checkpoint_minutes >= 0:  # nan is refused too
        raise UsageError(f"`checkpoint_minutes` must be 0 or more, got {checkpoint_minutes:g}", "checkpoint_minutes")


def _check_name(out: StrPath) -> None:
    path = Path(out)
    if path.suffix.lower() != ".safetensors" and not path.is_dir():
        raise UsageError(
            f"a bundle is a .safetensors file, got {path}; name it {path.with_suffix('.safetensors').name}", "out"
        )


def _check_device(device: str, *, wandb: bool) -> str:
    """Return cpu, mps or cuda:N for the requested device. Raises UsageError if it is not available."""
    chosen = choose_device(device)
    if wandb and find_spec("wandb") is None:
        raise UsageError("`wandb=True` needs Weights & Biases; pip install wandb, or leave it out", "wandb")
    return "cpu" if chosen in {"onnx", "torch-cpu"} else chosen  # ONNX Runtime cannot train


def _check_report(report: StrPath, bundle: Path, *, mkdir: bool, overwrite: bool) -> Path:
    if same_file(Path(report), bundle):
        raise OutputError(f"{bundle} cannot be both the bundle and the report; choose another `report`", "report")
    from geoseg.evaluation import check_folder  # noqa: PLC0415 - numba and plotting, needed only for a report

    return check_folder(report, mkdir=mkdir, overwrite=overwrite)


def _check_inputs(data: StrPath | Dataset, legend: GivenLegend | None) -> None:
    """Raise an error for missing files."""
    if isinstance(data, str | os.PathLike):
        check_there(os.fspath(data))
    if legend is not None:
        legend_of_labels(legend)


def _open_data(data: StrPath | Dataset, *, announce: Announce, **options: Any) -> Dataset:  # noqa: ANN401 - see `open_dataset`
    """Return a data set, opened if it is a path, and announce its notes."""
    from geoseg.dataset import dataset_of  # noqa: PLC0415 - imports numba and pandas, so only after other checks

    try:
        dataset = dataset_of(data, **options)
    except GeosegError as error:  # in `train`, gsd_m is the recipe's
        raise error.renamed(gsd_m="data_gsd_m") from None
    for note in dataset.notes:
        announce(note)
    return dataset


def _split_dataset(dataset: Dataset, rule: str | None, seed: int, announce: Announce) -> Split:
    """Split the data set, and announce how and why."""
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
    announce(f"{dataset.name}: {train}, {valid}, {test} (split {parts.name}{why and ': '}{why})")
    return parts
