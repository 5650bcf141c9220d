"""Which pixels of a raster hold a measurement, judged on the bands in use alone."""

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
"""The flags of a mask that is stored; GDAL adds others to those that it derives from nodata or alpha."""
_ULPS = 4
"""GDAL takes floats that are this close for equal: nodata values are often written with too few digits."""


@dataclass(frozen=True, slots=True)
class Validity:
    """What hides pixels of a raster: nodata in every band in use, transparency, masks, numbers that are not finite.

    GDAL's own mask looks at bands that are not in use, and at alpha in few kinds of file only.
    """

    bands: tuple[int, ...]
    """1-based: the bands in use."""
    dtype: str
    nodata: tuple[float | int, ...] | None
    """One value for each band in use; None where one of them has none, for then no pixel is nodata in all bands."""
    alphas: tuple[int, ...]
    """1-based: the bands whose 0 is transparent. A band in use is data, however it is marked."""
    has_mask: bool
    """Whether one mask for all bands is stored, in the file or beside it."""
    masked_bands: tuple[int, ...]
    """1-based: the bands in use, where each has a mask of its own."""

    @classmethod
    def of(cls, dataset: DatasetReader, bands: Sequence[int], dtype: str) -> Self:
        """Describe what hides pixels of an open raster. `dtype` is that of the bands in use."""
        colors = enumerate(dataset.colorinterp, start=1)
        nodata: list[float | None] = list(dataset.nodatavals)
        flags = dataset.mask_flag_enums  # last: an error of GDAL's search for masks would be the next call's
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
        )

    @property
    def is_float(self) -> bool:
        """Whether numbers may be infinite or none."""
        return np.dtype(self.dtype).kind == "f"

    @property
    def is_by_value(self) -> bool:
        """Whether the pixels of the bands in use say it all: no alpha, no masks."""
        return not (self.alphas or self.has_mask or self.masked_bands)

    @property
    def hides_nothing(self) -> bool:
        """Whether every pixel is valid, whatever is stored."""
        return self.is_by_value and not self.is_float and self.nodata is None

    @property
    def is_plain(self) -> bool:
        """Whether GDAL's warper knows as much: integers, hidden by one value for all bands in use or not at all."""
        return self.is_by_value and not self.is_float and (self.nodata is None or len(set(self.nodata)) == 1)

    def read(
        self,
        dataset: DatasetReader,
        area: Area | None = None,
        shape: tuple[int, int] | None = None,
        into: NDArray[Any] | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return data (band, row, col) of the bands in use and what is valid (row, col), decimated to a shape if given.

        Numbers that are not finite are 0. The data is put `into` memory of its shape and type, if that is given.
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
        """Return what is valid (row, col) in an area of that shape; integers are read only as far as is needed."""
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
        """Make invalid where all bands are nodata; bands are looked at until one is nodata nowhere."""
        if self.nodata is None:
            return
        hidden = np.ones_like(valid)
        for nodata, band in zip(self.nodata, bands, strict=True):
            hidden &= _equals(band, nodata)
            if not hidden.any():
                return
        valid &= ~hidden


def nodata_interval(nodata: float, dtype: str) -> tuple[float, float]:
    """Return the least and the greatest value that GDAL takes for a nodata value; both are it where integers are."""
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
    """Return nodata values if each is one that pixels can have; numbers that are not finite are never valid anyhow."""
    found = tuple(value for value in (_stored(value, dtype) for value in nodata) if value is not None)
    return found if len(found) == len(nodata) else None


def _stored(nodata: float | None, dtype: np.dtype[Any]) -> float | int | None:
    """Return a nodata value if a pixel of that type can have it."""
    if nodata is None or not math.isfinite(nodata):
        return None
    if dtype.kind == "f":
        low, high = nodata_interval(nodata, dtype.name)
        return float(nodata) if low <= high else None
    limits = np.iinfo(dtype)
    whole = int(nodata)
    return whole if whole == nodata and limits.min <= whole <= limits.max else None
