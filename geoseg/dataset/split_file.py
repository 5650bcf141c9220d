"""A split as people keep it: ids and their parts in a text, a table or JSON."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from geoseg.dataset.area import PARTS, Area
from geoseg.dataset.found import PART_NAMES
from geoseg.errors import UsageError
from geoseg.raster import Window

_ENDS = re.compile(r"(_(sat|mask|image|img|label|labels))?\.[A-Za-z]{3,4}$")
_HEADINGS = {"id", "image_id", "pair_id", "scene", "image"}
_PART_HEADINGS = {"part", "split", "set", "subset"}


def read_split_file(path: str | os.PathLike[str]) -> Mapping[str, tuple[Area, ...]]:
    """Return the areas of train, valid and test. UsageError with the line where the file cannot be right.

    .json: `{"train": [...], "valid": [...], "test": [...]}` of ids, or of [id, row, col, height, width]. All else is
    text, a line for each scene: `id,part`. A table may have a heading with id and split.
    """
    file = Path(path)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`split`: {file} cannot be read: {error}") from None
    try:
        found = _from_json(text) if file.suffix.casefold() == ".json" else _from_lines(text)
    except UsageError as error:
        raise UsageError(f"`split`: {file}: {error}") from None
    if not any(found.values()):
        raise UsageError(f"`split`: {file} names no scene")
    return {part: tuple(found[part]) for part in PARTS}


def _from_json(text: str) -> dict[str, list[Area]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError('wanted is {"train": [ids], "valid": [ids], "test": [ids]}')
    found: dict[str, list[Area]] = {part: [] for part in PARTS}
    for name, entries in value.items():
        if name == "name":
            continue
        if not isinstance(entries, list):
            raise UsageError(f"{name} should be a list of ids, got {entries!r:.60}")
        found[_part(str(name), "the key")] += [_area(entry) for entry in entries]
    return found


def _area(entry: object) -> Area:
    match entry:
        case str(name):
            return Area(name.strip())
        case int(number) if not isinstance(number, bool):
            return Area(str(number))
        case [str(name), int(row), int(col), int(height), int(width)]:
            return Area(name, Window(row, col, height, width))
    raise UsageError(f"an entry is an id or [id, row, col, height, width], got {entry!r:.60}")


def _from_lines(text: str) -> dict[str, list[Area]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    heading = lines[0] if lines else ""
    delimiter = max(",;\t ", key=lambda mark: heading.strip().count(mark))
    rows = [[cell.strip() for cell in row if cell.strip()] for row in csv.reader(lines, delimiter=delimiter)]
    at_id, at_part = 0, 1
    titles = [cell.casefold() for cell in rows[0]] if rows else []
    if _HEADINGS & {*titles} and _PART_HEADINGS & {*titles}:
        at_id = next(place for place, title in enumerate(titles) if title in _HEADINGS)
        at_part = next(place for place, title in enumerate(titles) if title in _PART_HEADINGS)
        rows = rows[1:]
    found: dict[str, list[Area]] = {part: [] for part in PARTS}
    for row in rows:
        if len(row) <= max(at_id, at_part):
            raise UsageError(f"a line is `id,part` with train, valid or test, got {','.join(row)!r:.80}")
        found[_part(row[at_part], row[at_id])].append(Area(row[at_id]))
    return found


def _part(name: str, where: str) -> str:
    part = PART_NAMES.get(name.strip().casefold())
    if part is None:
        raise UsageError(f"{where}: the parts are train, valid and test, got {name!r:.40}")
    return part


def id_of(name: str) -> str:
    """Return the id in the name of a scene's or mask's file."""
    return _ENDS.sub("", name.strip().replace("\\", "/").rpartition("/")[2])
