"""The folder layout of the DeepGlobe 2018 land-cover challenge (Demir et al., arXiv 1805.06561), as people have it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from geoseg.dataset.labels import ColorMask
from geoseg.dataset.pair import Found, Pair
from geoseg.dataset.search import PART_NAMES, SearchOptions, each, legend_beside, listed
from geoseg.errors import SceneError
from geoseg.legend import DEEPGLOBE, Legend
from geoseg.raster import Scene

GSD_M = 0.5
"""Of the challenge's imagery; its files do not say."""
_FILE = re.compile(r"(?P<id>.+)_(?P<kind>sat|mask)\.(jpe?g|png|tiff?)", re.IGNORECASE)
_METADATA = "metadata.csv"


@dataclass(slots=True)
class _Folder:
    """The files of one folder by id."""

    path: Path
    part: str | None
    images: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)


def is_deepglobe(root: str) -> bool:
    """Say whether a folder holds `NNN_sat.jpg` and the like, itself or in folders named train, valid or test."""
    return Path(root).is_dir() and any(_FILE.fullmatch(path.name) for path in _files(Path(root)))


def find_deepglobe(root: str, options: SearchOptions) -> Found:
    """Return the pairs. SceneError for images without masks and masks without images, each listed.

    Images in a folder without any mask, as in the challenge's valid/ and test/, are left out, and a note says so.
    """
    folder = Path(root)
    parts = _metadata(folder / _METADATA)
    pairs: dict[str, tuple[Path, Path, str | None]] = {}
    notes = []
    for found in _folders(folder):
        if found.images and not found.masks:
            notes.append(f"{len(found.images)} images without masks in {found.path} are left out")
            continue
        _check_complete(found)
        for name, image in found.images.items():
            if name in pairs:
                raise SceneError(f"{image} and {pairs[name][0]} have the same id {name!r}; keep one of them")
            pairs[name] = image, found.masks[name], found.part or parts.get(name)
    if not pairs:
        raise SceneError(f"{root} holds images but no mask (NNN_mask.png); labels are needed to train or to evaluate")
    legend = options.legend or legend_beside(folder) or DEEPGLOBE
    items = sorted(pairs.items())
    opened = each(lambda item: _pair(item[0], item[1], legend, options), items)
    return Found(tuple(opened), legend, tuple(notes), kind="deepglobe")


def _pair(name: str, files: tuple[Path, Path, str | None], legend: Legend, options: SearchOptions) -> Pair:
    image, mask, part = files
    wanted = ("red", "green", "blue") if options.bands is None else None
    scene = Scene.open(str(image), bands=options.bands, wanted_bands=wanted)
    labels = ColorMask.open(str(mask), legend, options.tolerance, scene.geobox)
    return Pair(name, scene, labels, options.gsd_m or scene.geobox.gsd_m or GSD_M, part)


def _check_complete(found: _Folder) -> None:
    images, masks = found.images.keys(), found.masks.keys()
    for there, lacking, what in ((images, masks, "mask"), (masks, images, "image")):
        if alone := there - lacking:
            other = "_mask.png" if what == "mask" else "_sat.jpg"
            raise SceneError(
                f"{found.path}: {len(alone)} of {len(there)} without {what}: {listed(alone)}; "
                f"add the missing NNN{other} or move the others away"
            )


def _folders(root: Path) -> list[_Folder]:
    folders: dict[Path, _Folder] = {}
    for path in _files(root):
        match = _FILE.fullmatch(path.name)
        if match is None:
            continue
        part = None if path.parent == root else _part_of(path.parent)
        found = folders.setdefault(path.parent, _Folder(path.parent, part))
        files = found.images if match["kind"].casefold() == "sat" else found.masks
        if other := files.get(match["id"]):
            raise SceneError(f"{path} and {other.name} have the same id {match['id']!r}; keep one of them")
        files[match["id"]] = path
    return list(folders.values())


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.iterdir()):
        if path.is_dir() and _part_of(path) is not None:
            yield from sorted(file for file in path.iterdir() if file.is_file())
        elif path.is_file():
            yield path


def _part_of(folder: Path) -> str | None:
    """Return the part that a folder holds by its name; the challenge's own are land-train, land-valid, land-test."""
    return PART_NAMES.get(folder.name.casefold().removeprefix("land-").removeprefix("land_"))


def _metadata(file: Path) -> dict[str, str]:
    """Return id -> part from metadata.csv: image_id, split, sat_image_path, mask_path."""
    if not file.is_file():
        return {}
    try:
        rows = list(csv.DictReader(file.read_bytes().decode("utf-8-sig").splitlines(), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SceneError(f"cannot read {file}: {' '.join(str(error).split()):.160}; repair or remove it") from None
    said = [(row.get("image_id") or "", (row.get("split") or "").strip().casefold()) for row in rows]
    return {name.strip(): PART_NAMES[part] for name, part in said if part in PART_NAMES}
