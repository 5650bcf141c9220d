"""Any raster that GDAL reads, as a value: a path, never a handle, so it can go to other threads and machines."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.io import DatasetReader, MemoryFile

from geoseg.errors import GeosegError, SceneError, UsageError, listed, warn
from geoseg.given import CrsLike, plain_arguments
from geoseg.html import beside, picture, swatches, table
from geoseg.raster.area_of_interest import AreaOfInterest, window_of
from geoseg.raster.bands import BandNames, BandStatistics, band_statistics, choose_bands, name_of, natural_colors
from geoseg.raster.dataset_cache import opened
from geoseg.raster.environment import GDAL_ERRORS, raster_environment
from geoseg.raster.fingerprint import (
    Version,
    check_answer,
    digest,
    files_behind,
    is_replaced,
    local_file,
    missing_in_index,
    server_versions,
    stamps,
)
from geoseg.raster.geobox import Box, GeoBox, GroundControlPoint, crs_text, place_at
from geoseg.raster.names import is_remote, is_vrt_text, shown, sources_of, with_sources
from geoseg.raster.raster_legend import as_vrt_text, decimated, described, is_classes, read_nomenclature
from geoseg.raster.sources import is_item, raster_of
from geoseg.raster.validity import Validity
from geoseg.raster.views import cropped, scaled_to
from geoseg.raster.windows import Window, sample_windows
from geoseg.typed import checked

if TYPE_CHECKING:
    from xarray import DataArray

    SceneLike: TypeAlias = "str | os.PathLike[str] | Scene | DatasetReader | DataArray"

OVERVIEW_PX = 512
_THUMBNAIL_PX = 240
_MOST_CLASSES = 24
_MOST_SOURCES = 256
"""The text of a VRT without the overviews of its files has 16 KB for each."""
_ASIDE_PX = 0.002
"""GDAL takes up to 0.001 for rounding."""
MOST_PX = 2**31 - 1  # an edge of a raster in GDAL


@dataclass(frozen=True, slots=True)
@checked
class Patch:
    """Pixels read from a scene, and which of them are valid."""

    data: NDArray[Any]
    """(band, row, col) in the stored dtype. Invalid pixels hold whatever is stored, never NaN or infinity."""
    valid: NDArray[np.bool_]
    """(row, col), True = valid."""


@dataclass(frozen=True, slots=True)
@checked
class Scene:
    """A raster and which of its bands to use. Each reading thread keeps its own open handle."""

    path: str
    geobox: GeoBox
    band_indexes: tuple[int, ...]
    """1-based, in the order of the model's bands."""
    band_choice: str
    """One line that says which bands are used, and why."""
    dtype: str
    """NumPy's name for the stored type of the bands used."""
    block_shape: tuple[int, int]
    """(rows, cols) of one stored block."""
    nodata: float | None = field(compare=False)  # NaN differs from itself
    count: int
    descriptions: tuple[str, ...]
    colors: tuple[str, ...]
    driver: str
    validity: Validity
    """What makes pixels invalid."""
    chosen: bool
    """Whether the caller chose the bands, by `bands` or by the model's names in `wanted_bands`.

    False for a plain `Scene.open(path)`: it has all bands but alpha, and verbs that know the model may choose others.
    """
    area: AreaOfInterest | None = None
    """Pixels outside it are not valid; None for the whole scene. `geoseg.within` sets it."""
    item: str | None = field(default=None, compare=False)
    """The STAC item whose assets the scene reads."""

    def __post_init__(self) -> None:
        if not self.band_indexes or not all(1 <= index <= self.count for index in self.band_indexes):
            raise UsageError(
                f"`band_indexes` must be one or more numbers from 1 to {self.count}, got {list(self.band_indexes)}",
                "band_indexes",
            )

    def __repr__(self) -> str:
        rows, cols = self.shape
        size = "pixels of unknown size" if self.geobox.gsd_m is None else f"{self.geobox.gsd_m:.3g} m"
        area = "" if self.area is None else ", within an area"
        return (
            f"Scene({shown(self.item or self.path)!r}, {rows} rows, {cols} columns, {listed(self.band_names)} "
            f"{self.dtype}, {size}, {crs_text(self.geobox.crs or self.geobox.gcp_crs)}{area})"
        )

    @classmethod
    @plain_arguments()
    def open(
        cls, path: SceneLike, bands: Sequence[int | str] | None = None, wanted_bands: Sequence[str] | None = None
    ) -> Scene:
        """Describe a raster.

        Parameters
        ----------
        path
            A file, a URL, a /vsi path, anything rasterio opens; a STAC item, whose assets are chosen by band; a Scene;
            an open rasterio dataset; or an xarray.DataArray (y, x) or (band, y, x) with a CRS, as rioxarray and odc-geo
            make them. An array is written to a temporary file, chunk by chunk if it is a Dask array; the file is
            removed when Python exits.
        bands
            Numbers from 1, or names, in the order of the model's bands. Default: all but alpha.
        wanted_bands
            Names of the model's bands, which are matched with the file's; `bands` takes precedence.

        Raises
        ------
        SceneError
            If the raster cannot be read, or lacks a band.
        UsageError
            If `bands` is not in the file, or an array has no CRS.

        Examples
        --------
        >>> scene = Scene.open("sentinel2.tif", bands=[4, 3, 2])
        >>> scene = Scene.open(rioxarray.open_rasterio("sentinel2.tif", chunks=2048))
        """
        if isinstance(path, Scene):
            if bands is None and wanted_bands is None:
                return path
            return replace(cls.open(path.path, bands, wanted_bands), area=path.area, item=path.item)
        if not isinstance(path, str | os.PathLike):
            from geoseg.raster.sources import path_of  # noqa: PLC0415 - few scenes are open already

            path = path_of(path)
        path = os.fspath(path)
        if not path.strip():  # from a variable that is not set; it would mean this folder
            raise UsageError("the path of a scene is empty; give a path", "scene")
        if is_item(path):
            assets, chosen, line = raster_of(path, bands, wanted_bands)
            scene = cls.open(assets, chosen)
            return replace(scene, item=path, band_choice=line or scene.band_choice)
        with opened(path) as dataset:
            scene = _describe(path, dataset, bands, wanted_bands)
        is_index = scene.driver == "GTI" and not is_vrt_text(path)
        return replace(cls.open(_without_gaps(scene), bands, wanted_bands), driver="GTI") if is_index else scene

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.geobox.shape

    @plain_arguments()
    def crop(self, bbox: Box, crs: CrsLike | None = None) -> Scene:
        """Return the part of the scene that contains a box: see `geoseg.crop`."""
        return self.cut(window_of(self.geobox, bbox, crs, shown(self.path)))

    @checked
    def cut(self, window: Window) -> Scene:
        """Return a window of the scene as a scene. It holds no pixels, so the file must stay where it is."""
        return self._cut(window)

    def without_overviews(self) -> Scene:
        """Return the scene without the overviews in its files: decimated reads then take stored pixels.

        Overviews stay in the files of a VRT that chooses among them, that has very many files, or one that is no scene.
        """
        text = as_vrt_text(self.path)
        if is_vrt_text(text) and "OVERVIEW_LEVEL" not in text and len(sources_of(text)) <= _MOST_SOURCES:
            with suppress(SceneError):
                return replace(self, path=with_sources(text, _name_without_overviews))
        return self._cut(self._whole(), overviews=False)

    def _cut(self, window: Window, *, overviews: bool = True) -> Scene:
        text = cropped(self, window, *described(self), overviews=overviews)
        part = Scene.open(text, bands=self.band_indexes if self.chosen else None)
        return replace(part, area=None if self.area is None else self.area[window], item=self.item)

    def select_bands(self, *bands: int | str | Sequence[int | str]) -> Scene:
        """Return the scene with other bands of its file, by number from 1 or by name.

        `scene.select_bands(4, 3, 2)` and `scene.select_bands([4, 3, 2])` are the same. Raises UsageError for a band
        that does not exist.
        """
        chosen = Scene.open(self.path, bands=bands[0] if len(bands) == 1 else bands)  # type: ignore[arg-type] # `plain_arguments` checks
        return replace(chosen, area=self.area, item=self.item)

    @property
    def band_names(self) -> tuple[str, ...]:
        """A unique name for each band used: the file's name for it, else its number, such as `band_2`."""
        names: list[str] = []
        for index in self.band_indexes:
            name = name_of(self.colors[index - 1], self.descriptions[index - 1])
            names.append(name if name and name not in names else f"band_{index}")
        return tuple(names)

    @checked
    def with_bands_of(self, first: Scene) -> Scene:
        """Return the scene with its bands in the order of another's, matched by the names in their files.

        It is unchanged if the caller chose its bands, or the files name none. Raises SceneError if it lacks a band.
        """
        names = first.band_names
        return self if self.chosen or self.band_names == names else Scene.open(self, wanted_bands=names)

    @checked
    def to_xarray(self, *, masked: bool = False) -> DataArray:
        """Return the scene as a lazy xarray.DataArray that reads blocks on demand.

        Parameters
        ----------
        masked
            Whether invalid pixels become NaN, in float32 (float64 for types of more than 16 bits). By default values
            are as stored, and a nodata value is in the attribute `_FillValue`.

        Returns
        -------
        DataArray
            (band, y, x) in Dask chunks, with x and y of the pixels' centers and `spatial_ref`, so that rioxarray and
            odc-geo can georeference it.
        """
        from geoseg.raster.sources import to_xarray  # noqa: PLC0415 - optional

        return to_xarray(self, masked=masked)

    @checked
    def read(self, window: Window) -> Patch:
        """Read a window, which may extend beyond the scene on any side: pixels outside are invalid, and 0.

        A pixel is invalid if it is nodata in all bands used, transparent, masked, or not finite in a band used.

        Raises
        ------
        SceneError
            If the file is damaged or gone.
        """
        with opened(self.path) as dataset:
            return self._read(dataset, window)

    @checked
    def read_into(self, parts: Sequence[tuple[Window, NDArray[Any]]]) -> list[NDArray[np.bool_] | None]:
        """Read windows, each into an array of its shape and the stored dtype; return the valid mask of each.

        The mask is None if nothing in the scene can be invalid, which saves making and scanning it. Blocks that windows
        share are decoded once, as long as GDAL's cache holds them. Raises what `read` raises, and UsageError for an
        array of another shape or type.
        """
        for window, into in parts:
            expected_shape = (len(self.band_indexes), *window.shape)
            if into.shape != expected_shape or into.dtype != self.dtype:
                raise UsageError(
                    f"an array in `parts` must be {self.dtype} {expected_shape}, got {into.dtype} {into.shape}", "parts"
                )
        with opened(self.path) as dataset:
            return [self._read_into(dataset, window, into) for window, into in parts]

    def _read_into(self, dataset: DatasetReader, window: Window, into: NDArray[Any]) -> NDArray[np.bool_] | None:
        if self.area is None and self.validity.hides_nothing and window.intersection(self._whole()) == window:
            dataset.read(list(self.band_indexes), window=window.to_rasterio(), out=into)
            return None
        return self._read(dataset, window, into).valid

    def _read(self, dataset: DatasetReader, window: Window, into: NDArray[Any] | None = None) -> Patch:
        inside = window.intersection(self._whole())
        in_area = None if inside is None or self.area is None else self.area.mask(inside)
        if inside is None or (in_area is not None and not in_area.any()):
            return Patch(self._zeros(window, into), np.zeros(window.shape, np.bool_))
        patch = Patch(*self.validity.read(dataset, inside.to_rasterio(), into=into if inside == window else None))
        if in_area is not None:
            patch = Patch(patch.data, patch.valid & in_area)
        if inside == window:
            return patch
        return _pasted(patch, inside.relative_to(window), self._zeros(window, into))

    def _zeros(self, window: Window, into: NDArray[Any] | None) -> NDArray[Any]:
        if into is None:
            return np.zeros((len(self.band_indexes), *window.shape), self.dtype)
        into[...] = 0
        return into

    @checked
    def valid(self, window: Window) -> NDArray[np.bool_]:
        """Return `read(window).valid`; integer bands are read only as far as needed."""
        inside = window.intersection(self._whole())
        valid = np.zeros(window.shape, np.bool_)
        if inside is not None:
            with opened(self.path) as dataset:
                place = inside.relative_to(window)
                valid[place.rows, place.cols] = self.validity.judge(dataset, inside.shape, inside.to_rasterio())
                if self.area is not None:
                    valid[place.rows, place.cols] &= self.area.mask(inside)
        return valid

    @checked
    def overview(self, max_px: int = OVERVIEW_PX) -> Patch:
        """Read the whole scene decimated, its long side at most `max_px`; cheap if the file has overviews."""
        if max_px < 1:
            raise UsageError(f"`max_px` must be at least 1, got {max_px}", "max_px")
        height, width = self.shape
        factor = max(1.0, max(self.shape) / max_px)
        small = max(1, round(height / factor)), max(1, round(width / factor))
        with opened(self.path) as dataset:
            patch = Patch(*self.validity.read(dataset, shape=small))
        return patch if self.area is None else Patch(patch.data, patch.valid & self.area.decimated(self.shape, small))

    def statistics(self) -> BandStatistics | None:
        """Measure the valid pixels of the bands used, from overviews or from blocks spread over the scene.

        None if no pixel is valid. SceneError, soon, if the scene's server no longer answers.
        """
        check_answer(self.path)
        with opened(self.path) as dataset:
            has_overviews = bool(dataset.overviews(self.band_indexes[0]))
        if has_overviews or max(self.shape) <= 2 * OVERVIEW_PX:
            patch = self.overview()
            pixels = patch.data.reshape(len(patch.data), -1)
            return band_statistics(pixels if patch.valid.all() else pixels[:, patch.valid.ravel()])
        samples = []
        for window, step in sample_windows(self.shape, self.block_shape):
            patch = self.read(window)
            samples.append(patch.data[:, ::step, ::step][:, patch.valid[::step, ::step]])
        return band_statistics(np.concatenate(samples, axis=1))

    def fingerprint(self) -> str:
        """Return a hex digest that changes whenever the pixels may have changed.

        It covers name, size and time of every file behind the scene, or of the archive it is in; for a remote file,
        what its server reports. If any of these is unknown, a decimated read is included, which may miss a small
        change.
        """
        profile = repr((self.geobox, self.validity, self.nodata, self.count, self.colors, self.driver))
        profile += "" if self.area is None else self.area.digest
        found = stamps(files_behind(self.path))
        if found and all(stamp[-1] is not None for stamp in found):
            return digest([profile, found])
        patch = self.overview()
        return digest([profile, found, patch.data.tobytes().hex(), patch.valid.tobytes().hex()])

    def version(self, fingerprint: str | None = None) -> Version:
        """Return what `is_changed` compares: a remote scene's headers, else the fingerprint, computed unless given."""
        return server_versions(self.path) if is_remote(self.path) else fingerprint or self.fingerprint()

    def is_changed(self, version: Version) -> bool:
        """Return whether the scene was replaced since it had a version; servers that do not answer say nothing."""
        return self.fingerprint() != version if isinstance(version, str) else is_replaced(self.path, version)

    def local_files(self) -> list[Path]:
        """Return every local file behind the scene; see `local_files`."""
        return local_files(self)

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows. A raster that can no longer be read has no picture."""
        try:
            is_map = is_classes(self)
            image, codes = _thumbnail(self, is_map=is_map)
            classes = _classes(self, codes) if is_map else ""
        except GeosegError:
            is_map, image, classes = False, "", ""
        return beside(image, table(_rows(self, "map" if is_map else "scene")), classes)

    def _whole(self) -> Window:
        return Window(0, 0, *self.shape)


@plain_arguments()
def crop(scene: SceneLike, bbox: Box, crs: CrsLike | None = None) -> Scene:
    """Return the part of a scene that contains a box: every pixel that the box touches, on the scene's own grid.

    The part holds no pixels, so the scene must stay where it is. It is a scene in every respect: the network's windows
    start at its corner and see nothing outside it. Labels may therefore differ from the whole scene's map: within a
    window of the edges, and because the windows lie elsewhere.

    Parameters
    ----------
    scene
        Anything that `Scene.open` accepts.
    bbox
        West, south, east, north, in the scene's CRS or in `crs`. For a box across the 180th meridian, west is greater
        than east. It may extend beyond the scene's edges.
    crs
        The CRS of the box: `"EPSG:4326"` (longitude and latitude), 4326, or a CRS object such as a GeoDataFrame's.

    Raises
    ------
    UsageError
        If the box is invalid, or lies outside the scene.
    SceneError
        If the scene cannot be read, or has no grid in a CRS.

    Examples
    --------
    >>> geoseg.crop("sentinel2.tif", (7.3, 46.9, 7.5, 47.0), crs="EPSG:4326")
    """
    return Scene.open(scene).crop(bbox, crs)


def as_scene(source: SceneLike, parameter: str = "scene") -> str | os.PathLike[str] | Scene:
    """Return a dataset or an array as a Scene, for verbs that use it several times; a path or a Scene unchanged.

    UsageError, for the parameter of the verb, if it is none.
    """
    if isinstance(source, str | os.PathLike | Scene):
        return source
    try:
        return Scene.open(source)
    except UsageError as error:
        raise error.renamed(scene=parameter) from None


def local_files(source: str | os.PathLike[str] | Scene) -> list[Path]:
    """Return every local file behind a raster, resolved: sources of a VRT, sidecars, the archive it is in.

    Of a Zarr array it is the folder.
    """
    path = source.path if isinstance(source, Scene) else os.fspath(source)
    if is_remote(path) and not is_vrt_text(path):
        return []
    names = files_behind(path)
    folders = (Path(name) for name in names if os.path.isdir(name))  # noqa: PTH112 Path raises for the text of a VRT
    return sorted({file.resolve() for file in (*folders, *map(local_file, names)) if file is not None})


def scaled(scene: Scene, factor: float | tuple[float, float]) -> Scene:
    """Return a scene with `factor` times as many pixels per side, rounded, with the same bands and place.

    Two factors are for rows and columns. Below 1 valid pixels are averaged, above 1 interpolated linearly. The result
    holds no pixels, so the scene must stay where it is. At factor 1 it is the scene itself. UsageError for an
    unreasonable factor.
    """
    height, width = scene.shape
    down, across = factor if isinstance(factor, tuple) else (factor, factor)
    for number in (down, across):
        if not (math.isfinite(number) and number > 0):
            raise UsageError(f"the resampling factor must be more than 0, got {number}", "resolution")
    if max(height * down, width * across) > MOST_PX:
        raise UsageError(
            f"a scene of {width} x {height} pixels cannot be enlarged {max(down, across):g} times", "resolution"
        )
    shape = max(1, round(height * down)), max(1, round(width * across))
    if shape == scene.shape:
        return scene
    text = scaled_to(scene, shape, "Average" if down * across < 1 else "Bilinear")
    area = None if scene.area is None else scene.area.scaled(scene.shape, shape)
    opened = Scene.open(text, bands=range(1, len(scene.band_indexes) + 1))
    stated_m = place_at(scene.geobox, shape).stated_gsd_m  # no file stores it
    return replace(opened, area=area, geobox=replace(opened.geobox, stated_gsd_m=stated_m))


def _without_gaps(index: Scene) -> str:
    """Return a view of a tile index that reads it a bit to the right and further down, without changing a pixel.

    GDAL 3.10 loses pixels of windows that begin at the edge of a raster in it, and others at its mask or alpha band.
    `mosaic` makes indexes without that.
    """
    if index.validity.has_mask or "alpha" in index.colors:
        raise SceneError(
            f"{shown(index.path)} is a tile index of rasters with a mask or an alpha band, of which GDAL loses pixels; "
            "give the rasters themselves: their folder, a pattern, or geoseg.mosaic of them in Python"
        )
    if missing := missing_in_index(index.path):
        raise SceneError(
            f"{shown(index.path)} names {missing}, which does not exist; correct the index, or copy the file"
        )
    text = cropped(index, Window(0, 0, *index.shape), *described(index))
    return text.replace('<SrcRect xOff="0" yOff="0"', f'<SrcRect xOff="{_ASIDE_PX}" yOff="{_ASIDE_PX}"')


def _name_without_overviews(name: str) -> str:
    scene = Scene.open(name)
    return scene.path if is_vrt_text(scene.path) else scene.without_overviews().path  # a text is that of an index


def _describe(
    path: str, dataset: DatasetReader, bands: Sequence[int | str] | None, wanted: Sequence[str] | None
) -> Scene:
    if dataset.count == 0:
        inside = f": {', '.join(map(shown, dataset.subdatasets[:4]))}" if dataset.subdatasets else ""
        raise SceneError(f"{shown(path)} has no bands of its own; give one of the rasters inside it{inside}")
    _check_size(path, dataset)
    names = BandNames(
        tuple(color.name.lower() for color in dataset.colorinterp),
        tuple(" ".join((text or "").split()) for text in dataset.descriptions),
    )
    try:
        choice = choose_bands(names, bands, wanted)
    except (SceneError, UsageError) as error:
        raise type(error)(f"{shown(path)}: {error}", error.parameter) from None
    dtypes = {dataset.dtypes[index - 1] for index in choice.indexes}
    if len(dtypes) > 1:
        raise SceneError(
            f"{shown(path)}: the bands used must share one type, got {', '.join(sorted(dtypes))}; "
            "convert them with rio convert --dtype"
        )
    if dataset.driver == "GTiff" and len(dataset.subdatasets) > 1:
        _warn_of_pages(path)
    dtype = dtypes.pop()
    if dtype.startswith("complex"):  # complex_int16 is not a numpy dtype
        raise SceneError(
            f"{shown(path)} holds complex numbers ({dtype}); "
            "give its amplitudes, for example with rio calc '(absolute (read 1))' --dtype float32 --not-masked"
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


@lru_cache(maxsize=1024)  # once for each file
def _warn_of_pages(path: str) -> None:
    """Warn of a TIFF with several pages of one size; a smaller one is a thumbnail."""
    with opened(path) as dataset:
        pages, shape = dataset.subdatasets, dataset.shape
    with raster_environment():
        alike = []
        for page in pages[1:3]:
            with suppress(*GDAL_ERRORS), rasterio.open(page) as dataset:
                alike += [shown(page)] if dataset.shape == shape else []
    if alike:
        warn(f"only the first of {len(pages)} pages of {shown(path)} is read; others are {', '.join(alike)}")


def _check_size(path: str, dataset: DatasetReader) -> None:
    """Raise SceneError for an uncompressed ENVI or classic netCDF file cut short: GDAL reads what is missing as 0."""
    file = local_file(path) if dataset.driver in ("ENVI", "netCDF") else None
    if file is None or not (_is_classic(file) if dataset.driver == "netCDF" else file == Path(path)):
        return  # compressed, or in an archive
    tags = dataset.tags(ns="ENVI")
    sample_bytes = sum(np.dtype(dtype).itemsize for dtype in dataset.dtypes)
    offset = re.match(r"\s*\d+", tags.get("header_offset", "0"))  # may be "0 bytes"
    least = int(offset[0] if offset else 0) + dataset.height * dataset.width * sample_bytes
    size = file.stat().st_size
    if size < least and tags.get("file_compression", "0") == "0":
        raise SceneError(f"{shown(path)} is cut short: {size} bytes, expected {least} or more; copy it again")


def _is_classic(file: Path) -> bool:
    with file.open("rb") as opened_file:
        return opened_file.read(3) == b"CDF"


def _geobox(dataset: DatasetReader) -> GeoBox:
    # rasterio gives numbers that nobody has set for a PNM picture without a world file
    is_set = dataset.driver != "PNM" or Path(dataset.name).with_suffix(".wld").is_file()
    gcps, gcp_crs = dataset.gcps
    points = tuple(GroundControlPoint(point.row, point.col, point.x, point.y, point.z) for point in gcps)
    return GeoBox(
        dataset.height,
        dataset.width,
        dataset.transform if is_set else Affine.identity(),
        dataset.crs or None,
        points,
        (gcp_crs or None) if points else None,
        dataset.rpcs,
    )


def _pasted(patch: Patch, place: Window, data: NDArray[Any]) -> Patch:
    """Return a patch pasted into a larger one, `data`, which is 0 around it."""
    valid = np.zeros(data.shape[1:], np.bool_)
    data[:, place.rows, place.cols] = patch.data
    valid[place.rows, place.cols] = patch.valid
    return Patch(data, valid)


def _rows(scene: Scene, kind: str) -> list[tuple[str, str]]:
    """Return the rows of the table that a notebook shows for a scene."""
    box = scene.geobox
    return [
        (kind, Path(shown(scene.path)).name),
        ("size", f"{box.height_px} rows, {box.width_px} columns"),
        ("pixel", "unknown size" if box.gsd_m is None else f"{box.gsd_m:.3g} m"),
        ("CRS", crs_text(box.crs or box.gcp_crs)),
        ("bands", f"{len(scene.band_indexes)} of {scene.count}, {scene.dtype}"),
        ("nodata", "none" if scene.nodata is None else f"{scene.nodata:g}"),
    ]


def _classes(scene: Scene, codes: list[int]) -> str:
    classes = list(read_nomenclature(scene).completed(codes))
    more = f"and {len(classes) - _MOST_CLASSES} more" if len(classes) > _MOST_CLASSES else ""
    return swatches((named.name, named.color) for named in classes[:_MOST_CLASSES]) + more


def _thumbnail(scene: Scene, *, is_map: bool) -> tuple[str, list[int]]:
    """Return a picture, and for a map the codes found in it."""
    patch = decimated(scene, _THUMBNAIL_PX) if is_map else scene.overview(_THUMBNAIL_PX)
    image = _colored(scene, patch) if is_map else _natural(scene, patch)
    codes = [int(code) for code in np.unique(patch.data[0][patch.valid])] if is_map else []
    return picture(encoded_picture(image, "PNG")), codes


def encoded_picture(image: NDArray[np.uint8], driver: str, **options: Any) -> bytes:  # noqa: ANN401 - the driver's
    """Return an image (band, row, col) as the content of a picture file, made by one of GDAL's drivers."""
    count, height, width = image.shape
    profile = {"driver": driver, "dtype": "uint8", "count": count, "height": height, "width": width, **options}
    with raster_environment(GDAL_PAM_ENABLED=False), MemoryFile() as file:
        with file.open(**profile) as dataset:
            dataset.write(image)
        return bytes(file.read())


def _natural(scene: Scene, patch: Patch) -> NDArray[np.uint8]:
    """Return (4, row, col): three bands with one stretch, and alpha."""
    statistics = scene.statistics()
    low, high = (0.0, 1.0) if statistics is None else (min(statistics.low[:3]), max(statistics.high[:3]))
    return np.concatenate([natural_colors(patch.data, low, high), patch.valid[None].astype(np.uint8) * 255])


def _colored(scene: Scene, patch: Patch) -> NDArray[np.uint8]:
    """Return (4, row, col): each class in its color, and alpha."""
    nomenclature = read_nomenclature(scene)
    codes, indexes = np.unique(patch.data[0], return_inverse=True)
    in_range = (max(-(2**31), min(int(code), 2**31 - 1)) for code in codes)
    lookup = np.array([(*nomenclature.of(code).color, 255) for code in in_range], np.uint8)
    colored = lookup[indexes.reshape(patch.valid.shape)]
    colored[~patch.valid] = 0
    return np.ascontiguousarray(np.moveaxis(colored, -1, 0))
