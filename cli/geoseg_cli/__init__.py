"""The command line: parse, call one library verb, report."""

# These imports are loaded before Ctrl-C can be reported in one line, so keep them few.
import os
import signal
import sys
from types import FrameType

STOPPED = "no output file was written"
"""What a message about an interrupted command says if nothing more is known."""


def command() -> None:
    """Run the command `geoseg` in its own process; from now on, Ctrl-C and SIGTERM end it with one line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as in the background
        signal.signal(signal.SIGINT, end_at_once)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, end_at_once)
    from geoseg_cli.main import geoseg

    geoseg(prog_name="geoseg")


def end_at_once(_number: int, _frame: FrameType | None) -> None:
    """End the process while it loads modules: no work has started, and an import could swallow an exception."""
    shows_json = "--progress=json" in sys.argv or ("--progress", "json") in zip(sys.argv, sys.argv[1:], strict=False)
    line = f'{{"interrupted": "{STOPPED}"}}' if shows_json else f"geoseg: interrupted: {STOPPED}"
    try:
        os.write(2, f"{line}\n".encode())
    finally:
        os._exit(1)
