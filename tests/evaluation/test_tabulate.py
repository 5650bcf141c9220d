"""The verb `tabulate`, against numpy, shapely and the ellipsoid of pyproj."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from click.testing import CliRunner
from numpy.typing import NDArray
from pyarrow import parquet
from pyproj import Geod, Transformer

from geoseg import tabulate
from geoseg.errors import GeosegError, OutputError, SceneError
from geoseg.legend import DEEPGLOBE
from geoseg_cli.main import geoseg
from tests.evaluation.rasters import NODATA, UTM, patches, write

SHAPE = (120, 90)
DEGREES: dict[str, Any] = {"crs": "EPSG:4326", "transform": Affine(0.1, 0, 10, 0, -0.1, 64)}


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    pixels = patches(2, *SHAPE, side=4)
    pixels[:9] = NODATA
    return pixels


@pytest.fixture
def landcover(tmp_path: Path, pixels: NDArray[np.uint8]) -> Path:
    return write(tmp_path / "landcover.tif", pixels, legend=DEEPGLOBE, tiled=True, blockxsize=32, blockysize=32, **UTM)


def districts(place: dict[str, Any] = UTM) -> geopandas.GeoDataFrame:
    """Return three triangles, two of them with the same name, that leave part of the map uncovered."""
    at = place["transform"]
    corners = {
        "north": [(3.1, 2.2), (80.3, 10.7), (20.9, 50.4)],
        "south": [(30.3, 70.1), (85.2, 75.9), (60.7, 118.3)],
        "east": [(60.1, 30.3), (88.2, 30.9), (87.7, 60.1)],
    }
    shapes = [shapely.Polygon([at @ corner for corner in ring]) for ring in corners.values()]
    return geopandas.GeoDataFrame({"part": ["a", "b", "a"], "inhabitants": 7}, geometry=shapes, crs=place["crs"])


def zones_of(frame: geopandas.GeoDataFrame, place: dict[str, Any], values: list[Any]) -> NDArray[Any]:
    """Return the value of the polygon that contains each pixel's center, or ""."""
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    x, y = place["transform"] @ (cols, rows)
    found = np.full(SHAPE, "", object)
    for shape, value in zip(frame.geometry, values, strict=True):
        found[shapely.contains_xy(shape, x, y)] = value
    return found


def brute(
    zones: NDArray[Any], pixels: NDArray[np.uint8], areas: NDArray[Any]
) -> dict[tuple[Any, int], tuple[int, float]]:
    counted = (zones != "") & (pixels != NODATA)
    return {
        (zone, code): (int(there.sum()), float(areas[there].sum()))
        for zone in set(zones[counted].tolist())
        for code in set(pixels[counted].tolist())
        if (there := counted & (zones == zone) & (pixels == code)).any()
    }


def as_dict(table: pd.DataFrame) -> dict[tuple[Any, int], tuple[int, Any]]:
    return {
        (zone, code): (count, pytest.approx(area, rel=1e-6))
        for zone, code, count, area in zip(table["zone"], table["code"], table["pixels"], table["area_m2"], strict=True)
    }


@pytest.mark.parametrize("crs", [None, "EPSG:3035"])
def test_polygons_divide_a_map_by_the_middles_of_its_pixels(
    pixels: NDArray[np.uint8], landcover: Path, crs: str | None
) -> None:
    frame = districts()
    wanted = brute(zones_of(frame, UTM, frame["part"].tolist()), pixels, np.full(SHAPE, 100.0))
    said: list[str] = []
    table = tabulate(landcover, frame if crs is None else frame.to_crs(crs), column="part", announce=said.append)
    found = as_dict(table)
    if crs is None:
        assert found == wanted
    else:  # a pixel on an edge may fall to the other side
        assert sum(abs(found[key][0] - wanted[key][0]) for key in wanted) <= 3
    assert table["name"].tolist() == [DEEPGLOBE.by_code(code).name for code in table["code"]]
    assert table.groupby("zone")["share"].sum().tolist() == pytest.approx([1, 1])
    outside = np.count_nonzero(pixels != NODATA) - table["pixels"].sum()
    assert any(line.startswith(f"outside all zones: {outside} pixels of the map") for line in said)


def test_zones_with_numbers_can_be_merged_with_their_polygons(tmp_path: Path, landcover: Path) -> None:
    frame = districts().assign(id=[7, 12, 7], code=["07", "12", "07"], digits=["7", "12", "7"])
    frame["maybe"] = pd.array([7, 12, 7], "Int64")
    frame.to_file(tmp_path / "zones.gpkg")
    frame.to_parquet(tmp_path / "zones.parquet")
    for zones in (frame, tmp_path / "zones.gpkg", tmp_path / "zones.parquet"):
        for column in ("id", "code", "digits", "maybe"):
            table = tabulate(landcover, zones, column=column)
            assert list(dict.fromkeys(table["zone"])) == sorted(set(frame[column]), key=int)
            assert set(table.merge(frame, left_on="zone", right_on=column)["part"]) == {"a", "b"}


@pytest.mark.parametrize("name", ["zones.gpkg", "zones.parquet"])
def test_numbers_of_zones_keep_every_digit_beside_a_zone_without_one(
    tmp_path: Path, landcover: Path, name: str
) -> None:
    frame, file = districts().assign(id=pd.array([2**53 + 1, 2**53 + 3, None], "Int64")), tmp_path / name
    if name.endswith(".gpkg"):
        frame.to_file(file)
    else:
        frame.to_parquet(file)
        stored = parquet.read_table(file)  # as other programs write it: without the dtypes of pandas
        parquet.write_table(stored.replace_schema_metadata({"geo": stored.schema.metadata[b"geo"]}), file)
    assert set(tabulate(landcover, file, column="id")["zone"]) == {2**53 + 1, 2**53 + 3}


def test_zones_named_by_a_list(tmp_path: Path, landcover: Path) -> None:
    zones = tmp_path / "zones.geojson"
    collection = districts().to_crs("EPSG:4326").__geo_interface__
    for feature in collection["features"]:
        feature["properties"]["tags"] = [feature["properties"]["part"], "x"]
    zones.write_text(json.dumps(collection))
    assert len(set(tabulate(landcover, zones, column="tags")["zone"])) == 2


def test_zones_called_by_a_day_or_a_moment(tmp_path: Path, landcover: Path) -> None:
    frame = districts().assign(flown=pd.to_datetime(["2024-05-01", None, "2025-06-02"]))
    for zones in (frame, tmp_path / "zones.gpkg"):
        frame.to_file(tmp_path / "zones.gpkg")
        assert set(tabulate(landcover, zones, column="flown")["zone"]) == {"2024-05-01", "2025-06-02"}
    moments = frame.assign(flown=pd.to_datetime(["2024-05-01 09:30", None, "2025-06-02 00:00"]))
    assert "2024-05-01T09:30" in set(tabulate(landcover, moments, column="flown")["zone"])


def test_zones_in_colors_of_no_class_need_their_own_legend(tmp_path: Path, landcover: Path) -> None:
    zones = write(tmp_path / "zones.tif", np.full((3, *SHAPE), 77, np.uint8), nodata=None, **UTM)
    with pytest.raises(SceneError, match=r"zones\.tif is a picture") as caught:
        tabulate(landcover, zones)
    assert caught.value.parameter == "by_legend"


def test_areas_in_degrees_are_those_on_the_ellipsoid(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    landcover = write(tmp_path / "degrees.tif", pixels, legend=DEEPGLOBE, **DEGREES)
    geod, at = Geod(ellps="WGS84"), DEGREES["transform"]
    rows = []
    for row in range(SHAPE[0]):  # parallels are not geodesics, so many vertices
        along = np.linspace(0, 1, 101)
        sides = ((row, along), (row + 1, along[::-1]))
        ring = [at @ (float(col), down) for down, cols in sides for col in cols]
        rows.append(abs(geod.polygon_area_perimeter(*zip(*ring, strict=True))[0]))
    areas = np.broadcast_to(np.array(rows)[:, None], SHAPE)
    frame = districts(DEGREES)
    wanted = brute(zones_of(frame, DEGREES, frame["part"].tolist()), pixels, areas)
    assert as_dict(tabulate(landcover, frame, column="part")) == wanted


def placed(
    folder: Path, pixels: NDArray[np.uint8], crs: str, place: tuple[float, float, float]
) -> tuple[Path, NDArray[np.float64], NDArray[np.float64]]:
    """Write a map at the x and y of its corner, with the side of its pixels; return it and its pixels' lon and lat."""
    x, y, side = place
    at = Affine(side, 0, x, 0, -side, y)
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*(at @ (cols, rows)))
    return write(folder / "map.tif", pixels, legend=DEEPGLOBE, crs=crs, transform=at), lon, lat


@pytest.mark.parametrize(
    ("crs", "place"),
    [
        ("EPSG:32631", (500_000, 5_400_000, 1)),
        ("EPSG:32601", (166_000, 1_000_000, 10)),
        ("EPSG:3035", (3_000_000, 4_000_000, 25_000)),
        ("EPSG:3857", (300_000, 6_000_000, 10)),
        ("EPSG:28355", (300_000, 5_800_000, 10)),
        ("EPSG:3031", (-2_250_011, 3_000_011, 50_000)),
        ("ESRI:54030", (-17_000_000, 8_600_000, 250_000)),
    ],
)
def test_zones_as_large_as_continents_divide_a_map_in_any_projection(
    tmp_path: Path, pixels: NDArray[np.uint8], crs: str, place: tuple[float, float, float]
) -> None:
    landcover, lon, lat = placed(tmp_path, pixels, crs, place)
    for boxes in (
        {"west": (-180, -90, 3.0004, 90), "east": (3.0004, -90, 180, 90)},
        {"south": (-180, -90, 180, -60), "middle": (-180, -60, 180, 48.7525), "north": (-180, 48.7525, 180, 90)},
    ):
        shapes = {name: shapely.box(*box) for name, box in boxes.items()}
        zones = geopandas.GeoDataFrame({"name": [*shapes]}, geometry=[*shapes.values()], crs="EPSG:4326")
        table = tabulate(landcover, zones)
        for name, shape in shapes.items():
            wanted = np.count_nonzero(shapely.contains_xy(shape, lon, lat) & (pixels != NODATA))
            assert abs(table["pixels"][table["zone"] == name].sum() - wanted) <= 20  # on the line between two


@pytest.mark.parametrize(
    ("crs", "place", "boxes"),
    [
        ("EPSG:32631", (300_000, 5_800_000, 4_000), [(0.2, 50.5, 3, 52), (3, 50.5, 5, 52)]),
        ("EPSG:3413", (-700_000, 700_000, 30_000), [(-100, 83, -55, 87), (-55, 83, -15, 88), (150, 82, 200, 87)]),
    ],
)
def test_long_sides_of_zones_are_straight_in_their_own_crs(
    tmp_path: Path,
    pixels: NDArray[np.uint8],
    crs: str,
    place: tuple[float, float, float],
    boxes: list[tuple[float, float, float, float]],
) -> None:
    landcover, lon, lat = placed(tmp_path, pixels, crs, place)
    shapes = [shapely.box(*box) for box in boxes]
    zones = geopandas.GeoDataFrame({"name": [str(box) for box in boxes]}, geometry=shapes, crs="EPSG:4326")
    table = tabulate(landcover, zones)
    for name, shape in zip(zones["name"], shapes, strict=True):
        inside = shapely.contains_xy(shape, lon, lat) | shapely.contains_xy(shape, lon + 360, lat)
        wanted = np.count_nonzero(inside & (pixels != NODATA))
        assert wanted > 100
        assert abs(table["pixels"][table["zone"] == name].sum() - wanted) <= 1


def test_without_zones_and_in_an_area(pixels: NDArray[np.uint8], landcover: Path) -> None:
    table = tabulate(landcover)
    assert table.columns.tolist() == ["code", "name", "pixels", "area_m2", "share"]
    assert table["pixels"].tolist() == np.bincount(pixels[pixels != NODATA]).tolist()
    frame = districts()
    inside = pixels[zones_of(frame, UTM, ["in"] * 3) == "in"]
    found = tabulate(landcover, aoi=frame)
    assert found["pixels"].tolist() == np.bincount(inside[inside != NODATA]).tolist()


def test_an_earlier_map_on_another_grid_tells_what_became_of_it(
    tmp_path: Path, pixels: NDArray[np.uint8], landcover: Path
) -> None:
    """The earlier map has 20 m pixels, another origin and other class codes."""
    before = patches(9, 40, 60, codes=(10, 20, 30), side=3)
    before[5:9] = NODATA
    place = UTM | {"transform": UTM["transform"] @ Affine.translation(-20, 14) @ Affine.scale(2)}
    earlier = write(tmp_path / "earlier.tif", before, **place)
    names = {10: "field", 20: "wood", 30: "town"}
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    up, left = (rows - 14) // 2, (cols + 20) // 2
    there = (up >= 0) & (up < 40) & (left < 60)
    codes = np.where(there, before[up.clip(0, 39), left.clip(0, 59)], NODATA)
    zones = np.array([names.get(code, "") for code in range(256)], object)[codes]
    table = tabulate(landcover, earlier, by_legend=names)
    assert as_dict(table) == brute(zones, pixels, np.full(SHAPE, 100.0))
    assert list(dict.fromkeys(table["zone"])) == ["field", "wood", "town"]  # in the order of their codes


def test_thousands_of_parcels_in_the_order_of_their_numbers(pixels: NDArray[np.uint8], landcover: Path) -> None:
    """Every pixel of a block is a parcel; rows come in numeric, not alphabetical, order."""
    at = UTM["transform"]
    cells = [(row, col) for row in range(20, 60) for col in range(1, 90)]
    shapes = [shapely.box(*(at @ (col, row + 1)), *(at @ (col + 1, row))) for row, col in cells]
    frame = geopandas.GeoDataFrame({"id": np.arange(len(cells))[::-1] + 5}, geometry=shapes, crs=UTM["crs"])
    table = tabulate(landcover, frame)
    assert table["zone"].tolist() == [*range(5, len(cells) + 5)]
    assert table["code"].tolist() == [int(pixels[cell]) for cell in reversed(cells)]
    assert set(table["pixels"]) == {1}


def test_what_lies_in_two_zones_is_said(landcover: Path) -> None:
    at = UTM["transform"]
    frame = geopandas.GeoDataFrame(
        {"part": ["first", "last", "away"]},
        geometry=[shapely.box(*(at @ (a, 60)), *(at @ (b, 20))) for a, b in ((5, 25), (20, 40), (500, 510))],
        crs=UTM["crs"],
    )
    said: list[str] = []
    table = tabulate(landcover, frame, announce=said.append)
    assert table.groupby("zone")["pixels"].sum().to_dict() == {"first": 600, "last": 800}
    assert "in several zones: 200 pixels, where the last polygon counts" in said
    assert "1 of 3 zones has no pixel with a class" in said
    frame.loc[2, "part"] = None
    said.clear()
    tabulate(landcover, frame, announce=said.append)
    assert any("1 polygon without a name in part" in line for line in said)


def refused(call: Any) -> GeosegError:
    with pytest.raises(GeosegError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return caught.value


def test_bad_calls(tmp_path: Path, landcover: Path) -> None:
    points = tmp_path / "points.gpkg"
    districts().set_geometry(districts().centroid).to_file(points)
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"by": districts()}, "column", "which column holds the name, it has part, inhabitants"),
        ({"by": districts().assign(part=""), "column": "part"}, "", "no polygon has a name"),
        ({"by": districts(), "column": "nome"}, "column", "nome"),
        ({"by": points, "column": "part"}, "", "no polygon"),
        ({"by": districts().to_crs(4326).translate(90).to_frame("geometry").assign(part="a")}, "", "do not overlap"),
        ({"by": tmp_path / "gone.gpkg"}, "", "no such file"),
        ({"by": 5}, "by", "must be a path"),
        ({"column": "part"}, "column", "for polygons"),
        ({"by": landcover, "layer": "x"}, "layer", "for polygons"),
        ({"by": districts(), "column": "part", "by_legend": {1: "a"}}, "by_legend", "raster"),
        ({"by": landcover, "by_legend": tmp_path / "gone.json"}, "by_legend", "`by_legend`: "),
        ({"legend": tmp_path / "gone.json"}, "legend", "`legend`: "),
        ({"out": tmp_path / "table.xlsx"}, "out", ".csv file"),
        ({"out": tmp_path / "no" / "table.csv"}, "", "does not exist"),
        ({"threads": 0}, "threads", "at least 1"),
    ]
    for options, parameter, words in wrong:
        error = refused(lambda options=options: tabulate(landcover, **options))
        assert words in str(error)
        assert (error.parameter or "") == parameter, error
    empty = write(tmp_path / "empty.tif", np.full((4, 4), NODATA, np.uint8), **UTM)
    assert "no pixel with a class" in str(refused(lambda: tabulate(empty)))


def test_folders_are_made_when_there_is_something_to_write(
    tmp_path: Path, landcover: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, file = tmp_path / "new" / "areas.csv", tmp_path / "file"
    file.touch()
    there = set(tmp_path.iterdir())
    assert isinstance(refused(lambda: tabulate(tmp_path / "gone.tif", out=out, mkdir=True)), SceneError)
    assert isinstance(refused(lambda: tabulate(landcover, out=file / "areas.csv", mkdir=True)), OutputError)
    assert "local files" in str(refused(lambda: tabulate(landcover, out="s3://bucket/areas.csv", mkdir=True)))
    assert set(tmp_path.iterdir()) == there
    pd.testing.assert_frame_equal(tabulate(landcover, out=out, mkdir=True), pd.read_csv(out))


def test_the_command(tmp_path: Path, landcover: Path) -> None:
    frame = districts()
    frame.to_file(tmp_path / "districts.gpkg")
    out = tmp_path / "areas.csv"
    words = [
        "tabulate",
        str(landcover),
        "--by",
        str(tmp_path / "districts.gpkg"),
        "--column",
        "part",
        "--out",
        str(out),
    ]
    done = CliRunner().invoke(geoseg, words)
    assert done.exit_code == 0, done.output
    table = tabulate(landcover, frame, column="part")
    pd.testing.assert_frame_equal(pd.read_csv(out), table)
    lines = done.stdout.splitlines()
    assert lines[0] == "| zone, ha | urban_land | agriculture_land | rangeland | forest_land | all |"
    whole = [*(table.groupby("zone")["area_m2"].sum() / 1e4), table["area_m2"].sum() / 1e4]
    assert [line.split(" | ")[-1].rstrip(" |") for line in lines[2:]] == [f"{area:.2f}" for area in whole]
    assert lines[-1].startswith("| all | ")
    again = CliRunner().invoke(geoseg, words)
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr
    plain = CliRunner().invoke(geoseg, ["tabulate", str(landcover)])
    assert plain.stdout.splitlines()[0] == "| class | area, ha | share |"
    as_json = CliRunner().invoke(geoseg, ["tabulate", str(landcover), "--json", "-q"])
    assert as_json.stdout.lstrip().startswith("[")


def test_the_command_shows_few_pixels_as_what_they_are(tmp_path: Path) -> None:
    pixels = np.repeat(np.uint8([[0, 0, 0, 1]]), 4, axis=0)
    photo, grid = write(tmp_path / "photo.tif", pixels), Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)
    assert "| class 0 | 12 | 75.00% |" in CliRunner().invoke(geoseg, ["tabulate", str(photo)]).stdout
    tiny = write(tmp_path / "tiny.tif", pixels, crs="EPSG:32631", transform=grid)
    assert "| class 0 | 0.0003 | 75.00% |" in CliRunner().invoke(geoseg, ["tabulate", str(tiny)]).stdout


def test_the_command_shows_classes_in_the_order_of_their_codes_and_their_sums(tmp_path: Path) -> None:
    pixels = np.repeat(np.uint8([[2, 2, 0, 1]]), 4, axis=0)  # the first zone lacks classes 0 and 1
    landcover = write(tmp_path / "landcover.tif", pixels, legend=DEEPGLOBE, **UTM)
    earlier = write(tmp_path / "earlier.tif", np.uint8([[7, 7, 8, 8]] * 4), **UTM)
    names = tmp_path / "earlier.csv"
    names.write_text("code,name\n7,wood\n8,town\n")
    done = CliRunner().invoke(geoseg, ["tabulate", str(landcover), "--by", str(earlier), "--by-legend", str(names)])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "| zone, ha | urban_land | agriculture_land | rangeland | all |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| wood | 0.00 | 0.00 | 0.08 | 0.08 |",
        "| town | 0.04 | 0.04 | 0.00 | 0.08 |",
        "| all | 0.04 | 0.04 | 0.08 | 0.16 |",
    ]
