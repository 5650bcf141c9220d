"""One contest between geoseg's polygons and another program's, in a separate process; prints JSON.

    python benchmarks/polygon_contestants.py CONTEST RASTER FOLDER ROUNDS

trace      labels in memory to flat arrays, and to shapely polygons, against rasterio.features.shapes
simplify   a coverage simplified at 1.5 pixels, against shapely.coverage_simplify on the same unsimplified coverage
write      geoseg.vectorize in this process, file to file, against gdal_polygonize.py
memory     peak resident memory while tracing, above labels and polygons (Linux only)

Contestants take turns; all are warm except GDAL's, which is a program and always starts cold.
"""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.features
import shapely

from geoseg.vector.generalize import Generalization
from geoseg.vector.polygonize import Tracing, trace
from geoseg.vector.polygons import Polygons

Measured = dict[str, float]
_TOLERANCE_PX = 1.5
_HAUSDORFF_SAMPLE, _HAUSDORFF_VERTICES = 2000, 400
"""How many polygons are compared with their simplified form, and their largest size: the cost is its square."""


def main() -> None:
    """Run the contest named on the command line."""
    contest, raster, folder, rounds = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    contests: dict[str, Callable[[], Measured]] = {
        "trace": lambda: _trace(_Labels(raster), rounds),
        "simplify": lambda: _simplify(_Labels(raster), rounds),
        "write": lambda: _write(raster, folder, rounds),
        "memory": lambda: _memory(_Labels(raster)),
    }
    print(json.dumps(contests[contest]()))


class _Labels:
    """A raster in memory, with geoseg warmed up."""

    def __init__(self, raster: Path) -> None:
        with rasterio.open(raster) as dataset:
            self.pixels: npt.NDArray[np.uint8] = dataset.read(1)
            self.transform = dataset.transform
            self.nodata = int(dataset.nodata)
        self.gsd_m = self.transform.a
        for generalization in (None, Generalization("visvalingam", _TOLERANCE_PX)):
            trace(self.pixels[:64, :64], self.nodata, self.transform, Tracing(generalization=generalization))

    def polygons(self) -> Polygons:
        return trace(self.pixels, self.nodata, self.transform)

    def coverage(self) -> Polygons:
        return trace(self.pixels, self.nodata, self.transform, Tracing(nodes=True))

    def simplified(self) -> Polygons:
        how = Generalization("visvalingam", _TOLERANCE_PX)
        return trace(self.pixels, self.nodata, self.transform, Tracing(generalization=how))

    def shapes(self) -> list[tuple[dict[str, Any], float]]:
        mask = self.pixels != self.nodata
        return list(rasterio.features.shapes(self.pixels, mask, 4, self.transform))


def _trace(labels: _Labels, rounds: int) -> Measured:
    seconds = _take_turns(
        {
            "arrays_s": labels.polygons,
            "polygons_s": lambda: _to_shapely(labels.polygons()),
            "shapes_s": labels.shapes,
            "shapes_to_shapely_s": lambda: [shapely.geometry.shape(shape) for shape, _ in labels.shapes()],
        },
        rounds,
    )
    made, theirs = labels.polygons(), labels.shapes()
    vertices = sum(len(ring) for shape, _ in theirs for ring in shape["coordinates"])
    return seconds | {
        "regions": len(made),
        "vertices": len(made.xy),
        "same_count": float(len(made) == len(theirs) and len(made.xy) == vertices),
    }


def _simplify(labels: _Labels, rounds: int) -> Measured:
    exact = _to_shapely(labels.coverage())
    tolerance_m = _TOLERANCE_PX * labels.gsd_m
    # the only boundary is the map's outline, which we keep too, so the remaining vertices can be compared
    seconds = _take_turns(
        {
            "exact_s": labels.coverage,
            "labels_to_simplified_s": labels.simplified,
            "coverage_simplify_s": lambda: shapely.coverage_simplify(exact, tolerance_m, simplify_boundary=False),
        },
        rounds,
    )
    ours, theirs = (
        _to_shapely(labels.simplified()),
        shapely.coverage_simplify(exact, tolerance_m, simplify_boundary=False),
    )
    measured = seconds | {"exact_vertices": float(shapely.get_num_coordinates(exact).sum())}
    for name, simplified in (("our", ours), ("their", theirs)):
        distances_px = _hausdorff_m(exact, simplified) / labels.gsd_m
        measured |= {
            f"{name}_vertices": float(shapely.get_num_coordinates(simplified).sum()),
            f"{name}_hausdorff_mean_px": float(distances_px.mean()),
            f"{name}_hausdorff_max_px": float(distances_px.max()),
            f"{name}_invalid": float(np.count_nonzero(~shapely.is_valid(simplified))),
            f"{name}_coverage_valid": float(shapely.coverage_is_valid(simplified)),
        }
    return measured


def _hausdorff_m(exact: npt.NDArray[np.object_], simplified: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    """Return the distances from a sample of polygons, the same for both contestants, to their simplified form."""
    small = np.flatnonzero(shapely.get_num_coordinates(exact) <= _HAUSDORFF_VERTICES)
    chosen = np.random.default_rng(0).choice(small, min(len(small), _HAUSDORFF_SAMPLE), replace=False)
    return np.asarray(shapely.hausdorff_distance(shapely.boundary(exact[chosen]), shapely.boundary(simplified[chosen])))


def _write(raster: Path, folder: Path, rounds: int) -> Measured:
    from geoseg.vector import vectorize

    measured: Measured = {}
    for suffix, driver in (("fgb", "FlatGeobuf"), ("gpkg", "GPKG")):
        ours, theirs = folder / f"ours.{suffix}", folder / f"theirs.{suffix}"
        vectorize(raster, ours, overwrite=True)  # warm
        command = ["gdal_polygonize.py", str(raster), "-q", "-f", driver, str(theirs), "polygons", "code"]
        measured |= _take_turns(
            {
                f"{suffix}_s": lambda ours=ours: vectorize(raster, ours, overwrite=True),  # type: ignore[misc]
                f"{suffix}_gdal_s": lambda theirs=theirs, command=command: _fresh(theirs, command),  # type: ignore[misc]
            },
            rounds,
        )
        measured[f"{suffix}_mb"], measured[f"{suffix}_gdal_mb"] = (p.stat().st_size / 1e6 for p in (ours, theirs))
        ours.unlink()
        theirs.unlink()
    return measured


def _fresh(out: Path, command: list[str]) -> None:
    out.unlink(missing_ok=True)
    subprocess.run(command, check=True)


def _memory(labels: _Labels) -> Measured:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
    before = _resident_bytes("VmRSS")
    made = labels.polygons()
    peak = _resident_bytes("VmHWM")
    arrays = (made.codes, made.area_px, made.features, made.polygons, made.rings, made.xy)
    output = sum(array.nbytes for array in arrays)
    return {
        "above_bytes_a_pixel": (peak - before - output) / labels.pixels.size,
        "peak_mb": peak / 1e6,
        "output_mb": output / 1e6,
        "input_mb": labels.pixels.nbytes / 1e6,
    }


def _resident_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _to_shapely(made: Polygons) -> npt.NDArray[np.object_]:
    return np.asarray(
        shapely.from_ragged_array(shapely.GeometryType.POLYGON, made.xy, (made.rings, made.polygons)), object
    )


def _take_turns(contestants: dict[str, Callable[[], object]], rounds: int) -> Measured:
    """Return the median seconds of each contestant; its result is discarded outside its time.

    Each turn starts with a run that does not count: after a contestant that fills the memory with small objects, the
    next one waits for pages, on a virtual machine longer than its own work takes.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            contestant()
            gc.collect()
            began = time.perf_counter()
            made = contestant()
            seconds[name].append(time.perf_counter() - began)
            del made
    return {name: statistics.median(times) for name, times in seconds.items()}


if __name__ == "__main__":
    main()
