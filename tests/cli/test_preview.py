"""The real `geoseg preview` on small maps."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.display.maps import UTM, blocks, write_map, write_scene

Run = Callable[..., Result]


@pytest.fixture
def landcover(tmp_path: Path) -> Path:
    return write_map(tmp_path / "landcover.tif", blocks(), **UTM)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene.tif", **UTM)


def test_a_page_is_written_and_said(run: Run, tmp_path: Path, landcover: Path, scene: Path) -> None:
    out = tmp_path / "map.html"
    done = run("preview", landcover, "--scene", scene, "--out", out)
    assert done.exit_code == 0
    assert done.stdout == ""
    assert done.stderr.startswith(f"wrote {out}, 0.")
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_json_tells_what_was_written(run: Run, tmp_path: Path, landcover: Path) -> None:
    out = tmp_path / "map.html"
    done = run("preview", landcover, "--out", out, "--json", "--quiet")
    assert json.loads(done.stdout) == {"path": str(out), "bytes": out.stat().st_size}
    assert done.stderr == ""


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="pictures need the extra [plot]")
def test_a_picture_is_written_in_the_palette_asked_for(run: Run, tmp_path: Path, landcover: Path, scene: Path) -> None:
    own, safe = tmp_path / "own.png", tmp_path / "safe.png"
    words = ("preview", landcover, "--scene", scene, "--width", 600)
    assert run(*words, "--out", own, "-q").stderr == ""
    assert run(*words, "--out", safe, "--palette", "color-blind").exit_code == 0
    assert own.read_bytes()[:8] == safe.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert own.read_bytes() != safe.read_bytes()


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="pictures need the extra [plot]")
def test_a_picture_of_polygons_is_that_of_vectorize(run: Run, tmp_path: Path, landcover: Path) -> None:
    polygons, one, other = (tmp_path / name for name in ("landcover.gpkg", "one.png", "other.png"))
    assert run("vectorize", landcover, "--out", polygons, "--png", one).exit_code == 0
    assert run("preview", landcover, "--polygons", polygons, "--out", other).exit_code == 0
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["later.tif", "--out", "change.png"], 2, "two maps need a page, not a picture: --out change.html"),
        (["--out", "map.html", "--width", "900", "--dpi", "300"], 2, "--width and --dpi need a picture"),
        (["--out", "map.png", "--dpi", "5"], 2, "--dpi must be 30 to 1200 per inch, got 5"),
        (["--out", "map.png", "--width", "100000"], 2, "--width must be 300 to 6000 pixels, got 100000"),
        (["--out", "map.html", "--title", " "], 2, "--title must be 1 to 200 characters"),
        (["--out", "map.png", "--scene", "scene.tif", "--confidence", "c.tif"], 2, "--confidence needs a page"),
        (["--out", "map.png", "--scene", "scene.tif", "--polygons", "p.gpkg"], 2, "leave out --scene or --polygons"),
        (["--out", "map.png", "--polygons", "p.gpkg", "--palette", "own"], 1, "p.gpkg: no such file"),
        (["--out", "map.png", "--polygons", "p.gpkg", "--aoi", "a.gpkg"], 2, "--aoi is for a picture of the map"),
        (["--out", "map.png", "--aoi", "a.gpkg"], 1, "a.gpkg: no such file"),
        (["--out", "map.png", "--aoi-crs", "EPSG:4326"], 2, "--aoi-crs is the CRS of an area; add --aoi"),
        (["--out", "map.png", "--scene", "scene.tif", "--layer", "l"], 2, "--layer is for --polygons"),
        (["--out", "map.pdf"], 2, "map.pdf: a page must end in .html, a picture in .png"),
        (["--out", "."], 2, ".: a page must end in .html"),
        (["--out", "map.html", "--palette", "pink"], 2, "one of soft, own, deepglobe, color-blind"),
        (["--out", "map.html", "--legend", "no.csv"], 2, "no.csv"),
        (["--out", "there.html"], 1, "there.html exists; add --overwrite"),
        (["--out", "gone/map.html"], 1, "the folder gone does not exist"),
        (["--out", "map.html", "--scene", "no.tif"], 1, "no.tif: no such file"),
        ([], 2, "Missing option '--out'"),
    ],
)
def test_a_mistake_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, landcover: Path, scene: Path, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(landcover.parent)
    Path("there.html").write_text("mine", encoding="utf-8")
    done = run("preview", landcover.name, *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(file.name for file in Path().iterdir()) == [landcover.name, scene.name, "there.html"]
    assert Path("there.html").read_text(encoding="utf-8") == "mine"


def test_the_help_has_an_example(run: Run) -> None:
    assert "geoseg preview landcover.tif --scene scene.tif --out map.html" in " ".join(
        run("preview", "-h").stdout.split()
    )
