"""Pictures for TensorBoard: few, at intervals, and without taking much time."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from geoseg.legend import DEEPGLOBE
from geoseg.raster import Patch, Window
from geoseg.training.report import PICTURES_EVERY, SCENES, ValidationPictures


class Tiles:
    """A scene of a single gray."""

    def __init__(self, name: str) -> None:
        self.id = name

    def read(self, window: Window) -> Patch:
        return Patch(np.full((3, *window.shape), 255, np.uint8), np.ones(window.shape, np.bool_))


class Writer:
    def __init__(self) -> None:
        self.shown: list[tuple[str, tuple[int, ...], int]] = []

    def add_image(self, name: str, image: Any, epoch: int, dataformats: str) -> None:
        assert dataformats == "HWC"
        self.shown.append((name, image.shape, epoch))


@pytest.fixture
def plan() -> Any:
    recipe = types.SimpleNamespace(epochs=100)
    return types.SimpleNamespace(legend=DEEPGLOBE, stretch=(0.0, 255.0), recipe=recipe)


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Writer:
    written = Writer()
    monkeypatch.setattr(TensorBoardLogger, "experiment", written)
    return written


def look(shown: ValidationPictures, scenes: int) -> None:
    codes = np.full((300, 300), 4, np.uint8)
    for number in range(scenes):
        for _ in range(2):  # a scene is seen in several windows
            shown.see(Tiles(str(number)), Window(0, 0, 300, 300), codes, codes)  # type: ignore[arg-type]


def test_a_handful_of_the_first_scenes_every_few_epochs(
    plan: Any, writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geoseg.training.report.time.monotonic", lambda: 0.0)  # no time passes: all is within the share
    shown = ValidationPictures(plan)
    for epoch in range(1, PICTURES_EVERY + 2):
        look(shown, 9)
        shown.log(epoch, [TensorBoardLogger(tmp_path)])
    assert [name for name, _, _ in writer.shown] == 2 * [str(number) for number in range(SCENES)]
    assert {epoch for _, _, epoch in writer.shown} == {1, PICTURES_EVERY + 1}
    assert {shape for _, shape, _ in writer.shown} == {(256, 3 * 256, 3)}


def test_imagery_reference_and_map_stand_side_by_side(plan: Any) -> None:
    shown = ValidationPictures(plan)
    reference, predicted = np.full((8, 8), 4, np.uint8), np.full((8, 8), 0, np.uint8)
    shown.see(Tiles("a"), Window(0, 0, 8, 8), reference, predicted)  # type: ignore[arg-type]
    row = shown._rows["a"]
    assert [tuple(row[3, col]) for col in (3, 11, 19)] == [(255, 255, 255), (0, 0, 255), (0, 255, 255)]


def test_they_never_take_more_than_their_share(
    plan: Any, writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, loggers = [0.0], [TensorBoardLogger(tmp_path)]
    monkeypatch.setattr("geoseg.training.report.time.monotonic", lambda: clock[0])
    shown = ValidationPictures(plan)
    reading = Tiles.read

    def slow(self: Tiles, window: Window) -> Patch:
        clock[0] += 10.0
        return reading(self, window)

    monkeypatch.setattr(Tiles, "read", slow)
    for epoch in range(1, 200):
        clock[0] += 5.0  # an epoch
        look(shown, 9)
        shown.log(1 + PICTURES_EVERY * epoch, loggers)
    assert shown._spent_s <= 0.05 * clock[0] + 10.0  # one more may begin just before the share is used up
    assert writer.shown
