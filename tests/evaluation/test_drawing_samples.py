"""The verb `sample`: every pixel of a class can be drawn, and `evaluate` reads the points."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner
from numpy.typing import NDArray

from geoseg import sample
from geoseg.errors import GeosegError, OutputError, SceneError, UsageError
from geoseg.evaluation import evaluate
from geoseg.evaluation.sample import _allotted
from geoseg.legend import DEEPGLOBE
from geoseg_cli.main import geoseg
from tests.evaluation.rasters import NODATA, UTM, patches, write, wrong

CODES = (0, 1, 2, 3)
DEGREES: dict[str, Any] = {"crs": "EPSG:4326", "transform": Affine(10, 0, -60, 0, -10, 80)}
READERS = {
    ".gpkg": geopandas.read_file, ".geojson": geopandas.read_file, ".fgb": geopandas.read_file,
    ".parquet": geopandas.read_parquet, ".csv": pd.read_csv,
}  # fmt: skip


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    pixels = patches(3, 150, 90, codes=CODES, side=4)
    pixels[:5] = NODATA
    return pixels


@pytest.fixture
def landcover(tmp_path: Path, pixels: NDArray[np.uint8]) -> Path:
    return write(tmp_path / "landcover.tif", pixels, legend=DEEPGLOBE, **UTM)


def places(points: geopandas.GeoDataFrame, raster: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of the points, which must lie at pixel centers."""
    with rasterio.open(raster) as file:
        cols, rows = ~file.transform @ (points.geometry.x.to_numpy(), points.geometry.y.to_numpy())
    assert np.allclose(rows % 1, 0.5, atol=1e-4)
    assert np.allclose(cols % 1, 0.5, atol=1e-4)
    return np.floor(rows).astype(int), np.floor(cols).astype(int)


def test_each_class_gets_its_points_on_its_pixels_once(pixels: NDArray[np.uint8], landcover: Path) -> None:
    points = sample(landcover, per_class=40)
    rows, cols = places(points, landcover)
    found = pixels[rows, cols]
    assert np.bincount(found, minlength=256)[[*CODES, NODATA]].tolist() == [40, 40, 40, 40, 0]
    assert len(set(zip(rows.tolist(), cols.tolist(), strict=True))) == len(points)
    assert points["id"].tolist() == list(range(1, 161))
    assert points["class"].isna().all()
    assert np.count_nonzero(np.diff(found.astype(int))) > 80  # their order does not reveal the map's class


@pytest.mark.parametrize(
    "stored", [{"tiled": True, "blockxsize": 16, "blockysize": 64}, {"blockysize": 150}, {"dtype": "int32"}]
)
def test_the_same_points_however_the_map_is_stored(
    tmp_path: Path,
    pixels: NDArray[np.uint8],
    landcover: Path,
    stored: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = sample(landcover, per_class=20)
    monkeypatch.setattr("geoseg.raster.classes.class_raster.STRIP_PX", 16 * 90)
    monkeypatch.setattr(sys.modules[sample.__module__], "_CHUNK_PX", 700)
    codes = pixels.astype(stored.get("dtype", "uint8"))
    layout = {name: value for name, value in stored.items() if name != "dtype"}
    other = write(tmp_path / "other.tif", codes, legend=DEEPGLOBE, **UTM, **layout)
    assert sample(other, per_class=20).equals(wanted)
    assert not sample(other, per_class=20, seed=22).equals(wanted)


def scatter(counts: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return Pearson's chi-squared statistic."""
    return float(((counts - expected) ** 2 / expected).sum())


def test_all_pixels_of_a_class_are_drawn_equally_often(tmp_path: Path) -> None:
    """Over 100 blocks of the map and over the positions in 4 x 4 pixels; 1 in 1000 draws exceeds 149 or 37.7."""
    codes = (np.random.default_rng(0).random((400, 400)) < 0.7).astype(np.uint8)
    raster = write(tmp_path / "landcover.tif", codes, **UTM)
    drawn = np.zeros(codes.shape)
    drawn[places(sample(raster, per_class=6000, classes=[1]), raster)] = 1
    for shape, axes, limit in (((10, 40, 10, 40), (1, 3), 149), ((100, 4, 100, 4), (0, 2), 37.7)):
        there, found = (each.reshape(shape).sum(axis=axes) for each in (codes.astype(float), drawn))
        assert scatter(found, 6000 * there / there.sum()) < limit


def test_in_degrees_pixels_are_drawn_by_their_area(tmp_path: Path) -> None:
    """The expected shares are latitude bands of a sphere, within 0.4 % of the ellipsoid's."""
    world = {"crs": "EPSG:4326", "transform": Affine(0.5, 0, -180, 0, -0.5, 90)}
    raster = write(tmp_path / "degrees.tif", np.zeros((360, 720), np.uint8), **world)
    rows, _ = places(sample(raster, per_class=4000), raster)
    shares = -np.diff(np.sin(np.deg2rad(90 - 10 * np.arange(19)))) / 2
    counts = np.bincount(rows // 20, minlength=18)
    assert scatter(counts, 4000 * shares) < 40.8  # 17 degrees of freedom, 1 of 1000
    assert scatter(counts, np.full(18, 4000 / 18)) > 400  # expected with equal chances


def test_the_estimate_holds_the_truth(tmp_path: Path) -> None:
    """Draw points, fill in the reference, evaluate: the areas match Olofsson's formulas and the true areas."""
    truth = patches(5, 200, 160, codes=CODES, side=5)
    guess = wrong(6, truth, 0.2)
    landcover = write(tmp_path / "landcover.tif", guess, legend=DEEPGLOBE, **UTM)
    points = sample(landcover, per_class=20, points=400)
    rows, cols = places(points, landcover)
    points["class"] = [DEEPGLOBE.by_code(int(code)).name for code in truth[rows, cols]]
    found = evaluate(landcover, sample=points, areas=True)
    assert found.areas is not None
    whole = np.bincount(guess.ravel(), minlength=4) * 100.0
    for code in CODES:
        there = [(truth[rows, cols] == code)[guess[rows, cols] == stratum] for stratum in CODES]
        area = sum(size * each.mean() for size, each in zip(whole, there, strict=True))
        spread = np.array([each.mean() * (1 - each.mean()) / (len(each) - 1) for each in there])
        error = float(whole**2 @ spread) ** 0.5
        estimate = found.areas.classes[code]
        assert estimate.area == pytest.approx(area)
        assert estimate.standard_error == pytest.approx(error)
        assert abs(np.count_nonzero(truth == code) * 100 - estimate.area) < 3.5 * estimate.standard_error


def test_points_are_shared_by_area_with_enough_for_rare_classes() -> None:
    areas = {0: 10.0, 1: 600.0, 2: 300.0, 3: 90.0}
    assert _allotted(areas, 50, None) == dict.fromkeys(areas, 50)
    # 9 % of 500 are 45, so two classes have 50; 400 are shared 2 to 1: 266.7 and 133.3
    assert _allotted(areas, 50, 500) == {0: 50, 1: 267, 2: 133, 3: 50}
    assert _allotted(areas, 50, 200) == dict.fromkeys(areas, 50)
    rng = np.random.default_rng(0)
    for _ in range(200):
        areas = {code: float(rng.lognormal(0, 3)) for code in range(rng.integers(1, 30))}
        points, least = int(rng.integers(300, 3000)), int(rng.integers(1, 10))
        counts = _allotted(areas, least, points)
        assert sum(counts.values()) == points
        assert min(counts.values()) >= least
        more = [code for code in areas if counts[code] > least]
        for code in more:  # no class has a better claim on its last point
            assert all((counts[code] - 1) / areas[code] <= (counts[other] + 1) / areas[other] for other in more)
    with pytest.raises(UsageError, match=r"give at least 200 points, or at most 37 for each class"):
        _allotted({0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}, 50, 150)
    with pytest.raises(UsageError, match=r"give at least 100 points$"):  # not "at most 0 for each class"
        _allotted({0: 1.0, 1: 1.0}, 50, 1)


@pytest.mark.parametrize("ending", READERS)
@pytest.mark.parametrize("place", [UTM, DEGREES, {"crs": "EPSG:32733", "transform": Affine(9, 2, 5e5, 2, -9, 6e6)}])
def test_every_format_is_read_back_to_the_same_pixels(tmp_path: Path, ending: str, place: dict[str, Any]) -> None:
    codes = patches(1, 16, 12, codes=CODES, side=2)
    landcover = write(tmp_path / "landcover.tif", codes, legend=DEEPGLOBE, **place)
    frame = sample(landcover, per_class=6)
    rows, cols = places(frame, landcover)
    file = sample(landcover, tmp_path / f"points{ending}", per_class=6)
    read = READERS[ending](file)
    assert read["id"].tolist() == frame["id"].tolist()
    assert read["class"].isna().all()
    read["class"] = [DEEPGLOBE.by_code(int(code)).name for code in codes[rows, cols]]
    filled = tmp_path / f"filled{ending}"
    match ending:
        case ".csv":
            read.to_csv(filled, index=False)
        case ".parquet":
            read.to_parquet(filled)
        case _:
            read.to_file(filled)
    found = evaluate(landcover, sample=filled, column="class")
    assert found.matrix.counts.diagonal().tolist() == [6, 6, 6, 6, 0, 0, 0]


def test_geojson_is_the_same_file_each_time(tmp_path: Path, landcover: Path) -> None:
    written = [sample(landcover, tmp_path / folder / "points.geojson", mkdir=True) for folder in ("one", "two")]
    assert written[0].read_bytes() == written[1].read_bytes()


def test_a_small_class_is_drawn_whole_and_said(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    pixels[20, 20:23] = 4
    landcover = write(tmp_path / "landcover.tif", pixels, legend=DEEPGLOBE, **UTM)
    said: list[str] = []
    points = sample(landcover, per_class=10, announce=said.append)
    assert len(points) == 43
    assert said[0] == "43 points: 10 urban_land, 10 agriculture_land, 10 rangeland, 10 forest_land, 3 water"
    assert said[1] == "water has only 3 pixels, and all are drawn"


def test_many_classes_are_no_long_line(tmp_path: Path) -> None:
    codes = (np.arange(900).reshape(30, 30) % 200).astype(np.uint8)
    said: list[str] = []
    sample(write(tmp_path / "many.tif", codes, **UTM), per_class=5, announce=said.append)
    assert said[0].startswith("900 points: 5 class 0, 5 class 1, ")
    assert said[0].endswith("and 188 more")
    assert said[1].startswith("class 100 (4), class 101 (4), ")
    assert said[1].endswith(" and 88 more have only that many pixels, and all are drawn")
    assert len(said) == 2


def test_of_some_classes_in_an_area(pixels: NDArray[np.uint8], landcover: Path) -> None:
    area = shapely.box(400_000, 4_999_000, 400_300, 4_999_300)
    points = sample(landcover, per_class=5, classes="Urban land,1", aoi=area)
    rows, cols = places(points, landcover)
    assert sorted(set(pixels[rows, cols].tolist())) == [0, 1]
    assert rows.min() >= 70
    assert rows.max() < 100
    assert cols.max() < 30


def refused(call: Any) -> GeosegError:
    with pytest.raises(GeosegError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return caught.value


def test_nothing_is_lost_or_half_written(tmp_path: Path, landcover: Path) -> None:
    filled = tmp_path / "points.csv"
    filled.write_text("x,y,class\n1,2,water\n")
    assert isinstance(refused(lambda: sample(landcover, filled)), OutputError)
    assert filled.read_text().endswith("water\n")
    sample(landcover, filled, overwrite=True)
    assert "water" not in filled.read_text()
    project = sample(landcover, tmp_path / "project.gpkg", per_class=2)
    sample(landcover, project, per_class=3, overwrite=True)
    assert len(geopandas.read_file(project)) == 12
    geopandas.read_file(project).to_file(project, layer="parcels")
    error = refused(lambda: sample(landcover, project, overwrite=True))
    assert "holds parcels" in str(error)
    assert error.parameter == "out"
    assert len(geopandas.read_file(project, layer="parcels")) == 12
    opened = sample(landcover, tmp_path / "opened.gpkg", per_class=2)
    before = opened.read_bytes()
    opened.with_name("opened.gpkg-wal").touch()  # as in QGIS, which would mix old and new
    assert "is open in another program" in str(refused(lambda: sample(landcover, opened, overwrite=True)))
    assert opened.read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".geoseg")]


@pytest.mark.parametrize("ending", ["gpkg", "fgb", "geojson", "parquet"])
def test_a_crs_that_wkt_1_cannot_hold(tmp_path: Path, pixels: NDArray[np.uint8], ending: str) -> None:
    pole = "+proj=ob_tran +o_proj=longlat +o_lon_p=-162 +o_lat_p=39.25 +lon_0=180 +to_meter=0.0174532925199433"
    raster = write(tmp_path / "landcover.tif", pixels, crs=pole, transform=Affine(0.1, 0, -5, 0, -0.1, 5))
    expected = sample(raster, per_class=5)
    found = READERS[f".{ending}"](sample(raster, tmp_path / f"points.{ending}", per_class=5))
    assert found.id.tolist() == expected.id.tolist()
    places(found.to_crs(expected.crs), raster)


def test_longitudes_in_degrees_end_at_180(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    raster = write(tmp_path / "landcover.tif", pixels, crs="EPSG:4326", transform=Affine(0.1, 0, 175, 0, -0.1, 5))
    expected = sample(raster, per_class=20).geometry.x
    assert expected.max() > 180
    for ending in ("geojson", "csv"):
        found = READERS[f".{ending}"](sample(raster, tmp_path / f"points.{ending}", per_class=20))
        x = found.lon if ending == "csv" else found.geometry.x
        assert x.to_numpy() == pytest.approx(np.where(expected > 180, expected - 360, expected), abs=1e-6)


@pytest.mark.parametrize(
    "name", ["gpkg_points", "sqlite_points", "layer_styles", "-points", "[plots]", "plo;ts!", "plots"]
)
def test_a_geopackage_of_any_name_that_older_programs_open(tmp_path: Path, landcover: Path, name: str) -> None:
    """Some names of files are not valid for layers; GDAL before 3.7 warns about versions after 1.3."""
    for _ in range(2):
        path = sample(landcover, tmp_path / f"{name}.gpkg", per_class=2, overwrite=True)
    plain = path.rename(tmp_path / "plain.gpkg")  # pyogrio cannot read every name
    assert geopandas.list_layers(plain).name.item() == (name if name[:3] == "plo" else f"_{name}")
    assert len(geopandas.read_file(plain)) == 8
    with closing(sqlite3.connect(plain)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (10300,)


@pytest.mark.parametrize("ending", ["gpkg", "geojson", "fgb", "parquet", "csv"])
def test_a_file_that_does_not_fit_is_not_written(tmp_path: Path, landcover: Path, ending: str) -> None:
    """GDAL would leave truncated files, for some formats without an error."""
    resource = pytest.importorskip("resource", reason="POSIX only")
    there, before = set(tmp_path.iterdir()), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        error = refused(lambda: sample(landcover, tmp_path / f"points.{ending}", per_class=100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(error, OutputError)
    assert "cannot write" in str(error)
    assert set(tmp_path.iterdir()) == there


def test_folders_are_made_when_there_is_something_to_write(
    tmp_path: Path, landcover: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, file = tmp_path / "new" / "points.csv", tmp_path / "file"
    file.touch()
    there = set(tmp_path.iterdir())
    assert isinstance(refused(lambda: sample(tmp_path / "gone.tif", out, mkdir=True)), SceneError)
    assert isinstance(refused(lambda: sample(landcover, file / "points.csv", mkdir=True)), OutputError)
    assert "local files" in str(refused(lambda: sample(landcover, "s3://bucket/points.csv", mkdir=True)))
    assert set(tmp_path.iterdir()) == there
    assert sample(landcover, out, per_class=1, mkdir=True) == out
    assert out.is_file()


def test_bad_calls(tmp_path: Path, landcover: Path) -> None:
    wrong_calls: list[tuple[dict[str, Any], str, str]] = [
        ({"per_class": 0}, "per_class", "from 1"),
        ({"per_class": 2.5}, "per_class", "whole number"),
        ({"points": 10}, "points", "too few"),
        ({"points": -1}, "points", "from 1"),
        ({"seed": -1}, "seed", "0 or more"),
        ({"classes": "ocean"}, "classes", "ocean"),
        ({"classes": "water"}, "classes", "no pixel of water"),
        ({"out": tmp_path / "points.shp"}, "out", r".gpkg, .geojson"),
        ({"out": tmp_path / "no" / "points.csv"}, "", "does not exist"),
    ]
    for options, parameter, words in wrong_calls:
        error = refused(lambda options=options: sample(landcover, **options))
        assert (error.parameter or "") == parameter, error
        assert words in str(error)
    empty = write(tmp_path / "empty.tif", np.full((4, 4), NODATA, np.uint8), **UTM)
    assert isinstance(refused(lambda: sample(empty)), SceneError)
    assert "; it has no pixel with a class" in str(refused(lambda: sample(empty, classes=[1])))
    nowhere = write(tmp_path / "nowhere.tif", np.zeros((4, 4), np.uint8))
    assert "no CRS on Earth" in str(refused(lambda: sample(nowhere, tmp_path / "points.geojson")))
    mars = write(tmp_path / "mars.tif", np.zeros((4, 4), np.uint8), **UTM | {"crs": "+proj=eqc +R=3396190"})
    assert "no CRS on Earth" in str(refused(lambda: sample(mars, tmp_path / "points.geojson")))
    assert pd.read_csv(sample(mars, tmp_path / "mars.csv", per_class=1)).columns.tolist() == ["id", "x", "y", "class"]


def test_the_command(tmp_path: Path, landcover: Path) -> None:
    out = tmp_path / "new" / "points.csv"
    words = ["sample", str(landcover), "--out", str(out), "--per-class", "4", "--mkdir", "--json"]
    done = CliRunner().invoke(geoseg, words)
    assert done.exit_code == 0, done.output
    assert '"pixels": 13500' in done.stdout
    assert "16 points: 4 urban_land" in done.stderr
    assert len(pd.read_csv(out)) == 16
    again = CliRunner().invoke(geoseg, words)
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr
