"""The disk fills up at any point: one line, nothing half-written, and the same command resumes once there is room."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import geoseg
from geoseg.errors import GeosegError, OutputError
from geoseg.progress import Progress
from tests.adversity.promises import check_map, files_in
from tests.adversity.scenes import noise, write_scene

DISK_BYTES = 4 << 20
PAGE = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount") if sys.platform == "linux" else None
    command = [mount or "", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: this needs Linux and the rights of root")
    yield place
    subprocess.run([shutil.which("umount") or "umount", str(place)], check=True)


def fill(disk: Path, leave_bytes: int) -> None:
    """Fill a disk, leaving `leave_bytes` free."""
    room = shutil.disk_usage(disk).free - leave_bytes
    with suppress(OSError):  # a writer thread was faster
        (disk / "filler").write_bytes(bytes(max(0, room // PAGE * PAGE)))


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """Return a scene of 30 tiles on a different disk from the map."""
    return write_scene(tmp_path / "scene.tif", noise(300, 380))


@pytest.mark.parametrize("tiles", [0, 1, 9])
def test_it_fills_while_tiles_are_written(disk: Path, noisy: Path, model: Path, tiles: int) -> None:
    def full_after(state: Progress) -> None:
        if state.pieces_done == tiles:
            fill(disk, 0)

    target = disk / "map.tif"
    target.write_bytes(b"an old map")
    with pytest.raises(OutputError, match=r"disk is full|No space left"):
        geoseg.predict(noisy, target, model=model, tile=64, workers=1, overwrite=True, progress=full_after)
    left = files_in(disk)
    del left["filler"]
    assert left.pop("map.tif") == b"an old map"
    assert bool(left) == bool(tiles)  # parts are kept if there are any
    (disk / "filler").unlink()
    counts: list[int] = []
    geoseg.predict(
        noisy, target, model=model, tile=64, overwrite=True, progress=lambda state: counts.append(state.pieces_done)
    )
    assert counts[0] == tiles == 0 or 0 < tiles <= counts[0] < 30
    check_map(target, noisy)
    assert set(files_in(disk)) == {"map.tif", "map.tif.aux.xml", "map.qml"}


def test_it_fills_while_the_map_is_put_together(disk: Path, noisy: Path, model: Path) -> None:
    """Each attempt leaves a few more pages free, so each file of the assembly is in turn the one that does not fit."""
    target = disk / "map.tif"
    target.write_bytes(b"an old map")
    failures, said = 0, list[GeosegError]()
    for pages in (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 32, 64):

        def full_at_the_end(state: Progress, pages: int = pages) -> None:
            if state.pieces_done == state.pieces_total:
                fill(disk, pages * PAGE)

        (disk / "filler").unlink(missing_ok=True)
        try:
            geoseg.predict(noisy, target, model=model, tile=64, overwrite=True, progress=full_at_the_end)
        except GeosegError as error:
            failures += 1
            said.append(error)
            assert target.read_bytes() == b"an old map"
            assert not [name for name in files_in(disk) if name.endswith((".tmp", ".vrt", ".cog.tif"))]
        else:
            break
    assert failures >= 3
    assert all(isinstance(error, OutputError) and "space" in str(error) for error in said)
    check_map(target, noisy)


def test_a_map_that_cannot_fit_is_refused_before_it_is_begun(disk: Path, noisy: Path, model: Path) -> None:
    fill(disk, 100_000)
    with pytest.raises(OutputError, match="free some space or choose another disk"):
        geoseg.predict(noisy, disk / "map.tif", model=model)
    assert set(files_in(disk)) == {"filler"}


def test_products_on_other_disks(disk: Path, noisy: Path, model: Path) -> None:
    geoseg.predict(noisy, noisy.parent / "map.tif", model=model, confidence=disk / "c.tif")
    check_map(disk / "c.tif", noisy)
    assert set(files_in(disk)) == {"c.tif", "c.qml"}


def test_another_disk_that_is_full(disk: Path, noisy: Path, model: Path) -> None:
    fill(disk, 2 * PAGE)
    with pytest.raises(OutputError, match="full"):
        geoseg.predict(noisy, noisy.parent / "map.tif", model=model, confidence=disk / "c.tif")
    assert not (noisy.parent / "map.tif").exists()
    assert not [name for name in files_in(disk) if name.endswith((".tmp", ".tif"))]
