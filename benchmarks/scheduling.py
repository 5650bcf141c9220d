"""What it costs to schedule many tiles that do nothing, and to note each of them in the journal.

python benchmarks/scheduling.py [--tiles 100000] [--json PATH]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import Report, cores

from geoseg.inference import run_tasks
from geoseg.inference.execution import open_journal

SECONDS = 20.0
"""What is promised is seconds, not minutes, for 10^5 tiles."""


def main() -> int:
    """Measure, print, and return 1 if the figure was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=100_000)
    parser.add_argument("--json", type=Path, help="keep the figures here")
    arguments = parser.parse_args()
    tiles = arguments.tiles
    report = Report("Scheduling", f"{tiles} tiles that do nothing, {cores()} workers, threads of this process.")
    scheduled = _timed("scheduled", tiles, report, lambda: run_tasks(_nothing, range(tiles), cores(), lambda _: None))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "landcover.tif"
        with open_journal(output, "fingerprint", {}, start_over=False) as journal:
            run = lambda: run_tasks(_nothing, range(tiles), cores(), journal.add)  # noqa: E731 - said where it is used
            _timed("scheduled and noted in the journal, each on the disk", tiles, report, run)
        began = time.perf_counter()
        with open_journal(output, "fingerprint", {}, start_over=False) as journal:
            if len(journal.finished) != tiles:
                raise RuntimeError(f"{tiles} tiles were noted, {len(journal.finished)} found")
            _row(report, "journal read again", tiles, time.perf_counter() - began)
    report.figure(f"{tiles} tiles scheduled", scheduled, wanted=SECONDS, at_least=False, unit=" s")
    return report.publish(arguments.json)


def _nothing(index: int) -> int:
    return index


def _timed(what: str, tiles: int, report: Report, work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    _row(report, what, tiles, seconds)
    return seconds


def _row(report: Report, what: str, tiles: int, seconds: float) -> None:
    report.add(what=what, seconds=seconds, microseconds_a_tile=seconds / tiles * 1e6)


if __name__ == "__main__":
    raise SystemExit(main())
