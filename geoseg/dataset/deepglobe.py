"""The layout of DeepGlobe's land-cover challenge of 2018 (Demir et al., arXiv 1805.06561): NNN_sat.jpg, NNN_mask.png.

The files lie in one folder, or in train/, valid/ and test/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from geoseg.dataset.pair import FoundPairs, Pair
from geoseg.dataset.placed_labels import ColorMask
from geoseg.dataset.search import (
    LABEL_ENDS,
    PART_NAMES,
    RASTERS,
    SearchOptions,
    by_id,
    check_complete,
    each,
    legend_beside,
    subfolders,
    table_rows,
)
from geoseg.errors import SceneError, numbered
from geoseg.legend import DEEPGLOBE
from geoseg.raster import Scene

_GSD_M = 0.5
"""Pixel size of the challenge's imagery, which its files do not state."""
_FILE = re.compile(r"(?P<id>.+)_(?P<kind>sat|mask)\.(jpe?g|png|tiff?)", re.IGNORECASE)


def is_deepglobe(root: str) -> bool:
    """Return whether a folder, or a subfolder named train, valid or test, holds files like `NNN_sat.jpg`.

    Masks beside images of other names, as `NNN.tif`, are another layout, and so are such images beside labels.
    """
    files = [file for of in _files_by_folder(Path(root)).values() for file in of] if Path(root).is_dir() else []
    kinds = {match["kind"].casefold() for path in files if (match := _FILE.fullmatch(path.name))}
    if kinds == {"mask"}:
        return all(_FILE.fullmatch(path.name) for path in files if path.suffix.casefold() in RASTERS)
    return len(kinds) == 2 or (bool(kinds) and not any(path.stem.casefold().endswith(LABEL_ENDS) for path in files))


def find_deepglobe(root: str, options: SearchOptions) -> FoundPairs:
    """Return the pairs. SceneError lists images without masks and masks without images.

    Images in a folder without any masks, such as the challenge's valid/ and test/, are left out, with a note.
    """
    folder = Path(root)
    legend = options.legend or legend_beside(folder) or DEEPGLOBE
    preferred_bands = ("red", "green", "blue") if options.bands is None else None
    parts = _parts(folder / "metadata.csv")
    found: list[tuple[str, Path]] = []
    masks: dict[Path, Path] = {}
    notes = []
    for path, files in _files_by_folder(folder).items():
        images, own_masks = _by_id(files, "sat"), _by_id(files, "mask")
        if images and not own_masks:
            notes.append(f"{numbered(len(images), 'image')} without masks in {path}, left out")
            continue
        check_complete(path, images, own_masks, ("mask", "image"))
        found += images.items()
        masks |= {image: own_masks[name] for name, image in images.items()}
    if not found:
        raise SceneError(f"{root} holds images but no mask (NNN_mask.png); labels are needed to train or to evaluate")

    def pair(item: tuple[str, Path]) -> Pair:
        name, image = item
        scene = Scene.open(str(image), bands=options.bands, wanted_bands=preferred_bands)
        labels = ColorMask.open(str(masks[image]), legend, options.tolerance, scene.geobox)
        part = (None if image.parent == folder else _part(image.parent)) or parts.get(name)
        return Pair(name, scene, labels, options.gsd_of(scene) or _GSD_M, part)

    pairs = each(pair, sorted(by_id(found).items()))
    return FoundPairs(tuple(pairs), legend, tuple(notes), kind="deepglobe")


def _files_by_folder(root: Path) -> dict[Path, list[Path]]:
    """Return the files of a folder, and of its subfolders that are named after a part."""
    folders = (root, *filter(_part, subfolders(root)))
    return {folder: sorted(file for file in folder.iterdir() if file.is_file()) for folder in folders}


def _by_id(files: Iterable[Path], kind: str) -> dict[str, Path]:
    matches = ((_FILE.fullmatch(file.name), file) for file in files)
    return by_id((match["id"], file) for match, file in matches if match and match["kind"].casefold() == kind)


def _part(folder: Path) -> str | None:
    """Return the part that a folder's name stands for; the challenge's names are land-train, land-valid, land-test."""
    return PART_NAMES.get(folder.name.casefold().removeprefix("land-").removeprefix("land_"))


def _parts(file: Path) -> dict[str, str]:
    """Return id -> part from metadata.csv, with the columns image_id, split, sat_image_path, mask_path."""
    try:
        rows = [cells for _, cells in table_rows(file)] if file.is_file() else []
    except SceneError as error:
        raise SceneError(f"{error}, or remove it") from None
    named = {cells.get("image_id", ""): PART_NAMES.get(cells.get("split", "").casefold()) for cells in rows}
    return {name: part for name, part in named.items() if part}
