"""Scenes from open rasterio datasets and xarray arrays; and xarray arrays from scenes."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.io import BufferedDatasetWriter, DatasetReader, DatasetWriter, MemoryFile
from rasterio.vrt import WarpedVRT

from geoseg.atomic import output_error
from geoseg.errors import UsageError
from geoseg.raster.dataset_cache import close_kept, opened
from geoseg.raster.environment import raster_environment
from geoseg.raster.geobox import GeoBox, is_grid
from geoseg.raster.names import OF_ARRAYS
from geoseg.raster.sources.scratch_file import temporary_copy
from geoseg.raster.views import vrt_of
from geoseg.raster.windows import Window, tiles

if TYPE_CHECKING:
    from dask.array import Array
    from xarray import DataArray

    from geoseg.raster.scene import Scene

_BLOCK_PX = 512
_STRIP_PX = 1 << 22
"""Pixels of an in-memory array copied at a time."""
_NUMBERS = {*(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "float32", "float64"}
"""The real number types that a GeoTIFF supports."""
_WRITTEN = {"bool": "uint8", "float16": "float32"}
"""Types that a GeoTIFF lacks, and the types that hold them."""
_OFF_PX = 0.1
"""How far coordinates may be from the grid, in pixels: float32 coordinates are rounded."""
_CHUNK_PX = 2048
_BANDS = {"band", "bands", "channel", "variable", "wavelength"}
"""Usual names of the band dimension, in lower case."""


def path_of(source: object) -> str:
    """Return a path by which GDAL opens a rasterio dataset or an xarray DataArray. UsageError for anything else."""
    if isinstance(source, DatasetReader | WarpedVRT):
        return _dataset_path(source)
    if isinstance(source, DatasetWriter | BufferedDatasetWriter):
        raise UsageError(f"the dataset {source.name} is open for writing; close it and give its path", "scene")
    if isinstance(source, MemoryFile):
        raise UsageError("a MemoryFile is not a dataset; give memory_file.open() or memory_file.name", "scene")
    if any(kind.__module__.startswith("xarray.") for kind in type(source).__mro__):
        return _array_path(cast("DataArray", source))
    raise UsageError(
        f"a scene must be a path, a Scene, a rasterio dataset or an xarray DataArray, got {type(source).__name__}",
        "scene",
    )


def _dataset_path(dataset: DatasetReader | WarpedVRT) -> str:
    if dataset.closed:
        raise UsageError(f"the dataset {dataset.name} is closed; give its path", "scene")
    if not isinstance(dataset, WarpedVRT) and _is_all_of(dataset, str(dataset.name)):
        return str(dataset.name)
    with raster_environment():
        return vrt_of(dataset).decode()


def _is_all_of(dataset: DatasetReader, path: str) -> bool:
    """Return whether a path opens the same dataset: not if that was opened as an overview, by `overview_level=0`."""
    with opened(path) as again:
        return (again.count, *again.shape) == (dataset.count, *dataset.shape)


def _array_path(source: DataArray) -> str:
    """Write an array to a temporary GeoTIFF, a chunk at a time."""
    array, geobox, nodata = _georeferenced(source)
    path = _folder(os.getpid()) / f"array-{uuid.uuid4().hex[:8]}.tif"
    dtype, of_file = _stored_type(array), _type_of_file(source)
    try:
        if of_file is None or not _is_written(path, array, geobox, *of_file):
            _write(path, array, geobox, dtype, nodata)
    except OSError as error:
        raise output_error(path, error) from error
    return str(path)


def _is_written(path: Path, array: DataArray, geobox: GeoBox, dtype: np.dtype[Any], hole: float | None) -> bool:
    """Write an array in the type of the file it came from; return whether that type holds all values.

    Without a nodata value any NaN is stored as a mask: clipping or filtering an array makes holes.
    """
    for masked in (False, True):
        try:
            _write(path, array, geobox, dtype, hole, masked=masked)
        except _NotOfTypeError:
            continue
        return True
    return False


class _NotOfTypeError(Exception):
    """An array holds values that do not fit the type of the file it came from."""


def _type_of_file(array: DataArray) -> tuple[np.dtype[Any], float | None] | None:
    """Return type and nodata value of the file if rioxarray opened it with `masked=True`; else None.

    That turns integers into floats, so that nodata can be NaN. The model expects the integers.
    """
    encoding = array.encoding
    name = str(encoding.get("rasterio_dtype", encoding.get("dtype", "")))
    scaled = encoding.get("scale_factor", 1) != 1 or encoding.get("add_offset", 0) != 0
    if array.dtype.kind != "f" or scaled or name not in _NUMBERS or np.dtype(name).kind == "f":
        return None
    hole = array.rio.encoded_nodata
    return np.dtype(name), None if hole is None or not np.isfinite(hole) else float(hole)


def _write(  # noqa: PLR0913 - the properties of a file
    path: Path, array: DataArray, geobox: GeoBox, dtype: np.dtype[Any], nodata: float | None, *, masked: bool = False
) -> None:
    """Write an array; if `masked`, as integers, with a mask instead of NaN. Raises _NotOfTypeError."""
    profile = {
        "driver": "GTiff", "count": array.shape[0], "dtype": dtype.name,
        "height": geobox.height_px, "width": geobox.width_px, "crs": geobox.crs, "transform": geobox.transform,
        "nodata": nodata, "tiled": True, "blockxsize": _BLOCK_PX, "blockysize": _BLOCK_PX, "bigtiff": "if_safer",
        "photometric": "minisblack", "alpha": "no",
    }  # fmt: skip
    with (
        temporary_copy(path, "the DataArray"),
        raster_environment(),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile) as dataset,
    ):
        for band, name in enumerate(_names(array), start=1):
            dataset.set_band_description(band, name)
        tags, flags = _class_tags(array)
        are_codes = bool(tags or flags)
        is_mask = not array.encoding  # calculated: xarray copies the attributes of a map to `map == 4` and the like
        for window in _pieces(array):
            pixels = np.asarray(array[:, window.rows, window.cols].data)
            if are_codes:
                numbers = pixels[np.isfinite(pixels) & (pixels != nodata)]
                are_codes = np.array_equal(numbers, np.round(numbers))
                is_mask = is_mask and bool((numbers <= 1).all())
            if masked:
                valid = np.isfinite(pixels)
                pixels = np.where(valid, pixels, 0)
                dataset.write_mask(valid.all(axis=0), window=window.to_rasterio())
            dataset.write(_as_type(pixels, dtype, nodata), window=window.to_rasterio())
        if are_codes and not is_mask:
            dataset.update_tags(**tags)
            dataset.update_tags(1, **flags)


def _as_type(pixels: NDArray[Any], dtype: np.dtype[Any], hole: float | None) -> NDArray[Any]:
    """Return pixels in the type of a file; from floats to integers NaN becomes `hole`. Raises _NotOfTypeError."""
    if pixels.dtype.kind != "f" or dtype.kind == "f":
        return pixels.astype(dtype, copy=False)
    filled = pixels if hole is None else np.where(np.isnan(pixels), hole, pixels)
    with np.errstate(invalid="ignore"):
        whole = filled.astype(dtype)
    if not np.array_equal(whole, filled):
        raise _NotOfTypeError
    return whole


@cache
def _folder(process: int) -> Path:
    """Return this process's folder for arrays, which is removed when the process exits."""
    folder = Path(tempfile.mkdtemp(prefix=OF_ARRAYS))

    def remove() -> None:
        if os.getpid() == process:
            close_kept()
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _georeferenced(source: DataArray) -> tuple[DataArray, GeoBox, float | None]:
    """Return an array as (band, y, x), its place and its nodata value. UsageError if it has no CRS."""
    y, x = _axes(source)
    array = _as_bands(source, y, x)
    crs = source.rio.crs
    if crs is None:
        raise UsageError("the DataArray has no CRS; give it one with array.rio.write_crs('EPSG:32632')", "scene")
    return array, GeoBox(array.shape[-2], array.shape[-1], _transform(array, x, y), crs), _nodata(source)


def _axes(array: DataArray) -> tuple[str, str]:
    """Return the names of an array's row and column dimensions. UsageError if it has none."""
    try:
        import rioxarray  # noqa: PLC0415 - optional; gives arrays the attribute rio
        import xarray  # noqa: PLC0415 - see above
    except ImportError as error:
        raise UsageError(
            "reading a DataArray needs rioxarray; pip install 'geoseg[xarray]', or give a file", "scene"
        ) from error
    if not isinstance(array, xarray.DataArray):
        raise UsageError(
            f"a scene must be one DataArray, got {type(array).__name__}; give dataset.to_array('band') or one of its "
            "arrays",
            "scene",
        )
    try:
        return array.rio.y_dim, array.rio.x_dim
    except rioxarray.exceptions.MissingSpatialDimensionError:
        raise UsageError(
            f"a DataArray needs dimensions y and x, got {array.dims}; rename them, for example "
            "array.rename(lat='y', lon='x')",
            "scene",
        ) from None


def _as_bands(array: DataArray, y: str, x: str) -> DataArray:
    """Return an array as (band, y, x). UsageError if it has more dimensions than an image, or no pixels."""
    others = [name for name in array.dims if name not in (y, x)]
    if len(others) > 1:  # a cube with a single time is an image
        alone = [name for name in others if array.sizes[name] == 1 and str(name).lower() not in _BANDS]
        array = array.isel(dict.fromkeys(alone, 0))
        others = [name for name in others if name not in alone]
    if len(others) > 1:
        more = next((name for name in others if str(name).lower() not in _BANDS), others[0])
        raise UsageError(
            f"a DataArray must be (y, x) or (band, y, x), got {array.dims}; select one {more}, as "
            f"array.isel({more}=0) does",
            "scene",
        )
    if others and array.sizes[others[0]] > 1 and array.coords.get(others[0], array).dtype.kind == "M":
        raise UsageError(
            f"the dimension {others[0]} of a DataArray holds times, not bands; select one, as "
            f"array.isel({others[0]}=0) does",
            "scene",
        )
    if not array.size:
        raise UsageError(f"the DataArray has no pixels: {dict(array.sizes)}", "scene")
    return array.transpose(*others, y, x) if others else array.expand_dims("band")


def _nodata(array: DataArray) -> float | None:
    if array.dtype.kind == "b":
        return None
    try:
        return None if array.rio.nodata is None else float(array.rio.nodata)
    except (OverflowError, TypeError, ValueError):
        raise UsageError(
            f"the nodata value of the DataArray does not fit its type, {array.dtype}; set another with "
            "array.rio.write_nodata",
            "scene",
        ) from None


def _stored_type(array: DataArray) -> np.dtype[Any]:
    """Return the type of the file that will hold an array. UsageError if it does not hold real numbers."""
    name = _WRITTEN.get(array.dtype.name, array.dtype.name)
    if name not in _NUMBERS:
        raise UsageError(
            f"the DataArray holds {name}, a scene must hold real numbers; convert it, as array.astype('float32') does",
            "scene",
        )
    return np.dtype(name)


def _transform(array: DataArray, x: str, y: str) -> Affine:
    """Return the transform of an array (band, y, x), which agrees with its coordinates if it has any.

    The GeoTransform of `spatial_ref` may be outdated: it does not change when an array is thinned, coarsened or
    flipped. If it still agrees, it is the more precise of the two.
    """
    declared = Affine(*tuple(array.rio.transform())[:6])
    if is_grid(declared) and (declared.b or declared.d):
        return declared @ _pixels_to_declared(declared, array, x, y)
    for transform in filter(is_grid, (declared, Affine(*tuple(array.rio.transform(recalc=True))[:6]))):
        if _matches_coordinates(array, x, transform.c, transform.a) and _matches_coordinates(
            array, y, transform.f, transform.e
        ):
            return transform
    raise UsageError(
        f"the coordinates {x} and {y} of the DataArray do not form a grid: they must be evenly spaced, and a single "
        "one needs a pixel size (array.rio.write_transform); resample the array first",
        "scene",
    )


def _pixels_to_declared(declared: Affine, array: DataArray, x: str, y: str) -> Affine:
    """Return the transform from a rotated array's pixels to those of its GeoTransform: it may be a part, or thinned.

    odc-geo numbers the pixels along x and y; rioxarray stores the place of each as xc and yc.
    """
    if all(dim in array.coords and array.coords[dim].attrs.get("units") == "pixel" for dim in (x, y)):
        cols, rows = (np.asarray(array.coords[dim], np.float64) for dim in (x, y))
    elif "xc" in array.coords and "yc" in array.coords:
        xc, yc = (np.asarray(array.coords[name], np.float64) for name in ("xc", "yc"))
        cols = np.array([(~declared @ place)[0] for place in zip(xc[0, :2], yc[0, :2], strict=True)]).round(6)
        rows = np.array([(~declared @ place)[1] for place in zip(xc[:2, 0], yc[:2, 0], strict=True)]).round(6)
    else:
        return Affine.identity()
    across, down = (float(along[1] - along[0]) if along.size > 1 else 1.0 for along in (cols, rows))
    return Affine.translation(cols[0] - across / 2, rows[0] - down / 2) @ Affine.scale(across, down)


def _matches_coordinates(array: DataArray, dim: str, start: float, step: float) -> bool:
    """Return whether a dimension's coordinates, if any, are the centers of pixels of size `step` from `start` on."""
    if dim not in array.coords:
        return True
    coordinates = np.asarray(array.coords[dim])
    if coordinates.dtype.kind not in "iuf":
        return False
    rounded = 4 * np.finfo(coordinates.dtype).eps * np.abs(coordinates).max() if coordinates.dtype.kind == "f" else 0.0
    off = np.abs(coordinates - (start + step * (np.arange(coordinates.size) + 0.5)))
    return bool((off <= _OFF_PX * abs(step) + rounded).all())


def _names(array: DataArray) -> list[str]:
    """Return the names of an array's bands, "" for a band without one."""
    long_names = array.attrs.get("long_name")
    if isinstance(long_names, list | tuple) and len(long_names) == array.shape[0]:
        return [str(name) for name in long_names]
    labels = np.asarray(array.coords.get(array.dims[0], [""] * array.shape[0])).tolist()
    return [name if isinstance(name, str) else "" for name in labels]


def _class_tags(array: DataArray) -> tuple[dict[str, str], dict[str, str]]:
    """Return what an array says about its classes: geoseg's tags of a map, and CF flags."""
    if array.dtype.kind not in "iuf" or array.shape[0] != 1:
        return {}, {}
    tags = {name: text for name, text in array.attrs.items() if name.startswith("GEOSEG_") and isinstance(text, str)}
    flags = {
        name: " ".join(map(str, np.atleast_1d(array.attrs[name]).tolist()))
        for name in ("flag_values", "flag_meanings", "flag_colors", "flag_masks")
        if name in array.attrs
    }
    return tags, flags


def _pieces(array: DataArray) -> Iterator[Window]:
    """Yield windows that cover an array: its chunks, or strips if it is in memory."""
    height, width = array.shape[-2:]
    if array.chunks is None:
        yield from tiles(height, width, max(1, _STRIP_PX // width), width)
        return
    rows, cols = (np.cumsum((0, *lengths)) for lengths in array.chunks[-2:])
    for top, bottom in zip(rows[:-1].tolist(), rows[1:].tolist(), strict=True):
        for left, right in zip(cols[:-1].tolist(), cols[1:].tolist(), strict=True):
            yield Window(top, left, bottom - top, right - left)


def to_xarray(scene: Scene, *, masked: bool) -> DataArray:
    """Return a scene as a DataArray: see `Scene.to_xarray`."""
    import dask.array  # noqa: PLC0415 - takes a second to load

    stored = np.dtype(scene.dtype)
    dtype = np.result_type(stored, np.float32) if masked else stored
    chunks = [tuple(_lengths(side, block)) for side, block in zip(scene.shape, scene.block_shape, strict=True)]
    count = len(scene.band_indexes)
    pixels = dask.array.map_blocks(
        _chunk, scene=scene, masked=masked, dtype=dtype, chunks=((count,), *chunks), meta=np.empty((0, 0, 0), dtype)
    )
    names = [scene.descriptions[index - 1] for index in scene.band_indexes]
    attributes: dict[str, Any] = {"long_name": tuple(names)} if any(names) else {}
    if not masked and (fill := _fill_value(scene)) is not None:
        attributes["_FillValue"] = stored.type(fill)
    return placed_array(pixels, scene.geobox, "scene", attributes, scene.band_indexes)


def _fill_value(scene: Scene) -> float | None:
    """Return the nodata value of all bands in use, if pixels can have it."""
    if scene.validity.is_float and scene.nodata is not None and np.isnan(scene.nodata):
        return scene.nodata
    values = set(scene.validity.nodata or ())
    return values.pop() if len(values) == 1 else None


def placed_array(
    pixels: Array, geobox: GeoBox, name: str, attributes: Mapping[str, Any], bands: Sequence[int] | None = None
) -> DataArray:
    """Return pixels (y, x), or (band, y, x), as a DataArray that xarray, rioxarray and odc-geo georeference.

    `spatial_ref` is a CF grid mapping with GDAL's GeoTransform, empty if the grid is not georeferenced. x and y are the
    pixels' centers; they are left out if rows and columns do not run along the axes. UsageError without xarray.
    """
    try:
        import xarray  # noqa: PLC0415 - optional
    except ImportError as error:
        raise UsageError('a DataArray needs xarray: pip install "geoseg[xarray]"') from error
    coordinates: dict[str, Any] = {} if bands is None else {"band": list(bands)}
    coordinates |= {"spatial_ref": ((), 0, _grid_mapping(geobox)), **_centers(geobox)}
    array = xarray.DataArray(pixels, coordinates, ("band", "y", "x")[-pixels.ndim :], name, attributes)
    array.encoding["grid_mapping"] = "spatial_ref"
    return array


def _centers(geobox: GeoBox) -> dict[str, Any]:
    transform, (height, width) = geobox.transform, geobox.shape
    if geobox.crs is None or not geobox.has_transform or transform.b or transform.d:
        return {}
    x, y = ({"axis": axis, "units": "metre"} for axis in "XY")
    if geobox.crs.is_geographic:
        x |= {"standard_name": "longitude", "units": "degrees_east"}
        y |= {"standard_name": "latitude", "units": "degrees_north"}
    else:
        x["standard_name"], y["standard_name"] = "projection_x_coordinate", "projection_y_coordinate"
        x["units"] = y["units"] = geobox.crs.linear_units
    cols, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
    return {"y": ("y", transform.f + transform.e * rows, y), "x": ("x", transform.c + transform.a * cols, x)}


def _grid_mapping(geobox: GeoBox) -> dict[str, object]:
    if geobox.crs is None or not geobox.has_transform:
        return {}
    from pyproj import CRS  # noqa: PLC0415 - takes 60 ms to load

    words = geobox.crs.to_wkt()
    transform = " ".join(repr(float(number)) for number in geobox.transform.to_gdal())
    return {**CRS.from_wkt(words).to_cf(), "crs_wkt": words, "spatial_ref": words, "GeoTransform": transform}


def _lengths(side_px: int, block_px: int) -> Iterator[int]:
    """Yield the lengths of chunks: whole blocks, together about 2048 pixels."""
    chunk = max(1, _CHUNK_PX // block_px) * block_px
    for start in range(0, side_px, chunk):
        yield min(chunk, side_px - start)


def _chunk(scene: Scene, *, masked: bool, block_info: dict[None, dict[str, Any]]) -> NDArray[Any]:
    _, (top, bottom), (left, right) = block_info[None]["array-location"]
    patch = scene.read(Window(top, left, bottom - top, right - left))
    if not masked:
        return patch.data
    data: NDArray[Any] = patch.data.astype(block_info[None]["dtype"])
    data[:, ~patch.valid] = np.nan
    return data
