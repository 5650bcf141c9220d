"""`geoseg vectorize` against rasterio, shapely and GDAL: speed, equal quality, memory, the first run.

    python benchmarks/polygons.py --folder FOLDER [--rounds 3] [--only PART ...] [--json PATH] [--quick]

arrays     labels in memory to flat arrays, and to shapely polygons, against rasterio.features.shapes
simplify   a coverage simplified at 1.5 pixels, against shapely.coverage_simplify
write      file to file, warm, against gdal_polygonize.py to the same format
command    the command as a new process with a warm cache of compiled code, against gdal_polygonize.py
memory     bytes per pixel while tracing; peak on a map and on one four times as tall
first      the time that the first run on a machine spends on compilation

Maps (polygon_scenes.py) are made once and kept in the folder. Needs Debian's gdal-bin, and 2 GB of disk while it runs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import child
from polygon_scenes import scene
from report import Report

ARRAYS, POLYGONS = 10.0, 14.0
SIMPLIFIED = {"noisy": 40.0, "clean": 8.0}
FLATGEOBUF_WARM, GEOPACKAGE_WARM = 4.5, 15.0
NEW_PROCESS = {"noisy": 1.7, "clean": 1.0}
BYTES_A_PIXEL, GROWTH, COMPILE_S = 4.0, 1.2, 8.0
"""Promised: times as fast (above); bytes per pixel, the tall map's peak over the square one's, seconds."""

_PARTS = ("arrays", "simplify", "write", "command", "memory", "first")
_CONTESTANTS = Path(__file__).with_name("polygon_contestants.py")
_DRIVERS = {"fgb": "FlatGeobuf", "gpkg": "GPKG"}


@dataclass(frozen=True, slots=True)
class _Bench:
    """The settings and the report that every part uses."""

    folder: Path
    rounds: int
    quick: bool
    report: Report

    @property
    def maps(self) -> tuple[str, ...]:
        return ("noisy512", "clean512") if self.quick else ("noisy4096", "noisy8192", "clean4096")

    def contest(self, name: str, raster: str) -> dict[str, float]:
        """Run a contest in a separate process; return its measurements."""
        path = str(scene(self.folder, raster))
        command = [sys.executable, str(_CONTESTANTS), name, path, str(self.folder), str(self.rounds)]
        return dict(json.loads(child.run(command, for_peak=False).stdout))

    def row(self, raster: str, what: str, ours: float, theirs: float, wanted: float | None) -> None:
        """Add a race to the table, and its ratio to the figures if one is promised."""
        bound = "" if wanted is None else f"at least {wanted:g}"
        self.report.add(map=raster, what=what, geoseg=ours, other=theirs, ratio=theirs / ours, wanted=bound)
        if wanted is not None:
            self.report.figure(f"{what}, {raster}", theirs / ours, wanted=wanted, at_least=True, unit=" times")

    def fact(self, raster: str, what: str, ours: float | str, theirs: float | str = "") -> None:
        """Add a value that explains a race."""
        self.report.add(map=raster, what=what, geoseg=ours, other=theirs)


def main() -> int:
    """Measure, print, and return 1 if a figure was missed."""
    arguments = _arguments()
    bench = _Bench(
        arguments.folder,
        1 if arguments.quick else max(1, arguments.rounds),
        arguments.quick,
        Report("Polygons", _conditions(arguments.rounds, quick=arguments.quick)),
    )
    parts = {
        "arrays": _arrays,
        "simplify": _simplify,
        "write": _write,
        "command": _command,
        "memory": _memory,
        "first": _first,
    }
    for name in arguments.only or _PARTS:
        parts[name](bench)
    return bench.report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a folder for maps, kept, and for what is made")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; the median counts")
    parser.add_argument("--only", choices=_PARTS, nargs="+", help="the parts to run; all if left out")
    parser.add_argument("--quick", action="store_true", help="one round of small maps, to see that all works")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    return parser.parse_args()


def _conditions(rounds: int, *, quick: bool) -> str:
    gdal = child.run(["gdalinfo", "--version"], for_peak=False).stdout.strip().partition(",")[0]
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numba", "shapely", "pyogrio"))
    size = "Small maps, which say nothing about speed; " if quick else ""
    return (
        f"{size}medians of {1 if quick else rounds}, contestants in turn; seconds where no unit is said. "
        f"gdal_polygonize.py is that of {gdal}; {packages}."
    )


def _arrays(bench: _Bench) -> None:
    for raster in bench.maps:
        got = bench.contest("trace", raster)
        bench.fact(raster, "regions, vertices", f"{got['regions']:.0f}, {got['vertices']:.0f}")
        bench.row(raster, "labels to flat arrays / features.shapes", got["arrays_s"], got["shapes_s"], ARRAYS)
        what = "labels to shapely / features.shapes and shape()"
        bench.row(raster, what, got["polygons_s"], got["shapes_to_shapely_s"], POLYGONS)
        what = f"as many polygons and vertices as rasterio, {raster}"
        bench.report.figure(what, got["same_count"], wanted=1, at_least=True)


def _simplify(bench: _Bench) -> None:
    for raster in bench.maps:
        if raster == "noisy8192":
            continue  # no promise; minutes of coverage_simplify
        got = bench.contest("simplify", raster)
        wanted = _promised(SIMPLIFIED, raster)
        what = "labels to a coverage simplified at 1.5 px / coverage_simplify alone"
        bench.row(raster, what, got["labels_to_simplified_s"], got["coverage_simplify_s"], wanted)
        bench.fact(raster, "labels to a coverage, not simplified", got["exact_s"])
        bench.fact(raster, "vertices before", got["exact_vertices"])
        bench.fact(raster, "vertices left", got["our_vertices"], got["their_vertices"])
        for what in ("hausdorff_mean_px", "hausdorff_max_px", "invalid", "coverage_valid"):
            bench.fact(raster, what.replace("_", " "), got[f"our_{what}"], got[f"their_{what}"])
        bench.report.figure(f"a valid coverage, {raster}", got["our_coverage_valid"], wanted=1, at_least=True)
        bench.report.figure(f"invalid polygons, {raster}", got["our_invalid"], wanted=0, at_least=False)


def _write(bench: _Bench) -> None:
    for raster in bench.maps:
        got = bench.contest("write", raster)
        noisy = raster.startswith("noisy")
        for suffix, wanted in (("fgb", FLATGEOBUF_WARM), ("gpkg", GEOPACKAGE_WARM)):
            what = f"{suffix}, warm / gdal_polygonize"
            bench.row(raster, what, got[f"{suffix}_s"], got[f"{suffix}_gdal_s"], wanted if noisy else None)
            bench.fact(raster, f"{suffix}, megabytes", got[f"{suffix}_mb"], got[f"{suffix}_gdal_mb"])


def _command(bench: _Bench) -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # otherwise each process compiles its modules again
    for raster in bench.maps:
        path = scene(bench.folder, raster)
        for suffix, driver in _DRIVERS.items():
            out = bench.folder / f"polygons.{suffix}"
            ours = [child.geoseg_command(), "vectorize", str(path), "--out", str(out)]
            theirs = ["gdal_polygonize.py", str(path), "-q", "-f", driver, str(out), "polygons", "code"]
            _seconds(ours, out)  # compiles once, before the measurement
            seconds: tuple[list[float], list[float]] = ([], [])
            for _ in range(bench.rounds):
                for command, times in zip((ours, theirs), seconds, strict=True):
                    times.append(_seconds(command, out))
            medians = [statistics.median(times) for times in seconds]
            wanted = _promised(NEW_PROCESS, raster) if suffix == "fgb" else None
            bench.row(raster, f"{suffix}, a new process / gdal_polygonize", medians[0], medians[1], wanted)


def _memory(bench: _Bench) -> None:
    if sys.platform == "linux":
        for raster in bench.maps:
            got = bench.contest("memory", raster)
            bench.fact(raster, "tracing: peak, labels, polygons, megabytes", _megabytes(got))
            what = f"tracing: above labels and polygons, {raster}"
            got_bytes = got["above_bytes_a_pixel"]
            bench.report.figure(what, got_bytes, wanted=BYTES_A_PIXEL, at_least=False, unit=" bytes a pixel")
    square, tall = ("square1024", "tall4096") if bench.quick else ("square16384", "tall65536")
    for suffix in ("fgb", "parquet"):
        peaks = [_streamed_peak(bench, raster, suffix) for raster in (square, tall)]
        what = f"peak to {suffix}, the tall map's in the square one's"
        bench.report.figure(what, peaks[1] / peaks[0], wanted=GROWTH, at_least=False)


def _streamed_peak(bench: _Bench, raster: str, suffix: str) -> int:
    out = bench.folder / f"streamed.{suffix}"
    command = [child.geoseg_command(), "vectorize", str(scene(bench.folder, raster)), "--out", str(out)]
    done = child.run(command)
    what = f"streamed to {suffix}: seconds, peak megabytes, file megabytes"
    megabytes = [done.peak_bytes / 1e6, out.stat().st_size / 1e6]
    bench.fact(raster, what, ", ".join(f"{number:.0f}" for number in (done.seconds, *megabytes)))
    out.unlink()
    return done.peak_bytes


def _first(bench: _Bench) -> None:
    """Compare a run without compiled code with the next one, using an empty folder as the cache."""
    raster, out = "tiny", bench.folder / "first.fgb"
    command = [child.geoseg_command(), "vectorize", str(scene(bench.folder, raster)), "--out", str(out)]
    kept = os.environ.get("NUMBA_CACHE_DIR")
    waits = []
    for options in ([], ["--simplify", "1.5px", "--min-area", "4px"]):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["NUMBA_CACHE_DIR"] = cache
            first, second = (_seconds([*command, *options], out) for _ in range(2))
        waits.append(first - second)
        bench.fact(raster, f"first run, second run {' '.join(options)}".rstrip(), f"{first:.1f}, {second:.1f}")
    os.environ.pop("NUMBA_CACHE_DIR")
    if kept is not None:
        os.environ["NUMBA_CACHE_DIR"] = kept
    bench.report.figure("compilation, all options", max(waits), wanted=COMPILE_S, at_least=False, unit=" s")


def _seconds(command: list[str], out: Path) -> float:
    """Return the seconds that a command takes to write a new file, and remove the file."""
    seconds = child.run(command, for_peak=False).seconds
    if out.is_dir():
        shutil.rmtree(out)
    out.unlink(missing_ok=True)
    return seconds


def _promised(wanted: dict[str, float], raster: str) -> float | None:
    return next((times for kind, times in wanted.items() if raster.startswith(kind)), None)


def _megabytes(got: dict[str, float]) -> str:
    return ", ".join(f"{got[f'{what}_mb']:.0f}" for what in ("peak", "input", "output"))


if __name__ == "__main__":
    raise SystemExit(main())
