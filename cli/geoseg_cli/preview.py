"""`geoseg preview`."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from geoseg_cli import options
from geoseg_cli import parameter_types as types
from geoseg_cli.options import GroupedCommand, grouped, path_argument
from geoseg_cli.output import say
from geoseg_cli.progress_bar import ProgressBar

_OUTPUT, _LAYERS = "Output", "Layers"
_PAGE_ONLY, _PICTURE_ONLY = ("later", "confidence", "max_mb"), ("width_px", "dpi")
"""Options only for pages, and options only for pictures."""
_SPELLED = {"later": "two maps", "width_px": "--width"}


@click.command(cls=GroupedCommand, short_help="Make a web page or a picture of a map.")
@path_argument("landcover")
@path_argument("later", required=False)
@options.out(
    _OUTPUT,
    "A page (.html): one file that needs no network. Or a picture (.png): the map, beside its scene, or its polygons.",
)
@grouped(_OUTPUT)(
    "--max-mb", type=float, metavar="MB", help="Maximum size of the page; a larger page zooms deeper. [default: 15]"
)
@grouped(_OUTPUT)("--title", metavar="TEXT", help="Heading. [default: the map's file name]")
@grouped(_OUTPUT)("--description", metavar="TEXT", help="Text below the heading.")
@grouped(_OUTPUT)(
    "--width", "width_px", type=int, metavar="PX", help="Width of a picture, in pixels. [default: about 2150]"
)
@grouped(_OUTPUT)("--dpi", type=int, metavar="N", help="Resolution of a picture, in pixels per inch. [default: 144]")
@options.replacing(_OUTPUT, "Replace an existing file.")
@options.telling(_OUTPUT)
@grouped(_LAYERS)("--scene", metavar="TIF", help="Imagery under the map, compared by a swipe line.")
@grouped(_LAYERS)("--confidence", metavar="TIF", help="Confidence, as written by predict --confidence.")
@options.aoi(_LAYERS, "Show and count only this area of the map: polygons in any file and CRS.")
@grouped(_LAYERS)("--polygons", metavar="FILE", help="Polygons, as written by geoseg vectorize.")
@options.layer(_LAYERS, "Layer of the polygons. [default: the only one, or the map's name]")
@grouped(_LAYERS)(
    "--legend", metavar="FILE",
    help="Names and colors: .json, .csv, .qml, .sld or .clr. [default: the map's own, else its codes]",
)  # fmt: skip
@grouped(_LAYERS)(
    "--palette", type=types.word("palette", *types.PALETTES), metavar="NAME",
    help="soft, own (the map's), deepglobe (as published), or color-blind for colors that everybody can tell apart. "
    "[default: soft for maps in DeepGlobe's colors, else own]",
)  # fmt: skip
def preview(landcover: str, *, out: str, as_json: bool, quiet: bool, **arguments: Any) -> None:  # noqa: ANN401
    """Show LANDCOVER, a map of any size, as a web page to look at and share.

    Pan and zoom, swipe between scene and map, switch classes on and off, read coordinates and areas. With LATER, a map
    of another date, the swipe line lies between the two maps, and the page shows what changed.

    Example: geoseg preview landcover.tif --scene scene.tif --out map.html

    Example: geoseg preview landcover.tif later.tif --out change.html
    """
    settings = options.used(arguments)
    with ProgressBar(quiet=quiet, interrupted=f"{out} was not written") as bar:
        if Path(out).suffix.lower() == ".png":
            written = _picture(landcover, out, settings | {"announce": bar.announce})
        else:
            written = _page(landcover, out, settings | {"progress": bar.update, "announce": bar.announce})
    size_bytes = written.stat().st_size
    if not quiet:
        say(f"wrote {written}, {_size(size_bytes)}")
    if as_json:
        click.echo(json.dumps({"path": out, "bytes": size_bytes}, indent=2))


def _page(landcover: str, out: str, settings: dict[str, Any]) -> Path:
    from geoseg.display import preview as show

    _refuse(settings, _PICTURE_ONLY, "a picture, not a page", out, ".png")
    return show(landcover, settings.pop("scene", None), out=out, **settings).path or Path(out)


def _picture(landcover: str, out: str, settings: dict[str, Any]) -> Path:
    from geoseg.display import picture

    _refuse(settings, _PAGE_ONLY, "a page, not a picture", out, ".html")
    return picture(landcover, settings.pop("scene", None), out=out, **settings)


def _refuse(settings: dict[str, Any], names: Collection[str], kind: str, out: str, extension: str) -> None:
    surplus = [_SPELLED.get(name, f"--{name.replace('_', '-')}") for name in names if name in settings]
    if surplus:
        verb = "needs" if len(surplus) == 1 and surplus != ["two maps"] else "need"
        other = Path(out).parent / f"{Path(out).stem}{extension}"
        raise click.UsageError(f"{' and '.join(surplus)} {verb} {kind}: --out {other}")


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.0f} kB"
