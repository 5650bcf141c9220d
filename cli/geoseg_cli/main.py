"""The command `geoseg`: every failure is one line on stderr and an exit code; `info`, `doctor` and `--version`."""

from __future__ import annotations

import errno
import io
import json
import os
import platform
import sys
import traceback
import warnings
from typing import Any, NoReturn

import click

from geoseg.errors import GeosegError, one_line, spelled
from geoseg.given import nearest, path_error
from geoseg.progress import watching_downloads
from geoseg.version import VERSION
from geoseg_cli import STOPPED, options
from geoseg_cli.evaluate import evaluate, sample, tabulate
from geoseg_cli.exchange import export, import_weights
from geoseg_cli.options import ExampleCommand, GroupedCommand, path_argument
from geoseg_cli.output import as_option, be_quiet, complain, show_progress, speak_of, warn_in_one_line, with_options
from geoseg_cli.predict import predict
from geoseg_cli.preview import preview
from geoseg_cli.process import (
    interrupt_at_end_of_stdin,
    interrupts_between_imports,
    load_boto3_when_used,
    termination_interrupts,
)
from geoseg_cli.progress_bar import DownloadBar
from geoseg_cli.train import train
from geoseg_cli.vectorize import vectorize

_EXIT_CODES = """\b
Exit codes:
  0  done
  1  failure: an unreadable file, an unsuitable model, a full disk, an interruption
  2  wrong usage: an invalid option or argument

Results go to stdout; errors, warnings and progress go to stderr, without colors. GEOSEG_DEBUG=1 adds tracebacks,
GEOSEG_CACHE is the cache folder, GEOSEG_MODEL the default model. With GEOSEG_END_WITH_STDIN=1 a run is interrupted
when its stdin closes.
"""


class _OneLineErrors(ExampleCommand, click.Group):
    """A group whose commands fail with one line: exit code 2 for usage, 1 for failure."""

    def __call__(self, *args: Any, **extra: Any) -> NoReturn:  # noqa: ANN401 - click's own
        """Run the command line in its own process, and exit."""
        try:
            self.main(*args, own_process=True, **extra)
        except SystemExit as end:
            from geoseg.machine import end_process

            end_process(end.code if isinstance(end.code, int) else 0)

    def main(self, *args: Any, **extra: Any) -> NoReturn:  # noqa: ANN401 - click's own overloads
        """Run the command line and exit."""
        extra["standalone_mode"] = False
        own_process = extra.pop("own_process", False)
        if own_process and os.environ.get("GEOSEG_END_WITH_STDIN"):
            interrupt_at_end_of_stdin()
        try:
            with (
                warnings.catch_warnings(),
                interrupts_between_imports(),
                termination_interrupts(),
                DownloadBar() as downloads,
                watching_downloads(downloads.hear),
            ):
                warn_in_one_line()
                show_progress("auto")
                if own_process:
                    _print_any_letter()
                    load_boto3_when_used()
                    _keep_to_own_data()
                code = super().main(*args, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - nothing catches it after this
            sys.exit(_report(error))
        finally:
            show_progress("auto")  # --progress was for this command
            be_quiet(False)
            speak_of()
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own
        """Run a command; click prints a newline when interrupted, which is only useful for ^C on a terminal."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            if sys.stderr.isatty():
                raise
            raise click.Abort from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return a command by name; for a wrong name suggest the nearest, in every version of click."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = nearest(args[0], self.commands)
            hint = f"did you mean {near}?" if near else f"commands: {', '.join(self.commands)}"
            ctx.fail(f"no such command {args[0]!r} ({hint})")
        name, command, remaining = super().resolve_command(ctx, args)
        speak_of(*([] if command is None else [command]))
        return name, command, remaining


def _print_any_letter() -> None:
    """Make stdout escape letters that its encoding lacks, like stderr: on Windows, files get cp1252 by default."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _keep_to_own_data() -> None:
    if (os.environ.get("PROJ_DATA") or os.environ.get("PROJ_LIB")) and not os.environ.get("GDAL_DRIVER_PATH"):
        return  # nothing to set; if it is another database, reading rasters causes a warning
    from geoseg.raster import keep_to_own_data

    keep_to_own_data()


def _report(error: BaseException) -> int:
    """Report an error in one line; return the exit code."""
    debug = bool(os.environ.get("GEOSEG_DEBUG"))
    if debug:
        traceback.print_exception(error)
    if isinstance(error, OSError):
        error = path_error(error) or error
    match error:
        case GeosegError():
            complain("error", str(error))
            return error.exit_code
        case click.UsageError():
            context = error.ctx
            hint = f"; see {context.command_path} --help" if context else ""
            complain("error", error.format_message().rstrip(".") + hint)
            return 2
        case click.Abort():
            complain("interrupted", STOPPED)
        case MemoryError():
            complain(
                "error",
                "out of memory; close other programs, or give predict a smaller --tile, --batch-size or --workers",
            )
        case OSError() if _was_printed(error):
            why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
            complain("error", f"cannot write to stdout: {why}; send the output elsewhere")
        case _ if _is_interrupt(error):
            complain("interrupted", STOPPED)
        case _:
            advice = "" if debug else "; GEOSEG_DEBUG=1 shows where"
            complain("error", f"unexpected {type(error).__name__}: {error}{advice}")
    return 1


def _was_printed(error: OSError) -> bool:
    """Return whether an error occurred while printing."""
    return any(
        frame.f_globals.get("__name__") == click.utils.__name__ for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def _is_interrupt(error: BaseException | None) -> bool:
    """Return whether Ctrl-C caused an error: Python 3.11 turns it into a RuntimeError while a class is created.

    A second one, while the first ends the threads, may leave a lock unlocked, which is an error too.
    """
    return isinstance(error, KeyboardInterrupt) or (
        error is not None and _is_interrupt(error.__cause__ or error.__context__)
    )


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

    facts = inspect(path, aoi=aoi, aoi_crs=aoi_crs)
    click.echo(json.dumps(with_options(facts.to_json()), indent=2) if as_json else spelled(facts.describe(), as_option))


@click.command(cls=GroupedCommand, short_help="Check this machine and suggest fixes.")
@options.as_json("Output", "Print JSON.")
def doctor(*, as_json: bool) -> int:
    """Check GDAL, PROJ, torch, the GPU, memory, disks and optional dependencies, and suggest fixes.

    Exit code 0: geoseg works here. 1: something that every run needs is broken.

    Example: geoseg doctor
    """
    from geoseg.inspection import doctor as examine

    diagnosis = examine()
    click.echo(
        json.dumps(with_options(diagnosis.to_json()), indent=2) if as_json else spelled(diagnosis.describe(), as_option)
    )
    return 0 if diagnosis.usable else 1


def _print_version(context: click.Context, _parameter: click.Parameter, requested: bool) -> None:  # noqa: FBT001 - click's
    """Print versions and device, and exit. The first line, geoseg's version, is printed even if all else is broken."""
    if not requested or context.resilient_parsing:
        return
    click.echo(f"geoseg, version {VERSION}")
    from geoseg.inspection import device_text, gdal_text, version_of

    try:
        gdal = gdal_text()
    except (ImportError, OSError) as error:
        gdal = f"cannot be loaded ({one_line(error, None)}); see geoseg doctor"
    click.echo(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    click.echo(f"GDAL {gdal}")
    click.echo(f"torch {version_of('torch')}, onnxruntime {version_of('onnxruntime')}")
    click.echo(f"device {device_text()}")
    context.exit()


@click.group(
    cls=_OneLineErrors,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EXIT_CODES,
)
@click.option(
    "--version", "-V", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Show the versions of geoseg, GDAL and torch and the device, and exit.",
)  # fmt: skip
def geoseg() -> None:
    """Land-cover maps from georeferenced rasters too big for memory.

    Example: geoseg predict scene.tif --out landcover.tif

    Example: geoseg vectorize landcover.tif --out landcover.gpkg --min-area 100 --simplify 1.5

    Example: geoseg preview landcover.tif --scene scene.tif --out map.html
    """


for command in (predict, vectorize, train, tabulate, sample, evaluate, preview, info, import_weights, export, doctor):
    geoseg.add_command(command)
