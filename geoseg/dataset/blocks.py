"""Blocks held out of scenes, separated in space from the training areas.

Nearby pixels are similar: a model judged on neighbors of its training pixels looks better than it is (Roberts et al.
2017, 10.1111/ecog.02881). So blocks are cut on the ground, not per file: scenes of the same place share them.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from geoseg.counts import count_bytes
from geoseg.dataset.area import Area, covered
from geoseg.dataset.dataset import Dataset
from geoseg.dataset.pair import Pair
from geoseg.errors import SceneError, UsageError
from geoseg.legend import NODATA
from geoseg.raster import GDAL_ERRORS, Window, is_placed, shown

_BLOCKS = 64
"""Approximate number of blocks over all the ground."""
_GAP_SHARE = 1 / 8
"""Margin around a held-out block, as a share of its edge."""
_LEAST_PX = 16
_TRIES = 300
_EDGE_POINTS = 21

Box = tuple[float, float, float, float]
"""(left, low, right, high) in the units of a plane."""

_Cell = tuple[str, int, int]
"""A plane, and the row and column of a block on it."""
Areas = tuple[Area, ...]


def hold_out_blocks(dataset: Dataset, share: float, seed: int, valid_share: float) -> tuple[Areas, Areas, Areas]:
    """Return the train, valid and test areas: disjoint windows, no two parts closer on the ground than the margin.

    Blocks with about `share` of the labeled pixels are held out, `valid_share` of them for validation, the rest for
    testing. The best of many random draws has the class shares closest to those of all blocks. Blocks without labels
    are never held out. UsageError if fewer than two (three with a test part) blocks have labels.
    """
    places = _on_planes(dataset.pairs)
    lattice = _Lattice.of(places)
    blocks = [(place, lattice.windows(place)) for place in places]
    counts = _counts(blocks)
    labeled = {cell: count for cell, count in counts.items() if count.any()}
    if not labeled:
        raise UsageError(
            f"no valid pixel of {dataset.name} has a label, so `split='blocks'` cannot divide it; check that the "
            "labels lie on the scenes, and the nodata values of both",
            "split",
        )
    needed = 2 if valid_share == 1 else 3
    if len(labeled) < needed:
        raise UsageError(
            f"`split='blocks'` needs labels in {needed} blocks of the ground, but they lie in {len(labeled)}; "
            "label more of the scenes, or use `split='all'`",
            "split",
        )
    chance = random.Random(f"geoseg {seed}")  # noqa: S311 - not a secret
    held_out = _choose_blocks(labeled, share, chance, least=needed - 1)
    test = frozenset[_Cell]()
    if valid_share < 1:
        test = _choose_blocks({cell: labeled[cell] for cell in sorted(held_out)}, 1 - valid_share, chance, least=1)
    return _areas(lattice, blocks, held_out - test, test)


@dataclass(frozen=True, slots=True)
class _Lattice:
    """Squares that cover each plane, from the minimum corner of its scenes."""

    edge: Mapping[str, float]
    corner: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, places: Sequence[_OnPlane]) -> _Lattice:
        boxes: dict[str, list[Box]] = defaultdict(list)
        for place in places:
            boxes[place.name].append(place.box(place.pair.whole))
        px = {place.name: place.px for place in places}
        ground = {
            name: shapely.union_all([shapely.box(*box) for box in plane_boxes]).area
            for name, plane_boxes in boxes.items()
        }
        total_px = sum(area / px[name] ** 2 for name, area in ground.items())
        edge_px = max(math.sqrt(total_px / _BLOCKS), _LEAST_PX)
        return cls(
            {name: edge_px * size for name, size in px.items()},
            {
                name: (min(box[0] for box in plane_boxes), min(box[1] for box in plane_boxes))
                for name, plane_boxes in boxes.items()
            },
        )

    def windows(self, place: _OnPlane) -> dict[_Cell, Window]:
        """Return the scene's window in each block that it overlaps."""
        edge, (x, y) = self.edge[place.name], self.corner[place.name]
        left, low, right, high = place.box(place.pair.whole)
        cols = range(math.floor((left - x) / edge), math.ceil((right - x) / edge))
        rows = range(math.floor((low - y) / edge), math.ceil((high - y) / edge))
        windows = {}
        for row in rows:
            for col in cols:
                box = x + col * edge, y + row * edge, x + (col + 1) * edge, y + (row + 1) * edge
                window = _window(*map(round, place.frame(box)))
                inside = None if window is None else window.intersection(place.pair.whole)
                if inside is not None:
                    windows[place.name, row, col] = inside
        return windows


def _counts(blocks: Sequence[tuple[_OnPlane, Mapping[_Cell, Window]]]) -> dict[_Cell, NDArray[np.int64]]:
    """Return (code,) pixels per class in each block, over all scenes; every label is read once."""
    counts: dict[_Cell, NDArray[np.int64]] = defaultdict(lambda: np.zeros(NODATA, np.int64))
    for place, windows in blocks:
        for strip in place.pair.strips():
            codes = place.pair.decode(strip).codes
            codes[~place.pair.scene.valid(strip)] = NODATA
            for cell, window in windows.items():
                inside = window.intersection(strip)
                if inside is not None:
                    at = inside.relative_to(strip)
                    counts[cell] += count_bytes(codes[at.rows, at.cols])[:NODATA]
    return counts


def _choose_blocks(
    counts: Mapping[_Cell, NDArray[np.int64]], share: float, chance: random.Random, *, least: int
) -> frozenset[_Cell]:
    """Choose some of the blocks, never all: of many random draws, the one with class shares closest to those of all."""
    cells = sorted(counts)
    table = np.array([counts[cell] for cell in cells], np.float64)
    total = table.sum(axis=0)
    is_present = total > 0
    best, chosen = math.inf, frozenset[_Cell]()
    for _ in range(_TRIES):
        order = list(range(len(cells)))
        chance.shuffle(order)
        sums = table[order].sum(axis=1).cumsum()
        count = int(np.abs(sums - share * total.sum()).argmin()) + 1
        count = min(max(count, least), len(cells) - 1)
        held_out = table[order[:count]].sum(axis=0)
        absent = np.count_nonzero(held_out[is_present] == total[is_present])  # classes left without training pixels
        difference = np.abs(held_out / held_out.sum() - total / total.sum()).sum()
        score = absent + difference + abs(held_out.sum() / total.sum() - share)
        if score < best:
            best, chosen = score, frozenset(cells[place] for place in order[:count])
    return chosen


def _areas(
    lattice: _Lattice,
    blocks: Sequence[tuple[_OnPlane, Mapping[_Cell, Window]]],
    valid: frozenset[_Cell],
    test: frozenset[_Cell],
) -> tuple[Areas, Areas, Areas]:
    """Return train, valid and test: test keeps its blocks, valid avoids test's margins, train those of both."""
    tested = {place.pair.id: covered(_windows_in(windows, test)) for place, windows in blocks}
    test_margins = _Margins.of(lattice, [(place, tested[place.pair.id]) for place, _ in blocks])
    validated = {
        place.pair.id: covered(_windows_in(windows, valid), test_margins.in_pixels(place)) for place, windows in blocks
    }
    valid_margins = _Margins.of(lattice, [(place, validated[place.pair.id]) for place, _ in blocks])
    trained = {
        place.pair.id: covered([place.pair.whole], (*test_margins.in_pixels(place), *valid_margins.in_pixels(place)))
        for place, _ in blocks
    }
    train, validation, testing = (
        tuple(Area(name, window) for name, windows in part.items() for window in windows)
        for part in (trained, validated, tested)
    )
    if not train or not validation:
        raise UsageError(
            "`split='blocks'`: the margins leave nothing to train or validate on; use a smaller share, or "
            "`split='random:0.8'`",
            "split",
        )
    return train, validation, testing


@dataclass(frozen=True, slots=True)
class _Margins:
    """Held-out windows with their margins, by plane."""

    boxes: Mapping[str, list[Box]]
    trees: Mapping[str, shapely.STRtree]

    @classmethod
    def of(cls, lattice: _Lattice, held_out: Sequence[tuple[_OnPlane, Sequence[Window]]]) -> _Margins:
        boxes: dict[str, list[Box]] = defaultdict(list)
        for place, windows in held_out:
            gap = lattice.edge[place.name] * _GAP_SHARE
            for left, low, right, high in map(place.box, windows):
                boxes[place.name].append((left - gap, low - gap, right + gap, high + gap))
        return cls(
            boxes,
            {name: shapely.STRtree([shapely.box(*box) for box in plane_boxes]) for name, plane_boxes in boxes.items()},
        )

    def in_pixels(self, place: _OnPlane) -> list[Window]:
        """Return the boxes that overlap a scene as windows of it, rounded outward."""
        if not self.boxes.get(place.name):
            return []
        near = np.sort(self.trees[place.name].query(shapely.box(*place.box(place.pair.whole))))
        frames = [place.frame(self.boxes[place.name][i]) for i in near]
        windows = [
            _window(math.floor(left), math.floor(low), math.ceil(right), math.ceil(high))
            for left, low, right, high in frames
        ]
        clipped = [window.intersection(place.pair.whole) for window in windows if window is not None]
        return [window for window in clipped if window is not None]


@dataclass(frozen=True, slots=True)
class _OnPlane:
    """A pair and its plane: a CRS shared with other pairs, or its own pixels if it is not georeferenced."""

    pair: Pair
    crs: CRS | None
    """The plane's CRS; None for pixels (x = column, y = row)."""

    @property
    def name(self) -> str:
        """A name unique to the plane."""
        return f"pixels of {self.pair.id}" if self.crs is None else "earth"

    @property
    def px(self) -> float:
        """Edge of a scene pixel in the plane's units."""
        left, low, right, high = self.box(self.pair.whole)
        return math.sqrt((right - left) * (high - low) / self.pair.whole.size)

    def box(self, window: Window) -> Box:
        """Return the plane's box around a window of the scene. SceneError if the plane's CRS does not cover it."""
        pixels = (window.col, window.row, window.col_stop, window.row_stop)
        if self.crs is None:
            return tuple(map(float, pixels))  # type: ignore[return-value]
        return self._transformed(_box_around(self.pair.scene.geobox.transform, pixels), inverse=False)

    def frame(self, box: Box) -> Box:
        """Return the box around a box of the plane, in scene pixels (left, low, right, high)."""
        if self.crs is None:
            return box
        return _box_around(~self.pair.scene.geobox.transform, self._transformed(box, inverse=True))

    def _transformed(self, box: Box, *, inverse: bool) -> Box:
        scene_crs = self.pair.scene.geobox.crs
        if scene_crs == self.crs:
            return box
        try:
            first, second = (self.crs, scene_crs) if inverse else (scene_crs, self.crs)
            transformed: Box = transform_bounds(first, second, *box, densify_pts=_EDGE_POINTS)
        except GDAL_ERRORS as error:
            name = shown(self.pair.scene.path)
            raise SceneError(
                f"cannot reproject {name} to the CRS of the other scenes: {error}; use `split='random:0.8'`"
            ) from None
        if not all(map(math.isfinite, transformed)):
            raise SceneError(
                f"{shown(self.pair.scene.path)} lies outside the CRS of the other scenes; use `split='random:0.8'`"
            )
        return transformed


def _on_planes(pairs: tuple[Pair, ...]) -> tuple[_OnPlane, ...]:
    """Put all georeferenced pairs on the plane of the first of them, and each other pair on its own plane."""
    placed = [pair.scene.geobox for pair in pairs if is_placed(pair.scene.geobox)]
    return tuple(_OnPlane(pair, placed[0].crs if is_placed(pair.scene.geobox) else None) for pair in pairs)


def _box_around(transform: object, box: Box | tuple[int, int, int, int]) -> Box:
    corners = [transform @ (x, y) for x in (box[0], box[2]) for y in (box[1], box[3])]  # type: ignore[operator]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _windows_in(windows: Mapping[_Cell, Window], cells: frozenset[_Cell]) -> list[Window]:
    return [window for cell, window in windows.items() if cell in cells]


def _window(left: int, top: int, right: int, bottom: int) -> Window | None:
    return Window(top, left, bottom - top, right - left) if bottom > top and right > left else None
