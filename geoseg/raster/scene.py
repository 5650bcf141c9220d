"""Any raster that GDAL reads, as a value: a path, never a handle, so it travels to other threads and machines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.windows
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from geoseg.errors import SceneError, UsageError
from geoseg.given import plain_arguments
from geoseg.raster.bands import BandNames, choose_bands
from geoseg.raster.environment import shown
from geoseg.raster.geobox import GeoBox, GroundControlPoint
from geoseg.raster.handles import opened
from geoseg.raster.identity import digest, files_behind, local_file, stamps
from geoseg.raster.statistics import BandStatistics, band_statistics, sample_windows
from geoseg.raster.validity import Validity
from geoseg.raster.windows import Window

OVERVIEW_PX = 512


@dataclass(frozen=True, slots=True)
class Patch:
    """Pixels read from a scene."""

    data: NDArray[Any]
    """(band, row, col) in the stored dtype. Invalid pixels hold whatever is stored, never NaN or infinity."""
    valid: NDArray[np.bool_]
    """(row, col), True = valid."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A raster and the bands of it to use. Each thread that reads keeps its own open handle."""

    path: str
    geobox: GeoBox
    band_indexes: tuple[int, ...]
    """1-based, in the order of the model's bands."""
    band_choice: str
    """One line that says which bands, and why these."""
    dtype: str
    """numpy's name for the stored type of the bands used."""
    block_shape: tuple[int, int]
    """(rows, cols) of one stored block."""
    nodata: float | None = field(compare=False)  # NaN differs from itself
    count: int
    descriptions: tuple[str, ...]
    colors: tuple[str, ...]
    driver: str
    validity: Validity
    """What hides pixels."""
    chosen: bool
    """Whether the caller said which bands, by `bands` or by the model's names in `wanted_bands`.

    False for a plain `Scene.open(path)`: it has all bands but alpha, and whoever knows the model may open it anew.
    """

    @classmethod
    @plain_arguments()
    def open(
        cls,
        path: str | os.PathLike[str],
        bands: Sequence[int | str] | None = None,
        wanted_bands: Sequence[str] | None = None,
    ) -> Scene:
        """Describe a raster: a file, a URL, a /vsi path, anything rasterio opens.

        `wanted_bands` are the names of the model's bands; `bands`, 1-based numbers or names, wins over them. Raises
        SceneError when the raster cannot be read or lacks a band, UsageError when `bands` is not in the file.
        """
        path = os.fspath(path)
        with opened(path) as dataset:
            return _describe(path, dataset, bands, wanted_bands)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.geobox.shape

    def read(self, window: Window) -> Patch:
        """Read a window, which may stick out on any side: outside is invalid, and 0.

        Invalid is what is nodata in all bands used, transparent, masked, or not finite in a band used. Raises
        SceneError.
        """
        inside = window.intersection(self._whole())
        if inside is None:
            return Patch(
                np.zeros((len(self.band_indexes), *window.shape), self.dtype), np.zeros(window.shape, np.bool_)
            )
        with opened(self.path) as dataset:
            patch = Patch(*self.validity.read(dataset, _rasterio(inside)))
        return patch if inside == window else _pasted(patch, inside.relative_to(window), window.shape)

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """Return `read(window).valid`; of bands of integers no more is read than says it."""
        inside = window.intersection(self._whole())
        valid = np.zeros(window.shape, np.bool_)
        if inside is not None:
            with opened(self.path) as dataset:
                place = inside.relative_to(window)
                valid[place.rows, place.cols] = self.validity.judge(dataset, inside.shape, _rasterio(inside))
        return valid

    def overview(self, max_px: int = OVERVIEW_PX) -> Patch:
        """Read the whole scene decimated, its long side at most `max_px`; cheap where the file has overviews."""
        height, width = self.shape
        factor = max(1.0, max(self.shape) / max_px)
        small = max(1, round(height / factor)), max(1, round(width / factor))
        with opened(self.path) as dataset:
            return Patch(*self.validity.read(dataset, shape=small))

    def statistics(self) -> BandStatistics | None:
        """Measure the valid pixels of the bands used, from overviews or from blocks spread over the scene.

        None when no pixel is valid.
        """
        with opened(self.path) as dataset:
            has_overviews = bool(dataset.overviews(self.band_indexes[0]))
        if has_overviews or max(self.shape) <= 2 * OVERVIEW_PX:
            patch = self.overview()
            return band_statistics(patch.data[:, patch.valid])
        samples = []
        for window, step in sample_windows(self.shape, self.block_shape):
            patch = self.read(window)
            samples.append(patch.data[:, ::step, ::step][:, patch.valid[::step, ::step]])
        return band_statistics(np.concatenate(samples, axis=1))

    def fingerprint(self) -> str:
        """Return hex that changes whenever the pixels may have changed.

        Name, size and time of every file behind the scene, or of the archive it is in; of a remote one what its
        server says. Where one of them tells nothing, a decimated read besides: it may miss a small change.
        """
        profile = repr((self.geobox, self.validity, self.nodata, self.count, self.colors, self.driver))
        found = stamps(files_behind(self.path))
        if found and all(stamp[-1] is not None for stamp in found):
            return digest([profile, found])
        patch = self.overview()
        return digest([profile, found, patch.data.tobytes().hex(), patch.valid.tobytes().hex()])

    def local_files(self) -> list[Path]:
        """Return every local file behind the scene, resolved: a VRT's sources, all sidecars, the archive it is in."""
        files = {file.resolve() for name in files_behind(self.path) if (file := local_file(name)) is not None}
        return sorted(files)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from geoseg.raster.scene_card import scene_card  # noqa: PLC0415 - only a notebook needs it

        return scene_card(self)

    def _whole(self) -> Window:
        return Window(0, 0, *self.shape)


def _describe(
    path: str, dataset: DatasetReader, bands: Sequence[int | str] | None, wanted: Sequence[str] | None
) -> Scene:
    if dataset.count == 0:
        inside = f": {', '.join(map(shown, dataset.subdatasets[:4]))}" if dataset.subdatasets else ""
        raise SceneError(f"{shown(path)} has no bands of its own; give one of the rasters inside it{inside}")
    names = BandNames(
        tuple(color.name.lower() for color in dataset.colorinterp),
        tuple(" ".join((text or "").split()) for text in dataset.descriptions),
    )
    try:
        choice = choose_bands(names, bands, wanted)
    except (SceneError, UsageError) as error:
        raise type(error)(f"{shown(path)}: {error}") from None
    dtypes = {dataset.dtypes[index - 1] for index in choice.indexes}
    if len(dtypes) > 1:
        raise SceneError(
            f"{shown(path)}: the bands used must share one type, got {', '.join(sorted(dtypes))}; "
            "convert by rio convert --dtype"
        )
    dtype = dtypes.pop()
    if dtype.startswith("complex"):  # complex_int16 is no dtype of numpy
        raise SceneError(
            f"{shown(path)} holds complex numbers ({dtype}); "
            "give amplitudes, for instance by rio calc '(absolute (read 1))' --dtype float32 --not-masked"
        )
    return Scene(
        path=path,
        geobox=_geobox(dataset),
        band_indexes=choice.indexes,
        band_choice=choice.line,
        dtype=dtype,
        block_shape=dataset.block_shapes[choice.indexes[0] - 1],
        nodata=dataset.nodatavals[choice.indexes[0] - 1],
        count=dataset.count,
        descriptions=names.descriptions,
        colors=names.colors,
        driver=dataset.driver,
        validity=Validity.of(dataset, choice.indexes, dtype),
        chosen=bands is not None or wanted is not None,
    )


def _geobox(dataset: DatasetReader) -> GeoBox:
    gcps, gcp_crs = dataset.gcps
    points = tuple(GroundControlPoint(point.row, point.col, point.x, point.y, point.z) for point in gcps)
    return GeoBox(
        dataset.height,
        dataset.width,
        dataset.transform,
        dataset.crs or None,
        points,
        (gcp_crs or None) if points else None,
        dataset.rpcs,
    )


def _pasted(patch: Patch, place: Window, shape: tuple[int, int]) -> Patch:
    data = np.zeros((patch.data.shape[0], *shape), patch.data.dtype)
    valid = np.zeros(shape, np.bool_)
    data[:, place.rows, place.cols] = patch.data
    valid[place.rows, place.cols] = patch.valid
    return Patch(data, valid)


def _rasterio(window: Window) -> rasterio.windows.Window:
    return rasterio.windows.Window(window.col, window.row, window.width, window.height)
