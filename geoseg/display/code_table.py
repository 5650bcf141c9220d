"""A map's classes: any integers as one byte per pixel, the area of each class, and the changes between two maps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT

from geoseg.display.overview_source import OverviewSource
from geoseg.display.placement import masking
from geoseg.errors import SceneError, UsageError
from geoseg.legend import NODATA, NamedClass, Nomenclature, name_key
from geoseg.raster import (
    EVERY_PX,
    GeoBox,
    Ground,
    Patch,
    Scene,
    Tiling,
    Window,
    first_valid,
    place_at,
    shown,
    whole_turns,
)

_INT32 = np.iinfo(np.int32)
_TABLE_BYTES = 2
"""Codes of up to this size are looked up in a table, larger ones by binary search."""
_COUNTED_PX = 100_000_000
"""Maps with more pixels are counted in an overview."""
Rows = tuple[tuple[int, int], tuple[int, int]]
"""(first row, row after the last), (0, width)."""
_STRIPS = 64
_STRIP_PX = 8_000_000
_PLANE = CRS.from_epsg(3857)
"""A dummy CRS for the warper, for the pixels of maps without a place."""


class CodeTable:
    """Assigns each code a byte, 0 to 254, when it is first seen: its own number if that is free."""

    def __init__(self, name: str) -> None:
        """Start without codes. `name` is the map's name, for errors."""
        self._name = name
        self._slot_of: dict[int, int] = {}

    @property
    def codes(self) -> set[int]:
        """All codes seen."""
        return set(self._slot_of)

    def __getitem__(self, code: int) -> int:
        """Return the byte of a code, assigning one to a new code. SceneError if none is left, or it exceeds int32."""
        slot = self._slot_of.get(code)
        return self._new(code) if slot is None else slot

    def of(self, codes: NDArray[np.integer], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return the bytes of codes, of any shape; 255 for invalid pixels. SceneError as above."""
        if codes.dtype.itemsize <= _TABLE_BYTES:
            unsigned = codes.view(f"u{codes.dtype.itemsize}")
            distinct = np.flatnonzero(np.bincount(unsigned[valid])).astype(unsigned.dtype)
            table = np.full(np.iinfo(unsigned.dtype).max + 1, NODATA, np.uint8)
            table[distinct] = self._bytes(distinct.view(codes.dtype))
            return np.where(valid, table[unsigned], np.uint8(NODATA))
        distinct = np.unique(codes[valid])
        if not len(distinct):
            return np.full(codes.shape, NODATA, np.uint8)
        index = np.minimum(np.searchsorted(distinct, codes), len(distinct) - 1)
        return np.where(valid, self._bytes(distinct)[index], np.uint8(NODATA))

    def _bytes(self, distinct: NDArray[np.integer]) -> NDArray[np.uint8]:
        return np.array([self[code] for code in distinct.tolist()], np.uint8)

    def _new(self, code: int) -> int:
        if len(self._slot_of) == NODATA:
            raise SceneError(
                f"{self._name} holds more than {NODATA} codes, more than a page or a picture can show; "
                "is it a map of classes? give a map with fewer classes"
            )
        if not -_INT32.max <= code <= _INT32.max:
            raise SceneError(
                f"{self._name} holds the code {code}, but codes are integers from {-_INT32.max} to {_INT32.max}; "
                "renumber its classes"
            )
        used = set(self._slot_of.values())
        is_free = 0 <= code < NODATA and code not in used
        slot = code if is_free else next(slot for slot in range(NODATA) if slot not in used)
        self._slot_of[code] = slot
        return slot


@dataclass(frozen=True, slots=True)
class ClassAreas:
    """Areas by code, without nodata."""

    areas: dict[int, float]
    """m2 on the ground, or pixels if `in_px`."""
    in_px: bool
    step: float
    """One pixel in this many rows and columns was counted; 1 means all of them."""

    @classmethod
    def of(cls, landcover: OverviewSource, table: CodeTable) -> Self:
        """Count a map's codes strip by strip, weighting each pixel with its area on the ground."""
        sums = np.zeros(NODATA + 1)
        with _counted_strips(landcover) as strips:
            for area, weights in strips:
                sums += np.bincount(_read_slots(strips.dataset, area, table), weights, minlength=NODATA + 1)
        areas = {code: float(sums[table[code]] * strips.unit) for code in sorted(table.codes)}
        return cls({code: area for code, area in areas.items() if area}, strips.in_px, strips.step)


@dataclass(frozen=True, slots=True)
class _CountedStrips:
    """A map at the size at which it is counted."""

    dataset: DatasetReader
    step: float
    """How much coarser it is than the map."""
    unit: float
    """What a weight of one means: m2, or pixels of the map."""
    ground: Ground | None

    @property
    def in_px(self) -> bool:
        """Whether areas are in pixels, because the pixel size is unknown."""
        return self.ground is None

    def __iter__(self) -> Iterator[tuple[Rows, NDArray[np.float64] | None]]:
        """Yield each strip, from the top, with the weights of its pixels (pixel,); None if all weights are one."""
        height, width = self.dataset.shape
        step = max(1, min(math.ceil(height / _STRIPS), _STRIP_PX // width))
        for strip in Tiling(height, width, step, width):
            weights = None
            if self.ground is not None and not self.ground.is_even:
                weights = np.broadcast_to(self.ground.areas(strip), strip.shape).ravel()
            yield ((strip.row, strip.row_stop), (0, width)), weights


@contextmanager
def _counted_strips(landcover: OverviewSource) -> Iterator[_CountedStrips]:
    """Open a map for counting, at an overview if it is large."""
    rows, cols = landcover.scene.shape
    factor = max(1.0, math.sqrt(rows * cols / _COUNTED_PX))
    with landcover.at(factor if factor == 1.0 else factor * 2) as (dataset, step):
        ground = _ground(place_at(landcover.scene.geobox, (dataset.height, dataset.width)))
        unit = 1.0 if ground is not None else rows / dataset.height * cols / dataset.width
        yield _CountedStrips(dataset, step, ground.pixel if ground is not None and ground.is_even else unit, ground)


def _read_slots(dataset: DatasetReader, area: Rows, table: CodeTable) -> NDArray[np.uint8]:
    """Return the bytes (pixel,) of some rows of a map; 255 for invalid pixels."""
    valid = dataset.dataset_mask(window=area) if dataset.count == 1 else dataset.read(2, window=area)
    return table.of(dataset.read(1, window=area), valid != 0).ravel()


def _ground(geobox: GeoBox) -> Ground | None:
    """Return the ground measures of pixels, None if unknown: a page shows any map, even without a place."""
    try:
        ground = Ground.of(geobox)
    except SceneError:
        return None
    return None if ground.in_px else ground


def typical_gsd_m(box: GeoBox) -> float | None:
    """Return meters per pixel on the ground: a median of five places, as the center may be a pole, where it fails."""
    height, width = max(1, box.height_px // 2), max(1, box.width_px // 2)
    corners = [(row, col) for row in (0, box.height_px - height) for col in (0, box.width_px - width)]
    parts = [box, *(box[Window(row, col, height, width)] for row, col in corners)]
    sizes_m = [part.gsd_m for part in parts if part.gsd_m is not None]
    return float(np.median(sizes_m)) if sizes_m else None


@dataclass(frozen=True, slots=True)
class Changes:
    """Areas by (code in the first map, code in the later one), where both maps have a class."""

    pairs: dict[tuple[int, int], float]
    in_px: bool
    step: float
    """One pixel of the first map in this many rows and columns was counted."""

    @classmethod
    def of(cls, first: OverviewSource, later: OverviewSource, table: CodeTable) -> Changes:
        """Compare each pixel of the first map with the later map's pixel that contains its center."""
        sums = np.zeros((NODATA + 1) ** 2)
        with _counted_strips(first) as strips, _on_first_grid(later, first, strips) as later_views:
            for area, weights in strips:
                slots = _read_slots(strips.dataset, area, table).astype(np.int64) * (NODATA + 1)
                found = (_read_slots(view, area, table) for view in later_views)
                slots += first_valid(Patch(later_slots, later_slots != NODATA) for later_slots in found).data
                sums += np.bincount(slots, weights, minlength=len(sums))
        areas, codes = (sums * strips.unit).reshape(NODATA + 1, NODATA + 1), sorted(table.codes)
        pairs = {(before, after): float(areas[table[before], table[after]]) for before in codes for after in codes}
        return cls({pair: area for pair, area in pairs.items() if area}, strips.in_px, strips.step)

    def rows(self) -> list[tuple[int, int, float]]:
        """Return (code before, code after, area) rows, for a page."""
        return [(before, after, float(f"{area:.9g}")) for (before, after), area in self.pairs.items()]

    def areas(self, side: int) -> ClassAreas:
        """Return the areas of the classes in the first map (0) or the later one (1)."""
        sums: dict[int, float] = {}
        for pair, area in self.pairs.items():
            sums[pair[side]] = sums.get(pair[side], 0.0) + area
        return ClassAreas(sums, self.in_px, self.step)


@contextmanager
def _on_first_grid(
    later: OverviewSource, first: OverviewSource, strips: _CountedStrips
) -> Iterator[list[DatasetReader]]:
    """Yield the later map on the grid on which the first is counted, once for each turn around the Earth.

    Each pixel has its class in one of them.
    """
    (rows, cols), (height, width) = later.scene.shape, strips.dataset.shape
    (first_crs, first_transform), (later_crs, later_transform) = _georeferences(first.scene, later.scene)
    first_pixel, later_pixel = (
        math.sqrt(abs(transform.determinant)) for transform in (first_transform, later_transform)
    )
    finer = first_pixel / later_pixel
    if first.scene.geobox.gsd_m and later.scene.geobox.gsd_m and first_crs != later_crs:
        finer = first.scene.geobox.gsd_m / later.scene.geobox.gsd_m
    turns = whole_turns(later.scene.geobox, first.scene.geobox) if later_crs == later.scene.geobox.crs else [0.0]
    with later.at(max(1.0, strips.step * finer)) as (dataset, _), ExitStack() as stack:
        options = {
            "crs": first_crs,
            "transform": first_transform @ Affine.scale(first.scene.shape[1] / width, first.scene.shape[0] / height),
            "width": width,
            "height": height,
            "src_crs": later_crs,
            "resampling": Resampling.nearest,
            "SAMPLE_STEPS": EVERY_PX,
            **masking(dataset, later.scene),
        }
        place = later_transform @ Affine.scale(cols / dataset.width, rows / dataset.height)
        yield [
            stack.enter_context(WarpedVRT(dataset, **options, src_transform=Affine.translation(turn, 0) @ place))
            for turn in turns
        ]


def _georeferences(first: Scene, later: Scene) -> tuple[tuple[CRS, Affine], tuple[CRS, Affine]]:
    """Return CRS and transform of two maps, on the ground or on a common plane; consistent with `place_in`."""
    placed = [
        (crs, transform)
        for crs, transform in (first.geobox.mapping(), later.geobox.mapping())
        if crs is not None and transform is not None
    ]
    if len(placed) == 2:
        return placed[0], placed[1]
    first_box, later_box = first.geobox, later.geobox
    if first_box.has_grid and later_box.has_grid and first_box.crs == later_box.crs:
        return (_PLANE, first_box.transform), (_PLANE, later_box.transform)
    # both have the same extent, as `place_in` has checked; rows of the plane go from north to south
    (rows, cols), (later_rows, later_cols) = first.shape, later.shape
    return (_PLANE, Affine.scale(1, -1)), (_PLANE, Affine.scale(cols / later_cols, -rows / later_rows))


def common_names(first: Nomenclature, later: Nomenclature, codes: set[int], maps: tuple[str, str]) -> Nomenclature:
    """Return the names of the codes in two maps. UsageError if the maps name a code differently."""
    names: list[NamedClass] = []
    for code in sorted(codes):
        named_in = [named for legend in (first, later) for named in legend if named.code == code]
        if len({name_key(named.name) for named in named_in}) > 1:
            raise UsageError(
                f"code {code} is {named_in[0].name!r:.60} in {shown(maps[0])} and {named_in[1].name!r:.60} in "
                f"{shown(maps[1])}; compared maps need the same names; give one `legend` for both",
                "legend",
            )
        names.append(named_in[0] if named_in else first.of(code))
    return Nomenclature(tuple(names))
