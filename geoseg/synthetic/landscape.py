"""A landscape: a seed and a size; its pixels are computed on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine

from geoseg.atomic import written_whole
from geoseg.errors import OutputError, UsageError
from geoseg.given import plain_arguments
from geoseg.legend import DEEPGLOBE, NODATA
from geoseg.machine import available_cores
from geoseg.raster import Window, tiles
from geoseg.synthetic import ground as classes
from geoseg.synthetic.country import paint_barren, paint_fields, paint_forest, paint_rangeland, paint_towns, paint_water
from geoseg.synthetic.ground import Cover, Parcels, cover_of, parcels_of, terrain_of
from geoseg.synthetic.noise import Floats, Mask, fractal_noise, scramble, value_noise
from geoseg.synthetic.paint import Paint, blend, lay, lighter
from geoseg.synthetic.place import Place, draw_place
from geoseg.typed import checked

_BLOCK_PX = 256
"""Rendering goes by blocks that fit the CPU cache; their size changes no pixel."""
_FILE_BLOCK_PX = 512
_HALO_PX = 4
"""Pixels around a window that the blur needs."""
_SHADE_M = 9.0
"""Maximum length of the shadow of woods."""
_ORIGIN = (400_000.0, 5_000_000.0)
_CRS = "EPSG:32631"


@dataclass(frozen=True, slots=True)
@checked
class Landscape:
    """A synthetic scene of `height_px` x `width_px`; the seed determines the place and every pixel.

    Raises UsageError unless the seed is at least 0 and all sizes are positive.
    """

    seed: int
    height_px: int
    width_px: int
    gsd_m: float = 0.5

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"a landscape's seed must be 0 or more, got {self.seed}")
        if min(self.height_px, self.width_px) <= 0 or not 0 < self.gsd_m < float("inf"):
            raise UsageError(
                f"a landscape needs positive sizes, got {self.height_px} x {self.width_px} pixels of {self.gsd_m} m"
            )

    def render(self, window: Window | None = None) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Return the image (3, row, col) and the codes (row, col) of a window, or of the whole landscape.

        A pixel depends only on the seed, the ground sampling distance and its own position, never on the window. The
        window may extend beyond the landscape: the place continues there.
        """
        window = window or Window(0, 0, self.height_px, self.width_px)
        place = draw_place(self.seed)
        image = np.empty((3, *window.shape), np.uint8)
        codes = np.empty(window.shape, np.uint8)
        for block in window.tiles(_BLOCK_PX, _BLOCK_PX):
            at = block.relative_to(window)
            image[:, at.rows, at.cols], codes[at.rows, at.cols] = _render_block(place, block, self.gsd_m)
        return image, codes

    @property
    def transform(self) -> Affine:
        """The place of the landscape on Earth, in UTM zone 31 north."""
        return Affine(self.gsd_m, 0, _ORIGIN[0], 0, -self.gsd_m, _ORIGIN[1])


@plain_arguments()
def write_landscape(landscape: Landscape, scene_path: Path | str, truth_path: Path | str | None = None) -> None:
    """Write a landscape as a tiled, compressed GeoTIFF, and its truth as another; memory use stays constant.

    The truth gets its name last, so it marks both as complete. Raises OutputError if a file cannot be written.
    """
    with ExitStack() as last, ExitStack() as first:
        scene, truth = _unfinished(scene_path, first), None if truth_path is None else _unfinished(truth_path, last)
        try:
            _write(landscape, scene, truth)
        except rasterio.errors.RasterioError as error:
            raise OutputError(
                f"cannot write the landscape to {scene_path}: {error}; free some space, or choose another folder"
            ) from error


def _unfinished(path: Path | str, stack: ExitStack) -> Path | str:
    """Return the file to write, which the stack renames; in GDAL's memory the path itself."""
    return path if str(path).startswith("/vsimem/") else stack.enter_context(written_whole(Path(path)))


def _write(landscape: Landscape, scene_path: Path | str, truth_path: Path | str | None) -> None:
    """Write the files, and read them again: GDAL reports no full disk when it closes a file. Raises RasterioError."""
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "height": landscape.height_px,
        "width": landscape.width_px,
        "crs": _CRS,
        "transform": landscape.transform,
        "tiled": True,
        "blockxsize": _FILE_BLOCK_PX,
        "blockysize": _FILE_BLOCK_PX,
        "compress": "deflate",
        "BIGTIFF": "IF_SAFER",
    }
    with ExitStack() as stack:
        files = {
            scene_path: stack.enter_context(
                rasterio.open(scene_path, "w", count=3, predictor=2, photometric="RGB", interleave="pixel", **profile)
            )
        }
        if truth_path is not None:
            files[truth_path] = stack.enter_context(rasterio.open(truth_path, "w", count=1, nodata=NODATA, **profile))
            files[truth_path].write_colormap(1, {entry.code: entry.color for entry in DEEPGLOBE})
        written = dict.fromkeys(files, 0)
        for window, image, codes in _rendered(landscape):
            for path, pixels in zip(files, (image, codes[None]), strict=False):
                files[path].write(pixels, window=window)
                written[path] = crc32(pixels.tobytes(), written[path])
    for path, checksum in written.items():
        found = 0
        with rasterio.open(path) as file:
            for block in _blocks(landscape):
                found = crc32(file.read(window=block.to_rasterio()).tobytes(), found)
        if found != checksum:
            raise rasterio.errors.RasterioIOError("the file is incomplete")


def _blocks(landscape: Landscape) -> list[Window]:
    return tiles(landscape.height_px, landscape.width_px, _FILE_BLOCK_PX, _FILE_BLOCK_PX)


def _rendered(landscape: Landscape) -> Iterator[tuple[Any, npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    """Yield the window, the image and the codes of each block of the files."""
    blocks, workers = _blocks(landscape), available_cores()
    with ThreadPoolExecutor(workers) as pool:
        # a few at a time: given all blocks, the pool would keep all results
        for first in range(0, len(blocks), 4 * workers):
            batch = blocks[first : first + 4 * workers]
            for block, (image, codes) in zip(batch, pool.map(landscape.render, batch), strict=True):
                yield block.to_rasterio(), image, codes


def _render_block(place: Place, window: Window, gsd_m: float) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    shade_px = int(np.ceil(_SHADE_M / gsd_m))
    halo_px = _HALO_PX + shade_px
    wide = window.padded(halo_px)
    y, x = np.meshgrid(
        np.arange(wide.row, wide.row_stop) * gsd_m, np.arange(wide.col, wide.col_stop) * gsd_m, indexing="ij"
    )
    ground = parcels_of(place, x, y)
    terrain = terrain_of(place, wide, gsd_m)
    cover = cover_of(place, terrain, ground)
    paint = _paint(place, ground, cover)
    if place.relief:
        hilly = (cover.codes != classes.WATER) & (cover.codes != classes.URBAN) & (cover.codes != classes.UNKNOWN)
        paint = paint * (1 + place.relief * np.clip(terrain.slope, -0.6, 0.6) * hilly)
    core = slice(shade_px, -shade_px)
    paint = paint[:, core, core] * _woodland_shade(place, cover, gsd_m, shade_px)
    inner = cover.codes[halo_px:-halo_px, halo_px:-halo_px]
    return _photograph(place, paint, window.row, window.col, terrain.tone[core, core]), inner


def _paint(place: Place, ground: Parcels, cover: Cover) -> Floats:
    """Paint each class in its pixels; return colors (3, row, col)."""
    paint = np.zeros((3, *cover.codes.shape), np.float32)
    painters: dict[int, Callable[[Parcels, Mask], Paint]] = {
        classes.URBAN: lambda land, _: paint_towns(place, land),
        classes.AGRICULTURE: lambda land, _: paint_fields(place, land),
        classes.RANGELAND: lambda land, _: paint_rangeland(place, land),
        classes.FOREST: lambda land, _: paint_forest(place, land),
        classes.WATER: lambda land, mask: paint_water(place, land, cover.depth[mask]),
        classes.BARREN: lambda land, mask: paint_barren(place, land, cover.sand[mask]),
        classes.UNKNOWN: lambda land, _: paint_rangeland(place, land),
    }
    for code, painter in painters.items():
        mask = cover.codes == code
        if mask.any():
            paint[:, mask] = painter(ground.where(mask), mask)
    _paint_roads(place, ground, cover.road, paint)
    if cover.cloud.any():
        billow = 0.9 + 0.06 * fractal_noise(ground.x_m, ground.y_m, 110.0, 4, place.salt(99))
        paint = paint + (billow - paint) * cover.cloud
    return paint


def _woodland_shade(place: Place, cover: Cover, gsd_m: float, shade_px: int) -> Floats:
    """Return how much light reaches the ground next to woods: 1, or less in the shadow of the outermost trees."""
    height, width = (size - 2 * shade_px for size in cover.codes.shape)
    inner = cover.codes[shade_px : shade_px + height, shade_px : shade_px + width]
    wood = cover.codes == classes.FOREST
    shaded = np.zeros(inner.shape, np.bool_)
    length_m = min(_SHADE_M, 8.0 * place.shadow_ratio * place.crown_scale)
    for away_m in np.arange(1.0, length_m, 1.5):
        down = shade_px + round(away_m * place.sun[1] / gsd_m)
        across = shade_px + round(away_m * place.sun[0] / gsd_m)
        shaded |= wood[down : down + height, across : across + width]
    return np.where(shaded & (inner != classes.FOREST) & (inner != classes.UNKNOWN), np.float32(0.55), np.float32(1))


def _paint_roads(place: Place, ground: Parcels, road: Mask, paint: Floats) -> None:
    if not road.any():
        return
    land = ground.where(road)
    paved = (land.border & np.uint32(3)) == 0
    dust = lighter(blend(place.soil, (0.62, 0.57, 0.48), 0.5), 1.1)
    color = lay(dust, paved, (0.40, 0.39, 0.38))
    paint[:, road] = color * (1 + 0.05 * value_noise(land.x_m, land.y_m, 1.8, place.salt(98)))


def _photograph(place: Place, paint: Floats, row: int, col: int, tone: Floats) -> npt.NDArray[np.uint8]:
    """Convert colors (3, row, col) with a halo to bytes without it; row and col are those of the first pixel."""
    sharp = _blur(paint, place.blur_px)
    height, width = sharp.shape[1:]
    rows, cols = np.meshgrid(
        np.arange(row, row + height, dtype=np.int32), np.arange(col, col + width, dtype=np.int32), indexing="ij"
    )
    inner = tone[_HALO_PX : _HALO_PX + height, _HALO_PX : _HALO_PX + width]
    haze = place.haze * (1 + 0.35 * inner)
    picture = np.empty(sharp.shape, np.uint8)
    for band in range(3):
        level = (sharp[band] - 0.38) * place.contrast + 0.38
        level = level * place.gain[band] * (1 + 0.04 * inner)
        level = level + (place.haze_color[band] - level) * haze
        word = scramble(rows, cols, place.salt(95 + band))
        # the sum of four bytes of a word is nearly normal
        grain = (word & 255) + ((word >> 8) & 255) + ((word >> 16) & 255) + (word >> 24)
        noise = (grain.astype(np.float32) - 510) * (place.grain / 147.8)
        picture[band] = np.clip(level * 255 + noise + 0.5, 0, 255).astype(np.uint8)
    return picture


def _blur(paint: Floats, sigma_px: float) -> Floats:
    """Blur with a Gaussian of nine taps, summed in a fixed order, so that the bits do not depend on the window."""
    taps = np.exp(-0.5 * (np.arange(-_HALO_PX, _HALO_PX + 1) / sigma_px) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    height, width = paint.shape[1] - 2 * _HALO_PX, paint.shape[2] - 2 * _HALO_PX
    down = paint[:, :height] * taps[0]
    for step in range(1, taps.size):
        down = down + paint[:, step : step + height] * taps[step]
    across: Floats = down[:, :, :width] * taps[0]
    for step in range(1, taps.size):
        across = across + down[:, :, step : step + width] * taps[step]
    return across
