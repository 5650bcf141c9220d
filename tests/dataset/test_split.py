"""Splits: sizes, disjoint parts, reproducible from a seed, and blocks that keep their distance."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.warp import transform

from geoseg.dataset import PARTS, Area, Dataset, Pair, Split, check_rule, default_rule, open_dataset, split
from geoseg.dataset.area import covered
from geoseg.dataset.blocks import _GAP_SHARE
from geoseg.dataset.dataset import published_split
from geoseg.dataset.pair import reference_codes
from geoseg.errors import UsageError
from geoseg.raster import Window

from .conftest import NORTH_UP, MakeTile, noise, patchwork, write_raster

MakePair = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def model_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Return a data set in the DeepGlobe layout with a single tile."""
    folder = tmp_path_factory.mktemp("deepglobe")
    codes = patchwork((16, 16), 1)
    write_raster(folder / "1_sat.jpg", noise(3, 16, 16))
    write_raster(folder / "1_mask.png", np.stack([codes, codes + 255, codes + 255]).astype(np.uint8))
    return open_dataset(folder)


def _with_ids(dataset: Dataset, ids: list[str]) -> Dataset:
    pair = dataset.pairs[0]
    return replace(dataset, pairs=tuple(replace(pair, id=name) for name in sorted(ids)))


def _sizes(found: Split) -> list[int]:
    return [len(found.part(part)) for part in PARTS]


def test_the_published_split_has_its_sizes_and_shares_no_image(model_dataset: Dataset) -> None:
    published = published_split()
    assert Counter(published.values()) == {"train": 454, "valid": 207, "test": 142}
    dataset = _with_ids(model_dataset, list(published))
    assert default_rule(dataset)[0] == "published"
    found = split(dataset)
    assert _sizes(found) == [454, 207, 142]
    assert all(published[area.pair_id] == "test" for area in found.test)


def test_the_packages_lists_are_those_of_the_shared_data(shared_data: Path) -> None:
    published = published_split()
    for part, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        lines = (shared_data / "deepglobe" / "splits" / f"glnet_{name}.txt").read_text().split()
        assert {line.removesuffix("_sat.jpg") for line in lines} == {
            id_ for id_, its in published.items() if its == part
        }


def test_the_published_split_is_refused_for_other_scenes(model_dataset: Dataset) -> None:
    some = sorted(id_ for id_, part in published_split().items() if part == "train")[:9]
    dataset = _with_ids(model_dataset, some)
    with pytest.raises(UsageError, match=r"9 of 454 train, 0 of 207 valid, 0 of 142 test\); use random:0.8"):
        split(dataset, "published")
    rule, why = default_rule(dataset)
    assert rule == "random:0.8"
    assert "9 of 454" in why
    with pytest.raises(UsageError, match="it lacks 1 of 10 scenes: mine"):
        split(_with_ids(model_dataset, [*some, "mine"]), "published")


@given(st.integers(3, 60), st.floats(0.05, 0.95), st.integers(0, 99), st.sampled_from([0.5, 0.3, 1.0]))
@settings(max_examples=60, deadline=None)
def test_random_parts_are_nested_and_none_is_empty(
    model_dataset: Dataset, count: int, ratio: float, seed: int, valid_share: float
) -> None:
    dataset = _with_ids(model_dataset, [f"s{i}" for i in range(count)])
    found = split(dataset, f"random:{ratio}", seed=seed, valid_share=valid_share)
    sizes = _sizes(found)
    assert sum(sizes) == count
    assert min(sizes[:2]) >= 1
    assert (sizes[2] == 0) == (valid_share == 1)
    assert abs(sizes[0] - ratio * count) <= 2
    assert split(dataset, f"random:{ratio}", seed=seed, valid_share=valid_share) == found


def test_random_is_80_10_10_and_another_seed_is_another_split(model_dataset: Dataset) -> None:
    dataset = _with_ids(model_dataset, [f"s{i}" for i in range(100)])
    first, second = (split(dataset, "random:0.8", seed=seed) for seed in (1, 2))
    assert _sizes(first) == _sizes(second) == [80, 10, 10]
    assert first.digest != second.digest
    assert first.digest == split(dataset, "random:0.8", seed=1).digest


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.txt", "a,train\nb.tif,val\nc_sat.jpg,test\n"),
        ("s.csv", "image_id;split\na;train\nb;valid\nc;test\n"),
        ("cells.csv", "note,id,split,taken\n,a,train,test\nx,b,valid,\n,c,test,\n"),
        ("blanks.txt", "a   train\nb  val\nc test\n"),
        ("s.json", '{"train": ["a"], "valid": ["b_sat.jpg"], "test": ["c"]}'),
    ],
)
def test_files_of_ids(tmp_path: Path, model_dataset: Dataset, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    found = split(_with_ids(model_dataset, ["a", "b", "c", "d"]), str(path))
    assert [found.part(part) for part in PARTS] == [(Area("a"),), (Area("b"),), (Area("c"),)]


def test_a_folder_of_lists_is_a_file_of_ids(tmp_path: Path, model_dataset: Dataset) -> None:
    dataset = _with_ids(model_dataset, ["a", "b", "c", "d"])
    lists = {"TRAIN": "# ours\na\n\n", "val": "/camvid/val/b.png /camvid/valannot/b.png\n", "test": "c_mask.png  1\n"}
    for name, text in (lists | {"trainval": "a\nb\n", "readme": "d"}).items():
        (tmp_path / f"{name}.txt").write_text(text)
    found = split(dataset, str(tmp_path))
    assert [found.part(part) for part in PARTS] == [(Area("a"),), (Area("b"),), (Area("c"),)]
    with pytest.raises(UsageError, match=r"of lists of one part each, as train.txt and val.txt, give the folder"):
        split(dataset, str(tmp_path / "trainval.txt"))
    with pytest.raises(UsageError, match="neither a rule nor a file"):
        split(dataset, "")
    (tmp_path / "valid.txt").write_text("d\n")
    with pytest.raises(UsageError, match="val and valid mean the same part"):
        split(dataset, str(tmp_path))
    (tmp_path / "valid.txt").write_bytes(b"\xff\n")
    with pytest.raises(UsageError, match=r"valid.txt is not UTF-8 text"):
        split(dataset, str(tmp_path))


def test_lists_and_files_of_ids_take_names_with_blanks_folders_and_any_extension(
    tmp_path: Path, model_dataset: Dataset
) -> None:
    dataset = _with_ids(model_dataset, ["New York, 1", "uavid/seq1/000", "a"])
    (tmp_path / "train.txt").write_text("New York, 1\n")
    (tmp_path / "val.txt").write_text("uavid/seq1/000.png\n")
    (tmp_path / "test.txt").write_text("images\\a.jp2 labels\\a_L.png\n")
    found = split(dataset, str(tmp_path))
    assert [found.part(part) for part in PARTS] == [(Area("New York, 1"),), (Area("uavid/seq1/000"),), (Area("a"),)]


def test_a_line_of_two_scenes_in_a_list_means_the_first(tmp_path: Path, model_dataset: Dataset) -> None:
    dataset = _with_ids(model_dataset, ["2018_n", "2019_n", "2018_s"])
    (tmp_path / "train.txt").write_text("images/2018_n.png images/2019_n.png\n")
    (tmp_path / "val.txt").write_text("2018_s.png, 2019_n.png\n")
    found = split(dataset, str(tmp_path))
    assert (found.train, found.valid) == ((Area("2018_n"),), (Area("2018_s"),))


def test_a_folder_named_like_a_rule_does_not_hide_what_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blocks").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"did you mean blocks:0.2\?"):
        check_rule("blocks")


def test_a_split_survives_as_json(tmp_path: Path, model_dataset: Dataset) -> None:
    dataset = _with_ids(model_dataset, ["a", "b"])
    made = Split("mine", (Area("a"), Area("b", Window(0, 0, 4, 16))), (Area("b", Window(6, 0, 10, 16)),), ())
    path = tmp_path / "split.json"
    path.write_text(json.dumps(made.to_json()))
    found = split(dataset, str(path))
    assert found.digest == made.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,train\na,valid\n", "overlaps: a in train and valid"),
        ('{"train": ["a"], "valid": ["b"], "train": []}', "'train' occurs twice"),
        ('{"train": ["a"], "val": ["b"], "valid": ["c"]}', "val and valid mean the same part; give it once"),
        ("a,train\na,train\n", "overlaps: a twice in train;"),
        ("a,train\nz,valid\n", "lacks 1 scene of it: z"),
        ("a,train\nb,holdout\n", "got 'holdout'"),
        ("a\n", "a line must be `id,part`"),
        ("", "names no scene"),
        pytest.param(f"a,{'x' * 200_000}\n", "it is not a table that can be read: .*field limit", id="a long field"),
    ],
)
def test_bad_files_of_ids_get_one_clear_line(tmp_path: Path, model_dataset: Dataset, text: str, message: str) -> None:
    path = tmp_path / ("split.json" if text.startswith("{") else "split.txt")
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        split(_with_ids(model_dataset, ["a", "b"]), str(path))


@pytest.mark.parametrize("rule", ["random", "random:1.5", "random:x", "blocks:0", "published:3", "nonsense", "folders"])
def test_bad_rules_get_one_clear_line(model_dataset: Dataset, rule: str) -> None:
    with pytest.raises(UsageError, match=r"split") as caught:
        split(_with_ids(model_dataset, ["a", "b"]), rule)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "meant"),
    [("randon:0.7", "random:0.7"), ("Random", "random:0.8"), ("block:x", "blocks:x"), ("publisht", "published")],
)
def test_a_rule_that_is_nearly_one_is_named_without_a_data_set(rule: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"is neither a rule nor a file \(did you mean {meant}\?\); give published"):
        check_rule(rule)


def test_folders_are_the_default_where_all_have_masks(tmp_path: Path, make_tile: MakeTile) -> None:
    for part, name in (("train", "1"), ("train", "2"), ("valid", "3"), ("test", "4")):
        make_tile(tmp_path / part, name)
    dataset = open_dataset(tmp_path)
    assert default_rule(dataset)[0] == "folders"
    assert _sizes(split(dataset)) == [2, 1, 1]
    assert _sizes(split(dataset, "all")) == [4, 0, 0]


@pytest.mark.parametrize("is_placed", [False, True])
def test_a_test_folder_is_kept_apart_though_none_validates(tmp_path: Path, *, is_placed: bool) -> None:
    """As in data sets of train/ and test/ alone: a share of train/ validates."""
    profile = (
        {"crs": "EPSG:32633", "transform": NORTH_UP}
        if is_placed
        else {"crs": None, "transform": Affine(1, 0, 0, 0, -1, 0)}
    )
    for part, name in (("train", "1"), ("train", "2"), ("train", "3"), ("train", "4"), ("test", "5"), ("test", "6")):
        write_raster(tmp_path / part / "images" / f"{name}.tif", noise(3, 128, 128), **profile)
        write_raster(tmp_path / part / "masks" / f"{name}.tif", patchwork((128, 128), 3)[None], **profile)
    dataset = open_dataset(tmp_path)
    assert default_rule(dataset)[0] == "folders"
    found = split(dataset)
    assert {area.pair_id for area in found.test} == {"5", "6"}
    assert all(area.window is None for area in found.test)
    assert {area.pair_id for area in (*found.train, *found.valid)} == {"1", "2", "3", "4"}
    assert found.train
    assert found.valid
    assert found == split(dataset, "folders")
    assert default_rule(dataset)[1].endswith("train and test; a share of those of train/ validates")


def test_windows_that_overlap_across_parts_are_refused() -> None:
    with pytest.raises(UsageError, match="overlaps: a in train and test"):
        Split("x", (Area("a", Window(0, 0, 5, 5)),), (), (Area("a", Window(4, 4, 5, 5)),))
    Split("x", (Area("a", Window(0, 0, 5, 5)),), (), (Area("a", Window(5, 5, 5, 5)),))


@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 8)] * 2), min_size=1, max_size=5),
    st.lists(st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 8)] * 2), max_size=5),
)
def test_rectangles_cover_what_a_bitmap_says_and_share_no_pixel(
    keep: list[tuple[int, int, int, int]], holes: list[tuple[int, int, int, int]]
) -> None:
    expected, found = np.zeros((20, 20), int), np.zeros((20, 20), int)
    for windows, value in ((keep, 1), (holes, 0)):
        for window in windows:
            expected[Window(*window).rows, Window(*window).cols] = value
    for window in covered([Window(*each) for each in keep], [Window(*each) for each in holes]):
        found[window.rows, window.cols] += 1
    assert np.array_equal(found, expected)


def _masks(dataset: Dataset, found: Split) -> dict[tuple[str, str], np.ndarray]:
    """Return (pair, part) -> mask (row, col) of the pixels in the part."""
    masks = {(pair.id, part): np.zeros(pair.scene.shape, bool) for pair in dataset.pairs for part in PARTS}
    for part in PARTS:
        for area in found.part(part):
            assert area.window is not None
            mask = masks[area.pair_id, part][area.window.rows, area.window.cols]
            assert not mask.any()
            mask[:] = True
    return masks


def _on_ground(pair: Pair, mask: np.ndarray) -> np.ndarray:
    """Return the centers (n, 2) of the masked pixels in UTM meters."""
    rows, cols = np.nonzero(mask)
    xs, ys = pair.scene.geobox.transform @ (cols + 0.5, rows + 0.5)
    xs, ys = transform(pair.scene.geobox.crs, "EPSG:32618", xs, ys)
    return np.column_stack([xs, ys])


def _least_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the smallest Chebyshev distance between two sets of points."""
    from scipy.spatial import cKDTree  # noqa: PLC0415

    return float(cKDTree(other).query(one, p=np.inf)[0].min())


@pytest.mark.parametrize("seed", [0, 1])
def test_blocks_keep_their_distance_on_the_ground_across_scenes(tmp_path: Path, make_pair: MakePair, seed: int) -> None:
    make_pair("one")
    make_pair("beside", east_px=165, seed=1)
    make_pair("overlapping", east_px=81, seed=2)
    turned = CRS.from_epsg(4326)
    place = Affine(1e-4, 0, -74.99, 0, -1e-4, 36.14)
    make_pair("degrees", seed=3, crs=turned, transform=place)
    dataset = open_dataset(tmp_path)
    assert default_rule(dataset)[0] == "blocks:0.2"
    found = split(dataset, "blocks:0.2", seed=seed)
    masks = _masks(dataset, found)
    points = {
        part: np.concatenate([_on_ground(pair, masks[pair.id, part]) for pair in dataset.pairs]) for part in PARTS
    }
    assert all(len(part) for part in points.values())
    share = (len(points["valid"]) + len(points["test"])) / sum(pair.whole.size for pair in dataset.pairs)
    assert 0.1 < share < 0.35
    whole = np.concatenate([_on_ground(pair, np.ones(pair.scene.shape, bool)) for pair in dataset.pairs])
    edge = np.sqrt(np.prod(np.ptp(whole, axis=0)) / 64)
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert _least_distance(points[one], points[other]) > _GAP_SHARE * edge * 0.5


def test_blocks_of_one_scene_are_as_far_apart_as_the_margin_says(tmp_path: Path) -> None:
    shape = (320, 320)
    scene = write_raster(tmp_path / "scene.tif", noise(1, *shape, dtype="uint16"))
    labels = patchwork(shape, 4) + 1
    labels[:, :80] = 0
    truth = write_raster(tmp_path / "truth.tif", labels[None], nodata=0)
    dataset = open_dataset(scene, labels=truth)
    found = split(dataset, "blocks:0.25", seed=3)
    masks = _masks(dataset, found)
    name = dataset.pairs[0].id
    held = masks[name, "valid"] | masks[name, "test"]
    for part in ("valid", "test"):
        for area in found.part(part):
            assert area.window is not None
            codes = reference_codes(dataset.pairs[0], area.window)
            assert (codes != 255).any()
    rows, cols = np.nonzero(masks[name, "train"])
    others = np.argwhere(held)
    assert _least_distance(np.column_stack([rows, cols]), others) > 40 * _GAP_SHARE  # blocks are 40 px
    valid, test = (np.argwhere(masks[name, part]) for part in ("valid", "test"))
    assert _least_distance(valid, test) > 40 * _GAP_SHARE
    labelled = labels != 0
    assert 0.15 < (held & labelled).sum() / labelled.sum() < 0.35
    assert set(np.unique(labels[held & labelled])) == {1, 2, 3, 4}
    assert split(dataset, "blocks:0.25", seed=3) == found
    assert split(dataset, "blocks:0.25", seed=4) != found


def test_blocks_need_labels_in_more_than_one_place(tmp_path: Path) -> None:
    scene = write_raster(tmp_path / "scene.tif", noise(1, 200, 200, dtype="uint16"), transform=NORTH_UP)
    labels = np.zeros((1, 200, 200), np.uint8)
    labels[0, 5, 5] = 1
    truth = write_raster(tmp_path / "truth.tif", labels, nodata=0)
    with pytest.raises(UsageError, match="needs labels in 3 blocks of the ground, but they lie in 1;"):
        split(open_dataset(scene, labels=truth), "blocks:0.2")
    elsewhere = write_raster(tmp_path / "elsewhere.tif", labels, transform=NORTH_UP @ NORTH_UP.translation(900, 0))
    with pytest.raises(UsageError, match=r"no valid pixel of scene.tif has a label, .* labels lie on the scenes"):
        split(open_dataset(scene, labels=elsewhere), "blocks:0.2")


def test_a_notebook_shows_data_set_and_split_as_text_in_few_lines(tmp_path: Path, make_tile: MakeTile) -> None:
    folder = tmp_path / "<b>tiles"
    for part, names in (("train", "abc"), ("valid", "d")):
        (folder / part).mkdir(parents=True)
        for name in names:
            make_tile(folder / part, name, (96, 80 if name != "c" else 112))
    dataset = open_dataset(folder)
    parts = split(dataset)
    assert repr(dataset) == "Dataset('<b>tiles', 4 scenes, red, green, blue uint8, 0.5 m, 7 classes)"
    assert repr(parts) == "Split('folders', train: 3 scenes, valid: 1 scene, test: nothing)"
    card = dataset._repr_html_()
    for said in ("4 (train: 3, valid: 1)", "96 rows, 80 columns to 96 rows, 112 columns", "0.5 m", "&lt;b&gt;tiles"):
        assert f">{said}</td>" in card
    assert all(f"#{bytes(one.color).hex()}" in card for one in dataset.legend)
    assert "<b>" not in card
    assert ">3 scenes</td>" in parts._repr_html_()


def test_a_part_of_windows_says_how_many() -> None:
    places = tuple(Area(name, Window(0, 64 * place, 32, 32)) for name in "ab" for place in range(3))
    made = Split("mine", places[:4], (Area("c"), Area("d", Window(0, 0, 9, 9))), ())
    said = "train: 4 windows of 2 scenes, valid: 1 scene and 1 window of 1 scene, test: nothing"
    assert repr(made) == f"Split('mine', {said})"
