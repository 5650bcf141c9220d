from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geoseg.raster import tiles
from geoseg.raster.landcover import ProductName, overview_levels
from geoseg.raster.landcover.tile_file import halved_px, level_windows, pyramid

codes = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([0, 1, 2, 6, 255])
)


@given(pixels=codes)
def test_an_overview_pixel_is_the_most_frequent_valid_class_of_its_four(pixels: np.ndarray) -> None:
    small = pyramid(pixels[np.newaxis], 1, "labels")[1][0]
    for row, col in np.ndindex(small.shape):
        valid = [int(code) for code in pixels[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].ravel() if code != 255]
        counts = Counter(valid)
        if valid:
            assert counts[int(small[row, col])] == max(counts.values())
        else:
            assert small[row, col] == 255


@given(pixels=codes)
def test_a_mean_counts_only_valid_pixels(pixels: np.ndarray) -> None:
    small = pyramid(pixels[np.newaxis], 1, "confidence")[1][0]
    for row, col in np.ndindex(small.shape):
        valid = [int(value) for value in pixels[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].ravel() if value != 255]
        assert abs(int(small[row, col]) - (np.mean(valid) if valid else 255)) <= 0.5


@pytest.mark.parametrize("name", ["labels", "probabilities"])
@given(data=st.data())
def test_the_overviews_of_tiles_are_the_overviews_of_the_whole(name: ProductName, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    levels = data.draw(st.integers(0, 3))
    tile_px = 2**levels * data.draw(st.integers(1, 4))
    pixels = np.random.default_rng(height * 41 + width).choice(
        np.array([0, 1, 7, 100, 255], np.uint8), (2, height, width)
    )
    whole = pyramid(pixels, levels, name)
    for tile in tiles(height, width, tile_px, tile_px):
        for level, part in enumerate(pyramid(pixels[:, tile.rows, tile.cols], levels, name)):
            row, col = tile.row >> level, tile.col >> level
            assert (part == whole[level][:, row : row + part.shape[1], col : col + part.shape[2]]).all()
            assert part.shape[1:] == (halved_px(tile.height, level), halved_px(tile.width, level))


@given(height=st.integers(1, 100_000), width=st.integers(1, 100_000))
def test_levels_go_on_until_the_long_side_is_small(height: int, width: int) -> None:
    levels = overview_levels(height, width)
    assert max(halved_px(height, levels), halved_px(width, levels)) <= 512
    assert levels == 0 or max(halved_px(height, levels - 1), halved_px(width, levels - 1)) > 512


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), levels=st.integers(0, 8))
def test_the_levels_of_a_part_do_not_touch(height: int, width: int, levels: int) -> None:
    windows = level_windows(height, width, levels)
    assert all(upper.row_stop <= lower.row for upper, lower in itertools.pairwise(windows))
    assert all(window.row % 256 == 0 and window.width <= width for window in windows)
