"""The colours of a GeoPackage's own style."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as ET

RGB = tuple[int, int, int]
_STYLE = """
SELECT styleQML FROM layer_styles WHERE ?1 IS NULL OR f_table_name = ?1 COLLATE NOCASE ORDER BY useAsDefault DESC, id"""


def style_colors(path: Path, layer: str | None = None) -> dict[str, RGB]:
    """Return the fill of each class name in the default QGIS style of a GeoPackage's layer; empty if there is none."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute(_STYLE, (layer,)).fetchone()
        return {} if row is None else _fills(ET.fromstring(row[0]))  # noqa: S314 - no more trusted than the polygons
    except (sqlite3.Error, ET.ParseError, ValueError, TypeError):
        return {}  # somebody else's style, or none: then colours are chosen


def _fills(root: ET.Element) -> dict[str, RGB]:
    by_symbol = {
        symbol.get("name"): _rgb(option.get("value", ""))
        for symbol in root.iterfind(".//symbol")
        for option in symbol.iterfind(".//Option[@name='color']")
    }
    categories = root.iterfind(".//category")
    return {entry.get("label", ""): color for entry in categories if (color := by_symbol.get(entry.get("symbol")))}


def _rgb(text: str) -> RGB:
    red, green, blue = (int(level) for level in text.split(",")[:3])
    return red, green, blue
