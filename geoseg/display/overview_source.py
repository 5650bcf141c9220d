"""Rasters at a reduced size: from their overviews, or, if a huge one has none, from one decimated copy."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window as Area

from geoseg.raster import (
    ClassRaster,
    Scene,
    is_as_stored,
    masked,
    opened,
    raster_environment,
    scaled,
    shown,
    temporary_copy,
    with_own_codes,
)

_COPY_PX = 8192
"""The long side of the copy of a raster without overviews."""
_COPY_ROWS = 256
_COPY_PROFILE = {"driver": "GTiff", "tiled": True, "compress": "lzw", "BIGTIFF": "IF_SAFER"}
_TOLERANCE = 1.1
"""An overview may be this much coarser than requested."""


@dataclass(frozen=True, slots=True)
class Size:
    """A size at which the raster can be opened."""

    factor: float
    """How much coarser it is than the raster itself."""
    path: str
    overview: int | None
    """Overview level of the file at `path`; None for full resolution."""


class OverviewSource:
    """A context manager: the copy, if needed, is made on entry and removed on exit."""

    def __init__(self, scene: Scene, resampling: Resampling) -> None:
        """Find the available sizes of a raster. `resampling` is used to make a copy."""
        self.scene, self.resampling = scene, resampling
        self.sizes = _sizes(scene)
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        long_side = max(self.scene.shape)
        if long_side / self.sizes[-1].factor > 2 * _COPY_PX:
            self._folder = tempfile.TemporaryDirectory(prefix="geoseg-")
            try:
                copy = Path(self._folder.name) / "copy.tif"
                with temporary_copy(copy, shown(self.scene.path)):
                    path = _copy(self.scene, copy, self.resampling)
            except BaseException:
                self._folder.cleanup()
                raise
            self.sizes = sorted([*self.sizes, *_sizes(path, long_side)], key=lambda size: size.factor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    @contextmanager
    def at(self, factor: float) -> Iterator[tuple[DatasetReader, float]]:
        """Yield the smallest dataset that is about as fine as requested, and how much coarser it is than the raster.

        Its first bands are the bands in use, in order. Invalid pixels are marked by one nodata value, or by an alpha
        band after them.
        """
        size = max((size for size in self.sizes if size.factor <= factor * _TOLERANCE), key=lambda size: size.factor)
        options = {} if size.overview is None else {"OVERVIEW_LEVEL": size.overview}
        with opened(size.path), ExitStack() as stack:  # for its settings and errors
            dataset = stack.enter_context(rasterio.open(size.path, sharing=False, **options))
            if size.path == self.scene.path and not is_as_stored(self.scene):
                view = masked(self.scene, size.overview, dataset.shape)
                dataset = stack.enter_context(rasterio.open(view, sharing=False))
            yield dataset, size.factor


@contextmanager
def plain_codes(raster: ClassRaster) -> Iterator[Scene]:
    """Yield a raster of classes as integers that GDAL can resample; a temporary copy if it holds anything else.

    A copy is also made if only an area of it counts. Colors and floats are decoded at full size, because overviews may
    mix them. Raises SceneError as `strips` does.
    """
    scene = raster.scene
    if raster.colors is None and np.dtype(scene.dtype).kind in "iu" and scene.area is None:
        yield with_own_codes(scene)
        return
    with tempfile.TemporaryDirectory(prefix="geoseg-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "codes.tif"
        height, width = scene.shape
        profile = {"dtype": raster.dtype, "count": 1, "height": height, "width": width, "nodata": raster.background}
        with (
            temporary_copy(path, shown(scene.path)),
            raster_environment(),
            rasterio.open(path, "w", **_COPY_PROFILE, **profile) as copy,
        ):
            with opened(scene.path) as dataset:
                _place_copy(dataset, copy, 1, 1)
            for window, strip in zip(raster.windows(), raster.strips(), strict=True):
                copy.write(strip, 1, window=window.to_rasterio())
        yield Scene.open(str(path))


def _sizes(raster: Scene | str, long_side: int | None = None) -> list[Size]:
    """Return the sizes at which a file can be opened, finest first."""
    path = raster if isinstance(raster, str) else raster.path
    with opened(path) as dataset:
        own_factor = (long_side or max(dataset.shape)) / max(dataset.shape)
        overview_factors = dataset.overviews(1)
    return [
        Size(own_factor, path, None),
        *(Size(own_factor * factor, path, level) for level, factor in enumerate(overview_factors)),
    ]


def _copy(scene: Scene, path: Path, resampling: Resampling) -> str:
    """Write a decimated copy of the bands in use, with alpha if needed, strip by strip, each read once."""
    factor = max(scene.shape) / _COPY_PX
    rows, cols = (max(1, round(side / factor)) for side in scene.shape)
    validity = scene.validity
    view = scene.path if is_as_stored(scene) else masked(scene)
    if not validity.is_plain and scene.area is None and resampling is not Resampling.nearest:
        view = scaled(scene, (rows / scene.shape[0], cols / scene.shape[1])).path  # means of valid pixels only
    with opened(view) as dataset:
        step_row, step_col = dataset.height / rows, dataset.width / cols
        nodata = validity.nodata[0] if validity.is_plain and validity.nodata and scene.area is None else None
        profile = {"dtype": scene.dtype, "count": dataset.count, "height": rows, "width": cols, "nodata": nodata}
        with raster_environment(), rasterio.open(path, "w", **_COPY_PROFILE, **profile) as copy:
            _place_copy(dataset, copy, step_row, step_col)
            copy.colorinterp = dataset.colorinterp
            for top in range(0, rows, _COPY_ROWS):
                count = min(_COPY_ROWS, rows - top)
                area = Area(0, top * step_row, dataset.width, count * step_row)
                for band in dataset.indexes:
                    pixels = dataset.read(band, window=area, out_shape=(count, cols), resampling=resampling)
                    if dataset.colorinterp[band - 1] == ColorInterp.alpha:
                        pixels = np.where(pixels != 0, opaque(scene.dtype), 0)
                    copy.write(pixels.astype(scene.dtype), band, window=Area(0, top, cols, count))
    with raster_environment(), rasterio.open(path, "r+") as copy:
        copy.build_overviews([level for level in (2, 4, 8, 16) if level <= max(rows, cols)], resampling)
    return str(path)


def opaque(dtype: str) -> int:
    """Return the value that GDAL's warper treats as fully opaque in an alpha band of a data type."""
    return {"uint16": 65535, "int16": 32767, "int8": 127}.get(dtype, 255)


def _place_copy(dataset: DatasetReader, copy: rasterio.io.DatasetWriter, step_row: float, step_col: float) -> None:
    points, crs = dataset.gcps
    if points:
        for point in points:
            point.row, point.col = point.row / step_row, point.col / step_col
        copy.gcps = (points, crs)
        return
    if dataset.crs is not None:
        copy.crs = dataset.crs
    copy.transform = dataset.transform @ dataset.transform.scale(step_col, step_row)
