"""Legend files: JSON, CSV, a style of QGIS or GeoServer, a color file of GDAL or QGIS, a raster attribute table.

Attribute tables are those of GDAL, and ESRI's in a `.vat.dbf` next to a raster:
https://gdal.org/user/raster_data_model.html#raster-attribute-table
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from geoseg.errors import SceneError, UsageError, one_line
from geoseg.given import delimiter_in, text_in, unique_keys
from geoseg.legend.legend import Color, LandCover, Legend, NamedClass, Nomenclature, distinct_color, name_key

_CODES = ("code", "value", "id", "gridcode", "grid_code", "pixel_value", "class_id", "class_code", "dn")
_NAMES = ("name", "class_name", "classname", "label", "class", "label3", "title", "description")
_COLORS = ("color", "colour", "hex", "rgb", "color_hint")
_LISTS = ("classes", "categories", "classification:classes", "id2label", "names")
"""Names of the classes in an object: ours, ArcGIS's, COCO's, STAC's, models' of Hugging Face and Ultralytics."""
_LEVELS = (("red", "r"), ("green", "g"), ("blue", "b"))
_HEX = re.compile(r"#?([0-9a-f]{6})(?:[0-9a-f]{2})?|#([0-9a-f]{3})", re.IGNORECASE)
_THREE = re.compile(
    r"(?:rgba?)?\s*[(\[]?\s*(\d+)[,;\s-]+(\d+)[,;\s-]+(\d+)(?:[,;\s]+[\d.]+)?\s*[)\]]?", re.IGNORECASE | re.ASCII
)
"""Three levels in one cell: `255,0,0`, `255-000-000`, `(255, 0, 0)`, `rgb(255,0,0)`; a fourth is the opacity."""

_COLORED = re.compile(r"[-+]?\d+(?:[\s,;:]+\d{1,3}){3}(?![^\s,;:])", re.ASCII)
"""A line of a color file: a code and three levels."""
_NUMBERED = re.compile(r"([-+]?\d+)(?:\s*[:=,;.)]\s*|\s+)(?!\d+(?:[\s,;:]|$))(\S.*)", re.ASCII)
"""A line with a code and a name."""
_NUMBERS = re.compile(r"[-+]?\d+[\s,;:]+\d+(?:[\s,;:]|$)")
"""A line with a code and too few levels."""
_NO_CODES = (
    "alpha", "a", "opacity", "count", "pixels", "size", "total", "area", "order", "share", "percent", "hotkey",
)  # fmt: skip
"""Titles of columns whose numbers are surely no codes."""
_LABELMAP = re.compile(r"([^:]+):(\d+,\d+,\d+):[^:]*:[^:]*", re.ASCII)
"""A line of CVAT's labelmap.txt: a name, a color, parts and actions."""
_LETTER = re.compile(r"[^\W\d_]")

GivenLegend = Legend | Nomenclature | Mapping[int, str] | str | os.PathLike[str]
"""A value, names by code, or a file."""
_GENERIC, _NAME, _MIN, _MAX, _MIN_MAX, _RED = 0, 2, 3, 4, 5, 6
"""GDALRATFieldUsage; green and blue follow red."""
_INTEGER, _TEXT = 0, 2
"""GDALRATFieldType."""
_CODE_TITLES = ("value", "code", "gridcode", "grid_code", "pixel_value")
_NAME_TITLES = (
    *("class_names", "class_name", "classname", "class", "name", "label", "land_cover", "landcover"),
    *("land_cover_class", "nlcd_land_cover_class", "label3"),
)
"""The last ones are from NLCD and CORINE."""
_COLOR_TITLES = ("red", "green", "blue")
_MAX_CODE = 65535
"""Larger numbers in a table without codes are counts or areas."""
_WRITTEN = (
    ("Value", _INTEGER, _MIN_MAX),
    ("Class", _TEXT, _NAME),
    *((title.capitalize(), _INTEGER, _RED + place) for place, title in enumerate(_COLOR_TITLES)),
)
"""Title, type and usage of the columns that QGIS 3.30, terra and GeoServer look for."""


def given_names(legend: GivenLegend | None) -> Nomenclature | None:
    """Return the classes given as a value or a file; None if none are given. UsageError as in `read_legend_file`."""
    match legend:
        case None | Nomenclature():
            return legend
        case Legend():
            return Nomenclature.from_legend(legend)
        case Mapping():
            return _nomenclature(_from_rows(dict(legend)), "`legend`")
    return read_legend_file(legend)


def given_legend(legend: GivenLegend) -> Legend:
    """Return a legend given as a value or a file. UsageError if it is invalid, or two of its names are the same."""
    where = f"`legend`: {os.fspath(legend)}" if isinstance(legend, str | os.PathLike) else "`legend`"
    classes = legend if isinstance(legend, Legend) else given_names(legend)
    try:
        result = Legend(tuple(LandCover(named.code, named.name, named.color) for named in classes or ()))
    except UsageError as error:
        raise UsageError(f"{where}: {error}", "legend") from None
    by_name: dict[str, LandCover] = {}
    for land_cover in result:
        other = by_name.setdefault(name_key(land_cover.name), land_cover)
        if other is not land_cover:
            raise UsageError(
                f"{where}: {other.name} ({other.code}) and {land_cover.name} ({land_cover.code}) have the same "
                "name but for case, spaces, _ and -; rename one, or give both the same code",
                "legend",
            )
    return result


def legend_in_order(path: str | os.PathLike[str]) -> tuple[Legend, tuple[int, ...]]:
    """Return the legend of a file, and its codes: in the order of the file if it is JSON, else ascending."""
    legend, file = given_legend(path), Path(path)
    in_order = (named.code for named in _from_json(text_in(file))) if file.suffix.lower() == ".json" else legend.codes
    return legend, tuple(in_order)


def read_legend_file(path: str | os.PathLike[str]) -> Nomenclature:
    """Return the classes in a legend file, read by its extension; UsageError, with the line, if it is invalid.

    .json: `[{"code": 0, "name": "water", "color": [0, 0, 255]}, ...]` or `{"0": "water", ...}`, `{"water": 0,
    ...}`, `["water", ...]`, or such a list as the "classes" of an object; keys of STAC, COCO and ArcGIS (.emd) will do.
    .csv (also with ; or tabs): a heading with code, name and optionally color or red, green and blue; without code
    (DeepGlobe's class_dict.csv) the rows are codes 0, 1, 2. .qml: a QGIS style with a palette. .sld: a style of
    GeoServer. .clr, .txt: `code red green blue [alpha] [name]` per line, as written by GDAL and QGIS; .txt also
    `code name`, only names, for codes 0, 1, 2, or CVAT's labelmap. A color is `#0000ff`, `"0,0,255"` or
    `rgb(0,0,255)`; classes without a color get a distinct one.
    """
    file = Path(path)
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        style = file.parent / f"{file.stem}.qml"
        hint = f"; the classes of this map are in {style.name} beside it" if style.is_file() else ""
        raise UsageError(
            f"`legend`: {file}: a legend file must end in {', '.join(_READERS)}, got {file.suffix!r}{hint}", "legend"
        )
    try:
        text = text_in(file)
    except ValueError as error:
        raise UsageError(f"`legend`: {file} {error}", "legend") from None
    return _nomenclature(reader(text), f"`legend`: {file}")


def _nomenclature(classes: Iterator[NamedClass], where: str) -> Nomenclature:
    try:
        names = Nomenclature(tuple(sorted(classes, key=lambda named: named.code)))
    except UsageError as error:
        raise UsageError(f"{where}: {error}", "legend") from None
    if not names:
        raise UsageError(f"{where}: it holds no classes", "legend")
    return names


def _from_json(text: str) -> Iterator[NamedClass]:
    try:
        rows = json.loads(text, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise UsageError(f"line {error.lineno} is not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"it is not valid JSON: {error}") from None
    yield from _from_rows(rows)


def _from_rows(rows: Any) -> Iterator[NamedClass]:  # noqa: ANN401 - anything JSON can hold
    if isinstance(rows, dict):
        lists = {str(name).casefold(): each for name, each in rows.items() if isinstance(each, list | dict)}
        rows = next((lists[name] for name in _LISTS if name in lists), rows)
    if isinstance(rows, dict) and rows and all(type(row) is int and not _is_code(name) for name, row in rows.items()):
        rows = [{"code": code, "name": name} for name, code in rows.items()]
    elif isinstance(rows, dict):
        rows = [{"code": code, **(row if isinstance(row, dict) else {"name": row})} for code, row in rows.items()]
    if isinstance(rows, list) and rows and all(isinstance(row, str) for row in rows):
        rows = [{"code": code, "name": name} for code, name in enumerate(rows)]
    if not isinstance(rows, list):
        raise UsageError(f"it should hold a list of classes, got {type(rows).__name__}")
    cells = [{str(key).casefold(): each for key, each in row.items()} if isinstance(row, dict) else {} for row in rows]
    has_codes = any({*_CODES} & fields.keys() for fields in cells)  # Supervisely's classes have none
    if not has_codes:
        _check_keys(cells)
    for number, (row, fields) in enumerate(zip(rows, cells, strict=True), start=1):
        code, name, color = (next((fields[k] for k in keys if k in fields), None) for keys in (_CODES, _NAMES, _COLORS))
        if not isinstance(name, str):
            raise UsageError(f'class {number} should be like {{"code": 0, "name": "water"}}, got {row!r:.80}')
        code = code if has_codes else number - 1
        levels = [str(level) for level in color] if isinstance(color, list | tuple) else str(color or "")
        yield _named(f"class {number}", str(code), name, levels)


def _check_keys(classes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse classes that would be numbered from 0 although another key may hold their codes."""
    titles = [*dict.fromkeys(key for fields in classes for key in fields)]
    known = {*_COLORS, *(key for keys in _LEVELS for key in keys)}
    known |= {next((key for key in _NAMES if key in fields), "") for fields in classes}
    rows = [[str(fields.get(title, "")) for title in titles] for fields in classes]
    used: set[int | None] = {column for column, title in enumerate(titles) if title in known}
    _check_numbered(titles, rows, used, "no class has a key")


def _is_code(name: object) -> bool:
    return re.fullmatch(r"\s*[-+]?\d+\s*", str(name)) is not None


def _may_be_code(cell: str) -> bool:
    number = _number(cell)
    return number.is_integer() and 0 <= number <= _MAX_CODE


def _from_csv(text: str) -> Iterator[NamedClass]:
    heading = next(iter(text.splitlines()), "")
    lines = StringIO(text, newline="")  # a cell may hold several lines
    rows = csv.reader(lines, delimiter=delimiter_in(heading), skipinitialspace=True, strict=True)
    try:
        titles = [title.strip().casefold().replace(" ", "_") for title in next(rows, [])]
        name = _title(titles, _NAMES)
        if name is None:
            raise UsageError(f"line 1 should be a heading such as code,name,color, got {heading!r:.80}")
        code = _title(titles, _CODES)
        level_columns = [_title(titles, names) for names in _LEVELS]
        color_column = _title(titles, _COLORS)
        filled = [(rows.line_num, row) for row in rows if any(cell.strip() for cell in row)]
        if code is None:
            used = {name, *level_columns, color_column}
            _check_numbered(titles, [row for _, row in filled], used, "line 1 has no column")
        for number, (line, row) in enumerate(filled):
            cells = dict(enumerate(row))
            levels = [cells.get(column, "") for column in level_columns if column is not None]
            color_cell = "" if color_column is None else cells.get(color_column, "")
            color = levels if len(levels) == 3 and any(levels) else color_cell
            yield _named(
                f"line {line}",
                str(number) if code is None else cells.get(code, ""),
                cells.get(name, ""),
                color,
            )
    except csv.Error as error:
        raise UsageError(f"line {rows.line_num} is not CSV: {error}") from None


def _check_numbered(titles: Sequence[str], rows: Sequence[Sequence[str]], used: set[int | None], lack: str) -> None:
    """Refuse rows that would be numbered from 0 although another column may hold their codes: each once."""
    for column, title in enumerate(titles):
        cells = [row[column].strip() for row in rows if column < len(row)]
        is_free = column not in used and title not in _NO_CODES and cells != [str(row) for row in range(len(rows))]
        is_unique = len(rows) > 1 and len({*cells}) == len(rows)
        if is_free and is_unique and all(map(_may_be_code, cells)):
            raise UsageError(
                f"{lack} called code, but {title!r:.40} may hold the codes; rename it to code, or remove it if the "
                "rows are the codes 0, 1, 2"
            )


def _from_qgis_style(text: str) -> Iterator[NamedClass]:
    style = _xml(text)
    exact = style.findall(".//colorrampshader[@colorRampType='EXACT']/item")
    entries = style.findall(".//paletteEntry") or exact
    if not entries:
        raise UsageError("it has no palette; in QGIS, style the raster with paletted/unique values and save that style")
    for number, entry in enumerate(entries, start=1):
        yield _styled(f"palette entry {number}", entry, entry.get("value", ""))


def _from_geoserver_style(text: str) -> Iterator[NamedClass]:
    maps = _xml(text).findall(".//{*}ColorMap")
    if not maps:
        raise UsageError('it has no ColorMap; a class is a ColorMapEntry in a ColorMap of type="values"')
    for colors in maps:
        kind = colors.get("type", "ramp")  # GeoServer's default
        if kind != "values":
            raise UsageError(
                f'the type of its ColorMap is "{kind:.20}", so its colors are those of ranges; if each entry is a '
                'class, make it <ColorMap type="values">'
            )
        for number, entry in enumerate(colors.findall("{*}ColorMapEntry"), start=1):
            if _number(entry.get("opacity")) != 0:  # nodata
                yield _styled(f"ColorMapEntry {number}", entry, entry.get("quantity", ""))


def _xml(text: str) -> ET.Element:
    try:
        return ET.fromstring(text)  # noqa: S314 - expat refuses entities that grow without bound
    except ET.ParseError as error:
        raise UsageError(f"line {error.position[0]} is not XML: {error}") from None


def _styled(where: str, entry: ET.Element, code: str) -> NamedClass:
    return _named(where, code, entry.get("label") or f"class {code.partition('.')[0].strip()}", entry.get("color", ""))


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


def _from_text(text: str) -> Iterator[NamedClass]:
    """Yield the classes of a color file, else of lines with a code and a name, else of names numbered from 0."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if any(_COLORED.match(line) for _, line in lines):
        yield from _from_colors(text)
        return
    mapped = [_LABELMAP.fullmatch(line) for _, line in lines]
    if mapped and all(mapped):
        yield from (
            _named(f"line {lines[i][0]}", str(i), match[1], match[2]) for i, match in enumerate(mapped) if match
        )
        return
    numbered = [_NUMBERED.fullmatch(line) for _, line in lines]
    for index, ((number, line), match) in enumerate(zip(lines, numbered, strict=True)):
        is_name = _LETTER.search(line) and not _NUMBERS.match(line)
        if not is_name or (match is None and any(numbered)):
            raise UsageError(
                f"line {number} should be: name, code name, or code red green blue [alpha] [name], like the other "
                f"lines; got {line!r:.80}"
            )
        yield _named(f"line {number}", match[1] if match else str(index), match[2] if match else line, "")


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
    """Return a class from text; for an empty color, a distinct one is chosen. UsageError names the place."""
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
        is_color = len(color) in (3, 4) and all(math.isfinite(_number(level)) for level in color)  # the last: opacity
        levels = [int(level) for level in color[:3] if is_color and re.fullmatch(r"\s*\d{1,3}\s*", level, re.ASCII)]
    if len(levels) not in (3, 4):
        raise UsageError(
            f'a color should be #rrggbb, or three levels from 0 to 255 such as "255,0,0", got {color!r:.60}'
        )
    return levels[0], levels[1], levels[2]


def _title(titles: list[str], candidates: tuple[str, ...]) -> int | None:
    return next((titles.index(title) for title in candidates if title in titles), None)


_READERS: Mapping[str, Callable[[str], Iterator[NamedClass]]] = {
    ".json": _from_json,
    ".csv": _from_csv,
    ".qml": _from_qgis_style,
    ".sld": _from_geoserver_style,
    ".clr": _from_colors,
    ".txt": _from_text,
    ".emd": _from_json,
}


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of a table."""

    title: str
    usage: int
    values: Sequence[Any]
    is_text: bool


def read_attribute_table(band: ET.Element) -> tuple[dict[int, str], dict[int, Color]]:
    """Return names and colors by code from a band's `<GDALRasterAttributeTable>`; empty if there is none."""
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
    return _classes_of_table(columns, len(rows), *binning)


def read_dbf_table(path: Path) -> tuple[dict[int, str], dict[int, Color]]:
    """Return names and colors by code from ESRI's `landcover.tif.vat.dbf`. SceneError if it cannot be read."""
    import pyogrio.raw  # noqa: PLC0415 - few maps have such a table

    try:
        meta, _, _, fields = pyogrio.raw.read(path, read_geometry=False)
    except (pyogrio.errors.DataSourceError, ValueError, UnicodeError) as error:
        raise SceneError(f"cannot read the attribute table {path}: {one_line(error, 200)}") from error
    columns = [
        _Column(str(title), _GENERIC, values.tolist(), values.dtype == object)
        for title, values in zip(meta["fields"], fields, strict=True)
    ]
    return _classes_of_table(columns, len(fields[0]) if len(fields) else 0)


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


def _classes_of_table(
    columns: Sequence[_Column], rows: int, first: float = 0, step: float = 1
) -> tuple[dict[int, str], dict[int, Color]]:
    codes = _codes_of_table(columns, rows, first, step)
    names = _column(columns, _NAME, _NAME_TITLES, is_text=True)
    if names is None:
        names = next((column for column in columns if column.is_text), None)
    names_by_code = (
        {} if names is None else {code: " ".join(str(names.values[row] or "").split()) for row, code in codes.items()}
    )
    return {code: name for code, name in names_by_code.items() if name}, _colors_of_table(columns, codes)


def _codes_of_table(columns: Sequence[_Column], rows: int, first: float, step: float) -> dict[int, int]:
    """Return the code of each row that is a single class: from a column of values, else from its place in the table."""
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


def _colors_of_table(columns: Sequence[_Column], codes: Mapping[int, int]) -> dict[int, Color]:
    """Return colors by code: levels 0 to 255, or 0 to 1 as ESRI and ERDAS write them."""
    levels = [_column(columns, _RED + index, (title,)) for index, title in enumerate(_COLOR_TITLES)]
    level_values = [[_number(level.values[row]) for row in codes] for level in levels if level is not None]
    highest = max((value for level in level_values for value in level if math.isfinite(value)), default=0)
    if len(level_values) != 3 or highest <= 0:  # all black: ESRI writes it for no colors
        return {}
    scale = 255 if highest <= 1 else 1
    colors = {}
    for code, *levels_of in zip(codes.values(), *level_values, strict=True):
        if all(math.isfinite(level) and 0 <= level * scale <= 255 for level in levels_of):
            red, green, blue = (round(level * scale) for level in levels_of)
            colors[code] = (red, green, blue)
    return colors


def _column(columns: Sequence[_Column], usage: int, titles: Sequence[str], *, is_text: bool = False) -> _Column | None:
    """Return the column declared with this usage, else the first with one of the titles, best title first."""
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
