"""Two maps of one place: what became what, in areas on the ground."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT

from geoseg.display.code_table import ClassAreas, CodeTable, CountedStrips, counted_strips, read_slots
from geoseg.display.overview_source import OverviewSource
from geoseg.display.placement import masking
from geoseg.errors import UsageError
from geoseg.legend import NODATA, NamedClass, Nomenclature
from geoseg.raster import Scene, shown

_PLANE = CRS.from_epsg(3857)
"""A name for the warper, of the pixels of maps without a place."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Areas by (code in the first map, code in the later one), where both have a class."""

    pairs: dict[tuple[int, int], float]
    in_px: bool
    step: float
    """One pixel of the first map in so many rows and columns was counted."""

    @classmethod
    def of(cls, first: OverviewSource, later: OverviewSource, table: CodeTable) -> Changes:
        """Compare two maps, each pixel of the first with the one of the later map in which its middle lies."""
        sums = np.zeros((NODATA + 1) ** 2)
        with counted_strips(first) as strips, on_its_grid(later, first, strips) as other:
            for area, weights in strips:
                slots = read_slots(strips.dataset, area, table).astype(np.int64) * (NODATA + 1)
                slots += read_slots(other, area, table)
                sums += np.bincount(slots, weights, minlength=len(sums))
        sums *= strips.unit
        found = sums.reshape(NODATA + 1, NODATA + 1)
        pairs = {(one, two): float(found[table[one], table[two]]) for one in table.codes for two in table.codes}
        return cls({pair: area for pair, area in sorted(pairs.items()) if area}, strips.in_px, strips.step)

    def areas(self, side: int) -> ClassAreas:
        """Return the areas of the classes in the first map (0) or the later one (1)."""
        sums: dict[int, float] = {}
        for pair, area in self.pairs.items():
            sums[pair[side]] = sums.get(pair[side], 0.0) + area
        return ClassAreas(sums, self.in_px, self.step)


@contextmanager
def on_its_grid(later: OverviewSource, first: OverviewSource, strips: CountedStrips) -> Iterator[DatasetReader]:
    """Yield a map on the grid of another that is counted."""
    (rows, cols), (height, width) = later.scene.shape, strips.dataset.shape
    (crs, place), (its_crs, its_place) = _places(first.scene, later.scene)
    pixel, its_pixel = (math.sqrt(abs(each.determinant)) for each in (place, its_place))
    finer = pixel / its_pixel
    if first.scene.geobox.gsd_m and later.scene.geobox.gsd_m and crs != its_crs:
        finer = first.scene.geobox.gsd_m / later.scene.geobox.gsd_m
    with later.at(max(1.0, strips.step * finer)) as (dataset, _):
        how = {
            "crs": crs,
            "transform": place @ Affine.scale(first.scene.shape[1] / width, first.scene.shape[0] / height),
            "width": width,
            "height": height,
            "src_crs": its_crs,
            "src_transform": its_place @ Affine.scale(cols / dataset.width, rows / dataset.height),
            "resampling": Resampling.nearest,
            **masking(dataset, later.scene),
        }
        with WarpedVRT(dataset, **how) as warped:
            yield warped


def _places(first: Scene, later: Scene) -> tuple[tuple[CRS, Affine], tuple[CRS, Affine]]:
    """Return what takes the pixels of two maps to the ground, or to one plane; in one way with `place_in`."""
    (crs, place), (its_crs, its_place) = first.geobox.mapping(), later.geobox.mapping()
    if crs is not None and place is not None and its_crs is not None and its_place is not None:
        return (crs, place), (its_crs, its_place)
    mine, its = first.geobox, later.geobox
    if mine.has_transform and its.has_transform and mine.crs == its.crs and not mine.transform.is_degenerate:
        return (_PLANE, mine.transform), (_PLANE, its.transform)
    # of one extent, as whoever laid them on the page has seen; the plane has its rows from north to south
    (rows, cols), (its_rows, its_cols) = first.shape, later.shape
    return (_PLANE, Affine.scale(1, -1)), (_PLANE, Affine.scale(cols / its_cols, -rows / its_rows))


def common_names(first: Nomenclature, later: Nomenclature, codes: set[int], maps: tuple[str, str]) -> Nomenclature:
    """Return what two maps call their codes. UsageError where they call one differently."""
    names: list[NamedClass] = []
    for code in sorted(codes):
        one, two = first.of(code), later.of(code)
        known = [named for legend in (first, later) for named in legend if named.code == code]
        if len(known) == 2 and known[0].name != known[1].name:
            raise UsageError(
                f"code {code} is {one.name!r:.60} in {shown(maps[0])} and {two.name!r:.60} in {shown(maps[1])}; "
                "compared maps need the same names; give one `legend` for both",
                "legend",
            )
        names.append(known[0] if known else one)
    return Nomenclature(tuple(names))
