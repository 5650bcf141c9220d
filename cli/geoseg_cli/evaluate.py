"""`geoseg evaluate`."""

from __future__ import annotations

import json
from typing import Any

import click

from geoseg_cli import options, values
from geoseg_cli.groups import GroupedCommand, grouped, path_argument
from geoseg_cli.interrupt import InterruptedRunError, termination_interrupts
from geoseg_cli.progress import ProgressBar
from geoseg_cli.quick import quick_start
from geoseg_cli.say import say

_TOLD, _NAMES, _DATA, _MODEL = "Output", "How classes are named", "A data set", "A model"


@click.command(cls=GroupedCommand, short_help="Measure the accuracy of a map or a model.")
@path_argument("landcover")
@path_argument("reference", required=False)
@grouped(_TOLD)(
    "--report",
    "-o",
    metavar="FOLDER",
    help="Write metrics.json, classes.csv, confusion.csv, report.md and confusion.png there. [default: only print]",
)
@grouped(_TOLD)(
    "--areas",
    is_flag=True,
    help="Each class's area with its 95 % confidence interval, corrected for the map's errors (Olofsson et al. 2014).",
)
@grouped(_TOLD)(
    "--sample",
    metavar="FILE",
    help="Points with the true class, drawn at random from each class of the map: anything with points that GDAL "
    "reads, or a .csv with x and y (the map's CRS) or lon and lat.",
)
@grouped(_TOLD)(
    "--classes",
    metavar="C,C",
    help="Figures of these classes alone, by name or code; all others are one. [default: all]",
)
@grouped(_TOLD)(
    "--ignore",
    metavar="C,C",
    multiple=True,
    help="Classes of the map or the reference that never count, by name or code: unknown,0.",
)
@grouped(_TOLD)(
    "--confidence",
    metavar="TIF",
    help="A raster on the map's grid, as predict --confidence writes it: for the calibration error.",
)
@options.as_json(_TOLD, "Print all figures as JSON, for programs.")
@options.mkdir(_TOLD)
@options.overwrite(_TOLD, "Replace an existing report.")
@options.progress(_TOLD)
@options.quiet(_TOLD, "No report on the screen; only warnings and errors.")
@grouped(_NAMES)(
    "--legend",
    metavar="FILE",
    help="Names of the map's codes (and of the reference's, if it has none), or the classes of a data set: "
    ".json, .csv, .qml or .clr. [default: their own]",
)
@grouped(_NAMES)("--reference-legend", metavar="FILE", help="Names of the reference's codes. [default: its own]")
@grouped(_NAMES)(
    "--column",
    metavar="NAME",
    help="The column that holds the class, by name or code: of the sample, or of polygons. [default: the only one]",
)
@options.layer(
    _NAMES,
    "The layer of the sample or the polygons, or several with commas, or all. [default: the only one]",
)
@grouped(_DATA)(
    "--split",
    type=values.one_of("split", values.PARTS, "; how the data set is split is said by --split-rule"),
    metavar="PART",
    help="Of a data set: test, train, valid or all. [default: test]",
)
@grouped(_DATA)(
    "--split-rule",
    metavar="RULE",
    help="How it is split: published, random:0.8, blocks:0.2, folders, or a file of ids. "
    "[default: as the model's training did, else as training would]",
)
@grouped(_DATA)(
    "--labels",
    metavar="PATH",
    help="Labels of a data set that lie elsewhere: a raster of classes, a picture of their colours, or polygons.",
)
@options.bands(
    _DATA, "Bands of a data set for the model, by number from 1 or by name. [default: by name, else in order]"
)
@options.scale(
    _DATA, "Stored values of a data set that mean black and white to the model. [default: as the model was trained]"
)
@grouped(_DATA)("--gsd", "gsd_m", type=float, metavar="M", help="Metres a pixel of scenes that do not say.")
@grouped(_DATA)("--tolerance", type=float, metavar="SHARE", help="Stray colours that are ignored. [default: 0.001]")
@options.window(_MODEL)
@options.overlap(_MODEL, "the model's")
@options.blend(_MODEL, "How windows are weighted")
@options.tta(_MODEL)
@options.batch_size(_MODEL, "Windows the network sees at once.")
@options.device(_MODEL)
def evaluate(landcover: str, reference: str | None, *, as_json: bool, quiet: bool, **given: Any) -> None:  # noqa: ANN401
    """Compare the map LANDCOVER with REFERENCE, a raster or polygons, or with a --sample of points.

    A raster may have any grid, CRS and codes: it is warped by nearest neighbour, and its classes are matched by name
    where both rasters have names, else by code. Nodata of either never counts. Polygons have their class in a
    --column; pixels whose middle lies in none do not count.

    Or examine a model: LANDCOVER is a .safetensors bundle and REFERENCE a data set, such as a folder in the DeepGlobe
    layout or one with images/ and labels/. Its scenes are mapped as geoseg predict maps them. A data set's folder alone
    is one for the default model: what the environment variable GEOSEG_MODEL names, else the demo model.

    Example: geoseg evaluate landcover.tif reference.tif --report report/ --areas

    Example: geoseg evaluate landcover.tif parcels.gpkg --column landuse

    Example: geoseg evaluate model.safetensors deepglobe/ --split test --report report/
    """
    knobs = {name: value for name, value in given.items() if value is not None and value is not False and value != ()}
    with quick_start():
        from geoseg.evaluation import evaluate as compare
        from geoseg.evaluation import to_markdown
    with ProgressBar(quiet=quiet) as bar, termination_interrupts():
        try:
            found = compare(landcover, reference, progress=bar.update, announce=bar.announce, **knobs)
        except KeyboardInterrupt:
            raise InterruptedRunError("interrupted; no report was written") from None
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(to_markdown(found).rstrip())
    if "report" in knobs and not quiet:
        say(f"wrote {knobs['report']}{bar.summary}")
