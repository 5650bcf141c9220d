"""Transfers the weights of a trained model to a new network, even if classes or bands differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from geoseg.errors import ModelError
from geoseg.legend import Legend, name_key
from geoseg.model.bundle import ModelBundle
from geoseg.model.network.network import load_network, parameter_shapes

HEADS = ("segmentation_head", "skip_heads")
"""Parts that are meaningless without the decoder before them."""
NORM_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Tensors of batch normalization that group normalization lacks."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """What was transferred from a bundle to a network; its str is one line for people."""

    source: str
    taken: tuple[str, ...]
    """Parts of the network: encoder, decoder, segmentation_head, ..."""
    left: tuple[str, ...]
    """Parts that start at random."""
    classes: tuple[str, ...]
    """Names of the classes whose output channels were transferred."""
    new_classes: tuple[str, ...]
    """Names of the classes that start at random."""
    bands: tuple[str, ...]
    """Names of the bands whose input channels were transferred."""
    new_bands: tuple[str, ...]
    """Names of the bands that start with the mean of the bundle's bands."""

    @property
    def is_whole(self) -> bool:
        """Whether no part and no class starts at random."""
        return not (self.left or self.new_classes)

    def __str__(self) -> str:
        sides = [f"{', '.join(self.taken)} from {self.source}"]
        sides += [f"classes {', '.join(self.classes)}"] if self.classes else []
        sides += [f"bands {', '.join(self.bands)}"] if self.bands else []
        new = [*self.left, *([f"classes {', '.join(self.new_classes)}"] if self.new_classes else [])]
        text = f"{'; '.join(sides)}; new: {', '.join(new) or 'nothing'}"
        return text + (f"; mean of the bands: {', '.join(self.new_bands)}" if self.new_bands else "")


def transfer(
    bundle: ModelBundle,
    network: torch.nn.Module,
    *,
    legend: Legend,
    output_codes: tuple[int, ...],
    bands: tuple[str, ...],
) -> Transferred:
    """Copy the weights of a bundle into a new network wherever they mean the same.

    The encoder must be the bundle's. Every other part (decoder, segmentation_head, ...) is transferred whole if it
    matches, else left unchanged; a head goes with its decoder. `legend`, `output_codes` and `bands` give the meaning of
    the network's own channels: an output channel is transferred if both have a class of that name, an input channel if
    both have a band of that name. A band that the bundle lacks starts with the mean of the bundle's bands. Names ignore
    case. Raises ModelError, leaving the network unchanged, if the encoder differs.
    """
    old = load_network(bundle).state_dict()
    new = network.state_dict()
    classes = tuple(legend.by_code(code).name for code in output_codes)
    channels = _channels(bundle, classes, bands)
    axes = _axes(bundle, len(output_codes), len(bands))
    parts = tuple(name for name, _ in network.named_children() if _keys(new, name))
    equal_parts = [part for part in parts if _has_equal_tensors(part, old, new, axes)]
    if "encoder" not in equal_parts:
        raise ModelError(
            f"no weights of {bundle.name}, {bundle.architecture} on "
            f"{bundle.arguments.get('encoder_name', 'no encoder')}, fit the new network, which has another encoder; "
            "choose the same architecture and encoder, or start from scratch"
        )
    has_equal_decoder = "decoder" in equal_parts or not (_keys(old, "decoder") or _keys(new, "decoder"))
    transferred = tuple(part for part in equal_parts if part not in HEADS or has_equal_decoder)
    if bundle.arguments["classes"] == 1:  # its background has the logit 0, so its weights are 0
        for key, axis in ((key, axis) for key, axis in axes.items() if axis.of_classes):
            old[key] = torch.cat([torch.zeros_like(old[key]), old[key]], axis.number)
    with torch.no_grad():
        for part in transferred:
            for key in _keys(new, part):
                if key in old:
                    _copy(old[key], new[key], axes.get(key), channels)
    return _summary(bundle.name, parts, transferred, channels, classes, bands)


@dataclass(frozen=True, slots=True)
class _Channels:
    """For each new channel, the matching channel of the bundle, or None."""

    classes: tuple[int | None, ...]
    bands: tuple[int | None, ...]


def _channels(bundle: ModelBundle, classes: Iterable[str], bands: Iterable[str]) -> _Channels:
    old_classes = [name_key(bundle.legend.by_code(code).name) for code in bundle.output_codes]
    old_bands = [band.casefold() for band in bundle.bands]
    return _Channels(
        tuple(_index(old_classes, name_key(name)) for name in classes),
        tuple(_index(old_bands, band.casefold()) for band in bands),
    )


def _index(keys: list[str], key: str) -> int | None:
    return keys.index(key) if key in keys else None


@dataclass(frozen=True, slots=True)
class _Axis:
    """A tensor's axis of classes or bands, and its length in the new network."""

    number: int
    of_classes: bool
    length: int


def _axes(bundle: ModelBundle, classes: int, bands: int) -> dict[str, _Axis]:
    """Return the tensors with an axis of classes or bands, found by adding one class or band to the architecture."""
    plain = parameter_shapes(bundle.architecture, bundle.arguments)
    axes = {}
    for name, length in (("classes", classes), ("in_channels", bands)):
        more: Mapping[str, Any] = bundle.arguments | {name: bundle.arguments[name] + 1}
        for key, shape in parameter_shapes(bundle.architecture, more).items():
            for number, (before, after) in enumerate(zip(plain[key], shape, strict=True)):
                if before != after:
                    axes[key] = _Axis(number, name == "classes", length)
    return axes


def _keys(state: Mapping[str, torch.Tensor], part: str) -> list[str]:
    return [key for key in state if key.startswith(f"{part}.")]


def _has_equal_tensors(
    part: str, old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor], axes: Mapping[str, _Axis]
) -> bool:
    """Return whether a part has the same tensors in both, except for running statistics and the sizes in `axes`."""
    shapes, expected = (
        {key: list(state[key].shape) for key in _keys(state, part) if not key.endswith(NORM_STATISTICS)}
        for state in (old, new)
    )
    for key in shapes.keys() & axes.keys():
        shapes[key][axes[key].number] = axes[key].length
    return shapes == expected


def _copy(old: torch.Tensor, new: torch.Tensor, axis: _Axis | None, channels: _Channels) -> None:
    if axis is None:
        new.copy_(old)
        return
    for index, source in enumerate(channels.classes if axis.of_classes else channels.bands):
        if source is not None:
            new.select(axis.number, index).copy_(old.select(axis.number, source))
        elif not axis.of_classes:
            new.select(axis.number, index).copy_(old.mean(axis.number))


def _summary(  # noqa: PLR0913, PLR0917 - the result has this many fields
    source: str,
    parts: tuple[str, ...],
    transferred: tuple[str, ...],
    channels: _Channels,
    classes: tuple[str, ...],
    bands: tuple[str, ...],
) -> Transferred:
    names = classes if "segmentation_head" in transferred else ()
    known = tuple(name for name, place in zip(names, channels.classes, strict=False) if place is not None)
    matched = tuple(band for band, place in zip(bands, channels.bands, strict=True) if place is not None)
    return Transferred(
        source=source,
        taken=transferred,
        left=tuple(part for part in parts if part not in transferred),
        classes=known,
        new_classes=tuple(name for name in names if name not in known),
        bands=matched,
        new_bands=tuple(band for band in bands if band not in matched),
    )
