"""An area of interest for the verbs that read maps: the rest of the map counts as nodata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.features import rasterize
from rasterio.transform import from_origin

import geoseg
from geoseg.errors import GeosegError, OutsideError, UsageError
from geoseg.legend import NODATA

GRID = from_origin(500_000, 5_400_000, 1, 1)
SHAPE = (120, 160)
AREA = shapely.Polygon([(500_010.3, 5_399_990.2), (500_120.7, 5_399_950.1), (500_060.2, 5_399_895.4)])
INSIDE = rasterize([(AREA, 1)], out_shape=SHAPE, transform=GRID).astype(bool)


def write(path: Path, codes: np.ndarray[Any, Any], **profile: Any) -> Path:
    settings = {"driver": "GTiff", "count": 1, "dtype": codes.dtype.name, "height": SHAPE[0], "width": SHAPE[1]}
    place = {"crs": "EPSG:32631", "transform": GRID, "nodata": NODATA}
    with rasterio.open(path, "w", **settings | place | profile) as file:
        file.write(codes, 1)
        if codes.dtype == np.uint8:
            file.write_colormap(1, {each.code: each.color for each in geoseg.DEEPGLOBE})
        file.update_tags(GEOSEG_LEGEND=json.dumps(geoseg.DEEPGLOBE.to_json()))
    return path


@pytest.fixture(params=["nodata", "no nodata", "16 bits"])
def maps(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """Return a map, and the same map with nodata outside the area."""
    codes = np.kron(np.random.default_rng(4).integers(0, 6, (12, 16)), np.ones((10, 10))).astype(np.uint8)
    codes[30:40, 40:90] = NODATA if request.param == "nodata" else 1
    if request.param == "16 bits":
        codes = codes.astype(np.int16)
    nodata = None if request.param == "no nodata" else NODATA
    inside = np.where(INSIDE, codes, NODATA).astype(codes.dtype)
    return write(tmp_path / "map.tif", codes, nodata=nodata), write(tmp_path / "inside.tif", inside)


def test_polygons_are_those_of_the_area(maps: tuple[Path, Path]) -> None:
    made = geoseg.vectorize(maps[0], aoi=AREA, simplify=1.5)
    expected = geoseg.vectorize(maps[1], simplify=1.5)
    assert made.drop(columns="geometry").equals(expected.drop(columns="geometry"))
    assert made.geometry.geom_equals(expected.geometry).all()


def test_figures_and_areas_are_those_inside(maps: tuple[Path, Path], tmp_path: Path) -> None:
    with rasterio.open(maps[0]) as file:
        codes = file.read(1)
    truth = write(tmp_path / "truth.tif", np.roll(codes, 3).astype(np.uint8))
    made = geoseg.evaluate(maps[0], truth, areas=True, aoi=AREA)
    expected = geoseg.evaluate(maps[1], truth, areas=True)
    assert made.matrix.counts.tolist() == expected.matrix.counts.tolist()
    assert made.areas is not None
    assert made.areas.to_json() == expected.areas.to_json()  # type: ignore[union-attr]


def test_facts_and_pages_are_those_of_the_area(maps: tuple[Path, Path], tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame(geometry=[AREA], crs="EPSG:32631")
    facts, expected = geoseg.info(maps[0], aoi=frame).to_json(), geoseg.info(maps[1]).to_json()
    if "classes" in expected:
        shares = [{each["code"]: each["share"] for each in found["classes"]} for found in (facts, expected)]  # type: ignore[attr-defined]
        assert shares[0] == pytest.approx(shares[1])
    else:
        assert facts["statistics"] == expected["statistics"]
    whole = geoseg.preview(maps[1], out=tmp_path / "expected.html")
    page = geoseg.preview(maps[0], out=tmp_path / "made.html", aoi=frame)
    assert classes_of(page.path) == classes_of(whole.path)


def classes_of(page: Path | None) -> list[Any]:
    """Return the classes listed in a page."""
    assert page is not None
    text = page.read_text(encoding="utf-8")
    start = text.index('"classes":') + len('"classes":')
    found: list[Any]
    found, _ = json.JSONDecoder().raw_decode(text[start:].lstrip())
    return found


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"aoi": shapely.box(0, 0, 1, 1)}, OutsideError, "no pixel of .*map.tif has its center"),
        ({"aoi_crs": "EPSG:4326"}, UsageError, "`aoi_crs` is the CRS of an area"),
        ({"aoi": "gone.gpkg"}, GeosegError, "gone.gpkg: no such file"),
    ],
    ids=str,
)
def test_every_verb_refuses_alike(tmp_path: Path, options: dict[str, Any], kind: type[Exception], said: str) -> None:
    landcover = write(tmp_path / "map.tif", np.ones(SHAPE, np.uint8))
    verbs = (geoseg.vectorize, geoseg.info, geoseg.preview, lambda path, **more: geoseg.evaluate(path, path, **more))
    for verb in verbs:
        with pytest.raises(kind, match=said):
            verb(landcover, **options)  # type: ignore[operator]
