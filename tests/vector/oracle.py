"""The true polygons of a raster, from rasterio, shapely and scipy only, independent of geoseg."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.vector.polygons import Polygons

_PLUS = ndimage.generate_binary_structure(2, 1)
_SQUARE = ndimage.generate_binary_structure(2, 2)

Labels = NDArray[np.int32]
"""(row, col) number of each pixel's region, from 1 in the order of first pixels; 0 for the background."""


@dataclass(frozen=True, slots=True)
class Features:
    """Polygons or multipolygons, ordered by their last row, then by their first pixel."""

    codes: NDArray[np.int64]
    """(feature,)"""
    area_px: NDArray[np.int64]
    """(feature,)"""
    shapes: NDArray[Any]
    """(feature,) normalized geometries."""


def true_features(
    classes: NDArray[Any], background: int, transform: Affine | None = None, connectivity: int = 4
) -> Features:
    """Return the polygons of rasterio.features.shapes; for 8-connectivity, its 4-connected ones joined at corners."""
    transform = transform or Affine.identity()
    labels = regions(classes, background, connectivity)
    parts = defaultdict(list)
    mask = classes != background
    source = classes.astype(np.int32)
    in_pixels = rasterio.features.shapes(source, mask, 4)
    for (pixel_shape, _), (shape, code) in zip(
        in_pixels, rasterio.features.shapes(source, mask, 4, transform), strict=True
    ):
        row, col = min((int(y), int(x)) for x, y in pixel_shape["coordinates"][0])  # the corner of its first pixel
        assert classes[row, col] == code
        parts[labels[row, col]].append(shapely.geometry.shape(shape))
    order = _order(labels)
    area_px, codes = np.bincount(labels.ravel())[order], _codes(labels, classes)[order]
    made = [
        parts[label][0] if connectivity == 4 else shapely.multipolygons(np.array(parts[label], object))
        for label in order
    ]
    return Features(codes, area_px, shapely.normalize(np.array(made, object)))


def to_features(polygons: Polygons, *, multi: bool = False) -> Features:
    """Return flat arrays as normalized shapely polygons or multipolygons."""
    if multi:
        offsets: tuple[NDArray[np.int64], ...] = (polygons.rings, polygons.polygons, polygons.features)
        shapes = shapely.from_ragged_array(shapely.GeometryType.MULTIPOLYGON, polygons.xy, offsets)
    else:
        assert np.array_equal(polygons.features, np.arange(len(polygons) + 1)), "a feature is not one polygon"
        offsets = (polygons.rings, polygons.polygons)
        shapes = shapely.from_ragged_array(shapely.GeometryType.POLYGON, polygons.xy, offsets)
    return Features(polygons.codes.astype(np.int64), polygons.area_px, shapely.normalize(shapes))


def check_equal(made: Features, true: Features, tolerance: float = 0.0) -> None:
    """Assert equal features in equal order, with vertices equal up to a tolerance."""
    assert made.codes.tolist() == true.codes.tolist()
    assert made.area_px.tolist() == true.area_px.tolist()
    equal = shapely.equals_exact(made.shapes, true.shapes, tolerance)
    assert np.all(equal), _first_difference(made, true, equal)


def check_orientation(polygons: Polygons) -> None:
    """Assert that rings are closed, and counter-clockwise for the first of a polygon, clockwise for the rest."""
    assert polygons.rings[0] == polygons.polygons[0] == polygons.features[0] == 0
    assert polygons.rings[-1] == len(polygons.xy)
    assert polygons.polygons[-1] == len(polygons.rings) - 1
    first, last = polygons.rings[:-1], polygons.rings[1:] - 1
    assert np.array_equal(polygons.xy[first], polygons.xy[last])
    rings = shapely.linearrings(polygons.xy, indices=np.repeat(np.arange(len(first)), np.diff(polygons.rings)))
    outer = np.zeros(len(first), bool)
    outer[polygons.polygons[:-1]] = True
    assert np.array_equal(shapely.is_ccw(rings), outer)


def regions(classes: NDArray[Any], background: int, connectivity: int = 4) -> Labels:
    """Return connected components of equal class, numbered in the order of their first pixels."""
    labels = np.zeros(classes.shape, np.int32)
    for code in np.unique(classes[classes != background]):
        found, _ = ndimage.label(classes == code, _PLUS if connectivity == 4 else _SQUARE)
        labels += np.where(found > 0, found + labels.max(), 0).astype(np.int32)
    numbers, first_px = np.unique(labels, return_index=True)
    named = numbers > 0
    rank = np.zeros(int(labels.max()) + 1, np.int32)
    rank[numbers[named][np.argsort(first_px[named])]] = np.arange(1, np.count_nonzero(named) + 1)
    return rank[labels]


def sieved(classes: NDArray[Any], background: int, min_area_px: float, connectivity: int = 4) -> NDArray[Any]:
    """Return the classes after merging the smallest region into a neighbor until none is too small.

    It merges into the region with which it shares most pixel edges; on a tie, the one with the first pixel. Regions
    surrounded by background stay. Everything is recomputed after each step: slow, and hard to get wrong.
    """
    pixels = classes.copy()
    while True:
        labels = regions(pixels, background, connectivity)
        sizes, borders = np.bincount(labels.ravel()), _borders(labels)
        small = [label for label in borders if sizes[label] < min_area_px]
        if not small:
            return pixels
        smallest = min(small, key=lambda label: (sizes[label], label))
        heir = min(borders[smallest].items(), key=lambda item: (-item[1], item[0]))[0]
        pixels[labels == smallest] = pixels[labels == heir][0]


def _borders(labels: Labels) -> dict[int, Counter[int]]:
    """Return the number of pixel edges that each region shares with each neighbor, background excluded."""
    pairs = np.concatenate(
        [
            np.stack([labels[:-1].ravel(), labels[1:].ravel()], axis=1),
            np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()], axis=1),
        ]
    )
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & np.all(pairs > 0, axis=1)]
    borders: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for one, other in pairs.tolist():
        borders[one][other] += 1
        borders[other][one] += 1
    return borders


def _order(labels: Labels) -> NDArray[np.int64]:
    """Return the labels ordered by last row, then by number, which is by first pixel."""
    count = int(labels.max(initial=0))
    last_row = np.zeros(count + 1, np.int64)
    np.maximum.at(last_row, labels.ravel(), np.repeat(np.arange(labels.shape[0]), labels.shape[1]))
    return 1 + np.argsort(last_row[1:], kind="stable")


def _codes(labels: Labels, classes: NDArray[Any]) -> NDArray[np.int64]:
    codes = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    codes[labels.ravel()] = classes.ravel()
    return codes


def _first_difference(made: Features, true: Features, equal: NDArray[np.bool_]) -> str:
    index = int(np.argmin(equal))
    what = f"{np.count_nonzero(~equal)} of {len(equal)} differ; feature {index} of class {made.codes[index]}"
    return f"{what} is {made.shapes[index]}, should be {true.shapes[index]}"
