from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoseg.inference.tile import read_downwards
from geoseg.raster import Patch, Scene, Window
from tests.inference.conftest import MakeScene


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(starts=st.lists(st.integers(-5, 90), min_size=1, unique=True).map(sorted), height=st.integers(1, 40))
def test_each_footprint_is_what_a_read_of_its_own_gives(make_scene: MakeScene, starts: list[int], height: int) -> None:
    scene = make_scene(80, 60, seed=2)
    footprints = [Window(start, -3, height, 70) for start in starts]
    for footprint, patch in zip(footprints, read_downwards(scene, footprints), strict=True):
        alone = scene.read(footprint)
        np.testing.assert_array_equal(patch.data, alone.data)
        np.testing.assert_array_equal(patch.valid, alone.valid)


def test_no_row_is_read_twice(make_scene: MakeScene, monkeypatch: Any) -> None:
    scene = make_scene(100, 60)
    seen: list[int] = []
    read = Scene.read

    def spy(self: Scene, window: Window) -> Patch:
        seen.extend(range(window.row, window.row_stop))
        return read(self, window)

    monkeypatch.setattr(Scene, "read", spy)
    list(read_downwards(scene, [Window(row, 0, 32, 60) for row in (0, 24, 48, 68)]))
    assert seen == list(range(100))
