"""GeoParquet's metadata, against the rules of version 1.1.0 (https://geoparquet.org/releases/v1.1.0/)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely
from rasterio.crs import CRS

from geoseg.vector import check_target
from geoseg.vector.io import arrow
from geoseg.vector.io.formats import write
from geoseg.vector.polygons import FeatureTable
from tests.vector.features import batches, dissolved, layer, shapes, table


def test_the_metadata_follows_the_rules(tmp_path: Path) -> None:
    given = table(*shapes(1))
    geo = _geo(_written(tmp_path, given))
    assert geo["version"] == "1.1.0"
    assert geo["primary_column"] == "geometry"
    column = geo["columns"]["geometry"]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Polygon"]
    assert column["orientation"] == "counterclockwise"
    assert column["edges"] == "planar"
    assert column["covering"] == {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}}
    assert column["bbox"] == [448_000, 5_410_988, 448_012, 5_411_000]
    assert pyproj.CRS.from_json_dict(column["crs"]).to_epsg() == 32631


def test_the_metadata_are_those_of_the_arrow_schema_too(tmp_path: Path) -> None:
    path = _written(tmp_path, table(*shapes(1)))
    assert json.loads((pq.read_schema(path).metadata or {})[b"geo"]) == _geo(path)
    assert json.loads(pads.dataset(path).schema.metadata[b"geo"]) == _geo(path)
    found = pq.read_schema(path)
    assert [(field.name, field.nullable) for field in found] == [
        (name, False) for name in ("code", "name", "area_m2", "perimeter_m", "geometry", "bbox")
    ]
    assert geopandas.read_parquet(path).area_m2.sum() == pytest.approx(shapely.area(shapes(1)[0]).sum())


def test_multipolygons_and_no_crs_are_told(tmp_path: Path) -> None:
    column = _geo(_written(tmp_path, table(*dissolved(*shapes(1))), multi=True, crs=None))["columns"]["geometry"]
    assert column["geometry_types"] == ["MultiPolygon"]
    assert column["crs"] is None
    assert "crs" in column  # left out it would be longitude and latitude


def test_no_feature_has_no_bbox(tmp_path: Path) -> None:
    column = _geo(_written(tmp_path, table(*shapes(1)).part(0, 0)))["columns"]["geometry"]
    assert "bbox" not in column


def test_boxes_are_those_of_the_features(tmp_path: Path) -> None:
    polygons, codes = shapes(2)
    found = pq.read_table(_written(tmp_path, table(polygons, codes))).column("bbox").combine_chunks()
    boxes = np.column_stack([found.field(side) for side in ("xmin", "ymin", "xmax", "ymax")])
    assert np.array_equal(boxes, shapely.bounds(polygons))


def test_row_groups_gather_small_batches_and_cut_large_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "BATCH_FEATURES", 40)
    monkeypatch.setattr("geoseg.vector.io.arrow.BATCH_FEATURES", 40)
    given = table(*shapes(3))
    target = check_target(tmp_path / "cover.parquet")
    write(target, layer(), batches(given, 7))
    sizes = _group_sizes(target)
    assert sum(sizes) == len(given)
    assert all(33 < size <= 40 for size in sizes[:-1])
    target = _written(tmp_path, given)
    assert all(size == 40 for size in _group_sizes(target)[:-1])


def test_statistics_let_readers_skip_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.vector.io.arrow.BATCH_FEATURES", 40)
    monkeypatch.setattr(arrow, "BATCH_FEATURES", 40)
    polygons, codes = shapes(3)
    target = _written(tmp_path, table(polygons, codes))
    metadata = pq.read_metadata(target)
    names = [metadata.row_group(0).column(place).path_in_schema for place in range(metadata.num_columns)]
    lowest = names.index("bbox.ymin")
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(lowest).statistics
        rows = shapely.bounds(polygons[40 * group : 40 * group + 40])[:, 1]
        assert (statistics.min, statistics.max) == (rows.min(), rows.max())
    box = (448_001.1, 5_410_998.1, 448_003.9, 5_410_999.9)
    found = geopandas.read_parquet(target, bbox=box)
    touched = shapely.intersects(shapely.box(*shapely.bounds(polygons).T), shapely.box(*box))
    assert found.geometry.to_wkb().tolist() == shapely.to_wkb(polygons[touched]).tolist()


def test_any_crs_is_projjson(tmp_path: Path) -> None:
    shifted = CRS.from_proj4("+proj=tmerc +lat_0=1 +lon_0=2 +ellps=bessel +towgs84=598,73,418,0.2,0,-2,6 +units=m")
    column = _geo(_written(tmp_path, table(*shapes(1)), crs=shifted))["columns"]["geometry"]
    assert column["crs"]["type"] == "BoundCRS"


def _written(folder: Path, given: FeatureTable, **changes: Any) -> Path:
    target = check_target(folder / "cover.parquet", overwrite=True)
    write(target, layer(**changes), [given])
    return target


def _geo(path: Path) -> dict[str, Any]:
    geo = json.loads(pq.read_metadata(path).metadata[b"geo"])
    assert isinstance(geo, dict)
    return geo


def _group_sizes(path: Path) -> list[int]:
    metadata = pq.read_metadata(path)
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
