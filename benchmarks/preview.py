"""The page of a map too large for memory: its size, and the time and memory to make it.

    python benchmarks/preview.py --work FOLDER [--edge 50000] [--json PATH]

Measures the sample scene with the demo model's map, and a mosaic of both (VRT, no overviews) with that many pixels a
side.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from xml.sax.saxutils import escape

import child
from report import Report

PAGE_MB, GROWTH_GB = 20.0, 1.0
"""Promised: the largest page; the memory of the large map minus that of the small one."""
_SCENE = Path(__file__).parents[1] / "sample_data" / "scene.tif"
_ROWS, _COLS = 2048, 3072
_PLACE = "<SRS>EPSG:32631</SRS><GeoTransform>400000, 0.5, 0, 5000000, 0, -0.5</GeoTransform>"
_COLORS = ("Red", "Green", "Blue")


def main() -> int:
    """Measure, print, and return 1 if a figure was missed."""
    arguments = _arguments()
    work, edge = arguments.work, arguments.edge
    work.mkdir(parents=True, exist_ok=True)
    landcover = work / "sample_landcover.tif"
    if not landcover.exists():
        child.run([child.geoseg_command(), "predict", str(_SCENE), "--out", str(landcover)], for_peak=False)
    large = (
        _mosaic(landcover, work / f"landcover{edge}.vrt", edge, 1),
        _mosaic(_SCENE, work / f"scene{edge}.vrt", edge, 3),
    )
    report = Report("Preview", "`geoseg preview` as a process of its own, map and scene, no polygons.")
    small = _measure(report, "3072 x 2048", landcover, _SCENE, work)
    page_mb, peak_gb = _measure(report, f"{edge} x {edge}", *large, work)
    report.figure("the large map's page", page_mb, wanted=PAGE_MB, at_least=False, unit=" MB")
    report.figure("its memory above the small one's", peak_gb - small[1], wanted=GROWTH_GB, at_least=False, unit=" GB")
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the mosaics and pages, kept")
    parser.add_argument("--edge", type=int, default=50_000, help="edge of the mosaic in pixels")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    return parser.parse_args()


def _measure(report: Report, what: str, landcover: Path, scene: Path, work: Path) -> tuple[float, float]:
    """Return the megabytes of the page, and the gigabytes of memory."""
    page = work / "map.html"
    words = [str(landcover), "--scene", str(scene), "--out", str(page), "--overwrite"]
    done = child.run([child.geoseg_command(), "preview", *words])
    page_mb, peak_gb = page.stat().st_size / 1e6, done.peak_bytes / 1e9
    report.add(map=what, page_megabytes=page_mb, seconds=done.seconds, peak_gigabytes=peak_gb)
    return page_mb, peak_gb


def _mosaic(source: Path, path: Path, edge: int, bands: int) -> Path:
    """Return a VRT that repeats a raster, cut at the edge."""
    name = escape(str(source.resolve()))
    made = []
    for band in range(1, bands + 1):
        meaning = f"<ColorInterp>{_COLORS[band - 1]}</ColorInterp>" if bands > 1 else "<NoDataValue>255</NoDataValue>"
        tiles = "".join(
            f"<SimpleSource><SourceFilename>{name}</SourceFilename><SourceBand>{band}</SourceBand>"
            f'<SrcRect xOff="0" yOff="0" xSize="{min(_COLS, edge - col)}" ySize="{min(_ROWS, edge - row)}"/>'
            f'<DstRect xOff="{col}" yOff="{row}" xSize="{min(_COLS, edge - col)}" ySize="{min(_ROWS, edge - row)}"/>'
            "</SimpleSource>"
            for row in range(0, edge, _ROWS)
            for col in range(0, edge, _COLS)
        )
        made.append(f'<VRTRasterBand dataType="Byte" band="{band}">{meaning}{tiles}</VRTRasterBand>')
    text = f'<VRTDataset rasterXSize="{edge}" rasterYSize="{edge}">{_PLACE}{"".join(made)}</VRTDataset>'
    path.write_text(text, encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
