"""Builds torch networks from names and numbers, and loads weights only if they fit.

To find out which windows a network accepts, it is run on the meta device, without memory.
"""

from __future__ import annotations

import contextlib
import functools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
from torch.overrides import TorchFunctionMode

from geoseg.errors import ModelError, UsageError, one_line
from geoseg.machine import is_fork
from geoseg.model.bundle import (
    DEFAULT_WINDOW_PX,
    Header,
    ModelBundle,
    architecture_named,
    check_window,
    file_hash,
    frozen_text,
    is_weights_file,
    no_encoder,
    read_header,
    timm_name_of,
)
from geoseg.model.network.encoders import check_encoder, check_finite, fetchable, fetching, load_encoder_weights
from geoseg.model.network.own_networks import (
    FCN,
    SEGNET_ENCODER,
    DeepLabV3Auxiliary,
    DeepLabV3PlusAuxiliary,
    LightFPN,
    PlainUnet,
    SegNet,
    UPerNet04,
)

_MAX_GROUPS = 32
"""Wu and He 2018, arXiv 1803.08494, table 3: 32 groups were the best of those tried."""
_LEAST_CHANNELS = 2
"""In a group of one channel, nothing is left to normalize if a decoder pools a window to one pixel."""


def _replace_batch_norm(network: torch.nn.Module) -> None:
    """Replace every 2-D batch normalization with group normalization.

    Scale and shift keep their names, running statistics are dropped: each image is normalized by itself, in training
    and afterwards. Pretrained weights expect the statistics they were trained with, so they perform worse at first.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.BatchNorm2d):
                setattr(parent, name, _GroupNorm(child))


def freeze_batch_norm(network: torch.nn.Module) -> int:
    """Make every batch normalization use its running statistics from now on, and stop learning; return how many.

    This survives `network.train()`: each one returns to evaluation mode before it is used.
    """
    norms = [module for module in network.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001 - the parent of all
    for norm in norms:
        norm.eval().requires_grad_(False)
        norm.register_forward_pre_hook(_keep_evaluating)
    return len(norms)


@torch.no_grad()
def early_layers(network: torch.nn.Module, images: torch.Tensor) -> list[torch.nn.Module]:
    """Return the encoder's layers whose output has at least a quarter of the rows and columns of its input.

    `images`: (n, band, row, col), of a size the network accepts. Empty if the encoder starts with larger strides.
    """
    early: dict[torch.nn.Module, None] = {}
    least = images.numel() // images.shape[1] / 4**2

    def record(layer: torch.nn.Module, _inputs: object, output: object) -> None:
        channels = next(layer.parameters()).shape[0]
        if isinstance(output, torch.Tensor) and output.numel() / channels >= least:
            early[layer] = None

    layers = [module for module in network.get_submodule("encoder").modules() if [*module.parameters(recurse=False)]]
    hooks = [module.register_forward_hook(record) for module in layers]
    network.eval()(images)
    for hook in hooks:
        hook.remove()
    return list(early)


class _GroupNorm(torch.nn.GroupNorm):
    """Replaces a batch normalization, including the activation that timm's contain."""

    def __init__(self, norm: torch.nn.BatchNorm2d) -> None:
        super().__init__(_groups(norm.num_features), norm.num_features, norm.eps, affine=False)
        self.weight, self.bias = norm.weight, norm.bias
        self.drop = getattr(norm, "drop", torch.nn.Identity())
        self.act = getattr(norm, "act", torch.nn.Identity())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        normalized: torch.Tensor = self.act(self.drop(super().forward(values)))
        return normalized


def _groups(channels: int) -> int:
    """Return the largest number of equal groups, at most 32, with at least two channels each."""
    most = max(min(_MAX_GROUPS, channels // _LEAST_CHANNELS), 1)
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


def _keep_evaluating(norm: torch.nn.Module, _: object) -> None:
    norm.eval()


DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""torch's data types by safetensors' names."""
_Constructor = Callable[..., torch.nn.Module]
_OWN: dict[str, _Constructor] = {
    "FCN32s": functools.partial(FCN, stride=32),
    "FCN16s": functools.partial(FCN, stride=16),
    "FCN8s": functools.partial(FCN, stride=8),
    "LightFPN": LightFPN,
    "SegNet": SegNet,
    "PlainUnet": PlainUnet,
    "UPerNet04": UPerNet04,
}
_WITH_AUX_HEAD: dict[str, _Constructor] = {"DeepLabV3": DeepLabV3Auxiliary, "DeepLabV3Plus": DeepLabV3PlusAuxiliary}


def build(architecture: str, arguments: Mapping[str, Any], encoder_weights: str | None = None) -> torch.nn.Module:
    """Return a new network: (n, band, row, col) float32 to logits (n, class, row, col); two if `classes` is 1.

    With the argument aux_head it returns (logits, auxiliary logits) during training. For training, `encoder_weights`
    is one of `encoder_weights_of(encoder)`, which smp fetches, or a weights file (see `load_encoder_weights`). Bundles
    are always loaded with None, so nothing is fetched. Raises ModelError for an unknown architecture, encoder, argument
    or weights name, if the weights cannot be fetched, or if a file does not fit.
    """
    kind = architecture_named(architecture)
    kind.check(arguments)
    make, options = _constructor(kind.name, arguments)
    options |= _fetching(kind.name, options, encoder_weights)
    try:
        with warnings.catch_warnings(), fetching() if options.get("encoder_weights") else contextlib.nullcontext():
            warnings.simplefilter("ignore", DeprecationWarning)  # old encoder names must keep working
            warnings.filterwarnings("ignore", "Initializing zero-element")  # see _check_has_layers
            with _Unfilled(_is_discarded):
                network = make(**options)
    except ModelError:
        raise
    except Exception as fault:  # noqa: BLE001 - smp, timm and their downloads raise all kinds of errors
        raise ModelError(_build_failure(kind.name, options, encoder_weights, fault)) from None
    _check_has_layers(network, kind.name, arguments)
    if encoder_weights is not None and is_weights_file(encoder_weights):
        _load_encoder_file(network, arguments, encoder_weights)
    if arguments.get("norm") == "group":
        _replace_batch_norm(network)
    if arguments["classes"] == 1:
        network.register_forward_hook(_with_background)  # a hook keeps the names of the weights
    return network


def _check_has_layers(network: torch.nn.Module, name: str, arguments: Mapping[str, Any]) -> None:
    """Raise ModelError if the deepest level of the encoder has no layers: some start with a stride of 4."""
    channels = getattr(getattr(network, "encoder", None), "out_channels", None) or [1]
    if channels[-1] == 0:
        depth = arguments.get("encoder_depth")
        raise ModelError(
            f"{name}: {_encoder_of(arguments)} has no layers at encoder_depth {depth}; give an encoder_depth of at "
            f"least {len(channels)}"
        )


def _with_background(_network: torch.nn.Module, _images: object, logits: torch.Tensor) -> torch.Tensor:
    """Return two logits for the one of a binary network: their softmax equals its sigmoid."""
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def _load_encoder_file(network: torch.nn.Module, arguments: Mapping[str, Any], file: str) -> None:
    load_encoder_weights(network.get_submodule("encoder"), _encoder_of(arguments), Path(file), arguments["in_channels"])


def _encoder_of(arguments: Mapping[str, Any]) -> str:
    """Return the encoder's name, for an architecture that has one."""
    return str(arguments.get("encoder_name", SEGNET_ENCODER))


def _constructor(name: str, arguments: Mapping[str, Any]) -> tuple[_Constructor, dict[str, Any]]:
    """Return the function that makes a network, and its arguments."""
    options = {key: value for key, value in arguments.items() if key not in {"norm", "aux_head"}}
    if arguments.get("aux_head"):
        return _WITH_AUX_HEAD[name], options
    return _OWN.get(name, functools.partial(smp.create_model, name)), options


def _fetching(name: str, arguments: Mapping[str, Any], weights: str | None) -> dict[str, Any]:
    """Return encoder_name and encoder_weights as the maker expects them."""
    if "encoder_name" not in architecture_named(name).checks:
        if weights is not None:
            raise no_encoder(name, weights)
        return {}
    encoder = _encoder_of(arguments)
    check_encoder(encoder)
    encoder, fetched = fetchable(encoder, None if weights is not None and is_weights_file(weights) else weights)
    return {"encoder_name": encoder, "encoder_weights": fetched}


class _Unfilled(TorchFunctionMode):
    """Skips random initialization of the chosen tensors, whose values are never used."""

    def __init__(self, chosen: Callable[[torch.Tensor], bool]) -> None:
        super().__init__()
        self._chosen = chosen

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        keywords = kwargs or {}
        if function in _FILLS:
            tensor = keywords["tensor"] if "tensor" in keywords else args[0]
            if self._chosen(tensor):
                return tensor
        elif (
            function in _SHIFTS
            and args[0].is_meta
            and not any(isinstance(argument, torch.Tensor) for argument in args[1:])
        ):
            return args[0]
        return function(*args, **keywords)


_FILLS = frozenset(
    (torch.nn.init.uniform_, torch.nn.init.normal_, torch.nn.init.kaiming_uniform_, torch.Tensor.uniform_,
     torch.Tensor.normal_)
)  # fmt: skip
_SHIFTS = frozenset((torch.Tensor.mul_, torch.Tensor.add_, torch.Tensor.clamp_, torch.Tensor.erfinv_))
"""With numbers these keep the shape; on the meta device they have no values to change, and take torch 2 ms."""
_VGG_CLASSIFIER = {(4096, 512 * 7 * 7), (4096, 4096), (1000, 4096)}


def _is_discarded(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is on the meta device, or in the classifier that smp's VGG builds and deletes.

    Filling a meta tensor takes torch 2 ms of overhead, filling that classifier of 124 million numbers 2 seconds.
    """
    return tensor.is_meta or tuple(tensor.shape) in _VGG_CLASSIFIER


def use_threads(threads: int | None) -> None:
    """Set the number of torch's CPU threads, None for its own choice; in a forked process it is one.

    In a fork, OpenMP would wait for the threads of the parent.
    """
    count = 1 if is_fork() else threads
    if count is not None:
        torch.set_num_threads(count)


def load_network(bundle: ModelBundle) -> torch.nn.Module:
    """Return the network of a bundle on the CPU in float32, in evaluation mode, without gradients.

    The network is first built on the meta device and compared with the file's header, so that a small file cannot
    request a large network. ModelError if the weights do not fit or are not finite, or if the file has changed since
    the bundle was opened.
    """
    check_fit(bundle.architecture, bundle.arguments, read_header(bundle.weights_path), bundle.name)
    if file_hash(bundle.weights_path) != bundle.weights_hash:
        raise ModelError(f"{bundle.weights_path} has changed since it was opened; start again")
    with _Unfilled(lambda _tensor: True):  # all values come from the file
        network = build(bundle.architecture, bundle.arguments)
    weights = safetensors.torch.load_file(bundle.weights_path)
    check_finite(weights, bundle.weights_path, "train again")
    _load_strictly(network, weights, bundle.name)
    return network.eval().requires_grad_(False)


def check_fit(architecture: str, arguments: Mapping[str, Any], header: Header, name: str) -> None:
    """Raise ModelError unless the tensors of a header are exactly the architecture's; allocates neither."""
    network = _blueprint(architecture, arguments)
    shapes = {
        tensor.name: torch.empty(tensor.shape, dtype=DTYPES[tensor.dtype], device="meta") for tensor in header.tensors
    }
    is_floating = {key: tensor.is_floating_point() for key, tensor in network.state_dict().items()}
    mixed = [
        key
        for key, tensor in shapes.items()
        if is_floating.get(key, tensor.is_floating_point()) != tensor.is_floating_point()
    ]
    if mixed:
        raise ModelError(
            f"the weights of {name} do not fit {architecture}: {one_line(mixed[0], 60)} has another data type"
        )
    _load_strictly(network, shapes, name)


def check_encoder_weights(architecture: str, arguments: Mapping[str, Any], weights: str | None) -> None:
    """Raise ModelError if the encoder has no weights of that name, or a file of weights does not fit it."""
    _fetching(architecture_named(architecture).name, arguments, weights)
    if weights is not None and is_weights_file(weights):
        _load_encoder_file(_blueprint(architecture, arguments), arguments, weights)


def parameter_shapes(architecture: str, arguments: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in an architecture's state dict by name, without allocating them."""
    return {key: tuple(tensor.shape) for key, tensor in _blueprint(architecture, arguments).state_dict().items()}


def _blueprint(architecture: str, arguments: Mapping[str, Any]) -> torch.nn.Module:
    """Return a network on the meta device, for inspection only: it is cached, so callers must not change it."""
    return _without_memory(architecture, frozen_text(dict(arguments), "arguments"))


@functools.lru_cache(maxsize=8)
def _without_memory(architecture: str, arguments_text: str) -> torch.nn.Module:
    """Build and cache: it takes half a second, and training needs the same network ten times before its first step."""
    with torch.device("meta"), _RatesInMemory():
        network = build(architecture, json.loads(arguments_text))
    return network.to("meta")


class _RatesInMemory(TorchFunctionMode):
    """Keeps `linspace` on the CPU, for networks that read its values while being built: smp's mit_b0 to b5."""

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        keywords = dict(kwargs or {})
        return function(*args, **(keywords | {"device": "cpu"} if function is torch.linspace else keywords))


def _load_strictly(network: torch.nn.Module, weights: dict[str, torch.Tensor], name: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that loading into a meta tensor has no effect
            network.load_state_dict(weights, strict=True)
    except (RuntimeError, KeyError, ValueError) as fault:
        reason = one_line(str(fault).partition(":\n")[2] or fault)
        raise ModelError(f"the weights of {name} do not fit its architecture: {reason}") from None


def _build_failure(name: str, arguments: Mapping[str, Any], encoder_weights: str | None, fault: Exception) -> str:
    encoder = arguments.get("encoder_name")
    if encoder_weights is not None:
        return (
            f"{name} with the {encoder_weights} weights of {encoder} cannot be built: {one_line(fault)}; fetching them "
            "needs the network once; without, start from random weights (encoder_weights none) or from a bundle"
        )
    return f"{name}{f' with encoder {encoder}' if encoder else ''} cannot be built: {one_line(fault)}"


def usual_window_px(architecture: str, arguments: Mapping[str, Any], longest_px: int = DEFAULT_WINDOW_PX) -> int:
    """Return a network's default window: the largest usual one that it accepts.

    A transformer for images of 224 px may accept only that. `longest_px`: the longest side of the scenes, beyond which
    larger windows are of no use.
    """
    divisor = architecture_named(architecture).divisor(arguments)
    usual = min(DEFAULT_WINDOW_PX // divisor, -(-longest_px // divisor)) * divisor
    if window_fault(architecture, arguments, usual) is None:
        return usual
    return _nearest_size(architecture, arguments, usual) or usual


def check_network_accepts(
    architecture: str, arguments: Mapping[str, Any], window_px: int, name: str = "window"
) -> None:
    """Raise UsageError, suggesting a size that fits, unless a network accepts windows of a size.

    `name`: the caller's name for the window.
    """
    check_window(window_px, architecture_named(architecture).divisor(arguments), name)
    reason = window_fault(architecture, arguments, window_px)
    if reason is None:
        return
    suggestion = _nearest_size(architecture, arguments, window_px)
    encoder = arguments.get("encoder_name")
    alternative = ", or build the network with the argument dynamic_img_size" if architecture == "DPT" else ""
    raise UsageError(
        f"`{name}={window_px}` does not suit {architecture}{f' on {encoder}' if encoder else ''}: {reason}; "
        f"give {f'`{name}={suggestion}`' if suggestion else 'another one'}{alternative}",
        name,
    )


def window_fault(
    architecture: str, arguments: Mapping[str, Any], window_px: int, *, batch: int = 1, learning: bool = False
) -> str | None:
    """Return why a network cannot process a batch of windows, None if it can.

    `learning`: in training mode, where batch normalization needs more than one value per channel.
    """
    return _fault(architecture, frozen_text(dict(arguments), "arguments"), window_px, batch, learning)


@functools.lru_cache(maxsize=64)
def _fault(architecture: str, arguments_text: str, window_px: int, batch: int, learning: bool) -> str | None:  # noqa: FBT001 - lru_cache distinguishes the order of keywords
    arguments = json.loads(arguments_text)
    network = _blueprint(architecture, arguments).train(learning)
    try:
        with warnings.catch_warnings(), torch.no_grad(), _ShapesOnly():
            warnings.simplefilter("ignore")
            answer = network(torch.empty(batch, arguments["in_channels"], window_px, window_px, device="meta"))
    except Exception as fault:  # noqa: BLE001 - networks raise all kinds of errors
        return None if _is_about_memory(fault) else one_line(str(fault).rstrip("."), 120)
    logits = answer[0] if isinstance(answer, tuple) else answer  # a tuple with a second head, in training mode
    rows, cols = logits.shape[-2:]
    return (
        None if (rows, cols) == (window_px, window_px) else f"it gives {rows} x {cols} px for {window_px} x {window_px}"
    )


class _ShapesOnly(TorchFunctionMode):
    """Passes meta tensors through batch normalization unchanged, which takes torch 3 ms per layer."""

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if function is torch.nn.functional.batch_norm and args[0].numel() > args[0].shape[1]:  # else it may raise
            return args[0]
        return function(*args, **(kwargs or {}))


def _is_about_memory(fault: Exception) -> bool:
    """Return whether an operation failed because of the meta device, which says nothing about sizes."""
    return isinstance(fault, NotImplementedError) or "meta" in str(fault).lower()


def _nearest_size(architecture: str, arguments: Mapping[str, Any], window_px: int) -> int | None:
    """Return the nearest size that a network accepts, of those it was made for and the usual ones; None if none."""
    divisor = architecture_named(architecture).divisor(arguments)
    sizes = {usual // divisor * divisor for usual in (DEFAULT_WINDOW_PX // 2, DEFAULT_WINDOW_PX)}
    sizes.update(_own_sizes(architecture, arguments))
    fitting = {size for size in sizes if size > 0 and window_fault(architecture, arguments, size) is None}
    return min(fitting, key=lambda size: (abs(size - window_px), size), default=None)


def _own_sizes(architecture: str, arguments: Mapping[str, Any]) -> Iterator[int]:
    """Yield the sizes given in a network's modules and in timm's configuration of its encoder."""
    network = _blueprint(architecture, arguments)
    for module in network.modules():
        size = getattr(module, "img_size", None)
        edge = size[0] if isinstance(size, list | tuple) and size else size
        if isinstance(edge, int):
            yield edge
    timm_name = timm_name_of(str(arguments.get("encoder_name")))
    config = timm.get_pretrained_cfg(timm_name) if timm_name else None
    if config is not None:
        yield int(config.input_size[-1])
