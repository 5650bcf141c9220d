"""A torch that is installed but fails to import: the finding, its cause and its remedy."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from geoseg.inspection.doctor import Finding, _broken_import

room = importlib.import_module("geoseg.inspection.doctor")
Fake = Callable[[str, str], None]
BOTH = ("torch", "torchvision")
NO_CUDA = "libcublas.so.12: cannot open shared object file: No such file or directory"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    """Return a function that puts a module with the given code first on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, code: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code, encoding="utf-8")

    return write


def findings() -> list[Finding]:
    return list(room._torch())


def test_the_torch_of_this_machine_is_fit() -> None:
    assert findings() == [Finding(name, "fit", importlib.metadata.version(name)) for name in BOTH]


def test_a_torch_without_its_libraries_is_broken(fake: Fake) -> None:
    fake("torch", f"raise OSError('{NO_CUDA}')")
    (finding,) = findings()  # no finding about torchvision, which needs torch
    assert (finding.name, finding.state) == ("torch", "broken")
    assert finding.text == f"{importlib.metadata.version('torch')}, cannot be loaded: OSError: {NO_CUDA}"
    assert "torch and torchvision of one release together" in finding.remedy
    assert "constraints.txt" in finding.remedy
    assert "pytorch.org/get-started" in finding.remedy


def test_a_torchvision_of_another_torch_is_broken(fake: Fake) -> None:
    fake("torch", "")
    fake("torchvision", "raise RuntimeError('operator torchvision::nms\\n does not exist')")
    torch, torchvision = findings()
    assert (torch.name, torch.state) == ("torch", "fit")
    assert (torchvision.name, torchvision.state) == ("torchvision", "broken")
    assert torchvision.text.endswith(", cannot be loaded: RuntimeError: operator torchvision::nms does not exist")
    assert torchvision.remedy


def test_the_doctor_says_that_geoseg_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def broken(modules: tuple[str, ...]) -> tuple[str, str]:
        asked.append(modules)
        return "torchvision", "RuntimeError: no"

    monkeypatch.setattr(room, "_broken_import", broken)
    diagnosis = room.doctor()
    assert not diagnosis.usable
    assert asked == [BOTH]
    assert "RuntimeError: no" in diagnosis.describe()


def test_a_torch_that_is_not_installed_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "version_of", lambda _package: "not installed")
    monkeypatch.setattr(room, "_broken_import", lambda _modules: pytest.fail("tried"))
    (finding,) = findings()
    assert (finding.state, finding.remedy) == ("broken", "pip install torch")
    assert finding.text.startswith("not installed: models cannot be trained")


def test_what_can_be_loaded_is_not_broken(fake: Fake) -> None:
    fake("torch", "print('geoseg is not what this says')")
    fake("torchvision", "import sys\nprint('a warning', file=sys.stderr)")
    assert _broken_import(BOTH) is None


def test_a_library_that_takes_its_process_along_is_named(fake: Fake) -> None:
    fake("torch", "")
    fake("torchvision", "import os\nos._exit(41)")
    assert _broken_import(BOTH) == ("torchvision", "the import ended with exit code 41")


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_a_library_that_crashes_is_named_with_its_signal(fake: Fake) -> None:
    fake("torch", "import os, signal\nos.kill(os.getpid(), signal.SIGILL)")
    assert _broken_import(BOTH) == ("torch", "the import was ended by SIGILL")


def test_a_library_that_never_comes_back_is_given_up(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("torch", "import time\nprint('here', flush=True)\ntime.sleep(600)")
    monkeypatch.setattr(room, "_PATIENCE_S", 1.0)
    assert _broken_import(BOTH) == ("torch", "not finished after 1 s")


def test_a_long_cause_is_cut_and_stays_one_line(fake: Fake) -> None:
    fake("torch", "raise ImportError('Zürich C:\\\\torch\\\\lib ' + 'no\\n\\n' * 1000)")
    broken = _broken_import(BOTH)
    assert broken is not None
    assert broken[1].startswith("ImportError: Zürich C:\\torch\\lib no no ")
    assert len(broken[1]) <= room._LONGEST_CAUSE
    assert "\n" not in broken[1]


def test_inside_another_program_nothing_is_tried(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("torch", "raise OSError")
    monkeypatch.setattr(sys, "executable", "/usr/bin/qgis-bin")
    assert _broken_import(BOTH) is None
