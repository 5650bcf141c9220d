"""Reference points: their positions, their columns, and the areas computed from them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

from geoseg.errors import SceneError, UsageError
from geoseg.evaluation import ConfusionMatrix, evaluate, sample
from geoseg.evaluation.areas import Areas
from geoseg.legend import DEEPGLOBE
from geoseg.raster import Scene
from tests.evaluation.rasters import NODATA, UTM, patches, write, wrong

SHAPE = (300, 200)
CODES = (0, 1, 2, 3)


@pytest.fixture
def truth() -> NDArray[np.uint8]:
    return patches(0, *SHAPE, codes=CODES, side=5)


@pytest.fixture
def guess(truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    guess = wrong(1, truth, 0.25)
    guess[:3] = NODATA
    return guess


@pytest.fixture
def landcover(tmp_path: Path, guess: NDArray[np.uint8]) -> Path:
    return write(tmp_path / "landcover.tif", guess, legend=DEEPGLOBE, tiled=True, blockxsize=64, blockysize=64, **UTM)


def drawn(guess: NDArray[np.uint8], each: int = 60) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of a stratified random sample."""
    rng = np.random.default_rng(2)
    places = [rng.choice(np.flatnonzero(guess == code), each, replace=False) for code in CODES]
    return np.divmod(np.concatenate(places), SHAPE[1])


def points(rows: NDArray[Any], cols: NDArray[Any], labels: list[Any]) -> geopandas.GeoDataFrame:
    x, y = 400_000 + 10 * (cols + 0.3), 5_000_000 - 10 * (rows + 0.8)
    return geopandas.GeoDataFrame({"class": labels}, geometry=geopandas.points_from_xy(x, y), crs="EPSG:32631")


def wanted(
    truth: NDArray[np.uint8], guess: NDArray[np.uint8], rows: NDArray[Any], cols: NDArray[Any]
) -> tuple[ConfusionMatrix, Areas]:
    matrix = ConfusionMatrix.from_arrays(truth[rows, cols], guess[rows, cols], DEEPGLOBE)
    return matrix, Areas.of(matrix, np.bincount(guess[guess != NODATA], minlength=7) * 100.0)


@pytest.mark.parametrize("form", ["x,y", "lon,lat", ".gpkg", ".geojson", ".gpkg in degrees"])
@pytest.mark.parametrize("by", ["name", "code"])
def test_a_sample_in_any_form(
    tmp_path: Path, truth: NDArray[np.uint8], guess: NDArray[np.uint8], landcover: Path, form: str, by: str
) -> None:
    rows, cols = drawn(guess)
    codes = truth[rows, cols].tolist()
    labels = codes if by == "code" else [DEEPGLOBE.names[code].replace("_", " ").title() for code in codes]
    frame = points(rows, cols, labels)
    if form.startswith("."):
        path = tmp_path / f"sample{form.split(maxsplit=1)[0]}"
        in_degrees = form != ".gpkg"
        (frame.to_crs("EPSG:4326") if in_degrees else frame).to_file(path)
    else:
        path = tmp_path / "sample.csv"
        x, y = frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy()
        if form == "lon,lat":
            x, y = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True).transform(x, y)
        lines = [
            f"{i},{a!r},{b!r},{label}"
            for i, (a, b, label) in enumerate(zip(x.tolist(), y.tolist(), labels, strict=True))
        ]
        path.write_text("\n".join([f"id,{form},class", *lines]))
    found = evaluate(landcover, sample=path, column="class", areas=True)
    matrix, areas = wanted(truth, guess, rows, cols)
    np.testing.assert_array_equal(found.matrix.counts, matrix.counts)
    assert found.areas is not None
    np.testing.assert_equal([*map(asdict, found.areas.classes)], [*map(asdict, areas.classes)])
    assert (found.unit, found.metrics.pixels, found.reference) == ("points", 240, str(path))
    said = [note for note in found.notes if note.startswith("each point counts once")]
    assert [note.partition("; ")[2] for note in said] == [
        "accuracies by area, with their standard errors, are with the areas"
    ]
    inside = [each.low <= (truth[3:] == each.code).sum() * 100 <= each.high for each in found.areas.classes[:4]]
    assert sum(inside) >= 3


def test_a_sample_without_areas_does_not_read_the_map(
    tmp_path: Path, truth: NDArray[np.uint8], guess: NDArray[np.uint8], landcover: Path
) -> None:
    rows, cols = drawn(guess)
    points(rows, cols, truth[rows, cols].tolist()).to_file(tmp_path / "sample.gpkg")
    seen: list[Any] = []
    found = evaluate(landcover, sample=tmp_path / "sample.gpkg", progress=seen.append)
    assert (found.areas, seen) == (None, [])
    said = [note for note in found.notes if note.startswith("each point counts once")]
    assert [note.partition("; ")[2] for note in said] == [
        "accuracies by area, with their standard errors, come with `areas=True`"
    ]
    assert found.matrix == wanted(truth, guess, rows, cols)[0]


def test_a_reference_has_the_figures_and_the_sample_the_areas(
    tmp_path: Path, truth: NDArray[np.uint8], guess: NDArray[np.uint8], landcover: Path
) -> None:
    rows, cols = drawn(guess)
    points(rows, cols, truth[rows, cols].tolist()).to_file(tmp_path / "sample.gpkg")
    reference = write(tmp_path / "reference.tif", truth, legend=DEEPGLOBE, **UTM)
    told: list[str] = []
    found = evaluate(landcover, reference, sample=tmp_path / "sample.gpkg", areas=True, announce=told.append)
    where = "areas come from the sample (sample.gpkg), everything else from the reference"
    assert where in told
    assert where in found.notes
    assert not any("areas=True" in line for line in told)
    assert found.metrics.pixels == (guess != NODATA).sum()
    assert found.areas is not None
    oracle = wanted(truth, guess, rows, cols)[1]
    np.testing.assert_equal([*map(asdict, found.areas.classes)], [*map(asdict, oracle.classes)])


def test_points_where_the_map_has_nothing_are_left_out_and_counted(
    tmp_path: Path, truth: NDArray[np.uint8], guess: NDArray[np.uint8], landcover: Path
) -> None:
    rows, cols = drawn(guess)
    rows, cols = np.append(rows, [0, 1, -5, 100, 700]), np.append(cols, [0, 9, 5, 5000, 3])
    labels = [*truth[rows[:-5], cols[:-5]].tolist(), 0, 1, 2, 3, 0]
    points(rows, cols, labels).to_file(tmp_path / "sample.gpkg")
    found = evaluate(landcover, sample=tmp_path / "sample.gpkg")
    assert (found.metrics.pixels, found.left_out.no_map) == (240, 5)


CSV = "x,y,class\n400005,4999905,water\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CSV.replace("water", "watr"), "no class is called 'watr'; the legend has urban_land"),
        (CSV.replace("water", ""), "1 of 1 point has no class in column class, the first is point 1"),
        (CSV.replace("400005", "west"), "point 1 is not a number, got 'west'"),
        (CSV.replace("x,y", "a,b"), "no columns x and y, or lon and lat"),
        (CSV.replace("class", "kind"), "has no column 'class', it has kind"),
        ("x,y,class\n", "holds no points"),
        ("", "no columns x and y"),
        (CSV.replace("400005", "0"), "nothing to compare"),
        (CSV.replace("400005", "nan"), "holds no points: 1 have no coordinates"),
    ],
)
def test_samples_that_cannot_be_used(tmp_path: Path, landcover: Path, text: str, words: str) -> None:
    path = tmp_path / "sample.csv"
    path.write_text(text)
    with pytest.raises((SceneError, UsageError), match=words) as caught:
        evaluate(landcover, sample=path, column="class")
    assert "\n" not in str(caught.value)


def test_a_table_as_spreadsheets_of_many_countries_write_it(
    tmp_path: Path, truth: NDArray[np.uint8], guess: NDArray[np.uint8], landcover: Path
) -> None:
    rows, cols = drawn(guess)
    frame = points(rows, cols, truth[rows, cols].tolist())
    path = tmp_path / "sample.csv"
    for delimiter in (";", "\t"):
        lines = [
            delimiter.join(
                (str(i), f"{place.x:.3f}".replace(".", ","), f"{place.y:.3f}".replace(".", ","), f"{code},0")
            )
            for i, (place, code) in enumerate(zip(frame.geometry, frame["class"], strict=True))
        ]
        path.write_text("\n".join([delimiter.join(("ID", "X", "Y", "CLASS")), *lines]))
        found = evaluate(landcover, sample=path)
        np.testing.assert_array_equal(found.matrix.counts, wanted(truth, guess, rows, cols)[0].counts)
    path.write_text('x,y,class\n"400,005",4999905,water\n')
    with pytest.raises(SceneError, match="is not a number, got '400,005'"):  # ambiguous: thousands or decimals
        evaluate(landcover, sample=path)


def test_the_column_must_be_told_where_there_are_several(tmp_path: Path, landcover: Path) -> None:
    path = tmp_path / "sample.csv"
    path.write_text("x,y,id,kind\n400005,4999905,1,water\n")
    with pytest.raises(
        UsageError, match="does not say which column holds the class, it has id, kind; name it with `colu"
    ):
        evaluate(landcover, sample=path)


def test_a_file_without_points(tmp_path: Path, landcover: Path) -> None:
    with pytest.raises(SceneError, match="no such file"):
        evaluate(landcover, sample=tmp_path / "none.gpkg")
    (tmp_path / "text.gpkg").write_text("no database")
    with pytest.raises(SceneError, match="cannot read points"):
        evaluate(landcover, sample=tmp_path / "text.gpkg")
    (tmp_path / "long.csv").write_text(f"x,y,class\n1,2,{'x' * 200_000}\n")  # more than a field of a table may hold
    with pytest.raises(SceneError, match=r"long.csv is not a table that can be read: .*larger than field limit"):
        evaluate(landcover, sample=tmp_path / "long.csv")
    frame = points(np.array([5]), np.array([5]), ["water"])
    frame.set_geometry(frame.buffer(9)).to_file(tmp_path / "areas.gpkg")
    with pytest.raises(SceneError, match="not a point; a sample has one point per place"):
        evaluate(landcover, sample=tmp_path / "areas.gpkg")


def test_a_map_without_names_wants_codes(tmp_path: Path, guess: NDArray[np.uint8]) -> None:
    plain = write(tmp_path / "plain.tif", guess, **UTM)
    path = tmp_path / "sample.csv"
    path.write_text(CSV)
    with pytest.raises(UsageError, match="the legend has no names"):
        evaluate(plain, sample=path)
    path.write_text(CSV.replace("water", "4.0"))
    assert evaluate(plain, sample=path).matrix.reference_px.sum() == 1


def test_ignored_classes_are_no_part_of_the_areas(
    tmp_path: Path, truth: NDArray[np.uint8], guess: NDArray[np.uint8], landcover: Path
) -> None:
    rows, cols = drawn(guess)
    points(rows, cols, truth[rows, cols].tolist()).to_file(tmp_path / "sample.gpkg")
    found = evaluate(landcover, sample=tmp_path / "sample.gpkg", areas=True, ignore="rangeland")
    assert found.areas is not None
    assert [each.code for each in found.areas.classes] == [0, 1, 3, 4, 5, 6]
    assert found.areas.total == np.isin(guess, (0, 1, 3)).sum() * 100


FORMS = {
    "sample.parquet": None,
    "sample.gdb": "OpenFileGDB",
    "sample.fgb": "FlatGeobuf",
    "sample.shp": "ESRI Shapefile",
    "sample.tab": "MapInfo File",
    "sample.gml": "GML",
    "sample.sqlite": "SQLite",
    "sample.kml": "LIBKML",
    "sample.geojsonl": "GeoJSONSeq",
    "frame": None,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", ["point", "multipoint", "collection"])
def test_points_from_whatever_holds_them_alone_or_in_a_shell(
    tmp_path: Path, truth: NDArray[np.uint8], guess: NDArray[np.uint8], landcover: Path, form: str, packed: str
) -> None:
    if packed == "collection" and form in {"sample.shp", "sample.tab", "sample.gdb"}:
        pytest.skip("it has no geometry collections")
    rows, cols = drawn(guess)
    shell = {"point": lambda each: each, "multipoint": lambda each: shapely.MultiPoint([each])}.get(
        packed, lambda each: shapely.GeometryCollection([shapely.MultiPoint([each])])
    )
    frame = points(rows, cols, truth[rows, cols].tolist())
    frame = frame.set_geometry([shell(each) for each in frame.geometry], crs=frame.crs)
    given: Any = frame
    if form == "sample.parquet":
        given = tmp_path / form
        frame.to_parquet(given)
    elif form != "frame":
        given = tmp_path / form
        (frame.to_crs("EPSG:4326") if form.endswith((".kml", ".geojsonl")) else frame).to_file(
            given, driver=FORMS[form]
        )
    found = evaluate(landcover, sample=given, column="class")
    np.testing.assert_array_equal(found.matrix.counts, wanted(truth, guess, rows, cols)[0].counts)
    assert len(found.notes) == 2  # none says that a geometry was left out


def test_points_without_a_place_and_points_at_one_place_are_counted_and_said(
    tmp_path: Path, truth: NDArray[np.uint8], guess: NDArray[np.uint8], landcover: Path
) -> None:
    rows, cols = drawn(guess)
    rows, cols = np.append(rows, rows[:2]), np.append(cols, cols[:2])
    frame = points(rows, cols, truth[rows, cols].tolist())
    matrix = wanted(truth, guess, rows, cols)[0]
    nowhere = geopandas.GeoDataFrame({"class": [0, 1, 2]}, geometry=[None, shapely.Point(), None], crs=frame.crs)
    holed = pd.concat([nowhere[:2], frame, nowhere[2:]], ignore_index=True)
    holed.to_file(tmp_path / "sample.gpkg")
    lines = [f"{p.x!r},{p.y!r},{code}" for p, code in zip(frame.geometry, frame["class"], strict=True)]
    lines = [",,0", f"{frame.geometry[0].x},,1", *lines, "nan,4999905,2"]
    (tmp_path / "sample.csv").write_text("\n".join(["x,y,class", *lines]))
    for given in (tmp_path / "sample.gpkg", tmp_path / "sample.csv", holed):
        told: list[str] = []
        found = evaluate(landcover, sample=given, announce=told.append)
        assert found.matrix == matrix
        name = "the GeoDataFrame" if given is holed else given.name
        lines = [
            f"{name}: 3 points without coordinates, left out",
            f"{name}: 2 points at the same place as another; all are counted, so drop any repeated observation",
        ]
        assert list(found.notes[:2]) == lines
        assert told[:2] == lines


def test_points_in_place_of_a_reference_are_told_to_be_a_sample(
    tmp_path: Path, landcover: Path, truth: NDArray[np.uint8], guess: NDArray[np.uint8]
) -> None:
    rows, cols = drawn(guess, 9)
    frame = points(rows, cols, truth[rows, cols].tolist())
    frame.to_file(tmp_path / "points.gpkg")
    lines = [f"{p.x!r},{p.y!r},{code}" for p, code in zip(frame.geometry, frame["class"], strict=True)]
    (tmp_path / "points.csv").write_text("\n".join(["Easting,Northing,class", *lines]))
    for given in (frame, tmp_path / "points.gpkg", tmp_path / "points.csv"):
        with pytest.raises(UsageError, match=r"holds? points; give them as `sample`") as refused:
            evaluate(landcover, given, column="class")
        assert refused.value.parameter == "reference"
        evaluate(landcover, sample=given, column="class")
    small = write(tmp_path / "small.tif", guess[:9, :9], **UTM)
    grid = [f"{400005 + 10 * col},{4999995 - 10 * row},{guess[row, col]}" for row in range(9) for col in range(9)]
    (tmp_path / "grid.csv").write_text("\n".join(["x,y,z", *grid]))  # a raster, GDAL's XYZ
    assert evaluate(small, tmp_path / "grid.csv").metrics.overall_accuracy == 1


def test_points_drawn_together_are_refused(tmp_path: Path, landcover: Path) -> None:
    frame = points(np.array([5, 6, 7]), np.array([5, 6, 7]), ["water"] * 3)
    shapes = [frame.geometry[0], shapely.MultiPoint(list(frame.geometry[1:])), frame.geometry[2]]
    frame.set_geometry(shapes, crs=frame.crs).to_file(tmp_path / "sample.gpkg")
    with pytest.raises(SceneError, match="several points each in 1 of 3 features, the first is feature 2;"):
        evaluate(landcover, sample=tmp_path / "sample.gpkg")


def test_a_sample_in_one_of_several_layers(tmp_path: Path, landcover: Path) -> None:
    path = tmp_path / "sample.gpkg"
    one, two = (points(np.array([row] * row), np.arange(row), ["water"] * row) for row in (5, 9))
    one.to_file(path, layer="first")
    one.set_geometry(one.buffer(5)).to_file(path, layer="plots", mode="a")
    assert evaluate(landcover, sample=path).matrix.total_px == 5
    two.to_file(path, layer="second", mode="a")
    with pytest.raises(UsageError, match=r"has 2 layers of points: first, second; name one with .layer"):
        evaluate(landcover, sample=path)
    assert evaluate(landcover, sample=path, layer="second").matrix.total_px == 9
    assert evaluate(landcover, sample=f"{path}|layername=second").matrix.total_px == 9
    assert evaluate(landcover, sample=path, layer=["first", "second"]).matrix.total_px == 14


def test_a_table_with_wkt_is_a_sample(tmp_path: Path, landcover: Path) -> None:
    path = tmp_path / "sample.csv"
    path.write_text("class,WKT\nwater,POINT (400005 4999905)\nwater,POINT (400105 4999905)\n")
    assert evaluate(landcover, sample=path, column="class").matrix.total_px == 2


def test_longitude_and_latitude_called_x_and_y_are_recognized(tmp_path: Path, landcover: Path) -> None:
    """QGIS calls them X and Y, whatever the CRS of the layer."""
    points = sample(landcover, per_class=3).to_crs(4326)
    table = pd.DataFrame({"X": points.geometry.x, "Y": points.geometry.y, "class": "water"})
    table.to_csv(tmp_path / "points.csv", index=False)
    with pytest.raises(SceneError, match=r"x and y look like longitude and latitude.*call the columns lon and lat"):
        evaluate(landcover, sample=tmp_path / "points.csv")
    table.rename(columns={"X": "lon", "Y": "lat"}).to_csv(tmp_path / "points.csv", index=False)
    assert evaluate(landcover, sample=tmp_path / "points.csv").metrics.pixels == len(table)
    with pytest.raises(UsageError, match=r"must be a path or a GeoDataFrame, got a DataFrame; make it one"):
        evaluate(landcover, sample=table)  # type: ignore[arg-type]


def test_a_folder_that_is_no_data_set(tmp_path: Path, landcover: Path) -> None:
    (tmp_path / "points").mkdir()
    with pytest.raises(SceneError, match="is a folder that GDAL cannot read as points"):
        evaluate(landcover, sample=tmp_path / "points")
    with pytest.raises(UsageError, match="`sample` must be a path, got array"):
        evaluate(landcover, sample=np.zeros((3, 2)))  # type: ignore[arg-type]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3832", "EPSG:32601"])
@pytest.mark.parametrize("west", [179.7, -180.3])
def test_points_on_both_sides_of_the_180th_meridian_find_their_pixels(tmp_path: Path, west: float, crs: str) -> None:
    guess = np.repeat(np.uint8([[0, 1, 2, 3]]), 4, axis=0)
    place = Affine(0.15, 0, west, 0, -0.15, 10)
    landcover = write(tmp_path / "map.tif", guess, legend=DEEPGLOBE, crs="EPSG:4326", transform=place)
    lon = [179.8, 179.9, -179.9, -179.8]
    table = geopandas.GeoDataFrame({"code": CODES}, geometry=geopandas.points_from_xy(lon, [9.8] * 4), crs="EPSG:4326")

    matrix = evaluate(landcover, sample=table.to_crs(crs), column="code").matrix

    assert matrix.counts.trace() == matrix.counts.sum() == 4


@pytest.mark.parametrize("block", [(64, 64), (1, 200), (16, 16)])
def test_points_of_a_block_are_read_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truth: NDArray[np.uint8], block: tuple[int, int]
) -> None:
    guess = wrong(1, truth, 0.25).astype(np.int16)
    guess[40:60] = -1
    tiled = {"tiled": True, "blockxsize": block[1]} if block[1] < 200 else {}
    path = write(tmp_path / "map.tif", guess, nodata=-1, blockysize=block[0], **tiled, **UTM)
    rng = np.random.default_rng(3)
    rows, cols = rng.integers(-9, 309, 2000), rng.integers(-9, 209, 2000)
    labels = rng.integers(0, 4, 2000)
    read, taken = Scene.read, []
    monkeypatch.setattr(Scene, "read", lambda scene, window: (taken.append(window), read(scene, window))[1])
    found = evaluate(path, sample=points(rows, cols, labels.tolist()))
    assert len(taken) <= np.prod([-(-side // edge) for side, edge in zip(SHAPE, block, strict=True)])
    inside = (rows >= 0) & (rows < 300) & (cols >= 0) & (cols < 200)
    mapped = np.where(inside, guess[np.where(inside, rows, 0), np.where(inside, cols, 0)], -1)
    expected = np.zeros((4, 4), int)
    np.add.at(expected, (labels[mapped >= 0], mapped[mapped >= 0]), 1)
    assert np.array_equal(found.matrix.counts, expected)
    assert found.left_out.no_map == np.count_nonzero(mapped < 0)
