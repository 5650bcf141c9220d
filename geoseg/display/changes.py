"""Two maps of one place: what became what, in areas on the ground."""

from __future__ import annotations

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
from geoseg.raster import is_placed, place_at, shown

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
    (height, width), theirs = strips.dataset.shape, later.scene.geobox
    box = place_at(first.scene.geobox, (height, width))
    placed = is_placed(theirs) and is_placed(box)
    finer = max(first.scene.shape) / max(later.scene.shape)
    if placed and theirs.gsd_m and first.scene.geobox.gsd_m:
        finer = first.scene.geobox.gsd_m / theirs.gsd_m
    with later.at(max(1.0, strips.step * finer)) as (dataset, _):
        how = {"width": width, "height": height, "resampling": Resampling.nearest, **masking(dataset, later.scene)}
        if placed:
            how |= {"crs": box.crs, "transform": box.transform}
        else:  # both are of one extent, as whoever laid them on the page has seen
            scale = Affine.scale(width / dataset.width, -height / dataset.height)
            how |= {"src_crs": _PLANE, "src_transform": scale, "crs": _PLANE, "transform": Affine.scale(1, -1)}
        with WarpedVRT(dataset, **how) as warped:
            yield warped


def common_names(first: Nomenclature, later: Nomenclature, codes: set[int], maps: tuple[str, str]) -> Nomenclature:
    """Return what two maps call their codes. UsageError where they call one differently."""
    names: list[NamedClass] = []
    for code in sorted(codes):
        one, two = first.of(code), later.of(code)
        known = [named for legend in (first, later) for named in legend if named.code == code]
        if len(known) == 2 and known[0].name != known[1].name:
            raise UsageError(
                f"code {code} is {one.name!r:.60} in {shown(maps[0])} and {two.name!r:.60} in {shown(maps[1])}; "
                "maps that are compared have one `legend`, which can be given",
                "legend",
            )
        names.append(known[0] if known else one)
    return Nomenclature(tuple(names))
