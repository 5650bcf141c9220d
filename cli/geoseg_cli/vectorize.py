"""`geoseg vectorize`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoseg_cli import options, values
from geoseg_cli.groups import GroupedCommand, grouped, path_argument
from geoseg_cli.interrupt import InterruptedRunError, termination_interrupts
from geoseg_cli.progress import ProgressBar
from geoseg_cli.quick import quick_start
from geoseg_cli.say import say

if TYPE_CHECKING:
    from geoseg.legend import Nomenclature


_WRITTEN, _BORDERS, _RUN = "What is written", "The borders", "The run"


@click.command(cls=GroupedCommand, short_help="Polygons from a land-cover map.")
@path_argument("landcover")
@options.out(
    _WRITTEN,
    "The polygons. The extension says the format: .gpkg (GeoPackage), .parquet (GeoParquet), .fgb (FlatGeobuf), "
    ".geojson, .geojsonl (one feature a line).",
)
@grouped(_WRITTEN)(
    "--layer",
    metavar="NAME",
    help="The layer to write in a GeoPackage; one that exists keeps its other layers. [default: the map's name]",
)
@grouped(_WRITTEN)("--png", metavar="PNG", help="Also draw the polygons as a map with a legend.")
@grouped(_WRITTEN)(
    "--crs", metavar="CRS", help="Reproject the polygons: EPSG:4326. [default: the map's; WGS 84 in GeoJSON]"
)
@grouped(_WRITTEN)("--dissolve", is_flag=True, help="One multipolygon for each class.")
@grouped(_WRITTEN)(
    "--classes",
    metavar="C,C",
    help="Only these classes, by name or code: water,urban_land. [default: all]",
)
@grouped(_WRITTEN)(
    "--confidence",
    metavar="TIF",
    help="A raster on the same grid, as predict --confidence writes it; each polygon gets its mean.",
)
@grouped(_WRITTEN)(
    "--legend",
    metavar="FILE",
    help='Names and colours: .json ([{"code": 0, "name": "water", "color": [0, 0, 255]}, ...]), .csv, .qml or .clr. '
    "[default: the map's own, else its codes]",
)
@options.mkdir(_WRITTEN)
@options.overwrite(_WRITTEN, "Replace existing files; of a GeoPackage, the layer alone.")
@grouped(_BORDERS)(
    "--min-area",
    metavar="AREA",
    help="Give regions smaller than this to the neighbour with the longest shared border: 100 (m2), 0.5ha, 25px. "
    "[default: keep all]",
)
@grouped(_BORDERS)(
    "--simplify",
    metavar="LENGTH",
    help="About how far borders may move to need fewer vertices: 1.5 (m), 1.5px. Neighbours still meet exactly. "
    "[default: every pixel's corner]",
)
@grouped(_BORDERS)(
    "--method",
    type=values.word("method", *values.METHODS),
    metavar="NAME",
    help="How to simplify: visvalingam or douglas-peucker. [default: visvalingam]",
)
@grouped(_BORDERS)("--smooth", is_flag=True, help="Round the staircase of the pixels.")
@grouped(_BORDERS)(
    "--connectivity",
    type=int,
    metavar="4|8",
    words=("4", "8"),
    help="Whether pixels that touch by a side, or also those that touch by a corner, are one region. [default: 4]",
)
@options.as_json(_RUN)
@options.progress(_RUN)
@options.quiet(_RUN)
def vectorize(  # noqa: PLR0913 - what is written and told, and the knobs
    landcover: str,
    out: str,
    *,
    png: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **given: Any,  # noqa: ANN401
) -> None:
    """Write the polygons of LANDCOVER, any raster of classes that GDAL reads.

    No gaps, no overlaps, nothing cut: neighbours share their borders, simplified or not. Each polygon has the code and
    the name of its class, its area and its perimeter.

    Example: geoseg vectorize landcover.tif --out landcover.gpkg --min-area 100 --simplify 1.5
    """
    knobs = {name: value for name, value in given.items() if value not in (None, False)} | {"overwrite": overwrite}
    figures = (
        write_polygons(landcover, out, knobs, quiet=quiet)
        if png is None
        else _write_and_draw(landcover, out, png, knobs, quiet=quiet)
    )
    if as_json:
        pictures = {} if png is None else {"png": png}
        click.echo(json.dumps({"path": out} | pictures | figures, indent=2))


def _write_and_draw(
    landcover: str, out: str, png: str, knobs: dict[str, Any], *, quiet: bool
) -> dict[str, int | float]:
    """Write the polygons, and draw them; whether they can be drawn is asked first."""
    from geoseg.atomic import make_folders
    from geoseg.display import check_picture, draw_polygons

    if knobs.get("mkdir"):
        make_folders(png)
    check_picture(
        png, overwrite=knobs["overwrite"], others=[name for name in (landcover, out, knobs.get("confidence")) if name]
    )
    legend = _legend(landcover, knobs.get("legend"))
    figures = write_polygons(landcover, out, knobs, quiet=quiet)
    try:
        drawn = draw_polygons(out, png, legend=legend, layer=_layer(landcover, out, knobs.get("layer")))
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted; {out} is written, {png} is not") from None
    if not quiet:
        say(f"wrote {drawn}")
    return figures


def write_polygons(landcover: str, out: str, knobs: dict[str, Any], *, quiet: bool) -> dict[str, int | float]:
    """Vectorize with a progress bar, and return its figures; an interruption says what is kept."""
    with quick_start():
        from geoseg.vector import load_compiler
        from geoseg.vector import vectorize as vectorize_map

        load_compiler()
    with ProgressBar(quiet=quiet) as bar, termination_interrupts():
        try:
            vectorize_map(landcover, out, progress=bar.update, announce=bar.announce, **knobs)
        except KeyboardInterrupt:
            raise InterruptedRunError(f"interrupted; nothing was written at {out}") from None
    if not quiet:
        say(f"wrote {out}{bar.summary}")
    return bar.figures


def _layer(landcover: str, out: str, layer: str | None) -> str | None:
    from geoseg.vector import has_layers, layer_name

    return layer_name(landcover, out, layer) if has_layers(Path(out)) else None


def _legend(landcover: str, file: str | None) -> Nomenclature:
    """Return the legend that the picture takes its colours from."""
    from geoseg.legend import given_names
    from geoseg.raster import ClassRaster

    return given_names(file) or ClassRaster.open(landcover).names
