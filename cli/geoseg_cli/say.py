"""Lines for people, on stderr; stdout is kept for what was asked for."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TextIO

import click

from geoseg.errors import GeosegWarning


def complain(kind: str, message: str) -> None:
    """Print `geoseg: kind: message` as one line, whatever the message holds."""
    say(f"geoseg: {kind}: {' '.join(message.split())}")


def say(line: str) -> None:
    """Print a line on stderr."""
    click.echo(line, err=True)


def warn_in_one_line() -> None:
    """Show geoseg's own warnings as lines, and other libraries' only when GEOSEG_DEBUG is set."""
    if not os.environ.get("GEOSEG_DEBUG"):
        warnings.simplefilter("ignore")
    warnings.simplefilter("always", GeosegWarning)
    warnings.showwarning = _show


def _show(  # noqa: PLR0913, PLR0917 - the signature of warnings.showwarning
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, GeosegWarning):
        complain("warning", str(message))
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))
