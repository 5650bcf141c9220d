from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoseg import atomic as durable
from geoseg.errors import LockedError, OutputError, ResumeError
from geoseg.inference.execution.journal import clear_parts, open_journal, parts_folder, unfinished

MEANING = {"scene": "a", "window": 512}


def test_finished_tiles_are_there_after_an_interruption(tmp_path: Path) -> None:
    output = tmp_path / "map.tif"

    def interrupted() -> None:
        with open_journal(output, "f", MEANING, start_over=False) as journal:
            journal.add(3)
            journal.add(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with open_journal(output, "f", MEANING, start_over=False) as journal:
        assert journal.finished == {1, 3}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(cut=st.integers(1, 14))
def test_a_last_line_cut_short_by_a_kill_counts_for_nothing(tmp_path: Path, cut: int) -> None:
    output = tmp_path / f"map-{cut}.tif"
    with open_journal(output, "f", MEANING, start_over=True) as journal:
        journal.add(7)
        journal.add(8)
        file = journal.folder / "journal.jsonl"
        file.write_bytes(file.read_bytes()[:-cut])
    with open_journal(output, "f", MEANING, start_over=False) as journal:
        assert journal.finished == ({7} if cut <= len(b'{"tile": 8}\n') else set())
        journal.add(9)
    with open_journal(output, "f", MEANING, start_over=False) as journal:
        assert 9 in journal.finished
        clear_parts(journal)


def test_another_fingerprint_refuses_names_what_changed_and_starts_over_when_told(tmp_path: Path) -> None:
    output = tmp_path / "map.tif"
    with open_journal(output, "f", MEANING, start_over=False) as journal:
        journal.add(0)
    with (
        pytest.raises(
            ResumeError,
            match=r"different settings: window \(512 before, 256 now\); repeat that command .* or add `overwrite",
        ),
        open_journal(output, "g", MEANING | {"window": 256}, start_over=False),
    ):
        pass
    assert (parts_folder(output) / "journal.jsonl").exists()
    with open_journal(output, "g", MEANING | {"window": 256}, start_over=True) as journal:
        assert journal.finished == set()


def test_a_scene_that_changed_since_is_told_so(tmp_path: Path) -> None:
    """The user repeated the same command; it is the scene's file that has changed."""
    output = tmp_path / "map.tif"
    with open_journal(output, "f", MEANING | {"scene": "a" * 64}, start_over=False) as journal:
        journal.add(0)
    said = r"of another scene, or of this one before its files changed; add `overwrite=True`"
    with (
        pytest.raises(ResumeError, match=said),
        open_journal(output, "g", MEANING | {"scene": "b" * 64}, start_over=False),
    ):
        pass
    with (
        pytest.raises(ResumeError, match=r"settings: scene, window|settings: window .*, scene"),
        open_journal(output, "g", MEANING | {"scene": "b" * 64, "window": 256}, start_over=False),
    ):
        pass


def test_a_map_that_only_lacks_its_polygons_is_called_that(tmp_path: Path) -> None:
    output, meaning = tmp_path / "map.tif", MEANING | {"products": ["labels"]}
    with open_journal(output, "f", meaning, start_over=False) as journal:
        journal.add(0)
        journal.place("labels", {})
    with (
        pytest.raises(ResumeError, match="holds a map whose polygons are missing, with different settings: window"),
        open_journal(output, "g", meaning | {"window": 256}, start_over=False),
    ):
        pass


def test_overwrite_still_resumes_an_equal_run(tmp_path: Path) -> None:
    output = tmp_path / "map.tif"
    with open_journal(output, "f", MEANING, start_over=True) as journal:
        journal.add(5)
    with open_journal(output, "f", MEANING, start_over=True) as journal:
        assert journal.finished == {5}


def test_a_journal_that_is_none_refuses(tmp_path: Path) -> None:
    output = tmp_path / "map.tif"
    folder = parts_folder(output)
    folder.mkdir()
    (folder / "journal.jsonl").write_text("this is not ours\n")
    with pytest.raises(ResumeError), open_journal(output, "f", MEANING, start_over=False):
        pass
    assert (folder / "journal.jsonl").read_text() == "this is not ours\n"


def test_two_runs_cannot_hold_one_output(tmp_path: Path) -> None:
    output = tmp_path / "map.tif"
    with open_journal(output, "f", MEANING, start_over=False) as journal:
        journal.add(0)
        with (
            pytest.raises(LockedError, match="another run is writing"),
            open_journal(output, "f", MEANING, start_over=True),
        ):
            pass
        assert journal.finished == {0}
    with open_journal(output, "f", MEANING, start_over=False) as journal:
        assert journal.finished == {0}


def test_nothing_is_left_where_nothing_was_finished(tmp_path: Path) -> None:
    output = tmp_path / "map.tif"
    with open_journal(output, "f", MEANING, start_over=False) as journal:
        assert journal.folder.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_clearing_removes_parts_journal_and_folder(tmp_path: Path) -> None:
    output = tmp_path / "map.tif"
    with open_journal(output, "f", MEANING, start_over=False) as journal:
        (journal.folder / "labels").mkdir()
        (journal.folder / "labels" / "0.tif").write_bytes(b"part")
        journal.add(0)
        clear_parts(journal)
    assert list(tmp_path.iterdir()) == []


def test_what_was_about_to_be_placed_is_remembered(tmp_path: Path) -> None:
    output = tmp_path / "map.tif"
    with open_journal(output, "f", MEANING, start_over=False) as journal:
        journal.add(0)
        journal.place("confidence", {"COMPRESS": "ZSTD"})
        journal.place("confidence", {"COMPRESS": "ZSTD"})
    with open_journal(output, "f", MEANING, start_over=False) as journal:
        assert journal.placing == {"confidence": {"COMPRESS": "ZSTD"}}
        assert journal.has_placed("confidence", {"COMPRESS": "ZSTD"})
        assert not journal.has_placed("confidence", {"COMPRESS": "LZW"})
        assert journal.finished == {0}
        assert (journal.folder / "journal.jsonl").read_text().count("placing") == 1


def test_runs_with_other_fingerprints_have_parts_in_other_folders(tmp_path: Path) -> None:
    output = tmp_path / "map.tif"
    with open_journal(output, "f", MEANING, start_over=False) as journal:
        before = journal.parts
        assert before.is_dir()
    with open_journal(output, "g", MEANING, start_over=False) as journal:
        assert journal.parts != before
        assert not before.exists()


def test_what_an_unfinished_run_stands_for_can_be_read(tmp_path: Path) -> None:
    output = tmp_path / "map.tif"
    assert unfinished(output) == {}
    with open_journal(output, "f", MEANING, start_over=False):
        assert unfinished(output) == MEANING


def test_every_line_is_json_that_says_what_it_is(tmp_path: Path) -> None:
    with open_journal(tmp_path / "map.tif", "f", MEANING, start_over=False) as journal:
        journal.add(2)
        lines = [json.loads(line) for line in (journal.folder / "journal.jsonl").read_text().splitlines()]
    assert lines == [{"fingerprint": "f", "meaning": MEANING}, {"tile": 2}]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "map.tif.parts").write_text("a file stands where the folder would")
    with (
        pytest.raises(OutputError, match="cannot write next to"),
        open_journal(tmp_path / "map.tif", "f", {}, start_over=False),
    ):
        pass


def test_a_full_disk_shows_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_journal(tmp_path / "map.tif", "a", {}, start_over=False) as journal:
        monkeypatch.setattr(durable, "_sync", full)
        with pytest.raises(
            OutputError, match="disk is full; free some space and run the same command again; the finished tiles"
        ):
            journal.add(0)


def test_a_line_is_on_the_disk_when_it_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last sync of the journal covers all its bytes, and the folders above it were synced before."""
    monkeypatch.setattr(durable, "_FULL_SYNC", None)
    synced: list[tuple[int, int]] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        fsync(descriptor)
        status = os.fstat(descriptor)
        synced.append((status.st_ino, status.st_size))

    monkeypatch.setattr(os, "fsync", recorded)
    with open_journal(tmp_path / "map.tif", "f", MEANING, start_over=False) as journal:
        if os.name != "nt":
            assert {tmp_path.stat().st_ino, journal.folder.stat().st_ino} <= {file for file, _ in synced}
        for add in (lambda: journal.add(3), lambda: journal.place("labels", {}), lambda: journal.add(4)):
            synced.clear()
            add()
            status = (journal.folder / "journal.jsonl").stat()
            assert (status.st_ino, status.st_size) in synced
