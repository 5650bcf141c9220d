"""Recipes by name: where each comes from, on what data it was used, and what it scored there."""

from __future__ import annotations

from dataclasses import dataclass

from geoseg.errors import UsageError
from geoseg.training.recipe import Recipe

_GEOMETRY = (
    "hflip,vflip,rot90,transpose,shift-scale-rotate:0.5,"
    "optical-distortion/grid-distortion/elastic-distortion:0.3,motion-blur/gaussian-blur:0.2,grid-dropout:0.1,color:0.3"
)

_SENSORS = (
    "flips,color:0.8:brightness=0.15:contrast=0.45:gamma=0.4:saturation=0.6:hue_degrees=6:gain=0.08,"
    "gaussian-blur:0.25:sigma_px=1.2"
)
"""Another sensor, another season, a smaller camera: what a model must bear that is to map imagery it never saw."""


@dataclass(frozen=True, slots=True)
class NamedRecipe:
    """A recipe and what is known of it."""

    name: str
    recipe: Recipe
    source: str
    data: str
    """The data set it was used on."""
    figure: str
    """What it scored there, by whose account."""


def _plain(**knobs: object) -> Recipe:
    """Return a recipe without what only `default` has: no start weights, no resampling, no average."""
    afresh = Recipe(
        init=None,
        gsd_m=None,
        arguments_text="{}",
        rare=0.0,
        augmentation="flips",
        loss="cross-entropy",
        schedule="constant",
        optimizer="adam",
        weight_decay=0.0,
        average=0.0,
        start_share=0.0,
        clip=0.0,
        crop_px=512,
        epochs=40,
    )
    return afresh.changed(**knobs)


def _other_data(architecture: str, encoder: str, **knobs: object) -> Recipe:
    """Return one of a family that differs in its network alone."""
    return _plain(
        architecture=architecture,
        encoder=encoder,
        encoder_weights="imagenet",
        lr=1e-4,
        weight_decay=1e-6,
        seed=21,
        crop_px=256,
        augmentation=_GEOMETRY,
        **knobs,
    )


_FAMILY = "a comparison of networks with one protocol: Adam 1e-4, weight decay 1e-6, cross-entropy, seed 21"
_ELSEWHERE = "another data set, not DeepGlobe"
_FAMILY_FIGURE = "mIoU 0.16 to 0.60 over the family; which figure is whose is not stated"

RECIPES: dict[str, NamedRecipe] = {
    named.name: named
    for named in (
        NamedRecipe(
            "default",
            Recipe(),
            "geoseg; docs/recipes.md has the reasons, docs/results.md the measurements",
            "DeepGlobe 2018, nine tiles in three folds",
            "mIoU 0.358 over six classes, each tile mapped by a network that did not see it",
        ),
        NamedRecipe(
            "demo",
            Recipe(
                init=None,
                norm="batch",
                crop_px=224,
                augmentation=_SENSORS,
                loss="cross-entropy",
                lr=8e-4,
                weight_decay=0.02,
                batch_size=8,
                epochs=6,
                batches=270,
                average=0.99,
                start_share=0.0,
            ),
            "geoseg: the first stage of the shipped model (tools/land_model.py), there from weights of ImageNet",
            "a mixture of FLAIR, Dubai, UC Merced, urban trees, Chesapeake, NEON and made-up landscapes",
            "mIoU 0.415 on nine DeepGlobe tiles that it never saw; see its card",
        ),
        NamedRecipe(
            "unet-rmsprop",
            _plain(
                architecture="Unet",
                encoder="resnet34",
                optimizer="rmsprop",
                lr=1e-5,
                weight_decay=1e-8,
                momentum=0.9,
                clip=1.0,
                loss="cross-entropy + dice",
                batch_size=8,
            ),
            "the training settings of the widely used Pytorch-UNet (RMSprop, rate 1e-5, momentum, clipping)",
            "DeepGlobe 2018",
            "none stated",
        ),
        NamedRecipe(
            "unet-adamw",
            _plain(
                architecture="Unet",
                encoder="resnet34",
                optimizer="adamw",
                lr=1e-4,
                weight_decay=0.0,
                batch_size=8,
            ),
            "a U-Net with AdamW, a small rate, no weight decay",
            "DeepGlobe 2018",
            "IoU 0.4213, protocol not stated",
        ),
        NamedRecipe(
            "unet-resnet34-weighted",
            _plain(
                architecture="Unet",
                encoder="resnet34",
                encoder_weights="imagenet",
                size_px=512,
                crop_px=512,
                batch_size=6,
                epochs=40,
                lr=3e-4,
                weights="0.89,0.40,0.91,0.88,0.96,0.92,0.0",
                ignore=(),
            ),
            "a U-Net on ResNet-34 with class weights, whole tiles resized to 512",
            "DeepGlobe 2018",
            "validation mIoU 0.646",
        ),
        *(
            NamedRecipe(name, _other_data(architecture, encoder), _FAMILY, _ELSEWHERE, _FAMILY_FIGURE)
            for name, architecture, encoder in (
                ("fcn16s-vgg16", "FCN16s", "vgg16"),
                ("deeplabv3plus-resnet50", "DeepLabV3Plus", "resnet50"),
                ("deeplabv3plus-resnet101", "DeepLabV3Plus", "resnet101"),
                ("deeplabv3plus-resnext50", "DeepLabV3Plus", "resnext50_32x4d"),
                ("deeplabv3plus-se_resnext50", "DeepLabV3Plus", "se_resnext50_32x4d"),
                ("unet-efficientnet-b0", "Unet", "efficientnet-b0"),
                ("unet-efficientnet-b4", "Unet", "efficientnet-b4"),
            )
        ),
        *(
            NamedRecipe(
                name,
                _other_data("DeepLabV3", encoder, arguments_text='{"aux_head": true}'),
                f"{_FAMILY}; with the auxiliary head of torchvision's",
                _ELSEWHERE,
                _FAMILY_FIGURE,
            )
            for name, encoder in (("deeplabv3-resnet50", "resnet50"), ("deeplabv3-resnet101", "resnet101"))
        ),
        NamedRecipe(
            "segnet",
            _other_data("SegNet", "vgg16_bn"),
            _FAMILY,
            _ELSEWHERE,
            _FAMILY_FIGURE,
        ),
        NamedRecipe(
            "unet-plain",
            _plain(
                architecture="PlainUnet",
                encoder=None,
                arguments_text='{"batch_norm": true}',
                crop_px=256,
                schedule="cyclic",
                lr=1e-4,
                floor=0.01,
                batch_size=16,
            ),
            "a plain U-Net with batch norm at 128 and 256 px, a cyclic rate from 1e-6 to 1e-4, splits 9:1, 8:2, 7:3",
            "ten everyday classes, no land cover",
            "0.39",
        ),
        NamedRecipe(
            "fcn32s-resnet",
            _plain(architecture="FCN32s", encoder="resnet50", encoder_weights="imagenet", lr=1e-4, batch_size=8),
            "FCN-32s on a ResNet; its depth is not stated, 50 is taken",
            _ELSEWHERE,
            "0.415",
        ),
        NamedRecipe(
            "unet-resnet",
            _plain(architecture="Unet", encoder="resnet50", encoder_weights="imagenet", lr=1e-4, batch_size=8),
            "a U-Net on a ResNet; its depth is not stated, 50 is taken",
            _ELSEWHERE,
            "0.512",
        ),
    )
}
"""Every recipe by its name."""


def recipe_named(name: str) -> Recipe:
    """Return a recipe; UsageError, with the names there are, for any other."""
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r:.60}; geoseg has {', '.join(RECIPES)}")
    return RECIPES[name].recipe
