"""Which pixels of a raster are valid, judged only by the bands in use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader
from rasterio.windows import Window as Area

_REAL_MASK = {MaskFlags.per_dataset}
"""The flags of a stored mask; GDAL adds others to masks that it derives from nodata or alpha."""
_ULPS = 4
"""GDAL treats floats this close as equal: nodata values are often written with too few digits."""


@dataclass(frozen=True, slots=True)
class Validity:
    """What makes pixels invalid: nodata in every band in use, transparency, masks, or values that are not finite.

    GDAL's own mask also depends on bands not in use, and honors alpha only in a few formats.
    """

    bands: tuple[int, ...]
    """1-based: the bands in use."""
    dtype: str
    nodata: tuple[float | int, ...] | None
    """One value for each band in use; None if any of them has none, since then no pixel is nodata in all bands."""
    alphas: tuple[int, ...]
    """1-based: the bands where 0 means transparent. A band in use is data, even if it is marked as alpha."""
    has_mask: bool
    """Whether one mask for all bands is stored, in the file or next to it."""
    masked_bands: tuple[int, ...]
    """1-based: the bands in use, if each has its own mask; else none."""
    is_gdal_mask: bool
    """Whether GDAL's mask of each band in use hides exactly its nodata value, which costs less than a table."""

    @classmethod
    def of(cls, dataset: DatasetReader, bands: Sequence[int], dtype: str) -> Self:
        """Describe what makes pixels of an open raster invalid. `dtype` is that of the bands in use."""
        colors = enumerate(dataset.colorinterp, start=1)
        nodata: list[float | None] = list(dataset.nodatavals)
        flags = dataset.mask_flag_enums  # last: an error in GDAL's search for masks would surface in the next call
        if {MaskFlags.per_dataset, MaskFlags.nodata} <= set(flags[0]):
            # https://gdal.org/development/rfc/rfc15_nodatabitmask.html
            nodata = [float(word) for word in dataset.tags()["NODATA_VALUES"].split()]
        own = tuple(band for band in bands if not flags[band - 1])
        return cls(
            tuple(bands),
            dtype,
            _all_stored([nodata[band - 1] for band in bands], np.dtype(dtype)),
            tuple(band for band, color in colors if color == ColorInterp.alpha and band not in bands),
            set(flags[bands[0] - 1]) == _REAL_MASK,
            own if len(own) == len(bands) else (),
            np.dtype(dtype).kind != "f"
            and np.dtype(dtype).itemsize < 8
            and all(flags[band - 1] == [MaskFlags.nodata] for band in bands),
        )

    @property
    def is_float(self) -> bool:
        """Whether values may be infinite or NaN."""
        return np.dtype(self.dtype).kind == "f"

    @property
    def is_by_value(self) -> bool:
        """Whether validity depends only on values of the bands in use: no alpha, no masks."""
        return not (self.alphas or self.has_mask or self.masked_bands)

    @property
    def hides_nothing(self) -> bool:
        """Whether every pixel is valid, whatever its value."""
        return self.is_by_value and not self.is_float and self.nodata is None

    @property
    def is_plain(self) -> bool:
        """Whether GDAL's warper gets it right: integers, with one nodata value for all bands in use or none."""
        return self.is_by_value and not self.is_float and (self.nodata is None or len(set(self.nodata)) == 1)

    def read(
        self,
        dataset: DatasetReader,
        area: Area | None = None,
        shape: tuple[int, int] | None = None,
        into: NDArray[Any] | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return data (band, row, col) of the bands in use and the valid mask (row, col), decimated to any `shape`.

        Values that are not finite become 0. If `into` is given, an array of that shape and type, it receives the data.
        """
        count = len(self.bands)
        together = all(dataset.dtypes[band - 1] == self.dtype for band in self.alphas)
        read = [*self.bands, *(self.alphas if together else ())]  # once: a second read may decode the blocks again
        if into is not None and len(read) == count:
            data = dataset.read(read, window=area, out=into)
        else:
            data = dataset.read(read, window=area, out_shape=shape and (len(read), *shape))
        valid = self._unmasked(dataset, data.shape[1:], area, alphas=data[count:] if together else None)
        data = data[:count]
        if into is not None and len(read) > count:
            into[...] = data
            data = into
        self._hide_nodata(iter(data), valid)
        if self.is_float:
            finite = np.isfinite(data)
            if not finite.all():
                data[~finite] = 0
                valid &= finite.all(axis=0)
        return data, valid

    def judge(self, dataset: DatasetReader, shape: tuple[int, int], area: Area) -> NDArray[np.bool_]:
        """Return the valid mask (row, col) of an area of that shape; integer bands are read only as far as needed."""
        if self.is_float:
            return self.read(dataset, area)[1]
        valid = self._unmasked(dataset, shape, area)
        self._hide_nodata((dataset.read(band, window=area) for band in self.bands), valid)
        return valid

    def _unmasked(
        self,
        dataset: DatasetReader,
        shape: tuple[int, int],
        area: Area | None,
        alphas: Iterable[NDArray[Any]] | None = None,
    ) -> NDArray[np.bool_]:
        valid = np.ones(shape, np.bool_)
        if self.has_mask:
            valid &= dataset.read_masks(self.bands[0], window=area, out_shape=shape) != 0
        if self.masked_bands:
            masks = dataset.read_masks(list(self.masked_bands), window=area, out_shape=(len(self.masked_bands), *shape))
            valid &= masks.any(axis=0)
        if alphas is None:
            alphas = (dataset.read(band, window=area, out_shape=shape) for band in self.alphas)
        for alpha in alphas:
            valid &= (alpha != 0) & ~np.isnan(alpha) if alpha.dtype.kind == "f" else alpha != 0
        return valid

    def _hide_nodata(self, bands: Iterable[NDArray[Any]], valid: NDArray[np.bool_]) -> None:
        """Mark pixels invalid where all bands are nodata; stop at the first band that rules out every pixel."""
        if self.nodata is None:
            return
        hidden = np.ones_like(valid)
        for nodata, band in zip(self.nodata, bands, strict=True):
            hidden &= _equals(band, nodata)
            if not hidden.any():
                return
        valid &= ~hidden


def nodata_interval(nodata: float, dtype: str) -> tuple[float, float]:
    """Return the least and greatest value that GDAL accepts as a nodata value; for integers both are the value."""
    kind = np.dtype(dtype)
    if kind.kind != "f":
        return nodata, nodata
    limits = np.finfo(kind)
    near = _ULPS * float(limits.eps) * abs(nodata)
    return max(nodata - near, float(limits.min)), min(nodata + near, float(limits.max))


def _equals(band: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    if band.dtype.kind != "f":
        same: NDArray[np.bool_] = band == band.dtype.type(nodata)
        return same
    low, high = nodata_interval(nodata, band.dtype.name)
    near: NDArray[np.bool_] = (band >= band.dtype.type(low)) & (band <= band.dtype.type(high))
    return near


def _all_stored(nodata: Sequence[float | None], dtype: np.dtype[Any]) -> tuple[float | int, ...] | None:
    """Return nodata values if pixels can have each of them; values that are not finite are never valid anyway."""
    stored = tuple(value for value in (_stored(value, dtype) for value in nodata) if value is not None)
    return stored if len(stored) == len(nodata) else None


def _stored(nodata: float | None, dtype: np.dtype[Any]) -> float | int | None:
    """Return a nodata value if a pixel of that type can have it, else None."""
    if nodata is None or not math.isfinite(nodata):
        return None
    if dtype.kind == "f":
        low, high = nodata_interval(nodata, dtype.name)
        return float(nodata) if low <= high else None
    limits = np.iinfo(dtype)
    whole = int(nodata)
    return whole if whole == nodata and limits.min <= whole <= limits.max else None
