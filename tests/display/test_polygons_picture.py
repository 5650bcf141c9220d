from __future__ import annotations

import gzip
import importlib.util
import itertools
import zipfile
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import shapes

from geoseg.display import check_picture, picture
from geoseg.display.features import _style_colors, open_features
from geoseg.display.sheet import MapScale, _bar_length_m, vertical_stretch
from geoseg.errors import GeosegError, OutputError, UsageError
from geoseg.legend import DEEPGLOBE, LandCover, Legend
from geoseg.raster import GeoBox
from geoseg.vector import vectorize

image = pytest.importorskip("matplotlib.image", reason="pictures need the extra [plot]")
Canvas = importlib.import_module("geoseg.display.canvas").Canvas

UTM = "EPSG:32631"


def draw_polygons(polygons: Any, out: Path, **options: Any) -> Path:
    """Draw in the colors of the legend, half as wide as usual, in a quarter of the time."""
    return picture(polygons=polygons, out=out, overwrite=True, **{"palette": "own", "width_px": 1000} | options)


COLORS = np.array([land_cover.color for land_cover in DEEPGLOBE])


def frame_of(codes: NDArray[np.uint8], scale: float = 10.0, crs: str | None = UTM) -> Any:
    """Return the polygons of a raster, traced by rasterio."""
    transform = Affine(scale, 0, 400_000, 0, -scale, 5_000_000)
    found = [(shapely.geometry.shape(shape), int(code)) for shape, code in shapes(codes, transform=transform)]
    geometry = [shape for shape, _ in found]
    columns = {
        "code": np.array([code for _, code in found], np.int32),
        "name": [DEEPGLOBE.by_code(code).name for _, code in found],
        "area_m2": [shape.area for shape in geometry],
    }
    return geopandas.GeoDataFrame(columns, geometry=geometry, crs=crs)


def noise(rows: int, cols: int, classes: int = 6) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, classes, (rows, cols)).astype(np.uint8)


def painted(frame: Any, long_side_px: int, batches: int = 1) -> NDArray[np.uint8]:
    canvas = Canvas(tuple(frame.total_bounds), long_side_px)
    shown = frame.geometry.to_numpy()
    for some, code in itertools.product(np.array_split(np.arange(len(frame)), batches), range(len(DEEPGLOBE))):
        canvas.fill(shown[some][frame["code"].to_numpy()[some] == code], DEEPGLOBE.by_code(code).color)
    pixels: NDArray[np.uint8] = canvas.image()
    return pixels


@pytest.mark.parametrize("factor", [1, 4, 16])
def test_a_pixel_is_the_mean_of_what_is_in_it(factor: int) -> None:
    """A pixel's color is the mean over its area, even if the polygons in it are far smaller."""
    codes = noise(64, 96)
    expected = COLORS[codes].reshape(64 // factor, factor, 96 // factor, factor, 3).mean(axis=(1, 3))
    pixels = painted(frame_of(codes), 96 // factor)
    assert pixels.shape[:2] == expected.shape[:2]
    assert (pixels[..., 3] >= 253).all()
    np.testing.assert_allclose(pixels[..., :3], expected, atol=5)


def test_batches_leave_no_trace() -> None:
    frame = frame_of(noise(64, 96))
    np.testing.assert_allclose(painted(frame, 24).astype(int), painted(frame, 24, batches=7), atol=6)


def test_holes_and_bare_ground_stay_bare() -> None:
    codes = np.zeros((32, 32), np.uint8)
    codes[8:24, 8:24] = 3
    codes[12:20, 12:20] = 0
    frame = frame_of(codes)
    ring = painted(frame[frame["code"] == 3], 16)
    assert (ring[4:12, 4:12, 3] == 0).all()
    assert (ring[[0, 15], :, 3] == 255).all()


def test_parts_are_painted_as_if_they_were_features() -> None:
    frame = frame_of(noise(64, 96))
    np.testing.assert_allclose(painted(frame.dissolve("code", as_index=False), 24), painted(frame, 24), atol=2)


def test_borders_are_drawn_round_what_is_large_alone() -> None:
    codes = np.zeros((64, 64), np.uint8)
    codes[:, 32:] = 4
    codes[10:12, 10:12] = 1
    frame = frame_of(codes)
    canvas = Canvas(tuple(frame.total_bounds), 64)
    canvas.fill(frame.geometry.to_numpy(), (200, 200, 200))
    canvas.border(frame.geometry.to_numpy())
    dark = canvas.image()[..., 0] < 190
    assert dark[20:40, 31:33].all()
    assert not dark[5:20, 5:20].any()
    assert not dark[5:-5, 40:60].any()


def test_every_format_gives_the_same_picture(tmp_path: Path) -> None:
    frame = frame_of(np.repeat(np.repeat(noise(6, 9), 10, axis=0), 10, axis=1))
    pictures = [draw_polygons(frame, tmp_path / "frame.png", title="one")]
    for ending in ("gpkg", "fgb", "geojsonl"):
        frame.to_file(tmp_path / f"map.{ending}", **({"driver": "GeoJSONSeq"} if ending == "geojsonl" else {}))
    frame.to_parquet(tmp_path / "map.parquet")
    pictures += [
        draw_polygons(tmp_path / f"map.{ending}", tmp_path / f"{ending}.png", title="one")
        for ending in ("gpkg", "fgb", "parquet")
    ]
    assert len({path.read_bytes() for path in pictures}) == 1
    first = image.imread(pictures[0])
    assert max(first.shape) >= 1000
    geographic = image.imread(draw_polygons(tmp_path / "map.geojsonl", tmp_path / "seq.png", title="one"))
    assert shares(geographic) == pytest.approx(shares(first), rel=0.05)


def shares(pixels: NDArray[np.floating[Any]]) -> dict[bytes, float]:
    """Return the pixel count of each pure legend color relative to water; white, the page, is left out."""
    levels = np.round(pixels[..., :3] * 255).astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    counts = {cover.name: float((levels == int.from_bytes(bytes(cover.color), "big")).sum()) for cover in DEEPGLOBE}
    return {
        name.encode(): count / counts["water"]
        for name, count in counts.items()
        if name not in {"barren_land", "unknown"}
    }


def test_colours_are_those_of_the_legend_given(tmp_path: Path) -> None:
    frame = frame_of(np.full((20, 20), 4, np.uint8))
    pixels = image.imread(draw_polygons(frame, tmp_path / "p.png", legend=Legend((LandCover(4, "w", (10, 200, 30)),))))
    assert (np.round(pixels[..., :3] * 255) == (10, 200, 30)).all(axis=-1).sum() > 200_000


def test_colours_of_a_geopackages_style_are_read(tmp_path: Path) -> None:
    codes = np.repeat(np.arange(6, dtype=np.uint8), 10).reshape(1, 6, 10)
    with rasterio.open(tmp_path / "m.tif", "w", driver="GTiff", dtype="uint8", count=1, height=6, width=10) as file:
        file.write(codes)
    out = vectorize(tmp_path / "m.tif", tmp_path / "m.gpkg", legend=DEEPGLOBE)
    assert _style_colors(out) == {cover.name: cover.color for cover in DEEPGLOBE}
    (tmp_path / "broken.gpkg").write_bytes(b"no database")
    assert _style_colors(tmp_path / "broken.gpkg") == {}


def test_no_polygons_are_a_picture_all_the_same(tmp_path: Path) -> None:
    empty = frame_of(np.zeros((4, 4), np.uint8)).iloc[:0]
    empty.to_file(tmp_path / "empty.gpkg")
    empty.to_parquet(tmp_path / "empty.parquet")
    for name in ("empty.gpkg", "empty.parquet"):
        assert open_features(tmp_path / name).bounds is None
        assert image.imread(draw_polygons(tmp_path / name, tmp_path / "p.png")).mean() > 0.9


def test_polygons_beyond_all_numbers_are_a_picture_all_the_same(tmp_path: Path) -> None:
    frame = frame_of(np.ones((2, 2), np.uint8)).set_geometry([shapely.box(-1e308, -1e308, 1e308, 1e308)])
    assert draw_polygons(frame, tmp_path / "huge.png").stat().st_size > 0


def test_more_classes_than_any_palette(tmp_path: Path) -> None:
    codes = np.arange(100, dtype=np.uint8).reshape(10, 10)
    transform = Affine(1, 0, 0, 0, -1, 10)
    found = [(shapely.geometry.shape(shape), int(code)) for shape, code in shapes(codes, transform=transform)]
    columns = {"code": [code for _, code in found], "name": [f"class {code}" for _, code in found], "area_px": 1.0}
    frame = geopandas.GeoDataFrame(columns, geometry=[shape for shape, _ in found])
    levels = np.round(image.imread(draw_polygons(frame, tmp_path / "p.png"))[..., :3] * 255).astype(int)
    colors, counts = np.unique(levels.reshape(-1, 3) @ (65536, 256, 1), return_counts=True)
    assert (counts > 3_000).sum() >= 95
    assert len(colors) > 95


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.gpkg", None, "no such file"),
        ("text.gpkg", b"not a database", "cannot read polygons from"),
        ("text.fgb", b"not a FlatGeobuf", "cannot read polygons from"),
        ("text.parquet", b"not a Parquet file", "cannot read polygons from"),
    ],
)
def test_what_is_no_file_of_polygons_is_one_line(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(GeosegError, match=said) as told:
        draw_polygons(tmp_path / name, tmp_path / "p.png")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "p.png").exists()


def test_other_peoples_columns_are_refused(tmp_path: Path) -> None:
    frame = frame_of(np.zeros((4, 4), np.uint8)).drop(columns="name")
    with pytest.raises(UsageError, match="columns code, area_m2"):
        draw_polygons(frame, tmp_path / "p.png")


def test_tables_that_no_verb_can_use_are_one_line(tmp_path: Path) -> None:
    frame = frame_of(np.zeros((4, 4), np.uint8))
    tables = {
        "several columns called code": pd.concat([frame, frame[["code"]]], axis=1),
        "no active geometry column": pd.DataFrame(frame.drop(columns="geometry")),
        r"cannot be drawn as a map: it has the columns 5, 6": pd.DataFrame({5: [1], 6: [2]}),
        "`polygons` must be a path or a GeoDataFrame": [1],
    }
    for said, table in tables.items():
        with pytest.raises(UsageError, match=said):
            draw_polygons(table, tmp_path / "p.png")
    for table in ([1], pd.DataFrame({"a": [1]})):
        with pytest.raises(UsageError) as told:
            draw_polygons(table, tmp_path / "p.png")
        assert told.value.parameter == "polygons"


@pytest.mark.parametrize("form", ["frame", "gpkg", "parquet"])
@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("code", None, "some of its polygons have no code"),
        ("code", "x", "column code holds something that is not a number"),
        ("code", 1.5, r"code 1\.5 is not a whole number"),
        ("area_m2", None, "some of its polygons have no area_m2"),
        ("area_m2", "large", "column area_m2 holds something that is not a number"),
    ],
)
def test_cells_that_are_no_code_or_area_are_one_line(
    tmp_path: Path, form: str, column: str, value: object, said: str
) -> None:
    frame = frame_of(np.array([[0, 1]], np.uint8))
    frame[column] = pd.Series([value, *frame[column].tolist()[1:]], dtype=object if isinstance(value, str) else float)
    if isinstance(value, str):
        frame[column] = frame[column].astype(str)
    with pytest.raises(UsageError, match=said):
        draw_polygons(as_form(frame, tmp_path, form), tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()


@pytest.mark.parametrize("form", ["frame", "gpkg", "parquet"])
def test_a_class_without_a_name_is_called_by_its_code(tmp_path: Path, form: str) -> None:
    frame = frame_of(np.array([[4, 5]], np.uint8)).assign(name=[None, "b"])
    batches = open_features(as_form(frame, tmp_path, form)).batches()
    named = dict(pair for batch in batches for pair in zip(batch.codes.tolist(), batch.names, strict=True))
    assert named == {4: "class 4", 5: "b"}
    assert draw_polygons(as_form(frame, tmp_path, form), tmp_path / "p.png").is_file()


def as_form(frame: Any, folder: Path, form: str) -> Any:
    """Return the frame itself, or the file it was written to."""
    path = folder / f"polygons.{form}"
    if form == "gpkg":
        frame.to_file(path)
    if form == "parquet":
        frame.to_parquet(path)
    return frame if form == "frame" else path


def test_a_target_is_checked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old.png").write_bytes(b"dear to somebody")
    assert check_picture(tmp_path / "new.png", overwrite=False) == tmp_path / "new.png"
    assert check_picture(tmp_path / "old.png", overwrite=True) == tmp_path / "old.png"
    with pytest.raises(OutputError, match=r"old\.png exists"):
        check_picture(tmp_path / "old.png", overwrite=False)
    with pytest.raises(UsageError, match=r"must end in \.png"):
        check_picture(tmp_path / "map.jpg", overwrite=False)
    with pytest.raises(UsageError, match="read by this run"):
        check_picture(tmp_path / "old.png", overwrite=True, others=[str(tmp_path / "old.png")])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(GeosegError, match="pip install matplotlib"):
        check_picture(tmp_path / "new.png", overwrite=False)
    assert (tmp_path / "old.png").read_bytes() == b"dear to somebody"


@pytest.mark.parametrize(
    ("crs", "bounds", "metres", "north"),
    [
        (UTM, (499_000, 5_000_000, 501_000, 5_002_000), 1.0, 0.0),
        ("EPSG:4326", (10.0, 59.9, 10.2, 60.1), 55_800.0, 0.0),
        ("EPSG:3857", (0, 8_399_000, 2_000, 8_401_000), 0.5, 0.0),  # Web Mercator at 60 degrees north
        ("EPSG:3413", (1_000_000, 1_000_000, 1_001_000, 1_001_000), 1.0, -135.0),  # the pole is at the lower left
        ("EPSG:3413", (-1_000_000, -1_000_000, 1_000_000, 1_000_000), 1.0, None),  # all around it
        ("EPSG:32661", (2_000_000, 2_500_000, 2_001_000, 2_501_000), 1.0, 180.0),
    ],
)
def test_the_ground_is_measured(crs: str, bounds: tuple[float, ...], metres: float, north: float | None) -> None:
    ground = MapScale.of_bounds(CRS.from_user_input(crs), bounds)  # type: ignore[arg-type]
    assert ground.meters_per_width == pytest.approx(metres * (bounds[2] - bounds[0]), rel=0.05)
    if north is None:
        assert ground.north is None
    else:
        assert ground.north is not None
        assert (ground.north - north + 180) % 360 - 180 == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("turned", [0, 30, 150, -80])
def test_north_is_told_of_rasters_that_are_turned(turned: float) -> None:
    place = Affine.translation(500_000, 5_200_000) @ Affine.rotation(turned) @ Affine.scale(10, -10)
    box = GeoBox(60, 80, crs=CRS.from_epsg(32633), transform=place)
    found = MapScale.of_raster(box)
    assert found.meters_per_width == pytest.approx(800, rel=0.01)
    assert found.north == pytest.approx(turned, abs=0.2)  # the raster turned to the left, so north is to the right


def test_no_crs_has_no_scale() -> None:
    assert MapScale.of_bounds(None, (0, 0, 1, 1)) == MapScale()
    assert MapScale.of_raster(GeoBox(6, 8, crs=None, transform=Affine.identity())) == MapScale()
    assert vertical_stretch(None, (0, 0, 1, 1)) == 1.0


@pytest.mark.parametrize(
    "wkt",
    [
        'LOCAL_CS["site",UNIT["metre",1]]',
        'GEOGCS["Moon",DATUM["Moon",SPHEROID["Moon",1737400,0]],PRIMEM["Meridian",0],UNIT["degree",0.01745329251994]]',
    ],
)
def test_a_crs_from_which_no_way_leads_to_earth_has_no_scale(wkt: str) -> None:
    crs = CRS.from_wkt(wkt)
    assert MapScale.of_bounds(crs, (0, 0, 1, 1)) == MapScale()
    assert MapScale.of_raster(GeoBox(6, 8, crs=crs, transform=Affine(1, 0, 0, 0, -1, 9))) == MapScale()


def test_degrees_of_longitude_are_drawn_shorter() -> None:
    assert vertical_stretch(CRS.from_epsg(4326), (0, 59, 1, 61)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("longest", "bar"), [(340, 200), (99, 50), (5, 5), (0.34, 0.2), (1e4, 1e4), (2e6, None), (0, None)]
)
def test_bars_are_round_numbers(longest: float, bar: float | None) -> None:
    assert _bar_length_m(longest) == (None if bar is None else pytest.approx(bar))


@pytest.mark.parametrize(
    "form", ["map.gdb", "map.shp", "map.tab", "map.sqlite", "map.zip", "map.geojsonl.gz", "map.data"]
)
def test_polygons_of_any_driver_are_drawn_alike(tmp_path: Path, form: str) -> None:
    frame = frame_of(np.kron(np.arange(6).reshape(2, 3), np.ones((8, 9))).astype(np.uint8))
    path = tmp_path / form
    if form == "map.zip":
        (tmp_path / "in").mkdir()
        frame.to_file(tmp_path / "in" / "map.shp")
        with zipfile.ZipFile(path, "w") as archive:
            for part in (tmp_path / "in").iterdir():
                archive.write(part, f"folder/{part.name}")
    elif form == "map.geojsonl.gz":
        frame.to_crs("EPSG:4326").to_file(tmp_path / "map.geojsonl", driver="GeoJSONSeq")
        path.write_bytes(gzip.compress((tmp_path / "map.geojsonl").read_bytes()))
    elif form == "map.data":
        frame.to_parquet(path)
    else:
        drivers = {"gdb": "OpenFileGDB", "shp": "ESRI Shapefile", "tab": "MapInfo File", "sqlite": "SQLite"}
        frame.to_file(path, driver=drivers[form.rpartition(".")[2]])
    batches = list(open_features(path).batches())
    assert [code for batch in batches for code in batch.codes] == frame["code"].tolist()
    shapes = np.concatenate([batch.shapes for batch in batches])
    wanted = frame.to_crs("EPSG:4326") if form.endswith("gz") else frame
    apart = shapely.area(shapely.symmetric_difference(shapes, np.asarray(wanted.geometry.array)))
    assert (apart < 1e-3 * shapely.area(shapes)).all()  # GeoJSON rounds


def test_polygons_in_collections_are_drawn_and_other_things_are_not(tmp_path: Path) -> None:
    frame = frame_of(np.kron(np.arange(6).reshape(2, 3), np.ones((8, 9))).astype(np.uint8))
    areas = list(frame.geometry)
    shapes = [
        shapely.GeometryCollection([areas[0], areas[0].centroid]),
        areas[1].centroid,
        None,
        shapely.GeometryCollection([areas[3], shapely.GeometryCollection([areas[4]])]),
        shapely.MultiPolygon([areas[4]]),
        areas[5],
    ]
    mixed = frame.set_geometry(shapes, crs=frame.crs)
    mixed.to_file(tmp_path / "map.gpkg")
    for given in (mixed, tmp_path / "map.gpkg"):
        (batch,) = open_features(given).batches()
        assert batch.codes.tolist() == frame["code"].iloc[[0, 3, 4, 5]].tolist()
        np.testing.assert_allclose(
            shapely.area(batch.shapes), [each.area for each in (areas[0], areas[3].union(areas[4]), areas[4], areas[5])]
        )


def test_of_several_layers_that_could_be_drawn_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "map.gpkg"
    one, two = (frame_of(np.full((4, 4), code, np.uint8)) for code in (1, 2))
    one.drop(columns=["code", "name"]).to_file(path, layer="parcels")
    one.to_file(path, layer="spring", mode="a")
    assert next(open_features(path).batches()).codes.tolist() == [1]
    two.to_file(path, layer="autumn", mode="a")
    with pytest.raises(
        UsageError, match=r"has 2 layers of polygons: spring, autumn; name the one to draw with `layer`"
    ):
        open_features(path)
    assert next(open_features(path, map_name="autumn").batches()).codes.tolist() == [2]
    assert next(open_features(path, "spring", "autumn").batches()).codes.tolist() == [1]
    assert next(open_features(path, "autumn").batches()).codes.tolist() == [2]
    assert next(open_features(f"{path}|layername=autumn").batches()).codes.tolist() == [2]
    with pytest.raises(UsageError, match="columns area_m2"):
        open_features(path, "parcels")
    with pytest.raises(UsageError, match="has no layer 'winter', it has parcels, spring, autumn"):
        open_features(path, "winter")
