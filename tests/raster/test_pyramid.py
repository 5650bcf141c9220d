from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geoseg.raster import tiles
from geoseg.raster.landcover import overview_levels
from geoseg.raster.landcover.overviews import Pixels, halved, halved_px
from tests.raster.gdal_cog import pyramid

codes = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.sampled_from([0, 1, 2, 6, 254, 255])
)


def brute_force(pixels: Pixels, *, classes: bool) -> Pixels:
    """Return an overview computed from its definition, pixel by pixel."""
    bands, height, width = pixels.shape
    small = np.full((bands, -(-height // 2), -(-width // 2)), 255, np.uint8)
    for band, row, col in np.ndindex(small.shape):
        four = pixels[band, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2].ravel().tolist()
        valid = [value for value in four if value != 255]
        if valid and classes:
            small[band, row, col] = Counter(valid).most_common(1)[0][0]  # the first of them on a tie
        elif valid:
            small[band, row, col] = (2 * sum(valid) + len(valid)) // (2 * len(valid))
    return small


@pytest.mark.parametrize("compiled", [False, True], ids=["numpy", "compiled"])
@pytest.mark.parametrize("classes", [True, False], ids=["classes", "percents"])
@settings(deadline=None)  # the first example compiles
@given(pixels=codes)
def test_an_overview_pixel_is_the_most_frequent_class_or_the_mean_of_its_valid_four(
    pixels: Pixels, *, classes: bool, compiled: bool
) -> None:
    np.testing.assert_array_equal(
        halved(pixels, classes=classes, compiled=compiled), brute_force(pixels, classes=classes)
    )


@pytest.mark.parametrize("beside", [0, 5000], ids=["alone", "few of many"])
@pytest.mark.parametrize("filled", [1, 255], ids=["in a class", "in nodata"])
@pytest.mark.parametrize("every", [(0, 1, 2, 3), (0, 1, 2, 255)], ids=["valid", "nodata"])
def test_every_four_of_classes(every: tuple[int, ...], filled: int, beside: int) -> None:
    fours = np.asarray(list(itertools.product(every, repeat=4)), np.uint8)
    pixels = fours.reshape(1, -1, 2, 2).swapaxes(1, 2).reshape(1, 2, -1)
    pixels = np.pad(pixels, ((0, 0), (0, 0), (0, beside)), constant_values=filled)
    np.testing.assert_array_equal(
        halved(pixels, classes=True, compiled=False), brute_force(pixels, classes=True), strict=True
    )


@pytest.mark.parametrize("classes", [True, False], ids=["classes", "percents"])
@pytest.mark.parametrize("shape", [(1, 260, 517), (3, 131, 64)], ids=str)
def test_compiled_kernels_give_the_same_bits(shape: tuple[int, int, int], *, classes: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    pixels[:, :50, :90] = 255
    plain, compiled = (halved(pixels, classes=classes, compiled=way) for way in (False, True))
    np.testing.assert_array_equal(plain, compiled)


def test_every_mean_of_valid_pixels_is_exact() -> None:
    """The compiled kernel divides by multiplying; every sum of one to four valid pixels is tried."""
    sums = [(count, total) for count in range(1, 5) for total in range(254 * count + 1)]
    pixels = np.full((1, 2, 2 * len(sums)), 255, np.uint8)
    for place, (count, total) in enumerate(sums):
        for index in range(count):
            value = min(254, total - min(total, 254 * index))
            pixels[0, index // 2, 2 * place + index % 2] = value
    wanted = np.array([(2 * total + count) // (2 * count) for count, total in sums], np.uint8)
    for compiled in (False, True):
        np.testing.assert_array_equal(halved(pixels, classes=False, compiled=compiled)[0, 0], wanted)


@pytest.mark.parametrize("classes", [True, False], ids=["classes", "percents"])
@given(data=st.data())
def test_the_overviews_of_tiles_are_the_overviews_of_the_whole(data: st.DataObject, *, classes: bool) -> None:
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    levels = data.draw(st.integers(0, 3))
    tile_px = 2**levels * data.draw(st.integers(1, 4))
    pixels = np.random.default_rng(height * 41 + width).choice(
        np.array([0, 1, 7, 100, 255], np.uint8), (2, height, width)
    )
    whole = pyramid(pixels, levels, classes=classes)
    for tile in tiles(height, width, tile_px, tile_px):
        for level, part in enumerate(pyramid(pixels[:, tile.rows, tile.cols], levels, classes=classes)):
            row, col = tile.row >> level, tile.col >> level
            assert (part == whole[level][:, row : row + part.shape[1], col : col + part.shape[2]]).all()
            assert part.shape[1:] == (halved_px(tile.height, level), halved_px(tile.width, level))


@given(height=st.integers(1, 100_000), width=st.integers(1, 100_000))
def test_levels_go_on_until_the_long_side_is_small(height: int, width: int) -> None:
    levels = overview_levels(height, width)
    assert max(halved_px(height, levels), halved_px(width, levels)) <= 512
    assert levels == 0 or max(halved_px(height, levels - 1), halved_px(width, levels - 1)) > 512
