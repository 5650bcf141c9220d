"""How close geoseg comes to the bare rate of the network in another program's ONNX file.

    python benchmarks/foreign.py --work FOLDER [--network FILE] [--size 8192] [--rounds 8] [--json PATH] [--quick]

The demo model is exported for other programs and read back as a file of unknown origin: one window at a time, as most
such files require. The network is small, so the work around it shows. --network takes another file, which must contain
all its metadata: export a bundle of a U-Net for a network that people usually bring.

bare    the file in a loop on prepared arrays, in the fastest way found (bare.py)
geoseg  inference: a row of tiles read, scored, blended and labeled; nothing written

They take turns of a few seconds, because a machine's pace may change by a third within minutes: each round of geoseg's
is compared with the mean of the bare rate just before and just after it. The figure is the median of the rounds. Both
run windows of the same scene, of the same size.

Inside a round: decoding, cutting, normalizing, the network, weights, sums, labels, the threads that do it, their start
and the wait for the last of them, which a whole run does once. Outside: planning, writing, and opening the file, which
a run does once; its time is reported.

Next to the share by the clock is the share by processor time of the whole process, which other programs on the machine
disturb less, and which ignores waiting.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from bare import BareNetwork, Pace, Way
from report import Report
from scenes import scene
from stage import stage, windows_of

import geoseg
from geoseg.inference import Plan
from geoseg.raster import Window

SHARE = 0.9
"""Promised share of the bare rate."""
_READY_WINDOWS = 16
_BARE_SECONDS = 2.0
_TILE_PX = 2048
"""With this tile size, two workers take a few seconds for a row of tiles of the default scene."""


def main() -> int:
    """Measure, print, and return 1 if the figure was missed."""
    arguments = _arguments()
    network = arguments.network
    if network is None:
        network = arguments.work / "foreign.onnx"
        geoseg.export_model(None, network, overwrite=True)
    made = geoseg.plan(
        scene(arguments.work, arguments.size, arguments.size),
        model=network,
        device="cpu",
        network_resolution="scene",
        tile=_TILE_PX,
    )
    bare = BareNetwork(network, {1: _inputs(made), 2: [], 4: []})
    way = bare.fastest(0.5 if arguments.quick else 3)[0][0]
    began = time.perf_counter()
    made.engine.open()
    report = Report(
        "Somebody else's ONNX file beside ONNX Runtime alone", _conditions(made, way, time.perf_counter() - began)
    )
    rounds = list(_rounds(made, bare, way, report, 1 if arguments.quick else arguments.rounds))
    by_clock, by_cpu = zip(*rounds, strict=True)
    report.figure("geoseg, of the bare rate, median", statistics.median(by_clock), wanted=SHARE, at_least=True)
    report.figure("the same by processor time, median", statistics.median(by_cpu), wanted=SHARE, at_least=True)
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the scene and the network, kept")
    parser.add_argument("--network", type=Path, help="an ONNX file; the demo model, exported, if left out")
    parser.add_argument("--size", type=int, default=8192, help="edge of the scene in pixels")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="one round, to see that all works")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    return parser.parse_args()


def _inputs(made: Plan) -> list[dict[str, object]]:
    """Return windows of the scene as inputs of the file."""
    gain, bias = made.bundle.normalization.gain_bias(made.engine.scale)
    side = made.grid.window_px
    every = [(row, col) for row in made.grid.row_starts for col in made.grid.col_starts]
    chosen = every[:: max(1, len(every) // _READY_WINDOWS)][:_READY_WINDOWS]
    images = (made.scene.read(Window(row, col, side, side)).data for row, col in chosen)
    name = made.bundle.graph.input.name
    return [{name: (image * gain[:, None, None] + bias[:, None, None]).astype(np.float32)[None]} for image in images]


def _conditions(made: Plan, way: Way, opening_seconds: float) -> str:
    return (
        f"Scene {made.grid.height_px} x {made.grid.width_px} (synthetic), window {made.grid.window_px}, overlap "
        f"{made.grid.overlap_px}, tiles of {made.tile_height_px} x {made.tile_width_px}, {made.workers} workers, "
        f"{made.engine.describe()}. The fastest way to call the bare network: {way}. The file was opened in "
        f"{opening_seconds:.2g} s."
    )


def _rounds(made: Plan, bare: BareNetwork, way: Way, report: Report, rounds: int) -> Iterator[tuple[float, float]]:
    """Yield geoseg's share of the bare pace, by the clock and by processor time, of each round."""
    pieces = [range(row * made.tile_cols, (row + 1) * made.tile_cols) for row in range(made.tile_rows)]
    before = bare.pace(way, _BARE_SECONDS)
    for number, piece in zip(range(rounds), itertools.cycle(pieces), strict=False):
        ours = _pace(made, piece)
        after = bare.pace(way, _BARE_SECONDS)
        alone, before = before.mean_with(after), after
        shares = ours.windows_a_second / alone.windows_a_second, alone.cpu_ms_a_window / ours.cpu_ms_a_window
        report.add(
            round=number + 1,
            windows_a_second=ours.windows_a_second,
            bare=alone.windows_a_second,
            share=shares[0],
            cpu_ms_a_window=ours.cpu_ms_a_window,
            bare_cpu_ms=alone.cpu_ms_a_window,
            share_by_cpu=shares[1],
        )
        yield shares


def _pace(made: Plan, tiles: Sequence[int]) -> Pace:
    """Return the pace of the plan's workers on a row of tiles."""
    windows = windows_of(made, tiles)
    began, began_cpu = time.perf_counter(), time.process_time()
    stage(made, tiles)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    return Pace(windows / seconds, cpu_seconds * 1e3 / windows)


if __name__ == "__main__":
    raise SystemExit(main())
