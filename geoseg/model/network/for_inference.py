"""Less work in a trained network: batch normalization folded away, weights stored in the type that layers use."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

_CONVOLUTIONS = (
    functional.conv1d,
    functional.conv2d,
    functional.conv3d,
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
)
_LAYERS = (*_CONVOLUTIONS, functional.linear)
"""Functions whose weight and bias autocast casts to half precision on every call."""
_INSPECTIONS = {"size", "dim", "ndimension", "numel", "stride", "is_floating_point", "is_contiguous", "__len__"}
"""Methods that inspect a tensor without using its values, as attributes such as shape do."""
_LEADING_SHARE = 8
_THIN_PRODUCTS = 150
"""Products per value of a convolution: 147 for the 7 x 7 of ResNets, 9 to 144 in the first blocks of EfficientNets."""
_TOLERANCE = 1e-4
"""Relative to the largest logit. Rounding stays below 1e-5; a convolution folded wrongly is off by far more."""


def fold_batch_norm(network: torch.nn.Module, example: torch.Tensor) -> tuple[torch.nn.Module, int]:
    """Return the network with batch normalizations folded into the convolutions before them, and how many.

    The network is in evaluation mode; a copy is changed and returned. A pair is folded if, when the network runs on
    `example` (n, band, row, col), only the normalization uses the convolution's output. If the logits of the example
    then differ, nothing is folded and the network itself is returned.
    """
    folded = copy.deepcopy(network)
    pairs = _pairs(folded, _watch_run(folded, example))
    if not pairs:
        return network, 0
    for convolution, norm, replacement in pairs:
        _fold(convolution, norm)
        _replace(folded, norm, replacement)
    return (folded, len(pairs)) if _gives_same_result(network, folded, example) else (network, 0)


def halve_weights(network: torch.nn.Module, example: torch.Tensor, dtype: torch.dtype) -> int:
    """Store the weights of convolutions and linear layers in half precision; return how many tensors were converted.

    Autocast, which the network must run under, then does not cast them for every batch. The first layers stay in
    float32 and compute in it: see `_leading`.
    """
    watch = _watch_run(network, example)
    layers = {id(module.weight): module for module in network.modules() if isinstance(module, _ConvNd)}
    leading = set()
    for call in _leading(watch, example):
        layer = layers.get(id(call.weights[0]))
        if layer is None:
            break
        layer.forward = functools.partial(_in_float32, layer.forward)  # on this instance only
        leading |= {id(weight) for weight in call.weights}
    direct = Counter(id(weight) for call in watch.calls if call.function in _LAYERS for weight in call.weights)
    halved = 0
    for parameter in network.parameters():
        place = id(parameter)
        if direct[place] and direct[place] == watch.uses[place] and place not in leading:
            parameter.data = parameter.data.to(dtype)
            halved += 1
    return halved


def _in_float32(forward: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor) -> torch.Tensor:
    with torch.autocast(values.device.type, enabled=False):
        return forward(values.float())


def _leading(watch: _Watch, example: torch.Tensor) -> Iterator[_Call]:
    """Yield the first convolutions, at more than an eighth of the window's resolution, as long as they are thin.

    Their rounding errors in half precision go through the whole network: with the demo model, they caused nine tenths
    of the changed labels. They have few channels, so a GPU spends its time moving their pixels, not multiplying, and
    float32 costs little.
    """
    for call in watch.calls:
        if call.function is functional.batch_norm:
            continue
        products = call.weights[0].numel() // call.weights[0].shape[0]
        is_large = call.image.ndim == 4 and call.image.shape[-1] * _LEADING_SHARE > example.shape[-1]
        if call.function is not functional.conv2d or not is_large or products > _THIN_PRODUCTS:
            return
        yield call


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """One call of a torch function."""

    function: Callable[..., Any]
    image: torch.Tensor
    """The first argument: the pixels."""
    weights: tuple[torch.Tensor, ...]
    result: torch.Tensor
    """Kept alive, so that its id is not reused for another tensor."""


class _Watch(TorchFunctionMode):
    """Counts the uses of each tensor while a network runs, and records the layers."""

    def __init__(self) -> None:
        super().__init__()
        self.uses: Counter[int] = Counter()
        self.calls: list[_Call] = []
        self._alive: list[torch.Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever torch returns
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if not _is_inspection(func, result):
            self.uses.update(id(tensor) for tensor in tensors)
            self._alive += tensors
        if (func in _LAYERS or func is functional.batch_norm) and isinstance(result, torch.Tensor):
            self.calls.append(_Call(func, tensors[0], tuple(tensors[1:]), result))
        return result


def _is_inspection(function: Callable[..., Any], result: object) -> bool:
    name = getattr(function, "__name__", "")
    return name in _INSPECTIONS or (name == "__get__" and not isinstance(result, torch.Tensor))


def _watch_run(network: torch.nn.Module, example: torch.Tensor) -> _Watch:
    watch = _Watch()
    with torch.no_grad(), watch:
        result = network(example)
    watch.uses.update(id(leaf) for leaf in tree_leaves(result))
    return watch


_Pair = tuple[_ConvNd, torch.nn.BatchNorm2d, torch.nn.Module]


def _pairs(network: torch.nn.Module, watch: _Watch) -> list[_Pair]:
    """Return each convolution whose only user is a normalization, with it and the module to leave in its place."""
    modules = list(network.modules())
    convolutions = {id(module.weight): module for module in modules if isinstance(module, _ConvNd)}
    norms = {id(module.running_mean): module for module in modules if isinstance(module, torch.nn.BatchNorm2d)}
    by_result = {id(call.result): call for call in watch.calls if call.function in _CONVOLUTIONS}
    pairs = []
    for call in watch.calls:
        before = by_result.get(id(call.image))
        if call.function is not functional.batch_norm or before is None:
            continue
        convolution = convolutions.get(id(before.weights[0]))
        norm = next((norms[id(module)] for module in call.weights if id(module) in norms), None)
        replacement = None if norm is None else _replacement(norm)
        if convolution is None or norm is None or replacement is None:
            continue
        if isinstance(convolution, _ConvTransposeNd) and convolution.groups > 1:
            continue  # its weight orders output channels differently if there are groups
        alone = (before.result, *before.weights, norm.running_mean)
        if all(watch.uses[id(tensor)] == 1 for tensor in alone):
            pairs.append((convolution, norm, replacement))
    return pairs


def _replacement(norm: torch.nn.BatchNorm2d) -> torch.nn.Module | None:
    """Return the layers that a normalization applies after normalizing, None if they are not known."""
    if type(norm) is torch.nn.BatchNorm2d:
        return torch.nn.Identity()
    return torch.nn.Sequential(norm.drop, norm.act) if type(norm) is BatchNormAct2d else None


def _fold(convolution: _ConvNd, norm: torch.nn.BatchNorm2d) -> None:
    """Fold in float64, so that the weights are rounded only once."""
    values = (convolution.weight, convolution.bias, norm.running_mean, norm.running_var)
    weight, bias, mean, variance = (None if value is None else value.detach().double() for value in values)
    scale, shift = (None if value is None else value.detach().double() for value in (norm.weight, norm.bias))
    transposed = isinstance(convolution, _ConvTransposeNd)
    folded = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift, transposed)  # type: ignore[arg-type]
    dtype = convolution.weight.dtype
    convolution.weight, convolution.bias = (
        torch.nn.Parameter(value.to(dtype), requires_grad=False) for value in folded
    )


def _replace(network: torch.nn.Module, norm: torch.nn.Module, replacement: torch.nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child is norm:
                setattr(parent, name, replacement)


def _gives_same_result(network: torch.nn.Module, folded: torch.nn.Module, example: torch.Tensor) -> bool:
    with torch.no_grad():
        expected = network(example)
        try:
            result = folded(example)
        except Exception:  # noqa: BLE001 - a network that inspects its normalizations may raise any error
            return False
    tolerance = _TOLERANCE * max(float(expected.abs().max()), 1.0)
    return bool(result.shape == expected.shape) and float((result - expected).abs().max()) <= tolerance
