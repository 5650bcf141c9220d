"""`geoseg evaluate`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import click

from geoseg.errors import spelled
from geoseg_cli import options
from geoseg_cli import parameter_types as types
from geoseg_cli.options import GroupedCommand, grouped, path_argument
from geoseg_cli.output import as_option, say
from geoseg_cli.process import InterruptedRunError, fast_start
from geoseg_cli.progress_bar import ProgressBar

_OUTPUT, _COMPARED, _NAMES, _DATA, _MODEL = "Output", "What is compared", "Class names", "Data set", "Model"


@click.command(cls=GroupedCommand, short_help="Measure the accuracy of a map or a model.")
@path_argument("landcover")
@path_argument("reference", required=False)
@grouped(_OUTPUT)(
    "--report", "-o", metavar="FOLDER",
    help="Write metrics.json, classes.csv, confusion.csv, report.md and confusion.png. [default: print only]",
)  # fmt: skip
@options.as_json(_OUTPUT, "Print all figures as JSON.")
@options.mkdir(_OUTPUT)
@options.overwrite(_OUTPUT, "Replace an existing report.")
@options.progress(_OUTPUT)
@options.quiet(_OUTPUT, "Print no report, only warnings and errors.")
@grouped(_COMPARED)(
    "--areas", is_flag=True,
    help="Class areas with 95 % confidence intervals, corrected for the map's errors (Olofsson et al. 2014).",
)  # fmt: skip
@grouped(_COMPARED)(
    "--sample", metavar="FILE",
    help="Points with the true class, drawn at random from each class of the map: any points that GDAL reads, or a "
    ".csv with x and y (in the map's CRS) or lon and lat.",
)  # fmt: skip
@grouped(_COMPARED)(
    "--classes", metavar="C,C",
    help="Figures of these classes only, by name or code; all others are merged into one. [default: all]",
)  # fmt: skip
@grouped(_COMPARED)(
    "--ignore", metavar="C,C", multiple=True,
    help="Classes of the map or the reference that do not count, by name or code: unknown,0.",
)  # fmt: skip
@options.aoi(_COMPARED, "Compare only what lies in this area: polygons in any file and CRS.")
@grouped(_COMPARED)(
    "--confidence", metavar="TIF",
    help="Raster on the map's grid, as written by predict --confidence, for the calibration error.",
)  # fmt: skip
@grouped(_NAMES)(
    "--legend", metavar="FILE",
    help="Names of the map's codes (and of the reference's, if it has none), or classes of a data set: "
    ".json, .csv, .qml or .clr. [default: their own]",
)  # fmt: skip
@grouped(_NAMES)("--reference-legend", metavar="FILE", help="Names of the reference's codes. [default: its own]")
@grouped(_NAMES)(
    "--mapping", metavar="FILE",
    help="JSON file that says what the classes of the reference or data set are of the map's or model's: "
    '{"road": "urban_land", "grass": ["rangeland", "agriculture_land"], "snow": null}; '
    "two names leave a choice and do not count. [default: equal names]",
)  # fmt: skip
@grouped(_NAMES)(
    "--column", metavar="NAME",
    help="Column of the sample or the polygons with the class, by name or code. [default: the only one]",
)  # fmt: skip
@options.layer(
    _NAMES, "Layer of the sample or the polygons, several separated by commas, or all. [default: the only one]"
)
@grouped(_DATA)(
    "--split", type=types.one_of("split", types.PARTS, "; to choose how the data set is split, use --split-rule"),
    metavar="PART", help="Part of a data set: test, train, valid or all. [default: test]",
)  # fmt: skip
@grouped(_DATA)(
    "--split-rule", metavar="RULE",
    help="How a data set is split: published, random:0.8, blocks:0.2, folders, or a file of ids. "
    "[default: as in the model's training, else as training would]",
)  # fmt: skip
@grouped(_DATA)(
    "--labels", metavar="PATH",
    help="Labels outside the data set: a raster of classes, a picture in their colors, or polygons.",
)  # fmt: skip
@options.bands(_DATA, "Bands for the model, by number from 1 or by name. [default: by name, else in order]")
@options.scale(_DATA, "Stored values of black and white. [default: as in training]")
@grouped(_DATA)(
    "--gsd", "gsd_m", type=float, metavar="M", help="Pixel size in meters, for scenes that do not state it."
)
@grouped(_DATA)("--tolerance", type=float, metavar="SHARE", help="Share of stray colors to ignore. [default: 0.001]")
@options.network(_MODEL, "the model's", "1 on a CPU, up to 32 on a GPU")
def evaluate(landcover: str, reference: str | None, *, as_json: bool, quiet: bool, **given: Any) -> None:  # noqa: ANN401
    """Compare a map or a model with reference data.

    Map: LANDCOVER is compared with REFERENCE, a raster or polygons, or with a --sample of points. A reference raster
    may have any grid, CRS and codes. Classes match by name where both have names, else by code. Nodata never counts.
    Polygons have their class in a --column; pixels outside all polygons do not count.

    Model: LANDCOVER is a model and REFERENCE a data set, such as a folder in the DeepGlobe layout, one with images/ and
    labels/, or a CSV with the columns scene and labels. Its scenes are mapped exactly as geoseg predict maps them. A
    data set alone is compared with the default model: the environment variable GEOSEG_MODEL, else the demo model.

    Example: geoseg evaluate landcover.tif reference.tif --report report/ --areas

    Example: geoseg evaluate landcover.tif parcels.gpkg --column landuse

    Example: geoseg evaluate model.safetensors deepglobe/ --split test --report report/

    Example: geoseg evaluate flair.csv --legend flair.json --mapping to_deepglobe.json --split all
    """
    settings = options.used(given)
    with fast_start():
        from geoseg.compiled import load_compiler
        from geoseg.evaluation import evaluate as compare
        from geoseg.evaluation import to_markdown

        load_compiler()
    with ProgressBar(quiet=quiet) as bar:
        try:
            found = compare(landcover, reference, progress=bar.update, announce=bar.announce, **settings)
        except KeyboardInterrupt:
            raise InterruptedRunError("interrupted; no report was written") from None
    found = replace(found, notes=tuple(spelled(note, as_option) for note in found.notes))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(to_markdown(found).rstrip())
    if "report" in settings and not quiet:
        say(f"wrote {settings['report']}{bar.summary}")
