"""An area of interest against rasterio's burned mask, and its map against the same pixels of the whole map."""

from __future__ import annotations

import json
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform, transform_geom

import geoseg
from geoseg.errors import GeosegError, OutsideError, SceneError, UsageError
from geoseg.features import read_area
from geoseg.inference import map_tile
from geoseg.legend import NODATA
from geoseg.model import ModelBundle
from geoseg.raster import AreaOfInterest, GeoBox, Scene, Window
from geoseg.raster.area_of_interest import mask_file
from tests.inference.conftest import random_pixels, write_scene
from tests.inference.position_engine import PositionEngine
from tests.networks import tiny_bundle

UTM = "EPSG:32631"
GRID = GeoBox(300, 400, from_origin(500_000, 5_400_000, 0.5, 0.5), CRS.from_epsg(32631))
WHOLE = Window(0, 0, 300, 400)
TOP_LEFT = np.array([500_000, 5_400_000])


def star(seed: int, middle: tuple[float, float] = (100, -75), reach: float = 70) -> shapely.Polygon:
    """Return a ragged polygon with a hole, in meters from the scene's corner."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.random(60)) * 2 * np.pi
    ring = np.stack([np.cos(angles), np.sin(angles)], 1) * (reach * (0.4 + 0.6 * rng.random(60)))[:, None]
    shell = TOP_LEFT + np.array(middle) + ring
    return shapely.Polygon(shell, [TOP_LEFT + np.array(middle) + ring[::6] * 0.3])


def burned(shapes: list[Any], grid: GeoBox = GRID) -> NDArray[np.bool_]:
    return rasterio.features.rasterize(
        [(shape, 1) for shape in shapes], out_shape=grid.shape, transform=grid.transform
    ).astype(bool)


@pytest.mark.parametrize("seed", range(4))
def test_the_pixels_of_an_area_are_those_that_rasterio_burns(seed: int) -> None:
    shape = star(seed)
    np.testing.assert_array_equal(read_area(shape, GRID, "scene").mask(WHOLE), burned([shape]))


def test_windows_of_any_place_see_the_same_area() -> None:
    area = read_area(star(1), GRID, "scene")
    around = np.zeros((500, 600), bool)
    around[100:400, 100:500] = area.mask(WHOLE)
    for window in (
        Window(-20, -30, 200, 190),
        Window(140, 7, 1, 400),
        Window(299, 399, 50, 50),
        Window(60, 350, 90, 5),
    ):
        row, col = window.row + 100, window.col + 100
        expected = around[row : row + window.height, col : col + window.width]
        np.testing.assert_array_equal(area.mask(window), expected)
        assert area.touches(window) == expected.any()
        np.testing.assert_array_equal(
            area[Window(5, 8, 10, 10)].mask(Window(window.row - 5, window.col - 8, *window.shape)), expected
        )


@pytest.mark.parametrize(
    "ring",
    [
        [(5, 0), (400, 280), (395, 300), (0, 20)],
        [(10, 10), (300, 40), (60, 290)],
        [(50, 60), (90, 60), (90, 99)],
    ],
)
@pytest.mark.parametrize("side_px", [7, 90])
def test_a_window_may_touch_an_area_where_shapely_says_so(ring: list[tuple[int, int]], side_px: int) -> None:
    """A long edge has a large bounding box but crosses only a few windows."""
    area, shape = AreaOfInterest.of([np.array([*ring, ring[0]], np.float64)], "a"), shapely.Polygon(ring)
    for row in range(-20, 320, 10):
        for col in range(-20, 420, 10):
            may = area.may_touch(Window(row, col, side_px, side_px))
            assert may == shape.intersects(shapely.box(col, row, col + side_px, row + side_px))


def test_polygons_that_overlap_are_one_area_and_rotated_grids_have_it_too() -> None:
    shapes = [star(2), star(3, (60, -60)), shapely.box(500_010, 5_399_900, 500_060, 5_399_980)]
    frame = geopandas.GeoDataFrame(geometry=shapes, crs=UTM)
    np.testing.assert_array_equal(read_area(frame, GRID, "scene").mask(WHOLE), burned(shapes))
    turned = GeoBox(300, 400, GRID.transform @ Affine.rotation(25), GRID.crs)
    np.testing.assert_array_equal(read_area(frame, turned, "scene").mask(WHOLE), burned(shapes, turned))


def test_parts_of_a_multipolygon_beside_the_scene_are_no_more_of_the_area_than_polygons_there() -> None:
    near, far = star(0, (150, -75), 40), star(1, (30, -400), 30)
    assert far.bounds[3] < GRID.bounds[1] < near.bounds[1]
    area = read_area(shapely.MultiPolygon([near, far]), GRID, "scene")
    assert area.within(GRID.shape) == read_area(near, GRID, "scene").within(GRID.shape)


def test_another_crs_moves_the_area_and_its_long_edges_bend() -> None:
    """The sides of a quadrangle in degrees, as wide as the scene, are curves in UTM."""
    grid = GeoBox(800, 800, from_origin(300_000, 5_400_000, 500, 500), GRID.crs)
    box = shapely.box(0.6, 45.5, 4.9, 48.4)
    mask = read_area(geopandas.GeoDataFrame(geometry=[box], crs="EPSG:4326"), grid, "scene").mask(
        Window(0, 0, 800, 800)
    )
    xs, ys = (np.arange(800) + 0.5) * 500 + 300_000, 5_400_000 - (np.arange(800) + 0.5) * 500
    xx, yy = np.meshgrid(xs, ys)
    lon, lat = (np.array(each).reshape(xx.shape) for each in transform(UTM, "EPSG:4326", xx.ravel(), yy.ravel()))
    inside = (lon > 0.6) & (lon < 4.9) & (lat > 45.5) & (lat < 48.4)
    assert np.count_nonzero(mask != inside) <= 10  # of 640 000: edges through centers


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "shp", "fgb", "parquet"])
def test_any_file_of_polygons_in_any_crs(tmp_path: Path, suffix: str) -> None:
    frame = geopandas.GeoDataFrame({"name": ["a", "b"]}, geometry=[star(4), star(5, (150, -110), 20)], crs=UTM)
    there = frame.to_crs("EPSG:4326")
    path = tmp_path / f"area.{suffix}"
    (there.to_parquet if suffix == "parquet" else there.to_file)(path)
    mask = read_area(path, GRID, "scene").mask(WHOLE)
    assert np.count_nonzero(mask != burned(list(frame.geometry))) <= 3


def test_geojson_of_python_is_in_degrees_and_a_geometry_in_the_scenes_crs() -> None:
    shape = star(6)
    there = transform_geom(UTM, "EPSG:4326", shapely.geometry.mapping(shape))
    for given in (dict(there), {"type": "Feature", "properties": {}, "geometry": dict(there)}):
        assert np.count_nonzero(read_area(given, GRID, "scene").mask(WHOLE) != burned([shape])) <= 3
    moved = shapely.geometry.shape(there)
    mask = read_area(moved, GRID, "scene", "EPSG:4326").mask(WHOLE)
    assert np.count_nonzero(mask != burned([shape])) <= 3


def test_an_area_over_the_meridian_lies_on_scenes_at_both_ends() -> None:
    area = geopandas.GeoDataFrame(
        geometry=[shapely.box(179, -18, 180, -17), shapely.box(-180, -18, -179, -17)], crs=4326
    )
    grid = GeoBox(200, 400, from_origin(178, -16.5, 0.01, 0.01), CRS.from_epsg(4326))  # reaches to 182
    mask = read_area(area, grid, "scene").mask(Window(0, 0, 200, 400))
    assert mask[50:150, 100:300].all()
    assert mask.sum() == 100 * 200


def test_an_area_far_larger_than_what_a_projection_shows() -> None:
    world = geopandas.GeoDataFrame(geometry=[shapely.box(-180, -90, 180, 90)], crs="EPSG:4326")
    assert read_area(world, GRID, "scene").mask(WHOLE).all()


CUT = ["ESRI:54052", "+proj=igh_o", "+proj=imoll +lon_0=20", "EPSG:8859", "+proj=robin +lon_0=-150"]
"""World maps cut between their lobes, or along another meridian than the 180th."""


@pytest.mark.parametrize("crs", [*CUT, "+proj=laea +lat_0=10 +lon_0=70"])
@pytest.mark.parametrize("box", [(-60, 50, -20, 80), (60, -40, 100, 10), (-110, 10, -20, 50), (-180, -60, 180, 80)])
def test_an_area_lies_on_both_sides_of_the_cuts_of_a_map_of_the_world(
    crs: str, box: tuple[float, float, float, float]
) -> None:
    grid = GeoBox(90, 200, from_origin(-2e7, 9e6, 200_000, 200_000), CRS.from_user_input(crs))
    area = geopandas.GeoDataFrame(geometry=[shapely.box(*box)], crs="EPSG:4326")
    mask = read_area(area, grid, "scene").mask(Window(0, 0, 90, 200))
    x, y = grid.transform @ tuple(axis.ravel() + 0.5 for axis in np.indices((90, 200))[::-1])
    there = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    lon, lat = there.transform(x, y)
    again = np.hypot(*np.subtract(there.transform(lon, lat, direction="INVERSE"), (x, y)))
    expected = (shapely.contains_xy(shapely.box(*box), lon, lat) & (again < 1)).reshape(mask.shape)
    assert expected.sum() > 50
    on_earth = np.isfinite(lon).reshape(mask.shape)
    assert np.count_nonzero((mask != expected) & on_earth) <= 4


def test_a_value_travels_and_is_known_by_what_it_holds() -> None:
    area = read_area(star(1), GRID, "scene")
    again = pickle.loads(pickle.dumps(area))  # noqa: S301 - our own
    assert again == area == read_area(star(1), GRID, "scene")
    assert area != read_area(star(2), GRID, "scene")


@pytest.mark.parametrize(
    ("area", "kind", "said"),
    [
        (shapely.Point(500_010, 5_399_990), UsageError, "has no polygons, only 1 point; give polygons"),
        (shapely.LineString([(0, 0), (1, 1)]), UsageError, "no polygons, only 1 line"),
        (shapely.Polygon(), UsageError, "no polygons, only 1 empty or null geometry"),
        (shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)]), UsageError, "is not valid (Self-intersection"),
        (shapely.box(0, 0, 1, 1), OutsideError, "no pixel of .* has its center in `aoi`"),
        (shapely.box(500_000.01, 5_399_990.01, 500_000.2, 5_399_990.2), OutsideError, "no pixel of"),
        ({"type": "Polygone"}, UsageError, "`aoi` is not valid GeoJSON"),
        ("nowhere.gpkg", SceneError, "nowhere.gpkg: no such file; check the path of the area of interest"),
        (5, UsageError, "`aoi` must be a path, a GeoDataFrame, a shapely geometry or GeoJSON, got 5"),
    ],
    ids=["point", "line", "empty", "bow tie", "beside", "between centers", "GeoJSON", "no file", "number"],
)
def test_what_is_no_area_is_refused(tmp_path: Path, area: Any, kind: type[GeosegError], said: str) -> None:
    scene = write_scene(tmp_path / "scene.tif", random_pixels(40, 50, 0, 0))
    with pytest.raises(kind, match=said.replace("(", r"\(")):
        geoseg.within(scene, area)


def test_an_area_needs_a_crs_and_so_does_its_scene(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", random_pixels(300, 400, 0, 0))
    frame = geopandas.GeoDataFrame(geometry=[star(1)])
    frame.to_file(tmp_path / "area.shp")
    with pytest.raises(UsageError, match="has no CRS; give it with `aoi_crs`"):
        geoseg.within(scene, tmp_path / "area.shp")
    assert geoseg.within(scene, tmp_path / "area.shp", UTM).area == geoseg.within(scene, star(1)).area
    with pytest.raises(UsageError, match="`aoi_crs` is only for areas without a CRS"):
        geoseg.within(scene, frame.set_crs(UTM), "EPSG:4326")
    with pytest.raises(UsageError, match="`aoi_crs` is not a known CRS"):
        geoseg.within(scene, star(1), "EPSG:nonsense")
    bare = write_scene(tmp_path / "bare.tif", random_pixels(300, 400, 0, 0), transform=Affine.identity(), crs=None)
    with pytest.raises(SceneError, match="has no grid in a CRS"):
        geoseg.within(bare, star(1))
    flat = write_scene(tmp_path / "flat.tif", random_pixels(300, 400, 0, 0), transform=Affine(2, 0, 0, 0, 0, 0))
    with pytest.raises(SceneError, match=r"has no grid in a CRS.*rio edit-info --transform"):
        geoseg.within(flat, star(1))
    frame.set_crs(UTM).to_file(tmp_path / "two.gpkg", layer="a")
    frame.set_crs(UTM).to_file(tmp_path / "two.gpkg", layer="b")
    with pytest.raises(UsageError, match="has 2 layers of polygons: a, b; name one as in"):
        geoseg.within(scene, tmp_path / "two.gpkg")
    assert geoseg.within(scene, f"{tmp_path / 'two.gpkg'}|layername=b").area is not None
    frame.set_crs(UTM).to_parquet(tmp_path / "one.parquet")
    with pytest.raises(UsageError, match=r"one\.parquet has only one layer, one, got 'b'; leave it out$") as caught:
        geoseg.within(scene, f"{tmp_path / 'one.parquet'}|layername=b")
    assert caught.value.parameter == "aoi"


@pytest.mark.parametrize(
    ("inside", "stem"), [("!first; then", "b;c!d"), ("x;y", "a"), ("x!y", "a"), ("plain", "b;c"), ("plain", "b!c")]
)
@pytest.mark.parametrize("kind", ["gpkg", "shp", "geojson", "fgb", "zip"])
def test_a_file_of_any_name_is_read(tmp_path: Path, kind: str, inside: str, stem: str) -> None:
    """pyogrio cuts paths at a semicolon or an exclamation mark."""
    scene = write_scene(tmp_path / "scene.tif", random_pixels(300, 400, 0, 0))
    folder = tmp_path / inside
    folder.mkdir()
    frame = geopandas.GeoDataFrame(geometry=[star(1)], crs=UTM)
    frame.to_file(tmp_path / f"a.{'shp' if kind == 'zip' else kind}")
    parts = [part.rename(folder / f"{stem}{part.suffix}") for part in tmp_path.glob("a.*")]
    path = folder / f"{stem}.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for part in parts:
                archive.write(part, f"a{part.suffix}")
    area = geoseg.within(scene, path).area
    assert area is not None
    np.testing.assert_array_equal(area.mask(WHOLE), read_area(star(1), GRID, "scene").mask(WHOLE))


def test_a_map_within_an_area_is_that_area_for_every_verb(tmp_path: Path) -> None:
    """`within` gives the same result as a verb's own `aoi`, as the documentation promises."""
    path = write_scene(tmp_path / "map.tif", random_pixels(300, 400, 1, 0.2)[:1] % 4)
    part = geoseg.within(path, star(1))
    wanted = geoseg.vectorize(path, aoi=star(1))
    assert geoseg.vectorize(part).equals(wanted)
    column = geopandas.GeoSeries([star(1)], crs=UTM)
    assert geoseg.vectorize(path, aoi=column).equals(wanted)
    written = geoseg.vectorize(part, tmp_path / "part.gpkg")
    assert pyogrio.list_layers(written)[0][0] == "map"
    np.testing.assert_array_equal(
        geoseg.evaluate(part, path).matrix.counts, geoseg.evaluate(path, path, aoi=star(1)).matrix.counts
    )
    with pytest.raises(UsageError, match=r"map\.tif already has an area of interest"):
        geoseg.within(part, star(2))
    with pytest.raises(UsageError, match="`aoi` must be polygons, got None"):
        geoseg.within(path, None)


def test_a_scene_within_an_area_is_the_scene_with_less_that_is_valid(tmp_path: Path) -> None:
    whole = Scene.open(write_scene(tmp_path / "scene.tif", random_pixels(300, 400, 3, 0.2)))
    part = geoseg.within(whole, star(1))
    inside = burned([star(1)])
    for window in (WHOLE, Window(-10, 50, 100, 500), Window(0, 0, 20, 20)):
        mask = np.zeros((600, 900), bool)
        mask[100:400, 100:500] = inside
        mask = mask[window.row + 100 : window.row_stop + 100, window.col + 100 : window.col_stop + 100]
        np.testing.assert_array_equal(part.read(window).valid, whole.read(window).valid & mask)
        np.testing.assert_array_equal(part.valid(window), whole.valid(window) & mask)
    assert not part.overview(100).valid[:, :10].any()
    assert part.fingerprint() != whole.fingerprint()
    cut = part.cut(Window(30, 40, 200, 300))
    np.testing.assert_array_equal(cut.read(Window(0, 0, 200, 300)).valid, part.read(Window(30, 40, 200, 300)).valid)
    assert part.select_bands(2, 1).area == part.area == Scene.open(part, bands=[1]).area


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=64)


@pytest.mark.parametrize("options", [{"tile": 64}, {"tile": 128, "batch_size": 3}, {"overlap": 40}, {}], ids=str)
def test_the_map_of_an_area_is_the_map_around_it_and_nothing_else(
    tmp_path: Path, bundle: ModelBundle, options: dict[str, Any]
) -> None:
    """The network sees the pixels around the area, so labels inside do not depend on its outline."""
    scene = write_scene(tmp_path / "scene.tif", random_pixels(300, 400, 3, 0.2))
    part = geoseg.plan(scene, model=bundle, device="onnx", aoi=star(1), **options)
    assert part.mapping.area is not None
    box = part.scene.geobox.bounds
    around = geoseg.plan(scene, model=bundle, device="onnx", bbox=box, overlap=options.get("overlap"))
    assert around.scene.geobox == part.scene.geobox
    engine = PositionEngine()
    expected = map_tile(around.mapping, engine, Window(0, 0, *around.scene.shape))["labels"]
    mapped = np.full_like(expected, NODATA)
    for index in range(part.tile_count):
        tile = part.tile(index)
        mapped[tile.rows, tile.cols] = map_tile(part.mapping, engine, tile)["labels"]
    inside = burned([star(1)], part.scene.geobox)
    np.testing.assert_array_equal(mapped, np.where(inside, expected, NODATA))


def test_windows_beside_the_area_are_not_run(tmp_path: Path, bundle: ModelBundle) -> None:
    scene = write_scene(tmp_path / "scene.tif", random_pixels(300, 400, 3, 0))
    corner = shapely.Polygon(TOP_LEFT + np.array([(0, 0), (200, 0), (0, -150)]))
    part = geoseg.plan(scene, model=bundle, device="onnx", aoi=corner, tile=1024)
    inside = np.pad(burned([corner]), 64)
    windows = (part.grid.window(row, col) for row in range(6) for col in range(8))
    touching = [w for w in windows if inside[w.row + 64 : w.row_stop + 64, w.col + 64 : w.col_stop + 64].any()]
    engine = PositionEngine()
    map_tile(part.mapping, engine, WHOLE)
    assert sum(engine.batches) == len(touching) < len(part.grid) == 48
    assert part.windows_run == pytest.approx(len(touching), abs=2)


def test_a_map_of_an_area_from_the_command_to_the_file(tmp_path: Path, bundle: ModelBundle) -> None:
    scene = write_scene(tmp_path / "scene.tif", random_pixels(300, 400, 3, 0.2))
    options: dict[str, Any] = {"model": bundle, "device": "onnx"}
    made = geoseg.predict(scene, tmp_path / "map.tif", aoi=star(1), confidence=tmp_path / "c.tif", **options)
    with rasterio.open(made) as labels, rasterio.open(tmp_path / "c.tif") as sure:
        grid = GeoBox(*labels.shape, labels.transform, labels.crs)
        inside = burned([star(1)], grid)
        np.testing.assert_allclose(grid.bounds, star(1).bounds, atol=0.5)  # cut to the area, a pixel is 0.5 m
        assert (labels.read(1)[~inside] == NODATA).all()
        assert (sure.read(1)[~inside] == NODATA).all()
        assert json.loads(json.dumps(labels.tags()["GEOSEG_AOI"])) == read_area(star(1), GRID, "scene").digest
    small = geoseg.predict(scene, tmp_path / "half.tif", aoi=star(1), resolution=1, **options)
    with rasterio.open(small) as labels:
        grid = GeoBox(*labels.shape, labels.transform, labels.crs)
        outside = ~burned([star(1)], grid)
        assert (labels.read(1)[outside] == NODATA).all()
        assert (labels.read(1) != NODATA).mean() > 0.2
    with pytest.raises(OutsideError):
        geoseg.plan(scene, bbox=(500_000, 5_399_990, 500_010, 5_400_000), aoi=star(1), **options)
    with pytest.raises(UsageError, match="`aoi_crs` is the CRS of an area"):
        geoseg.plan(scene, aoi_crs=UTM, **options)


def test_another_area_is_another_run(tmp_path: Path, bundle: ModelBundle) -> None:
    scene = write_scene(tmp_path / "scene.tif", random_pixels(300, 400, 3, 0.2))
    plans = [geoseg.plan(scene, model=bundle, device="onnx", aoi=star(seed)) for seed in (1, 1, 2)]
    assert plans[0].fingerprint() == plans[1].fingerprint() != plans[2].fingerprint()
    assert isinstance(plans[0].mapping.area, AreaOfInterest)
    assert (
        geoseg.plan(geoseg.within(scene, star(1)), model=bundle, device="onnx").fingerprint() == plans[0].fingerprint()
    )


@pytest.mark.parametrize("west", [-180, 0])
@pytest.mark.parametrize(
    ("code", "sides"),
    [
        (3413, (-2e6, -2e6, 2e6, 2e6)),
        (3413, (5e5, -3e6, 2e6, -1e6)),
        (3031, (-2.5e6, -2.5e6, 2.5e6, 2.5e6)),
        (3035, (2.5e6, 1.5e6, 6e6, 5e6)),
        (32660, (0, 0, 1.5e6, 6e6)),
    ],
)
def test_a_box_in_a_projection_keeps_its_straight_sides_on_a_map_of_the_world(
    tmp_path: Path, code: int, sides: tuple[float, float, float, float], west: int
) -> None:
    """Its sides bend in longitude and latitude, and some hold a pole."""
    world = Affine(1, 0, west, 0, -1, 90)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 180, "width": 360, "crs": "EPSG:4326"}
    with rasterio.open(tmp_path / "world.tif", "w", transform=world, **profile) as file:
        file.write(np.ones((180, 360), np.uint8), 1)
    zone = shapely.box(*sides)
    lon, lat = world @ tuple(axis + 0.5 for axis in np.meshgrid(np.arange(360), np.arange(180)))
    x, y = pyproj.Transformer.from_crs(4326, code, always_xy=True).transform(lon, lat)
    inside = int(shapely.contains_xy(zone, x, y).sum())
    frame = geopandas.GeoDataFrame({"zone": ["box"]}, geometry=[zone], crs=code)
    for given in ({"aoi": frame}, {"by": frame}):
        assert geoseg.tabulate(tmp_path / "world.tif", **given)["pixels"].sum() == inside, given


def test_the_mask_of_a_wide_scene_is_written_in_pieces() -> None:
    ring = np.array([(10, 8), (900_000, 5), (899_000, 60), (70_000, 40), (10, 8)], float)
    area = AreaOfInterest.of([ring], "wide")
    tracemalloc.start()
    try:
        name = mask_file(area, (64, 1_000_000))
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()
    with rasterio.open(name) as file:
        assert np.array_equal(file.read(1, window=((20, 24), (0, 1_000_000))), area.mask(Window(20, 0, 4, 1_000_000)))
