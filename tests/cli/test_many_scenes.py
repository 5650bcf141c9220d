"""`geoseg predict` with several scenes: one line for each, one exit code for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import rasterio
from affine import Affine
from click.testing import Result

from geoseg.model import ModelBundle
from tests.cli.conftest import Run
from tests.inference.conftest import random_pixels, write_scene
from tests.networks import tiny_bundle


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    bundle: ModelBundle = tiny_bundle(folder, window_px=64)
    return bundle.files[0]


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "scenes"
    folder.mkdir()
    for seed, name in enumerate("ab"):
        write_scene(folder / f"{name}.tif", random_pixels(64, 80, seed, 0))
    return folder


def predict(run: Run, model: Path, *arguments: Any) -> Result:
    return run("predict", *arguments, "--model", model, "--device", "onnx")


@pytest.mark.usefixtures("scenes")
def test_a_folder_and_a_list_are_mapped_and_told_of(run: Run, model: Path, tmp_path: Path) -> None:
    write_scene(tmp_path / "c.tif", random_pixels(64, 64, 3, 0))
    Path("list.txt").write_text("c.tif\n")
    done = predict(run, model, "scenes", "--list", "list.txt", "--out-dir", "maps", "--json")
    assert done.exit_code == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(Path(each["scene"]).name, each["status"]) for each in said] == [
        ("a.tif", "mapped"), ("b.tif", "mapped"), ("c.tif", "mapped")
    ]  # fmt: skip
    assert {Path(each["labels"]).name for each in said} <= {path.name for path in Path("maps").iterdir()}
    assert "3 scenes: 3 mapped" in done.stderr
    again = predict(run, model, "scenes", "c.tif", "--out-dir", "maps")
    assert "3 scenes: 3 finished before" in again.stderr
    assert again.stdout == ""


def test_a_bad_scene_is_a_line_and_exit_code_1_at_the_end(run: Run, model: Path, scenes: Path) -> None:
    (scenes / "bad.tif").write_text("no picture")
    done = predict(run, model, "scenes", "gone.tif", "--out-dir", "maps", "--json", "--progress", "json")
    assert done.exit_code == 1
    by_name = {Path(each["scene"]).name: each for each in map(json.loads, done.stdout.splitlines())}
    assert {name: each["status"] for name, each in by_name.items()} == {
        "a.tif": "mapped", "b.tif": "mapped", "bad.tif": "failed", "gone.tif": "failed"
    }  # fmt: skip
    assert "no such file" in by_name["gone.tif"]["error"]
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["error"] for line in told if "error" in line][-1].startswith("2 of 4 scenes failed (")
    assert "error" in told[-1]
    numbers = {
        (Path(line["scene"]).name, line["scene_number"], line["scenes_total"]) for line in told if "stage" in line
    }
    assert numbers == {("a.tif", 1, 4), ("b.tif", 2, 4)}


@pytest.mark.usefixtures("scenes")
def test_a_dry_run_plans_all_and_writes_nothing(run: Run, model: Path) -> None:
    done = predict(run, model, "scenes/*.tif", "--out-dir", "maps", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert "2 scenes: about" in done.stdout
    assert not Path("maps").exists()
    done = predict(run, model, "scenes", "--out-dir", "maps", "--dry-run", "--json")
    assert [json.loads(line)["width_px"] for line in done.stdout.splitlines()] == [80, 80]


@pytest.mark.usefixtures("scenes")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.tif", "b.tif", "--out", "m.tif"], "2 scenes (a.tif, b.tif) need a folder: give --out-dir FOLDER"),
        (["scenes", "--out", "m.tif"], "2 scenes (scenes/a.tif, scenes/b.tif) need a folder"),
        (["a.tif", "--out", "m.tif", "--out-dir", "maps"], "give --out or --out-dir, not both"),
        (["a.tif"], "missing option '--out'"),
        (["--out-dir", "maps"], "give a scene, a folder of scenes, or --list FILE"),
        (["--list", "none.txt", "--out-dir", "maps"], "the list none.txt cannot be read"),
        (["scenes", "scenes/../scenes/a.tif", "--out-dir", "maps"], "would have the same name, a; rename them"),
        (["scenes", "--out-dir", "maps", "--confidence", "c.tif"], "write {name} where the scene's name goes"),
        (["scenes", "--out-dir", "scenes"], "choose an --out-dir other than scenes"),
        (["scenes/*.jp2", "--out-dir", "maps"], "no raster matches scenes/*.jp2"),
    ],
    ids=str,
)
def test_what_cannot_be_meant(run: Run, model: Path, arguments: list[str], said: str) -> None:
    done = predict(run, model, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr.replace("\\", "/")
    assert len(done.stderr.splitlines()) == 1
    assert not Path("maps").exists()


def test_a_mosaic_is_one_map(run: Run, model: Path, scenes: Path) -> None:
    write_scene(scenes / "b.tif", random_pixels(64, 80, 1, 0), transform=Affine(0.5, 0, 500_040, 0, -0.5, 5_400_000))
    done = predict(run, model, "scenes", "--mosaic", "--out", "m.tif", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["labels"] == "m.tif"
    with rasterio.open("m.tif") as made:
        assert made.shape == (64, 160)
        assert made.read_masks(1).all()
    done = predict(run, model, "scenes", "--mosaic", "--out", "m2.tif", "--dry-run")
    assert "scenes/a.tif and 1 more: 160 x 64 px" in done.stdout.replace("\\", "/")
    write_scene(scenes / "b.tif", random_pixels(64, 80, 1, 0), crs="EPSG:32633")
    done = predict(run, model, "scenes", "--mosaic", "--out", "m2.tif")
    assert done.exit_code == 2
    assert "the scenes of a mosaic need one CRS" in done.stderr
    assert len(done.stderr.splitlines()) == 1
