"""A pipeline's labels equal those of the whole scene for any bands, batches, devices and failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import geoseg
from geoseg.errors import GeosegError, GeosegWarning, ModelError, OutputError, SceneError, UsageError
from geoseg.inference import Blend, SceneMapping, map_tile
from geoseg.inference.pipeline import Capacity, Job, run_pipeline
from geoseg.inference.pipeline.job import Band, bands
from geoseg.inference.pipeline.slabs import ChunkShape
from geoseg.legend import NODATA, LandCover, Legend
from geoseg.model import Course, Engine, FinishedRows, OutOfMemory, Slab, Ticket
from geoseg.profile import Profile
from geoseg.raster import AreaOfInterest, Patch, Scene, Window, WindowGrid, tiles
from tests.inference.clock_device import Clock
from tests.inference.conftest import MakeScene, WholeTiles, write_scene
from tests.inference.position_engine import PositionEngine
from tests.inference.sweeping_device import SlowSweep, SweepingDevice
from tests.inference.whole_scene import whole_map
from tests.networks import tiny_bundle

CODES = (0, 3, 7, 254)
Parts = Sequence[tuple[Window, NDArray[Any]]]


class Map:
    """A map whose tiles are written to memory, with a record of the reports."""

    def __init__(self, mapping: SceneMapping[Scene], tile: tuple[int, int]) -> None:
        grid = mapping.grid
        self.mapping = mapping
        self.tiles = tiles(grid.height_px, grid.width_px, *tile)
        self.tile_cols = -(-grid.width_px // tile[1])
        self.labels = np.full((grid.height_px, grid.width_px), 99, np.uint8)
        self.written: list[int] = []
        self.finished: list[int] = []
        self.profile = Profile()
        self.rows_at_once: int | None = None

    def write(self, index: int, tile: dict[Any, NDArray[np.uint8]]) -> None:
        place = self.tiles[index]
        self.labels[place.rows, place.cols] = tile["labels"]
        self.written.append(index)

    @property
    def job(self) -> Job:
        begin = WholeTiles(self.write).begin
        return Job(self.mapping, self.tiles.__getitem__, self.tile_cols, begin, self.profile, self.rows_at_once)

    def run(
        self,
        *engines: Engine,
        missing: Sequence[int] | None = None,
        capacity: Capacity | None = None,
        workers: int = 2,
        scorers: int = 0,
    ) -> None:
        missing = range(len(self.tiles)) if missing is None else missing
        opened: list[Callable[[], Engine]] = [partial(_given, engine) for engine in engines]
        run_pipeline(self.job, missing, opened, capacity or self.capacity, workers, self.finished.append, scorers)

    @property
    def capacity(self) -> Capacity:
        """The capacity for two workers, but with room for only one row of tiles and one tile more."""
        found = Capacity.of(self.mapping, self.tiles[0].shape, workers=2, devices=1, free_bytes=1 << 30)
        return replace(found, tiles=self.tile_cols + 1)


def _given(engine: Engine) -> Engine:
    return engine


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    window=st.integers(4, 48),
    tile=st.tuples(st.integers(16, 160), st.integers(16, 160)),
    batch=st.integers(1, 9),
    blend=st.sampled_from(get_args(Blend)),
    devices=st.lists(st.sampled_from([PositionEngine, SweepingDevice]), min_size=1, max_size=3),
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
    devices: list[type[PositionEngine]],
    data: st.DataObject,
) -> None:
    scene = make_scene(height, width, seed=height * width)
    grid = WindowGrid(height, width, window, data.draw(st.integers(0, window - 1), label="overlap"))
    if len(grid) > 2000:
        grid = WindowGrid(height, width, window, window // 4)
    made = Map(SceneMapping(scene, grid, blend, batch, CODES), tile)
    indexes = range(len(made.tiles))
    missing = data.draw(st.lists(st.sampled_from(indexes), unique=True), label="missing") or list(indexes)
    cols = data.draw(st.integers(1, made.tile_cols), label="cols")
    made.rows_at_once = data.draw(st.sampled_from([None, 1, 16, 40]), label="rows at once")
    made.run(
        *(kind() for kind in devices),
        missing=missing,
        capacity=Capacity.of(made.mapping, tile, workers=2, devices=len(devices), free_bytes=cols << 20),
    )
    expected, whole = np.full((height, width), 99, np.uint8), whole_map(scene, grid, blend, CODES)
    for index in missing:
        place = made.tiles[index]
        expected[place.rows, place.cols] = whole[place.rows, place.cols]
    np.testing.assert_array_equal(made.labels, expected)
    assert sorted(made.finished) == sorted(made.written) == sorted(missing)


@given(
    tile_rows=st.integers(1, 9),
    tile_cols=st.integers(1, 9),
    most_cols=st.integers(1, 10),
    most_rows=st.integers(1, 10),
    data=st.data(),
)
def test_every_missing_tile_is_in_one_band(
    tile_rows: int, tile_cols: int, most_cols: int, most_rows: int, data: st.DataObject
) -> None:
    missing = data.draw(st.lists(st.integers(0, tile_rows * tile_cols - 1), unique=True))
    found = bands(missing, tile_cols, most_cols, most_rows)
    assert sorted(index for band in found for index in band.tiles(tile_cols)) == sorted(missing)
    assert all(1 <= len(band.cols) <= most_cols and 1 <= len(band.rows) <= most_rows for band in found)


def test_a_whole_scene_is_one_band_and_parts_of_bands_are_what_they_say() -> None:
    assert bands(range(12), 3, 9, 9) == [Band(range(4), range(3))]
    band = Band(range(2, 5), range(1, 4))
    assert band.below(3) == Band(range(3, 5), range(1, 4))
    assert band.below(5) is None
    left, right = band.halves()
    assert sorted([*left.tiles(9), *right.tiles(9)]) == sorted(band.tiles(9))


def test_one_device_goes_down_the_whole_scene_once(make_scene: MakeScene) -> None:
    """No window is run twice, whatever the number of tiles."""
    grid = WindowGrid(150, 130, 32, 8)
    made, engine = (
        Map(SceneMapping(make_scene(150, 130, invalid=0), grid, "hann", 3, CODES), (32, 48)),
        PositionEngine(),
    )
    made.run(engine)
    assert sum(engine.batches) == len(grid)
    np.testing.assert_array_equal(made.labels, whole_map(made.mapping.scene, grid, "hann", CODES))


def watched_reads(monkeypatch: pytest.MonkeyPatch, chunk_px: int, chunk_width_px: int) -> list[Window]:
    """Make scenes read in chunks of this size; return the list in which every read is recorded."""
    read: list[Window] = []
    plain, plain_into = Scene.read, Scene.read_into

    def watched(self: Scene, window: Window) -> Patch:
        read.append(window)
        return plain(self, window)

    def watched_into(self: Scene, parts: Parts) -> list[NDArray[np.bool_] | None]:
        places = [place for place, _ in parts]
        row, col = min(place.row for place in places), min(place.col for place in places)
        stops = max(place.row_stop for place in places), max(place.col_stop for place in places)
        read.append(Window(row, col, stops[0] - row, stops[1] - col))
        return plain_into(self, parts)

    monkeypatch.setattr(Scene, "read", watched)
    monkeypatch.setattr(Scene, "read_into", watched_into)
    monkeypatch.setattr("geoseg.inference.pipeline.slabs._CHUNK_PX", chunk_px)
    monkeypatch.setattr("geoseg.inference.pipeline.slabs._CHUNK_WIDTH_PX", chunk_width_px)
    return read


@pytest.mark.parametrize(
    ("blocks", "profile"),
    [((64, 64), {"tiled": True, "blockxsize": 64, "blockysize": 64}), ((7, 300), {"blockysize": 7}), ((1, 300), {})],
)
def test_every_block_is_decoded_once(
    make_scene: MakeScene,
    monkeypatch: pytest.MonkeyPatch,
    blocks: tuple[int, int],
    profile: dict[str, Any],
) -> None:
    scene = make_scene(500, 300, **profile)
    if profile.get("blockysize") is None:
        scene = replace(scene, block_shape=(1, 300))
    assert scene.block_shape == blocks
    read = watched_reads(monkeypatch, 1 << 12, 100)
    grid = WindowGrid(500, 300, 48, 12)
    made = Map(SceneMapping(scene, grid, "hann", 3, CODES), (128, 128))
    chunk = ChunkShape.of(scene)
    made.run(PositionEngine(), capacity=Capacity.of(made.mapping, (128, 128), workers=3, devices=1, free_bytes=1 << 30))
    touched = [
        (row, col)
        for window in read
        for row in range(window.row // blocks[0], -(-window.row_stop // blocks[0]))
        for col in range(window.col // blocks[1], -(-window.col_stop // blocks[1]))
    ]
    assert len(touched) == len(set(touched)) == -(-500 // blocks[0]) * -(-300 // blocks[1])
    assert len(read) > 3
    assert max(window.size for window in read) <= chunk.rows * chunk.cols
    np.testing.assert_array_equal(made.labels, whole_map(scene, grid, "hann", CODES))


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count what a process reads")
@pytest.mark.parametrize(("workers", "count", "height"), [(1, 3, 1536), (3, 3, 1536), (1, 72, 512)])
def test_every_byte_of_a_file_is_read_once(tmp_path: Path, workers: int, count: int, height: int) -> None:
    """Blocks shared by two slabs come from GDAL's cache, or are copied if the cache is too small."""
    noise = np.random.default_rng(0).integers(1, 256, (count, height, 2048), dtype=np.uint8)
    path = write_scene(tmp_path / "scene.tif", noise, tiled=True, blockxsize=512, blockysize=512, interleave="pixel")
    mapping = SceneMapping(Scene.open(path, bands=[1, 2, 3]), WindowGrid(height, 2048, 256, 64), "hann", 3, CODES)
    before = bytes_read()
    Map(mapping, (512, 512)).run(Clock(), workers=workers)
    assert path.stat().st_size < bytes_read() - before < 1.02 * path.stat().st_size


def bytes_read() -> int:
    """Return the number of bytes that this process has read."""
    return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])


@pytest.mark.parametrize("kind", [PositionEngine, SweepingDevice])
def test_an_area_of_interest_is_that_of_tiles(make_scene: MakeScene, kind: type[PositionEngine]) -> None:
    scene, grid = make_scene(300, 200, seed=8), WindowGrid(300, 200, 24, 6)
    ring = np.array([[20.2, 10.4], [180.7, 40.1], [60.5, 120.9], [20.2, 10.4]])
    mapping = SceneMapping(scene, grid, "hann", 3, CODES, area=AreaOfInterest.of([ring], "a"))
    made, engine = Map(mapping, (64, 64)), kind()
    made.run(engine)
    expected = np.concatenate(
        [map_tile(mapping, PositionEngine(), Window(row, 0, 100, 200))["labels"] for row in range(0, 300, 100)]
    )
    np.testing.assert_array_equal(made.labels, expected)
    assert 0 < np.count_nonzero(expected != NODATA) < expected.size / 4
    assert sorted(made.finished) == list(range(len(made.tiles)))
    for course in engine.courses if isinstance(engine, SweepingDevice) else []:
        assert course.row_starts[-1] < 200  # nothing is scored below the area


@pytest.mark.parametrize("kind", [PositionEngine, SweepingDevice])
@pytest.mark.parametrize("invalid", [0, 0.4])
def test_windows_beside_an_area_or_in_nodata_are_neither_run_nor_read(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch, kind: type[PositionEngine], invalid: float
) -> None:
    """The area is a narrow diagonal: every row of windows touches it, but few windows do."""
    scene = make_scene(300, 300, seed=8, invalid=invalid, tiled=True, blockxsize=16, blockysize=16)
    grid = WindowGrid(300, 300, 24, 6)
    area = AreaOfInterest.of([np.array([[5, 0], [300, 280], [295, 300], [0, 20], [5, 0]])], "a")
    mapping = SceneMapping(scene, grid, "hann", 3, CODES, area=area)
    whole = Window(0, 0, 300, 300)
    wanted = scene.valid(whole) & area.mask(whole)
    seen = [window for window in grid.windows_touching(whole) if wanted[window.rows, window.cols].any()]
    read = watched_reads(monkeypatch, 1 << 8, 16)
    made, engine = Map(mapping, (300, 300)), kind()
    made.run(engine)
    run = engine.windows_run if isinstance(engine, SweepingDevice) else sum(engine.batches)
    assert run == len(seen) < len(grid) / 4
    blocks = {(block.row, block.col) for block in read}
    assert len(blocks) == len(read) < 19 * 19 / 2
    monkeypatch.undo()
    np.testing.assert_array_equal(made.labels, map_tile(mapping, PositionEngine(), whole)["labels"])
    np.testing.assert_array_equal(made.labels != NODATA, wanted)


@pytest.mark.parametrize("late", [False, True])
def test_memory_that_runs_out_halves_the_batch_and_changes_nothing(make_scene: MakeScene, *, late: bool) -> None:
    grid = WindowGrid(400, 200, 24, 6)
    made = Map(SceneMapping(make_scene(400, 200), grid, "hann", 8, CODES), (64, 96))
    device = SweepingDevice(fits=3, late=late)
    with pytest.warns(GeosegWarning, match="ran out of memory with 8 windows per batch; continuing with 4") as caught:
        made.run(device)
    assert len(caught) == 1
    assert [course.batch_size for course in device.courses] == [8, 4, 2]
    np.testing.assert_array_equal(made.labels, whole_map(made.mapping.scene, grid, "hann", CODES))
    assert sorted(made.finished) == list(range(len(made.tiles)))


def test_memory_that_runs_out_while_a_row_of_tiles_waits_for_room_leaves_none_taken(make_scene: MakeScene) -> None:
    made = Map(SceneMapping(make_scene(400, 100), WindowGrid(400, 100, 24, 6), "hann", 8, CODES), (64, 64))
    plain, go = made.write, threading.Event()

    def slow(index: int, tile: dict[Any, NDArray[np.uint8]]) -> None:
        assert go.wait(30)
        plain(index, tile)

    def run_out(row: int) -> None:
        if row == 6 and not go.is_set():  # the second row of tiles waits until the first is written
            threading.Timer(0.4, go.set).start()
            time.sleep(0.2)
            raise OutOfMemory

    made.write = slow  # type: ignore[method-assign]
    device = _Hooked(push=run_out)
    runner = threading.Thread(target=made.run, args=(device,), daemon=True)
    runner.start()
    with pytest.warns(GeosegWarning, match="ran out of memory"):
        runner.join(20)
    assert not runner.is_alive()
    assert [course.batch_size for course in device.courses] == [8, 4]
    np.testing.assert_array_equal(made.labels, whole_map(made.mapping.scene, made.mapping.grid, "hann", CODES))
    assert sorted(made.finished) == list(range(len(made.tiles)))


class _Narrow(SweepingDevice):
    """A device that runs out of memory in courses above a width."""

    def __init__(self, widest_px: int) -> None:
        super().__init__()
        self._widest_px = widest_px

    def begin(self, course: Course) -> SlowSweep:
        if course.width_px > self._widest_px:
            raise OutOfMemory
        return super().begin(course)


@pytest.mark.parametrize("width", [24, 42, 200])
def test_as_many_windows_are_scored_at_once_as_there_are_threads(make_scene: MakeScene, width: int) -> None:
    """Every window waits for another at a barrier, so two must run at once, even in rows of one window."""
    grid = WindowGrid(402, width, 24, 6)
    assert len(grid) % 2 == 0
    beside = threading.Barrier(2, timeout=60)

    class Together(PositionEngine):
        def probabilities(self, *batch: Any) -> NDArray[np.float32]:
            beside.wait()
            return super().probabilities(*batch)

    made = Map(SceneMapping(make_scene(402, width, seed=3), grid, "hann", 1, CODES), (64, 96))
    made.run(Together(), scorers=2)
    np.testing.assert_array_equal(made.labels, whole_map(made.mapping.scene, grid, "hann", CODES))


def test_a_band_too_wide_for_single_windows_is_halved(make_scene: MakeScene) -> None:
    grid = WindowGrid(90, 400, 24, 6)
    made = Map(SceneMapping(make_scene(90, 400), grid, "hann", 1, CODES), (64, 64))
    made.run(_Narrow(150))
    np.testing.assert_array_equal(made.labels, whole_map(made.mapping.scene, grid, "hann", CODES))
    with pytest.raises(GeosegError, match="one window of 24 x 24 pixels does not fit in the memory of cpu"):
        made.run(_Narrow(30))


class _Hooked(SweepingDevice):
    """A device with hooks for pushing a row and waiting for one."""

    def __init__(
        self, *, push: Callable[[int], object] | None = None, wait: Callable[[int], object] | None = None
    ) -> None:
        super().__init__()
        self.push, self.wait = push, wait

    def begin(self, course: Course) -> SlowSweep:
        self.courses.append(course)
        return _HookedSweep(self, course)


class _HookedSweep(SlowSweep):
    device: _Hooked

    def push(self, slab: Slab) -> Ticket | None:
        if self.device.push is not None:
            self.device.push(self.pushed)
        ticket = super().push(slab)
        return ticket and _HookedTicket(self, ticket, self.pushed)


class _HookedTicket:
    def __init__(self, sweep: _HookedSweep, ticket: Ticket, row: int) -> None:
        self.sweep, self.ticket, self.row = sweep, ticket, row

    def result(self) -> Sequence[FinishedRows]:
        found = self.ticket.result()
        if self.sweep.device.wait is not None:
            return self.sweep.device.wait(self.row) or found  # type: ignore[return-value]
        return found


@contextmanager
def no_thread_left() -> Iterator[None]:
    """Check that all threads of a pipeline end soon after it."""
    before = set(threading.enumerate())
    yield
    latest = time.monotonic() + 5
    while [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("geoseg-")]:
        assert time.monotonic() < latest
        time.sleep(0.01)


def failing_at(row: int, error: BaseException) -> Callable[[int], None]:
    def fail(at: int) -> None:
        if at >= row:
            raise error

    return fail


def tall(make_scene: MakeScene) -> Map:
    """Return a map of eight rows of tiles, written a few rows at a time."""
    made = Map(SceneMapping(make_scene(512, 100, seed=4), WindowGrid(512, 100, 24, 6), "hann", 3, CODES), (64, 64))
    made.rows_at_once = 20
    return made


@pytest.mark.parametrize("hook", ["push", "wait"])
@pytest.mark.parametrize("beside", [(), (SweepingDevice,), (PositionEngine,)])
def test_a_device_that_fails_ends_the_run_and_what_is_finished_is_kept(
    make_scene: MakeScene, hook: str, beside: tuple[type[PositionEngine], ...]
) -> None:
    made = tall(make_scene)
    device = _Hooked(**{hook: failing_at(3, ModelError("torch failed on cuda:0: illegal address"))})
    with no_thread_left(), pytest.raises(ModelError, match="torch failed on cuda:0: illegal address"):
        made.run(device, *(kind() for kind in beside))
    assert sorted(made.finished) == sorted(made.written)
    assert len(made.written) < len(made.tiles)
    left = [index for index in range(len(made.tiles)) if index not in made.written]
    made.run(PositionEngine(), missing=left)  # resumed
    np.testing.assert_array_equal(made.labels, whole_map(made.mapping.scene, made.mapping.grid, "hann", CODES))


def test_what_a_reader_or_a_writer_raises_ends_the_run(make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tall(make_scene)
    plain = made.write

    def full(index: int, tile: dict[Any, NDArray[np.uint8]]) -> None:
        if index > 3:
            raise OutputError("no space left")
        plain(index, tile)

    monkeypatch.setattr(made, "write", full)
    with no_thread_left(), pytest.raises(OutputError, match="no space left"):
        made.run(SweepingDevice())
    assert set(made.finished) == set(made.written) <= {0, 1, 2, 3}
    read_into = Scene.read_into

    def damaged(self: Scene, parts: Parts) -> list[NDArray[np.bool_] | None]:
        if parts[0][0].row > 200:
            raise SceneError("a block is cut short")
        return read_into(self, parts)

    monkeypatch.setattr(Scene, "read_into", damaged)
    monkeypatch.setattr("geoseg.inference.pipeline.slabs._CHUNK_PX", 1 << 12)
    with no_thread_left(), pytest.raises(SceneError, match="a block is cut short"):
        tall(make_scene).run(SweepingDevice(), PositionEngine())


def test_what_interrupts_the_waiting_thread_ends_all_others(make_scene: MakeScene) -> None:
    made = tall(make_scene)

    def interrupted(index: int) -> None:
        made.finished.append(index)
        if len(made.finished) == 3:
            raise KeyboardInterrupt

    with no_thread_left(), pytest.raises(KeyboardInterrupt):
        run_pipeline(made.job, range(len(made.tiles)), [SweepingDevice], made.capacity, 2, interrupted)
    assert sorted(made.finished) == sorted(made.written)


def test_the_end_of_a_run_waits_for_no_window_in_work(make_scene: MakeScene) -> None:
    made, scoring, go = tall(make_scene), threading.Event(), threading.Event()

    class Stuck(PositionEngine):
        def probabilities(self, footprint: Any, windows: Sequence[Window], *rest: Any) -> Any:
            if len(self.batches) > 40:
                scoring.set()
                assert go.wait(60)
            return super().probabilities(footprint, windows, *rest)

    def interrupted(_index: int) -> None:
        assert scoring.wait(30)
        raise KeyboardInterrupt

    with no_thread_left():
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            run_pipeline(made.job, range(len(made.tiles)), [Stuck], made.capacity, 2, interrupted, scorers=2)
        took_s = time.monotonic() - began
        go.set()
    assert took_s < 8


def test_an_engine_that_cannot_be_opened_ends_the_run(make_scene: MakeScene) -> None:
    def broken() -> Engine:
        raise ModelError("the weights do not fit")

    made = tall(make_scene)
    with no_thread_left(), pytest.raises(ModelError, match="the weights do not fit"):
        run_pipeline(made.job, range(4), [SweepingDevice, broken], made.capacity, 2, made.finished.append)


def test_rows_that_are_no_numbers_are_an_error_that_names_them(make_scene: MakeScene) -> None:
    made = tall(make_scene)

    def not_finite(row: int) -> list[FinishedRows] | None:
        return [FinishedRows(Window(90, 0, 18, 100), {}, is_finite=False)] if row > 4 else None

    with no_thread_left(), pytest.raises(SceneError, match="the network returned NaN for rows 90 to 108 of"):
        made.run(_Hooked(wait=not_finite))


def test_slabs_tiles_and_tickets_in_work_are_bounded(make_scene: MakeScene) -> None:
    """While no tile gets written, the device is pushed only a bounded number of rows."""
    made = Map(SceneMapping(make_scene(2000, 100, seed=4), WindowGrid(2000, 100, 24, 6), "hann", 3, CODES), (64, 64))
    pushed, written, moved = [0], threading.Semaphore(0), threading.Event()

    def counted(row: int) -> None:
        pushed[0] = max(pushed[0], row)
        moved.set()

    plain = made.write

    def slow(index: int, tile: dict[Any, NDArray[np.uint8]]) -> None:
        written.acquire()
        plain(index, tile)

    made.write = slow  # type: ignore[method-assign]
    runner = threading.Thread(target=made.run, args=(_Hooked(push=counted),))
    runner.start()
    assert moved.wait(30)
    while moved.wait(0.4):
        moved.clear()
    # no tile is written: three may be started (one row), and three tickets of two rows each may wait
    assert 4 <= pushed[0] < 20
    written.release(10**6)
    runner.join(60)
    assert not runner.is_alive()
    np.testing.assert_array_equal(made.labels, whole_map(made.mapping.scene, made.mapping.grid, "hann", CODES))


def _scores(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities (n, class, row, col) of two classes, from a band and the column in the window."""
    first = (batch[:, 0] + np.arange(batch.shape[-1])) % 17 / 17
    return np.stack([first, 1 - first], axis=1).astype(np.float32)


@pytest.mark.parametrize("device", ["function", "torch-cpu"])
def test_two_engines_make_the_map_of_one(make_scene: MakeScene, tmp_path: Path, device: str) -> None:
    scene = make_scene(400, 300, seed=9)
    if device == "function":
        legend = Legend((LandCover(1, "one", (1, 2, 3)), LandCover(4, "four", (4, 5, 6))))
        model = geoseg.ModelBundle.from_callable(_scores, legend=legend, window_px=64, overlap_px=24)
        one = geoseg.plan(scene, model=model, tile=128)
    else:
        one = geoseg.plan(
            scene, model=tiny_bundle(tmp_path, export=False), device=device, window=64, tile=128, batch_size=2
        )
    two = replace(one, scoring=replace(one.scoring, engine=replace(one.engine, others=(one.engine,))))
    assert two.scoring.feeds_devices
    for made, name in ((one, "one"), (two, "two")):
        made.run(tmp_path / f"{name}.tif", confidence=tmp_path / f"{name}-sure.tif")
    for suffix in ("", "-sure"):
        with (
            rasterio.open(tmp_path / f"one{suffix}.tif") as first,
            rasterio.open(tmp_path / f"two{suffix}.tif") as second,
        ):
            np.testing.assert_array_equal(first.read(), second.read())
    with pytest.raises(UsageError, match="a lazy array uses one device, got 2; choose one"):
        two.to_dask()
