"""Polygons as the reference of a map: the figures equal those of a reference that rasterio burned from them."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

import geoseg
from geoseg.errors import SceneError, UsageError
from geoseg.evaluation import evaluate
from geoseg.evaluation.reference import BurnedPolygons, zone_codes
from geoseg.legend import DEEPGLOBE, Nomenclature
from geoseg.raster import GeoBox, Window
from tests.evaluation.rasters import NODATA, UTM, patches, write, wrong

SHAPE = (300, 200)
CODES = (0, 1, 2, 3)


@pytest.fixture
def guess() -> NDArray[np.uint8]:
    guess = wrong(1, patches(0, *SHAPE, codes=CODES, side=25), 0.2)
    guess[:3] = NODATA
    return guess


@pytest.fixture
def landcover(tmp_path: Path, guess: NDArray[np.uint8]) -> Path:
    return write(tmp_path / "landcover.tif", guess, legend=DEEPGLOBE, tiled=True, blockxsize=64, blockysize=64, **UTM)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make tiles so small that their seams cross the polygons."""
    monkeypatch.setattr("geoseg.evaluation.comparison._TILE_PX", 64 * 64)


def parcels(seed: int = 4, *, apart: bool = True) -> geopandas.GeoDataFrame:
    """Return irregular polygons with a class; about half of the map lies in none of them."""
    rng = np.random.default_rng(seed)
    shapes, codes = [], []
    for row in range(12, 300, 40):
        for col in range(12, 200, 40):
            spread = 15 if apart else 32
            angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
            xy = np.column_stack([col + spread * np.cos(angles), row + spread * np.sin(angles)])
            shapes.append(shapely.Polygon([UTM["transform"] @ tuple(point) for point in xy]))
            codes.append(int(rng.choice(CODES)))
    names = [DEEPGLOBE.by_code(code).name.replace("_", " ").title() for code in codes]
    return geopandas.GeoDataFrame({"landuse": names, "code": codes}, geometry=shapes, crs=UTM["crs"])


def burned(path: Path, frame: geopandas.GeoDataFrame, **legend: Any) -> Path:
    pairs = list(zip(frame.to_crs(UTM["crs"]).geometry, frame["code"], strict=True))
    codes = rasterio.features.rasterize(pairs, SHAPE, fill=NODATA, transform=UTM["transform"], dtype="uint8")
    return write(path, codes, **legend, **UTM)


@pytest.mark.parametrize("column", ["landuse", "code"])
@pytest.mark.parametrize("form", ["parcels.gpkg", "parcels.parquet", "parcels.gdb", "frame"])
@pytest.mark.usefixtures("small_tiles")
def test_polygons_score_as_the_raster_that_they_burn(tmp_path: Path, landcover: Path, form: str, column: str) -> None:
    frame = parcels()
    given: Any = frame
    if form != "frame":
        given = tmp_path / form
        if form.endswith("parquet"):
            frame.to_parquet(given)
        else:
            frame.to_file(given, driver={"gpkg": "GPKG", "gdb": "OpenFileGDB"}[form.rpartition(".")[2]])
    confidence = write(tmp_path / "sure.tif", patches(9, *SHAPE, codes=(40, 70, 90)), **UTM)
    knobs: dict[str, Any] = {"areas": True, "confidence": confidence, "ignore": "rangeland"}
    oracle = evaluate(landcover, burned(tmp_path / "truth.tif", frame, legend=DEEPGLOBE), **knobs)
    report = tmp_path / "report" if (form, column) == ("parcels.gpkg", "code") else None  # drawing one is slow
    found = evaluate(landcover, given, column=column, report=report, **knobs)
    assert found.matrix == oracle.matrix
    assert found.areas is not None
    assert oracle.areas is not None
    np.testing.assert_equal(asdict(found.areas), asdict(oracle.areas))
    assert found.calibration is not None
    assert oracle.calibration is not None
    np.testing.assert_array_equal(found.calibration.count_px, oracle.calibration.count_px)
    np.testing.assert_array_equal(found.calibration.right_px, oracle.calibration.right_px)
    np.testing.assert_allclose(found.calibration.confidence_sum, oracle.calibration.confidence_sum)
    assert found.left_out == oracle.left_out
    by_code = tuple(note for note in found.notes if "no class names" in note)
    assert len(by_code) == (column == "code")
    assert found.notes == by_code + oracle.notes
    assert found.reference == (str(given) if form != "frame" else "the GeoDataFrame")
    assert found.left_out.no_reference > 10_000
    assert report is None or (report / "report.md").exists()


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:3035"])
def test_polygons_in_another_crs_are_brought_to_the_map(tmp_path: Path, landcover: Path, crs: str) -> None:
    parcels().to_crs(crs).to_file(tmp_path / "parcels.gpkg")
    oracle = evaluate(landcover, burned(tmp_path / "truth.tif", parcels(), legend=DEEPGLOBE))
    found = evaluate(landcover, tmp_path / "parcels.gpkg", column="landuse")
    assert np.abs(found.matrix.counts - oracle.matrix.counts).max() <= 2  # pixels whose center is on an edge
    assert found.notes == oracle.notes


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("threads", [1, 3])
def test_where_polygons_disagree_the_last_counts_and_it_is_said(tmp_path: Path, landcover: Path, threads: int) -> None:
    frame = parcels(apart=False)
    told: list[str] = []
    found = evaluate(landcover, frame, column="code", threads=threads, announce=told.append)
    oracle = evaluate(landcover, burned(tmp_path / "truth.tif", frame, legend=DEEPGLOBE))
    assert found.matrix == oracle.matrix
    layers = np.array(
        [
            rasterio.features.rasterize(frame.geometry[frame["code"] == code], SHAPE, transform=UTM["transform"])
            for code in CODES
        ]
    )
    contested = int(np.count_nonzero(layers.astype(bool).sum(axis=0) > 1))
    assert contested > 1000
    share = f"{contested} pixels ({contested / 60000:.2%} of the map)"
    line = f"the GeoDataFrame: {share} in polygons of different classes"
    assert [note.partition(";")[0] for note in found.notes if "different" in note] == [line]
    assert any(each.startswith(line) for each in told)


def test_what_is_no_truth_is_counted_and_said(tmp_path: Path, landcover: Path) -> None:
    frame = parcels()
    inside = frame.geometry[0]
    more = geopandas.GeoDataFrame(
        {"landuse": ["water", "water", None, "water"], "code": [4, 4, None, 4]},
        geometry=[inside.centroid, None, inside.buffer(-20), shapely.box(0, 0, 1, 1)],
        crs=frame.crs,
    )
    packed = frame.set_geometry([shapely.GeometryCollection([shape, shape.centroid]) for shape in frame.geometry])
    pd.concat([packed, more]).to_file(tmp_path / "mixed.gpkg")
    found = evaluate(landcover, tmp_path / "mixed.gpkg", column="landuse")
    assert found.matrix == evaluate(landcover, frame, column="landuse").matrix
    assert found.notes[0].partition(": ")[2] == (
        f"1 empty or null geometry, {len(frame) + 1} points cannot be a reference, only polygons can; "
        "1 polygon without a class in landuse; 1 polygon outside the map; left out"
    )


def test_classes_of_polygons_are_matched_as_those_of_rasters(landcover: Path) -> None:
    frame = parcels().assign(landuse=lambda table: [f"kind {code}" for code in table["code"]])
    with pytest.raises(UsageError, match=r"shares no class with the map: it has kind 0, .*reference_legend"):
        evaluate(landcover, frame, column="landuse")
    theirs = Nomenclature.from_names({10 + code: DEEPGLOBE.by_code(code).name for code in CODES}, {})
    coded = parcels().assign(code=lambda table: table["code"] + 10)
    wanted = evaluate(landcover, parcels(), column="landuse").matrix
    assert evaluate(landcover, coded, column="code", reference_legend=theirs).matrix == wanted
    assert evaluate(landcover, parcels(), column="landuse", reference_legend=theirs).matrix == wanted
    with pytest.raises(UsageError, match="no class is called 'kind 0'; the legend has urban_land"):
        evaluate(landcover, frame, column="landuse", reference_legend=theirs)
    odd = parcels()
    odd.loc[odd.index[:3], "landuse"] = "glacier"
    found = evaluate(landcover, odd, column="landuse")
    assert "glacier" in found.matrix.names
    assert any("only the reference has glacier" in note for note in found.notes)
    assert found.metrics.pixels == wanted.total_px


def test_a_map_without_names_wants_codes(tmp_path: Path, guess: NDArray[np.uint8]) -> None:
    plain = write(tmp_path / "plain.tif", guess, **UTM)
    with pytest.raises(UsageError, match="the map has no names; name its codes with `legend`"):
        evaluate(plain, parcels(), column="landuse")
    oracle = evaluate(plain, burned(tmp_path / "truth.tif", parcels()))
    assert evaluate(plain, parcels(), column="code").matrix == oracle.matrix
    assert evaluate(plain, parcels(), column="landuse", legend=DEEPGLOBE).metrics.pixels == oracle.metrics.pixels


def test_our_own_polygons_are_a_perfect_reference_of_their_map(tmp_path: Path, landcover: Path) -> None:
    for name, columns in (("map.gpkg", ("name", "code")), ("map.parquet", ("code",)), ("map.geojson", ("name",))):
        geoseg.vectorize(landcover, tmp_path / name)
        for column in columns:
            found = evaluate(landcover, tmp_path / name, column=column)
            assert found.metrics.overall_accuracy == (1.0 if name != "map.geojson" else pytest.approx(1.0, abs=1e-3))


def test_polygons_that_cannot_be_used(tmp_path: Path, landcover: Path) -> None:
    path = tmp_path / "parcels.gpkg"
    parcels().to_file(path, layer="old")
    parcels(5).to_file(path, layer="new", mode="a")
    with pytest.raises(UsageError, match=r"has 2 layers of polygons: old, new"):
        evaluate(landcover, path, column="code")
    wanted = evaluate(landcover, parcels(5), column="code").matrix
    assert evaluate(landcover, path, column="code", layer="new").matrix == wanted
    assert evaluate(landcover, f"{path}|layername=new", column="code").matrix == wanted
    with pytest.raises(UsageError, match="does not say which column holds the class, it has landuse, code"):
        evaluate(landcover, path, layer="old")
    with pytest.raises(SceneError, match="and the map do not overlap"):
        evaluate(landcover, parcels().translate(1e6).to_frame("geometry").assign(code=1), column="code")
    with pytest.raises(SceneError, match=r"none.gpkg: no such file; check the path of the reference"):
        evaluate(landcover, tmp_path / "none.gpkg", column="code")
    with pytest.raises(SceneError, match=r"has no CRS, and .*landcover\.tif has one; assign it"):
        evaluate(landcover, parcels().set_crs(None, allow_override=True), column="code")
    with pytest.raises(SceneError, match="no polygon has a class"):
        evaluate(landcover, parcels().assign(landuse=None), column="landuse")
    reference = burned(tmp_path / "truth.tif", parcels(), legend=DEEPGLOBE)
    for knob in ("column", "layer"):
        with pytest.raises(UsageError, match=f"`{knob}` is for a sample or polygons"):
            evaluate(landcover, reference, **{knob: "code"})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"`reference` must be a path, got \[1, 2\]"):
        evaluate(landcover, [1, 2])  # type: ignore[arg-type]


def test_polygons_replaced_under_the_run(tmp_path: Path, landcover: Path) -> None:
    path = tmp_path / "parcels.fgb"
    parcels().to_file(path)

    def replace(_state: object) -> None:
        path.unlink(missing_ok=True)
        parcels(7)[:20].to_file(path)

    with pytest.raises(SceneError, match="has changed since the run began"):
        evaluate(landcover, path, column="code", progress=replace)


@pytest.mark.parametrize("parameter", ["reference", "sample"])
def test_a_table_with_two_columns_of_one_name_is_refused(tmp_path: Path, parameter: str) -> None:
    path = write(tmp_path / "map.tif", np.ones((4, 5), np.uint8), **UTM)
    frame = parcels()
    table = pd.concat([frame, frame[["code"]]], axis=1)
    with pytest.raises(UsageError, match="several columns called code"):
        evaluate(path, **{parameter: table}, column="code")


def test_many_polygons_that_disagree_are_burned_a_few_times(landcover: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    left, top = 400_000 + rng.random(200) * 1900, 5_000_000 - rng.random(200) * 2900
    boxes = shapely.box(left, top - rng.random(200) * 400, left + rng.random(200) * 400, top)
    codes = rng.integers(0, 300, 200)
    frame = geopandas.GeoDataFrame({"name": codes}, geometry=boxes, crs="EPSG:32631")
    burn, calls, told = rasterio.features.rasterize, [], []
    monkeypatch.setattr(rasterio.features, "rasterize", lambda *given, **how: (calls.append(0), burn(*given, **how))[1])
    geoseg.tabulate(landcover, frame, announce=told.append)
    assert len(calls) <= 4
    layers = [burn(boxes[codes == code], SHAPE, transform=UTM["transform"]) for code in np.unique(codes)]
    several = np.count_nonzero(np.sum(layers, axis=0) > 1)
    assert any(f"in several zones: {several} pixels" in line for line in told)


@pytest.mark.usefixtures("small_tiles")
def test_a_tile_burns_only_the_vertices_near_it(landcover: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    angles = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    coast = np.random.default_rng(6).normal(80, 0.5, len(angles))
    island = shapely.Polygon(np.column_stack([100 + coast * np.cos(angles), 150 + coast * np.sin(angles)]))
    lake = shapely.union_all([shapely.box(70.5 + i, 120.5, 90.5 + i, 150.5 + i % 3) for i in range(0, 60, 2)])
    place = UTM["transform"]
    shapes = [
        shapely.affinity.affine_transform(shape, [place.a, 0, 0, place.e, place.c, place.f])
        for shape in (shapely.difference(island, lake), lake, shapely.box(20, 5, 180, 60))
    ]
    frame = geopandas.GeoDataFrame({"name": ["island", "lake", "cape"]}, geometry=shapes, crs=UTM["crs"])
    burn, vertices = rasterio.features.rasterize, []

    def counted(pairs: list[Any], *given: Any, **how: Any) -> Any:
        warnings.warn("no place", NotGeoreferencedWarning, stacklevel=1)  # as rasterio does now and then in a thread
        vertices.append(sum(shapely.get_num_coordinates(shapely.geometry.shape(shape)) for shape, _ in pairs))
        return burn(pairs, *given, **how)

    monkeypatch.setattr(rasterio.features, "rasterize", counted)
    with warnings.catch_warnings(record=True) as caught:
        table = geoseg.tabulate(landcover, frame)
    assert not caught
    zones = burn(list(zip(shapes, (1, 2, 3), strict=True)), SHAPE, transform=place)
    with rasterio.open(landcover) as file:
        valid = file.read(1) != NODATA
    pixels = table.groupby("zone")["pixels"].sum().to_dict()
    assert pixels == {name: np.sum((zones == i) & valid) for i, name in ((1, "island"), (2, "lake"), (3, "cape"))}
    assert max(vertices) < 7_000


def test_zones_whose_border_follows_pixel_centers_corrupt_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "map.tif", np.ones((100, 600), np.uint8), **UTM)
    left, top, px = UTM["transform"].c, UTM["transform"].f, UTM["transform"].a
    shapes = [
        shapely.segmentize(shapely.box(left - 6000, top - px * last, left + 12_000, top - px * first), px)
        for first, last in ((-600, 3.5), (3.5, 700))
    ]
    zones = geopandas.GeoDataFrame({"name": ["a", "b"]}, geometry=shapes, crs=UTM["crs"])
    zones.to_parquet(tmp_path / "zones.parquet")
    code = f"import geoseg; print(*geoseg.tabulate({str(path)!r}, {str(tmp_path / 'zones.parquet')!r})['pixels'])"
    checked = {**os.environ, "LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=checked, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[0] == "1800 58200", done.stderr
    if "cannot be preloaded" in done.stderr:
        pytest.skip("no libc_malloc_debug here, which sees all that is written past a buffer; the counts are right")


def maze(seed: int, nodes: int) -> shapely.Polygon:
    """Return corridors along a spanning tree, in one ring with borders on pixel centers, with any start and direction.

    `nodes`: of a row and a column, each of 6 pixels.
    """
    rng = np.random.default_rng(seed)
    reached, corridors = [(0, 0)], []
    while len(reached) < nodes**2:
        col, row = reached[rng.integers(len(reached))]
        right, down = ((0, 1), (1, 0), (0, -1), (-1, 0))[rng.integers(4)]
        to = col + right, row + down
        if to not in reached and 0 <= min(to) <= max(to) < nodes:
            reached.append(to)
            ends = np.array([(col, row), to]) * 6 + 2.5
            corridors.append(shapely.box(*ends.min(axis=0), *(ends.max(axis=0) + 3)))
    corners = shapely.get_coordinates(shapely.union_all(corridors))[:-1]
    return shapely.Polygon(np.roll(corners, rng.integers(len(corners)), axis=0)[:: rng.choice((-1, 1))])


@pytest.mark.parametrize(("seed", "nodes"), [*((seed, 19) for seed in range(6)), (162, 10), (179, 10)])
def test_centers_on_borders_are_burned_in_strips_as_in_the_whole(seed: int, nodes: int) -> None:
    place, edge_px = UTM["transform"], 6 * nodes + 6
    shape = shapely.affinity.affine_transform(maze(seed, nodes), [place.a, 0, 0, place.e, place.c, place.f])
    frame = geopandas.GeoDataFrame({"name": ["maze"]}, geometry=[shape], crs=UTM["crs"])
    grid = GeoBox(edge_px, edge_px, place, rasterio.CRS.from_user_input(UTM["crs"]))
    zones = BurnedPolygons.open(frame, "name", None, grid, "map.tif", zone_codes, "zones")
    strips = [zones.read(Window(row, 0, 8, edge_px)).data == 0 for row in range(0, edge_px, 8)]
    np.testing.assert_array_equal(
        np.concatenate(strips)[:edge_px], rasterio.features.rasterize([shape], grid.shape, transform=place)
    )


@pytest.mark.parametrize(
    "odd",
    [
        "MULTIPOLYGON(({0}), EMPTY)",
        "MULTIPOLYGON(EMPTY, ({0}))",
        "POLYGON({0}, EMPTY)",
        "MULTIPOLYGON(((400200 4999800, 400300 4999800, 400200 4999800)), ({0}))",
        "POLYGON({0}, (400200 4999800, 400300 4999800, 400200 4999800))",
    ],
)
def test_parts_and_rings_without_area_change_nothing(landcover: Path, odd: str) -> None:
    ring = "(400100 4999900, 400500 4999900, 400500 4999500, 400100 4999500, 400100 4999900)"
    shapes = shapely.from_wkt([odd.format(ring), "POLYGON((400200 4999800, 400300 4999800, 400200 4999800))"])
    zones = geopandas.GeoDataFrame({"name": ["field", "line"]}, geometry=shapes, crs=UTM["crs"])
    told: list[str] = []
    table = geoseg.tabulate(landcover, zones, announce=told.append)
    assert table["pixels"].sum() == 40 * 40
    assert any("1 empty or null geometry cannot be zones" in line for line in told)
