"""A sweep on torch makes the same products as tiles do, bit for bit, also in half precision and rotated."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.inference import Blend, SceneMapping, map_tile
from geoseg.inference.derived_engines import symmetric
from geoseg.inference.pipeline.device import begin_sweep
from geoseg.inference.tile import course_of, mirrored_beyond
from geoseg.legend import NODATA
from geoseg.model import HELD_SLABS, Engine, FinishedRows, OutOfMemory, Slab, TorchEngine
from geoseg.model.engines.streams import HostStreams, Mark, Streams
from geoseg.raster import AreaOfInterest, Scene, Window, WindowGrid
from tests.inference.conftest import MakeScene, random_pixels, write_scene
from tests.networks import RGB

pytestmark = pytest.mark.filterwarnings("ignore:some scores are beyond half precision")
CODES = (0, 3, 7, 254)
EVERY = ("probabilities", "confidence", "labels")


class PositionNetwork(torch.nn.Module):
    """A network whose logits depend on position in the window and neighbors; some overflow half precision."""

    def __init__(self, *, overflows: bool) -> None:
        super().__init__()
        self.overflows = overflows

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        brightness = image.float().sum(dim=1)
        neighbor = torch.roll(brightness, (1, 3), dims=(1, 2))
        rows, cols = torch.meshgrid(*(torch.arange(size) % 7 for size in image.shape[2:]), indexing="ij")
        logits = torch.stack(
            [brightness * (k - 1.5) + neighbor * (k % 2) + rows * 0.5 - cols * 0.25 * k for k in range(len(CODES))], 1
        )
        if torch.is_autocast_enabled("cpu"):  # as if it had computed in half precision
            logits = (logits * 8).round() / 8
            if self.overflows:
                logits[brightness.mean(dim=(1, 2)) > 0.0] = torch.inf
        return logits


class TorchPosition(TorchEngine):
    """The real engine over that network, with streams that a test may watch."""

    def __init__(self, precision: str = "float32", streams: Callable[[], Streams] = HostStreams) -> None:
        self._set_up(torch.device("cpu"), RGB, None, precision)
        self.classes, self._temperature = len(CODES), 1.0
        self._network = PositionNetwork(overflows=precision == "fp16")
        self.make_streams = streams
        self.batches: list[int] = []

    def _streams(self) -> Streams:
        return self.make_streams()

    def logits(self, image: torch.Tensor) -> Any:
        self.batches.append(len(image))
        return super().logits(image)


class LateStreams(HostStreams):
    """A device as lazy as allowed: copies happen, in order, only when somebody waits for them."""

    def __init__(self) -> None:
        self.queue: list[Callable[[], object]] = []

    def run(self, upto: int) -> None:
        while len(self.queue) and upto > self.done:
            self.queue.pop(0)()
            self.done += 1

    done = 0

    def later(self, act: Callable[[], object]) -> Mark:
        self.queue.append(act)
        place, streams = self.done + len(self.queue), self

        class Late:
            def wait(self) -> None:
                streams.run(place)

            def is_passed(self) -> bool:
                return streams.done >= place

        return Late()

    def send(self, arrays: Sequence[NDArray[Any]], places: Sequence[torch.Tensor], after: Mark) -> Mark:
        send = super().send
        return self.later(lambda: send(arrays, places, after))

    def fetch(self, tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], Mark]:
        copies = [torch.full_like(tensor, 99) for tensor in tensors]

        def copy() -> None:
            for there, tensor in zip(copies, tensors, strict=True):
                there.copy_(tensor)

        return copies, self.later(copy)


class MarkingStreams(HostStreams):
    """Streams that know which marks they have given, and after which mark each copy began."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self.after: list[Mark] = []

    def mark(self) -> Mark:
        class Passed:
            def wait(self) -> None:
                """Return at once."""

            def is_passed(self) -> bool:
                return True

        self.marks.append(Passed())
        return self.marks[-1]

    def send(self, arrays: Sequence[NDArray[Any]], places: Sequence[torch.Tensor], after: Mark) -> Mark:
        self.after.append(after)
        return super().send(arrays, places, after)


def slabs(mapping: SceneMapping[Scene], course: Any, released: list[int]) -> Iterator[Slab]:
    for number in range(len(course.row_starts)):
        read = mapping.scene.read(course.fresh(number))
        wanted = None if mapping.area is None else mapping.label_mask(course.fresh(number), read.valid)
        patch = mirrored_beyond(mapping.grid, read)
        data, valid = patch.data.copy(), patch.valid.copy()

        def release(number: int = number, data: Any = data, valid: Any = valid) -> None:
            data[:], valid[:] = 77, True
            released.append(number)

        yield Slab(data, None if valid.all() else valid, wanted, release)


def swept(mapping: SceneMapping[Scene], engine: Engine, area: Window, batch: int) -> dict[str, NDArray[np.uint8]]:
    course, released, tickets = course_of(mapping, area, batch), list[int](), []
    sweep = begin_sweep(mapping, engine, course)
    for number, slab in enumerate(slabs(mapping, course, released)):
        tickets.append(sweep.push(slab))
        assert number + 1 - len(released) <= HELD_SLABS
    tickets.append(sweep.finish())
    assert released == list(range(len(course.row_starts)))
    rows = [row for ticket in tickets if ticket is not None for row in ticket.result()]
    assert all(row.is_finite for row in rows)
    return {name: pasted(rows, name, area) for name in mapping.keep}


def pasted(rows: list[FinishedRows], name: Any, area: Window) -> NDArray[np.uint8]:
    bands = (len(CODES),) if name == "probabilities" else ()
    whole = np.full((*bands, area.height, area.width), NODATA, np.uint8)
    below = rows[0].place.row
    for row in rows:
        assert row.place.row == below
        below = row.place.row_stop
        inside = row.place.intersection(area)
        if inside is not None and row.products:
            cut, to = inside.relative_to(row.place), inside.relative_to(area)
            whole[..., to.rows, to.cols] = row.products[name][..., cut.rows, cut.cols]
    return whole


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 110),
    width=st.integers(1, 110),
    window=st.sampled_from([8, 16, 24, 32]),
    batches=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    blend=st.sampled_from(get_args(Blend)),
    precision=st.sampled_from(["float32", "fp16"]),
    streams=st.sampled_from([HostStreams, LateStreams]),
    tta=st.sampled_from([1, 1, 2, 8]),
    invalid=st.sampled_from([0, 0.2, 0.7]),
    aoi=st.booleans(),
    data=st.data(),
)
def test_products_equal_those_of_tiles_bit_for_bit(
    make_scene: MakeScene,
    height: int,
    width: int,
    window: int,
    batches: tuple[int, int],
    blend: Blend,
    precision: str,
    streams: Callable[[], Streams],
    tta: int,
    invalid: float,
    data: st.DataObject,
    *,
    aoi: bool,
) -> None:
    scene = make_scene(height, width, seed=height * width, invalid=invalid)
    grid = WindowGrid(height, width, window, data.draw(st.integers(0, window - 1), label="overlap"))
    if len(grid) * tta > 1500:
        grid = WindowGrid(height, width, window, window // 4)
    row, col = data.draw(st.integers(0, height - 1), label="row"), data.draw(st.integers(0, width - 1), label="col")
    area = Window(row, col, data.draw(st.integers(1, height - row)), data.draw(st.integers(1, width - col)))
    mapping = SceneMapping(scene, grid, blend, batches[0], CODES, EVERY, triangle(height, width) if aoi else None)
    wanted = map_tile(mapping, symmetric(TorchPosition(precision), tta), area)
    engine = TorchPosition(precision, streams)
    got = swept(mapping, symmetric(engine, tta), area, batches[1])
    inside = np.ones(area.shape, np.bool_) if mapping.area is None else mapping.area.mask(area)
    for name in EVERY:
        np.testing.assert_array_equal(got[name][..., inside], wanted[name][..., inside], err_msg=name)
    assert set(engine.batches) <= {batches[1]}


def test_every_copy_waits_for_the_work_that_may_use_its_memory(make_scene: MakeScene) -> None:
    """The first ones too: an allocator hands out memory at once that work still queued may be reading."""
    mapping = SceneMapping(make_scene(90, 60, seed=1), WindowGrid(90, 60, 16, 4), "hann", 4, CODES)
    streams = MarkingStreams()
    swept(mapping, TorchPosition("float32", lambda: streams), Window(0, 0, 90, 60), 4)
    assert len(streams.after) == len(mapping.grid.row_starts)
    assert all(any(after is mark for mark in streams.marks) for after in streams.after)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "float32", "float64"])
def test_pixels_of_every_type_go_over_as_tiles_see_them(tmp_path: Path, dtype: str) -> None:
    pixels = random_pixels(70, 60, seed=2, invalid=0.2).astype(dtype) * (257 if dtype == "uint16" else 1)
    scene = Scene.open(write_scene(tmp_path / "scene.tif", pixels))
    mapping = SceneMapping(scene, WindowGrid(70, 60, 32, 8), "hann", 3, CODES, EVERY)
    wanted = map_tile(mapping, TorchPosition(), Window(0, 0, 70, 60))
    got = swept(mapping, TorchPosition(), Window(0, 0, 70, 60), 3)
    for name in EVERY:
        np.testing.assert_array_equal(got[name], wanted[name], err_msg=name)


def triangle(height: int, width: int) -> AreaOfInterest:
    """Return an area of interest that covers about a fifth of a scene."""
    ring = np.array([[0.1, 0.2], [0.9, 0.4], [0.5, 0.8], [0.1, 0.2]]) * [width, height]
    return AreaOfInterest.of([ring], "a")


@pytest.mark.parametrize("aoi", [None, triangle(128, 128)])
@pytest.mark.parametrize("overlap", [0, 12])
def test_windows_without_a_wanted_pixel_are_not_run_and_batches_go_on_from_row_to_row(
    make_scene: MakeScene, aoi: AreaOfInterest | None, overlap: int
) -> None:
    scene = make_scene(128, 128, seed=1, invalid=0.5)
    grid, area = WindowGrid(128, 128, 16, overlap), Window(0, 0, 128, 128)
    engine = TorchPosition()
    swept(SceneMapping(scene, grid, "hann", 7, CODES, area=aoi), engine, area, 7)
    wanted = scene.valid(area) & (True if aoi is None else aoi.mask(area))
    seen = sum(bool(wanted[window.rows, window.cols].any()) for window in grid.windows_touching(area))
    assert seen < len(grid) * (0.8 if aoi is None else 0.5)
    assert len(engine.batches) == -(-seen // 7)


def test_what_is_no_number_is_told_with_its_rows(make_scene: MakeScene) -> None:
    class Failing(PositionNetwork):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits = super().forward(image)
            logits[-1, :, 3, 4] = torch.nan
            return logits

    engine = TorchPosition()
    engine._network = Failing(overflows=False)
    mapping = SceneMapping(make_scene(64, 32, invalid=0), WindowGrid(64, 32, 16, 0), "hann", 4, CODES)
    course = course_of(mapping, Window(0, 0, 64, 32), 4)
    sweep = begin_sweep(mapping, engine, course)
    tickets = [sweep.push(slab) for slab in slabs(mapping, course, [])]
    rows = [row for ticket in tickets if ticket is not None for row in ticket.result()]
    assert [row.is_finite for row in rows] == [True, False, True, False]


FAULTS = {
    OutOfMemory: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    ModelError: RuntimeError("CUDA error: an illegal memory access was encountered"),
}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("place", ["_network", "torch.isfinite", "torch.where", "torch.softmax"])
def test_a_device_that_fails_anywhere_says_so_and_gives_the_slabs_back(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], place: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FAULTS[kind]

    engine = TorchPosition(streams=LateStreams)
    mapping = SceneMapping(make_scene(64, 32, invalid=0), WindowGrid(64, 32, 16, 4), "hann", 2, CODES)
    course, released = course_of(mapping, Window(0, 0, 64, 32), 2), list[int]()
    sweep = begin_sweep(mapping, engine, course)
    above, below = itertools.islice(slabs(mapping, course, released), 2)
    sweep.push(above)
    if place == "_network":
        monkeypatch.setattr(engine._network, "forward", fail)
    else:
        monkeypatch.setattr(place, fail)
    with pytest.raises(kind):
        sweep.push(below)
    assert released == [0, 1]


@pytest.mark.parametrize("kind", FAULTS)
def test_a_device_that_fails_late_says_so_to_whoever_waits(
    make_scene: MakeScene, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TorchPosition()
    mapping = SceneMapping(make_scene(16, 16, invalid=0), WindowGrid(16, 16, 16, 4), "hann", 1, CODES)
    course = course_of(mapping, Window(0, 0, 16, 16), 1)
    sweep = begin_sweep(mapping, engine, course)
    (slab,) = slabs(mapping, course, [])
    ticket: Any = sweep.push(slab)

    def fail() -> None:
        raise FAULTS[kind]

    monkeypatch.setattr(type(ticket.claims[0].mark), "wait", lambda _mark: fail())
    with pytest.raises(kind):
        ticket.result()


def test_memory_of_the_machine_has_the_shape_asked_for() -> None:
    array = TorchPosition().host_array((3, 5, 7), "uint16")
    assert (array.shape, array.dtype) == ((3, 5, 7), np.uint16)
