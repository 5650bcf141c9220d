"""Crops of a mixture: shares, pixel sizes, images side by side, and limits of resampling."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from geoseg.dataset import open_dataset, split
from geoseg.errors import SceneError, UsageError
from geoseg.legend import NODATA
from geoseg.raster import Patch, Window
from geoseg.training import Recipe
from geoseg.training.data_loader import MixedCrops, crops_of, resampled
from geoseg.training.network import target_table
from geoseg.training.plan import TrainingPlan, plan_training
from tests.training.mixed import RECIPE, write_mixture


def plan_of(file: Path, recipe: Recipe = RECIPE) -> TrainingPlan:
    dataset = open_dataset(file)
    return plan_training(dataset, split(dataset), recipe, file.parent / "cache", lambda _line: None)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> TrainingPlan:
    return plan_of(write_mixture(tmp_path_factory.mktemp("mixture")))


def test_each_data_set_has_its_share_of_the_crops(plan: TrainingPlan) -> None:
    crops, generator, count = crops_of(plan), np.random.default_rng(0), 400
    found = Counter(crops.take(generator, 0).place.partition("/")[0] for _ in range(count))
    assert abs(found["tiles"] / count - 0.6) < 4 * (0.6 * 0.4 / count) ** 0.5


def test_pixel_sizes_are_drawn_alike_on_a_logarithmic_scale(plan: TrainingPlan) -> None:
    crops, generator = crops_of(plan), np.random.default_rng(1)
    assert isinstance(crops, MixedCrops)
    sizes = np.array([crops._sources[0].draw_size_m(generator) for _ in range(500)])
    assert (sizes.min() >= 0.4, sizes.max() <= 1.2) == (True, True)
    assert kstest(np.log(sizes / 0.4) / np.log(3), "uniform").pvalue > 0.01


@pytest.mark.parametrize("margin_px", [0, 7])
def test_a_crop_shows_as_much_ground_as_its_pixel_size_says(tmp_path: Path, margin_px: int) -> None:
    """Squares of 16 px at 0.5 m become squares of 8 px at 1 m, each of one class."""
    plan = plan_of(write_mixture(tmp_path, tiles={"gsd_m": 1.0, "share": 1}, whole={"share": 1e-6}))
    crops, generator = crops_of(plan), np.random.default_rng(2)
    edge_px = RECIPE.crop_px + 2 * margin_px
    for _ in range(5):
        crop = crops.take(generator, margin_px)
        assert crop.data.shape == (3, edge_px, edge_px)
        inside = slice(margin_px, edge_px - margin_px)
        codes = crop.codes[inside, inside]
        assert crop.valid[inside, inside].all()
        assert (codes == np.kron(codes[4::8, 4::8], np.ones((8, 8), np.uint8))).all()
        assert (crop.codes[~crop.valid] == NODATA).all()


def test_images_side_by_side_fill_a_crop(plan: TrainingPlan) -> None:
    """40 px of 0.5 m at 0.5 to 0.8 m take 25 to 40 px, so a crop of 64 px holds 4 or 9 images, each of one label."""
    crops, generator = crops_of(plan), np.random.default_rng(3)
    assert isinstance(crops, MixedCrops)
    several = 0
    for _ in range(30):
        crop = crops._side_by_side(crops._sources[1], 0.7, generator, 0)
        labels = np.unique(crop.codes)
        several += len(labels) > 1
        assert crop.valid.all()
        assert NODATA not in labels
    assert several > 15
    again = crops_of(plan).take(np.random.default_rng(9), 3), crops_of(plan).take(np.random.default_rng(9), 3)
    assert all(np.array_equal(one, other) for one, other in zip(*again, strict=True))


def test_images_of_a_class_that_weighs_twice_are_drawn_twice_as_often(plan: TrainingPlan) -> None:
    crops, generator, count = crops_of(plan), np.random.default_rng(4), 900
    assert isinstance(crops, MixedCrops)
    sampler = crops._sources[1].sampler
    found = Counter(sampler.scenes[sampler.pixel(generator)[0]].id.split("/")[1] for _ in range(count))
    assert abs(found["woods"] / count - 0.5) < 4 * 0.5 / count**0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(20, 20), (40, 40), (15, 12), (64, 50)])
def test_resampling_keeps_flat_ground_and_takes_nothing_from_invalid_pixels(
    dtype: type[np.generic], shape: tuple[int, int]
) -> None:
    draw = np.random.default_rng(5)
    data, valid = np.full((2, 40, 40), 77, dtype), np.ones((40, 40), np.bool_)
    codes = np.kron(draw.integers(0, 5, (10, 10)), np.ones((4, 4))).astype(np.uint8)
    valid[10:22, 5:30] = False
    data[:, ~valid] = 200
    for mask in (valid, np.ones_like(valid)):
        values = np.where(mask, data, data) if mask is valid else np.full_like(data, 77)
        patch, found = resampled(Patch(values, mask), codes, shape)
        assert patch.data.dtype == dtype
        np.testing.assert_allclose(patch.data[:, patch.valid], 77, rtol=1e-6)
        rows, cols = (((np.arange(new) + 0.5) * 40 / new).astype(int) for new in shape)
        wanted = codes[np.ix_(rows, cols)]
        assert (found[patch.valid] == wanted[patch.valid]).all()
        share = patch.valid.mean() - mask.mean()
        assert abs(share) < 0.05


def test_resampling_averages_what_it_leaves_out() -> None:
    data = np.random.default_rng(6).integers(0, 256, (1, 64, 64)).astype(np.uint8)
    small, _ = resampled(Patch(data, np.ones((64, 64), np.bool_)), np.zeros((64, 64), np.uint8), (16, 16))
    blocks = data.reshape(1, 16, 4, 16, 4).mean(axis=(2, 4))
    assert np.corrcoef(small.data.ravel(), blocks.ravel())[0, 1] > 0.85
    assert small.data.std() < data.std() / 2.5


def test_rare_classes_are_drawn_alike_and_sets_of_classes_are_no_aim(tmp_path: Path) -> None:
    plan = plan_of(write_mixture(tmp_path), RECIPE.changed(rare=1.0))
    crops, generator, count = crops_of(plan), np.random.default_rng(8), 600
    assert isinstance(crops, MixedCrops)
    sampler = crops._sources[0].sampler
    drawn = Counter[int]()
    for _ in range(count):
        place, row, col = sampler.pixel(generator)
        drawn[int(sampler.scenes[place].codes(Window(row, col, 1, 1))[0, 0])] += 1
    classes = {code for scene in sampler.scenes for code in scene.class_codes} & {*plan.output_codes}
    assert drawn.keys() == classes
    assert max(drawn.values()) - min(drawn.values()) < 6 * (count / len(classes)) ** 0.5


def test_the_network_aims_at_the_sets_of_what_it_learns(tmp_path: Path) -> None:
    file = write_mixture(tmp_path)
    plan = plan_of(file)
    dataset = open_dataset(file)
    channels = dict(plan.sets)
    for code, classes in dataset.sets:
        assert channels[code] == tuple(plan.output_codes.index(each) for each in classes)
    table = target_table(plan.output_codes, plan.sets)
    assert sorted(table[[code for code, _ in plan.sets]]) == list(range(6, 6 + len(plan.sets)))
    fewer = plan_of(file, RECIPE.changed(ignore=("unknown", "rangeland", "barren_land")))
    certain = target_table(fewer.output_codes, fewer.sets)
    for code, classes in dataset.sets:
        left = [fewer.output_codes.index(each) for each in classes if each in fewer.output_codes]
        assert len(left) != 1 or certain[code] == left[0]
    with pytest.raises(UsageError, match=r"may be .* hold no class that is trained"):
        plan_of(file, RECIPE.changed(ignore=("unknown", "water", "barren_land")))


def test_the_weights_of_classes_follow_what_is_shown(plan: TrainingPlan, tmp_path: Path) -> None:
    """Classes that are rarer in the crops weigh more; a class without a certain pixel weighs nothing."""
    recipe = RECIPE.changed(weights="auto", rare=0.0)
    weighed = plan_of(write_mixture(tmp_path), recipe)
    assert plan.class_weights is None
    assert weighed.class_weights is not None
    crops, generator, shown = crops_of(weighed), np.random.default_rng(7), np.zeros(256)
    assert isinstance(crops, MixedCrops)
    for one in crops._sources:
        for _ in range(1500):
            place, row, col = one.sampler.pixel(generator)
            shown[one.sampler.scenes[place].codes(Window(row, col, 1, 1))] += one.member.share
    weights = np.array(weighed.class_weights)
    pixels = shown[list(weighed.output_codes)]
    assert ((weights > 0) == (pixels > 0)).all()
    both = (weights * pixels)[pixels > 0]
    assert both.max() < 1.4 * both.min()


@pytest.mark.parametrize("weights", ["none", "auto"])
def test_a_data_set_without_a_pixel_to_draw_is_named(tmp_path: Path, weights: str) -> None:
    (tmp_path / "parts.csv").write_text(
        "".join(f"{name}/{at},{part}\n" for name, part in (("woods", "train"), ("shore", "valid")) for at in range(3)),
        encoding="utf-8",
    )
    plan = plan_of(
        write_mixture(tmp_path, whole={"weights": {"woods": 0}, "split": "parts.csv"}), RECIPE.changed(weights=weights)
    )
    with pytest.raises(SceneError, match="data set whole has no training pixel with a class to learn; check its"):
        crops_of(plan)


@pytest.mark.parametrize(
    ("changed", "recipe", "wanted"),
    [
        ({"data_gsd_m": "-"}, RECIPE, "data set whole: the pixel size of .* is unknown; add data_gsd_m"),
        ({}, RECIPE.changed(gsd_m=None, size_px=64), "give `size_px=None`"),
    ],
)
def test_sizes_must_be_known(tmp_path: Path, changed: dict[str, object], recipe: Recipe, wanted: str) -> None:
    with pytest.raises(UsageError, match=wanted):
        plan_of(write_mixture(tmp_path, whole=changed), recipe)
