"""Small class rasters that are hard to trace: noise, touching corners, rings, spirals, crops of real maps."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from scipy import ndimage

Classes = NDArray[np.uint8]
"""(row, col) class of each pixel; NODATA belongs to no region."""
NODATA = 255

_CROP_PX = 200
_CHIPS = "naip/chesapeake_wv/*[037]_*_idx.png"
_MASKS = "deepglobe/*_mask.png"
_ZOO = ("geotiff_zoo/rasterio/world.byte.tif", "geotiff_zoo/rasterio/RGB.byte.tif")
"""A coast, and a photograph read as 255 classes with nodata, in which hardly two neighbors are equal."""


def noise(shape: tuple[int, int], classes: int, seed: int = 0, nodata: float = 0.0) -> Classes:
    """Return independent random pixels, of which the share `nodata` is nodata."""
    random = np.random.default_rng(seed)
    drawn: Classes = random.integers(0, classes, shape).astype(np.uint8)
    drawn[random.random(shape) < nodata] = NODATA
    return drawn


def smooth_noise(shape: tuple[int, int], classes: int, scale_px: float, seed: int = 0, nodata: float = 0.0) -> Classes:
    """Return blobs about `scale_px` wide; the share `nodata` is nodata, also in blobs."""
    random = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(random.standard_normal(shape), scale_px) for _ in range(classes + 1)]
    drawn: Classes = np.argmax(fields[:classes], axis=0).astype(np.uint8)
    if nodata:
        drawn[fields[-1] <= np.quantile(fields[-1], nodata)] = NODATA
    return drawn


def checkerboard(shape: tuple[int, int], square_px: int, classes: int = 2) -> Classes:
    """Return squares whose diagonal neighbors are of one class if there are two: four borders cross at each corner."""
    rows, cols = np.indices(shape) // square_px
    return ((rows + cols) % classes).astype(np.uint8)


def nested_rings(edge_px: int, width_px: int = 1, classes: int = 2) -> Classes:
    """Return nested square rings, each the only hole of the next."""
    rows, cols = np.indices((edge_px, edge_px))
    depth = np.minimum(np.minimum(rows, cols), np.minimum(rows[::-1], cols[:, ::-1]))
    return (depth // width_px % classes).astype(np.uint8)


def diagonal_rings(edge_px: int, width_px: int) -> Classes:
    """Return diamonds around the center; where they are one pixel wide, their sides touch only at corners."""
    rows, cols = np.indices((edge_px, edge_px)) - edge_px // 2
    return ((abs(rows) + abs(cols)) // width_px % 2).astype(np.uint8)


def spiral(edge_px: int, arms: int = 1) -> Classes:
    """Return one-pixel spirals of class 1 and up in class 0, each from a corner of the raster to its middle.

    Two arms are a turn apart, so that the background between them is a spiral too.
    """
    pixels = np.zeros((edge_px, edge_px), np.uint8)
    step = 2 * arms
    for arm in range(arms):
        row, col = 2 * arm, 2 * arm
        low, high = 2 * arm, edge_px - 1 - 2 * arm
        while low < high:
            pixels[low, col : high + 1] = arm + 1
            pixels[low : high + 1, high] = arm + 1
            pixels[high, low : high + 1] = arm + 1
            pixels[low + step : high + 1, low] = arm + 1
            row, col = low + step, low
            low, high = low + step, high - step
        pixels[row, col] = arm + 1
    return pixels


def comb(shape: tuple[int, int], *, upward: bool) -> Classes:
    """Return teeth joined by a back in the first row, or in the last if `upward`: many runs, one region."""
    pixels = np.zeros(shape, np.uint8)
    pixels[:, ::2] = 1
    pixels[-1 if upward else 0] = 1
    return pixels


def islands(edge_px: int) -> Classes:
    """Return several islands in lakes on islands, some of which touch at corners."""
    ring = nested_rings(edge_px, 1, 3)
    frame = np.zeros((2 * edge_px + 3, 2 * edge_px + 3), np.uint8)
    for row, col in ((1, 1), (1, edge_px + 2), (edge_px + 2, 1), (edge_px + 1, edge_px + 1)):
        frame[row : row + edge_px, col : col + edge_px] = ring + 1
    return frame


def snake(shape: tuple[int, int]) -> Classes:
    """Return one region of class 1 that runs back and forth through every second row."""
    pixels = np.zeros(shape, np.uint8)
    pixels[::2] = 1
    pixels[1::4, -1] = 1
    pixels[3::4, 0] = 1
    return pixels


def _drawn(text: str) -> Classes:
    """Return a raster drawn as text: a digit for a pixel, a dot for nodata."""
    return np.array([[NODATA if mark == "." else int(mark) for mark in line] for line in text.split()], np.uint8)


_PICTURES = {
    "crossing": "01 10",
    "crossing of four": "01 23",
    "crossing with nodata": "0. .0",
    "pinwheel": "001 231 244",
    "pinwheel turned": "100 132 442",
    "hole touches the outside": "00000 01110 01010 01100 00000",
    "two holes touch": "11111 10111 11011 11111",
    "three holes touch in a chain": "111111 101111 110111 111011 111111",
    "four holes round a pixel": "11111 10101 11011 10101 11111",
    "a hole touches itself": "111111 100111 101011 110001 111111",
    "a hole touches the outside twice": "0000000 0111110 0101010 0110110 0011100 0000000",
    "a ring held by one corner": "111100 100100 100100 111000 000100",
    "a ring closed by a corner": "01110 10001 10001 10001 01110",
    "corners all the way": "10101 01010 10101 01010 10101",
    "a ring round a crossing": "11111 10211 12011 11111",
    "both diagonals one region": "111111 100001 101101 101011 110011 111111",
    "nodata hole touches the outside": "..... .111. .1.1. .11.. .....",
    "nodata inside a class inside nodata": "..... .000. .0.0. .000. .....",
    "T-junctions": "0011 0011 2222 2222",
    "a straight side with many neighbors": "012012 333333 456456",
    "staircase": "10000 11000 11100 11110 11111",
    "a hole at each corner of the frame": "01110 11111 11111 11111 01110",
    "U": "101 101 111",
    "U turned": "111 101 101",
    "H": "101 111 101",
    "W joined last": "10101 10101 11111",
    "late join of three": "1010101 1110101 0000101 1111111",
    "single": "0",
    "single of class seven": "7",
    "row": "0011.20",
    "col": "0 0 1 . 2 2 0",
}


@cache
def adversarial() -> dict[str, Classes]:
    """Return the rasters by name; all are small enough to test each in every way."""
    made = {name: _drawn(picture) for name, picture in _PICTURES.items()}
    made |= {f"noise of {classes}": noise((24, 31), classes, classes) for classes in (2, 3, 4, 7)}
    made |= {f"noise of {classes} with nodata": noise((31, 24), classes, classes, 0.3) for classes in (1, 2, 3)}
    made |= {f"blobs of {scale} px": smooth_noise((60, 70), 4, scale, 5) for scale in (1, 2, 5)}
    made |= {f"blobs of {scale} px with nodata": smooth_noise((70, 60), 3, scale, 6, 0.25) for scale in (1, 3)}
    made |= {f"checkerboard of {square} px": checkerboard((12, 17), square) for square in (1, 2, 5)}
    made |= {"checkerboard of three": checkerboard((11, 13), 1, 3), "checkerboard of nodata": _holed(3)}
    made |= {f"rings of {width} px": nested_rings(21, width) for width in (1, 2, 3)}
    made |= {"rings of three": nested_rings(24, 1, 3), "rings of nodata": _nodata_rings(19)}
    made |= {f"diamonds of {width} px": diagonal_rings(23, width) for width in (1, 2, 3)}
    made |= {"spiral": spiral(20), "odd spiral": spiral(21), "double spiral": spiral(30, 2)}
    made |= {"comb": comb((9, 20), upward=False), "comb upward": comb((9, 20), upward=True), "snake": snake((15, 9))}
    made |= {"islands": islands(7), "islands upside down": islands(7)[::-1].copy()}
    made |= {"one row": noise((1, 40), 3, 1, 0.2), "one column": noise((40, 1), 3, 2, 0.2)}
    made |= {"all one class": np.zeros((7, 9), np.uint8), "last code": np.full((3, 4), 254, np.uint8)}
    made |= {"all nodata": np.full((5, 6), NODATA, np.uint8), "nodata frame": _framed(noise((15, 18), 3, 3))}
    made |= {"nodata pixel": np.full((1, 1), NODATA, np.uint8), "nodata rows": _rows_out(noise((20, 15), 3, 4))}
    return made


@cache
def real(folder: Path) -> dict[str, Classes]:
    """Return the most varied crops of real maps by name; `folder` holds the shared data."""
    paths = sorted(folder.glob(_CHIPS)) + sorted(folder.glob(_MASKS))[::2] + [folder / name for name in _ZOO]
    found = {f"{path.parent.name}/{path.stem}": _busiest(_classes(path)) for path in paths if path.is_file()}
    if not found:
        pytest.skip(f"no maps in {folder}")
    return found


def any_raster(edge_px: int = 12, classes: int = 4) -> st.SearchStrategy[Classes]:
    """Generate rasters of any shape up to an edge length, with so few classes that four borders often meet."""
    shapes = st.tuples(st.integers(1, edge_px), st.integers(1, edge_px))
    return st.integers(1, classes).flatmap(lambda count: shapes.flatmap(lambda shape: _filled(shape, count)))


def crowded_raster(edge_px: int = 40) -> st.SearchStrategy[Classes]:
    """Generate larger noise from a seed: more happens at once than in a raster drawn pixel by pixel."""
    edges = st.integers(1, edge_px)
    return st.builds(
        lambda height, width, classes, scale, seed, nodata: (
            smooth_noise((height, width), classes, scale, seed, nodata)
            if scale
            else noise((height, width), classes, seed, nodata)
        ),
        edges,
        edges,
        st.integers(1, 5),
        st.sampled_from((0.0, 0.0, 0.6, 1.2, 2.5)),
        st.integers(0, 2**32 - 1),
        st.sampled_from((0.0, 0.0, 0.1, 0.5)),
    )


def _filled(shape: tuple[int, int], count: int) -> st.SearchStrategy[Classes]:
    pixels = st.sampled_from([*range(count), NODATA]) if count < 4 else st.integers(0, count - 1)
    return npst.arrays(np.uint8, shape, elements=pixels)


def _holed(step_px: int) -> Classes:
    pixels = noise((14, 16), 2, 8)
    pixels[::step_px, ::step_px] = NODATA
    pixels[1::step_px, 1::step_px] = NODATA
    return pixels


def _nodata_rings(edge_px: int) -> Classes:
    rings = nested_rings(edge_px)
    return np.where(rings == 1, np.uint8(NODATA), rings)


def _framed(pixels: Classes) -> Classes:
    pixels[[0, -1]] = NODATA
    pixels[:, [0, -1]] = NODATA
    return pixels


def _rows_out(pixels: Classes) -> Classes:
    pixels[[0, 6, 7, -1]] = NODATA
    return pixels


def _classes(path: Path) -> Classes:
    with warnings.catch_warnings(action="ignore"), rasterio.open(path) as dataset:  # pictures have no georeference
        bands, valid = dataset.read(), dataset.dataset_mask() > 0
    if path.match(_MASKS):  # colors of pure levels: three bits name the class
        red, green, blue = (bands > 127).astype(np.uint8)
        bands = (4 * red + 2 * green + blue)[np.newaxis]
    pixels: Classes = np.where(valid, bands[0], np.uint8(NODATA))
    return pixels


def _busiest(pixels: Classes) -> Classes:
    """Return the crop with the most borders."""
    best, most = pixels[:_CROP_PX, :_CROP_PX], -1
    for row in range(0, max(1, pixels.shape[0] - _CROP_PX + 1), _CROP_PX):
        for col in range(0, max(1, pixels.shape[1] - _CROP_PX + 1), _CROP_PX):
            crop = pixels[row : row + _CROP_PX, col : col + _CROP_PX]
            borders = np.count_nonzero(crop[1:] != crop[:-1]) + np.count_nonzero(crop[:, 1:] != crop[:, :-1])
            if borders > most:
                best, most = crop, int(borders)
    return best.copy()
