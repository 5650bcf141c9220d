from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.inference.plan import choose_tile, repeated_windows, round_tile
from geoseg.raster import WindowGrid, tiles
from geoseg.raster.landcover import PartFormat, overview_levels


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(2, 300), st.data())
def test_repeated_windows_are_those_that_each_tile_touches(
    height: int, width: int, window: int, data: st.DataObject
) -> None:
    grid = WindowGrid(height, width, window, data.draw(st.integers(0, window - 1)))
    tile = data.draw(st.integers(1, 2500))
    if len(grid) > 2000 or height * width / tile**2 > 500:
        return
    rows = repeated_windows(height, window, grid.stride_px, tile)
    cols = repeated_windows(width, window, grid.stride_px, tile)
    assert rows * cols == sum(len(grid.windows_touching(cut)) for cut in tiles(height, width, tile, tile))


@given(st.integers(1, 300_000), st.integers(1, 300_000), st.integers(1, 8), st.sampled_from([1, 16, 512]))
def test_tiles_are_aligned_and_their_memory_is_bounded(height: int, width: int, workers: int, align: int) -> None:
    tile_height, tile_width = choose_tile(WindowGrid(height, width, 512, 128), 512, workers, align)
    assert tile_height % align == tile_width % align == 0
    assert tile_width <= 4096 + align
    assert (tile_height - align) * (tile_width - align) <= 4096**2


@pytest.mark.parametrize("height", [4096, 8192, 16384, 65536])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_there_is_equal_work_for_every_worker(height: int, workers: int) -> None:
    tile_height, tile_width = choose_tile(WindowGrid(height, 4096, 512, 128), 512, workers, 64)
    count = math.ceil(height / tile_height) * math.ceil(4096 / tile_width)
    assert count % workers == 0 or count >= 4 * workers


@pytest.mark.parametrize("shape", [(16384, 16384), (10_000, 12_345), (50_000, 60_000), (200_000, 900)])
def test_many_tiles_begin_on_blocks_of_the_map_on_four_levels(shape: tuple[int, int]) -> None:
    levels = overview_levels(*shape)
    tile = choose_tile(WindowGrid(*shape, 512, 128), 512, 2, 2**levels)
    assert PartFormat.of(shape, tile).final_levels >= 4


@pytest.mark.parametrize("shape", [(1500, 1500), (3000, 4000), (7000, 5000)])
def test_few_tiles_are_alike(shape: tuple[int, int]) -> None:
    height, width = choose_tile(WindowGrid(*shape, 512, 128), 512, 4, 2 ** overview_levels(*shape))
    for length, edge in zip(shape, (height, width), strict=True):
        assert edge <= 1.05 * length / math.ceil(length / edge) + 32


def test_a_striped_file_is_read_in_full_width_tiles() -> None:
    tile_height, tile_width = choose_tile(WindowGrid(20_000, 32_000, 512, 128), 32_000, 2, 64)
    assert tile_width >= 32_000
    assert tile_height >= 4 * 512


def test_the_tile_asked_for_is_rounded_up_to_what_overviews_need() -> None:
    assert round_tile(1000, 16) == 1008
    assert round_tile(1024, 16) == 1024
