"""Images with one label as a whole: a folder of images for each class, as in UC Merced, or a column of a table."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from geoseg.dataset.pair import Decoded, FoundPairs, Pair
from geoseg.dataset.search import (
    PART_NAMES,
    RASTERS,
    Match,
    SearchOptions,
    each,
    kind_of,
    left_out_note,
    matches_in_table,
    rasters,
    subfolders,
    table_titles,
    words_of,
)
from geoseg.errors import SceneError, UsageError, enumerated, listed
from geoseg.given import TABLES
from geoseg.legend import codes_of_values
from geoseg.raster import GeoBox, Scene, Strays, Window

_IMAGES = (".tif", ".tiff", ".jpg", ".jpeg", ".png", ".jp2", ".vrt")
_BAND = re.compile(r"B\d[\dA]")
"""Sentinel-2's bands at the end of the names of their files."""
_FEW = 3
"""Up to so many folders with files of the same names may be imagery, its masks and something else, not classes."""


@dataclass(frozen=True, slots=True)
class WholeLabel:
    """One class for every pixel of an image, as its folder or a table says."""

    path: str
    """The image."""
    code: int

    files: ClassVar[list[str]] = []
    """Empty: no file holds the label."""
    tolerance: ClassVar[None] = None
    """There are no strays."""

    @property
    def meaning(self) -> object:
        """The code."""
        return self.code

    def decode(self, _grid: GeoBox, window: Window) -> Decoded:
        """Return the code everywhere in a window."""
        return Decoded(np.full(window.shape, self.code, np.uint8), Strays(0, window.size))

    def stamp(self) -> list[object]:
        """Return the code."""
        return [repr(self.meaning)]

    def content(self) -> list[str]:
        """Return nothing: the code says it all."""
        return []


def has_whole_labels(root: str, paired_images: Callable[[str], Sequence[Path]]) -> bool:
    """Return whether a data set has a single label for each image.

    Such a folder has no images of its own, and no paired ones, with labels in files of their own, only folders of
    images named after classes, or more of these than tiles with pairs; a table has the column class.
    """
    if root.lower().endswith(TABLES):
        titles = table_titles(Path(root))
        return titles >= {"scene", "class"} and "labels" not in titles
    folder = Path(root)
    if not folder.is_dir() or _images(folder):
        return False
    classes, paired = [path for path, _, _ in _class_folders(folder)], paired_images(root)
    tiles = [path for path in classes if any(file.is_relative_to(path) for file in paired)]
    if any(not any(file.is_relative_to(tile) for tile in tiles) for file in paired):
        return False  # pairs of the folder or of a part
    if paired and sum(path not in tiles and bool(_images(path)) for path in classes) <= len(tiles):
        return False
    return any(map(_images, classes)) and not folders_named_after_kinds(folder)


def find_whole_labels(root: str, options: SearchOptions) -> FoundPairs:
    """Return a pair for each image: `CLASS/NAME` or `PART/CLASS/NAME`. SceneError for fewer than two classes."""
    if options.column is not None:
        raise UsageError("`column` is for label polygons; here each image has one label", "column")
    folder = Path(root)
    images = matches_in_table(folder, "class") if folder.is_file() else _images_in_folders(folder)
    names = sorted({image.labels for image in images})
    if len(names) < 2:
        raise SceneError(
            f"{root} holds images of only one class, {listed(sorted(names))}, so there is nothing to distinguish; "
            "put each class in its own folder; if these are scenes, give their folder alone, and name their labels "
            "with `labels`"
        )
    _check_not_bands(images)
    legend, codes = codes_of_values(names, options.legend, root, options.renumbered)
    scenes = each(lambda image: Scene.open(image.scene, bands=options.bands), images)
    pairs = [
        Pair(image.id, scene, WholeLabel(image.scene, codes[image.labels]), options.gsd_of(scene), image.part)
        for image, scene in zip(images, scenes, strict=True)
    ]
    notes = [f"each image has a single label, {len(names)} classes: {listed(sorted(names))}"]
    if folder.is_dir():
        doubt = _doubt(names, images)
        if doubt and len({len(scene.band_indexes) for scene in scenes}) > 1:
            raise SceneError(f"{root}: the images of {enumerated(names)} differ in bands; {doubt}")
        notes += [doubt] if doubt else []
        notes += [left_out_note(path, strays) for path in (folder, *_parts(folder)) if (strays := _images(path))]
    return FoundPairs(tuple(pairs), legend, tuple(notes))


def _check_not_bands(images: Sequence[Match]) -> None:
    """Raise SceneError if each folder holds the bands of one image, as in BigEarthNet 1."""
    bands: dict[tuple[str, str], set[str]] = {}
    for image in images:
        name, _, band = Path(image.scene).stem.upper().rpartition("_")
        bands.setdefault((image.labels, name), set()).add(band)
    is_one_each = len(bands) == len({folder for folder, _ in bands})
    if is_one_each and all({"B02", "B03", "B04"} <= of and all(map(_BAND.fullmatch, of)) for of in bands.values()):
        raise SceneError(
            f"{Path(images[0].scene).parent} and the folders beside it hold the bands of one image each, not images of "
            "a class; join bands of one pixel size with rio stack, and list the images in a CSV with the columns scene "
            "and labels or class"
        )


def _doubt(names: Sequence[str], images: Sequence[Match]) -> str | None:
    """Return a warning if few classes have files of the same names, as images and their masks do."""
    files = {frozenset(Path(image.scene).stem for image in images if image.labels == name) for name in names}
    if len(names) > _FEW or len(files) > 1:
        return None
    return (
        f"the files of {enumerated(names)} have the same names; if one folder holds the labels of another, give the "
        "folder of the scenes alone, and name that of the labels with `labels`"
    )


def _images_in_folders(root: Path) -> list[Match]:
    return [
        Match(path.relative_to(root).with_suffix("").as_posix(), os.fspath(path), name, part)
        for folder, name, part in _class_folders(root)
        for path in _images(folder)
    ]


def _class_folders(root: Path) -> Iterator[tuple[Path, str, str | None]]:
    """Yield each folder that may hold the images of a class, with the class and its part."""
    for path in subfolders(root):
        part = PART_NAMES.get(path.name.casefold())
        if part is None:
            yield path, path.name, None
        else:
            yield from ((below, name, part) for below, name, none in _class_folders(path) if none is None)


def _parts(root: Path) -> list[Path]:
    """Return the subfolders that are named after a part."""
    return [path for path in subfolders(root) if path.name.casefold() in PART_NAMES]


def folders_named_after_kinds(root: Path) -> list[Path]:
    """Return the folders of rasters that are named after the kind of their files, as `train_labels`, not a class.

    `train_depth` is one if images of the same names are in `train` itself.
    """
    parts = {path.name.casefold(): _stems(path) for path in _parts(root)}
    return [
        path
        for path, name, part in _class_folders(root)
        if (kind_of(name) or (part is None and parts.get(next(iter(words_of(name)), ""), set()) & _stems(path)))
        and any(file.suffix.casefold() in RASTERS for file in path.rglob("*"))
    ]


def _stems(folder: Path) -> set[str]:
    return {image.stem for image in _images(folder)}


def _images(folder: Path) -> list[Path]:
    return [path for path in rasters(folder) if path.suffix.casefold() in _IMAGES]
