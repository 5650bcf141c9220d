"""STAC items, against the files of their assets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

import geoseg
from geoseg.errors import SceneError, UsageError
from geoseg.inference import find_scenes
from geoseg.inference.scene_list import map_names
from geoseg.raster import Scene, Window
from tests.inference.conftest import write_scene
from tests.networks import tiny_bundle

GRID = Affine(10, 0, 500_000, 0, -10, 5_400_000)
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
BANDS = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir", "B11": "swir16"}
WHOLE = Window(0, 0, 80, 120)


def pixels(name: str) -> NDArray[np.uint16]:
    """Return the pixels of a band; B11 is half the size."""
    shape = (40, 60) if name == "B11" else (80, 120)
    return np.random.default_rng(int(name[1:])).integers(1, 9000, (1, *shape), dtype=np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with an item like Sentinel-2's: one file per band, in two sizes, and a true-color picture."""
    for name in BANDS:
        grid = GRID @ Affine.scale(2) if name == "B11" else GRID
        write_scene(tmp_path / f"{name}.tif", pixels(name), transform=grid, nodata=None)
    picture = np.random.default_rng(9).integers(0, 255, (3, 80, 120), dtype=np.uint8)
    write_scene(tmp_path / "visual.tif", picture, transform=GRID, nodata=0)
    (tmp_path / "item.json").write_text(json.dumps(item()))
    return tmp_path


def item(**more: Any) -> dict[str, Any]:
    """Return the item, with relative hrefs."""
    assets: dict[str, Any] = {
        name: {
            "href": f"./{name}.tif",
            "type": COG,
            "roles": ["data"],
            "eo:bands": [{"name": name, "common_name": color}],
        }
        for name, color in BANDS.items()
    }
    for name in BANDS:
        assets[name]["raster:bands"] = [{"nodata": 0, "data_type": "uint16"}]
    rgb = [{"name": f"T{color}", "common_name": color} for color in ("red", "green", "blue")]
    assets["visual"] = {"href": "visual.tif", "type": COG, "roles": ["visual"], "eo:bands": rgb}
    assets["thumbnail"] = {"href": "thumbnail.png", "type": "image/png", "roles": ["thumbnail"]}
    assets["metadata"] = {"href": "metadata.xml", "type": "application/xml"}
    return {"type": "Feature", "stac_version": "1.0.0", "id": "S2_x", "assets": assets, "links": []} | more


@pytest.mark.parametrize("names", [("B04", "B03", "B02"), ("red", "green", "blue"), ("NIR", "b04"), ("B08",)], ids=str)
def test_bands_are_taken_by_name_or_common_name(folder: Path, names: tuple[str, ...]) -> None:
    files = {**{color: name for name, color in BANDS.items()}, **{name: name for name in BANDS}}
    keys = [files[name.lower() if name.lower() in files else name.upper()] for name in names]
    scene = Scene.open(folder / "item.json", bands=names)
    patch = scene.read(WHOLE)
    np.testing.assert_array_equal(patch.data, np.concatenate([pixels(key) for key in keys]))
    assert scene.geobox == Scene.open(folder / "B04.tif").geobox
    wanted = Scene.open(folder / "item.json", wanted_bands=names)
    np.testing.assert_array_equal(wanted.read(WHOLE).data, patch.data)
    assert wanted.chosen
    assert scene.local_files() == sorted((folder / f"{key}.tif").resolve() for key in set(keys))


@pytest.mark.parametrize("href", ["./a%20%C3%A4.tif", "./a ä.tif", "{uri}", "{path}"])
def test_links_to_files_may_be_percent_encoded(folder: Path, href: str) -> None:
    file = folder / "a ä.tif"
    (folder / "visual.tif").rename(file)
    document = item()
    document["assets"]["visual"]["href"] = href.format(uri=file.as_uri(), path=file)
    (folder / "item.json").write_text(json.dumps(document))
    expected = Scene.open(file).read(WHOLE).data
    np.testing.assert_array_equal(Scene.open(folder / "item.json").read(WHOLE).data, expected)
    file.rename(folder / "a%20%C3%A4.tif")  # a file may also have such a name
    document["assets"]["visual"]["href"] = "a%20%C3%A4.tif"
    (folder / "other.json").write_text(json.dumps(document))
    np.testing.assert_array_equal(Scene.open(folder / "other.json").read(WHOLE).data, expected)


@pytest.mark.parametrize("href", ["data:image/png;base64," + "iVBORw0KGgo" * 400, f"{'long' * 100}.png"])
def test_a_picture_inside_the_item_is_no_file(folder: Path, href: str) -> None:
    document = item(assets=item()["assets"] | {"picture": {"href": href, "type": "image/png"}})
    (folder / "item.json").write_text(json.dumps(document))
    assert Scene.open(folder / "item.json").shape == WHOLE.shape


def test_the_folder_of_an_item_is_no_link(folder: Path) -> None:
    inner = folder / "100%25 a%20b"
    inner.mkdir()
    (folder / "visual.tif").rename(inner / "a b.tif")
    document = item(assets={"visual": item()["assets"]["visual"] | {"href": "a%20b.tif"}})
    (inner / "item.json").write_text(json.dumps(document))
    assert Scene.open(inner / "item.json").shape == WHOLE.shape


def test_nodata_that_only_the_item_knows_hides_pixels(folder: Path) -> None:
    data = pixels("B04")
    data[:, :10] = 0
    for name in ("B04", "B03"):
        write_scene(folder / f"{name}.tif", data, transform=GRID, nodata=None)
    picture = np.concatenate([data // share for share in (1, 2, 3)]).astype(np.uint8)
    write_scene(folder / "visual.tif", picture, transform=GRID, nodata=None)
    told = item()
    told["assets"]["visual"]["raster:bands"] = [{"nodata": 0}] * 3
    (folder / "item.json").write_text(json.dumps(told))
    alone = item()
    colors = [{"common_name": color} for color in ("blue", "green", "red")]
    alone["assets"] = {"image": {"href": "visual.tif", "raster:bands": [{"nodata": 0}] * 3, "eo:bands": colors}}
    (folder / "alone.json").write_text(json.dumps(alone))
    for name, bands in (("item", ["red", "green"]), ("item", ["red"]), ("item", None), ("alone", [3, 1])):
        scene = Scene.open(folder / f"{name}.json", bands=bands)
        patch = scene.read(WHOLE)
        assert not patch.valid[:10].any()
        assert patch.valid[10:].mean() > 0.99
    np.testing.assert_array_equal(patch.data, Scene.open(folder / "visual.tif", bands=[3, 1]).read(WHOLE).data)


def test_nodata_that_only_the_item_knows_is_not_interpolated(folder: Path) -> None:
    data = pixels("B11") % 10 + 100
    data[:, 10:20, 10:20] = data[:, ::3, ::4] = 9000
    told, read = item(), []
    for name in ("B04", "B11"):
        told["assets"][name]["raster:bands"] = [{"nodata": 9000}]
    (folder / "item.json").write_text(json.dumps(told))
    for nodata in (None, 9000):
        write_scene(folder / "B11.tif", data, transform=GRID @ Affine.scale(2), nodata=nodata)
        read.append(Scene.open(folder / "item.json", bands=["B04", "B11"]).read(WHOLE).data[1])
    np.testing.assert_array_equal(*read)
    assert set(np.unique(read)) <= {*range(100, 110), 9000}
    assert (read[0][21:39, 21:39] == 9000).all()
    mask = np.full(data.shape[1:], 255, np.uint8)
    mask[:, :10] = 0
    write_scene(folder / "B11.tif", data, transform=GRID @ Affine.scale(2), nodata=None)
    with rasterio.open(folder / "B11.tif", "r+") as file:
        file.write_mask(mask)
    (folder / "item.json").write_text(json.dumps(item()))  # its nodata value is 0
    valid = Scene.open(folder / "item.json", bands=["B04", "B11"]).read(WHOLE).valid
    np.testing.assert_array_equal(valid, np.kron(mask, np.ones((2, 2))) != 0)


def test_nodata_of_a_whole_asset_hides_pixels(folder: Path) -> None:
    """In STAC 1.1 what is true of all bands of an asset stands in the asset."""
    data = pixels("B04")
    data[:, :10] = 0
    write_scene(folder / "B04.tif", data, transform=GRID, nodata=None)
    told = item(stac_version="1.1.0")
    told["assets"] = {"red": {"href": "B04.tif", "type": COG, "nodata": 0, "roles": None, "bands": [{"name": "red"}]}}
    (folder / "item.json").write_text(json.dumps(told))
    valid = Scene.open(folder / "item.json", bands=["red"]).read(WHOLE).valid
    np.testing.assert_array_equal(valid, data[0] != 0)


def test_a_pixel_is_masked_where_the_masks_of_all_assets_mask_it(folder: Path) -> None:
    masks = {name: np.full(WHOLE.shape, 255, np.uint8) for name in ("B04", "B03")}
    masks["B04"][:10] = masks["B03"][5:15] = 0
    for name, mask in masks.items():
        with rasterio.open(folder / f"{name}.tif", "r+") as file:
            file.nodata = None
            file.write_mask(mask)
    for bands in (["red", "green"], ["green", "red"]):
        valid = Scene.open(folder / "item.json", bands=bands).read(WHOLE).valid
        np.testing.assert_array_equal(valid, (masks["B04"] | masks["B03"]) != 0)


def test_an_asset_without_a_mask_hides_and_shows_nothing(folder: Path) -> None:
    mask = np.full(WHOLE.shape, 255, np.uint8)
    mask[:10] = 0
    for name in ("B04", "B03"):
        with rasterio.open(folder / f"{name}.tif", "r+") as file:
            file.nodata = None
            if name == "B04":
                file.write_mask(mask)
    valid = Scene.open(folder / "item.json", bands=["green", "red"]).read(WHOLE).valid
    np.testing.assert_array_equal(valid, mask != 0)


def test_the_mask_of_a_file_is_read_once_for_all_its_bands(folder: Path) -> None:
    mask = np.full(WHOLE.shape, 255, np.uint8)
    mask[:10] = 0
    with rasterio.open(folder / "visual.tif", "r+") as file:
        file.nodata = None
        file.write_mask(mask)
    write_scene(folder / "bytes.tif", np.full((1, 80, 120), 5, np.uint8), transform=GRID, nodata=None)
    told = item()
    told["assets"]["bytes"] = {"href": "bytes.tif", "type": COG, "roles": ["data"], "eo:bands": [{"name": "fifth"}]}
    (folder / "item.json").write_text(json.dumps(told))
    scene = Scene.open(folder / "item.json", bands=["Tred", "Tgreen", "Tblue", "fifth"])
    assert scene.path.count("mask,") == 1
    np.testing.assert_array_equal(scene.read(WHOLE).valid, mask != 0)


@pytest.mark.parametrize("roles", [3, "data", None, [["data"]]])
def test_roles_that_are_no_list_of_words_are_ignored(folder: Path, roles: Any) -> None:
    told = item()
    told["assets"] = {"red": told["assets"]["B04"] | {"roles": roles, "type": "application/x-geotiff"}}
    (folder / "item.json").write_text(json.dumps(told))
    np.testing.assert_array_equal(Scene.open(folder / "item.json", bands=["red"]).read(WHOLE).data, pixels("B04"))


def test_larger_pixels_are_interpolated_onto_the_finest(folder: Path) -> None:
    scene = Scene.open(folder / "item.json", bands=["B04", "B11"])
    assert scene.shape == (80, 120)
    read = scene.read(WHOLE).data
    np.testing.assert_array_equal(read[0], pixels("B04")[0])
    means = read[1].reshape(40, 2, 60, 2).mean(axis=(1, 3))
    assert np.corrcoef(means[1:-1, 1:-1].ravel(), pixels("B11")[0, 1:-1, 1:-1].ravel())[0, 1] > 0.9
    assert Scene.open(folder / "item.json", bands=["B11"]).shape == (40, 60)


def test_without_names_it_is_the_picture_and_an_assets_key_is_all_its_bands(folder: Path) -> None:
    picture = Scene.open(folder / "visual.tif")
    for scene in (Scene.open(folder / "item.json"), Scene.open(folder / "item.json", bands=["visual"])):
        np.testing.assert_array_equal(scene.read(WHOLE).data, picture.read(WHOLE).data)
    alone = item()
    alone["assets"] = {
        "image": {"href": "visual.tif", "type": COG, "bands": [{"name": "r"}, {"name": "g"}, {"name": "b"}]}
    }
    (folder / "alone.json").write_text(json.dumps(alone))
    numbered = Scene.open(folder / "alone.json", bands=[3, 1])
    np.testing.assert_array_equal(numbered.read(WHOLE).data, picture.read(WHOLE).data[[2, 0]])
    np.testing.assert_array_equal(
        Scene.open(folder / "alone.json", bands=["g"]).read(WHOLE).data[0], picture.read(WHOLE).data[1]
    )


def test_a_map_of_an_item_is_that_of_its_bands_in_one_file(folder: Path) -> None:
    bundle = tiny_bundle(folder, window_px=64)
    stacked = np.concatenate([pixels(name) for name in ("B04", "B03", "B02")])
    one = write_scene(folder / "one.tif", stacked, transform=GRID, nodata=0)
    options: dict[str, Any] = {"model": bundle, "device": "onnx", "scale": (0, 9000)}
    box = (500_100, 5_399_300, 500_900, 5_399_900)
    for more in ({}, {"bbox": box}):
        from_item = geoseg.plan(folder / "item.json", bands=["red", "green", "blue"], **options, **more)
        expected = geoseg.plan(one, **options, **more)
        assert from_item.scene.shape == expected.scene.shape
        np.testing.assert_array_equal(from_item.to_dask().compute(), expected.to_dask().compute())


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        (None, "bands Tred (red), Tgreen (green), Tblue (blue) of the STAC item's asset visual"),
        (["nir", "red"], "bands B08 (nir), B04 (red) of the STAC item's assets B08, B04"),
        (["visual"], "bands Tred (red), Tgreen (green), Tblue (blue) of the STAC item's asset visual"),
    ],
)
def test_a_line_says_which_assets_are_read(folder: Path, wanted: list[str] | None, line: str) -> None:
    assert Scene.open(folder / "item.json", wanted_bands=wanted).band_choice == line


def test_an_item_of_pystac_is_told_how_it_becomes_a_file(folder: Path) -> None:
    found = pystac.Item.from_dict(item(geometry=None, properties={"datetime": "2024-06-01T00:00:00Z"}))
    found.set_self_href(str(folder / "item.json"))
    with pytest.raises(UsageError, match=r"item\.save_object\(include_self_link=False, dest_href='item\.json'\)"):
        geoseg.plan(found)
    found.save_object(include_self_link=False, dest_href=str(folder / "saved.json"))
    assert Scene.open(folder / "saved.json").shape == (80, 120)


def test_item_collections_are_many_scenes(folder: Path) -> None:
    far = item(id="S2_y")
    far["assets"]["B04"]["href"] = "gone.tif"
    both = {"type": "FeatureCollection", "stac_version": "1.0.0", "features": [item(), far]}
    (folder / "items.json").write_text(json.dumps(both))
    found = find_scenes(folder / "items.json")
    assert found == [f"{folder / 'items.json'}#S2_x", f"{folder / 'items.json'}#S2_y"]
    assert map_names(found) == ["S2_x", "S2_y"]
    np.testing.assert_array_equal(Scene.open(str(found[0]), bands=["B04"]).read(WHOLE).data, pixels("B04"))
    with pytest.raises(SceneError, match=r"gone.tif"):
        Scene.open(str(found[1]), bands=["B04"])
    with pytest.raises(SceneError, match=r"holds 2 STAC items \(S2_x, S2_y\), got none; choose one as items.json#ID"):
        Scene.open(folder / "items.json")
    with pytest.raises(SceneError, match="got S2_z"):
        Scene.open(f"{folder / 'items.json'}#S2_z")


@pytest.mark.parametrize(
    ("document", "bands", "kind", "said"),
    [
        (item(), ["B99"], SceneError, r"the STAC item S2_x \(.*item.json\) has no band B99; it has B02 \(blue\), B03"),
        (item(), [1, 2], UsageError, "are chosen by name, not number: B02"),
        (item(assets={}), None, SceneError, "has no raster among its assets"),
        (item(type="Collection"), None, SceneError, "is a STAC Collection, not an item with assets"),
        ('{"stac_version": "1.0.0", ', None, SceneError, "is not valid JSON, so it cannot be read as a STAC item"),
        ('["stac_version"]', None, SceneError, "item.json"),
    ],
    ids=str,
)
def test_what_an_item_does_not_have(folder: Path, document: Any, bands: Any, kind: type[Exception], said: str) -> None:
    (folder / "item.json").write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(kind, match=said) as raised:
        Scene.open(folder / "item.json", bands=bands)
    assert len(str(raised.value).splitlines()) == 1


def test_assets_of_two_extents_are_refused(folder: Path) -> None:
    write_scene(folder / "B03.tif", pixels("B03"), transform=GRID @ Affine.translation(30, 0))
    with pytest.raises(SceneError, match=r"the assets B03 and B04 of the STAC item .* do not have the same extent"):
        Scene.open(folder / "item.json", bands=["B04", "B03"])


@pytest.mark.parametrize("side", [-1, 1])
def test_assets_whose_axes_point_in_other_directions_are_refused(folder: Path, side: int) -> None:
    turned = Affine.translation(60 if side < 0 else 0, 40) @ Affine.scale(side, -1)
    write_scene(folder / "B11.tif", pixels("B11"), transform=GRID @ Affine.scale(2) @ turned)
    with pytest.raises(SceneError, match=r"the assets B11 and B04 .* have rows or columns in different directions"):
        Scene.open(folder / "item.json", bands=["B04", "B11"])


@pytest.mark.parametrize("shift", [(0.5, 0.5), (-0.5, 0.25), (0.9, -0.9), (-0.1, 0.3), (0, 0)])
def test_the_rim_that_a_coarser_asset_lacks_is_left_out(folder: Path, shift: tuple[float, float]) -> None:
    fine = GRID @ Affine.scale(1 / 4)
    across, down = shift
    write_scene(folder / "B03.tif", np.full((1, 360, 280), 9, np.uint16), transform=fine)
    write_scene(
        folder / "B04.tif", np.full((1, 90, 70), 7, np.uint16), transform=GRID @ Affine.translation(across, down)
    )
    scene = Scene.open(folder / "item.json", bands=["B04", "B03"])
    patch = scene.read(Window(0, 0, *scene.shape))
    assert [set(band.ravel()) for band in patch.data] == [{7}, {9}]
    moved = ~fine @ scene.geobox.transform
    lost = int(abs(down) * 4), int(abs(across) * 4)  # pixels that are covered in part are filled
    assert scene.shape == (360 - lost[0], 280 - lost[1])
    assert (moved.c, moved.f) == pytest.approx((lost[1] if across > 0 else 0, lost[0] if down > 0 else 0))
