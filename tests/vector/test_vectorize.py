"""The verb: any raster of classes in, the same polygons out as rasterio, shapely, geopandas and numpy make."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.shutil
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import Geod
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

import geoseg
from geoseg.errors import GeosegWarning, SceneError, UsageError
from geoseg.legend import DEEPGLOBE, LandCover, Legend, NamedClass, Nomenclature
from geoseg.progress import Progress
from geoseg.raster.classes import class_raster
from geoseg.vector import request
from geoseg.vector.generalize import LONGEST_PX, UNIT
from geoseg.vector.trace import rings
from tests.evaluation.rasters import colored
from tests.vector.features import SUFFIXES, read
from tests.vector.oracle import Features, check_equal, regions, sieved, true_features
from tests.vector.rasters import NODATA, adversarial, checkerboard, noise, real, smooth_noise

HALF_METRES = Affine(0.5, 0, 448_000, 0, -0.5, 5_411_000)
COLUMNS = ["code", "name", "area_m2", "perimeter_m", "geometry"]
OF_OTHERS = {PendingDeprecationWarning, NotGeoreferencedWarning}
"""Warnings of affine and rasterio that do not concern geoseg's users."""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes classes (row, col) or bands (band, row, col) as a raster and returns its path."""

    def written(pixels: NDArray[Any], name: str = "cover.tif", **profile: Any) -> Path:
        bands = pixels if pixels.ndim == 3 else pixels[None]
        settings: dict[str, Any] = {
            "driver": "GTiff",
            "dtype": bands.dtype.name,
            "count": bands.shape[0],
            "height": bands.shape[1],
            "width": bands.shape[2],
            "crs": "EPSG:32631",
            "transform": HALF_METRES,
            "nodata": NODATA,
        } | profile
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(path, "w", **settings) as dataset:
            dataset.write(bands)
        return path

    return written


def vectorize(landcover: str | Path, out: Path | None = None, **knobs: Any) -> Any:
    """Return what `vectorize` returns, untyped: a path or a GeoDataFrame."""
    return geoseg.vectorize(landcover, out, **knobs)


def features(frame: Any, px_m2: float = 0.25) -> Features:
    """Return a GeoDataFrame in the oracle's form; areas in pixels come from its column, not from its geometries."""
    area_px = np.rint(frame.iloc[:, 2].to_numpy() / px_m2).astype(np.int64)
    return Features(frame.code.to_numpy(np.int64), area_px, shapely.normalize(frame.geometry.to_numpy()))


def check_same(found: Any, expected: Any) -> None:
    """Assert equal features in any order, since FlatGeobuf sorts its own way."""
    assert list(found.columns) == list(expected.columns)
    order = [np.lexsort((frame.iloc[:, 2], *shapely.bounds(frame.geometry).T)) for frame in (found, expected)]
    found, expected = found.iloc[order[0]].reset_index(drop=True), expected.iloc[order[1]].reset_index(drop=True)
    for name in expected.columns.drop("geometry"):
        assert found[name].tolist() == pytest.approx(expected[name].tolist(), nan_ok=True), name
    assert (found.geom_type == expected.geom_type).all()
    assert shapely.equals_exact(found.geometry, expected.geometry, 0).all()
    assert found.crs == expected.crs


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("name", ["crossing of four", "noise of 4", "blobs of 2 px", "islands", "diamonds of 1 px"])
def test_features_are_rasterios(write: Write, name: str, connectivity: int) -> None:
    classes = adversarial()[name]
    frame = vectorize(write(classes), connectivity=connectivity)
    assert list(frame.columns) == COLUMNS
    assert frame.crs == "EPSG:32631"
    check_equal(features(frame), true_features(classes, NODATA, HALF_METRES, connectivity))
    assert frame.name.tolist() == [f"class {code}" for code in frame.code]
    np.testing.assert_allclose(frame.area_m2, frame.geometry.area, rtol=1e-12)
    np.testing.assert_allclose(frame.perimeter_m, frame.geometry.length, rtol=1e-12)
    assert frame.is_valid.all()


def test_a_real_map_is_rasterios(write: Write, shared_data: Path) -> None:
    for name, classes in list(real(shared_data).items())[::3]:
        frame = vectorize(write(classes, f"{Path(name).name}.tif"))
        check_equal(features(frame), true_features(classes, NODATA, HALF_METRES))


def test_areas_are_on_the_ellipsoid_in_degrees(write: Write) -> None:
    classes = smooth_noise((40, 50), 3, 2.0, 3, 0.2)
    place = Affine(1e-4, 0, 8, 0, -1e-4, 47)
    frame = vectorize(write(classes, crs="EPSG:4326", transform=place))
    earth = pyproj.Geod(ellps="WGS84")
    measured = [earth.geometry_area_perimeter(shape) for shape in frame.geometry]
    np.testing.assert_allclose(frame.area_m2, [abs(area) for area, _ in measured], rtol=1e-5)  # along geodesics
    holes = [sum(earth.geometry_length(ring) for ring in shape.interiors) for shape in frame.geometry]
    around = [earth.geometry_length(shape.exterior) for shape in frame.geometry]
    np.testing.assert_allclose(frame.perimeter_m, np.add(around, holes), rtol=1e-5)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("min_area", ["7px", 1.75, "1.75", "1.75m2", "0.000175 ha"])
def test_small_regions_go_to_the_longest_neighbour(write: Write, min_area: float | str, connectivity: int) -> None:
    classes = smooth_noise((30, 34), 4, 0.8, 2, 0.1)
    frame = vectorize(write(classes), min_area=min_area, connectivity=connectivity)
    left = sieved(classes, NODATA, 7, connectivity)
    assert len(frame) < regions(classes, NODATA, connectivity).max()
    check_equal(features(frame), true_features(left, NODATA, HALF_METRES, connectivity))


def test_small_on_the_ground_is_small_in_degrees(write: Write) -> None:
    classes = smooth_noise((80, 30), 3, 0.9, 5)
    path = write(classes, crs="EPSG:4326", transform=Affine(1, 0, 0, 0, -1, 80), nodata=None)
    px_m2 = 111e3**2
    frame, small = vectorize(path, min_area=5 * px_m2), vectorize(path)
    assert (small.area_m2 < 5 * px_m2).any()
    assert (frame.area_m2 >= 5 * px_m2).all()
    assert frame.area_m2.sum() == pytest.approx(small.area_m2.sum(), rel=1e-12)
    # in the north, 5 pixels are too small
    assert features(vectorize(path, min_area="5px"), 1).area_px.shape[0] > len(frame)


def test_classes_by_name_and_code(write: Write) -> None:
    path = write(noise((20, 25), 5, 1, 0.1))
    legend: dict[str, Any] = {"legend": DEEPGLOBE}
    everything = vectorize(path, **legend)
    for wanted, codes in (
        ("water", {4}),
        ("water,urban_land", {0, 4}),
        (["Water", 0], {0, 4}),
        (("0", "forest_land"), {0, 3}),
        ([3], {3}),
        ("5", {5}),
    ):
        frame = vectorize(path, classes=wanted, **legend)
        check_same(frame, everything[everything.code.isin(codes)])
    assert len(vectorize(path, classes="1, 2")) == everything.code.isin({1, 2}).sum()


def test_classes_are_chosen_after_small_regions_are_given_away(write: Write) -> None:
    path = write(smooth_noise((40, 40), 3, 1.0, 1))
    everything = vectorize(path, min_area="9px", simplify="1.5px")
    check_same(vectorize(path, min_area="9px", simplify="1.5px", classes=[1]), everything[everything.code == 1])


@pytest.mark.parametrize("connectivity", [4, 8])
def test_dissolved_is_geopandas_dissolve(write: Write, connectivity: int) -> None:
    path = write(noise((30, 22), 4, 3, 0.2))
    frame, regions_ = (vectorize(path, connectivity=connectivity, dissolve=dissolve) for dissolve in (True, False))
    expected = regions_.dissolve("code", aggfunc={"area_m2": "sum", "perimeter_m": "sum"}).reset_index()
    assert frame.code.tolist() == expected.code.tolist() == [0, 1, 2, 3]
    assert set(frame.geom_type) == {"MultiPolygon"}
    assert frame.is_valid.all()
    assert shapely.equals(frame.geometry, expected.geometry).all()
    np.testing.assert_allclose(frame.area_m2, expected.area_m2)
    np.testing.assert_allclose(frame.perimeter_m, expected.perimeter_m)


def test_many_classes_dissolve_as_few_do(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.array([-(2**31) + 1, -7, -1, 0, 1, 2, 250, 2**31 - 1], np.int32)
    path = write(codes[noise((60, 50), len(codes))], nodata=None, blockysize=1)
    monkeypatch.setattr(class_raster, "STRIP_PX", 9 * 50)
    together = vectorize(path, dissolve=True, confidence=path)
    assert together.code.tolist() == codes.tolist()
    np.testing.assert_allclose(together.confidence, codes.astype(np.float32))
    for vertices in (1, 2000):
        monkeypatch.setattr(rings, "_SHARE_VERTICES", vertices)
        check_same(vectorize(path, dissolve=True, confidence=path), together)


CONFIDENCES: dict[str, dict[str, Any]] = {
    "percent": {"dtype": "uint8", "nodata": 255},
    "share": {"dtype": "float32", "nodata": None},
    "share with nodata": {"dtype": "float64", "nodata": -1},
}


@pytest.mark.parametrize("kind", CONFIDENCES)
@pytest.mark.parametrize(
    "knobs",
    [{}, {"connectivity": 8}, {"min_area": "6px"}, {"min_area": "6px", "connectivity": 8}, {"dissolve": True}],
    ids=str,
)
def test_confidence_is_the_mean_by_region(write: Write, kind: str, knobs: dict[str, Any]) -> None:
    classes = smooth_noise((31, 27), 4, 0.9, 6, 0.15)
    stored = np.random.default_rng(1).random(classes.shape)
    stored = (100 * stored).round() if kind == "percent" else stored
    valid = np.random.default_rng(2).random(classes.shape) > 0.4
    stored[~valid] = np.nan if kind == "share" else CONFIDENCES[kind]["nodata"]
    stored = stored.astype(CONFIDENCES[kind]["dtype"])
    sure = write(stored, "sure.tif", nodata=CONFIDENCES[kind]["nodata"])
    frame = vectorize(write(classes), confidence=sure, **knobs)
    assert list(frame.columns) == [*COLUMNS[:-1], "confidence", "geometry"]
    connectivity = knobs.get("connectivity", 4)
    left = sieved(classes, NODATA, 6, connectivity) if "min_area" in knobs else classes
    if "dissolve" in knobs:
        expected = [stored[valid & (left == code)].mean() for code in frame.code]
    else:
        labels = regions(left, NODATA, connectivity)
        expected = []
        for code, shape in zip(frame.code, frame.geometry, strict=True):
            x, y = shapely.get_coordinates(shapely.get_parts(shape)[0].representative_point())[0]
            col, row = ~HALF_METRES @ (x, y)
            assert left[int(row), int(col)] == code
            inside = valid & (labels == labels[int(row), int(col)])
            expected.append(stored[inside].mean(dtype=float) if inside.any() else np.nan)
        assert knobs or np.isnan(expected).any()  # some region has none
    np.testing.assert_allclose(frame.confidence, expected, rtol=1e-6)


def test_a_region_without_confidence_is_null_in_files(write: Write, tmp_path: Path) -> None:
    classes = np.array([[0, 1]], np.uint8)
    sure = write(np.array([[50, 255]], np.uint8), "sure.tif")
    for suffix in SUFFIXES:
        found = read(vectorize(write(classes), tmp_path / f"cover{suffix}", confidence=sure))
        by_code = found.set_index("code").confidence
        assert by_code[0] == 50
        assert np.isnan(by_code[1])


def test_confidence_on_another_grid(write: Write) -> None:
    classes = noise((9, 11), 3)
    path = write(classes)
    others = {
        "size": write(noise((9, 10), 3), "size.tif"),
        "place": write(classes, "place.tif", transform=HALF_METRES @ Affine.translation(0.01, 0)),
        "pixel": write(classes, "pixel.tif", transform=HALF_METRES @ Affine.scale(1.001)),
        "crs": write(classes, "crs.tif", crs="EPSG:32632"),
    }
    for name, other in others.items():
        with pytest.raises(SceneError, match="not on the map's grid") as caught:
            vectorize(path, confidence=other)
        theirs, wanted = str(caught.value).split(" expected ")
        assert theirs.rpartition(" it is in ")[2].rstrip(", ") != wanted.partition(";")[0], name
    with pytest.raises(SceneError, match="one"):
        vectorize(path, confidence=write(noise((3, 9, 11), 3), "bands.tif"))  # type: ignore[arg-type]
    with pytest.raises(SceneError, match="no such file") as caught:
        vectorize(path, confidence="none.tif")
    assert caught.value.parameter == "confidence"
    with rasterio.open(path, "r+") as file:
        file.update_tags(GEOSEG_PRODUCT="labels")
    with pytest.raises(SceneError, match="holds classes; confidence is percent"):
        vectorize(path, confidence=path)


def test_the_same_grid_written_by_another_program(write: Write) -> None:
    classes = noise((9, 11), 3)
    turned = HALF_METRES @ Affine.translation(1e-7, -1e-7)
    frame = vectorize(write(classes), confidence=write(classes, "sure.tif", transform=turned))
    np.testing.assert_allclose(frame.confidence, frame.code)


def test_a_part_of_a_map_takes_the_confidence_of_the_whole(write: Write) -> None:
    classes, sure = noise((9, 11), 3), noise((9, 11), 90)
    transform = HALF_METRES @ Affine.translation(3, 2)
    part = write(classes[2:7, 3:9], "part.tif", transform=transform)
    confidence = write(sure, "sure.tif")
    expected = vectorize(part, confidence=write(sure[2:7, 3:9], "own.tif", transform=transform))
    assert vectorize(part, confidence=confidence).equals(expected)
    for shift in ((-1, 0), (6, 0), (0, -1), (0, 5), (0.5, 0)):
        beside = write(classes[2:7, 3:9], "beside.tif", transform=HALF_METRES @ Affine.translation(*shift))
        with pytest.raises(SceneError, match="not on the map's grid"):
            vectorize(beside, confidence=confidence)


def test_legends(write: Write, tmp_path: Path) -> None:
    path = write(np.array([[0, 3, 9]], np.uint8))
    named = NamedClass(9, "nine", (9, 9, 9))
    rows = [{"code": 0, "name": "water", "color": [0, 0, 255]}, {"code": 9, "name": "nine", "color": [9, 9, 9]}]
    (tmp_path / "legend.json").write_text(json.dumps(rows))
    (tmp_path / "legend.csv").write_text("code;name\n0;water\n9;nine\n")
    (tmp_path / "legend.clr").write_text("0 0 0 255 255 water\n9 9 9 9 255 nine\n")
    for legend in (
        tmp_path / "legend.json",
        str(tmp_path / "legend.csv"),
        tmp_path / "legend.clr",
        Legend((LandCover(0, "water", (0, 0, 255)), LandCover(9, "nine", (9, 9, 9)))),
        Nomenclature((NamedClass(0, "water", (0, 0, 255)), named)),
    ):
        assert vectorize(path, legend=legend).name.tolist() == ["water", "class 3", "nine"]
    assert vectorize(path, legend=tmp_path / "legend.csv", classes="nine").code.tolist() == [9]


def test_names_are_the_rasters_own(write: Write) -> None:
    path = write(np.array([[0, 3, 4]], np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(GEOSEG_LEGEND=json.dumps(DEEPGLOBE.to_json()))
    assert vectorize(path).name.tolist() == ["urban_land", "forest_land", "water"]
    assert vectorize(path, legend=Nomenclature()).name.tolist() == ["class 0", "class 3", "class 4"]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3035", "epsg:2193", "ESRI:54009"])
def test_reprojected_is_geopandas_to_crs(write: Write, tmp_path: Path, crs: str) -> None:
    path = write(smooth_noise((30, 40), 3, 2.0, 1, 0.1))
    plain, frame = vectorize(path, simplify=0), vectorize(path, crs=crs)
    expected = plain.to_crs(crs)
    assert frame.crs == pyproj.CRS(crs)
    assert frame.area_m2.tolist() == plain.area_m2.tolist()
    assert shapely.equals_exact(frame.geometry, expected.geometry, 1e-6).all()
    for suffix in (".gpkg", ".fgb", ".parquet"):
        out = vectorize(path, tmp_path / f"cover{suffix}", crs=crs)
        assert out == tmp_path / f"cover{suffix}"
        check_same(read(out), frame)


def test_what_cannot_be_reprojected_is_refused_without_a_file_too(write: Write) -> None:
    far = write(noise((4, 4), 2), crs="EPSG:3857", transform=Affine(1e6, 0, 0, 0, -1e6, 5e6))
    with pytest.raises(SceneError, match="cannot be transformed to"):
        vectorize(far, crs="+proj=geos +h=35785831 +lon_0=180")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "knobs", [{}, {"connectivity": 8}, {"dissolve": True, "min_area": "4px", "smooth": True}], ids=str
)
def test_every_format_holds_the_same(write: Write, tmp_path: Path, suffix: str, knobs: dict[str, Any]) -> None:
    classes = noise((20, 22), 4, 2, 0.1)
    path, sure = write(classes), write(noise((20, 22), 90), "sure.tif")
    frame = vectorize(path, confidence=sure, legend=DEEPGLOBE, **knobs)
    found = read(vectorize(path, tmp_path / f"cover{suffix}", confidence=sure, legend=DEEPGLOBE, **knobs))
    if "json" not in suffix:
        check_same(found, frame)
        return
    frame = vectorize(path, confidence=sure, legend=DEEPGLOBE, simplify=0, **knobs).to_crs("EPSG:4326")
    assert found[list(found.columns[:2])].equals(frame[list(found.columns[:2])].astype({"code": "int32"}))
    np.testing.assert_allclose(found.area_m2, frame.area_m2, rtol=1e-3)
    assert (found.geom_type == frame.geom_type).all()
    assert shapely.equals_exact(found.geometry, frame.geometry, 1e-7).all()


def _holed(path: Path, mask: NDArray[np.bool_], *, inside: bool) -> Path:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    return path


def test_bytes_of_every_value_are_classes(write: Write) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert vectorize(write(values, nodata=None)).code.tolist() == list(range(256))
    for nodata in (0, 7, 255):
        assert sorted(set(vectorize(write(values, nodata=nodata)).code)) == [x for x in range(256) if x != nodata]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("nodata", [None, 0, 5, 100])
def test_any_integers(write: Write, dtype: str, nodata: int | None) -> None:
    bounds = np.iinfo(dtype)
    low, high = max(bounds.min, -(2**31) + 1), min(bounds.max, 2**31 - 1)
    drawn = np.random.default_rng(3).integers(0, 8, (13, 17))
    codes = np.array([low, high, 0, 1, 5, 100, low + 1, high - 1])[drawn]
    frame = vectorize(write(codes.astype(dtype), nodata=nodata))
    background = -(2**40)
    expected = true_features_of(np.where(codes == nodata, background, codes), background)
    check_equal(features(frame), expected)


def true_features_of(codes: NDArray[np.int64], background: int) -> Features:
    """Return the true features of codes too large for rasterio, traced as ranks."""
    known = np.unique(codes[codes != background])
    ranks = np.where(codes == background, 200, np.searchsorted(known, codes)).astype(np.uint8)
    true = true_features(ranks, 200, HALF_METRES)
    return Features(known[true.codes], true.area_px, true.shapes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hole", [-9999.0, np.nan, float(np.finfo("float32").min), np.inf])
@pytest.mark.parametrize("declared", [True, False])
def test_whole_floats(write: Write, dtype: str, hole: float, *, declared: bool) -> None:
    codes = np.where(np.random.default_rng(3).random((21, 18)) < 0.3, -1, noise((21, 18), 3, 1).astype(int))
    codes[codes == 2] = 2**24 - 1 if dtype == "float32" else 2**31 - 1
    stored = codes.astype(dtype)
    nothing = codes == -1
    if hole == -9999 and not declared:
        hole = np.nan
    stored[nothing] = hole
    frame = vectorize(write(stored, nodata=hole if declared and np.isfinite(hole) else None))
    background = -(2**40)
    check_equal(features(frame), true_features_of(np.where(nothing, background, codes), background))


@pytest.mark.parametrize("value", [0.5, 2.0**31, -(2.0**31), 1e20, 2.0000002])
def test_floats_that_are_no_codes_are_refused(write: Write, tmp_path: Path, value: float) -> None:
    pixels = np.zeros((9, 9), "float32")
    pixels[7, 7] = value
    with pytest.raises(SceneError, match=r"class codes must be whole numbers") as caught:
        vectorize(write(pixels, nodata=None), tmp_path / "cover.gpkg")
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["cover.tif"]


@pytest.mark.parametrize("legend", [None, Legend(tuple(LandCover(9 + c, f"c{c}", (c, 0, 9)) for c in range(4)))])
@pytest.mark.parametrize("kind", ["rgb", "rgba", "palette"])
def test_colors_of_a_legend(write: Write, tmp_path: Path, kind: str, legend: Legend | None) -> None:
    known = legend or DEEPGLOBE
    classes = noise((21, 18), 4, 1) + known.codes[0]
    classes[:3] = NODATA if kind != "rgb" else classes[3]
    plain = vectorize(write(classes), legend=known)
    picture = colored(tmp_path / "picture.tif", classes, known, kind, crs="EPSG:32631", transform=HALF_METRES)
    said: list[str] = []
    # a map's palette alone has no names
    given = known if kind == "palette" else legend
    check_same(vectorize(picture, legend=given, announce=said.append), plain)
    assert sum("is decoded by " in line for line in said) == 1


@pytest.mark.parametrize(
    ("dtype", "code"), [("uint32", 2**31), ("int64", -(2**31)), ("uint64", 2**63), ("int32", -(2**31))]
)
def test_codes_beyond_32_bits_are_refused(write: Write, tmp_path: Path, dtype: str, code: int) -> None:
    pixels = np.zeros((9, 9), dtype)
    pixels[7, 7] = code
    path = write(pixels, nodata=None)
    with pytest.raises(SceneError, match=str(code)):
        vectorize(path, tmp_path / "cover.gpkg")
    assert [entry.name for entry in tmp_path.iterdir()] == ["cover.tif"]
    masked = _holed(path, pixels == 0, inside=True)
    assert vectorize(masked).area_m2.tolist() == [20.0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("kind", ["internal", "external", "alpha"])
def test_masks(write: Write, kind: str, dtype: str) -> None:
    classes, valid = noise((21, 18), 4, 1), np.random.default_rng(4).random((21, 18)) > 0.3
    stored = classes.astype(dtype)
    if kind == "alpha":
        path = write(np.stack([stored, np.where(valid, np.iinfo(dtype).max, 0).astype(dtype)]), nodata=None)
        with rasterio.open(path, "r+") as dataset:
            dataset.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    else:
        path = _holed(write(stored, nodata=None), valid, inside=kind == "internal")
    truth = np.where(valid, classes, np.uint8(NODATA))
    check_equal(features(vectorize(path)), true_features(truth, NODATA, HALF_METRES))


EVERYTHING: dict[str, Any] = {
    "plain": {},
    "corners": {"connectivity": 8},
    "simplified": {"simplify": "1.5px"},
    "all": {"simplify": "1.5px", "smooth": True, "min_area": "5px", "connectivity": 8},
    "peucker": {"simplify": "2px", "method": "douglas-peucker", "smooth": True, "min_area": "5px"},
    "dissolved": {"simplify": "1px", "dissolve": True, "min_area": "3px"},
}


LAYOUTS: list[dict[str, Any]] = [{"blockysize": 1}, {"tiled": True, "blockxsize": 16, "blockysize": 16}]


@pytest.mark.parametrize(("knobs", "layout"), zip(EVERYTHING, LAYOUTS * 3, strict=True), ids=str)
def test_strips_do_not_show(write: Write, monkeypatch: pytest.MonkeyPatch, layout: dict[str, Any], knobs: str) -> None:
    classes = smooth_noise((61, 47), 4, 1.1, 9, 0.15)
    path, sure = write(classes, **layout), write(noise(classes.shape, 100, 1, 0.3), "sure.tif", **layout)
    whole = vectorize(path, confidence=sure, **EVERYTHING[knobs])
    for strip_px in (1, 3 * 47, 20 * 47):
        monkeypatch.setattr(class_raster, "STRIP_PX", strip_px)
        frame = vectorize(path, confidence=sure, **EVERYTHING[knobs])
        assert frame.code.tolist() == whole.code.tolist()
        assert frame.name.tolist() == whole.name.tolist()
        np.testing.assert_allclose(frame.iloc[:, 2:5].to_numpy(), whole.iloc[:, 2:5].to_numpy(), rtol=1e-12)
        assert shapely.equals_exact(frame.geometry, whole.geometry, 0).all()


def test_no_method_is_the_usual_one(write: Write) -> None:
    path = write(smooth_noise((30, 40), 3, 4.0))
    given = geoseg.vectorize(path, simplify="1px", method=None)  # type: ignore[typeddict-item] # as YAML brings it
    assert given.equals(geoseg.vectorize(path, simplify="1px"))


@pytest.mark.parametrize("method", ["visvalingam", "douglas-peucker"])
@pytest.mark.parametrize("smooth", [False, True])
def test_simplified_is_a_coverage_with_every_region(write: Write, method: str, *, smooth: bool) -> None:
    path = write(smooth_noise((90, 80), 5, 1.5, 4))
    plain = vectorize(path)
    frame = vectorize(path, simplify=1, method=method, smooth=smooth)
    assert frame.code.tolist() == plain.code.tolist()
    assert frame.is_valid.all()
    assert shapely.coverage_is_valid(frame.geometry.to_numpy())
    assert frame.geometry.area.sum() == pytest.approx(90 * 80 / 4)
    np.testing.assert_allclose(frame.area_m2, frame.geometry.area)  # of what is drawn
    assert shapely.get_num_coordinates(frame.geometry).sum() != shapely.get_num_coordinates(plain.geometry).sum()
    assert (vectorize(path, simplify="2px", method=method, smooth=smooth).geometry == frame.geometry).all()


def test_the_whole_zoo(shared_data: Path, recwarn: pytest.WarningsRecorder) -> None:
    zoo = shared_data / "geotiff_zoo"
    traced, refused = 0, 0
    for path in sorted(path for path in zoo.rglob("*") if path.is_file()):
        with rasterio.open(path) as dataset:
            maps = dataset.count == 1 and np.issubdtype(np.dtype(dataset.dtypes[0]), np.integer)
            stored = dataset.read(1, masked=True).compressed() if dataset.count == 1 and not maps else np.array([0.5])
        if np.array_equal(stored, np.round(stored)):
            continue  # floats that are whole
        if not maps:
            with pytest.raises(SceneError, match=r"bands of|whole numbers|colors of no class|cut short"):
                vectorize(path)
            refused += 1
            continue
        with rasterio.open(path) as dataset:
            if dataset.width * dataset.height > 100_000 or path.name == "cog_tags.tif":
                continue  # photographs: too many regions for the oracle to be quick
            classes, valid, place = dataset.read(1).astype(np.int32), dataset.dataset_mask() > 0, dataset.transform
        truth = true_features(np.where(valid, classes, -99999), -99999, place)
        frame = vectorize(path)
        assert frame.code.tolist() == truth.codes.tolist(), path.name
        shapes = shapely.normalize(frame.geometry.to_numpy())
        assert shapely.equals_exact(shapes, truth.shapes, 1e-9 * np.abs(frame.total_bounds).max()).all(), path.name
        traced += 1
    assert traced >= 5
    assert refused > 20
    assert {type(warning.message) for warning in recwarn} <= {GeosegWarning, *OF_OTHERS}


PLACES: dict[str, dict[str, Any]] = {
    "rotated": {"transform": Affine.translation(5e5, 5e6) @ Affine.rotation(33) @ Affine.scale(2, -2)},
    "south up": {"transform": Affine(2, 0, 5e5, 0, 2, 5e6)},
    "east left": {"transform": Affine(-2, 0, 5e5, 0, -2, 5e6)},
    "sheared": {"transform": Affine(2, 0.7, 5e5, 0.1, -2, 5e6)},
    "oblong": {"transform": Affine(2, 0, 5e5, 0, -3, 5e6)},
    "feet": {"crs": "EPSG:2263", "transform": Affine(10, 0, 1e6, 0, -10, 2e5)},
    "Mars": {"crs": "+proj=eqc +R=3396190 +units=m", "transform": Affine(2, 0, 5e5, 0, -2, 5e5)},
}


@pytest.mark.parametrize("name", PLACES)
def test_any_place(write: Write, name: str, recwarn: pytest.WarningsRecorder) -> None:
    classes = noise((12, 15), 3, 1, 0.1)
    path = write(classes, **PLACES[name])
    frame = vectorize(path)
    place = PLACES[name]["transform"]
    unit = 0.3048006096012192 if name == "feet" else 1.0
    check_equal(features(frame, abs(place.determinant) * unit**2), true_features(classes, NODATA, place), 1e-9)
    np.testing.assert_allclose(frame.area_m2, frame.geometry.area * unit**2, rtol=1e-9)
    np.testing.assert_allclose(frame.perimeter_m, frame.geometry.length * unit, rtol=1e-9)
    simple = vectorize(path, simplify="1.5px", smooth=True, min_area="3px")
    assert simple.is_valid.all()
    assert shapely.coverage_is_valid(simple.geometry.to_numpy())
    assert {type(warning.message) for warning in recwarn} <= OF_OTHERS


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_without_a_place_pixels_are_the_unit(write: Write, tmp_path: Path) -> None:
    classes = noise((12, 15), 3, 1, 0.1)
    said: list[str] = []
    path = write(classes, crs=None, transform=Affine.identity())
    frame = vectorize(path, announce=said.append)
    assert list(frame.columns) == ["code", "name", "area_px", "perimeter_px", "geometry"]
    assert frame.crs is None
    check_equal(features(frame, 1), true_features(classes, NODATA))
    assert len(said) == 1
    assert said[0] == "the raster is not georeferenced: coordinates, areas and perimeters are in pixels"
    for suffix in SUFFIXES:
        found = read(vectorize(path, tmp_path / f"cover{suffix}", min_area="2px"))
        assert list(found.columns) == list(frame.columns)


def test_without_a_crs_coordinates_are_those_of_the_transform(write: Write) -> None:
    said: list[str] = []
    transform = Affine(2, 0, 500, 0, -2, 900)
    frame = vectorize(write(noise((12, 15), 3, 1, 0.1), crs=None, transform=transform), announce=said.append)
    assert tuple(frame.total_bounds) == (500, 900 - 24, 530, 900)
    np.testing.assert_allclose(frame.area_px, frame.geometry.area / 4)
    assert said == ["the raster has no CRS: coordinates are those of its transform, areas and perimeters are in pixels"]
    with pytest.raises(UsageError, match="but without a CRS and a transform the size of a pixel"):
        vectorize(write(noise((12, 15), 3), crs=None, transform=transform), simplify=3)


def test_what_is_said(write: Write, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    said: list[str] = []
    path = write(noise((9, 9), 3))
    vectorize(path, announce=said.append)
    vectorize(path, tmp_path / "cover.gpkg", announce=said.append)
    assert said == []
    vectorize(path, tmp_path / "cover.geojson", announce=said.append)
    assert len(said) == 1
    assert "WGS 84" in said[0]
    assert {type(warning.message) for warning in recwarn} <= OF_OTHERS


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:3857", Affine(900, 0, 1e6, 0, -900, 8e6)),
        ("EPSG:3995", Affine(7000, 0, 1e6, 0, -7000, 4e6)),
        ("EPSG:32633", Affine(30, 0, 5e5, 0, -30, 6e6)),
        ("EPSG:4326", Affine(0.01, 0, 20, 0, -0.01, 66)),
    ],
)
def test_areas_are_those_on_the_ground(write: Write, crs: str, transform: Affine) -> None:
    frame = vectorize(write(noise((24, 20), 3), crs=crs, transform=transform))
    lines = shapely.segmentize(frame.geometry, abs(transform.a) / 8)
    there = geopandas.GeoSeries(lines, crs=crs).to_crs(4326)
    oracle = [Geod(ellps="WGS84").geometry_area_perimeter(shapely.orient_polygons(one)) for one in there]
    holes = [sum(Geod(ellps="WGS84").geometry_length(hole) for hole in one.interiors) for one in there]
    # A plane accurate to 0.25 % is used unchanged.
    assert frame.area_m2.to_numpy() == pytest.approx([area for area, _ in oracle], rel=2.5e-3)
    assert frame.perimeter_m.to_numpy() == pytest.approx(
        [around + inner for (_, around), inner in zip(oracle, holes, strict=True)], rel=2.5e-3
    )


@pytest.mark.parametrize("connectivity", [4, 8])
def test_reprojected_neighbors_share_every_vertex(write: Write, tmp_path: Path, connectivity: int) -> None:
    """A vertex in the middle of a neighbor's straight side would lie beside the curve that the side becomes."""
    path = write(noise((24, 20), 3), crs="EPSG:32633", transform=Affine(30, 0, 7e5, 0, -30, 6e6))
    for found in (
        vectorize(path, crs="EPSG:3035", connectivity=connectivity),
        read(vectorize(path, tmp_path / "cover.geojson", connectivity=connectivity)),
    ):
        assert shapely.coverage_is_valid(found.geometry.to_numpy())


@pytest.mark.parametrize(
    ("crs", "side"),
    [
        ("EPSG:32633", 0.003),
        ("EPSG:32633", 0.01),
        ("EPSG:4326", 9e-8),
        ("EPSG:4326", 1e-8),
        ("EPSG:4326", 1e-10),
        (None, 1e-8),
    ],
)
def test_small_pixels_stay_polygons_in_geojson(write: Write, tmp_path: Path, crs: str | None, side: float) -> None:
    """Their vertices differ in decimals that coordinates of larger pixels do not need."""
    origin = {"EPSG:32633": (5e5, 5e6), "EPSG:4326": (11.0, 48.0), None: (0.0123, 0.0456)}[crs]
    path = write(noise((12, 15), 3), crs=crs, transform=Affine(side, 0, origin[0], 0, -side, origin[1]))
    frame = vectorize(path)
    expected = shapely.area((frame if crs is None else frame.to_crs(4326)).geometry.to_numpy())
    for suffix in (".geojson", ".geojsonl"):
        found = read(vectorize(path, tmp_path / f"cover{suffix}"))
        assert found.is_valid.all()
        assert shapely.area(found.geometry.to_numpy()) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("side", "decimals"), [(10.0, 7), (1.0, 7), (0.6, 7), (0.5, 9), (0.02, 10)])
def test_geojson_has_the_decimals_that_its_pixels_need(
    write: Write, tmp_path: Path, side: float, decimals: int
) -> None:
    """Seven are a centimeter: a hundredth of a pixel of the shipped model."""
    path = write(noise((9, 9), 2), transform=Affine(side, 0, 500_000, 0, -side, 5_000_000))
    text = vectorize(path, tmp_path / "cover.geojson").read_text()
    numbers = re.findall(r"[\[ ]\d+\.(\d+)", " ".join(re.findall(r'"coordinates": \[.*?\] \] \]', text)))
    assert max(map(len, numbers)) == decimals


@pytest.mark.parametrize(("crs", "target"), [("EPSG:4326", "OGC:CRS84"), ("OGC:CRS84", None), ("EPSG:4258", None)])
def test_another_name_for_the_same_coordinates_adds_no_vertex(
    write: Write, tmp_path: Path, crs: str, target: str | None
) -> None:
    path = write(noise((20, 24), 3), crs=crs, transform=Affine(0.01, 0, 10, 0, -0.01, 50))
    found = vectorize(path, crs=target) if target else read(vectorize(path, tmp_path / "cover.geojson"))
    assert (
        shapely.get_num_coordinates(found.geometry).sum() == shapely.get_num_coordinates(vectorize(path).geometry).sum()
    )


def test_across_the_date_line(write: Write, tmp_path: Path) -> None:
    path = write(noise((9, 9), 2), crs="EPSG:32660", transform=Affine(1000, 0, 826_000, 0, -1000, 1_000_000))
    frame = vectorize(path, crs="EPSG:4326")
    assert (np.abs(frame.total_bounds) <= 180).all()
    assert frame.is_valid.all()
    parts = frame.geometry.explode().bounds
    assert (parts.maxx - parts.minx < 1).all()  # cut there, none goes around the Earth
    assert (parts.maxx == 180).any()
    assert (parts.minx == -180).any()
    check_same(read(vectorize(path, tmp_path / "cover.fgb", crs="EPSG:4326")), frame)
    cut = read(vectorize(path, tmp_path / "cover.geojson"))
    assert (np.abs(cut.total_bounds) <= 180).all()
    assert cut.is_valid.all()


def test_other_ways_to_the_same_raster(write: Write, tmp_path: Path) -> None:
    classes = smooth_noise((400, 300), 4, 4.0, 1, 0.1)
    path = write(classes, tiled=True, blockxsize=64, blockysize=64)
    truth = true_features(classes, NODATA, HALF_METRES)
    check_equal(features(vectorize(path)), truth)
    with zipfile.ZipFile(tmp_path / "cover.zip", "w") as archive:
        archive.write(path, "inside.tif")
    check_equal(features(vectorize(f"/vsizip/{tmp_path}/cover.zip/inside.tif")), truth)
    rasterio.shutil.copy(path, tmp_path / "cover.vrt", driver="VRT")
    check_equal(features(vectorize(tmp_path / "cover.vrt")), truth)
    rasterio.shutil.copy(path, tmp_path / "cover.png", driver="PNG", WORLDFILE="YES")
    check_equal(features(vectorize(tmp_path / "cover.png")), truth)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], rasterio.enums.Resampling.average)
    check_equal(features(vectorize(path)), truth)


@pytest.mark.parametrize("min_area", [None, "4px"])
def test_progress_adds_up(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, min_area: str | None) -> None:
    monkeypatch.setattr(class_raster, "STRIP_PX", 7 * 40)
    path = write(noise((50, 40), 3), blockysize=1)
    states: list[Progress] = []
    frame = vectorize(path, min_area=min_area, progress=states.append)
    last = states[-1]
    assert last.polygons == len(frame)
    assert (last.pieces_done, last.pixels_done) == (last.pieces_total, last.pixels_total)
    assert last.pixels_total == last.pixels_now == 50 * 40
    assert [state.pieces_done for state in states] == [*range(1, last.pieces_total + 1), last.pieces_total]
    for column in ("pixels_done", "polygons", "seconds"):
        values = [getattr(state, column) for state in states]
        assert values == sorted(values)
    written: list[Progress] = []
    vectorize(path, tmp_path / "cover.fgb", min_area=min_area, dissolve=True, progress=written.append)
    assert [state.pieces_done for state in written] == [state.pieces_done for state in states]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_small_rasters(write: Write, tmp_path: Path, shape: tuple[int, int]) -> None:
    classes = noise(shape, 3, 5)
    for path, written in ((write(classes), "plain"), (write(classes[::-1].copy(), "other.tif"), "all")):
        with rasterio.open(path) as dataset:
            truth = true_features(dataset.read(1), NODATA, HALF_METRES)
        check_equal(features(vectorize(path)), truth)
        for knobs in EVERYTHING.values():
            frame = vectorize(path, **knobs)
            assert frame.is_valid.all()
            assert frame.geometry.area.sum() == pytest.approx(classes.size / 4)
        vectorize(path, tmp_path / "cover.gpkg", overwrite=True, **EVERYTHING[written])


@pytest.mark.parametrize("knobs", [{}, *EVERYTHING.values()], ids=str)
def test_nothing_but_nodata_is_no_feature(write: Write, knobs: dict[str, Any]) -> None:
    path = write(np.full((5, 6), NODATA, np.uint8))
    frame = vectorize(path, **knobs)
    assert len(frame) == 0
    assert list(frame.columns) == COLUMNS
    assert frame.crs == "EPSG:32631"
    assert frame.dtypes.astype(str).tolist()[:1] == ["int32"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dissolve", [False, True])
def test_no_feature_is_a_valid_file(write: Write, tmp_path: Path, suffix: str, *, dissolve: bool) -> None:
    path = write(np.full((5, 6), NODATA, np.uint8))
    out = vectorize(path, tmp_path / f"cover{suffix}", dissolve=dissolve, confidence=path)
    if "json" in suffix:
        text = out.read_text()
        assert text == "" if suffix not in (".geojson", ".json") else json.loads(text)["features"] == []
        return
    found = read(out)
    assert len(found) == 0
    assert list(found.columns) == [*COLUMNS[:-1], "confidence", "geometry"]
    assert isinstance(found, geopandas.GeoDataFrame)
    assert found.crs == "EPSG:32631"


def test_a_class_that_is_not_there_is_no_feature(write: Write, tmp_path: Path) -> None:
    path = write(checkerboard((6, 6), 1))
    known = {0: "land", 77: "rare"}  # may be missing in one map of many
    assert len(vectorize(path, classes="77", legend=known)) == 0
    target = tmp_path / "cover.gpkg"
    assert len(read(vectorize(path, target, classes="rare", dissolve=True, legend=known))) == 0


@pytest.mark.parametrize("wanted", ["77", "class 77", "1,77", [1, 77], 77])
def test_a_code_with_neither_a_name_nor_a_pixel_is_refused(write: Write, tmp_path: Path, wanted: Any) -> None:
    """A mistyped code would make an empty layer; `sample` refuses it too."""
    path = write(noise((10, 10), 2), nodata=None)
    for verb in (vectorize, geoseg.sample):
        with pytest.raises(UsageError, match=r"77.*class 0 .*class 1 ") as caught:
            verb(path, tmp_path / "out.gpkg", classes=wanted)
        assert caught.value.parameter == "classes"
    assert list(tmp_path.iterdir()) == [path]


def test_smoothing_refuses_what_does_not_fit_its_integers(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(noise((4, 40), 3))
    monkeypatch.setattr(request, "LONGEST_PX", 39)
    with pytest.raises(UsageError, match="at most 39 rows and columns, got 4 x 40; leave it out"):
        vectorize(path, smooth=True)
    assert len(vectorize(path)) > 1
    assert LONGEST_PX * UNIT < 2**31 <= (LONGEST_PX + 1) * UNIT


@pytest.mark.parametrize("suffix", [".fgb", ".geojson", ".parquet", ".geojsonl"])
def test_qgis_finds_a_style_beside_the_file_where_no_other_file_has_its_name(
    write: Write, tmp_path: Path, suffix: str
) -> None:
    path = write(noise((9, 9), 3))
    target = vectorize(path, tmp_path / f"polygons{suffix}")
    style = target.with_suffix(".qml")
    for code in np.unique(vectorize(path).code):
        assert f'<category value="{code}"' in style.read_text(encoding="utf-8")
    style.write_text("<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<qgis/>")  # the user's own
    kept = style.read_bytes()
    vectorize(path, target, overwrite=True)
    assert style.read_bytes() == kept
    (tmp_path / "map.tif").write_bytes(b"another's")
    vectorize(path, tmp_path / f"map{suffix}")
    assert not (tmp_path / "map.qml").exists()
