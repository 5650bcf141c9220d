"""The labels of a data set's scenes, and the class of the legend that each code stands for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geoseg.counts import codes_in
from geoseg.dataset.pair import Labels
from geoseg.dataset.placed_labels import (
    ColorMask,
    LabelPolygons,
    LabelRaster,
    check_codes,
    check_place,
    check_polygons,
    read_polygons,
)
from geoseg.dataset.search import SearchOptions, each
from geoseg.errors import SceneError, UsageError, listed, numbered
from geoseg.features import column_of, find_features, is_features
from geoseg.legend import (
    DEEPGLOBE,
    NODATA,
    Legend,
    Nomenclature,
    alike_note,
    codes_of,
    codes_of_values,
    merged,
    own_legend,
    unmatched_note,
)
from geoseg.raster import (
    GeoBox,
    Palette,
    Reading,
    Scene,
    block_tiles,
    color_text,
    indexes_in,
    is_plain,
    opened,
    palette_of,
    palette_reading,
    read_nomenclature,
    sample_windows,
    shown,
    whole_numbers,
)

_MOST_CODES = 1000
_SAMPLED = 8
"""About how many rasters are searched for an undeclared 255 that is not a class."""


def find_labels(
    files: Sequence[Any], scenes: Sequence[Scene], options: SearchOptions, legend: Legend | None
) -> tuple[list[Labels], Legend, tuple[str, ...]]:
    """Return the labels of each scene, either all polygons or all rasters, with their legend and notes.

    `files`: a path or a GeoDataFrame for each scene. Raises SceneError and UsageError as `open_dataset` does.
    """
    are_polygons = each(is_features, files)
    if all(are_polygons):
        return _polygon_labels(files, scenes, options, legend)
    if any(are_polygons):
        raise SceneError(
            "labels must be all polygons or all rasters, got both: "
            f"{listed(sorted({files[0], files[are_polygons.index(True)]}))}"
        )
    if options.column is not None:
        raise UsageError("`column` is for label polygons; leave it out for label rasters", "column")
    if options.layer is not None:
        raise UsageError("`layer` is for label polygons; leave it out for label rasters", "layer")
    contents = each(
        lambda place: _open_raster(files[place], scenes[place].geobox, legend, options.tolerance), range(len(files))
    )
    return _raster_labels(files, scenes, contents, options, legend)


@dataclass(frozen=True, slots=True)
class _CodedRaster:
    """A label raster, and what its file says about its classes."""

    raster: Scene
    nomenclature: Nomenclature
    palette: Palette | None


def _open_raster(file: str, grid: GeoBox, legend: Legend | None, tolerance: float) -> ColorMask | _CodedRaster | None:
    """Open a label raster as a color mask or as codes; None for a picture without a legend that explains its colors."""
    with opened(file) as dataset:
        is_picture = dataset.count >= 3 and dataset.dtypes[0] == "uint8"
        palette = palette_of(dataset)
    if is_picture:
        return None if legend is None else ColorMask.open(file, legend, tolerance, grid)
    raster = Scene.open(file)
    check_codes(raster)
    check_place(raster, grid)
    return _CodedRaster(raster, read_nomenclature(raster), palette)


def _raster_labels(
    files: Sequence[str],
    scenes: Sequence[Scene],
    contents: Sequence[ColorMask | _CodedRaster | None],
    options: SearchOptions,
    legend: Legend | None,
) -> tuple[list[Labels], Legend, tuple[str, ...]]:
    """Return the labels of pictures, rasters of codes and rasters with palettes, in any mix."""
    if None in contents:
        raise UsageError(
            f"{shown(files[contents.index(None)])} is a picture; say which color is which class with `legend`", "legend"
        )
    notes: list[str] = []
    if legend is None:
        _check_palettes([content for content in contents if isinstance(content, _CodedRaster)])
    else:
        contents, notes = _by_palette(contents, scenes, legend, options.tolerance)
    coded_rasters = [content for content in contents if isinstance(content, _CodedRaster)]
    if not coded_rasters:
        return [mask for mask in contents if isinstance(mask, ColorMask)], legend or DEEPGLOBE, tuple(notes)
    rasters, legend, more = _coded_labels(coded_rasters, options, legend)
    read = iter(rasters)
    labels = [content if isinstance(content, ColorMask) else next(read) for content in contents]
    return labels, legend, (*notes, *more)


def _by_palette(
    contents: Sequence[ColorMask | _CodedRaster | None], scenes: Sequence[Scene], legend: Legend, tolerance: float
) -> tuple[list[ColorMask | _CodedRaster | None], list[str]]:
    """Return `contents` with rasters whose palette holds the legend's colors as color masks, and notes on these.

    Files with the same palette are read the same way: their index counts are added up.
    """
    unnamed = {
        place: (content.palette, content.raster)
        for place, content in enumerate(contents)
        if isinstance(content, _CodedRaster)
        and content.palette is not None
        and not is_plain(content.palette, legend)
        and not _has_class_names_of(content.nomenclature, legend)
    }
    used: dict[Palette, Counter[int]] = {}
    counted = each(lambda place: indexes_in(unnamed[place][1]), list(unnamed))
    for (palette, _), counts in zip(unnamed.values(), counted, strict=True):
        used.setdefault(palette, Counter()).update(counts)
    readings = {palette: palette_reading(palette, counts, legend, tolerance) for palette, counts in used.items()}
    read = list(contents)
    for place, (palette, raster) in unnamed.items():
        if readings[palette] is Reading.COLORS:
            read[place] = ColorMask.open(raster.path, legend, tolerance, scenes[place].geobox)
    uses = Counter(readings[palette] for palette, _ in unnamed.values())
    notes = {
        Reading.COLORS: "by the colors of the palette, which are the legend's",
        Reading.CODES: "by the indexes: the palette holds other colors than the legend's",
    }
    return read, [
        f"{numbered(uses[reading], 'label raster')} with a palette {'is' if uses[reading] == 1 else 'are'} read {note}"
        for reading, note in notes.items()
        if uses[reading]
    ]


def _check_palettes(coded_rasters: Sequence[_CodedRaster]) -> None:
    """Raise UsageError if palettes of rasters without class names give one index two colors."""
    unnamed = [coded for coded in coded_rasters if coded.palette is not None and not coded.nomenclature.classes]
    if len({coded.palette for coded in unnamed}) < 2:
        return
    colors: dict[int, tuple[int, Scene]] = {}
    for coded, counts in zip(unnamed, each(lambda coded: indexes_in(coded.raster), unnamed), strict=True):
        for index in counts:
            color = (coded.palette or ())[index]
            first_color, first = colors.setdefault(index, (color, coded.raster))
            if first_color != color:
                raise UsageError(
                    f"the palettes of the labels differ: index {index} is {color_text(first_color)} in "
                    f"{shown(first.path)}, {color_text(color)} in {shown(coded.raster.path)}; say which color is "
                    "which class with `legend`",
                    "legend",
                )


def _has_class_names_of(nomenclature: Nomenclature, legend: Legend) -> bool:
    """Return whether a raster names its classes as the legend does, so that its palette does not matter."""
    return bool(nomenclature.classes) and unmatched_note(nomenclature, legend, "") is None


def _coded_labels(
    coded_rasters: Sequence[_CodedRaster], options: SearchOptions, legend: Legend | None
) -> tuple[list[Labels], Legend, tuple[str, ...]]:
    rasters = [coded.raster for coded in coded_rasters]
    nomenclatures = [coded.nomenclature for coded in coded_rasters]
    notes: list[str | None] = []
    if legend is None:
        combined = merged((shown(raster.path), item) for raster, item in zip(rasters, nomenclatures, strict=True))
        if not combined.classes:  # the palette's colors, if all palettes agree
            palette = nomenclatures[0].palette
            unnamed = Nomenclature(palette=palette if all(item.palette == palette for item in nomenclatures) else {})
            codes, empty = _classes_in(rasters)
            combined = unnamed.completed(codes)
            notes.append(_unlabeled_note(empty))
        legend, shared_recoding = own_legend(combined)
        recodings = [shared_recoding] * len(coded_rasters)
        notes.append(alike_note(named.name for named in combined))
    else:
        recodings = [_recoding(item, legend, options.renumbered) for item in nomenclatures]
        notes += [
            _renumbered_note(options.renumbered),
            unmatched_note(nomenclatures[0], legend, shown(rasters[0].path)),
        ]
    notes.append(_undeclared_note(rasters, recodings))
    return (
        [
            LabelRaster(raster, tuple(sorted(recoding.items())), options.tolerance)
            for raster, recoding in zip(rasters, recodings, strict=True)
        ],
        legend,
        tuple(note for note in notes if note),
    )


def _recoding(nomenclature: Nomenclature, legend: Legend, renumbered: Mapping[int, int]) -> dict[int, int]:
    """Return a raster's codes -> the legend's: by name if both have names, else by code."""
    return (
        dict(renumbered)
        if renumbered and not _has_class_names_of(nomenclature, legend)
        else codes_of(nomenclature, legend)
    )


def _renumbered_note(renumbered: Mapping[int, int]) -> str | None:
    changed = [f"{stored} becomes {code}" for stored, code in renumbered.items() if stored != code]
    return f"codes that do not fit in a byte are renumbered in order: {listed(changed)}" if changed else None


def _polygon_labels(
    files: Sequence[Any], scenes: Sequence[Scene], options: SearchOptions, legend: Legend | None
) -> tuple[list[Labels], Legend, tuple[str, ...]]:
    places: dict[str, list[GeoBox]] = {}
    for file, scene in zip(files, scenes, strict=True):
        places.setdefault(_source_key(file), []).append(scene.geobox)
    read, notes = {}, []
    empty: dict[str, Labels] = {}
    fault: SceneError | UsageError | None = None
    for key, file in {_source_key(file): file for file in files}.items():
        source = find_features(file, "polygons", "labels", options.layer)
        try:
            column = column_of(source, options.column)
            polygons = read_polygons(source, column)
        except (SceneError, UsageError) as error:
            if len(source.read().geometries):
                raise
            empty[key], fault = LabelPolygons(source, "", (), None), error
            continue
        read[key] = source, column, sorted(set(polygons.values) - {""}), polygons.crs_wkt
        notes += [source.note, polygons.note(places[key])]
    if fault is not None and not read:
        raise fault
    notes.append(_unlabeled_note([labels.path for labels in empty.values()]))
    every = sorted({value for _, _, values, _ in read.values() for value in values})
    if legend is None:
        notes.append(alike_note(every))
    first, title, *_ = next(iter(read.values()))
    legend, codes = codes_of_values(every, legend, f"{first.name}, column {title}", options.renumbered)
    notes.append(_renumbered_note(options.renumbered))
    labels: list[Labels] = []
    for file, scene in zip(files, scenes, strict=True):
        if _source_key(file) in empty:
            labels.append(empty[_source_key(file)])
            continue
        source, column, values, crs_wkt = read[_source_key(file)]
        check_polygons(source, crs_wkt, scene.geobox, scene.path)
        pairs = tuple((value, codes[value]) for value in values)
        labels.append(LabelPolygons(source, column, pairs, crs_wkt))
    return labels, legend, tuple(note for note in notes if note)


def _source_key(labels: object) -> str:
    return os.fspath(labels) if isinstance(labels, str | os.PathLike) else f"frame {id(labels)}"


def _unlabeled_note(empty: Sequence[str]) -> str | None:
    return f"no labels in {listed(empty)}, so these scenes are unlabeled" if empty else None


def _classes_in(rasters: Sequence[Scene]) -> tuple[frozenset[int], list[str]]:
    """Return all codes of rasters without class names, and those without any. SceneError if none of them holds any.

    Each is read in full. By convention 255 means unlabeled even if no file declares it nodata. It is a class if only
    one other code is found, as in a mask of 0 and 255, or if some codes do not fit a byte anyway.
    """
    files = list({raster.path: raster for raster in rasters}.values())  # a file may hold the labels of many scenes
    if lossy := next((file.path for file in files if file.path.lower().endswith((".jpg", ".jpeg"))), None):
        raise SceneError(
            f"{shown(lossy)} is a JPEG, whose compression makes other codes along borders; name the true ones with "
            "`legend` and allow others with `tolerance`, or make the labels PNG or TIFF again",
            "legend",
        )
    found = each(_codes_in, files)
    stored_codes = frozenset().union(*found)
    others = stored_codes - {NODATA}
    if not others:
        contents = "only 255, which means unlabeled" if stored_codes else "no labels: every pixel is nodata"
        raise SceneError(f"{shown(rasters[0].path)} holds {contents}; check the labels")
    is_class = len(others) == 1 or not all(0 <= code < NODATA for code in others)
    classes = stored_codes if is_class else others
    return classes, [shown(file.path) for file, codes in zip(files, found, strict=True) if not codes & classes]


def _undeclared_note(rasters: Sequence[Scene], recodings: Sequence[Mapping[int, int]]) -> str | None:
    """Return a note if a raster holds 255 that is neither declared nodata nor the code of a class.

    Only samples of a few rasters are read.
    """
    unnamed = [raster for raster, codes in zip(rasters, recodings, strict=True) if NODATA not in codes]
    undeclared = next(
        (raster for raster in unnamed[:: max(1, len(unnamed) // _SAMPLED)] if _holds_nodata(raster)), None
    )
    if undeclared is None:
        return None
    return (
        f"{shown(undeclared.path)} holds 255 without declaring it as nodata: these pixels count as unlabeled; if they "
        "are a class, give it a code from 0 to 254"
    )


def _codes_in(raster: Scene) -> frozenset[int]:
    codes: set[int] = set()
    for window in block_tiles(raster.shape, raster.block_shape):
        patch = whole_numbers(raster.read(window), shown(raster.path))
        codes.update(codes_in(patch.data[0], patch.valid).tolist())
        if len(codes) > _MOST_CODES:
            raise SceneError(
                f"{shown(raster.path)} holds more than {_MOST_CODES} different values; a map of classes has few"
            )
    return frozenset(codes)


def _holds_nodata(raster: Scene) -> bool:
    if raster.nodata == NODATA or raster.dtype == "int8":
        return False
    patches = (raster.read(window) for window, _ in sample_windows(raster.shape, raster.block_shape))
    return any(bool(((patch.data[0] == NODATA) & patch.valid).any()) for patch in patches)
