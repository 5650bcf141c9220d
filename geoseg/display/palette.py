"""Colors for showing a map: its own, soft ones, or ones that color-blind people can tell apart.

The first eight color-blind safe colors are those of Okabe and Ito, "Color Universal Design" (2008), with dark gray for
black. Each later one is as far as possible from all before it, for people with and without a color deficiency,
simulated with the matrices of Machado, Oliveira and Fernandes (2009), doi 10.1109/TVCG.2009.113, in CIE L*a*b*.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import UsageError
from geoseg.legend import DEEPGLOBE, Color, NamedClass

PaletteName = Literal["soft", "own", "deepglobe", "color-blind"]
_SOFT: dict[str, Color] = {
    "urban_land": (200, 104, 68),
    "agriculture_land": (238, 194, 92),
    "rangeland": (160, 180, 136),
    "forest_land": (26, 80, 46),
    "water": (80, 146, 210),
    "barren_land": (234, 224, 210),
    "unknown": (106, 106, 108),
}
"""For DeepGlobe's classes, whose published colors are the corners of the color cube.

Found by a search within a range of hue, lightness and chroma for each class that maximizes the smallest distance
between two colors, as seen in `_as_seen`: at least 21, compared with 16 for Okabe and Ito's first seven.
"""
Offered = tuple[PaletteName, str, list[Color]]
"""A palette, its label, and the color of each class of a map."""
_LABELS: dict[PaletteName, str] = {
    "soft": "soft",
    "own": "of the map",
    "deepglobe": "of DeepGlobe",
    "color-blind": "color-blind safe",
}
_PUBLISHED = {known.name: known.color for known in DEEPGLOBE}

_ORANGE, _SKY, _GREEN, _YELLOW = (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)
_BLUE, _VERMILION, _PURPLE, _DARK = (0, 114, 178), (213, 94, 0), (204, 121, 167), (40, 40, 40)
_OKABE_ITO: tuple[Color, ...] = (_ORANGE, _SKY, _GREEN, _YELLOW, _BLUE, _VERMILION, _PURPLE, _DARK)
_TYPICAL_COLORS: tuple[tuple[Color, tuple[str, ...]], ...] = (
    (_BLUE, ("water", "river", "lake", "sea", "ocean")),
    (_GREEN, ("forest", "tree", "wood", "mangrove")),
    (_YELLOW, ("agricult", "crop", "farm", "arable", "field")),
    (_VERMILION, ("urban", "built", "building", "town", "artificial", "impervious")),
    (_ORANGE, ("range", "grass", "shrub", "pasture", "meadow", "vegetation")),
    (_PURPLE, ("barren", "bare", "soil", "sand", "rock")),
    (_SKY, ("wetland", "marsh", "snow", "ice", "swamp")),
    (_DARK, ("unknown", "other", "road", "cloud")),
)
_DEFICIENCIES = np.array(
    [
        np.eye(3),
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)
"""Matrices for no deficiency, protanopia, deuteranopia and tritanopia, for linear red, green, blue."""
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_LEVELS = (0, 36, 73, 109, 146, 182, 219, 255)


def check_palette(name: str | None) -> PaletteName:
    """Return the palette of that name; "colour-blind" is accepted too. UsageError for unknown names."""
    requested = (name or "soft").replace("colour", "color")
    if requested not in get_args(PaletteName):
        raise UsageError(f"`palette` must be one of {', '.join(get_args(PaletteName))}, got {name!r:.60}", "palette")
    return cast("PaletteName", requested)


def colors_in(palette: PaletteName, classes: Sequence[NamedClass]) -> list[Color]:
    """Return the color of each class of a map.

    Soft colors are only for maps in DeepGlobe's published colors: other colors were chosen on purpose.
    """
    own = [named.color for named in classes]
    if palette == "color-blind":
        return _color_blind_colors([named.name for named in classes])
    if palette == "deepglobe":
        return [_PUBLISHED.get(named.name, named.color) for named in classes]
    if palette == "soft" and all(_PUBLISHED.get(named.name) == named.color for named in classes):
        return [_SOFT[named.name] for named in classes]
    return own


def palettes(first: PaletteName, classes: Sequence[NamedClass]) -> list[Offered]:
    """Return the palettes in which a map can be shown, starting with `first`, without duplicates of the same colors."""
    offered: list[Offered] = []
    for name in dict.fromkeys((first, "soft", "own", "color-blind")):
        colors = colors_in(name, classes)
        is_own = colors == [named.color for named in classes]
        offered.append(("own" if is_own else name, _LABELS["own" if is_own else name], colors))
    all_colors = [colors for *_, colors in offered]
    return [each for index, each in enumerate(offered) if all_colors.index(each[2]) == index]


def _color_blind_colors(names: Sequence[str]) -> list[Color]:
    """Return a color for each class, one that suits its name if still free, such as blue for water."""
    colors: dict[int, Color] = {}
    for color, words in _TYPICAL_COLORS:
        matches = [any(part.startswith(words) for part in re.split(r"[-_ ]", name.casefold())) for name in names]
        index = next((i for i, is_match in enumerate(matches) if is_match and i not in colors), None)
        if index is not None:
            colors[index] = color
    free = [color for color in _distinct_colors(len(names)) if color not in colors.values()]
    return [colors[index] if index in colors else free.pop(0) for index in range(len(names))]


@cache
def _distinct_colors(count: int) -> tuple[Color, ...]:
    """Return at least `count` colors, starting with Okabe and Ito's."""
    grid = np.array(np.meshgrid(_LEVELS, _LEVELS, _LEVELS)).reshape(3, -1).T
    appearances = _as_seen(grid)
    lightness = appearances[0, :, 0]
    usable = (lightness > 15) & (lightness < 95)
    grid, appearances = grid[usable], appearances[:, usable]
    colors = list(_OKABE_ITO)
    distances = np.min([_distance(appearances, _as_seen(np.array([color]))) for color in colors], axis=0)
    while len(colors) < count:
        farthest = int(distances.argmax())
        colors.append((int(grid[farthest, 0]), int(grid[farthest, 1]), int(grid[farthest, 2])))
        distances = np.minimum(distances, _distance(appearances, appearances[:, farthest : farthest + 1]))
    return tuple(colors)


def _as_seen(colors: NDArray[np.int64]) -> NDArray[np.float64]:
    """Convert (color, 3) in sRGB to (vision, color, 3) in CIE L*a*b*; the first vision is normal."""
    light = colors / 255
    linear = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    perceived = np.clip(np.einsum("kij,nj->kni", _DEFICIENCIES, linear), 0, 1)
    xyz = perceived @ _TO_XYZ.T / (0.95047, 1.0, 1.08883)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def _distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (color,): the distance for the kind of vision that sees the smallest difference."""
    return np.asarray(np.linalg.norm(first - second, axis=-1).min(axis=0))
