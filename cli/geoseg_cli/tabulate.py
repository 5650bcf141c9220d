"""`geoseg tabulate`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from geoseg_cli import options
from geoseg_cli.options import GroupedCommand, grouped, path_argument
from geoseg_cli.output import say
from geoseg_cli.process import InterruptedRunError, fast_start
from geoseg_cli.progress_bar import ProgressBar

if TYPE_CHECKING:
    import pandas as pd

_OUTPUT, _COUNTED, _NAMES = "Output", "What is counted", "Names"
_M2_OF_HA = 1e4
_BROAD = 12
"""Classes that a table for people has as columns; more are lines."""


@click.command(cls=GroupedCommand, short_help="Add up areas by class, district or date.")
@path_argument("landcover")
@options.out(_OUTPUT, "Write the table as .csv: a line for each class in each zone.", "CSV", required=False)
@options.as_json(_OUTPUT, "Print the table as JSON.")
@options.mkdir(_OUTPUT)
@options.overwrite(_OUTPUT, "Replace an existing file.")
@options.progress(_OUTPUT)
@options.quiet(_OUTPUT, "Print no table, only warnings and errors.")
@grouped(_COUNTED)(
    "--by", metavar="FILE",
    help="Zones: polygons with a --column of names, or another map, such as that of an earlier date. "
    "[default: the whole map]",
)  # fmt: skip
@options.aoi(_COUNTED, "Count only what lies in this area: polygons in any file and CRS.")
@grouped(_NAMES)("--column", metavar="NAME", help="Column with the names of the zones. [default: the only one]")
@options.layer(_NAMES, "Layer of the polygons, several separated by commas, or all. [default: the only one]")
@grouped(_NAMES)(
    "--legend", metavar="FILE", help="Names of the map's codes: .json, .csv, .qml or .clr. [default: the map's own]"
)
@grouped(_NAMES)("--by-legend", metavar="FILE", help="Names of the other map's codes. [default: its own]")
def tabulate(landcover: str, out: str | None, *, as_json: bool, quiet: bool, **given: Any) -> None:  # noqa: ANN401
    """Add up the area of each class of the map LANDCOVER: of all of it, by district, or by an earlier map.

    A pixel is in the zone that contains its center. Areas are those on the ground, in every CRS, and what the map
    shows: geoseg evaluate --areas corrects them for its errors.

    Example: geoseg tabulate landcover.tif

    Example: geoseg tabulate landcover.tif --by districts.gpkg --column district --out areas.csv

    Example: geoseg tabulate later.tif --by landcover.tif --out change.csv
    """
    with fast_start():
        from geoseg.evaluation import tabulate as add_up
    with ProgressBar(quiet=quiet) as bar:
        try:
            table = add_up(landcover, out=out, progress=bar.update, announce=bar.announce, **options.used(given))
        except KeyboardInterrupt:
            raise InterruptedRunError("interrupted; no table was written") from None
    if as_json:
        click.echo(json.dumps(table.to_dict("records"), indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo("\n".join(_lines(table)))
    if out is not None and not quiet:
        say(f"wrote {out}{bar.summary}")


def _lines(table: pd.DataFrame) -> Iterator[str]:
    """Yield a table for people: zones as lines and classes as columns, where these are few."""
    from geoseg.evaluation import markdown_table

    column = next(name for name in table.columns if name.startswith("area_"))
    unit, size = ("ha", _M2_OF_HA) if column == "area_m2" else ("px", 1.0)
    areas = table[column] / size
    if "zone" in table and table["name"].nunique() <= _BROAD:
        wide = table.assign(area=areas).pivot_table(
            index="zone", columns="name", values="area", aggfunc="sum", fill_value=0.0, sort=False
        )
        heading = (f"zone, {unit}", *wide.columns, "all")
        yield from markdown_table(
            heading, [(str(zone), *(f"{area:.2f}" for area in (*row, row.sum()))) for zone, row in wide.iterrows()]
        )
        return
    zone = ["zone"] if "zone" in table else []
    rows = zip(*(table[name] for name in (*zone, "name")), areas, table["share"], strict=True)
    yield from markdown_table(
        (*zone, "class", f"area, {unit}", "share"),
        [(*map(str, names), f"{area:.2f}", f"{share:.2%}") for *names, area, share in rows],
    )
