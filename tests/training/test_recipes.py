"""Every named recipe builds its network, learns, and writes a bundle that predicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

import geoseg
from geoseg.errors import UsageError
from geoseg.model import ModelBundle
from geoseg.training import RECIPES, Recipe, recipe_named
from tests.training.tiny import learn, read_history, tiny_plan

WANTED = {
    "default", "unet-rmsprop", "unet-adamw", "unet-resnet34-weighted", "fcn16s-vgg16", "segnet", "deeplabv3-resnet50",
    "deeplabv3-resnet101", "deeplabv3plus-resnet50", "deeplabv3plus-resnet101", "deeplabv3plus-resnext50",
    "deeplabv3plus-se_resnext50", "unet-efficientnet-b0", "unet-efficientnet-b4", "unet-plain", "fcn32s-resnet",
    "unet-resnet",
}  # fmt: skip
SMALL = "tu-tf_mobilenetv3_small_minimal_100"
VGG = {"vgg16_bn": "vgg11_bn"}  # SegNet takes no other
FEW = {
    "LightFPN": {"decoder_channels": 16},
    "FPN": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    "Unet": {"decoder_channels": [16, 16, 8, 8, 8]},
    "DeepLabV3": {"decoder_channels": 16, "aux_head": True},
    "DeepLabV3Plus": {"decoder_channels": 16},
    "PlainUnet": {"channels": 8},
}
"""Replaces a recipe's own channels to save time in training; another test builds the real ones."""
PARTS = ("architecture", "optimizer", "loss", "weights", "augmentation", "ignore")


def short(recipe: Recipe) -> Recipe:
    """Return the recipe with a small network without pretrained weights, few small batches and a high rate."""
    encoder, side_px = recipe.encoder and VGG.get(recipe.encoder, SMALL), 32 if recipe.encoder in VGG else 64
    return recipe.changed(
        encoder=encoder, arguments=recipe.arguments | FEW.get(recipe.architecture, {}), encoder_weights=None,
        gsd_m=None, size_px=None, crop_px=side_px, window_px=side_px, batch_size=2,
        batches=8, epochs=2, lr=2e-3, schedule="constant", valid_every=2,
        precision="32",
    )  # fmt: skip


def telling() -> dict[str, Recipe]:
    """Return the recipes that have an architecture, optimizer or other part that no earlier one has."""
    seen, found = set[tuple[str, object]](), dict[str, Recipe]()
    for name, named in RECIPES.items():
        parts = {(part, getattr(named.recipe, part)) for part in PARTS}
        if parts - seen:
            found[name] = named.recipe
        seen |= parts
    return found


def test_all_recipes_are_there() -> None:
    assert RECIPES.keys() >= WANTED
    assert all(each.source and each.data and each.figure for each in RECIPES.values())
    assert recipe_named("default") == Recipe()
    with pytest.raises(UsageError, match=r"unknown recipe 'unet'; geoseg has default, "):
        recipe_named("unet")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_planned_and_its_network_is_there(data: Path, name: str) -> None:
    """Planning builds the real architecture without memory and checks it at the crop's size."""
    recipe = recipe_named(name)
    plan = tiny_plan(data, replace(recipe, size_px=None, gsd_m=None))
    assert plan.architecture == recipe.architecture
    assert plan.arguments.get("encoder_name") == recipe.encoder
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.usefixtures("narrow_vgg")
@pytest.mark.parametrize("name", telling())
def test_a_recipe_learns_and_its_bundle_predicts(data: Path, tmp_path: Path, name: str) -> None:
    out, smaller = tmp_path / "model.safetensors", short(recipe_named(name))
    learn(data, out, smaller, checkpoint_minutes=60)
    first, last = read_history(out.with_name("model.safetensors.training") / "history.csv")
    assert last.train_loss < first.train_loss
    bundle = ModelBundle.open(out)
    assert bundle.provenance["recipe"] == smaller.to_json()
    geoseg.predict(data / "valid" / "3_sat.jpg", tmp_path / "map.tif", model=out, device="torch-cpu", overlap=0)
    with rasterio.open(tmp_path / "map.tif") as land_cover:
        found = land_cover.read(1)
    assert found.shape == (128, 128)
    assert set(np.unique(found).tolist()) <= set(bundle.output_codes)
