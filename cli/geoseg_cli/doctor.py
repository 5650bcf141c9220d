"""`geoseg doctor`."""

from __future__ import annotations

import json

import click

from geoseg_cli import options
from geoseg_cli.groups import GroupedCommand


@click.command(cls=GroupedCommand, short_help="Check this machine and suggest fixes.")
@options.as_json("Output", "The same as JSON, for programs.")
def doctor(*, as_json: bool) -> int:
    """Look at GDAL, PROJ, torch, GPU, memory, disks and the optional parts, and say how to mend what is not fit.

    Exit code 0: geoseg can work here. 1: something that every run needs is broken.

    Example: geoseg doctor
    """
    from geoseg.inspection import doctor as examine

    found = examine()
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else found.describe())
    return 0 if found.usable else 1
