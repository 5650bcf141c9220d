"""The time per scene of one command on many small scenes, compared with the network alone on the same windows.

python benchmarks/many.py --work FOLDER [--scenes 500 | --quick] [--model BUNDLE] [--json PATH]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import child
from report import Report, cores

SECONDS = 0.12
"""Promised time per scene on two cores, including its share of the command's start."""
_EDGE_PX = 512
_QUICK, _FULL = 60, 500
_BARE_SECONDS = 1.0
"""How long each way of calling the network is tried."""


def main() -> int:
    """Measure, print, and return 1 if the figure was missed."""
    arguments = _arguments()
    scenes = _scenes(arguments.work, arguments.scenes)
    maps = arguments.work / "many-maps"
    shutil.rmtree(maps, ignore_errors=True)
    model = ["--model", str(arguments.model)] if arguments.model else []
    one_model = f"model {arguments.model.stem}" if arguments.model else "the demo model"
    sizes = f"{arguments.scenes} scenes of {_EDGE_PX} x {_EDGE_PX} pixels of 0.5 m, uint8, three bands"
    report = Report("Many scenes", f"{sizes}, in one new process on {cores()} cores; {one_model}.")
    command = [child.geoseg_command(), "predict", str(scenes), "--out-dir", str(maps), "--device", "cpu", *model]
    mapped = child.run(command)
    written = len(list(maps.glob("*.tif")))
    if written != arguments.scenes:
        raise RuntimeError(f"{arguments.scenes} scenes were to be mapped, {written} maps are there")
    again = child.run(command)
    each = mapped.seconds / arguments.scenes
    _row(report, "mapped", mapped, arguments.scenes)
    _row(report, "run again, all of them finished", again, arguments.scenes)
    bare, bare_cpu = map(float, _python("bare", next(scenes.glob("*.tif")), *model[1:]).split())
    report.add(what="the network alone, its fastest way", milliseconds_a_scene=bare, cpu_milliseconds_a_scene=bare_cpu)
    cpu = mapped.cpu_seconds * 1e3 / arguments.scenes
    shares = {"milliseconds_a_scene": bare / each / 1e3, "cpu_milliseconds_a_scene": bare_cpu / cpu}
    report.add(what="the network's share of mapped", **shares)
    report.figure("a scene, the command's start shared out", each, wanted=SECONDS, at_least=False, unit=" s")
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for scenes and maps, kept")
    parser.add_argument("--scenes", type=int, default=_FULL)
    parser.add_argument("--quick", dest="scenes", action="store_const", const=_QUICK, help=f"{_QUICK} scenes")
    parser.add_argument("--model", type=Path, help="a bundle; the demo model if left out")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    return parser.parse_args()


def _row(report: Report, what: str, done: child.Finished, scenes: int) -> None:
    report.add(
        what=what,
        seconds=done.seconds,
        milliseconds_a_scene=done.seconds / scenes * 1e3,
        cpu_milliseconds_a_scene=done.cpu_seconds / scenes * 1e3,
        peak_megabytes=done.peak_bytes / 1e6,
    )


def _scenes(work: Path, count: int) -> Path:
    """Return a folder of scenes cut out of one landscape, made if it is not there yet."""
    folder = work / f"many-{count}"
    if not folder.is_dir():
        print(f"making {folder.name}, kept for the next time", file=sys.stderr, flush=True)
        _python("scenes", folder, count)
    return folder


def _python(*words: object) -> str:
    """Run a part of this program as a separate process, so that it is not measured."""
    command = [sys.executable, __file__, "--part", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _make(folder: Path, count: int) -> None:
    import rasterio
    from rasterio.windows import Window
    from scenes import scene

    side = 8 * _EDGE_PX
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    with rasterio.open(scene(folder.parent, side, side)) as source:
        for number in range(count):  # they overlap where there are more than fit
            row, col = (number * 97 * 8) % (side - _EDGE_PX), (number * 389 * 8) % (side - _EDGE_PX)
            place = Window(col, row, _EDGE_PX, _EDGE_PX)
            size = {"width": _EDGE_PX, "height": _EDGE_PX, "transform": source.window_transform(place)}
            with rasterio.open(unfinished / f"scene-{number:04}.tif", "w", **{**source.profile, **size}) as target:
                target.write(source.read(window=place))
    unfinished.replace(folder)


def _bare(scene: Path, model: Path | None = None) -> tuple[float, float]:
    """Return the milliseconds, by the clock and of all cores, of the network alone on a scene of one window."""
    from bare import BareNetwork

    import geoseg

    made = geoseg.plan(scene, model=model, device="cpu", network_resolution="scene")
    with tempfile.TemporaryDirectory() as folder:
        _, pace = BareNetwork.of(made, Path(folder)).fastest(_BARE_SECONDS)[0]
    return 1e3 / pace.windows_a_second, pace.cpu_ms_a_window


def _part(name: str, *words: str) -> None:
    if name == "scenes":
        _make(Path(words[0]), int(words[1]))
    else:
        print(*_bare(*map(Path, words)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        _part(*sys.argv[2:])
        raise SystemExit(0)
    raise SystemExit(main())
