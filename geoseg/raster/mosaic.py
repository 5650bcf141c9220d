"""The verb `mosaic`: scenes that touch or overlap become one scene, the text of a GDAL tile index, without files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geoseg.errors import SceneError, UsageError, listed, numbered, warn
from geoseg.given import plain_arguments
from geoseg.legend import NODATA, LandCover, Legend, Nomenclature, merged
from geoseg.raster.dataset_cache import opened
from geoseg.raster.geobox import GeoBox, crs_text
from geoseg.raster.ground import SAME_SIZE
from geoseg.raster.landcover import LEGEND_TAG
from geoseg.raster.names import escape, shown
from geoseg.raster.raster_legend import described, is_classes, read_nomenclature
from geoseg.raster.scene import MOST_PX, Scene
from geoseg.raster.views import TYPES, band_words, crs_words, data_color, file_name, masked, metadata_lines

if TYPE_CHECKING:
    from geoseg.raster.scene import SceneLike

_ADVICE = "recode one of them, or use the maps separately"
_SPARSE, _LARGE_PX = 0.02, 100_000_000
"""Scenes that cover less of a mosaic with more pixels get a warning."""
_TRIM_PX = 1e-3
"""Trimmed from bounds: GDAL rounds the size of a tile index up, so float rounding could make it a pixel too large.
Trimmed footprints that only touch share nothing."""
_INTERPOLATED = re.compile(r"(Resampling(?:>|&(?:amp;)*gt;))Bilinear")
"""In the text of a view, that of a mosaic is escaped."""


@plain_arguments()
def mosaic(scenes: Iterable[SceneLike]) -> Scene:
    """Return scenes that touch or overlap as one scene. It holds no pixels, so the scenes must stay where they are.

    Where scenes overlap, the last valid one wins. The grid has the finest scene's pixels; scenes with other pixel sizes
    are interpolated, with a warning; those of a map, whose codes have names or colors, by nearest neighbor. So is every
    mosaic that is used as a map. The classes of maps are joined, and keep their names.

    Parameters
    ----------
    scenes
        Each may be anything that `Scene.open` accepts; all need the same CRS, bands and type, and must be north up.

    Raises
    ------
    UsageError
        If there are no scenes, or their CRSs differ.
    SceneError
        If a scene cannot be read, is rotated or not georeferenced, or has different bands from the first; or if two
        maps give a code different names.

    Examples
    --------
    >>> geoseg.predict(geoseg.mosaic(["west.tif", "east.tif"]), "landcover.tif")  # doctest: +SKIP

    """
    is_list = isinstance(scenes, Iterable) and getattr(scenes, "ndim", None) != 0
    if isinstance(scenes, str | os.PathLike | Scene) or not is_list:
        raise UsageError(
            f"`scenes` must be a list of scenes, got {scenes!r:.80}; to take all of a folder, "
            "give sorted(Path('maps').glob('*.tif'))",
            "scenes",
        )
    members, known, nodata = [], [], set[str]()
    for given in scenes:
        members.append(scene := Scene.open(given))
        nodata |= _nodata_values(scene)
        if scene.band_indexes == (1,):  # while its file is open
            known.append(_Known(is_classes(scene), read_nomenclature(scene), *described(scene)))
    if not members:
        raise UsageError("a mosaic needs a scene; name files, a folder or a pattern", "scenes")
    for scene in members:
        _check_joinable(scene, members[0])
    members = [scene.with_bands_of(members[0]) for scene in members]
    is_map, description = _joined_description(members, known) if len(known) == len(members) else (False, ({}, ""))
    grid = _common_grid(members, is_map=is_map)
    bands = range(1, len(members[0].band_indexes) + 1) if members[0].chosen else None
    index = _tile_index(members, grid, description, is_map=is_map, one_nodata=len(nodata) == 1)
    return Scene.open("".join(index), bands=bands)


def as_map(scene: Scene) -> Scene:
    """Return a scene for use as a map: a mosaic, or a view of one, whose pixels are all taken by nearest neighbor."""
    text = _INTERPOLATED.sub(r"\1Nearest", scene.path)
    return scene if text == scene.path else replace(scene, path=text)


def _nodata_values(scene: Scene) -> set[str]:
    """Return the nodata values of all bands of a file as text, since NaN differs from itself; "None" for none."""
    with opened(scene.path) as dataset:
        values = [*dataset.nodatavals, *(scene.validity.nodata or ())]
    return {str(value if value is None else float(value)) for value in values}


def _check_joinable(scene: Scene, first: Scene) -> None:
    """Raise unless a scene can be joined with the first."""
    name, box = shown(scene.path), scene.geobox
    if box.transform_fault:
        raise SceneError(f"{name} cannot be part of a mosaic: its {box.transform_fault}")
    if not box.has_transform or box.transform.b or box.transform.d or box.transform.a <= 0 or box.transform.e >= 0:
        raise SceneError(f"{name} is not on a north-up grid, so it cannot be part of a mosaic; warp it (rio warp)")
    if box.crs is None:
        raise SceneError(f"{name} has no CRS, so it cannot be part of a mosaic; assign it (rio edit-info --crs)")
    if scene.area is not None:
        raise UsageError(f"{name} has an area of interest; join the scenes first, then apply the area", "scenes")
    if box.crs != first.geobox.crs:
        own_crs, first_crs = crs_text(box.crs), crs_text(first.geobox.crs)
        raise UsageError(
            f"the scenes of a mosaic need one CRS: {name} has {own_crs}, {shown(first.path)} has {first_crs}; warp "
            "one of them (rio warp --dst-crs), or map them separately",
            "scenes",
        )
    for own, others in (
        (numbered(len(scene.band_indexes), "band"), numbered(len(first.band_indexes), "band")),
        (f"{scene.dtype} pixels", f"{first.dtype} pixels"),
    ):
        if own != others:
            raise SceneError(
                f"the scenes of a mosaic need the same bands and type: {name} has {own}, {shown(first.path)} has "
                f"{others}; convert one of them, or map them separately"
            )


class _Known(NamedTuple):
    """What is known about a scene of one band: whether it is a map, its classes, and what `described` returns."""

    is_map: bool
    classes: Nomenclature
    tags: dict[str, str]
    naming: str


def _joined_description(scenes: Sequence[Scene], known: Sequence[_Known]) -> tuple[bool, tuple[dict[str, str], str]]:
    """Return whether scenes are maps of classes, and what `described` would return of their mosaic.

    Tags that differ, such as the names of the scenes that maps were made of, are left out. Raises SceneError if two
    maps give a code different names.
    """
    first, names = known[0], [shown(scene.path) for scene in scenes]
    is_map = any(one.is_map or len(one.classes) for one in known)
    joined = merged(zip(names, (one.classes for one in known), strict=True), _ADVICE, "scenes")
    tags = {key: text for key, text in first.tags.items() if all(one.tags.get(key) == text for one in known)}
    different = next((name for name, one in zip(names, known, strict=True) if one.classes != first.classes), None)
    if different is None:
        return is_map, (tags, first.naming)
    classes = tuple(LandCover(named.code, named.name, named.color) for named in joined if 0 <= named.code < NODATA)
    if 0 < len(joined) == len({land_cover.name for land_cover in classes}):
        return is_map, (tags | {LEGEND_TAG: json.dumps(Legend(classes).to_json())}, "")
    if is_map:
        warn(f"{different} has other class names or colors than {names[0]}; the mosaic has none")
    return is_map, ({}, "")


def _common_grid(scenes: Sequence[Scene], *, is_map: bool) -> GeoBox:
    """Return the grid of the finest scene, extended to all scenes; warn if others are resampled to it."""
    finest = min(scenes, key=lambda scene: scene.geobox.transform.a)
    step, down = finest.geobox.transform.a, -finest.geobox.transform.e
    coarse = [s for s in scenes if max(s.geobox.transform.a / step, -s.geobox.transform.e / down) > SAME_SIZE]
    if coarse:
        warn(
            f"scenes of the mosaic with larger pixels than {shown(finest.path)} are "
            f"{'resampled by nearest neighbor' if is_map else 'interpolated'}: "
            f"{listed(shown(scene.path) for scene in coarse)}"
        )
    bounds = list(zip(*(scene.geobox.bounds for scene in scenes), strict=True))
    west, south, east, north = min(bounds[0]), min(bounds[1]), max(bounds[2]), max(bounds[3])
    height, width = round((north - south) / down), round((east - west) / step)
    if max(height, width) > MOST_PX:
        raise UsageError(
            f"a mosaic of {width} x {height} pixels is too large; leave out scenes that lie far away", "scenes"
        )
    covered = sum((box[2] - box[0]) * (box[3] - box[1]) for box in zip(*bounds, strict=True))
    share = covered / ((east - west) * (north - south))
    if share < _SPARSE and height * width > _LARGE_PX:
        warn(
            f"the scenes lie far apart: they cover {100 * share:.2g} % of the mosaic of {width} x {height} pixels; "
            "leave out those that do not belong together"
        )
    return GeoBox(height, width, Affine(step, 0.0, west, 0.0, -down, north), scenes[0].geobox.crs)


def _tile_index(
    scenes: Sequence[Scene],
    grid: GeoBox,
    description: tuple[dict[str, str], str],
    *,
    is_map: bool,
    one_nodata: bool,
) -> Iterator[str]:
    """Yield a GDAL tile index with its GeoJSON inside: only the scenes that a window touches are opened.

    `description` is what `_joined_description` returns; `one_nodata` is whether all bands of all files have the same
    nodata value, or none.
    Format: https://gdal.org/drivers/raster/gti.html
    """
    first = scenes[0]
    nodata, boxes = first.nodata, _boxes(scenes, grid)
    is_stored = one_nodata and _joins_correctly(scenes, boxes)
    names = [file_name(scene.path) if is_stored else masked(scene, alpha=True) for scene in scenes]
    tags, naming = description
    step, down = grid.transform.a, -grid.transform.e
    west, south, east, north = grid.bounds
    south, east = south + _TRIM_PX * down, east - _TRIM_PX * step
    yield "<GDALTileIndexDataset>\n"
    yield f"<IndexDataset>{escape(_footprints(boxes, names))}</IndexDataset><LocationField>location</LocationField>\n"
    yield "" if grid.crs is None else f"<SRS>{escape(crs_words(grid.crs))}</SRS>"
    yield f"<ResX>{step!r}</ResX><ResY>{down!r}</ResY>"
    yield f"<MinX>{west!r}</MinX><MinY>{south!r}</MinY><MaxX>{east!r}</MaxX><MaxY>{north!r}</MaxY>\n"
    for band, index in enumerate(first.band_indexes, start=1):
        yield f'<Band band="{band}" dataType="{TYPES[first.dtype]}">'
        properties = first.descriptions[index - 1], nodata if is_stored else None, data_color(first.colors[index - 1])
        yield f"{band_words(*properties)}{naming if band == 1 else ''}</Band>\n"
    if not is_stored or nodata is None:  # of scenes that have no such band GDAL makes it; a mask crashes it in a VRT
        number = len(first.band_indexes) + 1
        yield f'<Band band="{number}" dataType="Byte"><ColorInterp>Alpha</ColorInterp></Band>\n'
    yield f"<Resampling>{'Nearest' if is_map else 'Bilinear'}</Resampling>"
    yield from metadata_lines(tags) if tags else ()
    yield "</GDALTileIndexDataset>\n"


def _joins_correctly(scenes: Sequence[Scene], boxes: NDArray[np.float64]) -> bool:
    """Return whether GDAL itself gets the valid pixels right from the stored scenes.

    Where scenes overlap, GDAL takes the values that are not nodata band by band, and lets NaN cover pixels. That is
    right only for a single band of integers with one nodata value.
    """
    is_alone = not _overlap(boxes)
    return all(
        scene.validity.is_by_value
        and scene.band_indexes == tuple(range(1, scene.count + 1))
        and (is_alone or scene.validity.hides_nothing or (scene.validity.is_plain and scene.count == 1))
        for scene in scenes
    )


def _overlap(boxes: NDArray[np.float64]) -> bool:
    """Return whether any two boxes (box, side) share a pixel."""
    return any(
        bool(((boxes[index + 1 :, :2] < box[2:]) & (boxes[index + 1 :, 2:] > box[:2])).all(axis=1).any())
        for index, box in enumerate(boxes)
    )


def _boxes(scenes: Sequence[Scene], grid: GeoBox) -> NDArray[np.float64]:
    """Return the bounds of scenes (scene, side), slightly trimmed: scenes that only touch share nothing."""
    step, down = grid.transform.a, -grid.transform.e
    return np.array([scene.geobox.bounds for scene in scenes]) + _TRIM_PX * np.array([step, down, -step, -down])


def _footprints(boxes: NDArray[np.float64], names: Sequence[str]) -> str:
    """Return the index as GeoJSON: the footprint of each scene.

    GDAL 3.10 counts a scene whose outline only touches a window as inside it, and may then skip the rest of the window.
    """
    features = [
        {
            "type": "Feature",
            "properties": {"location": name},
            "geometry": {"type": "Polygon", "coordinates": [[[w, n], [e, n], [e, s], [w, s], [w, n]]]},
        }
        for name, (w, s, e, n) in zip(names, boxes.tolist(), strict=True)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})
