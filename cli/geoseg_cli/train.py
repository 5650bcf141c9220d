"""`geoseg train`; recipe options take their defaults from the recipe, so none are written here."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from geoseg.errors import UsageError
from geoseg_cli import options
from geoseg_cli import parameter_types as types
from geoseg_cli.options import GroupedCommand, GroupedOption, grouped, path_argument
from geoseg_cli.output import say
from geoseg_cli.parameter_types import TRAINING_WORDS, JsonObject, NumberOr, numbers, training_word
from geoseg_cli.process import InterruptedRunError
from geoseg_cli.progress_bar import TrainingBar

if TYPE_CHECKING:
    from geoseg.model import ModelBundle

_RUN, _DATA = "Run", "Data"
_NETWORK, _INPUT, _LEARNING, _BUNDLE = "Network", "Network input", "Learning", "Bundle"
_MISSING = object()
"""Stands for the missing default of an option that the recipe has under another name."""
_RECIPE_OPTIONS: tuple[tuple[str, str, str, Any, str], ...] = (
    (_NETWORK, "--architecture", "architecture", str, "Unet, FPN, DeepLabV3Plus, FCN8s, SegNet, PlainUnet, ..."),
    (_NETWORK, "--encoder", "encoder", str, "resnet34, timm-mobilenetv3_small_100, tu-convnext_tiny, ... or none."),
    (_NETWORK, "--arguments", "arguments", JsonObject(), "More arguments of the architecture, as a JSON object."),
    (_NETWORK, "--encoder-weights", "encoder_weights", str,
     "imagenet, noisy-student, ... (downloaded once), a file, or none."),
    (_NETWORK, "--init", "init", str, "Bundle to start from, demo for the one in geoseg, or none."),
    (_NETWORK, "--norm", "norm", str, "auto, batch, group (for batches of one to four) or frozen."),
    (_NETWORK, "--trainable", "trainable", str, "What learns: auto, all, decoder, head or early (the first layers)."),
    (_INPUT, "--gsd", "gsd_m", NumberOr("none", float), "Pixel size in meters; finer imagery is averaged."),
    (_INPUT, "--size", "size_px", NumberOr("none", int), "Resize each scene: its long side in pixels."),
    (_INPUT, "--crop", "crop_px", int, "Side of a crop in pixels."),
    (_INPUT, "--rare", "rare", float,
     "Share of crops drawn by class, each class equally often; the others fall anywhere."),
    (_INPUT, "--augmentation", "augmentation", str, "none, flips, default, strong, or a list: hflip,rot90,color:0.5."),
    (_INPUT, "--normalization", "normalization", str,
     "auto, dataset, imagenet, inception, model (that of --init) or MEANS/STDS."),
    (_INPUT, "--ignore", "ignore", str, "Classes to leave out, separated by commas, or none; class 3 also as 3."),
    (_LEARNING, "--loss", "loss", str, "cross-entropy, dice, focal, lovasz, or a sum: 'cross-entropy + 0.5 dice'."),
    (_LEARNING, "--weights", "weights", str, "Class weights in the loss: none, auto, or numbers separated by commas."),
    (_LEARNING, "--optimizer", "optimizer", str, "adam, adamw, rmsprop or sgd."),
    (_LEARNING, "--lr", "lr", NumberOr("auto", float), "Learning rate; auto runs a learning rate finder."),
    (_LEARNING, "--weight-decay", "weight_decay", float, "Weight decay."),
    (_LEARNING, "--momentum", "momentum", float, "Momentum, of sgd and rmsprop."),
    (_LEARNING, "--betas", "betas", numbers, "Two numbers separated by a comma, of adam and adamw."),
    (_LEARNING, "--eps", "eps", float, "Epsilon, of adam, adamw and rmsprop."),
    (_LEARNING, "--amsgrad/--no-amsgrad", "amsgrad", bool, "AMSGrad, of adam and adamw."),
    (_LEARNING, "--schedule", "schedule", str, "constant, step, multi-step, cyclic, exp-range, one-cycle or cosine."),
    (_LEARNING, "--warmup", "warmup", float, "Share of the steps in which the learning rate rises."),
    (_LEARNING, "--step-epochs", "step_epochs", int, "Epochs of a step, and of half a cycle."),
    (_LEARNING, "--milestones", "milestones", numbers, "Epochs of the steps of multi-step, separated by commas."),
    (_LEARNING, "--gamma", "gamma", float, "Factor of a step, and of the cycles of exp-range."),
    (_LEARNING, "--floor", "floor", float, "Lowest learning rate, as a share of --lr."),
    (_LEARNING, "--batch-size", "batch_size", NumberOr("auto", int), "Crops in a batch; auto: what memory holds."),
    (_LEARNING, "--accumulate", "accumulate", int, "Batches whose gradients make one step."),
    (_LEARNING, "--epochs", "epochs", int, "Epochs."),
    (_LEARNING, "--batches", "batches", NumberOr("auto", int), "Batches in an epoch; auto: each pixel about once."),
    (_LEARNING, "--clip", "clip", float, "Maximum norm of the gradients; 0: no limit."),
    (_LEARNING, "--average", "average", float, "Decay of the running average of the weights; 0: no average."),
    (_LEARNING, "--start-share", "start_share", float, "Share of --init in the finished weights, if no class is new."),
    (_LEARNING, "--precision", "precision", str, "auto, 32, bf16 or 16."),
    (_LEARNING, "--patience", "patience", NumberOr("none", int), "Stop after this many epochs without a better mIoU."),
    (_LEARNING, "--valid-every", "valid_every", int, "Epochs between validations."),
    (_LEARNING, "--seed", "seed", int, "Seed of everything random."),
    (_BUNDLE, "--window", "window_px", NumberOr("none", int), "Window in pixels; none: 512, less for smaller scenes."),
)  # fmt: skip
"""Heading, option, name in the recipe, type and help text."""
_MAY_BE_NONE = {"encoder", "encoder_weights", "init"}
"""Text options where `none` means None; for numbers see `NumberOr`."""


class _RecipeOption(GroupedOption):
    """An option whose help shows the default from the recipe `default`, looked up when the help is shown."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option and its help text, with the default."""
        from geoseg.training import Recipe

        record = super().get_help_record(ctx)
        default = getattr(Recipe(), self.name or "", _MISSING)
        if record is None or default is _MISSING or default == ():
            return record
        return record[0], f"{record[1]} [default: {self._default_text(default)}]"

    def _default_text(self, default: Any) -> str:  # noqa: ANN401 - as many types as options
        match default:
            case bool():
                return "on" if default else "off"
            case None:
                return self.type.word if isinstance(self.type, NumberOr) else "none"
            case tuple():
                return ",".join(map(str, default))
            case dict():
                return json.dumps(default)
        return f"{default:g}" if isinstance(default, float) else str(default)


def _recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each field of a recipe."""
    for heading, flag, name, kind, text in reversed(_RECIPE_OPTIONS):
        settings: dict[str, Any] = {}
        if kind is not bool:
            metavar = {int: "N", float: "X", str: "TEXT", numbers: "N,N"}.get(kind) or kind.name
            settings = {"type": training_word(name) if name in TRAINING_WORDS else kind, "metavar": metavar}
        command = click.option(flag, name, cls=_RecipeOption, heading=heading, default=None, help=text, **settings)(
            command
        )
    return command


def _take_recipe(arguments: dict[str, Any]) -> dict[str, Any]:
    """Remove the recipe options from `arguments`; return those that were used, as plain values."""
    values = ((name, kind, arguments.pop(name)) for _, _, name, kind, _ in _RECIPE_OPTIONS)
    return {name: _plain(name, kind, value) for name, kind, value in values if value is not None}


def _plain(name: str, kind: Any, value: Any) -> Any:  # noqa: ANN401 - as many types as options
    match name, value:
        case _, str() if isinstance(kind, NumberOr) or (value == "none" and name in _MAY_BE_NONE):
            return None
        case "ignore", str():
            return [] if value == "none" else [item.strip() for item in value.split(",") if item.strip()]
    return value


def _list_recipes(context: click.Context, _parameter: click.Parameter, requested: bool) -> None:  # noqa: FBT001 - click's
    if not requested or context.resilient_parsing:
        return
    from geoseg.training import RECIPES

    for named in RECIPES.values():
        click.echo(f"{named.name}\n    {named.source}\n    data: {named.data}\n    figure: {named.figure}")
    context.exit()


@click.command(cls=GroupedCommand, short_help="Train a model on labeled scenes.")
@path_argument("data")
@options.out(_RUN, "Bundle to write: model.safetensors.")
@grouped(_RUN)(
    "--recipe", type=training_word("recipe"), metavar="NAME", help="Named recipe to start from. [default: default]"
)
@grouped(_RUN)(
    "--recipes", is_flag=True, is_eager=True, expose_value=False, callback=_list_recipes,
    help="List the named recipes with source, data and figure, and exit.",
)  # fmt: skip
@grouped(_RUN)("--report", metavar="FOLDER", help="Write curves, figures and the worst crops to this folder.")
@grouped(_RUN)(
    "--device", type=types.device(*types.TRAINING_DEVICES), metavar="NAME",
    help="auto, cpu, mps, cuda or cuda:N. [default: auto]",
)  # fmt: skip
@grouped(_RUN)("--devices", type=click.IntRange(min=1), metavar="N", help="Number of devices. [default: 1]")
@grouped(_RUN)("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads. [default: all cores]")
@grouped(_RUN)(
    "--checkpoint-every", "checkpoint_minutes", type=click.FloatRange(min=0), metavar="MINUTES",
    help="Minutes between checkpoints within an epoch. [default: 5]",
)  # fmt: skip
@grouped(_RUN)("--wandb", is_flag=True, help="Also log to Weights & Biases.")
@options.replacing(_RUN, "Replace an existing bundle, or restart an unfinished training with other settings.")
@options.telling(_RUN)
@grouped(_DATA)("--labels", metavar="PATH", help="Labels of DATA: a raster, polygons, or a folder.")
@grouped(_DATA)(
    "--column", metavar="NAME", help="Column of the polygons with the class. [default: the only one, else class]"
)
@options.layer(_DATA, "Layer of the polygons, several separated by commas, or all. [default: the only one]")
@grouped(_DATA)("--legend", metavar="FILE", help="Classes: .csv, .json, .qml, .sld or .clr. [default: from the labels]")
@options.bands(_DATA, "Bands to use, by number from 1 or by name. [default: all]")
@grouped(_DATA)(
    "--data-gsd", "data_gsd_m", type=float, metavar="M", help="Pixel size in meters, for scenes that do not state it."
)
@grouped(_DATA)(
    "--tolerance", type=float, metavar="SHARE",
    help="Share of a mask's pixels that may have no class; they are ignored. [default: 0.001]",
)  # fmt: skip
@grouped(_DATA)(
    "--split", "split_rule", metavar="RULE",
    help="published, random:0.8, blocks:0.2, folders, all, a file of ids, or a folder with train.txt, val.txt and "
    "test.txt. [default: from the data]",
)  # fmt: skip
@grouped(_DATA)("--cache", metavar="FOLDER", help="Folder of decoded scenes. [default: the user's cache]")
@_recipe_options
def train(data: str, *, out: str, as_json: bool, quiet: bool, **arguments: Any) -> None:  # noqa: ANN401 - many types
    """Train a network on the labeled scenes DATA and write it as one file.

    DATA is a folder in the DeepGlobe layout (NNN_sat.jpg, NNN_mask.png), a folder with images/ and labels/, a CSV with
    the columns scene and labels, one scene with --labels, a folder of images for each class, or a mixture: a JSON file
    that combines such data sets and maps their classes. Run the same command again and an interrupted training resumes.

    The defaults shown from "Network" on are those of the recipe `default`; --recipe brings its own.

    Example: geoseg train deepglobe/ --out model.safetensors --report report/

    Example: geoseg train scenes/ --labels parcels.gpkg --column landuse --out model.safetensors
    """
    _check_installed()
    # Spinning threads are slightly faster alone, but with another program running, a step took ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from geoseg.training import Recipe, recipe_named
    from geoseg.training import train as train_model

    changes = _take_recipe(arguments)
    settings = options.used(arguments)
    recipe = Recipe.from_json(changes, recipe_named(settings.pop("recipe", "default")))
    with TrainingBar(quiet=quiet) as bar:
        listeners: dict[str, Any] = {"progress": bar.update, "decoding": bar.decoding, "announce": bar.announce}
        try:
            bundle = train_model(data, out, recipe=recipe, **listeners, **settings)
        except KeyboardInterrupt:
            message = f"interrupted{bar.kept}; the same command resumes from the last checkpoint"
            raise InterruptedRunError(message) from None
    if not quiet:
        say(f"wrote {out}{bar.summary}")
    if as_json:
        report = {name: settings[name] for name in ("report",) if name in settings}
        click.echo(json.dumps({"path": out} | report | _figures(bundle) | bar.figures, indent=2))


def _check_installed() -> None:
    """Raise UsageError if libraries for training are missing, before anything is imported."""
    missing = [name for name in ("lightning", "tensorboard") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"training needs {', '.join(missing)}; pip install 'geoseg[train]'")


def _figures(bundle: ModelBundle) -> dict[str, Any]:
    """Return the figures of a trained model; mIoU is None without validation."""
    validation = bundle.metrics.get("validation", {})
    return {
        "best_epoch": bundle.provenance["epoch"],
        "batches": bundle.provenance["batches"],
        "miou": validation.get("miou_without_unknown"),
        "temperature": bundle.temperature,
        "metrics": bundle.metrics,
    }
