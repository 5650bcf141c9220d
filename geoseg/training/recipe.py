"""All options of a training as one value, and named recipes with their sources and scores."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as fields_of
from typing import Any, Self, TypedDict, Unpack

from geoseg.dataset import DEFAULT_SEED
from geoseg.errors import ModelError, UsageError, blamed_on
from geoseg.given import nearest
from geoseg.model import (
    DEFAULT_BANDS,
    ModelBundle,
    architecture_named,
    check_encoder_name,
    check_encoder_weights_name,
    frozen_text,
)
from geoseg.model import DEMO as SHIPPED
from geoseg.typed import checked

DEMO = "demo"
"""The name of the shipped model in `Recipe.init`."""
OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
SCHEDULES = ("constant", "step", "multi-step", "cyclic", "exp-range", "one-cycle", "cosine")
NORMS = ("auto", "batch", "group", "frozen")
TRAINABLES = ("auto", "all", "decoder", "head", "early")
NORMALIZATIONS = ("auto", "dataset", "imagenet", "inception", "model")
PRECISIONS = ("auto", "32", "bf16", "16")


class RecipeOptions(TypedDict, total=False):
    """The options of a `Recipe`, with `arguments` as a dict: keyword arguments of `train` and `Recipe.changed`."""

    architecture: str
    encoder: str | None
    arguments: Mapping[str, Any]
    arguments_text: str
    encoder_weights: str | os.PathLike[str] | None
    init: str | os.PathLike[str] | None
    norm: str
    trainable: str
    gsd_m: float | None
    size_px: int | None
    crop_px: int
    rare: float
    augmentation: str
    normalization: str
    ignore: Sequence[str]
    loss: str
    weights: str
    optimizer: str
    lr: float | None
    weight_decay: float
    momentum: float
    betas: Sequence[float]
    eps: float
    amsgrad: bool
    schedule: str
    warmup: float
    step_epochs: int
    milestones: Sequence[int]
    gamma: float
    floor: float
    batch_size: int | None
    accumulate: int
    epochs: int
    batches: int | None
    clip: float
    average: float
    start_share: float
    precision: str
    patience: int | None
    valid_every: int
    seed: int
    window_px: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
@checked
class Recipe:
    """The options of a training. The defaults are the recipe `default`; docs/recipes.md gives the reasons for them.

    Raises
    ------
    UsageError
        For an option of the wrong type or out of range; `error.parameter` is its name.

    Examples
    --------
    >>> Recipe().changed(epochs=10, lr=3e-4).epochs
    10

    """

    # --- the network
    architecture: str = "LightFPN"
    encoder: str | None = "tu-tf_efficientnet_lite0"
    """None if the architecture has none, or its own."""
    arguments_text: str = '{"decoder_channels": 64}'
    """Further arguments of the architecture, as JSON text."""
    encoder_weights: str | None = None
    """Pretrained weights of the encoder, downloaded once: imagenet, noisy-student, ...; or a file of weights."""
    init: str | None = "demo"
    """A bundle to start from: "demo" is the one geoseg ships; nothing is taken from another architecture."""
    norm: str = "auto"
    """batch; group: instead of batch norm, for batches of one to four; frozen: batch norm as pretrained; auto: frozen
    if the network starts from a bundle, whose statistics a few scenes would only narrow, otherwise batch."""
    trainable: str = "auto"
    """all; decoder: all but the encoder; head: the last layer; early: the encoder's layers at a quarter of the
    resolution or more, for known classes in other imagery; auto: early if a bundle knows every class and the labels
    fill fewer than 500 crops, otherwise all."""

    # --- the imagery
    gsd_m: float | None = 1.0
    """Pixel size in meters to resample imagery to; None: unchanged."""
    size_px: int | None = None
    """Length in pixels to resample the long side of each scene to; gsd_m is then ignored."""
    crop_px: int = 320
    rare: float = 0.5
    """0: every pixel is equally likely in a crop; 1: every class is equally likely at a crop's center."""
    augmentation: str = "default"
    """Operations and their probabilities; see docs/augmentation.md."""
    normalization: str = "auto"
    """dataset: mean and std of the training scenes; imagenet: those that the weights expect, or ImageNet's; inception:
    0.5 and 0.5; model: those of `init`; MEANS/STDS, one number per band: "0.48,0.46,0.41/0.23,0.22,0.23"; auto."""
    ignore: tuple[str, ...] = ("unknown",)
    """Classes that are not learned and never counted."""

    # --- the learning
    loss: str = "cross-entropy + 0.5 dice"
    """cross-entropy, dice, focal, lovasz, or a sum of them."""
    weights: str = "none"
    """Class weights in the loss: none, auto, or numbers in the order of the legend, without the classes of `ignore`."""
    optimizer: str = "adamw"
    lr: float | None = 1e-3
    """None: found by a sweep before training."""
    weight_decay: float = 0.01
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False
    schedule: str = "cosine"
    warmup: float = 0.05
    """Share of all steps in which the rate rises, for the schedules cosine and one-cycle."""
    step_epochs: int = 10
    """Epochs between the steps of `step`, and in half a cycle of `cyclic` and `exp-range`."""
    milestones: tuple[int, ...] = ()
    """Epochs at which `multi-step` lowers the rate."""
    gamma: float = 0.1
    """Factor of each step; for `exp-range`, of each further cycle."""
    floor: float = 0.0
    """The lowest rate of cosine, one-cycle and the cycles, as a share of lr."""
    batch_size: int | None = 8
    """None: as many as are estimated to fit in memory."""
    accumulate: int = 1
    """Batches whose gradients are summed for one step."""
    epochs: int = 18
    batches: int | None = None
    """Batches per epoch; None: enough to show each training pixel about once."""
    clip: float = 2.0
    """Largest norm of the gradients; 0: no limit."""
    average: float = 0.97
    """Decay per step of the running average of the weights, which is validated and kept; 0: no average."""
    start_share: float = 0.0
    """Share of the initial weights of `init` in the final ones; 0: none. Ignored if a class or a part is new to it."""
    precision: str = "auto"
    """auto: bf16 if the device supports it, otherwise 32 bits."""
    patience: int | None = None
    """Number of epochs without a better mIoU before stopping; None: never stop early."""
    valid_every: int = 1
    """Epochs from one validation to the next."""
    seed: int = DEFAULT_SEED

    # --- the bundle
    window_px: int | None = None
    """Window of the bundle; None: 512, or less if every scene is smaller, but never less than the crop."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices and not (name == "normalization" and self.scaling is not None):
                raise UsageError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}", name)
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else () if value is None else (value,)
            if not all(low <= number <= high for number in numbers):  # false for nan
                raise UsageError(f"`{name}` must be {low:g} to {high:g}, got {value}", name)
        if self.schedule == "multi-step" and not self.milestones:
            message = "`schedule='multi-step'` needs `milestones`, the epochs at which the rate steps"
            raise UsageError(message, "milestones")
        if not isinstance(self.arguments, dict):
            raise UsageError(f"`arguments` must be a JSON object, got {self.arguments_text:.80}", "arguments")

    @property
    def scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and std of each band if `normalization` gives them, for 0 to 1 or stored values; otherwise None."""
        means, slash, stds = self.normalization.partition("/")
        if not slash:
            return None
        try:
            mean, std = (tuple(float(value) for value in text.split(",")) for text in (means, stds))
        except ValueError:
            mean, std = (), ()
        if not mean or len(mean) != len(std) or not all(map(math.isfinite, mean + std)):
            raise UsageError(
                f"`normalization` must be as many means as stds, MEANS/STDS, got {self.normalization!r:.80}; for three "
                "bands 0.485,0.456,0.406/0.229,0.224,0.225",
                "normalization",
            )
        if min(std) <= 0:
            raise UsageError(f"`normalization` must have stds over 0, got {self.normalization!r:.80}", "normalization")
        return mean, std

    @property
    def arguments(self) -> dict[str, Any]:
        """A fresh copy of the architecture's arguments, without the encoder."""
        try:
            arguments: dict[str, Any] = json.loads(self.arguments_text)
        except ValueError as fault:
            message = f"`arguments` must be a JSON object, got {self.arguments_text:.80}: {fault}"
            raise UsageError(message, "arguments") from None
        return arguments

    def changed(self, **options: Unpack[RecipeOptions]) -> Self:
        """Return the recipe with other options.

        If the architecture changes, `arguments` not given with it take its own defaults, and an encoder that does not
        suit it is dropped.

        Parameters
        ----------
        **options
            Fields of `Recipe`; `arguments`, a dict, replaces `arguments_text`.

        Raises
        ------
        UsageError
            For an unknown option, or an invalid value.
        ModelError
            For an unknown architecture.

        """
        changes: dict[str, Any] = dict(options)
        if "arguments" in changes:
            changes["arguments_text"] = frozen_text(changes.pop("arguments"), "arguments")
        unknown = sorted(set(changes) - set(OPTIONS))
        if unknown:
            near = nearest(unknown[0], OPTIONS)
            hint = "" if near is None else f" (did you mean {near!r}?)"
            raise UsageError(f"a recipe has no option {unknown[0]!r}{hint}; it has {', '.join(OPTIONS)}", unknown[0])
        with blamed_on("architecture"):
            reset = self._reset_options(changes.get("architecture"))
        return replace(self, **(reset | changes))

    def _reset_options(self, architecture: str | None) -> dict[str, Any]:
        """Return new values for the options that do not carry over to another architecture."""
        if architecture is None or architecture_named(architecture) is architecture_named(self.architecture):
            return {}
        check = architecture_named(architecture).checks.get("encoder_name")
        fits = check is not None and check(self.encoder) is None
        return {"arguments_text": "{}", "encoder": self.encoder if fits else None}

    def to_json(self) -> dict[str, Any]:
        """Return plain values.

        Returns
        -------
        dict
            Suitable for `json.dumps` and `from_json`; `arguments` is a dict.

        """
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return plain | {"arguments": self.arguments} if plain.pop("arguments_text") else plain

    @classmethod
    @checked
    def from_json(cls, plain: Mapping[str, Any], base: Recipe | None = None) -> Recipe:
        """Return a recipe from plain values.

        Parameters
        ----------
        plain : mapping
            Options by name, as in `to_json`; omitted ones stay as in `base`.
        base : Recipe, optional
            Defaults to the recipe `default`.

        Raises
        ------
        UsageError, ModelError
            The errors of `changed`.

        """
        return (base or cls()).changed(**{str(name): value for name, value in plain.items()})

    def meaning(self) -> dict[str, Any]:
        """Return plain values that differ whenever the weights would.

        Batches may be split into smaller ones whose gradients are summed, so that a run that did not fit in memory can
        resume. Here `batch_size` is that of a step, and `batches` are the steps per epoch.
        """
        plain = self.to_json()
        accumulate = plain.pop("accumulate")
        if self.batch_size is not None:
            plain["batch_size"] = self.batch_size * accumulate
        if self.batches is not None:
            plain["batches"] = math.ceil(self.batches / accumulate)
        return plain


OPTIONS = tuple(field.name for field in fields_of(Recipe))
_CHOICES = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "norm": NORMS,
    "trainable": TRAINABLES,
    "normalization": NORMALIZATIONS,
    "precision": PRECISIONS,
}
_RANGES = {
    "gsd_m": (1e-3, 1e5),
    "size_px": (16, 1_000_000),
    "crop_px": (16, 16_384),
    "rare": (0, 1),
    "lr": (1e-9, 100),
    "weight_decay": (0, 10),
    "momentum": (0, 0.9999),
    "betas": (0, 0.99999),
    "eps": (1e-16, 1),
    "warmup": (0, 0.9),
    "step_epochs": (1, 100_000),
    "milestones": (1, 1_000_000),
    "gamma": (1e-6, 1),
    "floor": (0, 1),
    "batch_size": (1, 65_536),
    "accumulate": (1, 65_536),
    "epochs": (1, 1_000_000),
    "batches": (1, 10_000_000),
    "clip": (0, 1e9),
    "average": (0, 0.99999),
    "start_share": (0, 0.95),
    "patience": (1, 1_000_000),
    "valid_every": (1, 1_000_000),
    "seed": (0, 2**31 - 1),
    "window_px": (16, 16_384),
}


@dataclass(frozen=True, slots=True)
class NamedRecipe:
    """A recipe, its source and its score."""

    name: str
    recipe: Recipe
    source: str
    data: str
    """The data set it was used on."""
    figure: str
    """Its score there, and who reported it."""


_GEOMETRY = (
    "hflip,vflip,rot90,transpose,shift-scale-rotate:0.5,"
    "optical-distortion/grid-distortion/elastic-distortion:0.3,motion-blur/gaussian-blur:0.2,grid-dropout:0.1,color:0.3"
)
_SENSORS = (
    "flips,color:0.8:brightness=0.15:contrast=0.45:gamma=0.4:saturation=0.6:hue_degrees=6:gain=0.08,"
    "gaussian-blur:0.25:sigma_px=1.2"
)
"""Simulates another sensor, another season, a smaller camera: for a model that maps unseen imagery."""
_PLAIN = Recipe(
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
    clip=0.0,
    lr=1e-4,
    crop_px=512,
    epochs=40,
)
"""A recipe without the extras of `default`: no initial weights, no resampling, no average."""
_FAMILY_RECIPE = _PLAIN.changed(
    encoder_weights="imagenet", lr=1e-4, weight_decay=1e-6, seed=21, crop_px=256, augmentation=_GEOMETRY
)
_FAMILY = "a comparison of networks with one protocol: Adam 1e-4, weight decay 1e-6, cross-entropy, seed 21"
_ELSEWHERE = "another data set, not DeepGlobe"


def _family(name: str, architecture: str, encoder: str, *, aux_head: bool = False) -> NamedRecipe:
    """Return one recipe of a family that differ only in their network."""
    arguments = {"aux_head": True} if aux_head else {}
    source = f"{_FAMILY}; with the auxiliary head of torchvision's" if aux_head else _FAMILY
    recipe = _FAMILY_RECIPE.changed(architecture=architecture, encoder=encoder, arguments=arguments)
    figure = "mIoU 0.16 to 0.60 over the family; which figure is whose is not stated"
    return NamedRecipe(name, recipe, source, _ELSEWHERE, figure)


# fmt: off
RECIPES: dict[str, NamedRecipe] = {one.name: one for one in (
    NamedRecipe(
        "default", Recipe(),
        "geoseg; docs/recipes.md has the reasons, docs/results.md the measurements",
        "DeepGlobe 2018, nine tiles in three folds",
        "mIoU 0.511 over six classes (0.498 with another seed), each tile mapped by a network that did not see it",
    ),
    NamedRecipe(
        "demo",
        Recipe(architecture="FPN",
               arguments_text='{"decoder_pyramid_channels": 128, "decoder_segmentation_channels": 64}',
               init=None, norm="batch", crop_px=224, augmentation=_SENSORS, loss="cross-entropy", lr=8e-4,
               weight_decay=0.02, batch_size=8, epochs=6, batches=270, average=0.99, trainable="all"),
        "geoseg: the first stage of the shipped model (tools/land_model.py), which starts from ImageNet weights",
        "a mixture of FLAIR, Dubai, UC Merced, urban trees, Chesapeake, NEON and synthetic landscapes",
        "mIoU 0.415 on nine DeepGlobe tiles that it never saw; the shipped model 0.481, see its card",
    ),
    NamedRecipe(
        "unet-rmsprop",
        _PLAIN.changed(architecture="Unet", encoder="resnet34", optimizer="rmsprop", lr=1e-5, weight_decay=1e-8,
                       momentum=0.9, clip=1.0, loss="cross-entropy + dice", batch_size=8),
        "the training settings of the widely used Pytorch-UNet (RMSprop, rate 1e-5, momentum, clipping)",
        "DeepGlobe 2018", "none stated",
    ),
    NamedRecipe(
        "unet-adamw",
        _PLAIN.changed(architecture="Unet", encoder="resnet34", optimizer="adamw", lr=1e-4, batch_size=8),
        "a U-Net with AdamW, a small rate, no weight decay",
        "DeepGlobe 2018", "IoU 0.4213, protocol not stated",
    ),
    NamedRecipe(
        "unet-resnet34-weighted",
        _PLAIN.changed(architecture="Unet", encoder="resnet34", encoder_weights="imagenet", size_px=512, batch_size=6,
                       lr=3e-4, weights="0.89,0.40,0.91,0.88,0.96,0.92,0.0", ignore=()),
        "a U-Net on ResNet-34 with class weights, whole tiles resized to 512",
        "DeepGlobe 2018", "validation mIoU 0.646",
    ),
    _family("fcn16s-vgg16", "FCN16s", "vgg16"),
    _family("deeplabv3plus-resnet50", "DeepLabV3Plus", "resnet50"),
    _family("deeplabv3plus-resnet101", "DeepLabV3Plus", "resnet101"),
    _family("deeplabv3plus-resnext50", "DeepLabV3Plus", "resnext50_32x4d"),
    _family("deeplabv3plus-se_resnext50", "DeepLabV3Plus", "se_resnext50_32x4d"),
    _family("unet-efficientnet-b0", "Unet", "efficientnet-b0"),
    _family("unet-efficientnet-b4", "Unet", "efficientnet-b4"),
    _family("deeplabv3-resnet50", "DeepLabV3", "resnet50", aux_head=True),
    _family("deeplabv3-resnet101", "DeepLabV3", "resnet101", aux_head=True),
    _family("segnet", "SegNet", "vgg16_bn"),
    NamedRecipe(
        "unet-plain",
        _PLAIN.changed(architecture="PlainUnet", encoder=None, arguments={"batch_norm": True}, crop_px=256,
                       schedule="cyclic", lr=1e-4, floor=0.01, batch_size=16),
        "a plain U-Net with batch norm at 128 and 256 px, a cyclic rate from 1e-6 to 1e-4, splits 9:1, 8:2, 7:3",
        "ten everyday classes, no land cover", "0.39",
    ),
    NamedRecipe(
        "fcn32s-resnet",
        _PLAIN.changed(architecture="FCN32s", encoder="resnet50", encoder_weights="imagenet", batch_size=8),
        "FCN-32s on a ResNet; its depth is not stated, 50 is taken",
        _ELSEWHERE, "0.415",
    ),
    NamedRecipe(
        "unet-resnet",
        _PLAIN.changed(architecture="Unet", encoder="resnet50", encoder_weights="imagenet", batch_size=8),
        "a U-Net on a ResNet; its depth is not stated, 50 is taken",
        _ELSEWHERE, "0.512",
    ),
)}
# fmt: on
"""All recipes by name."""


def recipe_named(name: str) -> Recipe:
    """Return a recipe by name; UsageError, with the known names, for an unknown one."""
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r:.60}; geoseg has {', '.join(RECIPES)}", "recipe")
    return RECIPES[name].recipe


def check_names(recipe: Recipe) -> None:
    """Raise UsageError or ModelError for a network, weights or `init` that do not exist, without importing torch."""
    arguments_of(recipe, len(DEFAULT_BANDS), 2)
    if recipe.encoder is not None:
        with blamed_on("encoder"):
            check_encoder_name(recipe.encoder)
    check_encoder_weights_name(recipe.architecture, recipe.encoder, recipe.encoder_weights)
    if recipe.init is not None:
        opened(recipe.init)


def arguments_of(recipe: Recipe, bands: int, classes: int) -> dict[str, Any]:
    """Return the arguments of a recipe's architecture. Raises UsageError or ModelError for invalid ones."""
    with blamed_on("architecture"):
        kind = architecture_named(recipe.architecture)
    required: dict[str, Any] = {"in_channels": bands, "classes": classes}
    if recipe.encoder is not None:
        required["encoder_name"] = recipe.encoder
        with blamed_on("encoder"):
            kind.check(required)
    arguments = recipe.arguments | required
    if recipe.norm == "group":
        arguments["norm"] = "group"
    with blamed_on("arguments"):
        kind.check(arguments)
    return arguments


def opened(init: str) -> ModelBundle:
    """Return the bundle that `Recipe.init` names. Raises ModelError or UsageError."""
    try:
        bundle = ModelBundle.open(SHIPPED if init == DEMO else init)
    except (ModelError, UsageError) as fault:
        text = str(fault.renamed(path="init"))
        raise type(fault)(text if text.startswith("`init`") else f"`init`: {text}", "init") from None
    if bundle.graph is not None:
        raise ModelError(
            f"`init`: {bundle.name} is an ONNX file, which cannot be trained; give the .safetensors bundle that it was "
            "exported from",
            "init",
        )
    return bundle
