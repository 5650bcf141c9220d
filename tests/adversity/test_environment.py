"""Unusual environments: closed streams, no home, no cache, strict warnings, another working folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adversity.conftest import GEOSEG, Predict, Start, finish
from tests.adversity.promises import check_map, files_in
from tests.adversity.scenes import noise, write_scene

posix = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")


def test_strict_warnings_and_leaks(start: Start, scene: Path) -> None:
    env = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}
    outcome = finish(start(scene, "--out", scene.parent / "map.tif", env=env))
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", "")
    check_map(scene.parent / "map.tif", scene)


@posix
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "<&-", "2>/dev/full", "--progress json 2>/dev/full"])
def test_closed_streams(scene: Path, model: Path, closed: str) -> None:
    command = " ".join([*GEOSEG, "predict", "scene.tif", "--out", "map.tif", "--tile", "64", "--model", f"'{model}'"])
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} {closed}"], cwd=scene.parent, capture_output=True, check=False, timeout=100
    )
    assert done.returncode == 0
    check_map(scene.parent / "map.tif", scene)
    assert not [name for name in files_in(scene.parent) if name.endswith(".tmp")]


def test_no_home_and_no_cache(start: Start, scene: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    env = {"HOME": str(tmp_path / "file"), "GEOSEG_CACHE": str(tmp_path / "file"), "XDG_CACHE_HOME": "/proc"}
    outcome = finish(start(scene, "--out", scene.parent / "map.tif", env=env))
    assert (outcome.code, outcome.stderr) == (0, "")


@pytest.mark.usefixtures("in_process")
def test_a_cache_that_is_a_file_costs_only_another_export(
    predict: Predict, scene: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path / "file"))
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(model.read_bytes())
    outcome = predict(scene, "--out", scene.parent / "map.tif", "--model", alone)
    assert (outcome.code, outcome.stderr) == (0, "")
    check_map(scene.parent / "map.tif", scene)


def test_a_module_in_the_working_folder_is_not_imported(scene: Path, model: Path) -> None:
    (scene.parent / "torch.py").write_text("raise SystemExit('mine')")
    script = Path(sys.executable).with_name("geoseg")
    if not script.exists():
        pytest.skip("the command is not installed beside this Python")
    done = subprocess.run(
        [script, "predict", "scene.tif", "--out", "map.tif", "--model", model, "--quiet"],
        cwd=scene.parent,
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_letters_that_an_encoding_lacks_are_spelled(scene: Path) -> None:
    legend = scene.parent / "legend.json"
    legend.write_text('[{"code": 0, "name": "Stra\u00dfe"}, {"code": 1, "name": "\u6c34"}]', encoding="utf-8")
    codes = write_scene(scene.parent / "map.tif", (noise(20, 30, bands=1) > 100).astype("uint8"))
    for form, said in (((), "| Stra\u00dfe |"), (("--json",), '"name": "\\u6c34"')):
        done = subprocess.run(
            [*GEOSEG, "tabulate", codes, "--legend", legend, *form],
            env=os.environ | {"PYTHONIOENCODING": "cp1252"},
            capture_output=True,
            check=False,
            timeout=100,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert said in done.stdout.decode("cp1252")
        assert "\\u6c34" in done.stdout.decode("cp1252")
