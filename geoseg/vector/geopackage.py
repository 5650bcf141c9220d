"""GeoPackage (OGC 12-128r19): one layer, its spatial index, and the style that QGIS opens it with."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from geoseg.vector.arrow import GEOMETRY
from geoseg.vector.gdal import copy_gdal, write_gdal
from geoseg.vector.geopackage_file import remove_layer
from geoseg.vector.layer import MADE_BY, Layer, Table
from geoseg.vector.symbology import categorized_style

_STYLES = """
CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
  f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
  useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
  update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
)"""
"""As QGIS creates it by way of GDAL (qgsogrproviderutils, saveStyle)."""
_CONTENTS = """
INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id)
VALUES ('layer_styles', 'attributes', 'layer_styles', '', 0)"""
_STYLE = """
INSERT INTO layer_styles
  (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML, styleSLD, useAsDefault,
   description, owner)
VALUES ('', '', ?, ?, ?, ?, '', ?, ?, '')"""
_OLD_STYLE = """
DELETE FROM layer_styles
WHERE f_table_name = ? COLLATE NOCASE AND styleName = ? AND (description = ? OR description LIKE ?)"""
_OURS = f"%{MADE_BY}%"
_DEFAULTS = "SELECT count(*) FROM layer_styles WHERE f_table_name = ? COLLATE NOCASE AND useAsDefault"
_BLOB_BYTES = 10**9 - 1000
"""SQLite takes a billion bytes for a value (https://www.sqlite.org/limits.html); the geometry's header is of them."""
_SETTINGS = {
    "OGR_SQLITE_SYNCHRONOUS": "OFF",  # the whole file is synced once, before it gets its name
    "OGR_SQLITE_JOURNAL": "OFF",  # a file that failed is thrown away
    "OGR_SQLITE_PRAGMA": "page_size=16384",  # a sixth quicker than with pages of 4096 bytes
}


def write_geopackage(path: Path, layer: Layer, tables: Iterable[Table]) -> None:
    """Write a GeoPackage. Raises OutputError, and whatever the tables raise."""
    codes = write_gdal(
        path,
        layer,
        tables,
        driver="GPKG",
        dataset_options={"VERSION": "1.3"},  # of 1.4, which brings nothing here, an older GDAL warns
        layer_options=_layer_options(layer),
        feature_bytes=_BLOB_BYTES,
        settings=_SETTINGS,
    )
    _add_style(path, layer, categorized_style(layer, codes))


def move_layer(made: Path, layer: Layer, into: Path) -> None:
    """Put the layer of a GeoPackage that was just made into another, in place of one of its name. Raises OSError.

    A style that somebody else gave to the old layer stays, and stays the default.
    """
    with closing(sqlite3.connect(made)) as database:
        known = database.execute("SELECT name FROM sqlite_master WHERE name = 'layer_styles'").fetchone()
        style = database.execute("SELECT styleQML FROM layer_styles").fetchone() if known else None
    remove_layer(into, layer.name)
    copy_gdal(made, layer, into, driver="GPKG", layer_options=_layer_options(layer), settings=_SETTINGS)
    _add_style(into, layer, style[0] if style else None)


def _layer_options(layer: Layer) -> dict[str, str]:
    return {
        "GEOMETRY_NAME": GEOMETRY,
        "IDENTIFIER": layer.name,
        "DESCRIPTION": layer.description,
        "SPATIAL_INDEX": "YES",
    }


def _add_style(path: Path, layer: Layer, style: str | None) -> None:
    """Give the layer a style in place of the one that an earlier run gave it; None for none."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA synchronous = OFF")
        if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'layer_styles'").fetchone():
            database.execute(_OLD_STYLE, (layer.name, layer.name[:30], layer.description, _OURS))
        elif style is not None:
            database.execute(_STYLES)
            database.execute(_CONTENTS)
        if style is not None:
            theirs = database.execute(_DEFAULTS, (layer.name,)).fetchone()[0]
            values = (layer.name, GEOMETRY, layer.name[:30], style, int(theirs == 0), layer.description)
            database.execute(_STYLE, values)
