"""Rasters whose classes are colors, in three bands or one with a palette; and pixels in the color of no class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from geoseg.errors import SceneError, UsageError, listed, numbered
from geoseg.legend import NODATA, Color, LandCover, NamedClass, Nomenclature
from geoseg.raster.dataset_cache import opened
from geoseg.raster.names import shown
from geoseg.raster.raster_legend import color_table
from geoseg.raster.scene import Patch, Scene
from geoseg.raster.windows import block_tiles, sample_windows

DEFAULT_TOLERANCE = 0.001
"""Share of pixels in colors or codes of no class up to which they are ignored instead of refused."""
_EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class Strays:
    """Pixels whose color or code is not in the legend, among those checked."""

    pixels: int = 0
    total_px: int = 0
    """Pixels checked."""
    examples: tuple[str, ...] = ()
    """A few of the stray colors or codes."""

    def __add__(self, other: Strays) -> Strays:
        """Return the sum of two counts."""
        examples = tuple(dict.fromkeys((*self.examples, *other.examples)))[:_EXAMPLES]
        return Strays(self.pixels + other.pixels, self.total_px + other.total_px, examples)

    @property
    def share(self) -> float:
        """Share of the pixels checked."""
        return self.pixels / self.total_px if self.total_px else 0.0

    def judge(self, name: str, tolerance: float) -> str | None:
        """Return a line for the user if there are strays; SceneError if their share exceeds the tolerance."""
        if not self.pixels:
            return None
        message = f"{name}: {numbered(self.pixels, 'pixel')} ({self.share:.2%}) with {', '.join(self.examples)}"
        if self.share > tolerance:
            raise SceneError(
                f"{message}, not in the legend; at most {tolerance:.2%} is allowed: add them to `legend`, or repair "
                "the labels (a mask saved as JPEG, or resized by interpolation, has such values along its borders)",
                "legend",
            )
        return f"{message}, not in the legend; they are ignored"


def most_frequent(values: NDArray[Any]) -> list[int]:
    """Return the few most frequent values."""
    distinct, counts = np.unique(values, return_counts=True)
    return [int(value) for value in distinct[np.argsort(-counts, kind="stable")][:_EXAMPLES]]


CLEAR, _NO_COLOR = -1, -2
"""In a palette: a transparent index, and one without a color."""
_NAMES_SHOWN = 4
_SOMETHING_ELSE = 0.5
"""Share of strays in a sample above which a picture is refused."""

Key = int
"""A color as one number: red * 65536 + green * 256 + blue."""
Palette = tuple[Key, ...]
"""(256,): the key of each index; CLEAR if it is transparent."""


def key(color: Color) -> Key:
    """Return a color as one number."""
    red, green, blue = color
    return red << 16 | green << 8 | blue


def color_text(color: Key) -> str:
    """Return a color as messages show it."""
    return f"rgb({color >> 16},{color >> 8 & 255},{color & 255})" if color >= 0 else "no color"


@dataclass(frozen=True, slots=True)
class ColorCodes:
    """The code of each color."""

    codes: tuple[tuple[Key, int], ...]
    """Ascending by key, each color once."""
    palette: Palette | None = None
    """Palette of a raster of indexes; None if three bands hold red, green and blue."""

    @classmethod
    def of(cls, legend: Iterable[LandCover | NamedClass], palette: Palette | None = None) -> ColorCodes:
        """Take the colors of a legend. UsageError if two classes share one: a picture could not tell them apart."""
        owners: dict[Color, LandCover | NamedClass] = {}
        for land_cover in legend:
            other = owners.setdefault(land_cover.color, land_cover)
            if other is not land_cover:
                raise UsageError(
                    f"{other.name} and {land_cover.name} share the color {land_cover.color}; give each its own",
                    "legend",
                )
        return cls(tuple(sorted((key(color), land_cover.code) for color, land_cover in owners.items())), palette)

    def read(self, patch: Patch) -> ColoredPatch:
        """Return the codes of a patch of bytes: three bands, or palette indexes."""
        if self.palette is None:
            red, green, blue = (band.astype(np.uint32) for band in patch.data)
            keys = (red << 16 | green << 8 | blue).astype(np.int32)
        else:
            keys = np.array(self.palette, np.int32)[patch.data[0]]
        indexes = _index_by_key(tuple(color for color, _ in self.codes))[keys]  # its last two: CLEAR and _NO_COLOR
        codes = np.array([*(code for _, code in self.codes), 0], np.int32)[indexes]
        known = indexes != len(self.codes)
        valid = patch.valid & (keys != CLEAR)
        return ColoredPatch(codes, known & valid, ~known & valid, keys)


@dataclass(frozen=True, slots=True)
class ColoredPatch:
    """The codes of a patch's colors; every array is (row, col)."""

    codes: NDArray[np.int32]
    """Arbitrary where `known` is False."""
    known: NDArray[np.bool_]
    is_stray: NDArray[np.bool_]
    """Valid, and in the color of no class."""
    keys: NDArray[np.int32]

    @property
    def strays(self) -> Strays:
        """The pixels in the color of no class."""
        pixels = int(np.count_nonzero(self.is_stray))
        colors = tuple(map(color_text, most_frequent(self.keys[self.is_stray]))) if pixels else ()
        return Strays(pixels, self.keys.size, colors)


@lru_cache(maxsize=2)
def _index_by_key(colors: tuple[Key, ...]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return (2^24 + 2,): the index of each key in a list of colors, its length for others; accessed sparsely."""
    table: NDArray[np.uint8] | NDArray[np.uint16] = np.full(
        (1 << 24) + 2, len(colors), "uint8" if len(colors) <= NODATA else "uint16"
    )
    table[list(colors)] = np.arange(len(colors))
    table.flags.writeable = False
    return table


def palette_of(dataset: DatasetReader, index: int = 1) -> Palette | None:
    """Return the palette of a band of bytes; None if it has none.

    The black and white palette that GDAL gives to every one-bit TIFF does not count.
    """
    if dataset.dtypes[index - 1] != "uint8" or dataset.colorinterp[index - 1].name != "palette":
        return None
    table = color_table(dataset, index)
    if not table:
        return None
    colors = [_NO_COLOR] * (NODATA + 1)
    for value, (red, green, blue, alpha) in table.items():
        if 0 <= value <= NODATA:
            colors[value] = CLEAR if alpha == 0 else key((red, green, blue))
    is_gdals = dataset.driver == "GTiff" and dataset.tags(index, ns="IMAGE_STRUCTURE").get("NBITS") == "1"
    return None if is_gdals and set(colors[:2]) == {key((0, 0, 0)), key((255, 255, 255))} else tuple(colors)


def indexes_in(scene: Scene) -> Counter[int]:
    """Count the valid pixels of each index by reading the whole raster. SceneError if it is damaged."""
    counts = np.zeros(NODATA + 1, np.int64)
    for window in block_tiles(scene.shape, scene.block_shape):
        patch = scene.read(window)
        counts += np.bincount(patch.data[0][patch.valid], minlength=NODATA + 1)
    return Counter({int(index): int(counts[index]) for index in np.flatnonzero(counts)})


def used_colors(scene: Scene) -> Nomenclature | None:
    """Return palette indexes in use as classes in their colors, except those that share one; None if there are none."""
    with opened(scene.path) as dataset:
        palette = palette_of(dataset, scene.band_indexes[0]) if len(scene.band_indexes) == 1 else None
    if palette is None:
        return None
    used = [index for index in indexes_in(scene) if palette[index] >= 0]
    shared = Counter(palette[index] for index in used)
    colors = {index: _color(palette[index]) for index in used if shared[palette[index]] == 1}
    return Nomenclature.from_names({index: f"class {index}" for index in colors}, colors) if colors else None


def is_plain(palette: Palette, legend: Iterable[LandCover | NamedClass]) -> bool:
    """Return whether colors and indexes give the same codes in any raster: each class color is at its code's index."""
    codes = _codes_by_color(legend)
    return all(codes.get(color, index) == index for index, color in enumerate(palette))


class Reading(Enum):
    """What palette indexes mean."""

    COLORS = "its colors"
    CODES = "its indexes"
    EITHER = "either"
    """Both give the same codes."""


def palette_reading(
    palette: Palette, used: Mapping[int, int], legend: Iterable[LandCover | NamedClass], tolerance: float
) -> Reading:
    """Return whether palette indexes stand for their colors, or are the codes themselves.

    `used` counts the pixels of each index: unused palette entries prove nothing. Indexes stand for colors if these are
    the legend's (except for a tolerated share of pixels). If only some pixels have colors of the legend, they stand for
    colors too, so that the others are refused. The exception: the indexes are valid codes and the colors may match by
    chance, because it is a single color, such as black for the first index, or less than half of the pixels.
    """
    codes = _codes_by_color(legend)
    shown_px = {index: pixels for index, pixels in used.items() if palette[index] != CLEAR}
    colored = {index: pixels for index, pixels in shown_px.items() if palette[index] in codes}
    total, colored_px = sum(shown_px.values()), sum(colored.values())
    are_colors = bool(colored) and colored_px >= (1 - tolerance) * total
    if all(codes[palette[index]] == index for index in colored):
        clear = len(shown_px) < len(used)  # transparent pixels, unlabeled if colors count
        return Reading.COLORS if are_colors and clear else Reading.EITHER if are_colors else Reading.CODES
    if are_colors:
        return Reading.COLORS
    valid_codes = {*codes.values(), NODATA}
    are_codes = sum(pixels for index, pixels in used.items() if index in valid_codes) >= (1 - tolerance) * sum(
        used.values()
    )
    by_chance = len(colored) == 1 or colored_px < total / 2
    return Reading.CODES if are_codes and by_chance else Reading.COLORS


def _color(color: Key) -> Color:
    return color >> 16, color >> 8 & 255, color & 255


def _codes_by_color(legend: Iterable[LandCover | NamedClass]) -> dict[Key, int]:
    """Return key -> code, without colors that classes share."""
    classes = list(legend)
    shared = Counter(key(land_cover.color) for land_cover in classes)
    return {key(land_cover.color): land_cover.code for land_cover in classes if shared[key(land_cover.color)] == 1}


def check_colors(
    scene: Scene, codes: ColorCodes, legend: Iterable[LandCover | NamedClass], tolerance: float
) -> tuple[frozenset[int], str | None]:
    """Return the codes in a raster of colors, and a line about pixels in colors of no class, if there are any.

    The whole raster is read, unless a sample shows that it is something else. SceneError if such pixels exceed the
    tolerated share; it lists some of their colors and of those expected.
    """
    strays, codes_found = _strays_in_sample(scene, codes), set[int]()
    if strays.share <= _SOMETHING_ELSE:
        strays = Strays()
        for window in block_tiles(scene.shape, scene.block_shape):
            read = codes.read(scene.read(window))
            strays += read.strays
            codes_found.update(np.unique(read.codes[read.known]).tolist())
    if strays.share > tolerance:
        names = [f"{land_cover.name} {color_text(key(land_cover.color))}" for land_cover in legend]
        raise SceneError(
            f"{shown(scene.path)} is a picture, and {strays.share:.1%} of it has colors of no class, such as "
            f"{', '.join(strays.examples)}; expected {listed(names, _NAMES_SHOWN)}: give a legend with "
            "its colors (JPEG and interpolation mix them); for imagery, predict a map first",
            "legend",
        )
    return frozenset(codes_found), strays.judge(shown(scene.path), tolerance)


def _strays_in_sample(scene: Scene, codes: ColorCodes) -> Strays:
    sample = Strays()
    for window, step in sample_windows(scene.shape, scene.block_shape):
        patch = scene.read(window)
        sample += codes.read(Patch(patch.data[:, ::step, ::step], patch.valid[::step, ::step])).strays
    return sample
