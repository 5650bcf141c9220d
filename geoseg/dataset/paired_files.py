"""Scenes and labels in files of their own, paired by the names of files and folders, or by a table.

They are in two folders, or in one folder with matching names; in such folders of each part; or in tiles of a survey.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geoseg.atomic import same_file
from geoseg.dataset.area import PARTS
from geoseg.dataset.label_files import find_labels
from geoseg.dataset.pair import FoundPairs, Pair
from geoseg.dataset.search import (
    IMAGE_FOLDERS,
    KINDS,
    LABEL_ENDS,
    MASKS,
    PART_NAMES,
    RASTERS,
    Match,
    SearchOptions,
    by_id,
    check_complete,
    each,
    entries_of,
    kind_of,
    left_out_note,
    legend_beside,
    matches_in_table,
    part_of,
    rasters,
    subfolders,
    words_of,
)
from geoseg.dataset.whole_labels import folders_named_after_kinds
from geoseg.errors import SceneError, UsageError, listed, numbered
from geoseg.features import FEATURE_ENDS, is_data_folder
from geoseg.given import TABLES, is_frame
from geoseg.raster import Scene, shown

_LABEL_FOLDERS = (
    *("labels", "label", "masks", "mask", "msk", "gt", "annotations", "ann_dir", "masks_png"),
    *("segmentationclass", "targets", "map"),
)
_RARE_FOLDERS = {"jpegimages", "segmentationclass", "targets", "map"}
_IMAGE_ENDS = ("_image", "_img", "_sat", "_scene", "_rgb")
_M = ("_m",)
"""The end of labels in LandCover.ai."""
_WORDS = {end.removeprefix("_") for end in (*_IMAGE_ENDS, *LABEL_ENDS)}
_GEOJSON = re.compile(rb'"type"\s*:\s*"Feature')
_SAYS_KIND = re.compile("image|img|label|mask|msk|target|rgb|^l$")
"""Parts of words in the names of files; CamVid's labels are called NAME_L."""


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
    """Return the pairs of a folder, a table or a scene. Raises SceneError and UsageError as `open_dataset` does."""
    matches, left_out = _matches(root, options.labels)
    if not matches:
        named = {path.name for path in folders_named_after_kinds(Path(root))} if Path(root).is_dir() else ()
        examples = f", as {listed(sorted(named))} {'is' if len(named) == 1 else 'are'}" if named else ""
        raise SceneError(
            f"{shown(root)} holds no imagery with labels; give NNN_sat.jpg and NNN_mask.png, images/ and labels/ with "
            "equal file names, NAME_image.tif and NAME_label.tif, a CSV with the columns scene and labels, or a folder "
            f"of images for each class, none of them named after images or labels{examples}; or give the "
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


def _matches(root: str, labels: Any) -> tuple[list[Match], list[str]]:  # noqa: ANN401 - a path, or a GeoDataFrame, slow to import
    """Return the scenes with their labels, and notes on images that are left out."""
    folder = Path(root)
    if root.lower().endswith(TABLES):
        if labels is not None:
            raise UsageError(f"{root} names the labels of each scene; leave `labels` out", "labels")
        return matches_in_table(folder, "labels"), []
    if not folder.is_dir():
        if labels is None:
            raise UsageError(
                f"{shown(root)} is a single scene; name its labels with `labels`, a raster or polygons", "labels"
            )
        return [Match(Path(root).stem, root, labels)], []
    if labels is not None:
        return _with_labels(folder, labels)
    places = _found_places(folder)
    left_out = [
        left_out_note(place.path, place.images, labels=bool(place.labels)) for place in places if place.is_left_out
    ]
    matched = [_matched_by_id(place) for place in places if not place.is_left_out]
    notes = dict.fromkeys([*left_out, *(note for _, note in matched if note)])
    matches = [match for found, _ in matched for match in found]
    if len({match.id for match in matches}) < len(matches):  # each part counts its files from 1
        matches = [replace(match, id=f"{match.part}/{match.id}" if match.part else match.id) for match in matches]
    return matches, [*notes]


def paired_images(root: str) -> list[Path]:
    """Return an image of each place of a folder that has labels."""
    return [place.images[0] for place in _found_places(Path(root)) if place.images and place.labels]


def _found_places(folder: Path) -> list[_Place]:
    """Return the places of a data set; with masks in BMP or GIF if no image has labels in another format."""
    places = _places(folder)
    if any(place.images and place.labels for place in places):
        return places
    others = _places(folder, MASKS)
    return others if any(place.images and place.labels for place in others) else places


def _places(folder: Path, ends: Collection[str] = RASTERS) -> list[_Place]:
    """Return the places of a data set: the folder and its parts, else their subfolders, as the tiles of a survey.

    `ends`: of the rasters that may be labels.
    """
    parts = _part_folders(
        subfolders(folder),
        lambda path: (
            any(place.images and place.labels for place in _places_in_folder(path, None, ends))
            or any(all(_pair_of_folders(tile, ends)) for tile in subfolders(path))
        ),
    )
    roots = {folder: (None, "")} | {path: (part, _prefix(path, parts)) for path, part in parts.items()}
    places = [
        replace(place, prefix=f"{prefix}{place.prefix}")
        for path, (part, prefix) in roots.items()
        for place in _places_in_folder(path, part, ends)
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
        for tile in subfolders(path)
        if tile not in roots
        if _named(tile, IMAGE_FOLDERS) and (part == "test" or _named(tile, _LABEL_FOLDERS))
        for place in _places_in_folder(tile, part, ends)
    ]


def _part_folders(folders: Sequence[Path], has_pairs: Callable[[Path], bool]) -> dict[Path, str]:
    """Return those of the folders beside each other that are named after a part, with the part.

    `my_train` is one only if all that have pairs are, with the same start, and there are two parts at least.
    """
    named = {path: part_of(path.name) for path in folders}
    exact = {path: part for path in folders if (part := PART_NAMES.get(path.name.casefold()))}
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


def _prefix(folder: Path, parts: Mapping[Path, str]) -> str:
    """Return the start of the ids in a part's folder: its name if a part has several, as `train_2018, train_2019`."""
    is_one = len({*parts.values()}) == len(parts) or folder.name.casefold() in PART_NAMES
    return "" if is_one else f"{folder.name}/"


def _places_in_folder(folder: Path, part: str | None, ends: Collection[str]) -> list[_Place]:
    """Return the places of a folder that hold files: itself, or a pair of subfolders and their parts.

    If these hold none, the subfolders that both of the pair have.
    """
    images, labels = _pair_of_folders(folder, ends)
    place = replace(_place([images], [labels], ends, part), path=folder)
    places = [place]
    if images is None or labels is None:
        marked = _Place(folder, *_marked_files(folder, ends), part)
        named = [] if marked.labels else _places_by_name(folder, part, ends)
        places = [*named, marked if part is None or named or marked.images or marked.labels else place]
    else:
        parts = _part_folders(
            [*subfolders(images), *subfolders(labels)],
            lambda path: (images / path.name).is_dir() and (labels / path.name).is_dir(),
        )
        places += [place for name in PARTS for place in _places_of_part(images, labels, ends, name, parts)]
        is_beside = not all(place.is_left_out or not (place.images or place.labels) for place in places)
        places += [
            replace(_place([path], [labels / path.name], ends, part), prefix=f"{path.name}/", is_beside=is_beside)
            for path in subfolders(images)
            if path not in parts and (labels / path.name).is_dir()
        ]
    return [place for place in places if place.images or place.labels]


def _places_of_part(
    images: Path, labels: Path, ends: Collection[str], part: str, parts: Mapping[Path, str]
) -> list[_Place]:
    """Return the place of a part in folders of images and of labels; several if both have several of equal names."""
    scenes, masks = ([path for path in parts if path.parent == of] for of in (images, labels))
    prefixes = {path: _prefix(path, {path: parts[path] for path in scenes}) for path in scenes if parts[path] == part}
    masks = [path for path in masks if parts[path] == part]
    if not any(prefixes.values()) or [path.name for path in prefixes] != [path.name for path in masks]:
        return [_place([*prefixes], masks, ends, part)]
    pairs = zip(prefixes, masks, strict=True)
    return [replace(_place([path], [mask], ends, part), prefix=prefixes[path]) for path, mask in pairs]


def _places_by_name(folder: Path, part: str | None, ends: Collection[str]) -> list[_Place]:
    """Return the places in subfolders whose names say what they hold: `train` and `train_labels`, `img_8` and `msk_8`.

    There are none unless one folder of images has one of labels beside it; a test part may lack labels.
    """
    found: dict[str | None, tuple[list[Path], list[Path]]] = {}
    for path in subfolders(folder):
        kind = kind_of(path.name, beside_images=True)
        if kind and _label_files(path, ends) and not all(_marked_files(path, ends)):
            own_part = next((PART_NAMES[word] for word in words_of(path.name) if word in PART_NAMES), None)
            found.setdefault(part or own_part, ([], []))[kind == "labels"].append(path)
    counts = [(len(images), len(labels)) for images, labels in found.values()]
    if (1, 1) not in counts and not (part == "test" and any(images for images, _ in counts)):
        return []
    places = [_place(images, labels, ends, name) for name, (images, labels) in found.items()]
    return places if part is None else [replace(place, path=folder) for place in places]


def _place(
    images: Sequence[Path | None], labels: Sequence[Path | None], ends: Collection[str], part: str | None
) -> _Place:
    """Return the place of all files in folders of images and of labels, of which there may be none."""
    scenes = [file for folder in filter(None, images) for file in rasters(folder)]
    masks = [file for folder in filter(None, labels) for file in _label_files(folder, ends)]
    return _Place(next(filter(None, (*images, *labels)), Path()), scenes, masks, part)


def _marked_files(folder: Path, ends: Collection[str]) -> tuple[list[Path], list[Path]]:
    """Return the images and labels in one folder: NAME_image.tif or NAME.tif with NAME_label.tif.

    A file with labels of its own is an image, whatever its end. Beside images with an image's end, files without one
    are images only if they alone have the name of a label.
    """
    files = rasters(folder)
    ended = [path for path in rasters(folder, ends) if path.stem.casefold().endswith(LABEL_ENDS)]
    names = {_without_end(path.stem, LABEL_ENDS) for path in ended}
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


def _with_labels(folder: Path, labels: Any) -> tuple[list[Match], list[str]]:  # noqa: ANN401 - as above
    images = rasters(next(iter(_named(folder, IMAGE_FOLDERS)), folder))
    if is_frame(labels):
        return [Match(path.stem, str(path), labels) for path in images], []
    file = Path(labels)  # a URL gives a path that does not exist
    if file.is_dir() and not is_data_folder(file):
        matches, note = _matched_by_id(_Place(folder, images, _label_files(file) or rasters(file, MASKS)))
        return matches, [note] if note else []
    return [Match(path.stem, str(path), labels) for path in images if not same_file(path, file)], []


def _matched_by_id(place: _Place) -> tuple[list[Match], str | None]:
    """Return the scenes of a place with their labels, and a note if only parts of their names are equal."""
    stems = {_stem(path) for path in {*place.images} - {*place.labels}}
    ends = _M if _are_of_m(place.labels, stems) else LABEL_ENDS
    labels_by_id = _by_id(place.labels, ends, stems | {_without_end(stem, _IMAGE_ENDS) for stem in stems})
    scenes_by_id = _by_id(place.images, _IMAGE_ENDS, labels_by_id)
    note = None
    if scenes_by_id.keys() != labels_by_id.keys():
        own = _own_words(scenes_by_id, labels_by_id), _own_words(labels_by_id, scenes_by_id)
        named = _without_words(scenes_by_id, own[0]), _without_words(labels_by_id, own[1])
        if named[0].keys() == named[1].keys() and any(map(_says_kind, own[0] | own[1])):
            scenes_by_id, labels_by_id = named
            words = f"that all images or all labels share, {listed(sorted(own[0] | own[1]))}"
            is_usual = all(word in _WORDS or word in KINDS for word in own[0] | own[1])
            note = None if is_usual else f"{place.path}: pairs have equal names but for words {words}"
    if place.images and not place.labels:
        raise SceneError(
            f"{place.path}: {numbered(len(place.images), 'scene')} without labels; add rasters or polygons that GDAL "
            "reads, or name them with `labels`",
            "labels",
        )
    check_complete(place.path, scenes_by_id, labels_by_id, ("labels", "a scene"))
    matches = [
        Match(place.prefix + name, str(path), str(labels_by_id[name]), place.part)
        for name, path in sorted(scenes_by_id.items())
    ]
    return matches, note


def _by_id(paths: Sequence[Path], ends: tuple[str, ...], whole: Collection[str]) -> dict[str, Path]:
    """Return the files by their names without any of the `ends`; those of the `whole` names keep it."""
    stems = ((_stem(path), path) for path in paths)
    return by_id((stem if stem in whole else _without_end(stem, ends), path) for stem, path in stems)


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
    return word in _WORDS or word in KINDS or _SAYS_KIND.search(word) is not None


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


def _named(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the first subfolder with each of the names, in upper or lower case, in the order of the names."""
    found = {path.name.casefold(): path for path in reversed(subfolders(folder))}
    return [found[name] for name in names if name in found]


def _pair_of_folders(folder: Path, ends: Collection[str]) -> tuple[Path | None, Path | None]:
    """Return the subfolders of images and of labels. `map` and the like may also be the name of a tile or a class."""
    images, labels = next(iter(_named(folder, IMAGE_FOLDERS)), None), _label_folder(folder, ends)
    if images and labels and _RARE_FOLDERS & {images.name.casefold(), labels.name.casefold()}:
        has_files = [
            any(rasters(of, ends) for of in (path, *(below for below in subfolders(path) if part_of(below.name))))
            for path in (images, labels)
        ]
        if not all(has_files) or all(_marked_files(folder, ends)):
            return None, None
    return images, labels


def _label_folder(folder: Path, ends: Collection[str]) -> Path | None:
    """Return the first usual subfolder of labels that holds some, else the first.

    So Pascal VOC's Annotations and xBD's labels, of another JSON than GeoJSON, do not hide the rasters beside them.
    """
    found = _named(folder, _LABEL_FOLDERS)

    def rank(path: Path) -> int:
        files = [file for of in (path, *subfolders(path)) for file in _label_files(of, ends)]
        if not files or any(file.suffix.casefold() != ".json" for file in files):
            return 2 if files else 0
        with files[0].open("rb") as stored:
            return 1 + bool(_GEOJSON.search(stored.read(4096)))

    return max(found, key=rank) if len(found) > 1 else next(iter(found), None)


def _label_files(folder: Path, ends: Collection[str] = RASTERS) -> list[Path]:
    """Return the rasters and the files of polygons in a folder."""

    def is_polygons(entry: os.DirEntry[str]) -> bool:
        return entry.name.casefold().endswith(FEATURE_ENDS) and (entry.is_file() or is_data_folder(Path(entry.path)))

    return sorted([*rasters(folder, ends), *entries_of(folder, is_polygons)])
