"""From stored pixel values to what the network was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import UsageError, numbered
from geoseg.given import numbers, scale

Scale: TypeAlias = tuple[float, float]
"""(low, high): the stored values that stand for the lowest and the highest value the model knows."""

VALUE_RANGES: dict[str, Scale] = {
    "uint8": (0.0, 255.0),
    "uint16": (0.0, 65535.0),
    "int16": (-32768.0, 32767.0),
    "float32": (0.0, 1.0),
}
"""Data types a model can be trained on, and the range of their values; float32 means reflectance."""


@dataclass(frozen=True, slots=True)
class Normalization:
    """How stored values become what the network was trained on: (stored - mean) / std, band by band.

    Parameters
    ----------
    mean, std : sequence of float
        One number a band, in stored units. ImageNet's are given for 0 to 1; for uint8 they are 255 times that.
    value_range : (float, float), optional
        Lowest and highest value that the model was trained on; the `scale` of a scene is mapped onto it. By default
        that of uint8.

    Raises
    ------
    UsageError
        For numbers that are not finite, a `std` that is not positive, or another number of means than of stds.

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
        if not all(math.isfinite(value) for value in (*self.mean, *self.std, *self.value_range)):
            raise UsageError(
                f"mean, std and value range must be finite, got {self.mean}, {self.std}, {self.value_range}"
            )
        if min(self.std) <= 0:
            raise UsageError(f"`std` must be positive, got {self.std}", "std")
        _refuse_empty_range(self.value_range, "value_range")

    def gain_bias(self, scale: Scale | None = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return gain and bias of each band: normalized = stored * gain + bias.

        Parameters
        ----------
        scale : (float, float), optional
            Stored values that stand for the lowest and the highest value the model knows. The caller clips to it first.

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


def _refuse_empty_range(limits: Scale, what: str) -> None:
    if len(limits) != 2 or not all(math.isfinite(limit) for limit in limits) or limits[0] >= limits[1]:
        raise UsageError(f"`{what}` must be two finite numbers, low before high, got {limits}", what)
