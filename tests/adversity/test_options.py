"""Invalid options: exit code 2, one line that names the option and the remedy, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adversity.conftest import Predict
from tests.adversity.promises import check_map, check_refused, files_in


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--window 100000", "multiple of 8"),
        ("--window 63", "try 56 or 64"),
        ("--window 0", "window must be at least 1"),
        ("--window -64", "window must be at least 1"),
        ("--window 1e3", "not a valid integer"),
        ("--overlap 64", "less than the window 64"),
        ("--overlap 100", "less than the window 64"),
        ("--overlap -1", "at least 0"),
        ("--tile 0", "tile must be at least 1"),
        ("--tile -5", "tile must be at least 1"),
        ("--batch-size 0", "batch-size must be at least 1"),
        ("--batch-size 100000000", "memory"),
        ("--workers 0", "workers must be at least 1"),
        ("--scale 5,1", "LOW < HIGH"),
        ("--scale 7,7", "LOW < HIGH"),
        ("--scale nan,1", "finite"),
        ("--scale 0,inf", "finite"),
        ("--scale -1", "LOW < HIGH"),
        ("--scale 1;2", "LOW,HIGH or HIGH"),
        ("--bands 4,1,1", "band 4 does not exist"),
        ("--bands 0,1,2", "band 0 does not exist"),
        ("--bands -1,1,2", "no band is called '-1'"),
        ("--bands 1,2", "needs 3 bands"),
        ("--bands 1,2,3,1", "needs 3 bands"),
        ("--bands red,green,violet", "no band is called 'violet'"),
        ("--bands 99999999999999999999,1,2", "a whole number of at most 18 digits"),
        (f"--bands {'9' * 5000},1,2", "bands"),
        ("--bands ,", "bands"),
        ("--device cuda:99", "cuda:99 is not available"),
        ("--device tpu", "device must be one of"),
        ("--device cuda:-1", "device must be one of"),
        ("--device cuda:x", "device must be one of"),
        ("--blend sharp", "blend must be one of"),
        ("--legend no.json", "cannot be read"),
    ],
)
def test_an_option_that_cannot_be_right(predict: Predict, scene: Path, options: str, says: str) -> None:
    before = files_in(scene.parent)
    line = check_refused(predict(scene, "--out", scene.parent / "map.tif", *options.split()), 2, scene.parent, before)
    assert says in line
    assert len(line) < 1000


def test_a_window_beyond_the_memory_is_refused_before_it_is_exported(predict: Predict, scene: Path) -> None:
    before = files_in(scene.parent)
    outcome = predict(scene, "--out", scene.parent / "map.tif", "--window", 16384)
    assert "memory" in check_refused(outcome, 2, scene.parent, before)
    assert "export" not in outcome.stderr


@pytest.mark.parametrize(
    "options", ["--tile 33", "--tile 1000000", "--workers 500", "--bands 1,1,1", "--batch-size 64"]
)
def test_odd_options_that_are_right(predict: Predict, scene: Path, options: str) -> None:
    assert predict(scene, "--out", scene.parent / "map.tif", "--tile", 64, *options.split()).code == 0
    check_map(scene.parent / "map.tif", scene)
