"""`geoseg train`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from geoseg_cli import options, values
from geoseg_cli.groups import GroupedCommand, grouped, path_argument
from geoseg_cli.interrupt import InterruptedRunError, termination_interrupts
from geoseg_cli.knobs import read_knobs, recipe_options
from geoseg_cli.say import say
from geoseg_cli.training_bar import TrainingBar
from geoseg_cli.training_words import word

if TYPE_CHECKING:
    from geoseg.model import ModelBundle

_IN, _RUN = "The data", "The run"


def _list_recipes(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's
    """Print the named recipes and end."""
    if not wanted or context.resilient_parsing:
        return
    from geoseg.training import RECIPES

    for named in RECIPES.values():
        click.echo(f"{named.name}\n    {named.source}\n    data: {named.data}\n    figure: {named.figure}")
    context.exit()


@click.command(cls=GroupedCommand, short_help="Train a model on labeled scenes.")
@path_argument("data")
@options.out(_RUN, "The bundle to write: model.safetensors.")
@grouped(_RUN)(
    "--recipe",
    type=word("recipe"),
    metavar="NAME",
    help="A named recipe to start from. [default: the one called default]",
)
@grouped(_RUN)(
    "--recipes", is_flag=True, is_eager=True, expose_value=False, callback=_list_recipes,
    help="List the named recipes, their source, data and figure, and end.",
)  # fmt: skip
@grouped(_RUN)("--report", metavar="FOLDER", help="Write curves, figures and the worst crops there.")
@grouped(_RUN)("--device", type=values.word("device", *values.DEVICES_THAT_LEARN), metavar="NAME",
               help="auto, cpu, mps, cuda or cuda:N. [default: auto]")  # fmt: skip
@grouped(_RUN)("--devices", type=click.IntRange(min=1), metavar="N", help="So many devices at once. [default: 1]")
@grouped(_RUN)("--threads", type=click.IntRange(min=1), metavar="N", help="Threads of the CPU. [default: all cores]")
@grouped(_RUN)("--checkpoint-every", "checkpoint_minutes", type=click.FloatRange(min=0), metavar="MINUTES",
               help="Minutes a crash may cost within an epoch. [default: 5]")  # fmt: skip
@grouped(_RUN)("--wandb", is_flag=True, help="Log to Weights & Biases too.")
@options.mkdir(_RUN)
@options.overwrite(_RUN, "Replace an existing bundle, or a training of another kind.")
@options.as_json(_RUN)
@options.progress(_RUN)
@options.quiet(_RUN)
@grouped(_IN)("--labels", metavar="PATH", help="Labels of the scene or folder DATA: a raster, polygons, or a folder.")
@grouped(_IN)("--column", metavar="NAME", help="Column of the polygons that holds the class.")
@options.layer(_IN, "Layer of the polygons, or several with commas, or all, where several layers hold some.")
@grouped(_IN)("--legend", metavar="FILE", help="The classes: .csv, .json, .qml or .clr. [default: what labels say]")
@options.bands(_IN, "Bands to use, by number or name. [default: all]")
@grouped(_IN)("--data-gsd", "data_gsd_m", type=float, metavar="METRES", help="Pixel size of scenes that do not say.")
@grouped(_IN)("--tolerance", type=float, metavar="SHARE",
              help="Share of a mask's pixels that may be of no class, and are ignored. [default: 0.001]")  # fmt: skip
@grouped(_IN)(
    "--split", "split_rule", metavar="RULE",
    help="published, random:0.8, blocks:0.2, folders, all, or a file of ids. [default: what suits the data]",
)  # fmt: skip
@grouped(_IN)("--cache", metavar="FOLDER", help="Where scenes are kept decoded. [default: the user's cache]")
@recipe_options
def train(data: str, *, out: str, as_json: bool, quiet: bool, **given: Any) -> None:  # noqa: ANN401 - many types
    """Train a network on the labelled scenes DATA and write it as one file.

    DATA is a folder in the DeepGlobe layout (NNN_sat.jpg, NNN_mask.png), one with images/ and labels/, a CSV with the
    columns scene and labels, one scene with --labels, a folder of images for each class, or a mixture of such data
    sets: a JSON file that says what the classes of each mean. The same command after a crash goes on where it stopped.

    The defaults told from "The network" on are those of the recipe `default`; with --recipe, those of that recipe.

    Example: geoseg train deepglobe/ --out model.safetensors --report report/

    Example: geoseg train scenes/ --labels parcels.gpkg --column landuse --out model.safetensors
    """
    from geoseg_cli.extras import needs_training

    needs_training()
    # Threads that wait by spinning are a little quicker alone; beside any other program a step took ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from geoseg.training import Recipe, recipe_named
    from geoseg.training import train as learn

    knobs = read_knobs(given)
    settings = {name: value for name, value in given.items() if value is not None and value is not False}
    recipe = Recipe.from_json(knobs, recipe_named(settings.pop("recipe", "default")))
    with TrainingBar(quiet=quiet) as bar, termination_interrupts():
        try:
            bundle = learn(
                data, out, recipe=recipe, progress=bar.update, decoding=bar.decoding, announce=bar.announce, **settings
            )
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted{bar.kept}; the same command goes on from the last checkpoint"
            ) from None
    if not quiet:
        say(f"wrote {out}{bar.summary}")
    if as_json:
        report = {name: settings[name] for name in ("report",) if name in settings}
        click.echo(json.dumps({"path": out} | report | _figures(bundle) | bar.figures, indent=2))


def _figures(bundle: ModelBundle) -> dict[str, Any]:
    """Return what is known of a model that was just trained; without validation there is no mIoU."""
    validation = bundle.metrics.get("validation", {})
    return {
        "best_epoch": bundle.provenance["epoch"],
        "batches": bundle.provenance["batches"],
        "miou": validation.get("miou_without_unknown"),
        "temperature": bundle.temperature,
        "metrics": bundle.metrics,
    }
