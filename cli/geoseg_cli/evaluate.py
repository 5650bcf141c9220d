"""Accuracy and areas of a map: `geoseg evaluate`, `geoseg sample` and `geoseg tabulate`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from geoseg.errors import spelled
from geoseg_cli import options
from geoseg_cli import parameter_types as types
from geoseg_cli.options import GroupedCommand, grouped, path_argument
from geoseg_cli.output import as_option, is_terminal, progress_shown, say
from geoseg_cli.process import fast_start
from geoseg_cli.progress_bar import ProgressBar

if TYPE_CHECKING:
    import pandas as pd

_OUTPUT, _COMPARED, _NAMES, _DATA, _MODEL = "Output", "What is compared", "Class names", "Data set", "Model"
_DRAWN = "What is drawn"
_COUNTED, _TITLES = "What is counted", "Names"
_M2_OF_HA = 1e4
_BROAD = 12
"""A table for people shows up to this many classes as columns, more as lines."""


@click.command(cls=GroupedCommand, short_help="Measure the accuracy of a map or a model.")
@path_argument("landcover")
@path_argument("reference", required=False)
@grouped(_OUTPUT)(
    "--report", "-o", metavar="FOLDER",
    help="Write metrics.json, classes.csv, confusion.csv, report.md and confusion.png. [default: print only]",
)  # fmt: skip
@options.replacing(_OUTPUT, "Replace an existing report.")
@options.telling(_OUTPUT, "Print all figures as JSON.", "Print no report, only warnings and errors.")
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
    ".json, .csv, .qml, .sld or .clr. [default: their own]",
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
    help="Column of the sample or the polygons with the class, by name or code. [default: the only one, else class]",
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
    help="How a data set is split: published, random:0.8, blocks:0.2, folders, a file of ids, or a folder with "
    "train.txt, val.txt and test.txt. "
    "[default: as in the model's training, else as training would]",
)  # fmt: skip
@grouped(_DATA)(
    "--labels", metavar="PATH",
    help="Labels outside the data set: a raster of classes, a picture in their colors, or polygons.",
)  # fmt: skip
@options.bands(_DATA, "Bands for the model, by number from 1 or by name. [default: by name, or all in order]")
@options.scale(_DATA, "Stored values of black and white. [default: as in training]")
@grouped(_DATA)(
    "--gsd", "gsd_m", type=float, metavar="M", help="Pixel size in meters, for scenes that do not state it."
)
@grouped(_DATA)("--tolerance", type=float, metavar="SHARE", help="Share of stray colors to ignore. [default: 0.001]")
@options.network(_MODEL, "the model's", "1 on a CPU, up to 32 on a GPU")
def evaluate(landcover: str, reference: str | None, *, as_json: bool, quiet: bool, **arguments: Any) -> None:  # noqa: ANN401
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
    settings = options.used(arguments)
    with fast_start():
        from geoseg.compiled import load_compiler
        from geoseg.evaluation import evaluate as compare
        from geoseg.evaluation import to_markdown

        load_compiler()
    told: list[str] = []
    with ProgressBar(quiet=quiet, interrupted="no report was written") as bar:

        def announce(line: str) -> None:
            told.append(line)
            bar.announce(line)

        evaluation = compare(landcover, reference, progress=bar.update, announce=announce, **settings)
    if progress_shown() == "bar" and is_terminal() and not as_json:  # the lines are above the report
        evaluation = replace(evaluation, notes=tuple(note for note in evaluation.notes if note not in told))
    evaluation = replace(evaluation, notes=tuple(spelled(note, as_option) for note in evaluation.notes))
    if as_json:
        click.echo(json.dumps(evaluation.to_json(), indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(to_markdown(evaluation).rstrip())
    if "report" in settings and not quiet:
        say(f"wrote {settings['report']}{bar.summary}")


@click.command(cls=GroupedCommand, short_help="Draw random points of each class of a map.")
@path_argument("landcover")
@options.out(_OUTPUT, "The points, in the format of the extension: .gpkg, .geojson, .fgb, .parquet or .csv.")
@options.replacing(_OUTPUT, "Replace an existing file, and the classes that were filled in.")
@options.telling(_OUTPUT)
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
    "--legend", metavar="FILE",
    help="Names of the map's codes: .json, .csv, .qml, .sld or .clr. [default: the map's own]",
)  # fmt: skip
@options.aoi(_DRAWN, "Only pixels in this area: polygons in any file and CRS.")
@grouped(_DRAWN)("--seed", type=int, metavar="N", help="Another number draws other points. [default: 21]")
def sample(landcover: str, out: str, *, as_json: bool, quiet: bool, **arguments: Any) -> None:  # noqa: ANN401
    """Draw random points of each class of the map LANDCOVER, to find out how accurate it is.

    Fill in the column class on the ground or in better imagery, with names or codes of the map's classes. Then geoseg
    evaluate tells the accuracy of the map, and the true areas of its classes with 95 % confidence intervals (Olofsson
    et al. 2014).

    The points come in random order and without the map's class, so that nothing biases who fills it in.

    Example: geoseg sample landcover.tif --out points.gpkg

    Example: geoseg sample landcover.tif --out points.csv --points 641
    """
    with fast_start():
        from geoseg.evaluation import sample as draw
    with ProgressBar(quiet=quiet, interrupted=f"{out} was not written") as bar:
        draw(landcover, out, progress=bar.update, announce=bar.announce, **options.used(arguments))
    if not quiet:
        say(f"wrote {out}{bar.summary}")
    if as_json:
        click.echo(json.dumps({"path": out} | bar.figures, indent=2))


@click.command(cls=GroupedCommand, short_help="Add up areas by class, district or date.")
@path_argument("landcover")
@options.out(_OUTPUT, "Write the table as .csv: a line for each class in each zone.", "CSV", required=False)
@options.replacing(_OUTPUT, "Replace an existing file.")
@options.telling(_OUTPUT, "Print the table as JSON.", "Print no table, only warnings and errors.")
@grouped(_COUNTED)(
    "--by", metavar="FILE",
    help="Zones: polygons with a --column of names, or another map, such as that of an earlier date. "
    "[default: the whole map]",
)  # fmt: skip
@options.aoi(_COUNTED, "Count only what lies in this area: polygons in any file and CRS.")
@grouped(_TITLES)("--column", metavar="NAME", help="Column with the names of the zones. [default: the only one]")
@options.layer(_TITLES, "Layer of the polygons, several separated by commas, or all. [default: the only one]")
@grouped(_TITLES)(
    "--legend", metavar="FILE",
    help="Names of the map's codes: .json, .csv, .qml, .sld or .clr. [default: the map's own]",
)  # fmt: skip
@grouped(_TITLES)("--by-legend", metavar="FILE", help="Names of the other map's codes. [default: its own]")
def tabulate(landcover: str, out: str | None, *, as_json: bool, quiet: bool, **arguments: Any) -> None:  # noqa: ANN401
    """Add up the area of each class of the map LANDCOVER: in total, by district, or by the classes of an earlier map.

    A pixel is in the zone that contains its center. Areas are those on the ground, whatever the CRS, as the map shows
    them; geoseg evaluate --areas corrects them for the map's errors.

    Example: geoseg tabulate landcover.tif

    Example: geoseg tabulate landcover.tif --by districts.gpkg --column district --out areas.csv

    Example: geoseg tabulate later.tif --by landcover.tif --out change.csv
    """
    with fast_start():
        from geoseg.evaluation import tabulate as add_up
    with ProgressBar(quiet=quiet, interrupted="no table was written") as bar:
        table = add_up(landcover, out=out, progress=bar.update, announce=bar.announce, **options.used(arguments))
    if as_json:
        click.echo(json.dumps(table.to_dict("records"), indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo("\n".join(_lines(table)))
    if out is not None and not quiet:
        say(f"wrote {out}{bar.summary}")


def _lines(table: pd.DataFrame) -> Iterator[str]:
    """Yield a table for people, with zones as lines and classes as columns if there are few classes."""
    from geoseg.evaluation import area_text, markdown_table

    column = next(name for name in table.columns if name.startswith("area_"))
    unit, size, text = ("ha", _M2_OF_HA, area_text) if column == "area_m2" else ("px", 1.0, "{:.0f}".format)
    areas = table[column] / size
    if "zone" in table and table["name"].nunique() <= _BROAD:
        wide = table.assign(area=areas).pivot_table(
            index="zone", columns="name", values="area", aggfunc="sum", fill_value=0.0, sort=False
        )[table.sort_values("code")["name"].unique()]
        zones = [*wide.iterrows(), ("all", wide.sum())]
        yield from markdown_table(
            (f"zone, {unit}", *wide.columns, "all"),
            [(str(zone), *map(text, (*row, row.sum()))) for zone, row in zones],
        )
        return
    zone = ["zone"] if "zone" in table else []
    rows = zip(*(table[name] for name in (*zone, "name")), areas, table["share"], strict=True)
    yield from markdown_table(
        (*zone, "class", f"area, {unit}", "share"),
        [(*map(str, names), text(area), f"{share:.2%}") for *names, area, share in rows],
    )
