"""Runs killed, interrupted, started twice or changed: finished tiles are kept, and the map comes out the same."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import rasterio

import geoseg
from geoseg.errors import GeosegError, LockedError, OutputError, ResumeError, SceneError
from geoseg.model import choose_engine
from geoseg.progress import Progress
from tests.adversity.conftest import Predict, Start, finish
from tests.adversity.promises import check_map, check_refused, files_in
from tests.adversity.scenes import noise, write_scene
from tests.paused import TILES as PAUSED_TILES
from tests.paused import program

TILES = ("--tile", "64", "--workers", "2")
needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither SIGKILL nor SIGINT for a child")


@pytest.fixture
def big(folder: Path) -> Path:
    """Return a scene of 35 tiles."""
    return write_scene(folder / "scene.tif", noise(320, 448))


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """Return the path of the file that lets a paused run continue."""
    return tmp_path / "go"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, model: Path) -> tuple[bytes, float]:
    """Return the map of an uninterrupted run and the seconds it took as a process."""
    folder = tmp_path_factory.mktemp("whole")
    scene = write_scene(folder / "scene.tif", noise(320, 448))
    command = [sys.executable, "-m", "geoseg_cli", "predict", scene, "--out", folder / "map.tif", "--model", model]
    began = time.monotonic()
    subprocess.run([*map(str, command), *TILES, "--quiet"], check=True, timeout=120)
    return (folder / "map.tif").read_bytes(), time.monotonic() - began


def check_same(path: Path, wanted: bytes) -> None:
    """Fail unless two maps have equal pixels and tags, apart from the paths of their scenes."""
    with rasterio.MemoryFile(wanted) as memory, memory.open() as before, rasterio.open(path) as now:
        assert (before.read() == now.read()).all()
        for level in range(len(before.overviews(1))):
            with (
                rasterio.MemoryFile(wanted) as again,
                again.open(overview_level=level) as small,
                rasterio.open(path, overview_level=level) as other,
            ):
                assert (small.read() == other.read()).all()
        tags, others = before.tags(), now.tags()
        for name in ("GEOSEG_SCENE_PATH", "GEOSEG_SCENE_FINGERPRINT"):
            assert tags.pop(name)
            assert others.pop(name)
        assert tags == others
        assert before.colormap(1) == now.colormap(1)


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """Wait until a condition holds; return False if the process ended first."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.001)
    return False


def tiles_done(folder: Path) -> int:
    journal = folder / "map.tif.parts" / "journal.jsonl"
    return journal.read_bytes().count(b'{"tile"') if journal.exists() else 0


@needs_posix
def test_killed_at_random_moments(
    start: Start, folder: Path, big: Path, whole: tuple[bytes, float], stop_all: list[subprocess.Popen[str]]
) -> None:
    target, chance = folder / "map.tif", random.Random(4)
    (folder / "neighbour.txt").write_text("stays")
    wanted, seconds = whole
    before = 0
    for _ in range(4):
        process = start(big, "--out", target, *TILES)
        stop_all.append(process)
        time.sleep(chance.uniform(0.2, 1.0) * seconds)
        process.kill()
        process.communicate()
        if target.exists():  # killed after the map was in place: at most its parts remained to be removed
            shutil.rmtree(folder / "map.tif.parts", ignore_errors=True)
            break
        assert tiles_done(folder) >= before  # nothing finished is lost
        before = tiles_done(folder)
        left = {name for name in files_in(folder) if ".parts/" not in name}
        assert left - {"map.qml", "map.tif.aux.xml"} == {"neighbour.txt", "scene.tif"}  # complete sidecars come first
    else:
        assert finish(start(big, "--out", target, *TILES)).code == 0
    check_same(target, wanted)
    assert set(files_in(folder)) == {"neighbour.txt", "scene.tif", "map.tif", "map.qml", "map.tif.aux.xml"}


@needs_posix
def test_killed_while_the_map_is_put_together(
    start: Start,
    folder: Path,
    big: Path,
    whole: tuple[bytes, float],
    go: Path,
    stop_all: list[subprocess.Popen[str]],
) -> None:
    target = folder / "map.tif"
    target.write_bytes(b"an old map")
    process = start(big, "--out", target, "--overwrite", *TILES, program=program("assembly", go))
    stop_all.append(process)
    assert until(lambda: any((folder / "map.tif.parts").rglob("labels.*.tif")), process)
    process.kill()
    process.communicate()
    assert target.read_bytes() == b"an old map"
    outcome = finish(start(big, "--out", target, "--overwrite", *TILES))
    assert (outcome.code, outcome.stderr) == (0, "")
    check_same(target, whole[0])
    assert set(files_in(folder)) == {"scene.tif", "map.tif", "map.qml", "map.tif.aux.xml"}


@needs_posix
@pytest.mark.parametrize(
    ("number", "moment"), [(signal.SIGINT, "tile"), (signal.SIGINT, "assembly"), (signal.SIGTERM, "tile")]
)
def test_interrupted(
    start: Start,
    folder: Path,
    big: Path,
    go: Path,
    stop_all: list[subprocess.Popen[str]],
    number: signal.Signals,
    moment: str,
) -> None:
    process = start(big, "--out", folder / "map.tif", *TILES, program=program(moment, go))
    stop_all.append(process)
    before = {"scene.tif": big.read_bytes()}
    parts = folder / "map.tif.parts"
    assembles = lambda: any(parts.rglob("labels.*.tif"))  # noqa: E731 - or it would stand far from its one use
    assert until(assembles if moment == "assembly" else lambda: tiles_done(folder) >= PAUSED_TILES, process)
    process.send_signal(number)
    line = check_refused(finish(process), 1, folder, before)
    assert "interrupted" in line
    assert "same command resumes" in line
    assert tiles_done(folder) > 0


@needs_posix
@pytest.mark.parametrize(
    ("share", "number"),
    [(0.15, signal.SIGINT), (0.3, signal.SIGTERM), (0.5, signal.SIGINT), (0.65, signal.SIGTERM), (0.9, signal.SIGINT)],
)
def test_interrupted_early(
    start: Start,
    folder: Path,
    scene: Path,
    stop_all: list[subprocess.Popen[str]],
    share: float,
    number: signal.Signals,
) -> None:
    process = start(scene, "--out", folder / "map.tif")
    stop_all.append(process)
    before = files_in(folder)
    time.sleep(share * 1.2)  # Python starts, libraries are loaded, the run is planned
    process.send_signal(number)
    outcome = finish(process)
    if (folder / "map.tif").exists():  # the signal came after the last output
        check_map(folder / "map.tif", scene)
        return
    assert outcome.code
    assert {name for name in files_in(folder) if ".parts" not in name} - {"map.qml", "map.tif.aux.xml"} == set(before)
    if outcome.code == 1:
        assert "nterrupt" in outcome.stderr
        assert len(outcome.stderr.splitlines()) == 1, outcome.stderr
    else:
        assert outcome.code == -number  # before our first line of output


def test_two_runs_on_one_output(
    start: Start, folder: Path, big: Path, whole: tuple[bytes, float], go: Path, stop_all: list[subprocess.Popen[str]]
) -> None:
    first = start(big, "--out", folder / "map.tif", *TILES, program=program("tile", go))
    stop_all.append(first)
    assert until(lambda: tiles_done(folder) > 0, first)
    with pytest.raises(LockedError, match="another run is writing"):
        geoseg.predict(big, folder / "map.tif", model=_model_of(first), tile=64)
    with pytest.raises(LockedError):
        geoseg.predict(big, folder / "map.tif", model=_model_of(first), tile=64, overwrite=True)
    assert first.poll() is None
    go.touch()  # now it resumes
    outcome = finish(first)
    assert (outcome.code, outcome.stderr) == (0, "")
    check_same(folder / "map.tif", whole[0])


def _model_of(process: subprocess.Popen[str]) -> str:
    arguments = process.args
    assert isinstance(arguments, list)
    return str(arguments[arguments.index("--model") + 1])


class StopHereError(Exception):
    """Raised by a test to simulate a power cut."""


@pytest.fixture
def unfinished(scene: Path, model: Path) -> Path:
    """Return the output path of a run that stopped after its first tiles."""

    def stop(state: Progress) -> None:
        if state.pieces_done >= 2:
            raise StopHereError

    with pytest.raises(StopHereError):
        geoseg.predict(scene, scene.parent / "map.tif", model=model, tile=64, workers=1, progress=stop)
    return scene.parent / "map.tif"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"overlap": 0}, "overlap"),
        ({"window": 128}, "window"),
        ({"tile": 96}, "tile"),
        ({"blend": "mean"}, "blend"),
        ({"bands": (3, 2, 1)}, "bands"),
        ({"scale": (0.0, 200.0)}, "scale"),
        ({"confidence": "c.tif"}, "products"),
    ],
)
def test_other_parameters_do_not_go_on(
    scene: Path, model: Path, unfinished: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], named: str
) -> None:
    monkeypatch.chdir(scene.parent)
    if named == "window":
        monkeypatch.setattr("geoseg.inference.scoring.choose_engine", _any_window)
    before = files_in(scene.parent)
    with pytest.raises(ResumeError, match=named):
        geoseg.predict(scene, unfinished, **({"model": model, "tile": 64} | change))  # type: ignore[arg-type]
    assert files_in(scene.parent) == before
    if named != "window":
        geoseg.predict(scene, unfinished, overwrite=True, **({"model": model, "tile": 64} | change))  # type: ignore[arg-type]
        check_map(unfinished, scene)


def _any_window(*arguments: object, **options: object) -> object:
    return choose_engine(*arguments, **(options | {"export": False}))  # type: ignore[arg-type]


def test_a_changed_scene_does_not_go_on(scene: Path, model: Path, unfinished: Path) -> None:
    os.utime(scene, (1e9, 1e9))
    with pytest.raises(ResumeError, match="scene"):
        geoseg.predict(scene, unfinished, model=model, tile=64)


def test_a_scene_that_changes_under_the_run_gives_no_map(scene: Path, model: Path) -> None:
    def touch(state: Progress) -> None:
        if state.pieces_done == 2:
            os.utime(scene, (1e9, 1e9))

    with pytest.raises(SceneError, match="has changed since the run began"):
        geoseg.predict(scene, scene.parent / "map.tif", model=model, tile=64, progress=touch)
    assert not (scene.parent / "map.tif").exists()


def test_a_lost_part_is_made_again(scene: Path, model: Path, unfinished: Path) -> None:
    lost = min(unfinished.with_name("map.tif.parts").rglob("labels_*.zip"))
    lost.unlink()
    geoseg.predict(scene, unfinished, model=model, tile=64)
    check_map(unfinished, scene)


@pytest.mark.parametrize("content", [b"", b"\0" * 512, b"5\n", b"[]\n", b'{"fingerprint": "x"', b"[" * 5000 + b"\n"])
def test_a_damaged_journal_is_never_trusted(scene: Path, model: Path, unfinished: Path, content: bytes) -> None:
    journal = unfinished.with_name("map.tif.parts") / "journal.jsonl"
    journal.write_bytes(content)
    try:
        geoseg.predict(scene, unfinished, model=model, tile=64)
    except ResumeError:
        geoseg.predict(scene, unfinished, model=model, tile=64, overwrite=True)
    check_map(unfinished, scene)


@pytest.mark.parametrize("cut", [1, 9])
def test_a_last_line_cut_short_is_not_counted(scene: Path, model: Path, unfinished: Path, cut: int) -> None:
    journal = unfinished.with_name("map.tif.parts") / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-cut])
    seen: list[int] = []
    geoseg.predict(scene, unfinished, model=model, tile=64, progress=lambda state: seen.append(state.pieces_done))
    assert seen[0] == whole.count(b'{"tile"') - 1 > 0
    check_map(unfinished, scene)


def test_a_damaged_part_makes_no_map(predict: Predict, scene: Path, unfinished: Path) -> None:
    part = min(unfinished.with_name("map.tif.parts").rglob("labels_*.zip"))
    part.write_bytes(part.read_bytes()[:200])
    outcome = predict(scene, "--out", unfinished, "--tile", 64)
    assert outcome.code == 1
    assert outcome.error
    assert not unfinished.exists()


def test_parts_that_somebody_removes_meanwhile(scene: Path, model: Path) -> None:
    def remove(state: Progress) -> None:
        if state.pieces_done == 2:  # all at once, because threads write there at the same time
            shutil.rmtree((scene.parent / "map.tif.parts").rename(scene.parent / "gone"), ignore_errors=True)

    with pytest.raises(GeosegError) as caught:
        geoseg.predict(scene, scene.parent / "map.tif", model=model, tile=64, workers=1, progress=remove)
    assert isinstance(caught.value, OutputError)
    assert not (scene.parent / "map.tif").exists()


def test_the_old_map_stands_until_the_new_one_is_whole(scene: Path, model: Path) -> None:
    target = scene.parent / "map.tif"
    target.write_bytes(b"an old map")

    def look(state: Progress) -> None:
        assert target.read_bytes() == b"an old map"
        if state.pieces_done == state.pieces_total:
            raise StopHereError

    with pytest.raises(StopHereError):
        geoseg.predict(scene, target, model=model, tile=64, overwrite=True, progress=look)
    assert target.read_bytes() == b"an old map"
