"""Shared by all layouts of data sets: the caller's options, folders and what their names say, tables of files."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from geoseg.errors import SceneError, UsageError, listed, numbered
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
PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Common names of the parts of a data set."""
IMAGE_FOLDERS = ("images", "image", "scenes", "imgs", "img", "img_dir", "sat", "images_png", "jpegimages")
KINDS = {name.partition("_")[0]: "images" for name in IMAGE_FOLDERS} | dict.fromkeys(
    ("labels", "label", "masks", "mask", "msk", "gt", "annotations", "ann_dir", "segmentationclass"), "labels"
)
"""Words in the names of folders that are named after the kind of their files, not after a class."""
_LABELS_BESIDE_IMAGES = {"annot", "annotation", "gts", "map", "targets"}
"""Words that say the same beside a folder of images, if the name has no other word but a part."""
LABEL_ENDS = ("_labels", "_label", "_mask", "_msk", "_lbl", "_lab", "_gt", "_classes", "_landcover")
"""The ends of the names of files with labels."""
RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".png", ".jpg", ".jpeg", ".img", ".bsq", ".bil")
MASKS = (*RASTERS, ".bmp", ".gif")
"""Formats of labels in a data set without pairs in the usual ones: a GIF may also be a preview."""
_AFTER_QUOTE = re.compile('" +(?=[,;\t]|$)')

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


@dataclass(frozen=True, slots=True)
class Match:
    """A scene's file and its labels."""

    id: str
    scene: str
    labels: Any
    """A path or a GeoDataFrame; for an image with a single label, the name of its class."""
    part: str | None = None


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
        lines = [_AFTER_QUOTE.sub('"', line) for line in text_in(file).splitlines()]
        heading = lines[0] if lines else ""
        reader = csv.DictReader(lines, delimiter=delimiter_in(heading), skipinitialspace=True, strict=True)
        rows = [(reader.line_num, row) for row in reader]  # it skips empty lines
    except csv.Error as error:
        raise SceneError(f"{file} is not a valid table: {error}; check its quotation marks") from None
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


def matches_in_table(file: Path, column: str) -> list[Match]:
    """Return the rows of a table: each has a scene, and in `column` the path of its labels or its class."""
    matches = []
    for number, cells in table_rows(file, ("scene", column)):
        scene = beside_table(file, cells["scene"])
        labels = beside_table(file, cells[column]) if column == "labels" else cells[column]
        part = cells.get("split", "").casefold()
        if part and part not in PART_NAMES:
            raise SceneError(f"{file}, line {number}: split must be train, valid or test, got {part!r:.40}")
        matches.append(Match(cells.get("id") or Path(scene).stem, scene, labels, PART_NAMES.get(part)))
    return matches


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


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, but for hidden ones and those that cannot be read, as lost+found."""
    return entries_of(folder, lambda entry: entry.is_dir() and os.access(entry.path, os.R_OK | os.X_OK))


def rasters(folder: Path, ends: Collection[str] = RASTERS) -> list[Path]:
    """Return the rasters in a folder."""
    return entries_of(
        folder,
        lambda entry: os.path.splitext(entry.name)[1].casefold() in ends and entry.is_file(),  # noqa: PTH122 - faster
    )


def part_lists(folder: Path) -> list[Path]:
    """Return the lists of ids in a folder, such as train.txt and val.txt; none if it is no folder."""
    names = {f"{name}.txt" for name in PART_NAMES}
    is_open = folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)
    return entries_of(folder, lambda entry: entry.name.casefold() in names and entry.is_file()) if is_open else []


def entries_of(folder: Path, is_wanted: Callable[[os.DirEntry[str]], bool]) -> list[Path]:
    """Return some of the files and folders in a folder, but for hidden ones."""
    with os.scandir(folder) as entries:  # it tells folders from files without asking for the state of each
        return sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and is_wanted(entry))


def kind_of(folder_name: str, *, beside_images: bool = False) -> str | None:
    """Return the kind of files that a folder's name says: images or labels; the latter for `trainannot`."""
    name, words = folder_name.casefold(), {*words_of(folder_name)}
    if beside_images and (own := words - PART_NAMES.keys()) and own <= _LABELS_BESIDE_IMAGES:
        return "labels"
    kinds = {KINDS[word] for word in {*words, name} if word in KINDS}
    return max(kinds, default="images" if name in PART_NAMES else None)


def words_of(folder_name: str) -> list[str]:
    """Return the words in a folder's name; `trainannot` is two."""
    return re.findall(r"[a-z]+", re.sub(rf"^({'|'.join(PART_NAMES)})annot", r"\1 annot", folder_name.casefold()))


def check_complete(
    folder: Path, scenes: Mapping[str, Path], labels: Mapping[str, Path], words: tuple[str, str]
) -> None:
    """Raise SceneError for scenes without labels and labels without a scene, in the layout's `words` for them."""
    for present, others, partner in ((scenes, labels, words[0]), (labels, scenes, words[1])):
        if alone := present.keys() - others.keys():
            advice = "add what is missing, or remove these"
            if others and len(alone) == len(present):
                advice = (
                    f"found {listed(sorted(others))} instead; give pairs equal names, or list them in a CSV with the "
                    "columns scene and labels"
                )
            raise SceneError(
                f"{folder}: {len(alone)} of {len(present)} without {partner}: {listed(sorted(alone))}; {advice}"
            )


def by_id(files: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Return files by their ids. SceneError if two have the same."""
    found: dict[str, Path] = {}
    for name, path in files:
        if found.setdefault(name, path) != path:
            raise SceneError(f"{path} and {found[name]} have the same id {name!r}; keep one of them")
    return found


def left_out_note(folder: Path, images: Collection[Path], *, labels: bool = False) -> str:
    """Return a note on images that do not count; `labels`: whether they have some."""
    return f"{numbered(len(images), 'image')} {'' if labels else 'without labels '}in {folder}, left out"


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
