"""A sweep's labels equal those of the whole scene, for any area."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.inference import Blend, SceneMapping
from geoseg.inference.blend import axis_weights
from geoseg.inference.pipeline.device import Scorers, begin_sweep
from geoseg.inference.pipeline.mailbox import Mailbox
from geoseg.inference.tile import course_of, mirrored_beyond
from geoseg.legend import NODATA
from geoseg.model import Course, FinishedRows, Slab, Sweep
from geoseg.profile import Profile
from geoseg.raster import Scene, Window, WindowGrid
from tests.inference.conftest import MakeScene
from tests.inference.position_engine import PositionEngine
from tests.inference.whole_scene import whole_map

CODES = (0, 3, 7, 254)


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(3) as threads:
        yield threads


def slabs(mapping: SceneMapping[Scene], course: Course, released: list[int]) -> Iterator[Slab]:
    """Yield the slabs of a course; their memory is overwritten once they are released."""
    for number in range(len(course.row_starts)):
        read = mapping.scene.read(course.fresh(number))
        wanted = None if mapping.area is None else mapping.label_mask(course.fresh(number), read.valid)
        patch = mirrored_beyond(mapping.grid, read)
        data, valid = patch.data.copy(), patch.valid.copy()

        def release(data: NDArray[Any] = data, valid: NDArray[np.bool_] = valid) -> None:
            data[:], valid[:] = 77, True
            released.append(1)

        yield Slab(data, None if valid.all() else valid, wanted, release)


def swept(sweep: Sweep, pushed: Iterator[Slab]) -> Iterator[FinishedRows]:
    tickets = [sweep.push(slab) for slab in pushed]
    for ticket in [*tickets, sweep.finish()]:
        rows: Sequence[FinishedRows] = () if ticket is None else ticket.result()
        yield from rows


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    window=st.integers(4, 40),
    batch=st.integers(1, 9),
    blend=st.sampled_from(get_args(Blend)),
    threads=st.integers(0, 3),
    data=st.data(),
)
def test_labels_of_an_area_equal_the_whole_scene_bit_for_bit(
    make_scene: MakeScene,
    pool: Executor,
    height: int,
    width: int,
    window: int,
    batch: int,
    blend: Blend,
    threads: int,
    data: st.DataObject,
) -> None:
    scene = make_scene(height, width, seed=height * width)
    grid = WindowGrid(height, width, window, data.draw(st.integers(0, window - 1), label="overlap"))
    if len(grid) > 2000:
        grid = WindowGrid(height, width, window, window // 4)
    row, col = data.draw(st.integers(0, height - 1), label="row"), data.draw(st.integers(0, width - 1), label="col")
    area = Window(row, col, data.draw(st.integers(1, height - row)), data.draw(st.integers(1, width - col)))
    mapping = SceneMapping(scene, grid, blend, batch, CODES)
    course, released = course_of(mapping, area, batch), list[int]()
    whole = np.full((height + window, width + window), NODATA, np.uint8)
    whole[:height, :width] = whole_map(scene, grid, blend, CODES)
    scorers = Scorers(pool, threads, Mailbox(), Profile()) if threads else None
    sweep = begin_sweep(mapping, PositionEngine(), course, scorers)
    below = course.row_starts[0]
    for rows in swept(sweep, slabs(mapping, course, released)):
        assert rows.place.row == below
        below = rows.place.row_stop
        inside = rows.place.intersection(area)
        if inside is not None:
            cut = inside.relative_to(rows.place)
            got = rows.products["labels"][cut.rows, cut.cols] if rows.products else NODATA
            np.testing.assert_array_equal(whole[inside.rows, inside.cols], got)
    assert below == course.row_starts[-1] + window >= area.row_stop
    assert len(released) == len(course.row_starts)


def test_scorers_hold_a_few_results_in_order_and_tell_of_the_window_that_fails(
    make_scene: MakeScene, pool: Executor
) -> None:
    scene, grid = make_scene(64, 640, seed=2), WindowGrid(64, 640, 32, 8)
    mapping = SceneMapping(scene, grid, "hann", 1, CODES)
    begun: list[int] = []

    class Failing(PositionEngine):
        def probabilities(self, footprint: Any, windows: Sequence[Window], *rest: Any) -> Any:
            begun.append(windows[0].col)
            if windows[0].col == grid.col_starts[9]:
                raise ModelError("it fails")
            return super().probabilities(footprint, windows, *rest)

    course = course_of(mapping, Window(0, 0, 64, 640), 1)
    sweep = begin_sweep(mapping, Failing(), course, Scorers(pool, 2, Mailbox(), Profile()))
    pushed = slabs(mapping, course, [])
    tickets = [sweep.push(slab) for slab in pushed]
    assert len(begun) <= 4  # before anybody asks for a result
    assert tickets[0] is not None
    with pytest.raises(ModelError, match=rf"it fails \(in the window at row 0, column {grid.col_starts[9]} of .*\)"):
        tickets[0].result()
    assert len(begun) <= 10 + 4


def test_a_course_names_each_row_of_pixels_once(make_scene: MakeScene) -> None:
    grid = WindowGrid(200, 100, 32, 10)
    mapping = SceneMapping(make_scene(200, 100), grid, "hann", 3, CODES)
    area = Window(60, 30, 90, 40)
    course = course_of(mapping, area, 3)
    rows = range(len(course.row_starts))
    for pieces in ([course.fresh(row) for row in rows], [course.finished(row) for row in rows]):
        assert [piece.row for piece in pieces[1:]] == [piece.row_stop for piece in pieces[:-1]]
        assert pieces[0].row == course.row_starts[0]
        assert pieces[-1].row_stop == course.row_starts[-1] + 32
        assert {(piece.col, piece.width) for piece in pieces} == {(course.col_starts[0], course.width_px)}
    assert {(start, 32) for start in course.row_starts} == {
        (window.row, window.height) for window in grid.windows_touching(area)
    }
    every = axis_weights(grid.row_starts, 200, 32, "hann")
    first = grid.row_starts.index(course.row_starts[0])
    np.testing.assert_array_equal(course.row_weights, every[first : first + len(rows)])


def test_an_engine_with_sweeps_of_its_own_makes_them(make_scene: MakeScene) -> None:
    class Sweeping(PositionEngine):
        def begin(self, course: Course) -> str:
            return f"{len(course.row_starts)} rows, {course.batch_size} at once"

    mapping = SceneMapping(make_scene(64, 64), WindowGrid(64, 64, 16, 0), "hann", 9, CODES)
    course = course_of(mapping, Window(0, 0, 32, 64), 5)
    assert begin_sweep(mapping, Sweeping(), course) == "2 rows, 5 at once"
