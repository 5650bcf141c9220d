"""Whether a triangle is free of obstacles, against orientation signs at every lattice point."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from geoseg.vector.simplification import is_free, put

_HEIGHT, _WIDTH = 9, 300
_TRIANGLES = 150


@pytest.mark.parametrize("unit", [1, 8])
@pytest.mark.parametrize(("height", "width"), [(_HEIGHT, _WIDTH), (3, _WIDTH), (_HEIGHT, 20)])
def test_a_triangle_is_free_where_no_obstacle_lies_in_it(unit: int, height: int, width: int) -> None:
    random = np.random.default_rng(unit * height + width)
    with_points = 0
    for corners in random.integers(0, (unit * (height - 1), unit * (width - 1)), (_TRIANGLES, 3, 2), endpoint=True):
        if _turn(*corners) == 0:
            continue
        inside = _inside(corners, unit)
        full = np.flatnonzero(inside.any(axis=1))
        with_points += len(full) > 0
        assert is_free(_marks(~inside), unit, *corners.ravel()), corners
        for row in full:
            cols = np.flatnonzero(inside[row])
            for col in {int(cols[0]), int(cols[-1]), int(random.choice(cols))}:  # an obstacle on the edge counts
                lone = _marks(np.zeros_like(inside))
                put(lone, row, col)
                assert not is_free(lone, unit, *corners.ravel()), (corners, row, col)
    assert with_points > _TRIANGLES // 2


def _turn(a: NDArray[np.int64], b: NDArray[np.int64], c: NDArray[np.int64]) -> int:
    return int((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def _inside(corners: NDArray[np.int64], unit: int) -> NDArray[np.bool_]:
    """Return a mask (row, col) of the lattice points in a closed triangle; corners are in 1 / unit of a pixel."""
    rows, cols = unit * np.mgrid[:_HEIGHT, :_WIDTH]
    a, b, c = corners
    turns = np.array(
        [(q[0] - p[0]) * (cols - p[1]) - (q[1] - p[1]) * (rows - p[0]) for p, q in ((a, b), (b, c), (c, a))]
    )
    return np.asarray((turns >= 0).all(axis=0) | (turns <= 0).all(axis=0))


def _marks(obstacles: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return obstacles (row, col) packed into words of 64 columns."""
    words = np.zeros((_HEIGHT, 64 * (_WIDTH // 64 + 1)), np.uint8)
    words[:, :_WIDTH] = obstacles
    return np.packbits(words, axis=1, bitorder="little").view("<i8").astype(np.int64)
