"""GeoPackage (OGC 12-128r19): a layer with its spatial index and style, new or in a copy of an existing file."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

from geoseg.atomic import free_space_bytes, output_error
from geoseg.errors import OutputError, UsageError
from geoseg.raster.landcover import QGIS_DOCTYPE
from geoseg.vector.io.arrow import GEOMETRY, copy_gdal, write_gdal
from geoseg.vector.polygons import MADE_BY, FeatureTable, PolygonLayer

RESERVED = re.compile(r"gpkg|sqlite_|rtree_|layer_styles$|qgis_projects$", re.IGNORECASE)
"""Prefixes of names reserved by GeoPackage, GDAL's driver for it, SQLite or QGIS."""
_SQLITE_MAGIC = b"SQLite format 3\0"
_TABLES = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
_LAYER_TABLES = (
    "gpkg_geometry_columns",
    "gpkg_ogr_contents",
    "gpkg_extensions",
    "gpkg_metadata_reference",
    "gpkg_data_columns",
    "gpkg_contents",
)
"""Tables whose rows describe a layer by its `table_name`."""
_STEP_PAGES = 16_384
"""Pages copied between two checks for Ctrl-C."""
_LOCK_TIMEOUT_S = 2.0
_BUSY, _PRIMARY_CODE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED), 0xFF
"""SQLite's codes for a file in use, and the bits of a code that tell them: https://www.sqlite.org/rescode.html."""

_ALIASES = {
    "code": "Code",
    "name": "Class",
    "area_m2": "Area (m²)",
    "area_px": "Area (pixels)",
    "perimeter_m": "Perimeter (m)",
    "perimeter_px": "Perimeter (pixels)",
    "confidence": "Mean confidence",
}
"""Column titles in QGIS."""
MOST_CATEGORIES = 4096
"""More, as for parcel or segment numbers, cannot be told apart, and make QGIS slow to open and use much memory."""


def check_layer_name(name: object) -> str:
    """Return a layer's name if a GeoPackage can have it, else raise UsageError."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise UsageError(f"`layer` must be the name of a layer, got {name!r:.80}; give one such as landcover", "layer")
    if RESERVED.match(name) or not (name[0].isalnum() or name[0] == "_"):
        raise UsageError(
            f"`layer={name!r:.80}` is not a valid name for a layer in a GeoPackage: it begins with a special "
            "character, or is reserved for the file's own tables (gpkg, sqlite_, rtree_, layer_styles, qgis_projects); "
            "choose another",
            "layer",
        )
    return name


def check_file(path: Path, layer: str, *, overwrite: bool) -> None:
    """Raise OutputError if a layer of that name cannot be written to an existing file, or may not be replaced.

    The file is not a GeoPackage, is being written by another program, or has something under that name: other than a
    feature layer, or a layer that may not be overwritten.
    """
    with _explain_errors(path):
        _check_kind(path)
        with closing(_open_read_only(path)) as database:
            kind = _kind_of(database, layer)
        with _locked(path):
            pass
    if kind is None:
        return
    if kind != "features":
        raise OutputError(f"{path} has {kind} named {layer!r}, which is not replaced; choose another `layer`", "layer")
    if not overwrite:
        raise OutputError(
            f"{path} already has a layer {layer!r}; add `overwrite=True` to replace it, which keeps all other layers, "
            "or choose another `layer`",
            "layer",
        )


def other_contents(path: Path, layer: str) -> list[str] | None:
    """Return the names of what a file holds besides a layer of features; None if it is not a GeoPackage.

    Those of the file's own tables and styles do not count.
    """
    try:
        if not _is_geopackage(path):
            return None
        with closing(_open_read_only(path)) as database:
            contents = {name for (name,) in database.execute("SELECT table_name FROM gpkg_contents")}
            tables = {name for (name,) in database.execute(_TABLES)}
            own = _lower(layer) if _kind_of(database, layer) == "features" else None
    except sqlite3.Error:
        return None
    tables = {name for name in tables if not RESERVED.match(name) or _lower(name) == "qgis_projects"}
    return sorted(name for name in contents | tables if _lower(name) not in {own, "layer_styles"})


def _lower(name: str) -> str:
    """Lower the letters that SQLite does not distinguish."""
    return re.sub("[A-Z]+", lambda found: found[0].lower(), name)


def _check_kind(path: Path) -> None:
    if not _is_geopackage(path):
        raise OutputError(
            f"{path} exists and is not a GeoPackage, so it is left as it is; choose another output, or remove it"
        )


def _is_geopackage(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(len(_SQLITE_MAGIC)) != _SQLITE_MAGIC:
            return False
    with closing(_open_read_only(path)) as database:
        query = "SELECT count(*) FROM sqlite_master WHERE name IN ('gpkg_contents', 'gpkg_spatial_ref_sys')"
        return bool(database.execute(query).fetchone()[0] == 2)


def _open_read_only(path: Path) -> sqlite3.Connection:
    """Open a file for reading without creating files next to it; there is no log to read with it."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)


def _kind_of(database: sqlite3.Connection, name: str) -> str | None:
    """Return what a name refers to, ignoring case: `features`, a description of anything else, or None."""
    entry = database.execute("SELECT type FROM sqlite_master WHERE name = ? COLLATE NOCASE", (name,)).fetchone()
    contents = database.execute(
        "SELECT data_type FROM gpkg_contents WHERE table_name = ? COLLATE NOCASE", (name,)
    ).fetchone()
    match (entry and entry[0], contents and contents[0]):
        case (None, None):
            return None
        case ("table" | None, "features"):
            return "features"
        case ("table", str(kind)):
            return f"a table of {kind}"
    return f"a {entry[0]}" if entry else "an entry"


@contextmanager
def _locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Keep other programs from writing to the file."""
    with closing(sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield database


class _BusyError(sqlite3.OperationalError):
    """Another program writes to the file."""

    sqlite_errorcode = sqlite3.SQLITE_BUSY


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in _BUSY:
            raise OutputError(
                f"{path} is being written by another program; close it there, or choose another output"
            ) from error
        raise output_error(path, error) from error


@contextmanager
def locked_copy(path: Path, copy: Path, more_bytes: int) -> Iterator[Callable[[], None]]:
    """Copy a GeoPackage and its permissions; keep other programs from writing to it.

    Yields a check to call just before the copy replaces the file: it ends the lock, and raises OutputError if another
    program changed the file after all. Also OutputError if the disk has no room for the copy and `more_bytes`.
    """
    need, free = path.stat().st_size + more_bytes, free_space_bytes(copy.parent)
    if need > free:
        raise OutputError(
            f"cannot write {path}: a copy of it with the new layer needs {need / 1e9:.3g} GB, but {free / 1e9:.3g} GB "
            "are free; free some space, or choose another output"
        )
    with _explain_errors(path), _locked(path) as database:
        original = _stamp(path)
        # A connection with a write lock cannot copy; a second one can.
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy, isolation_level=None)) as target:
            target.execute("PRAGMA synchronous = OFF")
            source.backup(target, pages=_STEP_PAGES, progress=_check_busy)
            target.execute("PRAGMA journal_mode = DELETE")
        shutil.copymode(path, copy)

        def check_unchanged() -> None:
            database.close()  # Windows cannot replace an open file, and elsewhere an empty -wal would stay next to it
            if _stamp(path) != original:
                raise OutputError(f"{path} was changed by another program meanwhile; run the same command again")

        yield check_unchanged


def remove_layer(path: Path, layer: str) -> None:
    """Remove a feature layer, if it exists, with its index and entries, but nothing that refers to it."""
    with closing(sqlite3.connect(path)) as database, database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        columns = database.execute(
            "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ? COLLATE NOCASE", (layer,)
        ).fetchall() if "gpkg_geometry_columns" in tables else []  # fmt: skip
        for (column,) in columns:
            database.execute(f"DROP TABLE IF EXISTS {_quoted(f'rtree_{layer}_{column}')}")
        # SQLite enforces foreign keys only on request: rows that refer to the layer stay.
        database.execute(f"DROP TABLE IF EXISTS {_quoted(layer)}")
        for table in _LAYER_TABLES:
            if table in tables:
                database.execute(f"DELETE FROM {table} WHERE table_name = ? COLLATE NOCASE", (layer,))  # noqa: S608 - our names


def _quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _check_busy(status: int, _remaining: int, _total: int) -> None:
    """Give Python a chance to see Ctrl-C; sqlite3 would retry a locked file forever."""
    if status in _BUSY:
        raise _BusyError("database is locked")


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


_CREATE_STYLES = """
CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
  f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
  useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
  update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
)"""
"""As QGIS creates it through GDAL (qgsogrproviderutils, saveStyle)."""
_REGISTER_STYLES = """
INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id)
VALUES ('layer_styles', 'attributes', 'layer_styles', '', 0)"""
_INSERT_STYLE = """
INSERT INTO layer_styles
  (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML, styleSLD, useAsDefault,
   description, owner)
VALUES ('', '', ?, ?, ?, ?, '', ?, ?, '')"""
_DELETE_OLD_STYLE = """
DELETE FROM layer_styles
WHERE f_table_name = ? COLLATE NOCASE AND styleName = ? AND (description = ? OR description LIKE ?)"""
_MADE_BY_PATTERN = f"%{MADE_BY}%"
_COUNT_DEFAULTS = "SELECT count(*) FROM layer_styles WHERE f_table_name = ? COLLATE NOCASE AND useAsDefault"
_BLOB_BYTES = 10**9 - 1000
"""SQLite allows a billion bytes per value (https://www.sqlite.org/limits.html), including the geometry's header."""
_SETTINGS = {
    "OGR_SQLITE_SYNCHRONOUS": "OFF",  # the whole file is synced once, before it gets its name
    "OGR_SQLITE_JOURNAL": "OFF",  # a file that failed is discarded
    "OGR_SQLITE_PRAGMA": "page_size=16384",  # a sixth faster than with pages of 4096 bytes
}


def write_geopackage(path: Path, layer: PolygonLayer, tables: Iterable[FeatureTable]) -> None:
    """Write a GeoPackage without a style. Raises OSError, OutputError, and whatever the tables raise."""
    write_gdal(
        path,
        layer,
        tables,
        driver="GPKG",
        dataset_options={"VERSION": "1.3"},  # an older GDAL warns about 1.4, which adds nothing here
        layer_options=_layer_options(layer),
        feature_bytes=_BLOB_BYTES,
        settings=_SETTINGS,
    )


def move_layer(new_file: Path, layer: PolygonLayer, target: Path) -> None:
    """Move the layer of a new GeoPackage into another, replacing one of that name. Raises OSError."""
    remove_layer(target, layer.name)
    copy_gdal(new_file, layer, target, driver="GPKG", layer_options=_layer_options(layer), settings=_SETTINGS)


def _layer_options(layer: PolygonLayer) -> dict[str, str]:
    return {
        "GEOMETRY_NAME": GEOMETRY,
        "IDENTIFIER": layer.name,
        "DESCRIPTION": layer.description,
        "SPATIAL_INDEX": "YES",
    }


def add_style(path: Path, layer: PolygonLayer, style: str | None) -> None:
    """Give the layer a style, None for none, replacing the one from an earlier run.

    A style that someone else gave the layer stays, and stays the default.
    """
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA synchronous = OFF")
        if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'layer_styles'").fetchone():
            database.execute(_DELETE_OLD_STYLE, (layer.name, layer.name[:30], layer.description, _MADE_BY_PATTERN))
        elif style is not None:
            database.execute(_CREATE_STYLES)
            database.execute(_REGISTER_STYLES)
        if style is not None:
            other_defaults = database.execute(_COUNT_DEFAULTS, (layer.name,)).fetchone()[0]
            values = (layer.name, GEOMETRY, layer.name[:30], style, int(other_defaults == 0), layer.description)
            database.execute(_INSERT_STYLE, values)


def categorized_style(layer: PolygonLayer, codes: Collection[int]) -> str | None:
    """Return a QML document with a category for each class of the legend, and for each code that it lacks.

    If these are more than MOST_CATEGORIES, only for the codes; None if the codes alone are more. Categories go by code:
    two classes may share a name.
    """
    listed = {*codes, *(named.code for named in layer.legend)}
    if len(listed) > MOST_CATEGORIES:
        listed = set(codes)
    if len(listed) > MOST_CATEGORIES:
        return None
    root = ET.Element("qgis", version="3.16.0", styleCategories="Symbology|Fields")
    renderer = ET.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr="code", symbollevels="0", enableorderby="0", forceraster="0"
    )
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for number, named in enumerate(layer.legend.completed(listed)):
        value, label = str(named.code), named.name
        ET.SubElement(
            categories, "category", value=value, label=label, symbol=str(number), render="true", type="integer"
        )
        symbols.append(_fill(number, named.color))
    ET.SubElement(root, "blendMode").text = "0"
    ET.SubElement(root, "layerGeometryType").text = "2"
    aliases = ET.SubElement(root, "aliases")
    for index, field in enumerate(("code", "name", *layer.numbers)):
        ET.SubElement(aliases, "alias", index=str(index), field=field, name=_ALIASES[field])
    ET.indent(root)
    return f"{QGIS_DOCTYPE}{ET.tostring(root, encoding='unicode')}\n"


def _fill(number: int, color: tuple[int, int, int]) -> ET.Element:
    symbol = ET.Element("symbol", name=str(number), type="fill", alpha="1", clip_to_extent="1", force_rhr="0")
    fill = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
    rgba = "{},{},{},255".format(*color)
    # A hairline of the same color: without one, the background shows through between neighbors.
    properties = {
        "color": rgba,
        "style": "solid",
        "outline_color": rgba,
        "outline_style": "solid",
        "outline_width": "0.1",
        "outline_width_unit": "MM",
        "joinstyle": "bevel",
    }
    options = ET.SubElement(fill, "Option", type="Map")
    for key, value in properties.items():
        ET.SubElement(options, "Option", name=key, type="QString", value=value)
    for key, value in properties.items():  # QGIS before 3.26 reads these
        ET.SubElement(fill, "prop", k=key, v=value)
    return symbol
