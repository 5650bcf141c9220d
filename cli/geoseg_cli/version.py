"""`geoseg --version`: what a bug report should begin with."""

from __future__ import annotations

import platform

import click

from geoseg.version import VERSION


def print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's
    """Print versions and device, and end. The first line is geoseg's own, whatever else is broken."""
    if not wanted or context.resilient_parsing:
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
