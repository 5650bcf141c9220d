"""The cost of planning, scheduling and journaling many tiles that do nothing, on threads and on a cluster.

python benchmarks/scheduling.py [--tiles 100000] [--cluster-tiles 2000] [--json PATH]

With --tiles 1000000 the map has 2 000 000 x 8 000 000 pixels. No pixel is read, scored or written.
"""

from __future__ import annotations

import argparse
import math
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import Report, cores

import geoseg
from geoseg.inference import run_tasks
from geoseg.inference.execution import open_journal
from geoseg.inference.execution.journal import header, write_journal

SECONDS = 20.0
"""Promised for 10^5 tiles: seconds, not minutes."""
_NOTED = 2_000
"""Tiles noted in the journal; each waits for the disk."""
_BANDS = 1, 2, 3


def main() -> int:
    """Measure, print, and return 1 if the figure was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=100_000)
    parser.add_argument("--cluster-tiles", type=int, default=2000, help="sent by Dask's own means; 0: no cluster")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    arguments = parser.parse_args()
    tiles = arguments.tiles
    report = Report("Scheduling", f"{tiles} tiles that do nothing, {cores()} workers, threads of this process.")
    _planned(tiles, report)
    scheduled = _timed("scheduled", tiles, report, lambda: run_tasks(_nothing, range(tiles), cores(), lambda _: None))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "landcover.tif"
        noted = min(tiles, _NOTED)
        with open_journal(output, "fingerprint", {}, start_over=False) as journal:
            run = lambda: run_tasks(_nothing, range(noted), cores(), journal.add)  # noqa: E731 - said where it is used
            _timed("scheduled and noted in the journal, each on the disk", noted, report, run)
            write_journal(journal.folder, header("fingerprint", {}), range(tiles))
        began = time.perf_counter()
        with open_journal(output, "fingerprint", {}, start_over=False) as journal:
            if len(journal.finished) != tiles:
                raise RuntimeError(f"{tiles} tiles were noted, {len(journal.finished)} found")
            _row(report, "journal read again", tiles, time.perf_counter() - began)
    if arguments.cluster_tiles:
        seconds = _on_a_cluster(arguments.cluster_tiles, tiles, report)
        report.figure(
            "10^5 tiles done by two Dask workers", seconds / tiles * 1e5, wanted=SECONDS, at_least=False, unit=" s"
        )
    report.figure("10^5 tiles scheduled", scheduled / tiles * 1e5, wanted=SECONDS, at_least=False, unit=" s")
    return report.publish(arguments.json)


def _planned(tiles: int, report: Report) -> None:
    """Plan a map of about that many tiles, four times as wide as high."""
    height_px = math.isqrt(tiles // 4) * 4096
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}" blockXSize="512" blockYSize="512"/>' for band in _BANDS
    )
    place = "<SRS>EPSG:32631</SRS><GeoTransform>0,1,0,5000000,0,-1</GeoTransform>"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.vrt"
        path.write_text(
            f'<VRTDataset rasterXSize="{4 * height_px}" rasterYSize="{height_px}">{place}{bands}</VRTDataset>'
        )
        began = time.perf_counter()
        made = geoseg.plan(path, device="cpu")
        seconds = time.perf_counter() - began
        row = {"tiles": made.tile_count, "tile": "{} x {}".format(*made.tile_shape)}
        report.add(what="planned", seconds=seconds, pickled_kilobytes=len(pickle.dumps(made)) / 1e3, **row)


def _on_a_cluster(few: int, tiles: int, report: Report) -> float:
    """Run empty tiles on two worker processes, `few` by plain Dask; return the seconds of all by geoseg."""
    from distributed import Client, LocalCluster, wait

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        wait(client.map(_nothing, range(100), pure=False))
        began = time.perf_counter()
        futures = client.map(_nothing, range(few), pure=False)
        _row(report, "two Dask workers, sent by client.map", few, time.perf_counter() - began)
        wait(futures)
        _row(report, "two Dask workers, done by client.map", few, time.perf_counter() - began)
        del futures
        work = lambda: run_tasks(_nothing, range(tiles), 2, lambda _: None)  # noqa: E731 - as above
        return _timed("two Dask workers, several tiles at once, few in flight", tiles, report, work)


def _nothing(index: int) -> int:
    return index


def _timed(what: str, tiles: int, report: Report, work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    _row(report, what, tiles, seconds)
    return seconds


def _row(report: Report, what: str, tiles: int, seconds: float) -> None:
    report.add(what=what, seconds=seconds, microseconds_a_tile=seconds / tiles * 1e6)


if __name__ == "__main__":
    raise SystemExit(main())
