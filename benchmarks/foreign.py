"""How near geoseg comes to the bare rate of a network in an ONNX file that somebody else made.

    python benchmarks/foreign.py --work FOLDER [--network FILE] [--size 8192] [--rounds 3] [--json PATH] [--quick]

The demo model is exported for other programs and read back as a file of unknown origin: one window at a time, as most
such files have it. The network is small, so that what is done beside it shows. --network is another file, which must
say all of itself: export a bundle of a U-Net for what people usually bring.

bare   the file in a loop on arrays that are ready, in the fastest way found (bare.py)
stage  inference: every tile read, scored, blended and labelled with the plan's workers; nothing written

The scene is as large as that of rates.py. One of 4096 pixels is over in six seconds, of which the workers' first rows
and the wait for the last of them are a larger part than in any run that takes long.

The bare rate is measured before and after, so that a machine whose pace changes does not decide.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from bare import BareNetwork, Way
from rates import stage
from report import Report
from scenes import scene

import geoseg
from geoseg.inference import Plan
from geoseg.raster import Window

SHARE = 0.9
"""Of the bare rate; what is promised."""
_READY_WINDOWS = 16
_BARE_SECONDS = 6.0


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
    )
    bare = BareNetwork(network, {1: _inputs(made), 2: [], 4: []})
    way = bare.fastest(0.5 if arguments.quick else 3)[0][0]
    report = Report("Somebody else's ONNX file beside ONNX Runtime alone", _conditions(made, way))
    shares = [
        _round(made, bare, way, report, number + 1) for number in range(1 if arguments.quick else arguments.rounds)
    ]
    report.figure("stage, of the bare rate, median", statistics.median(shares), wanted=SHARE, at_least=True)
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the scene and the network, kept")
    parser.add_argument("--network", type=Path, help="an ONNX file; the demo model, exported, if left out")
    parser.add_argument("--size", type=int, default=8192, help="edge of the scene in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, to see that all works")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    return parser.parse_args()


def _inputs(made: Plan) -> list[dict[str, object]]:
    """Return windows of the scene as the file takes them."""
    gain, bias = made.bundle.normalization.gain_bias(made.engine.scale)
    side = made.grid.window_px
    every = [(row, col) for row in made.grid.row_starts for col in made.grid.col_starts]
    chosen = every[:: max(1, len(every) // _READY_WINDOWS)][:_READY_WINDOWS]
    images = (made.scene.read(Window(row, col, side, side)).data for row, col in chosen)
    name = made.bundle.graph.input.name
    return [{name: (image * gain[:, None, None] + bias[:, None, None]).astype(np.float32)[None]} for image in images]


def _conditions(made: Plan, way: Way) -> str:
    return (
        f"Scene {made.grid.height_px} x {made.grid.width_px} (synthetic), window {made.grid.window_px}, overlap "
        f"{made.grid.overlap_px}, {made.workers} workers, {made.engine.describe()}; {made.windows_run} windows run. "
        f"The fastest way to call the bare network: {way}."
    )


def _round(made: Plan, bare: BareNetwork, way: Way, report: Report, number: int) -> float:
    """Return the share of the bare rate just before and after."""
    before = bare.pace(way, _BARE_SECONDS)
    began, began_cpu = time.perf_counter(), time.process_time()
    stage(made)
    took, took_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    pace = before.mean_with(bare.pace(way, _BARE_SECONDS))
    rate = made.windows_run / took
    report.add(
        round=number,
        windows_a_second=rate,
        bare=pace.windows_a_second,
        share=rate / pace.windows_a_second,
        cpu_ms_a_window=took_cpu * 1e3 / made.windows_run,
        bare_cpu_ms=pace.cpu_ms_a_window,
    )
    return rate / pace.windows_a_second


if __name__ == "__main__":
    raise SystemExit(main())
