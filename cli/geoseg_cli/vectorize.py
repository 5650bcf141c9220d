"""`geoseg vectorize`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from geoseg_cli import options
from geoseg_cli import parameter_types as types
from geoseg_cli.options import GroupedCommand, grouped, path_argument
from geoseg_cli.output import say
from geoseg_cli.process import fast_start
from geoseg_cli.progress_bar import ProgressBar

_OUTPUT, _BORDERS, _RUN = "Output", "Borders", "Run"


@click.command(cls=GroupedCommand, short_help="Make polygons from a land-cover map.")
@path_argument("landcover")
@options.out(
    _OUTPUT,
    "The polygons, in the format of the extension: .gpkg (GeoPackage), .parquet (GeoParquet), .fgb (FlatGeobuf), "
    ".geojson or .geojsonl (one feature per line).",
)
@options.new_layer(_OUTPUT)
@grouped(_OUTPUT)("--png", metavar="PNG", help="Also draw the polygons as a map with a legend.")
@grouped(_OUTPUT)(
    "--crs", metavar="CRS", help="CRS of the polygons: EPSG:4326. [default: the map's; WGS 84 in GeoJSON]"
)
@grouped(_OUTPUT)("--dissolve", is_flag=True, help="Write one multipolygon per class.")
@grouped(_OUTPUT)("--classes", metavar="C,C", help="Only these classes, by name or code: water,5. [default: all]")
@grouped(_OUTPUT)(
    "--confidence", metavar="TIF",
    help="Raster on the map's grid, as written by predict --confidence; each polygon gets its mean.",
)  # fmt: skip
@grouped(_OUTPUT)(
    "--legend", metavar="FILE",
    help='Names and colors: .json ([{"code": 0, "name": "water", "color": [0, 0, 255]}, ...]), .csv, .qml, .sld or '
    ".clr. [default: the map's own, else its codes]",
)  # fmt: skip
@options.aoi(
    _OUTPUT, "Only pixels in this area: polygons in any file and CRS. A pixel counts if its center lies inside."
)
@options.replacing(_OUTPUT, "Replace existing files; in a GeoPackage on a disk, only the layer.")
@options.borders(_BORDERS)
@grouped(_BORDERS)(
    "--method", type=types.word("method", *types.METHODS), metavar="NAME",
    help="Simplification: visvalingam or douglas-peucker. [default: visvalingam]",
)  # fmt: skip
@grouped(_BORDERS)(
    "--connectivity", type=int, metavar="4|8", words=("4", "8"),
    help="4: pixels that share a side are one region; 8: also pixels that share a corner. [default: 4]",
)  # fmt: skip
@options.telling(_RUN)
def vectorize(landcover: str, out: str, *, as_json: bool, quiet: bool, **arguments: Any) -> None:  # noqa: ANN401
    """Write polygons of LANDCOVER, any raster of classes that GDAL reads.

    There are no gaps, no overlaps and no cuts at tiles: neighbors share their borders, simplified or not. Each polygon
    has the code and the name of its class, its area and its perimeter.

    Example: geoseg vectorize landcover.tif --out landcover.gpkg --min-area 100 --simplify 1.5
    """
    png, overwrite = arguments.pop("png"), arguments.pop("overwrite")
    settings = options.used(arguments) | {"overwrite": overwrite}
    if png is None:
        figures = _write(landcover, out, settings, quiet=quiet)
    else:
        figures = _write_and_draw(landcover, out, png, settings, quiet=quiet)
    if as_json:
        pictures = {} if png is None else {"png": png}
        click.echo(json.dumps({"path": out} | pictures | figures, indent=2))


def _write_and_draw(
    landcover: str, out: str, png: str, settings: dict[str, Any], *, quiet: bool
) -> dict[str, int | float]:
    """Write the polygons and draw them, after checking that they can be drawn."""
    from geoseg.atomic import make_folders
    from geoseg.display import check_picture, picture
    from geoseg.vector import has_layers, layer_name

    if settings.get("mkdir"):
        make_folders(png)
    others = [name for name in (landcover, out, settings.get("confidence")) if name]
    check_picture(png, overwrite=settings["overwrite"], others=others)
    layer = layer_name(landcover, out, settings.get("layer")) if has_layers(Path(out)) else None
    figures = _write(landcover, out, settings, quiet=quiet)
    with ProgressBar(quiet=quiet, interrupted=f"{out} is written, {png} is not"):
        legend = settings.get("legend")
        drawn = picture(landcover, out=png, polygons=out, legend=legend, layer=layer, overwrite=True)
    if not quiet:
        say(f"wrote {drawn}")
    return figures


def _write(landcover: str, out: str, settings: dict[str, Any], *, quiet: bool) -> dict[str, int | float]:
    """Vectorize with a progress bar and return the figures."""
    with fast_start():
        from geoseg.compiled import load_compiler
        from geoseg.vector import vectorize as vectorize_map

        load_compiler()
    with ProgressBar(quiet=quiet, interrupted=f"{out} was not written") as bar:
        vectorize_map(landcover, out, progress=bar.update, announce=bar.announce, **settings)
    if not quiet:
        say(f"wrote {out}{bar.summary}")
    return bar.figures
