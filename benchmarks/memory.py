"""Peak resident memory of `geoseg predict` on a scene and on one sixteen times as tall. It must not grow.

    python benchmarks/memory.py --work FOLDER [--edge 4096] [--times 16] [--model BUNDLE | --plain] [--json PATH]

The tall scene is the other one, written sixteen times one below the other. Scenes are made by other processes. --plain
measures what geoseg itself keeps: its network is a line of numpy, and its scenes have no blocks, are 2048 wide and have
0.1 and 1.6 gigapixels.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import child
from report import Report
from scenes import scene

GROWTH, LIMIT_GB = 1.10, 1.0
"""Promised: the tall scene's peak over the other's, and its limit."""
PLAIN, PLAIN_GROWTH = (49152, 2048), 1.05
"""Rows and columns of the smaller plain scene, and the promised growth for it."""


def main() -> int:
    """Measure, print, and return 1 if a figure was missed."""
    arguments = _arguments()
    if arguments.shape:
        _map_plain(*arguments.shape, arguments.work)
        return 0
    edge = arguments.edge
    if arguments.plain:
        rows, cols = PLAIN
        paths = tuple(arguments.work / f"plain-{rows * times}x{cols}.tif" for times in (1, arguments.times))
        model = "`geoseg.predict` as a process of its own, a network of a line of numpy"
    else:
        paths = scene(arguments.work, edge, edge), scene(arguments.work, edge, edge, arguments.times)
        model = f"`geoseg predict` as a process of its own, {arguments.model.stem if arguments.model else 'demo'}"
    report = Report("Memory does not grow with the scene", f"{model}, default settings.")
    _measure(paths[0], arguments, None)  # one-time work, such as an export, is done here
    peaks = [_measure(path, arguments, report) for path in paths]
    what = f"peak on {arguments.times} times the scene, times that on one"
    report.figure(what, peaks[1] / peaks[0], wanted=PLAIN_GROWTH if arguments.plain else GROWTH, at_least=False)
    report.figure("peak on the tall scene", peaks[1] / 1e9, wanted=LIMIT_GB, at_least=False, unit=" GB")
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for scenes and maps, kept")
    parser.add_argument("--edge", type=int, default=4096, help="edge of the smaller scene in pixels")
    parser.add_argument("--times", type=int, default=16, help="how many times as tall the other is")
    parser.add_argument("--model", type=Path, help="a bundle; the demo model if left out")
    parser.add_argument("--plain", action="store_true", help="scenes without blocks and a network of a line of numpy")
    parser.add_argument("--shape", type=int, nargs=2, help=argparse.SUPPRESS)  # of the scene, in a process of its own
    parser.add_argument("--json", type=Path, help="keep the figures here")
    return parser.parse_args()


def _measure(path: Path, arguments: argparse.Namespace, report: Report | None) -> int:
    """Return the peak resident bytes of mapping a scene."""
    folder = arguments.work / "maps"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = ["--model", str(arguments.model)] if arguments.model else []
    out = str(folder / "landcover.tif")
    command = [child.geoseg_command(), "predict", str(path), "--out", out, "--device", "cpu", *model]
    if arguments.plain:
        shape = path.stem.removeprefix("plain-").split("x")
        command = [sys.executable, __file__, "--work", str(arguments.work), "--shape", *shape]
    done = child.run(command)
    if report is not None:
        report.add(
            scene=path.stem, seconds=done.seconds, cpu_seconds=done.cpu_seconds, peak_gigabytes=done.peak_bytes / 1e9
        )
    return done.peak_bytes


def _map_plain(height_px: int, width_px: int, work: Path) -> None:
    """Map a scene without blocks with a network that gives the same answer for every window."""
    import numpy as np
    import rasterio
    from affine import Affine

    import geoseg
    from geoseg.legend import LandCover, Legend

    path = work / f"plain-{height_px}x{width_px}.tif"
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": height_px, "width": width_px, "tiled": True}
    place = {"crs": "EPSG:32631", "transform": Affine(0.5, 0, 0, 0, -0.5, 0)}
    with rasterio.open(path, "w", **profile, **place, compress="deflate", sparse_ok=True):
        pass
    said = np.random.default_rng(0).dirichlet(np.ones(6), (512, 512)).astype(np.float32).transpose(2, 0, 1)
    model = geoseg.ModelBundle.from_callable(
        lambda batch: np.repeat(said[np.newaxis], len(batch), axis=0),
        legend=Legend(LandCover(code, f"class {code}", (code, code, code)) for code in range(6)),
        window_px=512,
        overlap_px=128,
    )
    geoseg.predict(path, work / "maps" / "landcover.tif", model=model)


if __name__ == "__main__":
    raise SystemExit(main())
