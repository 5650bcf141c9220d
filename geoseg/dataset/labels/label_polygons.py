"""Labels as polygons with a class column, burned into the grid of a scene window by window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.dataset.labels.features import FeatureFile, Features, VectorSource, reprojected
from geoseg.dataset.labels.labels import Decoded, file_digest
from geoseg.errors import SceneError
from geoseg.legend import NODATA
from geoseg.raster import GeoBox, Strays, Window, period_of, shown

_NAMES = {0: "point", 1: "line", 2: "line", 4: "point", 5: "line", 7: "empty or null geometry"}
"""What messages call shapely's types that are no polygons; a collection without parts is empty."""
_COLLECTION, _POLYGONS = 7, (3, 6)
_EDGE_POINTS = 21

_Points = NDArray[np.float64]
"""(point, 2) x and y."""


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
        period = period_of(None if self.crs_wkt is None else CRS.from_wkt(self.crs_wkt))
        return (0.0, period, -period) if period else (0.0,)

    @classmethod
    def of(cls, features: Features, name: str, column: str) -> Self:
        """Sort out the polygons of what was read. SceneError where there is none."""
        shapes, owners, others = unpacked_polygons(features.geometries)
        if not len(shapes):
            held = f": it has {_counted(others)}" if others else ""
            raise SceneError(f"{name} holds no polygon{held}; give polygons, points and lines can be buffered")
        values = tuple(features.values[owner] for owner in owners)
        return cls(name, column, shapes, values, features.crs_wkt, shapely.STRtree(shapes), tuple(others.items()))

    def near(self, place: GeoBox) -> list[tuple[Any, str]]:
        """Return the polygons whose bounds meet those of a grid in their CRS, with their values, in order.

        Those a turn around the Earth away are moved to the grid.
        """
        frame = shapely.MultiPoint(place.corners).envelope
        found = [(int(i), turn) for turn in self.turns for i in self.tree.query(_shifted(frame, -turn))]
        return [(_shifted(self.geometries[i], turn), self.values[i]) for i, turn in sorted(found)]

    def note(self, grids: Iterable[GeoBox], what: str = "labels", where: str = "the imagery") -> str | None:
        """Return a line on what cannot be used: other geometries, and polygons without class or beside all grids.

        `what` polygons are to the caller, and `where` they should lie.
        """
        said = []
        if self.others:
            said.append(f"{_counted(Counter(dict(self.others)))} cannot be {what}, only polygons can")
        if lacking := self.values.count(""):
            said.append(f"{_number(lacking, 'polygon')} without a class in {self.column}")
        if beside := self.beside(grids):
            said.append(f"{_number(beside, 'polygon')} beside {where}")
        return f"{self.name}: {'; '.join(said)}; left out" if said else None

    def beside(self, grids: Iterable[GeoBox]) -> int:
        """Return how many polygons lie on none of the grids; 0 where nobody can say."""
        meets = np.zeros(len(self.geometries), bool)
        for grid in grids:
            frame = _frame_in(grid, self.crs_wkt)
            if frame is None:
                return 0  # the frame reaches to where this CRS does not
            for turn in self.turns:
                meets[self.tree.query(_shifted(frame, -turn), predicate="intersects")] = True
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
            f"{source.name} cannot be laid upon {shown(scene)}: both need a CRS, and the scene a transform; "
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
    moved = _untorn(
        found.geometries, reprojected(found.geometries, found.crs_wkt, ours, source.name), found.crs_wkt, ours
    )
    return PlacedPolygons(found.name, column, moved, found.values, ours, shapely.STRtree(moved), found.others)


def unpacked_polygons(geometries: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp], Counter[str]]:
    """Return the polygons, also those of collections in collections, whose each is, and what else there is."""
    shapes, owners = np.asarray(geometries, object), np.arange(len(geometries))
    while (packed := (shapely.get_type_id(shapes) == _COLLECTION) & ~shapely.is_empty(shapes)).any():
        parts, whose = shapely.get_parts(shapes[packed], return_index=True)
        # A part stands where its collection stood: of polygons that overlap the last counts.
        shapes = np.concatenate([shapes[~packed], parts])
        owners = np.concatenate([owners[~packed], owners[packed][whose]])
        order = np.argsort(owners, kind="stable")
        shapes, owners = shapes[order], owners[order]
    nothing = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    types = shapely.get_type_id(shapes)
    is_area = np.isin(types, _POLYGONS) & ~nothing
    others: Counter[str] = Counter()
    for kind, void in zip(types[~is_area].tolist(), nothing[~is_area].tolist(), strict=True):
        others[_NAMES[_COLLECTION] if void else _NAMES.get(kind, "surface of another kind")] += 1
    return shapes[is_area], owners[is_area], others


def _counted(others: Counter[str]) -> str:
    return ", ".join(_number(count, what) for what, count in sorted(others.items()))


def _number(count: int, what: str) -> str:
    if count == 1:
        return f"1 {what}"
    if what.endswith("geometry"):
        return f"{count} {what.removesuffix('y')}ies"
    return f"{count} {what}s"


def _shifted(shape: Any, x: float) -> Any:  # noqa: ANN401 - any of shapely's
    return shapely.transform(shape, lambda xy: xy + np.array([x, 0.0])) if x else shape


def _frame_in(grid: GeoBox, crs_wkt: str | None) -> shapely.Polygon | None:
    """Return the outline of a grid in a CRS; None where it has none there."""
    steps = np.linspace(0, 1, _EDGE_POINTS)[:-1]
    zeros, ones = np.zeros_like(steps), np.ones_like(steps)
    cols = np.concatenate([steps, ones, 1 - steps, zeros]) * grid.width_px
    rows = np.concatenate([zeros, steps, ones, 1 - steps]) * grid.height_px
    frame = shapely.Polygon([grid.transform @ corner for corner in zip(cols.tolist(), rows.tolist(), strict=True)])
    try:
        ours = None if grid.crs is None else grid.crs.to_wkt()
        moved = reprojected(np.array([frame], object), ours, crs_wkt, "the scene")[0]
    except SceneError:
        return None
    spans_world = crs_wkt is not None and CRS.from_wkt(crs_wkt).is_geographic and np.ptp(moved.bounds[::2]) > 180
    return None if spans_world or not moved.is_valid else moved


def _untorn(polygons: NDArray[Any], moved: NDArray[Any], theirs_wkt: str, ours_wkt: str) -> NDArray[Any]:
    """Return polygons as they were moved, whole where their sides leap to the other end of the world.

    A polygon over the 180th meridian then reaches beyond 180. One around a pole is opened toward it.
    """
    period = period_of(CRS.from_wkt(ours_wkt))
    if not period or not len(moved):
        return moved
    bounds = shapely.bounds(moved)
    wide = np.flatnonzero(bounds[:, 2] - bounds[:, 0] > period / 2)
    if not len(wide):
        return moved
    from pyproj import Transformer  # noqa: PLC0415 - a tenth of a second that most runs do not need

    transformer = Transformer.from_crs(theirs_wkt, ours_wkt, always_xy=True)

    def forward(xy: _Points) -> _Points:
        return np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))

    whole = moved.copy()
    for index in wide:
        whole[index] = shapely.multipolygons(list(_parts(polygons[index], moved[index], forward, period)))
    return whole


def _parts(polygon: Any, moved: Any, forward: Callable[[_Points], _Points], period: float) -> Iterator[Any]:  # noqa: ANN401 - shapely's
    for part, there in zip(shapely.get_parts(polygon), shapely.get_parts(moved), strict=True):
        rings = zip(shapely.get_rings(part), shapely.get_rings(there), strict=True)
        shell, *holes = (
            _ring(shapely.get_coordinates(before), shapely.get_coordinates(after), forward, period)
            for before, after in rings
        )
        if shapely.get_num_coordinates(part) < sum(map(len, (shell, *holes))):
            yield from _opened(shell, holes, period)
            continue
        middle = np.mean([shell[:, 0].min(), shell[:, 0].max()])
        for hole in holes:
            hole[:, 0] -= period * np.round((hole[:, 0].mean() - middle) / period)
        yield shapely.Polygon(shell, holes)


def _opened(shell: _Points, holes: list[_Points], period: float) -> Iterator[Any]:
    """Yield the parts of a polygon around a pole; its rings may be opened at different longitudes."""
    copies = [shapely.Polygon(hole + np.array([turn, 0.0])) for hole in holes for turn in (-period, 0.0, period)]
    without = shapely.union_all(shapely.make_valid(copies))
    whole = shapely.difference(shapely.make_valid(shapely.Polygon(shell)), without)
    yield from (each for each in shapely.get_parts(whole) if each.geom_type == "Polygon")


def _ring(before: _Points, after: _Points, forward: Callable[[_Points], _Points], period: float) -> _Points:
    """Return a ring without leaps. A side leaps where its middle is not where the middle of its ends is."""
    x = after[:, 0]
    far = np.flatnonzero(np.abs(np.diff(x)) > period / 2)
    if not len(far):
        return after
    middles = forward((before[far] + before[far + 1]) / 2)[:, 0]
    off = np.abs((middles - (x[far] + x[far + 1]) / 2 + period / 2) % period - period / 2)
    turns = np.zeros(len(x))
    turns[far + 1] = np.where(off > period / 4, -np.sign(x[far + 1] - x[far]), 0.0)
    shift = np.cumsum(turns) * period
    ring = np.column_stack([x + shift, after[:, 1]])
    if shift[-1]:
        beyond = np.copysign(period, after[:, 1].mean())  # farther than any pole
        ring = np.vstack([ring, [(ring[-1, 0], beyond), (ring[0, 0], beyond), ring[0]]])
    return ring
