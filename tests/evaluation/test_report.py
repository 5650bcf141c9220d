"""The report: its contents are correct, and it is complete or absent."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from geoseg.errors import OutputError
from geoseg.evaluation import Calibration, ConfusionMatrix, Evaluation, LeftOut, check_folder, to_markdown, write_report
from geoseg.evaluation import report as report_room
from geoseg.evaluation.areas import Areas
from geoseg.evaluation.report import _FILES
from geoseg.legend import DEEPGLOBE


@pytest.fixture
def found() -> Evaluation:
    rng = np.random.default_rng(0)
    truth = rng.choice(6, 3000, p=[0.5, 0.2, 0.1, 0.1, 0.07, 0.03]).astype(np.uint8)
    guess = np.where(rng.random(3000) < 0.7, truth, rng.integers(0, 6, 3000)).astype(np.uint8)
    matrix = ConfusionMatrix.from_arrays(truth, guess, DEEPGLOBE)
    return Evaluation.of(
        "map|1.tif",
        "truth.tif",
        matrix,
        left_out=LeftOut(1, 2, 3),
        areas=Areas.of(matrix, matrix.map_px * 100.0),
        calibration=Calibration.from_arrays(rng.random(3000), truth == guess),
        notes=("a note",),
    )


@pytest.mark.parametrize(
    "folder", ["/home/ada/client", "C:\\Users\\ada", "/vsizip//home/ada/all.zip", "file:///home/ada"]
)
def test_a_report_tells_no_folders_of_its_sender(tmp_path: Path, found: Evaluation, folder: str) -> None:
    if folder.startswith("C:") and sys.platform != "win32":
        pytest.skip("no absolute path here")
    slash = "\\" if "\\" in folder else "/"
    subject, reference = (f"{folder}{slash}{name}" for name in ("map.tif", "truth.tif"))
    sent = replace(found, subject=subject, reference=reference, notes=(f"{reference} is on another grid",))
    report = write_report(sent, tmp_path / "report")
    for file in report.iterdir():
        assert b"ada" not in file.read_bytes()
    assert json.loads((report / "metrics.json").read_text())["notes"] == ["truth.tif is on another grid"]
    assert (report / "report.md").read_text().startswith("# map.tif against truth.tif\n")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_all_files_say_the_same(tmp_path: Path, found: Evaluation) -> None:
    with pytest.raises(OutputError, match="does not exist; check the path"):
        write_report(found, tmp_path / "new" / "report")
    folder = write_report(found, tmp_path / "report")
    assert sorted(path.name for path in folder.iterdir()) == sorted(_FILES)
    stored = json.loads((folder / "metrics.json").read_text())
    assert stored == found.to_json()
    assert stored["miou_without_unknown"] == found.metrics.miou_without_unknown
    assert stored["classes"][6]["iou"] is None
    assert stored["left_out"] == {"map_without_class": 1, "reference_without_class": 2, "ignored": 3}
    confusion = rows(folder / "confusion.csv")
    counts = [[int(row[f"map {name}"]) for name in DEEPGLOBE.names] for row in confusion]
    assert counts == found.matrix.counts.tolist() == stored["confusion"]["counts"]
    classes = rows(folder / "classes.csv")
    assert [float(row["iou"]) for row in classes[:6]] == [each.iou for each in found.metrics.classes[:6]]
    assert classes[6]["iou"] == "nan"
    assert found.areas is not None
    areas = rows(folder / "areas.csv")
    assert [float(row["area_m2"]) for row in areas] == [each.area for each in found.areas.classes]
    assert len(rows(folder / "calibration.csv")) == 10
    assert [path.name for path in folder.parent.iterdir()] == ["report"]


def test_the_page_is_markdown(found: Evaluation) -> None:
    page = to_markdown(found)
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)
    assert f"| mIoU without `unknown` (6 classes) | {found.metrics.miou_without_unknown:.4f} |" in page
    assert (
        "| pixels left out | 6 (1 without a class in the map, 2 without a class in the reference, 3 ignored) |" in page
    )
    assert "# map\\|1.tif against truth.tif" in page
    assert "- a note" in page
    assert "unknown has no pixel in reference and map: nan" in page
    widths = {line.count(" | ") for line in page.split("## Confusion matrix")[1].splitlines() if line.startswith("|")}
    assert widths == {7}


def test_names_are_no_markdown(found: Evaluation) -> None:
    """A reader would not see <bare>, and a backslash would take the | after it."""
    notes = ("<b> is rare", "*a*, [b](c) lack", "give `legend=<path>`")
    page = to_markdown(replace(found, subject="<bare> *a*", reference="[b](c) \\|", notes=notes))
    assert page.startswith("# \\<bare> \\*a\\* against \\[b](c) \\\\\\|\n")
    assert "\n- \\<b> is rare\n- \\*a\\*, \\[b](c) lack\n- give `legend=<path>`\n" in page


def test_the_page_has_areas_in_hectares_and_accuracies_with_their_errors(found: Evaluation) -> None:
    assert found.areas is not None
    page = to_markdown(found)
    for each in found.areas.classes[:6]:
        mapped, area, low, high = (value / 10_000 for value in (each.mapped, each.area, each.low, each.high))
        accuracies = f"{each.users:.4f} ± {each.users_error:.4f} | {each.producers:.4f} ± {each.producers_error:.4f}"
        row = f"| {each.name} ({each.code}) | {mapped:.2f} | {area:.2f} | {low:.2f} to {high:.2f} | {accuracies} |"
        assert row in page
    large = replace(found, areas=Areas.of(found.matrix, found.matrix.map_px * 1e6))
    assert f"| urban_land (0) | {found.matrix.map_px[0] * 100:,} |".replace(",", " ") in to_markdown(large)


def test_a_notebook_shows_the_classes_and_the_areas(found: Evaluation) -> None:
    card = replace(found, subject="<map>.tif")._repr_html_()
    assert "<map>" not in card
    row = [found.metrics.classes[3].iou, found.metrics.overall_accuracy]
    assert all(f">{value:.4f}</td>" in card for value in row)
    assert found.areas is not None
    assert found.areas._repr_html_() in card
    accuracy = f"{found.metrics.overall_accuracy:.4f}"
    assert repr(found).startswith("Evaluation('map|1.tif' against 'truth.tif', mIoU ")
    assert repr(found).endswith(f"overall accuracy {accuracy})")


def test_the_page_says_of_how_many_classes_a_mean_is(found: Evaluation) -> None:
    some = Evaluation.of("map", "truth", found.matrix.only([1, 3]))
    assert some.metrics.miou == (some.metrics.classes[0].iou + some.metrics.classes[1].iou) / 2  # not the others' too
    page = to_markdown(some)
    assert f"| mIoU of all classes (2) | {some.metrics.miou:.4f} |" in page
    assert "unknown" not in page  # no class has that name


@pytest.mark.parametrize("classes", [1, 7, 40])
def test_the_picture_is_one(tmp_path: Path, classes: int) -> None:
    counts = np.random.default_rng(1).integers(0, 10**7, (classes, classes))
    counts[-1] = 0
    matrix = ConfusionMatrix(tuple(range(classes)), tuple(f"class number {i}" for i in range(classes)), counts)
    folder = write_report(Evaluation.of("a", "b", matrix), tmp_path / "report")
    pixels = imread(folder / "confusion.png")
    assert min(pixels.shape[:2]) > 400
    assert max(pixels.shape[:2]) < 4000
    assert len(np.unique(pixels[::5, ::5, 0])) > 10


@pytest.mark.parametrize("letters", [10, 100])
def test_long_names_leave_room_for_the_matrix(tmp_path: Path, letters: int) -> None:
    names = tuple(f"{code}{'x' * letters}" for code in range(8))
    report_room.draw_matrix(ConfusionMatrix(tuple(range(8)), names, np.eye(8, dtype=np.int64)), tmp_path / "m.png")
    levels = imread(tmp_path / "m.png")[..., :3]
    is_diagonal = (levels[..., 0] < 0.1) & (levels[..., 2] > 0.3)  # the darkest blue
    assert is_diagonal.any(axis=0).mean() > 0.4


def test_a_folder_that_holds_anything_is_refused(tmp_path: Path, found: Evaluation) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    write_report(found, folder)  # an empty one will do
    (folder / "mine.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OutputError, match=r"holds areas.csv, calibration.csv, calibration.png and more; choose"):
        write_report(found, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_overwrite_replaces_the_report_and_nothing_else(tmp_path: Path, found: Evaluation) -> None:
    folder = write_report(found, tmp_path / "report")
    (folder / "mine.txt").write_text("mine")
    (folder / "more").mkdir()
    (folder / "more" / "metrics.json").write_text("mine too")
    plain = Evaluation.of("other", "truth", found.matrix)
    write_report(plain, folder, overwrite=True)
    assert json.loads((folder / "metrics.json").read_text())["map"] == "other"
    assert not (folder / "areas.csv").exists()
    assert (folder / "mine.txt").read_text() == "mine"
    assert (folder / "more" / "metrics.json").read_text() == "mine too"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_an_older_report_is_replaced_as_a_whole(tmp_path: Path, found: Evaluation) -> None:
    folder = write_report(found, tmp_path / "report")
    write_report(Evaluation.of("other", "truth", found.matrix), folder, overwrite=True)
    assert sorted({*_FILES} - {path.name for path in folder.iterdir()}) == [
        "areas.csv", "calibration.csv", "calibration.png"
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_the_folder_one_is_in(tmp_path: Path, found: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_report(found, ".")
    assert (tmp_path / "report.md").exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_on_the_way_leaves_what_was_there(
    tmp_path: Path, found: Evaluation, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    folder = tmp_path / "report"
    if there:
        write_report(found, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()} if there else None

    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_room, "draw_matrix", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_report(Evaluation.of("other", "truth", found.matrix), folder, overwrite=True)
    assert folder.exists() == there
    if there:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert len(list(tmp_path.iterdir())) == there


def test_a_rename_that_fails_puts_the_old_report_back(
    tmp_path: Path, found: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_report(found, tmp_path / "report")
    real = Path.rename

    def stubborn(self: Path, target: Path) -> Path:
        if (self / "report.md").exists() and Path(target) == folder and "other" in (self / "report.md").read_text():
            raise PermissionError(13, "no")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", stubborn)
    with pytest.raises(OutputError, match="cannot write"):
        write_report(Evaluation.of("other", "truth", found.matrix), folder, overwrite=True)
    assert json.loads((folder / "metrics.json").read_text())["map"] == "map|1.tif"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_without_matplotlib_only_the_picture_is_missing(
    tmp_path: Path, found: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    said: list[str] = []
    folder = write_report(found, tmp_path / "report", announce=said.append)
    assert sorted({*_FILES} - {path.name for path in folder.iterdir()}) == ["calibration.png", "confusion.png"]
    assert said == ["2 pictures are missing: confusion.png needs matplotlib; pip install 'geoseg[plot]'"]


def test_places_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "report"):
        with pytest.raises(OutputError, match="cannot write"):
            check_folder(place, overwrite=True)
    with pytest.raises(OutputError, match="outputs must be local"):
        check_folder("s3://bucket/report", overwrite=False)
    (tmp_path / "odd" / "metrics.json").mkdir(parents=True)
    with pytest.raises(OutputError, match="is a folder"):
        check_folder(tmp_path / "odd", overwrite=True)
