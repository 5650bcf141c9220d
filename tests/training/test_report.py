"""The report of a training: every file exists and is correct, and the worst crops are the worst."""

from __future__ import annotations

import csv
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from numpy.typing import NDArray

from geoseg.errors import OutputError
from geoseg.evaluation import Calibration, ConfusionMatrix, Evaluation, Pictures, WorstCrops, paint_codes
from geoseg.evaluation.pictures import _LEAST_SHARE
from geoseg.legend import DEEPGLOBE, LandCover, Legend
from geoseg.raster import Patch, Window, tiles
from geoseg.training.report import (
    ConsoleTable,
    EpochRow,
    draw_curves,
    kept_epoch,
    training_page,
    write_history,
    write_training_report,
)
from tests.evaluation.rasters import patches, wrong
from tests.training.tiny import read_history, tiny_plan


class Scene:
    """A scene whose pixels encode their position."""

    def __init__(self, name: str, shape: tuple[int, int], bands: int = 3) -> None:
        self.id = name
        self.reads = 0
        rows, cols = np.indices(shape)
        self.pixels = np.stack([rows + band for band in range(bands - 1)] + [cols]).astype(np.uint16)

    def read(self, window: Window) -> Patch:
        self.reads += 1
        return Patch(self.pixels[:, window.rows, window.cols], np.ones(window.shape, np.bool_))


def epochs(count: int) -> list[EpochRow]:
    rng = np.random.default_rng(1)
    rows = []
    for place in range(count):
        train, valid, miou = rng.random(3).tolist()
        iou = dict(zip(DEEPGLOBE.names, rng.random(7).tolist(), strict=True))
        rows.append(EpochRow(place, 10 * (place + 1), train, valid, miou, iou, 1e-3 / (place + 1), 60.0))
    return rows


def same(one: EpochRow, other: EpochRow) -> bool:
    """Compare rows, with nan equal to nan."""
    return repr(one) == repr(other)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=5, max_size=5), st.integers(1, 6))
def test_a_history_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float], n: int
) -> None:
    path = tmp_path_factory.mktemp("history") / "history.csv"
    loss, valid, miou, lr, seconds = numbers
    rows = [EpochRow(e, 7 * e, loss, valid, miou, {"a, b": valid, "c": miou}, lr, seconds) for e in range(n)]
    write_history(path, rows)
    assert len(read_history(path)) == n
    assert all(same(one, other) for one, other in zip(read_history(path), rows, strict=True))


def test_a_history_replaces_the_one_before(tmp_path: Path) -> None:
    path, rows = tmp_path / "history.csv", epochs(5)
    write_history(path, rows)
    again = EpochRow(3, 99, 0.1, 0.2, 0.9)
    write_history(path, [*rows[:3], again])
    assert [row.epoch for row in read_history(path)] == [0, 1, 2, 3]
    assert same(read_history(path)[3], EpochRow(3, 99, 0.1, 0.2, 0.9, dict.fromkeys(DEEPGLOBE.names, math.nan)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["history.csv"]


def test_the_kept_epoch() -> None:
    rows = [EpochRow(0, 1, 3.0, 2.0, 0.2), EpochRow(1, 2, 2.0, 1.0, 0.5), EpochRow(2, 3, 1.0, 0.5, math.nan)]
    assert kept_epoch(rows) == rows[1]
    blind = [EpochRow(place, 1, loss, math.nan, math.nan) for place, loss in enumerate((3.0, 1.0, 2.0))]
    assert kept_epoch(blind) == blind[2]  # without an mIoU the last weights are kept
    assert kept_epoch([]) is None


@pytest.mark.parametrize("loss", [0.0, 999.9994, 999.9996, 5924.332, 1e9, 1e100])
def test_figures_in_the_console_stay_apart(data: Path, loss: float) -> None:
    table = ConsoleTable(tiny_plan(data))
    number, *figures = table.line(EpochRow(0, 1, loss, loss, 0.5)).split()
    assert number == "1/2"
    assert [float(text) for text in figures[:3]] == pytest.approx([loss, loss, 0.5], rel=0.05)


def errors(side: int, count: int, seed: int) -> list[tuple[Scene, NDArray[np.uint8], NDArray[np.uint8]]]:
    found = []
    for place in range(count):
        truth = patches(seed + place, side, side, codes=(0, 1, 2, 255), side=23)
        guess = wrong(seed + place, np.where(truth == 255, 0, truth).astype(np.uint8), share=0.1 * (place + 1))
        found.append((Scene(f"s{place}", (side, side)), truth, guess))
    return found


def test_the_worst_crops_are_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.evaluation.pictures._KEPT", 4)
    monkeypatch.setattr("geoseg.evaluation.pictures._CROP_PX", 32)
    worst = WorstCrops(DEEPGLOBE)
    ranks: dict[int, list[tuple[float, int]]] = {code: [] for code in DEEPGLOBE.codes}
    for scene, truth, guess in errors(128, 5, 0):
        for window in tiles(128, 128, 64, 128):
            worst.see(scene, window, truth[window.rows, window.cols], guess[window.rows, window.cols])
        for cell in tiles(128, 128, 32, 32):
            theirs, ours = truth[cell.rows, cell.cols], guess[cell.rows, cell.cols]
            for code in DEEPGLOBE.codes:
                there = theirs == code
                if there.sum() >= _LEAST_SHARE * 32**2 and (ours[there] != code).any():
                    ranks[code].append((float((ours[there] != code).mean()), int((ours[there] != code).sum())))
    assert sum(map(bool, ranks.values())) == 3
    for code, wanted in ranks.items():
        crops = worst.of(code)
        assert [(crop.share, crop.wrong_px) for crop in crops] == sorted(wanted, reverse=True)[:4]
        for crop in crops:
            there = crop.reference == code
            assert there.sum() == crop.class_px
            assert np.bincount(crop.predicted[there & (crop.predicted != code)]).argmax() == crop.mostly
            assert (crop.image[0, 0, 0], crop.image[2, 0, 0]) == (crop.window.row, crop.window.col)
    assert {code for code, _ in worst} == {0, 1, 2}


def test_only_crops_that_are_kept_are_read_and_few_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.evaluation.pictures._KEPT", 2)
    monkeypatch.setattr("geoseg.evaluation.pictures._CROP_PX", 32)
    worst = WorstCrops(DEEPGLOBE)
    scene, truth = Scene("s", (320, 320)), np.zeros((320, 320), np.uint8)
    guess = truth.copy()
    guess[:32, :64] = 1  # the first two crops are as wrong as can be
    for window in tiles(320, 320, 64, 320):
        worst.see(scene, window, truth[window.rows, window.cols], guess[window.rows, window.cols])
    assert scene.reads == 2
    assert [crop.share for crop in worst.of(0)] == [1, 1]
    assert worst.of(1) == ()


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 7, 4000).astype(np.uint8)
    guess = np.where(rng.random(4000) < 0.6, truth, 1).astype(np.uint8)
    calibration = Calibration.from_arrays(rng.random(4000), truth == guess)
    return Evaluation.of(
        "unet", "pairs, valid", ConfusionMatrix.from_arrays(truth, guess, DEEPGLOBE), calibration=calibration
    )


@pytest.fixture(scope="module")
def worst() -> WorstCrops:
    found = WorstCrops(DEEPGLOBE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geoseg.evaluation.pictures._CROP_PX", 32)
        for scene, truth, guess in errors(96, 2, 9):
            found.see(scene, Window(0, 0, 96, 96), np.where(truth == 2, truth, 255).astype(np.uint8), guess)
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, evaluation: Evaluation, worst: WorstCrops) -> Path:
    """Return the folder of a report of 30 epochs."""
    return write_training_report(
        tmp_path_factory.mktemp("written") / "report", epochs(30), replace(evaluation, worst=worst), '{"lr": 0.001}',
        data={"split": "random:0.8"},
    )  # fmt: skip


def test_the_folder_holds_everything(written: Path) -> None:
    folder, rows = written, epochs(30)
    pictures = {"curves.png", "confusion.png", "calibration.png", "worst/rangeland.png"}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == pictures | {
        "metrics.json", "classes.csv", "confusion.csv", "calibration.csv", "report.md", "history.csv"
    }  # fmt: skip
    for name in pictures:
        pixels = imread(folder / name)
        assert 300 < min(pixels.shape[:2]) <= max(pixels.shape[:2]) < 4000
        assert len(np.unique(pixels[::3, ::3, :3].sum(axis=2))) > 10
    assert all(same(one, other) for one, other in zip(read_history(folder / "history.csv"), rows, strict=True))
    page = (folder / "report.md").read_text()
    best = max(rows, key=lambda row: row.miou)
    assert f"kept: epoch {best.epoch + 1}, step {best.step}" in page
    assert f"| {best.epoch + 1} (kept) |" in page
    assert '{"lr": 0.001}' in page
    assert "- split: random:0.8" in page
    linked = {part.split(")")[0] for part in page.split("](")[1:]}
    assert linked == pictures
    with (folder / "classes.csv").open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == list(DEEPGLOBE.names)


@pytest.mark.parametrize(("seconds", "said"), [(0.5, "0.5 s"), (45.0, "45 s"), (90.0, "1.5 min"), (36e4, "100 h")])
def test_a_report_says_how_long_the_training_took(evaluation: Evaluation, seconds: float, said: str) -> None:
    page = training_page(evaluation, [replace(epochs(1)[0], seconds=seconds)], "", {}, Pictures())
    assert f"1 epoch in {said}; kept: epoch 1" in page


def test_the_sheet_shows_the_legends_colors(written: Path, worst: WorstCrops) -> None:
    pixels = (imread(written / "worst" / "rangeland.png")[..., :3] * 255).round().astype(int)
    packed = np.unique(pixels @ [65536, 256, 1])
    there = {(color >> 16, color >> 8 & 255, color & 255) for color in packed.tolist()}
    shown = {code for crop in worst.of(2) for code in (*crop.reference.flat, *crop.predicted.flat) if code != 255}
    assert {DEEPGLOBE.by_code(int(code)).color for code in shown} <= there
    assert np.array_equal(paint_codes(np.array([[2, 255]], np.uint8), DEEPGLOBE)[0], [(255, 0, 255), (225, 225, 225)])


def test_an_older_report_is_replaced_and_other_files_are_kept(
    tmp_path: Path, written: Path, evaluation: Evaluation, worst: WorstCrops
) -> None:
    folder = Path(shutil.copytree(written, tmp_path / "report"))
    with pytest.raises(OutputError, match="holds"):
        write_training_report(folder, epochs(2), replace(evaluation, worst=worst))
    (folder / "mine.txt").write_text("mine")
    write_training_report(folder, [], evaluation, overwrite=True)
    left = {path.name for path in folder.iterdir()}
    assert {"mine.txt", "report.md", "history.csv"} <= left
    assert not {"worst", "curves.png"} & left


def test_without_matplotlib_one_line_says_so(
    tmp_path: Path, evaluation: Evaluation, worst: WorstCrops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    said: list[str] = []
    folder = write_training_report(
        tmp_path / "report", epochs(2), replace(evaluation, worst=worst), announce=said.append
    )
    assert said == ["4 pictures are missing: confusion.png needs matplotlib; pip install 'geoseg[plot]'"]
    assert not list(folder.rglob("*.png"))
    assert not (folder / "worst").exists()
    assert (folder / "history.csv").exists()
    page = (folder / "report.md").read_text()
    assert "](" not in page  # pictures that were not drawn are not linked
    assert f"- {said[0]}" in page.split("## Notes")[1]


def test_names_of_classes_become_names_of_files(
    tmp_path: Path, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geoseg.evaluation.pictures._CROP_PX", 32)
    legend = Legend(tuple(LandCover(code, name, (code, 9, 9)) for code, name in enumerate(("a/b", "../c", "A/B"))))
    worst = WorstCrops(legend)
    truth = np.repeat(np.arange(3, dtype=np.uint8), 32 * 11).reshape(33, 32)
    worst.see(Scene("s", (33, 32)), Window(0, 0, 33, 32), truth, (truth + 1) % 3)
    folder = write_training_report(tmp_path / "report", [], replace(evaluation, worst=worst))
    assert sorted(path.name for path in (folder / "worst").iterdir()) == ["___c.png", "a_b_0.png", "a_b_2.png"]


def test_one_band_is_grey_and_one_epoch_is_a_dot(
    tmp_path: Path, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geoseg.evaluation.pictures._CROP_PX", 32)
    worst = WorstCrops(DEEPGLOBE)
    truth = np.zeros((32, 32), np.uint8)
    worst.see(Scene("s", (32, 32), bands=1), Window(0, 0, 32, 32), truth, truth + 1)
    assert worst.of(0)[0].image.shape == (1, 32, 32)
    folder = write_training_report(tmp_path / "report", epochs(1), replace(evaluation, worst=worst, calibration=None))
    assert imread(folder / "curves.png").std() > 0


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("last", [lambda _: 0.0, lambda _: 0.9])
def test_curves_of_many_classes_leave_room_for_themselves(tmp_path: Path, last: Callable[[int], float]) -> None:
    """The four axes are as large as with few classes: long legends do not shrink them."""

    def grid_px(classes: int) -> int:
        iou = {f"class number {place}": last(place) for place in range(classes)}
        rows = [EpochRow(epoch, 9, 1.0, 1.0, 0.5, iou, 1e-3, 3.0) for epoch in range(2)]
        draw_curves(rows, tmp_path / "curves.png", None)
        image = imread(tmp_path / "curves.png")[..., :3]
        return int(np.count_nonzero(np.abs(image - 0.92).max(axis=2) < 0.01))  # the color of the grid

    assert grid_px(40) > 0.9 * grid_px(3)
