"""`geoseg info`."""

from __future__ import annotations

import json

import click

from geoseg_cli import options
from geoseg_cli.groups import GroupedCommand, path_argument


@click.command(cls=GroupedCommand, short_help="Describe a scene, a map or a model.")
@path_argument("path", required=False)
@options.as_json("Output", "The same as JSON, for programs.")
def info(path: str | None, *, as_json: bool) -> None:
    """Tell what is known of a scene, a map or a model.

    PATH is any raster that GDAL reads, a .safetensors bundle, or a folder written by save_pretrained;
    "demo" is the model that comes with geoseg. Without PATH: the default model, which is the one that the environment
    variable GEOSEG_MODEL names, else the demo model.

    Example: geoseg info landcover.tif
    """
    from geoseg.inspection import info as look

    found = look(path)
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else found.describe())
