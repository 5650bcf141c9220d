"""The network of a recipe: its arguments, its initial weights, its input and its channels.

Initial weights are random, pretrained in parts, or from a bundle; the trained weights can be moved back toward them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.dataset import Dataset, class_px_of
from geoseg.errors import ModelError, UsageError, listed, numbered
from geoseg.inference import looks_normalized
from geoseg.legend import NODATA
from geoseg.model import (
    DEFAULT_BANDS,
    HALF,
    HEADS,
    IMAGENET,
    NORM_STATISTICS,
    VALUE_RANGES,
    ModelBundle,
    Normalization,
    Scaling,
    Transferred,
    architecture_named,
    build,
    check_encoder_weights,
    check_network_accepts,
    early_layers,
    freeze_batch_norm,
    is_weights_file,
    parameter_shapes,
    recorded_weights,
    scaling_of,
    transfer,
    usual_window_px,
    window_fault,
)
from geoseg.progress import Announce
from geoseg.raster import BandStatistics
from geoseg.training.recipe import DEMO, Recipe, arguments_of, opened

if TYPE_CHECKING:
    from geoseg.training.plan import TrainingPlan


_GENTLE = 2e-4
"""Learning rates up to this are meant for weights that already know the classes."""
_FEW_CROPS = 500
"""A data set whose labeled pixels fill fewer crops than this is small."""


# --- checks of the network


def check_recipe(recipe: Recipe) -> None:
    """Raise UsageError or ModelError for a network that is invalid for any data, before data are opened."""
    architecture = architecture_named(recipe.architecture).name
    check_network(recipe, architecture, arguments_of(recipe, len(DEFAULT_BANDS), 2))


def check_network(recipe: Recipe, architecture: str, arguments: dict[str, Any]) -> None:
    """Raise UsageError or ModelError for sizes or encoder weights that a network does not take; uses no memory."""
    parameter_shapes(architecture, arguments)  # builds the network
    for name, size_px in (("crop_px", recipe.crop_px), ("window_px", recipe.window_px)):
        if size_px is not None:
            check_network_accepts(architecture, arguments, size_px, name)
    check_encoder_weights(architecture, arguments, recipe.encoder_weights)


def check_batch(recipe: Recipe, architecture: str, arguments: dict[str, Any], bundle: ModelBundle | None) -> None:
    """Raise UsageError for a batch that the network cannot learn from: a single crop that it pools to one pixel.

    With frozen batch normalization any batch works.
    """
    size = recipe.batch_size or 2
    if _keeps_statistics(recipe, bundle):
        return
    reason = window_fault(architecture, arguments, recipe.crop_px, batch=size, learning=True)
    if reason is not None:
        raise UsageError(
            f"{architecture} cannot learn from a batch of {numbered(size, 'crop')} of {recipe.crop_px} px: "
            f"{reason}; give `batch_size=2` or more, or `norm='group'`",
            "batch_size",
        )


def bundle_window_px(recipe: Recipe, arguments: dict[str, Any], longest_px: int) -> int:
    """Return the bundle's window: the recipe's or the usual one, or less if every scene is smaller."""
    if recipe.window_px is not None:
        return recipe.window_px
    usual = max(recipe.crop_px, usual_window_px(recipe.architecture, arguments, longest_px))
    return usual if window_fault(recipe.architecture, arguments, usual) is None else recipe.crop_px


# --- the bundle to start from


def init_bundle(
    recipe: Recipe, architecture: str, arguments: Mapping[str, Any], announce: Announce = lambda _line: None
) -> ModelBundle | None:
    """Return the bundle to start from; None, after saying why, if the shipped model does not suit.

    The shipped model is only a default: it is not used if the encoder has weights of its own, or is a different one.
    Raises ModelError for a file that is not a bundle, or has another encoder; UsageError for `norm='frozen'` without
    pretrained batch normalization.
    """
    bundle = _suitable_bundle(recipe, architecture, arguments, announce)
    has_statistics = bundle is not None and has_batch_norm(bundle)
    if recipe.norm == "frozen" and not has_statistics and (bundle is not None or recipe.encoder_weights is None):
        raise nothing_to_freeze()
    return bundle


def has_batch_norm(bundle: ModelBundle) -> bool:
    """Return whether a bundle's norm layers hold statistics of its training data."""
    return bundle.arguments.get("norm") != "group"


def _keeps_statistics(recipe: Recipe, bundle: ModelBundle | None) -> bool:
    """Return whether batch normalization keeps its pretrained statistics: on request, or by default if it has any."""
    return recipe.norm == "frozen" or (recipe.norm == "auto" and bundle is not None and has_batch_norm(bundle))


def nothing_to_freeze() -> UsageError:
    """Return the error for `norm='frozen'` without pretrained batch normalization."""
    return UsageError(
        "`norm='frozen'` keeps pretrained batch norm, but there is none; "
        "give `encoder_weights='imagenet'`, or `init` with a model of the same encoder, or `norm='batch'`",
        "norm",
    )


def _suitable_bundle(
    recipe: Recipe, architecture: str, arguments: Mapping[str, Any], announce: Announce
) -> ModelBundle | None:
    if recipe.init is None:
        return None
    if recipe.init == DEMO and recipe.encoder_weights is not None:
        announce(f"starts without the shipped model: the encoder has its own weights, {recipe.encoder_weights}")
        return None
    bundle = opened(recipe.init)
    if _has_encoder(bundle, architecture, arguments):
        if recipe.encoder_weights is not None:
            announce(f"starts from {bundle.name}, so the encoder weights {recipe.encoder_weights} are not used")
        return bundle
    encoder_text = f"{bundle.architecture} on {bundle.arguments.get('encoder_name', 'no encoder')}"
    if recipe.init == DEMO:
        announce(f"starts without the shipped model, {encoder_text}: its encoder is different")
        return None
    raise ModelError(
        f"no weights of {bundle.name}, {encoder_text}, fit the new network: its encoder is different; choose the same "
        "`architecture` and `encoder`, or start at random with `init=None`",
        "init",
    )


def _has_encoder(bundle: ModelBundle, architecture: str, arguments: Mapping[str, Any]) -> bool:
    """Return whether a bundle's encoder, given the same number of bands, is that of an architecture."""
    bundle_arguments = bundle.arguments | {"in_channels": arguments["in_channels"]}
    bundle_shapes, new_shapes = (
        {
            key: shape
            for key, shape in parameter_shapes(name, network_arguments).items()
            if key.startswith("encoder.") and not key.endswith(NORM_STATISTICS)
        }
        for name, network_arguments in ((bundle.architecture, bundle_arguments), (architecture, arguments))
    )
    return bool(new_shapes) and bundle_shapes == new_shapes


# --- the network's input


def kind_of_normalization(recipe: Recipe, dataset: Dataset, bands: tuple[str, ...], bundle: ModelBundle | None) -> str:
    """Return dataset, pretrained, model, or the recipe's value: the source of the means and deviations to use.

    Raises UsageError if it does not suit the data.
    """
    if dataset.dtype not in VALUE_RANGES:
        raise UsageError(
            f"cannot train on {dataset.dtype} imagery; convert it to one of {', '.join(VALUE_RANGES)}", "data"
        )
    fits = bundle is not None and bundle.dtype == dataset.dtype and bundle.bands == bands
    if recipe.normalization == "model" and not fits:
        raise UsageError(
            "`normalization='model'` needs `init` with a model of the same encoder, bands and data type",
            "normalization",
        )
    expected = len(recipe.scaling[0]) if recipe.scaling is not None else len(DEFAULT_BANDS)
    if (recipe.normalization == "imagenet" or recipe.scaling is not None) and len(bands) != expected:
        raise UsageError(
            f"`normalization={recipe.normalization!r}` is for {numbered(expected, 'band')}, got {len(bands)}",
            "normalization",
        )
    if recipe.normalization != "auto":
        return recipe.normalization
    if bundle is not None:  # its encoder is used, whatever weights that was pretrained with
        return "model" if fits else "dataset"
    pretrained = recipe.encoder_weights is not None and dataset.dtype == "uint8"
    return "pretrained" if pretrained and len(bands) == len(DEFAULT_BANDS) else "dataset"


def normalization_of(
    kind: str, dataset: Dataset, recipe: Recipe, statistics: BandStatistics, bundle: ModelBundle | None
) -> Normalization:
    """Return the normalization of stored values; UsageError for imagery that looks normalized already."""
    if dataset.dtype == "float32" and looks_normalized(statistics):
        means, stds = (", ".join(f"{value:.2g}" for value in values) for values in (statistics.mean, statistics.std))
        raise UsageError(
            f"the imagery looks normalized already (means {means}, stds {stds}); give the values as they were "
            "measured: geoseg normalizes, and so does every map made with the model",
            "data",
        )
    if kind == "model" and bundle is not None:
        return bundle.normalization
    low, high = VALUE_RANGES[dataset.dtype]
    if kind == "dataset":
        return Normalization(statistics.mean, statistics.std, (low, high))
    mean, std = recipe.scaling or _scaling(kind, recipe, len(dataset.bands))
    if max(*mean, *std) <= 1:
        mean, std = tuple(low + value * (high - low) for value in mean), tuple(value * (high - low) for value in std)
    return Normalization(mean, std, (low, high))


def _scaling(kind: str, recipe: Recipe, bands: int) -> Scaling:
    """Return each band's mean and deviation, for values of 0 to 1, that encoder weights or a named scaling expect."""
    encoder, weights = recipe.encoder, recipe.encoder_weights
    if kind == "inception":
        return HALF[0][:1] * bands, HALF[1][:1] * bands
    if encoder is None or weights is None:
        return IMAGENET
    if is_weights_file(weights):  # a file does not say: use those of the encoder's usual weights, unless told
        return IMAGENET if kind == "imagenet" else scaling_of(encoder, None)
    return scaling_of(encoder, weights)


def stretch_of(dtype: str, statistics: BandStatistics) -> tuple[float, float]:
    """Return the stored values for dark and bright: the full range for bytes, otherwise the range that occurs."""
    if dtype == "uint8":
        return VALUE_RANGES["uint8"]
    low, high = min(statistics.low), max(statistics.high)
    return (low, high) if low < high else (low, low + 1)


def normalized(image: torch.Tensor, valid: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return image (n,band,row,col) times gain plus bias (band,1,1); 0 where not valid (n,row,col).

    The result has the memory layout in which convolutions are fastest.
    """
    pixels = torch.where(valid[:, None], image * gain + bias, 0.0)
    return pixels.contiguous(memory_format=torch.channels_last)


# --- the meaning of its channels


def channel_table(output_codes: Sequence[int]) -> NDArray[np.int64]:
    """Return (256,): the network's channel for each class code, 255 for a code that is not learned."""
    table = np.full(256, NODATA, np.int64)
    table[list(output_codes)] = np.arange(len(output_codes))
    return table


def target_table(output_codes: Sequence[int], sets: Sequence[tuple[int, Sequence[int]]]) -> NDArray[np.int64]:
    """Return (256,): the target for each class code, 255 = ignore; sets of classes are numbered after the channels."""
    table = channel_table(output_codes)
    for number, (code, channels) in enumerate(sets, start=len(output_codes)):
        table[code] = channels[0] if len(channels) == 1 else number
    return table


# --- its initial weights


def start_network(plan: TrainingPlan, announce: Announce) -> torch.nn.Module:
    """Return a new network in training mode; its random weights follow from the seed.

    Raises ModelError if pretrained weights cannot be fetched or a bundle has another encoder, UsageError for
    `norm='frozen'` without pretrained batch normalization, or a `trainable` that does not suit the network.
    """
    recipe = plan.recipe
    network, bundle, transferred = _initial_network(plan)
    if recipe.encoder_weights is not None and bundle is None and is_weights_file(recipe.encoder_weights):
        announce(f"the encoder starts with the weights {recorded_weights(recipe.encoder_weights)}")
    pretrained = {"encoder"} if recipe.encoder_weights is not None else set[str]()
    if transferred is not None:
        announce(f"starts with {transferred}")
        if transferred.new_classes and recipe.lr is not None and recipe.lr <= _GENTLE:
            announce(
                f"new classes learn slowly at `lr={recipe.lr:g}`, which suits known ones; try `lr=1e-3`, `epochs=40`"
            )
        pretrained = set(transferred.taken)
    _freeze_layers(plan, network, pretrained, transferred, announce)
    if _keeps_statistics(recipe, bundle):
        # only in pretrained parts: elsewhere the statistics are meaningless
        parts = [part for name, part in network.named_children() if name in pretrained]
        if not sum(map(freeze_batch_norm, parts)):
            raise nothing_to_freeze()
    return network.train()


def _freeze_layers(
    plan: TrainingPlan,
    network: torch.nn.Module,
    pretrained: Collection[str],
    transferred: Transferred | None,
    announce: Announce,
) -> None:
    """Train only the layers that the recipe selects; UsageError if others would stay random, or none would learn.

    With few scenes of other imagery, training the first layers works best (Lee et al. 2023, arXiv 2210.11466).
    """
    trainable, is_whole = plan.recipe.trainable, transferred is not None and transferred.is_whole
    if trainable == "all" or (trainable == "auto" and not (is_whole and _is_small(plan))):
        return
    parts = {name: part for name, part in network.named_children() if [*part.parameters()]}
    learning = {"decoder": parts.keys() - {"encoder"}, "head": parts.keys() & {*HEADS}}.get(trainable, set())
    random = sorted(parts.keys() - learning - {*pretrained})
    if not learning and not is_whole:
        random += transferred.new_classes if transferred is not None else ()
    if random:
        raise UsageError(
            f"`trainable={trainable!r}` freezes all other weights, so {listed(random)} would stay random; "
            "give `trainable='all'`, or `init` with a model that has what is missing",
            "trainable",
        )
    layers = [parts[name] for name in learning] or _early_layers(plan, network)
    if not layers:
        return
    if trainable == "auto":
        announce(
            "few scenes and known classes: only the encoder's first layers learn; `trainable='all'` trains every layer"
        )
    network.requires_grad_(requires_grad=False)
    for layer in layers:
        layer.requires_grad_(requires_grad=True)


def _is_small(plan: TrainingPlan) -> bool:
    return sum(class_px_of(plan.train).values()) < _FEW_CROPS * plan.recipe.crop_px**2


def _early_layers(plan: TrainingPlan, network: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the encoder's first layers; UsageError if it has none and they were requested."""
    layers = early_layers(network, torch.zeros(1, len(plan.bands), plan.recipe.crop_px, plan.recipe.crop_px))
    if not layers and plan.recipe.trainable == "early":
        raise UsageError(
            "`trainable='early'` trains the layers that see at least a quarter of the resolution, and this encoder has "
            "none; give `trainable='all'`",
            "trainable",
        )
    return layers


@torch.no_grad()
def bring_back(plan: TrainingPlan, network: torch.nn.Module) -> bool:
    """Move the weights back toward the initial ones, by `start_share` of the way; return whether it was done.

    Weights between those before and after fine-tuning do better on unseen imagery (Wortsman et al. 2022, arXiv
    2109.01903), if both have the same classes and parts. A new class or part fits only the weights that it was trained
    with, so a network with one keeps its weights.
    """
    if not (plan.recipe.start_share and plan.from_bundle):
        return False
    initial, _, transferred = _initial_network(plan)
    if transferred is None or not transferred.is_whole:
        return False
    old, new = initial.state_dict(), network.state_dict()
    for key in new:
        if new[key].is_floating_point():
            new[key].lerp_(old[key].to(new[key]), plan.recipe.start_share)
    return True


def _initial_network(plan: TrainingPlan) -> tuple[torch.nn.Module, ModelBundle | None, Transferred | None]:
    """Return the initial network, the bundle it starts from, and what it took from the bundle."""
    recipe = plan.recipe
    bundle = init_bundle(recipe, plan.architecture, plan.arguments)
    torch.manual_seed(recipe.seed)
    if bundle is None:
        return build(plan.architecture, plan.arguments, recipe.encoder_weights), None, None
    network = build(plan.architecture, plan.arguments, None)  # its encoder is the bundle's
    transferred = transfer(bundle, network, legend=plan.legend, output_codes=plan.output_codes, bands=plan.bands)
    return network, bundle, transferred
