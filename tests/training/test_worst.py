"""The worst crops of scenes that are smaller than a crop."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.legend import DEEPGLOBE
from geoseg.raster.scene import Patch
from geoseg.raster.windows import Window
from geoseg.training.worst import CROP_PX, LEAST_SHARE, WorstCrops


class Chip:
    """A small scene."""

    id = "chip"

    def read(self, window: Window) -> Patch:
        return Patch(np.zeros((3, *window.shape), np.uint8), np.ones(window.shape, np.bool_))


def test_a_scene_smaller_than_a_crop_shows_its_mistakes() -> None:
    side = 64
    assert side**2 < LEAST_SHARE * CROP_PX**2  # not one class of it could have that many
    reference: Any = np.zeros((side, side), np.uint8)
    reference[:8] = 1  # an eighth of it
    reference[8, :20] = 2  # too few to be an example
    worst = WorstCrops(DEEPGLOBE)
    worst.see(Chip(), Window(0, 0, side, side), reference, np.full_like(reference, 3))
    assert {code for code, _ in worst} == {0, 1}
    assert [(crop.class_px, crop.wrong_px) for crop in worst.of(1)] == [(8 * side, 8 * side)]
