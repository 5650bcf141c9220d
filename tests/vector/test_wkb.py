"""Well-known binary: shapely reads it, and writes the same bytes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import shapely

from geoseg.vector.io.arrow import to_wkb, wkb_sizes
from geoseg.vector.polygons import Polygons
from tests.vector.features import dissolved, flat, shapes, table


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("multi", [False, True])
def test_bytes_are_those_of_shapely(seed: int, *, multi: bool) -> None:
    polygons, codes = shapes(seed)
    if multi:
        polygons, codes = dissolved(polygons, codes)
    features = flat(polygons, codes)
    offsets, content = to_wkb(features, multi=multi)
    assert content.tobytes() == b"".join(shapely.to_wkb(polygons, byte_order=1))
    assert np.array_equal(np.diff(offsets), [len(one) for one in shapely.to_wkb(polygons)])
    assert np.array_equal(np.diff(offsets), wkb_sizes(features, multi=multi))


def test_a_single_polygon_may_be_a_multipolygon() -> None:
    polygons, codes = shapes(5)
    offsets, content = to_wkb(flat(polygons, codes), multi=True)
    read = shapely.from_wkb([content[start:stop].tobytes() for start, stop in itertools.pairwise(offsets)])
    assert all(shapely.equals_exact(read, [shapely.multipolygons([one]) for one in polygons]))


def test_a_part_of_a_table_is_that_part() -> None:
    polygons, codes = shapes(6)
    whole = flat(polygons, codes)
    part = type(whole)(
        whole.codes[3:9], whole.area_px[3:9], whole.features[3:10], whole.polygons, whole.rings, whole.xy
    )
    assert to_wkb(part, multi=False)[1].tobytes() == b"".join(shapely.to_wkb(polygons[3:9], byte_order=1))


def test_no_feature_is_no_byte() -> None:
    polygons, codes = shapes(6)
    offsets, content = to_wkb(table(polygons, codes).part(0, 0).polygons, multi=False)
    assert offsets.tolist() == [0]
    assert len(content) == 0


def test_a_feature_of_several_polygons_is_a_multipolygon_beside_polygons() -> None:
    some, codes = shapes(7)
    whole, known = dissolved(some, codes)
    both = Polygons.concatenate([flat(some, codes), flat(whole, known)])
    offsets, content = to_wkb(both, multi=False)
    assert content.tobytes() == b"".join(shapely.to_wkb([*some, *whole], byte_order=1))
    assert np.array_equal(np.diff(offsets), wkb_sizes(both, multi=False))
