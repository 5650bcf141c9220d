"""`geoseg preview`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from geoseg_cli import options, values
from geoseg_cli.groups import GroupedCommand, grouped, path_argument
from geoseg_cli.interrupt import InterruptedRunError, termination_interrupts
from geoseg_cli.progress import ProgressBar
from geoseg_cli.say import say

PICTURE_SUFFIX = ".png"


_WRITTEN, _SHOWN = "What is written", "What is shown"


@click.command(cls=GroupedCommand, short_help="A page or a picture to look at.")
@path_argument("landcover")
@options.out(
    _WRITTEN, "A page (.html): one file, no network, no server. Or a picture (.png) of scene and map side by side."
)
@grouped(_WRITTEN)(
    "--max-mb", type=float, metavar="MB", help="The page's size; more of it means deeper zooms. [default: 15]"
)
@options.mkdir(_WRITTEN)
@options.overwrite(_WRITTEN, "Replace an existing file.")
@options.as_json(_WRITTEN)
@options.progress(_WRITTEN)
@options.quiet(_WRITTEN)
@grouped(_SHOWN)("--scene", metavar="TIF", help="The imagery under the map, to compare by a swipe line.")
@grouped(_SHOWN)(
    "--confidence", metavar="TIF", help="A raster as predict --confidence writes it, as a layer of the page."
)
@grouped(_SHOWN)("--polygons", metavar="FILE", help="Polygons as vectorize writes them, drawn on the page.")
@options.layer(_SHOWN, "The layer of the polygons. [default: the only one, or the map's name]")
@grouped(_SHOWN)(
    "--legend",
    metavar="FILE",
    help="Names and colours: .json, .csv, .qml or .clr. [default: the map's own, else its codes]",
)
@grouped(_SHOWN)(
    "--palette",
    type=values.word("palette", *values.PALETTES),
    metavar="NAME",
    help="own, or colour-blind: colours that colour-blind people tell apart. [default: own]",
)
def preview(  # noqa: PLR0913 - one a knob
    landcover: str,
    *,
    out: str,
    scene: str | None,
    confidence: str | None,
    polygons: str | None,
    layer: str | None,
    legend: str | None,
    palette: str | None,
    max_mb: float | None,
    mkdir: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show LANDCOVER, a map of any size, as a page to look at and to send.

    Pan and zoom, swipe between scene and map, switch classes on and off, read coordinates and areas.

    Example: geoseg preview landcover.tif --scene scene.tif --out map.html
    """
    with ProgressBar(quiet=quiet) as bar, termination_interrupts():
        try:
            if Path(out).suffix.lower() == PICTURE_SUFFIX:
                _refuse_for_picture(confidence=confidence, polygons=polygons, layer=layer, max_mb=max_mb)
                written = _picture(landcover, scene, out, legend, palette, mkdir=mkdir, overwrite=overwrite)
            else:
                written = _page(
                    landcover,
                    scene,
                    out,
                    progress=bar.update,
                    mkdir=mkdir,
                    overwrite=overwrite,
                    confidence=confidence,
                    polygons=polygons,
                    layer=layer,
                    legend=legend,
                    palette=palette,
                    max_mb=max_mb,
                )
        except KeyboardInterrupt:
            raise InterruptedRunError(f"interrupted; nothing was written at {out}") from None
    if not quiet:
        say(f"wrote {written}, {_size(written)}")
    if as_json:
        click.echo(json.dumps({"path": out, "bytes": written.stat().st_size}, indent=2))


def _page(landcover: str, scene: str | None, out: str, **given: Any) -> Path:  # noqa: ANN401
    from geoseg.display import preview as show

    knobs = {name: value for name, value in given.items() if value is not None}
    return show(landcover, scene, out=out, **knobs).path or Path(out)


def _picture(  # noqa: PLR0913 - one a knob
    landcover: str,
    scene: str | None,
    out: str,
    legend: str | None,
    palette: str | None,
    *,
    mkdir: bool,
    overwrite: bool,
) -> Path:
    from geoseg.atomic import make_folders
    from geoseg.display import check_target, picture

    if scene is None:
        raise click.UsageError("a picture shows scene and map side by side: add --scene, or give a page (.html)")
    if mkdir:
        make_folders(out)
    check_target(out, overwrite=overwrite)
    return picture(scene, landcover, out, legend=legend, palette=palette)


def _refuse_for_picture(**given: object) -> None:
    named = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if named:
        raise click.UsageError(f"{' and '.join(named)} belong to a page, not to a picture; give --out map.html")


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
