"""How close geoseg comes to the bare rate of its engine, over the windows it runs.

    python benchmarks/rates.py --work FOLDER [--size 8192] [--model BUNDLE] [--rounds 3] [--json PATH] [--quick]

bare     the network, exported for other programs, in a loop on prepared arrays, in the fastest way found (bare.py)
stage    inference: every pixel read, scored, blended and labeled with the plan's workers; nothing written
predict  geoseg.predict in this process: the stage, parts with overviews, the finished map
command  `geoseg predict` as a new process

The network sees the scene's own pixels, as the bare network does, not averaged ones.

Each round takes them in turn, with the bare rate before and after, so that a change in the machine's pace does not
decide the result.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import child
from bare import BareNetwork, Pace, Way
from report import Report
from scenes import scene
from stage import stage

from geoseg.inference import Plan, plan, predict

STAGE_SHARE, PREDICT_SHARE, COMMAND_SHARE = 0.95, 0.93, 0.88
"""Promised shares of the bare rate."""


def main() -> int:
    """Measure, print, and return 1 if a figure was missed."""
    arguments = _arguments()
    path = scene(arguments.work, arguments.size, arguments.size)
    made = plan(path, model=arguments.model, device="cpu", network_resolution="scene")
    network = BareNetwork.of(made, arguments.work)
    ways = network.fastest(0.5 if arguments.quick else 3)
    report = Report("Inference and the whole command beside the bare engine", _conditions(made, ways))
    shares: dict[str, list[float]] = {}
    for number in range(1 if arguments.quick else arguments.rounds):
        for name, share in _round(made, network, ways[0][0], arguments, report, number + 1):
            shares.setdefault(name, []).append(share)
    for name, wanted in (("stage", STAGE_SHARE), ("predict", PREDICT_SHARE), ("command", COMMAND_SHARE)):
        report.figure(
            f"{name}, of the bare rate, median", statistics.median(shares[name]), wanted=wanted, at_least=True
        )
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for scenes and maps, kept")
    parser.add_argument("--size", type=int, default=8192, help="edge of the scene in pixels")
    parser.add_argument("--model", type=Path, help="a bundle; the demo model if left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, to see that all works")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    return parser.parse_args()


def _conditions(made: Plan, ways: list[tuple[Way, Pace]]) -> str:
    tried = "; ".join(f"{way}: {pace.windows_a_second:.2f}" for way, pace in ways)
    return (
        f"Scene {made.grid.height_px} x {made.grid.width_px} (synthetic), model {made.bundle.name} "
        f"({made.bundle.architecture}, {made.bundle.weights_bytes / 1e6:.1f} MB), window {made.grid.window_px}, "
        f"overlap {made.grid.overlap_px}, {made.tile_count} tiles of {made.tile_height_px} x {made.tile_width_px}, "
        f"{made.workers} workers, {made.engine.describe()}, batch {made.mapping.batch_size}; {len(made.grid)} windows, "
        f"{made.windows_run} run.\n\n"
        f"Ways to call the bare network, windows a second: {tried}."
    )


def _round(  # noqa: PLR0913, PLR0917 - all of what main has
    made: Plan, network: BareNetwork, way: Way, arguments: argparse.Namespace, report: Report, number: int
) -> Iterator[tuple[str, float]]:
    """Yield each contestant's name and its share of the bare rate just before and after it."""
    bare_seconds = 2.0 if arguments.quick else 12.0
    before = network.pace(way, bare_seconds)
    contestants: dict[str, Callable[[], object]] = {
        "stage": partial(stage, made),
        "predict": partial(_predict, made, arguments),
        "command": partial(_command, made, arguments),
    }
    for name, contestant in contestants.items():
        began, began_cpu = time.perf_counter(), time.process_time()
        used = contestant()
        seconds = time.perf_counter() - began
        cpu_seconds = used.cpu_seconds if isinstance(used, child.Finished) else time.process_time() - began_cpu
        after = network.pace(way, bare_seconds)
        bare, before = before.mean_with(after), after
        rate = made.windows_run / seconds
        report.add(
            round=number,
            what=name,
            seconds=seconds,
            windows_a_second=rate,
            bare=bare.windows_a_second,
            share=rate / bare.windows_a_second,
            megapixels_a_second=made.grid.height_px * made.grid.width_px / 1e6 / seconds,
            cpu_ms_a_window=cpu_seconds * 1e3 / made.windows_run,
            bare_cpu_ms=bare.cpu_ms_a_window,
        )
        yield name, rate / bare.windows_a_second


def _predict(made: Plan, arguments: argparse.Namespace) -> None:
    predict(
        made.scene.path, fresh_target(arguments.work), model=arguments.model, device="cpu", network_resolution="scene"
    )


def _command(made: Plan, arguments: argparse.Namespace) -> child.Finished:
    model = ["--model", str(arguments.model)] if arguments.model else []
    out = str(fresh_target(arguments.work))
    shown = ["--device", "cpu", "--network-resolution", "scene"]
    return child.run([child.geoseg_command(), "predict", made.scene.path, "--out", out, *shown, *model], for_peak=False)


def fresh_target(work: Path) -> Path:
    """Return a path in a folder without files from an earlier run."""
    folder = work / "maps"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder / "landcover.tif"


if __name__ == "__main__":
    raise SystemExit(main())
