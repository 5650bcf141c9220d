from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from geoseg import machine

Memory = namedtuple("Memory", ["available", "total"])  # noqa: PYI024 - as psutil's
GB = 1 << 30


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of this process's control group on a fake machine with 16 cores and 64 GB."""
    (tmp_path / "cgroup").write_text("0::/slice/job\n")
    folder = tmp_path / "groups" / "slice" / "job"
    folder.mkdir(parents=True)
    monkeypatch.setattr(machine, "_OWN_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(64 * GB, 96 * GB))
    return folder


@pytest.mark.parametrize(
    ("own", "around", "wanted"),
    [
        ("max 100000", None, 16),
        ("400000 100000", None, 4),
        ("250000 100000", "max 100000", 2),
        ("50000 100000", None, 1),
        ("max 100000", "300000 100000", 3),
        (None, None, 16),
        ("broken", None, 16),
    ],
)
def test_cores_are_those_of_the_affinity_and_of_the_quota(
    container: Path, own: str | None, around: str | None, wanted: int
) -> None:
    for folder, text in ((container, own), (container.parent, around)):
        if text is not None:
            (folder / "cpu.max").write_text(f"{text}\n")
    assert machine.available_cores() == wanted


def test_affinity_counts(container: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (container / "cpu.max").write_text("800000 100000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5}, raising=False)
    assert machine.available_cores() == 2


@pytest.mark.parametrize("place", ["job", "slice"])
def test_memory_is_what_the_limit_leaves(container: Path, place: str) -> None:
    folder = container if place == "job" else container.parent
    (folder / "memory.max").write_text(f"{8 * GB}\n")
    (folder / "memory.current").write_text(f"{5 * GB}\n")
    assert machine.available_memory_bytes() == 3 * GB
    (folder / "memory.stat").write_text(f"anon 7\ninactive_file {GB}\nactive_file 9\n")
    assert machine.available_memory_bytes() == 4 * GB
    (folder / "memory.current").write_text(f"{20 * GB}\n")
    assert machine.available_memory_bytes() == 0


def test_without_a_limit_memory_is_what_is_free(container: Path) -> None:
    (container / "memory.max").write_text("max\n")
    (container / "memory.current").write_text(f"{5 * GB}\n")
    assert machine.available_memory_bytes() == 64 * GB


def test_no_control_groups_are_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_OWN_GROUP", tmp_path / "none")
    assert machine.available_cores() >= 1
    assert machine.available_memory_bytes() > 0


@pytest.mark.parametrize(("loaded", "code"), [("math", 0), ("math", 3), ("torch", 3)])
def test_a_program_ends_with_its_code_and_all_it_said(loaded: str, code: int) -> None:
    program = (
        f"import atexit, {loaded}, sys; from geoseg.machine import end_process; atexit.register(print, 'last', end='');"
        f"print('first', end=' '); sys.stderr.write('aside'); end_process({code})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "first last", "aside")


@pytest.mark.parametrize("loaded", ["math", "torch"])
def test_an_interruption_that_met_an_exec_ends_a_program_with_its_code(loaded: str) -> None:
    lines = [
        f"import {loaded}",
        "from geoseg.machine import end_process",
        "try:",
        "    exec('raise KeyboardInterrupt')",  # Python remembers it, and would end by a signal
        "except KeyboardInterrupt:",
        "    end_process(1)",
    ]
    assert subprocess.run([sys.executable, "-c", "\n".join(lines)], check=False).returncode == 1
