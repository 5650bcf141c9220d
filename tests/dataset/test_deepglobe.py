"""The DeepGlobe layout: which files form a pair, and the class of each color in a mask."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoseg.dataset import open_dataset
from geoseg.dataset.pair import check_labels, reference_codes
from geoseg.errors import SceneError, UsageError
from geoseg.legend import DEEPGLOBE, LandCover, Legend
from geoseg.raster import Window

from .conftest import COLORS, MakeTile, noise, patchwork, write_raster


def test_codes_are_those_of_the_colours(tmp_path: Path, make_tile: MakeTile) -> None:
    expected = make_tile(tmp_path, "7")
    pair = open_dataset(tmp_path).pairs[0]
    assert np.array_equal(reference_codes(pair, pair.whole), expected)
    out = reference_codes(pair, Window(-3, 60, 20, 30))
    assert np.array_equal(out[3:, :20], expected[:17, 60:])
    assert (out[:3] == 255).all()
    assert (out[:, 20:] == 255).all()


def test_real_masks_decode_as_a_search_through_the_legend_says(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "deepglobe")
    assert len(dataset.pairs) == 9
    assert dataset.gsd_m == 0.5
    assert dataset.bands == ("red", "green", "blue")
    pair = dataset.pair("855")
    with rasterio.open(shared_data / "deepglobe" / "855_mask.png") as mask:
        picture = mask.read().transpose(1, 2, 0)
    expected = np.full(picture.shape[:2], 255, np.uint8)
    for land_cover in DEEPGLOBE:
        expected[(picture == land_cover.color).all(axis=2)] = land_cover.code
    assert np.array_equal(reference_codes(pair, pair.whole), expected)
    assert check_labels(pair) is None


def test_any_legend_says_what_colours_mean(tmp_path: Path) -> None:
    legend = Legend((LandCover(3, "roof", (10, 20, 30)), LandCover(9, "road", (11, 20, 30))))
    codes = np.where(patchwork((40, 40), 2) == 0, 3, 9)
    picture = np.where(codes == 3, 10, 11)
    mask = np.stack([picture, np.full_like(picture, 20), np.full_like(picture, 30)]).astype(np.uint8)
    write_raster(tmp_path / "1_mask.png", mask)
    write_raster(tmp_path / "1_sat.jpg", noise(3, 40, 40))
    pair = open_dataset(tmp_path, legend=legend).pairs[0]
    assert np.array_equal(reference_codes(pair, pair.whole), codes)


@pytest.mark.parametrize(("strays", "is_refused"), [(7, False), (8, True)])
def test_few_stray_colours_are_ignored_and_many_are_refused(
    tmp_path: Path, make_tile: MakeTile, strays: int, *, is_refused: bool
) -> None:
    codes = make_tile(tmp_path, "7", (96, 80))
    picture = COLORS[codes].transpose(2, 0, 1).copy()
    picture[:, 5, :strays] = np.array([250, 3, 1])[:, None]
    write_raster(tmp_path / "7_mask.png", picture)
    pair = open_dataset(tmp_path, tolerance=7 / (96 * 80)).pairs[0]
    if is_refused:
        with pytest.raises(SceneError, match=re.escape("8 pixels (0.10%) with rgb(250,3,1)")):
            reference_codes(pair, pair.whole)
        return
    found = reference_codes(pair, pair.whole)
    codes[5, :strays] = 255
    assert np.array_equal(found, codes)
    assert "7 pixels" in (check_labels(pair) or "")


def test_a_mask_damaged_by_jpeg_is_refused_and_not_rounded(tmp_path: Path, make_tile: MakeTile) -> None:
    codes = make_tile(tmp_path, "7")
    (tmp_path / "7_mask.png").unlink()
    write_raster(tmp_path / "7_mask.jpg", COLORS[codes].transpose(2, 0, 1))
    pair = open_dataset(tmp_path).pairs[0]
    with pytest.raises(SceneError, match="not in the legend; at most"):
        reference_codes(pair, pair.whole)


def test_transparent_pixels_have_no_label_and_are_no_strays(tmp_path: Path, make_tile: MakeTile) -> None:
    codes = make_tile(tmp_path, "7")
    opaque = np.full((1, *codes.shape), 255, np.uint8)
    opaque[0, :10] = 0
    picture = COLORS[codes].transpose(2, 0, 1).copy()
    picture[:, :10] = 77
    write_raster(tmp_path / "7_mask.png", np.concatenate([picture, opaque]))
    pair = open_dataset(tmp_path).pairs[0]
    codes[:10] = 255
    assert np.array_equal(reference_codes(pair, pair.whole), codes)


def test_a_mask_with_a_colour_table_is_read_by_its_colours(tmp_path: Path, make_tile: MakeTile) -> None:
    codes = make_tile(tmp_path, "7")
    order = np.array([4, 2, 0, 1, 3, 6, 5], np.uint8)  # the order of the table does not matter
    table = {int(order[code]): (*map(int, COLORS[code]), 255) for code in range(7)}
    path = tmp_path / "7_mask.tif"
    (tmp_path / "7_mask.png").unlink()
    with rasterio.open(path, "w", driver="GTiff", count=1, height=96, width=80, dtype="uint8") as dataset:
        dataset.write(order[codes], 1)
        dataset.write_colormap(1, table)
    pair = open_dataset(tmp_path).pairs[0]
    assert np.array_equal(reference_codes(pair, pair.whole), codes)


def test_folders_say_the_parts_and_images_without_masks_are_left_out(tmp_path: Path, make_tile: MakeTile) -> None:
    for part, name in (("train", "1"), ("train", "2"), ("valid", "3"), ("test", "4")):
        make_tile(tmp_path / part, name)
    (tmp_path / "test" / "4_mask.png").unlink()
    dataset = open_dataset(tmp_path)
    assert {pair.id: pair.part for pair in dataset.pairs} == {"1": "train", "2": "train", "3": "valid"}
    assert len(dataset.notes) == 1
    assert "1 image without masks" in dataset.notes[0]


def test_metadata_says_the_parts_of_a_flat_folder(tmp_path: Path, make_tile: MakeTile) -> None:
    for name in ("1", "2"):
        make_tile(tmp_path, name)
    rows = "1,train,1_sat.jpg,1_mask.png\n2,valid,2_sat.jpg,2_mask.png\n3,test,3_sat.jpg,\n"
    (tmp_path / "metadata.csv").write_text(f"image_id,split,sat_image_path,mask_path\n{rows}")
    assert [pair.part for pair in open_dataset(tmp_path).pairs] == ["train", "valid"]
    (tmp_path / "metadata.csv").write_text(f'image_id,split\n"{rows}')
    with pytest.raises(SceneError, match=r"metadata\.csv is not a valid table: .*, or remove it"):
        open_dataset(tmp_path)


def test_the_digest_is_of_content_and_not_of_place_or_time(tmp_path: Path, make_tile: MakeTile) -> None:
    for folder in ("here", "there"):
        make_tile(tmp_path / folder, "7")
    first, second = (open_dataset(tmp_path / folder) for folder in ("here", "there"))
    assert first.digest == second.digest
    assert first.pairs[0].stamp() != second.pairs[0].stamp()
    make_tile(tmp_path / "there", "7", seed=1)
    assert open_dataset(tmp_path / "there", gsd_m=0.5).digest != first.digest


def test_missing_partners_are_listed(tmp_path: Path, make_tile: MakeTile) -> None:
    for name in "1234567":
        make_tile(tmp_path, name)
    for name in "123456":
        (tmp_path / f"{name}_mask.png").unlink()
    with pytest.raises(SceneError, match="6 of 7 without mask: 1, 2, 3, 4, 5 and 1 more"):
        open_dataset(tmp_path)
    make_tile(tmp_path / "b", "1")
    make_tile(tmp_path / "b", "2")
    (tmp_path / "b" / "2_sat.jpg").unlink()
    with pytest.raises(SceneError, match="1 of 2 without image: 2"):
        open_dataset(tmp_path / "b")


def test_bad_folders_get_one_clear_line(tmp_path: Path, make_tile: MakeTile) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SceneError, match="no imagery with labels"):
        open_dataset(tmp_path / "empty")
    with pytest.raises(SceneError, match="no such file or folder"):
        open_dataset(tmp_path / "absent")
    make_tile(tmp_path / "unlabelled", "1")
    (tmp_path / "unlabelled" / "1_mask.png").unlink()
    with pytest.raises(SceneError, match="images but no mask"):
        open_dataset(tmp_path / "unlabelled")
    make_tile(tmp_path / "twice" / "train", "1")
    make_tile(tmp_path / "twice" / "valid", "1")
    with pytest.raises(SceneError, match="have the same id '1'"):
        open_dataset(tmp_path / "twice")


def test_masks_that_cannot_be_masks_get_one_clear_line(tmp_path: Path, make_tile: MakeTile) -> None:
    codes = make_tile(tmp_path, "7")
    write_raster(tmp_path / "7_mask.png", COLORS[codes].transpose(2, 0, 1)[:, :-1])
    with pytest.raises(SceneError, match="is 95 x 80 pixels, its scene 96 x 80"):
        open_dataset(tmp_path)
    write_raster(tmp_path / "7_mask.png", codes[None])
    with pytest.raises(SceneError, match=r"has 1 band; a color mask has red, green and blue; .* called NNN_label"):
        open_dataset(tmp_path)
    (tmp_path / "7_mask.png").rename(tmp_path / "7_label.png")
    pair = open_dataset(tmp_path).pairs[0]
    assert np.array_equal(reference_codes(pair, pair.whole), codes)
    (tmp_path / "7_label.png").unlink()
    (tmp_path / "7_mask.png").write_bytes(b"")
    with pytest.raises(SceneError, match="empty"):
        open_dataset(tmp_path)
    twins = Legend((LandCover(0, "a", (1, 1, 1)), LandCover(1, "b", (1, 1, 1))))
    make_tile(tmp_path, "7")
    with pytest.raises(UsageError, match="a and b share the color"):
        open_dataset(tmp_path, legend=twins)
