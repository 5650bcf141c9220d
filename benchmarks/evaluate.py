"""The rate of `geoseg evaluate`, compared with only reading both rasters, and its memory.

    python benchmarks/evaluate.py --folder FOLDER [--rounds 3] [--json PATH] [--quick]

rate     pixels per second of evaluating, and of reading both rasters in the same windows and threads; warm, in one
         process, in turn, the best of each: compressed, not compressed, with areas, the reference on another grid
memory   peak of the command on 16384 x 16384 pixels and on four times as many

Maps (polygon_scenes.py) and their references are made once and kept in the folder: 1.5 GB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import child
from polygon_scenes import scene
from report import Report

RATE, GROWTH = 0.5, 1.2
"""Promised: the rate of evaluating over that of reading; the tall map's peak over the square one's."""

_STRIP_PX = 512
_MOVED_PX = 3
"""Offset of the reference from the map, so that they differ at borders."""


def main() -> int:
    """Measure, print, and return 1 if a figure was missed."""
    arguments = _arguments()
    if arguments.rates:
        print(json.dumps(_rates(*arguments.rates, arguments.rounds)))
        return 0
    folder, rounds = arguments.folder, arguments.rounds
    square, tall = ("square1024", "tall4096") if arguments.quick else ("square16384", "tall65536")
    size = "Small maps, which say nothing about speed; " if arguments.quick else ""
    report = Report("Evaluation", f"{size}the best of {rounds}, in turn; rates in megapixels of the map a second.")
    for kind in ("deflate", "none"):
        pair = _map(folder, square, kind), _reference(folder, square, kind)
        command = [sys.executable, __file__, "--rounds", str(rounds), "--rates", *map(str, pair)]
        got = json.loads(child.run(command, for_peak=False).stdout)
        for what, rate in got.items():
            report.add(map=square, compression=kind, what=what, rate=rate, share_of_reading=rate / got["reading both"])
        share = got["evaluating"] / got["reading both"]
        report.figure(f"evaluating, {kind}, of reading both", share, wanted=RATE, at_least=True)
    peaks = [_peak(report, folder, name) for name in (square, tall)]
    report.figure("peak on four times the map, times that on one", peaks[1] / peaks[0], wanted=GROWTH, at_least=False)
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(), help="a folder for maps, kept")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; the best counts")
    parser.add_argument("--quick", action="store_true", help="small maps, to see that all works")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    parser.add_argument("--rates", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def _peak(report: Report, folder: Path, name: str) -> int:
    pair = _map(folder, name, "deflate"), _reference(folder, name, "deflate")
    done = child.run([child.geoseg_command(), "evaluate", *map(str, pair), "--areas", "--quiet"])
    report.add(map=name, compression="deflate", what="the command", rate="", peak_megabytes=done.peak_bytes / 1e6)
    return done.peak_bytes


def _map(folder: Path, name: str, kind: str) -> Path:
    source = scene(folder, name)
    return source if kind == "deflate" else _made(source, folder / f"{name}-{kind}.tif", 0, kind)


def _reference(folder: Path, name: str, kind: str) -> Path:
    return _made(scene(folder, name), folder / f"{name}-reference-{kind}.tif", _MOVED_PX, kind)


def _made(source: Path, path: Path, moved_px: int, kind: str) -> Path:
    """Return a copy of a map moved to the right, made by a separate process so that its memory is not measured."""
    if not path.exists():
        print(f"making {path.name}, kept for the next time", file=sys.stderr, flush=True)
        program = (
            "import sys; sys.path.insert(0, sys.argv[1]); import evaluate as e; from pathlib import Path; "
            "e.make(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5])"
        )
        here = str(Path(__file__).parent)
        subprocess.run([sys.executable, "-c", program, here, str(source), str(path), str(moved_px), kind], check=True)
    return path


def make(source: Path, path: Path, moved_px: int, kind: str) -> None:
    """Write a map moved to the right, wrapping around at the edge."""
    import numpy as np
    import rasterio
    from rasterio.windows import Window

    unfinished = path.with_suffix(".unfinished.tif")
    with rasterio.open(source) as given, rasterio.open(unfinished, "w", **{**given.profile, "compress": kind}) as made:
        for row in range(0, given.height, _STRIP_PX):
            strip = Window(0, row, given.width, min(_STRIP_PX, given.height - row))
            made.write(np.roll(given.read(1, window=strip), moved_px, axis=1), 1, window=strip)
    unfinished.replace(path)


def _rates(mapped: str, reference: str, rounds: int) -> dict[str, float]:
    """Return megapixels per second of each contestant, the best of its rounds."""
    from concurrent.futures import ThreadPoolExecutor

    import rasterio
    from affine import Affine
    from report import cores

    from geoseg.evaluation import evaluate
    from geoseg.evaluation.comparison import Comparison
    from geoseg.evaluation.matching import Matching
    from geoseg.legend import Nomenclature
    from geoseg.raster import ClassRaster, Window, align, opened

    raster = ClassRaster.open(mapped)
    matching = Matching.of(Nomenclature(), Nomenclature(), None)
    windows = Comparison(raster, align(ClassRaster.open(reference), raster.scene.geobox), matching).tiles()
    moved = Path(mapped).with_suffix(".moved.vrt")
    with rasterio.open(reference) as dataset:
        text = rasterio_vrt(reference, dataset.shape, dataset.transform @ Affine.translation(0.3, 0.3))
    moved.write_text(text, encoding="utf-8")

    def read(window: Window) -> int:
        area = ((window.row, window.row_stop), (window.col, window.col_stop))
        total = 0
        for path in (mapped, reference):
            with opened(path) as dataset:
                total += int(dataset.read(1, window=area).size)
        return total

    def reading() -> None:
        with ThreadPoolExecutor(min(cores(), 8)) as pool:
            sum(pool.map(read, windows))

    contestants: dict[str, Callable[[], object]] = {
        "reading both": reading,
        "evaluating": lambda: evaluate(mapped, reference),
        "with areas": lambda: evaluate(mapped, reference, areas=True),
        "the reference on another grid": lambda: evaluate(mapped, moved),
    }
    evaluate(mapped, reference)  # compiles the kernels before the clock starts
    best = dict.fromkeys(contestants, float("inf"))
    for _ in range(rounds):
        for name, run in contestants.items():
            began = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - began)
    pixels = raster.scene.shape[0] * raster.scene.shape[1]
    return {name: pixels / 1e6 / seconds for name, seconds in best.items()}


def rasterio_vrt(path: str, shape: tuple[int, int], transform: object) -> str:
    """Return a VRT that places a raster elsewhere."""
    a, b, c, d, e, f = tuple(transform)[:6]  # type: ignore[call-overload]
    return (
        f'<VRTDataset rasterXSize="{shape[1]}" rasterYSize="{shape[0]}"><SRS>EPSG:32631</SRS>'
        f"<GeoTransform>{c}, {a}, {b}, {f}, {d}, {e}</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><NoDataValue>255</NoDataValue>'
        f"<SimpleSource><SourceFilename>{path}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )


if __name__ == "__main__":
    raise SystemExit(main())
