"""Users' polygons as labels: from any driver, layer and geometry type, burned as rasterio burns them."""

from __future__ import annotations

import gzip
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import pytest
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray

import geoseg
from geoseg.dataset import Dataset, open_dataset
from geoseg.dataset.pair import reference_codes
from geoseg.errors import SceneError, UsageError
from geoseg.features import is_features

from .conftest import NORTH_UP, UTM, noise, write_raster

SHAPE = (40, 50)
NAMES = ("crop", "wood", "wet")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "scene.tif", noise(2, *SHAPE))


def box(col: float, row: float, width: float = 6, height: float = 8) -> shapely.Polygon:
    """Return a rectangle given in pixels of the scene."""
    return shapely.box(*(NORTH_UP @ (col, row + height)), *(NORTH_UP @ (col + width, row)))


def frame(geometries: list[Any], names: list[Any], crs: Any = UTM) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame({"cover": names}, geometry=geometries, crs=UTM.to_wkt()).to_crs(crs)


def fields() -> geopandas.GeoDataFrame:
    return frame([box(2 + 8 * i, 3 + 4 * i) for i in range(5)], [NAMES[i % 3] for i in range(5)])


def burned(shapes: list[Any], codes: list[int]) -> NDArray[np.uint8]:
    pairs = list(zip(shapes, codes, strict=True))
    return rasterio.features.rasterize(pairs, SHAPE, fill=255, transform=NORTH_UP, dtype="uint8")


def expected() -> NDArray[np.uint8]:
    """Return the codes (row, col) of the fields; names are numbered in alphabetical order: crop, wet, wood."""
    return burned(list(fields().geometry), [(0, 2, 1)[i % 3] for i in range(5)])


def codes(dataset: Dataset) -> NDArray[np.uint8]:
    pair = dataset.pairs[0]
    return reference_codes(pair, pair.whole)


def test_a_legend_names_codes_in_a_column_that_do_not_fit_a_byte(scene: Path) -> None:
    polygons = frame([box(2 + 8 * i, 3 + 4 * i) for i in range(3)], [311, 112, "Water"])
    polygons["cover"] = polygons["cover"].astype(str)
    dataset = open_dataset(scene, labels=polygons, column="cover", legend={112: "town", 311: "wood", 512: "water"})
    assert dataset.legend.names == ("town", "wood", "water")
    assert np.array_equal(codes(dataset), burned(list(polygons.geometry), [1, 0, 2]))
    assert "112 becomes 0, 311 becomes 1, 512 becomes 2" in " ".join(dataset.notes)
    with pytest.raises(UsageError, match="'313' is not a class of the legend"):
        open_dataset(scene, labels=polygons.replace("311", "313"), column="cover", legend={112: "town", 512: "water"})


def plain(name: str, driver: str | None = None, crs: Any = UTM) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        fields().to_crs(crs).to_file(folder / name, driver=driver)
        return str(folder / name)

    return write


def parquet(name: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        fields().to_parquet(folder / name)
        return str(folder / name)

    return write


def gzipped(name: str, driver: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        path = Path(plain(name, driver, "EPSG:4326")(folder))
        (folder / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        return str(folder / f"{name}.gz")

    return write


def zipped(inside: str, given: str = "fields.zip", member: str = "") -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        (folder / "parts").mkdir()
        fields().to_file(folder / "parts" / "fields.shp")
        with zipfile.ZipFile(folder / "fields.zip", "w") as archive:
            for part in sorted((folder / "parts").iterdir()):
                archive.write(part, f"{inside}{part.name}")
        return given.replace("FOLDER", str(folder)) if "FOLDER" in given else f"{folder}/{given}{member}"

    return write


def text_of_points(folder: Path) -> str:
    table = fields()
    lines = [f'{name},"{shape.wkt}"' for name, shape in zip(table["cover"], table.geometry, strict=True)]
    (folder / "fields.csv").write_text("\n".join(["cover,WKT", *lines]))
    return str(folder / "fields.csv")


WAYS = {
    "gpkg": plain("fields.gpkg"),
    "gdb": plain("fields.gdb", "OpenFileGDB"),
    "tab": plain("fields.tab", "MapInfo File"),
    "mif": plain("fields.mif", "MapInfo File"),
    "shp": plain("fields.shp"),
    "shz": plain("fields.shz", "ESRI Shapefile"),
    "fgb": plain("fields.fgb"),
    "gml": plain("fields.gml", "GML"),
    "sqlite": plain("fields.sqlite", "SQLite"),
    "json": plain("fields.json", "GeoJSON", "EPSG:4326"),
    "geojsons": plain("fields.geojsons", "GeoJSONSeq", "EPSG:4326"),
    "geojsonl.gz": gzipped("fields.geojsonl", "GeoJSONSeq"),
    "geojson.gz": gzipped("fields.geojson", "GeoJSON"),
    "kml": plain("fields.kml", "LIBKML", "EPSG:4326"),
    "kmz": plain("fields.kmz", "LIBKML", "EPSG:4326"),
    "parquet": parquet("fields.parquet"),
    "parquet of any name": parquet("fields.data"),
    "gpkg of any name": lambda folder: shutil.move(plain("fields.gpkg")(folder), folder / "fields.data"),
    "zip": zipped(""),
    "zip of a folder": zipped("in it/"),
    "vsizip": zipped("", "/vsizip/FOLDER/fields.zip"),
    "file in a zip": zipped("in it/", "/vsizip/FOLDER/fields.zip/in it/fields.shp"),
}


@pytest.mark.parametrize("way", WAYS)
def test_labels_from_whatever_holds_polygons(tmp_path: Path, scene: Path, way: str) -> None:
    source = WAYS[way](tmp_path)
    assert is_features(source)
    dataset = open_dataset(scene, labels=source, column="cover")
    assert dataset.notes == ()
    found = codes(dataset)
    assert (found == expected()).mean() > 0.995  # corners in degrees round
    if way not in {"json", "geojsons", "geojsonl.gz", "geojson.gz", "kml", "kmz"}:
        assert np.array_equal(found, expected())
    pair = dataset.pairs[0]
    assert len(pair.content()) == len(pair.stamp()) == 64
    assert pickle.loads(pickle.dumps(pair)) == pair  # noqa: S301 - it travels to other processes


def test_labels_as_wkt_in_a_table_and_as_geodataframe(tmp_path: Path, scene: Path) -> None:
    with pytest.raises(SceneError, match=r"has no CRS, and .* has one; assign it"):
        open_dataset(scene, labels=text_of_points(tmp_path), column="cover")
    given = fields().to_crs("EPSG:32618")
    dataset = open_dataset(scene, labels=given, column="cover")
    assert np.array_equal(codes(dataset), expected())
    again = open_dataset(scene, labels=given.copy(), column="cover")
    assert (again.digest, again.pairs[0].stamp()) == (dataset.digest, dataset.pairs[0].stamp())
    other = open_dataset(scene, labels=given.assign(cover=["crop"] * 5), column="cover")
    assert other.pairs[0].content() != dataset.pairs[0].content()
    assert other.pairs[0].stamp() != dataset.pairs[0].stamp()
    assert pickle.loads(pickle.dumps(dataset.pairs[0])) == dataset.pairs[0]  # noqa: S301 - see above
    with pytest.raises(UsageError, match=r"layer. is only for files"):
        open_dataset(scene, labels=given, column="cover", layer="fields")


def test_our_own_geoparquet_is_labels(tmp_path: Path, scene: Path) -> None:
    drawn = np.where(expected() == 255, 7, expected())
    write_raster(tmp_path / "map.tif", drawn[None])
    geoseg.vectorize(tmp_path / "map.tif", tmp_path / "map.parquet")
    assert np.array_equal(codes(open_dataset(scene, labels=tmp_path / "map.parquet", column="code")), drawn)


def test_polygons_in_collections_count_and_what_is_no_label_is_said(tmp_path: Path, scene: Path) -> None:
    line = shapely.LineString([NORTH_UP @ (0, 0), NORTH_UP @ (9, 9)])
    point = shapely.Point(*(NORTH_UP @ (3, 3)))
    empty = shapely.GeometryCollection()
    deep = shapely.GeometryCollection([shapely.GeometryCollection([line, box(20, 20)]), box(30, 20)])
    table = [
        (shapely.GeometryCollection([box(1, 1), line, point]), "crop"),
        (deep, "wood"),
        (shapely.MultiPolygon([box(1, 20), box(10, 20)]), "wet"),
        (box(5, 3), "wet"),  # the later polygon wins where they overlap
        (line, "crop"),
        (shapely.MultiPoint([point, point]), "crop"),
        (empty, "crop"),
        (shapely.Polygon(), "crop"),
        (None, "crop"),
        (box(40, 30), None),
        (box(900, 900), "crop"),
        (box(900, 950), "wood"),
    ]
    shapes, names = zip(*table, strict=True)
    frame(list(shapes), list(names)).to_file(tmp_path / "mixed.gpkg")
    dataset = open_dataset(scene, labels=tmp_path / "mixed.gpkg", column="cover")
    oracle = burned([box(1, 1), box(20, 20), box(30, 20), box(1, 20), box(10, 20), box(5, 3)], [0, 2, 2, 1, 1, 1])
    assert np.array_equal(codes(dataset), oracle)
    assert len(dataset.notes) == 1
    assert dataset.notes[0].removeprefix(f"{tmp_path}{os.sep}") == (
        "mixed.gpkg: 3 empty or null geometries, 3 lines, 2 points cannot be labels, only polygons can; "
        "1 polygon without a class in cover; 2 polygons outside the imagery; left out"
    )


@pytest.mark.parametrize("crs", ["EPSG:32618", "EPSG:4326", "EPSG:3857", "EPSG:3035"])
def test_polygons_beside_all_scenes_are_counted_once(tmp_path: Path, crs: str) -> None:
    for number in (0, 1):
        place = NORTH_UP @ NORTH_UP.translation(100 * number, 0)
        write_raster(tmp_path / "images" / f"s{number}.tif", noise(3, *SHAPE), transform=place)
    places = [(5, 5), (105, 5), (70, 5), (5, 60), (-30, 5)]
    frame([box(*place) for place in places], ["crop", "wood", "wet", "crop", "crop"], crs).to_file(
        tmp_path / "truth.gpkg"
    )
    dataset = open_dataset(tmp_path, labels=tmp_path / "truth.gpkg")
    assert dataset.notes == (f"{tmp_path / 'truth.gpkg'}: 3 polygons outside the imagery; left out",)


@pytest.mark.parametrize("shapes", ["lines", "points", "nothing"])
def test_a_source_without_polygons_says_what_it_holds(tmp_path: Path, scene: Path, shapes: str) -> None:
    made = {
        "lines": [shapely.LineString([(0, 0), (1, 1)])] * 3,
        "points": [shapely.Point(0, 0)] * 3,
        "nothing": [None] * 3,
    }[shapes]
    frame(made, ["a"] * 3).to_file(
        tmp_path / "other.gpkg", **({"geometry_type": "Unknown"} if shapes == "nothing" else {})
    )
    with pytest.raises(SceneError, match=r"has no polygons, only 3 (lines|points|empty or null geometries)"):
        open_dataset(scene, labels=tmp_path / "other.gpkg")


@pytest.mark.parametrize("driver", ["GPKG", "OpenFileGDB", "SQLite", "LIBKML"])
def test_of_several_layers_of_polygons_one_is_named(tmp_path: Path, scene: Path, driver: str) -> None:
    end = {"GPKG": "gpkg", "OpenFileGDB": "gdb", "SQLite": "sqlite", "LIBKML": "kml"}[driver]
    path = tmp_path / f"land.{end}"
    parts = {"north": (box(2, 2), "crop"), "south": (box(20, 20), "wood")}
    crs = "EPSG:4326" if end == "kml" else UTM
    for layer, (shape, name) in parts.items():
        frame([shape], [name], crs).to_file(
            path, driver=driver, layer=layer, **({"mode": "a"} if path.exists() else {})
        )
    roads = frame([shapely.LineString([NORTH_UP @ (0, 0), NORTH_UP @ (9, 9)])], ["road"], crs)
    roads.to_file(path, driver=driver, layer="roads", mode="a")
    if driver == "LIBKML":  # its layers are folders
        every = open_dataset(scene, labels=path, column="cover")
        assert every.notes == (f"{path}: its layers north, south are read as one; choose one with `layer`",)
        assert every.legend.names == ("crop", "wood")
    else:
        with pytest.raises(UsageError, match=r"land\.\w+ has 2 layers of polygons: north, south; name one with .layer"):
            open_dataset(scene, labels=path, column="cover")
    for layer, (shape, name) in parts.items():
        for given in ({"labels": path, "layer": layer}, {"labels": f"{path}|layername={layer}"}):
            dataset = open_dataset(scene, column="cover", **given)
            assert dataset.legend.names == (name,)
            assert np.array_equal(codes(dataset), burned([shape], [0]))
    every = burned([shape for shape, _ in parts.values()], [0, 1])
    for several in ("north,south", ["north", "south"], "all"):
        dataset = open_dataset(scene, labels=path, column="cover", layer=several)
        assert np.array_equal(codes(dataset), every)
    with pytest.raises(UsageError, match="has no layer 'east', it has north, south, roads"):
        open_dataset(scene, labels=path, column="cover", layer="east")
    for number in (-1, 3):
        with pytest.raises(UsageError, match=f"has 3 layers, numbered from 0, got {number}; choose one of them"):
            open_dataset(scene, labels=path, column="cover", layer=number)
    with pytest.raises(SceneError, match="has no polygons, only 1 line"):
        open_dataset(scene, labels=path, column="cover", layer="roads")


def test_layers_of_other_geometry_need_no_name(tmp_path: Path, scene: Path) -> None:
    path = tmp_path / "land.gpkg"
    frame([shapely.Point(0, 0)], ["spring"]).to_file(path, layer="a springs")
    fields().to_file(path, layer="fields", mode="a")
    pyogrio.write_dataframe(pd.DataFrame({"cover": ["x"]}), path, layer="notes", append=True)
    assert np.array_equal(codes(open_dataset(scene, labels=path)), expected())
    assert np.array_equal(codes(open_dataset(scene, labels=f"{path}|layerid=1")), expected())
    with pytest.raises(UsageError, match="subset is not supported"):
        open_dataset(scene, labels=f"{path}|layername=fields|subset=cover = 'crop'")


def test_a_folder_of_geoparquet_parts_is_one_source(tmp_path: Path, scene: Path) -> None:
    (tmp_path / "parts").mkdir()
    for number in (0, 1):
        fields()[number::2].to_parquet(tmp_path / "parts" / f"{number}.parquet")
    assert np.array_equal(codes(open_dataset(scene, labels=tmp_path / "parts")), expected())


def test_a_folder_of_labels_in_many_formats(tmp_path: Path) -> None:
    for number, way in enumerate(("gpkg", "gdb", "tab", "parquet", "geojsonl.gz")):
        write_raster(tmp_path / "images" / f"s{number}.tif", noise(3, *SHAPE))
        (tmp_path / f"{number}").mkdir()
        made = Path(WAYS[way](tmp_path / f"{number}"))
        (tmp_path / "labels").mkdir(exist_ok=True)
        for part in made.parent.iterdir():
            shutil.move(part, tmp_path / "labels" / part.name.replace("fields", f"s{number}"))
    dataset = open_dataset(tmp_path, column="cover")
    assert [pair.id for pair in dataset.pairs] == [f"s{number}" for number in range(5)]
    for pair in dataset.pairs:
        assert (reference_codes(pair, pair.whole) == expected()).mean() > 0.995


@pytest.mark.parametrize("end", ["geojson", "gpkg", "parquet"])
def test_a_scene_without_polygons_among_others_is_unlabeled(tmp_path: Path, end: str) -> None:
    for name, table in {"a": fields()[:0], "b": fields()}.items():
        write_raster(tmp_path / "images" / f"{name}.tif", noise(3, *SHAPE))
        (tmp_path / "labels").mkdir(exist_ok=True)
        file = tmp_path / "labels" / f"{name}.{end}"
        table.to_parquet(file) if end == "parquet" else table.to_file(file)
    dataset = open_dataset(tmp_path, column="cover")
    unlabeled, labeled = dataset.pairs
    assert (unlabeled.decode(unlabeled.whole).codes == 255).all()
    assert np.array_equal(reference_codes(labeled, labeled.whole), expected())
    assert dataset.notes == (f"no labels in {tmp_path / 'labels' / f'a.{end}'}, so these scenes are unlabeled",)
    shutil.copy(tmp_path / "labels" / f"a.{end}", tmp_path / "labels" / f"b.{end}")
    with pytest.raises((SceneError, UsageError), match="has no"):
        open_dataset(tmp_path, column="cover")


def test_what_is_not_there_or_no_data_set_gets_its_own_line(tmp_path: Path, scene: Path) -> None:
    (tmp_path / "empty.gdb").mkdir()
    for name, words in (
        ("none.gpkg", "none.gpkg: no such file; check the path of the labels"),
        ("none.gdb", "none.gdb: no such file"),
        ("none.gpkg|layername=a", "none.gpkg: no such file"),
        ("empty.gdb", "is a folder that GDAL cannot read as polygons"),
    ):
        with pytest.raises(SceneError, match=words) as caught:
            open_dataset(scene, labels=tmp_path / name)
        assert "\n" not in str(caught.value)
    pd.DataFrame({"cover": ["x"]}).to_parquet(tmp_path / "table.parquet")
    with pytest.raises(SceneError, match="Parquet without geometries"):
        open_dataset(scene, labels=tmp_path / "table.parquet")
    with pytest.raises(UsageError, match=r"layer. is for label polygons"):
        open_dataset(scene, labels=write_raster(tmp_path / "codes.tif", noise(1, *SHAPE)[:1] % 3), layer="x")


@pytest.mark.parametrize("west", [179.7, -180.3, 179.4])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32601", "EPSG:3832", "EPSG:3413"])
def test_labels_over_the_180th_meridian_lie_where_they_are_on_the_ground(tmp_path: Path, west: float, crs: str) -> None:
    # in degrees east of the meridian
    over = shapely.Polygon([(-0.25, 60.13), (0.2, 60.15), (0.15, 59.9), (-0.28, 59.88)])
    around = over.difference(shapely.box(0.01, 59.95, 0.05, 60.0)), shapely.box(-0.55, 59.85, -0.28, 60.15)
    if crs in ("EPSG:4326", "EPSG:3857"):  # which end at the meridian
        placed = [
            shapely.MultiPolygon(
                [
                    shapely.transform(half, lambda xy, x=x: xy + np.array([x, 0.0]))
                    for x, side in ((180, shapely.box(-1, 0, 0, 90)), (-180, shapely.box(0, 0, 1, 90)))
                    if (half := shapely.intersection(each, side)).geom_type == "Polygon" and not half.is_empty
                ]
            )
            for each in around
        ]
    else:
        placed = [shapely.transform(each, lambda xy: xy + np.array([180.0, 0.0])) for each in around]
    short = shapely.segmentize(placed, 0.01)  # straight in degrees in all of these
    labels = geopandas.GeoDataFrame({"cover": ["a", "b"]}, geometry=short, crs="EPSG:4326").to_crs(crs)
    place = Affine(0.01, 0, west, 0, -0.01, 60.2)
    path = write_raster(tmp_path / "scene.tif", noise(2, *SHAPE), crs="EPSG:4326", transform=place)

    dataset = open_dataset(path, labels=labels, column="cover")

    lon, lat = place @ tuple(axis.ravel() + 0.5 for axis in np.indices(SHAPE)[::-1])
    expected = np.full(SHAPE, 255, np.uint8)
    for code, each in enumerate(around):
        expected[shapely.contains_xy(each, lon % 360 - 180, lat).reshape(SHAPE)] = code
    assert np.count_nonzero(expected == 0) > 100
    assert np.count_nonzero(codes(dataset) != expected) <= 5
    assert not any("beside" in note for note in dataset.notes)


def test_labels_around_a_pole_cover_what_is_around_it(tmp_path: Path) -> None:
    cap = shapely.Point(0, 0).buffer(1_000_000, 90).difference(shapely.Point(0, 0).buffer(300_000, 90))
    labels = geopandas.GeoDataFrame({"cover": ["a"]}, geometry=[cap], crs="EPSG:3413")
    place = Affine(4, 0, 41, 0, -0.5, 90)
    path = write_raster(tmp_path / "scene.tif", noise(2, *SHAPE), crs="EPSG:4326", transform=place)

    found = codes(open_dataset(path, labels=labels, column="cover"))

    lon, lat = place @ tuple(axis.ravel() + 0.5 for axis in np.indices(SHAPE)[::-1])
    there = geopandas.GeoSeries(shapely.points(lon, lat), crs="EPSG:4326").to_crs("EPSG:3413")
    assert np.count_nonzero((found == 0) != shapely.contains(cap, there.to_numpy()).reshape(SHAPE)) <= 5


def test_labels_of_the_whole_world_are_not_taken_for_torn_ones(tmp_path: Path) -> None:
    labels = geopandas.GeoDataFrame({"cover": ["a"]}, geometry=[shapely.box(-150, -60, 150, 60)], crs="EPSG:4326")
    place = Affine(8, 0, -200, 0, -4, 80)
    path = write_raster(tmp_path / "scene.tif", noise(2, *SHAPE), crs="EPSG:4326", transform=place)

    found = codes(open_dataset(path, labels=labels.to_crs("EPSG:3857"), column="cover"))

    lon, lat = place @ tuple(axis.ravel() + 0.5 for axis in np.indices(SHAPE)[::-1])
    inside = (np.abs((lon + 180) % 360 - 180) < 150) & (np.abs(lat) < 60)
    assert (found == np.where(inside.reshape(SHAPE), 0, 255)).all()


@pytest.mark.parametrize("crs", ["ESRI:54052", "EPSG:8859", "EPSG:6933"])  # of SoilGrids, of the Pacific, of EASE 2
def test_labels_on_both_sides_of_the_cuts_of_a_map_of_the_world(tmp_path: Path, crs: str) -> None:
    shapes = [shapely.box(-70, 55, -20, 80), shapely.box(-60, -40, 10, 40), shapely.box(60, -40, 100, -10)]
    labels = geopandas.GeoDataFrame({"cover": list("abc")}, geometry=shapes, crs="EPSG:4326")
    place = Affine(570_000, 0, -2e7, 0, -290_000, 8_700_000)
    path = write_raster(tmp_path / "scene.tif", noise(2, *SHAPE), crs=crs, transform=place)

    found = codes(open_dataset(path, labels=labels, column="cover"))

    x, y = place @ tuple(axis.ravel() + 0.5 for axis in np.indices(SHAPE)[::-1])
    there = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    lon, lat = there.transform(x, y)
    inside = np.hypot(*np.subtract(there.transform(lon, lat, direction="INVERSE"), (x, y))) < 1
    expected = np.full(SHAPE, 255, np.uint8)
    for code, each in enumerate(shapes):
        expected[(shapely.contains_xy(each, lon, lat) & inside).reshape(SHAPE)] = code
    assert min(np.bincount(expected.ravel())[:3]) > 5
    assert np.count_nonzero((found != expected) & np.isfinite(lon).reshape(SHAPE)) <= 3


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32601", "EPSG:3857"])
def test_labels_in_the_pacific_s_mercator_lie_where_they_are(tmp_path: Path, crs: str) -> None:
    place = Affine(1000, 0, 3_280_000, 0, -1000, 1_000_000)
    shapes = [
        shapely.box(*(place @ corner[:2]), *(place @ corner[2:]))
        for corner in [(2.2, 3.2, 20.2, 30.2), (30.2, 5.2, 61.2, 25.2)]
    ]
    labels = geopandas.GeoDataFrame({"cover": ["a", "b"]}, geometry=shapes, crs="EPSG:3832").to_crs(crs)
    path = write_raster(tmp_path / "scene.tif", noise(2, *SHAPE), crs="EPSG:3832", transform=place)
    expected = rasterio.features.rasterize(
        list(zip(shapes, (0, 1), strict=True)), SHAPE, fill=255, transform=place, dtype="uint8"
    )
    assert np.count_nonzero(codes(open_dataset(path, labels=labels, column="cover")) != expected) <= 40


def test_a_damaged_transform_of_the_scene_is_said(tmp_path: Path) -> None:
    damaged = Affine(np.nan, 0, 4e5, 0, -10, 5e6)
    write_raster(tmp_path / "a.tif", np.ones((1, 9, 7), np.uint8), crs=UTM, transform=damaged)
    frame = geopandas.GeoDataFrame({"class": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=UTM)
    with pytest.raises(SceneError, match=r"cannot align .*pixels have no area or no place.*edit-info --transform"):
        geoseg.evaluate(tmp_path / "a.tif", frame, column="class")
