"""Georeferenced scenes and their labels: in two folders, in one by their names, in a table, or one of each."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
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
)
from geoseg.dataset.found import PART_NAMES, Found, Wishes, each, listed
from geoseg.dataset.label_polygons import LabelPolygons, check_place, read_polygons
from geoseg.dataset.label_raster import LabelRaster, check_codes
from geoseg.dataset.label_raster import check_place as check_grid
from geoseg.dataset.legends import (
    alike_note,
    codes_of,
    codes_of_values,
    given_legend,
    merged,
    own_legend,
    unmatched_note,
)
from geoseg.dataset.pair import Labels, Pair
from geoseg.errors import SceneError, UsageError
from geoseg.given import is_frame
from geoseg.legend import DEEPGLOBE, Legend, Nomenclature
from geoseg.raster import (
    GeoBox,
    Palette,
    Reading,
    Scene,
    indexes_in,
    is_plain,
    opened,
    palette_of,
    read_nomenclature,
    reading,
    shown,
    written,
)

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
            raise UsageError(f"{root} names the labels of each scene; leave `labels` out")
        return _from_table(folder)
    if not folder.is_dir():
        if labels is None:
            raise UsageError(f"{shown(root)} is one scene; name its labels with `labels`, a raster or polygons")
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
        raise SceneError(f"{folder}: {len(images)} scenes and no labels; add them, or name them with `labels`")
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
    found = []
    for number, cells in table_rows(file, ("scene", "labels")):
        scene, labels = (beside_table(file, cells[name]) for name in ("scene", "labels"))
        found.append(_Match(cells.get("id") or Path(scene).stem, scene, labels, part_in(file, number, cells)))
    return found


def table_rows(file: Path, wanted: tuple[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line and the cells, by column in small letters, of each row of a table. SceneError.

    `wanted`: two columns that are not empty in any row.
    """
    try:
        lines = file.read_bytes().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SceneError(f"cannot read {file}: {error}") from None
    heading = lines[0] if lines else ""
    rows = csv.DictReader(lines, delimiter=max(",;\t", key=heading.count), skipinitialspace=True)
    titles = {title.strip().casefold(): title for title in rows.fieldnames or ()}
    if not titles.keys() >= {*wanted}:
        raise SceneError(f"{file}: the heading needs the columns {wanted[0]} and {wanted[1]}, got {heading!r:.80}")
    for number, row in enumerate(rows, start=2):
        cells = {name: (row.get(title) or "").strip() for name, title in titles.items()}
        if not any(cells.values()):
            continue
        if not all(cells[name] for name in wanted):
            what = {"labels": "its labels", "class": "its class"}[wanted[1]]
            raise SceneError(
                f"{file}, line {number}: a {wanted[0]} and {what} are wanted, got {','.join(cells.values())!r:.80}"
            )
        yield number, cells


def part_in(file: Path, number: int, cells: dict[str, str]) -> str | None:
    """Return the part that a row of a table names, if any. SceneError."""
    part = cells.get("split", "").casefold()
    if part and part not in PART_NAMES:
        raise SceneError(f"{file}, line {number}: split is train, valid or test, got {part!r:.40}")
    return PART_NAMES.get(part)


def beside_table(file: Path, name: str) -> str:
    """Return a path that stands in a table."""
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
        raise UsageError("`column` is one of polygons; leave it out for label rasters")
    if wishes.layer is not None:
        raise UsageError("layer is one of polygons; leave it out for label rasters")
    looked = each(lambda place: _look(files[place], scenes[place].geobox, legend, wishes.tolerance), range(len(files)))
    return _rasters_of(files, scenes, looked, wishes, legend)


@dataclass(frozen=True, slots=True)
class _Codes:
    """A label raster, and what it says of its classes."""

    raster: Scene
    said: Nomenclature
    palette: Palette | None


def _look(file: str, grid: GeoBox, legend: Legend | None, tolerance: float) -> ColorMask | _Codes | None:
    """Return what a label raster is; None for a picture without a legend to read it by. All that opens it is here."""
    with opened(file) as dataset:
        is_picture = dataset.count >= 3 and dataset.dtypes[0] == "uint8"
        palette = palette_of(dataset)
    if is_picture:
        return None if legend is None else ColorMask.open(file, legend, tolerance, grid)
    raster = Scene.open(file)
    check_codes(raster)
    check_grid(raster, grid)
    return _Codes(raster, read_nomenclature(raster), palette)


def _rasters_of(
    files: Sequence[str],
    scenes: Sequence[Scene],
    looked: Sequence[ColorMask | _Codes | None],
    wishes: Wishes,
    legend: Legend | None,
) -> tuple[list[Labels], Legend, tuple[str, ...]]:
    """Return labels that are pictures, rasters of codes and palettes in any mixture, each read as what it is."""
    if None in looked:
        raise UsageError(
            f"{shown(files[looked.index(None)])} is a picture; say which color is which class with a legend"
        )
    notes: list[str] = []
    if legend is None:
        _check_palettes([found for found in looked if isinstance(found, _Codes)])
    else:
        looked, notes = _by_palette(looked, scenes, legend, wishes.tolerance)
    coded = [found for found in looked if isinstance(found, _Codes)]
    if not coded:
        return [mask for mask in looked if isinstance(mask, ColorMask)], legend or DEEPGLOBE, tuple(notes)
    rasters, legend, more = _coded(coded, wishes, legend)
    read = iter(rasters)
    labels = [found if isinstance(found, ColorMask) else next(read) for found in looked]
    return labels, legend, (*notes, *more)


def _by_palette(
    looked: Sequence[ColorMask | _Codes | None], scenes: Sequence[Scene], legend: Legend, tolerance: float
) -> tuple[list[ColorMask | _Codes | None], list[str]]:
    """Return what was looked at, palettes that hold the legend's colors as pictures, and what is to be said of it.

    Files with one palette are of one kind: what any of them holds counts for all.
    """
    unsaid = {
        place: (found.palette, found.raster)
        for place, found in enumerate(looked)
        if isinstance(found, _Codes)
        and found.palette is not None
        and not is_plain(found.palette, legend)
        and not _names_classes_of(found.said, legend)
    }
    used: dict[Palette, Counter[int]] = {}
    counted = each(lambda place: indexes_in(unsaid[place][1]), list(unsaid))
    for (palette, _), counts in zip(unsaid.values(), counted, strict=True):
        used.setdefault(palette, Counter()).update(counts)
    meant = {palette: reading(palette, counts, legend, tolerance) for palette, counts in used.items()}
    read = list(looked)
    for place, (palette, raster) in unsaid.items():
        if meant[palette] is Reading.COLORS:
            read[place] = ColorMask.open(raster.path, legend, tolerance, scenes[place].geobox)
    found = Counter(meant[palette] for palette, _ in unsaid.values())
    notes = {
        Reading.COLORS: "by the colors of the palette, which are the legend's",
        Reading.CODES: "by the indexes: the palette holds other colors than the legend's",
    }
    return read, [f"{_files(found[how])} read {note}" for how, note in notes.items() if found[how]]


def _files(count: int) -> str:
    return "1 label raster with a palette is" if count == 1 else f"{count} label rasters with a palette are"


def _check_palettes(found: Sequence[_Codes]) -> None:
    """Raise UsageError where palettes call one index two colors, and nothing says what the indexes are."""
    unsaid = [one for one in found if one.palette is not None and not one.said.classes]
    if len({one.palette for one in unsaid}) < 2:
        return
    colors: dict[int, tuple[int, Scene]] = {}
    for one, counts in zip(unsaid, each(lambda one: indexes_in(one.raster), unsaid), strict=True):
        for index in counts:
            color = (one.palette or ())[index]
            known, first = colors.setdefault(index, (color, one.raster))
            if known != color:
                raise UsageError(
                    f"the palettes of the labels differ: index {index} is {written(known)} in {shown(first.path)}, "
                    f"{written(color)} in {shown(one.raster.path)}; say which color is which class with a legend"
                )


def _names_classes_of(said: Nomenclature, legend: Legend) -> bool:
    """Say whether a raster names its classes as the legend does: then nothing is left to its palette."""
    return bool(said.classes) and unmatched_note(said, legend, "") is None


def _coded(
    found: Sequence[_Codes], wishes: Wishes, legend: Legend | None
) -> tuple[list[Labels], Legend, tuple[str, ...]]:
    rasters, said = [one.raster for one in found], [one.said for one in found]
    if legend is None:
        known = merged((shown(raster.path), one) for raster, one in zip(rasters, said, strict=True))
        known = known if known.classes else _unnamed(said).completed(classes_in(rasters))
        legend, ours = own_legend(known)
        recodings = [ours] * len(found)
        notes = [alike_note(named.name for named in known)]
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


def _unnamed(said: Sequence[Nomenclature]) -> Nomenclature:
    """Return the colors of labels without names, where their palettes agree."""
    first = said[0].palette
    return Nomenclature(palette=first if all(one.palette == first for one in said) else {})


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
    if legend is None:
        notes.append(alike_note(every))
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
