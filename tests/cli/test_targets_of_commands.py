"""Rules shared by all commands that write: folders are created only for output, and existing files stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run
from tests.evaluation.rasters import UTM, write

VERBS = {
    "predict": ("--out", "m.tif"),
    "vectorize": ("--out", "v.gpkg"),
    "evaluate": ("--report", "report"),
    "sample": ("--out", "p.gpkg"),
    "tabulate": ("--out", "t.csv"),
    "preview": ("--out", "p.html"),
    "train": ("--out", "m.safetensors"),
    "import": ("--out", "m.safetensors"),
    "export": ("--out", "m.onnx"),
}
"""The option for the output, and a file name of its format."""


@pytest.mark.parametrize("verb", VERBS)
def test_no_folder_is_made_for_an_input_that_is_not_there(run: Run, tmp_path: Path, verb: str) -> None:
    option, name = VERBS[verb]
    inputs = [tmp_path / "gone.tif"] * (2 if verb == "evaluate" else 1)
    result = run(verb, *inputs, option, tmp_path / "new" / "folder" / name, "--mkdir")
    assert result.exit_code in {1, 2}
    assert "gone.tif" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_folder_is_made_for_a_picture_of_nothing(run: Run, tmp_path: Path) -> None:
    result = run("preview", tmp_path / "gone.tif", "--out", tmp_path / "new" / "p.png", "--mkdir")
    assert (result.exit_code, "gone.tif" in result.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "evaluate"])
def test_a_file_that_exists_stays_and_the_line_is_one_for_all(run: Run, tmp_path: Path, verb: str) -> None:
    option, name = VERBS[verb]
    landcover = write(tmp_path / "map.tif", np.ones((3, 64, 64) if verb == "predict" else (64, 64), np.uint8), **UTM)
    there = tmp_path / name
    there.write_bytes(b"mine")
    result = run(verb, "demo" if verb == "export" else landcover, option, there)
    if name == "v.gpkg":
        assert "is not a GeoPackage" in result.stderr
    else:
        assert f"{name} exists; add --overwrite to replace it" in result.stderr
        assert f"or choose another {option}" in result.stderr
    assert result.exit_code == 1
    assert there.read_bytes() == b"mine"


def test_folders_are_made_for_what_is_written(run: Run, tmp_path: Path) -> None:
    landcover = write(tmp_path / "map.tif", np.ones((64, 64), np.uint8), **UTM)
    for verb, inputs in (("vectorize", 1), ("evaluate", 2), ("sample", 1), ("tabulate", 1), ("preview", 1)):
        option, name = VERBS[verb]
        target = tmp_path / verb / "folder" / name
        refused = run(verb, *[landcover] * inputs, option, target)
        assert (refused.exit_code, "does not exist; check the path" in refused.stderr) == (1, True), refused.stderr
        assert not target.parent.exists()
        assert run(verb, *[landcover] * inputs, option, target, "--mkdir").exit_code == 0
        assert target.exists()
