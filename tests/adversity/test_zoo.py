"""Real rasters of every kind: each yields a correct map, or one line that says what is missing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from geoseg.legend import NODATA
from tests.adversity.conftest import Predict
from tests.adversity.promises import check_map, check_refused

DAMAGED = {"rasterio/corrupt.tif"}
WITHOUT_RANGE = {
    "rasterio/RGBA.uint16.tif": "0,20000",  # one value everywhere
    "rasterio/all-nodata.tif": "0,20000",
    "rio-tiler/inverted_lat.tif": "0,1",  # all nodata as well
}
"""Scenes for which no `--scale` can be proposed, with one that works."""
WAYS_OUT = (re.compile(r"with (--bands) ([\d,]+)"), re.compile(r"for example (--scale) (\S+)"))


def test_the_whole_zoo(predict: Predict, shared_data: Path, tmp_path: Path) -> None:
    zoo = shared_data / "geotiff_zoo"
    scenes = sorted(path for path in zoo.rglob("*") if path.is_file())
    assert len(scenes) > 40
    for number, scene in enumerate(scenes):
        folder = tmp_path / str(number)
        folder.mkdir()
        _through(predict, scene, scene.relative_to(zoo).as_posix(), folder)


def _through(predict: Predict, scene: Path, name: str, folder: Path) -> None:
    given: dict[str, str] = {}
    target = folder / "map.tif"
    for _ in range(3):
        words = [word for pair in given.items() for word in pair]
        outcome = predict(scene, "--out", target, "--window", 64, "--overlap", 0, *words)
        if outcome.code == 0:
            assert [line for line in outcome.stderr.splitlines() if "not square on the ground" not in line] == [], name
            bands = tuple(map(int, given.get("--bands", "1,2,3").split(",")))
            check_map(target, scene, bands)
            return
        line = check_refused(outcome, 1, folder, {})
        assert str(scene) in line
        if name in DAMAGED:
            assert "cut short or damaged" in line
            return
        option, value = next(
            ((found[1], found[2]) for found in (way.search(line) for way in WAYS_OUT) if found),
            ("--scale", WITHOUT_RANGE.get(name, "")),
        )
        assert value, line  # an error without a way out
        assert option not in given, line  # the way out did not work
        given[option] = value
    pytest.fail(f"{name}: {given}")


def test_five_twins_of_one_image_have_one_map(predict: Predict, shared_data: Path, tmp_path: Path) -> None:
    twins = sorted((shared_data / "geotiff_zoo" / "rio-tiler" / "colorado_twins").glob("*.tif"))
    assert len(twins) == 5
    labels = {}
    for twin in twins:
        assert predict(twin, "--out", tmp_path / twin.name).code == 0
        check_map(tmp_path / twin.name, twin)
        with rasterio.open(tmp_path / twin.name) as land_cover:
            labels[twin.stem] = land_cover.read(1)
    np.testing.assert_array_equal(labels["colorado_mask"], labels["colorado_extmask"])  # with one valid area
    for name, found in labels.items():
        # a window that holds an invalid pixel sees the mean of the training imagery there, so compare farther inside
        far = _far_from_invalid(labels["colorado_alpha"]) & _far_from_invalid(found)
        assert far.sum() > 1000
        np.testing.assert_array_equal(found[far], labels["colorado"][far], err_msg=name)


def _far_from_invalid(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    reach, height, width = 64, *labels.shape
    holes = np.pad((labels == NODATA).astype(np.int64), reach).cumsum(0).cumsum(1)
    holes = np.pad(holes, ((1, 0), (1, 0)))
    rows, cols = np.ogrid[:height, :width]
    span = 2 * reach
    count = holes[rows + span, cols + span] - holes[rows, cols + span] - holes[rows + span, cols] + holes[rows, cols]
    return np.asarray(count == 0)
