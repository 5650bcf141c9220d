"""The layers of a source of features: the path given to GDAL, the layers it finds, and the choice among them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyogrio
import shapely

from geoseg.errors import UsageError, numbered
from geoseg.raster import is_remote

Kind = Literal["polygons", "points"]
Layers = tuple[str, ...]
LayerChoice = str | int | Sequence[str] | None
"""Layers of a source of features: a name, a number, several names, or "all"; None for the only one."""
GEOMETRY_READERS = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.CRSError)
"""Errors that pyogrio raises if GDAL rejects a source."""

FEATURE_ENDS = (
    *(".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".geoparquet", ".kml", ".kmz", ".gml", ".sqlite"),
    *(".geojsonl", ".geojsons", ".geojsonseq", ".geojsonl.gz", ".geojson.gz", ".tab", ".mif", ".shz", ".gdb"),
)
"""Extensions to look for in a folder of labels; a source given by name is identified by its readers."""
_ALL = "all"
LAYER_HINT = f'name one with `layer`, several with commas, or use "{_ALL}"'
"""How to name a layer, for a verb with the parameter `layer`."""
_FOLDERS = ("LIBKML", "KML")
"""Drivers whose layers are the folders of one document; a note says that all are read."""
_OTHERS = {
    "polygons": re.compile(r"Point|LineString|^Curve(?!Polygon)|MultiCurve|CompoundCurve|CircularString"),
    "points": re.compile(r"Polygon|LineString|Curve|CircularString|Surface|TIN|Triangle"),
}
"""Declared types of layers without geometries of a kind; CurvePolygon counts as polygons."""
_MIXED = re.compile(r"Unknown|Geometry")
_TYPES = {"polygons": (3, 6), "points": (0, 4)}
"""Shapely's type numbers."""
_COLLECTION = 7

_FOLDERS_OF_FILES = ("ESRI Shapefile", "MapInfo File", "CSV", "OGR_GMT", "Selafin")
"""Drivers that treat any folder of their files as a data set; others have their own kind of folder (.gdb)."""
_CONNECTION = re.compile(r"\w{2,}:(?!\\)", re.ASCII)
"""`PG:dbname=...`, `https://...`; a Windows drive has one letter."""
_PARQUET, _GZIP = b"PAR1", b"\x1f\x8b"
_IN_ARCHIVE = (".shp", ".gpkg", ".geojson", ".gml", ".kml", ".fgb", ".tab", ".mif", ".json", ".gdb")


def listed_layers(name: str) -> list[tuple[str, str | None]]:
    """Return the layers of a source, with their declared geometry; empty if GDAL reads no features from it."""
    try:
        return [(str(layer), kind) for layer, kind in pyogrio.list_layers(name)]
    except GEOMETRY_READERS:
        return []


def choose_layers(name: str, label: str, kind: Kind, requested: LayerChoice, hint: str) -> Layers:
    """Return the requested layers, or the only one with geometries of a kind; for KML all folders that have some.

    UsageError, with a list of the layers, if there are several and none is named, or if a named one does not exist.
    `label` is the source's name in messages, and `hint` says how to name a layer.
    """
    layers = [(str(layer), declared) for layer, declared in pyogrio.list_layers(name)]
    names = [layer for layer, _ in layers]
    if requested in names or (requested is not None and requested != _ALL):
        return _requested_layers(names, label, requested)
    candidates = [(layer, declared) for layer, declared in layers if declared and not _OTHERS[kind].search(declared)]
    matching = [layer for layer, declared in candidates if len(candidates) == 1 or _holds(name, layer, declared, kind)]
    if len(matching) > 1 and requested is None and pyogrio.read_info(name, layer=matching[0])["driver"] not in _FOLDERS:
        raise UsageError(f"{label} has {len(matching)} layers of {kind}: {', '.join(matching)}; {hint}", "layer")
    if matching:
        return tuple(matching)
    placed = [layer for layer, declared in layers if declared]
    return tuple((placed or names)[:1])  # reading it fails, and the error says what it holds


def _requested_layers(names: list[str], label: str, requested: LayerChoice) -> Layers:
    if isinstance(requested, int):
        if not 0 <= requested < len(names):
            count = numbered(len(names), "layer")
            raise UsageError(f"{label} has {count}, numbered from 0, got {requested}; choose one of them", "layer")
        return (names[requested],)
    words = [requested] if isinstance(requested, str) else [str(word) for word in requested or ()]
    if len(words) == 1 and words[0] not in names:
        words = [word.strip() for word in words[0].split(",")]
    for word in words:
        if word not in names:
            raise UsageError(f"{label} has no layer {word!r}, it has {', '.join(names)}; choose one of them", "layer")
    return tuple(words)


def _holds(name: str, layer: str, declared: str, kind: Kind) -> bool:
    """Return whether a layer has geometries of a kind: KML, DXF and MapInfo declare none, and folders may be empty."""
    if not _MIXED.search(declared):
        return bool(pyogrio.read_info(name, layer=layer)["features"])
    _, _, wkb, _ = pyogrio.raw.read(name, layer, columns=[], force_2d=True)
    if wkb is None or not len(wkb):
        return False
    geometries = shapely.from_wkb(wkb, on_invalid="ignore")
    types = set(shapely.get_type_id(geometries).tolist())
    while _COLLECTION in types:
        geometries = shapely.get_parts(geometries)
        types = set(shapely.get_type_id(geometries).tolist())
    return bool(types & set(_TYPES[kind]))


def is_data_folder(path: Path) -> bool:
    """Return whether a folder is one data set of features (.gdb), not just a folder that contains such files."""
    if not path.is_dir():
        return False
    layers = listed_layers(str(path))
    if not layers:
        return path.suffix.casefold() == ".gdb"
    return pyogrio.read_info(str(path), layer=layers[0][0]).get("driver") not in _FOLDERS_OF_FILES


def is_connection(path: str) -> bool:
    """Return whether a source is a URL or a database connection, not a file."""
    return _CONNECTION.match(path) is not None


def _starts_with(path: str, letters: bytes) -> bool:
    try:
        with Path(path).open("rb") as file:
            return file.read(len(letters)) == letters
    except (OSError, ValueError):
        return False


def is_parquet(path: str) -> bool:
    """Return whether a source is a Parquet file, or a folder with only Parquet files."""
    if not Path(path).is_dir():
        return _starts_with(path, _PARQUET) or (is_remote(path) and path.lower().endswith((".parquet", ".geoparquet")))
    parts = [file for file in Path(path).rglob("*") if file.is_file() and not file.name.startswith(("_", "."))]
    return bool(parts) and all(_starts_with(str(part), _PARQUET) for part in parts)


def gdal_name(path: str) -> str:
    """Return the path for GDAL: compressed files, folders in archives, and what pyogrio would alter need a prefix."""
    if _starts_with(path, _GZIP):
        return f"/vsigzip/{path}"
    is_cut = "!" in path or ";" in Path(path).name  # by pyogrio
    if path.lower().endswith(".zip") and Path(path).is_file():
        return path if not is_cut and listed_layers(path) else _in_archive(path) or path
    if is_cut and Path(path).is_file():
        return f"/vsisubfile/0,{Path(path).absolute()}"
    return path


def _in_archive(path: str) -> str | None:
    """Return the folder or file inside an archive that holds features below the top level."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if not name.startswith("__MACOSX")]
    except (OSError, zipfile.BadZipFile):
        return None
    matching = [name for name in members if name.lower().rstrip("/").endswith(_IN_ARCHIVE)]
    folders = {name.rstrip("/").rpartition("/")[0] for name in matching if name.lower().endswith(".shp")}
    names = [*sorted(folders), *matching]
    return next((full for name in names if listed_layers(full := f"/vsizip/{path}/{name}".rstrip("/"))), None)
