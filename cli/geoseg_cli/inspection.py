"""`geoseg info`, `geoseg doctor` and `geoseg --version`."""

from __future__ import annotations

import json
import platform

import click

from geoseg.errors import spelled
from geoseg.version import VERSION
from geoseg_cli import options
from geoseg_cli.options import GroupedCommand, path_argument
from geoseg_cli.output import as_option, with_options


@click.command(cls=GroupedCommand, short_help="Describe a scene, a map or a model.")
@path_argument("path", required=False)
@options.aoi("Raster", "Statistics and class shares of this area only: polygons in any file and CRS.")
@options.as_json("Output", "Print JSON.")
def info(path: str | None, *, aoi: str | None, aoi_crs: str | None, as_json: bool) -> None:
    """Show what is known about a scene, a map or a model.

    PATH is any raster that GDAL reads, a .safetensors bundle, an .onnx file, a folder written by save_pretrained,
    hf://owner/name, or "demo" for the model that comes with geoseg. Without PATH the default model is shown: the
    environment variable GEOSEG_MODEL, else the demo model.

    Example: geoseg info landcover.tif
    """
    from geoseg.inspection import info as inspect

    found = inspect(path, aoi=aoi, aoi_crs=aoi_crs)
    click.echo(json.dumps(with_options(found.to_json()), indent=2) if as_json else spelled(found.describe(), as_option))


@click.command(cls=GroupedCommand, short_help="Check this machine and suggest fixes.")
@options.as_json("Output", "Print JSON.")
def doctor(*, as_json: bool) -> int:
    """Check GDAL, PROJ, torch, the GPU, memory, disks and optional dependencies, and suggest fixes.

    Exit code 0: geoseg works here. 1: something that every run needs is broken.

    Example: geoseg doctor
    """
    from geoseg.inspection import doctor as examine

    found = examine()
    click.echo(json.dumps(with_options(found.to_json()), indent=2) if as_json else spelled(found.describe(), as_option))
    return 0 if found.usable else 1


def print_version(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click's
    """Print versions and device, and exit. The first line is geoseg's own, whatever else is broken."""
    if not asked or context.resilient_parsing:
        return
    click.echo(f"geoseg, version {VERSION}")
    from geoseg.inspection import device_text, gdal_text, version_of

    try:
        gdal = gdal_text()
    except (ImportError, OSError) as error:
        gdal = f"cannot be loaded ({' '.join(str(error).split())}); see geoseg doctor"
    click.echo(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    click.echo(f"GDAL {gdal}")
    click.echo(f"torch {version_of('torch')}, onnxruntime {version_of('onnxruntime')}")
    click.echo(f"device {device_text()}")
    context.exit()
