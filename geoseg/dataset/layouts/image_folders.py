"""Images that have one label as a whole: a folder for each class, as UC Merced's, or a table that says it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from geoseg.dataset.labels import WholeLabel
from geoseg.dataset.pair import Found, Pair
from geoseg.dataset.search import (
    PART_NAMES,
    TABLES,
    SearchOptions,
    beside_table,
    each,
    listed,
    part_in,
    table_rows,
    table_titles,
)
from geoseg.errors import SceneError, UsageError
from geoseg.legend import codes_of_values
from geoseg.raster import Scene

IMAGES = (".tif", ".tiff", ".jpg", ".jpeg", ".png", ".jp2", ".vrt")
_OTHER_LAYOUTS = {"images", "image", "scenes", "imgs", "img", "sat", "labels", "label", "masks", "mask", "gt"}
"""Folders that say what their files are, and of no class."""

_Folder = tuple[Path, str, str | None]
"""A folder, its class, its part."""


@dataclass(frozen=True, slots=True)
class _Image:
    id: str
    path: str
    name: str
    """Of its class."""
    part: str | None


def has_whole_labels(root: str) -> bool:
    """Say whether the labels of a data set are one for each image.

    A folder holds no image itself, and folders of images whose names can only be classes; a table has the column class.
    """
    if root.lower().endswith(TABLES):
        titles = table_titles(Path(root))
        return titles >= {"scene", "class"} and "labels" not in titles
    folder = Path(root)
    if not folder.is_dir() or _has_image(folder):
        return False
    return any(_has_image(path) for path, _, _ in _folders(folder))


def find_whole_labels(root: str, options: SearchOptions) -> Found:
    """Return a pair for each image: `CLASS/NAME`, or `PART/CLASS/NAME`. SceneError for fewer than two classes."""
    if options.column is not None:
        raise UsageError("`column` is for label polygons; here each image has one label", "column")
    images = _in_table(Path(root)) if Path(root).is_file() else _in_folders(Path(root))
    names = sorted({image.name for image in images})
    if len(names) < 2:
        raise SceneError(
            f"{root} holds images of one class only, {listed(names)}: there is nothing to tell apart; "
            "each class has a folder of its own"
        )
    legend, codes = codes_of_values(names, options.legend, root)
    scenes = each(lambda image: Scene.open(image.path, bands=options.bands), images)
    pairs = [
        Pair(
            image.id,
            scene,
            WholeLabel(image.path, codes[image.name]),
            options.gsd_m or scene.geobox.gsd_m,
            image.part,
        )
        for image, scene in zip(images, scenes, strict=True)
    ]
    note = f"each image has one label as a whole, {len(names)} classes: {listed(names)}"
    return Found(tuple(pairs), legend, (note,))


def _in_folders(root: Path) -> Sequence[_Image]:
    return [
        _Image(path.relative_to(root).with_suffix("").as_posix(), os.fspath(path), name, part)
        for folder, name, part in _folders(root)
        for path in sorted(folder.iterdir())
        if _is_image(path)
    ]


def _in_table(file: Path) -> Sequence[_Image]:
    found = []
    for number, cells in table_rows(file, ("scene", "class")):
        path = beside_table(file, cells["scene"])
        found.append(_Image(cells.get("id") or Path(path).stem, path, cells["class"], part_in(file, number, cells)))
    return found


def _folders(root: Path) -> Iterator[_Folder]:
    for path in sorted(root.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        part = PART_NAMES.get(path.name.casefold())
        if part is None and path.name.casefold() not in _OTHER_LAYOUTS:
            yield path, path.name, None
        elif part is not None and not _has_image(path):
            yield from ((below, name, part) for below, name, none in _folders(path) if none is None)


def _has_image(folder: Path) -> bool:
    return any(_is_image(path) for path in folder.iterdir())


def _is_image(path: Path) -> bool:
    return path.suffix.casefold() in IMAGES and path.is_file() and not path.name.startswith(".")
