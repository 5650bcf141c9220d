"""Save a trained network as a bundle."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import torch

from geoseg.atomic import written_whole
from geoseg.errors import ModelError, UsageError, blamed_on, one_line
from geoseg.given import plain_arguments
from geoseg.legend import GivenLegend, given_legend
from geoseg.model.bundle import (
    DEFAULT_BANDS,
    DEFAULT_DTYPE,
    DEFAULT_TEMPERATURE,
    DEFAULT_WINDOW_PX,
    METADATA_KEY,
    ModelBundle,
    ModelCard,
    Normalization,
    architecture_named,
    default_overlap,
    frozen_text,
    may_have_one_size,
    read_header,
    to_mlm,
)
from geoseg.model.network import DTYPES, check_fit, check_network_accepts, usual_window_px
from geoseg.raster import BandStatistics
from geoseg.typed import as_path


@plain_arguments()
def save_bundle(  # noqa: PLR0913 - a model has this many properties
    path: str | Path,
    network: torch.nn.Module | Mapping[str, torch.Tensor],
    *,
    architecture: str,
    arguments: Mapping[str, Any],
    legend: GivenLegend,
    normalization: Normalization,
    output_codes: tuple[int, ...] | None = None,
    bands: tuple[str, ...] = DEFAULT_BANDS,
    dtype: str = DEFAULT_DTYPE,
    statistics: BandStatistics | None = None,
    gsd_m: float | None = None,
    window_px: int | None = None,
    overlap_px: int | None = None,
    temperature: float = DEFAULT_TEMPERATURE,
    name: str | None = None,
    provenance: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    half: bool = False,
) -> ModelBundle:
    """Write a network, or its state dict, as one `.safetensors` bundle. The file appears whole or not at all.

    Parameters
    ----------
    path : str or Path
        Path of the bundle.
    network : torch.nn.Module or mapping of str to torch.Tensor
        A trained network: (n, band, row, col) float32 to logits (n, class, row, col).
    architecture, arguments
        As for `geoseg.model.build`, without `encoder_weights`.
    legend : Legend, dict of names by code, or path of a legend file
        The classes; the output channels stand for their codes in ascending order.
    normalization : Normalization
        The normalization of the network's input, in stored units.
    output_codes : tuple of int, optional
        The class code of each output channel, if the legend has other codes too. A binary network has one channel
        and two codes, the background's first.
    bands, dtype, statistics, gsd_m
        Of the training imagery: band names, data type, statistics in stored units, meters per pixel.
    window_px, overlap_px : int, optional
        Default: 512, or the one size that the network accepts; a quarter of the window.
    temperature : float, optional
        Divides the logits (Guo et al. 2017, arXiv 1706.04599).
    name : str, optional
        Default: the file's name without its suffix.
    provenance, metrics : dict, optional
        Training data and scores, as plain values.
    half : bool, optional
        Store weights in half precision, which halves the file; the network still computes in float32.

    Returns
    -------
    ModelBundle
        The bundle, read back from the file.

    Raises
    ------
    UsageError
        If the arguments do not fit together.
    ModelError
        If the weights are not the architecture's.
    OutputError
        If the file cannot be written.

    """
    path, classes = Path(as_path("path", path)), given_legend(legend)
    with blamed_on("architecture"):
        kind = architecture_named(architecture)
    with blamed_on("arguments"):
        kind.check(arguments)
    window_px = _window_px(architecture, arguments, window_px)
    card = ModelCard(
        name=name or path.stem,
        architecture=kind.name,
        arguments_text=frozen_text(dict(arguments), "arguments"),
        legend=classes,
        output_codes=classes.codes if output_codes is None else tuple(output_codes),
        bands=tuple(bands),
        dtype=dtype,
        normalization=normalization,
        statistics=statistics,
        gsd_m=gsd_m,
        window_px=window_px,
        overlap_px=default_overlap(window_px) if overlap_px is None else overlap_px,
        temperature=temperature,
        provenance_text=frozen_text(provenance, "provenance"),
        metrics_text=frozen_text(metrics, "metrics"),
    )
    state = network.state_dict() if isinstance(network, torch.nn.Module) else network
    if not isinstance(state, Mapping) or not all(isinstance(each, torch.Tensor) for each in state.values()):
        raise UsageError(
            f"`network` must be a torch.nn.Module or its state_dict, got {type(network).__name__}", "network"
        )
    return write_bundle(path, state, card, _halved if half else lambda _name, tensor: tensor)


def _halved(_name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return float32 kernels in half precision; small tensors, and values beyond its range, unchanged."""
    if tensor.dtype != torch.float32 or tensor.ndim < 2 or not bool(torch.isfinite(tensor.half()).all()):
        return tensor
    return tensor.half()


def _window_px(architecture: str, arguments: Mapping[str, Any], window_px: int | None) -> int:
    """Return the window of a bundle; UsageError if the network accepts one size and this is not it."""
    if not may_have_one_size(arguments):
        return DEFAULT_WINDOW_PX if window_px is None else window_px
    if window_px is None:
        return usual_window_px(architecture, arguments)
    check_network_accepts(architecture, arguments, window_px)
    return window_px


Conversion: TypeAlias = Callable[[str, torch.Tensor], torch.Tensor]
"""Returns a tensor, of a name, as it is to be stored."""


def write_bundle(path: Path, weights: Mapping[str, torch.Tensor], card: ModelCard, convert: Conversion) -> ModelBundle:
    """Write a bundle tensor by tensor, applying `convert` to each; the file appears whole or not at all.

    ModelError if the weights are not the architecture's, OutputError if the file cannot be written.
    """
    metadata = {METADATA_KEY: json.dumps(to_mlm(card), allow_nan=False)}
    with written_whole(path) as temporary:
        with temporary.open("wb") as file:
            _write_tensors(file, weights, metadata, convert)
        check_fit(card.architecture, card.arguments, read_header(temporary), card.name)
    return ModelBundle.open(path)


_NAMES = {kind: name for name, kind in DTYPES.items()}
_ALIGNMENT = 8


def _write_tensors(
    file: BinaryIO,
    weights: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    convert: Conversion,
) -> None:
    """Write a `.safetensors` file, byte for byte like the library, but without keeping all tensors in memory.

    Format: https://huggingface.co/docs/safetensors. The widest types come first, so that every number is aligned.
    """
    forms = {key: _form(key, convert(key, weights[key])) for key in weights}
    order = sorted(weights, key=lambda key: (-forms[key][0].itemsize, key))
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for key in order:
        kind, shape = forms[key]
        start, end = end, end + math.prod(shape) * kind.itemsize
        entries[key] = {"dtype": _NAMES[kind], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    for key in order:
        plain = convert(key, weights[key]).detach().cpu().contiguous()
        file.write(plain.reshape(-1).view(torch.uint8).numpy().data)


def _form(key: str, tensor: torch.Tensor) -> tuple[torch.dtype, tuple[int, ...]]:
    if tensor.dtype not in _NAMES:
        raise ModelError(
            f"the tensor {one_line(key, 60)} has the data type {tensor.dtype}; a bundle holds plain numbers"
        )
    return tensor.dtype, tuple(tensor.shape)
