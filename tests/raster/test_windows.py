from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import UsageError
from geoseg.raster import Window, WindowGrid, axis_starts, block_tiles, sample_windows, strip_rows, tiles

lengths = st.integers(1, 90)


@st.composite
def grids(draw: st.DrawFn) -> WindowGrid:
    window = draw(st.integers(1, 40))
    return WindowGrid(draw(lengths), draw(lengths), window, draw(st.integers(0, window - 1)))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    return Window(draw(st.integers(-20, 80)), draw(st.integers(-20, 80)), draw(lengths), draw(lengths))


def test_the_worked_example() -> None:
    assert axis_starts(110, 64, 32) == (0, 32, 46)


@given(length=lengths, window=st.integers(1, 40), data=st.data())
def test_an_axis_is_covered_from_its_first_to_its_last_pixel(length: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    starts = axis_starts(length, window, stride)
    covered = np.zeros(max(length, window), bool)
    for start in starts:
        covered[start : start + window] = True
    assert covered.all()
    assert list(starts) == sorted(set(starts))
    assert starts[0] == 0
    assert starts[-1] + window == max(length, window)
    assert all(later - earlier <= stride for earlier, later in itertools.pairwise(starts))


@given(grid=grids(), tile=windows())
def test_the_windows_touching_a_tile_are_those_that_share_a_pixel_with_it(grid: WindowGrid, tile: Window) -> None:
    every = [Window(row, col, grid.window_px, grid.window_px) for row in grid.row_starts for col in grid.col_starts]
    assert grid.windows_touching(tile) == [window for window in every if window.intersection(tile) is not None]
    assert len(every) == len(grid)


@given(window=windows(), tile_height=lengths, tile_width=lengths)
def test_the_tiles_of_a_window_lie_in_it_and_cover_each_pixel_once(
    window: Window, tile_height: int, tile_width: int
) -> None:
    count = np.zeros(window.shape, int)
    for tile in window.tiles(tile_height, tile_width):
        assert tile.intersection(window) == tile
        place = tile.relative_to(window)
        count[place.rows, place.cols] += 1
    assert (count == 1).all()


@given(window=windows(), rows=st.integers(-50, 50), cols=st.integers(-50, 50), margin=st.integers(0, 30))
def test_a_window_that_is_moved_or_padded(window: Window, rows: int, cols: int, margin: int) -> None:
    assert window.shifted(rows, cols).shifted(-rows, -cols) == window
    padded = window.padded(margin)
    assert window.relative_to(padded) == Window(margin, margin, window.height, window.width)
    assert padded.shape == (window.height + 2 * margin, window.width + 2 * margin)


@given(height=lengths, width=lengths, tile_height=lengths, tile_width=lengths)
def test_tiles_cover_each_pixel_once(height: int, width: int, tile_height: int, tile_width: int) -> None:
    count = np.zeros((height, width), int)
    for tile in tiles(height, width, tile_height, tile_width):
        count[tile.rows, tile.cols] += 1
        assert tile.row_stop <= height
        assert tile.col_stop <= width
    assert (count == 1).all()


@given(one=windows(), other=windows())
def test_intersection_is_the_set_of_common_pixels(one: Window, other: Window) -> None:
    def pixels(window: Window) -> set[tuple[int, int]]:
        return {(row, col) for row in range(window.row, window.row_stop) for col in range(window.col, window.col_stop)}

    common = one.intersection(other)
    assert (set() if common is None else pixels(common)) == pixels(one) & pixels(other)
    assert one.intersection(other) == other.intersection(one)


@given(one=windows(), other=windows())
def test_relative_windows_address_the_same_pixels(one: Window, other: Window) -> None:
    there = one.relative_to(other)
    assert (there.row + other.row, there.col + other.col, there.shape) == (one.row, one.col, one.shape)


@pytest.mark.parametrize(("height", "width"), [(0, 1), (1, 0), (-1, 5)])
def test_a_window_without_pixels_is_refused(height: int, width: int) -> None:
    with pytest.raises(UsageError, match=str(height)):
        Window(0, 0, height, width)


def test_a_window_is_of_whole_numbers_whoever_brings_them() -> None:
    window = Window(np.int64(1), 2.0, np.uint8(3), 4)  # type: ignore[arg-type]
    assert window == Window(1, 2, 3, 4)
    assert all(type(edge) is int for edge in (window.row, window.col, window.height, window.width))
    for edge in (1.5, "1", None, float("nan")):
        with pytest.raises(UsageError, match="`col` must be a whole number"):
            Window(0, edge, 1, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_an_overlap_that_would_not_advance_is_refused(overlap: int) -> None:
    with pytest.raises(UsageError, match=str(overlap)):
        WindowGrid(10, 10, 8, overlap)


@pytest.mark.parametrize("block", [(1, 24_000), (512, 24_000), (5000, 24_000), (512, 512), (16, 16), (3000, 4000)])
def test_a_scan_decodes_each_block_once(block: tuple[int, int]) -> None:
    found = block_tiles((5000, 24_000), block)
    assert sum(window.size for window in found) == 5000 * 24_000
    assert max(window.size for window in found) <= 16 * 1024**2
    if block[1] == 24_000:
        assert {window.width for window in found} == {24_000}
    else:
        assert not any(window.row % block[0] or window.col % block[1] for window in found)


@pytest.mark.parametrize(
    ("shape", "block", "tile"),
    [
        ((16_384, 16_384), (8192, 8192), (2048, 2048)),
        ((100_000, 50_000), (100_000, 160), (100_000, 160)),
        ((100_000, 50_000), (4000, 16), (4000, 1040)),
    ],
)
def test_tiles_of_a_scan_are_small_even_if_blocks_are_huge_or_tall(
    shape: tuple[int, int], block: tuple[int, int], tile: tuple[int, int]
) -> None:
    found = block_tiles(shape, block)
    assert (found.tile_height_px, found.tile_width_px) == tile


def test_a_sample_of_huge_blocks_is_of_the_rows_that_remain() -> None:
    found = list(sample_windows((1024, 100_000), (512, 100_000)))
    assert max(window.size for window, _ in found) == 100_000
    step = found[0][1]
    assert [window.row for window, _ in found] == [*range(0, 512, step), *range(512, 1024, step)]


@pytest.mark.parametrize(
    ("block", "rows"), [((16, 16), 32), ((64, 64), 64), ((100, 100), 90), ((1, 1000), 40), ((100, 1000), 40)]
)
def test_strips_of_a_wide_raster_cut_few_rows_of_blocks(block: tuple[int, int], rows: int) -> None:
    assert strip_rows(1000, block, 40_000, 90_000) == rows
