"""Georeferenced scenes and their labels: in two folders, in one by their names, in a table, or one of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.dataset.labels import find_labels
from geoseg.dataset.pair import Found, Pair
from geoseg.dataset.search import (
    PART_NAMES,
    TABLES,
    SearchOptions,
    beside_table,
    each,
    legend_beside,
    listed,
    part_in,
    table_rows,
)
from geoseg.errors import SceneError, UsageError
from geoseg.features import FEATURE_ENDS, is_data_folder
from geoseg.given import is_frame
from geoseg.raster import Scene, shown

_IMAGE_FOLDERS = ("images", "image", "scenes", "imgs", "img", "sat")
_LABEL_FOLDERS = ("labels", "label", "masks", "mask", "gt")
_IMAGE_ENDS = ("_image", "_img", "_sat", "_scene", "_rgb")
_LABEL_ENDS = ("_labels", "_label", "_mask", "_lbl", "_gt", "_classes", "_landcover")
_RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".png", ".jpg", ".jpeg", ".img", ".bsq", ".bil")


@dataclass(frozen=True, slots=True)
class _Match:
    """A scene's file and its labels' file."""

    id: str
    scene: str
    labels: Any
    """A path, or a GeoDataFrame."""
    part: str | None = None


def find_pairs(root: str, options: SearchOptions) -> Found:
    """Return the pairs of any layout but DeepGlobe's. SceneError and UsageError as `open_dataset` says."""
    matches = _matches(root, options.labels)
    if not matches:
        raise SceneError(
            f"{shown(root)} holds no imagery with labels; give NNN_sat.jpg and NNN_mask.png, images/ and labels/ of "
            "equal names, NAME_image.tif and NAME_label.tif, or a CSV with the columns scene and labels"
        )
    scenes = each(lambda match: Scene.open(match.scene, bands=options.bands), matches)
    given = options.legend or legend_beside(Path(root))
    labels, legend, notes = find_labels([match.labels for match in matches], scenes, options, given)
    gsds = [options.gsd_m or scene.geobox.gsd_m for scene in scenes]
    pairs = [
        Pair(match.id, scene, label, gsd_m, match.part)
        for match, scene, label, gsd_m in zip(matches, scenes, labels, gsds, strict=True)
    ]
    return Found(tuple(pairs), legend, notes)


def _matches(root: str, labels: Any) -> list[_Match]:  # noqa: ANN401 - a path, or a GeoDataFrame, which is heavy to name
    folder = Path(root)
    if root.lower().endswith(TABLES):
        if labels is not None:
            raise UsageError(f"{root} names the labels of each scene; leave `labels` out", "labels")
        return _from_table(folder)
    if not folder.is_dir():
        if labels is None:
            raise UsageError(
                f"{shown(root)} is one scene; name its labels with `labels`, a raster or polygons", "labels"
            )
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
        raise SceneError(
            f"{folder}: {len(images)} scenes and no labels; add them, or name them with `labels`", "labels"
        )
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
            raise SceneError(f"{path} and {found[name].name} have the same id {name!r}; keep one of them")
        found[name] = path
    return found


def _stem(path: Path) -> str:
    """Return a name without its ending, which of a compressed file is two."""
    return path.stem.rpartition(".")[0] if path.name.casefold().endswith((".geojson.gz", ".geojsonl.gz")) else path.stem


def _from_table(file: Path) -> list[_Match]:
    found = []
    for number, cells in table_rows(file, ("scene", "labels")):
        scene, labels = (beside_table(file, cells[name]) for name in ("scene", "labels"))
        found.append(_Match(cells.get("id") or Path(scene).stem, scene, labels, part_in(file, number, cells)))
    return found


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
