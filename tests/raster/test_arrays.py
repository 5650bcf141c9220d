from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow
from rasterio.windows import from_bounds

import geoseg
from geoseg.errors import SceneError, UnlikeTrainingWarning, UsageError
from geoseg.inference import predict
from geoseg.raster import GeoBox, Scene, Window, read_nomenclature
from tests.raster.conftest import MakeRaster, noise

dask = pytest.importorskip("dask.array")
xarray = pytest.importorskip("xarray")
rioxarray = pytest.importorskip("rioxarray")
odc_geobox = pytest.importorskip("odc.geo.geobox")
odc_xr = pytest.importorskip("odc.geo.xr")

UTM = CRS.from_epsg(32632)
PLACE = Affine(10, 0, 4e5, 0, -10, 5.4e6)


def whole(scene: Scene) -> Window:
    return Window(0, 0, *scene.shape)


def same(scene: Scene, path: Path) -> None:
    """Assert that a scene equals a file in valid pixels, mask, georeference and type."""
    wanted = Scene.open(path)
    ours, theirs = scene.read(whole(scene)), wanted.read(whole(wanted))
    np.testing.assert_array_equal(ours.valid, theirs.valid)
    np.testing.assert_array_equal(ours.data[:, ours.valid], theirs.data[:, theirs.valid])
    assert scene.geobox.crs == wanted.geobox.crs
    assert scene.geobox.transform.almost_equals(wanted.geobox.transform, 1e-6)
    assert scene.dtype == wanted.dtype


@pytest.mark.parametrize("chunks", [None, {"band": 1, "y": 70, "x": 33}, {"band": -1, "y": 128, "x": 128}])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64", "uint32"])
def test_an_array_of_rioxarray_is_the_scene_of_its_file(
    make_raster: MakeRaster, dtype: str, chunks: dict[str, int] | None
) -> None:
    path = make_raster(noise(3, 150, 170).astype(dtype), nodata=7, crs=UTM, transform=PLACE)
    same(Scene.open(rioxarray.open_rasterio(path, chunks=chunks)), path)


@pytest.mark.parametrize("transform", [Affine(10, 0, 4e5, 0, 10, 5.4e6), Affine(8, 3, 4e5, 4, -9, 5.4e6)])
def test_a_south_up_and_a_rotated_array_keep_their_place(make_raster: MakeRaster, transform: Affine) -> None:
    path = make_raster(noise(1, 40, 50), crs=UTM, transform=transform)
    same(Scene.open(rioxarray.open_rasterio(path, parse_coordinates=not transform.b)), path)


@pytest.mark.parametrize("nodata", [7, None])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32"])
def test_a_masked_array_is_the_scene_of_its_file(make_raster: MakeRaster, dtype: str, nodata: int | None) -> None:
    """rioxarray turns integers into floats with NaN for nodata; the scene has the integer type again."""
    pixels = noise(2, 40, 50).astype(dtype)
    pixels[:, 5:9] = 7
    path = make_raster(pixels, nodata=nodata, crs=UTM, transform=PLACE)
    for chunks in (None, {"y": 16}):
        array = rioxarray.open_rasterio(path, masked=True, chunks=chunks)
        assert array.dtype.kind == "f"
        same(Scene.open(array), path)


@pytest.mark.parametrize("chunks", [None, {"y": 16, "x": 20}])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_holes_in_a_masked_array_are_not_valid_and_its_type_stays(
    make_raster: MakeRaster, dtype: str, chunks: dict[str, int] | None
) -> None:
    """Clipping or filtering an array adds NaN even if its file has no nodata value."""
    pixels = noise(3, 40, 50).astype(dtype)
    path = make_raster(pixels, crs=UTM, transform=PLACE)
    array = rioxarray.open_rasterio(path, masked=True, chunks=chunks)
    hidden = array.where(array.x > PLACE.c + 100)
    hidden.encoding = array.encoding  # which rio.clip keeps
    scene = Scene.open(hidden)
    assert scene.dtype == dtype
    found = scene.read(whole(scene))
    wanted = np.broadcast_to(np.arange(50) >= 10, (40, 50))
    np.testing.assert_array_equal(found.valid, wanted)
    np.testing.assert_array_equal(found.data[:, wanted], pixels[:, wanted])


def test_an_array_that_holds_more_than_its_file_stays_what_it_is(make_raster: MakeRaster) -> None:
    path = make_raster(noise(2, 40, 50), crs=UTM, transform=PLACE)
    for value in (0.5, 300.0):
        array = rioxarray.open_rasterio(path, masked=True)
        array.values[1, 3, 4] = value
        array.values[0, 9, 9] = np.nan
        scene = Scene.open(array)
        assert scene.dtype == "float32"
        found = scene.read(whole(scene))
        assert not found.valid[9, 9]
        np.testing.assert_array_equal(found.data[:, found.valid], array.values[:, found.valid])


def test_a_cube_of_one_time_is_an_image(make_raster: MakeRaster) -> None:
    path = make_raster(noise(3, 40, 50), crs=UTM, transform=PLACE)
    array = rioxarray.open_rasterio(path)
    same(Scene.open(array.expand_dims("time")), path)
    same(Scene.open(array.expand_dims(time=[0], run=[7]).transpose("band", "run", "y", "time", "x")), path)
    same(Scene.open(array.isel(band=[0]).expand_dims("time")), make_raster(array.values[:1], crs=UTM, transform=PLACE))
    with pytest.raises(UsageError, match=r"isel\(time=0\)"):
        Scene.open(xarray.concat([array, array], "time").transpose("band", "time", "y", "x"))


def test_what_has_no_place_is_told_what_has(make_raster: MakeRaster) -> None:
    path = make_raster(noise(3, 40, 50), crs=UTM, transform=PLACE)
    array = rioxarray.open_rasterio(path)
    refusal = r"`scene` .*not georeferenced: give an xarray.DataArray with a CRS, or a file"
    for pixels in (array.values, array.chunk().data):
        with pytest.raises(UsageError, match=refusal):
            geoseg.plan(pixels)
    with MemoryFile(path.read_bytes()) as memory:
        with pytest.raises(UsageError, match=r"MemoryFile is not a dataset; give memory_file.open\(\)"):
            geoseg.plan(memory)
        with memory.open() as dataset:
            same(Scene.open(dataset), path)


def test_an_array_is_not_called_by_its_temporary_file(make_raster: MakeRaster) -> None:
    array = rioxarray.open_rasterio(make_raster(noise(3, 40, 50), crs=UTM, transform=PLACE))
    with pytest.raises(UsageError, match=r"^the DataArray: band 5 does not exist"):
        Scene.open(array, bands=[5])


def test_two_dimensions_other_orders_and_booleans_are_read_too() -> None:
    pixels = np.arange(3 * 20 * 30).reshape(20, 30, 3).astype("int16")
    coordinates = {"y": 5.4e6 - 10 * np.arange(20), "x": 4e5 + 10 * np.arange(30)}
    array = xarray.DataArray(pixels, dims=("y", "x", "band"), coords=coordinates).rio.write_crs("EPSG:32632")
    scene = Scene.open(array)
    np.testing.assert_array_equal(scene.read(whole(scene)).data, pixels.transpose(2, 0, 1))
    assert scene.geobox.transform == Affine(10, 0, 4e5 - 5, 0, -10, 5.4e6 + 5)
    flat = Scene.open(array.isel(band=1) > 5)
    np.testing.assert_array_equal(flat.read(whole(flat)).data[0], (pixels[:, :, 1] > 5).astype("uint8"))


def test_an_array_of_odc_geo_has_its_place() -> None:
    place = odc_geobox.GeoBox((60, 80), PLACE, "EPSG:32632")
    array = odc_xr.wrap_xr(noise(1, 60, 80)[0], place)
    assert GeoBox.from_odc(place) == Scene.open(array).geobox


def test_bands_have_the_names_of_the_array() -> None:
    array = xarray.DataArray(noise(3, 9, 9), dims=("band", "y", "x"), coords={"band": ["blue", "green", "red"]})
    array = array.rio.write_transform(PLACE).rio.write_crs(UTM)
    assert Scene.open(array, bands=["red", "blue"]).band_indexes == (3, 1)
    del array.coords["band"]
    array.attrs["long_name"] = ("red", "green", "blue")
    assert Scene.open(array, bands=["blue"]).band_indexes == (3,)


def class_names(raster: Any) -> dict[int, str]:
    return {named.code: named.name for named in read_nomenclature(Scene.open(raster))}


@pytest.mark.parametrize("masked", [False, True])
def test_an_array_of_a_map_has_its_class_names(tmp_path: Path, *, masked: bool) -> None:
    """As rioxarray reads a map that geoseg wrote: GDAL's names and colors are gone, the tags are there."""
    path = tmp_path / "map.tif"
    legend = geoseg.Legend((geoseg.LandCover(3, "open water", (0, 0, 255)), geoseg.LandCover(9, "land", (9, 9, 9))))
    with rasterio.open(
        path, "w", driver="GTiff", width=40, height=30, count=1, dtype="uint8", nodata=255, crs=UTM, transform=PLACE
    ) as dataset:
        dataset.write(np.where(noise(1, 30, 40) > 99, 3, 9).astype(np.uint8))
        dataset.update_tags(GEOSEG_LEGEND=json.dumps(legend.to_json()))
    array = rioxarray.open_rasterio(path, masked=masked)
    assert class_names(array) == class_names(path) == {3: "open water", 9: "land"}
    assert class_names(array.where(array != 9)) == {3: "open water", 9: "land"}  # floats, with holes


def test_a_mask_made_of_a_map_has_not_its_class_names(tmp_path: Path) -> None:
    """xarray copies the attributes of an array to what `==` makes of it."""
    pixels = xarray.DataArray(
        np.array([[[0, 1], [2, 255]]], np.uint8), {"y": [1.5, 0.5], "x": [0.5, 1.5]}, ("band", "y", "x")
    ).rio.write_crs(UTM)
    names = {"GEOSEG_LEGEND": json.dumps(geoseg.DEEPGLOBE.to_json())}
    pixels.rio.write_nodata(255).assign_attrs(names).rio.to_raster(tmp_path / "map.tif", tags=names)
    array = rioxarray.open_rasterio(tmp_path / "map.tif")
    assert class_names(array.isel(y=[0]))[1] == "agriculture_land"  # codes, though only 0 and 1
    for mask in (array == 2, (array == 2).astype("uint8"), array.isin([1, 2]).astype("int64"), (array == 2) * 1.0):
        described = mask.assign_attrs(array.attrs)  # as every xarray since 2025.11 does
        assert class_names(described) == {}
        assert geoseg.tabulate(described)["pixels"].sum() == 4


def test_an_array_with_cf_flags_has_their_names() -> None:
    """As xarray reads the land cover of ESA CCI, and as `Plan.to_xarray` returns a map."""
    flags = {"flag_values": np.array([0, 10, -116], np.int8), "flag_meanings": "no_data crops water"}
    array = xarray.DataArray(
        np.array([[10, 140], [140, 0]], np.uint8), {"y": [1.5, 0.5], "x": [0.5, 1.5]}, ("y", "x"), attrs=flags
    ).rio.write_crs(UTM)
    assert class_names(array) == {0: "no_data", 10: "crops", 140: "water"}
    assert class_names((array == 10).assign_attrs(flags)) == {}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_no_band_of_an_array_is_taken_for_a_color_or_alpha(count: int) -> None:
    array = xarray.DataArray(noise(count, 9, 9), dims=("band", "y", "x"))
    scene = Scene.open(array.rio.write_transform(PLACE).rio.write_crs(UTM))
    assert len(scene.band_indexes) == count
    assert set(scene.colors) <= {"gray", "undefined"}


def test_dasks_chunks_are_computed_once_each_and_never_all_together() -> None:
    computed: list[Any] = []

    def chunk(block_info: dict[None, dict[str, Any]]) -> np.ndarray:
        computed.append(block_info[None]["chunk-location"])
        return np.full((2, 100, 100), len(computed), np.uint8)

    pixels = dask.map_blocks(chunk, chunks=((2,), (100,) * 5, (100,) * 4), dtype=np.uint8, meta=np.empty((0, 0, 0)))
    array = xarray.DataArray(pixels, dims=("band", "y", "x")).rio.write_transform(PLACE).rio.write_crs(UTM)
    real, most = dask.Array.compute, []

    def watched(self: Any, **options: Any) -> Any:
        most.append(self.nbytes)
        return real(self, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dask.Array, "compute", watched)
        scene = Scene.open(array)
    assert sorted(computed) == [(0, row, col) for row in range(5) for col in range(4)]
    assert max(most, default=0) <= 2 * 100 * 100
    assert scene.read(Window(100, 100, 1, 1)).data[0, 0, 0] == computed.index((0, 1, 1)) + 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda array: array.drop_vars("spatial_ref"), "no CRS"),
        (lambda array: array.expand_dims(time=[1, 2]), "time"),
        (lambda array: array.rename(y="north", x="east"), "dimensions y and x"),
        (lambda array: array.to_dataset(name="a"), "to_array"),
        (lambda array: array.values, "ndarray"),
        (lambda array: array.variable, "Variable"),
        (lambda array: array.rename(y="lat", x="lon"), r"rename\(lat='y'"),
        (lambda array: array.isel(y=slice(0)), "no pixels"),
        (lambda array: array.astype(complex), "real numbers"),
        (lambda array: array.astype("datetime64[ns]"), "real numbers"),
        (lambda array: array.assign_attrs(_FillValue=-9999), "nodata value"),
        (lambda array: array.assign_coords(band=np.array(["2024-01-01", "2024-02-01"], "M8[ns]")), "times"),
        (lambda array: array.assign_coords(y=np.arange(9.0) ** 2, x=np.arange(9.0)), "evenly spaced"),
        (
            lambda array: (
                array.assign_coords(y=np.arange(9.0), x=np.arange(9.0))
                .drop_vars("spatial_ref")
                .rio.write_crs(UTM)
                .isel(y=slice(1))
            ),
            "a single one",
        ),
        (lambda array: array.assign_coords(y=-np.arange(9.0), x=np.zeros(9)), "evenly spaced"),
        (lambda array: array.assign_coords(y=np.full(9, 5.0), x=np.arange(9.0)), "evenly spaced"),
        (
            lambda array: (
                array.drop_vars("spatial_ref").assign_coords(y=np.full(9, np.nan), x=np.arange(9.0)).rio.write_crs(UTM)
            ),
            "evenly spaced",
        ),
    ],
)
def test_what_is_no_scene_is_told_in_a_line(change: Any, said: str) -> None:
    array = xarray.DataArray(noise(2, 9, 9), dims=("band", "y", "x")).rio.write_transform(PLACE).rio.write_crs(UTM)
    with pytest.raises(UsageError, match=said) as caught:
        Scene.open(change(array))
    assert caught.value.parameter == "scene"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "transform"),
    [
        (lambda array: array[:, ::2, ::3], PLACE @ Affine.translation(-1, -0.5) @ Affine.scale(3, 2)),
        (lambda array: array.coarsen(y=3, x=3).mean(), PLACE @ Affine.scale(3)),
        (lambda array: array[:, ::-1], PLACE @ Affine.translation(0, 9) @ Affine.scale(1, -1)),
        (lambda array: array[:, 2:5, 4:], PLACE @ Affine.translation(4, 2)),
        (lambda array: array[:, 2:3, 4:5], PLACE @ Affine.translation(4, 2)),
        (lambda array: array.assign_coords(x=array.x.astype("f4"), y=array.y.astype("f4")), PLACE),
    ],
)
def test_an_array_is_where_its_coordinates_are_though_spatial_ref_is_older(
    make_raster: MakeRaster, change: Any, transform: Affine
) -> None:
    path = make_raster(noise(2, 9, 9), crs=UTM, transform=PLACE)
    scene = Scene.open(change(rioxarray.open_rasterio(path)))
    assert scene.geobox.transform.almost_equals(transform, 1e-6)


@pytest.mark.parametrize("by", ["rioxarray", "odc"])
@pytest.mark.parametrize(("step", "top", "left"), [(1, 2, 3), (2, 0, 0), (2, 1, 3), (1, 8, 8)])
def test_a_part_of_a_rotated_array_is_where_its_pixels_are(
    make_raster: MakeRaster, by: str, step: int, top: int, left: int
) -> None:
    turned = Affine(8, 3, 4e5, 4, -9, 5.4e6)
    if by == "odc":
        array = odc_xr.xr_zeros(odc_geobox.GeoBox((9, 9), turned, "EPSG:32632"), dtype="uint8").expand_dims("band")
    else:
        array = rioxarray.open_rasterio(make_raster(noise(2, 9, 9), crs=UTM, transform=turned))
    scene = Scene.open(array[:, top::step, left::step])
    for pixel in (0, scene.shape[0] - 1):
        center = turned @ (left + step * pixel + 0.5, top + step * pixel + 0.5)
        assert scene.geobox.transform @ (pixel + 0.5, pixel + 0.5) == pytest.approx(center, abs=1e-3)


def test_the_files_of_arrays_go_with_the_process() -> None:
    code = (
        "import numpy as np, rioxarray, xarray; from geoseg.raster import Scene;"
        "array = xarray.DataArray(np.ones((1, 4, 4), 'uint8'), dims=('band', 'y', 'x')).rio.write_crs(32632);"
        "print(Scene.open(array).path)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip()
    assert not Path(done.stdout.strip()).parent.exists()


def test_an_open_dataset_is_the_scene_of_its_file(make_raster: MakeRaster) -> None:
    path = make_raster(noise(3, 40, 50), nodata=7, crs=UTM, transform=PLACE)
    with rasterio.open(path) as dataset:
        same(Scene.open(dataset), path)
    with pytest.raises(UsageError, match="closed"):
        Scene.open(dataset)


def test_a_dataset_opened_at_an_overview_is_that_overview(make_raster: MakeRaster) -> None:
    path = make_raster(noise(2, 64, 96), crs=UTM, transform=PLACE)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2])
    with rasterio.open(path, overview_level=0) as dataset:
        scene = Scene.open(dataset)
        np.testing.assert_array_equal(scene.read(whole(scene)).data, dataset.read())
        assert scene.geobox.transform == dataset.transform


def test_a_warped_dataset_is_a_scene(make_raster: MakeRaster) -> None:
    path = make_raster(noise(3, 40, 50), crs=UTM, transform=PLACE)
    with (
        rasterio.open(path) as dataset,
        WarpedVRT(dataset, crs="EPSG:3857", resampling=Resampling.nearest, nodata=0) as warped,
    ):
        scene = Scene.open(warped)
        np.testing.assert_array_equal(scene.read(whole(scene)).data, warped.read())
        assert scene.geobox.transform == warped.transform


def test_a_scene_stays_the_scene_and_its_bands_can_be_chosen(make_raster: MakeRaster) -> None:
    scene = Scene.open(make_raster(noise(4, 20, 30)))
    assert Scene.open(scene) is scene
    for other in (Scene.open(scene, bands=[3, 1]), scene.select_bands(3, 1)):
        assert other.band_indexes == (3, 1)
        assert other.chosen
    with pytest.raises(UsageError, match="band 9 does not exist"):
        scene.select_bands(9)
    part = scene.select_bands(4).crop(scene.geobox.bounds)
    np.testing.assert_array_equal(part.read(whole(part)).data, scene.select_bands(4).read(whole(scene)).data)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_an_array_of_a_scene_is_what_rioxarray_opens(make_raster: MakeRaster, dtype: str, *, masked: bool) -> None:
    path = make_raster(noise(3, 150, 170).astype(dtype), nodata=7, crs=UTM, transform=PLACE)
    array = Scene.open(path, bands=[3, 1]).to_xarray(masked=masked)
    wanted = rioxarray.open_rasterio(path).sel(band=[3, 1])
    assert dask.Array is type(array.data)
    hidden = (wanted == 7).all("band")
    if masked:
        assert array.dtype.kind == "f"
        np.testing.assert_array_equal(np.isnan(array.values), np.broadcast_to(hidden, array.shape))
    shown = ~hidden.values
    np.testing.assert_array_equal(array.values[:, shown], wanted.values[:, shown])
    np.testing.assert_allclose(array.x, wanted.x)
    np.testing.assert_allclose(array.y, wanted.y)
    assert array.rio.crs == UTM
    assert array.rio.transform() == PLACE
    assert masked or array.rio.nodata == 7
    assert array.odc.geobox == odc_geobox.GeoBox((150, 170), PLACE, "EPSG:32632")
    again = Scene.open(array)
    assert again.geobox == Scene.open(path).geobox


@pytest.mark.parametrize(("nodata", "fill"), [("0.5", None), ("-99999", None), ("7", 7)])
def test_a_nodata_value_that_no_pixel_can_have_hides_none_in_an_array(
    make_raster: MakeRaster, tmp_path: Path, nodata: str, fill: int | None
) -> None:
    path = make_raster(noise(1, 20, 30), crs=UTM, transform=PLACE)
    vrt = tmp_path / "declared.vrt"
    rasterio.shutil.copy(path, vrt, driver="VRT")
    text = vrt.read_text().replace("<ColorInterp>", f"<NoDataValue>{nodata}</NoDataValue><ColorInterp>")
    vrt.write_text(text)
    assert Scene.open(vrt).to_xarray().attrs.get("_FillValue") == fill


def test_a_rotated_scene_goes_there_and_back(make_raster: MakeRaster) -> None:
    path = make_raster(noise(1, 20, 30), crs=UTM, transform=Affine(8, 3, 4e5, 4, -9, 5.4e6))
    same(Scene.open(Scene.open(path).to_xarray()), path)


def test_a_geobox_is_odc_geos() -> None:
    ours = GeoBox(60, 80, PLACE, UTM)
    theirs = ours.to_odc()
    assert (theirs.shape, theirs.affine, theirs.crs) == ((60, 80), PLACE, "EPSG:32632")
    assert GeoBox.from_odc(theirs) == ours
    assert GeoBox.from_odc(odc_geobox.GeoBox((3, 4), PLACE, None)).crs is None
    assert ours.bounds == pytest.approx(tuple(theirs.boundingbox))
    with pytest.raises(SceneError, match="needs a transform; warp it first"):
        GeoBox(3, 4, Affine.identity(), UTM).to_odc()
    with pytest.raises(SceneError, match="rio edit-info --transform"):
        GeoBox(3, 4, Affine(10, 0, math.nan, 0, -10, 0), UTM).to_odc()


@pytest.mark.parametrize("transform", [PLACE, Affine(8, 3, 4e5, 4, -9, 5.4e6), Affine(10, 0, 4e5, 0, 10, 5.4e6)])
def test_bounds_corners_and_footprint_are_the_outline(transform: Affine) -> None:
    box = GeoBox(60, 80, transform, UTM)
    wanted = shapely.affinity.affine_transform(shapely.box(0, 0, 80, 60), transform.to_shapely())
    assert box.footprint.equals_exact(shapely.Polygon(box.corners))
    assert box.footprint.symmetric_difference(wanted).area == pytest.approx(0, abs=1e-6)
    assert box.bounds == pytest.approx(wanted.bounds)
    assert box.corners[0] == transform @ (0, 0)


def test_bands_are_selected_one_by_one_or_by_a_sequence(make_raster: MakeRaster) -> None:
    scene = Scene.open(make_raster(noise(3, 9, 9), crs=UTM, transform=PLACE))
    for same_bands in (scene.select_bands(3, 1), scene.select_bands([3, 1]), scene.select_bands(np.array([3, 1]))):
        assert same_bands.band_indexes == (3, 1)
    assert scene.select_bands(2).band_indexes == (2,)


def test_an_error_of_a_crop_names_the_parameter_that_it_has(make_raster: MakeRaster) -> None:
    path = make_raster(noise(3, 9, 9), crs=UTM, transform=PLACE)
    with pytest.raises(UsageError) as caught:
        Scene.open(path).crop((0, 0, 1, 1), crs="nix")
    assert caught.value.parameter == "crs"
    with pytest.raises(UsageError) as caught:
        predict(path, path.with_name("map.tif"), bbox=(0, 0, 1, 1), bbox_crs="nix")
    assert caught.value.parameter == "bbox_crs"


def test_windows_are_rasterios() -> None:
    ours = Window(3, 4, 10, 20)
    assert ours.to_rasterio() == RasterioWindow(4, 3, 20, 10)
    assert Window.from_rasterio(RasterioWindow(4, 3, 20, 10)) == ours
    computed = from_bounds(4e5 + 40, 5.4e6 - 130, 4e5 + 240, 5.4e6 - 30, PLACE)
    assert Window.from_rasterio(computed) == ours
    with pytest.raises(UsageError, match="whole pixels"):
        Window.from_rasterio(RasterioWindow(4.5, 3, 20, 10))


def test_a_map_of_an_array_is_that_of_its_file(make_raster: MakeRaster, tmp_path: Path) -> None:
    path = make_raster(noise(3, 90, 120), crs=UTM, transform=PLACE)
    array = rioxarray.open_rasterio(path, chunks={"y": 50, "x": 50})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnlikeTrainingWarning)
        predict(path, tmp_path / "file.tif")
        predict(array, tmp_path / "array.tif")
        with rasterio.open(path) as dataset:
            predict(dataset, tmp_path / "dataset.tif", bbox=dataset.bounds)
    wanted = rasterio.open(tmp_path / "file.tif").read()
    for name in ("array", "dataset"):
        with rasterio.open(tmp_path / f"{name}.tif") as found:
            np.testing.assert_array_equal(found.read(), wanted)
            assert found.transform == PLACE


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are listed in /proc on Linux alone")
def test_copies_of_arrays_are_closed_before_they_are_removed() -> None:
    """Windows does not remove an open file."""
    program = """
import os, shutil
import numpy as np, rioxarray, xarray
import geoseg
places = {"y": -np.arange(90.0), "x": np.arange(120.0)}
array = xarray.DataArray(np.ones((3, 90, 120), np.uint8), dims=("band", "y", "x"), coords=places)
geoseg.Scene.open(array.rio.write_crs("EPSG:32632")).read(geoseg.Window(0, 0, 9, 9))
remove = shutil.rmtree

def noting(folder, **settings):
    links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    print(folder, [name for name in map(os.readlink, filter(os.path.islink, links)) if name.startswith(str(folder))])
    remove(folder, **settings)

shutil.rmtree = noting
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.count("geoseg-arrays-") == 1
    assert done.stdout.endswith(" []\n")
    assert not Path(done.stdout.split()[0]).exists()
