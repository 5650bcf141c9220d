"""Truncated and bit-flipped GeoTIFFs: each yields a map or one clear error line."""

from __future__ import annotations

from typing import Any

import pytest

from tests.adversity.conftest import Predict
from tests.adversity.damage import damaged
from tests.adversity.promises import Outcome, check_map, check_refused, files_in
from tests.adversity.scenes import noise, write_scene

CASES = 12
KINDS: dict[str, dict[str, Any]] = {
    "uncompressed": {},
    "deflate": {"compress": "deflate", "predictor": 2},
    "lzw": {"compress": "lzw"},
    "jpeg": {"compress": "jpeg", "photometric": "ycbcr", "interleave": "pixel"},
    "bigtiff": {"compress": "deflate", "bigtiff": "yes"},
    "strips": {"compress": "lzw", "tiled": False, "blockysize": 8},
}
LIBTIFF_SAYS = "_tiffSeekProc: Invalid argument."
"""Printed by libtiff itself, bypassing GDAL's error handler, so it cannot be caught."""


@pytest.mark.parametrize("kind", KINDS)
def test_damage_ends_in_a_map_or_in_one_line(predict: Predict, tmp_path: Any, kind: str) -> None:
    whole = write_scene(tmp_path / "whole.tif", noise(70, 90), **KINDS[kind]).read_bytes()
    codes = []
    for seed in range(CASES):
        folder = tmp_path / str(seed)
        folder.mkdir()
        scene = folder / "scene.tif"
        scene.write_bytes(damaged(whole, seed))
        before = files_in(folder)
        said = predict(scene, "--out", folder / "map.tif")
        said = Outcome(said.code, said.stdout, "".join(f"{x}\n" for x in said.stderr.splitlines() if x != LIBTIFF_SAYS))
        codes.append(said.code)
        if said.code:
            check_refused(said, 1, folder, before)
        else:
            assert said.stderr == ""
            check_map(folder / "map.tif", scene)
    assert {0, 1} == set(codes)  # some damage must be detected and some must be harmless, or this proves little


@pytest.mark.parametrize("kind", ["uncompressed", "deflate", "bigtiff"])
def test_no_map_is_made_of_a_file_that_lost_pixels(predict: Predict, folder: Any, kind: str) -> None:
    scene = write_scene(folder / "scene.tif", noise(70, 90), **KINDS[kind])
    whole = scene.read_bytes()
    for share in (0.3, 0.6, 0.9):
        scene.write_bytes(whole[: int(len(whole) * share)])
        line = check_refused(predict(scene, "--out", folder / "map.tif"), 1, folder, files_in(folder))
        assert "scene.tif" in line
