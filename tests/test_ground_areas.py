"""preview, evaluate and vectorize all give areas on the ground, whatever the CRS."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Geod, Transformer

import geoseg
from tests.display.test_preview import data_of

Grid = dict[str, Any]
GRIDS: dict[str, Grid] = {
    "UTM": {"crs": "EPSG:32631", "transform": Affine(30, 0, 450_000, 0, -30, 5_200_000)},
    "feet": {"crs": "EPSG:2263", "transform": Affine(30, 0, 980_000, 0, -30, 210_000)},
    "degrees": {"crs": "EPSG:4326", "transform": Affine(0.02, 0, 9, 0, -0.02, 61)},
    "rotated degrees": {"crs": "EPSG:4326", "transform": Affine(0.018, 0.009, 9, 0.009, -0.018, 61)},
    "Web Mercator": {"crs": "EPSG:3857", "transform": Affine(9_000, 0, 1_000_000, 0, -9_000, 8_500_000)},
    "polar": {"crs": "EPSG:3413", "transform": Affine(25_000, 0, 500_000, 0, -25_000, -500_000)},
    "far from its zone": {"crs": "EPSG:32631", "transform": Affine(9_000, 0, 1_400_000, 0, -9_000, 5_200_000)},
}
SHAPE = (40, 60)


def on_the_ground(codes: NDArray[np.uint8], grid: Grid) -> dict[int, float]:
    """Return the area of each code, summed over its pixels as geodesic polygons on WGS 84."""
    to_degrees, geod = Transformer.from_crs(grid["crs"], "EPSG:4326", always_xy=True), Geod(ellps="WGS84")
    steps = np.linspace(0, 1, 5)[:-1]
    around = np.concatenate([np.stack([steps, 0 * steps]), np.stack([1 + 0 * steps, steps])], axis=1)
    around = np.concatenate([around, 1 - around], axis=1)
    areas: dict[int, float] = {}
    for (row, col), code in np.ndenumerate(codes):
        lon, lat = to_degrees.transform(*(grid["transform"] @ (around[0] + col, around[1] + row)))
        area_m2, _ = geod.polygon_area_perimeter(lon, lat)
        areas[int(code)] = areas.get(int(code), 0.0) + abs(area_m2)
    return areas


@pytest.mark.parametrize("where", GRIDS)
def test_a_class_has_one_area(tmp_path: Path, where: str) -> None:
    grid, path = GRIDS[where], tmp_path / "map.tif"
    rows, cols = np.indices(SHAPE)
    codes = ((rows // 20) * 2 + cols // 30 + 1).astype(np.uint8)  # each class in its own quarter
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=SHAPE[0], width=SHAPE[1], dtype="uint8", nodata=255, **grid
    ) as file:
        file.write(codes, 1)
    wanted = on_the_ground(codes, grid)
    found = geoseg.evaluate(path, path, areas=True).areas
    assert found is not None
    told = {
        "evaluate": {each.code: each.area for each in found.classes},
        "preview": {row["code"]: row["area"] for row in data_of(geoseg.preview(path))["classes"]},
        "vectorize": geoseg.vectorize(path).groupby("code")["area_m2"].sum().to_dict(),
    }
    for verb, areas in told.items():
        for code, area_m2 in wanted.items():
            assert math.isclose(areas[code], area_m2, rel_tol=0.003), (verb, code, areas[code] / area_m2)
        assert areas == pytest.approx(told["evaluate"], rel=1e-4), verb
