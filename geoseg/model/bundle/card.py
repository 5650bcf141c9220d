"""A model's card: everything needed to use the model correctly, such as its normalization, except the weights."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import UsageError, numbered
from geoseg.given import scale
from geoseg.html import swatches, table
from geoseg.legend import Legend
from geoseg.model.bundle.architectures import MAX_BANDS, MAX_CLASSES, architecture_named, output_classes
from geoseg.typed import checked, numbers

if TYPE_CHECKING:
    from geoseg.raster import BandStatistics  # cards, and recipes that look up architectures, must not load GDAL

DEFAULT_WINDOW_PX = 512
DEFAULT_BANDS = ("red", "green", "blue")
DEFAULT_DTYPE = "uint8"
DEFAULT_TEMPERATURE = 1.0
_MAX_WINDOW_PX = 16384
OVERLAP_SHARE = 4
"""By default, the overlap is a quarter of the window."""
ONNX = "ONNX"
"""The architecture of a model whose network is a graph in an ONNX file."""
_MAX_NAME = 200
_MAX_TEXT = 2**18

Scale: TypeAlias = tuple[float, float]
"""(low, high): the stored values that correspond to the lowest and highest values the model was trained on."""

VALUE_RANGES: dict[str, Scale] = {
    "uint8": (0.0, 255.0),
    "uint16": (0.0, 65535.0),
    "int16": (-32768.0, 32767.0),
    "float32": (0.0, 1.0),
}
"""Data types a model can be trained on, with their value ranges; float32 means reflectance."""


def check_dtype(dtype: str) -> None:
    """Raise UsageError unless a model can be trained on this data type."""
    if dtype not in VALUE_RANGES:
        raise UsageError(f"`dtype` must be one of {', '.join(VALUE_RANGES)}, got {dtype!r:.40}", "dtype")


@dataclass(frozen=True, slots=True)
class Normalization:
    """The conversion of stored values to the network's input: (stored - mean) / std, band by band.

    Parameters
    ----------
    mean, std : sequence of float
        One number per band, in stored units. ImageNet's are published for 0 to 1; for uint8 multiply them by 255.
    value_range : (float, float), optional
        Lowest and highest value that the model was trained on; the `scale` of a scene is mapped onto it. Default:
        that of uint8.

    Raises
    ------
    UsageError
        If a number is not finite, a `std` is not positive, or the number of means and stds differs.

    Examples
    --------
    >>> imagenet = Normalization(mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
    >>> imagenet.value_range
    (0.0, 255.0)

    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    value_range: Scale = VALUE_RANGES["uint8"]
    """(low, high) of the values the model was trained on; a scene's scale is mapped onto it."""

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, numbers(name, getattr(self, name)))
        object.__setattr__(self, "value_range", scale("value_range", self.value_range))
        if not self.mean or len(self.mean) != len(self.std):
            raise UsageError(
                f"each band needs a mean and a std, got {numbered(len(self.mean), 'mean')} and "
                f"{numbered(len(self.std), 'std')}",
                "mean",
            )
        for name in ("mean", "std", "value_range"):
            if not all(map(math.isfinite, getattr(self, name))):
                raise UsageError(f"`{name}` must be finite, got {getattr(self, name)}", name)
        if min(self.std) <= 0:
            raise UsageError(f"`std` must be positive, got {self.std}", "std")
        _refuse_empty_range(self.value_range, "value_range")

    @checked
    def gain_bias(self, scale: Scale | None = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return gain and bias of each band: normalized = stored * gain + bias.

        Parameters
        ----------
        scale : (float, float), optional
            Stored values that map to the ends of `value_range`. The caller clips to the scale first.

        Returns
        -------
        gain, bias : float32 (band,)

        Raises
        ------
        UsageError
            If the scale is empty.

        """
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        if scale is None:
            return (1 / std).astype(np.float32), (-mean / std).astype(np.float32)
        _refuse_empty_range(scale, "scale")
        stretch = (self.value_range[1] - self.value_range[0]) / (scale[1] - scale[0])
        offset = self.value_range[0] - scale[0] * stretch
        return (stretch / std).astype(np.float32), ((offset - mean) / std).astype(np.float32)


def _refuse_empty_range(limits: Scale, label: str) -> None:
    if not all(map(math.isfinite, limits)) or limits[0] >= limits[1]:
        raise UsageError(f"`{label}` must be two finite numbers, low before high, got {limits}", label)


def default_overlap(window_px: int) -> int:
    """Return the default overlap of a window, in pixels."""
    return window_px // OVERLAP_SHARE


@dataclass(frozen=True, slots=True, kw_only=True)
@checked
class ModelCard:
    """A model's architecture, input, output and origin.

    Checked once. Raises UsageError, or ModelError for the architecture and its arguments.
    """

    name: str
    architecture: str
    """A key of ARCHITECTURES."""
    arguments_text: str
    """The architecture's arguments as JSON text, so that the whole card is frozen; `.arguments` reads it."""
    legend: Legend
    output_codes: tuple[int, ...]
    """The class code of each output channel; a model may not know every class of its legend.

    A network with one channel has two codes: the background's, and that of the class whose logit it outputs.
    """
    bands: tuple[str, ...]
    """Names of the input bands in order: red, green, blue, nir, ..."""
    dtype: str
    """Data type of the imagery the model was trained on."""
    normalization: Normalization
    statistics: BandStatistics | None = None
    """Statistics of the training imagery, in stored units."""
    gsd_m: float | None = None
    """Meters per pixel of the training imagery, as the network saw it."""
    window_px: int = DEFAULT_WINDOW_PX
    """The preferred window: the size the model was trained on, or close to it."""
    overlap_px: int = default_overlap(DEFAULT_WINDOW_PX)
    temperature: float = DEFAULT_TEMPERATURE
    """Divides the logits before the softmax (Guo et al. 2017, arXiv 1706.04599)."""
    provenance_text: str = field(default="{}", repr=False)
    """The training data and software, as JSON text; `.provenance` reads it."""
    metrics_text: str = field(default="{}", repr=False)
    """The model's scores, as JSON text; `.metrics` reads it."""

    def __post_init__(self) -> None:
        for name in ("arguments_text", "provenance_text", "metrics_text"):
            _check_object(name, getattr(self, name))
        if self._states_sizes:
            _check_sizes(self)
        else:
            architecture_named(self.architecture).check(self.arguments)
        _check_output(self)
        _check_input(self)
        _check_window(self)
        if not _is_line(self.name):
            raise UsageError(
                f"a model's name must be 1 to {_MAX_NAME} characters on one line, got {self.name!r:.80}", "name"
            )
        if not 1e-3 <= self.temperature <= 1e3:  # nan is not
            raise UsageError(f"`temperature` must be 0.001 to 1000, got {self.temperature}", "temperature")

    @property
    def _states_sizes(self) -> bool:
        """Whether the arguments are only the sizes of a network of no known architecture."""
        return self.architecture == ONNX

    def _repr_html_(self) -> str:
        rows = [
            ("model", self.name),
            ("architecture", self.architecture),
            ("bands", f"{', '.join(self.bands)} ({self.dtype})"),
            ("pixel", "unknown size" if self.gsd_m is None else f"{self.gsd_m:.3g} m"),
            ("window", f"{self.window_px} px, overlap {self.overlap_px} px"),
        ]
        classes = swatches((known.name, known.color) for known in self.legend if known.code in self.output_codes)
        return f"<div>{table(rows)}<p>{classes}</p></div>"

    @property
    def arguments(self) -> dict[str, Any]:
        """A fresh copy of the architecture's arguments."""
        return dict(json.loads(self.arguments_text))

    @property
    def provenance(self) -> dict[str, Any]:
        """A fresh copy of the training data and software."""
        return dict(json.loads(self.provenance_text))

    @property
    def metrics(self) -> dict[str, Any]:
        """A fresh copy of the model's scores."""
        return dict(json.loads(self.metrics_text))

    @property
    def sentence(self) -> str:
        """A description of the model for people: its network, its classes and its bands."""
        encoder = self.arguments.get("encoder_name")
        pixels = "" if self.gsd_m is None else f"; trained on pixels of {self.gsd_m:.3g} m"
        return (
            f"{self.architecture}{f' on {encoder}' if encoder else ''}, "
            f"{numbered(len(self.output_codes), 'class')} from {', '.join(self.bands)}{pixels}"
        )

    @property
    def divisor(self) -> int:
        """The number that a window's size must be a multiple of."""
        if self._states_sizes:
            return int(self.arguments["divisor"])
        return architecture_named(self.architecture).divisor(self.arguments)


def frozen_text(value: dict[str, Any] | None, what: str) -> str:
    """Return plain values as canonical JSON text; UsageError if any value is not plain or not finite."""
    try:
        return json.dumps({} if value is None else value, sort_keys=True, allow_nan=False, ensure_ascii=True)
    except (TypeError, ValueError) as fault:
        raise UsageError(f"{what} must be plain numbers, texts, lists and dicts: {fault}") from None


def _check_sizes(card: ModelCard) -> None:
    counts = [card.arguments.get(name) for name in ("in_channels", "classes", "divisor")]
    if not all(isinstance(count, int) and count >= 1 for count in counts):
        raise UsageError(
            f"`arguments_text` must hold in_channels, classes and divisor, each at least 1, got "
            f"{card.arguments_text:.80}",
            "arguments_text",
        )


def _check_object(name: str, text: str) -> None:
    try:
        is_object = len(text) <= _MAX_TEXT and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise UsageError(f"`{name}` must be a JSON object of at most {_MAX_TEXT} characters, got {text!r:.80}", name)


def check_window(window_px: int, divisor: int, name: str = "window") -> None:
    """Raise UsageError, naming the nearest valid sizes, unless the window is a positive multiple of the divisor.

    `name`: the caller's name for the window.
    """
    if divisor <= window_px <= _MAX_WINDOW_PX and window_px % divisor == 0:
        return
    below = max(min(window_px, _MAX_WINDOW_PX) // divisor * divisor, divisor)
    above = min(below + divisor, _MAX_WINDOW_PX // divisor * divisor)
    sizes = f"1 to {_MAX_WINDOW_PX}" if divisor == 1 else f"a multiple of {divisor} up to {_MAX_WINDOW_PX}"
    suggestion = f"{below}" if window_px < divisor or above <= below else f"{below} or {above}"
    raise UsageError(f"`{name}` must be {sizes} for this model, got {window_px}; try {suggestion}", name)


def _check_output(card: ModelCard) -> None:
    channels, classes = card.arguments["classes"], output_classes(card.arguments)
    codes = card.output_codes
    if len(codes) != classes and channels == 1:
        raise UsageError(
            "the model has one output channel, for its class against everything else, but "
            f"{numbered(len(codes), 'class code')} {list(codes)}; give two, the background's first",
            "output_codes",
        )
    if len(codes) != classes or classes > MAX_CLASSES:
        raise UsageError(
            f"the model has {numbered(classes, 'output channel')} but {numbered(len(codes), 'class code')} "
            f"{list(codes)}; give one for each",
            "output_codes",
        )
    unknown = sorted(set(codes) - set(card.legend.codes))
    if unknown or len(set(codes)) != len(codes):
        raise UsageError(
            f"`output_codes` must be distinct codes of the legend {list(card.legend.codes)}, got {list(codes)}",
            "output_codes",
        )
    if not all(_is_line(name) for name in card.legend.names):
        raise UsageError(
            f"class names must be up to {_MAX_NAME} printable characters, got {list(card.legend.names)!r:.120}",
            "legend",
        )


def _check_input(card: ModelCard) -> None:
    count = card.arguments["in_channels"]
    if len(card.bands) != count or not 1 <= count <= MAX_BANDS:
        raise UsageError(
            f"the model takes {numbered(count, 'band')} but has {numbered(len(card.bands), 'band name')} "
            f"{list(card.bands)}; give one per band",
            "bands",
        )
    if len(set(card.bands)) != count or not all(_is_line(name) for name in card.bands):
        raise UsageError(f"band names must be distinct and printable, got {list(card.bands)!r:.120}", "bands")
    if len(card.normalization.mean) != count:
        given_count = len(card.normalization.mean)
        raise UsageError(
            f"the model takes {numbered(count, 'band')} but has a mean and std for {given_count}; give one per band",
            "normalization",
        )
    check_dtype(card.dtype)
    if card.statistics is not None and len(card.statistics.mean) != count:
        given_count = len(card.statistics.mean)
        raise UsageError(
            f"the model takes {numbered(count, 'band')} but has statistics for {given_count}", "statistics"
        )


def _check_window(card: ModelCard) -> None:
    check_window(card.window_px, card.divisor, "window_px")
    if not 0 <= card.overlap_px < card.window_px:
        raise UsageError(
            f"`overlap_px` must be at least 0 and less than the window {card.window_px}, got {card.overlap_px}",
            "overlap_px",
        )
    if card.gsd_m is not None and not 1e-3 <= card.gsd_m <= 1e5:  # nan is not
        raise UsageError(f"`gsd_m` must be 0.001 to 100000 meters, got {card.gsd_m}", "gsd_m")


def _is_line(text: str) -> bool:
    return 0 < len(text) <= _MAX_NAME and text.isprintable() and text.strip() == text
