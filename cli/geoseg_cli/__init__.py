"""The command line: parse, call one library verb, report."""

# What is imported here is loaded before Ctrl-C can be told in one line.
import os
import signal
import sys
from types import FrameType

_STOPPED = "nothing was written at the output's name"


def command() -> None:
    """Run the command `geoseg` in a process of its own, which Ctrl-C and SIGTERM end with one line from now on."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as in the background
        signal.signal(signal.SIGINT, end_at_once)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, end_at_once)
    from geoseg_cli.main import geoseg

    geoseg(prog_name="geoseg")


def end_at_once(_number: int, _frame: FrameType | None) -> None:
    """End the process while it loads its modules: nothing has begun, and an exception could be lost in an import."""
    shows_json = "--progress=json" in sys.argv or ("--progress", "json") in zip(sys.argv, sys.argv[1:], strict=False)
    line = f'{{"interrupted": "{_STOPPED}"}}' if shows_json else f"geoseg: interrupted: {_STOPPED}"
    try:
        os.write(2, f"{line}\n".encode())
    finally:
        os._exit(1)
