"""Labels in files of their own, read on the grid of a scene: a raster, or polygons with a class column.

A raster may be on any grid, and holds class codes or the colors of a legend. Polygons are burned into the scene's grid
window by window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray
from shapely.geometry import mapping

from geoseg.dataset.pair import Decoded, content_of, file_digest
from geoseg.errors import SceneError, numbered
from geoseg.features import (
    FeatureFile,
    Features,
    VectorSource,
    counted,
    cut_around,
    frame_in,
    is_bent,
    reach_of,
    shifted,
    turns_of,
    unpacked_polygons,
    untorn,
)
from geoseg.legend import NODATA, Legend
from geoseg.raster import (
    ColorCodes,
    GeoBox,
    Palette,
    Patch,
    Scene,
    Strays,
    Window,
    apply_transform,
    is_placed,
    most_frequent,
    opened,
    palette_of,
    shown,
    warped,
    whole_numbers,
    whole_shift,
    whole_turns,
)

_RGB = (1, 2, 3)
_FAR = 4
"""A polygon more than this many times as long as a grid is clipped around the grid before it is reprojected."""
_INSIDE = 4
"""Of nine parts of the plane around a grid, numbered from 0, the one that holds it."""


@dataclass(frozen=True, slots=True)
class _RasterLabels:
    """The base of all labels in a raster."""

    scene: Scene

    @property
    def path(self) -> str:
        """The file of the raster."""
        return self.scene.path

    @property
    def files(self) -> list[str]:
        """The file of the raster."""
        return [self.scene.path]

    @property
    def meaning(self) -> object:
        """A value that differs between two readings of the raster."""
        raise NotImplementedError

    def stamp(self) -> list[object]:
        """Return values that change whenever the raster may have changed."""
        return [self.scene.fingerprint(), repr(self.meaning)]

    def content(self) -> list[str]:
        """Return a digest of the raster's content. SceneError if the raster is gone."""
        return [content_of(self.scene)]


@dataclass(frozen=True, slots=True)
class LabelRaster(_RasterLabels):
    """One band of whole numbers."""

    codes: tuple[tuple[int, int], ...]
    """(code in the file, code in the legend), ascending."""
    tolerance: float
    """Share of pixels with other codes that is ignored instead of refused."""

    @property
    def meaning(self) -> object:
        """The codes, and the tolerance for other ones."""
        return self.codes, self.tolerance

    def decode(self, grid: GeoBox, window: Window) -> Decoded:
        """Return the legend's codes in a window of a scene's grid, by nearest neighbor if the grids differ.

        SceneError if the file is damaged, or cannot be aligned with the grid.
        """
        patch = whole_numbers(_read_on_grid(self.scene, grid, window), shown(self.scene.path))
        stored, raster_codes = patch.data[0], np.array([raster_code for raster_code, _ in self.codes])
        legend_codes = np.array([code for _, code in self.codes], np.uint8)
        at = np.searchsorted(raster_codes, stored).clip(max=len(raster_codes) - 1)
        is_known = (raster_codes[at] == stored) & patch.valid
        codes = np.where(is_known, legend_codes[at], np.uint8(NODATA))
        is_stray = ~is_known & patch.valid & (stored != NODATA)
        pixels = int(np.count_nonzero(is_stray))
        examples = tuple(f"code {code}" for code in most_frequent(stored[is_stray])) if pixels else ()
        return Decoded(codes, Strays(pixels, window.size, examples))


@dataclass(frozen=True, slots=True)
class ColorMask(_RasterLabels):
    """A picture in the exact colors of a legend: red, green and blue, or one band with a palette.

    Transparent pixels have no label.
    """

    legend: Legend
    tolerance: float
    """Share of pixels in other colors that is ignored instead of refused."""
    palette: Palette | None

    @property
    def meaning(self) -> object:
        """The legend, the tolerance for other colors, and the palette."""
        meaning = self.legend, self.tolerance
        return meaning if self.palette is None else (*meaning, self.palette)

    @classmethod
    def open(cls, path: str, legend: Legend, tolerance: float, grid: GeoBox) -> ColorMask:
        """Open a mask. SceneError if it is not a picture of bytes, or cannot be aligned with the scene's `grid`."""
        with opened(path) as dataset:
            alpha, palette = dataset.count in (2, 4), palette_of(dataset)
            count, has_table = dataset.count - alpha, dataset.colorinterp[0].name == "palette"
        if not (count == 3 or has_table):
            raise SceneError(
                f"{shown(path)} has {numbered(count, 'band')}; a color mask has red, green and blue; "
                "codes go into rasters of one band, beside NNN_sat called NNN_label"
            )
        scene = Scene.open(path, bands=_RGB if count == 3 else (1,))
        if scene.dtype != "uint8":
            raise SceneError(f"{shown(path)} holds {scene.dtype}; a color mask must be uint8")
        _color_codes(legend, None)  # raises if two classes share a color
        check_place(scene, grid)
        return cls(scene, legend, tolerance, None if count == 3 else palette)

    def decode(self, grid: GeoBox, window: Window) -> Decoded:
        """Return the codes in a window of a scene's grid, by nearest neighbor if the grids differ. SceneError."""
        decoded = _color_codes(self.legend, self.palette).read(_read_on_grid(self.scene, grid, window))
        return Decoded(np.where(decoded.known, decoded.codes, NODATA).astype(np.uint8), decoded.strays)


def check_codes(scene: Scene) -> None:
    """Raise SceneError unless a raster is one band of numbers. Whether floats are whole is checked on reading."""
    if len(scene.band_indexes) != 1 or np.dtype(scene.dtype).kind not in "iuf":
        raise SceneError(
            f"{shown(scene.path)} has {numbered(len(scene.band_indexes), 'band')} of {scene.dtype}; labels must be one "
            "band of whole numbers, or a picture in the colors of a legend; rio stack --bidx copies one band, and a "
            "band for each class must become one band of codes"
        )


def check_place(labels: Scene, grid: GeoBox) -> None:
    """Raise SceneError unless labels can be aligned with a scene's grid: both have a place, or the same shape."""
    if is_placed(labels.geobox) and is_placed(grid):
        return
    if labels.shape != grid.shape:
        raise SceneError(
            f"{shown(labels.path)} is {labels.shape[0]} x {labels.shape[1]} pixels, its scene {grid.height_px} x "
            f"{grid.width_px}, and they cannot be aligned: at least one has no CRS or transform; "
            "georeference them, or give labels of the scene's size"
        )


def _read_on_grid(labels: Scene, grid: GeoBox, window: Window) -> Patch:
    """Read a window of a grid from a raster on another grid. Pixels outside the raster are invalid. SceneError."""
    label_grid = labels.geobox
    if label_grid == grid or not (is_placed(label_grid) and is_placed(grid)):
        check_place(labels, grid)
        return labels.read(window)
    shift = whole_shift(label_grid, grid)
    if shift is not None and len(whole_turns(label_grid, grid)) == 1:
        return labels.read(window.shifted(*shift))
    return warped(labels, grid[window])


@lru_cache(maxsize=16)
def _color_codes(legend: Legend, palette: Palette | None) -> ColorCodes:
    return ColorCodes.of(legend, palette)


@dataclass(frozen=True, slots=True)
class LabelPolygons:
    """Layers of polygons. A pixel has the class of the last polygon that contains its center."""

    source: VectorSource
    column: str
    codes: tuple[tuple[str, int], ...]
    """(value of the column as text, code in the legend); polygons with other values are not labels."""
    crs_wkt: str | None
    tolerance: ClassVar[None] = None
    """There are no strays."""

    @property
    def path(self) -> str:
        """The file of the polygons; for a GeoDataFrame, its name in messages."""
        return self.source.path if isinstance(self.source, FeatureFile) else self.source.name

    @property
    def files(self) -> list[str]:
        """The files that hold the polygons."""
        return self.source.files

    @property
    def meaning(self) -> object:
        """The column, the codes of its values, and the layers."""
        return self.column, self.codes, self.source.layers

    def stamp(self) -> list[object]:
        """Return values that change whenever the polygons may have changed."""
        return [self.source.state(), repr(self.meaning)]

    def content(self) -> list[str]:
        """Return values that change with the polygons' content. SceneError if their files are gone."""
        return [file_digest(name) for name in self.files] or [repr(self.source.state())]

    def decode(self, grid: GeoBox, window: Window) -> Decoded:
        """Return the codes in a window of a scene's grid. SceneError if the file cannot be read or reprojected."""
        place, codes = grid[window], np.full(window.shape, NODATA, np.uint8)
        if self.codes and (near := placed_polygons(self.source, self.column, grid).near(place, dict(self.codes))):
            rasterio.features.rasterize(near, out=codes, transform=place.transform)
        return Decoded(codes, Strays(0, window.size))


@dataclass(frozen=True, slots=True)
class PlacedPolygons:
    """The polygons of a source, including those inside collections, in its order."""

    name: str
    column: str
    geometries: NDArray[Any]
    """(polygon,) shapely's polygons and multipolygons."""
    values: tuple[str, ...]
    """(polygon,) text of the column; empty if there is none."""
    crs_wkt: str | None
    tree: shapely.STRtree = field(compare=False, repr=False)
    others: tuple[tuple[str, int], ...] = ()
    """(kind, count) of the source's other geometries, which cannot be labels."""

    @property
    def turns(self) -> tuple[float, ...]:
        """Shifts of x that lead to the same place on Earth: 180.1 is -179.9."""
        return turns_of(self.crs_wkt)

    @classmethod
    def of(cls, features: Features, name: str, column: str) -> Self:
        """Extract the polygons from features. SceneError if there are none."""
        shapes, owners, others = unpacked_polygons(features.geometries)
        if not len(shapes):
            contents = f", only {counted(others)}" if others else ""
            raise SceneError(f"{name} has no polygons{contents}; give polygons (points and lines can be buffered)")
        values = tuple(features.values[owner] for owner in owners)
        return cls(name, column, shapes, values, features.crs_wkt, shapely.STRtree(shapes), tuple(others.items()))

    def near(self, place: GeoBox, codes: dict[str, int]) -> list[tuple[Any, int]]:
        """Return the polygons whose bounds meet those of a grid in their CRS, as GeoJSON to burn, with codes in order.

        `codes`: value -> code; polygons with other values are left out. Polygons that lie a full turn around the Earth
        away are shifted to the grid.
        """
        frame = shapely.MultiPoint(place.corners).envelope
        matches = sorted((int(i), turn) for turn in self.turns for i in self.tree.query(shifted(frame, -turn)))
        matches = [(i, turn) for i, turn in matches if self.values[i] in codes]
        shapes = np.array([shifted(self.geometries[i], turn) for i, turn in matches], object)
        burned = (codes[self.values[i]] for i, _ in matches)
        return [(mapping(shape), code) for shape, code in zip(_thinned(shapes, place), burned, strict=True)]

    def note(
        self, grids: Iterable[GeoBox], what: str = "labels", where: str = "the imagery", holds: str = "class"
    ) -> str | None:
        """Return a note on unused features: other geometries, and polygons without a class or outside all grids.

        `what` names the polygons in the note, `where` the place they should be in, and `holds` what their column holds.
        """
        parts = []
        if self.others:
            parts.append(f"{counted(Counter(dict(self.others)))} cannot be {what}, only polygons can")
        if lacking := self.values.count(""):
            parts.append(f"{numbered(lacking, 'polygon')} without a {holds} in {self.column}")
        if outside := self.beside(grids):
            parts.append(f"{numbered(outside, 'polygon')} outside {where}")
        return f"{self.name}: {'; '.join(parts)}; left out" if parts else None

    def beside(self, grids: Iterable[GeoBox]) -> int:
        """Return how many polygons lie outside all grids; 0 if that cannot be determined."""
        meets = np.zeros(len(self.geometries), bool)
        for grid in grids:
            frame = frame_in(grid, self.crs_wkt)
            if frame is None:
                return 0  # the frame extends beyond this CRS
            for turn in self.turns:
                meets[self.tree.query(shifted(frame, -turn), predicate="intersects")] = True
        return int(np.count_nonzero(~meets))


def _thinned(shapes: NDArray[Any], place: GeoBox) -> NDArray[Any]:
    """Return polygons, as multipolygons, without the vertices that decide no pixel of a grid.

    GDAL looks at all vertices of a polygon for each row. Between vertices on the same side of the grid a border may
    run anywhere on that side. The lowest vertices stay, where GDAL sees the direction of a ring: it decides about
    centers of pixels on a border.
    """
    parts, part_of = shapely.get_parts(shapes, return_index=True)
    rings, ring_of = shapely.get_rings(parts, return_index=True)
    xy, vertex_of = shapely.get_coordinates(rings, return_index=True)
    cols, rows = apply_transform(~place.transform, *xy.T)
    side = 3 * _part(rows, place.height_px) + _part(cols, place.width_px)
    is_same = side[1:] == side[:-1]
    kept = np.ones(len(xy), np.bool_)
    kept[1:-1] = (side[1:-1] == _INSIDE) | ~(is_same[1:] & is_same[:-1])
    starts = np.flatnonzero(np.diff(vertex_of, prepend=-1))
    low = np.flatnonzero(xy[:, 1] == np.minimum.reduceat(xy[:, 1], starts)[vertex_of])
    low = low[np.lexsort((-xy[low, 0], vertex_of[low]))]
    lowest = low[np.diff(vertex_of[low], prepend=-1) > 0]  # of each ring; the right one of several
    kept[np.add.outer((-2, -1, 0, 1, 2, 3), starts)] = True  # a ring has four vertices or more, and closes
    kept[np.add.outer((-1, 0, 1), lowest)] = True
    thin_rings: Any = shapely.linearrings(xy[kept], indices=vertex_of[kept])
    thin_parts: Any = shapely.polygons(thin_rings, indices=ring_of)
    return np.asarray(shapely.multipolygons(thin_parts, indices=part_of), object)


def _part(positions: NDArray[np.float64], size: int) -> NDArray[np.int8]:
    """Return 0 before a grid's rows or columns, 1 in or near them, 2 after them."""
    return np.searchsorted([-1, size + 1], positions).astype(np.int8)


def read_polygons(source: VectorSource, column: str) -> PlacedPolygons:
    """Read the polygons of a source, in its own CRS. SceneError if it cannot be read, or holds none."""
    return _polygons(source, source.stamp, column)


def placed_polygons(source: VectorSource, column: str, grid: GeoBox) -> PlacedPolygons:
    """Return the polygons of a source in the CRS of a grid, read and reprojected once for all windows.

    Polygons that extend far beyond the grid, as a country beyond a town, are clipped around it first, since no
    projection shows the whole Earth. So are those with sides that bend in the new CRS; these get more vertices.
    """
    return _placed_near(source, source.stamp, column, grid)


def check_polygons(source: VectorSource, crs_wkt: str | None, grid: GeoBox, scene: str) -> None:
    """Raise SceneError unless polygons can be burned into a grid."""
    name = shown(scene)
    if not grid.has_grid:
        fault = f"{name} is not georeferenced; {grid.grid_hint}"
    elif grid.crs is None and crs_wkt is not None:
        fault = f"{name} has no CRS, and {source.name} has one; assign it (rio edit-info --crs)"
    elif grid.crs is not None and crs_wkt is None:
        fault = f"{source.name} has no CRS, and {name} has one; assign it, as QGIS's Assign Projection does"
    else:
        return
    raise SceneError(f"cannot align {source.name} with {name}: {fault}")


@lru_cache(maxsize=2)
def _polygons(source: VectorSource, _stamp: object, column: str) -> PlacedPolygons:
    return PlacedPolygons.of(source.read(column), source.name, column)


@lru_cache(maxsize=2)
def _placed(source: VectorSource, stamp: object, column: str, target_wkt: str | None) -> PlacedPolygons:
    polygons = _polygons(source, stamp, column)
    if polygons.crs_wkt is None or target_wkt is None or polygons.crs_wkt == target_wkt:
        return polygons
    moved = untorn(polygons.geometries, polygons.crs_wkt, target_wkt, source.name)
    return PlacedPolygons(
        polygons.name, column, moved, polygons.values, target_wkt, shapely.STRtree(moved), polygons.others
    )


@lru_cache(maxsize=16)
def _placed_near(source: VectorSource, stamp: object, column: str, grid: GeoBox) -> PlacedPolygons:
    polygons, target_wkt = _polygons(source, stamp, column), None if grid.crs is None else grid.crs.to_wkt()
    reach = (
        None if polygons.crs_wkt in {None, target_wkt} or target_wkt is None else reach_of(grid, str(polygons.crs_wkt))
    )
    if reach is None:
        return _placed(source, stamp, column, target_wkt)
    try:
        moved = _placed(source, stamp, column, target_wkt)
        far = np.flatnonzero(
            _is_far(moved.geometries, grid) | is_bent(polygons.geometries, reach, str(polygons.crs_wkt))
        )
    except SceneError:  # some extend beyond this CRS
        moved, far = polygons, np.arange(len(polygons.values))
    if not len(far):
        return moved
    shapes, owners = cut_around(polygons.geometries[far], reach, polygons.turns)
    pieces = untorn(shapes, str(polygons.crs_wkt), str(target_wkt), source.name)
    feature_indexes = np.concatenate([np.delete(np.arange(len(polygons.values)), far), far[owners]])
    order = np.argsort(feature_indexes, kind="stable")
    placed = np.concatenate([np.delete(moved.geometries, far), pieces])[order]
    values = tuple(polygons.values[owner] for owner in feature_indexes[order])
    return PlacedPolygons(polygons.name, column, placed, values, target_wkt, shapely.STRtree(placed), polygons.others)


def _is_far(moved: NDArray[Any], grid: GeoBox) -> NDArray[np.bool_]:
    """Return which polygons extend far beyond a grid."""
    west, south, east, north = grid.bounds
    bounds = shapely.bounds(moved)
    longest: NDArray[np.float64] = (bounds[:, 2:] - bounds[:, :2]).max(axis=1)
    return ~(longest <= _FAR * max(east - west, abs(north - south)))
