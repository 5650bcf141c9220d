"""A GeoPackage besides its features: the default style for QGIS, the table of contents, the index."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pyogrio
import pytest
from rasterio.crs import CRS

from geoseg.display.features import _style_colors
from geoseg.vector import check_target
from geoseg.vector.io import geopackage
from geoseg.vector.io.formats import write
from tests.vector.features import LEGEND, UTM, layer, shapes, table


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    target = check_target(tmp_path / "cover.gpkg")
    write(target, layer(), [table(*shapes(1))])
    with closing(sqlite3.connect(target)) as connection:
        yield connection


def test_the_style_is_the_default_of_the_layer(database: sqlite3.Connection) -> None:
    rows = database.execute(
        "SELECT f_table_catalog, f_table_schema, f_table_name, f_geometry_column, useAsDefault FROM layer_styles"
    ).fetchall()
    assert rows == [("", "", "cover", "geometry", 1)]
    assert database.execute("SELECT column_name FROM gpkg_geometry_columns").fetchall() == [("geometry",)]


def test_the_style_colours_and_names_every_class(database: sqlite3.Connection) -> None:
    text = database.execute("SELECT styleQML FROM layer_styles").fetchone()[0]
    root = ET.fromstring(text)  # noqa: S314 - our own
    renderer = root.find("renderer-v2")
    assert renderer is not None
    assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "code")
    symbols = {symbol.get("name"): symbol for symbol in renderer.iter("symbol")}
    shown = {}
    for category in renderer.iter("category"):
        fill = symbols[category.get("symbol")].find("layer")
        assert fill is not None
        assert fill.get("class") == "SimpleFill"
        ways = [
            {entry.get("name"): entry.get("value") for entry in fill.iter("Option")},
            {entry.get("k"): entry.get("v") for entry in fill.iter("prop")},
        ]
        assert ways[0]["color"] == ways[1]["color"]
        assert category.get("type") == "integer"
        shown[int(category.get("value", ""))] = (category.get("label"), ways[0]["color"])
    expected = {code: LEGEND.of(code) for code in (0, 1, 2, 3)}  # 2 is in the features, not in the legend
    assert shown == {code: (of.name, ",".join(map(str, (*of.color, 255)))) for code, of in expected.items()}
    assert {row[0] for row in database.execute("SELECT DISTINCT code FROM cover")} <= set(shown)


@pytest.mark.parametrize("crs", [UTM, None])
@pytest.mark.parametrize("confidence", [False, True])
def test_every_column_has_a_heading(tmp_path: Path, crs: CRS | None, *, confidence: bool) -> None:
    polygons, codes = shapes(1)
    target = check_target(tmp_path / "cover.gpkg")
    sure = np.full(len(codes), 50.0) if confidence else None
    write(target, layer(crs=crs, confidence=confidence), [table(polygons, codes, sure)])
    with closing(sqlite3.connect(target)) as database:
        text = database.execute("SELECT styleQML FROM layer_styles").fetchone()[0]
    headings = {alias.get("field"): alias.get("name") for alias in ET.fromstring(text).iter("alias")}  # noqa: S314 - ours
    assert list(headings) == pyogrio.read_info(target, layer="cover")["fields"].tolist()
    assert headings["area_m2" if crs else "area_px"] == ("Area (m²)" if crs else "Area (pixels)")


def test_more_classes_than_anyone_tells_apart_have_no_style(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, given = layer(), table(*shapes(1)).part(0, 1)
    present = set(given.polygons.codes.tolist())
    assert len(present | {named.code for named in LEGEND}) > len(present)
    shown = []
    for most in (len(present), len(present) - 1):
        monkeypatch.setattr(geopackage, "MOST_CATEGORIES", most)
        target = check_target(tmp_path / f"{most}.gpkg")
        write(target, kind, [given])
        shown.append(_style_colors(target))
        assert pyogrio.read_info(target, layer=kind.name)["features"] == len(given)
    assert set(shown[0]) == {LEGEND.of(code).name for code in present}
    assert shown[1] == {}
    assert pyogrio.list_layers(target)[:, 0].tolist() == [kind.name]


def test_the_contents_are_registered(database: sqlite3.Connection) -> None:
    rows = database.execute("SELECT table_name, data_type, identifier, description FROM gpkg_contents").fetchall()
    assert rows == [("cover", "features", "cover", "A test."), ("layer_styles", "attributes", "layer_styles", "")]
    extent = database.execute("SELECT min_x, max_x FROM gpkg_contents WHERE table_name = 'cover'").fetchone()
    assert extent == (448_000, 448_012)
    assert database.execute("SELECT srs_id FROM gpkg_geometry_columns").fetchone() == (UTM.to_epsg(),)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []


def test_the_index_finds_features(database: sqlite3.Connection, tmp_path: Path) -> None:
    count = database.execute("SELECT count(*) FROM rtree_cover_geometry").fetchone()[0]
    assert count == len(shapes(1)[0])
    box = (448_003.1, 5_410_991.1, 448_003.9, 5_410_991.9)
    found = pyogrio.read_dataframe(tmp_path / "cover.gpkg", layer="cover", bbox=box)
    assert 0 < len(found) < count


def test_gdal_sees_the_layer_first_and_can_go_on_writing(tmp_path: Path) -> None:
    target = check_target(tmp_path / "cover.gpkg")
    write(target, layer(), [table(*shapes(1))])
    assert pyogrio.list_layers(target)[:, 0].tolist() == ["cover", "layer_styles"]
    more = pyogrio.read_dataframe(target, layer="cover").iloc[:2]
    pyogrio.write_dataframe(more, target, layer="cover", append=True)
    assert pyogrio.read_info(target, layer="cover")["features"] == len(shapes(1)[0]) + 2
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("SELECT count(*) FROM rtree_cover_geometry").fetchone()[0] == len(shapes(1)[0]) + 2
