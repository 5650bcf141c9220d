"""`geoseg sample`."""

from __future__ import annotations

import json
from typing import Any

import click

from geoseg_cli import options
from geoseg_cli.options import GroupedCommand, grouped, path_argument
from geoseg_cli.output import say
from geoseg_cli.process import InterruptedRunError, fast_start
from geoseg_cli.progress_bar import ProgressBar

_OUTPUT, _DRAWN = "Output", "What is drawn"


@click.command(cls=GroupedCommand, short_help="Draw random points of each class of a map.")
@path_argument("landcover")
@options.out(_OUTPUT, "The points, in the format of the extension: .gpkg, .geojson, .fgb, .parquet or .csv.")
@options.mkdir(_OUTPUT)
@options.overwrite(_OUTPUT, "Replace an existing file, and the classes that were filled in.")
@options.as_json(_OUTPUT)
@options.progress(_OUTPUT)
@options.quiet(_OUTPUT)
@grouped(_DRAWN)(
    "--per-class", type=int, metavar="N", help="Points in each class; with --points, the fewest in each. [default: 50]"
)
@grouped(_DRAWN)(
    "--points", type=int, metavar="N",
    help="Points in all: rare classes get --per-class, the others share the rest by area. [default: --per-class in "
    "each]",
)  # fmt: skip
@grouped(_DRAWN)("--classes", metavar="C,C", help="Only these classes, by name or code: water,5. [default: all]")
@grouped(_DRAWN)(
    "--legend", metavar="FILE", help="Names of the map's codes: .json, .csv, .qml or .clr. [default: the map's own]"
)
@options.aoi(_DRAWN, "Only pixels in this area: polygons in any file and CRS.")
@grouped(_DRAWN)("--seed", type=int, metavar="N", help="Another number draws other points. [default: 21]")
def sample(landcover: str, out: str, *, as_json: bool, quiet: bool, **given: Any) -> None:  # noqa: ANN401
    """Draw random points of each class of the map LANDCOVER, to find out how accurate it is.

    Fill in the column class on the ground or in better imagery, with names or codes of the map's classes. Then geoseg
    evaluate tells the accuracy of the map, and the true areas of its classes with 95 % confidence intervals (Olofsson
    et al. 2014).

    The points do not tell what the map says of them, and come in random order.

    Example: geoseg sample landcover.tif --out points.gpkg

    Example: geoseg sample landcover.tif --out points.csv --points 641
    """
    with fast_start():
        from geoseg.evaluation import sample as draw
    with ProgressBar(quiet=quiet) as bar:
        try:
            draw(landcover, out, progress=bar.update, announce=bar.announce, **options.used(given))
        except KeyboardInterrupt:
            raise InterruptedRunError(f"interrupted; nothing was written at {out}") from None
    if not quiet:
        say(f"wrote {out}{bar.summary}")
    if as_json:
        click.echo(json.dumps({"path": out} | bar.figures, indent=2))
