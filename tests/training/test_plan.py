"""Refusals and messages before a training begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from geoseg.dataset import open_dataset, split
from geoseg.errors import GeosegError, SceneError, UsageError
from geoseg.legend import DEEPGLOBE, LandCover, Legend
from geoseg.training import Recipe, train
from geoseg.training.plan import TrainingPlan, plan_training
from tests.training.tiny import TINY, tiny_plan, write_data, write_picture


def write_scenes(folder: Path, *scenes: tuple[int, float | None]) -> Path:
    """Write square pairs, given their side in pixels and their pixel size in meters, or None for no georeference."""
    draw = np.random.default_rng(0)
    for place in ("images", "labels"):
        (folder / place).mkdir(parents=True)
    for number, (side_px, gsd_m) in enumerate(scenes):
        shape: dict[str, Any] = {"height": side_px, "width": side_px, "driver": "GTiff", "dtype": "uint8"}
        if gsd_m is not None:
            shape |= {"crs": "EPSG:32632", "transform": from_origin(5e5 + 1e4 * number, 5e6, gsd_m, gsd_m)}
        with rasterio.open(folder / "images" / f"{number}.tif", "w", count=3, **shape) as image:
            image.write(draw.integers(0, 256, (3, side_px, side_px)).astype(np.uint8))
        with rasterio.open(folder / "labels" / f"{number}.tif", "w", count=1, **shape) as labels:
            labels.write(draw.integers(1, 3, (1, side_px, side_px)).astype(np.uint8))
    return folder


def planned(data: Path, **options: Any) -> tuple[TrainingPlan, list[str]]:
    """Return the plan of a training on all of the data, and its messages."""
    dataset, lines = open_dataset(data), list[str]()
    cache = data.parent / f"{data.name}.cache"
    return plan_training(dataset, split(dataset, "all"), TINY.changed(**options), cache, lines.append), lines


def write_floats(folder: Path, *, mean: float, std: float) -> Path:
    draw = np.random.default_rng(0)
    for place in ("images", "labels"):
        (folder / place).mkdir(parents=True)
    for name in ("a", "b"):
        shape: dict[str, Any] = {"height": 64, "width": 64, "driver": "GTiff"}
        with rasterio.open(folder / "images" / f"{name}.tif", "w", count=3, dtype="float32", **shape) as image:
            image.write((mean + std * draw.standard_normal((3, 64, 64))).astype(np.float32))
        with rasterio.open(folder / "labels" / f"{name}.tif", "w", count=1, dtype="uint8", **shape) as labels:
            labels.write(draw.integers(1, 5, (1, 64, 64)).astype(np.uint8))
    return folder


def test_a_dict_is_a_legend(tmp_path: Path) -> None:
    data = write_floats(tmp_path / "data", mean=0.0, std=1.0)
    with pytest.raises(SceneError, match="not in the legend"):
        train(data, tmp_path / "m.safetensors", recipe=TINY, legend={8: "a", 9: "b"}, cache=tmp_path / "cache")


def test_imagery_that_was_normalized_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="looks normalized already"):
        tiny_plan(write_floats(tmp_path / "z", mean=0.02, std=1.0))
    assert tiny_plan(write_floats(tmp_path / "reflectance", mean=0.3, std=0.05)).dtype == "float32"


def test_a_band_of_one_value_needs_a_normalization_of_its_own(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "data", (64, None))
    with rasterio.open(data / "images" / "0.tif", "r+") as image:
        image.write(np.full((64, 64), 7, np.uint8), 2)
    with pytest.raises(SceneError, match=r"band 2 .* is 7 everywhere; leave it out .*`bands`, or .*`normalization`"):
        planned(data, normalization="dataset")
    plan, lines = planned(data, normalization="imagenet")
    assert plan.statistics.std[1] == 0
    assert "band 2 of the training imagery is 7 everywhere" in lines


def test_a_class_without_a_pixel_is_said(tmp_path: Path) -> None:
    data, lines = write_data(tmp_path / "data", classes=4), list[str]()
    dataset = open_dataset(data)
    plan_training(dataset, split(dataset), TINY, tmp_path / "cache", lines.append)
    assert any(line.startswith("no training pixel is water, barren_land") for line in lines)


@pytest.mark.parametrize("size_px", [None, 32])
def test_a_class_that_larger_pixels_swallow_is_said(tmp_path: Path, size_px: int | None) -> None:
    data, lines = write_data(tmp_path / "data", classes=4), list[str]()
    (mask,) = (data / "valid").glob("*_mask.png")
    with rasterio.open(mask) as file:
        colors = file.read().transpose(1, 2, 0)
    colors[32:34, 32:35] = DEEPGLOBE.by_name("water").color
    write_picture(mask, colors)
    dataset = open_dataset(data)
    plan_training(dataset, split(dataset), TINY.changed(size_px=size_px), tmp_path / "cache", lines.append)
    (line,) = (line for line in lines if line.startswith("no validation pixel is "))
    names, *after = line.partition(":")[0].removeprefix("no validation pixel is ").split(" after ")
    assert ("water" in names.split(", ")) == (size_px is not None)
    assert after == ([] if size_px is None else ["resampling"])


def test_weights_are_those_of_the_output_channels(tmp_path: Path) -> None:
    """Each weight belongs to its channel, though one class is missing in the data and another is ignored."""
    shares = {11: 1, 12: 40, 30: 0, 31: 7, 50: 90, 200: 3}  # pixels in thousands, by code
    labels = np.repeat(list(shares), np.array(list(shares.values())) * 64).astype(np.uint8)
    labels = np.random.default_rng(0).permutation(labels).reshape(64, -1)
    for place, bands in (("images", np.stack([labels] * 3) + 1), ("labels", labels[None])):
        (tmp_path / "data" / place).mkdir(parents=True)
        profile = {"driver": "GTiff", "dtype": "uint8", "height": 64, "width": labels.shape[1], "count": len(bands)}
        with rasterio.open(tmp_path / "data" / place / "a.tif", "w", **profile) as file:
            file.write(bands)
    legend = Legend(tuple(LandCover(code, f"c{code}", (code, 0, 0)) for code in shares))
    dataset = open_dataset(tmp_path / "data", legend=legend)
    recipe = TINY.changed(weights="auto", ignore=("c12", "unknown"))
    plan = plan_training(dataset, split(dataset, "all"), recipe, tmp_path / "cache", lambda _line: None)
    assert plan.output_codes == (11, 30, 31, 50, 200)
    middle = np.median([1, 7, 90, 3])
    expected = [np.clip(middle / shares[code], 0.1, 10) if shares[code] else 0.0 for code in plan.output_codes]
    assert len(set(expected)) == len(expected)
    assert plan.class_weights == pytest.approx(expected)


def test_nothing_to_learn_is_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", classes=1)
    with pytest.raises(SceneError, match="no training pixel of data has a class"):
        tiny_plan(data, replace(TINY, ignore=("unknown", "urban_land")))


def test_parts_that_overlap_are_refused(data: Path, tmp_path: Path) -> None:
    ids = tmp_path / "ids.csv"
    ids.write_text("id,part\n0,train\n1,train\n1,valid\n")
    with pytest.raises(UsageError, match=r"overlaps: 1 in train and valid|twice"):
        train(data, tmp_path / "m.safetensors", recipe=TINY, split_rule=str(ids), device="cpu")
    assert not (tmp_path / "m.safetensors.training").exists()


@pytest.mark.parametrize(("size", "accumulate"), [(8, 1), (4, 2), (3, 3), (1, 8)])
def test_an_epoch_shows_each_pixel_about_once(data: Path, size: int, accumulate: int) -> None:
    plan = tiny_plan(data, replace(TINY, batches=None, batch_size=size, accumulate=accumulate))
    crops = 3 * 128 * 128 / 64**2
    assert plan.batches == int(np.ceil(crops / size))
    assert plan.epoch_steps == int(np.ceil(crops / (size * accumulate)))
    steps = [plan.step_of(batch) for batch in range(plan.total_batches)]
    assert (steps[0], steps[-1]) == (0, plan.steps - 1)
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("options", "parameter"),
    [({"betas": (0.9,)}, "betas"), ({"schedule": "multi-step"}, "milestones"), ({"lr": float("nan")}, "lr")],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], parameter: str) -> None:
    with pytest.raises(UsageError) as refused:
        Recipe(**options)
    assert refused.value.parameter == parameter


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"loss": "cross-entropie"}, "'cross-entropie'"),
        ({"augmentation": "hflop"}, "'hflop'"),
        ({"weights": "1,2"}, "'1,2'"),
        ({"weights": "-1,1,1,1,1,1"}, r"\(-1\.0, "),
        ({"arguments": {"depth": 99}}, "depth .* 99"),
        ({"architecture": "Unet", "encoder": "resnet18", "encoder_weights": "imagenette"}, "'imagenette'"),
        ({"architecture": "DeepLabV3", "encoder": "vgg11"}, "encoder vgg11 .*dilated"),
        ({"normalization": "model"}, "`normalization='model'` needs `init`"),
        ({"norm": "frozen"}, "`norm='frozen'`"),
        ({"init": "absent.safetensors"}, r"absent\.safetensors does not exist"),
        ({"ignore": ("urban_land", "agriculture_land", "rangeland", "forest_land", "water", "unknown")}, "`ignore`"),
    ],
)
def test_options_that_cannot_be_are_refused_before_a_scene_is_decoded(
    data: Path, tmp_path: Path, options: dict[str, Any], named: str
) -> None:
    dataset = open_dataset(data)
    with pytest.raises(GeosegError, match=named):
        plan_training(dataset, split(dataset), TINY.changed(**options), tmp_path / "cache", lambda _line: None)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("option", "size"), [("crop_px", 63), ("window_px", 127)])
def test_a_size_that_cannot_be_is_called_by_its_name(data: Path, tmp_path: Path, option: str, size: int) -> None:
    dataset, recipe = open_dataset(data), TINY.changed(**{option: size})
    with pytest.raises(
        UsageError, match=f"^`{option}` must be a multiple of .* this model, got {size}; try"
    ) as refused:
        plan_training(dataset, split(dataset), recipe, tmp_path / "cache", lambda _line: None)
    assert refused.value.parameter == option


def test_a_class_without_a_name_is_ignored_by_its_code(tmp_path: Path) -> None:
    plan, lines = planned(write_floats(tmp_path / "floats", mean=0.3, std=0.1), ignore=["1", "class 2"])
    assert plan.output_codes == (3, 4)
    assert not [line for line in lines if "`ignore`" in line]


def test_a_name_to_ignore_that_no_class_has_is_said(data: Path) -> None:
    plan, lines = planned(data, ignore=["Unknown", "watr", "Forest_Land"])
    told = [line for line in lines if "`ignore` names" in line]
    assert told == [f"`ignore` names watr, not among the classes {', '.join(plan.legend.names)}"]
    assert [plan.legend.by_code(code).name for code in plan.output_codes] == [
        "urban_land", "agriculture_land", "rangeland", "water", "barren_land"
    ]  # fmt: skip
    assert not any("no class is named" in line for line in planned(data)[1])


@pytest.mark.parametrize(
    ("gsds", "wanted", "gsd_m"),
    [
        ((0.5, 0.5), None, 0.5),
        ((0.5, 0.505), None, 0.5),
        ((0.5, 1.0), None, 1.0),
        ((1.0, 0.5, 0.5), 0.8, 1.0),  # finer than the coarsest is impossible
        ((0.5, 1.0), 2.0, 2.0),
        ((0.5, 0.5), 0.25, 0.5),
        ((None, None), 2.0, None),
    ],
)
def test_all_scenes_are_learnt_from_at_one_pixel_size(
    tmp_path: Path, gsds: tuple[float | None, ...], wanted: float | None, gsd_m: float | None
) -> None:
    plan, lines = planned(write_scenes(tmp_path / "data", *((128, each) for each in gsds)), gsd_m=wanted, crop_px=32)
    assert plan.gsd_m == gsd_m
    for scene, before in zip(plan.train, gsds, strict=True):
        assert gsd_m is None or scene.gsd_m == pytest.approx(gsd_m, rel=0.02)
        assert scene.shape[0] == 128 if gsd_m is None or before is None else round(128 * before / gsd_m)
    is_resampled = any(scene.shape != (128, 128) for scene in plan.train)
    assert any("is resampled to" in line for line in lines) == is_resampled


@pytest.mark.parametrize(
    ("scenes", "options", "message"),
    [
        ([(64, None), (64, None)], {"size_px": 32}, "`size_px=32` changes .* give the pixel size as `data_gsd_m`"),
        (
            [(64, 0.5), (64, 1.0)],
            {"size_px": 32},
            "`size_px=32` makes pixels of 1 m in 0 .* 2 m in 1; .* `gsd_m=2`",
        ),
        ([(64, 0.5), (64, None)], {}, "the pixel size of 1 is unknown.*`data_gsd_m`"),
    ],
)
def test_pixels_of_several_sizes_or_none_are_refused(
    tmp_path: Path, scenes: list[tuple[int, float | None]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        planned(write_scenes(tmp_path / "data", *scenes), crop_px=16, **options)


def test_a_size_in_pixels_makes_one_in_meters(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "data", (64, 0.5), (128, 0.25))
    assert [scene.gsd_m for scene in planned(data, size_px=32, crop_px=16)[0].train] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("sides", "crop_px", "window_px"),
    [((100, 70), 64, 100), ((101, 70), 64, 104), ((64, 64), 96, 96), ((600, 64), 64, 512)],
)
def test_the_window_is_no_larger_than_any_scene(
    tmp_path: Path, sides: tuple[int, ...], crop_px: int, window_px: int
) -> None:
    """It is at least as large as the crops, and a multiple of 4 for a network that halves it twice."""
    data = write_scenes(tmp_path / "data", *((side, 0.5) for side in sides))
    assert planned(data, crop_px=crop_px, window_px=None)[0].window_px == window_px
    assert planned(data, crop_px=crop_px, window_px=80)[0].window_px == 80


VIT = TINY.changed(
    architecture="DPT",
    encoder="tu-vit_tiny_patch16_224",
    arguments={"decoder_intermediate_channels": [8, 8, 8, 8], "decoder_fusion_channels": 8, "img_size": 96},
    window_px=None,
    crop_px=96,
)
"""A network that accepts a single input size."""


def test_a_network_of_one_size_is_validated_at_it(data: Path) -> None:
    """Scenes of 128 px would get windows of 128 px, but the network accepts only the crop's size."""
    assert tiny_plan(data, VIT).window_px == 96
    assert tiny_plan(data, VIT.changed(arguments=VIT.arguments | {"dynamic_img_size": True})).window_px == 128


@pytest.mark.parametrize(
    ("recipe", "wanted"),
    [
        (VIT.changed(crop_px=64), "^`crop_px=64` does not suit DPT .*give `crop_px=96`"),
        (VIT.changed(window_px=128), "^`window_px=128` does not suit DPT .*give `window_px=96`"),
        (VIT.changed(encoder="resnet18"), "Only Timm encoders"),
        (TINY.changed(crop_px=63), "^`crop_px` must be a multiple"),
        (TINY.changed(architecture="Unet", encoder="resnet35"), "did you mean"),
        (TINY.changed(architecture="FPN", encoder="resnet18", arguments={"upsampling": 2}), "it gives 32 x 32"),
        (TINY.changed(encoder_weights="imagenet"), "no encoder"),
    ],
)
def test_a_network_that_cannot_be_is_refused_before_a_scene_is_decoded(
    data: Path, tmp_path: Path, recipe: Recipe, wanted: str
) -> None:
    with pytest.raises(GeosegError, match=wanted):
        train(data, tmp_path / "m.safetensors", recipe=recipe, device="cpu", cache=tmp_path / "cache")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("architecture", ["DeepLabV3", "DeepLabV3Plus"])
def test_a_batch_of_one_that_cannot_be_normalized_is_refused_before_a_scene_is_decoded(
    data: Path, tmp_path: Path, architecture: str
) -> None:
    alone = TINY.changed(architecture=architecture, encoder="resnet18", batch_size=1)
    dataset = open_dataset(data)
    with pytest.raises(
        UsageError, match=r"cannot learn from a batch of 1 crop of 64 px.*`batch_size=2` or more, or `norm"
    ):
        plan_training(dataset, split(dataset), alone, tmp_path / "cache", lambda _line: None)
    assert not (tmp_path / "cache").exists()
    for fitting in (alone.changed(norm="group"), alone.changed(batch_size=2)):
        assert tiny_plan(data, fitting).recipe == fitting
