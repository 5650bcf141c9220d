"""Runs whose device, disk or process fails: one line, finished tiles are kept, and the same run resumes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BufferedIOBase
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

import geoseg
from geoseg import atomic
from geoseg.errors import GeosegError, GeosegWarning, ModelError, OutputError, SceneError
from geoseg.inference import Scoring
from geoseg.legend import LandCover, Legend
from geoseg.model import Course, EngineChoice, FinishedRows, ModelBundle, OutOfMemory, Slab, Ticket
from geoseg.progress import Progress
from geoseg.raster import Scene
from tests.inference.conftest import random_pixels, write_scene
from tests.inference.sweeping_device import SlowSweep, SweepingDevice, unused
from tests.inference.whole_scene import whole_map

ROOT = Path(__file__).parents[2]
SHAPE = (700, 150)
WINDOW_PX, OVERLAP_PX, TILE_PX = 32, 8, 64


class Device(SweepingDevice):
    """A fake GPU with hooks for every row pushed and every row finished."""

    def __init__(
        self,
        push: Callable[[int], object] = lambda _: None,
        finish: Callable[[FinishedRows], FinishedRows] = lambda rows: rows,
    ) -> None:
        super().__init__()
        self.push, self.finish = push, finish

    def begin(self, course: Course) -> SlowSweep:
        return _Sweep(self, course)


class _Sweep(SlowSweep):
    device: Device

    def push(self, slab: Slab) -> Ticket | None:
        self.device.push(self.course.row_starts[self.pushed])
        return super().push(slab)

    def score(self, *slab: NDArray[Any]) -> FinishedRows:
        return self.device.finish(super().score(*slab))


@contextmanager
def on(device: SweepingDevice) -> Iterator[None]:
    """Make geoseg find a fake device instead of the CPU."""

    def opened(_scoring: Scoring) -> SweepingDevice:
        return device

    with patch.object(EngineChoice, "on_cpu", property(lambda _: False)), patch.object(Scoring, "open", opened):
        yield


def planned(scene: Path) -> geoseg.Plan:
    legend = Legend(LandCover(code, f"class {code}", (code, code, code)) for code in range(1, 5))
    model = ModelBundle.from_callable(unused, legend=legend, version="1", window_px=WINDOW_PX, overlap_px=OVERLAP_PX)
    return geoseg.plan(scene, model=model, tile=TILE_PX, batch_size=4)


def run(scene: Path, out: Path, device: SweepingDevice, progress: Callable[[Progress], None] = lambda _: None) -> None:
    with on(device):
        planned(scene).run(out, progress=progress)


def run_slowly(scene: str, out: str) -> None:
    """Run slowly, in a process that the test kills."""
    run(Path(scene), Path(out), Device(push=lambda _: time.sleep(0.05)))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", random_pixels(*SHAPE, seed=3, invalid=0.2))


def check_goes_on(scene: Path, out: Path) -> None:
    """Assert that no map is in place yet, and that a working device completes it by mapping only the missing tiles."""
    assert not out.exists()
    counts: list[int] = []
    device = SweepingDevice()
    run(scene, out, device, lambda state: counts.append(state.pieces_done) if state.stage == "map" else None)
    made = planned(scene)
    assert 0 < counts[0] < counts[-1] == made.tile_count
    assert device.windows_run < len(made.grid)
    opened, codes = Scene.open(scene), made.mapping.output_codes
    with rasterio.open(out) as dataset:
        np.testing.assert_array_equal(dataset.read(1), whole_map(opened, made.grid, made.mapping.blend, codes))
    assert {path.name for path in out.parent.iterdir()} == {"map.tif", "map.tif.aux.xml", "map.qml"}


def failing_below(row: int, fault: Exception) -> Callable[[int], None]:
    """Return a hook that fails from the given row of the scene on."""

    def push(at: int) -> None:
        if at >= row:
            time.sleep(0.3)  # the writers have finished the tiles above
            raise fault

    return push


def not_finite_below(row: int) -> Callable[[FinishedRows], FinishedRows]:
    def finish(rows: FinishedRows) -> FinishedRows:
        return replace(rows, is_finite=rows.place.row < row)

    return finish


@pytest.mark.parametrize(
    ("device", "kind", "said"),
    [
        (
            Device(failing_below(400, ModelError("torch failed on cuda:0: an illegal memory access"))),
            ModelError,
            "^torch failed on cuda:0: an illegal memory access$",
        ),
        (
            Device(failing_below(400, OutOfMemory())),
            GeosegError,
            "^one window of 32 x 32 pixels does not fit in the memory of cpu; use a smaller `window`",
        ),
        (Device(finish=not_finite_below(400)), SceneError, "^the network returned NaN for rows 4.. to 4.. of "),
    ],
    ids=["fails", "memory is taken meanwhile", "is no number"],
)
@pytest.mark.filterwarnings("ignore:cpu ran out of memory with 4 windows per batch; continuing with 2")
def test_a_device_that_fails_in_the_middle(
    scene: Path, tmp_path: Path, device: Device, kind: type[GeosegError], said: str
) -> None:
    with pytest.raises(kind, match=said) as raised:
        run(scene, tmp_path / "map.tif", device)
    assert "\n" not in str(raised.value)
    check_goes_on(scene, tmp_path / "map.tif")


def test_memory_that_somebody_takes_for_a_while_costs_nothing_but_time(scene: Path, tmp_path: Path) -> None:
    faults = iter([OutOfMemory()])

    def push(at: int) -> None:
        if at > 300 and (fault := next(faults, None)) is not None:
            raise fault

    out, made = tmp_path / "map.tif", planned(scene)
    with pytest.warns(GeosegWarning, match="ran out of memory with 4 windows per batch; continuing with 2"):
        run(scene, out, Device(push))
    wanted = whole_map(Scene.open(scene), made.grid, made.mapping.blend, made.mapping.output_codes)
    with rasterio.open(out) as dataset:
        np.testing.assert_array_equal(dataset.read(1), wanted)


def test_a_disk_that_fills_while_blocks_are_placed(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, parts = atomic._sync, iter(range(100))

    def full(file: BufferedIOBase) -> None:
        if threading.current_thread().name.startswith("geoseg-write") and next(parts) > 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(atomic, "_sync", full)
    with pytest.raises(OutputError, match=r"disk is full|No space left"):
        run(scene, tmp_path / "map.tif", SweepingDevice())
    monkeypatch.undo()
    check_goes_on(scene, tmp_path / "map.tif")


def test_killed_while_a_device_is_fed(scene: Path, tmp_path: Path) -> None:
    program = "import sys; from tests.inference.test_device_faults import run_slowly; run_slowly(*sys.argv[1:])"
    out, journal = tmp_path / "map.tif", tmp_path / "map.tif.parts" / "journal.jsonl"
    process = subprocess.Popen([sys.executable, "-c", program, str(scene), str(out)], cwd=ROOT)
    try:
        while not (journal.exists() and journal.read_bytes().count(b'{"tile"') > 2):
            assert process.poll() is None
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    check_goes_on(scene, out)
