"""Georeferenced pairs: labels on any grid, or polygons, read on the grid of their scene."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.warp import reproject

import geoseg
from geoseg.dataset import Dataset, Pair, label_files, open_dataset, paired_files
from geoseg.dataset.pair import reference_codes
from geoseg.dataset.placed_labels import LabelPolygons
from geoseg.errors import SceneError, UsageError
from geoseg.features import FeatureFile
from geoseg.legend import LandCover, Legend
from geoseg.raster import Scene, Window

from .conftest import NORTH_UP, UTM, noise, patchwork, write_raster

MakePair = Callable[..., np.ndarray]
SHAPE = (60, 70)


def _scene(folder: Path, shape: tuple[int, int] = SHAPE, **profile: Any) -> Path:
    return write_raster(folder / "scene.tif", noise(2, *shape, dtype="uint16", high=4000), **profile)


def test_folders_of_images_and_labels(tmp_path: Path, make_pair: MakePair) -> None:
    expected = {name: make_pair(name, seed=seed) for seed, name in enumerate("ba")}
    dataset = open_dataset(tmp_path)
    assert [pair.id for pair in dataset.pairs] == ["a", "b"]
    assert (dataset.dtype, dataset.gsd_m, dataset.legend.codes) == ("uint16", 10.0, (1, 2, 3))
    for pair in dataset.pairs:
        assert np.array_equal(reference_codes(pair, pair.whole), expected[pair.id])


@pytest.mark.parametrize(
    ("images", "labels"),
    [("Images", "Labels"), ("IMAGES", "Masks"), ("img", "msk"), ("img_dir", "ann_dir"), ("Images", "annotations")],
)
@pytest.mark.parametrize("starts", [("", ""), ("IMG_", "MSK_"), ("image_", "label_")])
def test_folders_and_files_as_others_call_them(
    tmp_path: Path, images: str, labels: str, starts: tuple[str, str]
) -> None:
    for name in ("1", "2"):
        for folder, start, pixels in zip(
            (images, labels), starts, (noise(3, *SHAPE), patchwork(SHAPE, 2)[None]), strict=True
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_raster(tmp_path / folder / f"{start}{name}.tif", pixels)
    assert [pair.id for pair in open_dataset(tmp_path).pairs] == ["1", "2"]


@pytest.mark.parametrize("how", ["color", "description"])
def test_bands_have_the_order_of_the_first_scene(tmp_path: Path, how: str) -> None:
    pixels = noise(3, *SHAPE)
    for name, order in (("a", ("red", "green", "blue")), ("b", ("blue", "red", "green"))):
        at = ["red", "green", "blue"].index
        path = write_raster(tmp_path / f"images/{name}.tif", pixels[[at(band) for band in order]])
        write_raster(tmp_path / f"labels/{name}.tif", patchwork(SHAPE, 2)[None])
        with rasterio.open(path, "r+") as scene:
            if how == "description":
                scene.descriptions = order
            scene.colorinterp = [ColorInterp[band if how == "color" else "undefined"] for band in order]
    dataset = open_dataset(tmp_path)
    assert dataset.bands == ("red", "green", "blue")
    assert all(np.array_equal(pair.scene.read(pair.whole).data, pixels) for pair in dataset.pairs)
    assert open_dataset(tmp_path, bands=(1, 2, 3)).pairs[1].scene.band_indexes == (1, 2, 3)
    with rasterio.open(path, "r+") as scene:
        scene.colorinterp = [ColorInterp.undefined] * 3
        scene.descriptions = ("nir", "red", "green")
    with pytest.raises(SceneError, match=r"b\.tif: no band is recognized as blue.*`bands`"):
        open_dataset(tmp_path)


def test_files_with_more_bands_than_others_are_said(tmp_path: Path) -> None:
    for name, count in (("a", 3), ("b", 4), ("c", 3)):
        alpha = {"photometric": "RGB", "alpha": "YES"} if count == 4 else {"photometric": "RGB"}
        write_raster(tmp_path / f"images/{name}.tif", noise(count, *SHAPE), **alpha)
        write_raster(tmp_path / f"labels/{name}.tif", patchwork(SHAPE, 2)[None])
    said = "scenes have 3 bands (2) or 4 bands (1); red, green, blue are used of each; choose others with `bands`"
    assert open_dataset(tmp_path).notes == (said,)
    assert open_dataset(tmp_path, bands=(1, 2, 3)).notes == ()


def test_an_open_data_set_is_not_opened_in_another_way(tmp_path: Path, make_pair: MakePair) -> None:
    make_pair("a")
    dataset = open_dataset(tmp_path)
    model = geoseg.ModelBundle.open()
    for name, value in {"bands": [1], "labels": tmp_path, "legend": dataset.legend, "tolerance": 0.5}.items():
        said = f"`{name}` has no effect on .*, which is already open.*open_dataset"
        with pytest.raises(UsageError, match=said):
            geoseg.evaluate(model, dataset, split="all", **{name: value})
        with pytest.raises(UsageError, match=said):
            geoseg.train(dataset, tmp_path / "m.safetensors", **{name: value})


@pytest.mark.parametrize(
    "ends", [("_image", "_label"), ("_img", "_mask"), ("_sat", "_gt"), ("_RGB", "_Mask"), ("", "_mask"), ("", "_label")]
)
def test_one_folder_with_names_that_say_what_is_what(tmp_path: Path, ends: tuple[str, str]) -> None:
    """Masks beside images that are not called `_sat`, and the reverse, are not DeepGlobe's."""
    for name in ("north", "south"):
        write_raster(tmp_path / f"{name}{ends[0]}.tif", noise(3, *SHAPE))
        write_raster(tmp_path / f"{name}{ends[1]}.tif", patchwork(SHAPE, 2)[None])
    assert [pair.id for pair in open_dataset(tmp_path).pairs] == ["north", "south"]


def _write_files(folder: Path, *names: str) -> None:
    for name in names:
        is_label = any(word in name for word in ("label", "mask"))
        write_raster(folder / name, patchwork(SHAPE, 2)[None] if is_label else noise(3, *SHAPE))


@pytest.mark.parametrize(
    ("images", "others"),
    [
        (("town_rgb", "a"), ()),
        (("a_image", "town"), ()),
        (("a_image", "town_rgb"), ("overview",)),
        (("a_rgb",), ("a_nir", "a")),
    ],
)
def test_one_folder_may_mix_names_with_and_without_an_end(
    tmp_path: Path, images: tuple[str, ...], others: tuple[str, ...]
) -> None:
    """Other files beside images with an end, as of another band, are no scenes."""
    ids = [name.removesuffix("_image").replace("a_rgb", "a") for name in images]
    _write_files(tmp_path, *(f"{name}_label.tif" for name in ids), *(f"{name}.tif" for name in (*images, *others)))
    found = open_dataset(tmp_path)
    assert {pair.id: Path(pair.scene.path).stem for pair in found.pairs} == dict(zip(ids, images, strict=True))


@pytest.mark.parametrize(
    ("image", "label", "name"),
    [
        ("a_rgb", "a_rgb", "a_rgb"),
        ("a_rgb", "a_rgb_mask", "a_rgb"),
        ("a_gt", "a_gt", "a_gt"),
        ("a_lab_rgb", "a_lab", "a_lab"),
        ("a_gt_img", "a_gt_mask", "a_gt"),
    ],
)
def test_names_of_two_folders_may_have_an_end_of_their_own(tmp_path: Path, image: str, label: str, name: str) -> None:
    _write_files(tmp_path, f"images/{image}.tif", f"labels/{label}.tif")
    assert [pair.id for pair in open_dataset(tmp_path).pairs] == [name]


def test_a_file_with_labels_of_its_own_is_no_label(tmp_path: Path) -> None:
    _write_files(tmp_path, "a_lab.tif", "a_lab_mask.tif", "b.tif", "b_mask.tif")
    assert [pair.id for pair in open_dataset(tmp_path).pairs] == ["a_lab", "b"]


def test_previews_beside_scenes_are_no_scenes(tmp_path: Path) -> None:
    _write_files(tmp_path, "sat/a.tif", "images_png/a.png", "gt/a_mask.tif")
    assert Path(open_dataset(tmp_path).pairs[0].scene.path) == tmp_path / "sat/a.tif"


def test_a_table_of_scenes_labels_and_parts(tmp_path: Path, make_pair: MakePair) -> None:
    for name in ("a", "b"):
        make_pair(name)
    table = tmp_path / "pairs.csv"
    table.write_text("scene,labels,split\nimages/a.tif,labels/a.tif,train\nimages/b.tif,labels/b.tif,val\n")
    assert [(pair.id, pair.part) for pair in open_dataset(table).pairs] == [("a", "train"), ("b", "valid")]
    table.write_text("image,labels\na,b\n")
    with pytest.raises(SceneError, match="columns scene and labels"):
        open_dataset(table)
    table.write_text("scene,labels\n\nimages/a.tif,labels/a.tif\n\nimages/b.tif,\n")
    with pytest.raises(SceneError, match="line 5"):
        open_dataset(table)
    table.write_text(f"scene,labels,wkt\nimages/a.tif,labels/a.tif,{'1' * 200_000}\n")
    with pytest.raises(SceneError, match="field larger"):
        open_dataset(table)


@pytest.mark.parametrize("crs", [UTM, CRS.from_epsg(4326), CRS.from_epsg(32617)])
def test_labels_on_another_grid_are_those_of_gdals_warp(tmp_path: Path, crs: CRS) -> None:
    from rasterio.warp import calculate_default_transform  # noqa: PLC0415

    scene = _scene(tmp_path)
    bounds = rasterio.transform.array_bounds(*SHAPE, NORTH_UP)
    transform, width, height = calculate_default_transform(UTM, crs, SHAPE[1], SHAPE[0], *bounds, resolution=None)
    transform @= Affine.translation(0.3, 0.4) @ Affine.scale(0.7)
    labels = patchwork((height, width), 4)
    write_raster(tmp_path / "truth.tif", labels[None], crs=crs, transform=transform, nodata=0)
    pair = open_dataset(scene, labels=tmp_path / "truth.tif").pairs[0]
    expected = np.full(SHAPE, 255, np.uint8)
    reproject(
        np.where(labels == 0, 255, labels).astype(np.uint8),
        expected,
        src_transform=transform,
        src_crs=crs,
        dst_transform=NORTH_UP,
        dst_crs=UTM,
        src_nodata=255,
        dst_nodata=255,
        resampling=Resampling.nearest,
    )
    found = reference_codes(pair, pair.whole)
    assert (found == expected).mean() > 0.999  # a pixel on a border may fall to either side
    assert len(np.unique(found)) == 4
    window = Window(13, 17, 30, 25)
    assert np.array_equal(reference_codes(pair, window), found[window.rows, window.cols])


def test_labels_shifted_by_whole_pixels_are_taken_as_they_are(tmp_path: Path) -> None:
    scene, labels = _scene(tmp_path), patchwork((40, 50), 5)
    write_raster(tmp_path / "truth.tif", labels[None], transform=NORTH_UP @ Affine.translation(-7, 9))
    pair = open_dataset(scene, labels=tmp_path / "truth.tif").pairs[0]
    expected = np.full(SHAPE, 255, np.uint8)
    expected[9:49, :43] = labels[:, 7:]
    assert np.array_equal(reference_codes(pair, pair.whole), expected)


def test_invalid_pixels_of_scene_or_labels_never_count(tmp_path: Path) -> None:
    data = noise(2, *SHAPE, dtype="float32")
    data[1, 3, 4] = np.nan
    data[:, 10:20, 10:20] = -9999
    write_raster(tmp_path / "scene.tif", data.astype("float32"), nodata=-9999)
    labels = patchwork(SHAPE, 3) + 1
    labels[30:, 5] = 9
    write_raster(tmp_path / "truth.tif", labels[None], nodata=9)
    pair = open_dataset(tmp_path / "scene.tif", labels=tmp_path / "truth.tif").pairs[0]
    expected = labels.copy()
    expected[3, 4] = expected[10:20, 10:20] = expected[30:, 5] = 255
    assert np.array_equal(reference_codes(pair, pair.whole), expected)


def test_codes_that_do_not_fit_a_byte_are_renumbered_in_order(tmp_path: Path) -> None:
    scene = _scene(tmp_path)
    corine = np.array([111, 312, 523], np.int32)
    write_raster(tmp_path / "truth.tif", corine[patchwork(SHAPE, 3)][None])
    dataset = open_dataset(scene, labels=tmp_path / "truth.tif")
    assert dataset.legend.names == ("class 111", "class 312", "class 523")
    pair = dataset.pairs[0]
    assert np.array_equal(reference_codes(pair, pair.whole), patchwork(SHAPE, 3))


def test_a_mask_of_0_and_255_has_two_classes(tmp_path: Path) -> None:
    scene, truth = _scene(tmp_path), patchwork(SHAPE, 2)
    path = write_raster(tmp_path / "truth.tif", truth[None] * np.uint8(255))
    dataset = open_dataset(scene, labels=path)
    assert dataset.legend.names == ("class 0", "class 255")
    assert np.array_equal(reference_codes(dataset.pairs[0], dataset.pairs[0].whole), truth)
    assert dataset.notes == ()
    write_raster(path, truth[None] * np.uint8(255), nodata=255)  # declared as nodata: no class
    assert open_dataset(scene, labels=path).legend.names == ("class 0",)
    write_raster(path, np.full((1, *SHAPE), 255, np.uint8))
    with pytest.raises(SceneError, match="holds only 255, which means unlabeled"):
        open_dataset(scene, labels=path)


@pytest.mark.parametrize(
    ("codes", "dtype"),
    [((0, 255), "uint8"), ((111, 523), "uint16"), ((-5, 0, 70_000), "int32"), ((3, 7, 255, 256), "int16")],
)
def test_a_legend_names_codes_that_do_not_fit_a_byte(tmp_path: Path, codes: tuple[int, ...], dtype: str) -> None:
    """Large codes are renumbered in ascending order, with a legend as without one."""
    scene, truth = _scene(tmp_path), patchwork(SHAPE, len(codes))
    path = write_raster(tmp_path / "truth.tif", np.array(codes, dtype)[truth][None])
    names = {code: f"name {place}" for place, code in enumerate(codes)}
    (tmp_path / "legend.json").write_text(json.dumps(names))
    for legend in (names, tmp_path / "legend.json"):
        dataset = open_dataset(scene, labels=path, legend=legend)
        assert dataset.legend.names == tuple(names.values())
        assert dataset.legend.codes == tuple(range(len(codes)))
        assert np.array_equal(reference_codes(dataset.pairs[0], dataset.pairs[0].whole), truth)
        assert dataset.notes[0].endswith(f"{codes[-1]} becomes {len(codes) - 1}")
    assert open_dataset(scene, labels=path).legend.codes == dataset.legend.codes
    with pytest.raises(UsageError, match="255 is nodata, not a class: leave it out"):
        open_dataset(scene, labels=path, legend={0: "a", 1: "b", 255: "unlabeled"})


@pytest.mark.parametrize("named", [False, True])
def test_255_among_classes_is_no_label_and_said(tmp_path: Path, *, named: bool) -> None:
    scene, truth = _scene(tmp_path), patchwork(SHAPE, 3)
    truth[truth == 2] = 255
    path = write_raster(tmp_path / "truth.tif", truth[None])
    legend = Legend((LandCover(0, "a", (0, 0, 1)), LandCover(1, "b", (0, 0, 2)))) if named else None
    dataset = open_dataset(scene, labels=path, legend=legend)
    assert dataset.legend.codes == (0, 1)
    assert np.array_equal(reference_codes(dataset.pairs[0], dataset.pairs[0].whole), truth)
    assert len(dataset.notes) == 1
    assert "holds 255 without declaring it as nodata" in dataset.notes[0]
    write_raster(path, truth[None], nodata=255)
    assert open_dataset(scene, labels=path, legend=legend).notes == ()


def test_negative_codes_are_classes_of_their_own(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(-3, 3, (64, 64)).astype(np.int16)
    scene = write_raster(tmp_path / "scene.tif", noise(3, 64, 64))
    dataset = open_dataset(scene, labels=write_raster(tmp_path / "labels.tif", stored[None]))
    assert dataset.legend.names == tuple(f"class {code}" for code in range(-3, 3))
    codes = dataset.pairs[0].decode(dataset.pairs[0].whole).codes
    assert np.array_equal(codes, stored + 3)


def test_255_among_codes_beyond_a_byte_is_a_class(tmp_path: Path) -> None:
    codes = np.array([7, 255, 300], np.uint16)
    path = write_raster(tmp_path / "truth.tif", codes[patchwork(SHAPE, 3)][None])
    dataset = open_dataset(_scene(tmp_path), labels=path)
    assert dataset.legend.names == ("class 7", "class 255", "class 300")
    pair = dataset.pairs[0]
    assert np.array_equal(reference_codes(pair, pair.whole), patchwork(SHAPE, 3))


def test_names_that_the_legend_lacks_are_said_where_codes_are_matched(tmp_path: Path) -> None:
    scene = _scene(tmp_path)
    path = write_raster(tmp_path / "truth.tif", patchwork(SHAPE, 2)[None])
    (tmp_path / "truth.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><CategoryNames><Category>Water</Category><Category>Wood</Category>"
        "</CategoryNames></PAMRasterBand></PAMDataset>"
    )
    colors = [(0, 0, 1), (0, 0, 2)]
    for names, is_said in ((("lake", "forest"), True), (("forest", "water"), False)):
        legend = Legend(tuple(LandCover(code, name, colors[code]) for code, name in enumerate(names)))
        notes = open_dataset(scene, labels=path, legend=legend).notes
        assert any(
            "names Water, Wood, the legend has none of them: its classes are matched by code" in x for x in notes
        ) is (is_said)
    plain = write_raster(tmp_path / "plain.tif", patchwork(SHAPE, 2)[None])
    assert open_dataset(scene, labels=plain, legend=legend).notes == ()


def test_a_legend_is_met_by_the_names_that_labels_bring(tmp_path: Path) -> None:
    scene, labels = _scene(tmp_path), patchwork(SHAPE, 2)
    path = write_raster(tmp_path / "truth.tif", labels[None])
    (tmp_path / "truth.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><CategoryNames><Category>Water</Category><Category>Forest-land</Category>"
        "</CategoryNames></PAMRasterBand></PAMDataset>"
    )
    legend = Legend((LandCover(3, "forest_land", (0, 255, 0)), LandCover(4, "water", (0, 0, 255))))
    pair = open_dataset(scene, labels=path, legend=legend).pairs[0]
    assert np.array_equal(reference_codes(pair, pair.whole), np.where(labels == 0, 4, 3))


def test_codes_outside_of_the_legend_are_refused(tmp_path: Path) -> None:
    scene = _scene(tmp_path)
    path = write_raster(tmp_path / "truth.tif", patchwork(SHAPE, 4)[None])
    legend = Legend((LandCover(0, "a", (0, 0, 1)), LandCover(1, "b", (0, 0, 2)), LandCover(2, "c", (0, 0, 3))))
    pair = open_dataset(scene, labels=path, legend=legend).pairs[0]
    with pytest.raises(SceneError, match=r"with code 3, not in the legend"):
        reference_codes(pair, pair.whole)


@pytest.mark.parametrize("crs", ["EPSG:32618", "EPSG:4326"])
def test_polygons_are_burned_as_rasterio_burns_them_at_once(tmp_path: Path, crs: str) -> None:
    scene = _scene(tmp_path)
    rng = np.random.default_rng(3)
    xy = np.array([NORTH_UP @ (c, r) for c, r in rng.uniform(-5, 75, (25, 2))])
    shapes = [shapely.Point(*point).buffer(rng.uniform(20, 120)) for point in xy]
    names = [("crop", "wood", "wet")[i % 3] for i in range(25)]
    moved = Transformer.from_crs(UTM, crs, always_xy=True)
    stored = shapely.transform(np.array(shapes), lambda p: np.column_stack(moved.transform(p[:, 0], p[:, 1])))
    pyogrio.raw.write(
        tmp_path / "fields.gpkg",
        geometry=shapely.to_wkb(stored),
        field_data=[np.array(names, object)],
        fields=["cover"],
        crs=crs,
        geometry_type="Polygon",
        driver="GPKG",
    )
    dataset = open_dataset(scene, labels=tmp_path / "fields.gpkg")
    assert dataset.legend.names == ("crop", "wet", "wood")
    code = {"crop": 0, "wet": 1, "wood": 2}
    burned = [(shape, code[name]) for shape, name in zip(shapes, names, strict=True)]
    expected = rasterio.features.rasterize(burned, SHAPE, fill=255, transform=NORTH_UP, dtype="uint8")
    pair = dataset.pairs[0]
    found = reference_codes(pair, pair.whole)
    assert (found == expected).mean() == 1.0 if crs == "EPSG:32618" else (found == expected).mean() > 0.998
    for window in (Window(0, 0, 7, 70), Window(21, 33, 18, 9), Window(55, 60, 10, 20)):
        part = reference_codes(pair, window)
        inside = found[window.rows, window.cols]
        assert np.array_equal(part[: inside.shape[0], : inside.shape[1]], inside)


def _square(path: Path, name: str) -> Path:
    """Write one polygon that covers most of the scene."""
    driver = {".shp": "ESRI Shapefile", ".gpkg": "GPKG"}[path.suffix]
    shape = shapely.box(*(NORTH_UP @ (0, 50)), *(NORTH_UP @ (60, 0)))
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(np.array([shape])),
        field_data=[np.array([name], object)],
        fields=["cover"],
        crs="EPSG:32618",
        geometry_type="Polygon",
        driver=driver,
    )
    return path


def test_all_files_of_a_shapefile_tell_its_state(tmp_path: Path) -> None:
    scene = _scene(tmp_path)
    path = _square(tmp_path / "fields.shp", "crop")
    legend = Legend((LandCover(0, "crop", (0, 255, 0)), LandCover(1, "wood", (0, 0, 255))))
    (tmp_path / "other").mkdir()
    classes = _square(tmp_path / "other" / "fields.shp", "wood").with_suffix(".dbf").read_bytes()

    def opened() -> Dataset:
        return open_dataset(scene, labels=path, legend=legend)

    dataset = opened()
    before = dataset.digest, dataset.pairs[0].stamp(), dataset.pairs[0].content()
    assert opened().digest == before[0]
    shapes = path.read_bytes()
    path.with_suffix(".dbf").write_bytes(classes)  # the class alone, not the polygon
    assert path.read_bytes() == shapes
    after = opened()
    for one, other in zip((after.digest, after.pairs[0].stamp(), after.pairs[0].content()), before, strict=True):
        assert one != other
    assert dataset.pairs[0].image_digest() == after.pairs[0].image_digest()
    assert np.unique(reference_codes(after.pairs[0], after.pairs[0].whole)).tolist() == [1, 255]


def test_what_the_files_of_polygons_hold_is_hashed_wherever_they_are(tmp_path: Path) -> None:
    scene = _scene(tmp_path)
    path = _square(tmp_path / "fields.gpkg", "crop")
    with zipfile.ZipFile(tmp_path / "fields.zip", "w") as archive:
        archive.write(path, "fields.gpkg")
    within = f"/vsizip/{tmp_path}/fields.zip/fields.gpkg"
    pair = open_dataset(scene, labels=within).pairs[0]
    before = pair.content()
    assert len(before) == 64
    with zipfile.ZipFile(tmp_path / "fields.zip", "w") as archive:
        archive.write(_square(tmp_path / "fields2.gpkg", "wood"), "fields.gpkg")
    assert pair.content() != before
    local = open_dataset(scene, labels=path).pairs[0]
    path.unlink()
    with pytest.raises(SceneError, match=r"fields.gpkg: no such file"):
        local.content()


def test_polygons_of_a_server_are_told_apart_by_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"ETag": "one"}
    monkeypatch.setattr("geoseg.raster.fingerprint.server_stamp", lambda *_: dict(said))
    labels = LabelPolygons(
        FeatureFile("https://example.org/fields.gpkg", ("fields",)), "cover", (("crop", 0),), UTM.to_wkt()
    )
    pair = Pair("p", Scene.open(str(_scene(tmp_path))), labels, 10.0)
    before = pair.content(), pair.stamp()
    assert (pair.content(), pair.stamp()) == before
    said["ETag"] = "two"
    assert pair.content() != before[0]
    assert pair.stamp() != before[1]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 50), st.integers(0, 60), st.integers(1, 12), st.integers(1, 12))
def test_a_window_of_polygons_is_that_window_of_the_whole(row: int, col: int, height: int, width: int) -> None:
    pair = _polygon_pair()
    window = Window(row, col, min(height, SHAPE[0] - row), min(width, SHAPE[1] - col))
    whole = pair.decode(pair.whole).codes
    assert np.array_equal(pair.decode(window).codes, whole[window.rows, window.cols])


_made: dict[str, Pair] = {}


def _polygon_pair() -> Pair:
    if not _made:
        import tempfile  # noqa: PLC0415

        folder = Path(tempfile.mkdtemp())
        scene = Scene.open(str(_scene(folder)))
        rng = np.random.default_rng(1)
        shapes = [shapely.Point(*(NORTH_UP @ tuple(p))).buffer(150) for p in rng.uniform(0, 60, (8, 2))]
        path = folder / "fields.fgb"
        pyogrio.raw.write(
            path,
            geometry=shapely.to_wkb(np.array(shapes)),
            field_data=[np.arange(8) % 3],
            fields=["code"],
            crs="EPSG:32618",
            geometry_type="Polygon",
            driver="FlatGeobuf",
        )
        labels = LabelPolygons(
            FeatureFile(str(path), ("fields",)), "code", (("0", 0), ("1", 1), ("2", 2)), UTM.to_wkt()
        )
        _made["pair"] = Pair("p", scene, labels, 10.0)
    return _made["pair"]


def test_polygons_that_say_too_little_get_one_clear_line(tmp_path: Path) -> None:
    scene = _scene(tmp_path)
    path = tmp_path / "fields.geojson"
    fields = [np.array(["x", "y"], object), np.array([1, 2])]
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(np.array([shapely.box(0, 0, 1, 1)] * 2)),
        field_data=fields,
        fields=["cover", "code"],
        crs="EPSG:4326",
        geometry_type="Polygon",
        driver="GeoJSON",
    )
    with pytest.raises(UsageError, match="does not say which column holds the class, it has cover, code"):
        open_dataset(scene, labels=path)
    with pytest.raises(UsageError, match="has no column 'kind'"):
        open_dataset(scene, labels=path, column="kind")
    legend = Legend((LandCover(0, "x", (0, 0, 1)),))
    with pytest.raises(UsageError, match="'y' is not a class of the legend"):
        open_dataset(scene, labels=path, column="cover", legend=legend)
    geopandas.GeoSeries([shapely.box(0, 0, 1, 1)], crs=4326).to_file(path, driver="GeoJSON")
    with pytest.raises(UsageError, match="it has none; add a column with the class of each feature"):
        open_dataset(scene, labels=path)
    path.write_text("{")
    with pytest.raises(SceneError, match="cannot read polygons"):
        open_dataset(scene, labels=path)
    flat = write_raster(tmp_path / "flat.png", noise(1, 20, 20))
    path.write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises((SceneError, UsageError), match=r"fields.geojson"):
        open_dataset(flat, labels=path, column="cover")


def test_pairs_that_do_not_fit_get_one_clear_line(tmp_path: Path, make_pair: MakePair) -> None:
    make_pair("a")
    make_pair("b")
    (tmp_path / "labels" / "b.tif").unlink()
    with pytest.raises(SceneError, match="1 of 2 without labels: b"):
        open_dataset(tmp_path)
    write_raster(tmp_path / "labels" / "b.tif", noise(1, 128, 160, dtype="float32") + np.float32(0.25))
    with pytest.raises(SceneError, match=r"b\.tif holds \d+\.25; class codes must be whole numbers"):
        open_dataset(tmp_path)
    write_raster(tmp_path / "labels" / "b.tif", noise(2, 128, 160))
    with pytest.raises(SceneError, match=r"labels must be one band of whole numbers.*rio stack --bidx copies one band"):
        open_dataset(tmp_path)
    write_raster(tmp_path / "labels" / "b.tif", noise(1, 128, 160, dtype="uint16", high=60000))
    with pytest.raises(SceneError, match="more than 1000 different values"):
        open_dataset(tmp_path)
    make_pair("b")
    write_raster(tmp_path / "images" / "b.tif", noise(3, 128, 160, dtype="uint16"))
    with pytest.raises(SceneError, match="3 bands"):
        open_dataset(tmp_path)
    write_raster(tmp_path / "images" / "b.tif", noise(4, 128, 160, dtype="int16"))
    with pytest.raises(SceneError, match=r"holds int16, .* uint16"):
        open_dataset(tmp_path)
    with pytest.raises(UsageError, match="name its labels with `labels`"):
        open_dataset(tmp_path / "images" / "a.tif")


def test_scenes_without_a_place_need_labels_of_their_size(tmp_path: Path) -> None:
    scene = write_raster(tmp_path / "scene.png", noise(3, 30, 40))
    labels = write_raster(tmp_path / "truth.png", patchwork((30, 40), 3)[None])
    pair = open_dataset(scene, labels=labels).pairs[0]
    assert pair.gsd_m is None
    assert np.array_equal(reference_codes(pair, pair.whole), patchwork((30, 40), 3))
    write_raster(labels, patchwork((30, 41), 3)[None])
    with pytest.raises(SceneError, match="is 30 x 41 pixels, its scene 30 x 40"):
        open_dataset(scene, labels=labels)


def test_pictures_need_a_legend_and_lack_no_class_of_it_silently(tmp_path: Path) -> None:
    scene = _scene(tmp_path)
    colors = np.array([[0, 0, 9], [0, 9, 0]], np.uint8)
    labels = write_raster(tmp_path / "truth.tif", colors[patchwork(SHAPE, 2)].transpose(2, 0, 1))
    with pytest.raises(UsageError, match=r"say which color is which class with .legend"):
        open_dataset(scene, labels=labels)
    legend = Legend((LandCover(0, "a", (0, 0, 9)), LandCover(1, "b", (0, 9, 0))))
    pair = open_dataset(scene, labels=labels, legend=legend).pairs[0]
    assert np.array_equal(reference_codes(pair, pair.whole), patchwork(SHAPE, 2))
    other = Legend((LandCover(0, "a", (0, 0, 9)), LandCover(1, "b", (0, 9, 1))))
    wrong = open_dataset(scene, labels=labels, legend=other).pairs[0]
    with pytest.raises(SceneError, match=r"with rgb\(0,9,0\), not in the legend"):
        reference_codes(wrong, wrong.whole)


LEGEND = Legend(
    (
        LandCover(0, "urban", (0, 255, 255)),
        LandCover(1, "crops", (255, 255, 0)),
        LandCover(2, "forest", (0, 255, 0)),
        LandCover(3, "water", (0, 0, 255)),
        LandCover(4, "unknown", (0, 0, 0)),
    )
)
LEGEND_COLORS = np.array([land_cover.color for land_cover in LEGEND], np.uint8)


def _written_as(path: Path, codes: np.ndarray, kind: str) -> None:
    """Write labels with the legend's codes in one of the forms that people use."""
    height, width = codes.shape
    rgb = LEGEND_COLORS[codes]
    match kind:
        case "rgb" | "rgba" | "small rgb":
            bands = rgb.transpose(2, 0, 1)
            if kind == "rgba":
                bands = np.concatenate([bands, np.full((1, height, width), 255, np.uint8)])
            write_raster(path, np.ascontiguousarray(bands), photometric="RGB")
        case "codes":
            write_raster(path, codes[None])
        case "float32" | "float64":
            write_raster(path, codes[None].astype(kind), nodata=-9999)
        case "own palette" | "other palette":  # indexes are codes; the colors are the legend's, or any
            colors = LEGEND_COLORS if kind == "own palette" else LEGEND_COLORS // 2 + 40
            _with_palette(path, codes, {code: tuple(color) for code, color in enumerate(colors.tolist())})
        case "shuffled palette":
            indexes = (codes + 2) % 5
            colors = {(code + 2) % 5: tuple(color) for code, color in enumerate(LEGEND_COLORS.tolist())}
            _with_palette(path, indexes, {**colors, 9: (7, 7, 7)})
        case _:  # by the library that most masks are written by; it chooses a palette for each file
            picture = Image.fromarray(rgb)
            colors = len(np.unique(codes))
            few = picture.quantize(colors) if kind == "quantized" else picture.convert("P", palette=1, colors=colors)
            few.save(path.with_suffix(".png"), bits=4 if kind == "4 bits" else 8)


def _with_palette(path: Path, indexes: np.ndarray, colors: dict[int, tuple[int, ...]]) -> None:
    write_raster(path, indexes[None].astype(np.uint8), photometric="PALETTE")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {index: (*color[:3], 255) for index, color in colors.items()})


_KINDS = [
    "rgb",
    "rgba",
    "codes",
    "float32",
    "float64",
    "own palette",
    "other palette",
    "shuffled palette",
    "adaptive",
    "quantized",
    "4 bits",
]


@pytest.mark.parametrize("kinds", [*([kind] for kind in _KINDS), _KINDS], ids=lambda kinds: "+".join(kinds)[:30])
def test_labels_of_any_kind_and_any_mixture_are_the_same_labels(tmp_path: Path, kinds: list[str]) -> None:
    (tmp_path / "labels").mkdir()
    truth = {}
    for number, kind in enumerate(kinds * (2 if len(kinds) == 1 else 1)):
        truth[f"s{number}"] = codes = patchwork((40, 48), 4 + number % 2, seed=number)
        write_raster(tmp_path / "images" / f"s{number}.png", noise(3, 40, 48, seed=number))
        _written_as(tmp_path / "labels" / f"s{number}.tif", codes, kind)
    dataset = open_dataset(tmp_path, legend=LEGEND)
    for pair in dataset.pairs:
        assert np.array_equal(reference_codes(pair, pair.whole), truth[pair.id]), kinds
    read = Counter(how for note in dataset.notes for how in ("colors of the palette", "the indexes") if how in note)
    by_colors = {"shuffled palette", "adaptive", "quantized", "4 bits"} & set(kinds)
    assert read == Counter({"colors of the palette": bool(by_colors), "the indexes": "other palette" in kinds})


def test_only_colors_that_pixels_have_decide_how_a_palette_is_read(tmp_path: Path) -> None:
    scene, codes = _scene(tmp_path), patchwork(SHAPE, 3)
    unused = {number: tuple(color) for number, color in enumerate(LEGEND_COLORS.tolist(), start=100)}
    _with_palette(tmp_path / "truth.tif", codes, {0: (9, 1, 1), 1: (1, 9, 1), 2: (1, 1, 9), **unused})
    pair = open_dataset(scene, labels=tmp_path / "truth.tif", legend=LEGEND).pairs[0]
    assert np.array_equal(reference_codes(pair, pair.whole), codes)
    strange = {number: (number, 77, 77) for number in range(100, 140)}
    by_color = {0: (0, 0, 255), 1: (0, 255, 0), 2: (0, 0, 0)}
    _with_palette(tmp_path / "truth.tif", codes, {**by_color, **strange})
    pair = open_dataset(scene, labels=tmp_path / "truth.tif", legend=LEGEND).pairs[0]
    assert np.array_equal(reference_codes(pair, pair.whole), np.array([3, 2, 4])[codes])


@pytest.mark.parametrize("photometric", ["MINISBLACK", "MINISWHITE"])
def test_a_tiff_of_one_bit_has_no_palette_of_its_own(tmp_path: Path, photometric: str) -> None:
    legend = Legend((LandCover(0, "roof", (255, 255, 255)), LandCover(1, "ground", (0, 0, 0))))
    codes = patchwork(SHAPE, 2)
    write_raster(tmp_path / "truth.tif", codes[None], nbits=1, photometric=photometric)
    dataset = open_dataset(_scene(tmp_path), labels=tmp_path / "truth.tif", legend=legend)
    assert np.array_equal(reference_codes(dataset.pairs[0], dataset.pairs[0].whole), codes)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_any_depth(tmp_path: Path, bits: int) -> None:
    used = min(2**bits, 5)
    scene, codes = write_raster(tmp_path / "scene.png", noise(3, *SHAPE)), patchwork(SHAPE, used)
    picture = Image.fromarray(used - 1 - codes).convert("P")
    picture.putpalette(LEGEND_COLORS[:used][::-1].ravel().tolist())
    picture.save(tmp_path / "truth.png", bits=bits)
    dataset = open_dataset(scene, labels=tmp_path / "truth.png", legend=LEGEND)
    assert np.array_equal(reference_codes(dataset.pairs[0], dataset.pairs[0].whole), codes)


def test_another_reading_of_the_same_file_is_other_labels(tmp_path: Path) -> None:
    """Labels cached under one legend must not be served for another."""
    scene, codes = _scene(tmp_path), patchwork(SHAPE, 2)
    _with_palette(tmp_path / "truth.tif", codes, {0: (0, 9, 0), 1: (0, 0, 9)})
    same = Legend((LandCover(0, "a", (0, 9, 0)), LandCover(1, "b", (0, 0, 9))))
    turned = Legend((LandCover(0, "a", (0, 0, 9)), LandCover(1, "b", (0, 9, 0))))
    pairs = [open_dataset(scene, labels=tmp_path / "truth.tif", legend=each).pairs[0] for each in (same, turned)]
    assert pairs[0].stamp() != pairs[1].stamp()
    assert pairs[0].content() != pairs[1].content()
    for pair, truth in zip(pairs, (codes, 1 - codes), strict=True):
        assert np.array_equal(reference_codes(pair, pair.whole), truth)


def test_files_of_one_palette_are_read_alike(tmp_path: Path) -> None:
    palette = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0)}  # VOC's: black is the legend's color by chance
    black = np.zeros(SHAPE, np.uint8)
    for name, codes in (("a", black), ("b", patchwork(SHAPE, 3)), ("c", black)):
        write_raster(tmp_path / "images" / f"{name}.tif", noise(2, *SHAPE))
        _with_palette(tmp_path / "labels" / f"{name}.tif", codes, palette)
    for pair in open_dataset(tmp_path, legend=LEGEND).pairs:
        expected = patchwork(SHAPE, 3) if pair.id == "b" else black
        assert np.array_equal(reference_codes(pair, pair.whole), expected)


def test_names_in_the_file_win_over_its_palette(tmp_path: Path) -> None:
    codes = patchwork(SHAPE, 3)
    _with_palette(tmp_path / "truth.tif", codes, {0: (0, 0, 255), 1: (0, 255, 0), 2: (255, 255, 0)})
    with rasterio.open(tmp_path / "truth.tif", "r+") as dataset:
        colors = dict(enumerate([(9, 9, 9)] * 3))
        named = [LandCover(code, name, colors[code]) for code, name in enumerate(("crops", "forest", "water"))]
        dataset.update_tags(GEOSEG_LEGEND=json.dumps(Legend(tuple(named)).to_json()))
    found = open_dataset(_scene(tmp_path), labels=tmp_path / "truth.tif", legend=LEGEND)
    assert np.array_equal(reference_codes(found.pairs[0], found.pairs[0].whole), codes + 1)
    with rasterio.open(tmp_path / "map.tif", "w", driver="GTiff", dtype="uint8", count=1, width=70, height=60) as file:
        file.write(codes + 1, 1)
        file.update_tags(GEOSEG_LEGEND=json.dumps(LEGEND.to_json()))
    assert geoseg.evaluate(tmp_path / "map.tif", tmp_path / "truth.tif").metrics.overall_accuracy == 1


def test_transparent_entries_of_a_palette_are_no_label(tmp_path: Path) -> None:
    scene = write_raster(tmp_path / "scene.png", noise(3, *SHAPE))
    codes = patchwork(SHAPE, 4)
    picture = Image.fromarray(codes).convert("P")
    picture.putpalette([level for color in LEGEND_COLORS[[3, 2, 1, 0]].tolist() for level in color])
    picture.save(tmp_path / "truth.png", transparency=bytes([255, 0, 255, 0]))
    pair = open_dataset(scene, labels=tmp_path / "truth.png", legend=LEGEND).pairs[0]
    assert np.array_equal(reference_codes(pair, pair.whole), np.array([3, 255, 1, 255])[codes])


def test_a_smoothed_palette_is_refused_with_the_reason(tmp_path: Path) -> None:
    scene = write_raster(tmp_path / "scene.png", noise(3, *SHAPE))
    smooth = Image.fromarray(LEGEND_COLORS[patchwork(SHAPE, 4)]).resize((69, 59), Image.Resampling.BILINEAR)
    smooth.resize(SHAPE[::-1], Image.Resampling.BILINEAR).quantize(64).save(tmp_path / "truth.png")
    pair = open_dataset(scene, labels=tmp_path / "truth.png", legend=LEGEND).pairs[0]
    with pytest.raises(SceneError, match=r"with rgb\(.*, not in the legend; .*interpolation"):
        reference_codes(pair, pair.whole)


def test_names_that_differ_in_spelling_are_one_class_in_training_as_in_figures(tmp_path: Path) -> None:
    """Training merges classes whose names differ only in spelling, exactly as `evaluate` does."""
    names = {1: "Forest", 2: "forest", 3: "Urban land", 4: "urban_LAND", 5: "water"}
    codes = patchwork(SHAPE, 5) + 1
    rows = "".join(f"<Category>{names.get(code, '')}</Category>" for code in range(6))
    write_raster(tmp_path / "truth.tif", codes[None])
    (tmp_path / "truth.tif.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{rows}</CategoryNames></PAMRasterBand></PAMDataset>'
    )
    dataset = open_dataset(_scene(tmp_path), labels=tmp_path / "truth.tif")
    assert [(each.code, each.name) for each in dataset.legend] == [(1, "Forest"), (3, "Urban land"), (5, "water")]
    expected = np.array([255, 1, 1, 3, 3, 5])[codes]
    assert np.array_equal(reference_codes(dataset.pairs[0], dataset.pairs[0].whole), expected)
    assert any("Forest = forest; Urban land = urban_LAND" in note for note in dataset.notes)
    assert geoseg.evaluate(tmp_path / "truth.tif", tmp_path / "truth.tif").matrix.names == dataset.legend.names

    write_raster(tmp_path / "wide.tif", (codes.astype(np.int16) + 300)[None])
    (tmp_path / "wide.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><GDALRasterAttributeTable><FieldDefn index="0"><Name>Value</Name>'
        '<Type>0</Type><Usage>5</Usage></FieldDefn><FieldDefn index="1"><Name>Class</Name><Type>2</Type>'
        "<Usage>2</Usage></FieldDefn>"
        + "".join(f'<Row index="{code - 1}"><F>{code + 300}</F><F>{name}</F></Row>' for code, name in names.items())
        + "</GDALRasterAttributeTable></PAMRasterBand></PAMDataset>"
    )
    wide = open_dataset(_scene(tmp_path), labels=tmp_path / "wide.tif")
    assert wide.legend.names == dataset.legend.names
    found = reference_codes(wide.pairs[0], wide.pairs[0].whole)
    assert np.array_equal(found, np.array([255, 0, 0, 1, 1, 2])[codes])


def test_values_of_polygons_that_differ_in_spelling_are_one_class(tmp_path: Path) -> None:
    boxes = [shapely.box(5e5 + 100 * col, 4e6 - 600, 5e5 + 100 * (col + 1), 4e6) for col in range(7)]
    kinds = ["Forest", "forest", "FOREST ", "urban-land", "Urban land", "water", None]
    geopandas.GeoDataFrame({"kind": kinds}, geometry=boxes, crs=UTM).to_file(tmp_path / "kinds.gpkg")
    dataset = open_dataset(_scene(tmp_path), labels=tmp_path / "kinds.gpkg", column="kind")
    assert [name.casefold().strip() for name in dataset.legend.names] == ["forest", "urban land", "water"]
    found = reference_codes(dataset.pairs[0], dataset.pairs[0].whole)
    assert found[0, ::10].tolist() == [0, 0, 0, 1, 1, 2, 255]
    assert any("are one class: " in note for note in dataset.notes)


def test_a_legend_whose_names_are_one_is_refused(tmp_path: Path) -> None:
    twins = Legend((LandCover(1, "Forest", (0, 0, 9)), LandCover(2, "forest", (0, 9, 0))))
    with pytest.raises(UsageError, match=r"Forest \(1\) and forest \(2\) have the same name but for case"):
        open_dataset(_scene(tmp_path), labels=write_raster(tmp_path / "t.tif", patchwork(SHAPE, 2)[None]), legend=twins)


def test_palettes_that_contradict_each_other_need_a_legend(tmp_path: Path) -> None:
    for name, color in (("a", (0, 0, 255)), ("b", (0, 255, 0))):
        write_raster(tmp_path / "images" / f"{name}.tif", noise(2, *SHAPE))
        _with_palette(tmp_path / "labels" / f"{name}.tif", patchwork(SHAPE, 2), {0: color, 1: (9, 9, 9)})
    with pytest.raises(
        UsageError, match=r"index 0 is rgb\(0,0,255\) in .*a\.tif, rgb\(0,255,0\) in .*b\.tif; .* `legend`"
    ):
        open_dataset(tmp_path)
    _with_palette(tmp_path / "labels" / "b.tif", patchwork(SHAPE, 2), {0: (0, 0, 255), 1: (9, 9, 9)})
    assert [each.color for each in open_dataset(tmp_path).legend] == [(0, 0, 255), (9, 9, 9)]


def test_a_picture_on_another_grid_is_laid_upon_the_scene(tmp_path: Path) -> None:
    scene, codes = _scene(tmp_path), patchwork((80, 90), 5)
    place = {"transform": NORTH_UP @ Affine.translation(-8, -6), "photometric": "RGB"}
    write_raster(tmp_path / "shifted.tif", LEGEND_COLORS[codes].transpose(2, 0, 1), **place)
    finer = {"transform": NORTH_UP @ Affine.scale(0.5), "photometric": "RGB", "nodata": 0}
    fine = np.kron(codes[:60, :70], np.ones((2, 2), np.uint8))
    write_raster(tmp_path / "finer.tif", LEGEND_COLORS[fine].transpose(2, 0, 1), **finer)
    for name, expected in (("shifted", codes[6:66, 8:78]), ("finer", np.where(codes == 4, 255, codes)[:60, :70])):
        pair = open_dataset(scene, labels=tmp_path / f"{name}.tif", legend=LEGEND).pairs[0]
        assert np.array_equal(reference_codes(pair, pair.whole), expected), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nodata", [-9999, np.nan, -3.4028234663852886e38, None])
def test_whole_floats_are_the_codes(tmp_path: Path, dtype: str, nodata: float | None) -> None:
    scene, codes = _scene(tmp_path), patchwork(SHAPE, 4)
    stored = codes.astype(dtype)
    hole = np.nan if nodata is None else nodata
    stored[:20, :20] = hole
    write_raster(tmp_path / "truth.tif", stored[None], nodata=nodata)
    dataset = open_dataset(scene, labels=tmp_path / "truth.tif")
    expected = codes.copy()
    expected[:20, :20] = 255
    pair = dataset.pairs[0]
    assert dataset.legend.codes == (0, 1, 2, 3)
    assert np.array_equal(reference_codes(pair, pair.whole), expected)
    given = open_dataset(scene, labels=tmp_path / "truth.tif", legend=LEGEND)
    assert np.array_equal(reference_codes(given.pairs[0], pair.whole), expected)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("pairs", [3, 20])
def test_every_file_is_opened_once_for_what_its_head_says(
    tmp_path: Path, make_pair: MakePair, monkeypatch: pytest.MonkeyPatch, pairs: int, *, named: bool
) -> None:
    for number in range(pairs):
        make_pair(f"s{number}")
    opened: Counter[str] = Counter()
    really = rasterio.open

    def counting(path: str, *args: Any, **knobs: Any) -> Any:
        opened[Path(path).name if "labels" in str(path) else "scene"] += 1
        return really(path, *args, **knobs)

    monkeypatch.setattr(rasterio, "open", counting)
    legend = Legend(tuple(LandCover(code, f"class {code}", (code, 0, 0)) for code in (1, 2, 3))) if named else None
    open_dataset(tmp_path, legend=legend)
    assert opened.pop("scene") == pairs
    assert set(opened) == {f"s{number}.tif" for number in range(pairs)}
    # without names each file is also read whole, and a few are sampled; many files do not all stay open
    assert max(opened.values()) <= (1 if named and pairs == 3 else 2 if named else 3)
    assert sum(opened.values()) <= (pairs + 10 if named else 2 * pairs + 10)


def test_one_raster_with_the_labels_of_many_scenes_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        place = NORTH_UP @ Affine.translation(0, number)
        write_raster(tmp_path / "images" / f"s{number}.tif", noise(3, *SHAPE), transform=place)
    labels = write_raster(tmp_path / "truth.tif", patchwork((80, 80), 3)[None])
    scanned = []
    really = label_files._codes_in
    monkeypatch.setattr(label_files, "_codes_in", lambda raster: scanned.append(raster.path) or really(raster))
    dataset = open_dataset(tmp_path, labels=labels)
    assert (len(dataset.pairs), dataset.legend.codes) == (5, (0, 1, 2))
    assert scanned == [str(labels)]


def test_our_own_geopackage_is_labels_without_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    codes = patchwork(SHAPE, 3)
    scene = _scene(tmp_path)
    write_raster(tmp_path / "map.tif", codes[None], nodata=255)
    geoseg.vectorize(tmp_path / "map.tif", tmp_path / "map.gpkg")
    assert "layer_styles" in {name for name, _ in pyogrio.list_layers(tmp_path / "map.gpkg")}
    recwarn.clear()
    pair = open_dataset(scene, labels=tmp_path / "map.gpkg", column="code").pairs[0]
    assert np.array_equal(reference_codes(pair, pair.whole), codes)
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("folders", [("images", "labels"), ("img_dir", "ann_dir")])
def test_folders_of_images_and_labels_may_hold_those_of_the_parts(tmp_path: Path, folders: tuple[str, str]) -> None:
    for name, part in (("a", "train"), ("b", "train"), ("c", "val")):
        for folder, pixels in zip(folders, (noise(3, *SHAPE), patchwork(SHAPE, 2)[None]), strict=True):
            write_raster(tmp_path / folder / part / f"{name}.tif", pixels)
    assert [(pair.id, pair.part) for pair in open_dataset(tmp_path).pairs] == [
        ("a", "train"), ("b", "train"), ("c", "valid"),
    ]  # fmt: skip


def test_parts_of_images_and_of_labels_may_be_called_otherwise(tmp_path: Path) -> None:
    _write_files(tmp_path, "images/Train/a.tif", "labels/train/a.tif", "images/val/b.tif", "labels/valid/b.tif")
    assert [(pair.id, pair.part) for pair in open_dataset(tmp_path).pairs] == [("a", "train"), ("b", "valid")]


PART_FOLDERS = pytest.mark.parametrize("form", ["{kind}/{part}", "{part}/{kind}"])


@PART_FOLDERS
def test_a_test_part_without_labels_is_left_out_and_said(tmp_path: Path, form: str) -> None:
    train, test = (form.format(kind="images", part=part) for part in ("train", "test"))
    _write_files(tmp_path, f"{train}/a.tif", f"{train.replace('images', 'labels')}/a.tif", f"{test}/b.tif")
    (tmp_path / test.replace("images", "labels")).mkdir(exist_ok=True)
    found = open_dataset(tmp_path)
    assert [pair.id for pair in found.pairs] == ["a"]
    assert found.notes == (f"1 image without labels in {tmp_path / test.removesuffix('/images')}, left out",)
    (tmp_path / test.replace("images", "labels")).rmdir()
    assert open_dataset(tmp_path).notes == found.notes


@PART_FOLDERS
@pytest.mark.parametrize(
    ("kind", "wanted"), [("images", "val.*: 1 scene without labels"), ("labels", "val.*: 1 of 1 without a scene: b")]
)
def test_half_of_a_part_is_an_error(tmp_path: Path, form: str, kind: str, wanted: str) -> None:
    whole = [f"{form.format(kind=each, part='train')}/a.tif" for each in ("images", "labels")]
    _write_files(tmp_path, *whole, f"{form.format(kind=kind, part='val')}/b.tif")
    with pytest.raises(SceneError, match=wanted):
        open_dataset(tmp_path)


@pytest.mark.parametrize("end", ["_lab", "_mask", "_GT"])
def test_masks_may_have_an_end_of_their_own(tmp_path: Path, end: str) -> None:
    write_raster(tmp_path / "org-img/7.jpg", noise(3, *SHAPE))
    write_raster(tmp_path / f"label-img/7{end}.png", patchwork(SHAPE, 2)[None])
    assert [pair.id for pair in open_dataset(tmp_path / "org-img", labels=tmp_path / "label-img").pairs] == ["7"]


@pytest.mark.parametrize("part", ["", "train/"])
def test_pictures_beside_images_and_labels_are_no_classes(tmp_path: Path, part: str) -> None:
    for folder, bands in ((f"images/{part}", 3), (f"labels/{part}", 1), ("previews", 3), ("overlays", 3)):
        write_raster(tmp_path / folder / "a.tif", patchwork(SHAPE, 2)[None].repeat(bands, axis=0))
    dataset = open_dataset(tmp_path)
    assert ([pair.id for pair in dataset.pairs], dataset.legend.codes) == (["a"], (0, 1))


@pytest.mark.parametrize(
    "folders",
    [("2_Ortho", "5_Labels_all"), ("2_RGB_images", "3_IR_images", "masks"), ("scenes", "5_Labels", "6_Labels")],
)
def test_folders_named_after_what_their_files_are_hold_no_classes(tmp_path: Path, folders: tuple[str, ...]) -> None:
    for folder in folders:
        write_raster(tmp_path / folder / "a.tif", noise(3, *SHAPE))
    named = (
        r"holds no imagery with labels; .*, as [\w, ]*(abels|mask|Class)[\w, ]* (is|are); .*their labels with `labels`"
    )
    with pytest.raises(SceneError, match=named):
        open_dataset(tmp_path)


@pytest.mark.parametrize("other", ["masks", "labels/readme.txt"])
def test_folders_without_images_do_not_matter_beside_classes(tmp_path: Path, other: str) -> None:
    _write_files(tmp_path, "wood/a.tif", "water/b.tif")
    (tmp_path / other).parent.mkdir(exist_ok=True)
    (tmp_path / other).write_text("about") if other.endswith("txt") else (tmp_path / other).mkdir()
    assert open_dataset(tmp_path).legend.names == ("water", "wood")


def test_a_class_named_after_labels_is_named_in_the_error(tmp_path: Path) -> None:
    _write_files(tmp_path, "wood/a.tif", "water/b.tif", "no_label/c.tif")
    with pytest.raises(SceneError, match="each class, none of them named after images or labels, as no_label is;"):
        open_dataset(tmp_path)


def test_tiles_that_each_have_images_and_labels_are_one_data_set(tmp_path: Path) -> None:
    for tile, names in {"tile_1": "ab", "tile 2": "a"}.items():
        for name in names:
            write_raster(tmp_path / tile / "images" / f"{name}.tif", np.full((3, 8, 9), 7, np.uint8))
            write_raster(tmp_path / tile / "masks" / f"{name}.tif", np.eye(8, 9, dtype=np.uint8)[None])
    (tmp_path / ".hidden" / "images").mkdir(parents=True)
    (tmp_path / "about.txt").write_text("tiles")
    found = open_dataset(tmp_path)
    assert [pair.id for pair in found.pairs] == ["tile 2/a", "tile_1/a", "tile_1/b"]
    assert all(np.array_equal(pair.decode(pair.whole).codes, np.eye(8, 9)) for pair in found.pairs)
    _write_files(tmp_path, "train/images/c.tif", "train/masks/c.tif")
    found = open_dataset(tmp_path)
    assert [pair.id for pair in found.pairs] == ["c"]
    tiles = [
        f"{count} in {tmp_path / tile}, left out" for tile, count in (("tile 2", "1 image"), ("tile_1", "2 images"))
    ]
    assert found.notes[: len(tiles)] == tuple(tiles)
    shutil.rmtree(tmp_path / "train")
    (tmp_path / "tile_1" / "masks" / "b.tif").unlink()
    with pytest.raises(SceneError, match="tile_1: 1 of 2 without labels: b"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train/image train/label", "val/image val/label"), ["train/1", "valid/1"]),
        (("images/train labels/train", "images/val labels/val"), ["train/1", "valid/1"]),
        (("Train/Urban/images_png Train/Urban/masks_png", "Val/Rural/images_png Val/Rural/masks_png"), None),
        (("Images/beach Labels/beach", "Images/port Labels/port"), ["beach/1", "port/1"]),
        (("images labels", "images/more labels/more"), ["1"]),
        (("images/train labels/train", "images/set_aside labels/set_aside"), ["1"]),
    ],
)
def test_images_of_one_name_in_several_folders(
    tmp_path: Path, folders: tuple[str, ...], expected: list[str] | None
) -> None:
    """As in the buildings of WHU, LoveDA and DLRSD: the folder begins the id where names alone do not tell."""
    for code, names in enumerate(folders):
        for folder, pixels in zip(names.split(), (noise(3, 8, 9), np.full((1, 8, 9), code, np.uint8)), strict=True):
            write_raster(tmp_path / folder / "1.png", pixels)
    found = open_dataset(tmp_path)
    assert [pair.id for pair in found.pairs] == (expected or ["Rural/1", "Urban/1"])
    codes = {pair.id: pair.decode(pair.whole).codes for pair in found.pairs}
    wanted = {"Urban/1": 0, "Rural/1": 1} if expected is None else dict(zip(expected, (0, 1), strict=False))
    assert all((codes[name] == code).all() for name, code in wanted.items())
    beside = {"images/more labels/more": "images/more", "images/set_aside labels/set_aside": "images/set_aside"}
    assert found.notes == tuple(f"1 image in {tmp_path / path}, left out" for path in [beside.get(folders[1])] if path)
    parts = {"valid" in str(pair.part) for pair in found.pairs}
    assert parts == ({True, False} if "val" in folders[1].casefold() else {False})


@pytest.mark.parametrize(
    "form",
    ["{}/{id} {}_labels/{id}_L", "{}/{id} {}annot/{id}", "{}_images/{id} {}_masks/{id}", "{}/{id}_img {}_gt/{id}_lab",
     "image-{}/{id} gts-{}/{id}",
     "{}/{}-org-img/{id} {}/{}-label-img/{id}_lab", "{}/sat/{id} {}/map/{id}", "my_{}/img/{id} my_{}/msk/{id}",
     "images/{}2017/{id} annotations/{}2017/{id}", "{}_data/images/{id}_sat {}_data/masks/{id}_mask",
     "JPEGImages/{}/{id} SegmentationClass/{}/{id}"],
)  # fmt: skip
@pytest.mark.parametrize("tested", ["labels", "images only"])
def test_folders_may_say_part_and_kind_in_their_names(tmp_path: Path, form: str, tested: str) -> None:
    """As in the buildings of Massachusetts on Kaggle and at its author's, CamVid, SegNet, FloodNet, UAVid, COCO."""
    expected = {}
    for part in ("train", "val", "test"):
        for number in "12":
            image, mask = (name.replace("{}", part).format(id=f"{part}_{number}") for name in form.split())
            write_raster(tmp_path / f"{image}.png", noise(3, *SHAPE))
            if part != "test" or tested == "labels":
                codes = patchwork(SHAPE, 2, seed=len(expected))
                write_raster(tmp_path / f"{mask}.png", codes[None])
                expected[Path(image).stem.removesuffix("_sat").removesuffix("_img")] = (
                    {"val": "valid"}.get(part, part),
                    codes.tobytes(),
                )
    found = open_dataset(tmp_path)
    read = {pair.id: (pair.part, pair.decode(pair.whole).codes.tobytes()) for pair in found.pairs}
    assert read == expected
    assert sum("2 images without labels in" in note for note in found.notes) == (tested == "images only")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("esri_model_definition.emd", '{"Classes": [{"Value": 1, "Name": "b", "Color": [9, 9, 9]}]}'),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nunknown:0,0,0::\nb:9,9,9::\n"),
        ("label_class_dict.csv", "name,r,g,b\nunknown,0,0,0\nb,9,9,9\n"),
        ("train/_classes.csv", "Pixel Value, Class\n0, unknown\n1, b\n"),
    ],
)
def test_a_legend_beside_the_labels_is_found_as_tools_call_it(tmp_path: Path, name: str, text: str) -> None:
    """ArcGIS Pro, whose labels hold 0 where no class is, CVAT, sets on Kaggle, and Roboflow."""
    codes, place = patchwork(SHAPE, 2), tmp_path / ("train" if "/" in name else "images")
    write_raster(place / "a.png", noise(3, *SHAPE))
    label = place / "a_mask.png" if "/" in name else tmp_path / "labels/a.png"
    write_raster(label, codes[None] if "/" in name or name.endswith("emd") else 9 * codes[None].repeat(3, axis=0))
    (tmp_path / name).write_text(text)
    found = open_dataset(tmp_path)
    assert found.legend.names == ("unknown", "b")
    assert np.array_equal(found.pairs[0].decode(found.pairs[0].whole).codes, codes)


def test_masks_of_codes_in_jpegs_need_a_legend(tmp_path: Path) -> None:
    """Compression makes codes that nobody gave; they were classes."""
    codes = patchwork(SHAPE, 2)
    write_raster(tmp_path / "images/a.png", noise(3, *SHAPE))
    write_raster(tmp_path / "labels/a.jpg", 255 * codes[None], QUALITY=75)
    with pytest.raises(
        SceneError, match=r"a\.jpg is a JPEG, .* codes .* with `legend` and allow others with `tolerance`"
    ):
        open_dataset(tmp_path)
    pair = open_dataset(tmp_path, legend={0: "land", 255: "water"}, tolerance=0.5).pairs[0]
    read = pair.decode(pair.whole)
    assert set(np.unique(read.codes)) <= {0, 1, 255}
    assert (read.codes[read.codes != 255] == codes[read.codes != 255]).mean() > 0.99
    assert pair.judge(read.strays) is None or "ignored" in str(pair.judge(read.strays))


def test_a_part_of_which_half_is_named_is_an_error(tmp_path: Path) -> None:
    _write_files(tmp_path, "train/a.tif", "train_labels/a.tif", "val_labels/b.tif")
    with pytest.raises(SceneError, match=r"val_labels: 1 of 1 without a scene: b"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("image", "label"),
    [("top_{}_RGBIR", "top_{}_label_noBoundary"), ("GF2__{}-MSS1", "GF2__{}-MSS1_24label"), ("IMG_{}", "MSK_{}"),
     ("RGB-PanSharpen_AOI_img{}", "buildings_AOI_img{}"), ("{}", "{}_L"), ("{}_post", "{}_post_target"),
     ("D004_RGBI_UU-S1_{}", "D004_LABEL-COSIA_UU-S1_{}"), ("{}_leftImg8bit", "{}_gtFine_labelIds")],
)  # fmt: skip
def test_words_that_all_files_of_a_folder_share_do_not_matter(tmp_path: Path, image: str, label: str) -> None:
    """As in Potsdam, Five-Billion-Pixels, FLAIR, SpaceNet, CamVid and Cityscapes."""
    codes = {}
    for number in ("2_10", "2_11", "3_10"):
        write_raster(tmp_path / "a" / f"{image.format(number)}.tif", noise(3, *SHAPE))
        codes[image.format(number)] = patchwork(SHAPE, 3, seed=len(codes))
        write_raster(tmp_path / "b" / f"{label.format(number)}.tif", codes[image.format(number)][None])
    found = open_dataset(tmp_path / "a", labels=tmp_path / "b")
    assert len({pair.id for pair in found.pairs}) == 3
    for pair in found.pairs:
        assert np.array_equal(pair.decode(pair.whole).codes, codes[Path(pair.scene.path).stem])
    assert any("pairs have equal names but for words" in note for note in found.notes) == (image != "IMG_{}")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("3_0 3_1", "4_0 4_1"),
        ("2018_a 2018_b", "2019_a 2019_b"),
        ("img1_a img1_b", "img2_a img2_b"),
        ("rome_1 rome_2", "paris_1 paris_2"),
        ("north", "south"),
        ("a_1", "b_1"),
        ("a_1 a_2", "b_1 b_3"),
        ("a_1 a_2", "b_1 b_2 b_3"),
        ("a_1 a_1_x", "b_1 b_1_y"),
    ],
)
def test_other_names_are_not_matched(tmp_path: Path, images: str, labels: str) -> None:
    _write_files(tmp_path, *(f"a/{name}.tif" for name in images.split()), *(f"b/{name}.tif" for name in labels.split()))
    with pytest.raises(SceneError, match=r"without labels: .*; (found .* instead; give pairs equal names|add what)"):
        open_dataset(tmp_path / "a", labels=tmp_path / "b")


def _write_tree(folder: Path, *patterns: str) -> None:
    """Write files of the names with each of the alternatives in braces: `{a,b}_mask.png`."""
    for pattern in patterns:
        choices = [part.split(",") for part in re.split(r"[{}]", pattern)]
        _write_files(folder, *("".join(names) for names in itertools.product(*choices)))


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ("{north,bullet_train}/{images,labels}/a.png", {"north/a": None, "bullet_train/a": None}),
        ("{images,labels}/{north,bullet_train}/a.png", {"north/a": None, "bullet_train/a": None}),
        ("{rome,validation_2020}/{images,labels}/a.png", {"rome/a": None, "validation_2020/a": None}),
        ("{a_train,b_test}/{images,labels}/a.png", {"a_train/a": None, "b_test/a": None}),
        ("{train_2018,train_2019}/{images,labels}/a.png", {"train_2018/a": None, "train_2019/a": None}),
        ("{images,labels}/{north_train,south_train}/a.png", {"north_train/a": None, "south_train/a": None}),
        (
            "{train_2018,train_2019,val_2018}/{images,labels}/a.png",
            {"train_2018/a": "train", "train_2019/a": "train", "val_2018/a": "valid"},
        ),
        (
            "{images,labels}/{train_2018,train_2019,val_2018}/a.png",
            {"train_2018/a": "train", "train_2019/a": "train", "val_2018/a": "valid"},
        ),
        ("{my_train,my_val}/{images,labels}/a.png docs/a.png", {"train/a": "train", "valid/a": "valid"}),
        ("train/{a,a_mask}.png extra_{images,masks}/b.png", {"a": "train"}),
        ("{my_train,my_val}/{images,labels}/a.png my_test/images/a.png", {"train/a": "train", "valid/a": "valid"}),
        ("{north,my_val}/{images,labels}/a.png train_2018/a.png", {"north/a": None, "my_val/a": None}),
        ("{map,my_train,my_val}/{images,labels}/a.png", {"map/a": None, "my_train/a": None, "my_val/a": None}),
        ("my_val/{images,labels}/a.png train_2018/{a,b}.png", {"my_val/a": None}),
        ("{images,labels}/train2017/a.png images/val2017/b.png", {"train2017/a": None}),
        ("north/{images,labels}/a.png test/val/{a,b}.png", {"north/a": None}),
        ("north/{images,labels}/a.png test/5_labels/a.png", {"north/a": None}),
        ("north/{images,labels}/a.png 2_img/{a,b}.png 5_labels/figures/a.png", {"north/a": None}),
    ],
)
def test_folders_that_end_like_a_part_may_be_tiles(tmp_path: Path, tree: str, expected: dict[str, str | None]) -> None:
    """Those of several parts with one start are parts; their own names tell the scenes of one part apart."""
    _write_tree(tmp_path, *tree.split())
    assert {pair.id: pair.part for pair in open_dataset(tmp_path).pairs} == expected


def test_files_of_one_name_in_folders_of_one_part_are_named_in_full(tmp_path: Path) -> None:
    _write_tree(tmp_path, "{images,labels}/{train,training}/a.png")
    with pytest.raises(SceneError, match=r"labels/training/a\.png and .*/labels/train/a\.png have the same id 'a'"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["road_map", "map", "targets", "gts", "cannot_tell", "ann_arbor", "bullet_train"])
@pytest.mark.parametrize("end", ["", "_sat"])
def test_classes_may_have_words_for_labels_in_their_names(tmp_path: Path, name: str, end: str) -> None:
    _write_tree(tmp_path, f"{{{name},forest,water}}/{{a,b}}{end}.png")
    assert open_dataset(tmp_path).legend.names == tuple(sorted((name, "forest", "water")))


@pytest.mark.parametrize(
    ("tree", "labels"),
    [
        ("{a,b}_img.png {a,b}_m.png {a,b}_mask.png", "a_mask.png b_mask.png"),
        ("{a,b}_rgb.png {a,b}_m.png {a,b}_mask.png", "a_mask.png b_mask.png"),
        ("images/IMG_{a,b}_m.png labels/MSK_{a,b}_m_mask.png", "labels/MSK_a_m_mask.png labels/MSK_b_m_mask.png"),
        ("M-33-{0,1}.png M-33-{0,1}_m.png", "M-33-0_m.png M-33-1_m.png"),
        ("{images,labels,targets}/a_label.png", "labels/a_label.png"),
        ("{images,labels}/a_label.png targets/readme.png map/legend.png", "labels/a_label.png"),
        ("images/a.png labels/a.json targets/a_label.png", "targets/a_label.png"),
        ("JPEGImages/a.png Annotations/a.xml SegmentationClass/a_label.png", "SegmentationClass/a_label.png"),
        ("a_img.png a_label.png sat/a.png targets/b_label.png", "a_label.png"),
        ("{img,map}/{images,labels}/a_label.png", "img/labels/a_label.png map/labels/a_label.png"),
        ("images/{IMG_1,img_2}.png masks/{MSK_1_label,msk_2_label}.png", "masks/MSK_1_label.png masks/msk_2_label.png"),
    ],
)
def test_other_files_do_not_hide_the_labels(tmp_path: Path, tree: str, labels: str) -> None:
    """As before `_m` of LandCover.ai, `targets` of xBD and `SegmentationClass` of Pascal VOC were known."""
    for pattern in tree.split():
        if pattern.endswith((".xml", ".json")):
            (tmp_path / pattern).parent.mkdir()
            (tmp_path / pattern).write_text("{}")
        else:
            _write_tree(tmp_path, pattern.replace("_m.png", "_m_mask.png"))
    for file in tmp_path.glob("*_m_mask.png"):
        file.rename(file.with_name(file.name.replace("_m_mask", "_m")))
    found = {file for pair in open_dataset(tmp_path).pairs for file in pair.files}
    assert {str(tmp_path / label) for label in labels.split()} <= found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labelmap.txt", "item {\n  id: 1\n  name: 'person'\n}\n"),
        ("labelmap.txt", "???\nperson\ncar\n"),
        ("labelmap.txt", "person\ncar\n"),
        ("_classes.csv", "filename, water, trees\na.png, 1, 0\n"),
        ("previews/_classes.csv", "Pixel Value, Class\n0, unknown\n"),
        ("esri_model_definition.emd", '{"Classes": []}'),
    ],
)
def test_files_of_other_tools_with_the_name_of_a_legend_are_none(tmp_path: Path, name: str, text: str) -> None:
    _write_files(tmp_path, "images/a.png", "labels/a.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert open_dataset(tmp_path).legend.names == ("class 0", "class 1")


def test_folders_of_the_bands_of_an_image_are_no_classes(tmp_path: Path) -> None:
    """As in BigEarthNet 1."""
    _write_tree(tmp_path, "S2A_{1,2}/S2A_{B01,B02,B03,B04,B8A}.tif")
    with pytest.raises(SceneError, match=r"S2A_1 and the folders beside it hold the bands of one image each"):
        open_dataset(tmp_path)
    (tmp_path / "S2A_2" / "S2A_B02.tif").rename(tmp_path / "S2A_2" / "beach.tif")
    assert open_dataset(tmp_path).legend.names == ("S2A_1", "S2A_2")


def test_masks_beside_parts_are_no_class_folders(tmp_path: Path) -> None:
    """Images without labels in `test` change nothing."""
    classes = tmp_path / "classes"
    _write_files(classes, "train/wood/a.tif", "train/water/b.tif", "test/c.tif")
    assert open_dataset(classes).legend.names == ("water", "wood")


@pytest.mark.parametrize("part", ["", "train/", "val/"])
def test_pictures_beside_the_class_folders_of_a_part_are_left_out_and_said(tmp_path: Path, part: str) -> None:
    _write_files(tmp_path, f"{part}wood/a.tif", f"{part}water/b.tif", "val/montage.tif")
    found = open_dataset(tmp_path)
    assert [pair.id for pair in found.pairs] == [f"{part}water/b", f"{part}wood/a"]
    assert found.notes[1:] == (f"1 image without labels in {tmp_path / 'val'}, left out",)


@pytest.mark.parametrize(
    "names",
    [
        "train/a_image.tif train/a_label.tif train/previews/a.png train/figures/a.png",
        "train/a.tif train/a_label.tif val/b.tif val/b_label.tif quicklooks/a.png figures/b.png",
        "north/images/a.tif north/masks/a_label.tif south/img/b.tif south/gt/b_label.tif previews/a.png figures/b.png",
    ],
)
def test_labeled_scenes_of_a_part_count_before_folders_of_pictures(tmp_path: Path, names: str) -> None:
    for name in names.split():
        is_label = Path(name).stem.endswith("_label")
        write_raster(tmp_path / name, np.ones((1, *SHAPE), np.uint8) if is_label else noise(3, *SHAPE))
    found = open_dataset(tmp_path)
    ids = ["a", "b"] if "val" in names else ["north/a", "south/b"] if "north" in names else ["a"]
    assert [pair.id for pair in found.pairs] == ids
    assert not any("single label" in note for note in found.notes)


def test_a_class_may_begin_like_a_part(tmp_path: Path) -> None:
    _write_files(tmp_path, "valley/a.tif", "wood/b.tif", "testsite/c.tif", "val/m.tif", "test/n.tif")
    assert open_dataset(tmp_path).legend.names == ("testsite", "valley", "wood")
    _write_files(tmp_path, "val_d_isere/d.tif", "train_station/e.tif", "train/f.tif")
    assert open_dataset(tmp_path).legend.names == ("testsite", "train_station", "val_d_isere", "valley", "wood")
    _write_files(tmp_path, "train_station/f.tif")
    with pytest.raises(SceneError, match="as train_station is"):
        open_dataset(tmp_path)


def test_bands_that_were_not_chosen_do_not_matter_beside_classes(tmp_path: Path) -> None:
    write_raster(tmp_path / "A/1.tif", noise(4, *SHAPE))
    write_raster(tmp_path / "B/1.tif", noise(3, *SHAPE))
    assert open_dataset(tmp_path, bands=(1, 2, 3)).legend.names == ("A", "B")


def test_labels_among_the_scenes_are_no_scene_however_their_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, labels = _scene(tmp_path), write_raster(tmp_path / "truth.tif", patchwork(SHAPE, 2)[None])
    monkeypatch.chdir(tmp_path)
    for path in (labels, "truth.tif", tmp_path / ".." / tmp_path.name / "truth.tif"):
        assert [pair.scene.path for pair in open_dataset(tmp_path, labels=path).pairs] == [str(scene)]


def test_two_classes_of_equal_names_may_be_images_and_masks(tmp_path: Path) -> None:
    _write_files(tmp_path, "A/1.tif", "A/2.tif", "B/1.tif", "B/2.tif")
    assert "the files of A and B have the same names; if one folder holds" in open_dataset(tmp_path).notes[1]
    for name in "12":
        write_raster(tmp_path / f"B/{name}.tif", patchwork(SHAPE, 2)[None])
    with pytest.raises(SceneError, match=r"the images of A and B differ in bands; .* with `labels`"):
        open_dataset(tmp_path)
    assert len(open_dataset(tmp_path / "A", labels=tmp_path / "B").pairs) == 2
    _write_files(tmp_path, "C/1.tif", "C/2.tif", "B/1.tif", "B/2.tif")
    assert "the files of A, B and C have the same names" in open_dataset(tmp_path).notes[1]
    _write_files(tmp_path, "C/3.tif")
    assert len(open_dataset(tmp_path).notes) == 1


def test_a_scene_without_labels_among_others_is_unlabeled(tmp_path: Path, make_pair: MakePair) -> None:
    expected = make_pair("a")
    make_pair("b")
    write_raster(tmp_path / "labels" / "b.tif", np.zeros((1, 128, 160), np.uint8), nodata=0)
    labeled, unlabeled = open_dataset(tmp_path).pairs
    said = f"no labels in {tmp_path / 'labels' / 'b.tif'}, so these scenes are unlabeled"
    assert open_dataset(tmp_path).notes == (said,)
    assert np.array_equal(reference_codes(labeled, labeled.whole), expected)
    assert (unlabeled.decode(unlabeled.whole).codes == 255).all()
    write_raster(tmp_path / "labels" / "a.tif", np.zeros((1, 128, 160), np.uint8), nodata=0)
    with pytest.raises(SceneError, match=r"a\.tif holds no labels: every pixel is nodata; check"):
        open_dataset(tmp_path)


def test_parts_may_hold_tiles(tmp_path: Path) -> None:
    """As UAVid: a folder for each sequence."""
    _write_files(
        tmp_path,
        "uavid_train/seq1/images/0.png", "uavid_train/seq1/labels/0.png",
        "uavid_val/seq16/images/0.png", "uavid_val/seq16/labels/0.png",
    )  # fmt: skip
    found = open_dataset(tmp_path)
    assert {pair.part for pair in found.pairs} == {"train", "valid"}
    assert len(found.pairs) == 2


def test_a_test_part_beside_folders_of_images_and_labels_takes_nothing_from_them(tmp_path: Path) -> None:
    _write_files(
        tmp_path,
        "image_chips/0.png", "image_chips/1.png", "mask_chips/0.png", "mask_chips/1.png",
        "test_image_chips/7.png", "test_mask_chips/7.png",
    )  # fmt: skip
    assert {pair.id: pair.part for pair in open_dataset(tmp_path).pairs} == {"0": None, "1": None, "7": "test"}


@pytest.mark.parametrize("names", [("train/a.jpg", "train_masks/a_mask.gif"), ("a.png", "a_mask.bmp")])
def test_masks_may_be_bmp_or_gif(tmp_path: Path, names: tuple[str, str]) -> None:
    _write_files(tmp_path, *names)
    (pair,) = open_dataset(tmp_path).pairs
    assert np.array_equal(reference_codes(pair, pair.whole), patchwork(SHAPE, 2))


@pytest.mark.parametrize(
    ("names", "previews"),
    [
        (("images/a.png", "labels/a.png"), ("labels/a.gif", "labels/overview.gif")),
        (("images/a.png", "masks/a.png"), ("labels/a.gif",)),
        (("train/a.png", "train_labels/a.png"), ("train_labels_preview/a.gif",)),
        (("train/a.png", "train_labels/a.png"), ("train/a_mask.bmp",)),
    ],
)
def test_a_gif_or_bmp_in_a_set_with_other_labels_is_no_mask(
    tmp_path: Path, names: tuple[str, str], previews: tuple[str, ...]
) -> None:
    _write_files(tmp_path, *names, *previews)
    (pair,) = open_dataset(tmp_path).pairs
    assert (pair.scene.path, pair.labels.path) == tuple(str(tmp_path / name) for name in names)


@pytest.mark.parametrize("mask", ["train/a_mask.bmp", "train_masks/a.gif"])
def test_pictures_beside_a_set_with_masks_in_bmp_or_gif_are_no_classes(tmp_path: Path, mask: str) -> None:
    _write_files(tmp_path, "train/a.png", mask, "previews/a.png", "overlays/a.png")
    (pair,) = open_dataset(tmp_path).pairs
    assert pair.labels.path == str(tmp_path / mask)


def test_a_table_may_have_blanks_after_its_quotation_marks(tmp_path: Path) -> None:
    _write_files(tmp_path, "images/a b.png", "masks/m.png")
    (tmp_path / "scenes.csv").write_text('"scene" , "labels" \n"images/a b.png" , "masks/m.png"\n')
    (pair,) = open_dataset(tmp_path / "scenes.csv").pairs
    assert pair.id == "a b"
    (tmp_path / "scenes.csv").write_text('scene,labels\n"images/a b.png,masks/m.png\n')
    with pytest.raises(SceneError, match=r"scenes\.csv is not a valid table: .*check its quotation marks"):
        open_dataset(tmp_path / "scenes.csv")


def test_geojson_called_json_is_as_good_as_other_polygons(tmp_path: Path) -> None:
    _write_files(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "labels").mkdir()
    for text, folder in (('{"type": "FeatureCollection", "features": []}', "labels"), ('{"boxes": []}', "masks")):
        (tmp_path / "labels" / "a.json").write_text(text)
        places = paired_files._places(tmp_path)
        assert [label.parent.name for place in places for label in place.labels] == [folder]


def test_one_pair_does_not_hide_a_data_set_of_classes(tmp_path: Path) -> None:
    names = [f"{name}/{number}.png" for name in ("forest", "water", "urban") for number in range(3)]
    _write_files(tmp_path, *names, "segmentation/images/a.png", "segmentation/masks/a.png")
    assert len(open_dataset(tmp_path).pairs) == 9


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no mode there")
def test_a_folder_that_cannot_be_read_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_files(tmp_path, "images/a.png", "labels/a.png", "lost+found/b.png")
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path).name != "lost+found")
    assert [pair.id for pair in open_dataset(tmp_path).pairs] == ["a"]


def test_folders_of_classes_may_hold_the_bands_of_several_images(tmp_path: Path) -> None:
    names = [f"{name}/{image}_{band}.png" for name in ("forest", "water") for image in "ab" for band in ("B02", "B03")]
    _write_files(tmp_path, *names, *(f"{name}/{image}_B04.png" for name in ("forest", "water") for image in "ab"))
    assert {pair.id.partition("/")[0] for pair in open_dataset(tmp_path).pairs} == {"forest", "water"}
