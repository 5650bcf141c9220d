"""The worst crops: of scenes smaller than a crop, and merged from several collections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from geoseg.evaluation import WorstCrops
from geoseg.evaluation.pictures import _CROP_PX, _LEAST_SHARE, sheets
from geoseg.legend import DEEPGLOBE, LandCover, Legend
from geoseg.raster import Patch, Window


class Chip:
    """A small scene."""

    id = "chip"

    def read(self, window: Window) -> Patch:
        return Patch(np.zeros((3, *window.shape), np.uint8), np.ones(window.shape, np.bool_))


def test_a_scene_smaller_than_a_crop_shows_its_mistakes() -> None:
    side = 64
    assert side**2 < _LEAST_SHARE * _CROP_PX**2  # no class in it could have that many
    reference: Any = np.zeros((side, side), np.uint8)
    reference[:8] = 1  # an eighth of it
    reference[8, :20] = 2  # too few to be an example
    worst = WorstCrops(DEEPGLOBE)
    worst.see(Chip(), Window(0, 0, side, side), reference, np.full_like(reference, 3))
    assert {code for code, _ in worst} == {0, 1}
    assert [(crop.class_px, crop.wrong_px) for crop in worst.of(1)] == [(8 * side, 8 * side)]


def test_what_was_gathered_apart_is_what_would_have_been_gathered_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.evaluation.pictures._KEPT", 3)
    monkeypatch.setattr("geoseg.evaluation.pictures._CROP_PX", 16)
    rng = np.random.default_rng(3)
    seen = [
        (Window(row, 0, 64, 128), *(rng.choice(4, (64, 128), p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8) for _ in "rp"))
        for row in range(0, 640, 64)
    ]
    seen += seen[:2]  # on a tie, the earlier ones stay
    together, apart = (WorstCrops(DEEPGLOBE) for _ in range(2))
    for window, reference, predicted in seen:
        together.see(Chip(), window, reference, predicted)
        one = WorstCrops(DEEPGLOBE)
        one.see(Chip(), window, reference, predicted)
        apart = apart.merge(one)
    for code in range(4):
        assert [(crop.window, crop.wrong_px) for crop in apart.of(code)] == [
            (crop.window, crop.wrong_px) for crop in together.of(code)
        ]
        assert len(together.of(code)) == 3


def test_each_class_has_a_sheet_of_its_own_whatever_its_name() -> None:
    names = ["bare/soil", "bare soil", "b" * 61, "b" * 62, "été"]
    legend = Legend(tuple(LandCover(code, name, (code, 0, 0)) for code, name in enumerate(names)))
    worst = WorstCrops(legend)
    reference: Any = np.repeat(np.arange(5, dtype=np.uint8), 64)[:, None].repeat(64, 1)
    worst.see(Chip(), Window(0, 0, 320, 64), reference, (reference + 1) % 5)
    assert sorted(sheets(worst)) == sorted(
        f"worst/{stem}.png" for stem in ("bare_soil_0", "bare_soil_1", f"{'b' * 60}_2", f"{'b' * 60}_3", "été")
    )


def test_the_legend_of_a_sheet_has_room_for_all_its_classes(tmp_path: Path) -> None:
    heights_px = {}
    for classes in (2, 90):
        legend = Legend(tuple(LandCover(code, f"{code:02}{'x' * 60}", (code, 0, 250)) for code in range(classes)))
        worst = WorstCrops(legend)
        reference = np.zeros((90, 90), np.uint8)
        reference[45:] = np.arange(90) % classes
        worst.see(Chip(), Window(0, 0, 90, 90), reference, (reference + 1) % classes)
        next(iter(sheets(worst).values()))(tmp_path / "sheet.png")
        levels = imread(tmp_path / "sheet.png")[..., :3]
        assert (levels[:, :6] == 1).all()
        assert (levels[:, -6:] == 1).all()
        heights_px[classes] = len(levels)
    assert heights_px[90] > heights_px[2] + 200
