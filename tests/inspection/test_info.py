from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.errors import RasterioError

from geoseg import errors
from geoseg.inspection import info
from geoseg.legend import DEEPGLOBE, NODATA
from geoseg.raster import GeoBox, Scene, Window
from geoseg.raster.landcover import PartFormat, labels
from tests.networks import tiny_bundle
from tests.parts import write_part
from tests.raster.conftest import assemble

TRANSFORM = Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)
GRID = {"driver": "GTiff", "crs": "EPSG:32631", "transform": TRANSFORM}


def strict(values: dict[str, object]) -> dict[str, Any]:
    """Return values after a round trip through JSON, which must not contain NaN."""
    read: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    return read


def write(path: Path, pixels: NDArray[Any], **more: Any) -> Path:
    count, height, width = pixels.shape
    with rasterio.open(path, "w", count=count, height=height, width=width, dtype=pixels.dtype, **GRID, **more) as file:
        file.write(pixels)
    return path


@pytest.fixture
def codes() -> NDArray[np.uint8]:
    pixels = np.full((80, 100), NODATA, np.uint8)
    pixels[:40] = 0
    pixels[40:50] = 4
    return pixels


@pytest.fixture
def our_map(tmp_path: Path, codes: NDArray[np.uint8]) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    product = labels(DEEPGLOBE)
    write_part(folder, product, 0, codes, PartFormat.of(codes.shape, codes.shape))
    box = GeoBox(codes.shape[0], codes.shape[1], TRANSFORM, rasterio.crs.CRS.from_epsg(32631))
    assemble(folder, product, [Window(0, 0, *codes.shape)], box, tmp_path / "map.tif", {"GEOSEG_VERSION": "0.1"})
    return tmp_path / "map.tif"


def test_points_that_cannot_place_a_scene_are_said(tmp_path: Path) -> None:
    path, grid = tmp_path / "scene.tif", {"driver": "GTiff", "height": 50, "width": 60, "count": 1, "dtype": "uint8"}
    on_a_row = [GroundControlPoint(0, col, 400_000 + col / 2, 5e6) for col in (0, 20, 40)]
    with rasterio.open(path, "w", **grid, gcps=on_a_row, crs="EPSG:32631") as file:
        file.write(np.ones((1, 50, 60), np.uint8))
    facts = info(path)
    values = strict(facts.to_json())
    assert (values["gcps"], values["gsd_m"]) == (3, None)
    assert "3 ground control points; unknown pixel size" in facts.describe()
    assert "3 ground control points cannot place it: their pixels all lie on one line; give it" in facts.describe()


def test_a_plan_of_a_site_has_a_crs_of_its_own(tmp_path: Path) -> None:
    place = {"crs": 'LOCAL_CS["site",UNIT["metre",1]]', "transform": Affine(1, 0, 0, 0, -1, 9)}
    with rasterio.open(tmp_path / "scene.tif", "w", driver="GTiff", height=9, width=7, count=1, dtype="uint8", **place):
        pass
    assert "local CRS; unknown pixel size" in info(tmp_path / "scene.tif").describe()


def test_a_scene_is_described_as_rasterio_sees_it(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 3000, (4, 60, 70), dtype=np.uint16)
    path = write(tmp_path / "scene.tif", pixels, nodata=7)
    facts = strict(info(path).to_json())
    with rasterio.open(path) as file:
        assert facts["kind"] == "scene"
        assert (facts["rows"], facts["columns"]) == file.shape
        assert facts["crs"] == file.crs.to_string()
        assert facts["transform"] == list(file.transform)[:6]
        assert facts["dtype"] == file.dtypes[0]
        assert facts["nodata"] == file.nodata
        assert [band["index"] for band in facts["bands"]] == list(file.indexes)
    assert facts["gsd_m"] == pytest.approx(0.5, rel=1e-3)
    for row, band in zip(facts["statistics"], pixels, strict=True):
        assert row["mean"] == pytest.approx(band.mean(), rel=0.01)


def test_a_scene_and_an_open_dataset_are_described_as_their_file(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    with rasterio.open(path, "w", driver="GTiff", count=3, height=9, width=9, dtype="uint8", crs=32632) as dataset:
        dataset.write(np.arange(243, dtype=np.uint8).reshape(3, 9, 9))
    with rasterio.open(path) as dataset:
        assert info(path).to_json() == info(Scene.open(path)).to_json() == info(dataset).to_json()
    with pytest.raises(errors.UsageError, match="a scene must be a path"):
        info(3)  # type: ignore[arg-type] # no scene


def test_nan_as_nodata_is_strict_json(tmp_path: Path) -> None:
    pixels = np.full((1, 5, 6), np.nan, np.float32)
    facts = strict(info(write(tmp_path / "empty.tif", pixels, nodata=np.nan)).to_json())
    assert facts["nodata"] == "nan"
    assert facts["statistics"] is None


def test_our_map_tells_its_classes_shares_and_origin(our_map: Path) -> None:
    facts = strict(info(our_map).to_json())
    assert facts["kind"] == "map"
    assert [row["name"] for row in facts["classes"]] == list(DEEPGLOBE.names)
    shares = {row["code"]: row["share"] for row in facts["classes"]}
    assert shares == {0: 0.8, 4: 0.2} | dict.fromkeys((1, 2, 3, 5, 6), 0)
    assert facts["provenance"]["GEOSEG_VERSION"] == "0.1"
    assert "urban_land, about 80.0%" in info(our_map).describe()


def test_what_is_told_to_people_is_in_words(tmp_path: Path, our_map: Path) -> None:
    with rasterio.open(our_map, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.update_tags(GEOSEG_TILE="[1024, 3072]", GEOSEG_SCALE="null", GEOSEG_BLEND="hann")
    told = dict(info(our_map).lines)
    assert (told["tile"], told["blend"]) == ("1024, 3072", "hann")
    assert "scale" not in told
    assert strict(info(our_map).to_json())["provenance"]["GEOSEG_SCALE"] == "null"
    one = write(tmp_path / "one.tif", np.ones((1, 1, 1), np.uint8))
    assert dict(info(one).lines)["size"] == "1 row x 1 column, 1 px"


def test_a_map_without_our_tags_is_known_by_its_names(tmp_path: Path, codes: NDArray[np.uint8]) -> None:
    path = write(tmp_path / "theirs.tif", codes[np.newaxis], nodata=NODATA)
    assert info(path).kind == "scene"
    names = "<Category>town</Category><Category/><Category/><Category/><Category>lake</Category>"
    xml = f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames></PAMRasterBand></PAMDataset>'
    path.with_name("theirs.tif.aux.xml").write_text(xml, encoding="utf-8")
    again = path.rename(tmp_path / "again.tif")
    path.with_name("theirs.tif.aux.xml").rename(tmp_path / "again.tif.aux.xml")
    facts = strict(info(again).to_json())
    assert [(row["code"], row["name"]) for row in facts["classes"]] == [(0, "town"), (4, "lake")]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_a_map_of_any_numbers_is_known_by_its_attribute_table(
    tmp_path: Path, codes: NDArray[np.uint8], dtype: str
) -> None:
    stored, hole = codes.astype(dtype), np.nan if dtype.startswith("float") else NODATA
    stored[codes == NODATA] = hole
    path = write(tmp_path / "theirs.tif", stored[np.newaxis], nodata=hole)
    fields = "".join(
        f'<FieldDefn index="{place}"><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage></FieldDefn>'
        for place, (name, kind, usage) in enumerate([("Value", 0, 5), ("Class", 2, 2)])
    )
    rows = "".join(f'<Row index="{row}"><F>{4 * row}</F><F>n{4 * row}</F></Row>' for row in (0, 1))
    table = f"<GDALRasterAttributeTable>{fields}{rows}</GDALRasterAttributeTable>"
    path.with_name("theirs.tif.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1">{table}</PAMRasterBand></PAMDataset>', encoding="utf-8"
    )
    found = strict(info(path).to_json())["classes"]
    share = (codes[codes != NODATA] == 0).mean()
    assert [(row["code"], row["name"]) for row in found] == [(0, "n0"), (4, "n4")]
    assert [row["share"] for row in found] == pytest.approx([share, 1 - share], abs=0.02)
    assert "<img" in Scene.open(path)._repr_html_()


def test_a_map_with_colours_only_has_the_codes_found(tmp_path: Path, codes: NDArray[np.uint8]) -> None:
    path = write(tmp_path / "theirs.tif", codes[np.newaxis], nodata=NODATA)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (1, 2, 3, 255), 4: (4, 5, 6, 255)})
    rows = strict(info(path).to_json())["classes"]
    assert [(row["code"], row["color"]) for row in rows] == [(0, [1, 2, 3]), (4, [4, 5, 6])]


def test_names_of_several_codes_are_shown_and_codes_without_one_too(tmp_path: Path) -> None:
    path = write(tmp_path / "theirs.tif", np.array([[[0, 1, 1, 7]]], np.uint8))
    names = "<Category>Unclassified</Category><Category>Unclassified</Category><Category>lake</Category>"
    path.with_name("theirs.tif.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames></PAMRasterBand></PAMDataset>'
    )
    rows = strict(info(path).to_json())["classes"]
    assert [(row["code"], row["name"], row["share"]) for row in rows] == [
        (0, "Unclassified", 0.25), (1, "Unclassified", 0.5), (2, "lake", 0.0), (7, "class 7", 0.25),
    ]  # fmt: skip
    assert dict(info(path).lines)["code 7"] == "unnamed, about 25.0%"


def test_a_tag_that_somebody_broke_is_no_legend(tmp_path: Path, codes: NDArray[np.uint8]) -> None:
    path = write(tmp_path / "broken.tif", codes[np.newaxis], nodata=NODATA)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (1, 2, 3, 255)})
        file.update_tags(GEOSEG_LEGEND='[{"code": 900}]')
    assert [row["code"] for row in strict(info(path).to_json())["classes"]] == [0, 4]


def test_the_demo_model_tells_what_it_takes() -> None:
    assert repr(info("demo")) == info("demo").describe()  # what a shell shows
    facts = strict(info("demo").to_json())
    assert facts["kind"] == "model"
    assert facts["bands"] == ["red", "green", "blue"]
    assert len(facts["hash"]) == 64
    assert facts["parameters"] > 0
    assert {row["code"] for row in facts["legend"]} >= set(facts["output_codes"])


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("gone.tif", None, errors.SceneError),
        ("gone.safetensors", None, errors.ModelError),
        ("text.tif", b"not a raster", errors.SceneError),
        ("weights.pt", b"\x80\x02}q\x00.", errors.ModelError),
        ("cut.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{}", errors.ModelError),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes | None, error: type) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=name):
        info(path)


def test_every_real_raster_is_described(shared_data: Path) -> None:
    rasters = [path for path in shared_data.rglob("*.tif") if "geotiff_zoo" in path.parts]
    assert rasters
    for path in rasters:
        try:
            facts = info(path)
        except errors.SceneError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either is right, and both are checked
        else:
            assert strict(facts.to_json())["path"] == str(path)
            assert facts.describe().count("\n") == len(facts.lines)
            assert str(facts) == facts.describe()


@pytest.mark.parametrize(
    ("name", "words", "error"),
    [
        ("a.h5", b"Reflectance", errors.SceneError),
        ("a.h5", b"layer_names", errors.ModelError),
        ("a.h5", b"keras_version", errors.ModelError),
        ("a.h5", b"_layer_checkpoint_dependencies", errors.ModelError),
        ("a.weights.h5", b"vars", errors.ModelError),
    ],
)
def test_an_hdf5_file_is_no_raster_if_keras_wrote_it(
    tmp_path: Path, name: str, words: bytes, error: type[Exception]
) -> None:
    (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100) + words)
    with pytest.raises(error):
        info(tmp_path / name)


def test_a_classic_netcdf_file_is_a_raster_whatever_its_name(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", np.ones((1, 9, 7), np.uint8))
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "a.h5", driver="netCDF", FORMAT="NC")
    assert info(tmp_path / "a.h5").values["driver"] == "netCDF"


def test_the_rasters_in_an_hdf5_file_are_named_and_described(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    place = {"crs": "EPSG:32631", "transform": Affine(10, 0, 4e5, 0, -10, 5e6)}
    try:
        with rasterio.open(path, "w", driver="BAG", height=9, width=7, count=1, dtype="float32", **place) as file:
            file.write(np.ones((1, 9, 7), np.float32))
    except RasterioError as error:
        pytest.skip(f"this GDAL writes no HDF5: {error}")
    with pytest.raises(errors.SceneError, match=r"give one of the rasters inside it: HDF5:.*a\.h5") as caught:
        info(path)
    name = str(caught.value).split("inside it: ")[1].split(",")[0]
    values = info(name).to_json()
    assert (values["kind"], values["rows"], values["columns"]) == ("scene", 9, 7)


def test_an_hdf5_file_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")

    def refused(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(errors.ModelError, match=r"a\.h5 .*(Permission denied|Keras)"):
        info(tmp_path / "a.h5")


def test_a_damaged_transform_is_said(tmp_path: Path) -> None:
    place = {"crs": "EPSG:32631", "transform": Affine(math.nan, 0, 4e5, 0, -1, 5e6)}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", height=9, width=7, count=1, dtype="uint8", **place):
        pass
    facts = info(tmp_path / "a.tif")
    assert "unknown: pixels have no area or no place with the transform (nan," in facts.describe()
    assert strict(facts.to_json())["transform"] is None


def test_a_model_has_no_area_of_interest(tmp_path: Path) -> None:
    square = shapely.box(0, 0, 1, 1)
    for model in (None, "demo", tmp_path / "roofs.onnx", "hf://owner/name"):
        with pytest.raises(errors.UsageError, match="`aoi` is an area of a raster") as caught:
            info(model, aoi=square, aoi_crs="EPSG:4326")
        assert caught.value.parameter == "aoi"


def test_without_a_path_the_default_model_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert info().to_json() == info("demo").to_json()
    bundle = tiny_bundle(tmp_path, export=False)
    monkeypatch.setenv("GEOSEG_MODEL", str(bundle.weights_path))
    assert info().values["hash"] == bundle.hash
    assert info("demo").values["hash"] != bundle.hash


@pytest.mark.parametrize(("degrees", "told"), [((4.5e-6, 4.5e-6), True), ((1e-5, 4.3e-6), False)])
def test_pixels_that_are_not_square_on_the_ground_are_told_by_both_sides(
    tmp_path: Path,
    degrees: tuple[float, float],
    told: bool,  # noqa: FBT001
) -> None:
    place = {"crs": "EPSG:4326", "transform": Affine(degrees[0], 0, 12, 0, -degrees[1], 64.6)}
    shape = {"count": 1, "height": 20, "width": 30, "dtype": "uint8"}
    with rasterio.open(tmp_path / "scene.tif", "w", driver="GTiff", **place, **shape) as file:
        file.write(np.ones((1, 20, 30), np.uint8))
    facts = info(tmp_path / "scene.tif")
    height_m, width_m = facts.values["pixel_m"]
    assert height_m / degrees[1] == pytest.approx(111_500, rel=0.002)
    assert width_m / degrees[0] == pytest.approx(111_500 * np.cos(np.radians(64.6)), rel=0.005)
    assert (f"not square on the ground: {height_m:.4g} m high, {width_m:.4g} m wide" in str(facts)) is told
