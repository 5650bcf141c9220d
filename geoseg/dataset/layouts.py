"""The layouts of data sets on disk: pairs of files, DeepGlobe's, and images with a single label each.

Pairs, usually georeferenced, are in two folders, in one folder with matching names, or in a table. DeepGlobe's layout
is that of the land-cover challenge of 2018 (Demir et al., arXiv 1805.06561), with its usual variations. Single labels
are a folder for each class, as in UC Merced, or a column of a table.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geoseg.atomic import same_file
from geoseg.dataset.area import PARTS
from geoseg.dataset.label_files import find_labels
from geoseg.dataset.labels import WholeLabel
from geoseg.dataset.pair import FoundPairs, Pair
from geoseg.dataset.placed_labels import ColorMask
from geoseg.dataset.search import (
    PART_NAMES,
    SearchOptions,
    beside_table,
    each,
    legend_beside,
    part_in,
    part_of,
    table_rows,
    table_titles,
)
from geoseg.errors import SceneError, UsageError, enumerated, listed, numbered
from geoseg.features import FEATURE_ENDS, is_data_folder
from geoseg.given import TABLES, is_frame, text_in
from geoseg.legend import DEEPGLOBE, Legend, codes_of_values
from geoseg.raster import Scene, shown

_IMAGE_FOLDERS = ("images", "image", "scenes", "imgs", "img", "img_dir", "sat", "images_png", "jpegimages")
_LABEL_FOLDERS = (
    *("labels", "label", "masks", "mask", "msk", "gt", "annotations", "ann_dir", "masks_png"),
    *("segmentationclass", "targets", "map"),
)
_RARE_FOLDERS = {"jpegimages", "segmentationclass", "targets", "map"}
_IMAGE_ENDS = ("_image", "_img", "_sat", "_scene", "_rgb")
_LABEL_ENDS = ("_labels", "_label", "_mask", "_msk", "_lbl", "_lab", "_gt", "_classes", "_landcover")
_M = ("_m",)
"""The end of labels in LandCover.ai."""
_WORDS = {end.removeprefix("_") for end in (*_IMAGE_ENDS, *_LABEL_ENDS)}
_RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".png", ".jpg", ".jpeg", ".img", ".bsq", ".bil")
_IMAGES = (".tif", ".tiff", ".jpg", ".jpeg", ".png", ".jp2", ".vrt")
_KINDS = {name.partition("_")[0]: "images" for name in _IMAGE_FOLDERS} | dict.fromkeys(
    ("labels", "label", "masks", "mask", "msk", "gt", "annotations", "ann_dir", "segmentationclass"), "labels"
)
"""Words in the names of folders that are named after the kind of their files, not after a class."""
_LABELS_BESIDE_IMAGES = {"annot", "annotation", "gts", "map", "targets"}
"""Words that say the same beside a folder of images, if the name has no other word but a part."""
_SAYS_KIND = re.compile("image|img|label|mask|msk|target|rgb|^l$")
"""Parts of words in the names of files; CamVid's labels are called NAME_L."""

_BAND = re.compile(r"B\d[\dA]")
"""Sentinel-2's bands at the end of the names of their files."""
_FEW = 3
"""Up to so many folders with files of the same names may be imagery, its masks and something else, not classes."""
_ClassFolder = tuple[Path, str, str | None]
"""A folder, its class, its part."""
_DEEPGLOBE_GSD_M = 0.5
"""Pixel size of the challenge's imagery, which its files do not state."""
_DEEPGLOBE_FILE = re.compile(r"(?P<id>.+)_(?P<kind>sat|mask)\.(jpe?g|png|tiff?)", re.IGNORECASE)
_DEEPGLOBE_METADATA = "metadata.csv"


@dataclass(frozen=True, slots=True)
class _Match:
    """A scene's file and its labels."""

    id: str
    scene: str
    labels: Any
    """A path or a GeoDataFrame; for an image with a single label, the name of its class."""
    part: str | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """The files of scenes and labels that belong together: a folder, or a part of it."""

    path: Path
    images: Sequence[Path]
    labels: Sequence[Path]
    part: str | None = None
    prefix: str = ""
    """The start of its ids."""
    is_beside: bool = False
    """Whether it is left out, being a subfolder of another name beside what counts."""

    @property
    def is_left_out(self) -> bool:
        """Whether it does not count: so do test parts without labels; other scenes without labels are errors."""
        return self.is_beside or (self.part == "test" and not self.labels)


def find_pairs(root: str, options: SearchOptions) -> FoundPairs:
    """Return the pairs of any layout but DeepGlobe's. Raises SceneError and UsageError as `open_dataset` does."""
    matches, left_out = _matches(root, options.labels)
    if not matches:
        kinds = _folders_named_after_kinds(Path(root)) if Path(root).is_dir() else []
        raise SceneError(
            f"{shown(root)} holds no imagery with labels; give NNN_sat.jpg and NNN_mask.png, images/ and labels/ with "
            "equal file names, NAME_image.tif and NAME_label.tif, a CSV with the columns scene and labels, or a folder "
            f"of images for each class, none of them named after images or labels{_as_listed(kinds)}; or give the "
            "folder of the scenes alone, and name their labels with `labels`"
        )
    scenes = each(lambda match: Scene.open(match.scene, bands=options.bands), matches)
    known_legend = options.legend or legend_beside(Path(root))
    labels, legend, notes = find_labels([match.labels for match in matches], scenes, options, known_legend)
    pairs = [
        Pair(match.id, scene, label, options.gsd_of(scene), match.part)
        for match, scene, label in zip(matches, scenes, labels, strict=True)
    ]
    return FoundPairs(tuple(pairs), legend, (*left_out, *notes))


def _as_listed(folders: Sequence[Path]) -> str:
    names = sorted({folder.name for folder in folders})
    return f", as {listed(names)} {'is' if len(names) == 1 else 'are'}" if names else ""


def _matches(root: str, labels: Any) -> tuple[list[_Match], list[str]]:  # noqa: ANN401 - a path, or a GeoDataFrame, slow to import
    """Return the scenes with their labels, and notes on images that are left out."""
    folder = Path(root)
    if root.lower().endswith(TABLES):
        if labels is not None:
            raise UsageError(f"{root} names the labels of each scene; leave `labels` out", "labels")
        return _matches_in_table(folder, "labels"), []
    if not folder.is_dir():
        if labels is None:
            raise UsageError(
                f"{shown(root)} is a single scene; name its labels with `labels`, a raster or polygons", "labels"
            )
        return [_Match(Path(root).stem, root, labels)], []
    if labels is not None:
        return _with_labels(folder, labels)
    places = _places(folder)
    used = [place for place in places if not place.is_left_out]
    notes = {_left_out_note(place.path, place.images, place.labels): None for place in places if place.is_left_out}
    matched = [_matched_by_id(place) for place in used]
    notes |= {note: None for _, note in matched if note}
    matches = [match for found, _ in matched for match in found]
    if len({match.id for match in matches}) < len(matches):  # each part counts its files from 1
        matches = [replace(match, id=f"{match.part}/{match.id}" if match.part else match.id) for match in matches]
    return matches, [*notes]


def _left_out_note(folder: Path, images: Sequence[Path], labels: Sequence[Path] = ()) -> str:
    return f"{numbered(len(images), 'image')} {'' if labels else 'without labels '}in {folder}, left out"


def _places(folder: Path) -> list[_Place]:
    """Return the places of a data set: the folder and its parts, else their subfolders, as the tiles of a survey."""
    parts = _part_folders(
        _subfolders(folder),
        lambda path: (
            any(place.images and place.labels for place in _places_in_folder(path, None))
            or any(all(_pair_of_folders(tile)) for tile in _subfolders(path))
        ),
    )
    roots = {folder: (None, "")} | {path: (part, _prefix(path, parts)) for path, part in parts.items()}
    places = [
        replace(place, prefix=f"{prefix}{place.prefix}")
        for path, (part, prefix) in roots.items()
        for place in _places_in_folder(path, part)
    ]
    paired = {file for place in places if place.labels for file in place.images}
    places = [place for place in places if place.labels or not paired.issuperset(place.images)]
    if any(place.part == "train" and place.labels for place in places):  # `extra_images` does not count beside `train`
        places = [
            replace(place, is_beside=True) if place.part is None and place.path.parent == folder else place
            for place in places
        ]
    is_beside = not all(place.is_left_out for place in places)
    return places + [
        replace(place, prefix=f"{prefix}{tile.name}/{place.prefix}", is_beside=is_beside or place.is_beside)
        for path, (part, prefix) in roots.items()
        for tile in _subfolders(path)
        if tile not in roots
        if _subfolder(tile, _IMAGE_FOLDERS) and (part == "test" or _subfolder(tile, _LABEL_FOLDERS))
        for place in _places_in_folder(tile, part)
    ]


def _part_folders(folders: Sequence[Path], has_pairs: Callable[[Path], bool]) -> dict[Path, str]:
    """Return those of the folders beside each other that are named after a part, with the part.

    `my_train` is one only if all that have pairs are, with the same start, and there are two parts at least.
    """
    named = {path: part_of(path.name) for path in folders}
    exact = {path: found[1] for path, found in named.items() if found and _is_part(path)}
    if len(exact) == len(folders) - [*named.values()].count(None):
        return exact
    counted = {
        path: found
        for path, found in named.items()
        if path in exact or (found and found[1] == "test") or has_pairs(path)
    }
    parts = {path: found[1] for path, found in counted.items() if found}
    starts = {found and found[0] for found in counted.values()}
    return parts if len(starts) == 1 and len({*parts.values()}) > 1 else exact


def _is_part(folder: Path) -> bool:
    return folder.name.casefold() in PART_NAMES


def _prefix(folder: Path, parts: Mapping[Path, str]) -> str:
    """Return the start of the ids in a part's folder: its name if a part has several, as `train_2018, train_2019`."""
    return "" if len({*parts.values()}) == len(parts) or _is_part(folder) else f"{folder.name}/"


def _with_parts(folder: Path) -> list[tuple[Path, str | None]]:
    """Return a folder, and those of its subfolders that are named after a part, with the part."""
    parts = [(path, PART_NAMES.get(path.name.casefold())) for path in _subfolders(folder)]
    return [(folder, None), *((path, part) for path, part in parts if part is not None)]


def _subfolders(folder: Path) -> list[Path]:
    return _entries(folder, lambda entry: entry.is_dir() and os.access(entry.path, os.R_OK | os.X_OK))  # not lost+found


def _entries(folder: Path, is_wanted: Callable[[os.DirEntry[str]], bool]) -> list[Path]:
    with os.scandir(folder) as entries:  # it tells folders from files without asking for the state of each
        return sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and is_wanted(entry))


def _places_in_folder(folder: Path, part: str | None) -> list[_Place]:
    """Return the places of a folder that hold files: itself, or a pair of subfolders and their parts.

    If these hold none, the subfolders that both of the pair have.
    """
    images, labels = _pair_of_folders(folder)
    place = replace(_place([images], [labels], part), path=folder)
    places = [place]
    if images is None or labels is None:
        marked = _Place(folder, *_marked_files(folder), part)
        named = [] if marked.labels else _places_by_name(folder, part)
        places = [*named, marked if part is None or named or marked.images or marked.labels else place]
    else:
        parts = _part_folders(
            [*_subfolders(images), *_subfolders(labels)],
            lambda path: (images / path.name).is_dir() and (labels / path.name).is_dir(),
        )
        places += [place for name in PARTS for place in _places_of_part(images, labels, name, parts)]
        is_beside = not all(place.is_left_out or not (place.images or place.labels) for place in places)
        places += [
            replace(_place([path], [labels / path.name], part), prefix=f"{path.name}/", is_beside=is_beside)
            for path in _subfolders(images)
            if path not in parts and (labels / path.name).is_dir()
        ]
    return [place for place in places if place.images or place.labels]


def _places_of_part(images: Path, labels: Path, part: str, parts: Mapping[Path, str]) -> list[_Place]:
    """Return the place of a part in folders of images and of labels; several if both have several of equal names."""
    scenes, masks = ([path for path in parts if path.parent == of] for of in (images, labels))
    prefixes = {path: _prefix(path, {path: parts[path] for path in scenes}) for path in scenes if parts[path] == part}
    masks = [path for path in masks if parts[path] == part]
    if not any(prefixes.values()) or [path.name for path in prefixes] != [path.name for path in masks]:
        return [_place([*prefixes], masks, part)]
    return [
        replace(_place([path], [mask], part), prefix=prefix)
        for (path, prefix), mask in zip(prefixes.items(), masks, strict=True)
    ]


def _places_by_name(folder: Path, part: str | None) -> list[_Place]:
    """Return the places in subfolders whose names say what they hold: `train` and `train_labels`, `img_8` and `msk_8`.

    There are none unless one folder of images has one of labels beside it; a test part may lack labels.
    """
    found: dict[str | None, tuple[list[Path], list[Path]]] = {}
    for path in _subfolders(folder):
        kind = _kind(path.name, beside_images=True)
        if kind and _rasters(path, polygons=True) and not all(_marked_files(path)):
            found.setdefault(part or _named_part(path.name), ([], []))[kind == "labels"].append(path)
    counts = [(len(images), len(labels)) for images, labels in found.values()]
    if (1, 1) not in counts and not (part == "test" and any(images for images, _ in counts)):
        return []
    places = [_place(images, labels, name) for name, (images, labels) in found.items()]
    return places if part is None else [replace(place, path=folder) for place in places]


def _place(images: Sequence[Path | None], labels: Sequence[Path | None], part: str | None) -> _Place:
    """Return the place of all files in folders of images and of labels, of which there may be none."""
    files = [file for folder in images for file in _rasters(folder)]
    label_files = [file for folder in labels for file in _rasters(folder, polygons=True)]
    return _Place(next(filter(None, (*images, *labels)), Path()), files, label_files, part)


def _named_part(name: str) -> str | None:
    return next((PART_NAMES[word] for word in _words(name) if word in PART_NAMES), None)


def _kind(name: str, *, beside_images: bool = False) -> str | None:
    """Return the kind of files that a folder's name says: images or labels; the latter for `trainannot`."""
    words = {*_words(name)}
    if beside_images and (own := words - PART_NAMES.keys()) and own <= _LABELS_BESIDE_IMAGES:
        return "labels"
    kinds = {_KINDS[word] for word in {*words, name.casefold()} if word in _KINDS}
    return max(kinds, default="images" if name.casefold() in PART_NAMES else None)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(rf"^({'|'.join(PART_NAMES)})annot", r"\1 annot", name.casefold()))


def _marked_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the images and labels in one folder: NAME_image.tif or NAME.tif with NAME_label.tif.

    A file with labels of its own is an image, whatever its end. Beside images with an image's end, files without one
    are images only if they alone have the name of a label.
    """
    files = _rasters(folder)
    ended = [path for path in files if path.stem.casefold().endswith(_LABEL_ENDS)]
    names = {_without_end(path.stem, _LABEL_ENDS) for path in ended}
    of_m = [path for path in files if path.stem.casefold().endswith(_M)]
    if of_m and not ended and _are_of_m(of_m, {path.stem for path in files}):
        ended, names = of_m, {_without_end(path.stem, _M) for path in of_m}
    labels = [path for path in ended if path.stem not in names]
    others = sorted({*files} - {*labels})
    marked = [path for path in others if path.stem.casefold().endswith(_IMAGE_ENDS) and path.stem not in names]
    if labels and not marked:
        return others, labels
    names -= {_without_end(path.stem, _IMAGE_ENDS) for path in marked}
    return marked + [path for path in others if path.stem in names], labels


def _are_of_m(labels: Sequence[Path], images: Collection[str]) -> bool:
    """Return whether all labels are called NAME_m, and NAME is an image."""
    stems = [_stem(path) for path in labels]
    return all(stem.casefold().endswith(_M) and _without_end(stem, _M) in images for stem in stems)


def _with_labels(folder: Path, labels: Any) -> tuple[list[_Match], list[str]]:  # noqa: ANN401 - as above
    images = _rasters(_subfolder(folder, _IMAGE_FOLDERS) or folder)
    if is_frame(labels):
        return [_Match(path.stem, str(path), labels) for path in images], []
    file = Path(labels)  # a URL gives a path that does not exist
    if file.is_dir() and not is_data_folder(file):
        matches, note = _matched_by_id(_Place(folder, images, _rasters(file, polygons=True)))
        return matches, [note] if note else []
    return [_Match(path.stem, str(path), labels) for path in images if not same_file(path, file)], []


def _matched_by_id(place: _Place) -> tuple[list[_Match], str | None]:
    """Return the scenes of a place with their labels, and a note if only parts of their names are equal."""
    stems = {_stem(path) for path in {*place.images} - {*place.labels}}
    ends = _M if _are_of_m(place.labels, stems) else _LABEL_ENDS
    labels_by_id = _by_id(place.labels, ends, stems | {_without_end(stem, _IMAGE_ENDS) for stem in stems})
    scenes_by_id = _by_id(place.images, _IMAGE_ENDS, labels_by_id)
    note = None
    if scenes_by_id.keys() != labels_by_id.keys():
        own = _own_words(scenes_by_id, labels_by_id), _own_words(labels_by_id, scenes_by_id)
        named = _without_words(scenes_by_id, own[0]), _without_words(labels_by_id, own[1])
        if named[0].keys() == named[1].keys() and any(map(_says_kind, own[0] | own[1])):
            scenes_by_id, labels_by_id = named
            note = _own_words_note(place.path, own[0] | own[1])
    if place.images and not place.labels:
        raise SceneError(
            f"{place.path}: {numbered(len(place.images), 'scene')} without labels; add rasters or polygons that GDAL "
            "reads, or name them with `labels`",
            "labels",
        )
    _check_complete(place.path, scenes_by_id, labels_by_id, ("labels", "a scene"))
    matches = [
        _Match(place.prefix + name, str(path), str(labels_by_id[name]), place.part)
        for name, path in sorted(scenes_by_id.items())
    ]
    return matches, note


def _check_complete(
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


def _by_id(paths: Sequence[Path], ends: tuple[str, ...], whole: Collection[str]) -> dict[str, Path]:
    """Return the files by their names without any of the `ends`; those of the `whole` names keep it."""
    by_id: dict[str, Path] = {}
    for path in paths:
        stem = _stem(path)
        name = stem if stem in whole else _without_end(stem, ends)
        if name in by_id:
            raise SceneError(f"{path} and {by_id[name]} have the same id {name!r}; keep one of them")
        by_id[name] = path
    return by_id


def _without_end(stem: str, ends: tuple[str, ...]) -> str:
    end = next((end for end in ends if stem.casefold().endswith(end)), "")
    return stem[: -len(end)] if end else stem


def _own_words(names: Collection[str], partners: Collection[str]) -> set[str]:
    """Return the words that all names share and not all partners do: `img` of IMG_1, if they are MSK_1.

    Words with a digit, as of a year or a tile, are none, unless they say a kind and the partners have none such:
    `leftImg8bit`. If there is one name, they must be usual for images or labels.
    """
    shared, others = _shared_words(names), _shared_words(partners)
    has_number = any(re.search(r"\d", word) for word in others - shared)
    own = {word for word in shared - others if not re.search(r"\d", word) or (_says_kind(word) and not has_number)}
    return own if len(names) > 1 or own <= _WORDS else set()


def _says_kind(word: str) -> bool:
    return word in _WORDS or word in _KINDS or _SAYS_KIND.search(word) is not None


def _own_words_note(folder: Path, words: Collection[str]) -> str | None:
    if all(word in _WORDS or word in _KINDS for word in words):
        return None
    return (
        f"{folder}: pairs have equal names but for words that all images or all labels share, {listed(sorted(words))}"
    )


def _without_words(paths: dict[str, Path], words: Collection[str]) -> dict[str, Path]:
    """Return the files by their names without the words; unchanged if names become equal."""
    pattern = re.compile(rf"(^|[\W_]+)({'|'.join(map(re.escape, words))})(?![^\W_])", re.IGNORECASE)
    named = {pattern.sub("", name).lstrip("_-. "): path for name, path in paths.items()} if words else {}
    return named if len(named) == len(paths) and all(named) else paths


def _shared_words(names: Iterable[str]) -> set[str]:
    """Return the words, between blanks and signs and in lower case, that all names have."""
    return set.intersection(*[{*re.split(r"[\W_]+", name.casefold())} for name in names] or [set()]) - {""}


def _stem(path: Path) -> str:
    """Return a file name without its extension, or without both extensions if it is compressed."""
    return path.stem.rpartition(".")[0] if path.name.casefold().endswith((".geojson.gz", ".geojsonl.gz")) else path.stem


def _matches_in_table(file: Path, column: str) -> list[_Match]:
    """Return the rows of a table: each has a scene, and in `column` the path of its labels or its class."""
    matches = []
    for number, cells in table_rows(file, ("scene", column)):
        scene = beside_table(file, cells["scene"])
        labels = beside_table(file, cells[column]) if column == "labels" else cells[column]
        matches.append(_Match(cells.get("id") or Path(scene).stem, scene, labels, part_in(file, number, cells)))
    return matches


def _subfolder(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Return the first subfolder with one of the names, in upper or lower case; None if there is none."""
    if not folder.is_dir():
        return None
    subfolders = {path.name.casefold(): path for path in reversed(_subfolders(folder))}
    return next((subfolders[name] for name in names if name in subfolders), None)


def _pair_of_folders(folder: Path) -> tuple[Path | None, Path | None]:
    """Return the subfolders of images and of labels. `map` and the like may also be the name of a tile or a class."""
    images, labels = _subfolder(folder, _IMAGE_FOLDERS), _label_folder(folder)
    if images and labels and _RARE_FOLDERS & {images.name.casefold(), labels.name.casefold()}:
        has_files = [
            any(_rasters(of) for of in (path, *(below for below in _subfolders(path) if part_of(below.name))))
            for path in (images, labels)
        ]
        if not all(has_files) or all(_marked_files(folder)):
            return None, None
    return images, labels


def _label_folder(folder: Path) -> Path | None:
    """Return the first usual subfolder of labels that holds some, else the first.

    So Pascal VOC's Annotations and xBD's labels, of another JSON than GeoJSON, do not hide the rasters beside them.
    """
    found = [path for name in _LABEL_FOLDERS if (path := _subfolder(folder, (name,)))]
    if len(found) < 2:
        return next(iter(found), None)

    def rank(path: Path) -> int:
        files = [file for of in (path, *_subfolders(path)) for file in _rasters(of, polygons=True)]
        if any(file.suffix.casefold() != ".json" for file in files):
            return 2
        return len(files[:1]) + any(map(_is_geojson, files[:1]))

    return max(found, key=rank)


def _is_geojson(file: Path) -> bool:
    with file.open("rb") as stored:
        return re.search(rb'"type"\s*:\s*"Feature', stored.read(4096)) is not None


def _rasters(folder: Path | None, *, polygons: bool = False) -> list[Path]:
    def is_wanted(entry: os.DirEntry[str]) -> bool:
        if polygons and entry.name.casefold().endswith(FEATURE_ENDS):
            return entry.is_file() or is_data_folder(Path(entry.path))
        return os.path.splitext(entry.name)[1].casefold() in _RASTERS and entry.is_file()  # noqa: PTH122 - faster

    return [] if folder is None else _entries(folder, is_wanted)


def has_whole_labels(root: str) -> bool:
    """Return whether a data set has a single label for each image.

    Such a folder has no images of its own, and no pairs, only folders of images named after classes, or more of these
    than tiles with pairs; a table has the column class.
    """
    if root.lower().endswith(TABLES):
        titles = table_titles(Path(root))
        return titles >= {"scene", "class"} and "labels" not in titles
    folder = Path(root)
    if not folder.is_dir() or _images(folder):
        return False
    pairs = [place.images[0] for place in _places(folder) if place.images and place.labels]
    classes = [path for path, _, _ in _class_folders(folder)]
    tiles = [path for path in classes if any(file.is_relative_to(path) for file in pairs)]
    if any(not any(file.is_relative_to(tile) for tile in tiles) for file in pairs):
        return False  # pairs of the folder or of a part
    if pairs and sum(path not in tiles and bool(_images(path)) for path in classes) <= len(tiles):
        return False
    return any(_images(path) for path, _, _ in _class_folders(folder)) and not _folders_named_after_kinds(folder)


def find_whole_labels(root: str, options: SearchOptions) -> FoundPairs:
    """Return a pair for each image: `CLASS/NAME` or `PART/CLASS/NAME`. SceneError for fewer than two classes."""
    if options.column is not None:
        raise UsageError("`column` is for label polygons; here each image has one label", "column")
    images = _matches_in_table(Path(root), "class") if Path(root).is_file() else _images_in_folders(Path(root))
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
    if Path(root).is_dir():
        doubt = _doubt(names, images)
        if doubt and len({len(scene.band_indexes) for scene in scenes}) > 1:
            raise SceneError(f"{root}: the images of {enumerated(names)} differ in bands; {doubt}")
        strays = ((path, _images(path)) for path, _ in _with_parts(Path(root)))
        notes += [doubt] if doubt else []
        notes += [_left_out_note(path, files) for path, files in strays if files]
    return FoundPairs(tuple(pairs), legend, tuple(notes))


def _check_not_bands(images: Sequence[_Match]) -> None:
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


def _doubt(names: Sequence[str], images: Sequence[_Match]) -> str | None:
    """Return a warning if few classes have files of the same names, as images and their masks do."""
    files = {frozenset(Path(image.scene).stem for image in images if image.labels == name) for name in names}
    if len(names) > _FEW or len(files) > 1:
        return None
    return (
        f"the files of {enumerated(names)} have the same names; if one folder holds the labels of another, give the "
        "folder of the scenes alone, and name that of the labels with `labels`"
    )


def _images_in_folders(root: Path) -> Sequence[_Match]:
    return [
        _Match(path.relative_to(root).with_suffix("").as_posix(), os.fspath(path), name, part)
        for folder, name, part in _class_folders(root)
        for path in _images(folder)
    ]


def _class_folders(root: Path) -> Iterator[_ClassFolder]:
    for path in _subfolders(root):
        part = PART_NAMES.get(path.name.casefold())
        if part is None:
            yield path, path.name, None
        else:
            yield from ((below, name, part) for below, name, none in _class_folders(path) if none is None)


def _folders_named_after_kinds(root: Path) -> list[Path]:
    """Return the folders of rasters that are named after the kind of their files, as `train_labels`, not a class.

    `train_depth` is one if images of the same names are in `train` itself.
    """
    parts = {path.name.casefold(): _stems(path) for path, part in _with_parts(root) if part}
    return [
        path
        for path, name, part in _class_folders(root)
        if (_kind(name) or (part is None and parts.get(next(iter(_words(name)), ""), set()) & _stems(path)))
        and any(file.suffix.casefold() in _RASTERS for file in path.rglob("*"))
    ]


def _stems(folder: Path) -> set[str]:
    return {image.stem for image in _images(folder)}


def _images(folder: Path) -> list[Path]:
    return [path for path in _rasters(folder) if path.suffix.casefold() in _IMAGES]


def is_deepglobe(root: str) -> bool:
    """Return whether a folder, or a subfolder named train, valid or test, holds files like `NNN_sat.jpg`.

    Masks beside images of other names, as `NNN.tif`, are another layout, and so are such images beside labels.
    """
    files = list(_images_and_masks(Path(root))) if Path(root).is_dir() else []
    kinds = {match["kind"].casefold() for path in files if (match := _DEEPGLOBE_FILE.fullmatch(path.name))}
    if kinds == {"mask"}:
        rasters = [path for path in files if path.suffix.casefold() in _RASTERS]
        return all(_DEEPGLOBE_FILE.fullmatch(path.name) for path in rasters)
    return len(kinds) == 2 or (bool(kinds) and not any(path.stem.casefold().endswith(_LABEL_ENDS) for path in files))


def find_deepglobe(root: str, options: SearchOptions) -> FoundPairs:
    """Return the pairs. SceneError lists images without masks and masks without images.

    Images in a folder without any masks, such as the challenge's valid/ and test/, are left out, with a note.
    """
    folder = Path(root)
    parts = _deepglobe_parts(folder / _DEEPGLOBE_METADATA)
    pairs: dict[str, tuple[Path, Path, str | None]] = {}
    notes = []
    for path, (images, masks) in _deepglobe_folders(folder).items():
        if images and not masks:
            notes.append(f"{numbered(len(images), 'image')} without masks in {path}, left out")
            continue
        _check_complete(path, images, masks, ("mask", "image"))
        part = None if path == folder else _deepglobe_part(path)
        for name, image in images.items():
            if name in pairs:
                raise SceneError(f"{image} and {pairs[name][0]} have the same id {name!r}; keep one of them")
            pairs[name] = image, masks[name], part or parts.get(name)
    if not pairs:
        raise SceneError(f"{root} holds images but no mask (NNN_mask.png); labels are needed to train or to evaluate")
    legend = options.legend or legend_beside(folder) or DEEPGLOBE
    items = sorted(pairs.items())
    opened = each(lambda item: _deepglobe_pair(item[0], item[1], legend, options), items)
    return FoundPairs(tuple(opened), legend, tuple(notes), kind="deepglobe")


def _deepglobe_pair(name: str, files: tuple[Path, Path, str | None], legend: Legend, options: SearchOptions) -> Pair:
    image, mask, part = files
    preferred_bands = ("red", "green", "blue") if options.bands is None else None
    scene = Scene.open(str(image), bands=options.bands, wanted_bands=preferred_bands)
    labels = ColorMask.open(str(mask), legend, options.tolerance, scene.geobox)
    return Pair(name, scene, labels, options.gsd_of(scene) or _DEEPGLOBE_GSD_M, part)


def _deepglobe_folders(root: Path) -> dict[Path, tuple[dict[str, Path], dict[str, Path]]]:
    """Return the images and the masks of each folder by id."""
    folders: dict[Path, tuple[dict[str, Path], dict[str, Path]]] = {}
    for path in _images_and_masks(root):
        match = _DEEPGLOBE_FILE.fullmatch(path.name)
        if match is None:
            continue
        files = folders.setdefault(path.parent, ({}, {}))[match["kind"].casefold() == "mask"]
        if other := files.get(match["id"]):
            raise SceneError(f"{path} and {other.name} have the same id {match['id']!r}; keep one of them")
        files[match["id"]] = path
    return folders


def _images_and_masks(root: Path) -> Iterator[Path]:
    for path in sorted(root.iterdir()):
        if path.is_dir() and _deepglobe_part(path):
            yield from sorted(file for file in path.iterdir() if file.is_file())
        elif path.is_file():
            yield path


def _deepglobe_part(folder: Path) -> str | None:
    """Return the part that a folder's name stands for; the challenge's names are land-train, land-valid, land-test."""
    return PART_NAMES.get(folder.name.casefold().removeprefix("land-").removeprefix("land_"))


def _deepglobe_parts(file: Path) -> dict[str, str]:
    """Return id -> part from metadata.csv, with the columns image_id, split, sat_image_path, mask_path."""
    if not file.is_file():
        return {}
    try:
        rows = list(csv.DictReader(text_in(file).splitlines(), strict=True))
    except csv.Error as error:
        raise SceneError(f"{file} is not a valid table: {error}; repair or remove it") from None
    except ValueError as error:
        raise SceneError(f"{file} {error}; or remove it") from None
    entries = [(row.get("image_id") or "", (row.get("split") or "").strip().casefold()) for row in rows]
    return {name.strip(): PART_NAMES[part] for name, part in entries if part in PART_NAMES}
