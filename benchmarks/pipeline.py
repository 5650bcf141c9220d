"""How busy the pipeline keeps a device, and what it costs the host; no GPU is needed.

    python benchmarks/pipeline.py [--work FOLDER] [--size 16384] [--rounds 3] [--json PATH] [--quick]

host     a run with a device that takes no time: the rate of reading, pasting, writing and the final map
device   a run with a device of 0.8 of that rate: the share of time in which it has work
decode   the scene read by GDAL alone, each block once, with as many threads: work that the host cannot avoid

The device is fake (fake_device.py): it only sleeps. The scene, its reading, the tiles, their encoding and the finished
map are real. --quick is a small run to see that everything works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from fake_device import FakeDevice, in_place_of_the_cpu, spots, unused_model
from report import Report
from scenes import scene

import geoseg
from geoseg.progress import Progress

SHARE = 0.8
"""Rate of the device, as a share of the host's."""
BUSY_TILES, BUSY_WHOLE, HOST = 0.93, 0.90, 2.0
"""Promised: how busy the device is while tiles run and over the whole run; the host's CPU, times decoding.

That is 15 ms per megapixel if decoding takes 7.4, as on the machine behind the promise.
"""


@dataclass(frozen=True, slots=True)
class Run:
    """The measurements of one run."""

    tiles_s: float
    whole_s: float
    cpu_s: float
    busy_s: float
    windows: int
    megapixels: float
    head_s: float
    """Before the first work of the device."""
    tail_s: float
    """After its last."""


def main() -> int:
    """Measure, print, and return 1 if a figure was missed."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        path = _scene(work, arguments.size, quick=arguments.quick)
        window_px = 128 if arguments.quick else 512
        with in_place_of_the_cpu(None):
            made = geoseg.plan(path, model=unused_model(window_px))
        report = Report("A device that never waits", _conditions(made))
        found = [_round(made, path, report, number + 1, arguments.share) for number in range(arguments.rounds)]
    busy_tiles, busy_whole, host = (statistics.median(each) for each in zip(*found, strict=True))
    quick = arguments.quick
    report.figure("busy while tiles run", busy_tiles, wanted=0.0 if quick else BUSY_TILES, at_least=True)
    report.figure("busy over the whole run", busy_whole, wanted=0.0 if quick else BUSY_WHOLE, at_least=True)
    report.figure("CPU of the host", host, wanted=1e3 if quick else HOST, at_least=False, unit=" times decoding")
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="a folder for the scene, kept; a temporary one if left out")
    parser.add_argument("--size", type=int, default=16384, help="edge of the scene in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=SHARE, help="rate of the device, of the host's")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    parser.add_argument("--quick", action="store_true", help="a small scene, once, to see that all works")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.size, arguments.rounds = 1024, 1
    return arguments


def _scene(work: Path, size_px: int, *, quick: bool) -> Path:
    """Return a square scene, three bands of uint8 in deflate: a landscape, repeated downward, or spots if quick."""
    if not quick:
        repeats = max(1, size_px // 1024)
        return scene(work, size_px // repeats, size_px, repeats)
    path = work / "spots.tif"
    pixels = spots(255, size_px, size_px)
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": size_px, "width": size_px}
    with rasterio.open(
        path, "w", **profile, tiled=True, compress="deflate", crs="EPSG:32631", transform=Affine.scale(1, -1)
    ) as file:
        file.write(np.stack([pixels, pixels // 2, 255 - pixels]))
    return path


def _conditions(made: geoseg.Plan) -> str:
    return (
        f"Scene {made.grid.height_px} x {made.grid.width_px} x 3 uint8 (synthetic, deflate), window "
        f"{made.grid.window_px}, overlap {made.grid.overlap_px}, {len(made.grid)} windows, {made.tile_count} tiles of "
        f"{made.tile_height_px} x {made.tile_width_px}, {made.workers} readers and as many writers, a fake device."
    )


def _round(made: geoseg.Plan, path: Path, report: Report, number: int, share: float) -> tuple[float, float, float]:
    """Return how busy the device was while tiles ran and overall, and the host's CPU, times that of decoding alone."""
    work = path.parent
    host = _run(made, work, 0.0)
    seconds_a_window = host.tiles_s / share / host.windows
    _add(report, number, "host", host, seconds_a_window=0.0)
    device = _run(made, work, seconds_a_window)
    _add(report, number, "device", device, seconds_a_window=seconds_a_window)
    decode_s = _decoding_s(path, made.workers)
    report.add(round=number, what="decode", cpu_ms_a_mpx=decode_s * 1e3 / host.megapixels)
    return device.busy_s / device.tiles_s, device.busy_s / device.whole_s, host.cpu_s / decode_s


def _decoding_s(path: Path, threads: int) -> float:
    """Return the CPU seconds of reading a scene, each block once, in as many threads as the host's run has.

    Cores share caches, and often more, so the work of one takes fewer seconds while the others are idle.
    """
    began = time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(partial(_decode, path, threads), range(threads)))
    return time.process_time() - began


def _decode(path: Path, threads: int, number: int) -> None:
    """Read one thread's share of the rows of blocks of a scene."""
    with rasterio.open(path) as dataset:
        into = np.empty((dataset.count, dataset.block_shapes[0][0], dataset.width), np.uint8)
        for row in range(number * into.shape[1], dataset.height, threads * into.shape[1]):
            rows = min(into.shape[1], dataset.height - row)
            dataset.read(out=into[:, :rows], window=((row, row + rows), (0, dataset.width)))


def _add(report: Report, number: int, what: str, run: Run, seconds_a_window: float) -> None:
    report.add(
        round=number,
        what=what,
        ms_a_window=seconds_a_window * 1e3,
        tiles_mpx_s=run.megapixels / run.tiles_s,
        whole_mpx_s=run.megapixels / run.whole_s,
        busy_tiles=run.busy_s / run.tiles_s,
        busy_whole=run.busy_s / run.whole_s,
        cpu_ms_a_mpx=run.cpu_s * 1e3 / run.megapixels,
        head_s=run.head_s,
        tail_s=run.tail_s,
    )


def _run(made: geoseg.Plan, work: Path, seconds_a_window: float) -> Run:
    """Map the scene; the time of tiles goes from the first work of the device to the last tile."""
    device = FakeDevice(made.grid.width_px, seconds_a_window)
    ended: dict[str, float] = {}

    def watch(state: Progress) -> None:
        ended[state.stage] = time.perf_counter()

    with in_place_of_the_cpu(device), tempfile.TemporaryDirectory(dir=work) as folder:
        out = Path(folder) / "landcover.tif"
        began, began_cpu = time.perf_counter(), time.process_time()
        made.run(out, progress=watch)
        whole_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        _check(out, device)
    first = began if device.began is None else device.began
    megapixels = made.grid.height_px * made.grid.width_px / 1e6
    head_s, tail_s = first - began, began + whole_s - max(first, device.free_at)
    return Run(ended["map"] - first, whole_s, cpu_s, device.busy_s, len(made.grid), megapixels, head_s, tail_s)


def _check(out: Path, device: FakeDevice) -> None:
    """Raise RuntimeError if the map does not hold the device's labels."""
    with rasterio.open(out) as dataset:
        rows = min(256, dataset.height)
        found = dataset.read(1, window=((0, rows), (0, dataset.width)))
    if not np.array_equal(found, device.labels[:rows, : found.shape[1]]):
        raise RuntimeError("the map is not what the device returned")


if __name__ == "__main__":
    raise SystemExit(main())
