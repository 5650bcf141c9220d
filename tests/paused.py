"""Run `geoseg` to a given moment and wait there for a file: python paused.py MOMENT FILE ARGUMENTS...

This way a test hits the moment however busy the machine is. Signals end the wait as they would end the work.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geoseg.inference.execution.journal import Journal
from geoseg.raster.classes import class_raster
from geoseg.raster.landcover import outputs
from geoseg.vector.io import formats
from geoseg_cli.main import geoseg

PATIENCE_S = 200
"""The longest wait; then the work continues and the test fails."""
TILES = 3
MOMENTS: dict[str, tuple[Any, str]] = {
    "tile": (Journal, "add"),  # some tiles are finished
    "assembly": (outputs, "check_whole"),  # the map is written, but does not have its name yet
    "polygons": (formats, "sync_file"),  # likewise
}


def program(moment: str, go: Path) -> list[str]:
    """Return the first words of a command that waits at a moment until the file `go` exists."""
    return [sys.executable, "-P", os.fspath(__file__), moment, os.fspath(go)]


def _waiting(work: Callable[..., Any], turn: int, go: Path) -> Callable[..., Any]:
    turns = itertools.count(1)

    def waits(*arguments: Any) -> Any:
        is_its_turn = next(turns) == turn  # before the work, which a signal may end, so that no later call waits
        done = work(*arguments)
        if is_its_turn:
            until = time.monotonic() + PATIENCE_S
            while not go.exists() and time.monotonic() < until and threading.main_thread().is_alive():
                time.sleep(0.01)
        return done

    return waits


if __name__ == "__main__":
    place, name = MOMENTS[sys.argv[1]]
    setattr(place, name, _waiting(getattr(place, name), TILES if sys.argv[1] == "tile" else 1, Path(sys.argv[2])))
    if sys.argv[1] == "polygons":
        class_raster.STRIP_PX = 65536
    geoseg(sys.argv[3:], prog_name="geoseg")
