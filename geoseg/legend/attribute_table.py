"""Raster attribute tables: names and colors of classes as ERDAS, ESRI and GDAL keep them.

https://gdal.org/user/raster_data_model.html#raster-attribute-table
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from geoseg.errors import SceneError
from geoseg.legend.legend import Color, Legend

_GENERIC, _NAME, _MIN, _MAX, _MIN_MAX, _RED = 0, 2, 3, 4, 5, 6
"""GDALRATFieldUsage; green and blue follow red."""
_INTEGER, _TEXT = 0, 2
"""GDALRATFieldType."""
_CODE_TITLES = ("value", "code", "gridcode", "grid_code", "pixel_value")
_NAME_TITLES = ("class_names", "class_name", "classname", "class", "name", "label", "land_cover", "landcover")
_COLOR_TITLES = ("red", "green", "blue")
_WRITTEN = (
    ("Value", _INTEGER, _MIN_MAX),
    ("Class", _TEXT, _NAME),
    *((title.capitalize(), _INTEGER, _RED + place) for place, title in enumerate(_COLOR_TITLES)),
)
"""Title, type and usage of the columns that QGIS 3.30, terra and GeoServer look for."""


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of a table."""

    title: str
    usage: int
    values: Sequence[Any]
    is_text: bool


def read_attribute_table(band: ET.Element) -> tuple[dict[int, str], dict[int, Color]]:
    """Return names and colors by code from a band's `<GDALRasterAttributeTable>`; empty where there is none."""
    table = band.find("GDALRasterAttributeTable")
    if table is None:
        return {}, {}
    rows = [[cell.text or "" for cell in row.iter("F")] for row in table.iter("Row")]
    columns = []
    for number, title in enumerate(table.iter("FieldDefn")):
        values = [row[number] if number < len(row) else "" for row in rows]
        is_text = title.findtext("Type") == str(_TEXT)
        columns.append(_Column(title.findtext("Name") or "", int(title.findtext("Usage") or 0), values, is_text))
    binning = float(table.get("Row0Min") or 0), float(table.get("BinSize") or 1)
    return _classes(columns, len(rows), *binning)


def read_dbf_table(path: Path) -> tuple[dict[int, str], dict[int, Color]]:
    """Return names and colors by code from ESRI's `landcover.tif.vat.dbf`. SceneError if it cannot be read."""
    import pyogrio.raw  # noqa: PLC0415 - few maps have such a table

    try:
        meta, _, _, fields = pyogrio.raw.read(path, read_geometry=False)
    except (pyogrio.errors.DataSourceError, ValueError, UnicodeError) as error:
        raise SceneError(f"cannot read the attribute table {path}: {' '.join(str(error).split()):.200}") from error
    columns = [
        _Column(str(title), _GENERIC, values.tolist(), values.dtype == object)
        for title, values in zip(meta["fields"], fields, strict=True)
    ]
    return _classes(columns, len(fields[0]) if len(fields) else 0)


def attribute_table_of(legend: Legend) -> ET.Element:
    """Return the `<GDALRasterAttributeTable>` of a legend."""
    table = ET.Element("GDALRasterAttributeTable", tableType="thematic")
    for number, (title, kind, usage) in enumerate(_WRITTEN):
        column = ET.SubElement(table, "FieldDefn", index=str(number))
        for name, value in (("Name", title), ("Type", str(kind)), ("Usage", str(usage))):
            ET.SubElement(column, name).text = value
    for number, land_cover in enumerate(legend):
        row = ET.SubElement(table, "Row", index=str(number))
        for cell in (land_cover.code, land_cover.name, *land_cover.color):
            ET.SubElement(row, "F").text = str(cell)
    return table


def _classes(
    columns: Sequence[_Column], rows: int, first: float = 0, step: float = 1
) -> tuple[dict[int, str], dict[int, Color]]:
    codes = _codes(columns, rows, first, step)
    names = _column(columns, _NAME, _NAME_TITLES, is_text=True)
    if names is None:
        names = next((column for column in columns if column.is_text), None)
    known = (
        {} if names is None else {code: " ".join(str(names.values[row] or "").split()) for row, code in codes.items()}
    )
    return {code: name for code, name in known.items() if name}, _colors(columns, codes)


def _codes(columns: Sequence[_Column], rows: int, first: float, step: float) -> dict[int, int]:
    """Return the code of each row that is one class: by a column of values, else by its place in the table."""
    low = _column(columns, _MIN_MAX, ()) or _column(columns, _MIN, _CODE_TITLES)
    high = _column(columns, _MAX, ()) or low
    codes = {}
    for row in range(rows):
        lowest, highest = (
            (first + step * row,) * 2
            if low is None or high is None
            else (_number(low.values[row]), _number(high.values[row]))
        )
        if lowest == highest and lowest.is_integer() and abs(lowest) < 2**31:
            codes[row] = int(lowest)
    return codes


def _colors(columns: Sequence[_Column], codes: Mapping[int, int]) -> dict[int, Color]:
    """Return colors by code: levels 0 to 255, or 0 to 1 as ESRI and ERDAS write them."""
    levels = [_column(columns, _RED + place, (title,)) for place, title in enumerate(_COLOR_TITLES)]
    found = [[_number(level.values[row]) for row in codes] for level in levels if level is not None]
    highest = max((value for level in found for value in level if math.isfinite(value)), default=0)
    if len(found) != 3 or highest <= 0:  # all black: ESRI's way to say nothing
        return {}
    scale = 255 if highest <= 1 else 1
    colors = {}
    for code, *levels_of in zip(codes.values(), *found, strict=True):
        if all(math.isfinite(level) and 0 <= level * scale <= 255 for level in levels_of):
            red, green, blue = (round(level * scale) for level in levels_of)
            colors[code] = (red, green, blue)
    return colors


def _column(columns: Sequence[_Column], usage: int, titles: Sequence[str], *, is_text: bool = False) -> _Column | None:
    """Return the column that says it is of this usage, else the first with one of the titles, best title first."""
    for column in columns:
        if column.usage == usage:
            return column
    for title in titles:
        for column in columns:
            if column.title.strip().casefold().replace(" ", "_") == title and column.is_text >= is_text:
                return column
    return None


def _number(cell: object) -> float:
    with suppress(ValueError, TypeError):
        return float(str(cell))
    return math.nan
