"""Shared by all layouts of data sets: the caller's options, tables of files, threads that open many files."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from geoseg.errors import SceneError, UsageError
from geoseg.given import TABLES, delimiter_in, text_in
from geoseg.legend import GivenLegend, LandCover, Legend, given_legend, legend_of_labels
from geoseg.raster import DEFAULT_TOLERANCE, Scene, raster_environment, shown

if TYPE_CHECKING:
    from geoseg.features import LayerChoice

_CLASSES = "class_dict.csv"
_OTHER_CLASSES = {
    "label_class_dict.csv": re.compile(r"name *, *r *, *g *, *b\b", re.IGNORECASE),
    "labelmap.txt": re.compile(r"(#.*\n)*\s*[^:\n]+:\d+,\d+,\d+:"),
    "esri_model_definition.emd": re.compile(r'.*"Classes"\s*:', re.DOTALL),
    "_classes.csv": re.compile(r"pixel value *,", re.IGNORECASE),
}
"""How legends begin that are found by name: of sets on Kaggle, of CVAT, ArcGIS, Roboflow. Others share the names."""
_THREADS = 4
PART_NAMES = {"train": "train", "training": "train", "valid": "valid", "val": "valid", "validation": "valid"} | {
    "test": "test",
    "testing": "test",
}
"""Common names of the parts of a data set."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The caller's options for a data set: the parameters of `open_dataset`."""

    legend: Legend | None = None
    bands: tuple[int | str, ...] | None = None
    gsd_m: float | None = None
    labels: Any = None
    """A path or a GeoDataFrame; None if the layout says where the labels are."""
    column: str | None = None
    tolerance: float = DEFAULT_TOLERANCE
    layer: LayerChoice = None
    renumbered: Mapping[int, int] = field(default_factory=dict)
    """Codes of the labels -> the legend's, if the legend's given codes do not fit a byte; else empty."""

    @classmethod
    def of(cls, legend: GivenLegend | None, bands: Sequence[int | str] | None, **others: Any) -> Self:  # noqa: ANN401 - the fields
        """Return options with a legend in any form a caller may give it. Raises UsageError."""
        resolved, renumbered = (None, {}) if legend is None else legend_of_labels(legend)
        return cls(resolved, None if bands is None else tuple(bands), renumbered=renumbered, **others)

    def gsd_of(self, scene: Scene) -> float | None:
        """Return meters per pixel: the caller's value if there is one, else the scene's own."""
        return self.gsd_m or scene.geobox.gsd_m


def each(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Apply `work` to every item, on a few threads. Raises the error of the first item that has one."""

    def done(item: T) -> R:
        # GDAL would list the folder (of 1600 files) for each file it opens; so it asks for the few names it needs.
        with raster_environment(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):
            return work(item)

    if len(items) < _THREADS:
        return [done(item) for item in items]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="geoseg-dataset") as pool:
        return list(pool.map(done, items))


def table_rows(file: Path, wanted: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and the cells (by column in lower case) of each row of a table. SceneError.

    `wanted`: columns that must be filled in every row.
    """
    try:
        lines = text_in(file).splitlines()
        heading = lines[0] if lines else ""
        reader = csv.DictReader(lines, delimiter=delimiter_in(heading), skipinitialspace=True)
        rows = [(reader.line_num, row) for row in reader]  # it skips empty lines
    except csv.Error as error:
        raise SceneError(f"{file} is not a valid table: {error}") from None
    except ValueError as error:
        raise SceneError(f"{file} {error}") from None
    titles = {title.strip().casefold(): title for title in reader.fieldnames or ()}
    if not titles.keys() >= {*wanted}:
        raise SceneError(f"{file}: the header needs the columns {' and '.join(wanted)}, got {heading!r:.80}")
    for number, row in rows:
        cells = {name: (row.get(title) or "").strip() for name, title in titles.items()}
        if not any(cells.values()):
            continue
        if not all(cells[name] for name in wanted):
            raise SceneError(
                f"{file}, line {number}: give {' and '.join(wanted)} in each row, got {','.join(cells.values())!r:.80}"
            )
        yield number, cells


def part_in(file: Path, number: int, cells: dict[str, str]) -> str | None:
    """Return the part that a row of a table names, if any. SceneError."""
    part = cells.get("split", "").casefold()
    if part and part not in PART_NAMES:
        raise SceneError(f"{file}, line {number}: split must be train, valid or test, got {part!r:.40}")
    return PART_NAMES.get(part)


def part_of(folder_name: str) -> tuple[str, str] | None:
    """Return the start of a folder's name and the part after it, if any: `val`, `uavid_train`, `test2017`."""
    name = re.sub(r"[-_ ]?(data|set|(19|20)\d\d)$", "", folder_name.casefold())
    *start, word = re.split("[-_ ]", name)
    return ("_".join(start), PART_NAMES[word]) if word in PART_NAMES else None


def beside_table(file: Path, name: str) -> str:
    """Return a path written in a table, relative to the table's folder unless it is remote."""
    return name if "://" in name or name.startswith("/vsi") else str(file.parent / name)


def table_titles(file: Path) -> set[str]:
    """Return the columns of a table in lower case; none if the file is no table or cannot be read."""
    if file.suffix.casefold() not in TABLES:
        return set()
    try:
        heading = next(iter(text_in(file).splitlines()), "")
    except ValueError:
        return set()
    return {title.strip(' "\r\n').casefold() for title in heading.split(delimiter_in(heading))}


def legend_beside(folder: Path) -> Legend | None:
    """Return the legend in a folder's class_dict.csv, or as other tools write it; None if there is none.

    Roboflow writes it into each part. In ArcGIS's labels 0 stands for pixels without a class.
    """
    if (folder / _CLASSES).is_file():
        return given_legend(folder / _CLASSES)
    parts = [path for path in sorted(folder.glob("*/_classes.csv")) if path.parent.name.casefold() in PART_NAMES]
    for file in (*(folder / name for name in _OTHER_CLASSES), *parts):
        try:
            legend = given_legend(file) if _OTHER_CLASSES[file.name].match(text_in(file)) else None
        except (OSError, ValueError, UsageError):  # it was not meant for geoseg
            continue
        if legend is not None:
            is_without_0 = file.suffix == ".emd" and 0 not in legend.codes
            return Legend((LandCover(0, "unknown", (0, 0, 0)), *legend)) if is_without_0 else legend
    return None


def check_there(root: str) -> None:
    """Raise SceneError if nothing is at the path of a data set."""
    if "://" not in root and not root.startswith("/vsi") and not Path(root).exists():
        raise SceneError(f"{shown(root)}: no such file or folder; check the path of the data set")
