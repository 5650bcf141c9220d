"""In every format, other programs' readers get back the features that were written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
from rasterio.crs import CRS

from geoseg.errors import OutputError, UsageError
from geoseg.legend import Nomenclature
from geoseg.vector import check_target
from geoseg.vector.io.crs import WGS84
from geoseg.vector.io.formats import EXTENSIONS, stored_crs, to_geodataframe, write
from geoseg.vector.polygons import PolygonLayer
from tests.vector.features import SUFFIXES, batches, dissolved, layer, read, shapes, table, theirs

JSON = (".geojson", ".json", ".geojsonl", ".geojsons", ".geojsonseq")
EXACT = tuple(suffix for suffix in SUFFIXES if suffix not in JSON)


def test_these_are_all_formats() -> None:
    assert EXTENSIONS == SUFFIXES


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("suffix", EXACT)
def test_features_come_back(tmp_path: Path, suffix: str, *, multi: bool) -> None:
    polygons, codes = shapes(1)
    if multi:
        polygons, codes = dissolved(polygons, codes)
    confidence = np.linspace(0, 1, len(codes))
    confidence[2] = np.nan
    given = table(polygons, codes, confidence)
    kind = layer(multi=multi, confidence=True)
    found = _written(tmp_path / f"cover{suffix}", kind, given)
    assert list(found.columns)[:5] == ["code", "name", "area_m2", "perimeter_m", "confidence"]
    assert found.crs.to_epsg() == 32631
    assert found.code.dtype == np.int32
    assert set(found.geom_type) == {"MultiPolygon" if multi else "Polygon"}
    _check_same(found, to_geodataframe([given], kind))


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".fgb"])
def test_features_stay_in_order(tmp_path: Path, suffix: str) -> None:
    given = table(*shapes(2))
    found = _written(tmp_path / f"cover{suffix}", layer(), given)
    assert np.array_equal(found.code, given.polygons.codes)
    assert np.array_equal(found.area_m2, given.area)


@pytest.mark.parametrize("suffix", JSON)
def test_geojson_is_wgs84_to_seven_decimals_and_right_handed(tmp_path: Path, suffix: str) -> None:
    polygons, codes = shapes(3)
    kind, given = layer(), table(polygons, codes)
    found = _written(tmp_path / f"cover{suffix}", kind, given)
    there = to_geodataframe([given], kind).to_crs(4326).geometry
    assert found.crs.to_epsg() == 4326
    assert list(found.columns) == ["code", "name", "area_m2", "perimeter_m", "geometry"]
    assert all(shapely.equals_exact(found.geometry, there, tolerance=0.71e-7))
    assert np.array_equal(shapely.get_coordinates(found.geometry), np.round(shapely.get_coordinates(there), 7))
    assert found.is_valid.all()
    assert all(ring.is_ccw for ring in found.exterior)
    assert not any(shapely.is_ccw(hole) for holes in found.interiors for hole in holes)
    assert "crs" not in (tmp_path / f"cover{suffix}").read_text().split("features")[0]


def test_text_sequences_are_one_feature_a_line(tmp_path: Path) -> None:
    given = table(*shapes(3))
    for suffix, mark in ((".geojsonl", ""), (".geojsons", "\x1e"), (".geojsonseq", "")):
        path = tmp_path / f"cover{suffix}"
        _written(path, layer(), given)
        lines = path.read_text().removesuffix("\n").split("\n")
        assert len(lines) == len(given)
        assert all(line.startswith(mark) and json.loads(line[len(mark) :])["type"] == "Feature" for line in lines)


def test_geojson_is_one_object(tmp_path: Path) -> None:
    given = table(*shapes(3), confidence=np.full(len(shapes(3)[1]), np.nan))
    path = tmp_path / "cover.geojson"
    _written(path, layer(confidence=True), given)
    content = json.loads(path.read_bytes(), parse_constant=pytest.fail)
    assert content["type"] == "FeatureCollection"
    assert content["features"][0]["properties"]["confidence"] is None
    assert len(content["features"]) == len(given)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_feature_is_a_valid_file_with_its_columns(tmp_path: Path, suffix: str) -> None:
    nothing = table(*shapes(4)).part(0, 0)
    for number, tables in enumerate(([], [nothing])):
        target = check_target(tmp_path / f"cover{number}{suffix}")
        kind = layer(name="cover")
        write(target, kind, tables, crs=stored_crs(target, kind.crs))
        if suffix in JSON and suffix not in (".geojson", ".json"):
            assert target.read_bytes() == b""  # GDAL opens no empty sequence
            continue
        found = read(target)
        assert len(found) == 0
        assert suffix in JSON or list(found.columns)[:4] == ["code", "name", "area_m2", "perimeter_m"]
        assert found.crs.to_epsg() == (4326 if suffix in JSON else 32631)


@pytest.mark.parametrize("suffix", EXACT)
def test_any_crs_comes_back(tmp_path: Path, suffix: str) -> None:
    systems = {
        "none": None,
        "degrees": CRS.from_epsg(4326),
        "of_its_own": CRS.from_proj4("+proj=laea +lat_0=48 +lon_0=2 +x_0=7 +y_0=9 +ellps=bessel +units=m"),
        "of_esri": CRS.from_authority("ESRI", "54009"),
        "shifted": CRS.from_proj4(
            "+proj=tmerc +lat_0=1 +lon_0=2 +ellps=bessel +towgs84=598,73,418,0.2,0,-2,6 +units=m"
        ),
        "compound": CRS.from_user_input("EPSG:32631+5773"),
        "axes_turned": CRS.from_epsg(2193),
    }
    given = table(*shapes(5))
    for name, crs in systems.items():
        target = check_target(tmp_path / f"{name}{suffix}")
        write(target, layer(crs=crs), [given])
        found = read(target)
        assert (found.crs is None) == (crs is None)
        assert crs is None or _same_place(found.crs, crs), name
        assert list(found.columns)[2] == ("area_px" if crs is None else "area_m2")
        assert np.array_equal(found.total_bounds, to_geodataframe([given], layer()).total_bounds)


def test_names_of_codes_without_legend(tmp_path: Path) -> None:
    found = _written(tmp_path / "cover.gpkg", layer(legend=Nomenclature()), table(*shapes(6)))
    assert set(found.name) == {"class 0", "class 1", "class 2", "class 3"}
    found = _written(tmp_path / "named.fgb", layer(), table(*shapes(6)))
    assert set(found.name) == {"bâti & <ville>", "water", "class 2", "wood"}


@pytest.mark.skipif(shutil.which("ogrinfo") is None, reason="gdal-bin is not installed")
@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson", ".geojsonl"])
def test_another_gdal_reads_it_too(tmp_path: Path, suffix: str) -> None:
    given = table(*shapes(7))
    path = tmp_path / f"cover{suffix}"
    _written(path, layer(), given)
    told = subprocess.run(
        [str(shutil.which("ogrinfo")), "-al", "-so", path], capture_output=True, text=True, check=True
    )
    assert f"Feature Count: {len(given)}" in told.stdout
    assert "Geometry: Polygon" in told.stdout
    assert not told.stderr


def test_many_batches_are_one_file(tmp_path: Path) -> None:
    given = table(*shapes(8))
    for suffix in EXACT:
        target = check_target(tmp_path / f"cover{suffix}")
        write(target, layer(), batches(given, 7))
        _check_same(read(target), to_geodataframe([given], layer()))


def test_a_format_loads_only_what_it_needs(tmp_path: Path) -> None:
    program = """
        import sys
        import numpy as np
        from geoseg.vector.io.formats import check_target, write
        from geoseg.vector.polygons import PolygonLayer, FeatureTable
        from geoseg.vector.polygons import Polygons
        level, square = np.array([0, 1]), np.array([[0.0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
        polygons = Polygons(np.zeros(1, np.int32), np.ones(1, int), level, level, np.array([0, 5]), square)
        for suffix in sys.argv[2:]:
            given = FeatureTable(polygons, *np.ones((2, 1)))
            write(check_target(f"{sys.argv[1]}/cover{suffix}"), PolygonLayer("cover", None), [given])
            print(*[name for name in ("geopandas", "pandas", "pyarrow", "pyogrio", "shapely") if name in sys.modules])
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path), ".parquet", ".gpkg"],
        capture_output=True,
        text=True,
        check=True,
    )
    geoparquet, geopackage = run.stdout.splitlines()
    assert geoparquet == "pyarrow"
    assert "pyogrio" in geopackage.split()


def test_what_cannot_be_a_target(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.gpkg, \.parquet"):
        check_target(tmp_path / "cover.shp")
    with pytest.raises(UsageError, match=r"\.gpkg"):
        check_target(tmp_path / "cover")
    plain = tmp_path / "there.fgb"
    theirs(plain)
    with pytest.raises(OutputError, match="overwrite"):
        check_target(plain)
    assert check_target(plain, overwrite=True) == plain
    there = tmp_path / "there.gpkg"
    theirs(there)
    with pytest.raises(OutputError, match=r"'parcels'.*overwrite"):
        check_target(there, layer="parcels")
    assert check_target(there, layer="cover") == check_target(there, layer="parcels", overwrite=True) == there
    there.with_name("there.gpkg-wal").touch()
    with pytest.raises(OutputError, match="another program"):
        check_target(there, overwrite=True)
    with pytest.raises(OutputError, match="local"):
        check_target("s3://bucket/cover.gpkg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.fgb", "there.gpkg", "there.gpkg-wal"]


def test_the_crs_of_a_file() -> None:
    utm, said = CRS.from_epsg(32631), list[str]()
    assert stored_crs(Path("a.gpkg"), utm, announce=said.append) == utm
    assert stored_crs(Path("a.gpkg"), utm, CRS.from_epsg(3857), said.append) == CRS.from_epsg(3857)
    assert stored_crs(Path("a.geojson"), WGS84, announce=said.append) == WGS84
    assert said == []
    assert stored_crs(Path("a.geojson"), utm, announce=said.append) == WGS84
    assert "RFC 7946" in said[0]
    assert stored_crs(Path("a.geojson"), None, announce=said.append) is None
    assert "no CRS" in said[1]
    with pytest.raises(UsageError, match="RFC 7946"):
        stored_crs(Path("a.geojsonl"), utm, CRS.from_epsg(3857))
    with pytest.raises(UsageError, match="no CRS"):
        stored_crs(Path("a.gpkg"), None, utm)


def _written(path: Path, kind: PolygonLayer, given: object) -> geopandas.GeoDataFrame:
    target = check_target(path)
    write(target, kind, [given], crs=stored_crs(target, kind.crs))  # type: ignore[list-item]
    return read(target)


def _check_same(found: geopandas.GeoDataFrame, expected: geopandas.GeoDataFrame) -> None:
    """Compare features in any order, since FlatGeobuf sorts its own way."""
    order = [np.lexsort((frame.area_m2, *shapely.bounds(frame.geometry).T)) for frame in (found, expected)]
    found, expected = found.iloc[order[0]].reset_index(drop=True), expected.iloc[order[1]].reset_index(drop=True)
    for name in expected.columns.drop("geometry"):
        assert found[name].equals(expected[name].astype(found[name].dtype)), name
    assert all(shapely.equals_exact(found.geometry, expected.geometry))
    assert found.is_valid.all()


def _same_place(found: pyproj.CRS, crs: CRS) -> bool:
    expected = pyproj.CRS.from_wkt(crs.to_wkt(version="WKT2_2019"))
    return found.equals(expected, ignore_axis_order=True) or found.to_epsg() == expected.to_epsg() is not None
