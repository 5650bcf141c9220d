"""Which layers of a source of features are meant, where it has several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import pyogrio
import shapely

from geoseg.errors import UsageError

Kind = Literal["polygons", "points"]
Wanted = str | int | Sequence[str] | None
"""The name of a layer, its number, several names, or "all"; None for the only one."""
Layers = tuple[str, ...]
GEOMETRY_READERS = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.CRSError)
"""What pyogrio raises when GDAL refuses a source."""

_ALL = "all"
_FOLDERS = ("LIBKML", "KML")
"""Drivers whose layers are the folders of one document; who reads them says that all are read."""
_OTHERS = {
    "polygons": re.compile(r"Point|LineString|^Curve|MultiCurve|CompoundCurve|CircularString"),
    "points": re.compile(r"Polygon|LineString|Curve|CircularString|Surface|TIN|Triangle"),
}
"""Declared types of layers that hold no geometry of a kind; CurvePolygon is one of polygons."""
_CURVE_POLYGON = re.compile(r"CurvePolygon")
_MIXED = re.compile(r"Unknown|Geometry")
_TYPES = {"polygons": (3, 6), "points": (0, 4)}
"""Of shapely."""
_COLLECTION = 7


def listed_layers(name: str) -> list[tuple[str, str | None]]:
    """Return the layers of what GDAL is given, with their declared geometry; none where GDAL reads no features."""
    try:
        return [(str(layer), kind) for layer, kind in pyogrio.list_layers(name)]
    except GEOMETRY_READERS:
        return []


def choose_layers(name: str, called: str, kind: Kind, wanted: Wanted) -> Layers:
    """Return the layers asked for, or the only one with geometries of a kind; of KML all folders that have some.

    UsageError where there are several and none is named, or one that is named is not there; it lists them.
    """
    known = [(str(layer), declared) for layer, declared in pyogrio.list_layers(name)]
    names = [layer for layer, _ in known]
    if wanted in names or (wanted is not None and wanted != _ALL):
        return _named(names, called, wanted)
    may = [(layer, declared) for layer, declared in known if declared and not _is_other(declared, kind)]
    found = [layer for layer, declared in may if len(may) == 1 or _holds(name, layer, declared, kind)]
    if len(found) > 1 and wanted is None and pyogrio.read_info(name, layer=found[0])["driver"] not in _FOLDERS:
        raise UsageError(
            f"{called} has {len(found)} layers of {kind}: {', '.join(found)}; name one with layer, several with "
            f'commas, or take "{_ALL}"'
        )
    if found:
        return tuple(found)
    placed = [layer for layer, declared in known if declared]
    return tuple((placed or names)[:1])  # which reading it refuses, with what it holds


def _named(names: list[str], called: str, wanted: Wanted) -> Layers:
    if isinstance(wanted, int):
        if wanted >= len(names):
            raise UsageError(f"{called} has {len(names)} layers, numbered from 0, got {wanted}")
        return (names[wanted],)
    words = [wanted] if isinstance(wanted, str) else [str(word) for word in wanted or ()]
    if len(words) == 1 and words[0] not in names:
        words = [word.strip() for word in words[0].split(",")]
    for word in words:
        if word not in names:
            raise UsageError(f"{called} has no layer {word!r}, it has {', '.join(names)}; give one of them")
    return tuple(words)


def _is_other(declared: str, kind: Kind) -> bool:
    if kind == "polygons" and _CURVE_POLYGON.search(declared):
        return False
    return _OTHERS[kind].search(declared) is not None


def _holds(name: str, layer: str, declared: str, kind: Kind) -> bool:
    """Say whether a layer has a geometry of a kind: KML, DXF and MapInfo declare none, and folders may be empty."""
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
