"""Labels depend only on the scene and the grid of windows, never on the tiles."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.errors import GeosegError, GeosegWarning, ModelError, SceneError
from geoseg.inference import Blend, SceneMapping, map_tile
from geoseg.inference import tile as tile_module
from geoseg.inference.blend import Overlaps
from geoseg.legend import NODATA
from geoseg.raster import Scene, Window, WindowGrid, tiles
from tests.inference.conftest import MakeScene
from tests.inference.position_engine import CLASSES, PositionEngine, TorchPositionEngine
from tests.inference.whole_scene import whole_map, whole_probabilities

CODES = (0, 3, 7, 254)


def stitched(
    mapping: SceneMapping[Scene], engine: PositionEngine, tile_height: int, tile_width: int
) -> NDArray[np.uint8]:
    grid = mapping.grid
    out = np.full((grid.height_px, grid.width_px), 99, np.uint8)
    for tile in reversed(tiles(grid.height_px, grid.width_px, tile_height, tile_width)):
        out[tile.rows, tile.cols] = map_tile(mapping, engine, tile)["labels"]
    return out


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    window=st.integers(4, 48),
    tile=st.tuples(st.integers(5, 160), st.integers(5, 160)),
    batch=st.integers(1, 9),
    blend=st.sampled_from(get_args(Blend)),
    data=st.data(),
)
def test_labels_equal_the_whole_scene_at_once_bit_for_bit(
    make_scene: MakeScene,
    height: int,
    width: int,
    window: int,
    tile: tuple[int, int],
    batch: int,
    blend: Blend,
    data: st.DataObject,
) -> None:
    scene = make_scene(height, width, seed=height * width)
    grid = WindowGrid(height, width, window, data.draw(st.integers(0, window - 1), label="overlap"))
    if len(grid) > 1000:
        grid = WindowGrid(height, width, window, window // 4)
    mapping = SceneMapping(scene, grid, blend, batch, CODES)
    got = stitched(mapping, PositionEngine(), *tile)
    np.testing.assert_array_equal(got, whole_map(scene, grid, blend, CODES))


def test_confidence_and_probabilities_are_those_of_the_whole_scene_in_percent(make_scene: MakeScene) -> None:
    scene = make_scene(90, 70, seed=5)
    grid = WindowGrid(90, 70, 32, 12)
    mapping = SceneMapping(scene, grid, "hann", 4, CODES, ("confidence", "probabilities"))
    expected = whole_probabilities(scene, grid, "hann")
    tile = Window(10, 20, 55, 43)
    got = map_tile(mapping, PositionEngine(), tile)
    valid = scene.valid(tile)
    assert set(got) == {"confidence", "probabilities"}
    percents = np.floor(expected[:, tile.rows, tile.cols] * 100 + 0.5)
    np.testing.assert_array_equal(got["probabilities"][:, valid], percents[:, valid])
    np.testing.assert_array_equal(got["confidence"][valid], percents.max(axis=0)[valid])
    assert (got["probabilities"][:, ~valid] == NODATA).all()
    assert (got["confidence"][~valid] == NODATA).all()
    assert np.abs(got["probabilities"][:, valid].astype(int).sum(axis=0) - 100).max() <= CLASSES / 2


def test_windows_without_a_valid_pixel_are_not_run(make_scene: MakeScene) -> None:
    scene = make_scene(128, 128, seed=1, invalid=0.5)
    grid = WindowGrid(128, 128, 16, 0)
    engine = PositionEngine()
    labels = map_tile(SceneMapping(scene, grid, "hann", 1, CODES), engine, Window(0, 0, 128, 128))["labels"]
    valid = scene.valid(Window(0, 0, 128, 128))
    with_valid = sum(bool(valid[w.rows, w.cols].any()) for w in grid.windows_touching(Window(0, 0, 128, 128)))
    assert sum(engine.batches) == with_valid < len(grid)
    np.testing.assert_array_equal(labels == NODATA, ~valid)


def test_an_all_invalid_tile_never_reaches_the_network(make_scene: MakeScene) -> None:
    scene = make_scene(64, 64, invalid=0.5)
    engine = PositionEngine()
    labels = map_tile(SceneMapping(scene, WindowGrid(64, 64, 16, 0), "hann", 4, CODES), engine, Window(0, 0, 16, 16))[
        "labels"
    ]
    assert (labels == NODATA).all()
    assert engine.batches == []


def test_batches_are_equal_rather_than_padded(make_scene: MakeScene) -> None:
    scene = make_scene(16, 160, invalid=0)
    engine = PositionEngine()
    map_tile(SceneMapping(scene, WindowGrid(16, 160, 16, 0), "hann", 4, CODES), engine, Window(0, 0, 16, 160))
    assert engine.batches == [4, 3, 3]


def test_batches_of_other_arrays_have_one_size_whatever_comes_with_a_window(make_scene: MakeScene) -> None:
    scene = make_scene(16, 160, invalid=0)
    whole = SceneMapping(scene, WindowGrid(16, 160, 16, 0), "hann", 4, CODES)
    engine = TorchPositionEngine()
    labels = map_tile(whole, engine, Window(0, 0, 16, 160))["labels"]
    assert engine.batches == [4, 4, 4]
    np.testing.assert_array_equal(labels, whole_map(scene, whole.grid, "hann", CODES))
    map_tile(whole, engine, Window(0, 0, 16, 16))
    assert engine.batches[3:] == [4]


def test_out_of_memory_halves_the_batch_says_so_once_and_changes_nothing(make_scene: MakeScene) -> None:
    scene = make_scene(60, 200, invalid=0)
    grid = WindowGrid(60, 200, 20, 5)
    mapping = SceneMapping(scene, grid, "hann", 8, CODES)
    engine = PositionEngine(fits=3)
    with pytest.warns(GeosegWarning, match="ran out of memory with 7 windows per batch; continuing with 3") as caught:
        labels = stitched(mapping, engine, 30, 200)
    assert len(caught) == 1
    assert max(engine.batches) <= 3
    np.testing.assert_array_equal(labels, whole_map(scene, grid, "hann", CODES))


@pytest.mark.parametrize("step", ["labeled", "finish"])
def test_memory_that_runs_out_beside_the_network_halves_the_batch_too(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    scene = make_scene(60, 200, invalid=0)
    grid = WindowGrid(60, 200, 20, 5)
    engine = TorchPositionEngine()
    whole, name = {"labeled": (tile_module, "most_probable"), "finish": (Overlaps, "finish")}[step]
    usual = getattr(whole, name)

    def fail_if_large(*arguments: Any) -> Any:
        if engine.batches[-1] > 2:
            raise RuntimeError("CUDA error: out of memory")  # because it appears late
        return usual(*arguments)

    monkeypatch.setattr(whole, name, fail_if_large)
    with pytest.warns(GeosegWarning, match="continuing with 4"):
        labels = map_tile(SceneMapping(scene, grid, "hann", 8, CODES), engine, Window(0, 0, 60, 200))["labels"]
    assert engine.batches[-1] == 2
    np.testing.assert_array_equal(labels, whole_map(scene, grid, "hann", CODES))


def test_a_device_that_fails_ends_in_one_line(make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ...")

    mapping = SceneMapping(make_scene(20, 20, invalid=0), WindowGrid(20, 20, 20, 5), "hann", 1, CODES)
    monkeypatch.setattr(tile_module, "most_probable", fail)
    with pytest.raises(ModelError, match="torch failed on cpu: CUDA error: an illegal") as raised:
        map_tile(mapping, TorchPositionEngine(), Window(0, 0, 20, 20))
    assert "\n" not in str(raised.value)


def test_a_single_window_too_large_for_the_memory_ends_in_one_clear_line(make_scene: MakeScene) -> None:
    scene = make_scene(20, 20, invalid=0)
    mapping = SceneMapping(scene, WindowGrid(20, 20, 20, 5), "hann", 1, CODES)
    with pytest.raises(GeosegError, match="one window of 20 x 20 pixels does not fit in the memory of cpu; use a"):
        map_tile(mapping, PositionEngine(fits=0), Window(0, 0, 20, 20))


def test_scores_that_are_no_numbers_are_an_error_not_a_class(make_scene: MakeScene) -> None:
    class Overflowing(PositionEngine):
        def probabilities(self, *arguments: Any) -> NDArray[np.float32]:
            scores = super().probabilities(*arguments)
            scores[-1, :, 3, 4] = np.nan
            return scores

    mapping = SceneMapping(make_scene(60, 60, invalid=0), WindowGrid(60, 60, 20, 5), "hann", 2, CODES)
    with pytest.raises(SceneError, match=r"the network returned NaN for rows 0 to 15 of .*or give `scale"):
        map_tile(mapping, Overflowing(), Window(0, 0, 60, 60))


def test_what_the_checkpoint_raises_ends_the_tile(make_scene: MakeScene) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    mapping = SceneMapping(make_scene(40, 40), WindowGrid(40, 40, 20, 5), "hann", 1, CODES)
    with pytest.raises(KeyboardInterrupt):
        map_tile(mapping, PositionEngine(), Window(0, 0, 40, 40), stop)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 5), (32, 32), (33, 31)])
def test_odd_shapes(make_scene: MakeScene, shape: tuple[int, int]) -> None:
    scene: Scene = make_scene(*shape, invalid=0)
    grid = WindowGrid(*shape, 32, 8)
    got = stitched(SceneMapping(scene, grid, "hann", 4, CODES), PositionEngine(), 64, 64)
    np.testing.assert_array_equal(got, whole_map(scene, grid, "hann", CODES))
    assert (got != NODATA).all()
