"""Labels as polygons with a class column, burned into the grid of a scene window by window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray

from geoseg.dataset.labels.labels import Decoded, file_digest
from geoseg.errors import SceneError
from geoseg.features import (
    FeatureFile,
    Features,
    VectorSource,
    counted,
    frame_in,
    numbered,
    reprojected,
    shifted,
    turns_of,
    unpacked_polygons,
    untorn,
)
from geoseg.legend import NODATA
from geoseg.raster import GeoBox, Strays, Window, shown


@dataclass(frozen=True, slots=True)
class LabelPolygons:
    """Layers of polygons. A pixel has the class of the polygon that holds its center; of several, of the last."""

    source: VectorSource
    column: str
    codes: tuple[tuple[str, int], ...]
    """(value of the column as text, code in the legend); polygons of other values are not labels."""
    crs_wkt: str | None

    @property
    def path(self) -> str:
        """The file of the polygons; of a GeoDataFrame how messages call it."""
        return self.source.path if isinstance(self.source, FeatureFile) else self.source.name

    @property
    def files(self) -> list[str]:
        """The files that hold the polygons."""
        return self.source.files

    @property
    def tolerance(self) -> None:
        """None: no pixel is a stray."""
        return None

    @property
    def meaning(self) -> object:
        """The column, the codes of its values, and the layers."""
        return self.column, self.codes, self.source.layers

    def stamp(self) -> list[object]:
        """Return what changes whenever the polygons may have."""
        return [self.source.state(), repr(self.meaning)]

    def content(self) -> list[str]:
        """Return what changes with the polygons. SceneError where their files are gone."""
        return [file_digest(name) for name in self.files] or [repr(self.source.state())]

    def decode(self, grid: GeoBox, window: Window) -> Decoded:
        """Return the codes in a window of a scene's grid. SceneError when the file cannot be read or brought there."""
        codes = np.full(window.shape, NODATA, np.uint8)
        by_value = dict(self.codes)
        near = placed_polygons(self.source, self.column, grid).near(grid[window])
        burned = [(shape, by_value[value]) for shape, value in near if value in by_value]
        if burned:
            rasterio.features.rasterize(burned, out=codes, transform=grid[window].transform)
        return Decoded(codes, Strays(0, window.size))


@dataclass(frozen=True, slots=True)
class PlacedPolygons:
    """The polygons of a source, those inside of collections among them, in its order."""

    name: str
    column: str
    geometries: NDArray[Any]
    """(polygon,) shapely's polygons and multipolygons."""
    values: tuple[str, ...]
    """(polygon,) text of the column; empty where there is none."""
    crs_wkt: str | None
    tree: shapely.STRtree = field(compare=False, repr=False)
    others: tuple[tuple[str, int], ...] = ()
    """(what it is, how many): what the source holds besides, which cannot be a label."""

    @property
    def turns(self) -> tuple[float, ...]:
        """Shifts of x after which the same places come again: 180.1 is -179.9."""
        return turns_of(self.crs_wkt)

    @classmethod
    def of(cls, features: Features, name: str, column: str) -> Self:
        """Sort out the polygons of what was read. SceneError where there is none."""
        shapes, owners, others = unpacked_polygons(features.geometries)
        if not len(shapes):
            held = f": it has {counted(others)}" if others else ""
            raise SceneError(f"{name} holds no polygon{held}; give polygons (points and lines can be buffered)")
        values = tuple(features.values[owner] for owner in owners)
        return cls(name, column, shapes, values, features.crs_wkt, shapely.STRtree(shapes), tuple(others.items()))

    def near(self, place: GeoBox) -> list[tuple[Any, str]]:
        """Return the polygons whose bounds meet those of a grid in their CRS, with their values, in order.

        Those a turn around the Earth away are moved to the grid.
        """
        frame = shapely.MultiPoint(place.corners).envelope
        found = [(int(i), turn) for turn in self.turns for i in self.tree.query(shifted(frame, -turn))]
        return [(shifted(self.geometries[i], turn), self.values[i]) for i, turn in sorted(found)]

    def note(self, grids: Iterable[GeoBox], what: str = "labels", where: str = "the imagery") -> str | None:
        """Return a line on what cannot be used: other geometries, and polygons without class or beside all grids.

        `what` polygons are to the caller, and `where` they should lie.
        """
        said = []
        if self.others:
            said.append(f"{counted(Counter(dict(self.others)))} cannot be {what}, only polygons can")
        if lacking := self.values.count(""):
            said.append(f"{numbered(lacking, 'polygon')} without a class in {self.column}")
        if beside := self.beside(grids):
            said.append(f"{numbered(beside, 'polygon')} beside {where}")
        return f"{self.name}: {'; '.join(said)}; left out" if said else None

    def beside(self, grids: Iterable[GeoBox]) -> int:
        """Return how many polygons lie on none of the grids; 0 where nobody can say."""
        meets = np.zeros(len(self.geometries), bool)
        for grid in grids:
            frame = frame_in(grid, self.crs_wkt)
            if frame is None:
                return 0  # the frame reaches to where this CRS does not
            for turn in self.turns:
                meets[self.tree.query(shifted(frame, -turn), predicate="intersects")] = True
        return int(np.count_nonzero(~meets))


def read_polygons(source: VectorSource, column: str) -> PlacedPolygons:
    """Read the polygons of a source, in its own CRS. SceneError where it cannot be read, or holds none."""
    return _polygons(source, source.stamp, column)


def placed_polygons(source: VectorSource, column: str, grid: GeoBox) -> PlacedPolygons:
    """Return the polygons of a source in the CRS of a grid: they are read and moved once for all windows."""
    return _placed(source, source.stamp, column, None if grid.crs is None else grid.crs.to_wkt())


def check_place(source: VectorSource, crs_wkt: str | None, grid: GeoBox, scene: str) -> None:
    """Raise SceneError unless polygons can be burned into a grid."""
    if not grid.has_transform or grid.transform.is_degenerate or (grid.crs is None) != (crs_wkt is None):
        raise SceneError(
            f"{source.name} cannot be laid on {shown(scene)}: both need a CRS, and the scene a transform; "
            "georeference it (rio warp --dst-crs, for ground control points), or assign the CRS"
        )


@lru_cache(maxsize=2)
def _polygons(source: VectorSource, _stamp: object, column: str) -> PlacedPolygons:
    return PlacedPolygons.of(source.read(column), source.name, column)


@lru_cache(maxsize=2)
def _placed(source: VectorSource, stamp: object, column: str, ours: str | None) -> PlacedPolygons:
    found = _polygons(source, stamp, column)
    if found.crs_wkt is None or ours is None or found.crs_wkt == ours:
        return found
    moved = untorn(
        found.geometries, reprojected(found.geometries, found.crs_wkt, ours, source.name), found.crs_wkt, ours
    )
    return PlacedPolygons(found.name, column, moved, found.values, ours, shapely.STRtree(moved), found.others)
