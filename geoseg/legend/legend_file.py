"""Legends as people keep them: JSON, CSV, a QGIS style, a color file of GDAL or QGIS."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from geoseg.errors import UsageError
from geoseg.legend.legend import Color, LandCover, Legend, NamedClass, Nomenclature, distinct_color, name_key

_CODES = ("code", "value", "id", "gridcode")
_NAMES = ("name", "class_name", "label", "class", "description")
_COLORS = ("color", "colour", "hex")
_LEVELS = (("red", "r"), ("green", "g"), ("blue", "b"))
_HEX = re.compile(r"#?([0-9a-f]{6})(?:[0-9a-f]{2})?|#([0-9a-f]{3})", re.IGNORECASE)
_THREE = re.compile(
    r"(?:rgba?)?\s*[(\[]?\s*(\d+)[,;\s]+(\d+)[,;\s]+(\d+)(?:[,;\s]+[\d.]+)?\s*[)\]]?", re.IGNORECASE | re.ASCII
)
"""Three levels in one cell, as `255,0,0`, `255 0 0`, `(255, 0, 0)`, `rgb(255,0,0)`; a fourth is how opaque it is."""

GivenLegend = Legend | Nomenclature | Mapping[int, str] | str | os.PathLike[str]
"""A value, names by code, or a file."""


def given_names(legend: GivenLegend | None) -> Nomenclature | None:
    """Return the classes given as a value or as a file, None where none were. UsageError as `read_legend_file`."""
    match legend:
        case None | Nomenclature():
            return legend
        case Legend():
            return Nomenclature.from_legend(legend)
        case Mapping():
            return _nomenclature(_from_rows(dict(legend)), "`legend`")
    return read_legend_file(legend)


def given_legend(legend: GivenLegend) -> Legend:
    """Return a legend given as a value or as a file. UsageError where two of its names are one, or it is none."""
    where = f"`legend`: {os.fspath(legend)}" if isinstance(legend, str | os.PathLike) else "`legend`"
    known = legend if isinstance(legend, Legend) else given_names(legend)
    try:
        found = Legend(tuple(LandCover(named.code, named.name, named.color) for named in known or ()))
    except UsageError as error:
        raise UsageError(f"{where}: {error}", "legend") from None
    by_name: dict[str, LandCover] = {}
    for land_cover in found:
        other = by_name.setdefault(name_key(land_cover.name), land_cover)
        if other is not land_cover:
            raise UsageError(
                f"{where}: {other.name} ({other.code}) and {land_cover.name} ({land_cover.code}) are one name: case, "
                "spaces, _ and - tell no classes apart; rename one, or give both one code",
                "legend",
            )
    return found


def read_legend_file(path: str | os.PathLike[str]) -> Nomenclature:
    """Return the classes in a legend file, by its extension; UsageError with the line where it cannot be right.

    .json: `[{"code": 0, "name": "water", "color": [0, 0, 255]}, ...]` or `{"0": "water", ...}`, or such a list as the
    "classes" of an object. .csv (also with ; or tabs): a heading with code, name and, if any, color or red, green and
    blue; without code (DeepGlobe's
    class_dict.csv) the rows are codes 0, 1, 2. .qml: a QGIS style with a palette. .clr, .txt: `code red green blue
    [alpha] [name]` a line, as GDAL and QGIS write them. A color is `#0000ff`, `"0,0,255"` or `rgb(0,0,255)`; classes
    without one get some.
    """
    file = Path(path)
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise UsageError(
            f"`legend`: {file}: a legend is a file of type {', '.join(_READERS)}, got {file.suffix!r}", "legend"
        )
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"`legend`: {file} cannot be read: {error.strerror or error}", "legend") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"`legend`: {file} is not UTF-8 text: {error.reason} at byte {error.start}", "legend"
        ) from None
    return _nomenclature(reader(text), f"`legend`: {file}")


def _nomenclature(classes: Iterator[NamedClass], where: str) -> Nomenclature:
    try:
        names = Nomenclature(tuple(sorted(classes, key=lambda named: named.code)))
    except UsageError as error:
        raise UsageError(f"{where}: {error}", "legend") from None
    if not names:
        raise UsageError(f"{where}: it holds no class", "legend")
    return names


def _from_json(text: str) -> Iterator[NamedClass]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"line {error.lineno} is not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"it is not JSON: {error}") from None
    yield from _from_rows(rows)


def _from_rows(rows: Any) -> Iterator[NamedClass]:  # noqa: ANN401 - whatever JSON may hold
    if isinstance(rows, dict) and isinstance(rows.get("classes"), list):
        rows = rows["classes"]
    elif isinstance(rows, dict):
        rows = [{"code": code, **(row if isinstance(row, dict) else {"name": row})} for code, row in rows.items()]
    if not isinstance(rows, list):
        raise UsageError(f"it should hold a list of classes, got {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise UsageError(f'class {number} should be like {{"code": 0, "name": "water"}}, got {row!r:.80}')
        color = row.get("color")
        levels = [str(level) for level in color] if isinstance(color, list | tuple) else str(color or "")
        yield _named(f"class {number}", str(row.get("code")), row["name"], levels)


def _from_csv(text: str) -> Iterator[NamedClass]:
    lines = text.splitlines()
    heading = lines[0] if lines else ""
    delimiter = max(",;\t", key=heading.count)
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        titles = [title.strip().casefold() for title in next(rows, [])]
        name = _title(titles, _NAMES)
        if name is None:
            raise UsageError(f"line 1 should be a heading such as code,name,color, got {heading!r:.80}")
        code = _title(titles, _CODES)
        places = [_title(titles, names) for names in _LEVELS]
        hexes = _title(titles, _COLORS)
        filled = (row for row in rows if any(cell.strip() for cell in row))
        for number, row in enumerate(filled):
            cells = dict(enumerate(row))
            levels = [cells.get(place, "") for place in places if place is not None]
            color = levels if len(levels) == 3 and any(levels) else cells.get(hexes, "") if hexes is not None else ""
            yield _named(
                f"line {rows.line_num}",
                str(number) if code is None else cells.get(code, ""),
                cells.get(name, ""),
                color,
            )
    except csv.Error as error:
        raise UsageError(f"line {rows.line_num} is not CSV: {error}") from None


def _from_qml(text: str) -> Iterator[NamedClass]:
    try:
        root = ET.fromstring(text)  # noqa: S314 - expat refuses what grows without bound
    except ET.ParseError as error:
        raise UsageError(f"line {error.position[0]} is not XML: {error}") from None
    entries = [*root.iter("paletteEntry")]
    if not entries:
        raise UsageError("it has no palette; in QGIS style the raster by paletted/unique values and save that style")
    for number, entry in enumerate(entries, start=1):
        code = entry.get("value", "")
        yield _named(f"palette entry {number}", code, entry.get("label") or f"class {code}", entry.get("color", ""))


def _from_colors(text: str) -> Iterator[NamedClass]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith(("#", "INTERPOLATION", "nv")):
            continue
        cells = [cell for cell in re.split(r"\s*[,;:\t]\s*|\s+", line.strip(), maxsplit=4) if cell]
        if len(cells) < 4:
            raise UsageError(f"line {number} should be: code red green blue [alpha] [name], got {line!r:.80}")
        rest = re.fullmatch(r"(?:\d{1,3}(?:[\s,;:]+|$))?(.*)", cells[4] if len(cells) > 4 else "")
        name = rest[1].strip() if rest else ""
        yield _named(f"line {number}", cells[0], name or f"class {cells[0]}", cells[1:4])


def color_palette(legend: Legend) -> ET.Element:
    """Return the palette of a QGIS style with exactly these classes."""
    palette = ET.Element("colorPalette")
    for land_cover in legend:
        color = f"#{bytes(land_cover.color).hex()}"
        ET.SubElement(
            palette, "paletteEntry", value=str(land_cover.code), color=color, alpha="255", label=land_cover.name
        )
    return palette


def _named(where: str, code: str, name: str, color: str | list[str]) -> NamedClass:
    """Return a class from text; an empty color is one of our choice. UsageError that says where."""
    number = re.fullmatch(r"\s*([-+]?\d+)(?:\.0*)?\s*", code, re.ASCII)
    if number is None:
        raise UsageError(f"{where}: the code should be a whole number, got {code!r:.40}")
    try:
        return NamedClass(int(number[1]), " ".join(name.split()), _color(color) or distinct_color(int(number[1])))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _color(color: str | list[str]) -> Color | None:
    if isinstance(color, str):
        if not color.strip():
            return None
        digits, three = _HEX.fullmatch(color.strip()), _THREE.fullmatch(color.strip())
        hexes = "" if digits is None else digits[1] or "".join(digit * 2 for digit in digits[2])
        levels = [*bytes.fromhex(hexes)] if hexes else [int(level) for level in three.groups()] if three else []
    else:
        levels = [int(level) for level in color if re.fullmatch(r"\s*\d{1,3}\s*", level, re.ASCII)]
    if len(levels) != 3:
        raise UsageError(f'a color is #rrggbb or three levels from 0 to 255 as "255,0,0", got {color!r:.60}')
    return levels[0], levels[1], levels[2]


def _title(titles: list[str], wanted: tuple[str, ...]) -> int | None:
    return next((titles.index(title) for title in wanted if title in titles), None)


_READERS: Mapping[str, Callable[[str], Iterator[NamedClass]]] = {
    ".json": _from_json,
    ".csv": _from_csv,
    ".qml": _from_qml,
    ".clr": _from_colors,
    ".txt": _from_colors,
}
