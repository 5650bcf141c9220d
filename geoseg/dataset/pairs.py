"""Georeferenced scenes and their labels: in two folders, in one by their names, in a table, or one of each."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.dataset.codes_in import classes_in, undeclared_note
from geoseg.dataset.color_mask import ColorMask
from geoseg.dataset.features import (
    FEATURE_ENDS,
    FeatureTable,
    column_of,
    find_features,
    is_data_folder,
    is_features,
    is_frame,
)
from geoseg.dataset.found import PART_NAMES, Found, Wishes, each, listed
from geoseg.dataset.label_polygons import LabelPolygons, check_place, read_polygons
from geoseg.dataset.label_raster import LabelRaster, check_codes
from geoseg.dataset.label_raster import check_place as check_grid
from geoseg.dataset.legends import codes_of, codes_of_values, given_legend, merged, own_legend, unmatched_note
from geoseg.dataset.pair import Labels, Pair
from geoseg.errors import SceneError, UsageError
from geoseg.legend import Legend
from geoseg.raster.classes import read_nomenclature
from geoseg.raster.environment import shown
from geoseg.raster.geobox import GeoBox
from geoseg.raster.handles import opened
from geoseg.raster.nomenclature import Nomenclature
from geoseg.raster.scene import Scene

_IMAGE_FOLDERS = ("images", "image", "scenes", "imgs", "img", "sat")
_LABEL_FOLDERS = ("labels", "label", "masks", "mask", "gt")
_IMAGE_ENDS = ("_image", "_img", "_sat", "_scene", "_rgb")
_LABEL_ENDS = ("_labels", "_label", "_mask", "_lbl", "_gt", "_classes", "_landcover")
_RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".png", ".jpg", ".jpeg", ".img", ".bsq", ".bil")
_TABLES = (".csv", ".tsv")
_CLASSES = "class_dict.csv"


@dataclass(frozen=True, slots=True)
class _Match:
    """A scene's file and its labels' file."""

    id: str
    scene: str
    labels: Any
    """A path, or a GeoDataFrame."""
    part: str | None = None


def find_pairs(root: str, wishes: Wishes) -> Found:
    """Return the pairs of any layout but DeepGlobe's. SceneError and UsageError as `open_dataset` says."""
    matches = _matches(root, wishes.labels)
    if not matches:
        raise SceneError(
            f"{shown(root)} holds no imagery with labels; wanted: NNN_sat.jpg and NNN_mask.png, images/ and labels/ of "
            "equal names, NAME_image.tif and NAME_label.tif, or a CSV with the columns scene and labels"
        )
    scenes = each(lambda match: Scene.open(match.scene, bands=wishes.bands), matches)
    given = wishes.legend or _beside(root)
    labels, legend, notes = _labels(matches, scenes, wishes, given)
    gsds = [wishes.gsd_m or scene.geobox.gsd_m for scene in scenes]
    pairs = [
        Pair(match.id, scene, label, gsd_m, match.part)
        for match, scene, label, gsd_m in zip(matches, scenes, labels, gsds, strict=True)
    ]
    return Found(tuple(pairs), legend, notes)


def _matches(root: str, labels: Any) -> list[_Match]:  # noqa: ANN401 - a path, or a GeoDataFrame, which is heavy to name
    folder = Path(root)
    if root.lower().endswith(_TABLES):
        if labels is not None:
            raise UsageError(f"{root} names the labels of each scene; leave --labels out")
        return _from_table(folder)
    if not folder.is_dir():
        if labels is None:
            raise UsageError(f"{shown(root)} is one scene; name its labels with --labels, a raster or polygons")
        return [_Match(Path(root).stem, root, labels)]
    if labels is not None:
        return _with_labels(folder, labels)
    parts = [(path, PART_NAMES.get(path.name.casefold())) for path in sorted(folder.iterdir()) if path.is_dir()]
    places = [(folder, None), *((path, part) for path, part in parts if part is not None)]
    return [match for place, part in places for match in _in_folder(place, part)]


def _in_folder(folder: Path, part: str | None) -> list[_Match]:
    images, labels = _subfolder(folder, _IMAGE_FOLDERS), _subfolder(folder, _LABEL_FOLDERS)
    if images is not None and labels is not None:
        return _joined(folder, _rasters(images), _rasters(labels, polygons=True), part)
    files = _rasters(folder)
    marked = {path: path.stem.casefold() for path in files}
    return _joined(
        folder,
        [path for path, stem in marked.items() if stem.endswith(_IMAGE_ENDS)],
        [path for path, stem in marked.items() if stem.endswith(_LABEL_ENDS)],
        part,
    )


def _with_labels(folder: Path, labels: Any) -> list[_Match]:  # noqa: ANN401 - as above
    images = _rasters(_subfolder(folder, _IMAGE_FOLDERS) or folder)
    if is_frame(labels):
        return [_Match(path.stem, str(path), labels) for path in images]
    file = Path(labels)  # of an address it is none, but then nothing is there either
    if file.is_dir() and not is_data_folder(file):
        return _joined(folder, images, _rasters(file, polygons=True), None)
    return [_Match(path.stem, str(path), labels) for path in images if path.absolute() != file.absolute()]


def _joined(folder: Path, images: Sequence[Path], labels: Sequence[Path], part: str | None) -> list[_Match]:
    scenes_by_id, labels_by_id = _by_id(images, _IMAGE_ENDS), _by_id(labels, _LABEL_ENDS)
    if images and not labels:
        raise SceneError(f"{folder}: {len(images)} scenes and no labels; add them, or name them with --labels")
    for there, lacking, what in ((scenes_by_id, labels_by_id, "labels"), (labels_by_id, scenes_by_id, "a scene")):
        if alone := there.keys() - lacking.keys():
            raise SceneError(f"{folder}: {len(alone)} of {len(there)} without {what}: {listed(alone)}; add or remove")
    return [_Match(name, str(path), str(labels_by_id[name]), part) for name, path in sorted(scenes_by_id.items())]


def _by_id(paths: Sequence[Path], ends: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        stem = _stem(path)
        end = next((end for end in ends if stem.casefold().endswith(end)), "")
        name = stem[: -len(end)] if end else stem
        if name in found:
            raise SceneError(f"{path} and {found[name].name} have one id {name!r}; keep one of them")
        found[name] = path
    return found


def _stem(path: Path) -> str:
    """Return a name without its ending, which of a compressed file is two."""
    return path.stem.rpartition(".")[0] if path.name.casefold().endswith((".geojson.gz", ".geojsonl.gz")) else path.stem


def _from_table(file: Path) -> list[_Match]:
    try:
        lines = file.read_bytes().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SceneError(f"cannot read {file}: {error}") from None
    heading = lines[0] if lines else ""
    rows = csv.DictReader(lines, delimiter=max(",;\t", key=heading.count), skipinitialspace=True)
    titles = {title.strip().casefold(): title for title in rows.fieldnames or ()}
    if "scene" not in titles or "labels" not in titles:
        raise SceneError(f"{file}: the heading needs the columns scene and labels, got {heading!r:.80}")
    found = []
    for number, row in enumerate(rows, start=2):
        cells = {name: (row.get(title) or "").strip() for name, title in titles.items()}
        if not any(cells.values()):
            continue
        if not cells["scene"] or not cells["labels"]:
            raise SceneError(
                f"{file}, line {number}: a scene and its labels are wanted, got {','.join(cells.values())!r:.80}"
            )
        part = cells.get("split", "").casefold()
        if part and part not in PART_NAMES:
            raise SceneError(f"{file}, line {number}: split is train, valid or test, got {part!r:.40}")
        scene, labels = (_beside_table(file, cells[name]) for name in ("scene", "labels"))
        found.append(_Match(cells.get("id") or Path(scene).stem, scene, labels, PART_NAMES.get(part)))
    return found


def _beside_table(file: Path, name: str) -> str:
    return name if "://" in name or name.startswith("/vsi") else str(file.parent / name)


def _subfolder(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((path for name in names if (path := folder / name).is_dir()), None)


def _rasters(folder: Path, *, polygons: bool = False) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
        and (
            (path.is_file() and path.suffix.casefold() in _RASTERS)
            or (polygons and path.name.casefold().endswith(FEATURE_ENDS) and (path.is_file() or is_data_folder(path)))
        )
    ]


def _beside(root: str) -> Legend | None:
    file = Path(root) / _CLASSES
    return given_legend(file) if file.is_file() else None


def _labels(
    matches: Sequence[_Match], scenes: Sequence[Scene], wishes: Wishes, legend: Legend | None
) -> tuple[list[Labels], Legend, tuple[str, ...]]:
    """Return the labels of each scene, which are all of one kind, their legend, and what is to be said of them."""
    files = [match.labels for match in matches]
    are_polygons = each(is_features, files)
    if all(are_polygons):
        return _polygons(files, scenes, wishes, legend)
    if any(are_polygons):
        raise SceneError(
            f"labels are polygons or rasters, not both: {listed({files[0], files[are_polygons.index(True)]})}"
        )
    if wishes.column is not None:
        raise UsageError("--column is one of polygons; leave it out for label rasters")
    if wishes.layer is not None:
        raise UsageError("layer is one of polygons; leave it out for label rasters")
    looked = each(lambda place: _look(files[place], scenes[place].geobox, legend, wishes.tolerance), range(len(files)))
    rasters = [found for found in looked if isinstance(found, _Codes)]
    if not rasters:
        return (*_masks(files, looked, legend), ())
    if len(rasters) < len(looked):
        picture = files[next(place for place, found in enumerate(looked) if not isinstance(found, _Codes))]
        raise SceneError(
            f"labels are pictures of colours or rasters of codes, not both: {shown(picture)} is a picture, "
            f"{shown(rasters[0].raster.path)} holds codes; bring them to one kind"
        )
    return _coded(rasters, wishes, legend)


@dataclass(frozen=True, slots=True)
class _Codes:
    """A label raster, and what it says of its classes."""

    raster: Scene
    said: Nomenclature


def _look(file: str, grid: GeoBox, legend: Legend | None, tolerance: float) -> ColorMask | _Codes | None:
    """Return what a label raster is; None for a picture without a legend to read it by. All that opens it is here."""
    with opened(file) as dataset:
        is_picture = dataset.count >= 3 and dataset.dtypes[0] == "uint8"
    if is_picture:
        return None if legend is None else ColorMask.open(file, legend, tolerance, grid)
    raster = Scene.open(file)
    check_codes(raster)
    check_grid(raster, grid)
    return _Codes(raster, read_nomenclature(raster))


def _masks(
    files: Sequence[str], looked: Sequence[ColorMask | _Codes | None], legend: Legend | None
) -> tuple[list[Labels], Legend]:
    if legend is None:
        raise UsageError(f"{shown(files[0])} is a picture; say which colour is which class with --legend")
    return [mask for mask in looked if isinstance(mask, ColorMask)], legend


def _coded(
    found: Sequence[_Codes], wishes: Wishes, legend: Legend | None
) -> tuple[list[Labels], Legend, tuple[str, ...]]:
    rasters, said = [one.raster for one in found], [one.said for one in found]
    if legend is None:
        known = merged((shown(raster.path), one) for raster, one in zip(rasters, said, strict=True))
        legend, ours = own_legend(known if known.classes else Nomenclature().completed(classes_in(rasters)))
        recodings = [ours] * len(found)
        notes = []
    else:
        recodings = [codes_of(one, legend) for one in said]
        notes = [unmatched_note(said[0], legend, shown(rasters[0].path))]
    notes.append(undeclared_note(rasters, recodings))
    return (
        [
            LabelRaster(raster, tuple(sorted(recoding.items())), wishes.tolerance)
            for raster, recoding in zip(rasters, recodings, strict=True)
        ],
        legend,
        tuple(note for note in notes if note),
    )


def _polygons(
    files: Sequence[Any], scenes: Sequence[Scene], wishes: Wishes, legend: Legend | None
) -> tuple[list[Labels], Legend, tuple[str, ...]]:
    places: dict[str, list[GeoBox]] = {}
    for file, scene in zip(files, scenes, strict=True):
        places.setdefault(_key(file), []).append(scene.geobox)
    sources: dict[str, FeatureTable] = {}
    columns, values, crs, notes = {}, {}, {}, []
    for file in {_key(file): file for file in files}.values():
        name = _key(file)
        sources[name] = find_features(file, "polygons", "labels", wishes.layer)
        columns[name] = column_of(sources[name], wishes.column)
        found = read_polygons(sources[name], columns[name])
        values[name], crs[name] = sorted(set(found.values) - {""}), found.crs_wkt
        notes += [sources[name].note, found.note(places[name])]
    every = sorted({value for found in values.values() for value in found})
    first = _key(files[0])
    legend, codes = codes_of_values(every, legend, f"{sources[first].name}, column {columns[first]}")
    labels: list[Labels] = []
    for file, scene in zip(files, scenes, strict=True):
        name = _key(file)
        check_place(sources[name], crs[name], scene.geobox, scene.path)
        pairs = tuple((value, codes[value]) for value in values[name])
        labels.append(LabelPolygons(sources[name], columns[name], pairs, crs[name]))
    return labels, legend, tuple(note for note in notes if note)


def _key(labels: object) -> str:
    """Return what tells one source of polygons from another."""
    return os.fspath(labels) if isinstance(labels, str | os.PathLike) else f"frame {id(labels)}"
