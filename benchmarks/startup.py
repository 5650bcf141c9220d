"""How long a new process takes to print its help, and to map a small scene.

python benchmarks/startup.py --work FOLDER [--times 5] [--model BUNDLE] [--json PATH]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import child
from report import Report
from scenes import scene

HELP_SECONDS, MAP_SECONDS = 0.5, 3.0
"""Promised times."""
_EDGE_PX = 512


def main() -> int:
    """Measure, print, and return 1 if a figure was missed."""
    arguments = _arguments()
    path = scene(arguments.work, _EDGE_PX, _EDGE_PX)
    model = f"model {arguments.model.stem}" if arguments.model else "the demo model"
    report = Report("Start", f"New processes, {arguments.times} of each after one to warm up; {model}.")
    command = child.geoseg_command()
    helped = _median(lambda: child.run([command, "--help"]), "geoseg --help", arguments.times, report)
    mapped = _median(lambda: _map(path, arguments), f"{_EDGE_PX} x {_EDGE_PX} mapped", arguments.times, report)
    report.figure("geoseg --help, median", helped, wanted=HELP_SECONDS, at_least=False, unit=" s")
    report.figure(
        f"{_EDGE_PX} x {_EDGE_PX} scene mapped, median", mapped, wanted=MAP_SECONDS, at_least=False, unit=" s"
    )
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for scenes and maps, kept")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--model", type=Path, help="a bundle; the demo model if left out")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    return parser.parse_args()


def _map(path: Path, arguments: argparse.Namespace) -> child.Finished:
    folder = arguments.work / "maps"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = ["--model", str(arguments.model)] if arguments.model else []
    return child.run([child.geoseg_command(), "predict", str(path), "--out", str(folder / "landcover.tif"), *model])


def _median(measure: Callable[[], child.Finished], what: str, times: int, report: Report) -> float:
    measure()
    done = [measure() for _ in range(times)]
    seconds = [run.seconds for run in done]
    report.add(
        what=what,
        median_seconds=statistics.median(seconds),
        least=min(seconds),
        most=max(seconds),
        cpu_seconds=statistics.median(run.cpu_seconds for run in done),
        peak_megabytes=max(run.peak_bytes for run in done) / 1e6,
    )
    return statistics.median(seconds)


if __name__ == "__main__":
    raise SystemExit(main())
