"""The verb `sample`: points drawn at random from each class of a map, for somebody to find the true class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from geoseg import features
from geoseg.atomic import check_unread
from geoseg.counts import NONE, StoredCodes
from geoseg.dataset import DEFAULT_SEED
from geoseg.errors import SceneError, UsageError, listed, numbered
from geoseg.evaluation.points import check_degrees, check_points_target, write_points
from geoseg.given import CrsLike, StrPath, plain_arguments
from geoseg.legend import GivenLegend, Nomenclature, choose_classes, class_list
from geoseg.prefetch import prefetch
from geoseg.progress import Progress, announcer, count_pieces
from geoseg.raster import ClassRaster, GeoBox, Ground, apply_transform, as_scene, local_files, shown

if TYPE_CHECKING:
    import geopandas

    from geoseg.features.area_of_interest import Aoi
    from geoseg.raster.scene import SceneLike

_CHUNK_PX = 1 << 20
"""Pixels processed at once: their random numbers fit into the processor's cache."""
_MOST_NAMED = 12
"""Most classes that a line names."""
_MOST_POINTS = 1_000_000
"""Most points of each class: more than anybody will look at."""


class _Options(TypedDict, total=False):
    per_class: int
    points: int | None
    classes: str | Sequence[str | int] | None
    legend: GivenLegend | None
    aoi: Aoi | None
    aoi_crs: CrsLike | None
    seed: int
    mkdir: bool
    overwrite: bool
    progress: Callable[[Progress], None] | None
    announce: Callable[[str], None] | None


@overload
def sample(landcover: SceneLike, out: None = None, **options: Unpack[_Options]) -> geopandas.GeoDataFrame: ...
@overload
def sample(landcover: SceneLike, out: StrPath, **options: Unpack[_Options]) -> Path: ...
@plain_arguments()
def sample(  # noqa: PLR0913 - the options of the verb
    landcover: SceneLike,
    out: StrPath | None = None,
    *,
    per_class: int = 50,
    points: int | None = None,
    classes: str | Sequence[str | int] | None = None,
    legend: GivenLegend | None = None,
    aoi: Aoi | None = None,
    aoi_crs: CrsLike | None = None,
    seed: int = DEFAULT_SEED,
    mkdir: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> Path | geopandas.GeoDataFrame:
    """Draw points at random from each class of a map, for `evaluate(landcover, sample=..., areas=True)`.

    The points do not show the map's class and come in random order: whoever fills in the column `class` does not know
    the map's answer, and the first points alone are also a random sample.

    Parameters
    ----------
    landcover : path, Scene, rasterio dataset or xarray.DataArray
        Any raster of classes that GDAL reads, or a part of one, from `geoseg.within` or `geoseg.crop`.
    out : path, optional
        The file of points; its extension sets the format: .gpkg, .geojson, .fgb, .parquet, .csv.
    per_class : int
        Points in each class, or the minimum in each if `points` sets the total.
    points : int, optional
        Total number of points: classes whose share by area would be less than `per_class` get `per_class`; all others
        divide the rest by area.
    classes : str or sequence, optional
        The classes to draw from, by name or code; by default all that have a pixel.
    legend : path, dict of names by code, Legend or Nomenclature, optional
        Overrides the names in the raster.
    aoi : path, GeoDataFrame, geometry or GeoJSON, optional
        Polygons: only pixels whose centers lie inside are drawn; `aoi_crs` is the CRS if the polygons state none.
    seed : int
        The same seed draws the same points of the same map; another seed draws others.
    mkdir, overwrite : bool
        Create missing folders; replace an existing file.
    progress, announce : callable, optional
        Called with a `Progress` after each strip of the map, and with lines for people.

    Returns
    -------
    Path or geopandas.GeoDataFrame
        The path of the file; without `out`, the points. Columns: id (from 1), class (empty), geometry (the center of a
        pixel).

    Raises
    ------
    UsageError, SceneError, OutputError
        Nothing new is left at `out`.

    Notes
    -----
    A stratified random sample without replacement (Olofsson et al. 2014, 10.1016/j.rse.2014.02.015, section 5.1). In
    degrees, and in projections that distort areas, a pixel's chance is proportional to its area on the ground. The map
    is read once: each pixel gets a random number divided by its area, and the smallest are drawn (Efraimidis and
    Spirakis 2006, 10.1016/j.ipl.2005.11.003).

    Examples
    --------
    >>> geoseg.sample("landcover.tif", "points.gpkg", per_class=75)  # doctest: +SKIP

    """
    announce = announcer(announce)
    _check_numbers(per_class, points, seed)
    landcover = as_scene(landcover, "landcover")
    target = None if out is None else check_points_target(out, mkdir=mkdir, overwrite=overwrite)
    if target is not None:
        check_unread(target, "out", *local_files(landcover), landcover, legend, aoi)
    raster, names = features.open_map(landcover, legend, aoi, aoi_crs)
    grid, name = raster.scene.geobox, shown(raster.scene.path)
    if not grid.has_transform and (grid.gcps or grid.rpcs is not None):
        raise SceneError(f"{name} has no grid in a CRS, so points cannot be placed on it; {grid.grid_hint}")
    if target is not None:
        check_degrees(target, grid, name)
    drawing = _draw(raster, max(per_class, points or 0), seed, progress)
    strata = _strata(drawing, names, classes, name)
    counts = _allotted({code: drawing.areas[code] for code in strata}, per_class, points)
    frame = _frame(drawing.chosen(counts, seed), grid)
    for line in (raster.note, *_notes(drawing, counts, names)):
        if line:
            announce(line)
    if target is None:
        return frame
    write_points(frame, target, grid, mkdir=mkdir)
    return target


def _check_numbers(per_class: int, points: int | None, seed: int) -> None:
    for name, value in (("per_class", per_class), ("points", points)):
        if value is not None and not 1 <= value <= _MOST_POINTS:
            raise UsageError(f"`{name}` must be from 1 to {_MOST_POINTS}, got {value}", name)
    if seed < 0:
        raise UsageError(f"`seed` must be 0 or more, got {seed}", "seed")


@dataclass(slots=True)
class _Drawing:
    """The pixels of each class that win so far."""

    name: str
    """The map's name in messages."""
    most: int
    """Most winners of a class."""
    width_px: int
    pixels: dict[int, int] = field(default_factory=dict)
    """Number of pixels in the map, by class."""
    areas: dict[int, float] = field(default_factory=dict)
    """Area on the ground in m2, by class; in pixels if the map is not georeferenced."""
    keys: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    """(winner,) random numbers divided by the pixels' areas, by class. The smallest win."""
    places: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    """(winner,) places in the map, counted row by row."""

    def add(self, codes: StoredCodes, keys: NDArray[np.float64], areas: NDArray[np.float64], first: int) -> None:
        """Add pixels from the place `first` on: codes (row, col), random `keys` and `areas` (pixel,)."""
        index, codes_present = codes.indexed(self.name)
        counts, sums = np.bincount(index, minlength=len(codes_present)), np.bincount(index, areas, len(codes_present))
        limits = np.array([-1.0 if code == NONE else self._limit(int(code)) for code in codes_present])
        winners = np.flatnonzero(keys < limits[index])
        winner_classes = index[winners]
        for i, code in enumerate(codes_present.tolist()):
            if code == NONE or not counts[i]:
                continue
            self.pixels[code] = self.pixels.get(code, 0) + int(counts[i])
            self.areas[code] = self.areas.get(code, 0.0) + float(sums[i])
            own_winners = winners[winner_classes == i]
            self._keep(code, keys[own_winners], own_winners + first)

    def _limit(self, code: int) -> float:
        """Return the key at which a pixel of a class loses."""
        keys = self.keys.get(code)
        return np.inf if keys is None or len(keys) < self.most else float(keys.max())

    def _keep(self, code: int, keys: NDArray[np.float64], places: NDArray[np.int64]) -> None:
        keys = np.concatenate([self.keys.get(code, np.empty(0)), keys])
        places = np.concatenate([self.places.get(code, np.empty(0, np.int64)), places])
        if len(keys) > self.most:
            best = np.argpartition(keys, self.most - 1)[: self.most]
            keys, places = keys[best], places[best]
        self.keys[code], self.places[code] = keys, places

    def chosen(self, counts: Mapping[int, int], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows and columns of `counts` pixels of each class, in random order."""
        best = [self.places[code][np.argsort(self.keys[code])[:count]] for code, count in counts.items()]
        places = np.sort(np.concatenate(best))
        return tuple(np.divmod(np.random.default_rng([seed, 1]).permutation(places), self.width_px))  # type: ignore[return-value]


def _draw(raster: ClassRaster, most: int, seed: int, progress: Callable[[Progress], None] | None) -> _Drawing:
    """Read the map once. Random numbers are drawn row by row, so strips of any height give the same points."""
    width = raster.scene.shape[1]
    drawing, random = _Drawing(shown(raster.scene.path), most, width), np.random.default_rng(seed)
    ground = Ground.of(raster.scene.geobox)
    windows = raster.windows()
    piece = count_pieces(progress, "sample", len(windows), sum(window.size for window in windows))
    for window, codes in zip(windows, prefetch(raster.strips()), strict=True):
        for part in window.tiles(max(1, _CHUNK_PX // window.width), window.width):
            stored = codes[part.row - window.row : part.row_stop - window.row]
            areas = np.broadcast_to(ground.areas(part), part.shape).ravel()
            with np.errstate(divide="ignore"):  # area 0 beyond a pole, where nothing is drawn
                keys = random.standard_exponential(part.size) / areas
            drawing.add(StoredCodes(stored, None, raster.background), keys, areas, part.row * width)
        piece(window.size)
    raster.check_unchanged()
    return drawing


def _strata(drawing: _Drawing, names: Nomenclature, classes: str | Sequence[str | int] | None, name: str) -> list[int]:
    """Return the codes of the classes to draw from. SceneError if none of them has a pixel."""
    present = sorted(drawing.pixels)
    if classes is not None:
        known = names.completed({*present, *(each.code for each in names)})
        chosen = choose_classes(known, classes)
        if missing := sorted(chosen - set(present)):
            raise UsageError(
                f"{name} has no pixel of {class_list(known.completed(missing))}; it has "
                f"{class_list(known.completed(present)) if present else 'no pixel with a class'}",
                "classes",
            )
        present = sorted(chosen)
    if not present:
        raise SceneError(
            f"{name} has no pixel with a class to draw from; check its nodata value, and the area of interest"
        )
    return present


def _allotted(areas: Mapping[int, float], per_class: int, points: int | None) -> dict[int, int]:
    """Return how many points each class gets. UsageError if `points` do not suffice for `per_class` in each.

    Olofsson et al. 2014, section 5.1.2: a fixed number in rare classes, and the rest by area.
    """
    if points is None:
        return dict.fromkeys(areas, per_class)
    if points < per_class * len(areas):
        fewer = f", or at most {points // len(areas)} for each class" if points >= len(areas) else ""
        raise UsageError(
            f"`points={points}` is too few for `per_class={per_class}` in each of {numbered(len(areas), 'class')}; "
            f"give at least {per_class * len(areas)} points{fewer}",
            "points",
        )
    large, remaining = set(areas), points
    while large:
        remaining, large_area = points - per_class * (len(areas) - len(large)), sum(areas[code] for code in large)
        small = {code for code in large if remaining * areas[code] / large_area < per_class}
        if not small:
            break
        large -= small
    counts = dict.fromkeys(areas, per_class)
    shares = {code: remaining * areas[code] / large_area for code in sorted(large)}
    counts |= {code: int(share) for code, share in shares.items()}
    by_remainder = sorted(shares, key=lambda code: int(shares[code]) - shares[code])
    for code in by_remainder[: points - sum(counts.values())]:
        counts[code] += 1
    return counts


def _notes(drawing: _Drawing, counts: Mapping[int, int], names: Nomenclature) -> Iterator[str]:
    """Yield lines for the user: the points of each class, and the classes that have too few pixels."""
    drawn = {code: min(count, drawing.pixels[code]) for code, count in counts.items()}
    parts = (f"{count} {names.of(code).name}" for code, count in drawn.items())
    yield f"{numbered(sum(drawn.values()), 'point')}: {listed(parts, _MOST_NAMED)}"
    small = [code for code, count in counts.items() if drawn[code] < count]
    if len(small) == 1:
        yield f"{names.of(small[0]).name} has only {numbered(drawn[small[0]], 'pixel')}, and all are drawn"
    elif small:
        parts = (f"{names.of(code).name} ({drawn[code]})" for code in small)
        yield f"{listed(parts, _MOST_NAMED)} have only that many pixels, and all are drawn"
    if set(drawing.pixels) - set(counts):
        yield "the map's other classes get no points: estimated areas will not cover them"


def _frame(pixels: tuple[NDArray[np.int64], NDArray[np.int64]], place: GeoBox) -> geopandas.GeoDataFrame:
    """Return a table of points at the centers of pixels, given by their rows and columns."""
    import geopandas  # noqa: PLC0415 - a second, which an error need not wait for
    import pandas as pd  # noqa: PLC0415 - see above

    rows, cols = (axis.astype(np.float64) + 0.5 for axis in pixels)
    geometry = geopandas.points_from_xy(*apply_transform(place.transform, cols, rows))
    columns: dict[str, Any] = {"id": np.arange(1, len(rows) + 1), "class": pd.array([None] * len(rows), dtype="string")}
    crs = None if place.crs is None else place.crs.to_wkt()
    return geopandas.GeoDataFrame(columns, geometry=geometry, crs=crs)
