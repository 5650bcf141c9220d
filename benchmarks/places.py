"""The same scene mapped in other places: by two worker processes beside two threads, to a store beside the disk.

    python benchmarks/places.py --work FOLDER [--size 8192] [--rounds 3] [--json PATH] [--quick]

threads    `geoseg.predict` on two threads of this process, the map on the local disk
processes  the same on two Dask workers of one thread each, as `--cluster 2` starts them; they keep running
store      the threads again, map and parts in an S3 store on 127.0.0.1 (moto, a separate process)

Each round takes them in turn, so that a change in the machine's pace does not decide the result.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from dask.distributed import Client
from rates import fresh_target
from report import Report
from scenes import scene

import geoseg
from geoseg.inference.execution.cluster import local_cluster

PROCESSES, STORE = 1.10, 1.15
"""Promised multiples of the time of two threads, and of the time to the local disk."""
_ROOT = Path(__file__).parents[1]


def main() -> int:
    """Measure, print, and return 1 if a figure was missed."""
    arguments = _arguments()
    path = scene(arguments.work, arguments.size, arguments.size)
    made = geoseg.plan(path, device="cpu", workers=2, network_resolution="scene")
    report = Report(
        "Processes beside threads, a store beside the disk",
        f"Scene {arguments.size} x {arguments.size} (synthetic), the demo model, {made.tile_count} tiles of "
        f"{made.tile_height_px} x {made.tile_width_px}, two workers.",
    )
    seconds: dict[str, list[float]] = {}
    with _store() as bucket, local_cluster(2) as cluster:
        for number in range(1 if arguments.quick else arguments.rounds):
            for name in ("threads", "processes", "store"):
                out = f"{bucket}/{number}.tif" if name == "store" else str(fresh_target(arguments.work))
                seconds.setdefault(name, []).append(_seconds(path, out, cluster if name == "processes" else None))
                report.add(round=number + 1, what=name, seconds=seconds[name][-1])
    threads, processes, store = (statistics.median(each) for each in seconds.values())
    report.figure("two processes, of two threads", processes / threads, wanted=PROCESSES, at_least=False, unit=" times")
    report.figure("to a store, of the local disk", store / threads, wanted=STORE, at_least=False, unit=" times")
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for scenes and maps, kept")
    parser.add_argument("--size", type=int, default=8192, help="edge of the scene in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, to see that all works")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    return parser.parse_args()


def _seconds(path: Path, out: str, cluster: Any) -> float:  # noqa: ANN401 - distributed has no types
    """Map the scene, and return how long it took."""
    began = time.perf_counter()
    if cluster is None:
        geoseg.predict(path, out, device="cpu", workers=2, network_resolution="scene")
    else:
        with Client(cluster):
            began = time.perf_counter()
            geoseg.predict(path, out, device="cpu", network_resolution="scene")
            return time.perf_counter() - began
    return time.perf_counter() - began


@contextmanager
def _store() -> Iterator[str]:
    """Yield the URL of an empty bucket on 127.0.0.1."""
    command = [sys.executable, "-m", "tests.buckets"]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        if server.stdout is None or server.stdin is None:
            raise RuntimeError("the store has no pipes")
        address = server.stdout.readline().strip()
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_ENDPOINT_URL": address,
            "AWS_S3_ENDPOINT": address.removeprefix("http://"), "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE",
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="maps")
        try:
            yield "s3://maps"
        finally:
            server.stdin.close()


if __name__ == "__main__":
    raise SystemExit(main())
