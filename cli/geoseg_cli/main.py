"""The command `geoseg`: every failure is one line on stderr, and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from typing import Any, NoReturn

import click

from geoseg.errors import GeosegError
from geoseg.version import VERSION
from geoseg_cli.evaluate import evaluate
from geoseg_cli.info import info
from geoseg_cli.predict import predict
from geoseg_cli.preview import preview
from geoseg_cli.say import complain, warn_in_one_line
from geoseg_cli.train import train
from geoseg_cli.vectorize import vectorize


class OneLineErrors(click.Group):
    """A group whose commands end in one clear line: exit code 2 for usage, 1 for failure, 0 for all else."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:  # noqa: ANN401 - click's own overloads
        """Run the command line and exit."""
        extra["standalone_mode"] = False
        try:
            with warnings.catch_warnings():
                warn_in_one_line()
                code = super().main(*args, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except Exception as error:  # noqa: BLE001 - the last stop for everything
            sys.exit(_report(error))
        sys.exit(code if isinstance(code, int) else 0)


def _report(error: Exception) -> int:
    """Say on one line what went wrong; return the exit code."""
    debug = bool(os.environ.get("GEOSEG_DEBUG"))
    if debug:
        traceback.print_exception(error)
    match error:
        case GeosegError():
            complain("error", str(error))
            return error.exit_code
        case click.UsageError():
            context = error.ctx
            way_out = f"; see {context.command_path} --help" if context else ""
            complain("error", error.format_message().rstrip(".") + way_out)
            return 2
        case click.Abort():
            complain("interrupted", "nothing was written at the output's name")
            return 1
        case MemoryError():
            complain(
                "error",
                "out of memory; close other programs, or with predict try a smaller --tile, --batch-size or --workers",
            )
            return 1
    complain("error", f"unexpected {type(error).__name__}: {error}" + ("" if debug else "; GEOSEG_DEBUG=1 tells where"))
    return 1


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="geoseg")
def geoseg() -> None:
    """Land-cover maps from georeferenced rasters too big for memory."""


geoseg.add_command(predict)
geoseg.add_command(vectorize)
geoseg.add_command(train)
geoseg.add_command(evaluate)
geoseg.add_command(preview)
geoseg.add_command(info)
