"""`geoseg vectorize` and `geoseg predict --polygons`, with the verb replaced and with the real one."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import Result
from numpy.typing import NDArray

import geoseg
from geoseg import errors
from geoseg.display.palette import _SOFT
from geoseg.legend import DEEPGLOBE, NODATA
from geoseg.progress import Progress
from geoseg.vector.options import CONNECTIVITIES, METHODS
from tests.networks import tiny_bundle

Run = Callable[..., Result]
Verb = Callable[..., Any]
VECTORIZE = ("vectorize", "landcover.tif", "--out", "landcover.gpkg")
UTM: dict[str, Any] = {"crs": "EPSG:32631", "transform": Affine(10, 0, 400_000, 0, -10, 5_000_000)}


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Callable[[Verb], None]:
    """Return a function that replaces the verb with a given function."""

    def put(verb: Verb) -> None:
        monkeypatch.setattr("geoseg.vector.vectorize", verb)

    return put


def codes(rows: int = 60, cols: int = 80) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(2).integers(0, 6, (rows // 10, cols // 10)).astype(np.uint8)
    pixels = np.repeat(np.repeat(pixels, 10, axis=0), 10, axis=1)
    pixels[:5, :5] = NODATA
    pixels[30, 30] = (pixels[30, 30] + 1) % 6
    return pixels


def write_raster(path: Path, pixels: NDArray[Any], *, colors: bool = False, **place: Any) -> Path:
    bands = pixels if pixels.ndim == 3 else pixels[None]
    shape = {"count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2]}
    with rasterio.open(path, "w", driver="GTiff", dtype=pixels.dtype, nodata=NODATA, **shape, **place) as file:
        file.write(bands)
        if colors:
            file.write_colormap(1, {cover.code: (*cover.color, 255) for cover in DEEPGLOBE})
            file.update_tags(GEOSEG_LEGEND=json.dumps(DEEPGLOBE.to_json()))
    return path


@pytest.fixture
def landcover(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "landcover.tif", codes(), colors=True, **UTM)


def failed(result: Result, code: int, *words: str) -> bool:
    """Return whether a run ended with this code and no traceback; its one error line must contain all the words."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("geoseg: error: ")]
    assert len(lines) == 1, result.stderr
    assert result.stderr.splitlines()[-1] == lines[0]
    assert all(word in lines[0] for word in words), lines[0]
    return result.exit_code == code and "Traceback" not in result.stderr


def test_options_not_given_are_left_to_the_library(run: Run, put: Callable[[Verb], None]) -> None:
    seen: dict[str, Any] = {}
    put(lambda landcover, out, **options: seen.update(options, landcover=landcover, out=out))
    assert run(*VECTORIZE).exit_code == 0
    assert set(seen) == {"landcover", "out", "overwrite", "progress", "announce"}
    assert (seen["landcover"], seen["out"], seen["overwrite"]) == ("landcover.tif", "landcover.gpkg", False)


def test_options_given_arrive_as_values(run: Run, put: Callable[[Verb], None]) -> None:
    seen: dict[str, Any] = {}
    put(lambda _landcover, _out, **options: seen.update(options))
    result = run(
        *VECTORIZE, "--simplify", "1.5px", "--method", "douglas-peucker", "--smooth", "--min-area", "0.5ha",
        "--connectivity", "8", "--classes", "water, 0", "--dissolve", "--confidence", "c.tif", "--legend", "l.json",
        "--crs", "EPSG:4326", "--overwrite",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    seen.pop("progress")
    seen.pop("announce")
    assert seen == {
        "simplify": "1.5px", "method": "douglas-peucker", "smooth": True, "min_area": "0.5ha", "connectivity": 8,
        "classes": "water, 0", "dissolve": True, "confidence": "c.tif", "legend": "l.json", "crs": "EPSG:4326",
        "overwrite": True,
    }  # fmt: skip


def test_what_was_done_is_said(run: Run, put: Callable[[Verb], None]) -> None:
    def verb(_landcover: str, out: str, *, progress: Callable[[Progress], None], **_options: Any) -> str:
        progress(Progress(3, 3, 12_300_000, 12_300_000, 12_300_000, 4.5, polygons=123_456))
        return out

    put(verb)
    assert run(*VECTORIZE).stderr == "wrote landcover.gpkg: 123 456 polygons, 12.3 Mpx in 4.5 s\n"
    assert run(*VECTORIZE, "--quiet").stderr == ""


def test_json_tells_what_was_done(run: Run, put: Callable[[Verb], None]) -> None:
    def verb(_landcover: str, out: str, *, progress: Callable[[Progress], None], **_options: Any) -> str:
        progress(Progress(2, 2, 400, 400, 400, 1.25, 17))
        return out

    put(verb)
    done = run(*VECTORIZE, "--json", "--quiet")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {"path": "landcover.gpkg", "polygons": 17, "pixels": 400, "seconds": 1.25}


def test_an_interruption_says_that_nothing_is_there(run: Run, put: Callable[[Verb], None]) -> None:
    def verb(*_args: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    put(verb)
    assert failed(run(*VECTORIZE), 1, "interrupted", "landcover.gpkg was not written")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("vectorize", "landcover.tif"), "--out"),
        (("vectorize", "--out", "landcover.gpkg"), "LANDCOVER"),
        ((*VECTORIZE, "--connectivity", "all"), "all"),
        ((*VECTORIZE, "--connectivity", "0"), "--connectivity must be 4 or 8, got 0"),
        (("predict", "scene.tif", "--out", "m.tif", "--simplify", "1.5"), "--simplify applies to polygons"),
        (("predict", "scene.tif", "--out", "m.tif", "--min-area", "100"), "--min-area applies to polygons"),
        (("predict", "scene.tif", "--out", "m.tif", "--smooth"), "--smooth applies to polygons"),
    ],
)
def test_wrong_usage_is_one_line_and_two(run: Run, arguments: tuple[str, ...], word: str) -> None:
    assert failed(run(*arguments), 2, word)


def test_help_quotes_the_librarys_defaults(run: Run) -> None:
    text = " ".join(run("vectorize", "--help").stdout.split())
    assert f"{METHODS[0]} or {METHODS[1]}. [default: {METHODS[0]}]" in text
    assert f"[default: {CONNECTIVITIES[0]}]" in text
    assert "Example: geoseg vectorize" in text


def test_help_loads_nothing_heavy() -> None:
    program = """
import sys
from click.testing import CliRunner
from geoseg_cli.main import geoseg
assert CliRunner().invoke(geoseg, ["vectorize", "--help"]).exit_code == 0
print(*sorted({name.partition(".")[0] for name in sys.modules}))"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    heavy = {"numba", "numpy", "rasterio", "pyogrio", "pyarrow", "shapely", "matplotlib", "torch"}
    assert heavy.isdisjoint(done.stdout.split())


def test_the_file_is_what_python_returns(run: Run, tmp_path: Path, landcover: Path) -> None:
    out = tmp_path / "landcover.gpkg"
    done = run("vectorize", landcover, "--out", out, "--min-area", "25px", "--simplify", "15")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""
    written = geopandas.read_file(out)
    expected: Any = geoseg.vectorize(landcover, min_area="25px", simplify=15)
    assert f"wrote {out}: {len(expected)} polygons" in done.stderr
    assert list(written.columns) == ["code", "name", "area_m2", "perimeter_m", "geometry"]
    assert written.crs == expected.crs
    for column in ("code", "name", "area_m2", "perimeter_m"):
        assert written[column].tolist() == expected[column].tolist()
    assert written.geometry.geom_equals_exact(expected.geometry, 0).all()
    assert written.geometry.area.sum() == pytest.approx((codes() != NODATA).sum() * 100)


def test_some_classes_dissolved_and_reprojected(run: Run, tmp_path: Path, landcover: Path) -> None:
    out = tmp_path / "some.fgb"
    done = run("vectorize", landcover, "-o", out, "--classes", "water,0", "--dissolve", "--crs", "EPSG:4326", "-q")
    assert (done.exit_code, done.stderr) == (0, "")
    written = geopandas.read_file(out).sort_values("code")
    assert written["name"].tolist() == ["urban_land", "water"]
    assert written.crs == "EPSG:4326"
    assert set(written.geom_type) == {"MultiPolygon"}
    expected = [(codes() == code).sum() * 100 for code in (0, 4)]
    assert written["area_m2"].tolist() == pytest.approx(expected, rel=2e-3)  # UTM's scale at this place


def test_the_picture_is_drawn(run: Run, tmp_path: Path, landcover: Path) -> None:
    """The shares of the legend's colors match the map; tests/display compares the pictures of all formats."""
    image = pytest.importorskip("matplotlib.image", reason="pictures need the extra [plot]")
    png = tmp_path / "of" / "it" / "m.png"
    done = run("vectorize", landcover, "--out", tmp_path / "m.gpkg", "--png", png, "--mkdir")
    assert done.exit_code == 0, done.stderr
    assert f"wrote {png}" in done.stderr
    levels = np.round(image.imread(png)[..., :3] * 255).astype(int)
    for cover in DEEPGLOBE:
        share = (codes() == cover.code).mean()
        if share > 0:
            found = (levels == _SOFT[cover.name]).all(axis=-1).sum() / (1600 * 1200)
            assert found == pytest.approx(share, abs=0.02), cover.name


@pytest.mark.parametrize(
    ("ending", "is_empty"),
    [("gpkg", True), ("fgb", False), ("parquet", True), ("geojson", False), ("geojsonl", True)],
)
def test_every_format_is_drawn_also_empty_and_dissolved(
    run: Run, tmp_path: Path, landcover: Path, ending: str, *, is_empty: bool
) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra [plot]")
    raster, extra = landcover, ("--dissolve",)
    if is_empty:
        raster, extra = write_raster(tmp_path / "empty.tif", np.full((20, 30), NODATA, np.uint8), **UTM), ()
    picture = raster.with_suffix(".png")
    done = run("vectorize", raster, "--out", raster.with_suffix(f".{ending}"), "--png", picture, *extra, "--quiet")
    assert (done.exit_code, done.stderr) == (0, "")
    assert picture.is_file()


def test_bad_input_is_one_line_and_nothing_is_written(run: Run, tmp_path: Path, landcover: Path) -> None:
    out, png, old = tmp_path / "m.gpkg", tmp_path / "m.png", tmp_path / "old.fgb"
    for path in (old, old.with_suffix(".png"), tmp_path / "file"):
        path.write_bytes(b"dear to somebody")
    heights = write_raster(tmp_path / "heights.tif", codes() + np.float32(0.5), **UTM)
    three = write_raster(tmp_path / "three.tif", np.stack([codes()] * 3), **UTM)
    other_grid = write_raster(tmp_path / "sure.tif", codes(50, 80), **UTM)
    placeless = write_raster(tmp_path / "placeless.tif", codes(), colors=True)
    short = write_raster(tmp_path / "short.tif", np.random.default_rng(1).integers(0, 6, (500, 500), np.uint8), **UTM)
    short.write_bytes(short.read_bytes()[:100_000])
    cases: list[tuple[int, list[Any], list[str]]] = [
        (2, [landcover, "-o", tmp_path / "m.shp"], ["m.shp", ".gpkg"]),
        (2, [landcover, "-o", tmp_path / "m"], [".gpkg"]),
        (1, [landcover, "-o", old], ["old.fgb exists", "--overwrite"]),
        (1, [landcover, "-o", tmp_path / "file" / "m.gpkg"], ["file"]),
        (2, [landcover, "-o", out, "--classes", "water,lava"], ["lava", "urban_land"]),
        (2, [landcover, "-o", out, "--classes", "99"], ["99"]),
        (2, [landcover, "-o", out, "--method", "magic"], ["magic", "visvalingam"]),
        (2, [landcover, "-o", out, "--connectivity", "5"], ["5", "8"]),
        (2, [landcover, "-o", out, "--simplify", "1.5 cubits"], ["--simplify", "cubits"]),
        (2, [landcover, "-o", out, "--simplify", "-1"], ["--simplify", "-1"]),
        (2, [landcover, "-o", out, "--min-area", "lots"], ["--min-area", "lots"]),
        (2, [landcover, "-o", out, "--crs", "EPSG:0"], ["EPSG:0"]),
        (2, [landcover, "-o", tmp_path / "m.geojson", "--crs", "EPSG:32631"], ["WGS 84"]),
        (2, [placeless, "-o", out, "--simplify", "1.5"], ["1.5px"]),
        (2, [placeless, "-o", out, "--crs", "EPSG:4326"], ["CRS"]),
        (1, [landcover, "-o", out, "--confidence", other_grid], ["sure.tif"]),
        (1, [landcover, "-o", out, "--confidence", tmp_path / "gone.tif"], ["gone.tif"]),
        (2, [landcover, "-o", out, "--legend", tmp_path / "gone.json"], ["gone.json"]),
        (1, [heights, "-o", out], ["heights.tif", "whole numbers"]),
        (1, [three, "-o", out], ["three.tif", "3"]),
        (1, [short, "-o", out], ["short.tif"]),
        (1, [tmp_path / "gone.tif", "-o", out], ["gone.tif"]),
        (2, [landcover, "-o", out, "--png", tmp_path / "m.jpg"], [".png"]),
        (1, [landcover, "-o", out, "--png", tmp_path / "old.png"], ["old.png exists"]),
        (1, [tmp_path / "gone.tif", "-o", out, "--png", png], ["gone.tif"]),
    ]  # fmt: skip
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for code, words, said in cases:
        assert failed(run("vectorize", *words), code, *said), words
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before, words


def test_a_picture_without_matplotlib_is_refused_before_the_work(
    run: Run, tmp_path: Path, landcover: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    result = run("vectorize", landcover, "--out", tmp_path / "m.gpkg", "--png", tmp_path / "m.png")
    assert failed(result, 1, "matplotlib")
    assert not (tmp_path / "m.gpkg").exists()


def test_an_existing_file_is_replaced_when_told(run: Run, tmp_path: Path, landcover: Path) -> None:
    out = tmp_path / "m.fgb"
    out.write_bytes(b"dear to somebody")
    assert run("vectorize", landcover, "--out", out, "--overwrite").exit_code == 0
    assert len(geopandas.read_file(out)) > 10


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("model"), gsd_m=0.5).weights_path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(1).normal(110, 50, (3, 100, 120)).clip(1, 254).astype(np.uint8)
    return write_raster(tmp_path / "scene.tif", pixels, crs="EPSG:32631", transform=Affine(0.5, 0, 4e5, 0, -0.5, 5e6))


def test_predict_makes_the_polygons_in_one_go(run: Run, tmp_path: Path, scene: Path, model: Path) -> None:
    out, polygons, sure = tmp_path / "map.tif", tmp_path / "map.gpkg", tmp_path / "sure.tif"
    words = ("predict", scene, "--out", out, "--model", model, "--polygons", polygons)
    done = run(*words, "--confidence", sure, "--min-area", "9px", "--simplify", "0.5")
    assert done.exit_code == 0, done.stderr
    assert f"wrote {out}" in done.stderr
    assert f"wrote {polygons}: " in done.stderr
    written = geopandas.read_file(polygons)
    expected: Any = geoseg.vectorize(out, confidence=sure, min_area="9px", simplify=0.5)
    assert written["area_m2"].tolist() == expected["area_m2"].tolist()
    assert written["confidence"].tolist() == expected["confidence"].tolist()
    assert 0 < written["confidence"].min() <= written["confidence"].max() <= 100


def test_predict_checks_the_polygons_before_the_map(run: Run, tmp_path: Path, scene: Path, model: Path) -> None:
    out, old = tmp_path / "map.tif", tmp_path / "old.fgb"
    old.write_bytes(b"dear to somebody")
    placeless = write_raster(tmp_path / "placeless.tif", np.full((3, 100, 120), 90, np.uint8))
    cases: list[tuple[int, list[Any], list[str]]] = [
        (2, [scene, "--polygons", tmp_path / "m.shp"], ["m.shp", ".gpkg"]),
        (1, [scene, "--polygons", old], ["old.fgb exists", "--polygons"]),
        (2, [scene, "--polygons", tmp_path / "m.gpkg", "--simplify", "wide"], ["--simplify", "wide"]),
        (2, [scene, "--polygons", tmp_path / "m.gpkg", "--min-area", "-1"], ["--min-area", "-1"]),
        (2, [scene, "--polygons", tmp_path / "map.tif.parts" / "m.gpkg"], ["deleted when", "polygons"]),
        (2, [placeless, "--polygons", tmp_path / "m.gpkg", "--min-area", "100"], ["100px"]),
        (2, [scene, "--polygons", tmp_path / "same.gpkg", "--confidence", tmp_path / "same.gpkg"], ["GeoTIFF"]),
    ]  # fmt: skip
    for ending in ([], ["--dry-run"]):
        for code, words, said in cases:
            assert failed(run("predict", *words, "--out", out, "--model", model, *ending), code, *said), words
            assert not out.exists()
    assert not list(tmp_path.glob("*.parts"))
    assert old.read_bytes() == b"dear to somebody"
    told = run("predict", scene, "--out", out, "--model", model, "--polygons", tmp_path / "m.gpkg", "--dry-run")
    assert told.exit_code == 0, told.stderr
    assert not out.exists()


def test_polygons_that_fail_leave_the_map_and_the_way_on(
    run: Run, tmp_path: Path, scene: Path, model: Path, put: Callable[[Verb], None]
) -> None:
    def verb(*_args: Any, **_options: Any) -> None:
        raise errors.OutputError("the disk is full")

    put(verb)
    words = ("predict", scene, "--out", tmp_path / "map.tif", "--model", model, "--polygons", tmp_path / "m.gpkg")
    assert failed(
        run(*words),
        1,
        "the disk is full; the map is finished; to write only its polygons, run the same command again, or geoseg",
    )
    assert (tmp_path / "map.tif").is_file()
