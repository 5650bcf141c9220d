from __future__ import annotations

import math
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import geoseg
from geoseg.raster import Tiling, Window, WindowGrid, choose_tile, repeated_windows, round_tile, tiles
from geoseg.raster.landcover import PartFormat, overview_levels
from tests.networks import tiny_bundle


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
    assert (tile_height - align) * (tile_width - align) <= (1.05 * 4096) ** 2  # edges may be 5 % longer, to be equal


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


@given(st.integers(1, 90), st.integers(1, 90), st.integers(20, 99), st.integers(20, 99))
def test_a_tiling_is_the_tiles_one_by_one(height: int, width: int, tile_height: int, tile_width: int) -> None:
    tiling, seen = Tiling(height, width, tile_height, tile_width), np.zeros((height, width), np.uint8)
    for index in range(len(tiling)):
        seen[tiling[index].rows, tiling[index].cols] += 1
    assert (seen == 1).all()
    assert list(tiling) == tiles(height, width, tile_height, tile_width) == tiling[:]
    assert tiling[-1] == tiling[len(tiling) - 1]
    with pytest.raises(IndexError):
        tiling[len(tiling)]


def test_a_mosaic_of_a_million_tiles_is_planned_at_once_and_holds_none_of_them(tmp_path: Path) -> None:
    """Tiles stay 4096 pixels wide however many overviews the map has; larger ones would exceed most memories."""
    band = '<VRTRasterBand dataType="Byte" band="{}" blockXSize="512" blockYSize="512"/>'
    place = "<SRS>EPSG:32631</SRS><GeoTransform>0,1,0,5000000,0,-1</GeoTransform>"
    bands = "".join(band.format(number) for number in (1, 2, 3))
    path = tmp_path / "huge.vrt"
    path.write_text(f'<VRTDataset rasterXSize="8000000" rasterYSize="2000000">{place}{bands}</VRTDataset>')
    model = tiny_bundle(tmp_path, window_px=512)
    tracemalloc.start()
    made = geoseg.plan(path, model=model, device="cpu", overlap=128, workers=2)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made.tile_shape == (4096, 4096)
    assert made.tile_count == 489 * 1954
    assert made.tile(made.tile_count - 1) == Window(488 * 4096, 1953 * 4096, 2_000_000 % 4096, 8_000_000 % 4096)
    assert most_bytes < 60e6
    assert len(pickle.dumps(made)) < 1e6
    assert PartFormat.of(made.scene.shape, made.tile_shape).final_levels == 4


def test_a_striped_file_is_read_in_full_width_tiles() -> None:
    tile_height, tile_width = choose_tile(WindowGrid(20_000, 32_000, 512, 128), 32_000, 2, 64)
    assert tile_width >= 32_000
    assert tile_height >= 4 * 512


def test_the_tile_asked_for_is_rounded_up_to_what_overviews_need() -> None:
    assert round_tile(1000, 16) == 1008
    assert round_tile(1024, 16) == 1024
