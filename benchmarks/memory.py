"""Peak resident memory of `geoseg predict` on a scene and on one sixteen times as tall: it must not grow.

    python benchmarks/memory.py --work FOLDER [--edge 4096] [--times 16] [--model BUNDLE] [--json PATH]

The tall scene is the other one, written sixteen times one below the other. Scenes are made by other processes.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import child
from report import Report
from scenes import scene

GROWTH, LIMIT_GB = 1.10, 1.0
"""What is promised: the tall scene's peak at most so many times the other's, and below this."""


def main() -> int:
    """Measure, print, and return 1 if a figure was missed."""
    arguments = _arguments()
    edge = arguments.edge
    paths = scene(arguments.work, edge, edge), scene(arguments.work, edge, edge, arguments.times)
    model = f"model {arguments.model.stem}" if arguments.model else "the demo model"
    report = Report(
        "Memory does not grow with the scene", f"`geoseg predict` as a process of its own, {model}, default settings."
    )
    _measure(paths[0], arguments, None)  # whatever is done once, such as an export, is done here
    peaks = [_measure(path, arguments, report) for path in paths]
    what = f"peak on {arguments.times} times the scene, times that on one"
    report.figure(what, peaks[1] / peaks[0], wanted=GROWTH, at_least=False)
    report.figure("peak on the tall scene", peaks[1] / 1e9, wanted=LIMIT_GB, at_least=False, unit=" GB")
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for scenes and maps, kept")
    parser.add_argument("--edge", type=int, default=4096, help="edge of the smaller scene in pixels")
    parser.add_argument("--times", type=int, default=16, help="how many times as tall the other is")
    parser.add_argument("--model", type=Path, help="a bundle; the demo model if left out")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    return parser.parse_args()


def _measure(path: Path, arguments: argparse.Namespace, report: Report | None) -> int:
    """Return the peak resident bytes of mapping a scene."""
    folder = arguments.work / "maps"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = ["--model", str(arguments.model)] if arguments.model else []
    out = str(folder / "landcover.tif")
    done = child.run([child.geoseg_command(), "predict", str(path), "--out", out, "--device", "cpu", *model])
    if report is not None:
        report.add(
            scene=path.stem, seconds=done.seconds, cpu_seconds=done.cpu_seconds, peak_gigabytes=done.peak_bytes / 1e9
        )
    return done.peak_bytes


if __name__ == "__main__":
    raise SystemExit(main())
