from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from geoseg import atomic as durable
from geoseg.atomic import append_durably, free_space_bytes, probe_writable, replace_durably, same_file, write_durably
from geoseg.errors import OutputError


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of one megabyte; skip if that is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root on Linux")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False)  # noqa: S607
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk is not permitted here")
    yield folder
    subprocess.run(["umount", folder], check=True)  # noqa: S607


def test_a_full_disk_is_told_and_leaves_the_old_file(small_disk: Path) -> None:
    path = small_disk / "file"
    write_durably(path, b"old")
    with pytest.raises(OutputError, match="disk is full"):
        write_durably(path, bytes(2_000_000))
    assert path.read_bytes() == b"old"
    assert list(small_disk.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no sizes of files")
def test_a_file_larger_than_the_disk_or_the_shell_allows_is_told(tmp_path: Path) -> None:
    import resource  # noqa: PLC0415 - Windows has none

    path = tmp_path / "file"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"the file is too large for its disk.* choose another disk"):
            write_durably(path, bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_line_that_does_not_fit_on_the_disk_leaves_no_first_half(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="Windows limits no sizes of files")
    path = tmp_path / "journal"
    append_durably(path, b"first\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            append_durably(path, b"second\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    append_durably(path, b"third\n")
    assert path.read_bytes() == b"first\nthird\n"


def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")

    def crash(*_: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(durable.os, "fsync", crash)
    with pytest.raises(OutputError, match="input/output error"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot open a folder")
def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace
    inodes = {tmp_path.stat().st_ino: "folder"}

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        done.append(("synced", inodes.get(os.fstat(descriptor).st_ino, "file")))

    def renamed(source: Path, target: Path) -> Path:
        done.append(("renamed", Path(target).name))
        return replace(source, target)

    monkeypatch.setattr(durable, "_FULL_SYNC", None)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    path = tmp_path / "map.tif"
    write_durably(path, b"new")
    assert done == [("synced", "file"), ("renamed", "map.tif"), ("synced", "folder")]
    done.clear()
    (tmp_path / "other").write_bytes(b"other")
    replace_durably(tmp_path / "other", path)
    assert done == [("renamed", "map.tif"), ("synced", "folder")]


def test_a_killed_process_leaves_one_whole_file(tmp_path: Path) -> None:
    program = """
import pathlib, sys
from geoseg.atomic import write_durably
path = pathlib.Path(sys.argv[1])
write_durably(path, bytes([1]) * 300_000)
print("ready", flush=True)
for turn in range(1_000_000):
    write_durably(path, bytes([turn % 2]) * 300_000)
"""
    path = tmp_path / "file"
    for moment in (0.02, 0.05, 0.11):
        with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline().strip() == b"ready"
            time.sleep(moment)
            writer.kill()
        assert path.read_bytes() in (bytes(300_000), bytes([1]) * 300_000)


def test_a_target_that_can_be_written_is_returned_untouched(tmp_path: Path) -> None:
    old = tmp_path / "old.tif"
    old.write_bytes(b"old")
    assert probe_writable(old) == old
    assert probe_writable(tmp_path / "not" / "yet" / "there.tif", mkdir=True).name == "there.tif"
    with pytest.raises(OutputError, match=r"the folder .*yet does not exist; check the path"):
        probe_writable(tmp_path / "not" / "yet" / "there.tif")
    assert old.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize("target", ["https://host/a.tif", "s3://bucket/a.tif", "/vsis3/bucket/a.tif", "/vsimem/a.tif"])
def test_a_remote_target_is_refused(target: str) -> None:
    with pytest.raises(OutputError, match="local"):
        probe_writable(target)


def test_a_target_that_cannot_be_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a folder"):
        probe_writable(tmp_path)
    with pytest.raises(OutputError, match="not a folder"):
        probe_writable(tmp_path / "file" / "a.tif")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_folder_that_takes_no_files_is_refused() -> None:
    with pytest.raises(OutputError, match=r"cannot write .*a\.tif"):
        probe_writable("/proc/a.tif")


def test_free_space_is_that_of_the_disk_the_folder_will_be_on(small_disk: Path) -> None:
    assert 0 < free_space_bytes(small_disk / "not" / "yet") <= 2**20


def test_one_file_under_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, link, other = tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "c.tif"
    file.touch()
    other.touch()
    link.hardlink_to(file)
    assert same_file(file, link)
    assert same_file(file, tmp_path / "x" / ".." / "a.tif")
    assert not same_file(file, other)
    absent = tmp_path / "d.tif"
    assert same_file(absent, tmp_path / "." / "d.tif")
    assert not same_file(absent, file)
    monkeypatch.setattr(durable, "_IGNORES_CASE", True)
    assert same_file(absent, tmp_path / "D.tif")
    monkeypatch.setattr(durable, "_IGNORES_CASE", False)
    assert not same_file(absent, tmp_path / "D.tif")


def test_the_disks_own_cache_is_flushed_where_fsync_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    asked = []
    monkeypatch.setattr(durable, "_FULL_SYNC", 51)
    monkeypatch.setattr(fcntl, "fcntl", lambda _, command: asked.append(command))
    write_durably(tmp_path / "file", b"content")
    assert asked == [51]
