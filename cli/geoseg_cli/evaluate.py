"""`geoseg evaluate`."""

from __future__ import annotations

import json
from typing import Any

import click

from geoseg_cli.interrupt import InterruptedRunError, termination_interrupts
from geoseg_cli.progress import ProgressBar
from geoseg_cli.quick import quick_start
from geoseg_cli.say import say


@click.command(short_help="How good a map is, against what is true.")
@click.argument("landcover")
@click.argument("reference", required=False)
@click.option(
    "--report",
    "-o",
    metavar="FOLDER",
    help="Write metrics.json, classes.csv, confusion.csv, report.md and confusion.png there. [default: only print]",
)
@click.option(
    "--areas",
    is_flag=True,
    help="Each class's area with its 95 % confidence interval, corrected for the map's errors (Olofsson et al. 2014).",
)
@click.option(
    "--sample",
    metavar="FILE",
    help="Points with the true class, drawn at random from each class of the map: anything with points that GDAL "
    "reads, or a .csv with x and y (the map's CRS) or lon and lat.",
)
@click.option(
    "--column",
    metavar="NAME",
    help="The sample's column that holds the class, by name or code. [default: the only one]",
)
@click.option(
    "--classes",
    metavar="C,C",
    help="Figures of these classes alone, by name or code; all others are one. [default: all]",
)
@click.option(
    "--ignore",
    metavar="C,C",
    multiple=True,
    help="Classes of the map or the reference that never count, by name or code: unknown,0.",
)
@click.option(
    "--legend",
    metavar="FILE",
    help="Names of the map's codes (and of the reference's, if it has none): .json, .csv, .qml or .clr. "
    "[default: the map's own]",
)
@click.option("--reference-legend", metavar="FILE", help="Names of the reference's codes. [default: its own]")
@click.option(
    "--confidence",
    metavar="TIF",
    help="A raster on the map's grid, as predict --confidence writes it: for the calibration error.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON, for programs.")
@click.option("--overwrite", is_flag=True, help="Replace an existing report.")
@click.option("--quiet", "-q", is_flag=True, help="No report on the screen; only warnings and errors.")
def evaluate(landcover: str, reference: str | None, *, as_json: bool, quiet: bool, **given: Any) -> None:  # noqa: ANN401
    """Compare the map LANDCOVER with the raster REFERENCE, or with a --sample of points.

    REFERENCE may have any grid, CRS and codes: it is warped by nearest neighbour, and its classes are matched by name
    where both rasters have names, else by code. Nodata of either never counts.

    Example: geoseg evaluate landcover.tif reference.tif --report report/ --areas
    """
    knobs = {name: value for name, value in given.items() if value not in (None, False, ())}
    with quick_start():
        from geoseg.evaluation.evaluate import evaluate as compare
        from geoseg.evaluation.markdown import to_markdown
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
