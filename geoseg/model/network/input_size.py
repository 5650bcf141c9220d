"""Which windows a network can take: asked of the network itself, run without memory."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import timm
import torch
from torch.overrides import TorchFunctionMode

from geoseg.errors import UsageError
from geoseg.model.bundle import DEFAULT_WINDOW_PX, architecture_named, check_window, frozen_text, one_line
from geoseg.model.network.encoders import timm_name_of
from geoseg.model.network.network import blueprint


def usual_window_px(architecture: str, arguments: Mapping[str, Any], longest_px: int = DEFAULT_WINDOW_PX) -> int:
    """Return the window of a network for which nobody says one: the largest usual one that it takes.

    A transformer for pictures of 224 takes no other. `longest_px`: of the scenes, where larger ones are of no use.
    """
    divisor = architecture_named(architecture).divisor(arguments)
    usual = min(DEFAULT_WINDOW_PX // divisor, -(-longest_px // divisor)) * divisor
    if window_fault(architecture, arguments, usual) is None:
        return usual
    return _other_size(architecture, arguments, usual) or usual


def check_takes(architecture: str, arguments: Mapping[str, Any], window_px: int, name: str = "window") -> None:
    """Raise UsageError, naming a size that fits, unless a network takes windows of a size.

    `name`: what the caller's window is called.
    """
    check_window(window_px, architecture_named(architecture).divisor(arguments), name)
    reason = window_fault(architecture, arguments, window_px)
    if reason is None:
        return
    other = _other_size(architecture, arguments, window_px)
    encoder = arguments.get("encoder_name")
    lifted = ", or build the network with the argument dynamic_img_size" if architecture == "DPT" else ""
    raise UsageError(
        f"`{name}={window_px}` does not suit {architecture}{f' on {encoder}' if encoder else ''}: {reason}; "
        f"give {f'`{name}={other}`' if other else 'another one'}{lifted}",
        name,
    )


def window_fault(
    architecture: str, arguments: Mapping[str, Any], window_px: int, *, batch: int = 1, learning: bool = False
) -> str | None:
    """Return why a network cannot take a batch of windows, None where it can.

    `learning`: as it learns, where batch normalization wants more than one value a channel.
    """
    return _fault(architecture, frozen_text(dict(arguments), "arguments"), window_px, batch, learning)


@functools.lru_cache(maxsize=64)
def _fault(architecture: str, arguments_text: str, window_px: int, batch: int, learning: bool) -> str | None:  # noqa: FBT001 (lru_cache tells keywords in another order apart)
    arguments = json.loads(arguments_text)
    network = blueprint(architecture, arguments).train(learning)
    try:
        with warnings.catch_warnings(), torch.no_grad(), _ShapesAlone():
            warnings.simplefilter("ignore")
            answer = network(torch.empty(batch, arguments["in_channels"], window_px, window_px, device="meta"))
    except Exception as fault:  # noqa: BLE001 (networks raise whatever they like)
        return None if _is_about_memory(fault) else one_line(str(fault).rstrip("."), 120)
    logits = answer[0] if isinstance(answer, tuple) else answer  # of a second head while it learns
    rows, cols = logits.shape[-2:]
    return (
        None if (rows, cols) == (window_px, window_px) else f"it gives {rows} x {cols} px for {window_px} x {window_px}"
    )


class _ShapesAlone(TorchFunctionMode):
    """Lets values without memory through batch normalization, whose rules for them take torch 3 ms a layer."""

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if function is torch.nn.functional.batch_norm and args[0].numel() > args[0].shape[1]:  # else it may refuse
            return args[0]
        return function(*args, **(kwargs or {}))


def _is_about_memory(fault: Exception) -> bool:
    """Tell whether an operation failed because there is no memory, which says nothing of sizes."""
    return isinstance(fault, NotImplementedError) or "meta" in str(fault).lower()


def _other_size(architecture: str, arguments: Mapping[str, Any], window_px: int) -> int | None:
    """Return the size that a network was made for, or a usual one that it takes, the nearest of several; else None."""
    divisor = architecture_named(architecture).divisor(arguments)
    sizes = {usual // divisor * divisor for usual in (DEFAULT_WINDOW_PX // 2, DEFAULT_WINDOW_PX)}
    sizes.update(_own_sizes(architecture, arguments))
    fitting = {size for size in sizes if size > 0 and window_fault(architecture, arguments, size) is None}
    return min(fitting, key=lambda size: (abs(size - window_px), size), default=None)


def _own_sizes(architecture: str, arguments: Mapping[str, Any]) -> Iterator[int]:
    """Yield the sizes that the parts of a network, and timm's card of its encoder, speak of."""
    network = blueprint(architecture, arguments)
    for module in network.modules():
        size = getattr(module, "img_size", None)
        edge = size[0] if isinstance(size, list | tuple) and size else size
        if isinstance(edge, int):
            yield edge
    timm_name = timm_name_of(str(arguments.get("encoder_name")))
    config = timm.get_pretrained_cfg(timm_name) if timm_name else None
    if config is not None:
        yield int(config.input_size[-1])
