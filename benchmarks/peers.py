"""geoseg compared with MONAI's sliding_window_inference and geoai's predict_geotiff.

    python -m venv peers && peers/bin/pip install monai geoai-py segmentation-models-pytorch
    python benchmarks/peers.py --work FOLDER --peers peers/bin/python [--size 4096] [--rounds 3] [--json PATH]

DeepLabV3+ on timm-mobilenetv3_small_minimal_100 with random weights, window 512, overlap 128, batches of 4, a thread
for each core, the same for all. Each run is a separate process, warmed up before it is timed; its peak memory is that
of the whole process.

bare eager torch, bare ONNX Runtime   the network alone, on prepared windows
MONAI, geoseg stage                   from the file to labels in memory
geoai, geoseg predict                 from file to file
geoseg command                        `geoseg predict`, including its start

The ONNX export, needed once per model, is made beforehand.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path

import child
from models import OVERLAP_PX, bundle
from report import Report, cores
from scenes import scene

WANTED = 2.5
"""Promised multiple of the peers' pixel rate."""
_CONTESTANT = str(Path(__file__).with_name("contestant.py"))
_PEERS = {"eager": "bare eager torch", "monai": "MONAI", "geoai": "geoai"}
_OURS = {"onnx": "bare ONNX Runtime", "stage": "geoseg stage", "predict": "geoseg predict", "command": "geoseg command"}
_BATCH = "4"
_RIVALS = (("stage", "monai"), ("predict", "monai"), ("predict", "geoai"), ("command", "geoai"))


def main() -> int:
    """Measure, print, and return 1 if a figure was missed."""
    arguments = _arguments()
    scene_path, model_path = scene(arguments.work, arguments.size, arguments.size), bundle(arguments.work, "peers")
    folder = _fresh(arguments.work / "peers")
    child.run([sys.executable, _CONTESTANT, "onnx", str(scene_path), str(model_path), "-"])  # exports if need be
    report = Report("geoseg beside MONAI and geoai", _conditions(arguments))
    seconds: dict[str, list[float]] = {}
    for number in range(1 if arguments.quick else arguments.rounds):
        for name in (*_PEERS, *_OURS):
            took = _run(name, arguments.peers, scene_path, model_path, folder, report, number + 1)
            seconds.setdefault(name, []).append(took)
    best = {name: statistics.median(times) for name, times in seconds.items()}
    titles = _PEERS | _OURS
    for ours, peer in _RIVALS:
        what = f"{titles[ours]}, times the pixel rate of {titles[peer]}, medians"
        report.figure(what, best[peer] / best[ours], wanted=WANTED, at_least=True)
    same = _told(
        child.run([sys.executable, _CONTESTANT, "agree", "-", str(folder / "stage.npy"), str(folder / "monai.npy")])
    )
    report.figure("share of labels on which geoseg's stage and MONAI agree", same["agree"], wanted=0.999, at_least=True)
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for scenes and maps, kept")
    parser.add_argument("--peers", type=Path, required=True, help="the Python of the peers' environment")
    parser.add_argument("--size", type=int, default=4096, help="edge of the scene in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, to see that all works")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    return parser.parse_args()


def _conditions(arguments: argparse.Namespace) -> str:
    return (
        f"Scene {arguments.size} x {arguments.size} (synthetic); DeepLabV3+ on timm-mobilenetv3_small_minimal_100, "
        f"7 classes, random weights, softmax included; window 512, overlap {OVERLAP_PX}, batch {_BATCH}, {cores()} "
        "threads. "
        "MONAI and the stage go from the file to labels in memory and take the mean of windows, MONAI's default; geoai "
        "and predict go from file to file and blend as each does by itself."
    )


def _run(  # noqa: PLR0913, PLR0917 - all of what main has
    name: str, peers: Path, scene_path: Path, model_path: Path, folder: Path, report: Report, number: int
) -> float:
    """Run one contestant, add its row, return its seconds."""
    labels = folder / (f"{name}.npy" if name in {"stage", "monai"} else f"{name}.tif")
    labels.unlink(missing_ok=True)
    if name == "command":
        options = ["--model", str(model_path), "--overlap", str(OVERLAP_PX), "--batch-size", _BATCH, "--device", "cpu"]
        done = child.run([child.geoseg_command(), "predict", str(scene_path), "--out", str(labels), *options])
        told = {"seconds": done.seconds, "cpu_seconds": done.cpu_seconds}
    else:
        # absolute, not resolved: an environment's Python is a link, and finds its environment by the link's location
        python = str(peers.absolute()) if name in _PEERS else sys.executable
        done = child.run([python, _CONTESTANT, name, str(scene_path), str(model_path), str(labels)])
        told = _told(done)
    seconds = float(told["seconds"])
    height_px, width_px = report_size(scene_path)
    report.add(
        round=number,
        what=(_PEERS | _OURS)[name],
        seconds=seconds,
        cpu_seconds=told["cpu_seconds"],
        megapixels_a_second=height_px * width_px / 1e6 / seconds,
        peak_gigabytes=done.peak_bytes / 1e9,
        version=told.get("version", ""),
    )
    return seconds


def report_size(scene_path: Path) -> tuple[int, int]:
    """Return rows and columns of a benchmark's scene, from its name."""
    height_px, _, width_px = scene_path.stem.removeprefix("scene-").partition("x")
    return int(height_px), int(width_px)


def _told(done: child.Finished) -> dict[str, float]:
    told: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
